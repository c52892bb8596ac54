"""What a caller hands over (numbers, lists, arrays) into arrays of the dtype that a graph expects."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.compiler.spec import is_float, is_integer
from graphflow.errors import DTypeError, GraphError, ShapeError, with_line
from graphflow.tensor import Tensor

#: integers up to here are exact in a float dtype
_EXACT = {"float32": 2**24, "float64": 2**53}


def as_array(value: Any, dtype: str, label: str) -> np.ndarray:
    """`value` as a C-contiguous array of `dtype`, converted only where no meaning is lost.

    Floats become another float dtype, ints another int dtype that holds them, and ints or bools
    become floats that hold them exactly. A float for an int is refused, and so is a number for a
    bool.

    Args:
        label: what messages call the value, for example "step: input 'x'".

    Raises:
        DTypeError: the conversion would lose meaning; the message says how to convert.
        ShapeError: a nested list is ragged.
    """
    target = np.dtype(dtype)
    if type(value) is np.ndarray and value.dtype == target:
        return value if is_plain(value) else np.array(value, order="C")
    if isinstance(value, Tensor):
        raise GraphError(
            with_line(
                f"{label}: got the symbolic {value!r}; expected an array. Make it an output of the "
                "function, or read the value of a variable with .value"
            )
        )
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(
            with_line(f"{label}: the rows differ in length; expected a rectangular array")
        ) from None
    return _converted(array, target, label)


def _converted(array: np.ndarray, target: np.dtype, label: str) -> np.ndarray:
    if array.size == 0 and array.dtype.kind in "biuf":
        return np.array(array, dtype=target, order="C")
    kind = array.dtype.kind
    if kind not in "biuf" or array.dtype.itemsize > 8:
        raise DTypeError(
            with_line(f"{label}: got dtype {array.dtype}; expected {target}, numbers or bools")
        )
    if kind != "b" and target.kind == "b":
        raise DTypeError(
            with_line(
                f"{label}: got dtype {array.dtype}; expected bool. Say which you mean, for example "
                "value != 0"
            )
        )
    if kind == "f" and is_integer(target.name):
        raise DTypeError(
            with_line(
                f"{label}: got dtype {array.dtype}; expected {target}. Floats are not rounded "
                f"silently: convert with .astype({target.name!r})"
            )
        )
    if kind in "iu":
        _check_range(array, target, label)
    with np.errstate(over="ignore"):
        return np.array(array, dtype=target, order="C")


def is_plain(array: np.ndarray) -> bool:
    """Whether kernels may read the memory of an array as it lies."""
    flags = array.flags
    return flags.c_contiguous and flags.aligned


def _check_range(array: np.ndarray, target: np.dtype, label: str) -> None:
    if is_float(target.name):
        low, high = -_EXACT[target.name], _EXACT[target.name]
        remedy = f"which is not exact in {target}; convert with .astype({target.name!r})"
    else:
        limits = np.iinfo(target)
        low, high = int(limits.min), int(limits.max)
        remedy = f"outside {low}..{high} of {target}"
    own = np.iinfo(array.dtype)
    if low <= own.min and own.max <= high:
        return
    for value in (int(array.min()), int(array.max())):
        if not low <= value <= high:
            raise DTypeError(with_line(f"{label}: got {value} in {array.dtype}, {remedy}"))
