"""The seed's first program at the Keras level: one epoch, and one row predicted."""

from typing import Any

import numpy as np

from benchmarks.workload import Group, KerasProgram, Session

PLACE = 2
GROUP = Group("keras", "Keras level")
ROWS = 60_000


def _model(keras: Any) -> Any:
    layers = keras.layers
    model = keras.models.Sequential(
        [
            keras.Input(shape=(784,)),
            layers.Dense(64, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    model.set_weights([(rng.normal(size=w.shape) * 0.05).astype("f4") for w in model.get_weights()])
    return model


def _epoch(keras: Any) -> Session:
    model = _model(keras)
    rng = np.random.default_rng(1)
    x = rng.random((ROWS, 784), "f4")
    t = rng.integers(0, 10, ROWS)

    def fit(shuffle: bool = True) -> Any:
        return model.fit(x, t, epochs=1, batch_size=32, verbose=0, shuffle=shuffle)

    def losses() -> list[np.ndarray]:
        history = fit(shuffle=False).history
        return [np.array(history["loss"])]

    return Session(call=fit, outputs=losses)


def _predict(keras: Any) -> Session:
    model = _model(keras)
    row = np.random.default_rng(1).random((1, 784), "f4")

    def predict() -> Any:
        return model.predict(row, verbose=0)

    return Session(call=predict, outputs=lambda: [np.asarray(predict())])


WORKLOADS = [
    KerasProgram(name="keras/epoch", program=_epoch, target=0.35, quick=True),
    KerasProgram(name="keras/predict-one-row", program=_predict, quick=True),
]
