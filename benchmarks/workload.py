"""What a workload states: its network, its data, its tolerance and the ratio it should reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

OURS = "graphflow"

# Adam as every side writes it, with epsilon outside the bias correction (Keras' form).
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


class Unsupported(Exception):
    """A side has no such operation or task; the table says so."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A weight in the layout in which graphflow takes it.

    Attributes:
        layout: "" for any array; "HWIO" for a convolution's kernel; "HWC1" for a depthwise one;
            "HWCO" for the matrix behind a flattened image, kept with its four axes.
    """

    array: np.ndarray
    layout: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    """An input; `batch_axis` is the axis that graphflow declares as a symbolic dim, or None."""

    array: np.ndarray
    batch_axis: int | None = None
    layout: str = ""  # "NHWC" for images


@dataclass(frozen=True, slots=True)
class Session:
    """A workload as one side has built it.

    Attributes:
        call: what is timed: one step, or one pass; returns when the result is finished.
        outputs: a few calls from the start, and the arrays to compare with the other sides.
        reset: back to the first state, before each round.
        facts: figures that come with the build, such as bytes of temporaries.
    """

    call: Callable[[], Any]
    outputs: Callable[[], list[np.ndarray]]
    reset: Callable[[], None] = lambda: None
    facts: Mapping[str, float] = field(default_factory=dict)


Parameters = dict[str, Parameter]
Feeds = dict[str, Feed]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row of the table.

    Attributes:
        name: "group/rest".
        target: wanted ratio of our time to that of the best peer, or None.
        tolerance: largest difference of outputs over the largest magnitude of the expected ones.
        quick: part of `--quick`.
        without: peers that are left out, with the reason in a comment beside it.
        longest_round: most calls in one round.
    """

    task: ClassVar[str] = ""  # the method of a peer that builds it

    name: str
    target: float | None = None
    tolerance: float = 1e-3
    quick: bool = False
    without: tuple[str, ...] = ()
    longest_round: int = 100_000

    @property
    def group(self) -> str:
        return self.name.split("/")[0]

    def work(self) -> tuple[float, float]:
        """Floating-point operations, and bytes that must move at least, of one call."""
        return 0.0, 0.0


@dataclass(frozen=True, kw_only=True)
class Network(Workload):
    """`forward(ops, p, **feeds)` over the operations of any side (`operations.py`)."""

    forward: Callable[..., Any]
    parameters: Callable[[np.random.Generator], Parameters]
    feeds: Callable[[np.random.Generator], Feeds]

    def data(self) -> tuple[Parameters, Feeds]:
        """The same arrays in every process."""
        return self.parameters(np.random.default_rng(0)), self.feeds(np.random.default_rng(1))


@dataclass(frozen=True, kw_only=True)
class Inference(Network):
    """A forward pass; graphflow's side is saved and loaded before it runs."""

    task: ClassVar[str] = "inference"

    output_layout: str = ""  # "NHWC" where the output is an image

    def work(self) -> tuple[float, float]:
        from benchmarks.counting import count

        parameters, feeds = self.data()
        flops, output = count(self.forward, parameters, feeds)
        read = sum(p.array.nbytes for p in parameters.values())
        read += sum(f.array.nbytes for f in feeds.values())
        return flops, read + 4.0 * output


@dataclass(frozen=True, kw_only=True)
class Training(Network):
    """Forward, backward, Adam; `forward` gives the loss. Feeds are `x` and the labels `t`."""

    task: ClassVar[str] = "training"

    # On one batch for ever, averages of gradients that stopped would become subnormal numbers,
    # which some sides flush and others do not: rounds are short and start again.
    longest_round: int = 300
    # Losses of the first steps are compared.
    tolerance: float = 1e-3
    steps: int = 5

    def work(self) -> tuple[float, float]:
        from benchmarks.counting import count

        parameters, feeds = self.data()
        flops, _ = count(self.forward, parameters, feeds)
        first, _ = count(self.forward, parameters, feeds, first_layer_only=True)
        size = sum(p.array.nbytes for p in parameters.values())
        # Two products backward, less the gradient of the data; w, m and v are read and written.
        return 3 * flops - first, 6.0 * size


@dataclass(frozen=True, kw_only=True)
class Update(Workload):
    """One Adam update of `size` parameters for a given gradient."""

    task: ClassVar[str] = "update"

    size: int

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """First weights and the gradient."""
        rng = np.random.default_rng(0)
        return rng.standard_normal(self.size, "f4"), rng.standard_normal(self.size, "f4")

    def work(self) -> tuple[float, float]:
        # w, m, v read and written, g read
        return 11.0 * self.size, 7 * 4.0 * self.size


@dataclass(frozen=True, kw_only=True)
class KerasProgram(Workload):
    """`program(keras)` builds the session over `graphflow.keras` or over Keras itself."""

    task: ClassVar[str] = "keras_program"

    program: Callable[[Any], Session]


@dataclass(frozen=True, kw_only=True)
class FirstCall(Workload):
    """Building a network and calling it once, in a new process with empty caches."""

    task: ClassVar[str] = "first_call"

    of: str


@dataclass(frozen=True, kw_only=True)
class WarmProcess(Workload):
    """A whole process that loads a saved network and runs it once.

    Attributes:
        limit: wanted seconds, whatever the peers take.
    """

    task: ClassVar[str] = "process"

    of: str
    limit: float


@dataclass(frozen=True)
class Group:
    """A part of the table; `mean_target` asks for a geometric mean of the ratios."""

    name: str
    title: str
    mean_target: float | None = None
