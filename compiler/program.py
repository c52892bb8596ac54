"""The contract between the compiler and the runtime: a Program is data that any runtime can walk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from graphflow.compiler.dims import Size, evaluate
from graphflow.compiler.memory_plan import Layout, Lifetime, plan_memory
from graphflow.compiler.spec import DimCheck, TensorSpec

BufferKind = Literal["input", "variable", "constant", "output", "temp", "kept", "status"]


#: the block that kernels report an index out of range into
STATUS = TensorSpec("int64", (8,))


@dataclass(frozen=True, slots=True)
class Buffer:
    """One piece of storage that kernels read or write.

    Attributes:
        kind: who owns the storage. `temp` lives in the arena; `kept` keeps its content from call
            to call; `status` is the int64[8] block into which kernels report errors.
        slot: position among the inputs, variables, constants or outputs of the function.
        alias: the buffer whose storage this one shares (a reshape, or a result computed in place).
        lifetime: first and last step (positions in the flattened schedule) of a temp.
    """

    kind: BufferKind
    spec: TensorSpec
    slot: int = 0
    alias: int | None = None
    lifetime: Lifetime | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """Source text of one kernel: `entry(buffers, dims, lo, hi)`, see `codegen`.

    `header` is a comment (IR, specs, user lines) that is not part of the kernel's identity.
    """

    name: str
    source: str
    header: str
    entry: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a kernel over 0 <= i < extent.

    Attributes:
        kernel: index into Program.kernels.
        buffers: buffer ids, in the order of the kernel's slots.
        dims: sizes handed to the kernel, in the order of its `dims`.
        extent: iterations of the outermost axis; they are independent of each other.
        cost: rough work of one iteration in element operations; decides if threads pay.
        grain: a thread's share is a multiple of this many iterations.
        parallel: False for kernels whose iterations may not be split over threads.
        can_fail: the kernel may report an index out of range; the step stops after it.
        label: what the kernel computes, for profiles and errors.
        nodes: positions in Program.notes of the nodes that it computes.
    """

    kernel: int
    buffers: tuple[int, ...]
    dims: tuple[Size, ...]
    extent: Size
    cost: Size
    grain: int = 1
    parallel: bool = True
    can_fail: bool = False
    label: str = ""
    nodes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy all bytes of one buffer to another of the same size."""

    source: int
    target: int


@dataclass(frozen=True, slots=True)
class Sliced:
    """Inside a loop, `buffer` (an alias without storage of its own) is row i of `base`.

    Row i starts `i * row_bytes` bytes into `base`; with `reverse`, row `count - 1 - i`.
    """

    buffer: int
    base: int
    row_bytes: Size
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """Run `body` `count` times; before pass i the sliced buffers point at their rows."""

    count: Size
    sliced: tuple[Sliced, ...]
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """Run one of two bodies by the first byte of the bool buffer `predicate`."""

    predicate: int
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...]


Step = Launch | Copy | Loop | Branch


@dataclass(frozen=True, slots=True)
class Note:
    """Where a computed value came from: for errors, profiles and the debug modes.

    `name` is the op with its name scope, `source` the user's file:line, `buffer` the id that holds
    the value after its launch, or None for a value that never leaves a register.
    """

    name: str
    source: str
    buffer: int | None = None


@dataclass(frozen=True, slots=True)
class Argument:
    """An input of the function: its name and what it must look like."""

    name: str
    spec: TensorSpec
    source: str = ""


@dataclass(frozen=True)
class Program:
    """Everything that a runtime needs; static sizes are ints, the others follow from `bind`.

    The first `once` of the steps are launches that depend on constants and on variables that the
    program does not write. Their results, the `kept` buffers, stay right until a variable changes.
    """

    name: str
    inputs: tuple[Argument, ...]
    variables: tuple[Argument, ...]
    written: frozenset[int]
    constants: tuple[np.ndarray, ...]
    outputs: tuple[TensorSpec, ...]
    buffers: tuple[Buffer, ...]
    kernels: tuple[Kernel, ...]
    steps: tuple[Step, ...]
    checks: tuple[DimCheck, ...] = ()
    notes: tuple[Note, ...] = ()
    flops: Size = 0
    traffic: Size = 0
    once: int = 0
    _layouts: dict[tuple[tuple[str, int], ...], Layout] = field(
        default_factory=dict, compare=False, repr=False
    )

    def layout(self, env: Mapping[str, int], keep_all: bool = False) -> Layout:
        """Arena offsets of the temps for these dims; `keep_all` gives each its own place."""
        key = (*sorted(env.items()), ("", int(keep_all)))
        if key not in self._layouts:
            temps = {
                number: (buffer.lifetime, evaluate(buffer.spec.nbytes, env))
                for number, buffer in enumerate(self.buffers)
                if buffer.kind == "temp" and buffer.alias is None and buffer.lifetime is not None
            }
            self._layouts[key] = plan_memory(temps, reuse=not keep_all)
        return self._layouts[key]

    @property
    def kept(self) -> dict[int, int]:
        """Bytes of each kept buffer."""
        return {n: int(b.spec.nbytes) for n, b in enumerate(self.buffers) if b.kind == "kept"}
