"""Turns the names that kernel source may use into LLVM instructions.

A kernel is a plain function over raw storage:

    @kernel
    def relu(buffers, dims, lo, hi):
        x = buffer(buffers, 0, f32)
        out = buffer(buffers, 1, f32)
        for i in range(lo, hi):
            out[i] = maximum(x[i], f32(0.0))

Everything here lowers to straight-line IR or to one guarded load, so that LLVM can vectorise the
loop around it; nothing allocates, raises or leaves an undefined symbol in the object code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from graphflow.runtime.buffers import address, buffer, load_if, mark, prefetch, stack
from graphflow.runtime.kernels.vector_math import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atan2,
    atanh,
    ceil,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    fabs,
    floor,
    is_finite,
    is_inf,
    is_nan,
    log,
    log1p,
    log2,
    log10,
    power,
    round_half_even,
    sigmoid,
    sin,
    sinh,
    sqrt,
    tan,
    tanh,
    trunc,
)
from graphflow.runtime.scalar_rules import (
    Scalar,
    call_llvm,
    common_type,
    compare,
    convert,
    divide_integers,
    float_floor_divide,
    float_fmod,
    float_remainder,
)
from graphflow.runtime.scalar_rules import absolute as _absolute

# fmt: off
__all__ = [
    "absolute",
    "acos",
    "acosh",
    "add_fast",
    "address",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "b1",
    "buffer",
    "cast",
    "ceil",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "f32",
    "f64",
    "fabs",
    "floor",
    "floor_divide",
    "fma",
    "fma_fast",
    "fmod",
    "i8",
    "i16",
    "i32",
    "i64",
    "int_power",
    "is_finite",
    "is_inf",
    "is_nan",
    "kernel",
    "load_if",
    "log",
    "log1p",
    "log2",
    "log10",
    "max_fast",
    "maximum",
    "min_fast",
    "minimum",
    "mul_fast",
    "philox",
    "philox64",
    "power",
    "prefetch",
    "remainder",
    "report",
    "round_half_even",
    "select",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "stack",
    "tan",
    "tanh",
    "trunc",
    "truncated_divide",
    "u8",
    "u16",
    "u32",
    "u64",
    "uniform_f32",
    "uniform_f64",
]
# fmt: on

f32, f64 = types.float32, types.float64
i8, i16, i32, i64 = types.int8, types.int16, types.int32, types.int64
u8, u16, u32, u64 = types.uint8, types.uint16, types.uint32, types.uint64
b1 = types.boolean

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)


def kernel(function: Callable) -> Callable:
    """Mark the entry of a kernel source file; `jit.compile_kernel` compiles it."""
    return function


# ---- Scalars -------------------------------------------------------------------------------------


def _uniform(emit: Callable, args: Sequence[Scalar], accepts: tuple[type, ...]) -> Any:
    """An intrinsic over scalars of one dtype with a result of that dtype."""
    dtype: Scalar = args[0]
    for other in args[1:]:
        dtype = common_type(dtype, other)
    dtype = types.unliteral(dtype)
    if not isinstance(dtype, accepts):
        return None

    def lower(context: Any, builder: Any, sig: Any, values: Sequence[ir.Value]) -> Any:
        return emit(builder, dtype, *values)

    return signature(dtype, *[dtype] * len(args)), lower


_NUMBER = (types.Integer, types.Float)
_ANY = (types.Integer, types.Float, types.Boolean)


@intrinsic
def cast(typing, x, dtype):
    """`cast(x, dtype)`: x as another dtype, for every pair; `dtype(x)` is the same.

    Float to integer cuts towards zero and saturates, NaN gives 0; integers wrap; to bool is x != 0.
    """
    target, source = dtype.instance_type, types.unliteral(x)

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        return convert(builder, args[0], source, target)

    return signature(target, source, dtype), lower


@intrinsic
def select(typing, condition, a, b):
    """`select(c, a, b)`: a where c holds, else b; both are evaluated and there is no branch."""
    dtype = types.unliteral(common_type(a, b))

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        return builder.select(*args)

    return signature(dtype, b1, dtype, dtype), lower


@intrinsic
def absolute(typing, x):
    """|x| for every dtype; the smallest integer stays itself."""
    return _uniform(_absolute, (x,), _ANY)


def _fast(operation: str) -> Callable:
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        if isinstance(ty, types.Float):
            return getattr(builder, f"f{operation}")(a, b, flags=("reassoc", "contract"))
        return getattr(builder, operation)(a, b)

    return emit


@intrinsic
def add_fast(typing, accumulator, x):
    """accumulator + x in an order of LLVM's choice, so that a sum over a loop vectorises."""
    return _uniform(_fast("add"), (accumulator, x), _NUMBER)


