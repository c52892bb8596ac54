"""Results of epochs into files: rows of a table, and event files of TensorBoard."""

from __future__ import annotations

import csv
import os
import time
from typing import Any

import numpy as np

from graphflow.errors import GraphError
from graphflow.keras.callbacks.base import Callback, Logs


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


class TensorBoard(Callback):
    """Write the results of each epoch for TensorBoard; needs the tensorboard package.

    Results of training go to `log_dir/train`, those of validation to `log_dir/validation`, under
    the tags of Keras ("epoch_loss", ...). Look at them with `tensorboard --logdir logs`.

    Args:
        log_dir: a folder, of its own for each run that is to be compared with others.
        histogram_freq: every so many epochs, histograms of all weights; 0 for none.
        write_graph: not available, `keras.utils.plot_model` draws a model.
        update_freq: "epoch", or also the loss and metrics of so many steps ("batch": of each),
            which makes Python look at every step.

    Raises:
        GraphError: the tensorboard package is missing, or an argument is not what it should be.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_graph: bool = False,
        update_freq: str | int = "epoch",
    ):
        if write_graph:
            raise GraphError(
                "TensorBoard: write_graph is not available; draw with keras.utils.plot_model(model)"
            )
        steps = 1 if update_freq == "batch" else 0 if update_freq == "epoch" else update_freq
        if isinstance(steps, str) or steps < 0:
            raise GraphError(
                f"TensorBoard: update_freq is {update_freq!r}; expected 'epoch', 'batch' or a "
                "number of steps"
            )
        self.log_dir, self.histogram_freq, self._every = os.fspath(log_dir), histogram_freq, steps
        self._writers: dict[str, _Writer] = {}
        self._packages()
        if steps:
            # Without it, an epoch runs natively.
            self.on_train_batch_end = self._write_step  # type: ignore[method-assign]

    @staticmethod
    def _packages() -> Any:
        try:
            from tensorboard.compat.proto import event_pb2
            from tensorboard.plugins.histogram import summary_v2 as histogram
            from tensorboard.plugins.scalar import summary_v2 as scalar
            from tensorboard.summary.writer import event_file_writer
        except ImportError:
            raise GraphError(
                "TensorBoard: needs the tensorboard package: pip install 'graphflow[tensorboard]'"
            ) from None
        return event_file_writer.EventFileWriter, event_pb2.Event, scalar, histogram

    def _writer(self, kind: str) -> _Writer:
        if kind not in self._writers:
            self._writers[kind] = _Writer(os.path.join(self.log_dir, kind), *self._packages())
        return self._writers[kind]

    def _write_step(self, batch: int, logs: Logs | None = None) -> None:
        step = int(self.model.optimizer.iterations.value)
        if step % self._every == 0:
            for name, value in (logs or {}).items():
                self._writer("train").scalar(f"batch_{name}", value, step)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        results = {"learning_rate": self.model.optimizer.learning_rate, **(logs or {})}
        for name, value in results.items():
            kind = "validation" if name.startswith("val_") else "train"
            self._writer(kind).scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for weight in self.model.weights:
                self._writer("train").histogram(str(weight.name), weight.value, epoch)
        # A run that is interrupted has written all its epochs.
        for writer in self._writers.values():
            writer.file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.file.close()
        self._writers = {}


class _Writer:
    """One event file."""

    def __init__(self, folder: str, file: Any, event: Any, scalar: Any, histogram: Any):
        self.file, self._event = file(folder), event
        self._scalar, self._histogram = scalar.scalar_pb, histogram.histogram_pb

    def scalar(self, tag: str, value: float, step: int) -> None:
        self._add(self._scalar(tag, np.float32(value)), step)

    def histogram(self, tag: str, values: np.ndarray, step: int) -> None:
        self._add(self._histogram(tag, values), step)

    def _add(self, summary: Any, step: int) -> None:
        self.file.add_event(self._event(wall_time=time.time(), step=step, summary=summary))
