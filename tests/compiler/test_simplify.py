"""Algebra that keeps every bit, and the algebra that would not."""

import numpy as np
import pytest

from graphflow.compiler.interpreter import evaluate
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import broadcast_to, full, where
from graphflow.compiler.passes.simplify import simplify
from tests.compiler.listing import N, after, change_by, graph_of, leaf, text

X = leaf((8,))
Y = leaf((8,), name="y")
Z = leaf((8,), "float64", name="z")
I = leaf((8,), "int32", name="i")
U = leaf((8,), "uint8", name="u")
P = leaf((8,), "bool", name="p")


def bools(value):
    return full((), value, "bool")


REWRITES = {
    "x * 1": (lambda: X * 1.0, X),
    "1 * x": (lambda: 1.0 * X, X),
    "x * -1": (lambda: X * -1.0, "negative"),
    "i * 0": (lambda: I * 0, "full"),
    "x / 1": (lambda: X / 1.0, X),
    "x / 4": (lambda: X / 4.0, "multiply"),
    "x / -0.125": (lambda: X / -0.125, "multiply"),
    "x - 0": (lambda: X - 0.0, X),
    "x + -0": (lambda: X + -0.0, X),
    "i + 0": (lambda: I + 0, I),
    "0 + i": (lambda: 0 + I, I),
    "i - i": (lambda: I - I, "full"),
    "x + -y": (lambda: X + -Y, "subtract"),
    "-x + y": (lambda: -X + Y, "subtract"),
    "x - -y": (lambda: X - -Y, "add"),
    "--x": (lambda: ops.negative(-X), X),
    "x ** 0": (lambda: X**0.0, "full"),
    "x ** 1": (lambda: X**1.0, X),
    "x ** 2": (lambda: X**2.0, "square"),
    "i ** 2": (lambda: I**2, "square"),
    "(i * 3) * 5": (lambda: I * 3 * 5, "multiply"),
    "(u * 200) * 3 wraps": (lambda: U * 200 * 3, "multiply"),
    "(x * 2) * 4": (lambda: X * 2.0 * 4.0, "multiply"),
    "(x * -8) * 1.1": (lambda: X * -8.0 * 1.1, "multiply"),
    "(z * 2) * 1e300": (lambda: Z * 2.0 * 1e300, "multiply"),
    "i // 1": (lambda: ops.floor_divide(I, full((), 1, "int32")), I),
    "i % 1": (lambda: ops.remainder(I, full((), 1, "int32")), "full"),
    "||x||": (lambda: ops.abs(ops.abs(X)), "abs"),
    "|-x|": (lambda: ops.abs(-X), "abs"),
    "|-i|": (lambda: ops.abs(-I), "abs"),
    "|x²|": (lambda: ops.abs(ops.square(X)), "square"),
    "(-x)²": (lambda: ops.square(-X), "square"),
    "|u|² of -u": (lambda: ops.square(-U), "square"),
    "sign sign": (lambda: ops.sign(ops.sign(X)), "sign"),
    "relu relu": (lambda: ops.relu(ops.relu(X)), "relu"),
    "floor floor": (lambda: ops.floor(ops.floor(X)), "floor"),
    "max(x, x)": (lambda: ops.maximum(X, X), X),
    "min(i, i)": (lambda: ops.minimum(I, I), I),
    "where(p, x, x)": (lambda: where(P, X, X), X),
    "where(true, x, y)": (lambda: where(bools(True), X, Y), X),
    "where(false, x, y)": (lambda: where(bools(False), X, Y), Y),
    "where(not p, x, y)": (lambda: where(ops.logical_not(P), X, Y), "where"),
    "where(p, true, false)": (lambda: where(P, bools(True), bools(False)), P),
    "p and p": (lambda: ops.logical_and(P, P), P),
    "p and true": (lambda: ops.logical_and(P, bools(True)), P),
    "false and p": (lambda: ops.logical_and(bools(False), P), "full"),
    "p or true": (lambda: ops.logical_or(P, bools(True)), "full"),
    "p or false": (lambda: ops.logical_or(P, bools(False)), P),
    "p xor p": (lambda: ops.logical_xor(P, P), "full"),
    "p xor false": (lambda: ops.logical_xor(P, bools(False)), P),
    "p xor true": (lambda: ops.logical_xor(P, bools(True)), "logical_not"),
    "not not p": (lambda: ops.logical_not(ops.logical_not(P)), P),
    "not x == y": (lambda: ops.logical_not(ops.equal(X, Y)), "not_equal"),
    "not x != y": (lambda: ops.logical_not(ops.not_equal(X, Y)), "equal"),
    "i == i": (lambda: ops.equal(I, I), "full"),
    "p != p": (lambda: ops.not_equal(P, P), "full"),
    "i < i": (lambda: ops.less(I, I), "full"),
    "i >= i": (lambda: ops.greater_equal(I, I), "full"),
    "sum of zeros": (lambda: ops.sum(full((5, 3), 0.0, "float32"), axes=(0,)), "full"),
    "sum of ints": (lambda: ops.sum(full((40, 3), 7, "uint8"), axes=(0,)), "full"),
    "sum of negative ints": (lambda: ops.sum(full((40, 3), -7, "int8"), axes=(0,)), "full"),
    # One rule makes the start of another.
    "x / -1": (lambda: X / -1.0, "negative"),
    "-(x * -1)": (lambda: -(X * -1.0), X),
    "(x / 0.5) / 0.25": (lambda: X / 0.5 / 0.25, "multiply"),
}

