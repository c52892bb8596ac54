"""Turns exp, log, sin, erf, power, ... into scalar LLVM IR that the loop vectoriser makes SIMD.

Every public function is a Numba intrinsic for use inside kernels, generic over float32 and
float64. The IR calls no library and has no branch (but for `fmod` and its two relatives). It needs
no fast-math flag, and those of the kernel change no finite result. Special values follow C99 Annex
F. "ULP a / b" is the largest error that tests/runtime/test_vector_math.py allows, for float32 /
float64.

The code assumes a target with fused multiply-add: x86-64 since 2013, every ARM64. Where no other
source is named, the method is the textbook one (Muller, "Elementary Functions", chapters 10-11)
and the polynomials are those of vector_constants.
"""

from __future__ import annotations

import math

from graphflow.runtime.kernels import vector_constants as constants
from graphflow.runtime.kernels.vector_builder import (
    FLOAT32,
    FLOAT64,
    Format,
    Lane,
    fast_two_sum,
    float_of,
    fma,
    nearest_integer,
    polynomial,
    power_of_two,
    scale,
    select,
    two_product,
    two_sum,
    vector_function,
)
from graphflow.runtime.kernels.vector_rounding import (
    ceil,
    fabs,
    floor,
    floor_divide,
    fmod,
    is_finite,
    is_inf,
    is_nan,
    maximum,
    minimum,
    remainder,
    round_half_even,
    sign,
    sqrt,
    trunc,
)

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "cos", "cosh", "erf",
    "erfc", "exp", "exp2", "expm1", "fabs", "floor", "floor_divide", "fmod", "is_finite", "is_inf",
    "is_nan", "log", "log1p", "log2", "log10", "maximum", "minimum", "power", "remainder",
    "round_half_even", "sigmoid", "sign", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
]  # fmt: skip


def _as_float64(x: Lane) -> Lane:
    return x.widen() if x.format is FLOAT32 else x


# ---- exponentials ----


def _reduce_exp(x: Lane, low: Lane | None = None) -> tuple[Lane, Lane]:
    """k and r with x + low = k * ln 2 + r, |r| <= ln(2) / 2."""
    head, tail = constants.LN2[x.format]
    n, k = nearest_integer(x, constants.LOG2E[x.format][0])
    r = fma(n, -head, x)
    return k, fma(n, -tail, r if low is None else r + low)


def _exp_minus_1(r: Lane, precision: Format | None = None) -> Lane:
    """exp(r) - 1 for |r| <= ln(2) / 2."""
    return fma(r * r, polynomial(r, constants.EXP[precision or r.format]), r)


def _exp(x: Lane) -> Lane:
    low, high = {FLOAT32: (-104.0, 89.0), FLOAT64: (-746.0, 710.0)}[x.format]
    k, r = _reduce_exp(x.clamp(low, high))
    return scale(1.0 + _exp_minus_1(r), k)


@vector_function
def exp(x):
    """e**x = 2**k * e**r, r = x - k ln 2 in two parts, e**r by a polynomial. ULP 1.1 / 1.0."""
    return _exp(x)


def _exp2_reduced(r: Lane, precision: Format) -> Lane:
    """2**r for |r| <= 1/2."""
    return fma(r, polynomial(r, constants.EXP2[precision]), 1.0)


@vector_function
def exp2(x):
    """2**x = 2**k * 2**r with k the nearest integer, 2**r by a polynomial. ULP 0.9 / 0.8."""
    low, high = {FLOAT32: (-151.0, 129.0), FLOAT64: (-1076.0, 1025.0)}[x.format]
    x = x.clamp(low, high)
    n, k = nearest_integer(x)
    return scale(_exp2_reduced(x - n, x.format), k)


@vector_function
def expm1(x):
    """e**x - 1 = 2**k (e**r - 1) + (2**k - 1), r as in `exp`. ULP 1.5 / 1.9."""
    low, high = {FLOAT32: (-20.0, 89.0), FLOAT64: (-40.0, 710.0)}[x.format]
    k, r = _reduce_exp(x.clamp(low, high))
    half = power_of_two(k - 1)
    result = 2.0 * fma(half, _exp_minus_1(r), half - 0.5)
    return select(_is_tiny(x), x, result)


@vector_function
def sigmoid(x):
    """1 / (1 + e**-x), from e**-|x| so that nothing overflows. ULP 1.7 / 1.7."""
    e = _exp(-x.abs())
    larger = select(x < 0.0, e, 1.0)
    return fma(-larger, e / (1.0 + e), larger)


