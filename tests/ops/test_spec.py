"""The spec that an op infers against the dtype and shape of its reference's value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphflow.compiler.op import concrete
from tests.ops.cases import CASES
from tests.ops.harness import build, dims_of, value_of


@pytest.mark.parametrize("name", CASES)
def test_the_inferred_spec_is_that_of_the_value(name):
    for number, sample in enumerate(CASES[name]):
        built = build(name, sample)
        (value,) = value_of([built.node], built.values)
        spec = built.node.spec
        assert value.dtype.name == spec.dtype, f"row {number}"
        assert value.shape == concrete(spec.shape, dims_of(built)), f"row {number}"


@pytest.mark.parametrize("name", CASES)
def test_static_and_named_sizes_agree(name):
    for number, sample in enumerate(CASES[name]):
        if not sample.symbolic:
            continue
        named = build(name, sample)
        static = build(name, replace(sample, symbolic=False))
        shape = concrete(named.node.shape, dims_of(named))
        assert (named.node.dtype, shape) == (static.node.dtype, static.node.shape), f"row {number}"
        for a, b in zip(
            value_of([named.node], named.values),
            value_of([static.node], static.values),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", CASES)
def test_references_leave_their_operands_alone(name):
    for sample in CASES[name]:
        before = [array.copy() for array in sample.inputs]
        built = build(name, sample)
        value_of([built.node], built.values)
        for array, copy in zip(sample.inputs, before, strict=True):
            np.testing.assert_array_equal(array, copy)
