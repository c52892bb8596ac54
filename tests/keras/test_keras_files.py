"""Files of Keras 3: `written_by_keras/make.py` made them with Keras 3.15 on JAX, and its predictions."""

import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from graphflow import keras
from graphflow.compiler.errors import GraphFormatError
from graphflow.errors import GraphError, ShapeError
from graphflow.keras import layers
from graphflow.keras.keras_files import keras_order
from graphflow.keras.models import load_model

h5py = pytest.importorskip("h5py", reason="files of Keras need h5py")

HERE = Path(__file__).parent / "written_by_keras"
LABELS = np.arange(12) % 3


def images(count):
    return np.sin(np.arange(count * 36, dtype="f4")).reshape(count, 6, 6, 1)


def rows(count, phase):
    return np.cos(np.arange(count * 5, dtype="f4") + phase).reshape(count, 5)


PAIR = {"a": rows(4, 0), "b": rows(4, 1)}


@pytest.fixture(scope="module")
def expected():
    with np.load(HERE / "expected.npz") as file:
        return dict(file)


@pytest.fixture
def weights_file(tmp_path):
    path = tmp_path / "graph.weights.h5"
    with zipfile.ZipFile(HERE / "graph.keras") as archive:
        path.write_bytes(archive.read("model.weights.h5"))
    return path


