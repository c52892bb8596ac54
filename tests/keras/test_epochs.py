"""Epochs that run natively: the same bits as epochs of single steps, and what can interrupt them."""

import _thread
import threading
import tracemalloc

import numpy as np
import pytest

from graphflow import keras
from graphflow.function import Function
from graphflow.keras import callbacks, layers
from graphflow.keras.data import STAGING, Batches

RNG = np.random.default_rng(0)
ROWS = 75
X = RNG.normal(size=(ROWS, 6)).astype("f4")
LABELS = RNG.integers(0, 3, ROWS)
WEIGHTS = RNG.random(ROWS)
HELD = RNG.normal(size=(21, 6)).astype("f4"), RNG.integers(0, 3, 21)


class EveryStep(callbacks.Callback):
    """Hooks of single batches, which make Python step; they write down the batches."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(("train", batch, logs["loss"]))

    def on_test_batch_end(self, batch, logs=None):
        self.seen.append(("test", batch, logs["loss"]))

    def on_predict_batch_end(self, batch, logs=None):
        self.seen.append(("predict", batch))


def network(**options):
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            layers.Dense(8, "relu", input_shape=(6,)),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3, "softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


@pytest.fixture
def sizes(monkeypatch):
    """The number of steps of each native loop."""
    found = []
    run_many = Function.run_many

    def counting(self, *stacks, order=None, **options):
        found.append(len(stacks[0]) if order is None else len(order))
        return run_many(self, *stacks, order=order, **options)

    monkeypatch.setattr(Function, "run_many", counting)
    return found


CASES = {
    "plain": {},
    "in order": {"shuffle": False},
    "weights": {"sample_weight": WEIGHTS, "class_weight": {0: 2.0, 2: 0.5}},
    "validation": {"validation_data": HELD, "validation_batch_size": 8},
    "split": {"validation_split": 0.3},
    "one batch": {"batch_size": 500},
    "whole batches": {"batch_size": 15},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_native_epochs_are_stepped_epochs_bit_for_bit(case, dtype, sizes):
    options = {"batch_size": 4, "epochs": 3, "verbose": 0, **CASES[case]}
    results = []
    for listed in ([EveryStep()], []):
        sizes.clear()
        model = network()
        history = model.fit(X.astype(dtype), LABELS, callbacks=listed, **options)
        assert int(model.optimizer.iterations.value) == 3 * history.params["steps"]
        state = [*model.get_weights(), *(v.value for v in model.optimizer.variables)]
        results.append((history.history, state, max(sizes)))
    (stepped, stepped_state, one), (native, native_state, many) = results
    assert stepped == native
    for a, b in zip(stepped_state, native_state, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one == 1
    assert many > 1 or case == "one batch"


def test_evaluate_and_predict_are_the_same_in_steps(sizes):
    model = network()
    every = EveryStep()
    results = []
    for listed in ([every], []):
        scores = model.evaluate(*HELD, batch_size=4, verbose=0, callbacks=listed)
        results.append((scores, model.predict(X, batch_size=4, verbose=0, callbacks=listed)))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert results[1][1].shape == (ROWS, 3)
    assert [entry[:2] for entry in every.seen] == [
        *(("test", k) for k in range(6)), *(("predict", k) for k in range(19)),
    ]  # fmt: skip
    np.testing.assert_allclose(results[0][1], model.predict_on_batch(X), rtol=1e-5)


def test_data_that_kernels_cannot_read_is_cast_some_batches_at_a_time():
    model = network()
    model.fit(X, LABELS, epochs=1, verbose=0)
    expected = model.predict(X, verbose=0)
    for given in (
        X.astype("f8"),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X.tolist(),
    ):
        np.testing.assert_array_equal(model.predict(given, verbose=0, batch_size=7), expected)


def test_shuffled_training_needs_little_memory():
    keras.utils.set_random_seed(0)
    wide = keras.Sequential([layers.Dense(1, input_shape=(1000,))])
    wide.compile("sgd", "mse")
    for dtype in ("float32", "float64"):
        x, y = np.ones((5000, 1000), dtype), np.ones((5000, 1))
        wide.fit(x[:64], y[:64], verbose=0)
        tracemalloc.start()
        wide.fit(x, y, verbose=0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Cast rows, and a chosen part of the given ones, twice as wide.
        assert peak < 4 * STAGING < x.nbytes / 4


def test_the_progress_is_told_now_and_then(sizes):
    class Watch(callbacks.Callback):
        def __init__(self):
            self.seen = []

        def on_progress(self, kind, done):
            self.seen.append((kind, done))

    model, watch = network(), Watch()
    model.fit(X, LABELS, batch_size=1, epochs=1, verbose=0, callbacks=[watch], validation_data=HELD)
    train = [done for kind, done in watch.seen if kind == "train"]
    assert train == sorted(set(train))
    assert train[-1] == ROWS
    assert 1 < len(train) < ROWS / 3
    assert ("test", 1) in watch.seen


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_whole_steps_and_a_model_that_goes_on():
    model = network()
    x, labels = np.tile(X, (400, 1)), np.tile(LABELS, 400)
    model.fit(X, LABELS, verbose=0)
    threading.Timer(0.3, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, labels, batch_size=1, epochs=1000, verbose=0)
    steps = int(model.optimizer.iterations.value)
    assert steps > 10
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    # The loss has seen as many samples as there were steps since the epoch began.
    seen = model.metrics[0].values()[1]
    assert (steps - 3 - seen) % len(x) == 0
    model.fit(X, LABELS, batch_size=ROWS, verbose=0)
    assert int(model.optimizer.iterations.value) == steps + 1


def test_a_callback_can_stop_a_native_epoch_between_loops():
    class Stop(callbacks.Callback):
        def on_progress(self, kind, done):
            self.model.stop_training = done >= 3

    model = network()
    model.fit(X, LABELS, batch_size=1, epochs=5, verbose=0, callbacks=[Stop()])
    assert 3 <= int(model.optimizer.iterations.value) <= 6
    assert model.history.epoch == [0]


def test_batches_come_in_order_with_the_last_one_alone():
    taken = []

    class Stub:
        def run_many(self, *stacks, order=None, keep_all=False):
            (rows,) = stacks if order is None else (stacks[0][order],)
            taken.append(rows.tolist())

    data = np.arange(7, dtype="f4")
    batches = Batches([data], ["float32"], 2)
    assert len(batches) == 4
    assert batches.run(Stub(), 0, 2)[1] == 2
    assert batches.run(Stub(), 2, 9)[1] == 1
    assert batches.run(Stub(), 3, 9)[1] == 1
    assert batches.run(Stub(), 1, 9, order=np.arange(7)[::-1])[1] == 2
    assert taken == [[[0, 1], [2, 3]], [[4, 5]], [[6]], [[4, 3], [2, 1]]]
