"""Elementwise functions under their Array API names: values in, a Tensor over one op out.

Operands broadcast like NumPy's; their dtypes are promoted, and a Python number takes the dtype of
the other operand.
"""

from __future__ import annotations

from typing import Any

from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import as_dtype, full
from graphflow.compiler.spec import is_float
from graphflow.errors import DTypeError, with_line
from graphflow.tensor import Tensor, as_tensor, dtype_name, elementwise, promoted

__all__ = [
    "abs",
    "acos",
    "acosh",
    "add",
    "asin",
    "asinh",
    "astype",
    "atan",
    "atan2",
    "atanh",
    "ceil",
    "clip",
    "cos",
    "cosh",
    "divide",
    "equal",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "floor_divide",
    "fmod",
    "greater",
    "greater_equal",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "positive",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "trunc",
    "where",
]


def _unary(name: str, x: Any) -> Tensor:
    return Tensor(getattr(ops, name)(as_tensor(x, name=name).node))


# ---- one operand -----------------------------------------------------------------------------


def abs(x: Any) -> Tensor:
    """|x|, element by element."""
    return _unary("abs", x)


def acos(x: Any) -> Tensor:
    """The angle in [0, π] whose cosine is x; NaN outside -1..1."""
    return _unary("acos", x)


def acosh(x: Any) -> Tensor:
    """The non-negative y with cosh y = x; NaN below 1."""
    return _unary("acosh", x)


def asin(x: Any) -> Tensor:
    """The angle in [-π/2, π/2] whose sine is x; NaN outside -1..1."""
    return _unary("asin", x)


def asinh(x: Any) -> Tensor:
    """The y with sinh y = x."""
    return _unary("asinh", x)


def atan(x: Any) -> Tensor:
    """The angle in [-π/2, π/2] whose tangent is x."""
    return _unary("atan", x)


def atanh(x: Any) -> Tensor:
    """The y with tanh y = x; NaN outside -1..1."""
    return _unary("atanh", x)


def cos(x: Any) -> Tensor:
    """cos x, x in radians."""
    return _unary("cos", x)


def cosh(x: Any) -> Tensor:
    """(eˣ + e⁻ˣ) / 2."""
    return _unary("cosh", x)


def erf(x: Any) -> Tensor:
    """The error function, 2/√π ∫₀ˣ e^(-t²) dt."""
    return _unary("erf", x)


def erfc(x: Any) -> Tensor:
    """1 - erf x, exact where that is small."""
    return _unary("erfc", x)


def exp(x: Any) -> Tensor:
    """eˣ."""
    return _unary("exp", x)


def expm1(x: Any) -> Tensor:
    """eˣ - 1, exact for small x."""
    return _unary("expm1", x)


def log(x: Any) -> Tensor:
    """The natural logarithm; -inf at 0, NaN below."""
    return _unary("log", x)


def log10(x: Any) -> Tensor:
    """The logarithm to base 10."""
    return _unary("log10", x)


def log1p(x: Any) -> Tensor:
    """ln(1 + x), exact for small x."""
    return _unary("log1p", x)


def log2(x: Any) -> Tensor:
    """The logarithm to base 2."""
    return _unary("log2", x)


def logical_not(x: Any) -> Tensor:
    """not x, for bools."""
    return _unary("logical_not", x)


def negative(x: Any) -> Tensor:
    """-x."""
    return _unary("negative", x)


def reciprocal(x: Any) -> Tensor:
    """1 / x, for floats."""
    return _unary("reciprocal", x)


def rsqrt(x: Any) -> Tensor:
    """1 / √x."""
    return _unary("rsqrt", x)


def sign(x: Any) -> Tensor:
    """-1, 0 or 1 by the sign of x. Its gradient is zero."""
    return _unary("sign", x)


def sin(x: Any) -> Tensor:
    """sin x, x in radians."""
    return _unary("sin", x)


def sinh(x: Any) -> Tensor:
    """(eˣ - e⁻ˣ) / 2."""
    return _unary("sinh", x)


def sqrt(x: Any) -> Tensor:
    """√x; NaN below 0."""
    return _unary("sqrt", x)


def square(x: Any) -> Tensor:
    """x²."""
    return _unary("square", x)


