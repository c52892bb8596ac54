"""Operators between layers: values, saving, and what they refuse."""

import numpy as np
import pytest

from graphflow import keras
from graphflow.errors import GraphError, ShapeError
from graphflow.keras import layers
from graphflow.keras.layers.operation import Operation

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 3, 6)).astype("f4")
TABLE = np.arange(12.0).reshape(6, 2)

EXPRESSIONS = {
    "add": lambda a, b: a + b,
    "radd": lambda a, b: 1 + a,
    "rsub": lambda a, b: 1 - a,
    "div": lambda a, b: a / 2 + 2 / a,
    "floor": lambda a, b: a // 2 - 2 // a,
    "mod": lambda a, b: a % 2.0,
    "rmod": lambda a, b: 2.0 % a,
    "pow": lambda a, b: a**2 * 2**a,
    "unary": lambda a, b: -a * abs(b),
    "matmul": lambda a, b: (a[:, None] @ b[..., None])[:, 0],
    "array": lambda a, b: np.ones(6) * a - np.arange(6.0),
    "matmul array": lambda a, b: a @ TABLE,
    "rmatmul array": lambda a, b: TABLE.T @ a[..., None],
    "comparisons": lambda a, b: (a > b) * 1.0 + (a <= 0) * 2.0 + (a < b) * 4.0 + (b >= 0.5) * 8.0,
    "index": lambda a, b: a[:, 0] + a[:, -1],
    "slices": lambda a, b: a[:, 1:5:2] - a[:, ::-1][:, :2],
    "new axes": lambda a, b: a[..., None] * b[:, None],
}


@pytest.fixture(scope="module")
def inputs():
    return keras.Input((6,), name="a"), keras.Input((6,), name="b")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_operators_compute_what_numpy_computes(name, inputs, tmp_path):
    expression = EXPRESSIONS[name]
    model = keras.Model(list(inputs), expression(*inputs))
    got = model.predict([A, B], verbose=0)
    np.testing.assert_allclose(got, expression(A, B), rtol=1e-5, atol=1e-6)
    assert got.dtype == "float32"
    model.save(tmp_path / "m.gflow")
    again = keras.models.load_model(tmp_path / "m.gflow")
    np.testing.assert_array_equal(again.predict([A, B], verbose=0), got)


def test_operators_stand_between_layers_that_train():
    x = keras.Input((6,))
    h = layers.Dense(6)(x)
    model = keras.Model(x, layers.Dense(1)(2 * h + x))
    model.compile("adam", "mse", jit_compile=False)
    losses = model.fit(A, B[:, :1], epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert sum(isinstance(layer, Operation) for layer in model.layers) == 2


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (lambda a: a + "x", "add: got a str beside"),
        (lambda a: 1 if a else 2, "has no value while"),
        (lambda a: list(a), "cannot be iterated"),
        (lambda a: a[:, [1, 2]], "is no index"),
        (lambda a: np.asarray(a), "has no values yet"),
    ],
)
def test_what_operators_refuse(expression, message, inputs):
    with pytest.raises(GraphError, match=message):
        expression(inputs[0])


def test_errors_of_shapes_name_both(inputs):
    with pytest.raises(ShapeError, match="6.*5"):
        inputs[0] + np.ones(5)
    with pytest.raises(IndexError, match="axis 1 of size 6"):
        inputs[0][:, 6]
    with pytest.raises(GraphError, match="'addd' is unknown"):
        Operation("addd", [None, 1])