@intrinsic
def mul_fast(typing, accumulator, x):
    """accumulator * x in an order of LLVM's choice, so that a product over a loop vectorises."""
    return _uniform(_fast("mul"), (accumulator, x), _NUMBER)


def _extreme(op: str, float_name: str) -> Callable:
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        if isinstance(ty, types.Float):
            # nsz: which zero comes out is open (as in NumPy); without it x86 needs six
            # instructions instead of three, and relu three instead of one.
            return call_llvm(builder, float_name, (a, b), flags=("nsz",))
        return builder.select(compare(builder, op, ty, b, a), b, a)

    return emit


@intrinsic
def maximum(typing, a, b):
    """The larger of two scalars of any dtype; NaN if one is NaN."""
    return _uniform(_extreme(">", "llvm.maximum"), (a, b), _ANY)


@intrinsic
def minimum(typing, a, b):
    """The smaller of two scalars of any dtype; NaN if one is NaN."""
    return _uniform(_extreme("<", "llvm.minimum"), (a, b), _ANY)


# LLVM takes this form for a reduction as it is; the names say what the kernel means.
max_fast, min_fast = maximum, minimum


@intrinsic
def sign(typing, x):
    """-1, 0 or 1 in the dtype of x; NaN for NaN."""
    return _uniform(_sign, (x,), _NUMBER)


def _sign(builder: Any, ty: Scalar, x: ir.Value) -> ir.Value:
    zero, one = x.type(0), x.type(1)
    below = x.type(-1) if isinstance(ty, types.Float) or ty.signed else zero
    result = builder.select(compare(builder, "<", ty, x, zero), below, zero)
    result = builder.select(compare(builder, ">", ty, x, zero), one, result)
    if isinstance(ty, types.Float):
        result = builder.select(builder.fcmp_unordered("uno", x, x), x, result)
    return result


@intrinsic
def fma(typing, a, b, c):
    """a * b + c with one rounding."""
    return _uniform(
        lambda builder, ty, *args: call_llvm(builder, "llvm.fma", args), (a, b, c), (types.Float,)
    )


@intrinsic
def fma_fast(typing, a, b, accumulator):
    """accumulator + a * b, fused where the CPU can, in an order of LLVM's choice: for dot products.

    For integers a plain multiply and add.
    """

    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        if isinstance(ty, types.Integer):
            return builder.add(c, builder.mul(a, b))
        return call_llvm(builder, "llvm.fmuladd", (a, b, c), flags=("reassoc", "contract"))

    return _uniform(emit, (a, b, accumulator), _NUMBER)


# ---- Division and integer powers -----------------------------------------------------------------


def _division(floor: bool, part: int, of_floats: Any = None) -> Callable:
    def emit(builder: Any, ty: Scalar, a: ir.Value, b: ir.Value) -> ir.Value:
        if isinstance(ty, types.Float):
            return of_floats(builder, ty, a, b)
        return divide_integers(builder, ty, a, b, floor)[part]

    return emit


@intrinsic
def floor_divide(typing, a, b):
    """NumPy's a // b; for integers x / 0 is 0 and INT_MIN / -1 is INT_MIN."""
    return _uniform(_division(True, 0, float_floor_divide), (a, b), _NUMBER)


@intrinsic
def remainder(typing, a, b):
    """NumPy's a % b, with the sign of b; for integers x % 0 is 0."""
    return _uniform(_division(True, 1, float_remainder), (a, b), _NUMBER)


@intrinsic
def fmod(typing, a, b):
    """C's remainder, with the sign of a; for integers fmod(x, 0) is 0."""
    return _uniform(_division(False, 1, float_fmod), (a, b), _NUMBER)


@intrinsic
def truncated_divide(typing, a, b):
    """Integer quotient cut towards zero, as in C; x / 0 is 0 and INT_MIN / -1 is INT_MIN."""
    return _uniform(_division(False, 0), (a, b), (types.Integer,))


@intrinsic
def int_power(typing, x, n):
    """x ** n for integers, by squaring, wrapping; with n < 0 the true value cut towards zero.

    (That is 1 for x = 1, 1 or -1 for x = -1, and 0 for any other x.)
    """
    return _uniform(_int_power, (x, n), (types.Integer,))