def _is_tiny(x: Lane) -> Lane:
    """x is so small that x + c * x**2 == x, for 0 <= c <= 1/2."""
    return x.abs() < 2.0 ** -(x.format.fraction_bits + 2)


# ---- logarithms ----


def _split(x: Lane, *, denormals: bool = True) -> tuple[Lane, Lane]:
    """k (an integer) and m with x = 2**k * m, sqrt(1/2) <= m < sqrt(2), for finite x > 0."""
    fraction_bits, offset = x.format.fraction_bits, x.format.bits_of(constants.SQRT_HALF)
    if denormals:
        is_denormal = x < x.format.smallest_normal
        x = select(is_denormal, x * 2.0 ** (fraction_bits + 1), x)
    bits = x.bits() - offset
    k = bits >> fraction_bits
    m = ((bits & ((1 << fraction_bits) - 1)) + offset).as_float()
    return (select(is_denormal, k - (fraction_bits + 1), k) if denormals else k), m


def _log1p_reduced(f: Lane) -> tuple[Lane, Lane]:
    """log(1 + f) as a large and a small part, for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    half = -0.5 * f
    head = fma(half, f, f)
    lost = fma(half, f, f - head)
    return head, fma(f * f * f, polynomial(f, constants.LOG[f.format]), lost)


def _log_of(k: Lane, f: Lane) -> Lane:
    """log(2**k * (1 + f))."""
    ln2, ln2_tail = constants.LN2[f.format]
    head, tail = _log1p_reduced(f)
    n = float_of(k)
    return fma(n, ln2, head + fma(n, ln2_tail, tail))


def _log_of_sum(x: Lane, low: Lane, k0: Lane | int = 0) -> Lane:
    """log(2**k0 * (x + low)) for x >= 1/2 and |low| of the order of x's rounding error."""
    k, m = _split(x, denormals=False)
    return _log_of(k + k0, fma(low, power_of_two(-k, or_zero=True), m - 1.0))


def _log_special(x: Lane, result: Lane) -> Lane:
    """`result`, or the special value of a logarithm for x = 0, x < 0, inf and nan."""
    result = select(x < math.inf, result, x)
    result = select(x == 0.0, -math.inf, result)
    return select(x < 0.0, math.nan, result)


@vector_function
def log(x):
    """ln x = k ln 2 + ln m, sqrt(1/2) <= m < sqrt(2), ln m by a polynomial. ULP 0.8 / 0.8."""
    k, m = _split(x)
    return _log_special(x, _log_of(k, m - 1.0))


@vector_function
def log1p(x):
    """ln(1 + x) as `log`, the rounding error of 1 + x added to m (Kahan). ULP 1.3 / 1.3."""
    total, low = two_sum(1.0, x)
    return _log_special(total, _log_of_sum(total, low)).copysign(x)


def _log_to_base(x: Lane, per_octave: tuple[float, float], factor: tuple[float, float]) -> Lane:
    """k * per_octave + ln(m) * factor in twice the precision, rounded once."""
    k, m = _split(x)
    n = float_of(k)
    head, tail = _log1p_reduced(m - 1.0)
    log_m, low = two_product(head, factor[0])
    low = low + fma(head, factor[1], tail * factor[0])
    octaves, octaves_low = two_product(n, per_octave[0])
    total, total_low = fast_two_sum(octaves, log_m)
    return _log_special(x, total + (total_low + fma(n, per_octave[1], octaves_low) + low))


@vector_function
def log2(x):
    """k + ln(m) / ln 2 in twice the precision; exact for powers of two. ULP 0.8 / 0.7."""
    return _log_to_base(x, (1.0, 0.0), constants.LOG2E[x.format])


@vector_function
def log10(x):
    """k log10(2) + ln(m) / ln 10 in twice the precision. ULP 0.7 / 0.7."""
    return _log_to_base(x, constants.LOG10_2[x.format], constants.LOG10E[x.format])


# ---- trigonometry ----

# Beyond this the remainder of x / (pi / 2) needs a table (Payne and Hanek), and each element would
# pay for it. A nan shows the mistake; a value without one right digit would hide it.
_LARGEST_ANGLE = 2.0**44


