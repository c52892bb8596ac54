"""A factor and an offset per channel behind a product of weights go into the weights.

    %1 = conv(%x, %w)
    %2 = subtract(%1, %mean)                      %1 = multiply(%w, %factor)
    %3 = multiply(%2, %factor)           ->       %2 = conv(%x, %1)
    %4 = add(%3, %offset)                         %3 = subtract(%offset, multiply(%mean, %factor))
                                                  %4 = add(%2, %3)

Only where weights, factors and offsets stay the same from call to call (see `once`): the new weights
are then computed once. Results are rounded in another order, as with any other order of the products
in a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.once import once_nodes
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import reshape
from graphflow.compiler.spec import is_float


@dataclass(frozen=True)
class _Affine:
    """A value that is `product * factor + offset`, both vectors over the last axis, or None."""

    product: Node
    factor: Node | None = None
    offset: Node | None = None

    def plus(self, vector: Node) -> _Affine:
        offset = vector if self.offset is None else self.offset + vector
        return _Affine(self.product, self.factor, offset)

    def minus(self, vector: Node) -> _Affine:
        offset = -vector if self.offset is None else self.offset - vector
        return _Affine(self.product, self.factor, offset)

    def subtracted_from(self, vector: Node) -> _Affine:
        factor = ops.full(value=-1, shape=(), dtype=vector.dtype)
        return self.times(factor).plus(vector)

    def times(self, vector: Node) -> _Affine:
        factor = vector if self.factor is None else self.factor * vector
        offset = None if self.offset is None else self.offset * vector
        return _Affine(self.product, factor, offset)

    def over(self, vector: Node) -> _Affine:
        one = ops.full(value=1, shape=(), dtype=vector.dtype)
        return self.times(one / vector)


def fold_affine(graph: Graph) -> Graph:
    """Rewrite the products of a graph that only such a chain reads."""
    once = once_nodes(graph)
    #: new node -> what it is, for the nodes of chains
    known: dict[Node, _Affine] = {}
    roots = set(graph.roots)
    #: the new form of a value that stays the same
    same: dict[Node, Node] = {}

    def replace(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = rebuild(node, inputs)
        if node in once:
            same[new] = node
            return new
        alone = len(graph.users[node]) == 1 and node not in roots
        if _is_product(node) and node.inputs[1] in once:
            if alone:
                known[new] = _Affine(new)
            return new
        found = _step(new, known, same)
        if found is None:
            return new
        result = _written(found) or new
        if alone:
            known[result] = found
        return result

    return graph.rewrite(replace)


def _is_product(node: Node) -> bool:
    """Whether the last axis of the weights is that of the result."""
    if node.op.name == "matmul":
        return not node.attrs["transpose_b"]
    return node.op.name == "conv"


def _step(node: Node, known: dict[Node, _Affine], same: dict[Node, Node]) -> _Affine | None:
    """What a node is that continues a chain; None for any other."""
    if node.op.name not in ("add", "subtract", "multiply", "divide") or not is_float(node.dtype):
        return None
    left, right = node.inputs
    if left in known and right in same:
        value, vector, name = known[left], _vector(right, node), node.op.name
    elif right in known and left in same:
        value, vector = known[right], _vector(left, node)
        name = {"subtract": "subtracted_from", "divide": ""}.get(node.op.name, node.op.name)
    else:
        return None
    if vector is None or value.product.shape != node.shape or not name:
        return None
    steps = {
        "add": value.plus,
        "subtract": value.minus,
        "subtracted_from": value.subtracted_from,
        "multiply": value.times,
        "divide": value.over,
    }
    return steps[name](vector)


def _vector(x: Node, node: Node) -> Node | None:
    """`x` as a vector over the last axis of `node`, if it is the same along all others."""
    if any(size != 1 for size in x.shape[:-1]):
        return None
    size = x.shape[-1] if x.shape else 1
    if size == 1:
        # Nothing is gained with one number for all channels, which needs no load.
        return None
    return reshape(x, (size,)) if size == node.shape[-1] else None


def _written(value: _Affine) -> Node | None:
    """The chain so far over new weights; None while it has no factor."""
    if value.factor is None:
        return None
    x, w = value.product.inputs
    result = value.product.op(x, w * value.factor, **value.product.attrs)
    return result if value.offset is None else result + value.offset
