"""Tensors made from shapes and numbers; nothing is stored, kernels compute the elements."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim, FloorDiv, Size, Symbol
from graphflow.compiler.graph import Node
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import as_dtype, reshape
from graphflow.compiler.ops.blocks import full as filled
from graphflow.compiler.spec import (
    DEFAULT_FLOAT,
    DEFAULT_INT,
    is_integer,
)
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.tensor import Tensor, as_tensor, dtype_name, user_shape

__all__ = [
    "arange",
    "asarray",
    "empty",
    "empty_like",
    "eye",
    "full",
    "full_like",
    "linspace",
    "ones",
    "ones_like",
    "shape",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]


def asarray(value: Any, dtype: object = None) -> Tensor:
    """`value` as a Tensor.

    Args:
        value: a tensor, a number, an array, or a nested list of them.
        dtype: the dtype wanted; by default arrays keep theirs, Python floats become float32 and
            Python ints int64.
    """
    return as_tensor(value, dtype, "asarray")


def full(shape: Any, fill_value: Any, dtype: object = None) -> Tensor:
    """A tensor of `shape` with one value everywhere; `fill_value` may be a scalar tensor."""
    value = as_tensor(fill_value, dtype, "full")
    if value.ndim:
        raise ShapeError(with_line(f"full: the fill value is {value!r}; expected a scalar"))
    if value.node.op.name == "full":
        return Tensor(filled(user_shape("full", shape), value.node.attrs["value"], value.dtype))
    return Tensor(ops.broadcast_to(value.node, shape=user_shape("full", shape)))


def zeros(shape: Any, dtype: object = DEFAULT_FLOAT) -> Tensor:
    """A tensor of zeros."""
    return Tensor(filled(user_shape("zeros", shape), 0, dtype_name(dtype)))


def ones(shape: Any, dtype: object = DEFAULT_FLOAT) -> Tensor:
    """A tensor of ones."""
    return Tensor(filled(user_shape("ones", shape), 1, dtype_name(dtype)))


def empty(shape: Any, dtype: object = DEFAULT_FLOAT) -> Tensor:
    """A tensor of unspecified values, which are zeros."""
    return zeros(shape, dtype)


def full_like(x: Any, fill_value: Any, dtype: object = None) -> Tensor:
    """A tensor of the shape and dtype of x with one value everywhere."""
    tensor = as_tensor(x, name="full_like")
    return full(tensor.shape, fill_value, tensor.dtype if dtype is None else dtype)


def zeros_like(x: Any, dtype: object = None) -> Tensor:
    """A tensor of zeros of the shape and dtype of x."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: object = None) -> Tensor:
    """A tensor of ones of the shape and dtype of x."""
    return full_like(x, 1, dtype)


def empty_like(x: Any, dtype: object = None) -> Tensor:
    """A tensor of unspecified values, which are zeros, of the shape and dtype of x."""
    return full_like(x, 0, dtype)


def iota(shape: tuple[Size, ...], axis: int, dtype: str = DEFAULT_INT) -> Node:
    """y[i] = i[axis]"""
    return ops.iota(shape=shape, axis=axis, dtype=dtype)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: object = None) -> Tensor:
    """start, start + step, ... below stop; one argument counts from 0.

    Args:
        start, stop, step: numbers. A named dim (`x.shape[0]`) may stand for start or stop where
            the step is an int.
        dtype: by default int64, or float32 if a float is given.

    Raises:
        ShapeError: the step is 0.
        GraphError: an argument is a symbolic tensor, so the size would depend on data.
    """
    if stop is None:
        start, stop = 0, start
    for value in (start, stop, step):
        if isinstance(value, Tensor):
            raise GraphError(
                with_line(f"arange: the size would depend on {value!r}; expected numbers or dims")
            )
    if not isinstance(step, Dim) and step == 0:
        raise ShapeError(with_line("arange: the step is 0"))
    floating = any(isinstance(value, (float, np.floating)) for value in (start, stop, step))
    name = dtype_name(dtype or (DEFAULT_FLOAT if floating else DEFAULT_INT))
    if isinstance(start, Dim) or isinstance(stop, Dim):
        return _symbolic_range(start, stop, step, name)
    if floating or not is_integer(name):
        return Tensor(as_dtype(as_tensor(np.arange(start, stop, step)).node, name))
    return _int_range(int(start), len(range(int(start), int(stop), int(step))), int(step), name)


