"""Side by side with Keras 3, where it is installed: numbers, statistics, trajectories, files."""

import os
import warnings

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "jax")
try:
    import keras as real
except ImportError:
    message = "nothing was compared with Keras 3: it is not installed (pip install keras jax h5py)"
    warnings.warn(message, stacklevel=1)
    pytest.skip(message, allow_module_level=True)

import graphflow as gf
from graphflow import keras as ours

RNG = np.random.default_rng(0)
X = np.linspace(-4, 4, 33).astype("f4")
# Rows that are no probabilities yet, targets of each kind, weights of samples.
SCORES = RNG.normal(size=(6, 4)).astype("f4")
CHANCES = np.exp(SCORES) / np.exp(SCORES).sum(1, keepdims=True)
ONE_HOT = np.eye(4, dtype="f4")[[0, 3, 1, 1, 2, 0]]
SMOOTH = RNG.dirichlet(np.ones(4), 6).astype("f4")
LABELS = np.array([0, 3, 1, 1, 2, 0])
WEIGHTS = RNG.random(6).astype("f4")


def near(got, expected, tolerance=1e-5):
    np.testing.assert_allclose(
        np.asarray(got), np.asarray(expected), rtol=tolerance, atol=tolerance
    )


def evaluated(tensor):
    return gf.function([], tensor, mode="interpret")()


# ---- functions of a value --------------------------------------------------------------------

ACTIVATIONS = sorted(
    name for name in dir(ours.activations)
    if hasattr(real.activations, name) and callable(getattr(real.activations, name))
    and name not in ("get", "serialize", "deserialize", "glu", "threshold")
)  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    got = evaluated(getattr(ours.activations, name)(X))
    near(got, getattr(real.activations, name)(X))


def test_no_activation_is_missing():
    listed = {n for n in dir(real.activations) if not n.startswith("_")}
    missing = listed - set(ACTIVATIONS) - {"get", "serialize", "deserialize", "glu", "threshold"}
    assert missing == {"sparsemax"}


