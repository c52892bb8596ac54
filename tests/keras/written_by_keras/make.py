"""Writes the files beside it with Keras 3: `KERAS_BACKEND=jax python make.py` where keras is installed."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent


def images(count):
    return np.sin(np.arange(count * 36, dtype="float32")).reshape(count, 6, 6, 1)


def rows(count, phase):
    return np.cos(np.arange(count * 5, dtype="float32") + phase).reshape(count, 5)


def cnn():
    """A Sequential that has trained, with the state of its optimizer."""
    model = keras.Sequential(
        [
            layers.Input((6, 6, 1)),
            layers.Conv2D(2, 3, activation="relu", padding="same", name="edges"),
            layers.BatchNormalization(momentum=0.8),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", kernel_regularizer=keras.regularizers.L2(1e-3)),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(images(12), np.arange(12) % 3, batch_size=4, epochs=2, verbose=0, shuffle=False)
    return model


def graph():
    """A functional model with a shared layer, operators, a model inside and two outputs."""
    a, b = layers.Input((5,), name="a"), layers.Input((5,), name="b")
    shared = layers.Dense(4, activation="tanh", name="shared")
    joined = layers.Concatenate()([shared(a), 1 - shared(b) * 2.0])
    inner = keras.Sequential([layers.Input((8,)), layers.Dense(3, activation="gelu")], name="inner")
    p = layers.Dense(2, name="p")(layers.LayerNormalization()(joined)[:, 1:])
    model = keras.Model({"a": a, "b": b}, [p, layers.Add(name="q")([inner(joined), joined[:, :3]])])
    model.set_weights(
        [np.cos(np.arange(w.size) + w.ndim).reshape(w.shape) for w in model.get_weights()]
    )
    return model


def main():
    keras.utils.set_random_seed(0)
    model = cnn()
    model.save(HERE / "cnn.keras")
    expected = {"cnn": model.predict(images(4), verbose=0)}
    expected["cnn_scores"] = model.evaluate(images(12), np.arange(12) % 3, verbose=0)
    model.fit(images(12), np.arange(12) % 3, batch_size=4, epochs=1, verbose=0, shuffle=False)
    expected["cnn_trained_on"] = model.predict(images(4), verbose=0)
    model = graph()
    model.save(HERE / "graph.keras")
    p, q = model.predict({"a": rows(4, 0), "b": rows(4, 1)}, verbose=0)
    np.savez(HERE / "expected.npz", **expected, p=p, q=q)


if __name__ == "__main__":
    main()
