"""The small vocabulary that vjp rules, composites and passes are written in."""

from __future__ import annotations

from collections.abc import Sequence

from graphflow.compiler.dims import Size
from graphflow.compiler.graph import Node
from graphflow.compiler.op import ops


def full(shape: Sequence[Size], value: float | bool, dtype: str) -> Node:
    """A tensor of one value."""
    return ops.full(shape=tuple(shape), value=value, dtype=dtype)


def full_like(node: Node, value: float | bool) -> Node:
    return full(node.shape, value, node.dtype)


def zeros_like(node: Node) -> Node:
    return full_like(node, 0)


def as_dtype(node: Node, dtype: str) -> Node:
    """`node` cast to dtype; itself where it has it."""
    return node if node.dtype == dtype else ops.cast(node, dtype=dtype)


def reshape(node: Node, shape: Sequence[Size]) -> Node:
    return node if node.shape == tuple(shape) else ops.reshape(node, shape=tuple(shape))


def broadcast_to(node: Node, shape: Sequence[Size]) -> Node:
    return node if node.shape == tuple(shape) else ops.broadcast_to(node, shape=tuple(shape))


def permute(node: Node, axes: Sequence[int]) -> Node:
    return ops.permute_dims(node, axes=tuple(axes))


def swap_last(node: Node) -> Node:
    """The transpose of the last two axes."""
    axes = list(range(node.ndim))
    axes[-2:] = axes[:-3:-1]
    return permute(node, axes)


def sum_over(node: Node, axes: Sequence[int], keepdims: bool = False) -> Node:
    """Sum over axes; none means the node itself."""
    if not axes:
        return node
    total = ops.sum(node, axes=tuple(sorted(axes)))
    return restore_axes(total, axes) if keepdims else total


def restore_axes(node: Node, axes: Sequence[int]) -> Node:
    """Put axes of size 1 where a reduction removed them; `axes` count in the result."""
    shape: list[Size] = list(node.shape)
    for axis in sorted(axes):
        shape.insert(axis, 1)
    return reshape(node, shape)


def expand_reduced(node: Node, shape: Sequence[Size], axes: Sequence[int]) -> Node:
    """Broadcast the result of a reduction over `axes` back to the `shape` that it came from."""
    return broadcast_to(restore_axes(node, axes), shape)


def sum_to(node: Node, shape: Sequence[Size]) -> Node:
    """The reverse of broadcasting: sum over the axes that broadcasting to node.shape repeated."""
    shape = tuple(shape)
    if node.shape == shape:
        return node
    extra = node.ndim - len(shape)
    axes = [*range(extra)] + [
        axis + extra
        for axis, size in enumerate(shape)
        if size == 1 and node.shape[axis + extra] != 1
    ]
    return reshape(sum_over(node, axes), shape)


def where(condition: Node, left: Node | float, right: Node | float) -> Node:
    """Elementwise choice; a Python scalar takes the dtype of the other side."""
    dtype = left.dtype if isinstance(left, Node) else right.dtype  # type: ignore[union-attr]
    sides = [x if isinstance(x, Node) else full((), x, dtype) for x in (left, right)]
    return ops.where(condition, *sides)
