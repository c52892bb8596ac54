"""Training: networks learn, optimizers take the documented steps, callbacks do their work."""

import csv

import numpy as np
import pytest

import graphflow as gf
from graphflow import keras
from graphflow.errors import GraphError, ShapeError
from graphflow.keras import callbacks, layers, optimizers
from graphflow.keras.models import Model, Sequential

XOR = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4"), np.array([0, 1, 1, 0], "f4")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
Y = X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3


def line(optimizer="sgd", loss="mse", **options):
    """One dense unit, started from fixed weights."""
    model = Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile(optimizer, loss, jit_compile=False, **options)
    model.set_weights([np.full((3, 1), 0.5), np.zeros(1)])
    return model


# ---- learning --------------------------------------------------------------------------------


def test_xor_is_learned_up_to_a_threshold():
    keras.utils.set_random_seed(1)
    model = Sequential([layers.Dense(8, "tanh", input_shape=(2,)), layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    model.optimizer.learning_rate = 0.1
    stop = callbacks.StopAtThreshold("loss", 0.05)
    history = model.fit(*XOR, epochs=500, verbose=0, callbacks=[stop])
    assert history.history["loss"][-1] <= 0.05 < history.history["loss"][-2]
    assert stop.stopped_epoch == len(history.epoch) - 1 < 499
    assert np.array_equal(model.predict(XOR[0], verbose=0)[:, 0] > 0.5, XOR[1] > 0)


def test_a_convolutional_network_learns_which_half_is_bright():
    keras.utils.set_random_seed(2)
    x = RNG.random((60, 8, 8, 1))
    y = np.arange(60) % 2
    x[y == 0, :4] += 1
    x[y == 1, 4:] += 1
    model = Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", padding="same"),
            layers.BatchNormalization(momentum=0.5),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.RMSprop(0.01), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(x, y, epochs=5, batch_size=16, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.95


def test_compiled_and_interpreted_training_agree():
    results = []
    for jit in (True, False):
        model = line("adam", metrics=["mae"])
        model.compile("adam", "mse", metrics=["mae"], jit_compile=jit)
        history = model.fit(X, Y, epochs=3, batch_size=16, shuffle=False, verbose=0)
        results.append((history.history, model.get_weights()))
    (first, weights), (second, others) = results
    for key in ("loss", "mae"):
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5)
    np.testing.assert_allclose(weights[0], others[0], rtol=1e-5)


# ---- optimizers ------------------------------------------------------------------------------


def sgd(w, g, s, t):
    return w - 0.01 * g


def momentum(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) - 0.1 * g
    return w + s["v"]


def nesterov(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) - 0.1 * g
    return w + 0.9 * s["v"] - 0.1 * g


def adam(w, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    alpha = 0.001 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return w - alpha * s["m"] / (np.sqrt(s["v"]) + 1e-7)


def adamw(w, g, s, t):
    return adam(w, g, s, t) - 0.001 * 0.004 * w


def rmsprop(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g * g
    return w - 0.001 * g / np.sqrt(s["v"] + 1e-7)


def clipped(w, g, s, t):
    return w - 0.01 * g * min(1, 0.5 / np.sqrt((g * g).sum()))


OPTIMIZERS = [
    ("sgd", sgd),
    (lambda: optimizers.SGD(0.1, momentum=0.9), momentum),
    (lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True), nesterov),
    ("adam", adam),
    ("adamw", adamw),
    ("rmsprop", rmsprop),
    (lambda: optimizers.SGD(clipnorm=0.5), clipped),
]


@pytest.mark.parametrize(("optimizer", "rule"), OPTIMIZERS)
def test_first_steps_of_an_optimizer(optimizer, rule):
    model = line(optimizer() if callable(optimizer) else optimizer)
    w, b = np.full((3, 1), 0.5), np.zeros(1)
    states = {}, {}
    for step in range(1, 5):
        error = X @ w + b - Y
        gradients = 2 * X.T @ error / len(X), 2 * error.mean(0)
        model.train_on_batch(X, Y)
        w, b = (
            rule(p, g, s, step) for p, g, s in zip((w, b), gradients, states, strict=True)
        )  # fmt: skip
        np.testing.assert_allclose(model.get_weights()[0], w, rtol=2e-4, atol=1e-6)
        np.testing.assert_allclose(model.get_weights()[1], b, rtol=2e-4, atol=1e-6)
    assert int(model.optimizer.iterations.value) == 4


@pytest.mark.parametrize("optimizer", ["adam", optimizers.SGD(0.1, momentum=0.9), "rmsprop"])
def test_averages_do_not_become_the_slow_subnormal_numbers(optimizer):
    model = line(optimizer)
    model.compile(optimizer, "mse", jit_compile=True)
    model.train_on_batch(X, Y)
    state = [v for v in model.optimizer.variables if v.name.endswith(("momentum", "velocity"))]
    for variable in state:
        variable.value = np.full(variable.shape, 1e-37)
    for _ in range(60):
        model.train_on_batch(np.zeros_like(X), np.zeros_like(Y))
    values = np.concatenate([v.value.ravel() for v in state if "kernel" in v.name])
    assert values.size and not ((values != 0) & (np.abs(values) < np.finfo("f4").tiny)).any()
    model.train_on_batch(np.full_like(X, np.nan), Y)
    assert np.isnan(model.get_weights()[0]).all()


def test_learning_rates_follow_a_schedule():
    schedule = optimizers.schedules.ExponentialDecay(0.1, decay_steps=2, decay_rate=0.5)
    model = line(optimizers.SGD(schedule))
    rates = []
    for _ in range(3):
        rates.append(model.optimizer.learning_rate)
        model.train_on_batch(X, Y)
    np.testing.assert_allclose(rates, 0.1 * 0.5 ** (np.arange(3) / 2), rtol=1e-5)
    with pytest.raises(GraphError, match="follows a schedule"):
        model.optimizer.learning_rate = 1.0


def test_penalties_count_in_the_loss():
    model = Sequential([layers.Dense(1, kernel_regularizer="l2", input_shape=(3,))])
    model.compile("sgd", "mse", jit_compile=False)
    model.set_weights([np.full((3, 1), 2.0), np.zeros(1)])
    expected = ((X @ np.full((3, 1), 2.0) - Y) ** 2).mean() + 0.01 * 12
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_frozen_layers_stay():
    model = Sequential([layers.Dense(2, input_shape=(3,)), layers.Dense(1)])
    model.layers[0].trainable = False
    model.compile("sgd", "mse", jit_compile=False)
    before = model.get_weights()
    model.fit(X, Y, verbose=0)
    after = model.get_weights()
    assert np.array_equal(before[0], after[0]) and not np.array_equal(before[2], after[2])


# ---- data ------------------------------------------------------------------------------------


def test_history_has_the_keys_of_keras_and_a_smaller_last_batch_counts_right():
    model = line("sgd", metrics=["mae"])
    model.optimizer.learning_rate = 0.0
    history = model.fit(X, Y, epochs=2, batch_size=16, validation_split=0.2, verbose=0)
    assert list(history.history) == ["loss", "mae", "val_loss", "val_mae"]
    error = X @ np.full((3, 1), 0.5) - Y
    assert history.history["loss"][0] == pytest.approx((error[:40] ** 2).mean(), rel=1e-5)
    assert history.history["val_mae"][1] == pytest.approx(np.abs(error[40:]).mean(), rel=1e-5)
    # All sizes of batches run by one function.
    assert len(model.steps._functions) == 2


def test_weights_of_samples_and_classes():
    x, y = X[:4], np.array([0, 1, 1, 0])
    model = Sequential([layers.Dense(2, activation="softmax", input_shape=(3,))])
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    p = model.predict(x, verbose=0)[np.arange(4), y]
    weights = np.array([1.0, 2.0, 0.0, 3.0])
    got = model.evaluate(x, y, sample_weight=weights, verbose=0)
    assert got == pytest.approx(-(weights * np.log(p)).sum() / 4, rel=1e-5)
    history = model.fit(x, y, class_weight={1: 5.0}, verbose=0)
    expected = -(np.where(y == 1, 5, 1) * np.log(p)).mean()
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_rows_are_reshaped_with_one_warning():
    model = Sequential([layers.Flatten(input_shape=(2, 3)), layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.zeros((4, 6))
    with pytest.warns(UserWarning, match=r"\(6,\) are reshaped to \(2, 3\)") as seen:
        model.fit(x, np.zeros(4), epochs=2, verbose=0)
        model.evaluate(x, np.zeros(4), verbose=0)
        model.predict(x, verbose=0)
    assert len(seen) == 1 and seen[0].filename == __file__
    with pytest.raises(ShapeError, match="cannot be reshaped"):
        model.predict(np.zeros((4, 7)), verbose=0)


def test_shuffling_repeats_with_the_seed():
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        model = Sequential([layers.Dropout(0.3, input_shape=(3,)), layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=False)
        runs.append(model.fit(X, Y, epochs=2, batch_size=8, verbose=0).history["loss"])
    assert runs[0] == runs[1]


def test_several_outputs():
    a = keras.Input((3,))
    model = Model(a, [layers.Dense(1, name="p")(a), layers.Dense(2, name="q")(a)])
    model.compile(
        "sgd", ["mse", "mae"], loss_weights=[1.0, 0.5], metrics=[["mae"], []], jit_compile=False
    )
    got = model.evaluate(X, [Y, X[:, :2]], verbose=0, return_dict=True)
    assert list(got) == ["loss", "p_loss", "q_loss", "p_mae"]
    assert got["loss"] == pytest.approx(got["p_loss"] + 0.5 * got["q_loss"])


# ---- callbacks -------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights():
    model = line(optimizers.SGD(5.0))
    stop = callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    before = {}
    keep = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: before.setdefault(epoch, model.get_weights())
    )
    history = model.fit(X, Y, epochs=50, batch_size=50, verbose=0, callbacks=[stop, keep])
    assert len(history.epoch) == 3 and stop.best_epoch == 0
    assert np.array_equal(model.get_weights()[0], before[0][0])


def test_learning_rate_falls_on_a_plateau():
    model = line(optimizers.SGD(5.0))
    reduce = callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=1)
    history = model.fit(X, Y, epochs=3, batch_size=50, verbose=0, callbacks=[reduce])
    np.testing.assert_allclose(history.history["learning_rate"], [5.0, 5.0, 0.5], rtol=1e-6)


def test_checkpoints_and_logs(tmp_path):
    model = line()
    model.fit(
        X,
        Y,
        epochs=3,
        initial_epoch=1,
        verbose=0,
        callbacks=[
            callbacks.ModelCheckpoint(tmp_path / "m{epoch}.gflow"),
            callbacks.ModelCheckpoint(tmp_path / "best.npz", "loss", save_best_only=True,
                                      save_weights_only=True),
            callbacks.CSVLogger(tmp_path / "log.csv"),
        ],
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "best.npz", "log.csv", "m2.gflow", "m3.gflow"
    ]  # fmt: skip
    rows = list(csv.reader((tmp_path / "log.csv").open()))
    assert rows[0] == ["epoch", "loss"] and [row[0] for row in rows[1:]] == ["1", "2"]


def test_callbacks_see_every_batch_and_can_stop():
    seen = []

    class Stop(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((batch, logs["loss"] > 0))
            self.model.stop_training = batch == 1

    line().fit(X, Y, epochs=3, batch_size=10, verbose=0, callbacks=[Stop()])
    assert seen == [(0, True), (1, True)]
    with pytest.raises(GraphError, match="there is no result 'val_loss'"):
        line().fit(X, Y, verbose=0, callbacks=[callbacks.EarlyStopping()])


def test_what_fit_prints(capsys):
    model = line(metrics=["mae"])
    model.fit(X, Y, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Epoch 1/2" and len(lines) == 4
    assert lines[1].startswith("2/2 ━━━━━━━━━━━━━━━━━━━━ ") and " - loss: " in lines[1]
    assert "\r" not in "".join(lines)
    model.fit(X, Y, verbose=0)
    model.evaluate(X, Y, verbose=0)
    assert capsys.readouterr() == ("", "")


# ---- refusals --------------------------------------------------------------------------------


def test_a_summary_says_what_is_connected_where_that_is_no_chain():
    a = keras.Input((3,), name="a")
    h = layers.Dense(3, name="h")(a)
    chain, branched = Model(a, h), Model(a, layers.Add(name="sum")([h, a]))
    lines = []
    branched.summary(print_fn=lines.append)
    header, *_, last = [line for line in lines[0].splitlines() if "│" in line]
    assert "Connected to" in header
    assert [cell.strip() for cell in last.split("│")[1:-1]] == [
        "sum (Add)",
        "(None, 3)",
        "0",
        "h, a",
    ]
    chain.summary(print_fn=lines.append)
    assert "Connected" not in lines[1]
    wide = []
    chain.summary(line_length=90, print_fn=wide.append)
    assert len(wide[0].splitlines()[1]) == 90


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: layers.Dense(3, actvation="relu"),
            "Dense: .*'actvation'; did you mean activation",
        ),
        (lambda: layers.Flatten(size=3), "Flatten: there is no argument 'size'; expected one of"),
        (lambda: optimizers.SGD(lr=0.1), "'lr'; did you mean learning_rate"),
        (lambda: line("adamm"), "'adamm' is unknown; did you mean 'adam'"),
        (lambda: line(loss="mean_squared"), "did you mean 'mean_squared_error'"),
        (lambda: line(metrics=["mae", "rsme"]), "'rsme' is unknown; did you mean 'rmse'"),
        (lambda: line().fit(X, Y[:30]), "x has 50, y has 30 samples"),
        (lambda: line().predict(X[0], verbose=0), r"This is one sample: x\[None\]"),
    ],
)
def test_mistakes_are_met_with_what_may_be_meant(call, message):
    with pytest.raises(GraphError, match=message):
        call()


def test_what_a_static_graph_cannot_do_is_said():
    with pytest.raises(GraphError, match="run_eagerly=True is not possible"):
        line(run_eagerly=True)

    class Own(Sequential):
        def train_step(self, data):
            return {}

    with pytest.raises(GraphError, match="train_step would run in Python"):
        Own([layers.Dense(1)]).compile("sgd", "mse")
    with pytest.raises(GraphError, match="not compiled"):
        Sequential([layers.Dense(1)]).fit(X, Y)
    with pytest.raises(GraphError, match="optimizer: 'adan' is unknown"):
        line("adan")
    with pytest.raises(GraphError, match="expected arrays"):
        line().fit(iter([1]), Y)


def test_to_categorical_and_plot(tmp_path):
    got = keras.utils.to_categorical([[1], [0]], 3)
    assert got.tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(GraphError, match="expected 0 to 1"):
        keras.utils.to_categorical([0, 2], 2)
    keras.utils.plot_model(line(), tmp_path / "m.svg")
    assert (tmp_path / "m.svg").read_text().startswith("<svg")


def test_a_loss_function_of_ones_own():
    model = line(loss=lambda t, p: gf.mean(gf.abs(t - p), -1))
    expected = np.abs(X @ np.full((3, 1), 0.5) - Y).mean()
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(expected, rel=1e-5)


def test_functions_objects_and_lists_are_taken_as_names_are():
    model = Sequential([layers.Dense(1, input_shape=(3,))])
    metric = keras.metrics.MeanAbsoluteError()
    model.compile(optimizers.Adam(1e-3), keras.losses.mse, metrics=[metric], jit_compile=False)
    history = model.fit(X.tolist(), Y[:, 0].tolist(), verbose=0)
    assert list(history.history) == ["loss", "mean_absolute_error"]
    rows = [[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]]
    assert np.array_equal(model(rows), model.predict(np.array(rows), verbose=0))
    assert model.predict([[1.0, 2.0, 3.0]], verbose=0).shape == (1, 1)
