"""Values of nodes by the ops' references, and derivatives checked by central differences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphflow.compiler.autodiff import vjp
from graphflow.compiler.graph import Node, topological_order
from graphflow.compiler.op import concrete, ops


def evaluate_node(
    root: Node, values: Mapping[Node, np.ndarray], env: Mapping[str, int] | None = None
) -> np.ndarray:
    """The value of `root`, given arrays of the leaves."""
    known = dict(values)
    for node in topological_order([root]):
        if node not in known:
            attrs = {name: concrete(value, env or {}) for name, value in node.attrs.items()}
            known[node] = node.op.reference(*(known[i] for i in node.inputs), **attrs)
    return known[root]


def check_vjp(
    node: Node, values: Mapping[Node, np.ndarray], order: int = 1, atol: float = 1e-6
) -> int:
    """Compare <ct, directional derivative> with <vjp(ct), direction> for every leaf of float64.

    Returns:
        How many directional derivatives were compared.
    """
    rng = np.random.default_rng(1)
    ct = ops.placeholder(shape=node.shape, dtype=node.dtype)
    values = {**values, ct: rng.uniform(-1, 1, np.shape(evaluate_node(node, values)))}
    leaves = [leaf for leaf in values if leaf is not ct and leaf.dtype == "float64"]
    parts = vjp([node], leaves, [ct])
    step, count = 1e-6, 0
    for leaf, part in zip(leaves, parts, strict=True):
        assert part is None or part.spec == leaf.spec
        direction = rng.uniform(-1, 1, values[leaf].shape)
        ends = [
            evaluate_node(node, {**values, leaf: values[leaf] + sign * step * direction})
            for sign in (1, -1)
        ]
        slope = np.sum(values[ct] * (ends[0] - ends[1])) / (2 * step)
        got = 0.0 if part is None else np.sum(evaluate_node(part, values) * direction)
        np.testing.assert_allclose(got, slope, atol=atol, rtol=1e-6)
        count += 1
        if part is not None and order > 1:
            count += check_vjp(part, values, order - 1, atol)
    return count
