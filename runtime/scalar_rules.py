"""Turns operators and casts of scalars into LLVM instructions with NumPy's rules.

Two operands of one dtype give that dtype (int8 + int8 is an int8 that wraps, as in NumPy), an
integer literal takes the dtype of the other operand, and the remaining pairs follow Numba.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.builtins import choose_result_int
from numba.core.typing.templates import Signature, signature

Rule = Callable[..., Any]
# A Numba scalar type. Numba is annotated, but not with the attributes that are used here.
Scalar = Any


def common_type(a: Scalar, b: Scalar) -> Scalar | None:
    """The dtype in which two scalars meet; None where they have none."""
    if isinstance(a, types.IntegerLiteral) and isinstance(b, types.IntegerLiteral):
        return types.int64
    if isinstance(a, types.IntegerLiteral):
        a = b if isinstance(b, types.Number) else types.int64
    if isinstance(b, types.IntegerLiteral):
        b = a if isinstance(a, types.Number) else types.int64
    a, b = types.unliteral(a), types.unliteral(b)
    if a == b:
        return a if isinstance(a, (types.Number, types.Boolean)) else None
    numbers = [t for t in (a, b) if isinstance(t, types.Number)]
    if len(numbers) < 2:
        return numbers[0] if isinstance(a, types.Boolean) or isinstance(b, types.Boolean) else None
    if isinstance(a, types.Integer) and isinstance(b, types.Integer):
        return choose_result_int(a, b)
    return types.float64


def call_llvm(
    builder: Any,
    name: str,
    args: Sequence[ir.Value],
    result: ir.Type | None = None,
    flags: Sequence[str] = (),
) -> ir.Value:
    """Call an LLVM intrinsic that is overloaded on the type of its first argument (and result)."""
    overloads = [args[0].type] if result is None else [result, args[0].type]
    result = result or args[0].type
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    function = builder.module.declare_intrinsic(name, overloads, function_type)
    return builder.call(function, args, fastmath=flags)


def _binary(
    emit: Callable[[ir.IRBuilder, Scalar, ir.Value, ir.Value], ir.Value],
    accepts: tuple[type, ...],
    result: Scalar | None = None,
) -> Rule:
    """A rule that casts both operands to their common dtype and calls `emit`."""

    def rule(typing: Any, a: Scalar, b: Scalar) -> Any:
        common = common_type(a, b)
        if not isinstance(common, accepts):
            return None

        def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
            return emit(builder, common, *args)

        return signature(result or common, common, common), lower

    return rule


def _unary(emit: Callable[[ir.IRBuilder, Scalar, ir.Value], ir.Value]) -> Rule:
    def rule(typing: Any, a: Scalar) -> Any:
        scalar = types.unliteral(a)
        if not isinstance(scalar, (types.Number, types.Boolean)):
            return None

        def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
            return emit(builder, scalar, *args)

        return signature(scalar, scalar), lower

    return rule


def _arithmetic(name: str) -> Rule:
    # No nsw: an int64 may be data, and data wraps.
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        return getattr(builder, ("f" if isinstance(ty, types.Float) else "") + name)(a, b)

    return _binary(emit, (types.Integer, types.Float))


def is_signed(scalar: Scalar) -> bool:
    return isinstance(scalar, types.Integer) and bool(getattr(scalar, "signed", False))


def compare(builder: Any, op: str, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
    """An i1; with a NaN every comparison but != is false."""
    if isinstance(ty, types.Float):
        return (builder.fcmp_unordered if op == "!=" else builder.fcmp_ordered)(op, a, b)
    return (builder.icmp_signed if is_signed(ty) else builder.icmp_unsigned)(op, a, b)


def _comparison(op: str) -> Rule:
    emit = lambda builder, ty, a, b: compare(builder, op, ty, a, b)
    return _binary(emit, (types.Number, types.Boolean), types.boolean)


def _choice(op: str) -> Rule:
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        return builder.select(compare(builder, op, ty, b, a), b, a)

    return _binary(emit, (types.Number,))


def divide_integers(
    builder: Any, ty: Scalar, a: ir.Value, b: ir.Value, floor: bool
) -> tuple[ir.Value, ir.Value]:
    """Quotient and remainder that never trap: x / 0 is (0, 0), INT_MIN / -1 wraps to (INT_MIN, 0).

    With `floor` the quotient rounds down and the remainder has the divisor's sign, as in Python
    and NumPy; without, the quotient is cut and the remainder has the dividend's sign, as in C.
    """
    zero, one = b.type(0), b.type(1)
    by_zero = builder.icmp_unsigned("==", b, zero)
    unsafe = by_zero
    if ty.signed:
        minus_one = builder.icmp_unsigned("==", b, b.type(-1))
        unsafe = builder.or_(by_zero, minus_one)
    divisor = builder.select(unsafe, one, b)
    quotient = (builder.sdiv if ty.signed else builder.udiv)(a, divisor)
    rest = builder.sub(a, builder.mul(quotient, divisor))
    if ty.signed:
        if floor:
            differ = builder.icmp_signed("<", builder.xor(rest, divisor), zero)
            adjust = builder.and_(differ, builder.icmp_unsigned("!=", rest, zero))
            quotient = builder.sub(quotient, builder.zext(adjust, b.type))
            rest = builder.select(adjust, builder.add(rest, divisor), rest)
        quotient = builder.select(minus_one, builder.sub(zero, a), quotient)
    return builder.select(by_zero, zero, quotient), rest


def _floor(part: int) -> Rule:
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        return divide_integers(builder, ty, a, b, floor=True)[part]

    return _binary(emit, (types.Integer,))


def _true_division(typing: Any, a: Scalar, b: Scalar) -> Any:
    common = common_type(a, b)
    common = types.float64 if isinstance(common, types.Integer) else common
    if not isinstance(common, types.Float):
        return None
    lower = lambda context, builder, sig, args: builder.fdiv(*args)
    return signature(common, common, common), lower


def _shift(left: bool) -> Rule:
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        return (builder.shl if left else builder.ashr if ty.signed else builder.lshr)(a, b)

    return _binary(emit, (types.Integer,))


def _negate(builder: Any, ty: Scalar, a: ir.Value) -> ir.Value:
    return builder.fneg(a) if isinstance(ty, types.Float) else builder.neg(a)


def absolute(builder: Any, ty: Scalar, a: ir.Value) -> ir.Value:
    """|a|; the smallest integer stays itself, as in NumPy."""
    if isinstance(ty, types.Float):
        return call_llvm(builder, "llvm.fabs", (a,))
    if is_signed(ty):
        return builder.select(builder.icmp_signed("<", a, a.type(0)), builder.neg(a), a)
    return a


def _truth(negate: bool) -> Rule:
    def rule(typing: Any, a: Scalar) -> Any:
        scalar = types.unliteral(a)
        if not isinstance(scalar, (types.Number, types.Boolean)):
            return None

        def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
            op = "==" if negate else "!="
            return compare(builder, op, scalar, args[0], ir.Constant(args[0].type, None))

        return signature(types.boolean, scalar), lower

    return rule


_INTEGRAL = (types.Integer, types.Boolean)
OPERATORS: dict[Any, Rule] = {
    operator.add: _arithmetic("add"),
    operator.sub: _arithmetic("sub"),
    operator.mul: _arithmetic("mul"),
    operator.truediv: _true_division,
    operator.floordiv: _floor(0),
    operator.mod: _floor(1),
    operator.lt: _comparison("<"),
    operator.le: _comparison("<="),
    operator.gt: _comparison(">"),
    operator.ge: _comparison(">="),
    operator.eq: _comparison("=="),
    operator.ne: _comparison("!="),
    operator.and_: _binary(lambda builder, ty, a, b: builder.and_(a, b), _INTEGRAL),
    operator.or_: _binary(lambda builder, ty, a, b: builder.or_(a, b), _INTEGRAL),
    operator.xor: _binary(lambda builder, ty, a, b: builder.xor(a, b), _INTEGRAL),
    operator.lshift: _shift(left=True),
    operator.rshift: _shift(left=False),
    operator.neg: _unary(_negate),
    operator.pos: _unary(lambda builder, ty, a: a),
    operator.invert: _unary(lambda builder, ty, a: builder.not_(a)),
    operator.not_: _truth(negate=True),
    bool: _truth(negate=False),
    abs: _unary(absolute),
    min: _choice("<"),
    max: _choice(">"),
}
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "and_", "or_", "xor"):
    OPERATORS[getattr(operator, f"i{_name.rstrip('_')}")] = OPERATORS[getattr(operator, _name)]
OPERATORS[operator.ilshift] = OPERATORS[operator.lshift]
OPERATORS[operator.irshift] = OPERATORS[operator.rshift]


def convert(builder: Any, value: ir.Value, source: Scalar, target: Scalar) -> ir.Value:
    """A scalar as another dtype, defined for every value.

    Float to integer cuts towards zero, saturates at the ends of the range, and NaN gives 0 (plain
    `fptosi` is undefined there); integers wrap; to bool is `x != 0`, so NaN is True.
    """
    source, target = types.unliteral(source), types.unliteral(target)
    if source == target:
        return value
    if isinstance(target, types.Boolean):
        return compare(builder, "!=", source, value, ir.Constant(value.type, None))
    to = _llvm_type(target)
    if isinstance(source, types.Float) and isinstance(target, types.Float):
        return (builder.fpext if target.bitwidth > source.bitwidth else builder.fptrunc)(value, to)
    if isinstance(source, types.Float):
        return _saturate(builder, value, target)
    signed = is_signed(source)
    if isinstance(target, types.Float):
        return (builder.sitofp if signed else builder.uitofp)(value, to)
    if to.width <= value.type.width:
        return builder.trunc(value, to)
    return (builder.sext if signed else builder.zext)(value, to)


def _saturate(builder: Any, value: ir.Value, target: Scalar) -> ir.Value:
    """A float cut to an integer: NaN gives 0, and what is out of range gives the nearest end.

    LLVM's own `fptosi.sat` does the same, but x86 takes its vectors apart.
    """
    real, to = value.type, _llvm_type(target)
    low, end = real(float(target.minval)), real(2.0 ** (target.bitwidth - target.signed))
    above = builder.fcmp_ordered(">=", value, end)
    inside = builder.and_(
        builder.fcmp_ordered(">=", value, low), builder.fcmp_ordered("<", value, end)
    )
    safe = builder.select(inside, value, real(0.0))
    if target.bitwidth < 32:
        result = builder.trunc(builder.fptosi(safe, ir.IntType(32)), to)
    else:
        result = (builder.fptosi if target.signed else builder.fptoui)(safe, to)
    if target.signed:
        below = builder.fcmp_ordered("<", value, low)
        result = builder.select(below, to(target.minval), result)
    return builder.select(above, to(target.maxval), result)


def _llvm_type(scalar: Scalar) -> ir.Type:
    if isinstance(scalar, types.Float):
        return ir.FloatType() if scalar.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(getattr(scalar, "bitwidth", 1))


def float_fmod(builder: Any, ty: Scalar, x: ir.Value, y: ir.Value) -> ir.Value:
    """C's fmod, exact: x minus a whole multiple of y, with the sign of x.

    LLVM's `frem` is a call of libm, which object code of ours may not contain. Each pass of the
    loop subtracts q * s, where s = |y| * 2**k is chosen so that the quotient q has at most 53 bits;
    then a fused multiply-add gives the rest without error.
    """
    real = ir.DoubleType()
    a, b = (
        call_llvm(builder, "llvm.fabs", (convert(builder, v, ty, types.float64),)) for v in (x, y)
    )
    entry = builder.block
    head, body, done = (builder.append_basic_block(f"fmod_{n}") for n in ("if", "pass", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    rest = builder.phi(real)
    rest.add_incoming(a, entry)
    builder.cbranch(builder.fcmp_ordered(">=", rest, b), body, done)
    builder.position_at_end(body)
    step = b
    # The quotient of the largest and the smallest double has 2098 bits and overflows twice.
    for _ in range(3):
        step = builder.fmul(step, _power_of_two_below(builder, builder.fdiv(rest, step)))
    quotient = call_llvm(builder, "llvm.trunc", (builder.fdiv(rest, step),))
    left = call_llvm(builder, "llvm.fma", (builder.fneg(quotient), step, rest))
    # The rounded quotient may be one too large.
    negative = builder.fcmp_ordered("<", left, real(0.0))
    rest.add_incoming(builder.select(negative, builder.fadd(left, step), left), builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    result = call_llvm(builder, "llvm.copysign", (convert(builder, rest, types.float64, ty), x))
    return builder.select(builder.fcmp_unordered("uno", y, y), y, result)


def _power_of_two_below(builder: Any, ratio: ir.Value) -> ir.Value:
    """2**(exponent of the ratio - 50), or 1 where that is less."""
    i64 = ir.IntType(64)
    exponent = builder.lshr(builder.bitcast(ratio, i64), i64(52))
    field = builder.sub(exponent, i64(50))
    field = builder.select(builder.icmp_signed(">", field, i64(1023)), field, i64(1023))
    return builder.bitcast(builder.shl(field, i64(52)), ir.DoubleType())


def float_remainder(builder: Any, ty: Scalar, x: ir.Value, y: ir.Value) -> ir.Value:
    """NumPy's remainder: like fmod, but with the sign of y."""
    rest = float_fmod(builder, ty, x, y)
    zero = rest.type(0.0)
    moved = builder.select(_signs_differ(builder, rest, y), builder.fadd(rest, y), rest)
    signed_zero = call_llvm(builder, "llvm.copysign", (rest, y))
    return builder.select(builder.fcmp_ordered("==", rest, zero), signed_zero, moved)


