"""Derivatives in float64 against central differences, along random directions."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.errors import GradientError, ShapeError

RNG = np.random.default_rng(2)
X = RNG.normal(size=(3, 4))
POSITIVE = RNG.uniform(0.3, 2, size=(3, 4))
ROWS = np.array([2, 0, 2])


#: name -> (function of one (3, 4) tensor, value at which to differentiate)
FUNCTIONS = {
    "exp": (gf.exp, X),
    "log": (gf.log, POSITIVE),
    "tanh": (gf.tanh, X),
    "power": (lambda x: x**2.5, POSITIVE),
    "power of both": (lambda x: x**x, POSITIVE),
    "square": (lambda x: x**2, X),
    "divide": (lambda x: x[0] / x[1:], POSITIVE),
    "broadcast": (lambda x: x * x[:, :1] + x[0], X),
    "mean": (lambda x: gf.mean(x, 0), X),
    "var": (lambda x: gf.var(x, 1, correction=1), X),
    "std": (lambda x: gf.std(x, 0), X),
    "max": (lambda x: gf.max(x, 1), X),
    "prod": (lambda x: gf.prod(x, 1), X),
    "prod with zeros": (lambda x: gf.prod(gf.where(gf.eye(3, 4, dtype=bool), 0.0, x), 1), X),
    "logsumexp": (lambda x: gf.logsumexp(x, 1), X),
    "norm": (lambda x: gf.linalg.norm(x, 0), X),
    "slice": (lambda x: x[1:, ::-2] * x[:2, 1::2], X),
    "last": (lambda x: x[-1] * x[0], X),
    "take": (lambda x: gf.take(x, ROWS, 0) ** 2, X),
    "take_along_axis": (lambda x: gf.take_along_axis(x, [[1, 1], [0, 3], [2, -1]], 1) ** 2, X),
    "concat": (lambda x: gf.concat([x, x * 2, x[:1]], 0) ** 2, X),
    "stack": (lambda x: gf.prod(gf.stack([x, x + 1], 0), 0), X),
    "pad": (lambda x: gf.pad(x, 1) ** 2, X),
    "pad reflect": (lambda x: gf.pad(x, ((2, 1), (0, 2)), "reflect") ** 2, X),
    "pad edge": (lambda x: gf.pad(x, 2, "edge") ** 2, X),
    "roll": (lambda x: gf.roll(x, 1, 1) * x, X),
    "flip": (lambda x: gf.flip(x) * x, X),
    "tile": (lambda x: gf.tile(x, (2, 2)) ** 2, X),
    "repeat": (lambda x: gf.repeat(x, 2, 0) ** 2, X),
    "transpose": (lambda x: x.T[1:3] * x[:2, :3], X),
    "reshape": (lambda x: gf.reshape(x, (2, -1)) ** 2, X),
    "tril": (lambda x: gf.tril(x) ** 2, X),
    "matmul": (lambda x: x @ x.T, X),
    "matrix vector": (lambda x: x @ x[0], X),
    "einsum": (lambda x: gf.einsum("ij,kj,k->i", x, x, x[:, 0]), X),
    "einsum diagonal": (lambda x: gf.einsum("ii->i", x[:, :3]) ** 2, X),
    "where": (lambda x: gf.where(x > 0, gf.exp(x), x), X),
    "clip": (lambda x: gf.clip(x, -0.5, 0.5) * x, X),
    "maximum": (lambda x: gf.maximum(x, 0.1) * x, X),
    "cast": (lambda x: gf.astype(gf.astype(x * 1, "float64"), "float64") ** 2, X),
}


def placeholders(*arrays):
    return [gf.placeholder(array.shape, "float64") for array in arrays]


def compute(inputs, outputs, *arrays):
    return gf.function(inputs, outputs, mode="interpret", on_unused_input="ignore")(*arrays)


def difference(function, x, direction, step=1e-6):
    """(f(x + h d) - f(x - h d)) / 2h"""
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_jvp_and_vjp_agree_with_differences(name):
    build, at = FUNCTIONS[name]
    (x,) = placeholders(at)
    y = build(x)
    forward = gf.function([x], y, mode="interpret")
    value = forward(at)
    direction, cotangent = RNG.normal(size=at.shape), RNG.normal(size=value.shape)
    expected = difference(forward, at, direction)
    tangent = compute([x], gf.jvp(y, x, direction), at)
    np.testing.assert_allclose(tangent, expected, rtol=1e-6, atol=1e-7)
    pulled = compute([x], gf.vjp(y, x, cotangent), at)
    np.testing.assert_allclose(np.sum(pulled * direction), np.sum(cotangent * expected), rtol=1e-5)


@pytest.mark.parametrize("name", ["exp", "power", "logsumexp", "prod", "matmul", "norm", "take"])
def test_hvp_agrees_with_differences_of_the_gradient(name):
    build, at = FUNCTIONS[name]
    (x,) = placeholders(at)
    loss = gf.sum(gf.sin(build(x)))
    gradient = gf.function([x], gf.grad(loss, x), mode="interpret")
    direction = RNG.normal(size=at.shape)
    got = compute([x], gf.hvp(loss, x, direction), at)
    np.testing.assert_allclose(got, difference(gradient, at, direction), rtol=1e-5, atol=1e-6)


def test_third_derivative():
    (x,) = placeholders(np.zeros(()))
    y = x**4
    for _ in range(3):
        y = gf.grad(y, x)
    assert compute([x], y, 2.0) == 48.0


def test_gradients_keep_the_structure():
    a, b = placeholders(np.zeros(2), np.zeros(3))
    loss = gf.sum(a) * gf.sum(b)
    assert isinstance(gf.grad(loss, a), gf.Tensor)
    assert [g.shape for g in gf.grad(loss, [a, b])] == [(2,), (3,)]
    assert isinstance(gf.grad(loss, (a, b)), tuple)
    nested = gf.grad(loss, {"first": a, "rest": [b]})
    assert nested["rest"][0].shape == (3,)
    value, gradient = gf.value_and_grad(loss, [b])
    got = compute([a, b], [value, gradient], np.ones(2), np.ones(3))
    assert got[0] == 6.0
    assert got[1][0].tolist() == [2, 2, 2]


def test_gradient_with_respect_to_an_inner_value():
    (x,) = placeholders(np.zeros(3))
    hidden = gf.exp(x)
    loss = gf.sum(hidden * x)
    assert compute([x], gf.grad(loss, hidden), np.arange(3.0)).tolist() == [0, 1, 2]


def test_gradient_of_variables():
    w = gf.variable(np.array([1.0, 2.0]))
    (x,) = placeholders(np.zeros(2))
    assert compute([x], gf.grad(gf.sum(w * w * x), w), np.ones(2)).tolist() == [2, 4]


def test_disconnected():
    a, b = placeholders(np.zeros(2), np.zeros(2))
    assert compute([b], gf.grad(gf.sum(a), b), np.ones(2)).tolist() == [0, 0]
    with pytest.raises(GradientError, match="no differentiable path"):
        gf.grad(gf.sum(a), b, disconnected="raise")
    with pytest.raises(GradientError, match="no differentiable path"):
        gf.grad(gf.sum(gf.stop_gradient(a)), a, disconnected="raise")
    assert gf.grad(gf.sum(a), a, disconnected="raise").shape == (2,)


def test_stop_gradient():
    (x,) = placeholders(np.zeros(()))
    assert compute([x], gf.grad(x * gf.stop_gradient(x), x), 3.0) == 3.0


def test_jvp_of_several_inputs_and_outputs():
    a, b = placeholders(np.zeros(2), np.zeros(2))
    outputs = {"product": a * b, "sum": [gf.sum(a)]}
    tangents = gf.jvp(outputs, [a, b], [np.array([1.0, 0.0]), np.array([0.0, 1.0])])
    got = compute([a, b], tangents, np.array([2.0, 3.0]), np.array([5.0, 7.0]))
    assert got["product"].tolist() == [5.0, 3.0]
    assert got["sum"] == [1.0]


def test_vjp_of_several_outputs_adds_up():
    (x,) = placeholders(np.zeros(2))
    pulled = gf.vjp([x * 2, gf.sum(x)], x, [np.array([1.0, 10.0]), 100.0])
    assert compute([x], pulled, np.zeros(2)).tolist() == [102.0, 120.0]


def test_cotangents_must_match():
    (x,) = placeholders(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"vjp: a cotangent is float64\(3,\).*same shape"):
        gf.vjp(x * 2, x, np.zeros(3))
    with pytest.raises(GradientError, match="jvp: the tangents do not match: expected 2 values"):
        gf.jvp(x * 2, [x, x], [np.zeros((2, 3))])


# ---- custom rules ----------------------------------------------------------------------------


@gf.custom_gradient
def straight_through(x):
    return gf.round(x), lambda ct: ct * 3


def test_custom_gradient():
    (x,) = placeholders(np.zeros(3))
    y = straight_through(x)
    at = np.array([0.4, 1.6, -2.2])
    assert compute([x], [y, gf.grad(gf.sum(y), x)], at)[0].tolist() == [0, 2, -2]
    assert compute([x], gf.grad(gf.sum(y * x), x), at).tolist() == pytest.approx(
        [3 * 0.4 + 0, 3 * 1.6 + 2, 3 * -2.2 - 2]
    )


def test_custom_gradient_of_two_arguments():
    @gf.custom_gradient
    def product(a, b):
        return a * b, lambda ct: (ct * 10 * b, None)

    a, b = placeholders(np.zeros(()), np.zeros(()))
    got = compute([a, b], gf.grad(product(a, b), [a, b]), 2.0, 3.0)
    assert got == [30.0, 0.0]


def test_custom_gradient_can_be_differentiated_again():
    @gf.custom_gradient
    def cube(x):
        return x * x * x, lambda ct: ct * 3 * x * x

    (x,) = placeholders(np.zeros(()))
    assert compute([x], gf.grad(gf.grad(cube(x), x), x), 2.0) == 12.0


def test_python_rules_do_not_reach_the_function():
    (x,) = placeholders(np.zeros(3))
    graph = gf.function([x], straight_through(x) + 1).graph
    assert "custom_gradient" not in {node.op.name for node in graph.nodes}


def test_wrong_custom_rules():
    (x,) = placeholders(np.zeros(3))
    with pytest.raises(
        GradientError, match=r"forgetful returned Tensor; expected \(tensor, rule\)"
    ):

        @gf.custom_gradient
        def forgetful(x):
            return x * 2

        forgetful(x)

    @gf.custom_gradient
    def generous(x):
        return x * 2, lambda ct: (ct, ct)

    with pytest.raises(GradientError, match="rule of generous gave 2 cotangents for 1 arguments"):
        gf.grad(gf.sum(generous(x)), x)
