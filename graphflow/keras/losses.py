"""Losses: targets and outputs into one value per sample, and those into one number.

Functions return values per sample; objects return the scalar that training minimises. All are
graph functions: of tensors they build a graph, of arrays a constant that `float` evaluates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphflow import functions, nn, statistics
from graphflow.compiler.dims import product
from graphflow.creation import size_value
from graphflow.errors import GraphError
from graphflow.keras.serialization import Table
from graphflow.manipulation import reshape
from graphflow.tensor import Tensor, as_tensor

REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "none", None)


def _smoothed(y_true: Any, y_pred: Any, amount: float, floor: float) -> tuple[Tensor, Tensor]:
    """(1 - amount) y_true + amount · floor, in the dtype of the output."""
    output = as_tensor(y_pred)
    truth = functions.astype(as_tensor(y_true), output.dtype)
    return (truth * (1 - amount) + amount * floor if amount else truth), output


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean (y_pred - y_true)² over the last axis"""
    return nn.mse(y_true, y_pred)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """mean |y_pred - y_true| over the last axis"""
    return nn.mae(y_true, y_pred)


def mean_absolute_percentage_error(y_true: Any, y_pred: Any) -> Tensor:
    """100 · mean |y_true - y_pred| / max(|y_true|, 1e-7) over the last axis"""
    truth, output = _smoothed(y_true, y_pred, 0, 0)
    size = functions.maximum(functions.abs(truth), 1e-7)
    return 100.0 * statistics.mean(functions.abs(truth - output) / size, -1)


def huber(y_true: Any, y_pred: Any, delta: float = 1.0) -> Tensor:
    """mean of e²/2 where |e| <= delta, else delta (|e| - delta/2), over the last axis"""
    return nn.huber(y_true, y_pred, delta)


def hinge(y_true: Any, y_pred: Any) -> Tensor:
    """mean max(1 - y_true · y_pred, 0) over the last axis; targets -1 or 1, or 0 or 1"""
    return nn.hinge(y_true, y_pred)


def kl_divergence(y_true: Any, y_pred: Any) -> Tensor:
    """Σ y_true · log(y_true / y_pred) over the last axis"""
    return nn.kl_divergence(y_true, y_pred)


def binary_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, label_smoothing: float = 0.0
) -> Tensor:
    """-y_true · log p - (1 - y_true) · log(1 - p), mean over the last axis.

    Args:
        from_logits: whether y_pred is z with p = sigmoid(z), and not p.
        label_smoothing: targets are moved towards 1/2 by this share.
    """
    truth, output = _smoothed(y_true, y_pred, label_smoothing, 0.5)
    return nn.binary_cross_entropy(truth, output, from_logits)


def categorical_crossentropy(
    y_true: Any,
    y_pred: Any,
    from_logits: bool = False,
    label_smoothing: float = 0.0,
    axis: int = -1,
) -> Tensor:
    """-Σ y_true · log p along the axis of classes.

    Args:
        y_true: one-hot rows, or probabilities.
        from_logits: whether y_pred is z with p = softmax(z), and not p.
        label_smoothing: targets are moved towards 1 / classes by this share.
    """
    classes: Any = as_tensor(y_pred).shape[axis]
    floor = 1 / classes if label_smoothing else 0.0
    truth, output = _smoothed(y_true, y_pred, label_smoothing, floor)
    return nn.categorical_cross_entropy(truth, output, from_logits, axis)


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False, axis: int = -1
) -> Tensor:
    """-log p[y_true] along the axis of classes.

    Args:
        y_true: integer labels.
        from_logits: whether y_pred is z with p = softmax(z), and not p.
    """
    return nn.sparse_categorical_cross_entropy(y_true, y_pred, from_logits, axis)


mse = mean_squared_error
mae = mean_absolute_error
mape = mean_absolute_percentage_error


