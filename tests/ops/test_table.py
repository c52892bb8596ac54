"""The sample table covers the registry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphflow.compiler.op import ops
from graphflow.compiler.spec import is_float
from tests.ops.cases import CASES
from tests.ops.harness import build


def test_every_op_has_rows_and_every_row_an_op():
    assert set(CASES) == set(ops.names())
    assert all(CASES.values())


@pytest.mark.parametrize("name", ops.names())
def test_rows_differentiate_what_has_a_derivative(name):
    """An op with a derivative is differentiated by some row, and by each of its operands."""
    op, rows = ops.find(name), CASES[name]
    if not op.differentiable or op.arity[1] == 0:
        assert not any(row.wrt for row in rows)
        return
    if name == "stop_gradient":
        # Its rule is wrong on purpose.
        return
    floats = {k for row in rows for k, x in enumerate(row.inputs) if is_float(x.dtype.name)}
    assert {k for row in rows for k in row.wrt} >= floats


NO_SHAPES = ("cond", "scan", "project", "placeholder", "concat", "variable")


@pytest.mark.parametrize("name", [n for n in ops.names() if n not in NO_SHAPES])
def test_rows_have_the_hard_shapes(name):
    """Size 1 everywhere; empty where the op takes it; 0-d where no axis is needed."""
    shapes = [x.shape for row in CASES[name] for x in row.inputs]
    shapes += [build(name, replace(row, symbolic=False)).node.shape for row in CASES[name]]
    assert any(np.prod(shape) == 1 for shape in shapes)
    if not name.startswith(("conv", "arg")) and name not in ("max", "min"):
        assert any(0 in shape for shape in shapes)
    if not name.startswith(("conv", "arg", "matmul", "iota", "random_perm")):
        assert () in shapes or name.endswith("_windows")
