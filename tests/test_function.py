"""gf.function: feeds, structure, updates, givens, modes."""

import doctest
import importlib
import threading
import weakref

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.graph import Graph
from graphflow.compiler.interpreter import bind_dims, evaluate
from graphflow.compiler.op import ops
from graphflow.errors import DTypeError, GraphError, ShapeError
from graphflow.variable import adopt_storage


def interpreted(*args, **kwargs):
    return gf.function(*args, mode="interpret", **kwargs)


def linear():
    x = gf.placeholder(("batch", 2), name="x")
    w = gf.variable([[1.0], [2.0]], name="w")
    return x, w, x @ w


# ---- feeds -----------------------------------------------------------------------------------


def test_positions_and_names():
    a, b = gf.placeholder((), name="a"), gf.placeholder((), name="b")
    f = interpreted([a, b], a - b)
    assert f(5, 3) == f(5, b=3) == f(b=3, a=5) == 2.0
    unnamed = interpreted([gf.placeholder(()), b], b, on_unused_input="ignore")
    assert unnamed(1, b=2) == 2.0


def test_a_single_input_needs_no_list():
    x = gf.placeholder((2,))
    assert interpreted(x, x + 1)([1, 2]).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", [1.5, 2.5]),
        ("float32", np.array([1.5, 2.5])),
        ("float32", np.array([1, 2])),
        ("float32", np.array([True, False])),
        ("float32", np.array([1, 2], np.uint8)),
        ("float64", np.array([1, 2], "f4")),
        ("int32", [1, 2]),
        ("int32", np.array([1, 2], "i8")),
        ("int64", np.array([1, 2], "u1")),
        ("uint8", np.array([0, 255], "i8")),
        ("bool", [True, False]),
        ("float32", np.array([1.5, 2.5], ">f4")),
        ("float32", np.arange(4, dtype="f4")[::2]),
    ],
)
def test_data_that_is_converted(dtype, value):
    x = gf.placeholder((2,), dtype)
    got = interpreted([x], x)(value)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, np.asarray(value))


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("int32", np.array([1.5, 2]), r"got dtype float64; expected int32.*astype\('int32'\)"),
        ("int32", [1.5, 2.0], "got dtype float64; expected int32"),
        ("int32", np.array([1, 2**31]), "2147483648 in int64, outside"),
        ("uint8", np.array([-1, 0]), "-1 in int64, outside 0..255"),
        ("float32", np.array([2**24 + 1, 0]), "not exact in float32"),
        ("bool", np.array([0, 1]), "expected bool.*value != 0"),
        ("float32", np.array([1j, 0]), "complex128"),
        ("float32", np.array(["a", "b"]), "expected float32, numbers"),
        ("float32", [None, 1], "object"),
    ],
)
def test_data_that_is_refused(dtype, value, message):
    x = gf.placeholder((2,), dtype, name="x")
    with pytest.raises(DTypeError, match=rf"predict: input 'x': .*{message}"):
        interpreted([x], x + x if dtype != "bool" else x, name="predict")(value)


def test_named_dims_are_bound_and_checked():
    x, t = gf.placeholder(("batch", 2), name="x"), gf.placeholder(("batch",), name="t")
    f = interpreted([x, t], gf.sum(x) + gf.sum(t))
    assert f(np.ones((3, 2)), np.ones(3)) == 9.0
    assert f(np.ones((5, 2)), np.ones(5)) == 15.0
    assert f(np.ones((0, 2)), np.ones(0)) == 0.0
    with pytest.raises(ShapeError, match=r"t: axis 0 is 4; expected batch = 3.*x \(axis 0\)"):
        f(np.ones((3, 2)), np.ones(4))
    with pytest.raises(ShapeError, match=r"x: axis 1 is 3; expected 2, shape \(batch, 2\)"):
        f(np.ones((3, 3)), np.ones(3))
    with pytest.raises(ShapeError, match=r"input 'x': got shape \(3,\); expected 2 axes"):
        f(np.ones(3), np.ones(3))


