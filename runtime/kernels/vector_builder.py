"""Turns a formula over Lanes into straight-line scalar LLVM IR, packed as a Numba intrinsic.

A formula is a Python function whose arguments and result are Lanes. Python runs it once per call
site while Numba lowers the kernel; each operator adds one LLVM instruction. There is no branch and
no call to a library, so that LLVM's loop vectoriser can turn the loop around it into SIMD code.
"""

from __future__ import annotations

import functools
import inspect
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

# Numba adds the fast-math flags of the kernel to each instruction that has no flag. `afn` changes
# nothing on these instructions and so keeps a compensated sum from being "simplified" away.
_EXACT = ("afn",)

Number = float | int


@dataclass(frozen=True, slots=True)
class Format:
    """An IEEE 754 binary format: its types, and where its bits lie."""

    numba_type: types.Float
    float_type: ir.Type
    integer_type: ir.IntType
    fraction_bits: int
    bias: int
    struct_codes: tuple[str, str]

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def to_integer(self) -> float:
        """1.5 * 2**fraction_bits: adding it rounds to an integer, which fills the low bits."""
        return 1.5 * 2.0**self.fraction_bits

    def bits_of(self, number: float) -> int:
        """The bit pattern of a constant, as an integer."""
        float_code, integer_code = self.struct_codes
        return struct.unpack(integer_code, struct.pack(float_code, number))[0]


FLOAT32 = Format(types.float32, ir.FloatType(), ir.IntType(32), 23, 127, ("f", "I"))
FLOAT64 = Format(types.float64, ir.DoubleType(), ir.IntType(64), 52, 1023, ("d", "Q"))


