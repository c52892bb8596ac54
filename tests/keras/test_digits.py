"""Models on real digits: they train, evaluate, stop, save, load and go on."""

import numpy as np
import pytest

from graphflow import keras
from graphflow.errors import GraphError
from graphflow.keras import callbacks, layers
from graphflow.keras.datasets import digits
from graphflow.keras.models import Model, Sequential, load_model


@pytest.fixture(scope="module")
def data():
    (x, y), (x_test, y_test) = digits.load_data()
    return x / 16.0, y, x_test / 16.0, y_test


def dense_model():
    keras.utils.set_random_seed(0)
    model = Sequential(
        [
            layers.Flatten(input_shape=(8, 8)),
            layers.Dense(32, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_fit_evaluate_predict(data):
    x, y, x_test, y_test = data
    model = dense_model()
    history = model.fit(x, y, epochs=20, batch_size=32, validation_split=0.1, verbose=0)
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history.history["loss"][-1] < history.history["loss"][0] / 3
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    assert accuracy > 0.93
    predicted = model.predict(x_test, verbose=0)
    assert predicted.shape == (360, 10)
    assert np.mean(predicted.argmax(1) == y_test) == pytest.approx(accuracy)
    assert -np.mean(np.log(predicted[np.arange(360), y_test])) == pytest.approx(loss, rel=1e-3)


def test_flat_rows_are_reshaped_with_one_warning(data):
    x, y, *_ = data
    model = dense_model()
    with pytest.warns(UserWarning) as found:
        model.fit(x.reshape(-1, 64), y, epochs=2, verbose=0)
    assert len(found) == 1
    with pytest.raises(GraphError, match="63"):
        model.fit(np.zeros((8, 63), "f4"), y[:8], verbose=0)


def test_convolutional_functional_model(data, tmp_path):
    x, y, x_test, y_test = data
    keras.utils.set_random_seed(1)
    image = layers.Input((8, 8, 1))
    h = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    h = layers.BatchNormalization()(h)
    h = layers.MaxPooling2D()(h)
    left, right = layers.Flatten()(h), layers.GlobalAveragePooling2D()(h)
    h = layers.Dropout(0.2)(layers.Concatenate()([left, right]))
    model = Model(image, layers.Dense(10, activation="softmax")(h))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[..., None], y, epochs=6, verbose=0)
    assert model.evaluate(x_test[..., None], y_test, verbose=0)[1] > 0.85
    path = str(tmp_path / "m.gflow")
    model.save(path)
    expected = model.predict(x_test[..., None], verbose=0)
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.predict(x_test[..., None], verbose=0), expected)
    loaded.fit(x[..., None], y, epochs=1, verbose=0)


def test_stop_at_threshold(data):
    x, y, *_ = data
    model = dense_model()
    stop = callbacks.StopAtThreshold("loss", 0.5)
    history = model.fit(x, y, epochs=100, verbose=0, callbacks=[stop]).history
    assert len(history["loss"]) < 100
    assert history["loss"][-1] <= 0.5 < history["loss"][-2]


def test_what_a_static_graph_cannot_do_is_said():
    model = Sequential([layers.Dense(1, input_shape=(1,))])
    with pytest.raises(GraphError, match="run_eagerly"):
        model.compile("sgd", "mse", run_eagerly=True)


def test_labels_out_of_range_name_the_place(data):
    x, y, *_ = data
    bad = y.astype("i8").copy()
    bad[5] = 10
    with pytest.raises(IndexError, match=r"y\[5\] is the label 10; expected 0\.\.9"):
        dense_model().fit(x, bad, epochs=1, shuffle=False, verbose=0)


def test_summary_counts_parameters(capsys):
    dense_model().summary()
    assert "2,410" in capsys.readouterr().out
