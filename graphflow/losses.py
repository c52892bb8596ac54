"""Loss functions, one value per sample: the last axis is reduced, `gf.mean` does the rest.

Targets come first, as in Keras. Cross-entropies of probabilities recognise a softmax or sigmoid
in front of them and compute from its logits, which is exact where a probability rounds to 0 or 1;
other probabilities are clipped to 1e-7..1 - 1e-7 as in Keras.
"""

from __future__ import annotations

from typing import Any

from graphflow import functions, statistics
from graphflow.activations import float_tensor, log_softmax, logit_of, logits_of, softplus, zero
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import as_dtype
from graphflow.compiler.spec import is_equal, is_integer, shape_text
from graphflow.composite import composite
from graphflow.creation import iota
from graphflow.errors import DTypeError, ShapeError, with_line
from graphflow.manipulation import checked_axis, expand_dims
from graphflow.tensor import Tensor, as_tensor

__all__ = [
    "binary_cross_entropy",
    "categorical_cross_entropy",
    "hinge",
    "huber",
    "kl_divergence",
    "mae",
    "mse",
    "sparse_categorical_cross_entropy",
]

#: as in Keras: probabilities are kept this far from 0 and 1
EPSILON = 1e-7


def _pair(
    name: str, target: Any, output: Any, remedy: str = "use gf.reshape"
) -> tuple[Tensor, Tensor]:
    """Target and output in the output's dtype and of one shape.

    A silent broadcast of (batch,) against (batch, 1) is the most common wrong loss, so it is
    refused.
    """
    prediction = float_tensor(name, output)
    truth = as_tensor(target, name=name)
    same = truth.ndim == prediction.ndim and all(
        is_equal(a, b, name) for a, b in zip(truth.shape, prediction.shape, strict=True)
    )
    if not same:
        raise ShapeError(
            with_line(
                f"{name}: the target is {shape_text(truth.shape)}, the output "
                f"{shape_text(prediction.shape)}; expected one shape, {remedy}\n"
                f"  {describe(truth.node)}; {describe(prediction.node)}"
            )
        )
    return Tensor(as_dtype(truth.node, prediction.dtype)), prediction


def _per_sample(values: Tensor) -> Tensor:
    """The mean over the last axis."""
    return statistics.mean(values, -1) if values.ndim else values


@composite
def mse(target: Any, output: Any) -> Tensor:
    """Mean squared error, mean (output - target)² over the last axis."""
    truth, prediction = _pair("mse", target, output)
    return _per_sample(functions.square(prediction - truth))


@composite
def mae(target: Any, output: Any) -> Tensor:
    """Mean absolute error, mean |output - target| over the last axis."""
    truth, prediction = _pair("mae", target, output)
    return _per_sample(functions.abs(prediction - truth))


@composite
def huber(target: Any, output: Any, delta: float = 1.0) -> Tensor:
    """mean of e²/2 where |e| <= delta, else delta (|e| - delta/2), with e = output - target."""
    truth, prediction = _pair("huber", target, output)
    error = prediction - truth
    size = functions.abs(error)
    small, large = 0.5 * error * error, delta * (size - 0.5 * delta)
    return _per_sample(functions.where(size <= delta, small, large))


@composite
def hinge(target: Any, output: Any) -> Tensor:
    """mean max(1 - target · output, 0); targets are -1 or 1, and 0 counts as -1."""
    truth, prediction = _pair("hinge", target, output)
    signs = functions.where(truth == 0, -1.0, truth)
    return _per_sample(Tensor(ops.relu((1 - signs * prediction).node)))


def _clipped(probability: Tensor) -> Tensor:
    return functions.clip(probability, EPSILON, 1 - EPSILON)


@composite
def kl_divergence(target: Any, output: Any) -> Tensor:
    """Σ target · log(target / output) over the last axis, of clipped probabilities."""
    truth, prediction = _pair("kl_divergence", target, output)
    truth, prediction = (functions.clip(p, EPSILON, 1) for p in (truth, prediction))
    return statistics.sum(truth * functions.log(truth / prediction), -1)


