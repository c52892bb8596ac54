"""mode="debug": a graph in, a runner that compares every pass and every launch with NumPy out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.comparison import Nudge, largest_difference
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.interpreter import bind_dims, evaluate, evaluate_node
from graphflow.compiler.op import describe
from graphflow.errors import IndexOutOfRange, VerificationError
from graphflow.execution import Arrays, CompiledRunner, copied_values, store, stored_values

if TYPE_CHECKING:
    from graphflow.runtime.executor import Stop

REMEDY = "please report this; GRAPHFLOW_PASSES=<pass> leaves a pass out, fuse among them"


class DebugRunner:
    """Compares the graph after each pass, each launch, and the results with the user's graph.

    A launch is compared with the interpreter's value for the very arrays that it read, so rounding
    does not add up along the program, and the first launch that differs is the one to blame.
    """

    def __init__(self, graph: Graph, name: str):
        self.graph = graph
        self.name = name
        self.compiled = CompiledRunner(graph, name)
        self._lock = threading.Lock()

    def __call__(self, arrays: Arrays) -> Arrays:
        with self._lock:
            written = copied_values(self.graph)
            before = {**stored_values(self.graph), **written}
            oracle = _Oracle(self.name, self.graph, arrays, before)
            for stage, graph in self.compiled.compilation.stages[1:]:
                outputs, updated = evaluate(graph, arrays, before)
                oracle.compare(f"pass {stage} changes", outputs, updated)
            try:
                results = self.compiled.executor.step_through(arrays, self._check_launch)
                oracle.compare("the schedule changes", results, stored_values(self.graph))
                store(written)
                results = self.compiled(arrays)
                oracle.compare(
                    "shared storage or threads change", results, stored_values(self.graph)
                )
            except BaseException:
                store(written)
                raise
        return results

    @contextmanager
    def _check_launch(self, stop: Stop) -> Iterator[None]:
        """Run a launch on marked storage and compare all that it wrote, or must not have."""
        origin = self.compiled.compilation.origins[stop.launch]
        held, written = (
            {node: stop.array(at).reshape(node.spec.concrete_shape(stop.env)) for node, at in pairs}
            for pairs in (origin.reads, origin.writes)
        )
        values = {node: array.copy() for node, array in held.items()}
        for target in written.values():
            if not _shares(target, held.values()):
                # What the kernel leaves out must not look right by chance; all ones are a NaN.
                target.reshape(-1).view(np.uint8).fill(255)
        yield
        expected = _compute(origin.nodes, values, stop.env)
        others = cache(lambda: _compute(origin.nodes, values, stop.env, Nudge()))
        for node, got in written.items():
            found = largest_difference(expected[node], got, partial(lambda n: others()[n], node))
            if found is not None:
                raise self._blame(stop, node, str(found))
        for node, array in held.items():
            changed = array.tobytes() != values[node].tobytes()
            if changed and not _shares(array, written.values()):
                raise self._blame(stop, node, "the kernel reads it, and has written into it")

    def _blame(self, stop: Stop, node: Node, found: str) -> VerificationError:
        passes = "".join(f", pass {at + 1} of {count}" for at, count in stop.passes)
        return VerificationError(
            f"{self.name}: the kernel {stop.launch.label} is wrong{passes}\n"
            f"  {node.label}: {describe(node)}\n  {found}\n  source: {stop.kernel.path}\n  {REMEDY}"
        )


def _shares(array: np.ndarray, others: Iterable[np.ndarray]) -> bool:
    return any(np.may_share_memory(array, other) for other in others)


def _compute(
    nodes: Iterable[Node],
    values: Mapping[Node, np.ndarray],
    env: Mapping[str, int],
    change: Callable[[Any], Any] = lambda value: value,
) -> dict[Node, Any]:
    """The values of some nodes in order, by the interpreter, each changed as it is made.

    Args:
        values: of what they read from outside.
    """
    known: dict[Node, Any] = {node: change(value) for node, value in values.items()}
    with np.errstate(all="ignore"):
        for node in nodes:
            if node not in known:
                arguments = [known[value] for value in node.inputs]
                known[node] = change(evaluate_node(node, arguments, env))
    return known


class _Oracle:
    """The interpreter's results for one call, and whether other results are the same."""

    def __init__(
        self, name: str, graph: Graph, arrays: Arrays, variables: Mapping[Node, np.ndarray]
    ):
        self.name = name
        self.graph = graph
        self.arrays = arrays
        self.variables = variables
        outputs, updated = evaluate(graph, arrays, variables)
        #: the outputs, then the new values of the variables, in the order of the updates
        self.expected = [*outputs, *(updated[target] for target, _ in graph.updates)]

    @cached_property
    def _nudged(self) -> dict[Node, Any]:
        """All values where each is changed in its last digits; none if that is no legal run."""
        env = bind_dims(self.graph.inputs, self.arrays)
        leaves = dict(zip(self.graph.inputs, self.arrays, strict=True))
        try:
            return _compute(self.graph.nodes, {**leaves, **self.variables}, env, Nudge())
        except IndexOutOfRange:
            # An index that is computed from a float may leave its range.
            return {}

    def compare(self, what: str, outputs: Arrays, updated: Mapping[Node, np.ndarray]) -> None:
        """Raise VerificationError where a result is another one; `what` made it."""
        labels = [f"output {number}" for number in range(len(outputs))]
        labels += [f"the update of {node.name or 'a variable'}" for node, _ in self.graph.updates]
        results = [*outputs, *(updated[target] for target, _ in self.graph.updates)]
        for k, (label, node, got) in enumerate(zip(labels, self.graph.roots, results, strict=True)):
            found = largest_difference(
                self.expected[k], np.asarray(got), partial(lambda n: self._nudged.get(n), node)
            )
            if found is not None:
                raise VerificationError(
                    f"{self.name}: {what} {label}\n  {node.label}: {describe(node)}\n  {found}\n"
                    f"  {REMEDY}"
                )
