"""Symbolic tensors: a compiler Node with Python's operators, NumPy's protocols and promotion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim, Size
from graphflow.compiler.graph import Node
from graphflow.compiler.interpreter import constant_value
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import as_dtype
from graphflow.compiler.spec import (
    DEFAULT_FLOAT,
    DEFAULT_INT,
    canonical_dtype,
    canonical_shape,
    is_float,
    is_integer,
    promote,
)
from graphflow.errors import DTypeError, GraphError, ShapeError, with_line

__all__ = ["Tensor", "TensorLike", "as_tensor", "elementwise", "promoted"]


class Tensor:
    """A value that will exist when a function runs: dtype and shape are known, elements are not.

    Operators and NumPy functions build the graph. A Python number takes the dtype of the tensor it
    meets; tensors of different dtypes are promoted. `==` builds a comparison; tensors are hashed
    by identity.

    >>> import graphflow as gf
    >>> x = gf.placeholder(("batch", 3), name="x")
    >>> x * 2 + 1
    Tensor<float32(batch, 3) add>
    """

    __slots__ = ("__weakref__", "node")

    def __init__(self, node: Node):
        self.node = node

    # ---- what is known -----------------------------------------------------------------------

    @property
    def dtype(self) -> str:
        """Name of the dtype, for example 'float32'."""
        return self.node.spec.dtype

    @property
    def shape(self) -> tuple[Size, ...]:
        """Sizes: ints, and Dims where a size is known only when the function runs."""
        return self.node.spec.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.node.ndim

    @property
    def size(self) -> Size:
        """Number of elements."""
        return self.node.spec.size

    @property
    def name(self) -> str | None:
        """The name given by the user, or None."""
        return self.node.name

    @property
    def source(self) -> str:
        """`file:line` that made this tensor."""
        return self.node.source

    @property
    def T(self) -> Tensor:
        """The transpose of a matrix; use `.mT` or `gf.permute_dims` for other ranks."""
        if self.ndim != 2:
            raise ShapeError(
                with_line(
                    f".T: {describe(self.node)} has {self.ndim} axes; expected 2. Use .mT to swap "
                    "the last two axes, or gf.permute_dims"
                )
            )
        return Tensor(ops.permute_dims(self.node, axes=(1, 0)))

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        from graphflow.manipulation import matrix_transpose

        return matrix_transpose(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}<{self.node.spec} {self.node.name or self.node.label}>"

    # ---- arithmetic --------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return _operator("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _operator("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _operator("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _operator("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return _operator("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _operator("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _operator("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _operator("divide", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _operator("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _operator("floor_divide", other, self)

    def __mod__(self, other: Any) -> Any:
        return _operator("remainder", self, other)

    def __rmod__(self, other: Any) -> Any:
        return _operator("remainder", other, self)

    def __pow__(self, other: Any) -> Any:
        return _operator("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _operator("power", other, self)

    def __matmul__(self, other: Any) -> Any:
        from graphflow.linalg import matmul

        return matmul(self, other) if _is_operand(other) else NotImplemented

    def __rmatmul__(self, other: Any) -> Any:
        from graphflow.linalg import matmul

        return matmul(other, self) if _is_operand(other) else NotImplemented

    def __neg__(self) -> Tensor:
        return Tensor(ops.negative(self.node))

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return Tensor(ops.abs(self.node))

    # ---- comparison and logic ----------------------------------------------------------------

    def __eq__(self, other: object) -> Any:
        return _operator("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return _operator("not_equal", self, other)

    def __lt__(self, other: Any) -> Any:
        return _operator("less", self, other)

    def __le__(self, other: Any) -> Any:
        return _operator("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return _operator("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return _operator("greater_equal", self, other)

    def __and__(self, other: Any) -> Any:
        return _operator("logical_and", self, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Any:
        return _operator("logical_or", self, other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Any:
        return _operator("logical_xor", self, other)

    __rxor__ = __xor__

    def __invert__(self) -> Tensor:
        return Tensor(ops.logical_not(self.node))

    __hash__ = object.__hash__

    # ---- indexing ----------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Tensor:
        from graphflow.indexing import getitem

        return getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise GraphError(
            with_line(
                f"item assignment: {describe(self.node)} is symbolic and does not change; build a "
                "new tensor with gf.where or gf.concat"
            )
        )

    # ---- where Python asks for a value -------------------------------------------------------

    def _evaluated(self, wanted: str, remedy: str) -> np.ndarray:
        """The value, if it depends on constants only."""
        value = constant_value(self.node)
        if value is None:
            raise GraphError(
                with_line(
                    f"{wanted}: {describe(self.node)} and is known only when a function runs; "
                    f"{remedy}"
                )
            )
        return value

    def __bool__(self) -> bool:
        remedy = "use gf.where to choose per element, gf.cond to choose a branch"
        return bool(self._evaluated("bool() or if", remedy))

    def __int__(self) -> int:
        return int(self._evaluated("int()", "use gf.astype(x, 'int64')"))

    def __float__(self) -> float:
        return float(self._evaluated("float()", "use gf.astype(x, 'float32')"))

    def __index__(self) -> int:
        if not is_integer(self.dtype) or self.ndim:
            raise DTypeError(with_line(f"index: {describe(self.node)}; expected an integer scalar"))
        return int(self._evaluated("index", "use gf.take, or x[i] with the tensor i"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        remedy = "use gf functions on it, or gf.function([...], x) to compute it"
        return np.array(self._evaluated("np.asarray", remedy), dtype=dtype)

    def __len__(self) -> int:
        return self._leading_size("len()", "use x.shape[0]")

    def __iter__(self) -> Iterator[Tensor]:
        count = self._leading_size("iteration", "use gf.scan, or an operation on the whole axis")
        return (self[i] for i in range(count))

    def _leading_size(self, wanted: str, remedy: str) -> int:
        if not self.ndim:
            raise ShapeError(with_line(f"{wanted}: {describe(self.node)} has no axis"))
        if not isinstance(self.shape[0], int):
            raise GraphError(
                with_line(
                    f"{wanted}: {describe(self.node)}; the size '{self.shape[0]}' of axis 0 is "
                    f"known only when a function runs; {remedy}"
                )
            )
        return self.shape[0]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name in _function_names():
            raise AttributeError(f"a Tensor has no method {name!r}; use gf.{name}(x, ...)")
        raise AttributeError(f"a Tensor has no attribute {name!r}")

    # ---- NumPy's protocols -------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from graphflow.numpy_protocol import apply_ufunc

        return apply_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from graphflow.numpy_protocol import apply_function

        return apply_function(function, args, kwargs)


def _function_names() -> set[str]:
    """Functions that a user may look for as methods."""
    from graphflow import functions, manipulation, statistics

    return {*functions.__all__, *manipulation.__all__, *statistics.__all__}


TensorLike = Tensor | Node | np.ndarray | np.generic | int | float | bool | Sequence[Any]


# ---- from values to nodes --------------------------------------------------------------------


def _is_operand(value: object) -> bool:
    return isinstance(value, (Tensor, Node, np.ndarray, np.generic, int, float, list, tuple, Dim))


def _is_weak(value: object) -> bool:
    """Whether a value takes the dtype of what it meets: Python numbers, lists of them, and dims.

    np.float64 is a Python float, so `x * np.sqrt(2)` keeps the dtype of x.
    """
    return isinstance(value, (bool, int, float, list, tuple, Dim))


def dtype_name(dtype: object) -> str:
    """The name of a dtype as a user gives it: a string, a NumPy dtype or a Python type."""
    try:
        return canonical_dtype(dtype.name if isinstance(dtype, np.dtype) else dtype)
    except DTypeError as error:
        raise DTypeError(with_line(str(error))) from None


def user_shape(name: str, shape: Any) -> tuple[Size, ...]:
    """A shape as a user gives it, as sizes; `name` is the operation that messages speak of."""
    try:
        return canonical_shape(shape)
    except GraphError as error:
        raise type(error)(with_line(f"{name}: {error}")) from None


def constant_node(array: np.ndarray) -> Node:
    """A constant; a single element becomes a fill, which passes can see through."""
    dtype = dtype_name(array.dtype)
    if array.ndim == 0:
        return ops.full(shape=(), value=array.item(), dtype=dtype)
    return ops.constant(value=np.ascontiguousarray(array, dtype=np.dtype(dtype)))


def _weak_array(name: str, value: Any) -> np.ndarray | Dim:
    if isinstance(value, Dim):
        return value
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(
            with_line(f"{name}: the rows of {str(value)[:60]} differ in length")
        ) from None
    if array.size == 0 and isinstance(value, (list, tuple)):
        return array.astype(DEFAULT_FLOAT)
    if array.dtype.kind not in "biuf":
        raise DTypeError(
            with_line(
                f"{name}: got {str(value)[:60]} of dtype {array.dtype}; expected numbers or bools"
            )
        )
    return array


def _strong_node(name: str, value: Any) -> Node:
    if isinstance(value, Tensor):
        return value.node
    if isinstance(value, Node):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        try:
            return constant_node(np.asarray(value))
        except DTypeError as error:
            raise DTypeError(with_line(f"{name}: {error}")) from None
    raise DTypeError(
        with_line(
            f"{name}: got a {type(value).__name__}, {str(value)[:60]}; expected a tensor, a "
            "number or an array"
        )
    )


def _weak_dtype(kind: str, strong: str | None) -> str:
    """The dtype that a Python value of `kind` takes beside a tensor of dtype `strong`."""
    if kind == "f":
        return strong if strong is not None and is_float(strong) else DEFAULT_FLOAT
    if kind in "iu":
        return strong if strong is not None and strong != "bool" else DEFAULT_INT
    return strong or "bool"


def _kind(value: np.ndarray | Dim) -> str:
    return "i" if isinstance(value, Dim) else value.dtype.kind


def _weak_node(name: str, array: np.ndarray | Dim, dtype: str) -> Node:
    if isinstance(array, Dim):
        from graphflow.creation import size_value

        return size_value(array, dtype)
    if is_integer(dtype) and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        for value in (int(array.min()), int(array.max())):
            if not limits.min <= value <= limits.max:
                raise DTypeError(
                    with_line(
                        f"{name}: {value} does not fit in {dtype}, which holds {limits.min} to "
                        f"{limits.max}; cast the tensor with gf.astype"
                    )
                )
    with np.errstate(over="ignore"):
        return constant_node(array.astype(dtype))


def _with_stacks(value: Any) -> Any:
    """A list that holds tensors, as one tensor."""
    if isinstance(value, (list, tuple)) and _holds_tensor(value):
        from graphflow.manipulation import stack

        return stack([_with_stacks(item) for item in value])
    return value


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensor, value))
    return isinstance(value, (Tensor, Node))


def promoted(name: str, *values: Any) -> list[Node]:
    """Nodes of one dtype; `name` is the operation that messages speak of.

    Tensors and arrays are promoted by the Array API's table (an int beside a float takes the
    float's dtype). Python numbers are weak: they take the dtype of the others, unless they are of
    a higher kind (a float beside ints gives float32, an int beside bools int64).
    """
    values = tuple(_with_stacks(value) for value in values)
    weak = {k: _weak_array(name, v) for k, v in enumerate(values) if _is_weak(v)}
    strong = {k: _strong_node(name, v) for k, v in enumerate(values) if k not in weak}
    try:
        dtype = promote(*(node.dtype for node in strong.values())) if strong else None
    except DTypeError as error:
        raise DTypeError(with_line(f"{name}: {error}")) from None
    for kind in sorted(map(_kind, weak.values()), key="biuf".index):
        dtype = _weak_dtype(kind, dtype)
    assert dtype is not None
    return [
        as_dtype(strong[k], dtype) if k in strong else _weak_node(name, weak[k], dtype)
        for k in range(len(values))
    ]


def as_tensor(value: Any, dtype: object = None, name: str = "asarray") -> Tensor:
    """`value` as a Tensor: tensors stay, arrays keep their dtype, numbers get the default one."""
    if dtype is not None and not isinstance(value, (Tensor, Node)) and not _holds_tensor(value):
        wanted = dtype_name(dtype)
        if _is_weak(value):
            return Tensor(_weak_node(name, _weak_array(name, value), wanted))
        return Tensor(as_dtype(_strong_node(name, value), wanted))
    if dtype is None and isinstance(value, Tensor):
        return value
    (node,) = promoted(name, value)
    return Tensor(node if dtype is None else as_dtype(node, dtype_name(dtype)))


def _truth(name: str, value: Any) -> Node:
    """An operand of a logical op; a number is not read as a bool, nor a bool as a number."""
    node = as_tensor(value, name=name).node
    if node.dtype != "bool":
        raise DTypeError(
            with_line(f"{name}: {describe(node)}; expected bool, use x != 0 or gf.astype(x, bool)")
        )
    return node


def elementwise(name: str, *values: Any) -> Tensor:
    """The op `name` over promoted operands; dividing ints gives float32."""
    if name.startswith("logical_"):
        return Tensor(getattr(ops, name)(*(_truth(name, value) for value in values)))
    nodes = promoted(name, *values)
    if name == "divide" and not is_float(nodes[0].dtype):
        nodes = [as_dtype(node, DEFAULT_FLOAT) for node in nodes]
    return Tensor(getattr(ops, name)(*nodes))


def _operator(name: str, left: Any, right: Any) -> Any:
    if not (_is_operand(left) and _is_operand(right)):
        return NotImplemented
    if name == "power" and type(right) is int and right == 2 and isinstance(left, Tensor):
        # The gradient of a square needs no power.
        return Tensor(ops.square(left.node))
    return elementwise(name, left, right)
