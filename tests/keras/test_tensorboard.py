"""The TensorBoard callback: what TensorBoard itself reads from the files."""

import sys

import numpy as np
import pytest

from graphflow import keras
from graphflow.errors import GraphError
from graphflow.keras import callbacks, layers

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")


def fitted(callback, epochs=3):
    model = keras.Sequential([layers.Dense(1, input_shape=(3,), name="line")])
    model.compile("sgd", "mse", metrics=["mae"], jit_compile=False)
    history = model.fit(
        X, X[:, :1], epochs=epochs, verbose=0, callbacks=[callback], validation_split=0.2
    )
    return model, history.history


def read(folder):
    package = "tensorboard.backend.event_processing.event_accumulator"
    events = pytest.importorskip(package, reason="needs the tensorboard package")
    found = events.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(e.step, e.tensor_proto.float_val[0] if e.tensor_proto.float_val else None)
              for e in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }  # fmt: skip


def test_epochs_and_histograms_are_read_by_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    model, history = fitted(callbacks.TensorBoard(tmp_path, histogram_freq=2))
    train, held = read(tmp_path / "train"), read(tmp_path / "validation")
    for kind, values in (("loss", history["loss"]), ("mae", history["mae"])):
        assert train[f"epoch_{kind}"] == [(k, np.float32(v)) for k, v in enumerate(values)]
    assert held["epoch_loss"] == [(k, np.float32(v)) for k, v in enumerate(history["val_loss"])]
    assert train["epoch_learning_rate"][0][1] == pytest.approx(0.01)
    assert [step for step, _ in train["line/kernel"]] == [0, 2]
    assert model.history.epoch == [0, 1, 2]


def test_steps_are_written_where_that_is_asked_for(tmp_path):
    pytest.importorskip("tensorboard")
    fitted(callbacks.TensorBoard(tmp_path / "a", update_freq=2), epochs=2)
    assert [step for step, _ in read(tmp_path / "a" / "train")["batch_loss"]] == [2]
    fitted(callbacks.TensorBoard(tmp_path / "b", update_freq="batch"), epochs=2)
    assert [step for step, _ in read(tmp_path / "b" / "train")["batch_loss"]] == [1, 2]


def test_only_step_logs_make_python_step(tmp_path):
    pytest.importorskip("tensorboard")
    for freq, wants in (("epoch", False), (5, True)):
        callback = callbacks.TensorBoard(tmp_path, update_freq=freq)
        assert callbacks.CallbackList([callback], None, {}).wants_batches("train") is wants


def test_what_is_missing_is_said(monkeypatch):
    with pytest.raises(GraphError, match="update_freq is 'step'"):
        callbacks.TensorBoard(update_freq="step")
    with pytest.raises(GraphError, match="plot_model"):
        callbacks.TensorBoard(write_graph=True)
    for name in [name for name in sys.modules if name.startswith("tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(GraphError, match=r"pip install 'graphflow\[tensorboard\]'"):
        callbacks.TensorBoard()
