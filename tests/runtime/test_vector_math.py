"""Vector mathematics: error in ULP against a wider format, special values, and that it is SIMD."""

from __future__ import annotations

import functools
import math
import re

import numba
import numpy as np
import pytest

from graphflow.runtime.kernels import vector_math

# Largest error allowed, in ULP, for float32 and float64; the docstrings quote these numbers.
BOUNDS = {
    "exp": (1.1, 1.0),
    "exp2": (0.9, 0.8),
    "expm1": (1.5, 1.9),
    "sigmoid": (1.7, 1.7),
    "log": (0.8, 0.8),
    "log1p": (1.3, 1.3),
    "log2": (0.8, 0.7),
    "log10": (0.7, 0.7),
    "sin": (1.6, 0.8),
    "cos": (1.6, 0.8),
    "tan": (2.0, 2.2),
    "asin": (1.2, 1.2),
    "acos": (1.2, 1.2),
    "atan": (1.3, 1.6),
    "sinh": (1.7, 1.7),
    "cosh": (1.7, 1.7),
    "tanh": (2.0, 2.1),
    "asinh": (1.5, 1.5),
    "acosh": (1.5, 1.5),
    "atanh": (1.5, 1.5),
    "erf": (1.2, 1.3),
    "erfc": (0.9, 3.7),
}
BOUNDS_OF_TWO = {"atan2": (1.5, 1.6), "power": (0.6, 1.1)}
NUMPY_NAMES = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "round_half_even": "round",
    "fabs": "abs",
    "is_nan": "isnan",
    "is_inf": "isinf",
    "is_finite": "isfinite",
}
EXACT = ["floor", "ceil", "trunc", "round_half_even", "sqrt", "fabs", "sign"]
EXACT_OF_TWO = ["maximum", "minimum", "fmod", "remainder", "floor_divide"]
PREDICATES = ["is_nan", "is_inf", "is_finite"]
DTYPES = [np.float32, np.float64]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1e30, -1e30, math.inf, -math.inf, math.nan]
LARGEST_ANGLE = 2.0**44
# Where long double is no wider than float64, NumPy's own error comes on top.
WIDE = np.longdouble
SLACK = 0.0 if np.finfo(WIDE).nmant >= 63 else 1.0


# ---- one compiled loop per function ----


@functools.cache
def loop(name: str, fastmath: bool):
    function = getattr(vector_math, name)

    def of_one(out, x):
        for i in range(out.size):
            out[i] = function(x[i])

    def of_two(out, x, y):
        for i in range(out.size):
            out[i] = function(x[i], y[i])

    two = name in BOUNDS_OF_TWO or name in EXACT_OF_TWO
    return numba.njit(of_two if two else of_one, fastmath=fastmath)


def run(name, *arrays, fastmath=False):
    out = np.empty_like(arrays[0], dtype=bool if name in PREDICATES else None)
    loop(name, fastmath)(out, *arrays)
    return out


# ---- samples ----


def samples(dtype, low=0.0, high=math.inf, count=40_000):
    """Both signs, log-spaced over the whole format and denser around 1, and special values."""
    info = np.finfo(dtype)
    low = max(low, float(info.smallest_subnormal))
    high = min(high, float(info.max))
    random = np.random.default_rng(7)
    spread = np.exp(random.uniform(np.log(low), np.log(high), count))
    near = np.exp(random.uniform(np.log(max(low, 1e-4)), np.log(min(high, 800.0)), count))
    magnitudes = np.concatenate([spread, near, np.linspace(0, min(high, 8.0), count), [low, high]])
    return np.concatenate([magnitudes, -magnitudes, SPECIAL]).astype(dtype)


def pairs(dtype, count=100_000):
    """Pairs for atan2 and power: ordinary, of all magnitudes, and powers that do not overflow."""
    random = np.random.default_rng(8)
    info = np.finfo(dtype)
    x = random.normal(0, 1, count)
    y = random.normal(0, 1, count)
    a, b = np.exp(random.uniform(np.log(info.tiny), np.log(info.max), (2, count)))
    base = np.exp(random.choice([1.0, 1e-2, 1e-5]) * random.uniform(-1, 1, count)).astype(dtype)
    with np.errstate(divide="ignore"):
        exponent = random.uniform(np.log(info.tiny), np.log(info.max), count) / np.log(base)
    wide_base = np.exp(random.uniform(np.log(info.tiny), np.log(info.max), count))
    left = np.concatenate([x, a, -a, base, wide_base])
    right = np.concatenate([y, b, b, exponent, 1.4 * y])
    with np.errstate(over="ignore"):
        return left.astype(dtype), right.astype(dtype)


