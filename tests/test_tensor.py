"""Tensors: what they know, operators and promotion, indexing, NumPy's protocols, variables."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphflow as gf
from graphflow.errors import DTypeError, GraphError, IndexOutOfRange, ShapeError

RNG = np.random.default_rng(0)


def value_of(output, feeds=()):
    """An output computed by the interpreter; `feeds` are pairs (placeholder, array)."""
    inputs = [x for x, _ in feeds]
    function = gf.function(inputs, output, mode="interpret", on_unused_input="ignore")
    return function(*(array for _, array in feeds))


def test_properties():
    x = gf.placeholder(("batch", 3), "float32", name="x")
    assert (x.dtype, x.ndim, x.name, str(x.shape[0]), x.shape[1]) == ("float32", 2, "x", "batch", 3)
    assert str(x.size) == "batch*3"
    assert x.source.startswith("test_tensor.py:")
    assert repr(x) == "Placeholder<float32(batch, 3) x>"
    assert repr(gf.exp(x)) == "Tensor<float32(batch, 3) exp>"
    assert repr(gf.nn.softmax(x)) == "Tensor<float32(batch, 3) softmax/multiply>"
    assert [str(size) for size in x.T.shape] == ["3", "batch"]
    assert gf.zeros((2, 3, 4)).mT.shape == (2, 4, 3)


def test_unnamed_sizes_get_names():
    assert [str(size) for size in gf.placeholder((None, None, 3)).shape] == ["batch", "dim1", "3"]


def test_hash_is_identity_and_equality_builds_a_node():
    x, y = gf.placeholder((2,)), gf.placeholder((2,))
    assert len({x, y, x}) == 2
    assert (x == y).dtype == "bool"
    assert (x != 1).dtype == "bool"
    assert (x == None) is False
    assert {x: 1}[x] == 1


# ---- promotion -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "other", "expected"),
    [
        ("float32", 2, "float32"),
        ("float32", 2.5, "float32"),
        ("float32", True, "float32"),
        ("float64", 2.5, "float64"),
        ("float32", np.float64(2.5), "float32"),
        ("float32", np.float32(2.5), "float32"),
        ("float32", np.ones(2), "float64"),
        ("float32", [1.0, 2.0], "float32"),
        ("float64", [1.0, 2.0], "float64"),
        ("float32", np.arange(2), "float32"),
        ("int32", 2, "int32"),
        ("int32", 2.5, "float32"),
        ("int32", np.int64(2), "int64"),
        ("uint8", 200, "uint8"),
        ("bool", 2, "int64"),
        ("bool", 0.5, "float32"),
    ],
)
def test_what_a_tensor_meets(dtype, other, expected):
    x = gf.placeholder((2,), dtype)
    assert (x + other).dtype == expected
    assert (other + x).dtype == expected


def test_a_list_keeps_its_digits_beside_float64():
    x = gf.placeholder((1,), "float64")
    assert value_of(x + [0.1], [(x, np.zeros(1))])[0] == 0.1


def test_division_of_ints_gives_float32():
    x = gf.placeholder((), "int32")
    assert (x / 2).dtype == "float32"
    assert (x // 2).dtype == "int32"
    assert value_of([x / 2, x // 2, x % 2], [(x, np.int32(7))]) == [3.5, 3, 1]


OPERATORS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "floor_divide": lambda a, b: a // b,
    "remainder": lambda a, b: a % b,
    "power": lambda a, b: abs(a) ** b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "negative": lambda a, b: -a,
    "positive": lambda a, b: +a,
    "logic": lambda a, b: ((a > 0) & (b > 0)) | ~((a > 1) ^ (b > 1)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_agree_with_numpy(name):
    operator = OPERATORS[name]
    a = RNG.normal(size=(3, 4)).astype("f4")
    b = RNG.normal(size=(4,)).astype("f4")
    x, y = gf.placeholder(("rows", 4)), gf.placeholder((4,))
    got = value_of([operator(x, y), operator(x, 2.0)], [(x, a), (y, b)])
    np.testing.assert_allclose(got[0], operator(a, b), rtol=1e-6)
    np.testing.assert_allclose(got[1], operator(a, np.float32(2)), rtol=1e-6)


def test_reflected_operators():
    x = gf.placeholder((2,))
    a = np.array([2.0, 4.0], "f4")
    got = value_of([1 - x, 1 / x, 2**x, 7 // x, 7 % x, 3 * x], [(x, a)])
    expected = [1 - a, 1 / a, 2**a, 7 // a, 7 % a, 3 * a]
    for value, want in zip(got, expected, strict=True):
        np.testing.assert_allclose(value, want)
        assert value.dtype == np.float32


def test_sizes_can_be_computed_with():
    x = gf.placeholder(("n", 3))
    got = value_of([gf.sum(x) / x.shape[0], gf.shape(x)], [(x, np.ones((5, 3), "f4"))])
    assert got[0] == 3.0
    assert got[1].tolist() == [5, 3]


# ---- indexing --------------------------------------------------------------------------------

KEYS = {
    "int": lambda a: a[1],
    "negative": lambda a: a[-1],
    "two ints": lambda a: a[1, -2],
    "slice": lambda a: a[1:3],
    "open": lambda a: a[2:],
    "from the end": lambda a: a[-3:-1],
    "clipped": lambda a: a[2:100],
    "empty": lambda a: a[3:1],
    "step": lambda a: a[::2],
    "step from 1": lambda a: a[1::3],
    "reversed": lambda a: a[::-1],
    "reversed part": lambda a: a[4:1:-2],
    "second axis": lambda a: a[:, 1],
    "ellipsis": lambda a: a[..., 0],
    "new axis": lambda a: a[None, :, None],
    "new axis and int": lambda a: a[:, None, 2],
    "list": lambda a: a[[0, 2, 2]],
    "array": lambda a: a[np.array([[0, 1], [-1, 2]])],
    "array on the second axis": lambda a: a[:, np.array([2, 0])],
    "int beside array": lambda a: a[1, np.array([2, 0])],
    "all": lambda a: a[...],
}


@pytest.mark.parametrize("name", KEYS)
def test_indexing_agrees_with_numpy(name):
    a = np.arange(20, dtype="f4").reshape(5, 4)
    x = gf.placeholder((5, 4))
    got = value_of(KEYS[name](x), [(x, a)])
    np.testing.assert_array_equal(got, KEYS[name](a))
    assert got.shape == KEYS[name](a).shape


SYMBOLIC_KEYS = {
    "tail": lambda a: a[1:],
    "head": lambda a: a[:-1],
    "middle": lambda a: a[1:-2],
    "last three": lambda a: a[-3:],
    "even": lambda a: a[::2],
    "odd": lambda a: a[1::2],
    "reversed": lambda a: a[::-1],
    "reversed thirds": lambda a: a[-2::-3],
    "first": lambda a: a[0],
    "last": lambda a: a[-1],
    "second last": lambda a: a[-2],
    "tail of head": lambda a: a[:-1][1:],
    "column": lambda a: a[:, 1],
}


@pytest.mark.parametrize("name", SYMBOLIC_KEYS)
@pytest.mark.parametrize("rows", [4, 5, 7])
def test_indexing_a_named_dim(name, rows):
    a = np.arange(rows * 2, dtype="f4").reshape(rows, 2)
    x = gf.placeholder(("rows", 2))
    key = SYMBOLIC_KEYS[name]
    got = value_of(key(x), [(x, a)])
    assert got.shape == key(a).shape
    np.testing.assert_array_equal(got, key(a))


@pytest.mark.parametrize("key", [lambda a: a[0], lambda a: a[2:], lambda a: a[-3:]])
def test_a_named_dim_that_is_too_short_is_found_when_running(key):
    x = gf.placeholder(("rows",))
    with pytest.raises(ShapeError, match=r"too short.*rows.*rows=0"):
        value_of(key(x), [(x, np.zeros(0, "f4"))])


def test_a_bound_that_would_be_cut_is_refused():
    x = gf.placeholder(("rows", 2))
    with pytest.raises(GraphError, match=r"bound 5 .*gf\.take"):
        x[:5]


def test_index_with_a_tensor():
    x, i = gf.placeholder((5, 2)), gf.placeholder(("k",), "int32")
    a = np.arange(10, dtype="f4").reshape(5, 2)
    np.testing.assert_array_equal(value_of(x[i], [(x, a), (i, [4, 0, -1])]), a[[4, 0, -1]])
    with pytest.raises(IndexError, match="index 5 at position 1"):
        value_of(x[i], [(x, a), (i, [0, 5])])


def test_iteration_over_a_known_axis():
    x = gf.placeholder((3, 2))
    assert len(x) == 3
    assert [row.shape for row in x] == [(2,)] * 3
    first, *_ = x
    assert first.shape == (2,)


# ---- values ----------------------------------------------------------------------------------


def test_constants_are_evaluated_where_python_asks():
    two = gf.asarray(2.0)
    assert float(two * 3) == 6.0
    assert int(gf.asarray(7) // 2) == 3
    assert bool(two > 1)
    assert [10, 20, 30][gf.asarray(1)] == 20
    np.testing.assert_array_equal(np.asarray(gf.arange(4) * 2), [0, 2, 4, 6])
    assert np.asarray(gf.eye(2), dtype="f8").dtype == np.float64


@pytest.mark.parametrize(
    ("use", "remedy"),
    [
        (lambda x: bool(x > 0), r"gf\.where.*gf\.cond"),
        (lambda x: 1 if x else 0, r"gf\.where.*gf\.cond"),
        (float, r"gf\.astype"),
        (int, r"gf\.astype"),
        (np.asarray, r"gf\.function"),
        (lambda x: x in [x + 1], r"gf\.where"),
    ],
)
def test_a_symbolic_value_says_what_to_use(use, remedy):
    with pytest.raises(GraphError, match=remedy) as caught:
        use(gf.placeholder((), name="speed"))
    assert "speed" in str(caught.value) or "[test_tensor.py:" in str(caught.value)
    assert "at test_tensor.py:" in str(caught.value)


def test_a_missing_method_names_the_function():
    with pytest.raises(AttributeError, match=r"use gf\.mean\(x"):
        gf.placeholder((2,)).mean()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = gf.placeholder((2,)).nonsense
    assert not hasattr(gf.placeholder((2,)), "__cuda_array_interface__")


def test_item_assignment_is_refused():
    x = gf.placeholder((2,))
    with pytest.raises(GraphError, match=r"gf\.where"):
        x[0] = 1


# ---- NumPy's protocols -----------------------------------------------------------------------

PROTOCOL = {
    "exp": lambda a: np.exp(a),
    "sin of a sum": lambda a: np.sin(a + 1),
    "arcsinh": lambda a: np.arcsinh(a),
    "absolute": lambda a: np.absolute(a),
    "array on the left": lambda a: np.array([1, 2, 3], "f4") * a,
    "scalar on the left": lambda a: np.float32(2) - a,
    "maximum": lambda a: np.maximum(a, 0),
    "logic": lambda a: np.logical_and(a > 0, np.invert(a > 1)),
    "add.reduce": lambda a: np.add.reduce(a, axis=0),
    "sum": lambda a: np.sum(a, axis=1, keepdims=True),
    "mean": lambda a: np.mean(a, axis=0),
    "std": lambda a: np.std(a, axis=0, ddof=1),
    "max": lambda a: np.max(a, axis=-1),
    "argmin": lambda a: np.argmin(a, axis=1),
    "any": lambda a: np.any(a > 1, axis=0),
    "transpose": lambda a: np.transpose(a),
    "reshape": lambda a: np.reshape(a, (3, 2)),
    "concatenate": lambda a: np.concatenate([a, a], axis=1),
    "stack": lambda a: np.stack([a, np.ones((2, 3), "f4")]),
    "where": lambda a: np.where(a > 0, a, np.float32(0)),
    "clip": lambda a: np.clip(a, -1, 1),
    "clip by name": lambda a: np.clip(a, min=0, max=None),
    "pad": lambda a: np.pad(a, 1),
    "tile": lambda a: np.tile(a, (2, 1)),
    "repeat": lambda a: np.repeat(a, 2, axis=0),
    "roll": lambda a: np.roll(a, 1, axis=1),
    "flip": lambda a: np.flip(a, 0),
    "split": lambda a: np.split(a, 3, axis=1)[1],
    "expand_dims": lambda a: np.expand_dims(a, 0),
    "squeeze": lambda a: np.squeeze(np.expand_dims(a, 0)),
    "take": lambda a: np.take(a, [1, 0], axis=1),
    "tril": lambda a: np.tril(a),
    "zeros_like": lambda a: np.zeros_like(a),
    "ravel": lambda a: np.ravel(a),
    "swapaxes": lambda a: np.swapaxes(a, 0, 1),
    "moveaxis": lambda a: np.moveaxis(a, 0, 1),
    "round": lambda a: np.round(a),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_numpy_functions_build_the_graph(name):
    a = np.array([[-2, 0.5, 3], [1.5, -0.25, 0]], "f4")
    x = gf.placeholder((2, 3))
    built = PROTOCOL[name](x)
    assert isinstance(built, gf.Tensor)
    got, expected = value_of(built, [(x, a)]), PROTOCOL[name](a)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert got.dtype == expected.dtype


def test_what_numpy_has_and_the_graph_has_not():
    x = gf.placeholder((2, 2), name="x")
    with pytest.raises(GraphError, match=r"np\.sort has no graph form"):
        np.sort(x)
    with pytest.raises(GraphError, match=r"np\.hypot has no graph form"):
        np.hypot(x, x)
    with pytest.raises(GraphError, match=r"np\.sum on a Tensor.*out"):
        np.sum(x, out=np.zeros(2))
    with pytest.raises(GraphError, match=r"np\.add on a Tensor"):
        np.add(x, 1, out=(np.zeros((2, 2)),))


# ---- variables -------------------------------------------------------------------------------


def test_variable_storage_is_fixed():
    w = gf.variable([[1.0, 2.0]], name="w")
    storage = w.storage
    assert (w.dtype, w.shape, w.trainable) == ("float32", (1, 2), True)
    assert storage.ctypes.data % 64 == 0
    assert storage.flags.c_contiguous
    w.value = np.array([[3, 4]])
    w.assign([[5, 6.5]])
    assert w.storage is storage
    assert w.value.tolist() == [[5, 6.5]]
    w.value[0, 0] = 99
    assert w.value[0, 0] == 5
    w.trainable = False
    assert not w.trainable


def test_variable_dtypes():
    assert gf.variable(np.zeros(2)).dtype == "float64"
    assert gf.variable(np.zeros(2), dtype="float32").dtype == "float32"
    assert gf.variable(3).dtype == "int64"
    assert gf.variable(np.arange(6).reshape(2, 3).T).value.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_a_variable_refuses_what_does_not_fit():
    w = gf.variable(np.zeros((2, 3), "f4"), name="w")
    with pytest.raises(ShapeError, match=r"w.*\(3,\).*\(2, 3\)"):
        w.value = np.zeros(3)
    with pytest.raises(DTypeError, match=r"variable n.*float64.*int32"):
        gf.variable(1, "n", dtype="int32").value = 1.5
    with pytest.raises(GraphError, match="updates"):
        w.assign(w + 1)


def test_state_outlives_the_variable_object():
    x = gf.variable(np.ones(2, "f4")) * 2
    assert value_of(x).tolist() == [2, 2]


def test_index_errors_are_index_errors():
    x = gf.placeholder((3,))
    with pytest.raises(IndexOutOfRange, match=r"3 is out of range for axis 0 of size 3"):
        x[3]
    with pytest.raises(IndexError):
        x[0, 0]


def test_settings():
    assert gf.config.debug == int(os.environ.get("GRAPHFLOW_DEBUG", "0") or 0)
    with gf.config(debug=4, passes=("cse",)):
        assert (gf.config.debug, gf.config.passes) == (4, ("cse",))
        with gf.config(debug=1):
            assert (gf.config.debug, gf.config.passes) == (1, ("cse",))
        assert copy.copy(gf.config.debug) == 4
    with pytest.raises(GraphError, match="no setting is named 'debgu'"), gf.config(debgu=1):
        pass
    with pytest.raises(GraphError, match="debug='loud'"), gf.config(debug="loud"):
        pass


def test_settings_from_the_environment(monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_NUM_THREADS", "3")
    monkeypatch.setenv("GRAPHFLOW_CHECK", "1")
    monkeypatch.setenv("GRAPHFLOW_PASSES", "cse, fuse")
    assert (gf.config.num_threads, gf.config.check) == (3, True)
    assert gf.config.passes == ("cse", "fuse")
    monkeypatch.setenv("GRAPHFLOW_NUM_THREADS", "many")
    with pytest.raises(GraphError, match="GRAPHFLOW_NUM_THREADS='many'"):
        _ = gf.config.num_threads


def test_import_stays_light():
    code = (
        "import sys, graphflow;"
        "bad = {'numba', 'networkx', 'scipy', 'llvmlite'} & set(sys.modules);"
        "sys.exit(repr(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
