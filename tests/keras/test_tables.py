"""Initializers, activations and regularizers: values against formulas, and argument checks."""

import math

import numpy as np
import pytest

from graphflow import keras
from graphflow.errors import GraphError, ShapeError
from graphflow.keras import activations, initializers, layers, regularizers

X = np.linspace(-3, 3, 25).astype("f4")


def values(tensor):
    import graphflow as gf

    return gf.function([], tensor, mode="interpret")()


SIGMOID = 1 / (1 + np.exp(-X))
FORMULAS = {
    "celu": np.where(X > 0, X, np.expm1(X)),
    "hard_silu": X * np.clip(X + 3, 0, 6) / 6,
    "hard_swish": X * np.clip(X + 3, 0, 6) / 6,
    "hard_shrink": np.where(np.abs(X) > 0.5, X, 0),
    "hard_tanh": np.clip(X, -1, 1),
    "leaky_relu": np.where(X > 0, X, 0.2 * X),
    "log_sigmoid": np.log(SIGMOID),
    "mish": X * np.tanh(np.log1p(np.exp(X))),
    "soft_shrink": np.sign(X) * np.maximum(np.abs(X) - 0.5, 0),
    "sparse_plus": np.where(X <= -1, 0, np.where(X < 1, (X + 1) ** 2 / 4, X)),
    "sparse_sigmoid": np.clip((X + 1) / 2, 0, 1),
    "squareplus": (X + np.sqrt(X * X + 4)) / 2,
    "swish": X * SIGMOID,
    "tanh_shrink": X - np.tanh(X),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations(name):
    got = layers.Activation(name)(X)
    np.testing.assert_allclose(got, FORMULAS[name], rtol=1e-5, atol=1e-6)
    assert activations.get(activations.serialize(activations.get(name))) is activations.get(name)


def test_activations_with_arguments():
    np.testing.assert_allclose(
        values(activations.celu(X, 2.0)), np.where(X > 0, X, 2 * np.expm1(X / 2)), rtol=1e-5
    )
    halves = X[:24].reshape(2, 12)
    expected = halves[:, :6] / (1 + np.exp(-halves[:, 6:]))
    np.testing.assert_allclose(values(activations.glu(halves)), expected, rtol=1e-5)
    with pytest.raises(ShapeError, match="even size"):
        activations.glu(X)
    np.testing.assert_array_equal(values(activations.threshold(X, 1.0, 9.0)), np.where(X > 1, X, 9))


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "truncated_normal", "untruncated_normal"])
def test_variance_scaling(mode, distribution):
    shape = (3, 3, 20, 80)
    make = initializers.VarianceScaling(3.0, mode, distribution, seed=1)
    draw = make(shape).astype("f8")
    fan = {"fan_in": 180, "fan_out": 720, "fan_avg": 450}[mode]
    stddev = math.sqrt(3.0 / fan)
    assert draw.std() == pytest.approx(stddev, rel=0.03)
    assert abs(draw.mean()) < 0.03 * stddev
    largest = np.abs(draw).max() / stddev
    if distribution == "uniform":
        assert largest == pytest.approx(math.sqrt(3), rel=0.01)
    elif distribution == "truncated_normal":
        assert largest == pytest.approx(2 / 0.8796256610342398, rel=0.01)
    else:
        assert largest > 3.5
    again = initializers.get(initializers.VarianceScaling.from_config(make.get_config()))
    np.testing.assert_array_equal(again(shape), make(shape))


def test_named_presets_are_variance_scalings():
    for name, arguments in {
        "glorot_uniform": (1.0, "fan_avg", "uniform"),
        "glorot_normal": (1.0, "fan_avg", "normal"),
        "he_uniform": (2.0, "fan_in", "uniform"),
        "he_normal": (2.0, "fan_in", "truncated_normal"),
        "lecun_uniform": (1.0, "fan_in", "uniform"),
        "lecun_normal": (1.0, "fan_in", "truncated_normal"),
    }.items():
        preset = getattr(initializers, name)(seed=7)
        assert preset.get_config() == {"seed": 7}
        expected = initializers.VarianceScaling(*arguments, seed=7)((30, 40))
        np.testing.assert_array_equal(preset((30, 40)), expected)


def test_identity_constant_and_orthogonal():
    np.testing.assert_array_equal(initializers.Identity(2.0)((2, 3)), [[2, 0, 0], [0, 2, 0]])
    table = np.arange(6.0).reshape(2, 3)
    layer = layers.Dense(3, kernel_initializer=initializers.Constant(table), input_shape=(2,))
    model = keras.Sequential([layer])
    np.testing.assert_array_equal(layer.kernel.value, table)
    copy = keras.Sequential.from_config(model.get_config())
    np.testing.assert_array_equal(copy.layers[0].kernel.value, table)
    for shape in ((6, 4), (4, 6), (2, 3, 5)):
        q = initializers.Orthogonal(gain=3.0, seed=0)(shape).reshape(-1, shape[-1]) / 3
        product = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
        np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: initializers.Identity()((3,)), "expected a matrix"),
        (lambda: initializers.Constant([1, 2])((3,)), r"\(2,\); expected one number, or \(3,\)"),
        (lambda: initializers.Orthogonal()((3,)), "two axes"),
        (lambda: initializers.VarianceScaling(mode="fan"), "mode 'fan' is unknown"),
        (lambda: initializers.VarianceScaling(distribution="gamma"), "'gamma' is unknown"),
        (lambda: initializers.VarianceScaling(0), "scale is 0; expected a number > 0"),
        (lambda: initializers.get("glorot"), "'glorot' is unknown"),
        (lambda: regularizers.L2(-1), "L2: l2 is -1; expected a number >= 0"),
        (lambda: regularizers.L1("a"), "L1: l1 is 'a'"),
        (lambda: regularizers.L1L2(0.1, float("nan")), "L1L2: l2 is nan"),
        (lambda: regularizers.L1L2(l1=None), "L1L2: l1 is None"),
        (lambda: regularizers.OrthogonalRegularizer(mode="all"), "'rows' or 'columns'"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(GraphError, match=message):
        call()


def test_orthogonal_regularizer():
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    for mode, rows in (("rows", weight), ("columns", weight.T)):
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        products = np.abs(unit @ unit.T)
        pairs = products[np.triu_indices(len(rows), 1)]
        layer = layers.Dense(4, kernel_regularizer=regularizers.OrthogonalRegularizer(0.1, mode))
        layer(np.ones((1, 3), "f4"))
        layer.kernel.value = weight
        (penalty,) = layer.penalties()
        assert values(penalty) == pytest.approx(0.1 * pairs.mean(), rel=1e-5)
