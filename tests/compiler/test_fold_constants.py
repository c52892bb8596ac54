"""What depends on nothing is computed while compiling."""

import numpy as np
import pytest

from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import broadcast_to, full
from graphflow.compiler.passes.fold_constants import MOST_BYTES, fold_constants
from tests.compiler.listing import N, after, change_by, graph_of, leaf, text


def one_to(count):
    return ops.iota(axis=0, dtype="int64", shape=(count,)) + 1


REWRITES = {
    "fulls": (
        lambda: full((2,), 2.0, "float32") * 3.0,
        """
        %0 = full(value=6.0) : float32(2,)
        return %0
        """,
    ),
    "a range": (
        lambda: one_to(3),
        """
        %0 = constant(value=[1, 2, 3]) : int64(3,)
        return %0
        """,
    ),
    "one repeated value becomes a full": (
        lambda: one_to(3) * 0,
        """
        %0 = full(value=0) : int64(3,)
        return %0
        """,
    ),
    "fulls with named dims": (
        lambda: ops.exp(full((N,), 0.0, "float32")) + full((N,), 0.5, "float32"),
        """
        %0 = full(value=1.5) : float32(n,)
        return %0
        """,
    ),
    "the part that is known": (
        lambda: leaf((3,), "int64") * ops.square(one_to(3)),
        """
        %0 = placeholder "x" : int64(3,)
        %1 = constant(value=[1, 4, 9]) : int64(3,)
        %2 = multiply(%0, %1) : int64(3,)
        return %2
        """,
    ),
    "a table lookup": (
        lambda: ops.take(one_to(4), ops.constant(value=np.array([3, 0])), axis=0),
        """
        %0 = constant(value=[4, 1]) : int64(2,)
        return %0
        """,
    ),
    "what reads a broadcast, not the broadcast": (
        lambda: ops.sum(broadcast_to(one_to(3), (4, 3)), axes=(0,)),
        """
        %0 = constant(value=[ 4, 8, 12]) : int64(3,)
        return %0
        """,
    ),
}


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites(name):
    build, expected = REWRITES[name]
    assert after(fold_constants, build()) == text(expected)


MUST_NOT_FIRE = {
    "inputs": lambda: ops.tanh(leaf()),
    "named dims": lambda: ops.iota(axis=0, dtype="int64", shape=(N,)) + 1,
    "a large result": lambda: one_to(MOST_BYTES // 8 + 1),
    "NaN is equal to nothing": lambda: ops.log(full((N,), -1.0, "float32")),
    "a variable": lambda: ops.variable(shape=(), dtype="float32", name="w") * 2.0,
    "an index map that repeats": lambda: broadcast_to(
        ops.constant(value=np.array([1, 2])), (1000, 2)
    ),
    # The error belongs to the run, where the caller sees it.
    "a bad index": lambda: ops.take(
        full((3,), 1.0, "float32"), ops.constant(value=np.array([7])), axis=0
    ),
}


@pytest.mark.parametrize("name", MUST_NOT_FIRE)
def test_must_not_fire(name):
    assert change_by(fold_constants, MUST_NOT_FIRE[name]()) is None


def test_a_small_nan_is_a_constant():
    value = fold_constants(graph_of(ops.log(full((), -1.0, "float32")))).outputs[0]
    assert value.op.name == "constant"
    assert np.isnan(value.attrs["value"].array)


def test_values_are_those_of_the_dtype():
    got = after(fold_constants, full((), 255, "uint8") + 1)
    assert got == "%0 = full(value=0) : uint8()\nreturn %0\n"
