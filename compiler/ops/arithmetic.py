"""Arithmetic and rounding: scalar functions over broadcast inputs.

The autodiff sums a cotangent over the axes that broadcasting repeated, so a rule here speaks only
of the scalar derivative. Names in `expr` are those of `runtime.intrinsics`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.graph import Node
from graphflow.compiler.op import Elementwise, ops, register
from graphflow.compiler.ops.blocks import where, zeros_like
from graphflow.compiler.spec import is_float


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

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> np.ndarray:
        x, low, high = arrays
        return np.minimum(np.maximum(x, low), high)
