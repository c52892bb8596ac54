"""mode="nanguard": a graph in, a runner that names the op which made a NaN or an Inf out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.interpreter import bind_dims, evaluate, evaluate_node
from graphflow.compiler.op import describe
from graphflow.compiler.ops.control import Control, watch_bodies
from graphflow.errors import NaNError, with_line
from graphflow.execution import Arrays, store, stored_values

#: true where an element is bad
Test = Callable[[np.ndarray], np.ndarray]
TESTS: Mapping[str, Test] = {"a NaN": np.isnan, "an Inf": np.isinf}

REMEDY = "guard its inputs, for example with gf.clip or gf.where"


class NaNGuardRunner:
    """Interprets; where a result has a NaN or an Inf, finds what made it and stores nothing.

    A NaN is always reported. An Inf is if an op made it from finite numbers: one that was fed or
    written as a constant, such as the -inf of a mask, is meant. What is made and then not chosen by
    `where` reaches no result and is not reported either.
    """

    def __init__(self, graph: Graph, name: str):
        self.graph = graph
        self.name = name
        self._lock = threading.Lock()

    def __call__(self, arrays: Arrays) -> Arrays:
        with self._lock:
            variables = stored_values(self.graph)
            outputs, updated = evaluate(self.graph, arrays, variables)
            for what, test in TESTS.items():
                if any(_is_bad(value, test) for value in (*outputs, *updated.values())):
                    self._report(what, arrays, variables)
            results = [np.array(array, order="C") for array in outputs]
            store(updated)
        return results

    def _report(self, what: str, arrays: Arrays, variables: Mapping[Node, np.ndarray]) -> None:
        """Run again keeping all values, and walk from the bad results back to where it began."""
        run = _Run(self.graph, arrays, variables)
        found = run.find(self.graph.roots, TESTS[what])
        if what == "a NaN" and found is None:
            found = next(run.sources(self.graph.roots, TESTS[what]))
        if found is not None:
            raise NaNError(with_line(f"{self.name}: {found.text(what)}"))


class _Run:
    """All values of one evaluation of a graph, the user's or a body."""

    def __init__(
        self,
        graph: Graph,
        arrays: Sequence[np.ndarray],
        variables: Mapping[Node, np.ndarray],
        passes: str = "",
    ):
        self.env = bind_dims(graph.inputs, arrays)
        self.position = {node: k for k, node in enumerate(graph.nodes)}
        self.passes = passes
        self.values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
        self.values |= variables
        evaluate(graph, arrays, variables, lambda node, _, value: self.values.update({node: value}))

    def reached(self, ends: Sequence[Node], test: Test) -> list[Node]:
        """The bad nodes on the ways that lead to the bad ones of `ends`, in order."""
        found: set[Node] = set()
        stack = [node for node in ends if _is_bad(self.values[node], test)]
        while stack:
            node = stack.pop()
            if node not in found:
                found.add(node)
                stack += [value for value in node.inputs if _is_bad(self.values[value], test)]
        return sorted(found, key=self.position.__getitem__)

    def find(self, ends: Sequence[Node], test: Test) -> _Place | None:
        """The first op on the ways to `ends` that is bad while its inputs are not."""
        for node in self.reached(ends, test):
            if isinstance(node.op, Control):
                inside = self._find_inside(node, test)
                if inside is not None:
                    return inside
            if node.inputs and not any(_is_bad(self.values[v], test) for v in node.inputs):
                return _Place(node, self, test)
        return None

    def sources(self, ends: Sequence[Node], test: Test) -> Iterator[_Place]:
        """Inputs, variables and constants on the ways to `ends` that are bad."""
        for node in self.reached(ends, test):
            if not node.inputs:
                yield _Place(node, self, test)

    def _find_inside(self, node: Node, test: Test) -> _Place | None:
        """The same for what the bodies of a node compute, pass by pass."""
        bodies: list[tuple[Graph, Sequence[np.ndarray]]] = []
        with watch_bodies(lambda body, arrays: bodies.append((body, arrays))):
            evaluate_node(node, [self.values[value] for value in node.inputs], self.env)
        for number, (body, arrays) in enumerate(bodies, 1):
            passes = f"{self.passes}, in {node.label} [{node.source}]"
            if len(bodies) > 1:
                passes += f" pass {number} of {len(bodies)}"
            found = _Run(body, arrays, {}, passes).find(body.roots, test)
            if found is not None:
                return found
        return None


@dataclass(frozen=True)
class _Place:
    """A node whose value is bad, in the run that computed it."""

    node: Node
    run: _Run
    test: Test

    def text(self, what: str) -> str:
        """What happened, where, and the inputs of the op."""
        node, values = self.node, self.run.values
        parts = values[node] if isinstance(values[node], tuple) else (values[node],)
        array = next(part for part in parts if _is_bad(part, self.test))
        bad = self.test(array)
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        count = f"{int(bad.sum())} of {array.size} elements, first at {at}"
        line = f" [{node.source}]" if node.source else ""
        if not node.inputs:
            name = f" {node.name}" if node.name else ""
            return f"{node.op.name}{name}{line} holds {what} already: {count}"
        lines = [f"{node.label}{line} made {what}: {count}{self.run.passes}"]
        lines += [f"  {describe(v)}, {_range_text(values[v])}" for v in node.inputs[:2]]
        infinite = self.run.find(node.inputs, np.isinf)
        if infinite is not None:
            maker = infinite.node
            lines.append(f"  the Inf was made by {maker.label} [{maker.source}]")
        return "\n".join([*lines, f"  no variable was changed; {REMEDY}"])


def _is_bad(value: Any, test: Test) -> bool:
    if isinstance(value, tuple):
        return any(_is_bad(part, test) for part in value)
    return value.dtype.kind == "f" and bool(test(value).any())


def _range_text(value: Any) -> str:
    if isinstance(value, tuple) or not value.size:
        return "empty" if not isinstance(value, tuple) else "several results"
    if value.dtype.kind != "f":
        return f"{value.min()} to {value.max()}"
    return f"{value.min():.4g} to {value.max():.4g}"
