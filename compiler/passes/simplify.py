"""Algebra that gives the same bits for every value: infinities, -0.0 and NaN (as NaN) included.

    %1 = multiply(%0, 1.0)
    %2 = negative(%1)               ->      %1 = subtract(%x, %0)
    %3 = add(%x, %2)                        %2 = multiply(%1, 0.25)
    %4 = divide(%3, 4.0)

`x + 0.0` stays, since it turns -0.0 into 0.0 (`x - 0.0` and `x + -0.0` go); so do `x * 0.0`, which
is NaN for infinities, and `(x * 0.5) * 2.0`, in which a small x is rounded. Constants come second
(see canonicalize).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from graphflow.compiler.dims import Dim, product
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import broadcast_to, full, full_like
from graphflow.compiler.spec import SIGNED, is_float, is_integer

Rule = Callable[[Node], Node]

#: what one rule makes can be the start of another; longer chains of rules were not met
MOST_SWEEPS = 3


def simplify(graph: Graph) -> Graph:
    """Apply one rule per node, in order, until nothing changes."""

    def simpler(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        rule = RULES.get(node.op.name)
        return node if rule is None else rule(node)

    for _ in range(MOST_SWEEPS):
        before, graph = graph, graph.rewrite(simpler)
        if graph is before:
            break
    return graph


def _fill(node: Node) -> float | int | bool | None:
    """The one value of a node that is the same everywhere."""
    while node.op.name in ("broadcast_to", "reshape"):
        (node,) = node.inputs
    return node.attrs["value"] if node.op.name == "full" else None


def _instead(node: Node, value: Node) -> Node:
    """`value` in the place of `node`: broadcast, since the other operand may have been wider."""
    return broadcast_to(value, node.shape)


def _is_negative_zero(value: float | bool | None) -> bool:
    return isinstance(value, float) and value == 0 and math.copysign(1.0, value) < 0


# ---- sums and products -----------------------------------------------------------------------


def _add(node: Node) -> Node:
    for x, other in (node.inputs, node.inputs[::-1]):
        fill = _fill(other)
        if fill == 0 and (is_integer(node.dtype) or _is_negative_zero(fill)):
            return _instead(node, x)
        if other.op.name == "negative":
            return ops.subtract(x, other.inputs[0])
    return node


def _subtract(node: Node) -> Node:
    left, right = node.inputs
    fill = _fill(right)
    if fill == 0 and not _is_negative_zero(fill):
        return _instead(node, left)
    if right.op.name == "negative":
        return ops.add(left, right.inputs[0])
    return full_like(node, 0) if left is right and is_integer(node.dtype) else node


def _multiply(node: Node) -> Node:
    for x, other in (node.inputs, node.inputs[::-1]):
        fill = _fill(other)
        if fill == 1:
            return _instead(node, x)
        if fill == -1 and is_float(node.dtype):
            return ops.negative(_instead(node, x))
        if fill == 0 and is_integer(node.dtype):
            return full_like(node, 0)
    return _multiply_twice(node)


def _multiply_twice(node: Node) -> Node:
    """(x * c) * d is x * (c * d) where x * c loses nothing that x * (c * d) has."""
    inner, outer = node.inputs[0], _fill(node.inputs[1])
    if inner.op.name != "multiply" or outer is None:
        return node
    x, first = inner.inputs[0], _fill(inner.inputs[1])
    if first is None:
        return node
    kind = np.dtype(node.dtype).type
    with np.errstate(all="ignore"):
        both = kind(first) * kind(outer)
    if is_float(node.dtype):
        # Growing by a power of two is exact or infinite, and growing further keeps it so.
        doubles = _is_power_of_two(first) and abs(first) >= 1
        if not (doubles and abs(outer) >= 1 and np.isfinite(both)):
            return node
    return ops.multiply(_instead(node, x), full((), both.item(), node.dtype))


def _is_power_of_two(value: float) -> bool:
    return math.isfinite(value) and abs(math.frexp(value)[0]) == 0.5


def _divide(node: Node) -> Node:
    x, other = node.inputs
    fill = _fill(other)
    if fill == 1:
        return _instead(node, x)
    # The inverse is exact if it is a normal number.
    if fill and _is_power_of_two(fill) and 2.0**-100 <= abs(fill) <= 2.0**100:
        return ops.multiply(_instead(node, x), full((), 1.0 / fill, node.dtype))
    return node


def _floor_divide(node: Node) -> Node:
    x, other = node.inputs
    return _instead(node, x) if is_integer(node.dtype) and _fill(other) == 1 else node


def _remainder(node: Node) -> Node:
    return full_like(node, 0) if is_integer(node.dtype) and _fill(node.inputs[1]) == 1 else node


def _power(node: Node) -> Node:
    x, exponent = node.inputs
    fill = _fill(exponent)
    if fill == 0:
        return full_like(node, 1)
    if fill == 1:
        return _instead(node, x)
    return ops.square(_instead(node, x)) if fill == 2 else node


# ---- one operand -----------------------------------------------------------------------------


def _involution(node: Node) -> Node:
    """f(f(x)) is x."""
    (x,) = node.inputs
    return x.inputs[0] if x.op is node.op else node


def _idempotent(node: Node) -> Node:
    """f(f(x)) is f(x)."""
    (x,) = node.inputs
    return x if x.op is node.op else node


def _abs(node: Node) -> Node:
    (x,) = node.inputs
    if x.op is node.op or (x.op.name == "square" and is_float(x.dtype)):
        return x
    # Of an unsigned number the negative is another one.
    signed = is_float(x.dtype) or x.dtype in SIGNED
    return ops.abs(x.inputs[0]) if x.op.name == "negative" and signed else node


def _square(node: Node) -> Node:
    (x,) = node.inputs
    return ops.square(x.inputs[0]) if x.op.name in ("abs", "negative") else node


def _logical_not(node: Node) -> Node:
    (x,) = node.inputs
    opposite = {"equal": "not_equal", "not_equal": "equal"}.get(x.op.name)
    if opposite is not None:
        return getattr(ops, opposite)(*x.inputs)
    return _involution(node)


# ---- choice and logic ------------------------------------------------------------------------


def _where(node: Node) -> Node:
    condition, left, right = node.inputs
    if left is right:
        return _instead(node, left)
    fill = _fill(condition)
    if fill is not None:
        return _instead(node, left if fill else right)
    if condition.op.name == "logical_not":
        return ops.where(condition.inputs[0], right, left)
    if node.dtype == "bool" and (_fill(left), _fill(right)) == (True, False):
        return _instead(node, condition)
    return node


def _same_operands(node: Node) -> Node:
    left, right = node.inputs
    return _instead(node, left) if left is right else node


def _logical(neutral: bool) -> Rule:
    """and, or: the neutral constant goes, the other one decides."""

    def rule(node: Node) -> Node:
        for x, other in (node.inputs, node.inputs[::-1]):
            fill = _fill(other)
            if fill is not None:
                return _instead(node, x) if fill == neutral else full_like(node, not neutral)
        return _same_operands(node)

    return rule


def _logical_xor(node: Node) -> Node:
    left, right = node.inputs
    if left is right:
        return full_like(node, False)
    for x, other in ((left, right), (right, left)):
        fill = _fill(other)
        if fill is not None:
            return ops.logical_not(_instead(node, x)) if fill else _instead(node, x)
    return node


def _reflexive(result: bool) -> Rule:
    """x == x and its like are known, except where x may be NaN."""

    def rule(node: Node) -> Node:
        left, right = node.inputs
        known = left is right and not is_float(left.dtype)
        return full_like(node, result) if known else node

    return rule


# ---- sums ------------------------------------------------------------------------------------


def _sum(node: Node) -> Node:
    """A sum of zeros is zero; one of equal integers is a product."""
    (x,) = node.inputs
    fill = _fill(x)
    if fill is None:
        return node
    if fill == 0 and not _is_negative_zero(fill):
        return full_like(node, 0)
    count = product(x.shape[a] for a in node.attrs["axes"])
    if isinstance(count, Dim) or not is_integer(node.dtype):
        return node
    # As the kernel does, modulo the range of the dtype.
    total = np.array(count * int(fill) % 2**64, "uint64").astype(node.dtype)
    return full_like(node, total.item())


RULES: dict[str, Rule] = {
    "abs": _abs,
    "add": _add,
    "ceil": _idempotent,
    "divide": _divide,
    "equal": _reflexive(True),
    "floor": _idempotent,
    "floor_divide": _floor_divide,
    "greater": _reflexive(False),
    "greater_equal": _reflexive(True),
    "less": _reflexive(False),
    "less_equal": _reflexive(True),
    "logical_and": _logical(True),
    "logical_not": _logical_not,
    "logical_or": _logical(False),
    "logical_xor": _logical_xor,
    "maximum": _same_operands,
    "minimum": _same_operands,
    "multiply": _multiply,
    "negative": _involution,
    "not_equal": _reflexive(False),
    "power": _power,
    "relu": _idempotent,
    "remainder": _remainder,
    "round": _idempotent,
    "sign": _idempotent,
    "square": _square,
    "subtract": _subtract,
    "sum": _sum,
    "trunc": _idempotent,
    "where": _where,
}
