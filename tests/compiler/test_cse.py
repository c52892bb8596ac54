"""Equal nodes become one; state, order and the sign of zero keep nodes apart."""

import numpy as np
import pytest

from graphflow.compiler.dims import symbol
from graphflow.compiler.graph import Graph
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import full
from graphflow.compiler.passes.canonicalize import canonicalize
from graphflow.compiler.passes.cse import cse
from graphflow.compiler.passes.fold_constants import fold_constants
from graphflow.compiler.passes.simplify import simplify
from tests.compiler.listing import N, after, change_by, graph_of, leaf, text

M = symbol("m")
PASSES = [canonicalize, fold_constants, simplify, cse]


SCALE = leaf((), name="scale")


def constant(*values):
    return ops.constant(value=np.array(values, "f4"))


def of_x(build):
    """A case over one placeholder."""
    return lambda: build(leaf((2,)))


REWRITES = {
    "a subtree": (
        of_x(lambda x: ops.tanh(ops.exp(x)) * ops.tanh(ops.exp(x))),
        """
        %0 = placeholder "x" : float32(2,)
        %1 = exp(%0) : float32(2,)
        %2 = tanh(%1) : float32(2,)
        %3 = multiply(%2, %2) : float32(2,)
        return %3
        """,
    ),
    "operands of a sum in any order": (
        of_x(lambda x: ops.subtract(x + ops.exp(x), ops.exp(x) + x)),
        """
        %0 = placeholder "x" : float32(2,)
        %1 = exp(%0) : float32(2,)
        %2 = add(%0, %1) : float32(2,)
        %3 = subtract(%2, %2) : float32(2,)
        return %3
        """,
    ),
    "constants and fulls": (
        of_x(lambda x: (x * constant(1, 2) + 3.0) / (x * constant(1, 2) + 3.0)),
        """
        %0 = placeholder "x" : float32(2,)
        %1 = constant(value=[1., 2.]) : float32(2,)
        %2 = multiply(%0, %1) : float32(2,)
        %3 = full(value=3.0) : float32()
        %4 = add(%2, %3) : float32(2,)
        %5 = divide(%4, %4) : float32(2,)
        return %5
        """,
    ),
    "shapes with named dims": (
        lambda: ops.add(full((N, 2 * N), 1.0, "float32"), full((N, N + N), 1.0, "float32")),
        """
        %0 = full(value=1.0) : float32(n, n*2)
        %1 = add(%0, %0) : float32(n, n*2)
        return %1
        """,
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites(name):
    build, expected = REWRITES[name]
    assert after(cse, build()) == text(expected)


MUST_NOT_FIRE = {
    "different inputs": lambda: ops.exp(leaf()) + ops.exp(leaf(name="y")),
    "the order of a difference": of_x(lambda x: (x - SCALE) / (SCALE - x)),
    "attributes": of_x(lambda x: ops.cast(x, dtype="int32") + ops.cast(x * 2.0, dtype="int32")),
    "0.0 and -0.0": of_x(lambda x: ops.atan2(x * 0.0, x * -0.0)),
    "True and 1": lambda: ops.where(full((), True, "bool"), full((), 1, "int32"), leaf((2,), "int32")),
    "placeholders": lambda: leaf() + leaf(),
    "variables": lambda: ops.add(
        *(ops.variable(shape=(2,), dtype="float32", name="w") for _ in range(2))
    ),
    "dtypes of constants": lambda: ops.add(
        ops.cast(ops.constant(value=np.array([0], "i4")), dtype="float32"),
        ops.cast(ops.constant(value=np.array([0], "u4")), dtype="float32"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUST_NOT_FIRE)
def test_must_not_fire(name):
    assert change_by(cse, MUST_NOT_FIRE[name]()) is None


def test_a_merged_node_keeps_its_checks():
    x, y = leaf((N,)), leaf((M,), name="y")
    graph = graph_of(ops.exp(x + y) * ops.exp(x + y))
    assert len(graph.checks) == 1
    assert cse(graph).checks == graph.checks


def test_updates_are_merged_with_outputs():
    x = leaf((2,))
    w = ops.variable(shape=(2,), dtype="float32", name="w")
    graph = cse(Graph((x,), (w + x,), ((w, w + x),)))
    assert graph.outputs[0] is graph.updates[0][1]


@pytest.mark.parametrize("run", PASSES)
def test_an_optimal_graph_comes_back_itself(run):
    assert change_by(run, ops.tanh(leaf()), ops.sum(leaf(name="y"), axes=(1,))) is None


def test_a_long_chain_needs_no_recursion():
    node = leaf((3,))
    for _ in range(5000):
        node = node + 1.0
    graph = graph_of(node)
    for run in PASSES:
        graph = run(graph)
    assert len(graph.nodes) == 5002
