"""Two programs written for Keras run when only their import lines change."""

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from graphflow.errors import GraphError
from graphflow.keras.datasets import digits, mnist

EXAMPLES = Path(__file__).parents[2] / "examples"
MARK = "# ---- the program ---- #\n"
ROWS, TEST_ROWS = 300, 100


def program(name):
    """The text of an example behind its mark, for fewer rows and epochs."""
    text = (EXAMPLES / name).read_text(encoding="utf-8").split(MARK)[1]
    text = text.replace("60000", str(ROWS)).replace("10000", str(TEST_ROWS))
    return re.sub(r"epochs=\d+", "epochs=2", text)


def images():
    """Digits in the shape of MNIST."""
    (x, y), _ = digits.load_data()
    wide = np.pad(np.kron(x, np.ones((1, 3, 3), "uint8")) * 15, ((0, 0), (2, 2), (2, 2)))
    split = slice(ROWS), slice(ROWS, ROWS + TEST_ROWS)
    return tuple((wide[part].astype("uint8"), y[part]) for part in split)


def test_dense_network_on_rows():
    (x_train, y_train), (x_test, y_test) = images()
    names = {
        "x_train": x_train.reshape(-1, 784) / 255, "y_train": y_train,
        "x_test": x_test.reshape(-1, 784) / 255, "y_test": y_test,
    }  # fmt: skip
    exec(program("seed_sequential.py"), names)
    assert names["x_train"].dtype == np.float64
    history = names["model"].history.history
    assert list(history) == ["accuracy", "loss"] and history["loss"][1] < history["loss"][0]
    loss, accuracy = names["model"].evaluate(x_test.reshape(-1, 784) / 255, y_test, verbose=0)
    assert 0 < loss < 3 and 0.2 < accuracy <= 1


def test_digits_from_loading_to_testing(monkeypatch):
    monkeypatch.setattr(mnist, "load_data", images)
    names = {}
    with pytest.warns(UserWarning, match="reshaped") as seen:
        exec(program("seed_mnist.py"), names)
    assert len([w for w in seen if "reshaped" in str(w.message)]) == 1
    assert names["y_train"].shape == (ROWS, 10)
    assert names["model"].evaluate(names["x_test"], names["y_test"], verbose=0)[1] > 0.2


def test_digits_come_with_the_package():
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    assert x_train.shape[1:] == (8, 8) and len(x_train) + len(x_test) == 1797
    assert x_train.dtype == np.uint8 and x_train.max() == 16
    assert set(y_train) == set(y_test) == set(range(10))


def test_mnist_is_found_by_checksum_or_the_error_says_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GRAPHFLOW_DATA", str(tmp_path))
    monkeypatch.setattr(mnist, "URL", (tmp_path / "nowhere.npz").as_uri())
    with pytest.raises(GraphError) as caught:
        mnist.load_data()
    for part in ("cache", ".keras/datasets", "GRAPHFLOW_DATA", "nowhere.npz"):
        assert part in str(caught.value)
    content = io.BytesIO()
    arrays = {name: np.zeros(3, "uint8") for name in ("x_train", "y_train", "x_test", "y_test")}
    np.savez(content, **arrays)
    (tmp_path / "mnist.npz").write_bytes(content.getvalue())
    with pytest.raises(GraphError, match="the checksum differs"):
        mnist.load_data()
    monkeypatch.setattr(mnist, "SHA256", hashlib.sha256(content.getvalue()).hexdigest())
    assert mnist.load_data()[0][0].shape == (3,)
    # A download is checked and kept.
    (tmp_path / "mnist.npz").rename(tmp_path / "nowhere.npz")
    mnist.load_data()
    assert (tmp_path / "cache" / "graphflow" / "datasets" / "mnist.npz").is_file()
