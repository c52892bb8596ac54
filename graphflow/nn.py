"""Functional blocks of networks: activations, losses, convolution, normalisation, attention."""

from __future__ import annotations

import math
from typing import Any

from graphflow import functions, linalg, random, statistics
from graphflow.activations import *
from graphflow.activations import float_tensor, softmax
from graphflow.compiler.op import describe
from graphflow.compiler.ops.blocks import as_dtype
from graphflow.compiler.spec import DEFAULT_FLOAT, is_equal, is_integer, shape_text
from graphflow.composite import composite
from graphflow.convolution import *
from graphflow.creation import arange
from graphflow.errors import DTypeError, GraphError, ShapeError, with_line
from graphflow.losses import *
from graphflow.losses import one_hot_mask
from graphflow.manipulation import checked_axes, checked_axis, expand_dims, reshape, take
from graphflow.tensor import Tensor, as_tensor, dtype_name


@composite
def one_hot(x: Any, num_classes: int, axis: int = -1, dtype: object = DEFAULT_FLOAT) -> Tensor:
    """1 at the position of each label along a new axis of `num_classes`, else 0.

    Raises:
        DTypeError: the labels are no integers.
        IndexError: when the function runs, a label lies outside 0..num_classes - 1.
    """
    labels = as_tensor(x, name="one_hot").node
    if not is_integer(labels.dtype):
        raise DTypeError(
            with_line(f"one_hot: {describe(labels)}; expected integer labels, use gf.astype")
        )
    place = checked_axis("one_hot", labels, axis, labels.ndim + 1)
    return Tensor(as_dtype(one_hot_mask(labels, num_classes, place).node, dtype_name(dtype)))


def embedding(indices: Any, table: Any) -> Tensor:
    """Rows of `table` (vocabulary, features) at integer indices: (..., features)."""
    return take(table, indices, axis=0)


# ---- normalisation ---------------------------------------------------------------------------


