"""What happens between epochs and batches: stopping, saving, logging, changing the rate."""

from __future__ import annotations

import csv
import math
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from graphflow.errors import GraphError

Logs = dict[str, float]


class Callback:
    """Base of the callbacks; a subclass defines the hooks that it wants.

    Attributes:
        model: the model that trains; setting `model.stop_training` ends the training.
        params: {"epochs", "steps", "verbose"}.
    """

    model: Any = None
    params: Mapping[str, Any] = MappingProxyType({})

    def set_model(self, model: Any) -> None:
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation; `logs` holds the results."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step; `logs` holds the results of the epoch so far."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step of an evaluation; `logs` holds its results so far."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a step of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a step of a prediction."""

    def on_progress(self, kind: str, done: int) -> None:
        """Some times a second, after `done` steps of a pass ("train", "test" or "predict").

        A hook of single batches makes Python step through a pass; this one does not.
        """


class CallbackList:
    """Several callbacks as one."""

    def __init__(self, callbacks: Iterable[Callback], model: Any, params: dict[str, Any]):
        self.callbacks = list(callbacks)
        self.model, self.params = model, params
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                raise GraphError(
                    f"fit: {callback!r} is no callback; expected objects of keras.callbacks.Callback"
                )
            callback.set_model(model)
            callback.set_params(params)

    def history(self) -> History:
        """The History among them; one is added where there is none."""
        found = next((c for c in self.callbacks if isinstance(c, History)), None)
        if found is None:
            found = History()
            found.set_model(self.model)
            found.set_params(self.params)
            self.callbacks.append(found)
        return found

    def call(self, hook: str, *args: Any) -> None:
        """Call a hook of all of them, in order."""
        for callback in self.callbacks:
            getattr(callback, hook)(*args)

    def wants_batches(self, kind: str) -> bool:
        """Whether some callback looks at single steps; without, a pass need not stop for them."""
        hooks = (f"on_{kind}_batch_begin", f"on_{kind}_batch_end")
        return any(
            getattr(type(callback), hook) is not getattr(Callback, hook) or hook in vars(callback)
            for callback in self.callbacks
            for hook in hooks
        )


