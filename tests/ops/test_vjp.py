"""The reverse rules against central differences in float64, and their own derivatives too."""

from __future__ import annotations

import numpy as np
import pytest

from graphflow.compiler.autodiff import vjp
from graphflow.compiler.op import ops
from tests.ops.cases import CASES
from tests.ops.harness import build, check_derivatives, value_of

DIFFERENTIATED = [name for name, rows in CASES.items() if any(row.wrt for row in rows)]


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_rules_agree_with_differences(name):
    compared = sum(check_derivatives(build(name, sample)) for sample in CASES[name])
    assert compared >= 3


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_a_cotangent_has_the_spec_of_its_operand(name):
    """With named dims as well, and for operands that broadcast."""
    for sample in CASES[name]:
        built = build(name, sample)
        leaves = [built.leaves[k] for k in sample.wrt]
        ct = ops.placeholder(shape=built.node.shape, dtype=built.node.dtype)
        for leaf, part in zip(leaves, vjp([built.node], leaves, [ct]), strict=True):
            assert part is None or part.spec == leaf.spec


def test_stop_gradient_has_none():
    x = ops.placeholder(shape=(3,), dtype="float64")
    assert vjp([ops.stop_gradient(x)], [x], [x]) == [None]


def cotangents(name, *arrays, ct=1.0, **attrs):
    """The operands' cotangents at a kink, where differences say nothing."""
    leaves = [ops.placeholder(shape=np.shape(a), dtype="float64") for a in arrays]
    node = ops.find(name)(*leaves, **attrs)
    seed = ops.placeholder(shape=node.shape, dtype="float64")
    values = dict(zip(leaves, map(np.asarray, arrays), strict=True))
    values[seed] = np.full(np.shape(value_of([node], values)[0]), ct)
    return value_of(vjp([node], leaves, [seed]), values)


def test_ties_share_the_cotangent():
    a, b = np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])
    np.testing.assert_array_equal(cotangents("maximum", a, b), [[0.5, 0, 1], [0.5, 1, 0]])
    np.testing.assert_array_equal(cotangents("minimum", a, b), [[0.5, 1, 0], [0.5, 0, 1]])
    x = np.array([[3.0, 1, 3, 3], [0, 0, 0, 5]])
    for name, sign in (("max", 1), ("min", -1)):
        (got,) = cotangents(name, sign * x, axes=(1,))
        np.testing.assert_allclose(got, [[1 / 3, 0, 1 / 3, 1 / 3], [0, 0, 0, 1]])


def test_kinks_have_the_usual_one_sided_slopes():
    zero = np.zeros(1)
    np.testing.assert_array_equal(cotangents("relu", zero), [[0]])
    np.testing.assert_array_equal(cotangents("abs", zero), [[0]])
    x, low, high = cotangents("clip", np.array([1.0, 2.0]), np.array(1.0), np.array(2.0))
    np.testing.assert_array_equal(x, [1, 1])
    assert low == high == 0


def test_power_at_a_base_of_zero():
    a, b = cotangents("power", np.array([0.0, 0.0, 0.0]), np.array([0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(a, [0, 1, 0])
    np.testing.assert_array_equal(b, [0, 0, 0])
