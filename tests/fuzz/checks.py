"""What must hold for every random graph: each check takes a Case and says where it breaks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from graphflow.compiler.errors import IndexOutOfRange
from graphflow.compiler.pipeline import Compilation, compile_graph, optimize, pass_names
from graphflow.compiler.spec import is_float
from graphflow.compiler.verify import check_program
from graphflow.runtime import binding, changes, executor
from tests.fuzz.case import Case, shrink

Check = Callable[[Case], str | None]

#: products are computed in other forms, sums in another order
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}
#: an error may be this many times what rounding alone was seen to do
MOST_NOISE = 50.0


def differs(
    got: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    tolerance: float | None = None,
    noise: Callable[[], Sequence[np.ndarray]] | None = None,
) -> str | None:
    """Where two lists of arrays differ, as text; None where they agree.

    Args:
        tolerance: relative and absolute; by default that of the dtype.
        noise: gives how far rounding moves each value; asked for where the tolerance is passed.
    """
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"root {number}: {a.dtype}{a.shape}, expected {b.dtype}{b.shape}"
        if not is_float(b.dtype.name):
            if not np.array_equal(a, b):
                return _difference(number, a, b, a != b)
            continue
        limit = TOLERANCE[b.dtype.name] if tolerance is None else tolerance
        with np.errstate(all="ignore"):
            far = ~np.isclose(a, b, rtol=limit, atol=limit, equal_nan=True)
            if far.any() and noise is not None:
                far &= ~(np.abs(a - b) <= MOST_NOISE * noise()[number])
        if far.any():
            return _difference(number, a, b, far)
    return None


def _difference(number: int, a: np.ndarray, b: np.ndarray, far: np.ndarray) -> str:
    index = tuple(int(k[0]) for k in np.nonzero(np.atleast_1d(far)))
    first, wanted = (np.atleast_1d(x)[index] for x in (a, b))
    return (
        f"root {number} {b.dtype}{b.shape}: {int(far.sum())} elements differ, "
        f"at {index} it is {first!r}, expected {wanted!r}"
    )


# ---- passes ----------------------------------------------------------------------------------


def passes_differ(case: Case, without: Collection[str] = ()) -> str | None:
    """What the passes that are left change; bits must stay where no products are."""
    stages, _ = optimize(case.graph, without=without, check=True)
    rewritten = stages[-1][1]
    # NumPy's power of 2 is not always the product, depending on where the array lies.
    inexact = ("conv", "matmul", "power")
    products = any(node.op.name.startswith(inexact) for node in case.graph.nodes)
    for number, env in enumerate(case.environments):
        expected = case.run(case.graph, number)
        got = case.run(rewritten, number)
        tolerance = None if products and not case.exact else 0.0
        found = differs(got, expected, tolerance, _noise(case, number))
        if found:
            return f"without {list(without)}, sizes {dict(env)}: {found}"
    return None


def all_passes_differ(case: Case) -> str | None:
    """`passes_differ` with all passes, with each one left out, and with none."""
    rewrites = [name for name in pass_names() if name != "fuse"]
    for without in ([], *([name] for name in rewrites), rewrites):
        found = passes_differ(case, without)
        if found:
            return found
    return None


# ---- compiled code ---------------------------------------------------------------------------


def compiled_differs(case: Case, without: Collection[str] = ()) -> str | None:
    """Where one compiled program, run at all sizes, differs from the interpreter.

    The program is verified; it runs on one thread and on two, which must give the same bits, with
    an arena that holds NaN before each run; inputs must stay as they are.
    """
    compiled = compile_graph(case.graph, "fuzz", without=without, check=True)
    program = compiled.program
    runs = [_Run(case, compiled, threads) for threads in (1, 2)]
    for number, env in enumerate(case.environments):
        check_program(program, env)
        expected = case.run(case.graph, number)
        one, two = (run(number) for run in runs)
        tolerance = 0.0 if case.exact else None
        found = differs(one, expected, tolerance, _noise(case, number))
        if found:
            return f"without {list(without)}, sizes {dict(env)}: {found}"
        for k, (a, b) in enumerate(zip(one, two, strict=True)):
            if a.tobytes() != b.tobytes():
                return f"sizes {dict(env)}: root {k} has other bits on two threads"
    return None


def bad_indices_differ(case: Case) -> str | None:
    """What is wrong with the report of an index that is out of range.

    The interpreter looks at every index, a kernel at those that it needs: where the interpreter
    finds none, the kernel must not; where the kernel reports one, no variable may have changed, and
    the next call is right again.
    """
    indices = [n for n in case.graph.nodes if n.op.name == "placeholder" and n.dtype == "int64"]
    if not indices:
        return None
    compiled = compile_graph(case.graph, "fuzz", check=True)
    run, final = _Run(case, compiled, 2), compiled.stages[-1][1]
    for number in range(len(case.environments)):
        broken = {
            node: [_with_one(array, 10**9) if node in indices else array for array in arrays]
            for node, arrays in case.leaves.items()
        }
        wrong = replace(case, leaves=broken)
        expected = _raises(lambda w=wrong, n=number: w.run(final, n))
        run.case = wrong
        got = _raises(lambda n=number: run(n))
        if got and not expected:
            return f"sizes {dict(case.environments[number])}: {got}"
        if got and not all(map(np.array_equal, run.variables, run.starts(number))):
            return f"a variable has changed, and yet: {got}"
        run.case = case
        tolerance = 0.0 if case.exact else None
        again = differs(run(number), case.run(case.graph, number), tolerance, _noise(case, number))
        if again:
            return f"the call after the error: {again}"
    return None


def _with_one(array: np.ndarray, value: int) -> np.ndarray:
    """A copy with one element, in the middle, replaced."""
    array = array.copy()
    if array.size:
        array.flat[array.size // 2] = value
    return array


def _raises(run: Callable[[], object]) -> IndexOutOfRange | None:
    try:
        run()
    except IndexOutOfRange as error:
        return error
    return None


def _noise(case: Case, number: int) -> Callable[[], Sequence[np.ndarray]]:
    return lambda: case.noise(number)


class _Run:
    """A program with variables of its own."""

    def __init__(self, case: Case, compiled: Compilation, threads: int):
        self.case, self.graph = case, case.graph
        # The passes may have dropped some.
        self.nodes = compiled.stages[-1][1].variables
        self.guards = _Guards()
        first = [case.leaves[node][0] for node in self.nodes]
        self.variables = [self.guards.empty(array.shape, array.dtype) for array in first]
        self.executor = executor.Executor(compiled.program, self.variables, threads)

    def starts(self, number: int) -> list[np.ndarray]:
        """What the variables hold before a run."""
        return [self.case.leaves[node][number] for node in self.nodes]

    def __call__(self, number: int) -> list[np.ndarray]:
        """Outputs and new values of the updated variables."""
        for array, start in zip(self.variables, self.starts(number), strict=True):
            np.copyto(array, start)
        changes.note_change()
        inputs = self.case.inputs(number)
        before = [array.tobytes() for array in inputs]
        for context in self.executor._contexts:
            context.arena[:] = 0xFF
        with self.guards.in_charge():
            outputs = self.executor(inputs)
        for node, array, data in zip(self.graph.inputs, inputs, before, strict=True):
            assert array.tobytes() == data, f"the input {node.name} was written"
        written = {target for target, _ in self.graph.updates}
        for node, array in zip(self.nodes, self.variables, strict=True):
            same = array.tobytes() == self.case.leaves[node][number].tobytes()
            assert same or node in written, f"the variable {node.name} was written"
        targets = dict(zip(self.nodes, self.variables, strict=True))
        return [*outputs, *(targets[target].copy() for target, _ in self.graph.updates)]


class _Guards:
    """Hands out arrays that lie between bytes which no kernel may change."""

    BORDER, BYTE = 64, 0xA5

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def __getattr__(self, name: str) -> object:
        """Stands in for NumPy, `empty` alone is different."""
        return getattr(np, name)

    def empty(self, shape: Sequence[int], dtype: object) -> np.ndarray:
        """`np.empty`, aligned, with borders."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        raw = np.full(size + 3 * self.BORDER, self.BYTE, np.uint8)
        begin = self.BORDER + -raw.ctypes.data % self.BORDER
        self.blocks += [raw[:begin], raw[begin + size :]]
        return raw[begin : begin + size].view(kind).reshape(shape)

    def aligned_empty(self, nbytes: int) -> np.ndarray:
        """The executor's function of this name."""
        return self.empty((nbytes,), np.uint8)

    def check(self) -> None:
        for block in self.blocks:
            assert (block == self.BYTE).all(), "memory beside an array was written"

    @contextmanager
    def in_charge(self) -> Iterator[None]:
        """The runtime takes its arrays from here, and cuts every launch into chunks."""
        kept = executor.np, executor.aligned_empty, binding.SHARED_WORK, binding.SHARED_RUN
        executor.np, executor.aligned_empty = self, self.aligned_empty
        binding.SHARED_WORK = binding.SHARED_RUN = 1
        try:
            yield
        finally:
            executor.np, executor.aligned_empty, binding.SHARED_WORK, binding.SHARED_RUN = kept
        self.check()


# ---- reports ---------------------------------------------------------------------------------


def outcome(check: Check, case: Case) -> str | None:
    """What a check finds; an exception is a finding too."""
    try:
        return check(case)
    except Exception as error:  # noqa: BLE001 - whatever a pass or the compiler raises
        return f"{type(error).__name__}: {error}"


def report(check: Check, case: Case) -> str:
    """The minimal failing graph and what is wrong with it."""
    small = shrink(case, lambda smaller: outcome(check, smaller) is not None)
    return f"{outcome(check, small)}\n{small}"
