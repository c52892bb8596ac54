"""One form for each meaning: moves that do nothing go, moves in a row become one.

    %1 = reshape(%0, (4, 6))
    %2 = reshape(%1, (24,))         ->      %1 = reshape(%0, (24,))
    %3 = stop_gradient(%2)                  %2 = square(%1)
    %4 = multiply(%3, %3)

Every rule gives the same bits, so nothing after this pass has to know the form that was replaced.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphflow.compiler.dims import Size
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import Elementwise, ops
from graphflow.compiler.ops.blocks import full, reshape
from graphflow.compiler.passes.fold_constants import constant_or_full
from graphflow.compiler.spec import ITEMSIZE, broadcast_shapes, is_float, is_integer

Rule = Callable[[Node], Node]


def canonicalize(graph: Graph) -> Graph:
    """Apply one rule per node, in order, so that each sees canonical inputs."""

    def canonical(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        if isinstance(node.op, Elementwise):
            node = _narrow_operands(node)
        rule = RULES.get(node.op.name)
        return node if rule is None else rule(node)

    return graph.rewrite(canonical)


# ---- constants -------------------------------------------------------------------------------


def _constant(node: Node) -> Node:
    """A constant of one repeated value is a `full`, which kernels hold as a literal."""
    better = constant_or_full(node.attrs["value"].array)
    return node if better.op is node.op else better


def _is_known(node: Node) -> bool:
    """Whether the node is a constant, a full or an iota, perhaps moved."""
    while node.op.name in ("broadcast_to", "reshape"):
        (node,) = node.inputs
    return node.op.arity == (0, 0) and not node.op.stateful


# ---- moves -----------------------------------------------------------------------------------


def _reshaped(x: Node, shape: tuple[Size, ...]) -> Node:
    """`x` with another shape: through a reshape before it, and into a full."""
    if x.op.name == "reshape":
        (x,) = x.inputs
    if x.op.name == "full":
        return full(shape, x.attrs["value"], x.dtype)
    return reshape(x, shape)


def _reshape(node: Node) -> Node:
    (x,) = node.inputs
    moves = x.op.name in ("reshape", "full") or x.shape == node.shape
    return _reshaped(x, node.shape) if moves else node


def _permute(node: Node) -> Node:
    (x,) = node.inputs
    axes = node.attrs["axes"]
    if x.op.name == "permute_dims":
        axes = tuple(x.attrs["axes"][a] for a in axes)
        (x,) = x.inputs
    moved = [a for a in axes if x.shape[a] != 1]
    if moved == sorted(moved) or x.op.name == "full":
        return _reshaped(x, node.shape)
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
    if whole and x.shape == node.shape:
        return x
    if x.op.name == "full":
        return full(node.shape, x.attrs["value"], x.dtype)
    if x.op.name != "slice":
        return node
    first, stride = x.attrs["start"], x.attrs["step"]
    # A slice without elements may begin anywhere; the joined one would have to be checked.
    if any(not isinstance(s, int) for s in (*start, *first)) or 0 in node.shape:
        return node
    return ops.slice(
        x.inputs[0],
        start=tuple(f + s * k for f, s, k in zip(first, start, stride, strict=True)),
        step=tuple(s * k for s, k in zip(step, stride, strict=True)),
        shape=node.shape,
    )


def _pad(node: Node) -> Node:
    none = all(value == 0 for key in ("low", "high", "interior") for value in node.attrs[key])
    return node.inputs[0] if none else node


def _concat(node: Node) -> Node:
    return node.inputs[0] if len(node.inputs) == 1 else node


# ---- reductions and products -----------------------------------------------------------------


def _reduction(node: Node) -> Node:
    """A sum (product, ...) over axes of size 1 moves nothing."""
    (x,) = node.inputs
    trivial = all(x.shape[a] == 1 for a in node.attrs["axes"])
    return _reshaped(x, node.shape) if trivial else node


def _position(node: Node) -> Node:
    """The extreme of one element is at position 0."""
    (x,) = node.inputs
    trivial = all(x.shape[a] == 1 for a in node.attrs["axes"])
    return full(node.shape, 0, node.dtype) if trivial else node


def _matmul(node: Node) -> Node:
    """A transposed operand is a flag of the product, not a copy."""
    flags, inputs = dict(node.attrs), list(node.inputs)
    for k, flag in enumerate(("transpose_a", "transpose_b")):
        x = inputs[k]
        last = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
        if x.op.name == "permute_dims" and x.attrs["axes"] == last:
            inputs[k], flags[flag] = x.inputs[0], not flags[flag]
    return node if tuple(inputs) == node.inputs else ops.matmul(*inputs, **flags)


# ---- elementwise -----------------------------------------------------------------------------


def _narrow_operands(node: Node) -> Node:
    """Operands that broadcasting widens anyway are passed as they were before."""
    inputs = list(node.inputs)
    for k, x in enumerate(inputs):
        narrow = _narrow(x)
        shapes = (v.shape for v in (*inputs[:k], narrow, *inputs[k + 1 :]))
        if narrow is not x and broadcast_shapes(*shapes) == node.shape:
            inputs[k] = narrow
    return rebuild(node, tuple(inputs))


def _narrow(x: Node) -> Node:
    """What `x` is a broadcast of, if that is certain; `x` itself for anything else."""
    if x.op.name == "full" and x.shape:
        return full((), x.attrs["value"], x.dtype)
    if x.op.name != "broadcast_to":
        return x
    (source,) = x.inputs
    aligned = zip(reversed(source.shape), reversed(x.shape), strict=False)
    # Two sizes that a check holds equal when running might contradict a third one here.
    return source if all(have in (1, want) for have, want in aligned) else x


def _commutative(node: Node) -> Node:
    """A constant comes second."""
    left, right = node.inputs
    return node.op(right, left) if _is_known(left) and not _is_known(right) else node


def _multiply(node: Node) -> Node:
    left, right = node.inputs
    return ops.square(left) if left is right else _commutative(node)


def _cast(node: Node) -> Node:
    (x,) = node.inputs
    if x.op.name == "cast" and _is_needless(x.inputs[0].dtype, x.dtype, node.dtype):
        (x,) = x.inputs
    if x.dtype == node.dtype:
        return x
    return node if x is node.inputs[0] else ops.cast(x, dtype=node.dtype)


def _is_needless(source: str, between: str, target: str) -> bool:
    """Whether source -> between -> target gives what source -> target does, for every value."""
    if not _holds(between, source):
        return False
    # From int to int the bits wrap around; from float to int they saturate.
    wraps = is_integer(source) and is_float(between) and is_integer(target)
    return not wraps or _holds(target, source)


def _holds(dtype: str, other: str) -> bool:
    """Whether `dtype` holds every value of `other`."""
    if is_integer(other) and is_float(dtype):
        return 8 * ITEMSIZE[other] <= np.finfo(dtype).nmant + 1
    return bool(np.can_cast(other, dtype, "safe"))


def _stop_gradient(node: Node) -> Node:
    # The graph has been differentiated by now.
    return node.inputs[0]


RULES: dict[str, Rule] = {
    "add": _commutative,
    "all": _reduction,
    "any": _reduction,
    "argmax": _position,
    "argmin": _position,
    "broadcast_to": _broadcast,
    "cast": _cast,
    "concat": _concat,
    "constant": _constant,
    "matmul": _matmul,
    "max": _reduction,
    "min": _reduction,
    "multiply": _multiply,
    "pad": _pad,
    "permute_dims": _permute,
    "prod": _reduction,
    "reshape": _reshape,
    "slice": _slice,
    "stop_gradient": _stop_gradient,
    "sum": _reduction,
}
