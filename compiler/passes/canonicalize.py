"""One form for each meaning: moves that do nothing go, moves in a row become one.

%1 = reshape(%0, (4, 6))
%2 = reshape(%1, (24,))         ->      %1 = reshape(%0, (24,))
%3 = stop_gradient(%2)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import full, reshape

Rule = Callable[[Node], Node]

#: a constant of at most this many elements is looked at for being one repeated value
SMALL_CONSTANT = 4096


def canonicalize(graph: Graph) -> Graph:
    """Apply one rule per node, in order, so that each sees canonical inputs."""

    def canonical(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        rule = RULES.get(node.op.name)
        return node if rule is None else rule(node)

    return graph.rewrite(canonical)


def _constant(node: Node) -> Node:
    """A constant of one repeated value is a `full`, which kernels hold as a literal."""
    array = node.attrs["value"].array
    if not 0 < array.size <= SMALL_CONSTANT:
        return node
    first = array.flat[0]
    # Bits are compared, so that -0.0 and NaN keep their sign and payload.
    if array.tobytes() != np.full(array.shape, first, array.dtype).tobytes():
        return node
    return node if np.isnan(first) else full(array.shape, first.item(), node.dtype)


def _reshape(node: Node) -> Node:
    (x,) = node.inputs
    if x.op.name == "reshape":
        (x,) = x.inputs
    if x.op.name == "full":
        return full(node.shape, x.attrs["value"], x.dtype)
    return node if x is node.inputs[0] and x.shape != node.shape else reshape(x, node.shape)


def _permute(node: Node) -> Node:
    (x,) = node.inputs
    axes = node.attrs["axes"]
    if x.op.name == "permute_dims":
        axes = tuple(x.attrs["axes"][a] for a in axes)
        (x,) = x.inputs
    moved = [a for a in axes if x.shape[a] != 1]
    if moved == sorted(moved):
        return reshape(x, node.shape)
    return node if x is node.inputs[0] else ops.permute_dims(x, axes=axes)


def _broadcast(node: Node) -> Node:
    (x,) = node.inputs
    if x.shape == node.shape:
        return x
    if x.op.name == "full":
        return full(node.shape, x.attrs["value"], x.dtype)
    if x.op.name == "broadcast_to":
        return ops.broadcast_to(x.inputs[0], shape=node.shape)
    return node


def _slice(node: Node) -> Node:
    (x,) = node.inputs
    start, step = node.attrs["start"], node.attrs["step"]
    whole = all(s == 0 for s in start) and all(s == 1 for s in step)
    return x if whole and x.shape == node.shape else node


def _pad(node: Node) -> Node:
    none = all(value == 0 for key in ("low", "high", "interior") for value in node.attrs[key])
    return node.inputs[0] if none else node


def _cast(node: Node) -> Node:
    return node.inputs[0] if node.inputs[0].dtype == node.dtype else node


def _concat(node: Node) -> Node:
    return node.inputs[0] if len(node.inputs) == 1 else node


def _stop_gradient(node: Node) -> Node:
    # The graph has been differentiated by now.
    return node.inputs[0]


def _reduction(node: Node) -> Node:
    """A sum (product, ...) over axes of size 1 moves nothing."""
    (x,) = node.inputs
    trivial = all(x.shape[a] == 1 for a in node.attrs["axes"])
    return reshape(x, node.shape) if trivial else node


def _matmul(node: Node) -> Node:
    """A transposed operand is a flag of the product, not a copy."""
    flags, inputs = dict(node.attrs), list(node.inputs)
    for k, flag in enumerate(("transpose_a", "transpose_b")):
        x = inputs[k]
        last = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
        if x.op.name == "permute_dims" and x.attrs["axes"] == last:
            inputs[k], flags[flag] = x.inputs[0], not flags[flag]
    return node if tuple(inputs) == node.inputs else ops.matmul(*inputs, **flags)


RULES: dict[str, Rule] = {
    "all": _reduction,
    "any": _reduction,
    "broadcast_to": _broadcast,
    "cast": _cast,
    "concat": _concat,
    "constant": _constant,
    "matmul": _matmul,
    "max": _reduction,
    "min": _reduction,
    "pad": _pad,
    "permute_dims": _permute,
    "prod": _reduction,
    "reshape": _reshape,
    "slice": _slice,
    "stop_gradient": _stop_gradient,
    "sum": _reduction,
}
