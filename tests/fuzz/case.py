"""A random graph with arrays for its leaves: evaluated by the interpreter, and shrunk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from graphflow.compiler.errors import GraphError
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.interpreter import evaluate, evaluate_node
from graphflow.compiler.op import ops
from graphflow.compiler.printer import graph_text
from graphflow.compiler.spec import is_float

Values = list[np.ndarray]  # one array per environment
Environment = Mapping[str, int]


@dataclass(frozen=True)
class Case:
    """A graph with arrays for its leaves, one set per environment.

    Attributes:
        exact: every value is a small multiple of a power of two, so no order of summation rounds.
    """

    seed: int
    graph: Graph
    leaves: Mapping[Node, Values]
    environments: tuple[Environment, ...]
    exact: bool = False

    def inputs(self, number: int) -> Values:
        """The arrays that feed the graph in one environment."""
        return [self.leaves[node][number] for node in self.graph.inputs]

    def run(self, graph: Graph, number: int) -> Values:
        """Outputs and new values of `graph`, which has this case's leaves, by the interpreter."""
        inputs = [self.leaves[node][number] for node in graph.inputs]
        variables = {node: self.leaves[node][number] for node in graph.variables}
        outputs, updated = evaluate(graph, inputs, variables)
        return [*outputs, *(updated[target] for target, _ in graph.updates)]

    def noise(self, number: int, trials: int = 3) -> Values:
        """How far the roots move when each operation rounds a little differently."""
        clean = self.run(self.graph, number)
        moved = [np.zeros(value.shape) for value in clean]
        for trial in range(trials):
            noisy = self._noisy(number, np.random.default_rng(trial))
            with np.errstate(all="ignore"):
                for k, (a, b) in enumerate(zip(noisy, clean, strict=True)):
                    distance = np.abs(a.astype(np.float64) - b.astype(np.float64))
                    moved[k] = np.fmax(moved[k], np.where(np.isnan(distance), np.inf, distance))
        return moved

    def _noisy(self, number: int, rng: np.random.Generator) -> Values:
        values = {node: arrays[number] for node, arrays in self.leaves.items()}
        for node in self.graph.nodes:
            if node not in values:
                arguments = [values[value] for value in node.inputs]
                with np.errstate(all="ignore"):
                    value = evaluate_node(node, arguments, self.environments[number])
                values[node] = _shaken(value, rng) if node.op.name not in ROUNDS_NOTHING else value
        return [values[node] for node in self.graph.roots]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", graph_text(self.graph, sources=False)]
        used = set(self.graph.nodes) | set(self.graph.variables)
        for number, env in enumerate(self.environments):
            lines.append(", ".join(f"{name}={size}" for name, size in env.items()))
            for node, values in self.leaves.items():
                if node in used and values[number].size <= MOST_SHOWN:
                    lines.append(f"  {node.name}: {values[number].tolist()}")
        return "\n".join(lines)


#: larger arrays are not printed
MOST_SHOWN = 24

#: what moves, chooses or compares values; noise there would break ties that are exact
ROUNDS_NOTHING = frozenset(
    ("max", "min", "maximum", "minimum", "where", "relu", "abs", "negative", "clip", "sign")
    + ("reshape", "permute_dims", "broadcast_to", "slice", "pad", "concat", "take", "full", "iota")
    + ("stop_gradient", "project", "constant", "gather_windows", "spread_windows")
    + ("random_uniform", "floor", "ceil", "round", "trunc")
)


def _shaken(value: object, rng: np.random.Generator) -> object:
    """Floats moved by some units in the last place."""
    if isinstance(value, tuple):
        return tuple(_shaken(part, rng) for part in value)
    if not is_float(value.dtype.name):
        return value
    unit = 4 * np.finfo(value.dtype).eps
    return value * (1 + unit * rng.uniform(-1, 1, value.shape)).astype(value.dtype)


