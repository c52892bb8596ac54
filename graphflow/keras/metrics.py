"""Metrics: running sums kept in variables that the training graph itself updates.

Every metric here is a function of sums over batches, so one batch adds increments to its state,
and `result` is computed from the state alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow import functions, nn, statistics
from graphflow.compiler.dims import product
from graphflow.compiler.spec import is_integer
from graphflow.creation import ones_like, size_value
from graphflow.errors import GraphError
from graphflow.keras import losses
from graphflow.keras.naming import snake_case
from graphflow.keras.serialization import Table
from graphflow.manipulation import reshape
from graphflow.tensor import Tensor, as_tensor
from graphflow.variable import Variable, variable

#: sums over an epoch: float32 would lose digits after some million samples
STATE_DTYPE = "float64"


class Metric:
    """Base of the metrics.

    A subclass defines `increments(y_true, y_pred, sample_weight)`, one scalar per state, and
    `result()`.

    Args:
        name: key in logs.
    """

    #: names of the sums
    states: tuple[str, ...] = ("total", "count")
    fields: tuple[str, ...] = ()

    def __init__(self, name: str | None = None, dtype: str | None = None):
        self.name = name or snake_case(type(self).__name__)
        self.variables: list[Variable] = [
            variable(np.zeros((), STATE_DTYPE), name=f"{self.name}/{state}", trainable=False)
            for state in self.states
        ]

    def increments(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Tensor]:
        """What a batch adds to each state."""
        raise NotImplementedError(
            f"{type(self).__name__} must define increments(self, y_true, y_pred, sample_weight)"
        )

    def result(self) -> float:
        """The metric over all batches since `reset_state`."""
        raise NotImplementedError(f"{type(self).__name__} must define result(self)")

    def updates(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> list[tuple[Variable, Tensor]]:
        """(state, new value) pairs for the graph of a training or test step."""
        parts = self.increments(y_true, y_pred, sample_weight)
        return [
            (state, state + functions.astype(part, STATE_DTYPE))
            for state, part in zip(self.variables, parts, strict=True)
        ]

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of arrays at once."""
        parts = self.increments(np.asarray(y_true), np.asarray(y_pred), sample_weight)
        for state, part in zip(self.variables, parts, strict=True):
            state.value = state.value + float(part)

    def reset_state(self) -> None:
        """Forget all batches."""
        for state in self.variables:
            state.value = np.zeros_like(state.value)

    def values(self) -> list[float]:
        """The present sums."""
        return [float(state.value) for state in self.variables]

    def __call__(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> float:
        self.update_state(y_true, y_pred, sample_weight)
        return self.result()

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {"name": self.name, **{name: getattr(self, name) for name in self.fields}}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Metric:
        """The object that `get_config` describes."""
        return cls(**config)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else 0.0


def _weighted_sum(values: Tensor, sample_weight: Any) -> list[Tensor]:
    """[Σ weight · value, Σ weight], with weights of 1 where there are none."""
    values = functions.astype(values, "float32") if is_integer(values.dtype) else values
    if sample_weight is None:
        count = Tensor(size_value(product(values.shape), values.dtype))
        return [statistics.sum(values), count]
    ones = ones_like(values)
    return [statistics.sum(losses.weighted(part, sample_weight)) for part in (values, ones)]


class Mean(Metric):
    """The mean of the values that `update_state` is given."""

    def increments(
        self, y_true: Any, y_pred: Any = None, sample_weight: Any = None
    ) -> list[Tensor]:
        return _weighted_sum(as_tensor(y_true), sample_weight)

    def update_state(self, y_true: Any, y_pred: Any = None, sample_weight: Any = None) -> None:
        values = np.asarray(y_true, "float64")
        for state, part in zip(
            self.variables, self.increments(values, None, sample_weight), strict=True
        ):
            state.value = state.value + float(part)

    def result(self) -> float:
        return _ratio(*self.values())


class MeanMetric(Metric):
    """The mean over all samples of a function of (y_true, y_pred).

    Args:
        function: values per sample; a subclass defines `per_sample` instead.
    """

    #: what targets look like, see `Loss.target`
    target = "any"

    def __init__(self, function: Callable[..., Any] | None = None, name: str | None = None):
        super().__init__(name or getattr(function, "__name__", None))
        self._function = function

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        if self._function is None:
            raise NotImplementedError(f"{type(self).__name__} must define per_sample")
        return as_tensor(self._function(y_true, y_pred))

    def increments(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Tensor]:
        values = self.per_sample(y_true, y_pred)
        if values.dtype == "bool":
            values = functions.astype(values, "float32")
        return _weighted_sum(values, sample_weight)

    def result(self) -> float:
        return _ratio(*self.values())

    def get_config(self) -> dict[str, Any]:
        if self._function is not None:
            raise GraphError(
                f"save: the metric {self.name} is a function of your own, and files hold no code"
            )
        return super().get_config()


class _Builtin(MeanMetric):
    """A mean metric whose function is its class."""

    def __init__(self, name: str | None = None, dtype: str | None = None):
        super().__init__(None, name)


# ---- accuracies ------------------------------------------------------------------------------


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """Whether (y_pred > threshold) = y_true, mean over the last axis"""
    output = as_tensor(y_pred)
    positive = functions.astype(output > threshold, output.dtype)
    hits = functions.astype(as_tensor(y_true), output.dtype) == positive
    return statistics.mean(functions.astype(hits, output.dtype), -1)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Whether the largest output stands where the largest target does"""
    hits = statistics.argmax(as_tensor(y_true), -1) == statistics.argmax(as_tensor(y_pred), -1)
    return functions.astype(hits, "float32")


def _labels(y_true: Any, y_pred: Tensor) -> Tensor:
    """int64 labels without an axis of classes."""
    labels = as_tensor(y_true)
    if labels.ndim == y_pred.ndim and labels.shape[-1] == 1:
        labels = reshape(labels, labels.shape[:-1])
    return labels if labels.dtype == "int64" else functions.astype(labels, "int64")


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Whether the largest output stands at the label"""
    output = as_tensor(y_pred)
    hits = _labels(y_true, output) == statistics.argmax(output, -1)
    return functions.astype(hits, "float32")


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """Whether fewer than k outputs are larger than that of the label"""
    output = as_tensor(y_pred)
    classes: Any = output.shape[-1]
    hit = nn.one_hot(_labels(y_true, output), classes, dtype="bool")
    own = statistics.sum(functions.where(hit, output, 0.0), -1, keepdims=True)
    better = statistics.sum(functions.astype(output > own, "int64"), -1)
    return functions.astype(better < k, "float32")


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Tensor:
    """Whether fewer than k outputs are larger than that of the largest target"""
    labels = statistics.argmax(as_tensor(y_true), -1)
    return sparse_top_k_categorical_accuracy(labels, y_pred, k)


class BinaryAccuracy(MeanMetric):
    """How often (y_pred > threshold) is the target."""

    target = "output"
    fields = ("threshold",)

    def __init__(self, name: str | None = None, dtype: str | None = None, threshold: float = 0.5):
        super().__init__(None, name)
        self.threshold = threshold

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return binary_accuracy(y_true, y_pred, self.threshold)


class CategoricalAccuracy(_Builtin):
    """How often the largest output is the class of a one-hot target."""

    target = "output"

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return categorical_accuracy(y_true, y_pred)


class SparseCategoricalAccuracy(_Builtin):
    """How often the largest output is the label."""

    target = "labels"

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return sparse_categorical_accuracy(y_true, y_pred)


class Accuracy(_Builtin):
    """How often output and target are equal."""

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return functions.astype(as_tensor(y_true) == as_tensor(y_pred), "float32")


class _TopK(MeanMetric):
    fields = ("k",)

    def __init__(self, k: int = 5, name: str | None = None, dtype: str | None = None):
        super().__init__(None, name)
        self.k = k


class TopKCategoricalAccuracy(_TopK):
    """How often the class of a one-hot target is among the k largest outputs."""

    target = "output"

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return top_k_categorical_accuracy(y_true, y_pred, self.k)


class SparseTopKCategoricalAccuracy(_TopK):
    """How often the label is among the k largest outputs."""

    target = "labels"

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return sparse_top_k_categorical_accuracy(y_true, y_pred, self.k)


# ---- errors ----------------------------------------------------------------------------------


class MeanSquaredError(_Builtin):
    """mean (y_pred - y_true)²"""

    target = "output"

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return losses.mean_squared_error(y_true, y_pred)


class RootMeanSquaredError(MeanSquaredError):
    """√ mean (y_pred - y_true)²"""

    def result(self) -> float:
        return math.sqrt(_ratio(*self.values()))


class MeanAbsoluteError(_Builtin):
    """mean |y_pred - y_true|"""

    target = "output"

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return losses.mean_absolute_error(y_true, y_pred)


class _LossMetric(_Builtin):
    """The mean of a loss function with its default options."""

    rule: Callable[..., Tensor]

    def per_sample(self, y_true: Any, y_pred: Any) -> Tensor:
        return type(self).rule(y_true, y_pred)


class BinaryCrossentropy(_LossMetric):
    """The mean binary cross-entropy."""

    target = "output"
    rule = staticmethod(losses.binary_crossentropy)


class CategoricalCrossentropy(_LossMetric):
    """The mean cross-entropy of one-hot targets."""

    target = "output"
    rule = staticmethod(losses.categorical_crossentropy)


class SparseCategoricalCrossentropy(_LossMetric):
    """The mean cross-entropy of labels."""

    target = "labels"
    rule = staticmethod(losses.sparse_categorical_crossentropy)


class KLDivergence(_LossMetric):
    """The mean Kullback-Leibler divergence."""

    target = "output"
    rule = staticmethod(losses.kl_divergence)


class _Detection(Metric):
    """What precision and recall share: counts of true and false predictions."""

    states = ("hits", "others")
    fields = ("threshold",)
    target = "output"

    def __init__(self, name: str | None = None, dtype: str | None = None, threshold: float = 0.5):
        super().__init__(name)
        self.threshold = threshold

    def _counts(self, positive: Tensor, wrong: Tensor, sample_weight: Any) -> list[Tensor]:
        parts = (functions.astype(part, "float32") for part in (positive, wrong))
        return [statistics.sum(losses.weighted(part, sample_weight)) for part in parts]

    def result(self) -> float:
        hits, others = self.values()
        return _ratio(hits, hits + others)


class Precision(_Detection):
    """The share of positive predictions that are right."""

    def increments(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Tensor]:
        said, is_so = as_tensor(y_pred) > self.threshold, as_tensor(y_true) > 0.5
        return self._counts(said & is_so, said & ~is_so, sample_weight)


class Recall(_Detection):
    """The share of positive samples that are found."""

    def increments(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> list[Tensor]:
        said, is_so = as_tensor(y_pred) > self.threshold, as_tensor(y_true) > 0.5
        return self._counts(said & is_so, ~said & is_so, sample_weight)


_CLASSES = (
    Accuracy, BinaryAccuracy, BinaryCrossentropy, CategoricalAccuracy, CategoricalCrossentropy,
    KLDivergence, Mean, MeanAbsoluteError, MeanSquaredError, Precision, Recall,
    RootMeanSquaredError, SparseCategoricalAccuracy, SparseCategoricalCrossentropy,
    SparseTopKCategoricalAccuracy, TopKCategoricalAccuracy,
)  # fmt: skip
TABLE = Table(
    "metric",
    Metric,
    {cls.__name__: cls for cls in _CLASSES},
    {
        **{snake_case(cls.__name__): cls for cls in _CLASSES if cls not in (Accuracy, Mean)},
        "mse": MeanSquaredError, "MSE": MeanSquaredError, "rmse": RootMeanSquaredError,
        "mae": MeanAbsoluteError, "MAE": MeanAbsoluteError, "bce": BinaryCrossentropy,
    },
)  # fmt: skip

_ACCURACY_BY_LOSS = {
    losses.SparseCategoricalCrossentropy: SparseCategoricalAccuracy,
    losses.CategoricalCrossentropy: CategoricalAccuracy,
    losses.BinaryCrossentropy: BinaryAccuracy,
}


def accuracy_for(loss: Any, target_shape: tuple[Any, ...], output_shape: tuple[Any, ...]) -> Metric:
    """The accuracy that "accuracy" means for a loss, targets and outputs."""
    if output_shape[-1] == 1:
        return BinaryAccuracy("accuracy")
    for cls, metric in _ACCURACY_BY_LOSS.items():
        if isinstance(loss, cls):
            return metric("accuracy")
    sparse = len(target_shape) < len(output_shape) or target_shape[-1] == 1
    return SparseCategoricalAccuracy("accuracy") if sparse else CategoricalAccuracy("accuracy")


def get(identifier: Any) -> Metric:
    """A metric from a name, an object, a config, or a function of (y_true, y_pred)."""
    found = TABLE.get(identifier)
    return found if isinstance(found, Metric) else MeanMetric(found)
