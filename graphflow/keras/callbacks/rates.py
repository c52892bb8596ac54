"""Learning rates that a function of the epoch gives."""

from __future__ import annotations

from collections.abc import Callable

from graphflow.keras.callbacks.base import Callback, Logs


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