def _reduce_angle(x: Lane) -> tuple[Lane, Lane, Lane]:
    """k (an integer) and r + low, |r| <= pi / 4, with |x| = k pi / 2 + r + low (Cody and Waite).

    In float64 also for float32, because three parts of float32 end at |x| = 1e5.
    """
    magnitude = _as_float64(x.abs())
    first, second, third = constants.HALF_PI[FLOAT64]
    n, k = nearest_integer(magnitude, 2.0 / math.pi)
    exact = fma(n, -first, magnitude)
    r = fma(n, -second, exact)
    return k, r, fma(n, -third, fma(n, -second, exact - r))


def _sin_cos_reduced(r: Lane, precision: Format, low: Lane | None = None) -> tuple[Lane, Lane]:
    """sin(r + low) and cos(r + low) for |r| <= pi / 4."""
    z = r * r
    half = 0.5 * z
    rest_of_sin = r * z * polynomial(z, constants.SIN[precision])
    rest_of_cos = z * z * polynomial(z, constants.COS[precision])
    if low is not None:
        rest_of_sin = rest_of_sin + fma(-half, low, low)
        rest_of_cos = fma(-r, low, rest_of_cos)
    head, lost = fast_two_sum(1.0, -half)
    return r + rest_of_sin, head + (lost + rest_of_cos)


def _sin_cos(x: Lane) -> tuple[Lane, Lane, Lane]:
    """k, sin(y) and cos(y) with |x| = k pi / 2 + y."""
    k, r, low = _reduce_angle(x)
    if x.format is FLOAT64:
        return k, *_sin_cos_reduced(r, FLOAT64, low)
    return k.narrow(), *_sin_cos_reduced(r.narrow(), FLOAT32)


def _sign_bit(x: Lane) -> Lane:
    """An integer lane whose low bit is the sign bit of x."""
    return x.bits() >> (x.format.integer_type.width - 1)


def _flip_sign(x: Lane, flip: Lane) -> Lane:
    """x, negated where the low bit of the integer lane `flip` is set."""
    return (x.bits() ^ (flip << (x.format.integer_type.width - 1))).as_float()


def _angle_in_range(x: Lane, result: Lane) -> Lane:
    return select(x.abs() <= _LARGEST_ANGLE, result, math.nan)


@vector_function
def sin(x):
    """sin x for |x| <= 2**44, nan beyond. Reduced as by Cody and Waite. ULP 1.6 / 0.8."""
    k, sine, cosine = _sin_cos(x)
    result = select((k & 1) == 0, sine, cosine)
    return _angle_in_range(x, _flip_sign(result, (k >> 1) ^ _sign_bit(x)))


@vector_function
def cos(x):
    """cos x for |x| <= 2**44, nan beyond. Reduced as by Cody and Waite. ULP 1.6 / 0.8."""
    k, sine, cosine = _sin_cos(x)
    result = select((k & 1) == 0, cosine, sine)
    return _angle_in_range(x, _flip_sign(result, (k + 1) >> 1))


@vector_function
def tan(x):
    """sin / cos, or -cos / sin in odd quadrants, |x| <= 2**44, nan beyond.

    The two are float64 for float32 too, where three roundings would add up. ULP 2.0 / 2.2.
    """
    k, r, low = _reduce_angle(x)
    if x.format is FLOAT64:
        sine, cosine = _sin_cos_reduced(r, FLOAT64, low)
    else:
        k, (sine, cosine) = k.narrow(), map(Lane.narrow, _sin_cos_reduced(r, FLOAT32))
    even = (k & 1) == 0
    result = select(even, sine, cosine) / select(even, cosine, sine)
    return _angle_in_range(x, _flip_sign(result, k ^ _sign_bit(x)))


# ---- inverse trigonometry ----


def _asin_parts(x: Lane) -> tuple[Lane, Lane, Lane]:
    """big, s, p: asin(|x|) is s + s * p, or pi / 2 - 2 * (s + s * p) where big (|x| > 1/2)."""
    magnitude = x.abs()
    big = magnitude > 0.5
    z = select(big, fma(magnitude, -0.5, 0.5), magnitude * magnitude)
    s = select(big, z.sqrt(), magnitude)
    return big, s, z * polynomial(z, constants.ASIN[x.format])


@vector_function
def asin(x):
    """A polynomial for |x| <= 1/2, else pi/2 - 2 asin sqrt((1 - |x|) / 2). ULP 1.2 / 1.2."""
    half_pi, half_pi_tail = constants.HALF_PI[x.format][:2]
    big, s, p = _asin_parts(x)
    twice = -2.0 * s
    total, low = fast_two_sum(half_pi, twice)
    complement = total + (low + fma(twice, p, half_pi_tail))
    return select(big, complement, fma(s, p, s)).copysign(x)