def grid(dtype):
    """All pairs of special and of a few ordinary values."""
    values = [*SPECIAL, -2.0, 3.0, -3.0, 4.0, -4.0, 1.5, -1.5, 7.3, -7.3, 0.1, 2.0**24 + 2, 1e-40]
    values += [float(np.finfo(dtype).max), float(np.finfo(dtype).smallest_subnormal)]
    x, y = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    return x.ravel(), y.ravel()


# ---- what the result should be ----


def error_in_ulp(got, want, dtype):
    """|got - want| in units of the spacing of `dtype` at `want`; a wrong nan or sign is inf."""
    info = np.finfo(dtype)
    top = want.dtype.type(2.0) ** info.maxexp
    exact = np.clip(want, -top, top)
    exponent = np.frexp(exact)[1] - 1
    spacing = np.ldexp(exact.dtype.type(1), np.maximum(exponent, info.minexp) - info.nmant)
    error = np.abs(np.clip(got.astype(exact.dtype), -top, top) - exact) / spacing
    both_nan = np.isnan(got) & np.isnan(want)
    wrong = np.isnan(got) != np.isnan(want)
    wrong |= ~both_nan & (np.signbit(got) != np.signbit(want))
    return np.where(wrong, np.inf, np.where(both_nan, 0, error)).astype(np.float64)


def wide_erfc(x):
    """erfc in WIDE: a series below 2, a continued fraction above."""
    t = np.minimum(np.abs(x), WIDE(30))
    series, term = t.copy(), t.copy()
    for n in range(1, 80):
        term = term * 2 * t * t / (2 * n + 1)
        series = series + np.where(t < 2, term, 0)
    fraction = t
    for n in range(120, 0, -1):
        fraction = t + WIDE(n) / 2 / np.where(fraction > 0, fraction, 1)
    # t**2 in two exact parts, as its rounding error would show in exp.
    head = t.astype(np.float32).astype(WIDE)
    exponential = np.exp(-head * head) * np.exp(-(t - head) * (t + head))
    root_pi = np.sqrt(WIDE(np.pi) + WIDE(1.2246467991473531772e-16))
    erf = np.where(t < 2, 2 / root_pi * exponential * series, 1)
    tail = np.where(t < 2, 1 - erf, exponential / root_pi / np.where(t < 2, 1, fraction))
    return np.where(x < 0, 2 - tail, tail), np.copysign(np.where(t < 2, erf, 1 - tail), x)


def wanted(name, *arrays):
    """The function in a wider format: float64 for float32, long double for float64."""
    kind = np.float64 if arrays[0].dtype == np.float32 else WIDE
    arrays = [array.astype(kind) for array in arrays]
    with np.errstate(all="ignore"):
        if name in ("erf", "erfc"):
            both = wide_erfc(arrays[0].astype(WIDE))
            return both[name == "erf"].astype(kind)
        if name == "sigmoid":
            e = np.exp(-np.abs(arrays[0]))
            return np.where(arrays[0] < 0, e, 1) / (1 + e)
        return getattr(np, NUMPY_NAMES.get(name, name))(*arrays)


def excess(name, dtype, bound, *arrays):
    """The worst error that is above the bound, as text; None where there is none."""
    got, want = run(name, *arrays), wanted(name, *arrays)
    errors = error_in_ulp(got, want, dtype)
    worst = int(errors.argmax())
    slack = SLACK if dtype is np.float64 else 0.0
    if errors[worst] <= bound + slack:
        return None
    return (
        f"{name}{tuple(array[worst] for array in arrays)} = {got[worst]!r}, "
        f"{errors[worst]:.3f} ULP from {want[worst]!r}"
    )


# ---- tests ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS)
def test_error_in_ulp(name, dtype):
    x = samples(dtype)
    if name in ("sin", "cos", "tan"):
        x = x[np.abs(x) <= LARGEST_ANGLE]
    elif name in ("asin", "acos", "atanh"):
        x = np.concatenate([samples(dtype, high=1.0), x[-len(SPECIAL) :]])
    elif name == "acosh":
        x = np.concatenate([samples(dtype, low=1.0), 1 + samples(dtype, high=1.0)])
    assert excess(name, dtype, BOUNDS[name][dtype is np.float64], x) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS_OF_TWO)
def test_error_in_ulp_of_two_arguments(name, dtype):
    x, y = pairs(dtype)
    if name == "power":
        x = np.abs(x)
    assert excess(name, dtype, BOUNDS_OF_TWO[name][dtype is np.float64], x, y) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_angles_out_of_range_are_nan(name, dtype):
    x = np.array([2 * LARGEST_ANGLE, -1e30, math.inf, -math.inf, math.nan], dtype)
    assert np.isnan(run(name, x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*EXACT, *PREDICATES])