@composite
def binary_cross_entropy(target: Any, output: Any, from_logits: bool = False) -> Tensor:
    """-target · log p - (1 - target) · log(1 - p), mean over the last axis.

    Args:
        target: 0 to 1, of the shape of the output.
        output: probabilities, or logits z with p = sigmoid(z).
        from_logits: whether the output is logits.
    """
    truth, prediction = _pair("binary_cross_entropy", target, output)
    logits = prediction if from_logits else logit_of(prediction)
    if logits is not None:
        return _per_sample(softplus(logits) - logits * truth)
    p = _clipped(prediction)
    log_p, log_rest = functions.log(p), functions.log(1 - p)
    return _per_sample(-(truth * log_p + (1 - truth) * log_rest))


def _log_probabilities(output: Tensor, from_logits: bool, axis: int) -> Tensor:
    logits = output if from_logits else logits_of(output, axis)
    if logits is not None:
        return log_softmax(logits, axis)
    # Keras normalises, so that scores that do not add up to 1 are read as proportions.
    total = statistics.sum(output, axis, keepdims=True)
    return functions.log(_clipped(output / total))


@composite
def categorical_cross_entropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """-Σ target · log p along the axis of classes.

    Args:
        target: (..., classes), one-hot or probabilities.
        output: (..., classes), probabilities, or logits z with p = softmax(z).
        from_logits: whether the output is logits.
        axis: the axis of classes.

    Raises:
        ShapeError: the shapes differ; for integer labels use sparse_categorical_cross_entropy.
    """
    name = "categorical_cross_entropy"
    remedy = "integer labels go to sparse_categorical_cross_entropy"
    truth, prediction = _pair(name, target, output, remedy)
    place = checked_axis(name, prediction.node, axis)
    return -statistics.sum(truth * _log_probabilities(prediction, from_logits, place), place)


@composite
def sparse_categorical_cross_entropy(
    target: Any, output: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """-log p[target] along the axis of classes.

    Args:
        target: integer labels, the shape of the output without its axis of classes (or with 1
            there). A label outside 0..classes - 1 raises IndexError when the function runs.
        output: (..., classes), probabilities, or logits z with p = softmax(z).
        from_logits: whether the output is logits.
        axis: the axis of classes.

    Raises:
        DTypeError: the labels are no integers.
        ShapeError: the labels' shape does not fit.
    """
    name = "sparse_categorical_cross_entropy"
    prediction = float_tensor(name, output)
    place = checked_axis(name, prediction.node, axis)
    labels = _labels(name, as_tensor(target, name=name).node, prediction.node, place)
    hit = one_hot_mask(labels, prediction.shape[place], place)
    log_p = _log_probabilities(prediction, from_logits, place)
    chosen = functions.where(hit, log_p, zero(log_p.dtype))
    return -statistics.sum(chosen, place)


def _labels(name: str, labels: Node, output: Node, axis: int) -> Node:
    """Labels checked for dtype and shape, without an axis of classes."""
    if not is_integer(labels.dtype):
        raise DTypeError(
            with_line(
                f"{name}: the labels are {describe(labels)}; expected an integer dtype. One-hot "
                "targets go to categorical_cross_entropy"
            )
        )
    if labels.ndim == output.ndim and labels.shape[axis] == 1:
        shape = (*labels.shape[:axis], *labels.shape[axis + 1 :])
        labels = ops.reshape(labels, shape=shape)
    expected = (*output.shape[:axis], *output.shape[axis + 1 :])
    fits = labels.ndim == len(expected) and all(
        is_equal(a, b, name) for a, b in zip(labels.shape, expected, strict=True)
    )
    if not fits:
        raise ShapeError(
            with_line(
                f"{name}: the labels are {shape_text(labels.shape)}; expected "
                f"{shape_text(expected)} for an output {shape_text(output.shape)}\n"
                f"  {describe(labels)}; {describe(output)}"
            )
        )
    return labels


def one_hot_mask(labels: Node, classes: Any, axis: int) -> Tensor:
    """True where the position along a new axis of `classes` is the label; labels are checked."""
    checked = expand_dims(ops.check_range(labels, bound=classes), axis).node
    shape = [1] * checked.ndim
    shape[axis] = classes
    positions = iota(tuple(shape), axis, labels.dtype)
    return Tensor(ops.equal(checked, positions))