class Lane:
    """A float, an integer of the same width, or a boolean, in one lane of the future SIMD code.

    Operators work on two Lanes of one kind, or on a Lane and a Python number. Comparisons are
    false for nan (`!=` is true), as in IEEE 754; integers are signed.
    """

    __slots__ = ("builder", "format", "value")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, builder: ir.IRBuilder, format: Format, value: ir.Value) -> None:
        self.builder = builder
        self.format = format
        self.value = value

    def _with(self, value: ir.Value) -> Lane:
        return Lane(self.builder, self.format, value)

    @property
    def _is_float(self) -> bool:
        return self.value.type == self.format.float_type

    def constant(self, number: Number) -> Lane:
        """A constant of the kind of this lane."""
        return self._with(ir.Constant(self.value.type, number))

    def _operand(self, other: Lane | Number) -> ir.Value:
        return other.value if isinstance(other, Lane) else self.constant(other).value

    # ---- arithmetic ----

    def _arithmetic(self, name: str, left: ir.Value, right: ir.Value) -> Lane:
        if self._is_float:
            return self._with(getattr(self.builder, "f" + name)(left, right, flags=_EXACT))
        return self._with(getattr(self.builder, name)(left, right))

    def __add__(self, other: Lane | Number) -> Lane:
        return self._arithmetic("add", self.value, self._operand(other))

    def __sub__(self, other: Lane | Number) -> Lane:
        return self._arithmetic("sub", self.value, self._operand(other))

    def __rsub__(self, other: Number) -> Lane:
        return self._arithmetic("sub", self._operand(other), self.value)

    def __mul__(self, other: Lane | Number) -> Lane:
        return self._arithmetic("mul", self.value, self._operand(other))

    def __truediv__(self, other: Lane | Number) -> Lane:
        return self._arithmetic("div", self.value, self._operand(other))

    def __rtruediv__(self, other: Number) -> Lane:
        return self._arithmetic("div", self._operand(other), self.value)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Lane:
        return self._with((self.builder.fneg if self._is_float else self.builder.neg)(self.value))

    # ---- comparison and bits ----

    def _compare(self, operator: str, other: Lane | Number) -> Lane:
        right = self._operand(other)
        if not self._is_float:
            return self._with(self.builder.icmp_signed(operator, self.value, right))
        unordered = operator == "!="
        compare = self.builder.fcmp_unordered if unordered else self.builder.fcmp_ordered
        return self._with(compare(operator, self.value, right, flags=_EXACT))

    def __lt__(self, other: Lane | Number) -> Lane:
        return self._compare("<", other)

    def __le__(self, other: Lane | Number) -> Lane:
        return self._compare("<=", other)

    def __gt__(self, other: Lane | Number) -> Lane:
        return self._compare(">", other)

    def __ge__(self, other: Lane | Number) -> Lane:
        return self._compare(">=", other)

    def __eq__(self, other: Lane | Number) -> Lane:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: Lane | Number) -> Lane:  # type: ignore[override]
        return self._compare("!=", other)

    def is_nan(self) -> Lane:
        return self._with(self.builder.fcmp_unordered("uno", self.value, self.value, flags=_EXACT))

    def __and__(self, other: Lane | Number) -> Lane:
        return self._with(self.builder.and_(self.value, self._operand(other)))

    def __or__(self, other: Lane | Number) -> Lane:
        return self._with(self.builder.or_(self.value, self._operand(other)))

    def __xor__(self, other: Lane | Number) -> Lane:
        return self._with(self.builder.xor(self.value, self._operand(other)))

    def __invert__(self) -> Lane:
        return self._with(self.builder.not_(self.value))

    def __lshift__(self, count: int) -> Lane:
        return self._with(self.builder.shl(self.value, self._operand(count)))

    def __rshift__(self, count: int) -> Lane:
        return self._with(self.builder.ashr(self.value, self._operand(count)))

    def bits(self) -> Lane:
        """The bit pattern of a float, as an integer."""
        return self._with(self.builder.bitcast(self.value, self.format.integer_type))

    def as_float(self) -> Lane:
        """The float whose bit pattern is this integer."""
        return self._with(self.builder.bitcast(self.value, self.format.float_type))

    # ---- other formats ----

    def widen(self) -> Lane:
        """float32 -> float64."""
        value = self.builder.fpext(self.value, FLOAT64.float_type)
        return Lane(self.builder, FLOAT64, value)

    def narrow(self) -> Lane:
        """float64 -> float32, or a 64-bit integer -> its low 32 bits."""
        if self._is_float:
            value = self.builder.fptrunc(self.value, FLOAT32.float_type)
        else:
            value = self.builder.trunc(self.value, FLOAT32.integer_type)
        return Lane(self.builder, FLOAT32, value)

    # ---- LLVM intrinsics ----

    def call(self, name: str, *others: Lane | Number) -> Lane:
        """Calls the LLVM intrinsic `llvm.<name>` on this lane and the others, all floats."""
        kind = self.format.float_type
        signature = ir.FunctionType(kind, [kind] * (1 + len(others)))
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [kind], signature)
        arguments = [self.value, *(self._operand(other) for other in others)]
        return self._with(self.builder.call(function, arguments))

    def abs(self) -> Lane:
        return self.call("fabs")

    def sqrt(self) -> Lane:
        return self.call("sqrt")

    def floor(self) -> Lane:
        return self.call("floor")

    def copysign(self, sign: Lane) -> Lane:
        """The magnitude of this lane with the sign bit of `sign`."""
        return self.call("copysign", sign)

    def clamp(self, low: Number, high: Number) -> Lane:
        """The nearest value in [low, high]; a nan stays."""
        above = select(self < low, low, self)
        return select(above > high, high, above)


# ---- pieces of formulas ----


def fma(a: Lane, b: Lane | Number, c: Lane | Number) -> Lane:
    """a * b + c with a single rounding."""
    return a.call("fma", b, c)


