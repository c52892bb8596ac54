"""cond and scan: values, gradients, nesting, closures, and what they refuse."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.errors import GraphError

MODES = ("interpret", "compiled")


def run_both(inputs, outputs, *arrays):
    """Outputs by the interpreter, after checking that the compiled function agrees."""
    expected = gf.function(inputs, outputs, mode="interpret")(*arrays)
    compiled = gf.function(inputs, outputs)
    for _ in range(2):
        for got, want in zip(compiled(*arrays), expected, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)
    return expected


def rnn(x, w, h0):
    def cell(h, row):
        new = gf.tanh(gf.matmul(gf.reshape(h, (1, 3)), w)[0] + row)
        return new, (new * 2, h)

    return gf.scan(cell, h0, x)


@pytest.mark.parametrize("length", [1, 5, 0])
def test_recurrent_scan_and_its_gradient(length):
    rng = np.random.default_rng(0)
    x = gf.placeholder(("n", 3), "float64", name="x")
    w = gf.variable(rng.normal(size=(3, 3)), name="w", dtype="float64")
    last, (ys, hs) = rnn(x, w, gf.zeros((3,), "float64"))
    loss = gf.sum(ys * ys) + gf.sum(last)
    gradients = gf.grad(loss, [w, x])
    data = rng.normal(size=(length, 3))
    values = run_both([x], [last, ys, hs, loss, *gradients], data)
    assert values[1].shape == (length, 3)
    f = gf.function([x], loss, mode="interpret")
    for row in range(length):
        step = np.zeros_like(data)
        step[row, 1] = 1e-6
        slope = (f(data + step) - f(data - step)) / 2e-6
        np.testing.assert_allclose(values[5][row, 1], slope, rtol=1e-6)


def test_reverse_scan_with_swapped_carries():
    x = gf.placeholder(("n",), name="x")
    (a, b), rows = gf.scan(
        lambda c, v: ((c[1], c[0] + v), c[0]), (gf.asarray(1.0), gf.asarray(2.0)), x, reverse=True
    )
    data = np.arange(1, 5, dtype="f4")
    got_a, got_b, got_rows = run_both([x], [a, b, rows], data)
    one, two, kept = np.float32(1), np.float32(2), []
    for value in data[::-1]:
        kept.append(one)
        one, two = two, one + value
    assert (got_a, got_b) == (one, two)
    np.testing.assert_array_equal(got_rows, kept[::-1])


def test_length_without_rows():
    power, _ = gf.scan(lambda c, _: (c * 2, None), gf.asarray(1.0), length=10)
    assert run_both([], [power]) == [1024.0]


@pytest.mark.parametrize("value", [1.5, -2.0])
def test_cond_takes_one_branch_and_its_gradient(value):
    s = gf.placeholder((), "float64", name="s")
    w = gf.variable(np.array([1.0, 3.0]), dtype="float64")
    y = gf.cond(s > 0, lambda: s * 2 * gf.sum(w), lambda: gf.exp(s))
    by_s, by_w = gf.grad(y, [s, w])
    second = gf.grad(by_s, s)
    got = run_both([s], [y, by_s, by_w, second], value)
    if value > 0:
        want = [value * 8, 8.0, [2 * value, 2 * value], 0.0]
    else:
        want = [np.exp(value), np.exp(value), [0, 0], np.exp(value)]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_cond_inside_scan():
    x = gf.placeholder(("n", 3), name="x")

    def step(c, row):
        return gf.cond(c > 0, lambda: c - gf.sum(row), lambda: c + 1.0), c

    total, rows = gf.scan(step, gf.asarray(0.5), x)
    data = np.random.default_rng(1).normal(size=(6, 3)).astype("f4")
    got_total, got_rows, slope = run_both([x], [total, rows, gf.grad(total, x)], data)
    c, kept, taken = 0.5, [], []
    for row in data:
        kept.append(c)
        taken.append(c > 0)
        c = c - row.sum() if c > 0 else c + 1
    assert 0 < sum(taken) < len(taken)
    np.testing.assert_allclose(got_total, c, rtol=1e-5)
    np.testing.assert_allclose(got_rows, kept, rtol=1e-5)
    np.testing.assert_array_equal(slope, np.repeat(-np.array(taken, "f4"), 3).reshape(6, 3))


def test_cond_on_operands_keeps_structure():
    x = gf.placeholder((2,), name="x")
    out = gf.cond(gf.sum(x) > 0, lambda d: {"y": d["x"] * 2}, lambda d: {"y": -d["x"]}, {"x": x})
    f = gf.function([x], out)
    np.testing.assert_array_equal(f([1, 2])["y"], [2, 4])
    np.testing.assert_array_equal(f([-1, -2])["y"], [1, 2])


def test_branches_must_agree():
    s = gf.placeholder((), name="s")
    with pytest.raises(GraphError, match="nesting"):
        gf.cond(s > 0, lambda: (s, s), lambda: s)
    with pytest.raises(GraphError, match="otherwise"):
        gf.cond(s > 0, lambda: s, lambda: gf.zeros((2,)))
    with pytest.raises(GraphError, match="bool"):
        gf.cond(s, lambda: s, lambda: s)


def test_carry_must_keep_its_shape():
    x = gf.placeholder(("n", 2), name="x")
    with pytest.raises(GraphError, match="carry"):
        gf.scan(lambda c, v: (v, v), gf.asarray(0.0), x)
    with pytest.raises(GraphError, match="length"):
        gf.scan(lambda c, _: (c, None), gf.asarray(0.0))


def test_control_flow_is_saved_and_loaded(tmp_path):
    from graphflow.io import load, save

    x = gf.placeholder(("n", 3), name="x")
    w = gf.variable(np.eye(3, dtype="f4") * 0.5, name="w")
    last, (ys, _) = rnn(x, w, gf.zeros((3,)))
    out = gf.cond(gf.sum(last) > 0, lambda: gf.sum(ys), lambda: -gf.sum(ys))
    step = gf.function([x], out, updates=[(w, w - 0.1 * gf.grad(out, w))])
    path = tmp_path / "step.gflow"
    save(step, path)
    loaded = load(path)
    data = np.random.default_rng(2).normal(size=(4, 3)).astype("f4")
    for _ in range(3):
        assert loaded(data) == step(data)
