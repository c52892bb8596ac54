"""NumPy's functions on symbolic tensors: `np.exp(x)` and `np.concatenate([x, y])` build the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphflow import creation, functions, linalg, manipulation, statistics
from graphflow.errors import GraphError, with_line
from graphflow.tensor import Tensor, as_tensor

#: NumPy's ufunc name -> ours, where they differ
_RENAMED = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh",
    "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "bitwise_and": "logical_and",
    "bitwise_or": "logical_or", "bitwise_xor": "logical_xor", "fabs": "abs",
    "invert": "logical_not", "power": "pow", "rint": "round", "true_divide": "divide",
}  # fmt: skip

#: what `ufunc.reduce` means
_REDUCTIONS = {
    "add": statistics.sum, "logical_and": statistics.all, "logical_or": statistics.any,
    "maximum": statistics.max, "minimum": statistics.min, "multiply": statistics.prod,
}  # fmt: skip


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Any, kwargs: Mapping[str, Any]) -> Any:
    """The graph of a ufunc over at least one Tensor."""
    name = _RENAMED.get(ufunc.__name__, ufunc.__name__)
    options = {key: value for key, value in kwargs.items() if value is not None}
    if method == "reduce" and ufunc.__name__ in _REDUCTIONS:
        return _called(f"{ufunc.__name__}.reduce", _REDUCTIONS[ufunc.__name__], inputs, options)
    function = getattr(functions, name, None) or getattr(linalg, name, None)
    if method != "__call__" or function is None:
        call = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        raise _unsupported(call)
    dtype = options.pop("dtype", None)
    result = _called(ufunc.__name__, function, inputs, options)
    return result if dtype is None else functions.astype(result, dtype)


def apply_function(function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
    """The graph of a NumPy function over at least one Tensor."""
    ours = _FUNCTIONS.get(function)
    if ours is None:
        raise _unsupported(function.__name__)
    return _called(function.__name__, ours, args, kwargs)


def _called(name: str, function: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        if isinstance(error, GraphError) or "argument" not in str(error):
            raise
        raise GraphError(
            with_line(f"np.{name} on a Tensor: {error}; use the gf function of this kind")
        ) from None


def _unsupported(name: str) -> GraphError:
    return GraphError(
        with_line(
            f"np.{name} has no graph form; use gf functions, or compute the value first with "
            "gf.function([...], x)"
        )
    )


# ---- functions whose arguments differ from ours ----------------------------------------------


def _transpose(x: Any, axes: Any = None) -> Tensor:
    tensor = as_tensor(x)
    return manipulation.permute_dims(tensor, range(tensor.ndim)[::-1] if axes is None else axes)


def _clip(x: Any, a_min: Any = None, a_max: Any = None, **limits: Any) -> Tensor:
    return functions.clip(x, limits.pop("min", a_min), limits.pop("max", a_max), **limits)


def _moment(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def moment(x: Any, axis: Any = None, ddof: float = 0.0, keepdims: bool = False) -> Tensor:
        return function(x, axis=axis, correction=ddof, keepdims=keepdims)

    return moment


def _dot(a: Any, b: Any) -> Tensor:
    left, right = as_tensor(a), as_tensor(b)
    if not left.ndim or not right.ndim:
        return functions.multiply(left, right)
    if right.ndim <= 2:
        return linalg.matmul(left, right)
    return linalg.tensordot(left, right, ((left.ndim - 1,), (right.ndim - 2,)))


def _where(condition: Any, a: Any, b: Any) -> Tensor:
    return functions.where(condition, a, b)


_FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.all: statistics.all,
    np.any: statistics.any,
    np.argmax: statistics.argmax,
    np.argmin: statistics.argmin,
    np.around: functions.round,
    np.broadcast_arrays: manipulation.broadcast_arrays,
    np.broadcast_to: manipulation.broadcast_to,
    np.clip: _clip,
    np.concatenate: manipulation.concat,
    np.count_nonzero: statistics.count_nonzero,
    np.dot: _dot,
    np.einsum: linalg.einsum,
    np.empty_like: creation.empty_like,
    np.expand_dims: manipulation.expand_dims,
    np.flip: manipulation.flip,
    np.full_like: creation.full_like,
    np.matrix_transpose: manipulation.matrix_transpose,
    np.max: statistics.max,
    np.mean: statistics.mean,
    np.min: statistics.min,
    np.moveaxis: manipulation.moveaxis,
    np.ndim: lambda x: x.ndim,
    np.ones_like: creation.ones_like,
    np.outer: linalg.outer,
    np.pad: manipulation.pad,
    np.prod: statistics.prod,
    np.ravel: manipulation.flatten,
    np.repeat: manipulation.repeat,
    np.reshape: manipulation.reshape,
    np.roll: manipulation.roll,
    np.round: functions.round,
    np.shape: lambda x: x.shape,
    np.size: lambda x: x.size,
    np.split: manipulation.split,
    np.squeeze: manipulation.squeeze,
    np.stack: manipulation.stack,
    np.std: _moment(statistics.std),
    np.sum: statistics.sum,
    np.swapaxes: manipulation.swapaxes,
    np.take: manipulation.take,
    np.take_along_axis: manipulation.take_along_axis,
    np.tensordot: linalg.tensordot,
    np.tile: manipulation.tile,
    np.transpose: _transpose,
    np.tril: creation.tril,
    np.triu: creation.triu,
    np.var: _moment(statistics.var),
    np.where: _where,
    np.zeros_like: creation.zeros_like,
}