def test_computed_dims_are_solved():
    n = gf.placeholder(("n",)).shape[0]
    x = gf.placeholder((2 * n + 1,), name="x")
    f = interpreted([x], gf.reshape(x[1:], (2, n)))
    assert f(np.arange(7)).shape == (2, 3)
    with pytest.raises(ShapeError, match="dim 'n' follows from no input"):
        f(np.arange(6))


def test_bind_dims_prefers_bare_names():
    n = gf.placeholder(("n",)).shape[0]
    a, b = gf.placeholder((n + 1,), name="a"), gf.placeholder((n,), name="b")
    arrays = [np.zeros(3), np.zeros(2)]
    assert bind_dims([a.node, b.node], arrays) == {"n": 2}


# ---- outputs ---------------------------------------------------------------------------------


def test_outputs_keep_their_structure():
    x = gf.placeholder((2,), name="x")
    f = interpreted([x], {"sum": gf.sum(x), "parts": [x, (x + 1, 5)], "none": None})
    got = f([1, 2])
    assert got["sum"] == 3.0
    assert got["parts"][0].tolist() == [1, 2]
    assert isinstance(got["parts"][1], tuple)
    assert got["parts"][1][1] == 5
    assert got["none"] is None
    assert interpreted([], None)() is None
    assert interpreted([], [])() == []


def test_scalars_come_back_as_numbers():
    x = gf.placeholder(())
    result = interpreted([x], x * 2)(1.25)
    assert isinstance(result, np.float32)
    assert f"{result:.2f}" == "2.50"


def test_an_output_may_be_an_input_or_a_variable():
    x, w = gf.placeholder((2,)), gf.variable(np.zeros(2, "f4"))
    f = interpreted([x], [x, w], updates=[(w, w + x)])
    fed = np.array([1, 2], "f4")
    got, state = f(fed)
    got[0], state[0] = 9, 9
    assert fed.tolist() == [1, 2]
    assert w.value.tolist() == [1, 2]


# ---- updates and givens ----------------------------------------------------------------------


def test_updates_use_the_old_values():
    a, b = gf.variable(1.0, "a"), gf.variable(2.0, "b")
    swap = interpreted([], a + b, updates=[(a, b), (b, a)])
    assert swap() == 3.0
    assert (float(a.value), float(b.value)) == (2.0, 1.0)
    interpreted([], updates={a: a * 10})()
    assert float(a.value) == 20.0


def test_updates_accept_numbers():
    n = gf.variable(5, "n")
    interpreted([], updates=[(n, 0)])()
    assert n.value == 0


def test_training_reaches_a_threshold():
    x, t = gf.placeholder(("batch", 2), name="x"), gf.placeholder(("batch", 1), name="t")
    rng = np.random.default_rng(0)
    params = [
        gf.variable(rng.normal(size=shape).astype("f4")) for shape in ((2, 2), (2,), (2, 1), (1,))
    ]
    w1, b1, w2, b2 = params
    y = gf.nn.sigmoid(gf.nn.sigmoid(x @ w1 + b1) @ w2 + b2)
    loss = gf.mean((y - t) ** 2)
    updates = [(p, p - 2.0 * g) for p, g in zip(params, gf.grad(loss, params), strict=True)]
    train = interpreted([x, t], loss, updates=updates)
    points = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    wanted = np.array([[0], [0], [0], [1]])
    losses = [train(points, wanted) for _ in range(1500)]
    assert losses[-1] < 2e-2 < losses[0]


def test_givens_replace():
    x, y = gf.placeholder((2,), name="x"), gf.placeholder((2,), name="y")
    z = x * 2 + 1
    assert interpreted([y], z, givens=[(x, y + 1)])([0, 1]).tolist() == [3, 5]
    data = gf.variable(np.array([5, 6], "f4"))
    assert interpreted([], z, givens={x: data})().tolist() == [11, 13]
    assert interpreted([x], z, givens={x: x + 1})([0, 1]).tolist() == [3, 5]
    assert interpreted([x, y], [x - y], givens={x: y, y: x})([1, 2], [5, 5])[0].tolist() == [4, 3]
    assert interpreted([], z, givens={x: [1, 2]})().tolist() == [3, 5]


