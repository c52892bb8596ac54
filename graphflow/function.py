"""A graph that can be called: NumPy arrays in, NumPy arrays out, variables updated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow import report
from graphflow.compiler.graph import Graph, Node
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.execution import CompiledRunner, Runner, make_runner, run_many
from graphflow.feeds import as_array
from graphflow.signature import build_graph
from graphflow.structure import map_structure
from graphflow.variable import Variable

if TYPE_CHECKING:
    from graphflow.compiler.pipeline import Compilation
    from graphflow.compiler.program import Kernel, Program
    from graphflow.runtime.profile import LaunchRecord

__all__ = ["Function", "function"]

MODES = ("compiled", "interpret", "debug", "nanguard")


def function(
    inputs: Any,
    outputs: Any = None,
    updates: Any = None,
    givens: Any = None,
    *,
    name: str | None = None,
    mode: str = "compiled",
    device: str | None = None,
    on_unused_input: str = "raise",
) -> Function:
    """A callable that computes `outputs` from `inputs` and stores `updates`.

    All outputs and new values are computed from the old values of the variables. It is compiled on
    the first call, or by `compile()`.

    Args:
        inputs: placeholders, in the order of the arguments; they can also be fed by name.
        outputs: a tensor, or a list, tuple or dict of them (nested too); the call returns arrays
            in the same structure. None returns None.
        updates: pairs (variable, tensor) or a dict: new values, stored after the outputs are known.
        givens: pairs (tensor, tensor) or a dict: what to put in the place of a tensor.
        name: for messages and reports.
        mode: "compiled"; "interpret" (each op by NumPy); "debug" (every pass, every kernel launch
            and the results compared with the interpreter); "nanguard" (interprets, and names the
            op that made a NaN in a result, or an Inf from finite numbers).
        device: None or "cpu".
        on_unused_input: "raise", "warn" or "ignore".

    Raises:
        GraphError: an argument is not what it should be; the message names it and the remedy.

    >>> import graphflow as gf
    >>> x, n = gf.placeholder(("batch", 2), name="x"), gf.variable(0, "calls")
    >>> f = gf.function([x], {"total": gf.sum(x)}, updates=[(n, n + 1)], mode="interpret")
    >>> f([[1, 2], [3, 4]]), int(n.value)
    ({'total': np.float32(10.0)}, 1)
    """
    label = name or "function"
    if mode not in MODES:
        raise GraphError(
            with_line(f"{label}: mode {mode!r} is unknown; expected one of {', '.join(MODES)}")
        )
    if device not in (None, "cpu"):
        raise GraphError(
            with_line(
                f"{label}: device {device!r} is not available in this version; expected None or "
                "'cpu'. Nothing falls back to the CPU silently"
            )
        )
    graph, structure = build_graph(label, inputs, outputs, updates, givens, on_unused_input)
    return Function(graph, structure, label, mode)


class Function:
    """A checked graph with its way of running; made by `gf.function`.

    Attributes:
        graph: the graph as the user wrote it.
        name: what messages and reports call it.
        mode: how it runs.
        structure: the nesting of the outputs, with their numbers as leaves.
    """

    def __init__(self, graph: Graph, structure: Any, name: str, mode: str = "compiled"):
        self.graph = graph
        self.structure = structure
        self.name = name
        self.mode = mode
        self._inputs = [(node, node.dtype, _input_label(name, k, node)) for k, node in
                        enumerate(graph.inputs)]  # fmt: skip
        self._position = {node.name: k for k, node in enumerate(graph.inputs) if node.name}
        self._runner: Runner | None = None
        #: takes arrays that need no conversion; see `Executor.direct`
        self._direct: Callable[[Sequence[Any]], list[np.ndarray] | None] | None = None
        self._lock = threading.Lock()

    # ---- calling -----------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs for these arrays, then store the updates.

        Raises:
            GraphError: an input is missing, unknown or given twice.
            ShapeError, DTypeError: an array does not fit its placeholder.
            IndexError: an index or label met while running is out of range.
        """
        results = None if kwargs or self._direct is None else self._direct(args)
        if results is None:
            arrays = self.feeds(args, kwargs)
            runner = self._runner or self._prepared()
            results = runner(arrays)
        if type(self.structure) is int:
            return _leaf(results[self.structure])
        return map_structure(lambda number: _leaf(results[number]), self.structure)

    def run_many(
        self, *stacks: Any, count: int | None = None, keep_all: bool = False, order: Any = None
    ) -> Any:
        """Call once per entry along the first axis of the stacks, without Python between the calls.

        Updates are stored after each of the calls, as if they were written in a Python loop. Ctrl-C
        ends the loop between two of them.

        Args:
            stacks: one array per input, with an axis in front that has an entry per call.
            count: the number of calls, for a function without inputs.
            keep_all: return the outputs of all calls, each with an axis of calls in front; else
                the outputs of the last call.
            order: ints, (calls, rows): the arrays have no axis of calls then, and call k gets the
                rows order[k] of each; shuffled batches are made so without a copy of the data.

        Raises:
            GraphError: the stacks differ in length, or there is nothing to do.
            ShapeError, DTypeError: the entries do not fit a placeholder.
            IndexError: an index met while running is out of range; earlier calls are in effect.

        >>> import graphflow as gf
        >>> x, n = gf.placeholder((2,), name="x"), gf.variable(0, "calls")
        >>> f = gf.function([x], gf.sum(x), updates=[(n, n + 1)], mode="interpret")
        >>> f.run_many([[1, 2], [3, 4], [5, 6]], keep_all=True), int(n.value)
        (array([ 3.,  7., 11.], dtype=float32), 3)
        >>> f.run_many([1, 2, 3], order=[[2, 1], [0, 0]], keep_all=True)
        array([5., 2.], dtype=float32)
        """
        arrays = self.feeds(stacks, {}, axes=int(order is None))
        if order is not None:
            order = as_array(order, "int64", f"{self.name}: order")
        lengths = {len(array) for array in (arrays if order is None else [order])}
        lengths |= {count} if count is not None else set()
        if len(lengths) != 1 or lengths == {0}:
            raise GraphError(
                with_line(
                    f"{self.name}: run_many got {sorted(lengths)} entries; expected one positive "
                    "number for all arrays, or count=... where there is no input"
                )
            )
        runner = self._runner or self._prepared()
        results = run_many(runner, arrays, lengths.pop(), keep_all, order)
        return map_structure(lambda number: _leaf(results[number]), self.structure)

    def feeds(self, args: Sequence[Any], kwargs: dict[str, Any], axes: int = 0) -> list[np.ndarray]:
        """The arguments of a call as arrays of the dtypes and ranks of the inputs, in order.

        Args:
            axes: how many more axes they have in front.
        """
        values: Sequence[Any] = args
        if kwargs or len(args) != len(self._inputs):
            values = self._matched(args, kwargs)
        arrays = []
        for value, (node, dtype, label) in zip(values, self._inputs, strict=True):
            array = as_array(value, dtype, label)
            if array.ndim != node.ndim + axes:
                raise ShapeError(
                    with_line(
                        f"{label}: got shape {array.shape}; expected {node.ndim + axes} axes, "
                        f"{node.spec}\n  made at {node.source}"
                    )
                )
            arrays.append(array)
        return arrays

    def _matched(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """One value per input from positions and names."""
        expected = ", ".join(
            node.name or f"input {k}" for k, (node, _, _) in enumerate(self._inputs)
        )
        if len(args) > len(self._inputs):
            raise GraphError(
                with_line(
                    f"{self.name}: {len(args)} arrays given; expected {len(self._inputs)}: "
                    f"{expected or 'none'}"
                )
            )
        values = dict(enumerate(args))
        for key, value in kwargs.items():
            position = self._position.get(key)
            if position is None:
                raise GraphError(
                    with_line(
                        f"{self.name}: no input is named {key!r}; expected {expected or 'none'}"
                    )
                )
            if position in values:
                raise GraphError(
                    with_line(
                        f"{self.name}: the input {key!r} is given twice, by position and name"
                    )
                )
            values[position] = value
        missing = [
            node.name or f"input {k}"
            for k, (node, _, _) in enumerate(self._inputs)
            if k not in values
        ]
        if missing:
            raise GraphError(
                with_line(
                    f"{self.name}: no array given for {', '.join(missing)}; expected one each for "
                    f"{expected}"
                )
            )
        return [values[k] for k in range(len(self._inputs))]

    def _prepared(self) -> Runner:
        with self._lock:
            if self._runner is None:
                self._runner = make_runner(self.graph, self.name, self.mode)
                self._direct = getattr(self._runner, "direct", None)
            return self._runner

    def compile(self) -> Function:
        """Compile now, rather than on the first call; returns the function itself."""
        self._prepared()
        return self

    # ---- what it is made of ------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The placeholders, in order."""
        return self.graph.inputs

    @property
    def variables(self) -> list[Variable]:
        """The variables that it reads or updates, in order of creation."""
        return [Variable(node) for node in self.graph.variables]

    def _compiled(self, wanted: str) -> CompiledRunner:
        runner = self._prepared()
        compiled = getattr(runner, "compiled", None)
        if compiled is None:
            raise GraphError(
                with_line(
                    f"{self.name}: {wanted} needs a compiled function; this one has mode="
                    f"{self.mode!r}"
                )
            )
        return compiled

    @property
    def compilation(self) -> Compilation:
        """The compiler's results: program, graph after each pass, fused groups, timings."""
        return self._compiled("compilation").compilation

    @property
    def program(self) -> Program:
        """Buffers, kernels and launches, as the runtime gets them."""
        return self._compiled("program").compilation.program

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels; `kernels[i].source` is their text."""
        return self._compiled("kernels").compilation.program.kernels

    @property
    def optimized_graph(self) -> Graph:
        """The graph after the last pass."""
        return self._compiled("optimized_graph").compilation.stages[-1][1]

    def explain(self) -> str:
        """Text: inputs, passes, kernels, work, memory formula, compile time and cache hits."""
        return report.explanation(self)

    def profile(self, *args: Any, **kwargs: Any) -> list[LaunchRecord]:
        """Run several times on these arrays and time every launch.

        The variables are put back afterwards; nothing else may run the function meanwhile.
        """
        arrays = self.feeds(args, kwargs)
        return self._compiled("profile").profile(arrays)

    def memory(self, **dims: int) -> report.Memory:
        """Bytes by kind for these sizes of the named dims, known before anything runs.

        Raises:
            GraphError: a dim is missing, unknown or negative.
        """
        program = self._compiled("memory").compilation.program
        return report.memory(self.name, program, self.graph, dims)

    def cache_info(self) -> dict[str, float]:
        """Kernels found in the cache, kernels compiled, and seconds spent."""
        return self._compiled("cache_info").cache_info()

    def __repr__(self) -> str:
        inputs = ", ".join(f"{node.name or 'input'}: {node.spec}" for node in self.graph.inputs)
        outputs = ", ".join(str(node.spec) for node in self.graph.outputs)
        updates = len(self.graph.updates)
        tail = f", {updates} updates" if updates else ""
        return f"<Function {self.name}({inputs}) -> {outputs or 'None'}{tail}, {self.mode}>"


def _input_label(name: str, number: int, node: Node) -> str:
    which = f"input {node.name!r}" if node.name else f"input {number}"
    return f"{name}: {which}"


def _leaf(array: np.ndarray) -> Any:
    """Scalars come back as NumPy scalars, which print and format like numbers."""
    return array if array.ndim else array[()]
