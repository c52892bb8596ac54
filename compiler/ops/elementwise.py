"""Scalar functions over broadcast inputs.

The autodiff sums a cotangent over the axes that broadcasting repeated, so a rule here speaks only
of the scalar derivative. Names in `expr` are those of `runtime.intrinsics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.errors import DTypeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import Elementwise, ops, register
from graphflow.compiler.ops.blocks import as_dtype, where, zeros_like
from graphflow.compiler.spec import TensorSpec, broadcast_shapes, is_float, is_integer

# ---- arithmetic ------------------------------------------------------------------------------


@register
class Add(Elementwise):
    """y = a + b;  ā = ȳ,  b̄ = ȳ"""

    expr = "{T}({0} + {1})"
    arity = (2, 2)
    commutative = True

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct, ct]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.add(a, b)


@register
class Subtract(Elementwise):
    """y = a - b;  ā = ȳ,  b̄ = -ȳ"""

    expr = "{T}({0} - {1})"
    arity = (2, 2)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct, -ct]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.subtract(a, b)


@register
class Multiply(Elementwise):
    """y = a b;  ā = ȳ b,  b̄ = ȳ a"""

    expr = "{T}({0} * {1})"
    arity = (2, 2)
    commutative = True

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        a, b = node.inputs
        return [ct * b, ct * a]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.multiply(a, b)


@register
class Divide(Elementwise):
    """y = a / b;  ā = ȳ / b,  b̄ = -ȳ y / b"""

    expr = "{0} / {1}"
    arity = (2, 2)
    domain = "float"
    cost = 4

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        b = node.inputs[1]
        scaled = ct / b
        return [scaled, -(scaled * node)]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.divide(a, b)


@register
class FloorDivide(Elementwise):
    """y = floor(a / b); an integer divided by zero is 0. No gradient: it is zero where defined."""

    expr = "floor_divide({0}, {1})"
    arity = (2, 2)
    cost = 8

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None, None]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.floor_divide(a, b)


@register
class Remainder(Elementwise):
    """y = a - b floor(a / b), the sign of b;  ā = ȳ,  b̄ = -ȳ floor(a / b)"""

    expr = "remainder({0}, {1})"
    arity = (2, 2)
    cost = 8

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        a, b = node.inputs
        return [ct, -(ct * ops.floor_divide(a, b))]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.remainder(a, b)


@register
class Fmod(Elementwise):
    """y = a - b trunc(a / b), the sign of a;  ā = ȳ,  b̄ = -ȳ trunc(a / b)"""

    expr = "fmod({0}, {1})"
    arity = (2, 2)
    cost = 8

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        a, b = node.inputs
        return [ct, -(ct * ops.trunc(a / b))]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.fmod(a, b)


@register
class Power(Elementwise):
    """y = a ** b;  ā = ȳ b a^(b-1),  b̄ = ȳ y log a (0 where a = 0)"""

    arity = (2, 2)
    cost = 40

    def scalar_text(self, node: Node) -> str:
        return "power({0}, {1})" if is_float(node.dtype) else "int_power({0}, {1})"

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        a, b = node.inputs
        slope = where(ops.equal(b, zeros_like(b)), 0.0, b * a ** (b - 1.0))
        safe = where(ops.greater(a, zeros_like(a)), a, 1.0)
        return [ct * slope, ct * node * ops.log(safe)]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        if is_float(a.dtype.name):
            return np.power(a, b)
        # NumPy refuses negative integer exponents; the kernel defines them as truncation.
        positive = np.power(a, np.maximum(b, 0))
        sign = np.where(b % 2 == 0, 1, a)
        return np.where(b >= 0, positive, np.where(np.abs(a) == 1, sign, 0)).astype(a.dtype)


@register
class Maximum(Elementwise):
    """y = max(a, b), NaN if either is;  ȳ goes to the larger, half to each where equal"""

    expr = "maximum({0}, {1})"
    arity = (2, 2)
    domain = "any"
    commutative = True

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return _share_between(node, ct)

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.maximum(a, b)


@register
class Minimum(Elementwise):
    """y = min(a, b), NaN if either is;  ȳ goes to the smaller, half to each where equal"""

    expr = "minimum({0}, {1})"
    arity = (2, 2)
    domain = "any"
    commutative = True

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return _share_between(node, ct)

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.minimum(a, b)


def _share_between(node: Node, ct: Node) -> list[Node | None]:
    a, b = node.inputs
    tie = ops.equal(a, b)
    half = ct * 0.5
    return [
        where(tie, half, where(ops.equal(node, a), ct, 0.0)),
        where(tie, half, where(ops.equal(node, b), ct, 0.0)),
    ]


@register
class Atan2(Elementwise):
    """y = atan2(a, b);  ā = ȳ b / (a² + b²),  b̄ = -ȳ a / (a² + b²)"""

    expr = "atan2({0}, {1})"
    arity = (2, 2)
    domain = "float"
    cost = 30

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        a, b = node.inputs
        scaled = ct / (a * a + b * b)
        return [scaled * b, -(scaled * a)]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.arctan2(a, b)


@register
class Negative(Elementwise):
    """y = -x;  x̄ = -ȳ"""

    expr = "{T}(-{0})"

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [-ct]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.negative(x)


@register
class Abs(Elementwise):
    """y = |x|;  x̄ = ȳ sign(x)"""

    expr = "absolute({0})"

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * ops.sign(node.inputs[0])]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.abs(x)


@register
class Sign(Elementwise):
    """y = -1, 0 or 1; no gradient: it is zero where defined"""

    expr = "sign({0})"

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.sign(x)


@register
class Square(Elementwise):
    """y = x²;  x̄ = 2 ȳ x"""

    expr = "{T}({0} * {0})"

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * node.inputs[0] * 2.0]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.square(x)


class FloatUnary(Elementwise):
    """A function of one float; `function` is its NumPy reference."""

    domain = "float"
    function: ClassVar[Any] = None

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return type(self).function(x)


@register
class Reciprocal(FloatUnary):
    """y = 1 / x;  x̄ = -ȳ y²"""

    expr = "{T}(1.0) / {0}"
    function = np.reciprocal
    cost = 4

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [-(ct * node * node)]


@register
class Sqrt(FloatUnary):
    """y = √x;  x̄ = ȳ / (2 y)"""

    expr = "sqrt({0})"
    function = np.sqrt
    cost = 6

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * 0.5 / node]


@register
class Rsqrt(FloatUnary):
    """y = 1 / √x;  x̄ = -ȳ y³ / 2"""

    expr = "{T}(1.0) / sqrt({0})"
    cost = 10

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * -0.5 * node * node * node]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return (1 / np.sqrt(x)).astype(x.dtype)


# ---- exponentials and logarithms -------------------------------------------------------------


@register
class Exp(FloatUnary):
    """y = eˣ;  x̄ = ȳ y"""

    expr = "exp({0})"
    function = np.exp
    cost = 12

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * node]


@register
class Expm1(FloatUnary):
    """y = eˣ - 1;  x̄ = ȳ (y + 1)"""

    expr = "expm1({0})"
    function = np.expm1
    cost = 16

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * (node + 1.0)]


@register
class Log(FloatUnary):
    """y = ln x;  x̄ = ȳ / x"""

    expr = "log({0})"
    function = np.log
    cost = 14

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct / node.inputs[0]]


@register
class Log1p(FloatUnary):
    """y = ln(1 + x);  x̄ = ȳ / (1 + x)"""

    expr = "log1p({0})"
    function = np.log1p
    cost = 16

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct / (node.inputs[0] + 1.0)]


@register
class Log2(FloatUnary):
    """y = log₂ x;  x̄ = ȳ / (x ln 2)"""

    expr = "log2({0})"
    function = np.log2
    cost = 14

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct / (node.inputs[0] * float(np.log(2)))]


@register
class Log10(FloatUnary):
    """y = log₁₀ x;  x̄ = ȳ / (x ln 10)"""

    expr = "log10({0})"
    function = np.log10
    cost = 14

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct / (node.inputs[0] * float(np.log(10)))]


@register
class Sigmoid(FloatUnary):
    """y = 1 / (1 + e⁻ˣ);  x̄ = ȳ y (1 - y)"""

    expr = "sigmoid({0})"
    cost = 16

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * node * (1.0 - node)]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


@register
class Erf(FloatUnary):
    """y = erf x;  x̄ = ȳ 2/√π e^(-x²)"""

    expr = "erf({0})"
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct * float(2 / np.sqrt(np.pi)) * ops.exp(-(x * x))]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        from math import erf

        return np.vectorize(erf, otypes=[x.dtype])(x)


# ---- trigonometric and hyperbolic ------------------------------------------------------------


@register
class Sin(FloatUnary):
    """y = sin x;  x̄ = ȳ cos x"""

    expr = "sin({0})"
    function = np.sin
    cost = 16

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * ops.cos(node.inputs[0])]


@register
class Cos(FloatUnary):
    """y = cos x;  x̄ = -ȳ sin x"""

    expr = "cos({0})"
    function = np.cos
    cost = 16

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [-(ct * ops.sin(node.inputs[0]))]


@register
class Tan(FloatUnary):
    """y = tan x;  x̄ = ȳ (1 + y²)"""

    expr = "tan({0})"
    function = np.tan
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * (node * node + 1.0)]


@register
class Asin(FloatUnary):
    """y = asin x;  x̄ = ȳ / √(1 - x²)"""

    expr = "asin({0})"
    function = np.arcsin
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct * ops.rsqrt(1.0 - x * x)]


@register
class Acos(FloatUnary):
    """y = acos x;  x̄ = -ȳ / √(1 - x²)"""

    expr = "acos({0})"
    function = np.arccos
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [-(ct * ops.rsqrt(1.0 - x * x))]


@register
class Atan(FloatUnary):
    """y = atan x;  x̄ = ȳ / (1 + x²)"""

    expr = "atan({0})"
    function = np.arctan
    cost = 18

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct / (x * x + 1.0)]


@register
class Sinh(FloatUnary):
    """y = sinh x;  x̄ = ȳ cosh x"""

    expr = "sinh({0})"
    function = np.sinh
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * ops.cosh(node.inputs[0])]


@register
class Cosh(FloatUnary):
    """y = cosh x;  x̄ = ȳ sinh x"""

    expr = "cosh({0})"
    function = np.cosh
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * ops.sinh(node.inputs[0])]


@register
class Tanh(FloatUnary):
    """y = tanh x;  x̄ = ȳ (1 - y²)"""

    expr = "tanh({0})"
    function = np.tanh
    cost = 18

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ct * (1.0 - node * node)]


@register
class Asinh(FloatUnary):
    """y = asinh x;  x̄ = ȳ / √(x² + 1)"""

    expr = "asinh({0})"
    function = np.arcsinh
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct * ops.rsqrt(x * x + 1.0)]


@register
class Acosh(FloatUnary):
    """y = acosh x;  x̄ = ȳ / √(x² - 1)"""

    expr = "acosh({0})"
    function = np.arccosh
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct * ops.rsqrt(x * x - 1.0)]


@register
class Atanh(FloatUnary):
    """y = atanh x;  x̄ = ȳ / (1 - x²)"""

    expr = "atanh({0})"
    function = np.arctanh
    cost = 20

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct / (1.0 - x * x)]


# ---- rounding and activations ----------------------------------------------------------------


class Rounding(FloatUnary):
    """A step function of one float: no gradient, since it is zero where defined."""

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]


@register
class Floor(Rounding):
    """y = the largest integer <= x"""

    expr = "floor({0})"
    function = np.floor


@register
class Ceil(Rounding):
    """y = the smallest integer >= x"""

    expr = "ceil({0})"
    function = np.ceil


@register
class Round(Rounding):
    """y = the nearest integer, ties to even"""

    expr = "round_half_even({0})"
    function = np.round


@register
class Trunc(Rounding):
    """y = x without its fraction"""

    expr = "trunc({0})"
    function = np.trunc


@register
class Relu(Elementwise):
    """y = max(x, 0);  x̄ = ȳ where y > 0"""

    expr = "maximum({0}, {T}(0))"

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [where(ops.greater(node, zeros_like(node)), ct, 0.0)]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.maximum(x, x.dtype.type(0))


@register
class Clip(Elementwise):
    """y = min(max(x, low), high);  x̄ = ȳ where low <= x <= high; the bounds get the rest"""

    expr = "minimum(maximum({0}, {1}), {2})"
    arity = (3, 3)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x, low, high = node.inputs
        above, below = ops.greater(x, high), ops.less(x, low)
        crossed = ops.less(high, low)
        inside = ops.logical_not(ops.logical_or(ops.logical_or(above, below), crossed))
        take_high = ops.logical_or(above, crossed)
        take_low = ops.logical_and(below, ops.logical_not(take_high))
        return [where(inside, ct, 0.0), where(take_low, ct, 0.0), where(take_high, ct, 0.0)]

    def reference(
        self, x: np.ndarray, low: np.ndarray, high: np.ndarray, **attrs: Any
    ) -> np.ndarray:  # type: ignore[override]
        return np.minimum(np.maximum(x, low), high)


# ---- comparison and logic --------------------------------------------------------------------


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
