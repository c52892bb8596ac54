"""Saved models: the same predictions, training that goes on, and files that are refused."""

import json

import numpy as np
import pytest

import graphflow as gf
from graphflow import io, keras
from graphflow.errors import GraphError
from graphflow.keras import layers
from graphflow.keras.models import Model, Sequential, load_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 6)).astype("f4")
Y = (X.sum(1) > 0).astype("int64")


def small(optimizer="adam"):
    model = Sequential(
        [
            layers.Dense(8, activation="relu", input_shape=(6,), kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.0),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(
        optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    return model


@pytest.mark.parametrize("optimizer", ["adam", keras.optimizers.SGD(0.1, momentum=0.9)])
def test_a_loaded_model_goes_on_where_it_was_saved(tmp_path, optimizer):
    model = small(optimizer)
    model.fit(X, Y, epochs=3, verbose=0, shuffle=False)
    model.save(tmp_path / "m.gflow")
    loaded = load_model(tmp_path / "m.gflow")
    assert np.array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    for each in (model, loaded):
        each.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)
    assert int(loaded.optimizer.iterations.value) == 5


def test_the_file_is_a_function_too(tmp_path):
    model = small()
    model.fit(X, Y, verbose=0)
    for name, write in (("m", model.save), ("e", model.export)):
        write(tmp_path / f"{name}.gflow")
        predict = gf.io.load(tmp_path / f"{name}.gflow", mode="interpret")
        for _ in range(2):
            np.testing.assert_array_equal(predict(X), model.predict(X, verbose=0))
    assert np.array_equal(load_model(tmp_path / "m.gflow").get_weights()[0], model.get_weights()[0])


def test_functional_models_with_shared_and_nested_layers(tmp_path):
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    shared = Sequential([layers.Dense(4, activation="tanh")], name="tower")
    joined = layers.Concatenate()([shared(a), shared(b)])
    model = Model([a, b], {"p": layers.Dense(1)(joined), "q": layers.Dense(2)(joined)})
    model.compile("sgd", {"p": "mse", "q": "mae"}, jit_compile=False)
    model.fit([X, -X], {"p": X[:, :1], "q": X[:, :2]}, verbose=0)
    model.save(tmp_path / "m.gflow")
    loaded = load_model(tmp_path / "m.gflow")
    ours, theirs = (m.predict([X, -X], verbose=0) for m in (model, loaded))
    assert np.array_equal(ours["p"], theirs["p"]) and np.array_equal(ours["q"], theirs["q"])
    assert len(loaded.weights) == len(model.weights) == 6


def test_custom_layers_need_to_be_named(tmp_path):
    class Double(layers.Layer):
        def call(self, inputs):
            return inputs * 2.0

    model = Sequential([keras.Input((6,)), Double()])
    model.save(tmp_path / "m.gflow")
    with pytest.raises(GraphError, match="custom_objects"):
        load_model(tmp_path / "m.gflow")
    loaded = load_model(tmp_path / "m.gflow", custom_objects={"Double": Double})
    assert np.array_equal(loaded.predict(X, verbose=0), 2 * X)


def test_code_is_not_saved(tmp_path):
    model = Sequential([layers.Dense(2, activation=lambda x: x * 2.0, input_shape=(6,))])
    with pytest.raises(GraphError, match="function of your own"):
        model.save(tmp_path / "m.gflow")
    model = Sequential([layers.Dense(2, input_shape=(6,))])
    model.compile("sgd", lambda t, p: gf.mean((t - p) ** 2, -1), jit_compile=False)
    with pytest.raises(GraphError, match="function of your own"):
        model.save(tmp_path / "m.gflow")
    assert not (tmp_path / "m.gflow").exists()


def altered(tmp_path, change):
    """A saved model whose config was changed by hand."""
    small().save(tmp_path / "m.gflow")
    saved = io.read_graph(tmp_path / "m.gflow")
    document = json.loads(saved.metadata["keras"])
    change(document)
    io.write_graph(
        tmp_path / "bad.gflow", saved.graph, saved.values, structure=saved.structure,
        metadata={"keras": json.dumps(document)},
    )  # fmt: skip
    return tmp_path / "bad.gflow"


def first_dense(document):
    return document["model"]["config"]["layers"][1]


def test_a_config_cannot_name_other_classes(tmp_path):
    path = altered(tmp_path, lambda d: first_dense(d).update(class_name="os.system"))
    with pytest.raises(GraphError, match="the class 'os.system' is unknown"):
        load_model(path)
    path = altered(tmp_path, lambda d: first_dense(d)["config"].update(surprise=1))
    with pytest.raises(GraphError, match="Dense: there is no argument 'surprise'"):
        load_model(path)


def test_a_config_cannot_ask_for_more_memory_than_the_file_has(tmp_path):
    path = altered(tmp_path, lambda d: first_dense(d)["config"].update(units=10**12))
    with pytest.raises(GraphError, match="the file holds"):
        load_model(path)


def test_weights_alone(tmp_path):
    model, other = small(), small()
    model.save_weights(tmp_path / "w.npz")
    other.load_weights(tmp_path / "w.npz")
    assert np.array_equal(other.predict(X, verbose=0), model.predict(X, verbose=0))
    with pytest.raises(GraphError, match="overwrite is False"):
        model.save_weights(tmp_path / "w.npz", overwrite=False)
    io.save(gf.function([], gf.ones(2), mode="interpret"), tmp_path / "f.gflow")
    with pytest.raises(GraphError, match="no Keras model"):
        load_model(tmp_path / "f.gflow")
