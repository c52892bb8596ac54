"""compile, fit, evaluate and predict: data and callbacks around the functions of a model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphflow.errors import GraphError, ShapeError
from graphflow.function import Function, function
from graphflow.keras import optimizers
from graphflow.keras.callbacks import CallbackList, History
from graphflow.keras.data import (
    Batches,
    input_arrays,
    sample_weights,
    split_validation,
    target_arrays,
)
from graphflow.keras.progress import ProgressBar
from graphflow.keras.seeding import generator
from graphflow.keras.steps import Steps
from graphflow.structure import flatten_structure, map_structure

#: methods that a static graph cannot call step by step
EAGER_METHODS = ("train_step", "test_step", "predict_step", "make_train_function")


#: seconds of steps that run natively between two looks at callbacks
INTERVAL = 0.05


def run_pass(
    step: Function,
    batches: Batches,
    told: CallbackList,
    kind: str,
    results: Callable[[], dict[str, float]],
    order: np.ndarray | None = None,
) -> list[Any]:
    """Run a step for every batch; the only loop over training, test and other data.

    Many batches run natively at once, unless a callback looks at each.

    Args:
        kind: of the pass, "train", "test" or "predict".
        results: what callbacks are told after a step.
        order: of the rows; as they lie by default.

    Returns:
        For "predict" the outputs of the calls, each with an axis of batches in front.
    """
    stepwise = told.wants_batches(kind)
    parts = []
    done, most = 0, 1
    while done < len(batches):
        if stepwise:
            told.call(f"on_{kind}_batch_begin", done)
        begin = time.perf_counter()
        outputs, count = batches.run(step, done, most, order, keep_all=kind == "predict")
        seconds = time.perf_counter() - begin
        if kind == "predict":
            parts.append(outputs)
        done += count
        if stepwise:
            told.call(f"on_{kind}_batch_end", done - 1, results())
        else:
            # The first step may compile, so the number grows by its own measure.
            most = min(2 * most, max(1, int(count * INTERVAL / max(seconds, 1e-9))))
        told.call("on_progress", kind, done)
        if kind == "train" and told.model.stop_training:
            break
    return parts


class Trainer:
    """The training side of a model."""

    name: str
    optimizer: Any = None
    stop_training = False
    _steps: Steps | None = None
    _predict: Function | None = None
    _mode = "compiled"

    # ---- compile -----------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        jit_compile: bool | str = "auto",
    ) -> None:
        """Say how to train.

        Args:
            optimizer: a name or an object of `keras.optimizers`.
            loss: a name, an object, or a graph function of (y_true, y_pred); for several outputs
                one for all, or a list or dict of them.
            loss_weights: factors of the losses of several outputs.
            metrics: names, objects or functions; "accuracy" fits itself to loss and targets.
            weighted_metrics: metrics in which samples count by their weights.
            jit_compile: True or "auto" compile to machine code; False runs each op by NumPy.

        Raises:
            GraphError: an argument is unknown, or asks for steps run by Python.
        """
        if run_eagerly:
            raise GraphError(
                f"{self.name}: run_eagerly=True is not possible, graphflow runs static graphs; for "
                "looking into a step use gf.function(..., mode='nanguard') or 'debug'"
            )
        for method in EAGER_METHODS:
            if hasattr(type(self), method):
                raise GraphError(
                    f"{self.name}: {type(self).__name__}.{method} would run in Python at every step, "
                    "which a static graph does not; write the step with gf.grad and gf.function"
                )
        if jit_compile not in (True, False, "auto"):
            raise GraphError(
                f"{self.name}: jit_compile={jit_compile!r}; expected True, False, 'auto'"
            )
        self.optimizer = optimizers.get(optimizer)
        self._mode = "compiled" if jit_compile else "interpret"
        self._predict = None
        self._steps = Steps(
            self, self.optimizer, loss, loss_weights, metrics, weighted_metrics, self._mode
        )
        self.compile_arguments = {
            "loss": loss,
            "loss_weights": loss_weights,
            "metrics": metrics,
            "weighted_metrics": weighted_metrics,
            "jit_compile": jit_compile,
        }

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._steps is not None

    @property
    def steps(self) -> Steps:
        if self._steps is None:
            raise GraphError(
                f"{self.name}: not compiled; call model.compile(optimizer=..., loss=...) first"
            )
        return self._steps

    @property
    def metrics(self) -> list[Any]:
        """The loss tracker and the metrics."""
        return self.steps.trackers

    @property
    def metrics_names(self) -> list[str]:
        """Names of the results of `evaluate`, in order."""
        return [metric.name for metric in self.steps.trackers]

    # ---- fit ---------------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> History:
        """Train on arrays.

        Args:
            x: samples; for several inputs a list, or a dict by input name.
            y: targets; for several outputs a list or dict.
            batch_size: rows per step, 32 by default; the last batch of an epoch may be smaller.
            epochs: number of the last epoch, see `initial_epoch`.
            verbose: 0 quiet, 1 or "auto" a progress bar, 2 a line per epoch.
            callbacks: objects of `keras.callbacks`.
            validation_split: share of the last rows that is held back for validation.
            validation_data: (x, y) or (x, y, sample_weight) instead.
            shuffle: a new order of rows in every epoch.
            class_weight: {class: weight of its samples in the loss}.
            sample_weight: (rows,), weights of samples in the loss.
            initial_epoch: number of the first epoch, to go on counting.
            validation_batch_size: `batch_size` by default.
            validation_freq: validate after every so many epochs.

        Returns:
            A History, whose `.history` maps names of results to one number per epoch.
        """
        size = _batch_size(batch_size)
        steps = self.steps
        arrays, kinds = self._arrays(x, y, sample_weight, class_weight)
        if validation_data is not None:
            validation = _unpacked(validation_data)
            held = self._arrays(*validation[:2], validation[2], None)
        elif validation_split:
            arrays, rest = split_validation(arrays, validation_split, self.name)
            held = (rest, kinds)
        else:
            held = None
        step = self._step(True, arrays, kinds)
        batches = Batches(arrays, [node.dtype for node in step.inputs], size)
        told = self._told(callbacks, verbose, len(batches), epochs=epochs)
        self.history: History = told.history()
        self.stop_training = False
        told.call("on_train_begin")
        for epoch in range(initial_epoch, epochs):
            told.call("on_epoch_begin", epoch)
            steps.reset()
            order = generator().permutation(batches.rows) if shuffle else None
            run_pass(step, batches, told, "train", steps.results, order)
            logs = steps.results()
            if held is not None and (epoch + 1) % validation_freq == 0:
                results = self._evaluated(*held, validation_batch_size or size, told)
                logs |= {f"val_{key}": value for key, value in results.items()}
            told.call("on_epoch_end", epoch, _sorted(logs))
            if self.stop_training:
                break
        told.call("on_train_end")
        return self.history

    def _told(self, callbacks: Any, verbose: str | int, steps: int, **params: Any) -> CallbackList:
        """The callbacks of a pass, with the progress bar."""
        given = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        listed = [callback for callback in given if callback is not None]
        if level := _verbosity(verbose):
            listed.append(ProgressBar(level))
        return CallbackList(listed, self, {"steps": steps, "verbose": verbose, **params})

    def _arrays(
        self, x: Any, y: Any, sample_weight: Any, class_weight: Any
    ) -> tuple[list[np.ndarray], tuple[int, bool]]:
        """All arrays of a step in order, with the number of targets and whether weights follow."""
        steps = self.steps
        if x is None:
            raise GraphError(f"{self.name}: no samples given; expected x")
        self.ensure_inputs(x)  # type: ignore[attr-defined]
        inputs = input_arrays(self, x)
        steps.prepare()
        targets = [] if y is None else target_arrays(self, y, steps.target_kinds, steps.names)
        weights = sample_weights(self.name, targets, sample_weight, class_weight)
        arrays = [*inputs, *targets, *([] if weights is None else [weights])]
        groups = {"x": inputs, "y": targets, "sample_weight": arrays[len(inputs) + len(targets) :]}
        counts = {name: len(group[0]) for name, group in groups.items() if group}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise ShapeError(f"{self.name}: {told} samples; expected one number")
        return arrays, (len(targets), weights is not None)

    def _step(self, training: bool, arrays: list[np.ndarray], kinds: tuple[int, bool]) -> Function:
        count, weighted = kinds
        end = len(arrays) - weighted
        return self.steps.step(training, arrays[end - count : end], weighted)

    # ---- evaluate ----------------------------------------------------------------------------

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        callbacks: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """The loss and metrics of a model on arrays, weights unchanged.

        Returns:
            [loss, *metrics], the loss alone where there are no metrics, or a dict by name.
        """
        arrays, kinds = self._arrays(x, y, sample_weight, None)
        size = _batch_size(batch_size)
        told = self._told(callbacks, verbose, math.ceil(len(arrays[0]) / size))
        results = self._evaluated(arrays, kinds, size, told)
        if return_dict:
            return results
        values = list(results.values())
        return values if len(values) > 1 else values[0]

    def _evaluated(
        self, arrays: list[np.ndarray], kinds: tuple[int, bool], size: int, told: CallbackList
    ) -> dict[str, float]:
        step = self._step(False, arrays, kinds)
        batches = Batches(arrays, [node.dtype for node in step.inputs], size)
        told.call("on_test_begin")
        self.steps.reset()
        run_pass(step, batches, told, "test", self.steps.results)
        results = self.steps.results()
        told.call("on_test_end", results)
        return results

    # ---- predict -----------------------------------------------------------------------------

    @property
    def predict_function(self) -> Function:
        """The function of the inputs that computes the outputs, with nothing random."""
        if self._predict is None:
            inputs = self.placeholders()  # type: ignore[attr-defined]
            outputs, _ = self.trace(inputs, training=False)  # type: ignore[attr-defined]
            leaves = iter(outputs)
            structure = map_structure(lambda _: next(leaves), self.outputs_structure)  # type: ignore[attr-defined]
            self._predict = function(
                inputs, structure, name=self.name, mode=self._mode, on_unused_input="ignore"
            )
        return self._predict

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        callbacks: Any = None,
    ) -> Any:
        """The outputs for arrays, in the structure of the model's outputs."""
        self.ensure_inputs(x)  # type: ignore[attr-defined]
        arrays = input_arrays(self, x)
        compute = self.predict_function
        batches = Batches(arrays, [node.dtype for node in compute.inputs], _batch_size(batch_size))
        told = self._told(callbacks, verbose, len(batches))
        told.call("on_predict_begin")
        parts = run_pass(compute, batches, told, "predict", dict)
        told.call("on_predict_end")
        columns = zip(*(flatten_structure(part) for part in parts), strict=True)
        whole = iter([np.concatenate([s.reshape(-1, *s.shape[2:]) for s in c]) for c in columns])
        return map_structure(lambda _: next(whole), self.outputs_structure)  # type: ignore[attr-defined]

    # ---- single batches ----------------------------------------------------------------------

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        return_dict: bool = False,
    ) -> Any:
        """One training step on all rows given; results are those since the last `reset_metrics`."""
        return self._on_batch(True, x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Loss and metrics of all rows given, together with those since `reset_metrics`."""
        return self._on_batch(False, x, y, sample_weight, None, return_dict)

    def _on_batch(
        self, training: bool, x: Any, y: Any, weight: Any, classes: Any, return_dict: bool
    ) -> Any:
        arrays, kinds = self._arrays(x, y, weight, classes)
        step = self._step(training, arrays, kinds)
        batches = Batches(arrays, [node.dtype for node in step.inputs], len(arrays[0]))
        batches.run(step, 0, 1)
        results = self.steps.results()
        if return_dict:
            return results
        values = list(results.values())
        return values if len(values) > 1 else values[0]

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for all rows at once."""
        self.ensure_inputs(x)  # type: ignore[attr-defined]
        return self.predict(x, batch_size=len(input_arrays(self, x)[0]), verbose=0)

    def reset_metrics(self) -> None:
        """Forget the running results."""
        self.steps.reset()


def _sorted(logs: dict[str, float]) -> dict[str, float]:
    """By name, those of validation last, as Keras orders a history."""
    names = sorted(logs, key=lambda name: (name.startswith("val_"), name))
    return {name: logs[name] for name in names}


def _batch_size(value: int | None) -> int:
    size = 32 if value is None else value
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise GraphError(f"batch_size is {value!r}; expected a positive int")
    return int(size)


def _verbosity(verbose: str | int) -> int:
    if verbose not in ("auto", 0, 1, 2):
        raise GraphError(f"verbose is {verbose!r}; expected 0, 1, 2 or 'auto'")
    return 1 if verbose == "auto" else int(verbose)


def _unpacked(data: Any) -> tuple[Any, Any, Any]:
    if not isinstance(data, (list, tuple)) or len(data) not in (2, 3):
        raise GraphError("validation_data: expected (x, y) or (x, y, sample_weight)")
    return (*data, None) if len(data) == 2 else tuple(data)  # type: ignore[return-value]
