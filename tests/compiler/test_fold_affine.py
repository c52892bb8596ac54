"""Factors and offsets per channel that go into weights, and those that must not."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.graph import Graph
from graphflow.compiler.interpreter import evaluate
from graphflow.compiler.op import ops
from graphflow.compiler.passes.canonicalize import canonicalize
from graphflow.compiler.passes.fold_affine import fold_affine
from graphflow.compiler.printer import graph_text
from graphflow.compiler.verify import check_graph
from tests.compiler.listing import leaf, text

X = leaf((5, 6))
IMAGE = leaf((1, 5, 5, 4), name="image")
V = leaf((5, 8), name="v")
MATMUL = {"transpose_a": False, "transpose_b": False}
CONV = {"strides": (1, 1), "low": (1, 1), "high": (1, 1), "dilation": (1, 1)}


def weights(*shape, name="w", dtype="float32"):
    return ops.variable(shape=shape, dtype=dtype, name=name)


W, S, T, M = weights(6, 8), *(weights(8, name=name) for name in "stm")


def product(x=X, w=W, **flags):
    return ops.matmul(x, w, **{**MATMUL, **flags})


def conv(w, groups=1):
    return ops.conv(IMAGE, w, groups=groups, **CONV)


def along(vector, ndim=4):
    return ops.reshape(vector, shape=(*[1] * (ndim - 1), vector.shape[0]))


def folded(node, inputs=(X,), updates=(), others=()):
    graph = canonicalize(Graph(inputs, (node, *others), updates))
    result = fold_affine(graph)
    check_graph(result, "fold_affine")
    return graph, result


def test_a_batch_norm_behind_a_product():
    _, result = folded((product() - M) * S + T)
    assert graph_text(result, sources=False) == text(
        """\
        %0 = placeholder "x" : float32(5, 6)
        %1 = variable "w" : float32(6, 8)
        %2 = variable "s" : float32(8,)
        %3 = multiply(%1, %2) : float32(6, 8)
        %4 = matmul(%0, %3, transpose_a=False, transpose_b=False) : float32(5, 8)
        %5 = variable "m" : float32(8,)
        %6 = negative(%5) : float32(8,)
        %7 = multiply(%6, %2) : float32(8,)
        %8 = variable "t" : float32(8,)
        %9 = add(%7, %8) : float32(8,)
        %10 = add(%4, %9) : float32(5, 8)
        return %10
        """
    )


FOLDED = {
    "factor": (X, product() * S),
    "factor first": (X, S * product()),
    "bias, then factor": (X, (product() + M) * S),
    "offset minus product": (X, (T - product()) * S),
    "divided": (X, (product() - M) / S + T),
    "two factors": (X, product() * S * T),
    "a row": (X, product() * ops.reshape(S, shape=(1, 8))),
    "transposed left": (leaf((6, 5)), product(leaf((6, 5)), transpose_a=True) * S),
    "stack of products": (leaf((3, 5, 6)), product(leaf((3, 5, 6))) * S),
    "convolution": (IMAGE, (conv(weights(3, 3, 4, 8)) - along(M)) * along(S) + along(T)),
    "groups": (IMAGE, (conv(weights(3, 3, 2, 8), 2) - along(M)) * along(S) + along(T)),
    "depthwise": (IMAGE, (conv(weights(3, 3, 1, 4), 4) + along(weights(4))) * along(weights(4))),
    "one pixel": (IMAGE, conv(weights(1, 1, 4, 8)) * along(S)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_the_value_stays_and_the_factor_is_in_the_weights(name):
    _, node = FOLDED[name]
    (x,) = (n for n in Graph((), (node,)).nodes if n.op.name == "placeholder")
    graph, result = folded(node, (x,))
    (made,) = (n for n in result.nodes if n.op.name in ("matmul", "conv"))
    assert made.inputs[1].op.name == "multiply"
    (output,) = result.outputs
    assert output is made or (output.op.name == "add" and output.inputs[0] is made)
    rng = np.random.default_rng(0)
    values = {v: rng.uniform(0.5, 2, v.shape).astype("f4") for v in graph.variables}
    data = [rng.normal(size=x.shape).astype("f4")]
    (want,), (got,) = (evaluate(g, data, values)[0] for g in (graph, result))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def kept_as_they_are():
    y = product()
    z = y - M
    half = ops.full(value=0.5, shape=(), dtype="float32")
    count = weights(8, name="n", dtype="int32")
    ints = ops.matmul(leaf((5, 6), "int32"), weights(6, 8, dtype="int32"), **MATMUL)
    return {
        "an offset alone": {"node": y - M + T},
        "a factor of the call": {"node": y * V, "inputs": (X, V)},
        "a factor per row": {"node": y * weights(5, 1)},
        "one number": {"node": y * half},
        "one number in a vector": {"node": y * weights(1)},
        "weights of the call": {"node": product(X, leaf((6, 8), name="u")) * S, "inputs": None},
        "the product is a result too": {"node": y * S, "others": (y,)},
        "the product is read twice": {"node": y * S + ops.tanh(y)},
        "a value between is read twice": {"node": z * S + ops.tanh(z)},
        "transposed weights": {"node": product(w=weights(8, 6), transpose_b=True) * S},
        "divided by it": {"node": S / y},
        "not linear": {"node": ops.tanh(y) * S},
        "integers": {"node": ints * count, "inputs": None},
        "weights that are trained": {"node": y * S, "updates": ((W, W * half),)},
        "factors that are trained": {"node": y * S, "updates": ((S, S * half),)},
        "a wider result": {"node": y * weights(3, 1, 8)},
        "a longer result": {"node": product(leaf((1, 6))) * weights(3, 8), "inputs": None},
    }


@pytest.mark.parametrize("name", kept_as_they_are())
def test_others_stay(name):
    arguments = {"inputs": (X,), **kept_as_they_are()[name]}
    if arguments["inputs"] is None:
        nodes = Graph((), (arguments["node"],)).nodes
        arguments["inputs"] = tuple(n for n in nodes if n.op.name == "placeholder")
    graph, result = folded(**arguments)
    assert result is graph


def test_a_network_has_no_factors_left_and_the_same_values():
    rng = np.random.default_rng(1)

    def weight(*shape):
        return gf.variable(rng.uniform(0.5, 1.5, shape).astype("f4"))

    def normal(h):
        c = h.shape[-1]
        return gf.nn.relu(gf.nn.batch_norm(h, weight(c), weight(c), weight(c), weight(c)))

    x = gf.placeholder(("batch", 12, 12, 16), name="x")
    h = normal(gf.nn.conv2d(x, weight(3, 3, 16, 32), padding="same"))
    h = normal(gf.nn.conv2d(h, weight(3, 3, 1, 32), padding="same", groups=32))
    h = normal(gf.nn.conv2d(h, weight(1, 1, 32, 64)) + weight(64))
    f = gf.function([x], h)
    data = rng.normal(size=(2, 12, 12, 16)).astype("f4")
    want = gf.function([x], h, mode="interpret")(data)
    np.testing.assert_allclose(f(data), want, rtol=1e-5, atol=1e-5 * abs(want).max())
    every_call = f.program.steps[f.program.once :]
    assert [step.label for step in every_call] == [
        "pad", "conv_add_relu", "pad_multiply_sum_add_relu", "matmul_add_relu",
    ]  # fmt: skip
    used = {f.program.kernels[step.kernel].name for step in every_call}
    assert not any("rsqrt" in k.source for k in f.kernels if k.name in used)
    assert any("rsqrt" in k.source for k in f.kernels)


def test_weights_in_the_body_of_a_loop_are_left_alone():
    """There, they would be made again in every pass."""
    rng = np.random.default_rng(2)
    # Larger than what is folded to a constant.
    big, factor = rng.normal(size=(600, 600)).astype("f4"), rng.normal(size=600).astype("f4")

    def body(c, _):
        return gf.tanh((c @ gf.asarray(big)) * gf.asarray(factor)), None

    f = gf.function([], gf.scan(body, gf.ones((2, 600)), length=3)[0])
    (loop,) = (step for step in f.program.steps if hasattr(step, "body"))
    assert sum(hasattr(step, "kernel") for step in loop.body) == 1