def test_an_input_used_for_its_size_only_is_used():
    x = gf.placeholder(("batch", 3), name="x")
    f = interpreted([x], gf.zeros((x.shape[0], 2)))
    assert f(np.ones((4, 3))).shape == (4, 2)
    assert interpreted([x], gf.arange(x.shape[0]))(np.ones((4, 3))).tolist() == [0, 1, 2, 3]


def test_unused_inputs():
    x, y = gf.placeholder((2,), name="x"), gf.placeholder((2,), name="y")
    with pytest.raises(GraphError, match="nothing uses the input y"):
        interpreted([x, y], x)
    with pytest.warns(UserWarning, match="nothing uses the input y"):
        interpreted([x, y], x, on_unused_input="warn")
    assert interpreted([x, y], x, on_unused_input="ignore")([1, 2], [3, 4]).tolist() == [1, 2]


# ---- what a function tells -------------------------------------------------------------------


def test_repr_and_explain():
    x, w, y = linear()
    f = interpreted([x], y, updates=[(w, w * 2)], name="predict")
    expected = "<Function predict(x: float32(batch, 2)) -> float32(batch, 1), 1 updates, interpret>"
    assert repr(f) == expected
    text = f.explain()
    assert "matmul" in text
    assert "w is float32(2, 1) [test_function.py:" in text
    assert [v.name for v in f.variables] == ["w"]
    assert f.inputs == (x.node,)
    assert isinstance(f.graph, Graph)
    assert f.compile() is f


def test_an_interpreted_function_has_no_kernels():
    x, _, y = linear()
    f = interpreted([x], y, name="predict")
    for use in (lambda: f.kernels, lambda: f.program, lambda: f.memory(batch=2), f.cache_info):
        with pytest.raises(GraphError, match=r"predict: .* needs a compiled function.*'interpret'"):
            use()


