"""Algebra that gives the same bits for every value, NaN, infinities and -0.0 included.

    %1 = multiply(%0, 1.0)
    %2 = negative(%1)               ->      %2 = negative(%0)
    %3 = divide(%2, 4.0)                    %3 = multiply(%2, 0.25)

`x + 0.0` stays, since it turns -0.0 into 0.0; so does `x * 0`, which is NaN for infinities.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import broadcast_to, full_like
from graphflow.compiler.spec import is_float

Rule = Callable[[Node], Node]


def simplify(graph: Graph) -> Graph:
    """Apply one rule per node, in order."""

    def simpler(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        rule = RULES.get(node.op.name)
        return node if rule is None else rule(node)

    return graph.rewrite(simpler)


def _fill(node: Node) -> float | int | bool | None:
    """The one value of a node that is the same everywhere."""
    while node.op.name in ("broadcast_to", "reshape"):
        (node,) = node.inputs
    return node.attrs["value"] if node.op.name == "full" else None


def _is_exact_inverse(value: float) -> bool:
    """Whether dividing by a power of two is multiplying by its inverse, both normal numbers."""
    return abs(math.frexp(value)[0]) == 0.5 and 2.0**-100 <= abs(value) <= 2.0**100


def _instead(node: Node, value: Node) -> Node:
    """`value` in the place of `node`: broadcast, since the other operand may have been wider."""
    return broadcast_to(value, node.shape)


def _add(node: Node) -> Node:
    left, right = node.inputs
    if not is_float(node.dtype):
        if _fill(right) == 0:
            return _instead(node, left)
        if _fill(left) == 0:
            return _instead(node, right)
    elif _is_negative_zero(_fill(right)):
        return _instead(node, left)
    return node


def _is_negative_zero(value: float | bool | None) -> bool:
    return isinstance(value, float) and value == 0 and math.copysign(1.0, value) < 0


def _subtract(node: Node) -> Node:
    left, right = node.inputs
    fill = _fill(right)
    return _instead(node, left) if fill == 0 and not _is_negative_zero(fill) else node


def _multiply(node: Node) -> Node:
    for x, other in (node.inputs, node.inputs[::-1]):
        fill = _fill(other)
        if fill == 1:
            return _instead(node, x)
        if fill == -1 and is_float(node.dtype):
            return ops.negative(_instead(node, x))
        if fill == 0 and not is_float(node.dtype):
            return full_like(node, 0)
    return node


def _divide(node: Node) -> Node:
    x, other = node.inputs
    fill = _fill(other)
    if fill == 1:
        return _instead(node, x)
    if fill and math.isfinite(fill) and _is_exact_inverse(fill):
        return _instead(node, x) * (1.0 / fill)
    return node


def _negative(node: Node) -> Node:
    (x,) = node.inputs
    return x.inputs[0] if x.op.name == "negative" else node


def _power(node: Node) -> Node:
    x, exponent = node.inputs
    fill = _fill(exponent)
    if not is_float(node.dtype):
        return node
    if fill == 1:
        return _instead(node, x)
    return ops.square(_instead(node, x)) if fill == 2 else node


def _where(node: Node) -> Node:
    condition, left, right = node.inputs
    if left is right:
        return _instead(node, left)
    fill = _fill(condition)
    return node if fill is None else _instead(node, left if fill else right)


def _same_operands(node: Node) -> Node:
    left, right = node.inputs
    return _instead(node, left) if left is right else node


def _idempotent(node: Node) -> Node:
    return node.inputs[0] if node.inputs[0].op is node.op else node


def _logical_not(node: Node) -> Node:
    (x,) = node.inputs
    return x.inputs[0] if x.op is node.op else node


RULES: dict[str, Rule] = {
    "abs": _idempotent,
    "add": _add,
    "ceil": _idempotent,
    "divide": _divide,
    "floor": _idempotent,
    "logical_and": _same_operands,
    "logical_not": _logical_not,
    "logical_or": _same_operands,
    "maximum": _same_operands,
    "minimum": _same_operands,
    "multiply": _multiply,
    "negative": _negative,
    "power": _power,
    "relu": _idempotent,
    "round": _idempotent,
    "subtract": _subtract,
    "trunc": _idempotent,
    "where": _where,
}
