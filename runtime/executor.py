"""A Program in, a callable out: arrays in, arrays out, variables updated in place."""

from __future__ import annotations

import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphflow.compiler.dims import evaluate
from graphflow.compiler.errors import DTypeError, GraphError, IndexOutOfRange
from graphflow.compiler.program import Launch, Program
from graphflow.runtime import cache, changes
from graphflow.runtime.binding import Binding, bind, bind_dims, buffers_of_arrays, loop_code
from graphflow.runtime.cache import CompiledKernel
from graphflow.runtime.driver import run_context
from graphflow.runtime.layout import BEGIN, CONTEXT, DONE, FAILED, MISFIT, UNDONE
from graphflow.runtime.profile import LaunchRecord, records_from
from graphflow.runtime.threads import Team, get_team, usable_threads

ALIGNMENT = 64

#: sizes whose tables are kept
MOST_BINDINGS = 64

#: element operations between two looks at Python's signals, about 50 ms
FUEL = 200_000_000


def aligned_empty(nbytes: int) -> np.ndarray:
    """Bytes that begin at a multiple of ALIGNMENT."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    return raw[begin : begin + nbytes]


@dataclass(frozen=True, slots=True)
class Stop:
    """A launch that is about to run, or has just run.

    Attributes:
        passes: (pass, number of passes) of the loops around it, the outermost first.
        array: what a buffer, given by its id, holds now.
    """

    launch: Launch
    kernel: CompiledKernel
    passes: tuple[tuple[int, int], ...]
    env: dict[str, int]
    array: Callable[[int], np.ndarray]


class _Context:
    """What one running call needs: pointer table, arena, context words; reused by later calls."""

    def __init__(self, executor: Executor):
        program = executor.program
        count = len(program.buffers)
        self.arrays = len(program.inputs) + len(program.outputs)
        #: one pointer per buffer, then those of the stacks of `run_loop` and of its order
        self.pointers = np.zeros(count + self.arrays + 1, np.int64)
        self._loop: tuple[Binding, Sequence[tuple[int, int]], np.ndarray] | None = None
        widest = max((len(s.buffers) for s in executor.all_launches), default=0)
        self.local = np.zeros(widest + 1, np.int64)
        self.counters = np.zeros(executor.loops + 2, np.int64)
        self.status = np.zeros(8, np.int64)
        self.words = np.zeros(CONTEXT + 1, np.int64)
        self.words[3] = self.pointers.ctypes.data
        self.words[5] = self.local.ctypes.data
        self.words[6] = self.counters.ctypes.data
        self.words[8] = self.status.ctypes.data
        objects = np.zeros(self.arrays + 1, np.int64)
        self.words[11] = objects.ctypes.data
        #: addresses of the arrays of a call
        self.objects = objects.data
        self.address = self.words.ctypes.data
        self.words[13], self.words[14] = changes.ADDRESS, -1
        self.words[17] = bool(program.written)
        self.arena = aligned_empty(0)
        self.kept = {number: aligned_empty(size) for number, size in program.kept.items()}
        for number, storage in self.kept.items():
            self.pointers[number] = storage.ctypes.data
        self.binding: Binding | None = None
        self.slots = executor.slots
        for number in self.slots["status"]:
            self.pointers[number] = self.status.ctypes.data
        for kind, arrays in (("variable", executor.variables), ("constant", executor.constants)):
            for number in self.slots[kind]:
                self.pointers[number] = arrays[program.buffers[number].slot].ctypes.data

    def use(self, binding: Binding) -> None:
        """Point the tables at the sizes of a binding."""
        if self.arena.nbytes < binding.arena_bytes:
            self.arena = aligned_empty(binding.arena_bytes)
        base = self.arena.ctypes.data
        for number, offset in binding.offsets.items():
            self.pointers[number] = base + offset
        self.words[4] = binding.ids.ctypes.data
        self.words[12] = binding.entry.ctypes.data
        self.words[16] = binding.once
        self.start(binding.code)
        self.binding = binding

    def loop_over(
        self,
        binding: Binding,
        addresses: Sequence[int],
        numbers: Sequence[Sequence[int]],
        moves: Sequence[tuple[int, int]],
        counter: int,
    ) -> np.ndarray:
        """The code that walks the arrays at these addresses; the last one made is kept."""
        first = len(self.pointers) - self.arrays - 1
        self.pointers[first : first + len(addresses)] = addresses
        known = self._loop
        if known is None or known[0] is not binding or known[1] != moves:
            code = loop_code(binding.code, numbers, moves, first, counter, binding.once)
            known = self._loop = binding, moves, code
        return known[2]

    def start(self, code: np.ndarray, profile: int = 0, looping: bool = False) -> None:
        """Set the code that the next runs walk; `looping` if its last row goes back for a run."""
        self.words[1], self.words[2] = len(code), code.ctypes.data
        self.words[0], self.words[9], self.words[10] = -1, profile, FUEL
        self.code, self.looping = code, looping


class Executor:
    """Runs a Program; may be called from several threads at once.

    Args:
        program: what the compiler made.
        variables: one array per program variable: C-contiguous, aligned, kept for life; kernels
            write them in place.
        threads: how many threads share large launches; None for all usable cores.
    """

    def __init__(
        self, program: Program, variables: Sequence[np.ndarray], threads: int | None = None
    ):
        self.program = program
        self.variables = list(variables)
        self.threads = threads or usable_threads()
        self.all_launches = _launches(program.steps)
        self.loops = _count_loops(program.steps)
        self.constants = [_aligned_constant(array) for array in program.constants]
        self.slots: dict[str, list[int]] = {
            kind: [n for n, b in enumerate(program.buffers) if b.kind == kind]
            for kind in ("variable", "constant", "status")
        }
        begin, before = time.perf_counter(), cache.stats()
        self.kernels = cache.get_kernels(
            [(k.name, k.header + k.source, k.entry) for k in program.kernels]
        )
        self._run = run_context()
        after = cache.stats()
        self._cache_info = {key: after[key] - before[key] for key in ("hits", "misses", "compiled")}
        self._cache_info["seconds"] = time.perf_counter() - begin
        self._numbers = buffers_of_arrays(program)
        self._dtypes = [np.dtype(argument.spec.dtype) for argument in program.inputs]
        self._pack = struct.Struct(f"{len(program.inputs) + len(program.outputs)}q").pack_into
        self._bindings: OrderedDict[tuple, Binding] = OrderedDict()
        self._contexts: list[_Context] = []
        self._lock = threading.Lock()
        # A call that writes variables excludes all others of this function.
        self._writing = threading.RLock() if program.written else None

    # ---- calling -----------------------------------------------------------------------------

    def __call__(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run once.

        Args:
            inputs: one array per program input, of its dtype; copied if not contiguous.

        Raises:
            DTypeError, ShapeError: an array does not fit its input.
            IndexOutOfRange: data-dependent index; no variable was changed.
        """
        arrays = self._checked(inputs)
        binding = self._binding(tuple(array.shape for array in arrays))
        context = self._borrow(binding)
        try:
            outputs = self._feed(context, arrays)
            fits = self._go(context, binding)
            assert fits, "checked arrays fit their binding"
        finally:
            self._contexts.append(context)
        return outputs

    def direct(self, inputs: Sequence[object]) -> list[np.ndarray] | None:
        """Run once if the inputs are arrays that fit the sizes of an earlier call as they are.

        Returns None, with nothing run, if they are anything else: then `__call__` is to be used,
        which converts or explains. The native code compares, so this costs about 1 µs.
        """
        if len(inputs) != len(self.program.inputs):
            return None
        try:
            context = self._contexts.pop()
        except IndexError:
            return None
        try:
            assert context.binding is not None
            outputs = self._feed(context, inputs)
            return outputs if self._go(context, context.binding) else None
        finally:
            self._contexts.append(context)

    def run_loop(
        self,
        stacks: Sequence[np.ndarray],
        count: int,
        keep_all: bool = False,
        order: np.ndarray | None = None,
    ) -> list[np.ndarray]:
        """Run `count` times without Python in between, each time with the next entry of the stacks.

        Ctrl-C ends the loop after the run that is under way, a second one at once.

        Args:
            stacks: one array per program input, of its dtype, with an axis of runs in front; a
                stride of 0 there feeds every run the same.
            keep_all: return the outputs of all runs, stacked; else those of the last.
            order: int64, (runs, rows): the stacks are arrays of rows instead, and run k is fed the
                rows order[k] of each.

        Raises:
            DTypeError, ShapeError: an array does not fit its input.
            IndexOutOfRange: data-dependent index; earlier runs have changed the variables.
        """
        if order is None:
            self._check_lengths(stacks, count)
        stacks = [_with_plain_entries(stack) for stack in stacks]
        if order is None:
            arrays = [stack[0, ...] for stack in stacks]
        else:
            order = self._checked_order(order, stacks, count)
            arrays = [np.empty((order.shape[1], *rows.shape[1:]), rows.dtype) for rows in stacks]
        arrays = self._checked(arrays)
        binding = self._binding(tuple(array.shape for array in arrays))
        context = self._borrow(binding)
        entries = count if keep_all else 1
        kept = [np.empty((entries, *shape), dtype) for shape, dtype in binding.outputs]
        outputs = [stack[0, ...] for stack in kept]
        gathered = 0 if order is None else order.shape[1]
        moves = [(stack.strides[0], gathered) for stack in stacks]
        moves += [(stack.strides[0] if keep_all else 0, 0) for stack in kept]
        addresses = [stack.ctypes.data for stack in (*stacks, *kept)]
        if order is not None:
            addresses.append(order.ctypes.data)
        try:
            self._hand_over(context, arrays, outputs)
            code = context.loop_over(binding, addresses, self._numbers, moves, self.loops)
            code[[binding.once, -1], 2] = count
            context.start(code, looping=True)
            self._go(context, binding)
        finally:
            context.start(binding.code)
            self._contexts.append(context)
        return kept if keep_all else outputs

    def _check_lengths(self, stacks: Sequence[np.ndarray], count: int) -> None:
        if count < 1 or any(len(stack) != count for stack in stacks):
            lengths = [len(stack) for stack in stacks]
            raise GraphError(f"{self.program.name}: {count} runs over stacks of {lengths} entries")

    def _checked_order(
        self, order: np.ndarray, stacks: Sequence[np.ndarray], count: int
    ) -> np.ndarray:
        """Row numbers that the native code, which does not look, can follow."""
        order = np.ascontiguousarray(order, np.int64)
        rows = min((len(stack) for stack in stacks), default=0)
        if order.ndim != 2 or len(order) != count or not order.size:
            raise GraphError(
                f"{self.program.name}: {count} runs in an order of shape {order.shape}; expected "
                "(runs, rows), at least one each"
            )
        if order.min() < 0 or order.max() >= rows:
            raise IndexOutOfRange(
                f"{self.program.name}: the order holds {order.min()}..{order.max()}; expected row "
                f"numbers in 0..{rows - 1}"
            )
        return order

    def _checked(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if len(inputs) != len(self.program.inputs):
            raise GraphError(
                f"{self.program.name}: {len(inputs)} arrays given, "
                f"{len(self.program.inputs)} expected"
            )
        arrays = []
        for array, argument, dtype in zip(inputs, self.program.inputs, self._dtypes, strict=True):
            # dtype objects compare in a few ns; their names take µs.
            if array.dtype != dtype:
                raise DTypeError(
                    f"{self.program.name}: input '{argument.name}' is {array.dtype}, "
                    f"expected {argument.spec.dtype}; convert it with .astype"
                )
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                array = np.array(array, dtype, order="C")
            # The native code knows a dtype, and an ndarray, by its address.
            arrays.append(np.asarray(array).view(dtype) if array.dtype is not dtype else array)
        return arrays

    def _binding(self, shapes: tuple[tuple[int, ...], ...]) -> Binding:
        binding = self._bindings.get(shapes)
        if binding is None:
            env = bind_dims(self.program, shapes)
            addresses = [kernel.address for kernel in self.kernels]
            binding = bind(self.program, addresses, env, self.threads)
            with self._lock:
                self._bindings[shapes] = binding
                while len(self._bindings) > MOST_BINDINGS:
                    self._bindings.popitem(last=False)
        return binding

    def _borrow(self, binding: Binding) -> _Context:
        try:
            context = self._contexts.pop()
        except IndexError:
            context = _Context(self)
        if context.binding is not binding:
            context.use(binding)
        return context

    def _feed(self, context: _Context, arrays: Sequence[object]) -> list[np.ndarray]:
        """Hand the arrays, and new ones for the outputs, to the native code."""
        assert context.binding is not None
        outputs = [np.empty(shape, dtype) for shape, dtype in context.binding.outputs]
        self._hand_over(context, arrays, outputs)
        return outputs

    def _hand_over(
        self, context: _Context, arrays: Sequence[object], outputs: Sequence[np.ndarray]
    ) -> None:
        self._pack(context.objects, 0, *map(id, arrays), *map(id, outputs))

    def _go(self, context: _Context, binding: Binding) -> bool:
        """Run what the context holds; False, with nothing run, if the arrays do not fit."""
        if self._writing is None:
            return self._walk(context, binding.shared)
        with self._writing:
            return self._walk(context, binding.shared)

    def _walk(self, context: _Context, shared: bool) -> bool:
        team: Team | None = get_team(self.threads) if shared else None
        if team is not None and not team.enter():
            team = None
        if shared:
            context.words[7] = team.address if team else 0
        try:
            state = self._until_done(context)
        except BaseException:
            context.words[0] = -1
            raise
        finally:
            if team is not None:
                team.leave()
        if state == FAILED:
            self._raise_out_of_range(context)
        return state != MISFIT

    def _until_done(self, context: _Context) -> int:
        try:
            # The native call returns now and then, so that Ctrl-C is seen.
            while (state := self._run(context.address)) == UNDONE:
                pass
        except KeyboardInterrupt:
            if context.looping and context.words[0] >= 0:
                # Half a run would leave some variables old and others new.
                context.code[-1, 2] = 0
                while self._run(context.address) == UNDONE:
                    pass
                context.status[:] = 0
            raise
        return state

    def _raise_out_of_range(self, context: _Context) -> None:
        code, position, value, bound = (int(v) for v in context.status[:4])
        context.status[:] = 0
        note = self.program.notes[code - 1]
        low = -bound if note.name.rsplit("/", 1)[-1] in ("take", "scatter_add") else 0
        where = f" [{note.source}]" if note.source else ""
        run = f" by run {context.counters[self.loops]} of the loop" if context.looping else ""
        raise IndexOutOfRange(
            f"{self.program.name}: {note.name}{where}: index {value} at position {position} is "
            f"out of range; expected {low}..{bound - 1}; no variable was changed{run}"
        )

    # ---- looking at it -----------------------------------------------------------------------

    def step_through(
        self,
        inputs: Sequence[np.ndarray],
        around: Callable[[Stop], AbstractContextManager[None]],
    ) -> list[np.ndarray]:
        """Run on one thread with every value kept, each launch inside `with around(stop)`.

        The driver walks loops and branches as always, so a launch in a loop stops once a pass.
        """
        arrays = self._checked(inputs)
        env = bind_dims(self.program, [array.shape for array in arrays])
        addresses = [kernel.address for kernel in self.kernels]
        binding = bind(self.program, addresses, env, 1, keep_all=True)
        context = _Context(self)
        context.use(binding)
        outputs = self._feed(context, arrays)
        owners = {"input": arrays, "variable": self.variables, "constant": self.constants}
        owners["output"] = outputs
        with self._writing or nullcontext():
            row = self._next_launch(context, -1)
            while row is not None:
                launch = binding.launches[binding.code[row, 9]]
                passes = _passes(binding.code, row, context.counters)
                view = partial(self._view, context=context, owners=owners)
                with around(Stop(launch, self.kernels[launch.kernel], passes, env, view)):
                    context.words[[0, 1, 10]] = row, row + 1, 0
                    self._walk(context, shared=False)
                row = self._next_launch(context, row + 1)
        return outputs

    def _next_launch(self, context: _Context, row: int) -> int | None:
        """Run all that stands before the next launch; its row, or None at the end."""
        # Without fuel, the driver returns in front of a launch.
        context.words[[0, 1, 10]] = row, len(context.code), -1
        state = self._run(context.address)
        assert state in (DONE, UNDONE), "checked arrays fit their binding"
        return int(context.words[0]) if state == UNDONE else None

    def _view(
        self, number: int, context: _Context, owners: Mapping[str, list[np.ndarray]]
    ) -> np.ndarray:
        """What a buffer holds now, without a copy."""
        buffer, binding = self.program.buffers[number], context.binding
        if buffer.kind == "status":
            return context.status
        if buffer.kind not in ("temp", "kept"):
            return owners[buffer.kind][buffer.slot]
        assert binding is not None
        if buffer.kind == "kept":
            raw, begin = context.kept[number], 0
        elif buffer.alias is None:
            raw, begin = context.arena, binding.offsets[number]
        else:
            raw = self._view(buffer.alias, context, owners).reshape(-1).view(np.uint8)
            begin = int(context.pointers[number] - context.pointers[buffer.alias])
        size = evaluate(buffer.spec.nbytes, binding.env)
        shape = buffer.spec.concrete_shape(binding.env)
        return raw[begin : begin + size].view(buffer.spec.dtype).reshape(shape)

    def profile(self, inputs: Sequence[np.ndarray], repeat: int = 20) -> list[LaunchRecord]:
        """Time every launch over `repeat` runs (variables are updated by each of them).

        A launch whose results are still right from an earlier run is not repeated: it has no calls.
        """
        arrays = self._checked(inputs)
        binding = self._binding(tuple(array.shape for array in arrays))
        context = self._borrow(binding)
        table = np.zeros((len(binding.launches) + 1, 4), np.int64)
        try:
            # The kernels write into these arrays: they must live as long as the runs.
            outputs = self._feed(context, arrays)
            context.start(binding.code, table.ctypes.data)
            begin = time.perf_counter()
            for _ in range(repeat):
                self._go(context, binding)
            seconds = time.perf_counter() - begin
            del outputs
        finally:
            context.start(binding.code)
            self._contexts.append(context)
        return records_from(binding.launches, table, seconds, self.program)

    def memory(self, env: Mapping[str, int]) -> dict[str, int]:
        """Bytes by kind for these sizes of the named dims."""
        layout = self.program.layout(env)
        kinds = {"input": 0, "variable": 0, "constant": 0, "output": 0}
        for buffer in self.program.buffers:
            if buffer.kind in kinds:
                kinds[buffer.kind] += evaluate(buffer.spec.nbytes, env)
        kinds["kept"] = sum(self.program.kept.values())
        return {"arena": layout.arena_bytes, "peak_live": layout.peak_live_bytes, **kinds}

    def cache_info(self) -> dict[str, float]:
        """Kernels found in the cache and compiled when this function was made, and the seconds."""
        return dict(self._cache_info)


def _with_plain_entries(stack: np.ndarray) -> np.ndarray:
    """A stack whose entries kernels may read as they lie."""
    is_plain = stack.flags.aligned and stack[0, ...].flags.c_contiguous
    return stack if is_plain else np.array(stack, order="C")


def _aligned_constant(array: np.ndarray) -> np.ndarray:
    copy = aligned_empty(array.nbytes).view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy


def _launches(steps: Sequence[object]) -> list[Launch]:
    found: list[Launch] = []
    for step in steps:
        if isinstance(step, Launch):
            found.append(step)
        for inner in ("body", "then", "otherwise"):
            found += _launches(getattr(step, inner, ()))
    return found


def _count_loops(steps: Sequence[object]) -> int:
    return sum(
        hasattr(step, "body")
        + sum(_count_loops(getattr(step, inner, ())) for inner in ("body", "then", "otherwise"))
        for step in steps
    )


def _passes(code: np.ndarray, row: int, counters: np.ndarray) -> tuple[tuple[int, int], ...]:
    """(pass, number of passes) of the loops around a row."""
    begins = [k for k in range(row) if code[k, 0] == BEGIN and row < code[k, 3]]
    return tuple((int(counters[code[k, 1]]), int(code[k, 2])) for k in begins)
