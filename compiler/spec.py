"""dtype and shape of a value before it exists: promotion, broadcasting, and what must be checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim, Size, evaluate, is_nonnegative, product, symbol
from graphflow.compiler.errors import DTypeError, ShapeError

FLOATS = ("float32", "float64")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
DTYPES = ("bool", *INTEGERS, *FLOATS)
ITEMSIZE = {name: np.dtype(name).itemsize for name in DTYPES}
DEFAULT_FLOAT, DEFAULT_INT = "float32", "int64"


def canonical_dtype(dtype: object) -> str:
    """The name of a dtype given as a string, a NumPy dtype or a Python type."""
    # By identity: a NumPy dtype is equal to the Python type that it stands for.
    for kind, name in ((float, DEFAULT_FLOAT), (int, DEFAULT_INT), (bool, "bool")):
        if dtype is kind:
            return name
    try:
        name = np.dtype(dtype).name  # type: ignore[call-overload]
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise DTypeError(f"dtype {name!r} is not supported; expected one of {', '.join(DTYPES)}")
    return name


def is_float(dtype: str) -> bool:
    return dtype in FLOATS


def is_integer(dtype: str) -> bool:
    return dtype in INTEGERS


def promote(*dtypes: str) -> str:
    """The dtype of an operation over several: the Array API's table, and float wins over int.

    Where the Array API leaves int with float undefined, the float dtype is taken, so a float32
    graph stays float32.
    """
    result = dtypes[0]
    for dtype in dtypes[1:]:
        if is_float(result) and not is_float(dtype):
            continue
        if is_float(dtype) and not is_float(result):
            result = dtype
        else:
            result = np.promote_types(result, dtype).name
    if result not in DTYPES or (is_float(result) and not any(map(is_float, dtypes))):
        raise DTypeError(f"no integer dtype holds both {' and '.join(dtypes)}; cast one of them")
    return result


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What is known of a value: dtype name and shape, each dim an int or a Dim."""

    dtype: str
    shape: tuple[Size, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Size:
        return product(self.shape)

    @property
    def nbytes(self) -> Size:
        return self.size * ITEMSIZE[self.dtype]

    def with_shape(self, shape: Iterable[Size]) -> TensorSpec:
        return TensorSpec(self.dtype, tuple(shape))

    def with_dtype(self, dtype: str) -> TensorSpec:
        return TensorSpec(dtype, self.shape)

    def concrete_shape(self, env: dict[str, int]) -> tuple[int, ...]:
        return tuple(evaluate(size, env) for size in self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}"


def shape_text(shape: Sequence[Size]) -> str:
    """`(batch, 3)`, and `(3,)` for one axis, as Python writes tuples."""
    inner = ", ".join(str(size) for size in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def canonical_shape(shape: object) -> tuple[Size, ...]:
    """A user's shape as sizes: ints, names of dims, Dims; None becomes the dim 'batch' in front."""
    if isinstance(shape, (int, np.integer, str, Dim)):
        shape = (shape,)
    sizes: list[Size] = []
    size: Any
    for position, size in enumerate(shape):  # type: ignore[call-overload, arg-type]
        if size is None:
            size = "batch" if position == 0 else f"dim{position}"
        if isinstance(size, str):
            sizes.append(symbol(size))
        elif isinstance(size, Dim):
            sizes.append(size)
        elif isinstance(size, (int, np.integer)) and not isinstance(size, bool):
            if size < 0:
                raise ShapeError(f"shape {shape}: size {size} of axis {position} is negative")
            sizes.append(int(size))
        else:
            raise ShapeError(
                f"shape {shape}: axis {position} is {size!r}; expected an int, a dim name or a Dim"
            )
    return tuple(sizes)


@dataclass(frozen=True, slots=True)
class DimCheck:
    """A fact that could not be decided while building: left == right when the function runs."""

    left: Size
    right: Size
    reason: str


_pending: ContextVar[list[DimCheck] | None] = ContextVar("pending_dim_checks", default=None)


@contextmanager
def collect_checks() -> Iterator[list[DimCheck]]:
    """Gather the DimChecks that shape inference leaves to run time."""
    checks: list[DimCheck] = []
    token = _pending.set(checks)
    try:
        yield checks
    finally:
        _pending.reset(token)


def is_equal(left: Size, right: Size, reason: str) -> bool:
    """Whether two sizes are equal; an undecided pair counts as equal and is checked when running.

    Two sizes that differ by a constant or by a sign-definite amount are decided here.
    """
    if left == right:
        return True
    difference = left - right
    if isinstance(difference, int):
        return False
    if is_nonnegative(difference - 1) or is_nonnegative(-difference - 1):
        return False
    pending = _pending.get()
    if pending is not None:
        pending.append(DimCheck(left, right, reason))
    return True


def broadcast_shapes(*shapes: tuple[Size, ...]) -> tuple[Size, ...]:
    """NumPy's broadcasting, in which only a literal 1 stretches.

    Two named dims never broadcast against each other: they must be equal, which is checked when
    the function runs if it cannot be decided here.
    """
    ndim = max(map(len, shapes))
    result: list[Size] = []
    for position in range(ndim):
        sizes = [s[position - ndim + len(s)] for s in shapes if position - ndim + len(s) >= 0]
        wide = [size for size in sizes if size != 1]
        if not wide:
            result.append(1)
            continue
        # An int is the more useful fact, so it names the result.
        chosen = next((size for size in wide if isinstance(size, int)), wide[0])
        for size in wide:
            if not is_equal(chosen, size, "broadcasting"):
                both = " and ".join(shape_text(s) for s in shapes)
                raise ShapeError(
                    f"shapes {both} do not broadcast: axis {position - ndim} is "
                    f"{size} against {chosen}"
                )
        result.append(chosen)
    return tuple(result)


def normalize_axis(axis: int, ndim: int) -> int:
    """A non-negative axis."""
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise ShapeError(f"axis {axis!r} is not an int")
    if not -ndim <= axis < ndim:
        raise ShapeError(
            f"axis {axis} is out of range for {ndim} axes; expected {-ndim}..{ndim - 1}"
        )
    return int(axis) % ndim


def normalize_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Sorted non-negative axes; None means all."""
    if axis is None:
        return tuple(range(ndim))
    axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
    result = sorted(normalize_axis(a, ndim) for a in axes)
    if len(set(result)) != len(result):
        raise ShapeError(f"axis {tuple(axes)} names an axis twice")
    return tuple(result)
