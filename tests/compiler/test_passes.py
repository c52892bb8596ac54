"""Each pass on a small graph: what it leaves, what it must not touch, and that it stops."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.errors import VerificationError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import full
from graphflow.compiler.passes.canonicalize import canonicalize
from graphflow.compiler.passes.cse import cse
from graphflow.compiler.passes.fold_constants import fold_constants
from graphflow.compiler.passes.simplify import simplify
from graphflow.compiler.verify import check_graph


def leaf(shape=(4, 6), dtype="float32"):
    return ops.placeholder(shape=shape, dtype=dtype, name="x")


def after(run, node, *inputs):
    return run(Graph(inputs, (node,))).outputs[0]


def test_canonicalize_joins_moves():
    x = leaf()
    twice = ops.reshape(ops.reshape(x, shape=(24,)), shape=(2, 12))
    got = after(canonicalize, twice, x)
    assert (got.op.name, got.inputs, got.shape) == ("reshape", (x,), (2, 12))
    back = ops.permute_dims(ops.permute_dims(x, axes=(1, 0)), axes=(1, 0))
    assert after(canonicalize, back, x) is x
    assert after(canonicalize, ops.stop_gradient(ops.cast(x, dtype="float32")), x) is x


def test_canonicalize_turns_a_transposed_operand_into_a_flag():
    x, y = leaf((4, 6)), leaf((4, 5))
    flags = {"transpose_a": False, "transpose_b": False}
    got = after(canonicalize, ops.matmul(ops.permute_dims(x, axes=(1, 0)), y, **flags), x, y)
    assert got.inputs == (x, y)
    assert got.attrs["transpose_a"] and not got.attrs["transpose_b"]


def test_canonicalize_keeps_nan_constants():
    same = ops.constant(value=np.full((3,), np.nan, "f4"))
    assert after(canonicalize, same) is same
    assert after(canonicalize, ops.constant(value=np.full(3, 2.0, "f4"))).op.name == "full"


def test_fold_constants_computes_what_is_known():
    got = after(fold_constants, full((2,), 2.0, "float32") * full((2,), 3.0, "float32"))
    assert (got.op.name, got.attrs["value"], got.shape) == ("full", 6.0, (2,))


def test_fold_constants_leaves_bad_indices_to_the_run():
    table, rows = full((3,), 1.0, "float32"), ops.constant(value=np.array([7]))
    node = ops.take(table, rows, axis=0)
    assert after(fold_constants, node).op.name == "take"


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda x: x * 1.0, "placeholder"),
        (lambda x: x - 0.0, "placeholder"),
        (lambda x: ops.negative(-x), "placeholder"),
        (lambda x: x / 4.0, "multiply"),
        (lambda x: x**2.0, "square"),
        # These would change bits: -0.0 + 0.0 is 0.0, inf * 0 is NaN, 1/3 is rounded.
        (lambda x: x + 0.0, "add"),
        (lambda x: x * 0.0, "multiply"),
        (lambda x: x / 3.0, "divide"),
    ],
)
def test_simplify_keeps_every_bit(build, name):
    x = leaf()
    assert after(simplify, build(x), x).op.name == name


def test_cse_merges_equal_nodes_and_only_those():
    x = leaf()
    got = after(cse, ops.exp(x) + ops.exp(x), x)
    assert got.inputs[0] is got.inputs[1]
    zeros = full((), 0.0, "float32"), full((), -0.0, "float32")
    got = after(cse, ops.atan2(x * zeros[0], x * zeros[1]), x)
    assert got.inputs[0] is not got.inputs[1]


@pytest.mark.parametrize("run", [canonicalize, fold_constants, simplify, cse])
def test_an_optimal_graph_comes_back_itself(run):
    x = leaf()
    graph = Graph((x,), (ops.tanh(x),))
    assert run(graph) is graph


def test_a_long_chain_needs_no_recursion():
    x = leaf((3,))
    node = x
    for _ in range(5000):
        node = node + 1.0
    graph = Graph((x,), (node,))
    for run in (canonicalize, fold_constants, simplify, cse):
        graph = run(graph)
    assert len(graph.nodes) > 5000


def test_the_verifier_finds_broken_graphs():
    x, other = leaf(), leaf()
    wrong = Node(ops.find("tanh"), (x,), {}, x.spec.with_shape((9,)))
    extra = Node(ops.find("tanh"), (x,), {"axis": 1}, x.spec)
    count = Node(ops.find("tanh"), (x, x), {}, x.spec)
    variable = ops.variable(shape=(4, 6), dtype="float32", name="w")
    broken = [
        Graph((x,), (wrong,)),
        Graph((x,), (extra,)),
        Graph((x,), (count,)),
        Graph((x,), (ops.tanh(other),)),
        Graph((variable,), (variable,)),
        Graph((x,), (), ((x, x),)),
        Graph((x,), (), ((variable, x), (variable, x))),
        Graph((x,), (), ((variable, ops.sum(x, axes=(0,))),)),
    ]
    for graph in broken:
        with pytest.raises(VerificationError, match="after test"):
            check_graph(graph, "test")
    check_graph(Graph((x,), (ops.tanh(x),), ((variable, x),)), "test")


def test_pass_names_are_checked():
    x = gf.placeholder((2,), name="x")
    from graphflow.compiler.pipeline import optimize
    from graphflow.errors import GraphError

    graph = gf.function([x], x + 1.0, mode="interpret").graph
    with pytest.raises(GraphError, match="canonicalize"):
        optimize(graph, without=["unknown"])