def near(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def graph(**names):
    """The network of `make.graph`, under names of one's own."""
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    shared = layers.Dense(4, activation="tanh", name=names.get("shared"))
    joined = layers.Concatenate()([shared(a), 1 - shared(b) * 2.0])
    inner = keras.Sequential([layers.Input((8,)), layers.Dense(3, "gelu", name=names.get("dense"))])
    p = layers.Dense(2, name=names.get("p"))(layers.LayerNormalization()(joined)[:, 1:])
    return keras.Model({"a": a, "b": b}, [p, layers.Add()([inner(joined), joined[:, :3]])])


# ---- loading ---------------------------------------------------------------------------------


def test_a_model_predicts_evaluates_and_trains_on_as_in_keras(expected):
    model = load_model(HERE / "cnn.keras")
    near(model.predict(images(4), verbose=0), expected["cnn"])
    near(model.evaluate(images(12), LABELS, verbose=0), expected["cnn_scores"])
    assert int(model.optimizer.iterations.value) == 6
    assert model.optimizer.learning_rate == pytest.approx(0.01)
    model.fit(images(12), LABELS, batch_size=4, epochs=1, verbose=0, shuffle=False)
    near(model.predict(images(4), verbose=0), expected["cnn_trained_on"])


def test_a_functional_model_with_operators_and_a_model_inside(expected, tmp_path):
    model = load_model(HERE / "graph.keras")
    assert not model.compiled
    p, q = model.predict(PAIR, verbose=0)
    near(p, expected["p"])
    near(q, expected["q"])
    model.save(tmp_path / "m.gflow")
    again = load_model(tmp_path / "m.gflow").predict(PAIR, verbose=0)
    np.testing.assert_array_equal(again[0], p)


@pytest.mark.parametrize("names", [{}, {"shared": "p", "p": "shared"}])
def test_weights_go_by_order_where_the_names_differ(names, expected, weights_file):
    model = graph(**names)
    model.load_weights(weights_file)
    near(model.predict(PAIR, verbose=0)[0], expected["p"])
    near(model.predict(PAIR, verbose=0)[1], expected["q"])


def test_weights_of_a_keras_file(expected):
    model = graph()
    model.load_weights(HERE / "graph.keras")
    near(model.predict(PAIR, verbose=0)[0], expected["p"])


def test_weights_are_written_as_keras_writes_them(expected, tmp_path):
    model, other = graph(), graph()
    model.load_weights(HERE / "graph.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        assert list(file) == ["layers", "vars"]
        assert file["layers/sequential/layers/dense/vars/0"].shape == (8, 3)
    other.load_weights(tmp_path / "m.weights.h5")
    near(other.predict(PAIR, verbose=0)[0], expected["p"])
    with pytest.raises(GraphError, match="overwrite is False"):
        model.save_weights(tmp_path / "m.weights.h5", overwrite=False)
    with pytest.raises(GraphError, match=r"ending in \.npz, or in \.weights\.h5"):
        model.save_weights(tmp_path / "m.h5")


def test_a_model_of_ones_own_keeps_its_attributes(tmp_path):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Dense(3)
            self.rest = [layers.Dense(3), layers.Dense(2)]

        def call(self, x):
            x = self.first(x)
            for layer in self.rest:
                x = layer(x)
            return x

    models = [Own(), Own()]
    for model in models:
        model.build((None, 5))
    models[0].save_weights(tmp_path / "m.weights.h5")
    with h5py.File(tmp_path / "m.weights.h5") as file:
        assert set(file) == {"first", "rest", "vars"}
        assert file["rest/dense_1/vars/0"].shape == (3, 2)
    models[1].load_weights(tmp_path / "m.weights.h5")
    x = rows(4, 0)
    near(models[1].predict(x, verbose=0), models[0].predict(x, verbose=0))


def test_layers_are_ordered_as_keras_orders_them():
    x = keras.Input((3,))
    near_end, far, middle = layers.Dense(3), layers.Dense(3), layers.Dense(3)
    y = layers.Add()([near_end(x), middle(far(x))])
    model = keras.Model(x, y)
    assert keras_order(model)[:3] == [far, near_end, middle]


# ---- what does not fit -----------------------------------------------------------------------


def rewritten(path, change, member="config.json", source="graph.keras"):
    """A copy of a file with one member replaced by change(member)."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data) if name == member else data)
    return path


def with_config(change):
    def edited(data):
        config = json.loads(data)
        change(config["config"])
        return json.dumps(config).encode()

    return edited


def with_weights(change):
    def edited(data):
        buffer = io.BytesIO(data)
        with h5py.File(buffer, "r+") as file:
            change(file)
        return buffer.getvalue()

    return edited


def entry(config, name):
    return next(e for e in config["layers"] if e["config"]["name"] == name)


CONFIGS = {
    "unknown class": (
        lambda c: entry(c, "shared").update(class_name="Lambda"),
        GraphError,
        "layer class 'Lambda' is unknown",
    ),
    "an option": (
        lambda c: entry(c, "shared")["config"].update(
            kernel_constraint={"class_name": "MaxNorm", "config": {}}
        ),
        GraphError,
        "Dense 'shared' sets kernel_constraint=",
    ),
    "mixed precision": (
        lambda c: entry(c, "shared")["config"]["dtype"]["config"].update(name="mixed_float16"),
        GraphError,
        "mixed_float16",
    ),
    "huge": (
        lambda c: entry(c, "p")["config"].update(units=10**9),
        GraphFormatError,
        "more weights than the file holds",
    ),
    "shape": (lambda c: entry(c, "shared")["config"].update(units=2), ShapeError, "expected"),
    "history": (
        lambda c: entry(c, "p")["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["x", 0, 0]
        ),
        GraphError,
        "'p' has an input that nothing makes",
    ),
    "operation": (
        lambda c: entry(c, "multiply").update(class_name="Cross"),
        GraphError,
        "operation Cross is not supported",
    ),
    "no layers": (lambda c: c.pop("layers"), GraphFormatError, "config is damaged"),
    "nonsense": (lambda c: c.update(layers=[[1]]), GraphFormatError, "config is damaged"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_configs_that_are_refused(case, tmp_path):
    change, error, message = CONFIGS[case]
    path = rewritten(tmp_path / "m.keras", with_config(change))
    with pytest.raises(error, match=message):
        load_model(path)


def replaced(path, value=None, **options):
    def change(file):
        del file[path]
        if value is not None:
            file[path] = value
        elif options:
            file.create_dataset(path, **options)

    return change


WEIGHTS = {
    "missing": (replaced("layers/dense"), GraphError, "nothing is saved for the layer"),
    "one array less": (
        replaced("layers/dense/vars/1"),
        GraphError,
        "1 arrays are saved for 'shared'",
    ),
    "a gap": (replaced("layers/dense/vars/0"), GraphFormatError, "expected arrays 0, 1"),
    "a shape": (
        replaced("layers/dense/vars/1", np.zeros(9)),
        ShapeError,
        r"\(9,\); expected \(4,\)",
    ),
    "text": (replaced("layers/dense/vars/1", "abcd"), GraphFormatError, "no array of numbers"),
    "a soft link": (
        replaced("layers/dense/vars/1", h5py.SoftLink("/layers/dense/vars/0")),
        GraphFormatError,
        "is a link",
    ),
    "another file": (
        replaced("layers/dense/vars/1", h5py.ExternalLink("/etc/passwd", "/x")),
        GraphFormatError,
        "is a link",
    ),
    "external bytes": (
        replaced("layers/dense/vars/1", shape=(4,), dtype="f4", external=[("/etc/passwd", 0, 16)]),
        GraphFormatError,
        "stands in another file",
    ),
    "a bomb": (
        replaced("layers/dense/vars/1", shape=(1 << 40,), dtype="f4", chunks=(1 << 20,)),
        GraphFormatError,
        "claims 4398046511104 bytes",
    ),
    "another layer": (
        lambda file: file.create_dataset("layers/gru/vars/0", data=np.zeros(2)),
        GraphError,
        "weights of layers that .* does not have: layers/gru",
    ),
    "a ring": (
        lambda file: file.__setitem__("layers/dense/again", file["layers"]),
        GraphFormatError,
        "allowed",
    ),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_refused(case, tmp_path):
    change, error, message = WEIGHTS[case]
    path = rewritten(tmp_path / "m.keras", with_weights(change), "model.weights.h5")
    with pytest.raises(error, match=message):
        load_model(path)


def test_no_weight_changes_when_a_file_does_not_fit(weights_file):
    with h5py.File(weights_file, "r+") as file:
        del file["layers/dense_1/vars/1"]
        file["layers/dense_1/vars/1"] = np.zeros(7)
    model = graph()
    before = model.get_weights()
    with pytest.raises(ShapeError):
        model.load_weights(weights_file)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_files_are_named(tmp_path):
    model = graph()
    path = tmp_path / "x.keras"
    path.write_bytes(b"no zip")
    with pytest.raises(GraphFormatError, match="no file of Keras 3"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(GraphFormatError, match=r"no config\.json inside"):
        load_model(path)
    path = tmp_path / "x.weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(GraphFormatError, match="no HDF5 file"):
        model.load_weights(path)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["dense"]
    with pytest.raises(GraphFormatError, match="HDF5 form of Keras 2"):
        model.load_weights(path)
    with pytest.raises(FileNotFoundError):
        model.load_weights(tmp_path / "nothing.weights.h5")
    with pytest.raises(GraphError, match="has no weights yet"):
        keras.Sequential([layers.Dense(2)]).load_weights(HERE / "graph.keras")


def test_the_extra_is_named_where_h5py_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(GraphError, match=r"pip install 'graphflow\[h5py\]'"):
        load_model(HERE / "graph.keras")


def test_custom_layers_are_found_by_name(tmp_path, expected):
    class Shared(layers.Dense):
        pass

    path = rewritten(
        tmp_path / "m.keras",
        with_config(
            lambda c: entry(c, "shared").update(
                class_name="Shared",
                config={"name": "shared", "units": 4, "activation": "tanh"},
                module=None,
                registered_name="my>Shared",
            )
        ),
    )
    with pytest.raises(GraphError, match="custom_objects"):
        load_model(path)
    model = load_model(path, custom_objects={"Shared": Shared})
    near(model.predict(PAIR, verbose=0)[0], expected["p"])


def test_the_script_that_made_the_files_is_the_one_beside_them():
    names = {path.name for path in HERE.iterdir() if not path.name.startswith("__")}
    assert names == {"make.py", "cnn.keras", "graph.keras", "expected.npz"}
    assert sum((HERE / name).stat().st_size for name in names) < 100_000
