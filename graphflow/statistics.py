"""Functions that reduce axes: sums, means, extremes, positions, log-sum-exp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.compiler.dims import product
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import as_dtype, full, reshape, restore_axes
from graphflow.compiler.spec import (
    DEFAULT_FLOAT,
    DEFAULT_INT,
    ITEMSIZE,
    UNSIGNED,
    is_float,
    is_integer,
)
from graphflow.creation import size_value
from graphflow.errors import DTypeError, with_line
from graphflow.manipulation import checked_axes, checked_axis
from graphflow.tensor import Tensor, as_tensor, dtype_name

__all__ = [
    "all",
    "any",
    "argmax",
    "argmin",
    "count_nonzero",
    "logsumexp",
    "max",
    "mean",
    "min",
    "prod",
    "std",
    "sum",
    "var",
]

Axes = int | Sequence[int] | None


def _reduce(name: str, node: Node, axis: Axes, keepdims: bool) -> Tensor:
    """The reduction op `name`; no axes at all leave the elements as they are."""
    axes = checked_axes(name, node, axis)
    if not axes:
        return Tensor(node)
    result = getattr(ops, name)(node, axes=axes)
    return Tensor(restore_axes(result, axes) if keepdims else result)


def _accumulated(node: Node, dtype: object) -> Node:
    """Cast to the dtype that a sum has: small ints and bools are counted in 64 bits."""
    if dtype is not None:
        return as_dtype(node, dtype_name(dtype))
    if node.dtype == "bool" or (is_integer(node.dtype) and ITEMSIZE[node.dtype] < 8):
        return as_dtype(node, "uint64" if node.dtype in UNSIGNED else DEFAULT_INT)
    return node


def sum(x: Any, axis: Axes = None, keepdims: bool = False, dtype: object = None) -> Tensor:
    """Σ x over the axes (all by default); bools and small ints are summed as 64-bit ints."""
    return _reduce("sum", _accumulated(as_tensor(x, name="sum").node, dtype), axis, keepdims)


def prod(x: Any, axis: Axes = None, keepdims: bool = False, dtype: object = None) -> Tensor:
    """Π x over the axes (all by default); bools and small ints multiply as 64-bit ints."""
    return _reduce("prod", _accumulated(as_tensor(x, name="prod").node, dtype), axis, keepdims)


def max(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The largest element; NaN if there is one. Equal elements share the gradient.

    Raises:
        ShapeError: an axis is empty.
    """
    return _reduce("max", as_tensor(x, name="max").node, axis, keepdims)


def min(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The smallest element; NaN if there is one. Equal elements share the gradient.

    Raises:
        ShapeError: an axis is empty.
    """
    return _reduce("min", as_tensor(x, name="min").node, axis, keepdims)


def _truth(name: str, x: Any) -> Node:
    return as_dtype(as_tensor(x, name=name).node, "bool")


def any(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether some element is true (for numbers: not zero)."""
    return _reduce("any", _truth("any", x), axis, keepdims)


def all(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether every element is true (for numbers: not zero)."""
    return _reduce("all", _truth("all", x), axis, keepdims)


def count_nonzero(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The number of elements that are true (for numbers: not zero), as int64."""
    return sum(Tensor(_truth("count_nonzero", x)), axis, keepdims)


def _floating(name: str, x: Any) -> Node:
    node = as_tensor(x, name=name).node
    return node if is_float(node.dtype) else as_dtype(node, DEFAULT_FLOAT)


def mean(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Σ x / n over the axes (all by default); ints and bools give float32."""
    node = _floating("mean", x)
    axes = checked_axes("mean", node, axis)
    count = size_value(product(node.shape[a] for a in axes), node.dtype)
    return _reduce("sum", node, axes, keepdims) / Tensor(count)


def var(x: Any, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Σ (x - mean)² / (n - correction) over the axes (all by default)."""
    node = _floating("var", x)
    axes = checked_axes("var", node, axis)
    centred = Tensor(node) - mean(node, axes, keepdims=True)
    count = Tensor(size_value(product(node.shape[a] for a in axes), node.dtype))
    total = _reduce("sum", ops.square(centred.node), axes, keepdims)
    return total / (count - correction if correction else count)


def std(x: Any, axis: Axes = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """The square root of `var`."""
    return Tensor(ops.sqrt(var(x, axis, correction, keepdims).node))


def _position(name: str, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    node = as_tensor(x, name=name).node
    ndim = node.ndim
    if axis is None:
        flat = reshape(node, (node.spec.size,))
        result = getattr(ops, name)(flat, axes=(0,))
        return Tensor(restore_axes(result, range(ndim)) if keepdims else result)
    place = checked_axis(name, node, axis)
    result = getattr(ops, name)(node, axes=(place,))
    return Tensor(restore_axes(result, (place,)) if keepdims else result)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first largest element along an axis (of the flattened x by default)."""
    return _position("argmax", x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position of the first smallest element along an axis (of the flattened x by default)."""
    return _position("argmin", x, axis, keepdims)


def logsumexp(x: Any, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """log Σ eˣ over the axes, without overflow: the largest element is taken out first."""
    node = as_tensor(x, name="logsumexp").node
    if not is_float(node.dtype):
        raise DTypeError(with_line(f"logsumexp: {describe(node)}; expected a float dtype"))
    axes = checked_axes("logsumexp", node, axis)
    if not axes:
        return Tensor(node)
    peak = ops.stop_gradient(ops.max(node, axes=axes))
    # An infinite peak would give inf - inf; the sum is then infinite by itself.
    peak = ops.where(ops.is_finite(peak), peak, full((), 0, node.dtype))
    total = ops.sum(ops.exp(node - restore_axes(peak, axes)), axes=axes)
    result = ops.log(total) + peak
    return Tensor(restore_axes(result, axes) if keepdims else result)