def _symbolic_range(start: Any, stop: Any, step: Any, dtype: str) -> Tensor:
    if not isinstance(step, (int, np.integer)) or isinstance(start, float) or step < 0:
        raise GraphError(
            with_line(
                f"arange: step {step} from {start} to the dim {stop}; expected a positive int"
            )
        )
    count = (stop - start + int(step) - 1) // int(step)
    if not isinstance(start, Dim):
        return _int_range(int(start), count, int(step), dtype)
    steps = iota((count,), 0) * int(step) + size_value(start)
    return Tensor(as_dtype(steps, dtype))


def _int_range(start: int, count: Size, step: int, dtype: str) -> Tensor:
    node = iota((count,), 0)
    node = node if step == 1 else node * step
    return Tensor(as_dtype(node if start == 0 else node + start, dtype))


def linspace(
    start: float, stop: float, num: int, dtype: object = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced numbers from start to stop, with or without the last."""
    if num < 0:
        raise ShapeError(with_line(f"linspace: num is {num}; expected at least 0"))
    values = np.linspace(start, stop, num, endpoint=endpoint)
    return Tensor(as_dtype(as_tensor(values).node, dtype_name(dtype or DEFAULT_FLOAT)))


def eye(n_rows: Any, n_cols: Any = None, k: int = 0, dtype: object = DEFAULT_FLOAT) -> Tensor:
    """A matrix with ones on diagonal k (above the main one where k > 0) and zeros elsewhere."""
    rows, cols = user_shape("eye", (n_rows, n_rows if n_cols is None else n_cols))
    hit = ops.equal(*_diagonal_distance((rows, cols), k))
    return Tensor(as_dtype(hit, dtype_name(dtype)))


def _diagonal_distance(shape: tuple[Size, ...], k: int) -> tuple[Node, Node]:
    """(row + k, column) of each element of the last two axes."""
    row, column = (iota(shape[-2:], axis) for axis in (0, 1))
    return (row + k if k else row), column


def _triangle(name: str, x: Any, k: int) -> Tensor:
    tensor = as_tensor(x, name=name)
    if tensor.ndim < 2:
        raise ShapeError(
            with_line(f"{name}: {tensor!r} has {tensor.ndim} axes; expected 2 or more")
        )
    diagonal, column = _diagonal_distance(tensor.shape, k)
    kept = (ops.less_equal if name == "tril" else ops.greater_equal)(column, diagonal)
    return Tensor(ops.where(kept, tensor.node, filled((), 0, tensor.dtype)))


def tril(x: Any, k: int = 0) -> Tensor:
    """x (..., rows, columns) with zeros above diagonal k."""
    return _triangle("tril", x, k)


def triu(x: Any, k: int = 0) -> Tensor:
    """x (..., rows, columns) with zeros below diagonal k."""
    return _triangle("triu", x, k)


# ---- sizes as values -------------------------------------------------------------------------


def size_value(size: Size, dtype: str = DEFAULT_INT) -> Node:
    """A scalar that holds a size, also one that is known only when the function runs.

    A named dim n is read as element n of 0, 1, ..., n, which costs nothing inside a kernel.
    """
    if isinstance(size, int):
        return filled((), size, dtype)
    total: Node | None = None
    for monomial, coefficient in size.terms:
        term = filled((), coefficient, dtype)
        for atom in monomial:
            term = term * _atom_value(atom, dtype)
        total = term if total is None else total + term
    assert total is not None
    return total


def _atom_value(atom: Any, dtype: str) -> Node:
    size = Dim((((atom,), 1),))
    assert isinstance(atom, (Symbol, FloorDiv))
    last = ops.slice(iota((size + 1,), 0, dtype), start=(size,), step=(1,), shape=(1,))
    return reshape(last, ())


def shape(x: Any) -> Tensor:
    """The sizes of x as an int64 tensor; `x.shape` gives them as ints and dims."""
    sizes = as_tensor(x, name="shape").shape
    if not sizes:
        return zeros((0,), DEFAULT_INT)
    parts = [reshape(size_value(size), (1,)) for size in sizes]
    return Tensor(ops.concat(*parts, axis=0) if len(parts) > 1 else parts[0])
