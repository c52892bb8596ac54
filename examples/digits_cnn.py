"""A small CNN on handwritten digits (8 x 8, shipped with graphflow), at the Keras level.

Train, stop when the validation loss no longer falls, evaluate, save, load, predict.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from graphflow import keras
from graphflow.keras import layers


def build():
    return keras.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main(epochs=20):
    (x_train, y_train), (x_test, y_test) = keras.datasets.digits.load_data()
    top = float(x_train.max())
    x_train, x_test = (x.reshape(-1, 8, 8, 1).astype("float32") / top for x in (x_train, x_test))
    model = build()
    model.summary()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    patience = keras.callbacks.EarlyStopping("val_loss", patience=4, restore_best_weights=True)
    model.fit(
        x_train, y_train, batch_size=32, epochs=epochs, validation_split=0.1, callbacks=[patience]
    )
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    print(f"test loss {loss:.3f}, accuracy {accuracy:.3f}")
    path = Path(tempfile.mkdtemp()) / "digits_cnn.gflow"
    model.save(path)
    again = keras.models.load_model(path)
    same = np.array_equal(model.predict(x_test, verbose=0), again.predict(x_test, verbose=0))
    print(f"saved to {path}; loaded, it predicts the same: {same}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
