"""Hooks of a training: the base of all callbacks, several as one, the results of all epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

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


class LambdaCallback(Callback):
    """A callback of functions, one per hook given."""

    def __init__(self, **hooks: Callable[..., None]):
        for hook, function in hooks.items():
            if not hook.startswith("on_") or not hasattr(Callback, hook):
                raise GraphError(f"LambdaCallback: there is no hook {hook!r}")
            setattr(self, hook, function)
