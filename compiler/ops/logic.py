"""Comparison, logic, choice between values, and conversion between dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.errors import DTypeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import Elementwise, register
from graphflow.compiler.ops.blocks import as_dtype, where, zeros_like
from graphflow.compiler.spec import TensorSpec, broadcast_shapes, is_float, is_integer


class Comparison(Elementwise):
    """A bool from two values of any dtype."""

    arity = (2, 2)
    domain = "any"
    result = "bool"
    differentiable = False
    function: ClassVar[Any] = None

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None] * len(node.inputs)

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> np.ndarray:
        return type(self).function(*arrays)


@register
class Equal(Comparison):
    """y = a == b"""

    expr = "{0} == {1}"
    function = np.equal
    commutative = True


@register
class NotEqual(Comparison):
    """y = a != b"""

    expr = "{0} != {1}"
    function = np.not_equal
    commutative = True


@register
class Less(Comparison):
    """y = a < b"""

    expr = "{0} < {1}"
    function = np.less


@register
class LessEqual(Comparison):
    """y = a <= b"""

    expr = "{0} <= {1}"
    function = np.less_equal


@register
class Greater(Comparison):
    """y = a > b"""

    expr = "{0} > {1}"
    function = np.greater


@register
class GreaterEqual(Comparison):
    """y = a >= b"""

    expr = "{0} >= {1}"
    function = np.greater_equal


@register
class LogicalAnd(Comparison):
    """y = a and b"""

    expr = "{0} & {1}"
    domain = "bool"
    function = np.logical_and
    commutative = True


@register
class LogicalOr(Comparison):
    """y = a or b"""

    expr = "{0} | {1}"
    domain = "bool"
    function = np.logical_or
    commutative = True


@register
class LogicalXor(Comparison):
    """y = a xor b"""

    expr = "{0} ^ {1}"
    domain = "bool"
    function = np.logical_xor
    commutative = True


@register
class LogicalNot(Comparison):
    """y = not x"""

    expr = "not {0}"
    arity = (1, 1)
    domain = "bool"
    function = np.logical_not


@register
class IsNan(Comparison):
    """y = x is NaN"""

    expr = "is_nan({0})"
    arity = (1, 1)
    domain = "float"
    function = np.isnan


@register
class IsInf(Comparison):
    """y = x is +inf or -inf"""

    expr = "is_inf({0})"
    arity = (1, 1)
    domain = "float"
    function = np.isinf


@register
class IsFinite(Comparison):
    """y = x is neither NaN nor infinite"""

    expr = "is_finite({0})"
    arity = (1, 1)
    domain = "float"
    function = np.isfinite


# ---- choice and conversion -------------------------------------------------------------------


@register
class Where(Elementwise):
    """y = a where c, else b;  ā = ȳ where c,  b̄ = ȳ where not c"""

    expr = "select({0}, {1}, {2})"
    arity = (3, 3)
    domain = "any"

    def infer(self, c: TensorSpec, a: TensorSpec, b: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        if c.dtype != "bool":
            raise DTypeError(f"where: the condition is {c.dtype}; expected bool, for example x > 0")
        if a.dtype != b.dtype:
            raise DTypeError(f"where: the choices are {a.dtype} and {b.dtype}; cast one of them")
        return TensorSpec(a.dtype, broadcast_shapes(c.shape, a.shape, b.shape))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        c = node.inputs[0]
        return [None, where(c, ct, 0), where(c, zeros_like(ct), ct)]

    def reference(self, c: np.ndarray, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.where(c, a, b)


@register
class Cast(Elementwise):
    """y = x as another dtype; float to int truncates and saturates, NaN becomes 0.

    x̄ = ȳ cast back, between float dtypes only.
    """

    expr = "cast({0}, {T})"
    attributes: ClassVar[Mapping[str, str]] = {"dtype": "dtype"}
    domain = "any"

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return x.with_dtype(attrs["dtype"])

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [as_dtype(ct, x.dtype) if is_float(x.dtype) and is_float(node.dtype) else None]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        dtype = attrs["dtype"]
        if is_float(x.dtype.name) and is_integer(dtype):
            limits = np.iinfo(dtype)
            whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0))
            # float64 cannot hold the largest int64, so the limits are put in after the cast.
            with np.errstate(invalid="ignore"):
                result = np.clip(whole, float(limits.min), float(limits.max)).astype(dtype)
            result = np.where(whole >= float(limits.max), limits.max, result)
            return np.where(whole <= float(limits.min), limits.min, result).astype(dtype)
        return x.astype(dtype)


@register
class StopGradient(Elementwise):
    """y = x;  x̄ = 0"""

    expr = "{0}"
    domain = "any"
    cost = 0

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return x