@vector_function
def acos(x):
    """pi/2 - asin x, or 2 asin sqrt((1 - |x|) / 2) and its complement to pi. ULP 1.2 / 1.2."""
    half_pi, half_pi_tail = constants.HALF_PI[x.format][:2]
    big, s, p = _asin_parts(x)
    offset = select(big, select(x < 0.0, 2.0 * half_pi, x.constant(0.0)), half_pi)
    arc = select(big, (2.0 * s).copysign(x), -x)
    total, low = fast_two_sum(offset, arc)
    return total + (low + fma(arc, p, offset * (half_pi_tail / half_pi)))


def _atan_reduced(t: Lane) -> Lane:
    """atan(t) for |t| <= 1."""
    z = t * t
    return fma(t * z, polynomial(z, constants.ATAN[t.format]), t)


@vector_function
def atan(x):
    """A polynomial for |x| <= 1, else pi/2 - atan(1 / |x|). ULP 1.3 / 1.6."""
    half_pi, half_pi_tail = constants.HALF_PI[x.format][:2]
    magnitude = x.abs()
    big = magnitude > 1.0
    arc = _atan_reduced(select(big, -1.0 / magnitude, magnitude))
    return select(big, half_pi + (arc + half_pi_tail), arc).copysign(x)


@vector_function
def atan2(y, x):
    """The angle of the point (x, y), from atan(smaller / larger) and its octant. ULP 1.5 / 1.6."""
    half_pi, half_pi_tail = constants.HALF_PI[x.format][:2]
    swap = y.abs() > x.abs()
    larger, smaller = select(swap, y.abs(), x.abs()), select(swap, x.abs(), y.abs())
    # 0 / 0 and inf / inf stand for the diagonal; at the origin C99 wants the angle 0.
    t = select(larger == smaller, select(larger == 0.0, larger, 1.0), smaller / larger)
    left = x.bits() < 0
    quarters = select(swap, 1.0, select(left, 2.0, x.constant(0.0)))
    arc = _atan_reduced(t)
    arc = select(swap ^ left, -arc, arc)
    return fma(quarters, half_pi, fma(quarters, half_pi_tail, arc)).copysign(y)


# ---- hyperbolic functions ----


def _sinh_small(x: Lane) -> Lane:
    """sinh(x) for |x| <= 1."""
    z = x * x
    return fma(x * z, polynomial(z, constants.SINH[x.format]), x)


def _exp_pair(x: Lane) -> tuple[Lane, Lane]:
    """exp(|x|) / 4 and exp(-|x|) / 4; the latter may be 0 where it no longer counts."""
    k, r = _reduce_exp(x.abs().clamp(0.0, {FLOAT32: 89.6, FLOAT64: 710.6}[x.format]))
    z = r * r
    sine = _sinh_small(r)
    cosine_less_1 = fma(z, polynomial(z, constants.COSH[r.format]), 0.5) * z
    grows = power_of_two(k - 2) * (1.0 + (cosine_less_1 + sine))
    return grows, power_of_two(-2 - k, or_zero=True) * (1.0 + (cosine_less_1 - sine))


@vector_function
def sinh(x):
    """x + x**3 P(x**2) for |x| < 1, else (e**|x| - e**-|x|) / 2. ULP 1.7 / 1.7."""
    grows, decays = _exp_pair(x)
    return select(x.abs() < 1.0, _sinh_small(x), (2.0 * (grows - decays)).copysign(x))


@vector_function
def cosh(x):
    """(e**|x| + e**-|x|) / 2, both from cosh r and sinh r, |x| = k ln 2 + r. ULP 1.7 / 1.7."""
    grows, decays = _exp_pair(x)
    return 2.0 * (grows + decays)


@vector_function
def tanh(x):
    """-t / (2 + t), t = e**(-2 |x|) - 1, for small x, else 1 - 2 e / (1 + e). ULP 2.0 / 2.1."""
    magnitude = x.abs()
    k, r = _reduce_exp(-2.0 * magnitude.clamp(0.0, {FLOAT32: 9.5, FLOAT64: 20.0}[x.format]))
    p, power = _exp_minus_1(r), power_of_two(k)
    small = magnitude < 0.55
    numerator = select(small, fma(-power, p, 1.0 - power), 2.0 * fma(power, p, power))
    quotient = numerator / fma(power, p, 1.0 + power)
    return select(small, quotient, 1.0 - quotient).copysign(x)


