"""Progress of a training as text: a bar that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time

from graphflow.keras.callbacks import Callback, Logs

_WIDTH = 20
#: seconds between two drawings of the bar
_INTERVAL = 0.1


def results_text(logs: Logs) -> str:
    """`accuracy: 0.9123 - loss: 0.3012`, small numbers with an exponent."""
    parts = []
    for key in sorted(logs, key=lambda name: (name.startswith("val_"), name)):
        value = logs[key]
        text = f"{value:.4f}" if value == 0 or abs(value) > 1e-3 else f"{value:.4e}"
        parts.append(f"{key}: {text}")
    return " - ".join(parts)


def time_text(seconds: float, steps: int) -> str:
    """`2s 1ms/step`"""
    each = seconds / max(steps, 1)
    if each >= 1:
        per_step = f"{each:.0f}s"
    else:
        per_step = f"{each * 1e3:.0f}ms" if each >= 1e-3 else f"{each * 1e6:.0f}us"
    return f"{seconds:.0f}s {per_step}/step"


class Progress:
    """One line about a pass over the data.

    Args:
        steps: how many there are.
        moving: redraw while it runs, which needs a terminal.
    """

    def __init__(self, steps: int, moving: bool):
        self.steps, self.moving = steps, moving
        self._begin = time.perf_counter()
        self._next = self._begin
        self._drawn = 0

    def line(self, done: int, logs: Logs) -> str:
        """The text after `done` steps."""
        filled = _WIDTH * done // self.steps
        bar = "━" * filled + "─" * (_WIDTH - filled)
        seconds = time.perf_counter() - self._begin
        count = str(done).rjust(len(str(self.steps)))
        tail = f" - {results_text(logs)}" if logs else ""
        return f"{count}/{self.steps} {bar} {time_text(seconds, done)}{tail}"

    @property
    def is_due(self) -> bool:
        """Whether it is time to draw again."""
        return self.moving and time.perf_counter() >= self._next

    def draw(self, done: int, logs: Logs) -> None:
        """Draw over the last drawing."""
        self._next = time.perf_counter() + _INTERVAL
        self._put("\r" + self.line(done, logs), "")

    def finish(self, logs: Logs) -> None:
        """Draw the last state and end the line."""
        self._put(("\r" if self.moving else "") + self.line(self.steps, logs), "\n")

    def _put(self, text: str, end: str) -> None:
        rest = " " * max(0, self._drawn - len(text))
        self._drawn = len(text)
        print(text + rest, end=end, flush=True)


def is_terminal() -> bool:
    """Whether output goes to a terminal, which can redraw a line."""
    return sys.stdout.isatty()


class ProgressBar(Callback):
    """What `fit`, `evaluate` and `predict` print: a bar (verbose=1), or a line when it is done (2)."""

    def __init__(self, verbose: int):
        self.verbose = verbose
        self._kind: str | None = None

    def _start(self, kind: str) -> None:
        # An evaluation within `fit` has no bar of its own.
        if self._kind is None:
            moving = self.verbose == 1 and is_terminal()
            self._kind, self._progress = kind, Progress(self.params["steps"], moving)

    def _stop(self, kind: str, logs: Logs) -> None:
        if self._kind == kind:
            self._kind = None
            self._progress.finish(logs)

    def on_progress(self, kind: str, done: int) -> None:
        if self._kind == kind and self._progress.is_due:
            self._progress.draw(done, self.model.steps.results() if kind != "predict" else {})

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        print(f"Epoch {epoch + 1}/{self.params['epochs']}", flush=True)
        self._kind = None
        self._start("train")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._stop("train", logs or {})

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._start("test")

    def on_test_end(self, logs: Logs | None = None) -> None:
        self._stop("test", logs or {})

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._start("predict")

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._stop("predict", {})