def tan(x: Any) -> Tensor:
    """tan x, x in radians."""
    return _unary("tan", x)


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent, sinh x / cosh x."""
    return _unary("tanh", x)


def positive(x: Any) -> Tensor:
    """x itself."""
    return as_tensor(x, name="positive")


def _rounded(name: str, x: Any) -> Tensor:
    tensor = as_tensor(x, name=name)
    return tensor if tensor.dtype not in ("bool", "float32", "float64") else _unary(name, tensor)


def ceil(x: Any) -> Tensor:
    """The smallest integer >= x; ints stay as they are. Its gradient is zero."""
    return _rounded("ceil", x)


def floor(x: Any) -> Tensor:
    """The largest integer <= x; ints stay as they are. Its gradient is zero."""
    return _rounded("floor", x)


def round(x: Any) -> Tensor:
    """The nearest integer, ties to even; ints stay as they are. Its gradient is zero."""
    return _rounded("round", x)


def trunc(x: Any) -> Tensor:
    """x without its fraction; ints stay as they are. Its gradient is zero."""
    return _rounded("trunc", x)


def _float_test(name: str, x: Any, otherwise: bool) -> Tensor:
    """A test of floats that has one answer for every int and bool."""
    tensor = as_tensor(x, name=name)
    if is_float(tensor.dtype):
        return _unary(name, tensor)
    return Tensor(full(tensor.shape, otherwise, "bool"))


def isfinite(x: Any) -> Tensor:
    """Whether x is neither NaN nor infinite."""
    return _float_test("is_finite", x, True)


def isinf(x: Any) -> Tensor:
    """Whether x is +inf or -inf."""
    return _float_test("is_inf", x, False)


def isnan(x: Any) -> Tensor:
    """Whether x is NaN."""
    return _float_test("is_nan", x, False)


# ---- two operands ----------------------------------------------------------------------------


def add(a: Any, b: Any) -> Tensor:
    """a + b."""
    return elementwise("add", a, b)


def atan2(a: Any, b: Any) -> Tensor:
    """The angle of the point (x, y) = (b, a), in [-π, π]."""
    return elementwise("atan2", a, b)


def divide(a: Any, b: Any) -> Tensor:
    """a / b; ints give float32."""
    return elementwise("divide", a, b)


def equal(a: Any, b: Any) -> Tensor:
    """a == b, as bool."""
    return elementwise("equal", a, b)


def floor_divide(a: Any, b: Any) -> Tensor:
    """⌊a / b⌋; an int divided by 0 gives 0."""
    return elementwise("floor_divide", a, b)


def fmod(a: Any, b: Any) -> Tensor:
    """a - b trunc(a / b): the remainder with the sign of a."""
    return elementwise("fmod", a, b)


def greater(a: Any, b: Any) -> Tensor:
    """a > b, as bool."""
    return elementwise("greater", a, b)


def greater_equal(a: Any, b: Any) -> Tensor:
    """a >= b, as bool."""
    return elementwise("greater_equal", a, b)


def less(a: Any, b: Any) -> Tensor:
    """a < b, as bool."""
    return elementwise("less", a, b)


def less_equal(a: Any, b: Any) -> Tensor:
    """a <= b, as bool."""
    return elementwise("less_equal", a, b)


def logical_and(a: Any, b: Any) -> Tensor:
    """a and b, for bools."""
    return elementwise("logical_and", a, b)


def logical_or(a: Any, b: Any) -> Tensor:
    """a or b, for bools."""
    return elementwise("logical_or", a, b)


def logical_xor(a: Any, b: Any) -> Tensor:
    """Exactly one of a and b, for bools."""
    return elementwise("logical_xor", a, b)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, NaN if either is; a tie shares the gradient."""
    return elementwise("maximum", a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, NaN if either is; a tie shares the gradient."""
    return elementwise("minimum", a, b)


def multiply(a: Any, b: Any) -> Tensor:
    """a b."""
    return elementwise("multiply", a, b)


def not_equal(a: Any, b: Any) -> Tensor:
    """a != b, as bool."""
    return elementwise("not_equal", a, b)


def pow(a: Any, b: Any) -> Tensor:
    """aᵇ."""
    return elementwise("power", a, b)


def remainder(a: Any, b: Any) -> Tensor:
    """a - b ⌊a / b⌋: the remainder with the sign of b."""
    return elementwise("remainder", a, b)


def subtract(a: Any, b: Any) -> Tensor:
    """a - b."""
    return elementwise("subtract", a, b)


# ---- choice and conversion -------------------------------------------------------------------


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition holds, else b; the three broadcast against each other.

    Both sides are computed; the gradient goes to the chosen one only.

    Raises:
        DTypeError: the condition is no bool.
    """
    test = as_tensor(condition, name="where")
    if test.dtype != "bool":
        raise DTypeError(
            with_line(f"where: {describe(test.node)}; expected a bool condition, for example x > 0")
        )
    return Tensor(ops.where(test.node, *promoted("where", a, b)))


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """x limited to min..max; None leaves a side open. The gradient outside is zero."""
    if min is None and max is None:
        return as_tensor(x, name="clip")
    if min is None:
        return Tensor(ops.minimum(*promoted("clip", x, max)))
    if max is None:
        return Tensor(ops.maximum(*promoted("clip", x, min)))
    return Tensor(ops.clip(*promoted("clip", x, min, max)))


def astype(x: Any, dtype: object) -> Tensor:
    """x converted; floats become ints by truncation, numbers bools by x != 0.

    Gradients pass between float dtypes only.
    """
    tensor = as_tensor(x, name="astype")
    return Tensor(as_dtype(tensor.node, dtype_name(dtype)))
