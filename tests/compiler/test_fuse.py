"""Which nodes share a kernel, and which must not."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.passes.fuse import fuse
from graphflow.compiler.pipeline import optimize
from tests.fuzz.generator import random_case


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


def test_updates_that_share_a_number_wait_for_nothing():
    """Adam for two layers: the literals are one node each, and repeated in every kernel."""
    x, y = gf.placeholder((8, 3), name="x"), gf.placeholder((8, 4), name="y")
    w, u = gf.variable(np.ones((3, 5), "f4")), gf.variable(np.ones((5, 4), "f4"))
    h = gf.tanh(x @ w)
    loss = gf.sum(gf.square(h @ u - y))
    updates = []
    for p, g in zip((w, u), gf.grad(loss, [w, u]), strict=True):
        v = gf.variable(np.zeros(p.shape, "f4"))
        new = 0.9 * v + 0.1 * gf.square(g)
        updates += [(v, new), (p, p - 0.01 * g / (gf.sqrt(new) + 1e-7))]
    groups = groups_of([x, y], loss, updates=updates)
    assert sum("sqrt" in group for group in groups) == 2
    assert all("matmul" in group for group in groups if "sqrt" in group)


def test_column_sums_are_not_fused_with_elements_that_need_them():
    x = gf.placeholder((100, 8), name="x")
    assert groups_of([x], x - gf.sum(x, axis=0)) == [("sum",), ("subtract",)]


def test_a_path_that_leaves_and_returns_keeps_groups_apart():
    x = gf.placeholder((4, 4), name="x")
    h = gf.tanh(x)
    groups = groups_of([x], h @ h + h)
    # tanh is read by the product, so it cannot be computed behind it.
    assert groups == [("tanh",), ("matmul", "add")]


def test_a_product_does_not_read_what_is_computed_behind_it():
    """sin is shared by tanh, which the product reads, and by what follows the product."""
    x, y = gf.placeholder((33, 17), name="x"), gf.placeholder((33, 33), name="y")
    h = gf.sin(x)
    groups = groups_of([x, y], y @ gf.tanh(h) + h)
    assert groups == [("sin", "tanh"), ("matmul", "add")]


def test_two_products_do_not_share_a_kernel():
    x = gf.placeholder((4, 4), name="x")
    assert sorted(map(len, groups_of([x], (x @ x) + (x @ (x * 2))))) == [1, 1, 2]


def test_fusion_can_be_switched_off():
    x = gf.placeholder(("n", 3), name="x")
    graph = gf.function([x], gf.tanh(x * 2 + 1), mode="interpret").graph
    assert len(fuse(graph, enabled=False).groups) == 3


def test_an_mlp_forward_is_a_kernel_per_layer_and_one_for_softmax():
    x = gf.placeholder(("n", 8), name="x")
    h = x
    for width in (16, 16, 10):
        w = gf.variable(np.ones((h.shape[-1], width), "f4"))
        h = h @ w + gf.variable(np.zeros(width, "f4"))
        h = gf.nn.relu(h) if width == 16 else gf.nn.softmax(h)
    first, second, logits, softmax = groups_of([x], h)
    assert first == second == ("matmul", "add", "relu")
    # A row of softmax is read three times, so its bias is added where it is read.
    assert logits == ("matmul",)
    assert softmax == ("add", "max", "subtract", "exp", "sum", "divide", "multiply")


def test_an_adam_update_of_three_results_is_one_kernel():
    g = gf.placeholder((4, 3), name="g")
    w, m, v = (gf.variable(np.ones((4, 3), "f4"), name=name) for name in "wmv")
    new_m, new_v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
    step = w - 0.001 * new_m / (gf.sqrt(new_v) + 1e-7)
    ((*names,),) = groups_of([g], None, updates=[(w, step), (m, new_m), (v, new_v)])
    assert (names.count("sqrt"), names.count("divide"), names[-1]) == (1, 1, "subtract")


def test_a_diamond_around_a_product_is_not_one_kernel():
    """tanh -> matmul -> add and tanh -> exp -> add: one kernel would need its own result."""
    x = gf.placeholder((4, 4), name="x")
    h = gf.tanh(x)
    groups = groups_of([x], h @ h + gf.exp(h))
    assert len(groups) == 2
    assert groups[0][0] == "tanh" and "matmul" in groups[1]


def test_a_diamond_around_column_sums_is_not_one_kernel():
    x = gf.placeholder((100, 8), name="x")
    h = gf.tanh(x)
    assert groups_of([x], h * gf.sum(h, axis=0)) == [("tanh",), ("sum",), ("multiply",)]


def test_three_groups_do_not_wait_for_each_other_in_a_circle():
    """The sums read relu, its group reads the count, and the count reads the maximum."""
    x, y = gf.placeholder((5, 5, 3), name="x"), gf.placeholder((5, 5, 3), name="y")
    peak, h = gf.max(x, axis=0), gf.nn.relu(x)
    count = gf.sum(gf.astype(x == peak, "float32"), axis=0)
    outputs = [peak + gf.sum(h, axis=0), gf.where(h > 0, y, 0.0) + count]
    graph = gf.function([x, y], outputs, mode="interpret").graph
    stored: set = set()
    for group in fuse(optimize(graph)[0][-1][1]).groups:
        inside = {*group.nodes, *stored, *graph.inputs}
        assert all(value in inside or value.op.is_leaf for n in group.nodes for value in n.inputs)
        stored |= set(group.outputs)
    assert len(stored) >= 3


def random_groups(seed, enabled):
    graph = random_case(seed).graph
    return fuse(optimize(graph)[0][-1][1] if enabled else graph, enabled)


@pytest.mark.parametrize("enabled", [True, False])
def test_random_graphs_are_partitioned(enabled):
    """Each computing node lies in one group, and each group reads what groups before it store."""
    for seed in range(80):
        fused = random_groups(seed, enabled)
        computing = [
            n for n in fused.graph.nodes
            if not (n.op.is_free or n.op.is_leaf or n.op.is_projection)
        ]  # fmt: skip
        members = [n for group in fused.groups for n in group.nodes if not n.op.is_free]
        assert sorted(members, key=id) == sorted(computing, key=id), seed
        stored = {n for group in fused.groups for n in group.outputs}
        for group in fused.groups:
            inside = set(group.nodes)
            for node in group.nodes:
                for value in node.inputs:
                    assert value in inside or in_a_buffer(value, fused, stored), (seed, node)
        assert has_an_order(fused), seed


def buffer_of(node, fused):
    """The stored node or leaf in whose buffer a node lies."""
    while node in fused.alias or node.op.is_projection:
        node = fused.alias[node] if node in fused.alias else node.inputs[0]
    return node


def in_a_buffer(node, fused, stored):
    node = buffer_of(node, fused)
    return node.op.is_leaf or node in stored


def has_an_order(fused):
    """Whether the groups can run one after another, each after those whose results it reads."""
    waiting, done = list(fused.groups), set()
    while waiting:
        ready = [
            group for group in waiting
            if all(is_there(value, group, fused, done) for n in group.nodes for value in n.inputs)
        ]  # fmt: skip
        if not ready:
            return False
        for group in ready:
            done.update(group.outputs)
        waiting = [group for group in waiting if group not in ready]
    return True


def is_there(value, group, fused, done):
    base = buffer_of(value, fused)
    return value in group.nodes or base.op.is_leaf or base in done


def graph_with(inputs, outputs, updates=None):
    return optimize(gf.function(inputs, outputs, updates=updates, mode="interpret").graph)[0][-1][1]


def test_a_costly_value_per_column_is_not_computed_for_every_row():
    x, v = gf.placeholder((500, 64), name="x"), gf.placeholder((64,), name="v")
    assert groups_of([x, v], x * gf.rsqrt(v + 1)) == [("add", "rsqrt"), ("multiply",)]


def test_a_value_that_costs_no_more_than_a_load_stays_in_the_kernel():
    x, v = gf.placeholder((500, 64), name="x"), gf.placeholder((64,), name="v")
    assert groups_of([x, v], x * (v + 1)) == [("add", "multiply")]


def test_a_chain_of_cheap_operations_is_costly():
    x, v = gf.placeholder((500, 64), name="x"), gf.placeholder((64,), name="v")
    chain = gf.abs(gf.nn.relu(v + 1) - 3) * v
    first, second = groups_of([x, v], x - chain)
    assert (len(first), second) == (5, ("subtract",))


def test_a_few_repetitions_do_not_pay_for_a_launch():
    x, v = gf.placeholder((8, 64), name="x"), gf.placeholder((64,), name="v")
    assert groups_of([x, v], x * gf.rsqrt(v + 1)) == [("add", "rsqrt", "multiply")]


def test_a_value_per_row_is_computed_once_per_row_in_the_kernel():
    x, v = gf.placeholder((500, 64), name="x"), gf.placeholder((500, 1), name="v")
    assert groups_of([x, v], x * gf.rsqrt(v + 1)) == [("add", "rsqrt", "multiply")]
    mean = gf.mean(x, axis=1, keepdims=True)
    spread = gf.mean(gf.square(x - mean), axis=1, keepdims=True)
    assert len(groups_of([x], (x - mean) * gf.rsqrt(spread + 1e-3))) == 1


def test_small_values_share_a_kernel():
    x, v, w = (gf.placeholder(s, name=n) for s, n in (((500, 64), "x"), ((64,), "v"), ((64,), "w")))
    factor = gf.rsqrt(v + 1)
    first, second = groups_of([x, v, w], x * factor + (w - w * factor) * gf.sqrt(factor))
    assert (first.count("rsqrt"), first.count("sqrt"), second) == (1, 1, ("multiply", "add"))


def test_a_kernel_of_small_values_is_not_drawn_into_the_wide_one():
    """Both read u, and neither group stores it for the other."""
    x, v = gf.placeholder((500, 64), name="x"), gf.placeholder((64,), name="v")
    u = v + 1
    groups = groups_of([x, v], x * gf.rsqrt(gf.exp(u)) + u)
    assert groups == [("add", "exp", "rsqrt"), ("multiply", "add")]


def test_a_batch_norm_in_training_ends_the_sums_of_its_columns():
    x = gf.placeholder((500, 64), name="x")
    gamma = gf.variable(np.ones(64, "f4"))
    mean = gf.mean(x, axis=0)
    spread = gf.mean(gf.square(x - mean), axis=0)
    y = (x - mean) * gf.rsqrt(spread + 1e-3) * gamma
    groups = groups_of([x], y, updates=[(gamma, gamma + gf.sum(y, axis=0))])
    (holder,) = (group for group in groups if "rsqrt" in group)
    assert "sum" in holder


def test_what_depends_on_weights_alone_has_groups_of_its_own():
    x = gf.placeholder((500, 64), name="x")
    v, w = gf.variable(np.ones(64, "f4")), gf.variable(np.ones((500, 64), "f4"))
    graph = graph_with([x], x * gf.exp(w) + gf.sum(w) - (w - v))
    fused = fuse(graph)
    for group in fused.groups:
        inside = [node in fused.once for node in group.nodes if not node.op.is_free]
        assert all(inside) or not any(inside)
    assert len(fused.groups) > 1
    assert len(fuse(graph, once=False).groups) < len(fused.groups)


def test_a_mask_made_from_nothing_is_not_kept():
    x = gf.placeholder((300, 300), name="x")
    row, column = gf.arange(300)[:, None], gf.arange(300)[None, :]
    f = gf.function([x], gf.where(row >= column, x, 0.0))
    assert (len(f.program.steps), f.program.once) == (1, 0)


def test_a_layer_norm_of_sequences_is_one_kernel():
    x = gf.placeholder((1, 128, 256), name="x")
    scale, offset = gf.placeholder((256,), name="s"), gf.placeholder((256,), name="o")
    assert len(groups_of([x, scale, offset], gf.nn.layer_norm(x, scale, offset))) == 1


def test_what_windows_read_is_stored_by_the_product_before_them():
    """The windows of a depthwise convolution read each pixel nine times."""
    x, w = gf.placeholder((1, 16, 16, 32), name="x"), gf.placeholder((1, 1, 32, 32), name="w")
    taps = gf.placeholder((3, 3, 1, 32), name="taps")
    h = gf.nn.relu(gf.nn.conv2d(x, w) + 1)
    first, second = groups_of([x, w, taps], gf.nn.conv2d(h, taps, padding="same", groups=32))
    assert first == ("matmul", "add", "relu")
    assert second == ("pad", "multiply", "sum")