def test_exact_functions_agree_with_numpy(name, dtype):
    x = np.concatenate([samples(dtype, count=2_000), np.arange(-5, 5, 0.25).astype(dtype)])
    with np.errstate(invalid="ignore"):
        want = getattr(np, NUMPY_NAMES.get(name, name))(x)
    np.testing.assert_array_equal(run(name, x), want)
    if name not in PREDICATES:
        sure = ~np.isnan(want)
        assert (np.signbit(run(name, x)) == np.signbit(want))[sure].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT_OF_TWO)
def test_exact_functions_of_two_arguments_agree_with_numpy(name, dtype):
    random = np.random.default_rng(9)
    x, y = (np.concatenate([a, random.normal(0, 50, 5_000).astype(dtype)]) for a in grid(dtype))
    if name in ("maximum", "minimum"):
        # NumPy leaves open which of two zeros it returns.
        x, y = x[(x != 0) | (y != 0)], y[(x != 0) | (y != 0)]
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x, y)
    got = run(name, x, y)
    np.testing.assert_array_equal(got, want)
    assert (np.signbit(got) == np.signbit(want))[~np.isnan(want)].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BOUNDS_OF_TWO)
def test_special_values_of_two_arguments(name, dtype):
    x, y = grid(dtype)
    # NumPy takes power(x, 0.5) for sqrt, which differs from C99 pow at -0 and -inf.
    ordinary = y != 0.5
    bound = BOUNDS_OF_TWO[name][dtype is np.float64]
    assert excess(name, dtype, bound, x[ordinary], y[ordinary]) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_power_of_one_half_follows_c99(dtype):
    x = np.array([-0.0, -math.inf, -1.0, 0.25], dtype)
    got = run("power", x, np.full_like(x, 0.5))
    np.testing.assert_array_equal(got, np.array([0.0, math.inf, math.nan, 0.5], dtype))
    assert not np.signbit(got[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_results_are_exact(dtype):
    k = np.arange(np.finfo(dtype).minexp - np.finfo(dtype).nmant, np.finfo(dtype).maxexp)
    powers = np.ldexp(dtype(1), k).astype(dtype)
    np.testing.assert_array_equal(run("exp2", k.astype(dtype)), powers)
    np.testing.assert_array_equal(run("log2", powers), k.astype(dtype))
    small = np.arange(-30, 31).astype(dtype)
    np.testing.assert_array_equal(run("power", small, np.full_like(small, 3)), small**3)


@pytest.mark.parametrize("name", ["log1p", "asinh", "erfc", "power", "expm1", "sin"])
def test_fast_math_of_the_kernel_changes_no_bit(name):
    arrays = pairs(np.float64, 5_000) if name == "power" else (samples(np.float64, 0, 1e9, 5_000),)
    arrays = [np.where(np.isfinite(array), array, 1.0) for array in arrays]
    relaxed = run(name, *arrays, fastmath=True)
    precise = run(name, *arrays)
    ordinary = np.isfinite(precise)
    np.testing.assert_array_equal(relaxed[ordinary], precise[ordinary])


@pytest.mark.parametrize("name", [*BOUNDS, *BOUNDS_OF_TWO, *EXACT, "maximum"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_loops_become_simd(name, dtype):
    """The optimised loop works on vectors of floats and calls nothing of libm."""
    arrays = [np.ones(4, dtype)] * (2 if name in BOUNDS_OF_TWO or name in EXACT_OF_TWO else 1)
    run(name, *arrays)
    kind = numba.from_dtype(np.dtype(dtype))
    texts = loop(name, False).inspect_llvm()
    (text,) = [text for types, text in texts.items() if types[0].dtype == kind]
    element = "float" if dtype is np.float32 else "double"
    assert re.search(rf"store <\d+ x {element}>", text)
    assert not re.search(r"^declare .*@(?!llvm\.|Py|_Py|NRT|numba|__)\w+\(", text, re.MULTILINE)


def test_a_reduction_with_maximum_becomes_simd():
    maximum = vector_math.maximum

    @numba.njit
    def largest(x):
        result = x[0]
        for i in range(x.size):
            result = maximum(result, x[i])
        return result

    x = np.random.default_rng(3).normal(size=1000).astype(np.float32)
    assert largest(x) == x.max()
    assert re.search(r"@llvm\.vector\.reduce\.fmaximum", *largest.inspect_llvm().values())
    x[500] = np.nan
    assert np.isnan(largest(x))


def test_other_types_are_refused():
    exp, power = vector_math.exp, vector_math.power
    with pytest.raises(numba.TypingError, match=r"exp: expects 1 argument\(s\), all float32"):
        numba.njit(lambda x: exp(x))(1)
    with pytest.raises(numba.TypingError, match=r"power: .* got \(float32, float64\); cast"):
        numba.njit(lambda x, y: power(x, y))(np.float32(1), 2.0)


def test_docstrings_quote_the_bounds():
    for name, (single, double) in (BOUNDS | BOUNDS_OF_TWO).items():
        assert f"ULP {single} / {double}" in getattr(vector_math, name).__doc__
