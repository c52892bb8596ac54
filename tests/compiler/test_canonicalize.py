"""Moves that do nothing go, moves in a row become one, and each meaning has one form."""

import itertools

import numpy as np
import pytest

from graphflow.compiler.interpreter import evaluate
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import broadcast_to, full, restore_axes
from graphflow.compiler.passes.canonicalize import canonicalize
from graphflow.compiler.spec import DTYPES
from tests.compiler.listing import N, after, change_by, graph_of, leaf, text

PLAIN = {"transpose_a": False, "transpose_b": False}

JUST_X = """
    %0 = placeholder "x" : float32(4, 6)
    return %0
    """


def nested_slices():
    x = leaf((20,))
    return ops.slice(ops.slice(x, start=(2,), step=(3,), shape=(5,)), start=(4,), step=(-2,),
                     shape=(2,))  # fmt: skip


def times_itself(x):
    return x * x


REWRITES = {
    "reshape of reshape": (
        lambda: ops.reshape(ops.reshape(leaf(), shape=(24,)), shape=(2, 12)),
        """
        %0 = placeholder "x" : float32(4, 6)
        %1 = reshape(%0) : float32(2, 12)
        return %1
        """,
    ),
    "reshape there and back": (
        lambda: ops.reshape(ops.reshape(leaf(), shape=(24,)), shape=(4, 6)),
        JUST_X,
    ),
    "permutation there and back": (
        lambda: ops.permute_dims(ops.permute_dims(leaf(), axes=(1, 0)), axes=(1, 0)),
        JUST_X,
    ),
    "permutation of permutation": (
        lambda: ops.permute_dims(ops.permute_dims(leaf((2, 3, 4)), axes=(1, 0, 2)), axes=(0, 2, 1)),
        """
        %0 = placeholder "x" : float32(2, 3, 4)
        %1 = permute_dims(%0, axes=(1, 2, 0)) : float32(3, 4, 2)
        return %1
        """,
    ),
    "permutation of a size-1 axis": (
        lambda: ops.permute_dims(leaf((N, 1, 3)), axes=(1, 0, 2)),
        """
        %0 = placeholder "x" : float32(n, 1, 3)
        %1 = reshape(%0) : float32(1, n, 3)
        return %1
        """,
    ),
    "a chain of nothings": (
        lambda: ops.stop_gradient(
            ops.concat(
                broadcast_to(
                    ops.slice(
                        ops.cast(leaf(), dtype="float32"), start=(0, 0), step=(1, 1), shape=(4, 6)
                    ),
                    (4, 6),
                ),
                axis=0,
            )
        ),
        JUST_X,
    ),
    "pad by nothing": (
        lambda: ops.pad(
            leaf(), full((), 1.0, "float32"), low=(0, 0), high=(0, 0), interior=(0, 0)
        ),
        JUST_X,
    ),
    "slice of slice": (
        nested_slices,
        """
        %0 = placeholder "x" : float32(20,)
        %1 = slice(%0, start=(14,), step=(-6,)) : float32(2,)
        return %1
        """,
    ),
    "moves of a full": (
        lambda: ops.slice(
            ops.permute_dims(broadcast_to(full((3,), 2.0, "float32"), (N, 3)), axes=(1, 0)),
            start=(0, 0), step=(1, 1), shape=(2, N),
        ),
        """
        %0 = full(value=2.0) : float32(2, n)
        return %0
        """,
    ),
    "one repeated value": (
        lambda: ops.constant(value=np.full((2, 3), 7, "i4")),
        """
        %0 = full(value=7) : int32(2, 3)
        return %0
        """,
    ),
    "reductions over size-1 axes": (
        lambda: ops.prod(ops.sum(leaf((N, 1, 1)), axes=(2,)), axes=(1,)),
        """
        %0 = placeholder "x" : float32(n, 1, 1)
        %1 = reshape(%0) : float32(n,)
        return %1
        """,
    ),
    "reduction over no axes": (lambda: ops.sum(leaf(), axes=()), JUST_X),
    "position in a size-1 axis": (
        lambda: ops.argmin(ops.exp(leaf((N, 1))), axes=(1,)),
        """
        %0 = full(value=0) : int64(n,)
        %1 = placeholder "x" : float32(n, 1)
        return %0
        """,
    ),
    "transposed operands": (
        lambda: ops.matmul(
            ops.permute_dims(leaf((2, 6, 4)), axes=(0, 2, 1)),
            ops.permute_dims(leaf((5, 6), name="w"), axes=(1, 0)),
            **PLAIN,
        ),
        """
        %0 = placeholder "x" : float32(2, 6, 4)
        %1 = placeholder "w" : float32(5, 6)
        %2 = matmul(%0, %1, transpose_a=True, transpose_b=True) : float32(2, 4, 5)
        return %2
        """,
    ),
    "operands that broadcasting widens": (
        lambda: ops.clip(
            leaf((N, 3)),
            broadcast_to(restore_axes(leaf((N,), name="low"), (1,)), (N, 3)),
            full((N, 3), 1.0, "float32"),
        ),
        """
        %0 = placeholder "x" : float32(n, 3)
        %1 = placeholder "low" : float32(n,)
        %2 = reshape(%1) : float32(n, 1)
        %3 = full(value=1.0) : float32()
        %4 = clip(%0, %2, %3) : float32(n, 3)
        return %4
        """,
    ),
    "constants second": (
        lambda: 2.0 + full((N, 3), 3.0, "float32") * leaf((N, 3)),
        """
        %0 = placeholder "x" : float32(n, 3)
        %1 = full(value=3.0) : float32()
        %2 = multiply(%0, %1) : float32(n, 3)
        %3 = full(value=2.0) : float32()
        %4 = add(%2, %3) : float32(n, 3)
        return %4
        """,
    ),
    "a product with itself": (
        lambda: times_itself(leaf()),
        """
        %0 = placeholder "x" : float32(4, 6)
        %1 = square(%0) : float32(4, 6)
        return %1
        """,
    ),
    "casts through a wider dtype": (
        lambda: ops.cast(ops.cast(leaf(dtype="int8"), dtype="float32"), dtype="float64"),
        """
        %0 = placeholder "x" : int8(4, 6)
        %1 = cast(%0) : float64(4, 6)
        return %1
        """,
    ),
    "cast there and back": (
        lambda: ops.cast(ops.cast(leaf(), dtype="float64"), dtype="float32"),
        JUST_X,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITES)
def test_rewrites(name):
    build, expected = REWRITES[name]
    assert after(canonicalize, build()) == text(expected)


def product_of_both_axes(name):
    x = leaf((3, 3))
    return ops.find(name)(ops.reshape(x, shape=(3, 1, 3)), x)


MUST_NOT_FIRE = {
    "a plain graph": lambda: ops.tanh(leaf()),
    "NaN has no equal": lambda: ops.constant(value=np.full((3,), np.nan, "f4")),
    "0.0 and -0.0 are two values": lambda: ops.constant(value=np.array([0.0, -0.0], "f4")),
    "constants without elements": lambda: ops.constant(value=np.zeros((0, 3), "f4")),
    "a transposition of other axes": lambda: ops.matmul(
        ops.permute_dims(leaf((4, 2, 6)), axes=(1, 0, 2)), leaf((6, 5), name="w"), **PLAIN
    ),
    "the broadcast that gives the shape": lambda: ops.add(
        broadcast_to(leaf((6,)), (4, 6)), leaf((1, 6), name="y")
    ),
    "a size that is equal by a check only": lambda: ops.add(
        leaf((2, 3)), broadcast_to(leaf((N,), name="y"), (2, 3))
    ),
    "two constants": lambda: ops.add(full((3,), 1.0, "float32"), full((), 2.0, "float32")),
    "subtraction does not commute": lambda: 1.0 - leaf(),
    "a cast that rounds": lambda: ops.cast(ops.cast(leaf(), dtype="int32"), dtype="float32"),
    "saturation instead of wrapping": lambda: ops.cast(
        ops.cast(leaf(dtype="int8"), dtype="float32"), dtype="uint8"
    ),
    "an integer that float64 rounds": lambda: ops.cast(
        ops.cast(leaf(dtype="int64"), dtype="float64"), dtype="int64"
    ),
    "a product of two nodes": lambda: product_of_both_axes("multiply"),
    "an empty slice, which may begin anywhere": lambda: ops.slice(
        ops.slice(leaf((5,)), start=(4,), step=(1,), shape=(1,)), start=(9,), step=(1,), shape=(0,)
    ),
}


@pytest.mark.parametrize("name", MUST_NOT_FIRE)
def test_must_not_fire(name):
    assert change_by(canonicalize, MUST_NOT_FIRE[name]()) is None


@pytest.mark.parametrize("source", DTYPES)
def test_casts_keep_every_value(source):
    """All pairs of casts, on the extreme values of each dtype."""
    x, values = leaf((9,), source), extremes(source)
    for between, target in itertools.product(DTYPES, DTYPES):
        graph = graph_of(ops.cast(ops.cast(x, dtype=between), dtype=target))
        better = canonicalize(graph)
        got, expected = (evaluate(g, [values], {})[0][0] for g in (better, graph))
        np.testing.assert_array_equal(got, expected, f"{source} -> {between} -> {target}")


def extremes(dtype):
    if dtype == "bool":
        return np.array([0, 1, 0, 1, 0, 1, 0, 1, 0], dtype)
    if dtype.startswith("float"):
        limits = np.finfo(dtype)
        return np.array([0, -0.0, np.nan, np.inf, -np.inf, limits.max, limits.tiny, 300.7, -1.5],
                        dtype)  # fmt: skip
    limits = np.iinfo(dtype)
    top, low = int(limits.max), int(limits.min)
    return np.array([0, 1, top, top - 1, low, low + 1, top // 2, top // 2 + 1, 100], dtype)