def _int_power(builder: Any, ty: Scalar, x: ir.Value, n: ir.Value) -> ir.Value:
    zero, one = x.type(0), x.type(1)
    entry = builder.block
    loop, done = builder.append_basic_block("power"), builder.append_basic_block("power_done")
    # A negative exponent squares and multiplies zero times below; it is patched at the end.
    start = n
    if ty.signed:
        start = builder.select(builder.icmp_signed("<", n, zero), zero, n)
    builder.branch(loop)
    builder.position_at_end(loop)
    rest, base, result = (builder.phi(x.type) for _ in range(3))
    odd = builder.icmp_unsigned("!=", builder.and_(rest, one), zero)
    product = builder.select(odd, builder.mul(result, base), result)
    halved, squared = builder.lshr(rest, one), builder.mul(base, base)
    for phi, first, later in (
        (rest, start, halved),
        (base, x, squared),
        (result, one, product),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(later, loop)
    builder.cbranch(builder.icmp_unsigned("!=", halved, zero), loop, done)
    builder.position_at_end(done)
    if not ty.signed:
        return product
    minus_one = x.type(-1)
    sign = builder.select(builder.icmp_unsigned("==", builder.and_(n, one), zero), one, minus_one)
    inverse = builder.select(builder.icmp_unsigned("==", x, minus_one), sign, zero)
    inverse = builder.select(builder.icmp_unsigned("==", x, one), one, inverse)
    return builder.select(builder.icmp_signed("<", n, zero), inverse, product)


# ---- Random bits ---------------------------------------------------------------------------------

# Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def _philox_words(builder: Any, key: ir.Value, counter: Sequence[ir.Value]) -> list[ir.Value]:
    """Ten rounds of Philox 4x32 as straight-line IR; the loop around it vectorises."""
    c0, c1, c2, c3 = counter
    k0 = builder.trunc(key, _I32)
    k1 = builder.trunc(builder.lshr(key, _I64(32)), _I32)
    for number in range(10):
        if number:
            k0 = builder.add(k0, _I32(_PHILOX_KEY_STEPS[0]))
            k1 = builder.add(k1, _I32(_PHILOX_KEY_STEPS[1]))
        products = [
            builder.mul(builder.zext(word, _I64), _I64(multiplier))
            for word, multiplier in zip((c0, c2), _PHILOX_MULTIPLIERS, strict=True)
        ]
        high = [builder.trunc(builder.lshr(product, _I64(32)), _I32) for product in products]
        low = [builder.trunc(product, _I32) for product in products]
        c0 = builder.xor(builder.xor(high[1], c1), k0)
        c2 = builder.xor(builder.xor(high[0], c3), k1)
        c1, c3 = low[1], low[0]
    return [c0, c1, c2, c3]


@intrinsic
def philox(typing, key, c0, c1, c2, c3):
    """First uint32 of Philox 4x32-10 for a uint64 key and a counter of four uint32 words."""

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        return _philox_words(builder, args[0], args[1:])[0]

    return signature(u32, u64, u32, u32, u32, u32), lower


@intrinsic
def philox64(typing, key, c0, c1, c2, c3):
    """The first two words of Philox 4x32-10 as a uint64, the first word in the low half."""

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        low, high = _philox_words(builder, args[0], args[1:])[:2]
        return builder.or_(builder.zext(low, _I64), builder.shl(builder.zext(high, _I64), _I64(32)))

    return signature(u64, u64, u32, u32, u32, u32), lower


@intrinsic
def uniform_f32(typing, bits):
    """The top 24 of 32 random bits as a float32 in [0, 1)."""

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        real = ir.FloatType()
        return builder.fmul(builder.sitofp(builder.lshr(args[0], _I32(8)), real), real(2.0**-24))

    return signature(f32, u32), lower


@intrinsic
def uniform_f64(typing, bits):
    """The top 53 of 64 random bits as a float64 in [0, 1)."""

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        real = ir.DoubleType()
        return builder.fmul(builder.sitofp(builder.lshr(args[0], _I64(11)), real), real(2.0**-53))

    return signature(f64, u64), lower


# ---- Errors --------------------------------------------------------------------------------------


@intrinsic
def report(typing, status, code, position, value, bound):
    """Write (code, position, value, bound) to the status block if no error stands there yet.

    The thread that swaps status[0] from 0 to `code` writes the rest, so that the four words
    always belong together. `code` is not 0.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        status_pointer, code, *details = args
        previous = builder.cmpxchg(status_pointer, _I64(0), code, "acq_rel", "monotonic")
        with builder.if_then(builder.extract_value(previous, 1), likely=False):
            for number, detail in enumerate(details, 1):
                mark(
                    builder.store(detail, builder.gep(status_pointer, [_I64(number)])),
                    status,
                )
        return context.get_dummy_value()

    return signature(types.none, status, i64, i64, i64, i64), lower
