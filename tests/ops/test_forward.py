"""Compiled kernels against the references: every row of every op, one program per op."""

from __future__ import annotations

import numpy as np
import pytest

from graphflow.compiler.dims import symbol
from graphflow.compiler.errors import ShapeError
from graphflow.compiler.graph import Graph
from graphflow.compiler.interpreter import evaluate
from graphflow.compiler.op import ops
from graphflow.compiler.pipeline import compile_graph, pass_names
from graphflow.compiler.spec import is_float
from graphflow.runtime.executor import Executor
from tests.ops.cases import CASES
from tests.ops.harness import DEFAULT_RTOL, build, value_of

#: rewrites would replace some ops by others; here each is to be computed as it stands
NO_REWRITES = [name for name in pass_names() if name != "fuse"]


def run_compiled(built):
    """The values of several rows by one program."""
    leaves = [leaf for row in built for leaf in row.leaves]
    values = {leaf: array for row in built for leaf, array in row.values.items()}
    inputs = tuple(leaf for leaf in leaves if leaf.op.name == "placeholder")
    graph = Graph(inputs, tuple(row.node for row in built))
    program = compile_graph(graph, built[0].name, without=NO_REWRITES, check=True).program
    variables = [np.array(values[node], order="C") for node in graph.variables]
    return Executor(program, variables)([values[leaf] for leaf in inputs])


#: a multiple of a divisor below the normal range is zero in compiled code
BY_DIVISOR = ("floor_divide", "fmod", "remainder")


def has_tiny_divisor(sample):
    divisor = np.abs(sample.inputs[1])
    return (divisor > 0) & (divisor < np.finfo(divisor.dtype).tiny)


def assert_close(name, got, expected, sample, label):
    assert got.dtype == expected.dtype and got.shape == expected.shape, label
    exact = sample.rtol == 0 or not is_float(expected.dtype.name)
    if exact:
        np.testing.assert_array_equal(got, expected, err_msg=label)
        return
    # Results below the normal range have few digits, in NumPy as well.
    rtol = DEFAULT_RTOL[expected.dtype.name] if sample.rtol is None else sample.rtol
    atol = max(sample.atol, float(np.finfo(expected.dtype).tiny))
    if name in BY_DIVISOR:
        got, expected = (np.where(has_tiny_divisor(sample), 0, value) for value in (got, expected))
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=label)


@pytest.mark.parametrize("name", CASES)
def test_compiled_values_are_those_of_the_reference(name):
    built = [build(name, sample, f"r{k}") for k, sample in enumerate(CASES[name])]
    results = run_compiled(built)
    for number, (row, got) in enumerate(zip(built, results, strict=True)):
        (expected,) = value_of([row.node], row.values)
        assert_close(name, got, expected, row.sample, f"{name}, row {number}: {row.sample.attrs}")


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_an_extreme_of_no_elements_is_refused_when_running(name):
    """A named dim may turn out to be 0; other axes may be."""
    x = ops.placeholder(shape=(symbol("n"), symbol("m")), dtype="float32", name="x")
    graph = Graph((x,), (ops.find(name)(x, axes=(1,)),))
    run = Executor(compile_graph(graph, name).program, [])
    for shape, legal in (((2, 3), True), ((0, 3), True), ((2, 0), False)):
        data = np.ones(shape, "f")
        for call in (run, lambda arrays: evaluate(graph, arrays, {})[0]):
            if legal:
                assert call([data])[0].shape == shape[:1]
                continue
            with pytest.raises(ShapeError, match="needs an element"):
                call([data])
