"""Activations by name, as layers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow import functions, nn
from graphflow.activations import float_tensor
from graphflow.composite import composite
from graphflow.errors import GraphError, ShapeError
from graphflow.keras.serialization import Table
from graphflow.manipulation import take
from graphflow.tensor import Tensor, as_tensor


def linear(x: Any) -> Tensor:
    """x itself"""
    return as_tensor(x)


def exponential(x: Any) -> Tensor:
    """e^x"""
    return functions.exp(x)


def relu(
    x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Tensor:
    """x above the threshold, at most max_value; below it negative_slope · (x - threshold)."""
    x = as_tensor(x)
    if threshold == 0 and negative_slope == 0:
        result = nn.relu(x)
    else:
        below = (x - threshold) * negative_slope
        result = functions.where(x > threshold, x, below)
    return result if max_value is None else functions.minimum(result, max_value)


@composite
def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (e^(x / alpha) - 1)"""
    x = float_tensor("celu", x)
    # expm1 sees no large x, whose infinite slope would turn the unused side into NaN.
    low = functions.expm1(functions.where(x > 0, 0.0, x) / alpha)
    return functions.where(x > 0, x, alpha * low)


@composite
def glu(x: Any, axis: int = -1) -> Tensor:
    """a · sigmoid(b), with a and b the halves of x along an axis"""
    x = float_tensor("glu", x)
    size = x.shape[axis]
    if not isinstance(size, int) or size % 2:
        raise ShapeError(f"glu: axis {axis} of {x.shape} has no halves; expected an even size")
    a, b = (take(x, np.arange(size // 2) + half, axis) for half in (0, size // 2))
    return a * nn.sigmoid(b)


@composite
def mish(x: Any) -> Tensor:
    """x · tanh(softplus(x))"""
    x = float_tensor("mish", x)
    return x * nn.tanh(nn.softplus(x))


def hard_tanh(x: Any) -> Tensor:
    """min(max(x, -1), 1)"""
    return functions.clip(as_tensor(x), -1, 1)


def tanh_shrink(x: Any) -> Tensor:
    """x - tanh(x)"""
    return as_tensor(x) - nn.tanh(x)


def hard_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """x where |x| > threshold, else 0"""
    x = as_tensor(x)
    return functions.where(functions.abs(x) > threshold, x, 0.0)


def soft_shrink(x: Any, threshold: float = 0.5) -> Tensor:
    """x moved towards 0 by the threshold, 0 where that would pass 0"""
    x = as_tensor(x)
    return nn.relu(x - threshold) - nn.relu(-x - threshold)


def threshold(x: Any, threshold: float, default_value: float) -> Tensor:
    """x where x > threshold, else default_value"""
    x = as_tensor(x)
    return functions.where(x > threshold, x, default_value)


def squareplus(x: Any, b: float = 4) -> Tensor:
    """(x + √(x² + b)) / 2"""
    x = as_tensor(x)
    return (x + functions.sqrt(functions.square(x) + b)) * 0.5


def sparse_plus(x: Any) -> Tensor:
    """0 up to -1, (x + 1)² / 4 up to 1, x above"""
    x = as_tensor(x)
    curve = functions.square(hard_tanh(x) + 1) * 0.25
    return curve + nn.relu(x - 1)


def sparse_sigmoid(x: Any) -> Tensor:
    """(x + 1) / 2, within 0..1"""
    return functions.clip((as_tensor(x) + 1) * 0.5, 0, 1)


elu, gelu, hard_sigmoid, hard_silu = nn.elu, nn.gelu, nn.hard_sigmoid, nn.hard_swish
leaky_relu, log_sigmoid, log_softmax = nn.leaky_relu, nn.log_sigmoid, nn.log_softmax
relu6, selu, sigmoid, silu, softmax = nn.relu6, nn.selu, nn.sigmoid, nn.silu, nn.softmax
softplus, softsign, tanh = nn.softplus, nn.softsign, nn.tanh
swish, hard_swish = silu, hard_silu

_ALL = (
    celu, elu, exponential, gelu, glu, hard_shrink, hard_sigmoid, hard_tanh, leaky_relu, linear,
    log_sigmoid, log_softmax, mish, relu, relu6, selu, sigmoid, silu, soft_shrink, softmax,
    softplus, softsign, sparse_plus, sparse_sigmoid, squareplus, tanh, tanh_shrink, threshold,
)  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    **{function.__name__: function for function in _ALL},
    "hard_silu": hard_silu,
    "hard_swish": hard_silu,
    "swish": silu,
}

TABLE = Table("activation", type(None), _FUNCTIONS, {})


def get(identifier: Any) -> Callable[..., Tensor]:
    """The function of a name; None is linear, functions stay."""
    return linear if identifier is None else TABLE.get(identifier)


def serialize(activation: Callable[..., Tensor]) -> str:
    """The name of an activation.

    Raises:
        GraphError: it is a function of the caller's own; files hold no code.
    """
    for name, function in _FUNCTIONS.items():
        if function is activation:
            return name
    label = getattr(activation, "__name__", repr(activation))
    raise GraphError(
        f"save: the activation {label} is a function of your own, and files hold no code; use "
        f"one of {', '.join(_FUNCTIONS)}"
    )
