"""A side of the comparison: what must be installed, and how it builds each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.workload import Session, Workload


class Peer:
    """Subclasses define a method per task they offer: it turns a workload into a `Session`.

    inference(Inference), training(Training), update(Update), keras_program(KerasProgram),
    and process(Inference, folder), which saves the network and returns the command to time.

    Attributes:
        modules: what must be importable; a side without them is named in the table.
        environment: variables of its process, set before anything is imported.
        caches: variables that keep its compiled code in an empty "{folder}", for a first call.
        groups: the groups of workloads it takes part in; none means all.
        place: column in the table.
    """

    name = ""
    modules: tuple[str, ...] = ()
    environment: ClassVar[Mapping[str, str]] = {}
    caches: ClassVar[Mapping[str, str]] = {}
    groups: tuple[str, ...] = ()
    place = 9

    def takes_part(self, workload: Workload) -> bool:
        """Whether there is anything to say in its column; a first call is a training step's."""
        if self.name in workload.without or (self.groups and workload.group not in self.groups):
            return False
        return hasattr(self, "training" if workload.task == "first_call" else workload.task)

    def build(self, workload: Workload) -> Session:
        return getattr(self, workload.task)(workload)

    def start(self) -> None:
        """Import the library, outside every clock."""
        for module in self.modules:
            __import__(module)

    def versions(self) -> dict[str, str]:
        """Of the modules, once imported."""
        import sys

        found: dict[str, Any] = {name: sys.modules.get(name) for name in self.modules}
        return {n: str(getattr(m, "__version__", "?")) for n, m in found.items() if m is not None}
