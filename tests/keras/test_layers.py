"""Layers: shapes and values against formulas in NumPy, and what they refuse."""

import numpy as np
import pytest

import graphflow as gf
from graphflow import keras
from graphflow.errors import GraphError, ShapeError
from graphflow.keras import initializers, layers
from graphflow.keras.models import Model, Sequential

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 5)).astype("f4")
IMAGES = RNG.normal(size=(2, 6, 6, 3)).astype("f4")


def near(got, expected, tolerance=1e-5):
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_dense_is_an_affine_map():
    layer = layers.Dense(3, activation="tanh", bias_initializer="ones")
    near(layer(X), np.tanh(X @ layer.kernel.value + 1))
    assert [w.name.split("/")[1] for w in layer.weights] == ["kernel", "bias"]
    assert layer.count_params() == 18
    near(layers.Dense(2, use_bias=False)(np.zeros((2, 3, 4), "f4")), np.zeros((2, 3, 2)))


def test_flatten_and_reshape():
    near(layers.Flatten()(IMAGES), IMAGES.reshape(2, -1))
    assert layers.Flatten().compute_output_shape((None, 2, 3)) == (None, 6)
    near(layers.Reshape((-1, 3))(IMAGES), IMAGES.reshape(2, 36, 3))
    near(layers.Permute((2, 1))(np.ones((2, 3, 4), "f4")), np.ones((2, 4, 3)))
    with pytest.raises(ShapeError, match="do not fill"):
        layers.Reshape((5, 5))(IMAGES)


def test_activation_layers():
    near(layers.ReLU()(X), np.maximum(X, 0))
    near(
        layers.ReLU(max_value=1.0, negative_slope=0.1)(X),
        np.clip(np.where(X > 0, X, 0.1 * X), -9, 1),
    )
    near(layers.LeakyReLU(0.2)(X), np.where(X > 0, X, 0.2 * X))
    weights = np.exp(X)
    near(layers.Softmax()(X), weights / weights.sum(1, keepdims=True))
    near(layers.Activation("sigmoid")(X), 1 / (1 + np.exp(-X)))
    with pytest.raises(GraphError, match="activation: 'rely' is unknown"):
        layers.Activation("rely")


def windows(x, size):
    """(batch, height', width', size, size, channels) of all windows with stride 1."""
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.moveaxis(view, 3, -1)


def test_conv2d():
    layer = layers.Conv2D(4, 3, activation="relu", bias_initializer="ones")
    got = layer(IMAGES)
    expected = np.einsum("nhwijc,ijco->nhwo", windows(IMAGES, 3), layer.kernel.value) + 1
    near(got, np.maximum(expected, 0), 1e-4)
    assert layers.Conv2D(4, 3, strides=2, padding="same")(IMAGES).shape == (2, 3, 3, 4)
    first = layers.Conv2D(2, 3, data_format="channels_first")(np.moveaxis(IMAGES, -1, 1))
    assert first.shape == (2, 2, 4, 4)
    with pytest.raises(ShapeError, match="expected 4 axes"):
        layers.Conv2D(4, 3)(X)


def test_pooling():
    blocks = IMAGES.reshape(2, 3, 2, 3, 2, 3)
    near(layers.MaxPooling2D()(IMAGES), blocks.max((2, 4)))
    near(layers.AveragePooling2D(2)(IMAGES), blocks.mean((2, 4)))
    near(layers.MaxPooling2D(3, strides=1)(IMAGES), windows(IMAGES, 3).max((3, 4)))
    near(layers.GlobalAveragePooling2D()(IMAGES), IMAGES.mean((1, 2)))
    near(layers.GlobalMaxPooling2D(keepdims=True)(IMAGES), IMAGES.max((1, 2), keepdims=True))


def test_batch_normalization_in_training_and_out():
    layer = layers.BatchNormalization()
    near(layer(X), X / np.sqrt(1 + 1e-3))
    near(layer(X, training=True), (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-3), 1e-4)
    near(layer.moving_mean.value, 0.01 * X.mean(0))
    near(layer.moving_variance.value, 0.99 + 0.01 * X.var(0))
    assert len(layer.trainable_weights) == 2 and len(layer.non_trainable_weights) == 2
    layer.trainable = False
    before = layer.moving_mean.value
    layer(X, training=True)
    near(layer.moving_mean.value, before)


def test_layer_normalization_and_rescaling():
    centred = X - X.mean(1, keepdims=True)
    expected = centred / np.sqrt(X.var(1, keepdims=True) + 1e-3)
    near(layers.LayerNormalization()(X), expected, 1e-4)
    near(layers.Rescaling(0.5, offset=1.0)(X), X * 0.5 + 1)