class History(Callback):
    """The results of all epochs.

    Attributes:
        epoch: numbers of the epochs.
        history: {"loss": [...], "accuracy": [...], "val_loss": [...], ...}
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.epoch = []
        self.history = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(value)


#: parts of metric names of which more is better
_GROWING = ("acc", "auc", "precision", "recall", "f1", "r2")


class _Watching(Callback):
    """What the callbacks share that watch one result.

    Args:
        monitor: its key in the logs.
        mode: "min", "max", or "auto", which tells by the name.
    """

    def __init__(self, monitor: str, mode: str = "auto", min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise GraphError(
                f"{type(self).__name__}: mode {mode!r}; expected 'auto', 'min' or 'max'"
            )
        grows = any(part in monitor.lower() for part in _GROWING)
        self.monitor = monitor
        self.larger = mode == "max" or (mode == "auto" and grows)
        self.min_delta = abs(min_delta)
        self.best = self.worst

    @property
    def worst(self) -> float:
        return -math.inf if self.larger else math.inf

    def value(self, logs: Logs | None) -> float:
        """The watched result.

        Raises:
            GraphError: the logs have no such key.
        """
        if logs is None or self.monitor not in logs:
            raise GraphError(
                f"{type(self).__name__}: there is no result {self.monitor!r}; expected one of "
                f"{', '.join(logs or {})}. Results of validation need validation_data or "
                "validation_split"
            )
        return logs[self.monitor]

    def improves(self, value: float) -> bool:
        """Whether a value beats the best by more than min_delta."""
        gain = value - self.best if self.larger else self.best - value
        return gain > self.min_delta


class StopAtThreshold(_Watching):
    """Stop as soon as a result reaches a value: "train until the error is small enough".

    Args:
        monitor: the result, for example "loss" or "val_accuracy".
        threshold: reached from above, or from below where more is better.
        mode: "min", "max" or "auto".

    Attributes:
        stopped_epoch: the epoch that reached it, or None.
    """

    def __init__(self, monitor: str, threshold: float, mode: str = "auto", verbose: int = 0):
        super().__init__(monitor, mode)
        self.threshold, self.verbose = threshold, verbose
        self.stopped_epoch: int | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.stopped_epoch = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if (operator.ge if self.larger else operator.le)(value, self.threshold):
            self.stopped_epoch = epoch
            self.model.stop_training = True
            if self.verbose:
                print(f"Epoch {epoch + 1}: {self.monitor} {value:.4g} reached {self.threshold:.4g}")


class EarlyStopping(_Watching):
    """Stop when a result has not improved for some epochs.

    Args:
        min_delta: an improvement is larger than this.
        patience: epochs without one that are allowed.
        baseline: a value to beat from the start.
        restore_best_weights: end with the weights of the best epoch.
        start_from_epoch: epochs before it are not watched.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.worst
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if epoch < self.start_from_epoch:
            return
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.improves(value):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            beats = self.baseline is None or (
                value > self.baseline if self.larger else value < self.baseline
            )
            self.wait = 0 if beats else self.wait
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Watching):
    """Save the model after each epoch.

    Args:
        filepath: may contain {epoch} (from 1) and results, for example "m_{epoch:02d}.gflow".
        save_best_only: only when the watched result improves.
        save_weights_only: `save_weights` instead of `save`.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        initial_value_threshold: float | None = None,
    ):
        super().__init__(monitor, mode)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        if initial_value_threshold is not None:
            self.best = initial_value_threshold

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if not self.improves(value):
                return
            self.best = value
        path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved to {path}")


class ReduceLROnPlateau(_Watching):
    """Multiply the learning rate by a factor when a result no longer improves.

    Args:
        factor: below 1.
        patience: epochs without improvement before that.
        cooldown: epochs to wait after it.
        min_lr: lower bound.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ):
        super().__init__(monitor, mode, min_delta)
        if factor >= 1:
            raise GraphError(f"ReduceLROnPlateau: factor is {factor}; expected less than 1")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.wait = self.cooling = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = self.cooling = 0
        self.best = self.worst

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        optimizer = self.model.optimizer
        if logs is not None:
            logs["learning_rate"] = optimizer.learning_rate
        if self.cooling:
            self.cooling -= 1
            self.wait = 0
        if self.improves(value):
            self.best, self.wait = value, 0
            return
        if self.cooling:
            return
        self.wait += 1
        if self.wait >= self.patience and optimizer.learning_rate > self.min_lr:
            optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
            self.cooling, self.wait = self.cooldown, 0
            if self.verbose:
                print(f"Epoch {epoch + 1}: learning rate reduced to {optimizer.learning_rate:.4g}")


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch: schedule(epoch, rate) -> rate."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        optimizer.learning_rate = float(self.schedule(epoch, optimizer.learning_rate))
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {optimizer.learning_rate:.4g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class CSVLogger(Callback):
    """Write the results of each epoch as a row of a file.

    Args:
        append: add to a file that exists.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ):
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._columns: list[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = None
        exists = os.path.exists(self.filename) and os.path.getsize(self.filename) > 0
        self._header = not (self.append and exists)
        if not self.append:
            open(self.filename, "w", encoding="utf-8").close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        results = logs or {}
        # A file holds every row written so far, also when the training is interrupted.
        with open(self.filename, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._columns is None:
                self._columns = list(results)
                if self._header:
                    writer.writerow(["epoch", *self._columns])
            writer.writerow([epoch, *(results.get(key, "NA") for key in self._columns)])


class TerminateOnNaN(Callback):
    """Stop after the epoch in which the loss became NaN or infinite."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Epoch {epoch + 1}: the loss is {loss}, training stops")
            self.model.stop_training = True


class LambdaCallback(Callback):
    """A callback of functions, one per hook given."""

    def __init__(self, **hooks: Callable[..., None]):
        for hook, function in hooks.items():
            if not hook.startswith("on_") or not hasattr(Callback, hook):
                raise GraphError(f"LambdaCallback: there is no hook {hook!r}")
            setattr(self, hook, function)