# ---- shrinking -------------------------------------------------------------------------------


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that fails too.

    Fewer sizes, fewer results, nodes fed from outside with their values, and nodes replaced by
    one of their inputs, as long as anything helps.
    """
    for step in (
        _fewer_environments, _single_root, _fewer_roots, _fed_nodes, _skipped_nodes, _fed_nodes,
        _fewer_roots, _fewer_inputs,
    ):  # fmt: skip
        case = step(case, fails)
    return case


def _fewer_environments(case: Case, fails: Callable[[Case], bool]) -> Case:
    for number, env in enumerate(case.environments):
        leaves = {node: [values[number]] for node, values in case.leaves.items()}
        single = replace(case, leaves=leaves, environments=(env,))
        if fails(single):
            return single
    return case


def _single_root(case: Case, fails: Callable[[Case], bool]) -> Case:
    """The earliest node that fails as the only result."""
    for root in case.graph.nodes:
        if isinstance(root.spec, tuple):
            continue
        single = replace(case, graph=Graph(case.graph.inputs, (root,)))
        if fails(single):
            return single
    return case


def _fewer_roots(case: Case, fails: Callable[[Case], bool]) -> Case:
    for kind in ("outputs", "updates"):
        at = 0
        while at < len(getattr(case.graph, kind)):
            rest = list(getattr(case.graph, kind))
            del rest[at]
            smaller = replace(case, graph=replace(case.graph, **{kind: tuple(rest)}))
            if smaller.graph.roots and fails(smaller):
                case = smaller
            else:
                at += 1
    return case


def _fewer_inputs(case: Case, fails: Callable[[Case], bool]) -> Case:
    """Without the inputs that nothing reads, as far as they are not needed to name a size."""
    used = set(case.graph.nodes)
    for unread in [leaf for leaf in case.graph.inputs if leaf not in used]:
        rest = tuple(leaf for leaf in case.graph.inputs if leaf is not unread)
        smaller = replace(case, graph=replace(case.graph, inputs=rest))
        case = smaller if fails(smaller) else case
    return case


def _fed_nodes(case: Case, fails: Callable[[Case], bool]) -> Case:
    return _replaced(case, fails, lambda case, node: [_with_input(case, node)])


def _skipped_nodes(case: Case, fails: Callable[[Case], bool]) -> Case:
    return _replaced(case, fails, lambda case, node: (_without(case, node, x) for x in node.inputs))


def _replaced(case: Case, fails: Callable[[Case], bool], smaller_cases: Callable) -> Case:
    """Accept smaller cases node by node, from the results backwards, until none fails."""
    progress = True
    while progress:
        progress = False
        for node in reversed(case.graph.nodes):
            if not node.inputs or isinstance(node.spec, tuple):
                continue
            found = next((c for c in smaller_cases(case, node) if c and fails(c)), None)
            if found is not None:
                case, progress = found, True
                break
    return case


def _with_input(case: Case, dropped: Node) -> Case | None:
    """The case with one node fed from outside."""
    if dropped in case.graph.roots:
        return None
    probe = Graph(case.graph.inputs, (dropped,))
    values = [case.run(probe, number)[0] for number in range(len(case.environments))]
    name = f"s{len(case.leaves)}"
    leaf = ops.placeholder(shape=dropped.shape, dtype=dropped.dtype, name=name)
    graph = _substitute(case.graph, dropped, leaf)
    graph = Graph((*graph.inputs, leaf), graph.outputs, graph.updates)
    return replace(case, graph=graph, leaves={**case.leaves, leaf: values})


def _without(case: Case, dropped: Node, instead: Node) -> Case | None:
    """The case with an input of a node in its place."""
    if dropped.spec != instead.spec:
        return None
    try:
        return replace(case, graph=_substitute(case.graph, dropped, instead))
    except GraphError:
        return None


def _substitute(graph: Graph, dropped: Node, instead: Node) -> Graph:
    return graph.rewrite(lambda node, inputs: instead if node is dropped else rebuild(node, inputs))
