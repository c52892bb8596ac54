"""Leaves and tensors made from nothing: placeholders, variables, constants, fill and ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.dims import Size
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Emitter, Map, Op, register
from graphflow.compiler.spec import TensorSpec, is_float


class Leaf(Op):
    """A value that a function is given; its node is told from others by identity."""

    attributes: ClassVar[Mapping[str, str]] = {"dtype": "dtype", "shape": "shape"}
    arity = (0, 0)
    is_leaf = True
    stateful = True

    def infer(self, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return TensorSpec(attrs["dtype"], attrs["shape"])

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return []


@register
class Placeholder(Leaf):
    """A value that the caller feeds."""


@register
class Variable(Leaf):
    """State that lives between calls; functions read and update it."""


class Literal:
    """A constant array as a hashable attribute: equal when dtype, shape and bytes are."""

    __slots__ = ("_digest", "array")

    def __init__(self, array: np.ndarray):
        self._take(np.array(array, order="C"))

    @classmethod
    def owning(cls, array: np.ndarray) -> Literal:
        """The constant of a C-contiguous array that nobody else will change; it is not copied."""
        literal = cls.__new__(cls)
        literal._take(array)
        return literal

    def _take(self, array: np.ndarray) -> None:
        array.flags.writeable = False
        self.array = array
        self._digest: bytes | None = None

    @property
    def _key(self) -> tuple[str, tuple[int, ...], bytes]:
        # A digest, made when first compared: a copy of the bytes would double large constants.
        if self._digest is None:
            self._digest = hashlib.sha256(self.array.reshape(-1).view(np.uint8).data).digest()
        return self.array.dtype.name, self.array.shape, self._digest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return np.array2string(self.array, threshold=8, separator=", ").replace("\n", "")


@register
class Constant(Op):
    """A fixed array."""

    attributes: ClassVar[Mapping[str, str]] = {"value": "array"}
    arity = (0, 0)
    is_leaf = True

    def canonical_attrs(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().canonical_attrs(attrs)
        value = attrs["value"]
        return {"value": value if isinstance(value, Literal) else Literal(value)}

    def infer(self, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        array = attrs["value"].array
        return TensorSpec(array.dtype.name, array.shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return []

    def reference(self, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return attrs["value"].array


@register
class Full(Map):
    """y = value everywhere."""

    attributes: ClassVar[Mapping[str, str]] = {
        "dtype": "dtype",
        "shape": "shape",
        "value": "scalar",
    }
    arity = (0, 0)
    is_free = True
    cost = 0

    def canonical_attrs(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().canonical_attrs(attrs)
        try:
            value = np.dtype(attrs["dtype"]).type(attrs["value"])
        except (OverflowError, ValueError):
            raise DTypeError(f"full: {attrs['value']} does not fit in {attrs['dtype']}") from None
        return {**attrs, "shape": tuple(attrs["shape"]), "value": value.item()}

    def infer(self, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return TensorSpec(attrs["dtype"], attrs["shape"])

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return []

    def reference(self, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.full(attrs["shape"], attrs["value"], attrs["dtype"])

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        value, dtype = node.attrs["value"], node.dtype
        if is_float(dtype):
            # nan and inf are names of the kernel language.
            return f"{CAST[dtype]}({value!r})"
        return f"{CAST[dtype]}({int(value)})"


@register
class Iota(Map):
    """y[i] = i[axis]: the position along one axis."""

    attributes: ClassVar[Mapping[str, str]] = {"axis": "int", "dtype": "dtype", "shape": "shape"}
    arity = (0, 0)
    is_free = True
    differentiable = False

    def infer(self, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        shape, axis = attrs["shape"], attrs["axis"]
        if not 0 <= axis < len(shape):
            raise ShapeError(f"iota: axis {axis} is none of the {len(shape)} axes")
        return TensorSpec(attrs["dtype"], shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return []

    def reference(self, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        shape, axis = attrs["shape"], attrs["axis"]
        column = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        return np.broadcast_to(column, shape).astype(attrs["dtype"])

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        position = emit.size(index[node.attrs["axis"]])
        return emit.assign(f"{CAST[node.dtype]}({position})", node.dtype, position)