def select(condition: Lane, then: Lane | Number, otherwise: Lane | Number) -> Lane:
    """`then` where the condition holds, else `otherwise`; one of them at least is a Lane."""
    if not isinstance(then, Lane):
        assert isinstance(otherwise, Lane)
        then = otherwise.constant(then)
    return then._with(then.builder.select(condition.value, then.value, then._operand(otherwise)))


def polynomial(x: Lane, coefficients: Sequence[float]) -> Lane:
    """coefficients[0] + coefficients[1] * x + ... by Horner's rule."""
    *rest, highest = coefficients
    total = x.constant(highest)
    for coefficient in reversed(rest):
        total = fma(total, x, coefficient)
    return total


def two_sum(a: Lane | Number, b: Lane) -> tuple[Lane, Lane]:
    """a + b rounded, and its rounding error (Knuth)."""
    total = a + b
    seen = total - a
    return total, (a - (total - seen)) + (b - seen)


def fast_two_sum(a: Lane | Number, b: Lane) -> tuple[Lane, Lane]:
    """a + b rounded, and its rounding error, for |a| >= |b| or a = 0 (Dekker)."""
    total = a + b
    return total, (a - total) + b


def two_product(a: Lane, b: Lane | Number) -> tuple[Lane, Lane]:
    """a * b rounded, and its rounding error."""
    product = a * b
    return product, fma(a, b, -product)


def nearest_integer(x: Lane, factor: float = 1.0) -> tuple[Lane, Lane]:
    """The integer nearest to x * factor, |x * factor| < 2**(fraction_bits - 2), twice.

    Returns it as a float and as an integer. The sum with a large constant does both, and unlike a
    conversion it is defined for nan and has a vector instruction for every width.
    """
    shift = x.format.to_integer
    shifted = fma(x, factor, shift)
    return shifted - shift, shifted.bits() - x.format.bits_of(shift)


def float_of(k: Lane) -> Lane:
    """An integer lane as a float, |k| < 2**(fraction_bits - 2)."""
    shift = k.format.to_integer
    return (k + k.format.bits_of(shift)).as_float() - shift


def power_of_two(k: Lane, *, or_zero: bool = False) -> Lane:
    """2**k for an integer k in the exponent range of normal numbers, or 0 below it."""
    biased = k + k.format.bias
    if or_zero:
        biased = select(biased < 0, 0, biased)
    return (biased << k.format.fraction_bits).as_float()


def scale(x: Lane, k: Lane) -> Lane:
    """x * 2**k for x near 1; two factors, so that it overflows to inf and denormals round once."""
    half = k >> 1
    return x * power_of_two(half) * power_of_two(k - half)


# ---- formula -> Numba intrinsic ----


def vector_function(
    formula: Callable[..., Lane] | None = None, *, returns: types.Type | None = None
):
    """Makes a Numba intrinsic of a formula; it accepts float32 or float64, the same for all.

    Args:
        formula: function of one or more Lanes.
        returns: Numba type of the result; the type of the arguments if not given.
    """
    if formula is None:
        return functools.partial(vector_function, returns=returns)
    arity = len(inspect.signature(formula).parameters)
    formats = {format.numba_type: format for format in (FLOAT32, FLOAT64)}

    def typing(typing_context, *arguments):
        kinds = set(arguments)
        if len(arguments) != arity or len(kinds) != 1 or not kinds <= formats.keys():
            given = ", ".join(map(str, arguments))
            raise TypingError(
                f"{formula.__name__}: expects {arity} argument(s), all float32 or all float64, "
                f"got ({given}); cast the argument in the kernel"
            )
        format = formats[arguments[0]]

        def lower(context, builder, signature, values):
            return formula(*(Lane(builder, format, value) for value in values)).value

        return (returns or format.numba_type)(*arguments), lower

    functools.update_wrapper(typing, formula)
    parameters = inspect.signature(formula).parameters.values()
    context = inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([context, *parameters])
    typing.__signature__ = signature  # type: ignore[attr-defined]
    return intrinsic(typing)