@composite
def moments(x: Any, axes: Any, keepdims: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and variance over the axes."""
    x = float_tensor("moments", x)
    return (
        statistics.mean(x, axes, keepdims=keepdims),
        statistics.var(x, axes, keepdims=keepdims),
    )


def _along(name: str, parameter: Any, x: Tensor, axis: int) -> Tensor:
    """A parameter (channels,) shaped to broadcast along one axis of x."""
    tensor = as_tensor(parameter, x.dtype if not isinstance(parameter, Tensor) else None, name)
    if tensor.ndim == 0:
        return tensor
    if tensor.ndim != 1 or not is_equal(tensor.shape[0], x.shape[axis], name):
        raise ShapeError(
            with_line(
                f"{name}: a parameter is {shape_text(tensor.shape)}; expected "
                f"({x.shape[axis]},) for axis {axis} of {shape_text(x.shape)}\n"
                f"  {describe(tensor.node)}; {describe(x.node)}"
            )
        )
    return reshape(tensor, [-1 if k == axis else 1 for k in range(x.ndim)])


@composite
def batch_norm(
    x: Any,
    mean: Any,
    variance: Any,
    scale: Any = None,
    offset: Any = None,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> Tensor:
    """scale · (x - mean) / √(variance + epsilon) + offset, per channel.

    Args:
        x: (..., channels) or with the channels at `axis`.
        mean, variance: (channels,); those of the batch (`moments`) or running ones.
        scale, offset: (channels,) or None.
    """
    x = float_tensor("batch_norm", x)
    place = checked_axis("batch_norm", x.node, axis)
    factor = functions.rsqrt(_along("batch_norm", variance, x, place) + epsilon)
    if scale is not None:
        factor = factor * _along("batch_norm", scale, x, place)
    result = (x - _along("batch_norm", mean, x, place)) * factor
    return result if offset is None else result + _along("batch_norm", offset, x, place)


@composite
def layer_norm(
    x: Any, scale: Any = None, offset: Any = None, axis: Any = -1, epsilon: float = 1e-5
) -> Tensor:
    """scale · (x - mean) / √(variance + epsilon) + offset, over the given axes of each sample.

    Args:
        scale, offset: of the shape of the normalised axes, or None.
    """
    x = float_tensor("layer_norm", x)
    axes = checked_axes("layer_norm", x.node, axis)
    centred = x - statistics.mean(x, axes, keepdims=True)
    spread = statistics.mean(functions.square(centred), axes, keepdims=True)
    return _scaled("layer_norm", centred * functions.rsqrt(spread + epsilon), scale, offset, axes)


@composite
def rms_norm(x: Any, scale: Any = None, axis: Any = -1, epsilon: float = 1e-6) -> Tensor:
    """scale · x / √(mean x² + epsilon), over the given axes of each sample."""
    x = float_tensor("rms_norm", x)
    axes = checked_axes("rms_norm", x.node, axis)
    power = statistics.mean(functions.square(x), axes, keepdims=True)
    return _scaled("rms_norm", x * functions.rsqrt(power + epsilon), scale, None, axes)


def _scaled(name: str, x: Tensor, scale: Any, offset: Any, axes: tuple[int, ...]) -> Tensor:
    """x · scale + offset, for parameters of the shape of `axes`."""
    shape = [x.shape[k] if k in axes else 1 for k in range(x.ndim)]
    wanted = tuple(x.shape[k] for k in axes)
    for parameter, combine in ((scale, functions.multiply), (offset, functions.add)):
        if parameter is None:
            continue
        tensor = as_tensor(parameter, name=name)
        if tensor.shape not in (wanted, ()):
            raise ShapeError(
                with_line(
                    f"{name}: a parameter is {shape_text(tensor.shape)}; expected "
                    f"{shape_text(wanted)}\n  {describe(tensor.node)}; {describe(x.node)}"
                )
            )
        x = combine(x, reshape(tensor, shape) if tensor.ndim else tensor)
    return x


# ---- dropout ---------------------------------------------------------------------------------


@composite
def dropout(
    x: Any,
    rate: float,
    training: Any = True,
    noise_shape: Any = None,
    generator: random.Generator | None = None,
) -> Tensor:
    """x / (1 - rate) where a coin says so, else 0: the mean stays. x itself if not training.

    Args:
        rate: probability of 0, in 0..1.
        training: a bool, or a bool scalar tensor that decides when the function runs.
        noise_shape: shape of the coins, which broadcasts to that of x; (batch, 1, channels) drops
            whole sequences. By default each element has its own.

    Raises:
        GraphError: the rate lies outside 0..1, or `training` is no bool scalar.
    """
    x = float_tensor("dropout", x)
    if not 0 <= rate <= 1:
        raise GraphError(with_line(f"dropout: the rate is {rate}; expected 0..1"))
    if isinstance(training, Tensor):
        if training.dtype != "bool" or training.ndim:
            raise GraphError(
                with_line(f"dropout: training is {describe(training.node)}; expected a bool scalar")
            )
        dropped = dropout(x, rate, True, noise_shape, generator)
        return functions.where(training, dropped, x)
    if not training or rate == 0:
        return x
    if rate == 1:
        return x * 0.0
    coins = x.shape if noise_shape is None else noise_shape
    kept = random.bernoulli(coins, 1 - rate, generator=generator)
    result = functions.where(kept, x * (1 / (1 - rate)), 0.0)
    if result.shape != x.shape:
        raise ShapeError(
            with_line(
                f"dropout: noise_shape {shape_text(kept.shape)} does not broadcast to "
                f"{shape_text(x.shape)}\n  {describe(x.node)}"
            )
        )
    return result


# ---- attention -------------------------------------------------------------------------------


@composite
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale · query keyᵀ + bias) value

    Args:
        query: (..., targets, features)
        key: (..., sources, features)
        value: (..., sources, channels)
        mask: broadcasts to (..., targets, sources); bool (True: look there) or a float bias. A
            target that may look nowhere gets the mean of all values.
        is_causal: target i looks at sources 0..i only.
        scale: 1/√features by default.

    Returns:
        (..., targets, channels)
    """
    name = "scaled_dot_product_attention"
    q, k, v = (float_tensor(name, x) for x in (query, key, value))
    if scale is None:
        if not isinstance(q.shape[-1], int):
            raise ShapeError(with_line(f"{name}: the number of features must be an int"))
        scale = 1 / math.sqrt(q.shape[-1])
    scores = linalg.matmul(q * scale, linalg.matrix_transpose(k))
    # Finite, so that a row without any allowed source does not become NaN.
    lowest = -1e30
    if is_causal:
        targets, sources = scores.shape[-2:]
        allowed = expand_dims(arange(targets), 1) >= expand_dims(arange(sources), 0)
        scores = functions.where(allowed, scores, lowest)
    if mask is not None:
        bias = as_tensor(mask, name=name)
        scores = functions.where(bias, scores, lowest) if bias.dtype == "bool" else scores + bias
    return linalg.matmul(softmax(scores), v)