MUST_NOT_FIRE = {
    "x + 0 makes 0 of -0": lambda: X + 0.0,
    "x - -0 does as well": lambda: X - -0.0,
    "x * 0 is NaN for infinities": lambda: X * 0.0,
    "x - x too": lambda: X - X,
    "x / x too": lambda: X / X,
    "x / 3 is not x * (1/3)": lambda: X / 3.0,
    "the inverse of 2 ** -120 overflows": lambda: X / 2.0**-120,
    "x * 0.5 rounds small x": lambda: X * 0.5 * 2.0,
    "x * 2 overflows for large x": lambda: X * 2.0 * 0.5,
    "x * 3 rounds": lambda: X * 3.0 * 5.0,
    "the product of the factors overflows": lambda: X * 2.0**100 * 2.0**100,
    "NaN is not itself": lambda: ops.equal(X, X),
    "x ** 3": lambda: X**3.0,
    "x ** 0.5 of -inf is inf": lambda: X**0.5,
    "exp of log": lambda: ops.exp(ops.log(X)),
    "-u is not |u|": lambda: ops.abs(-U),
    "not x < y is true for NaN": lambda: ops.logical_not(ops.less(X, Y)),
    "a sum of ones rounds": lambda: ops.sum(full((3,), 0.1, "float32"), axes=(0,)),
    "zeros of unknown number": lambda: ops.sum(full((N,), 1, "int32"), axes=(0,)),
    "a branch that differs": lambda: where(P, X, Y),
}

SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.5, -2.5, 3.0]
TINY = [1e-45, -3e-45, 1.2e-38, 3.4e38, -3.4e38, 1.7e38, 0.1, -7.3]
SMALL = {"u": [0, 1, 2, 100, 128, 200, 254, 255], "p": [0, 0, 1, 1] * 2}
FEEDS = {
    "special": {
        "x": SPECIAL,
        "y": SPECIAL[3:] + SPECIAL[:3],
        "z": SPECIAL,
        "i": [0, 1, -1, 2, -7, 2**31 - 1, -(2**31), 9],
        **SMALL,
    },
    "ends": {
        "x": TINY,
        "y": TINY[::-1],
        "z": [5e-324, 1e308, -1e308, 1, 2, 3, 4, 1.7e308],
        "i": range(8),
        **SMALL,
    },
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites(name):
    build, expected = REWRITES[name]
    graph = simplify(graph_of(build()))
    (result,) = graph.outputs
    if isinstance(expected, str):
        assert result.op.name == expected
        # What is left reads leaves and constants only.
        assert all(x.op.arity == (0, 0) for x in result.inputs)
    else:
        assert result is expected
    assert simplify(graph) is graph


@pytest.mark.parametrize("name", REWRITES)
@pytest.mark.parametrize("feed", FEEDS)
def test_every_value_is_kept(name, feed):
    """The result, signs of zeros included, on infinities, NaN, and the ends of the range."""
    graph = graph_of(REWRITES[name][0]())
    arrays = [np.array(list(FEEDS[feed][x.name])).astype(x.dtype) for x in graph.inputs]
    got, expected = (run(g, arrays) for g in (simplify(graph), graph))
    np.testing.assert_array_equal(got, expected)
    if got.dtype.kind == "f":
        number = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got)[number], np.signbit(expected)[number])


def run(graph, arrays):
    return evaluate(graph, arrays, {})[0][0]


@pytest.mark.parametrize("name", MUST_NOT_FIRE)
def test_must_not_fire(name):
    assert change_by(simplify, MUST_NOT_FIRE[name]()) is None


def test_the_listing_of_a_gradient_like_graph():
    """All at once, over operands of different shapes."""
    row = leaf((6,), name="row")
    y = (leaf() * 1.0 + -broadcast_to(row, (4, 6))) / 4.0
    assert after(simplify, y) == text(
        """
        %0 = placeholder "x" : float32(4, 6)
        %1 = placeholder "row" : float32(6,)
        %2 = broadcast_to(%1) : float32(4, 6)
        %3 = subtract(%0, %2) : float32(4, 6)
        %4 = full(value=0.25) : float32()
        %5 = multiply(%3, %4) : float32(4, 6)
        return %5
        """
    )


def test_the_shape_of_a_constant_that_goes_stays():
    assert after(simplify, leaf((6,)) * full((4, 6), 1.0, "float32")) == text(
        """
        %0 = placeholder "x" : float32(6,)
        %1 = broadcast_to(%0) : float32(4, 6)
        return %1
        """
    )


def test_a_sum_of_any_number_of_zeros():
    assert after(simplify, ops.sum(full((N, 3), 0.0, "float32"), axes=(0,))) == text(
        """
        %0 = full(value=0.0) : float32(3,)
        return %0
        """
    )


def test_a_chain_of_negations_ends_within_the_sweeps():
    node = X
    for _ in range(1001):
        node = -node
    graph = simplify(graph_of(node))
    assert [n.op.name for n in graph.nodes] == ["placeholder", "negative"]