INITIALIZERS = {
    "glorot_uniform": {}, "glorot_normal": {}, "he_uniform": {}, "he_normal": {},
    "lecun_uniform": {}, "lecun_normal": {}, "random_normal": {"stddev": 0.2},
    "truncated_normal": {"stddev": 0.2, "mean": 0.1}, "random_uniform": {"minval": -1, "maxval": 2},
    "variance_scaling": {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"},
    "identity": {"gain": 2.0}, "ones": {}, "zeros": {}, "constant": {"value": 3.0},
    "orthogonal": {"gain": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("name", INITIALIZERS)
@pytest.mark.parametrize("shape", [(300, 200), (3, 3, 40, 90)])
def test_initializers_draw_from_the_same_distribution(name, shape):
    if name == "identity" and len(shape) > 2:
        pytest.skip("matrices only")
    options = INITIALIZERS[name]
    if name not in ("identity", "ones", "zeros", "constant"):
        options = {**options, "seed": 1}
    got, expected = (
        np.asarray(getattr(library.initializers, name)(**options)(shape), "f8").ravel()
        for library in (ours, real)
    )
    scale = float(expected.std()) + 1e-12
    assert got.mean() == pytest.approx(expected.mean(), abs=0.03 * scale)
    assert got.std() == pytest.approx(expected.std(), rel=0.03)
    tails = [0.1, 1, 10, 50, 90, 99, 99.9]
    near(np.percentile(got, tails) / scale, np.percentile(expected, tails) / scale, 0.12)
    # Where a distribution is cut, the extremes lie close to each other.
    if name not in ("random_normal", "variance_scaling", "orthogonal"):
        assert np.abs(got).max() == pytest.approx(np.abs(expected).max(), rel=0.01)


@pytest.mark.parametrize("name", ["L1", "L2", "L1L2", "OrthogonalRegularizer"])
def test_regularizers(name):
    weight = SCORES
    penalty = getattr(ours.regularizers, name)()(gf.variable(weight))
    near(evaluated(penalty), getattr(real.regularizers, name)()(weight))


# ---- losses and metrics ----------------------------------------------------------------------

LOSSES = {
    "MeanSquaredError": ({}, SMOOTH, SCORES),
    "MeanAbsoluteError": ({}, SMOOTH, SCORES),
    "MeanAbsolutePercentageError": ({}, SMOOTH, SCORES),
    "Hinge": ({}, ONE_HOT, SCORES),
    "KLDivergence": ({}, SMOOTH, CHANCES),
    "Huber": ({"delta": 0.7}, SMOOTH, SCORES),
    "BinaryCrossentropy": ({}, ONE_HOT, CHANCES),
    "BinaryCrossentropy/logits": ({"from_logits": True, "label_smoothing": 0.1}, ONE_HOT, SCORES),
    "CategoricalCrossentropy": ({}, ONE_HOT, CHANCES),
    "CategoricalCrossentropy/smooth": ({"label_smoothing": 0.2}, ONE_HOT, CHANCES),
    "CategoricalCrossentropy/logits": ({"from_logits": True}, SMOOTH, SCORES),
    "SparseCategoricalCrossentropy": ({}, LABELS, CHANCES),
    "SparseCategoricalCrossentropy/logits": ({"from_logits": True}, LABELS, SCORES),
}


@pytest.mark.parametrize("case", LOSSES)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", None])
@pytest.mark.parametrize("weighted", [False, True])
def test_losses(case, reduction, weighted):
    options, y, z = LOSSES[case]
    name = case.split("/")[0]
    weight = WEIGHTS if weighted else None
    expected = getattr(real.losses, name)(reduction=reduction, **options)(y, z, weight)
    got = getattr(ours.losses, name)(reduction=reduction, **options)(y, z, weight)
    near(evaluated(got) if isinstance(got, gf.Tensor) else got, expected)


METRICS = {
    "MeanSquaredError": ({}, SMOOTH, SCORES),
    "RootMeanSquaredError": ({}, SMOOTH, SCORES),
    "MeanAbsoluteError": ({}, SMOOTH, SCORES),
    "Accuracy": ({}, ONE_HOT, np.eye(4, dtype="f4")[LABELS[::-1]]),
    "BinaryAccuracy": ({"threshold": 0.3}, ONE_HOT, CHANCES),
    "CategoricalAccuracy": ({}, ONE_HOT, CHANCES),
    "SparseCategoricalAccuracy": ({}, LABELS, CHANCES),
    "TopKCategoricalAccuracy": ({"k": 2}, ONE_HOT, CHANCES),
    "SparseTopKCategoricalAccuracy": ({"k": 2}, LABELS, CHANCES),
    "BinaryCrossentropy": ({}, ONE_HOT, CHANCES),
    "CategoricalCrossentropy": ({}, ONE_HOT, CHANCES),
    "SparseCategoricalCrossentropy": ({}, LABELS, CHANCES),
    "KLDivergence": ({}, SMOOTH, CHANCES),
    "Precision": ({}, ONE_HOT, CHANCES),
    "Recall": ({}, ONE_HOT, CHANCES),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_over_two_batches(name, weighted):
    options, y, z = METRICS[name]
    results = []
    for library in (real, ours):
        metric = getattr(library.metrics, name)(**options)
        for rows in (slice(0, 4), slice(4, 6)):
            metric.update_state(y[rows], z[rows], WEIGHTS[rows] if weighted else None)
        results.append(float(metric.result()))
    near(results[1], results[0])


# ---- training --------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": ("SGD", {"learning_rate": 0.1}),
    "momentum": ("SGD", {"learning_rate": 0.1, "momentum": 0.9}),
    "nesterov": ("SGD", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "SGD, decay": ("SGD", {"learning_rate": 0.1, "weight_decay": 0.01}),
    "SGD, clipnorm": ("SGD", {"learning_rate": 0.1, "clipnorm": 0.05}),
    "SGD, clipvalue": ("SGD", {"learning_rate": 0.1, "clipvalue": 0.02}),
    "SGD, global_clipnorm": ("SGD", {"learning_rate": 0.1, "global_clipnorm": 0.05}),
    "Adam": ("Adam", {"learning_rate": 0.05}),
    "amsgrad": ("Adam", {"learning_rate": 0.05, "amsgrad": True, "beta_2": 0.9}),
    "AdamW": ("AdamW", {"learning_rate": 0.05, "weight_decay": 0.1}),
    "RMSprop": ("RMSprop", {"learning_rate": 0.01}),
    "RMSprop, centered": ("RMSprop", {"learning_rate": 0.01, "momentum": 0.5, "centered": True}),
}
ROWS = RNG.normal(size=(20, 5)).astype("f4")
CLASSES = RNG.integers(0, 3, 20)


def network(library):
    layers = library.layers
    return library.Sequential(
        [
            layers.Input((5,)),
            layers.Dense(7, activation="tanh", kernel_regularizer=library.regularizers.L2(0.01)),
            layers.BatchNormalization(momentum=0.9),
            layers.Dense(3, activation="softmax"),
        ]
    )


def pair():
    """The same network in both, with the same weights."""
    models = network(real), network(ours)
    models[1].set_weights(models[0].get_weights())
    return models


@pytest.mark.parametrize("case", OPTIMIZERS)
def test_five_steps_of_an_optimizer(case):
    name, options = OPTIMIZERS[case]
    models = pair()
    for library, model in zip((real, ours), models, strict=True):
        optimizer = getattr(library.optimizers, name)(**options)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        for _ in range(5):
            model.train_on_batch(ROWS, CLASSES)
    for expected, got in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        near(got, expected, 2e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"class_weight": {0: 3.0, 2: 0.5}},
        {"sample_weight": np.linspace(0, 2, 20)},
        {"validation_split": 0.25},
        {"validation_data": (ROWS[::2], CLASSES[::2], np.linspace(1, 2, 10))},
    ],
)
def test_histories_of_fit(options):
    histories = []
    for library, model in zip((real, ours), pair(), strict=True):
        model.compile(
            library.optimizers.Adam(0.01),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            weighted_metrics=["sparse_top_k_categorical_accuracy"],
        )
        fitted = model.fit(
            ROWS, CLASSES, batch_size=6, epochs=3, shuffle=False, verbose=0, **options
        )
        histories.append(fitted.history)
    assert list(histories[1]) == list(histories[0])
    for key, values in histories[0].items():
        near(histories[1][key], values, 1e-4)


SCHEDULES = {
    "ExponentialDecay": (0.1, 10, 0.5, True),
    "CosineDecay": (0.1, 20, 0.1),
    "PiecewiseConstantDecay": ([3, 7], [1.0, 0.5, 0.1]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    schedules = [
        getattr(library.optimizers.schedules, name)(*SCHEDULES[name]) for library in (real, ours)
    ]
    for step in (0, 2, 3, 4, 9, 10, 19, 25):
        near(evaluated(schedules[1](np.float32(step))), schedules[0](step))


# ---- files -----------------------------------------------------------------------------------


def test_files_that_keras_writes_now(tmp_path):
    source, target = network(real), network(ours)
    source.compile(
        real.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
        "sparse_categorical_crossentropy",
    )
    source.fit(ROWS, CLASSES, epochs=2, verbose=0)
    source.save(tmp_path / "m.keras")
    source.save_weights(tmp_path / "m.weights.h5")
    target.load_weights(tmp_path / "m.weights.h5")
    loaded = ours.models.load_model(tmp_path / "m.keras")
    expected = source.predict(ROWS, verbose=0)
    near(target.predict(ROWS, verbose=0), expected)
    near(loaded.predict(ROWS, verbose=0), expected)
    source.fit(ROWS, CLASSES, shuffle=False, verbose=0)
    loaded.fit(ROWS, CLASSES, shuffle=False, verbose=0)
    near(loaded.predict(ROWS, verbose=0), source.predict(ROWS, verbose=0), 1e-4)


def test_every_layer_that_both_have_is_read(tmp_path):
    layers = real.layers
    x = layers.Input((8, 8, 2))
    h = layers.Conv2D(4, 3, strides=2, padding="same", data_format="channels_last")(x)
    h = layers.LeakyReLU(0.1)(layers.ReLU(max_value=3.0)(h))
    h = layers.ZeroPadding2D(1)(h)
    pooled = layers.Average()([layers.MaxPooling2D(2)(h), layers.AveragePooling2D(2)(h)])
    a = layers.GlobalAveragePooling2D()(pooled)
    b = layers.GlobalMaxPooling2D()(layers.Rescaling(0.5, 0.1)(pooled))
    merged = layers.Concatenate()([
        layers.Maximum()([a, b]), layers.Minimum()([a, b]), layers.Subtract()([a, b]),
        layers.Multiply()([a, b]), layers.Add()([a, b]),
    ])  # fmt: skip
    merged = layers.Permute((2, 1))(layers.Reshape((5, 4))(merged))
    out = layers.Softmax()(layers.Dropout(0.3)(layers.Flatten()(merged)))
    out = layers.Activation("mish")(layers.LayerNormalization()(out))
    words = layers.Input((3,), dtype="int32")
    model = real.Model([x, words], [out, layers.Embedding(10, 4)(words)])
    model.save(tmp_path / "m.keras")
    images, indices = RNG.normal(size=(3, 8, 8, 2)).astype("f4"), RNG.integers(0, 10, (3, 3))
    got = ours.models.load_model(tmp_path / "m.keras").predict([images, indices], verbose=0)
    for mine, theirs in zip(got, model.predict([images, indices], verbose=0), strict=True):
        near(mine, theirs)


def test_keras_reads_weights_that_are_written_here(tmp_path):
    source, target = network(ours), network(real)
    source.set_weights([RNG.normal(size=w.shape) ** 2 for w in source.get_weights()])
    source.save_weights(tmp_path / "m.weights.h5")
    target.load_weights(tmp_path / "m.weights.h5")
    near(source.predict(ROWS, verbose=0), target.predict(ROWS, verbose=0))