def _log_of_sum_with_root(x: Lane, square: Lane, square_low: Lane) -> Lane:
    """log(x + sqrt(square + square_low)) for x >= 0 and square >= 0; log(2 x) for huge x."""
    huge = x > 2.0**30
    root = square.sqrt()
    error = (fma(-root, root, square) + square_low) / (2.0 * root)
    total, low = two_sum(root, x)
    low = low + select(root > 0.0, error, 0.0)
    result = _log_of_sum(
        select(huge, x, total), select(huge, 0.0, low), select(huge, total.bits().constant(1), 0)
    )
    return select(x < math.inf, result, x)


@vector_function
def asinh(x):
    """ln(|x| + sqrt(x**2 + 1)), the sum in twice the precision. ULP 1.5 / 1.5."""
    magnitude = x.abs()
    square, low = two_product(magnitude, magnitude)
    total, total_low = two_sum(1.0, square)
    result = _log_of_sum_with_root(magnitude, total, total_low + low)
    tiny = magnitude < 2.0 ** -(x.format.fraction_bits / 2 + 2)
    return select(tiny, magnitude, result).copysign(x)


@vector_function
def acosh(x):
    """ln(x + sqrt(x**2 - 1)), the sum in twice the precision. ULP 1.5 / 1.5."""
    square, low = two_product(x, x)
    total, total_low = two_sum(-1.0, square)
    total, total_low = fast_two_sum(total, total_low + low)
    return select(x >= 1.0, _log_of_sum_with_root(x, total, total_low), math.nan)


@vector_function
def atanh(x):
    """ln(1 + 2 |x| / (1 - |x|)) / 2, the argument in twice the precision. ULP 1.5 / 1.5."""
    magnitude = x.abs()
    below, below_low = fast_two_sum(1.0, -magnitude)
    inverse = 1.0 / below
    twice = 2.0 * magnitude
    t = twice * inverse
    error = fma(-t, below_low, fma(-t, below, twice)) * inverse
    total, low = two_sum(1.0, t)
    result = 0.5 * _log_of_sum(total, low + error)
    result = select(magnitude == 1.0, math.inf, result)
    return select(magnitude <= 1.0, result, math.nan).copysign(x)


# ---- error function ----


def _erf_small(x: Lane, precision: Format | None = None) -> Lane:
    """erf(x) for |x| <= 0.93."""
    return fma(x, polynomial(x * x, constants.ERF[precision or x.format]), x)


@vector_function
def erf(x):
    """x + x P(x**2) near 0, else 1 - exp(|x| Q(|x|)); the form is N. Juffa's. ULP 1.2 / 1.3."""
    split, end = {FLOAT32: (0.93, 4.0), FLOAT64: (1.0, 6.0)}[x.format]
    magnitude = x.abs()
    t = magnitude.clamp(0.0, end)
    k, r = _reduce_exp(t * polynomial(t, constants.LOG_ERFC[x.format]))
    tail = fma(-power_of_two(k), 1.0 + _exp_minus_1(r), 1.0)
    return select(magnitude > split, tail.copysign(x), _erf_small(x))


def _scaled_erfc(t: Lane) -> Lane:
    """exp(t**2) * erfc(t) for t >= 1/2, with the rounding errors of q and 1 / (t + 4) undone."""
    above, above_low = two_sum(4.0, t)
    below, below_low = two_sum(-4.0, t)
    inverse = 1.0 / above
    inverse_error = fma(-inverse, above_low, fma(-inverse, above, 1.0))
    q = below * inverse
    q_low = fma(-q, above_low, fma(-q, above, below) + below_low) * inverse
    first, *rest = constants.ERFC[FLOAT64]
    low = fma(q_low, polynomial(q, constants.ERFC_SLOPE), constants.ERFC_TAIL)
    result = (first + fma(q, polynomial(q, rest), low)) * inverse
    return fma(result, inverse_error, result)


def _scaled_erfc_float32(t: Lane) -> Lane:
    """exp(t**2) * erfc(t) for t >= 1/2, good for float32."""
    inverse = 1.0 / (t + 4.0)
    return polynomial((t - 4.0) * inverse, constants.ERFC[FLOAT32]) * inverse