def test_dropout_keeps_the_mean_and_rests_outside_training():
    layer = layers.Dropout(0.25, seed=3)
    ones = np.ones((200, 100), "f4")
    near(layer(ones), ones)
    got = layer(ones, training=True)
    near(np.unique(got), [0.0, 4 / 3])
    assert abs(got.mean() - 1) < 0.02
    with pytest.raises(GraphError, match="expected a number in 0..1"):
        layers.Dropout(1.5)


def test_merging():
    a, b = X, 2 * X + 1
    near(layers.Add()([a, b]), a + b)
    near(layers.Subtract()([a, b]), a - b)
    near(layers.Multiply()([a, b]), a * b)
    near(layers.Average()([a, b]), (a + b) / 2)
    near(layers.Maximum()([a, b]), np.maximum(a, b))
    near(layers.Concatenate()([a, b]), np.concatenate([a, b], -1))
    with pytest.raises(GraphError, match="at least two"):
        layers.Add()(a)


def test_embedding():
    layer = layers.Embedding(7, 3)
    near(layer(np.array([[0, 6], [2, 2]])), layer.embeddings.value[[[0, 6], [2, 2]]])


def test_functional_model_with_shared_layer_and_two_inputs():
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    shared = layers.Dense(3)
    model = Model([a, b], layers.Add()([shared(a), shared(b)]))
    model.compile(jit_compile=False)
    expected = (X + 2 * X) @ shared.kernel.value
    near(model.predict([X, 2 * X], verbose=0), expected, 1e-4)
    near(model.predict({"b": 2 * X, "a": X}, verbose=0), expected, 1e-4)
    assert model.output_shape == (None, 3) and len(model.weights) == 2
    with pytest.raises(GraphError, match="not among the inputs"):
        Model(a, shared(b))


def test_nested_and_deferred_models():
    inner = Sequential([layers.Dense(4, activation="relu")])
    model = Sequential([inner, layers.Dense(2)])
    with pytest.raises(GraphError, match="input shape is unknown"):
        model.count_params()
    model.compile(jit_compile=False)
    assert model.predict(X, verbose=0).shape == (4, 2)
    assert model.count_params() == 5 * 4 + 4 + 4 * 2 + 2


def test_a_layer_of_ones_own():
    class Scale(layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_weight(input_shape[-1:], "ones", name="factor")

        def call(self, inputs, training=False):
            return inputs * self.factor * (2.0 if training else 1.0)

    near(Scale()(X), X)
    near(Scale()(X, training=True), 2 * X)
    x = gf.placeholder(("batch", 5))
    assert Scale()(x).shape == x.shape


def test_a_model_class_of_ones_own():
    class Net(Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = layers.Dense(4), layers.Dense(1)

        def call(self, inputs):
            return self.head(self.hidden(inputs))

    net = Net()
    net.compile("sgd", "mse", jit_compile=False)
    net.fit(X, X[:, 0], epochs=1, verbose=0)
    assert len(net.weights) == 4 and net.predict(X, verbose=0).shape == (4, 1)


def test_summary_and_names(capsys):
    model = Sequential([keras.Input((5,)), layers.Dense(3, name="first")], name="net")
    model.summary()
    text = capsys.readouterr().out
    assert 'Model: "net"' in text and "first (Dense)" in text and "(None, 3)" in text
    assert "Total params: 18" in text
    with pytest.raises(GraphError, match="two layers are named 'first'"):
        model.add(layers.Dense(2, name="first"))


@pytest.mark.parametrize(
    ("name", "variance"),
    [("glorot_uniform", 2 / 500), ("glorot_normal", 2 / 500), ("he_normal", 2 / 200),
     ("he_uniform", 2 / 200), ("lecun_normal", 1 / 200), ("lecun_uniform", 1 / 200)],
)  # fmt: skip
def test_initializers_have_their_variance(name, variance):
    keras.utils.set_random_seed(1)
    values = initializers.get(name)((200, 300))
    assert values.dtype == np.float32
    assert abs(values.var() / variance - 1) < 0.03
    limit = np.sqrt(3 * variance) if "uniform" in name else 2 * np.sqrt(variance) / 0.87962566
    assert np.abs(values).max() <= limit * (1 + 1e-6)


def test_orthogonal_and_convolution_fans():
    q = initializers.Orthogonal(seed=0)((3, 4, 5))
    near(q.reshape(12, 5).T @ q.reshape(12, 5), np.eye(5))
    assert initializers.fans((3, 3, 16, 32)) == (144, 288)
    near(initializers.get("constant")((2,)), [0, 0])
    first, again = (initializers.RandomNormal(seed=4)((3,)) for _ in range(2))
    near(first, again, 0)
