"""Long reductions with few results are cut in two; others stay as they are."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.op import ops
from graphflow.compiler.passes.split_reductions import split_reductions
from graphflow.errors import ShapeError
from tests.compiler.listing import N, after, change_by, leaf, text

REWRITES = {
    "images of any number: the batch stays in the first step": (
        lambda: ops.sum(leaf((N, 28, 28, 32)), axes=(0, 1, 2)),
        """
        %0 = placeholder "x" : float32(n, 28, 28, 32)
        %1 = sum(%0, axes=(1, 2)) : float32(n, 32)
        %2 = sum(%1, axes=(0,)) : float32(32,)
        return %2
        """,
    ),
    "an axis between kept ones": (
        lambda: ops.max(leaf((3, 400, 500, 2)), axes=(1, 2)),
        """
        %0 = placeholder "x" : float32(3, 400, 500, 2)
        %1 = max(%0, axes=(2,)) : float32(3, 400, 2)
        %2 = max(%1, axes=(1,)) : float32(3, 2)
        return %2
        """,
    ),
    "one long axis in parts": (
        lambda: ops.sum(leaf((100_000, 8)), axes=(0,)),
        """
        %0 = placeholder "x" : float32(100000, 8)
        %1 = reshape(%0) : float32(32, 3125, 8)
        %2 = sum(%1, axes=(1,)) : float32(32, 8)
        %3 = sum(%2, axes=(0,)) : float32(8,)
        return %3
        """,
    ),
    "many columns of a matrix that is larger than a cache": (
        lambda: ops.sum(leaf((1024, 1024)), axes=(0,)),
        """
        %0 = placeholder "x" : float32(1024, 1024)
        %1 = reshape(%0) : float32(32, 32, 1024)
        %2 = sum(%1, axes=(1,)) : float32(32, 1024)
        %3 = sum(%2, axes=(0,)) : float32(1024,)
        return %3
        """,
    ),
    "all of a matrix": (
        lambda: ops.prod(leaf((2, 100_000)), axes=(0, 1)),
        """
        %0 = placeholder "x" : float32(2, 100000)
        %1 = reshape(%0) : float32(2, 32, 3125)
        %2 = prod(%1, axes=(0, 2)) : float32(32,)
        %3 = prod(%2, axes=(0,)) : float32()
        return %3
        """,
    ),
}

UNCHANGED = {
    "few elements": lambda: ops.sum(leaf((100, 28, 2)), axes=(0, 1)),
    "many rows": lambda: ops.sum(leaf((1024, 1024)), axes=(1,)),
    "many columns": lambda: ops.sum(leaf((256, 1024)), axes=(0,)),
    "a named axis alone": lambda: ops.sum(leaf((N, 4096)), axes=(1,)),
    "a position, which no second step could tell": lambda: ops.argmax(
        leaf((100_000, 8)), axes=(0,)
    ),
    "a length that is prime": lambda: ops.sum(leaf((100_003, 8)), axes=(0,)),
}


@pytest.mark.parametrize("case", REWRITES)
def test_a_narrow_reduction_is_cut(case):
    build, expected = REWRITES[case]
    assert after(split_reductions, build()) == text(expected)


@pytest.mark.parametrize("case", UNCHANGED)
def test_others_stay(case):
    assert change_by(split_reductions, UNCHANGED[case]()) is None


@pytest.mark.parametrize("name", ["sum", "max", "min", "any"])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_the_value_is_the_same(name, batch):
    x = gf.placeholder(("n", 60, 60, 4), "bool" if name == "any" else "float32", name="x")
    run = gf.function([x], getattr(gf, name)(x, axis=(0, 1, 2)))
    assert any(stage == "split_reductions" for stage, _ in run.compile().compilation.stages)
    assert len(run.program.steps) == 2
    values = np.random.default_rng(batch).normal(size=(batch, 60, 60, 4)).astype("f4")
    if name == "any":
        values = values > 2
    if batch == 0 and name in ("max", "min"):
        with pytest.raises(ShapeError, match="needs an element"):
            run(values)
        return
    expected = getattr(np, name)(values, axis=(0, 1, 2))
    np.testing.assert_allclose(run(values), expected, rtol=2e-5, atol=1e-4)
