"""One file per family of workloads; each has a GROUP and its WORKLOADS, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from benchmarks.workload import Group, Workload


@cache
def families() -> list[tuple[Group, list[Workload]]]:
    """Every family, in the order of their PLACE."""
    modules = [
        importlib.import_module(f"{__name__}.{found.name}")
        for found in pkgutil.iter_modules(__path__)
    ]
    return [(m.GROUP, list(m.WORKLOADS)) for m in sorted(modules, key=lambda m: m.PLACE)]


@cache
def by_name() -> dict[str, Workload]:
    found = {}
    for group, workloads in families():
        for workload in workloads:
            if workload.name in found or workload.group != group.name:
                raise ValueError(f"workload {workload.name!r}: the name is taken or misplaced")
            found[workload.name] = workload
    return found
