"""Which nodes share a kernel, and which must not."""

import numpy as np

import graphflow as gf
from graphflow.compiler.passes.fuse import fuse
from graphflow.compiler.pipeline import optimize


def groups_of(inputs, outputs, updates=None):
    """Names of the computing ops of each group, index maps left out."""
    graph = gf.function(inputs, outputs, updates=updates, mode="interpret").graph
    fused = fuse(optimize(graph)[0][-1][1])
    return [tuple(n.op.name for n in g.nodes if not n.op.is_free) for g in fused.groups]


def test_an_elementwise_chain_is_one_kernel():
    x = gf.placeholder(("n", 3), name="x")
    assert groups_of([x], gf.tanh(x * 2 + 1)) == [("multiply", "add", "tanh")]


def test_matmul_takes_bias_and_activation_with_it():
    x = gf.placeholder(("n", 3), name="x")
    w, b = gf.variable(np.ones((3, 4), "f4")), gf.variable(np.ones(4, "f4"))
    assert groups_of([x], gf.nn.relu(x @ w + b)) == [("matmul", "add", "relu")]


def test_softmax_is_one_kernel():
    x = gf.placeholder(("n", 10), name="x")
    ((first, *rest),) = groups_of([x], gf.nn.softmax(x))
    assert (first, rest.count("sum"), rest.count("exp")) == ("max", 1, 1)


def test_an_optimizer_update_is_one_kernel_behind_its_gradient():
    x, y = gf.placeholder((8, 3), name="x"), gf.placeholder((8, 4), name="y")
    w, m = gf.variable(np.ones((3, 4), "f4")), gf.variable(np.ones((3, 4), "f4"))
    g = gf.matrix_transpose(x) @ y
    new = 0.9 * m + g
    groups = groups_of([x, y], None, updates=[(m, new), (w, w - 0.1 * new)])
    assert groups == [("multiply", "matmul", "add", "multiply", "subtract")]


def test_column_sums_are_not_fused_with_elements_that_need_them():
    x = gf.placeholder((100, 8), name="x")
    assert groups_of([x], x - gf.sum(x, axis=0)) == [("sum",), ("subtract",)]


def test_a_path_that_leaves_and_returns_keeps_groups_apart():
    x = gf.placeholder((4, 4), name="x")
    h = gf.tanh(x)
    groups = groups_of([x], h @ h + h)
    # tanh is read by the product, so it cannot be computed behind it.
    assert groups == [("tanh",), ("matmul", "add")]


def test_two_products_do_not_share_a_kernel():
    x = gf.placeholder((4, 4), name="x")
    assert sorted(map(len, groups_of([x], (x @ x) + (x @ (x * 2))))) == [1, 1, 2]


def test_fusion_can_be_switched_off():
    x = gf.placeholder(("n", 3), name="x")
    graph = gf.function([x], gf.tanh(x * 2 + 1), mode="interpret").graph
    assert len(fuse(graph, enabled=False).groups) == 3
