"""Loop nests of maps and reductions, run."""

import numpy as np
import pytest

import graphflow as gf


@pytest.fixture(params=["compiled", "interpret"])
def mode(request):
    return request.param


@pytest.mark.parametrize("axis", [None, 1, 2, (0, 1)])
def test_an_empty_array_of_indices_is_not_read(mode, axis):
    """Its loops run zero times, though no offset into it names one of them."""
    x, i = gf.placeholder((3, 2), name="x"), gf.placeholder((4, 0), "int32", name="i")
    taken = gf.take(x, i, axis=1)
    run = gf.function([x, i], taken if axis is None else gf.sum(taken, axis=axis), mode=mode)
    nothing = np.full((4, 1), 99, "i4")[:, :0]
    got = run(np.ones((3, 2), "f4"), nothing)
    expected = np.zeros((3, 4, 0), "f4")
    np.testing.assert_array_equal(got, expected if axis is None else expected.sum(axis=axis))


def test_columns_of_a_matrix_by_a_vector_are_walked_in_order():
    """The vector is read along the sum, which must not turn the loops over the matrix."""
    w, v = gf.placeholder((60, 50), name="w"), gf.placeholder((60,), name="v")
    run = gf.function([w, v], gf.sum(w * gf.reshape(v, (60, 1)), axis=0))
    (kernel,) = run.program.kernels
    *_, inner = [line for line in kernel.source.splitlines() if line.lstrip().startswith("for")][
        :-1
    ]
    assert inner.lstrip().startswith("for i")
    matrix, vector = np.arange(3000, dtype="f4").reshape(60, 50), np.linspace(-1, 1, 60, dtype="f4")
    np.testing.assert_allclose(run(matrix, vector), vector @ matrix, rtol=1e-4)
