"""Exponentials, logarithms, trigonometric and hyperbolic functions of one float.

Names in `expr` are those of `runtime.intrinsics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.compiler.graph import Node
from graphflow.compiler.op import ops, register
from graphflow.compiler.ops.arithmetic import FloatUnary

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


@register
class Erfc(FloatUnary):
    """y = 1 - erf x;  x̄ = -ȳ 2/√π e^(-x²)"""

    expr = "erfc({0})"
    cost = 28

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x = node.inputs[0]
        return [ct * float(-2 / np.sqrt(np.pi)) * ops.exp(-(x * x))]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        from math import erfc

        return np.vectorize(erfc, otypes=[x.dtype])(x)


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