def test_calls_from_many_threads():
    n, x = gf.variable(0, "n"), gf.placeholder((), "int64")
    f = interpreted([x], n, updates=[(n, n + x)])
    seen = []

    def work():
        for _ in range(50):
            seen.append(int(f(1)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert n.value == 200
    assert sorted(seen) == list(range(200))


# ---- the interpreter -------------------------------------------------------------------------


def test_the_interpreter_frees_what_nothing_needs():
    x = gf.placeholder((1000,))
    y = x
    for _ in range(20):
        y = y * y
    alive, most = [], []

    def watch(node, inputs, value):
        alive.append(weakref.ref(value))
        most.append(sum(ref() is not None for ref in alive))

    evaluate(Graph((x.node,), (y.node,)), [np.zeros(1000, "f4")], {}, watch)
    assert len(alive) == 20
    assert max(most) <= 2


def test_deep_graphs_need_no_recursion():
    y = x = gf.placeholder(())
    for _ in range(3000):
        y = y + 1
    assert interpreted([x], [y, gf.grad(y, x)])(0.0) == [3000.0, 1.0]


# ---- compiled --------------------------------------------------------------------------------


def trained(mode, name="step"):
    """A function with an update, in a mode, and its variable."""
    x = gf.placeholder(("batch", 3), name="x")
    w = gf.variable(np.ones((3, 2), "f4"), name="w")
    loss = gf.mean(gf.exp(x @ w * 0.1))
    return gf.function([x], loss, updates=[(w, w - gf.grad(loss, w))], mode=mode, name=name), w


POINTS = np.linspace(-1, 1, 12, dtype="f4").reshape(4, 3)


def test_compiled_and_interpreted_agree():
    results = {}
    for mode in ("compiled", "interpret", "debug"):
        f, w = trained(mode)
        losses = [f(POINTS), f(POINTS[:2]), f(x=POINTS.astype("f8"))]
        results[mode] = np.array([*losses, *w.value.ravel()])
    np.testing.assert_allclose(results["compiled"], results["interpret"], rtol=1e-5)
    np.testing.assert_allclose(results["debug"], results["interpret"], rtol=1e-5)


def test_what_a_compiled_function_shows():
    f, w = trained("compiled")
    assert "matmul" in "".join(kernel.source for kernel in f.kernels)
    assert f.program.name == "step"
    assert len(f.optimized_graph.nodes) <= len(f.graph.nodes)
    small, large = f.memory(batch=1), f.memory(batch=1000)
    assert (small.inputs, small.outputs, small.variables) == (12, 4, 24)
    assert large.inputs == 12000
    assert large.total > small.total
    text = f.explain()
    for part in ("kernel    ", "FLOP", "arena", "pass      fuse", "compiled"):
        assert part in text
    assert f.cache_info()["compiled"] + f.cache_info()["hits"] > 0
    records = f.profile(POINTS)
    assert len(records) == len(f.program.steps)
    assert w.value.tolist() == np.ones((3, 2)).tolist()


@pytest.mark.parametrize("dims", [{}, {"batch": -1}, {"batch": 1.5}, {"batch": 1, "rows": 2}])
def test_memory_wants_every_dim(dims):
    f, _ = trained("compiled")
    with pytest.raises(GraphError, match=r"step: .*(batch|rows)"):
        f.memory(**dims)


def test_debug_levels_print(capsys):
    f, w = trained("compiled", "loud")
    with gf.config(debug=5):
        f(POINTS)
    shown = capsys.readouterr().err
    for part in ("graphflow: loud: ", "fuse", "# after canonicalize", "def ", " us "):
        assert part in shown
    reference, v = trained("interpret")
    reference(POINTS)
    np.testing.assert_allclose(w.value, v.value, rtol=1e-5)


def test_adopted_storage():
    node = ops.variable(shape=(2,), dtype="float32", name="w")
    storage = np.ones(2, "f4")
    assert adopt_storage(node, storage, trainable=False).trainable is False
    interpreted([], updates=[(node, gf.Tensor(node) * 3)])()
    assert storage.tolist() == [3, 3]
    with pytest.raises(ShapeError, match=r"the storage is float64\(2,\); expected w is float32"):
        adopt_storage(node, np.ones(2))


# ---- documentation ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["einsum", "function", "gradient", "tensor", "variable"])
def test_examples_in_docstrings(module):
    result = doctest.testmod(importlib.import_module(f"graphflow.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("mode", ["compiled", "interpret", "debug", "nanguard"])
def test_run_many_is_a_loop_of_calls(mode):
    x, total = gf.placeholder(("n",), name="x"), gf.variable(np.float32(0))
    f = gf.function([x], {"sum": gf.sum(x), "x": x}, [(total, total + gf.max(x))], mode=mode)
    got = f.run_many([[1, 2], [3, 4], [5, 6]], keep_all=True)
    assert got["sum"].tolist() == [3, 7, 11]
    assert got["x"].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert total.value == 12
    assert f.run_many([[1, 2], [3, 4]])["sum"] == 7
    got = f.run_many([10, 20, 30], order=[[2, 0], [1, 1]], keep_all=True)
    assert got["sum"].tolist() == [40, 40]
    assert total.value == 12 + 6 + 50
    count = gf.function([], total, [(total, total + 1)], mode=mode)
    assert count.run_many(count=5) == 72


def test_run_many_says_what_does_not_fit():
    x, y = gf.placeholder((2,), name="x"), gf.placeholder((), name="y")
    f = gf.function([x, y], gf.sum(x) + y)
    with pytest.raises(GraphError, match=r"\[1, 2\] entries"):
        f.run_many([[1, 2]], [1, 2])
    with pytest.raises(GraphError, match=r"\[0\] entries"):
        f.run_many(np.zeros((0, 2)), np.zeros(0))
    with pytest.raises(ShapeError, match="expected 2 axes"):
        f.run_many([1, 2], [1])
    rows = gf.placeholder(("n",), name="rows")
    with pytest.raises(IndexError, match="row numbers"):
        gf.function([rows], rows * 2).run_many([1, 2], order=[[0, 2]])
