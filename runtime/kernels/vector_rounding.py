"""Turns rounding, comparison, classification and remainders into LLVM IR that becomes SIMD.

The part of vector_math that needs no polynomial; kernels import the names from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llvmlite import ir
from numba import types

from graphflow.runtime.kernels.vector_builder import Lane, select, vector_function
from graphflow.runtime.scalar_rules import float_floor_divide, float_fmod, float_remainder


@vector_function
def floor(x):
    """The largest integer <= x. Exact."""
    return x.floor()


@vector_function
def ceil(x):
    """The smallest integer >= x. Exact."""
    return x.call("ceil")


@vector_function
def trunc(x):
    """x without its fraction. Exact."""
    return x.call("trunc")


@vector_function
def round_half_even(x):
    """The nearest integer, halves to the even one, as np.round. Exact."""
    return x.call("roundeven")


@vector_function
def sqrt(x):
    """The square root, correctly rounded; nan for x < 0."""
    return x.sqrt()


@vector_function
def fabs(x):
    """|x|. Exact."""
    return x.abs()


@vector_function
def maximum(x, y):
    """The larger one, nan if either is nan, as np.maximum; +0 is larger than -0."""
    return x.call("maximum", y)


@vector_function
def minimum(x, y):
    """The smaller one, nan if either is nan, as np.minimum; -0 is smaller than +0."""
    return x.call("minimum", y)


@vector_function
def sign(x):
    """-1, 0 or 1, nan for nan, as np.sign."""
    result = select(x > 0.0, x.constant(1.0), select(x < 0.0, x.constant(-1.0), 0.0))
    return select(x.is_nan(), x, result)


@vector_function(returns=types.boolean)
def is_nan(x):
    """x is not a number."""
    return x.is_nan()


@vector_function(returns=types.boolean)
def is_inf(x):
    """x is inf or -inf."""
    return x.abs() == math.inf


@vector_function(returns=types.boolean)
def is_finite(x):
    """x is neither infinite nor nan."""
    return x.abs() < math.inf


# ---- division with remainder: exact, by a loop over the bits of the quotient, hence scalar ----


def _divide(rule: Callable[..., ir.Value], x: Lane, y: Lane) -> Lane:
    return Lane(x.builder, x.format, rule(x.builder, x.format.numba_type, x.value, y.value))


@vector_function
def fmod(x, y):
    """x - trunc(x / y) * y, exact, with the sign of x, as C fmod."""
    return _divide(float_fmod, x, y)


@vector_function
def remainder(x, y):
    """x - floor(x / y) * y with the sign of y, as np.remainder."""
    return _divide(float_remainder, x, y)


@vector_function
def floor_divide(x, y):
    """floor(x / y) by way of `fmod`, as np.floor_divide."""
    return _divide(float_floor_divide, x, y)
