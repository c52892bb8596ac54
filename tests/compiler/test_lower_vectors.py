"""Products with one row or one column become sums; others stay as they are."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.op import ops
from graphflow.compiler.passes.lower_vectors import lower_vectors
from tests.compiler.listing import N, after, change_by, leaf, text


def product(a, b, transpose_a=False, transpose_b=False):
    return ops.matmul(
        leaf(a, name="a"), leaf(b, name="b"), transpose_a=transpose_a, transpose_b=transpose_b
    )


REWRITES = {
    "one column": (
        lambda: product((N, 64), (64, 1)),
        """
        %0 = placeholder "a" : float32(n, 64)
        %1 = placeholder "b" : float32(64, 1)
        %2 = reshape(%1) : float32(1, 64)
        %3 = multiply(%0, %2) : float32(n, 64)
        %4 = sum(%3, axes=(1,)) : float32(n,)
        %5 = reshape(%4) : float32(n, 1)
        return %5
        """,
    ),
    "one row by a large matrix": (
        lambda: product((1, 1024), (1024, 512)),
        """
        %0 = placeholder "b" : float32(1024, 512)
        %1 = placeholder "a" : float32(1, 1024)
        %2 = reshape(%1) : float32(1024, 1)
        %3 = multiply(%0, %2) : float32(1024, 512)
        %4 = sum(%3, axes=(0,)) : float32(512,)
        %5 = reshape(%4) : float32(1, 512)
        return %5
        """,
    ),
}

UNCHANGED = {
    "short rows": lambda: product((1000, 8), (8, 1)),
    "a small matrix, read downwards": lambda: product((1, 784), (784, 128)),
    "many of both": lambda: product((64, 64), (64, 64)),
    "many matrices": lambda: product((3, 64, 64), (3, 64, 1)),
    "integers": lambda: ops.matmul(
        leaf((4, 64), dtype="int32"), leaf((64, 1), "int32", "b"),
        transpose_a=False, transpose_b=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REWRITES)
def test_a_vector_is_summed(case):
    build, expected = REWRITES[case]
    assert after(lower_vectors, build()) == text(expected)


@pytest.mark.parametrize("case", UNCHANGED)
def test_others_stay(case):
    assert change_by(lower_vectors, UNCHANGED[case]()) is None


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(600, 500, 1), (1, 500, 600), (1, 600, 500)])
def test_the_value_is_the_same(shape, turned):
    m, k, n = shape
    rng = np.random.default_rng(m)
    a, b = rng.standard_normal((m, k), "f4"), rng.standard_normal((k, n), "f4")
    x, y = (
        gf.placeholder((k, m) if turned else (m, k)),
        gf.placeholder((n, k) if turned else (k, n)),
    )
    left, right = (gf.matrix_transpose(x), gf.matrix_transpose(y)) if turned else (x, y)
    run = gf.function([x, y], left @ right)
    got = run(np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)) if turned else run(a, b)
    np.testing.assert_allclose(got, a.astype("f8") @ b, rtol=1e-3, atol=1e-3)
