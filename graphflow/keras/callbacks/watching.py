"""Callbacks that watch one result: stopping, keeping the best model, lowering the rate."""

from __future__ import annotations

import math
import operator
import os

import numpy as np

from graphflow.errors import GraphError
from graphflow.keras.callbacks.base import Callback, Logs

#: parts of metric names of which more is better
_GROWING = ("acc", "auc", "precision", "recall", "f1", "r2")


class Watching(Callback):
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


class StopAtThreshold(Watching):
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


class EarlyStopping(Watching):
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


class ModelCheckpoint(Watching):
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


class ReduceLROnPlateau(Watching):
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


class TerminateOnNaN(Callback):
    """Stop after the epoch in which the loss became NaN or infinite."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Epoch {epoch + 1}: the loss is {loss}, training stops")
            self.model.stop_training = True