class Loss:
    """Base of the losses; a subclass defines `call(y_true, y_pred) -> values per sample`.

    Args:
        name: for messages.
        reduction: "sum_over_batch_size" (or "mean"), "sum" or "none".

    Attributes:
        target: what targets look like: "labels", "output" (as the output does) or "any".
    """

    target = "any"
    fields: tuple[str, ...] = ()

    def __init__(self, name: str | None = None, reduction: str | None = "sum_over_batch_size"):
        if reduction not in REDUCTIONS:
            raise GraphError(
                f"{type(self).__name__}: reduction {reduction!r} is unknown; expected "
                "'sum_over_batch_size', 'sum' or 'none'"
            )
        self.name = name or type(self).__name__
        self.reduction = reduction

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define call(self, y_true, y_pred)")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Tensor:
        """The loss of a batch; with weights (batch,), each value counts that many times."""
        return reduced(self.call(y_true, y_pred), sample_weight, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        own = {name: getattr(self, name) for name in self.fields}
        return {"name": self.name, "reduction": self.reduction, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Loss:
        """The object that `get_config` describes."""
        return cls(**config)


def weighted(values: Tensor, sample_weight: Any) -> Tensor:
    """values times one weight per sample."""
    if sample_weight is None:
        return values
    weight = functions.astype(as_tensor(sample_weight), values.dtype)
    while weight.ndim < values.ndim:
        weight = reshape(weight, (*weight.shape, 1))
    return values * weight


def reduced(values: Tensor, sample_weight: Any, reduction: str | None) -> Tensor:
    """Σ weight · value, divided by the number of values unless the reduction is "sum"."""
    values = weighted(values, sample_weight)
    if reduction in ("none", None):
        return values
    total = statistics.sum(values)
    if reduction == "sum":
        return total
    return total / Tensor(size_value(product(values.shape), values.dtype))


class FunctionLoss(Loss):
    """A loss made of a function of (y_true, y_pred) and its options."""

    def __init__(self, function: Callable[..., Any], name: str | None = None):
        super().__init__(name or getattr(function, "__name__", "loss"))
        self._function = function

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return self._function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        raise GraphError(
            f"save: the loss {self.name} is a function of your own, and files hold no code"
        )


class _Elementwise(Loss):
    """A loss without options, of targets shaped like the output."""

    target = "output"
    rule: Callable[[Any, Any], Tensor]

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return type(self).rule(y_true, y_pred)


class MeanSquaredError(_Elementwise):
    """mean (y_pred - y_true)²"""

    rule = staticmethod(mean_squared_error)


class MeanAbsoluteError(_Elementwise):
    """mean |y_pred - y_true|"""

    rule = staticmethod(mean_absolute_error)


class MeanAbsolutePercentageError(_Elementwise):
    """100 · mean |y_true - y_pred| / |y_true|"""

    rule = staticmethod(mean_absolute_percentage_error)


class Hinge(_Elementwise):
    """mean max(1 - y_true · y_pred, 0)"""

    rule = staticmethod(hinge)


class KLDivergence(_Elementwise):
    """Σ y_true · log(y_true / y_pred)"""

    rule = staticmethod(kl_divergence)


class Huber(Loss):
    """Squared near 0, absolute beyond delta; see `huber`."""

    target = "output"
    fields = ("delta",)

    def __init__(
        self,
        delta: float = 1.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(name, reduction)
        self.delta = delta

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return huber(y_true, y_pred, self.delta)


class BinaryCrossentropy(Loss):
    """See `binary_crossentropy`."""

    target = "output"
    fields = ("from_logits", "label_smoothing")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(name, reduction)
        self.from_logits, self.label_smoothing = from_logits, label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return binary_crossentropy(y_true, y_pred, self.from_logits, self.label_smoothing)


class CategoricalCrossentropy(Loss):
    """See `categorical_crossentropy`."""

    target = "output"
    fields = ("from_logits", "label_smoothing", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(name, reduction)
        self.from_logits, self.label_smoothing, self.axis = from_logits, label_smoothing, axis

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return categorical_crossentropy(
            y_true, y_pred, self.from_logits, self.label_smoothing, self.axis
        )


class SparseCategoricalCrossentropy(Loss):
    """See `sparse_categorical_crossentropy`."""

    target = "labels"
    fields = ("from_logits", "axis")

    def __init__(
        self,
        from_logits: bool = False,
        axis: int = -1,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
    ):
        super().__init__(name, reduction)
        self.from_logits, self.axis = from_logits, axis

    def call(self, y_true: Any, y_pred: Any) -> Tensor:
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits, self.axis)


_CLASSES = (
    MeanSquaredError, MeanAbsoluteError, MeanAbsolutePercentageError, Hinge, KLDivergence, Huber,
    BinaryCrossentropy, CategoricalCrossentropy, SparseCategoricalCrossentropy,
)  # fmt: skip
_ALIASES = {
    "mean_squared_error": MeanSquaredError, "mse": MeanSquaredError, "MSE": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError, "mae": MeanAbsoluteError, "MAE": MeanAbsoluteError,
    "mean_absolute_percentage_error": MeanAbsolutePercentageError,
    "mape": MeanAbsolutePercentageError, "MAPE": MeanAbsolutePercentageError,
    "hinge": Hinge, "huber": Huber,
    "kl_divergence": KLDivergence, "kullback_leibler_divergence": KLDivergence,
    "binary_crossentropy": BinaryCrossentropy, "bce": BinaryCrossentropy,
    "categorical_crossentropy": CategoricalCrossentropy,
    "sparse_categorical_crossentropy": SparseCategoricalCrossentropy,
}  # fmt: skip
TABLE = Table("loss", Loss, {cls.__name__: cls for cls in _CLASSES}, _ALIASES)
#: this module's functions, which are as good as their names
_BY_FUNCTION: dict[Any, str] = {
    globals()[name]: name for name in _ALIASES if name in globals() and name.islower()
}


def get(identifier: Any) -> Loss:
    """A loss from a name, an object, a config, or a function of (y_true, y_pred)."""
    if not isinstance(identifier, type) and callable(identifier):
        identifier = _BY_FUNCTION.get(identifier, identifier)
    found = TABLE.get(identifier)
    return found if isinstance(found, Loss) else FunctionLoss(found)
