"""A factor and an offset per channel behind a product of fixed weights go into the weights."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.pipeline import compile_graph

RNG = np.random.default_rng(5)


def variable(*shape, low=-1.0):
    return gf.variable(RNG.uniform(low, 1.0, shape).astype("f4"))


def normalized(y, channels):
    """Batch norm at inference."""
    return gf.nn.batch_norm(
        y, variable(channels), variable(channels, low=0.1), variable(channels), variable(channels)
    )


def labels(outputs, inputs, updates=()):
    run = gf.function(inputs, outputs, updates=list(updates))
    program = compile_graph(run.graph).program
    return [step.label for step in program.steps[program.once :]]


IMAGE = gf.placeholder(("n", 8, 8, 6), name="x")
ROWS = gf.placeholder(("n", 40), name="x")
CHAINS = {
    "convolution": (IMAGE, lambda x: normalized(gf.nn.conv2d(x, variable(3, 3, 6, 16)), 16)),
    "convolution of groups": (
        IMAGE,
        lambda x: normalized(gf.nn.conv2d(x, variable(3, 3, 2, 12), groups=3), 12),
    ),
    "depthwise": (IMAGE, lambda x: normalized(gf.nn.depthwise_conv(x, variable(3, 3, 6, 1)), 6)),
    "product": (ROWS, lambda x: (x @ variable(40, 24) + variable(24)) * variable(24)),
    "taken from a vector": (ROWS, lambda x: variable(24) - (x @ variable(40, 24)) * variable(24)),
    "quotient": (ROWS, lambda x: (x @ variable(40, 24)) / variable(24, low=0.5) - variable(24)),
}


@pytest.mark.parametrize("case", CHAINS)
def test_the_value_is_the_same(case):
    x, build = CHAINS[case]
    result = gf.nn.relu(build(x))
    shape = [5, *x.shape[1:]]
    value = RNG.standard_normal(shape).astype("f4")
    compiled, plain = (
        gf.function([x], result, mode=mode)(value) for mode in ("compiled", "interpret")
    )
    np.testing.assert_allclose(compiled, plain, rtol=2e-4, atol=2e-5)


def test_one_addition_is_left():
    x, build = CHAINS["convolution"]
    assert labels(gf.nn.relu(build(x)), [x])[-1] == "conv_add_relu"
    x, build = CHAINS["product"]
    assert labels(gf.nn.relu(build(x)), [x]) == ["matmul_add_relu"]


def test_weights_that_are_trained_stay():
    w, s = variable(40, 24), variable(24)
    y = (ROWS @ w) * s
    assert labels(y, [ROWS], [(w, w * 0.9)])[0] == "matmul_multiply"


def test_a_product_that_others_read_stays():
    w, s = variable(40, 24), variable(24)
    product = ROWS @ w
    assert "matmul_multiply" in labels((product * s, product), [ROWS])


def test_one_factor_for_all_stays():
    w, s = variable(40, 24), variable()
    assert labels((ROWS @ w) * s, [ROWS]) == ["matmul_multiply"]


def test_a_factor_of_each_row_stays():
    w, s = variable(40, 24), gf.placeholder(("n", 1), name="s")
    assert labels((ROWS @ w) * s, [ROWS, s]) == ["matmul_multiply"]
