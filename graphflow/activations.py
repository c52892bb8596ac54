"""Activation functions: stable formulas over primitive ops, with the right slope at corners."""

from __future__ import annotations

import math
from typing import Any

from graphflow import functions, statistics
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import as_dtype, full, restore_axes
from graphflow.compiler.spec import DEFAULT_FLOAT, is_float, is_integer
from graphflow.composite import composite
from graphflow.errors import DTypeError, GraphError, with_line
from graphflow.manipulation import checked_axes
from graphflow.statistics import logsumexp
from graphflow.tensor import Tensor, as_tensor

__all__ = [
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "log_sigmoid",
    "log_softmax",
    "logsumexp",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "tanh",
]

Axes = int | tuple[int, ...]


def float_tensor(name: str, x: Any) -> Tensor:
    """A float tensor; Python ints become float32, int tensors are refused."""
    tensor = as_tensor(x, name=name)
    if is_float(tensor.dtype):
        return tensor
    if not isinstance(x, Tensor) and is_integer(tensor.dtype):
        return Tensor(as_dtype(tensor.node, DEFAULT_FLOAT))
    raise DTypeError(
        with_line(
            f"{name}: {describe(tensor.node)}; expected a float dtype, use gf.astype(x, 'float32')"
        )
    )


def relu(x: Any) -> Tensor:
    """max(x, 0); the slope at 0 is 0."""
    return Tensor(ops.relu(as_tensor(x, name="relu").node))


@composite
def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6)"""
    return functions.clip(as_tensor(x, name="relu6"), 0, 6)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + e⁻ˣ)"""
    return Tensor(ops.sigmoid(float_tensor("sigmoid", x).node))


def tanh(x: Any) -> Tensor:
    """(eˣ - e⁻ˣ) / (eˣ + e⁻ˣ)"""
    return Tensor(ops.tanh(float_tensor("tanh", x).node))


@composite
def silu(x: Any) -> Tensor:
    """x · sigmoid(x), also called swish"""
    x = float_tensor("silu", x)
    return x * sigmoid(x)


@composite
def gelu(x: Any, approximate: bool = False) -> Tensor:
    """x · Φ(x), Φ the normal distribution function.

    Args:
        approximate: x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) instead of the error function.
    """
    x = float_tensor("gelu", x)
    if approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
        return 0.5 * x * (1 + functions.tanh(inner))
    return 0.5 * x * (1 + functions.erf(x * math.sqrt(0.5)))


@composite
def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (eˣ - 1)"""
    x = float_tensor("elu", x)
    # expm1 sees no large x, whose infinite slope would turn the unused side into NaN.
    low = functions.expm1(functions.where(x > 0, 0.0, x))
    return functions.where(x > 0, x, alpha * low)


@composite
def selu(x: Any) -> Tensor:
    """1.0507 · elu(x, 1.6733), which keeps mean 0 and variance 1 (Klambauer et al., 2017)"""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@composite
def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """x where x >= 0, else negative_slope · x"""
    x = float_tensor("leaky_relu", x)
    return functions.where(x >= 0, x, negative_slope * x)


@composite
def softplus(x: Any) -> Tensor:
    """log(1 + eˣ), without overflow; all derivatives are right at 0 too"""
    x = float_tensor("softplus", x)
    # max(x, 0) and -|x|, written as choices: their slopes at 0 are those of one side, so that the
    # two parts add up to the slope of the whole.
    positive = x > 0
    return functions.where(positive, x, 0.0) + functions.log1p(
        functions.exp(functions.where(positive, -x, x))
    )


@composite
def log_sigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)), without overflow"""
    return -softplus(-float_tensor("log_sigmoid", x))


@composite
def softsign(x: Any) -> Tensor:
    """x / (1 + |x|)"""
    x = float_tensor("softsign", x)
    return x / (1 + functions.abs(x))


@composite
def hard_sigmoid(x: Any) -> Tensor:
    """min(max(x + 3, 0), 6) / 6, a piecewise linear sigmoid"""
    x = float_tensor("hard_sigmoid", x)
    return functions.clip(x + 3, 0, 6) * (1 / 6)


@composite
def hard_swish(x: Any) -> Tensor:
    """x · hard_sigmoid(x)"""
    x = float_tensor("hard_swish", x)
    return x * hard_sigmoid(x)


def _shifted(name: str, x: Any, axis: Axes) -> tuple[Tensor, tuple[int, ...]]:
    """x minus its largest element along the axes: exponentials of it cannot overflow."""
    node = float_tensor(name, x).node
    axes = checked_axes(name, node, axis)
    if not axes:
        raise GraphError(with_line(f"{name}: {describe(node)}; expected an axis to normalise over"))
    # The shift cancels in the result, so no gradient needs to flow through it.
    peak = ops.stop_gradient(ops.max(node, axes=axes))
    return Tensor(node - restore_axes(peak, axes)), axes


@composite
def softmax(x: Any, axis: Axes = -1) -> Tensor:
    """eˣ / Σ eˣ along an axis"""
    shifted, axes = _shifted("softmax", x, axis)
    weights = functions.exp(shifted)
    # One division for each sum: for each element it would cost as much as the exponential.
    return weights * (1.0 / statistics.sum(weights, axes, keepdims=True))


@composite
def log_softmax(x: Any, axis: Axes = -1) -> Tensor:
    """x - log Σ eˣ along an axis, exact where the softmax is near 0"""
    shifted, axes = _shifted("log_softmax", x, axis)
    total = statistics.sum(functions.exp(shifted), axes, keepdims=True)
    return shifted - functions.log(total)


def logits_of(probabilities: Tensor, axis: int) -> Tensor | None:
    """The z of probabilities that were made as softmax(z) along `axis`, or None.

    Recognised by form, e / Σ e or e · (1 / Σ e) with e = exp z, so it also finds a softmax written
    by hand.
    """
    node = probabilities.node
    if node.op.name not in ("divide", "multiply"):
        return None
    weights, total = node.inputs
    if node.op.name == "multiply":
        if total.op.name != "divide" or total.inputs[0].attrs.get("value") != 1:
            return None
        total = total.inputs[1]
    while total.op.name in ("reshape", "broadcast_to"):
        total = total.inputs[0]
    axes = (axis % node.ndim,)
    summed = total.op.name == "sum" and total.inputs[0] is weights and total.attrs["axes"] == axes
    return Tensor(weights.inputs[0]) if summed and weights.op.name == "exp" else None


def logit_of(probability: Tensor) -> Tensor | None:
    """The z of a probability that was made as sigmoid(z), or None."""
    node = probability.node
    return Tensor(node.inputs[0]) if node.op.name == "sigmoid" else None


def zero(dtype: str) -> Tensor:
    """A scalar 0."""
    return Tensor(full((), 0, dtype))
