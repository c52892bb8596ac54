"""Losses and metrics against formulas in NumPy, for every way to name them."""

import numpy as np
import pytest

from graphflow.errors import GraphError, ShapeError
from graphflow.keras import layers, losses, metrics
from graphflow.keras.models import Sequential

RNG = np.random.default_rng(0)
T = RNG.normal(size=(6, 3)).astype("f4")
P = RNG.normal(size=(6, 3)).astype("f4")
LABELS = np.array([0, 1, 2, 2, 1, 0])
ONE_HOT = np.eye(3, dtype="f4")[LABELS]
PROBABILITIES = np.exp(P) / np.exp(P).sum(1, keepdims=True)
BITS = (T > 0).astype("f4")
CHANCES = 1 / (1 + np.exp(-P))


def huber(t, p):
    e = np.abs(p - t)
    return np.where(e <= 1, e**2 / 2, e - 0.5).mean()


CASES = {
    "mse": (T, P, ((P - T) ** 2).mean()),
    "mae": (T, P, np.abs(P - T).mean()),
    "huber": (T, P, huber(T, P)),
    "hinge": (np.sign(T), P, np.maximum(1 - np.sign(T) * P, 0).mean()),
    "kl_divergence": (
        ONE_HOT * 0.7 + 0.1, PROBABILITIES,
        ((ONE_HOT * 0.7 + 0.1) * np.log((ONE_HOT * 0.7 + 0.1) / PROBABILITIES)).sum(1).mean(),
    ),
    "categorical_crossentropy": (
        ONE_HOT, PROBABILITIES, -np.log(PROBABILITIES[np.arange(6), LABELS]).mean()
    ),
    "sparse_categorical_crossentropy": (
        LABELS, PROBABILITIES, -np.log(PROBABILITIES[np.arange(6), LABELS]).mean()
    ),
    "binary_crossentropy": (
        BITS, CHANCES, -(BITS * np.log(CHANCES) + (1 - BITS) * np.log(1 - CHANCES)).mean()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_loss_values(name):
    target, output, expected = CASES[name]
    loss = losses.get(name)
    assert float(loss(target, output)) == pytest.approx(expected, rel=1e-4)
    assert float(losses.get(type(loss))(target, output)) == pytest.approx(expected, rel=1e-4)
    copy = losses.get({"class_name": type(loss).__name__, "config": loss.get_config()})
    assert float(copy(target, output)) == pytest.approx(expected, rel=1e-4)


def test_losses_from_logits_and_smoothed():
    sparse = losses.SparseCategoricalCrossentropy(from_logits=True)
    assert float(sparse(LABELS, P)) == pytest.approx(CASES["categorical_crossentropy"][2], rel=1e-4)
    binary = losses.BinaryCrossentropy(from_logits=True)
    assert float(binary(BITS, P)) == pytest.approx(CASES["binary_crossentropy"][2], rel=1e-4)
    smooth = losses.CategoricalCrossentropy(label_smoothing=0.3)
    expected = -((ONE_HOT * 0.7 + 0.1) * np.log(PROBABILITIES)).sum(1).mean()
    assert float(smooth(ONE_HOT, PROBABILITIES)) == pytest.approx(expected, rel=1e-4)


def test_weights_and_reductions():
    weights = np.arange(6, dtype="f4")
    per_sample = ((P - T) ** 2).mean(1)
    expected = (weights * per_sample).sum()
    assert float(losses.MeanSquaredError()(T, P, weights)) == pytest.approx(expected / 6, rel=1e-5)
    total = losses.MeanSquaredError(reduction="sum")
    assert float(total(T, P, weights)) == pytest.approx(expected, rel=1e-5)
    parts = losses.MeanSquaredError(reduction="none")(T, P)
    np.testing.assert_allclose(np.asarray(parts), per_sample, rtol=1e-5)
    with pytest.raises(GraphError, match="loss: 'msa' is unknown"):
        losses.get("msa")


def test_metrics_add_up_over_batches():
    hits = PROBABILITIES.argmax(1) == LABELS
    metric = metrics.SparseCategoricalAccuracy()
    metric.update_state(LABELS[:4], PROBABILITIES[:4])
    metric.update_state(LABELS[4:], PROBABILITIES[4:])
    assert metric.result() == pytest.approx(hits.mean())
    metric.reset_state()
    assert metric.result() == 0
    weights = np.arange(6.0)
    weighted = metrics.CategoricalAccuracy()(ONE_HOT, PROBABILITIES, weights)
    assert weighted == pytest.approx((hits * weights).sum() / weights.sum())


def test_metric_values():
    assert metrics.BinaryAccuracy()(BITS, CHANCES) == pytest.approx(
        ((CHANCES > 0.5) == BITS).mean()
    )
    assert metrics.get("rmse")(T, P) == pytest.approx(np.sqrt(((P - T) ** 2).mean()), rel=1e-5)
    assert metrics.get("mae")(T, P) == pytest.approx(np.abs(P - T).mean(), rel=1e-5)
    rank = (PROBABILITIES > PROBABILITIES[np.arange(6), LABELS][:, None]).sum(1)
    top = metrics.SparseTopKCategoricalAccuracy(k=2)(LABELS, PROBABILITIES)
    assert top == pytest.approx((rank < 2).mean())
    said, so = CHANCES > 0.5, BITS > 0
    assert metrics.Precision()(BITS, CHANCES) == pytest.approx((said & so).sum() / said.sum())
    assert metrics.Recall()(BITS, CHANCES) == pytest.approx((said & so).sum() / so.sum())
    assert metrics.Mean()([1.0, 2.0, 6.0]) == pytest.approx(3)


@pytest.mark.parametrize(
    ("loss", "units", "y", "kind"),
    [
        ("sparse_categorical_crossentropy", 3, LABELS, metrics.SparseCategoricalAccuracy),
        ("sparse_categorical_crossentropy", 3, LABELS[:, None], metrics.SparseCategoricalAccuracy),
        ("categorical_crossentropy", 3, ONE_HOT, metrics.CategoricalAccuracy),
        ("binary_crossentropy", 1, LABELS % 2, metrics.BinaryAccuracy),
        ("mse", 3, ONE_HOT, metrics.CategoricalAccuracy),
    ],
)
def test_accuracy_fits_itself_to_loss_and_targets(loss, units, y, kind):
    model = Sequential([layers.Dense(units, activation="sigmoid", input_shape=(3,))])
    model.compile("sgd", loss, metrics=["accuracy"], jit_compile=False)
    value, accuracy = model.evaluate(P, y, verbose=0)
    assert type(model.metrics[1]) is kind
    output = model.predict(P, verbose=0)
    expected = (
        ((output[:, 0] > 0.5) == y) if units == 1 else output.argmax(1) == (
            y.argmax(1) if y.ndim == 2 and y.shape[1] == 3 else y.ravel())
    )  # fmt: skip
    assert accuracy == pytest.approx(expected.mean()) and value > 0


def test_targets_that_do_not_fit_are_refused():
    model = Sequential([layers.Dense(3, activation="softmax", input_shape=(3,))])
    model.compile("sgd", "categorical_crossentropy", jit_compile=False)
    with pytest.raises(ShapeError, match="sparse_categorical_crossentropy, or to_categorical"):
        model.fit(P, LABELS, verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    with pytest.raises(ShapeError, match="y.argmax"):
        model.fit(P, ONE_HOT, verbose=0)
    with pytest.raises(ValueError, match="x has 6, y has 4 samples"):
        model.fit(P, LABELS[:4], verbose=0)
