"""A model, its losses, metrics and optimizer into two functions: a training and a test step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow import functions, gradient
from graphflow.creation import size_value
from graphflow.errors import GraphError
from graphflow.function import Function, function
from graphflow.keras import losses as loss_module
from graphflow.keras import metrics as metric_module
from graphflow.keras.losses import Loss
from graphflow.keras.metrics import Mean, MeanMetric, Metric
from graphflow.keras.optimizers import Optimizer
from graphflow.keras.symbolic import static_shape
from graphflow.structure import flatten_structure
from graphflow.tensor import Tensor
from graphflow.variable import Placeholder, Variable, placeholder

#: metrics that fit themselves to loss and targets
_ACCURACY = ("accuracy", "acc")


class Steps:
    """The functions of a compiled model, each built when it is first needed.

    Args:
        model: built or not; it is looked at when the first data come.
        losses: a loss, or a list or dict of them by output; None where an output has none.
        metrics, weighted_metrics: a list, or for several outputs a list or dict of lists.
        mode: of the functions, see `gf.function`.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Optimizer,
        losses: Any,
        loss_weights: Any,
        metrics: Any,
        weighted_metrics: Any,
        mode: str,
    ):
        self.model, self.optimizer, self.mode = model, optimizer, mode
        self._given = (losses, loss_weights, metrics, weighted_metrics)
        for table, given in ((loss_module, losses), (metric_module, (metrics, weighted_metrics))):
            for name in flatten_structure(given):
                if isinstance(name, str) and name not in _ACCURACY:
                    table.get(name)
        self._functions: dict[Any, Function] = {}
        self._ready = False
        self.loss_tracker = Mean("loss")

    # ---- what was given, per output ----------------------------------------------------------

    def prepare(self) -> None:
        """Assign losses to the outputs, once the model has them."""
        if self._ready:
            return
        given_losses, given_weights, _, _ = self._given
        self.names = output_names(self.model)
        listed = _per_output("loss", given_losses, self.names, shared=True)
        self.losses: list[Loss | None] = [
            None if loss is None else loss_module.get(loss) for loss in listed
        ]
        weights = _per_output("loss_weights", given_weights, self.names, shared=False)
        self.loss_weights = [1.0 if weight is None else float(weight) for weight in weights]
        several = len(self.names) > 1
        self.output_trackers = [Mean(f"{name}_loss") for name in self.names] if several else []
        self.metrics: list[tuple[int, Metric, bool]] = []
        self._ready = True
        self._resolved: tuple[Any, ...] | None = None

    @property
    def target_kinds(self) -> list[str]:
        """What the targets of each output look like, see `Loss.target`."""
        self.prepare()
        kinds = []
        for loss in self.losses:
            # Labels along another axis have a shape that only the data tell.
            other_axis = getattr(loss, "axis", -1) != -1
            kinds.append("any" if loss is None or other_axis else loss.target)
        return kinds

    def resolve_metrics(self, targets: Sequence[np.ndarray]) -> None:
        """Make the metrics; "accuracy" depends on what targets look like."""
        if self._resolved is not None:
            return
        several = len(self.names) > 1
        for given, is_weighted in ((self._given[2], False), (self._given[3], True)):
            for place, group in enumerate(_metric_groups(given, self.names)):
                for item in group:
                    metric = self._metric(item, place, targets)
                    label = item if isinstance(item, str) else metric.name
                    metric.name = f"{self.names[place]}_{label}" if several else label
                    self.metrics.append((place, metric, is_weighted))
        self._resolved = tuple(self.metrics)
        names = [metric.name for metric in self.trackers]
        if len(set(names)) != len(names):
            raise GraphError(f"{self.model.name}: two metrics have one name, among {names}")

    def _metric(self, item: Any, place: int, targets: Sequence[np.ndarray]) -> Metric:
        if item not in _ACCURACY:
            return metric_module.get(item)
        output = static_shape(self.model.output_list[place].traced.shape)
        shape = targets[place].shape if place < len(targets) else output
        return metric_module.accuracy_for(self.losses[place], shape, output)

    @property
    def trackers(self) -> list[Metric]:
        """The loss and all metrics, in the order in which `evaluate` returns them."""
        return [self.loss_tracker, *self.output_trackers, *(m for _, m, _ in self.metrics)]

    def reset(self) -> None:
        """Forget the sums of the last epoch."""
        for tracker in self.trackers:
            tracker.reset_state()

    def results(self) -> dict[str, float]:
        """The running results by name."""
        return {tracker.name: tracker.result() for tracker in self.trackers}

    # ---- functions ---------------------------------------------------------------------------

    def step(self, training: bool, targets: Sequence[np.ndarray], weighted: bool) -> Function:
        """The function of (inputs, targets[, weights]) that updates trackers, and weights too.

        Args:
            targets: arrays as `target_arrays` makes them.
        """
        self.prepare()
        self.resolve_metrics(targets)
        # Layers may be frozen or moved to the next phase of a training between two fits.
        weights = tuple(weight.node for weight in self.model.trainable_weights)
        specs = tuple((array.dtype.kind, array.ndim) for array in targets)
        key = (training, specs, weighted, weights if training else ())
        if key not in self._functions:
            self._functions[key] = self._build(training, targets, weighted)
        return self._functions[key]

    def _build(self, training: bool, targets: Sequence[np.ndarray], weighted: bool) -> Function:
        model = self.model
        inputs = model.placeholders()
        outputs, trace = model.trace(inputs, training)
        feeds = self._target_placeholders(outputs, targets, inputs[0])
        weight = placeholder(inputs[0].shape[:1], name="sample_weight") if weighted else None
        total, parts = self._loss(outputs, feeds, weight, trace.losses)
        updates = self._tracker_updates(total, parts, outputs, feeds, weight, inputs[0])
        if training:
            updates += self._weight_updates(total) + trace.updates
        listed = [*inputs, *feeds, *([] if weight is None else [weight])]
        label = f"{model.name}_{'train' if training else 'test'}"
        return function(listed, None, updates, name=label, mode=self.mode, on_unused_input="ignore")

    def _target_placeholders(
        self, outputs: Sequence[Tensor], targets: Sequence[np.ndarray], first: Tensor
    ) -> list[Placeholder]:
        result = []
        for place, array in enumerate(targets):
            kind = self.target_kinds[place]
            shape: tuple[Any, ...] = outputs[place].shape
            dtype = "float32"
            if kind == "labels":
                shape, dtype = shape[:-1], "int64"
            elif kind == "any":
                shape = (first.shape[0], *array.shape[1:])
                dtype = "int64" if array.dtype.kind in "iu" else "float32"
            result.append(placeholder(shape, dtype, name=f"y_{self.names[place]}"))
        return result

    def _loss(
        self,
        outputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        weight: Tensor | None,
        extra: Sequence[Tensor],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """The total, and the part of each output."""
        parts: list[Tensor | None] = []
        terms = []
        for place, loss in enumerate(self.losses):
            if loss is None or place >= len(targets):
                parts.append(None)
                continue
            value = loss(targets[place], outputs[place], weight)
            if value.ndim:
                raise GraphError(
                    f"{self.model.name}: the loss {loss.name} returns {value.shape}, one value per "
                    "sample; expected a scalar, use another reduction than 'none'"
                )
            parts.append(value)
            factor = self.loss_weights[place]
            terms.append(value if factor == 1 else value * factor)
        terms += [*self.model.penalties(), *extra]
        if not terms:
            raise GraphError(
                f"{self.model.name}: there is no loss; give one to compile(loss=...), and targets y "
                "to fit and evaluate"
            )
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total, parts

    def _tracker_updates(
        self,
        total: Tensor,
        parts: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        weight: Tensor | None,
        first: Tensor,
    ) -> list[tuple[Variable, Tensor]]:
        rows = Tensor(size_value(first.shape[0], "float64"))
        pairs = [(self.loss_tracker, total)]
        pairs += [
            (t, p) for t, p in zip(self.output_trackers, parts, strict=False) if p is not None
        ]
        updates = []
        for tracker, value in pairs:
            # A batch counts by its rows: the mean of batches would favour a small last one.
            sums = (functions.astype(value, "float64") * rows, rows)
            updates += [(v, v + s) for v, s in zip(tracker.variables, sums, strict=True)]
        for place, metric, is_weighted in self.metrics:
            if place < len(targets):
                truth = _for_metric(metric, targets[place], outputs[place])
                used = weight if is_weighted else None
                updates += metric.updates(truth, outputs[place], used)
        return updates

    def _weight_updates(self, total: Tensor) -> list[tuple[Variable, Tensor]]:
        weights = self.model.trainable_weights
        if not weights:
            raise GraphError(
                f"{self.model.name}: no weight is trainable, so there is nothing to fit"
            )
        self.optimizer.build(weights)
        gradients = gradient.grad(total, list(weights))
        return self.optimizer.updates(weights, gradients)


def output_names(model: Any) -> list[str]:
    """Names of the outputs: keys where they are a dict, else the layers that make them."""
    if isinstance(model.outputs_structure, dict):
        return list(model.outputs_structure)
    return [tensor.name for tensor in model.output_list]


def _per_output(what: str, given: Any, names: Sequence[str], shared: bool) -> list[Any]:
    """`given` for each output; one loss serves all of them."""
    is_config = isinstance(given, dict) and "class_name" in given
    if isinstance(given, dict) and not is_config:
        if unknown := set(given) - set(names):
            raise GraphError(f"compile: {what} names {sorted(unknown)}; the outputs are {names}")
        return [given.get(name) for name in names]
    if isinstance(given, (list, tuple)):
        if len(given) != len(names):
            raise GraphError(
                f"compile: {len(given)} entries of {what} for {len(names)} outputs, {list(names)}"
            )
        return list(given)
    return [given if shared or len(names) == 1 else None for _ in names]


def _metric_groups(given: Any, names: Sequence[str]) -> list[list[Any]]:
    """The metrics of each output."""
    if given is None:
        return [[] for _ in names]
    if isinstance(given, dict):
        listed = _per_output("metrics", given, names, shared=False)
    elif len(names) == 1:
        listed = [given[0] if given and isinstance(given[0], (list, tuple)) else given]
    elif isinstance(given, (list, tuple)) and len(given) == len(names):
        listed = list(given)
    else:
        raise GraphError(
            f"compile: metrics of a model with {len(names)} outputs are a list of lists, one per "
            "output, or a dict by output name"
        )
    return [
        [] if group is None else list(group) if isinstance(group, (list, tuple)) else [group]
        for group in listed
    ]


def _for_metric(metric: Metric, target: Tensor, output: Tensor) -> Tensor:
    """Targets as a metric needs them: labels from one-hot rows and the other way round."""
    from graphflow import nn, statistics

    kind = metric.target if isinstance(metric, MeanMetric) else getattr(metric, "target", "any")
    is_labels = target.ndim == output.ndim - 1
    if kind == "labels" and not is_labels and output.shape[-1] != 1:
        return statistics.argmax(target, -1)
    if kind == "output" and is_labels and target.dtype == "int64":
        classes: Any = output.shape[-1]
        return nn.one_hot(target, classes)
    return target
