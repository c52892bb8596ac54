"""A seed in, a Case out."""

from __future__ import annotations

from collections.abc import Callable

from graphflow.compiler.autodiff import grad
from graphflow.compiler.errors import GraphError, IndexOutOfRange
from graphflow.compiler.graph import Graph, Node, topological_order
from graphflow.compiler.op import ops
from tests.fuzz import chains, productions
from tests.fuzz.case import Case
from tests.fuzz.drawing import Drawing

#: (production, how often)
PRODUCTIONS: tuple[tuple[Callable[[Drawing], Node | None], int], ...] = (
    (productions.unary, 4), (productions.binary, 5), (productions.with_constant, 2),
    (productions.choice, 2), (productions.comparison, 1), (productions.logic, 1),
    (productions.reduction, 3), (productions.integer, 3), (productions.cast, 1),
    (productions.matmul, 2), (productions.movement, 4), (productions.take, 1),
    (productions.scatter, 1), (productions.gradient, 2), (productions.twin, 1),
    (productions.any_op, 4), (productions.in_domain, 3), (productions.randomness, 1),
    (productions.conv, 2), (chains.chain, 6), (chains.cross, 2), (chains.composite, 5),
    (chains.epilogue, 4), (chains.loop, 1), (chains.branch, 1), (chains.recurrent, 1),
)  # fmt: skip


def random_case(seed: int, size: int = 12, favourite: str | None = None) -> Case:
    """A graph of about `size` drawn nodes (chains and gradients bring more), with updates.

    Args:
        favourite: name of the production that is drawn most; by default a random one.
    """
    d = Drawing(seed)
    makers, weights = zip(*PRODUCTIONS, strict=True)
    # A few kinds dominate each graph, so that they meet more often than by chance.
    often = d.rng.choice(makers)
    if favourite is not None:
        (often,) = (maker for maker in makers if maker.__name__ == favourite)
    drawn: list[Node] = []
    tries = 0
    while len(drawn) < size and tries < 40 * size:
        tries += 1
        (maker,) = d.rng.choices(makers, weights)
        node = _made(d, often if d.rng.random() < 0.25 else maker)
        if node is not None and node not in d.values and d.add(node):
            drawn.append(node)
    late = drawn[len(drawn) // 2 :]
    outputs = d.rng.sample(late, min(len(late), d.rng.randint(1, 5)))
    if d.rng.random() < 0.3:
        outputs += _gradients(d, outputs)
    updates = _updates(d)
    if updates and d.rng.random() < 0.3:
        outputs.append(d.rng.choice(list(updates)))
    inputs = tuple(leaf for leaf in d.leaves if leaf.op.name == "placeholder")
    graph = Graph(inputs, tuple(outputs), tuple(updates.items()))
    return Case(seed, graph, d.leaves, d.environments, d.exact)


def _made(d: Drawing, maker: Callable[[Drawing], Node | None]) -> Node | None:
    try:
        node = maker(d)
    except (GraphError, IndexOutOfRange):
        return None
    return None if node is None or isinstance(node.spec, tuple) else node


def _gradients(d: Drawing, outputs: list[Node]) -> list[Node]:
    """Gradients of a scalar made of all float outputs by a few leaves."""
    parts = [x for x in outputs if x.dtype == d.float]
    parts = [ops.sum(x, axes=tuple(range(x.ndim))) if x.ndim else x for x in parts]
    if not parts:
        return []
    loss = parts[0]
    for part in parts[1:]:
        loss = loss + part
    leaves = [n for n in topological_order([loss]) if n in d.leaves and n.dtype == d.float]
    chosen = d.rng.sample(leaves, min(len(leaves), 3))
    try:
        found = grad(loss, chosen) if chosen else []
    except GraphError:
        return []
    return [x for x in found if d.add(x)]


def _updates(d: Drawing) -> dict[Node, Node]:
    """New values of variables: drawn, of each other's old values, or of their own."""
    updates: dict[Node, Node] = {}
    if d.rng.random() < 0.4:
        return updates
    for variable in d.variables:
        if d.rng.random() < 0.5:
            continue
        value = _new_value(d, variable)
        if value is not None and (value in d.values or d.add(value)):
            updates[variable] = value
    return updates


def _new_value(d: Drawing, variable: Node) -> Node | None:
    other = d.rng.choice([v for v in d.variables if v.spec == variable.spec])
    drawn = d.pick(lambda x: x.spec == variable.spec and x.op.name != "variable")
    kind = d.rng.choice(["drawn", "drawn", "step", "step", "other", "mixed", "turned", "centred"])
    if kind == "drawn":
        return drawn
    if kind == "other":
        return other
    if kind == "mixed":
        return ops.subtract(other, variable)
    if kind == "step":
        return ops.subtract(variable, drawn) if drawn is not None else None
    if not variable.ndim or variable.shape[0] == 0:
        return None
    if kind == "turned":
        start = (variable.shape[0] - 1, *[0] * (variable.ndim - 1))
        step = (-1, *[1] * (variable.ndim - 1))
        return ops.slice(variable, start=start, step=step, shape=variable.shape)
    total = ops.max(other, axes=(0,))
    return ops.subtract(variable, ops.reshape(total, shape=(1, *variable.shape[1:])))
