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
