"""A Program and the values of its named dims in, the driver's tables for these sizes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphflow.compiler.dims import Symbol, atoms, evaluate
from graphflow.compiler.errors import ShapeError
from graphflow.compiler.program import Branch, Copy, Launch, Loop, Program, Step
from graphflow.compiler.spec import shape_text
from graphflow.runtime.layout import (
    BEGIN,
    COPY,
    GATHER,
    JUMP,
    KEPT,
    LAUNCH,
    NEXT,
    ROW,
    SLICE,
    UNLESS,
)

#: element operations below which a launch stays on one thread: the hand-over costs about 0.5 µs,
#: and one core does some thousand operations in that time
SHARED_WORK = 24_000

#: a run with less work to share than this stays on one thread, and wakes no other: 33 x 33 x 33
#: takes 2.7 us so, and 3.9 us shared
SHARED_RUN = 200_000

#: a launch much larger than that is cut into more chunks than threads, for balance
CHUNKS_PER_THREAD, LARGE_WORK = 4, 4_000_000


def bind_dims(program: Program, shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """Values of the named dims, from the shapes of the inputs.

    Raises:
        ShapeError: a shape does not fit its input, or two inputs disagree about a dim.
    """
    env: dict[str, int] = {}
    origin: dict[str, str] = {}
    for argument, shape in zip(program.inputs, shapes, strict=True):
        spec = argument.spec
        if len(shape) != spec.ndim:
            raise _misfit(program, argument.name, shape, spec, argument.source, "the axes differ")
        for axis, (size, given) in enumerate(zip(spec.shape, shape, strict=True)):
            if isinstance(size, int):
                if size != given:
                    why = f"axis {axis} has {given} elements, expected {size}"
                    raise _misfit(program, argument.name, shape, spec, argument.source, why)
            elif size.terms[0][1] == 1 and len(size.terms) == 1 and len(size.terms[0][0]) == 1:
                atom = size.terms[0][0][0]
                if isinstance(atom, Symbol) and env.setdefault(atom.name, given) != given:
                    why = (
                        f"axis {axis} makes {atom.name} {given}, but {origin[atom.name]} made it "
                        f"{env[atom.name]}; feed arrays that agree"
                    )
                    raise _misfit(program, argument.name, shape, spec, argument.source, why)
                if isinstance(atom, Symbol):
                    origin.setdefault(atom.name, argument.name)
    _check_sizes(program, shapes, env)
    return env


def _check_sizes(
    program: Program, shapes: Sequence[tuple[int, ...]], env: Mapping[str, int]
) -> None:
    for argument, shape in zip(program.inputs, shapes, strict=True):
        for axis, (size, given) in enumerate(zip(argument.spec.shape, shape, strict=True)):
            unknown = [a.name for a in atoms(size) if a.name not in env]
            if unknown:
                raise ShapeError(
                    f"{program.name}: the dim {unknown[0]} of {argument.name} stands in no input "
                    "by itself, so its value is unknown; give it an axis of its own"
                )
            if evaluate(size, env) != given:
                why = f"axis {axis} has {given} elements, expected {size} = {evaluate(size, env)}"
                spec = argument.spec
                raise _misfit(program, argument.name, shape, spec, argument.source, why)
    for check in program.checks:
        left, right = evaluate(check.left, env), evaluate(check.right, env)
        if left != right:
            raise ShapeError(
                f"{program.name}: {check.reason} needs {check.left} == {check.right}, "
                f"got {left} and {right}; feed arrays that agree"
            )


def _misfit(
    program: Program, name: str, shape: tuple[int, ...], spec: object, source: str, why: str
) -> ShapeError:
    where = f"\n  {name} was made at {source}" if source else ""
    return ShapeError(
        f"{program.name}: input '{name}' has shape {shape_text(shape)}, expected {spec}: {why}{where}"
    )


@dataclass(eq=False)
class Binding:
    """Tables for one set of sizes, shared by all calls with these sizes.

    Attributes:
        code: rows of ROW words.
        once: how many of them, at the head, fill the kept buffers.
        entry: what the arrays of a call must be, and where their addresses go (see driver_code).
        offsets: byte offset in the arena by buffer id.
        dims: keeps the kernels' dims alive; the code holds their addresses.
        outputs: concrete shape and dtype of each output.
        shared: whether any launch is cut into chunks.
    """

    env: dict[str, int]
    code: np.ndarray
    once: int
    entry: np.ndarray
    ids: np.ndarray
    offsets: dict[int, int]
    arena_bytes: int
    dims: np.ndarray
    outputs: list[tuple[tuple[int, ...], np.dtype]]
    shared: bool
    launches: list[Launch]


class _Coder:
    def __init__(
        self, program: Program, addresses: Sequence[int], env: dict[str, int], threads: int
    ):
        self.program = program
        self.addresses = addresses
        self.env = env
        self.threads = threads
        self.rows: list[list[int]] = []
        self.ids: list[int] = []
        self.dims: list[int] = []
        self.dim_rows: list[tuple[int, int]] = []
        self.launches: list[Launch] = []
        self.counters = 0
        self.passes = 1
        #: work of the launches that are cut into chunks
        self.shared_work = 0

    def add(self, *words: int) -> int:
        self.rows.append([*words, *[0] * (ROW - len(words))])
        return len(self.rows) - 1

    def steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            if isinstance(step, Launch):
                self.launch(step)
            elif isinstance(step, Copy):
                size = evaluate(self.program.buffers[step.target].spec.nbytes, self.env)
                self.add(COPY, step.source, step.target, size)
            elif isinstance(step, Loop):
                self.loop(step)
            else:
                self.branch(step)

    def launch(self, step: Launch) -> None:
        extent = evaluate(step.extent, self.env)
        if extent <= 0:
            return
        work = extent * evaluate(step.cost, self.env)
        chunks = 1
        if step.parallel and work >= SHARED_WORK and self.threads > 1:
            most = self.threads * (CHUNKS_PER_THREAD if work >= LARGE_WORK else 1)
            chunks = min(most, -(-extent // step.grain))
            if chunks > self.threads:
                # Whole shares: each thread then has the same part in launch after launch.
                chunks -= chunks % self.threads
        if chunks > 1:
            self.shared_work += work * self.passes
        row = self.add(
            LAUNCH, self.addresses[step.kernel], len(self.ids), len(step.buffers), 0, extent,
            step.grain, chunks, int(step.can_fail), len(self.launches), work,
        )  # fmt: skip
        self.launches.append(step)
        self.dim_rows.append((row, len(self.dims)))
        self.ids += step.buffers
        self.dims += [evaluate(size, self.env) for size in step.dims]

    def share_nothing(self) -> None:
        """Every launch in one chunk."""
        for row in self.rows:
            if row[0] == LAUNCH:
                row[7] = 1

    def loop(self, step: Loop) -> None:
        passes, counter = evaluate(step.count, self.env), self.counters
        self.counters += 1
        begin = self.add(BEGIN, counter, passes)
        for item in step.sliced:
            last = passes - 1 if item.reverse else -1
            size = evaluate(item.row_bytes, self.env)
            self.add(SLICE, counter, item.base, item.buffer, size, last)
        outside, self.passes = self.passes, self.passes * passes
        self.steps(step.body)
        self.passes = outside
        self.add(NEXT, counter, passes, begin + 1)
        self.rows[begin][3] = len(self.rows)

    def branch(self, step: Branch) -> None:
        test = self.add(UNLESS, step.predicate, 0)
        self.steps(step.then)
        leave = self.add(JUMP, 0)
        self.rows[test][2] = len(self.rows)
        self.steps(step.otherwise)
        self.rows[leave][1] = len(self.rows)


def bind(
    program: Program,
    addresses: Sequence[int],
    env: dict[str, int],
    threads: int,
    keep_all: bool = False,
) -> Binding:
    """Evaluate every size of a program.

    Args:
        addresses: of the kernels, in the order of program.kernels.
        keep_all: give every temp its own storage, so that all values can be looked at.
    """
    coder = _Coder(program, addresses, env, threads)
    coder.steps(program.steps[: program.once])
    once = coder.add(KEPT) + 1 if program.once else 0
    coder.steps(program.steps[program.once :])
    shared = coder.shared_work >= SHARED_RUN
    if not shared:
        coder.share_nothing()
    layout = program.layout(env, keep_all)
    dims = np.array([*coder.dims, 0], np.int64)
    code = np.array(coder.rows or [[0] * ROW], np.int64)[: len(coder.rows)]
    for row, first in coder.dim_rows:
        code[row, 4] = dims.ctypes.data + first * 8
    return Binding(
        env,
        code,
        once,
        _entry_table(program, env),
        np.array([*coder.ids, 0], np.int64),
        layout.offsets,
        layout.arena_bytes,
        dims,
        [(spec.concrete_shape(env), np.dtype(spec.dtype)) for spec in program.outputs],
        shared,
        coder.launches,
    )


def _entry_table(program: Program, env: dict[str, int]) -> np.ndarray:
    """The table that `driver_code.enter` reads."""
    specs = [argument.spec for argument in program.inputs]
    words = [object.__basicsize__, id(np.ndarray), len(specs), len(specs) + len(program.outputs)]
    for spec in specs:
        shape = spec.concrete_shape(env)
        words += [id(np.dtype(spec.dtype)), len(shape), *shape]
    for ids in buffers_of_arrays(program):
        words += [len(ids), *ids]
    return np.array(words, np.int64)


def buffers_of_arrays(program: Program) -> list[list[int]]:
    """The ids of the buffers that each input is, then each output."""
    arrays = [("input", slot) for slot in range(len(program.inputs))]
    arrays += [("output", slot) for slot in range(len(program.outputs))]
    return [
        [n for n, b in enumerate(program.buffers) if (b.kind, b.slot) == array] for array in arrays
    ]


def loop_code(
    body: np.ndarray,
    numbers: Sequence[Sequence[int]],
    moves: Sequence[tuple[int, int]],
    first: int,
    counter: int,
    once: int,
) -> np.ndarray:
    """The code that runs a body many times; its words [once, 2] and [-1, 2] take the number of runs.

    Args:
        body: the rows of one run.
        numbers: the buffers that each input is, then each output.
        moves: for each of them (bytes, rows). With rows, a run gathers so many of that size; without,
            it goes on by the bytes, or stays where they are 0.
        first: pointer slot of the first array, before those of the others and of the row numbers.
        counter: one that the body does not use.
        once: rows at the head of the body that stay in front of the loop.
    """
    rows = [[BEGIN, counter, 0, 0]]
    for slot, (ids, (size, gathered)) in enumerate(zip(numbers, moves, strict=True)):
        for number in ids if size else ():
            if not gathered:
                rows.append([SLICE, counter, first + slot, number, size, -1])
            elif number == ids[0]:
                # All buffers of an input share the storage that is filled.
                order = first + len(numbers)
                rows.append([GATHER, counter, first + slot, number, size, gathered, order])
    moved = body.copy()
    for opcode, column in ((UNLESS, 2), (JUMP, 1), (BEGIN, 3), (NEXT, 3)):
        moved[body[:, 0] == opcode, column] += len(rows)
    rows[0][3] = len(rows) + len(body) + 1
    rows.append([NEXT, counter, 0, once + 1])
    around = np.array([row + [0] * (ROW - len(row)) for row in rows], np.int64)
    return np.concatenate([moved[:once], around[:-1], moved[once:], around[-1:]])