@vector_function
def erfc(x):
    """1 - erf x for small |x|, else e**(-x**2) P(q) / (|x| + 4), q = (|x| - 4) / (|x| + 4).

    The variable q is that of Shepherd and Laframboise (1981). float32 is evaluated in float64 with
    short polynomials: the rounding errors of q and x**2 are amplified, and the corrections that
    float64 makes would cost as much. ULP 0.9 / 3.7.
    """
    precision = x.format
    x = _as_float64(x)
    t = x.abs().clamp(0.0, 27.5)
    square, square_low = two_product(t, t)
    k, r = _reduce_exp(-square, -square_low)
    scaled = (_scaled_erfc if precision is FLOAT64 else _scaled_erfc_float32)(t)
    tail = scale((1.0 + _exp_minus_1(r, precision)) * scaled, k)
    result = select(x < 0.0, 2.0 - tail, tail)
    split = 0.5 if precision is FLOAT32 else 0.75
    result = select(x.abs() < split, 1.0 - _erf_small(x, precision), result)
    return result.narrow() if precision is FLOAT32 else result


# ---- power ----


def _log2_37_bits(x: Lane) -> Lane:
    """log2(x) for finite x > 0 with 37 bits."""
    k, m = _split(x, denormals=False)
    f = m - 1.0
    return fma(f, polynomial(f, constants.LOG2_37_BITS), float_of(k))


def _log2_pair(x: Lane) -> tuple[Lane, Lane]:
    """log2(x) for finite x > 0 as head + tail, relative error about 2**-65."""
    k, m = _split(x)
    denominator, denominator_low = fast_two_sum(1.0, m)
    inverse = 1.0 / denominator
    numerator = m - 1.0
    s = numerator * inverse
    s_low = fma(-s, denominator_low, fma(-s, denominator, numerator)) * inverse
    z, z_low = two_product(s, s)
    z_low = fma(s, 2.0 * s_low, z_low)
    second, second_low = fast_two_sum(
        constants.LOG2_SECOND[0], z * polynomial(z, constants.LOG2_REST)
    )
    second_low = second_low + constants.LOG2_SECOND[1]
    rest, rest_low = two_product(z, second)
    rest_low = fma(z, second_low, fma(z_low, second, rest_low))
    slope, slope_low = fast_two_sum(constants.LOG2_FIRST[0], rest)
    slope_low = slope_low + (rest_low + constants.LOG2_FIRST[1])
    log_m, log_m_low = two_product(s, slope)
    log_m_low = fma(s, slope_low, fma(s_low, slope, log_m_low))
    total, low = fast_two_sum(float_of(k), log_m)
    return fast_two_sum(total, low + log_m_low)


def _with_limits(log: Lane, x: Lane) -> Lane:
    """`log`, or its limit for x = 0 and x = inf."""
    return select(x == 0.0, -math.inf, select(x < math.inf, log, x))


def _power_of_magnitude(x: Lane, y: Lane, precision: Format) -> Lane:
    """x**y for x >= 0, but for the cases in which C99 wants no nan."""
    if precision is FLOAT32:
        exponent = (y * _with_limits(_log2_37_bits(x), x)).clamp(-300.0, 300.0)
        n, k = nearest_integer(exponent)
        return power_of_two(k) * _exp2_reduced(exponent - n, precision)
    head, tail = _log2_pair(x)
    exponent, low = two_product(y, _with_limits(head, x))
    low = select(exponent.abs() < 1100.0, fma(y, tail, low), 0.0)
    exponent = exponent.clamp(-1100.0, 1100.0)
    n, k = nearest_integer(exponent)
    return scale(_exp2_reduced((exponent - n) + low, precision), k)


def _is_integer(y: Lane) -> Lane:
    return y.floor() == y


@vector_function
def power(x, y):
    """x**y = 2**(y log2 |x|) and the sign, with all special cases of C99 pow.

    float64 takes log2 in twice the precision, as fdlibm does (65 bits are needed, as y scales its
    error); float32 is evaluated in float64, cheaper than pairs of float32. ULP 0.6 / 1.1.
    """
    precision = x.format
    x, y = _as_float64(x), _as_float64(y)
    magnitude = x.abs()
    result = _power_of_magnitude(magnitude, y, precision)
    is_odd = _is_integer(y) & ~_is_integer(0.5 * y)
    result = select((x.bits() < 0) & is_odd, -result, result)
    has_no_real = (x < 0.0) & (magnitude < math.inf) & ~_is_integer(y)
    result = select(has_no_real | x.is_nan() | y.is_nan(), math.nan, result)
    is_one = (x == 1.0) | (y == 0.0) | ((magnitude == 1.0) & (y.abs() == math.inf))
    result = select(is_one, 1.0, result)
    return result.narrow() if precision is FLOAT32 else result
