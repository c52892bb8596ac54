"""Activations by name, as layers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow import functions, nn
from graphflow.errors import GraphError
from graphflow.keras.serialization import Table
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


elu, gelu, hard_sigmoid, leaky_relu = nn.elu, nn.gelu, nn.hard_sigmoid, nn.leaky_relu
log_softmax, relu6, selu, sigmoid = nn.log_softmax, nn.relu6, nn.selu, nn.sigmoid
silu, softmax, softplus, softsign, tanh = nn.silu, nn.softmax, nn.softplus, nn.softsign, nn.tanh

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "elu": elu, "exponential": exponential, "gelu": gelu, "hard_sigmoid": hard_sigmoid,
    "leaky_relu": leaky_relu, "linear": linear, "log_softmax": log_softmax, "relu": relu,
    "relu6": relu6, "selu": selu, "sigmoid": sigmoid, "silu": silu, "softmax": softmax,
    "softplus": softplus, "softsign": softsign, "swish": silu, "tanh": tanh,
}  # fmt: skip

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
