"""Products of vectors, matrices and tensors, all brought to one batched matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow import statistics
from graphflow.compiler.dims import Size, product
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import permute, reshape
from graphflow.compiler.spec import is_equal
from graphflow.einsum import einsum
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.manipulation import checked_axes, checked_axis, matrix_transpose, moveaxis
from graphflow.tensor import Tensor, as_tensor, elementwise, promoted

__all__ = ["einsum", "matmul", "matrix_transpose", "norm", "outer", "tensordot", "vecdot"]


def matmul(a: Any, b: Any) -> Tensor:
    """y[.., i, j] = Σₖ a[.., i, k] b[.., k, j]; a vector on either side loses its axis.

    Args:
        a: (..., rows, inner) or (inner,)
        b: (..., inner, columns) or (inner,); the leading axes broadcast.

    Raises:
        ShapeError: the inner sizes differ, or an operand is a scalar.
    """
    left, right = promoted("matmul", a, b)
    if not left.ndim or not right.ndim:
        raise ShapeError(
            with_line(
                f"matmul: {describe(left)}; {describe(right)}; expected at least 1 axis on both "
                "sides, use * for a scalar"
            )
        )
    _check_inner("matmul", left, left.ndim - 1, right, max(right.ndim - 2, 0))
    wide = reshape(left, (1, *left.shape)) if left.ndim == 1 else left
    tall = reshape(right, (*right.shape, 1)) if right.ndim == 1 else right
    result = _product(wide, tall)
    shape = list(result.shape)
    if right.ndim == 1:
        del shape[-1]
    if left.ndim == 1:
        del shape[-1 if right.ndim == 1 else -2]
    return Tensor(reshape(result, shape))


def _product(a: Node, b: Node) -> Node:
    """a @ b for at least two axes each."""
    if a.ndim > 2 and b.ndim == 2:
        # One matrix on the right: all rows of the batch are rows of one product.
        flat = reshape(a, (product(a.shape[:-1]), a.shape[-1]))
        return reshape(_product(flat, b), (*a.shape[:-1], b.shape[-1]))
    return ops.matmul(a, b, transpose_a=False, transpose_b=False)


def _check_inner(name: str, left: Node, left_axis: int, right: Node, right_axis: int) -> None:
    """The sizes that are summed over must agree; undecided ones are left to the op."""
    have, want = left.shape[left_axis], right.shape[right_axis]
    if not is_equal(have, want, name):
        hint = ""
        if right.ndim == 2 and have == right.shape[1 - right_axis]:
            hint = "; transpose the right one with .T?"
        raise ShapeError(
            with_line(
                f"{name}: inner sizes differ: {have} on the left (axis {left_axis}), {want} on the "
                f"right (axis {right_axis}); expected them to be equal{hint}\n"
                f"  {describe(left)}; {describe(right)}"
            )
        )


def vecdot(a: Any, b: Any, axis: int = -1) -> Tensor:
    """Σₖ a[.., k] b[.., k] along one axis of both; the others broadcast."""
    left, right = promoted("vecdot", a, b)
    places = [checked_axis("vecdot", node, axis) for node in (left, right)]
    _check_inner("vecdot", left, places[0], right, places[1])
    left, right = (moveaxis(n, p, -1).node for n, p in zip((left, right), places, strict=True))
    return statistics.sum(ops.multiply(left, right), -1, dtype=left.dtype)


def outer(a: Any, b: Any) -> Tensor:
    """y[i, j] = a[i] b[j]; operands with more axes are flattened."""
    left, right = (as_tensor(x, name="outer").node for x in (a, b))
    return elementwise(
        "multiply",
        Tensor(reshape(left, (left.spec.size, 1))),
        Tensor(reshape(right, (1, right.spec.size))),
    )


def tensordot(a: Any, b: Any, axes: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """The sum of products over pairs of axes.

    Args:
        axes: the number of last axes of a to pair with the first of b, or two lists of axes.

    Raises:
        ShapeError: paired axes differ in size.
    """
    left, right = promoted("tensordot", a, b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(left.ndim, right.ndim):
            raise ShapeError(
                with_line(
                    f"tensordot: axes={axes} for operands of {left.ndim} and {right.ndim} axes"
                )
            )
        over_left, over_right = [*range(left.ndim - axes, left.ndim)], [*range(axes)]
    else:
        over_left, over_right = (
            [
                checked_axis("tensordot", node, axis)
                for axis in ([part] if isinstance(part, int) else part)
            ]
            for node, part in zip((left, right), axes, strict=True)
        )
    if len(over_left) != len(over_right):
        raise ShapeError(
            with_line(f"tensordot: {len(over_left)} axes are paired with {len(over_right)}")
        )
    for i, j in zip(over_left, over_right, strict=True):
        _check_inner("tensordot", left, i, right, j)
    rows = [k for k in range(left.ndim) if k not in over_left]
    columns = [k for k in range(right.ndim) if k not in over_right]
    inner = product(left.shape[k] for k in over_left)
    row_shape: list[Size] = [left.shape[k] for k in rows]
    column_shape: list[Size] = [right.shape[k] for k in columns]
    matrix = reshape(permute(left, [*rows, *over_left]), (product(row_shape), inner))
    other = reshape(permute(right, [*over_right, *columns]), (inner, product(column_shape)))
    return Tensor(reshape(_product(matrix, other), (*row_shape, *column_shape)))


def norm(
    x: Any, axis: int | Sequence[int] | None = None, order: float = 2, keepdims: bool = False
) -> Tensor:
    """The vector norm (Σ |x|ᵖ)^(1/p) over the axes, with p = `order` (inf for the largest |x|).

    The gradient at the zero vector is zero.
    """
    node = as_tensor(x, name="norm").node
    axes = checked_axes("norm", node, axis)
    size = Tensor(ops.abs(node))
    if order == float("inf"):
        return statistics.max(size, axes, keepdims)
    if order == 1:
        return statistics.sum(size, axes, keepdims)
    if order != 2:
        raise GraphError(with_line(f"norm: order {order} is not built; expected 1, 2 or inf"))
    total = statistics.sum(Tensor(ops.square(node)), axes, keepdims)
    # √ has an infinite slope at 0; the inner choice keeps 0 · inf out of the gradient.
    from graphflow.functions import where

    zero = total == 0
    return where(zero, 0.0, Tensor(ops.sqrt(where(zero, 1.0, total).node)))
