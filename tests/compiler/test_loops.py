"""Loops: equal ones are merged, and products that no pass waits for leave them."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.graph import Graph
from graphflow.compiler.op import ops
from graphflow.compiler.ops.control import results
from graphflow.compiler.passes.hoist_products import hoist_products
from graphflow.compiler.passes.merge_scans import merge_scans
from tests.compiler.listing import N, after, change_by, leaf, text


def scan(build, carries, sequences, constants=(), reverse=False):
    """Results of a scan; `build(carries, rows, constants)` gives (new carries, rows)."""
    rows = [x.shape[1:] for x in sequences]
    shapes = [*(x.shape for x in carries), *rows, *(x.shape for x in constants)]
    inner = [ops.placeholder(dtype="float32", shape=shape) for shape in shapes]
    split = len(carries), len(carries) + len(sequences)
    new, made = build(inner[: split[0]], inner[split[0] : split[1]], inner[split[1] :])
    return results(
        ops.scan(
            *carries,
            *sequences,
            *constants,
            body=Graph(tuple(inner), (*new, *made)),
            carries=len(carries),
            sequences=len(sequences),
            length=N,
            reverse=reverse,
        )
    )


def product(a, b, left=False):
    return ops.matmul(a, b, transpose_a=left, transpose_b=False)


# ---- merge_scans -----------------------------------------------------------------------------


def test_a_replay_meets_the_scan():
    start, xs = leaf((3,), name="start"), leaf((N, 3), name="xs")
    first = scan(lambda c, x, _: ([c[0] * x[0]], [ops.exp(c[0])]), [start], [xs])
    second = scan(lambda c, x, _: ([c[0] * x[0]], [c[0], ops.exp(c[0])]), [start], [xs])
    assert after(merge_scans, first[1], second[0], second[1], second[2]) == text(
        """
        %0 = placeholder "start" : float32(3,)
        %1 = placeholder "xs" : float32(n, 3)
        %2 = scan(%0, %1, carries=1, sequences=1, length=n, reverse=False) : (float32(3,), float32(n, 3), float32(n, 3))
          body:
            %0 = placeholder : float32(3,)
            %1 = placeholder : float32(3,)
            %2 = multiply(%0, %1) : float32(3,)
            %3 = exp(%0) : float32(3,)
            return %2, %3, %0
        %3 = project(%2, index=1) : float32(n, 3)
        %4 = project(%2, index=0) : float32(3,)
        %5 = project(%2, index=2) : float32(n, 3)
        %6 = project(%2, index=1) : float32(n, 3)
        return %3, %4, %5, %6
        """
    )


@pytest.mark.parametrize("change", ["carry", "operand", "direction"])
def test_scans_that_differ_stay_apart(change):
    start, xs = leaf((3,), name="start"), leaf((N, 3), name="xs")
    first = scan(lambda c, x, _: ([c[0] * x[0]], []), [start], [xs])
    step = (lambda c, x, _: ([c[0] + x[0]], [])) if change == "carry" else (
        lambda c, x, _: ([c[0] * x[0]], [c[0]])
    )  # fmt: skip
    rows = leaf((N, 3), name="ys") if change == "operand" else xs
    second = scan(step, [start], [rows], reverse=change == "direction")
    assert change_by(merge_scans, first[0], second[0]) is None


# ---- hoist_products --------------------------------------------------------------------------


def test_a_product_with_a_row_is_made_before():
    start, xs, w = leaf((2, 4), name="start"), leaf((N, 2, 3), name="xs"), leaf((3, 4), name="w")
    (final,) = scan(lambda c, x, k: ([c[0] * product(x[0], k[0])], []), [start], [xs], [w])
    assert after(hoist_products, final) == text(
        """
        %0 = placeholder "start" : float32(2, 4)
        %1 = placeholder "xs" : float32(n, 2, 3)
        %2 = placeholder "w" : float32(3, 4)
        %3 = matmul(%1, %2, transpose_a=False, transpose_b=False) : float32(n, 2, 4)
        %4 = scan(%0, %1, %3, %2, carries=1, sequences=2, length=n, reverse=False) : (float32(2, 4))
          body:
            %0 = placeholder : float32(2, 4)
            %1 = placeholder : float32(2, 4)
            %2 = multiply(%0, %1) : float32(2, 4)
            %3 = placeholder : float32(2, 3)
            %4 = placeholder : float32(3, 4)
            return %2
        %5 = project(%4, index=0) : float32(2, 4)
        return %5
        """
    )


def test_a_row_that_is_a_product_is_made_after():
    start, xs, w = leaf((2, 3), name="start"), leaf((N, 2, 3), name="xs"), leaf((3, 4), name="w")
    _, rows = scan(
        lambda c, x, k: ([c[0] * x[0]], [product(ops.exp(c[0]), k[0])]), [start], [xs], [w]
    )
    assert after(hoist_products, rows) == text(
        """
        %0 = placeholder "start" : float32(2, 3)
        %1 = placeholder "xs" : float32(n, 2, 3)
        %2 = placeholder "w" : float32(3, 4)
        %3 = scan(%0, %1, %2, carries=1, sequences=1, length=n, reverse=False) : (float32(2, 3), float32(n, 2, 3))
          body:
            %0 = placeholder : float32(2, 3)
            %1 = placeholder : float32(2, 3)
            %2 = multiply(%0, %1) : float32(2, 3)
            %3 = exp(%0) : float32(2, 3)
            %4 = placeholder : float32(3, 4)
            return %2, %3
        %4 = project(%3, index=1) : float32(n, 2, 3)
        %5 = matmul(%4, %2, transpose_a=False, transpose_b=False) : float32(n, 2, 4)
        return %5
        """
    )


def test_totals_are_one_product_and_one_sum_of_all_rows():
    xs, ds = leaf((N, 2, 3), name="xs"), leaf((N, 2, 4), name="ds")
    starts = leaf((3, 4), name="w"), leaf((4,), name="b"), leaf((2, 4), name="c")

    def step(c, x, _):
        d = x[1] * c[2]
        weight = ops.add(product(x[0], d, left=True), c[0])
        return [weight, c[1] + ops.sum(d, axes=(0,)), d], []

    found = scan(step, starts, [xs, ds])
    assert after(hoist_products, *found) == text(
        """
        %0 = placeholder "w" : float32(3, 4)
        %1 = placeholder "xs" : float32(n, 2, 3)
        %2 = reshape(%1) : float32(n*2, 3)
        %3 = placeholder "c" : float32(2, 4)
        %4 = placeholder "ds" : float32(n, 2, 4)
        %5 = scan(%3, %1, %4, carries=1, sequences=2, length=n, reverse=False) : (float32(2, 4), float32(n, 2, 4))
          body:
            %0 = placeholder : float32(2, 4)
            %1 = placeholder : float32(2, 4)
            %2 = multiply(%0, %1) : float32(2, 4)
            %3 = placeholder : float32(2, 3)
            return %2, %2
        %6 = project(%5, index=1) : float32(n, 2, 4)
        %7 = reshape(%6) : float32(n*2, 4)
        %8 = matmul(%2, %7, transpose_a=True, transpose_b=False) : float32(3, 4)
        %9 = add(%0, %8) : float32(3, 4)
        %10 = placeholder "b" : float32(4,)
        %11 = sum(%6, axes=(0, 1)) : float32(4,)
        %12 = add(%10, %11) : float32(4,)
        %13 = project(%5, index=0) : float32(2, 4)
        return %9, %12, %13
        """
    )


def outer(x):
    """xᵀ d of one pass."""
    return product(x[0], x[1], left=True)


def the_new_total_is_a_row(c, x, k):
    new = c[0] + outer(x)
    return [new], [new]


def the_addend_is_a_row_too(c, x, k):
    part = outer(x)
    return [c[0] + part], [part]


UNCHANGED = {
    "the total is read": lambda c, x, k: ([c[0] + outer(x)], [c[0]]),
    "the total is scaled": lambda c, x, k: ([c[0] * c[0] + outer(x)], []),
    "the total is added twice": lambda c, x, k: ([c[0] + (c[0] + outer(x))], []),
    "a constant is in it": lambda c, x, k: (
        [c[0] + outer(x) + product(x[0], k[0], left=True)],
        [],
    ),
    "the new total is a row": the_new_total_is_a_row,
    "the addend is a row too": the_addend_is_a_row_too,
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_other_totals_stay(case):
    xs, ds = leaf((N, 2, 3), name="xs"), leaf((N, 2, 4), name="ds")
    start, w = leaf((3, 4), name="w"), leaf((2, 4), name="k")
    found = scan(UNCHANGED[case], [start], [xs, ds], [w])
    assert change_by(hoist_products, *found) is None


# ---- both ------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradients_of_a_recurrent_layer_are_the_same(steps, reverse):
    rng = np.random.default_rng(3)
    x = gf.placeholder(("t", "batch", 5), "float64", name="x")
    shapes = {"w": (5, 12), "u": (4, 12), "b": (12,), "v": (4, 3)}
    w, u, b, v = (gf.variable(rng.normal(size=s) / 2, n) for n, s in shapes.items())

    def step(carry, row):
        h, c = carry
        gates = row @ w + h @ u + b
        c = gf.nn.sigmoid(gates[:, :4]) * c + gf.tanh(gates[:, 4:8])
        h = gf.nn.sigmoid(gates[:, 8:]) * gf.tanh(c)
        return (h, c), h @ v

    zero = gf.zeros((x.shape[1], 4), "float64")
    (h, _), rows = gf.scan(step, (zero, zero), x, reverse=reverse)
    loss = gf.sum(rows * rows) + gf.sum(h)
    wanted = [loss, *gf.grad(loss, [x, w, u, b, v])]
    compiled = gf.function([x], wanted).compile()
    array = rng.normal(size=(steps, 3, 5))
    for got, expected in zip(
        compiled(array), gf.function([x], wanted, mode="interpret")(array), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10)
    bodies = [n.attrs["body"] for n in compiled.optimized_graph.nodes if n.op.name == "scan"]
    products = [sum(n.op.name == "matmul" for n in body.nodes) for body in bodies]
    assert products == [1, 1], "the state's product alone stays, forwards and backwards"