def float_floor_divide(builder: Any, ty: Scalar, x: ir.Value, y: ir.Value) -> ir.Value:
    """NumPy's floor_divide: the whole number of times that y fits into x, by way of fmod."""
    rest = float_fmod(builder, ty, x, y)
    zero, one = rest.type(0.0), rest.type(1.0)
    quotient = builder.fdiv(builder.fsub(x, rest), y)
    moved = builder.and_(_signs_differ(builder, rest, y), builder.fcmp_unordered("!=", rest, zero))
    quotient = builder.select(moved, builder.fsub(quotient, one), quotient)
    whole = call_llvm(builder, "llvm.floor", (quotient,))
    # The division rounds, so the quotient may lie just below an integer.
    below = builder.fcmp_ordered(">", builder.fsub(quotient, whole), rest.type(0.5))
    whole = builder.select(below, builder.fadd(whole, one), whole)
    ratio = builder.fdiv(x, y)
    signed_zero = call_llvm(builder, "llvm.copysign", (zero, ratio))
    whole = builder.select(builder.fcmp_ordered("==", quotient, zero), signed_zero, whole)
    return builder.select(builder.fcmp_ordered("==", y, zero), ratio, whole)


def _signs_differ(builder: Any, a: ir.Value, b: ir.Value) -> ir.Value:
    zero = a.type(0.0)
    return builder.xor(builder.fcmp_ordered("<", a, zero), builder.fcmp_ordered("<", b, zero))
