"""Rows of the sample table as graphs, and their derivatives against central differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphflow.compiler.autodiff import vjp
from graphflow.compiler.dims import Size, symbol
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.interpreter import bind_dims, evaluate
from graphflow.compiler.op import ops
from tests.ops.samples import Sample

DEFAULT_RTOL = {"float32": 3e-6, "float64": 1e-13}


@dataclass(frozen=True)
class Built:
    """A row as a node over its leaves, with arrays for them."""

    name: str
    sample: Sample
    node: Node
    leaves: tuple[Node, ...]

    @property
    def values(self) -> dict[Node, np.ndarray]:
        return dict(zip(self.leaves, self.sample.inputs, strict=True))


def build(name: str, sample: Sample, prefix: str = "s") -> Built:
    """The node of a row; `prefix` keeps the dims of several rows in one graph apart."""
    leaves = []
    for number, array in enumerate(sample.inputs):
        shape: tuple[Size, ...] = array.shape
        if sample.symbolic:
            shape = tuple(
                # Axes are aligned at the right, as broadcasting aligns them.
                size if size == 1 else symbol(f"{prefix}_{array.ndim - axis}_{size}")
                for axis, size in enumerate(shape)
            )
        leaf = ops.find(sample.leaf)
        leaves.append(leaf(dtype=array.dtype.name, shape=shape, name=f"{prefix}.{number}"))
    make = sample.make or ops.find(name)
    return Built(name, sample, make(*leaves, **sample.attrs), tuple(leaves))


def value_of(roots: Sequence[Node], values: Mapping[Node, np.ndarray]) -> list[np.ndarray]:
    """The values of nodes by the interpreter, given arrays of the leaves."""
    inputs = tuple(leaf for leaf in values if leaf.op.name == "placeholder")
    variables = {leaf: array for leaf, array in values.items() if leaf.op.name == "variable"}
    graph = Graph(inputs, tuple(roots))
    return evaluate(graph, [values[leaf] for leaf in inputs], variables)[0]


def dims_of(built: Built) -> dict[str, int]:
    return bind_dims(built.leaves, built.sample.inputs)


class WrongDerivative(AssertionError):
    """A derivative by rule that differs from central differences."""


def check_derivatives(built: Built) -> int:
    """Check the derivative of a row by each of its `wrt`, up to its order, and of op(x, x).

    Returns:
        How many directional derivatives were compared.
    """
    sample = built.sample
    if not sample.wrt or not sample.order:
        return 0
    values, leaves = built.values, [built.leaves[k] for k in sample.wrt]
    count = _check(built.node, leaves, values, sample, sample.order, seed=1)
    twin = _used_twice(built)
    if twin is not None:
        count += _check(twin, leaves[:1], values, sample, 1, seed=2)
    return count


def _used_twice(built: Built) -> Node | None:
    """The op with its first differentiable operand in every place that takes one."""
    sample = built.sample
    if sample.make is not None or len(sample.wrt) < 2 or not sample.twice:
        return None
    first = built.leaves[sample.wrt[0]]
    if any(built.leaves[k].spec != first.spec for k in sample.wrt):
        return None
    operands = [first if k in sample.wrt else leaf for k, leaf in enumerate(built.leaves)]
    return ops.find(built.name)(*operands, **sample.attrs)


def _check(
    node: Node,
    leaves: Sequence[Node],
    values: Mapping[Node, np.ndarray],
    sample: Sample,
    order: int,
    seed: int,
) -> int:
    """<ct, (f(x + h d) - f(x - h d)) / 2h> against <vjp(ct), d>, by each leaf and by all at once."""
    rng = np.random.default_rng(seed)
    ct = ops.placeholder(shape=node.shape, dtype=node.dtype, name=f"ct{order}")
    (value,) = value_of([node], values)
    values = {**values, ct: rng.uniform(0.5, 1.5, value.shape).astype(value.dtype)}
    parts = vjp([node], leaves, [ct])
    directions = {leaf: rng.uniform(0.5, 1.5, values[leaf].shape) for leaf in leaves}
    slopes = {leaf: _slope(node, values, {leaf: directions[leaf]}, ct, sample) for leaf in leaves}
    for leaf, part in zip(leaves, parts, strict=True):
        got = 0.0
        if part is not None:
            if part.spec != leaf.spec:
                raise WrongDerivative(f"cotangent {part.spec} for {leaf.spec}")
            got = float(np.sum(value_of([part], values)[0] * directions[leaf]))
        size = abs(slopes[leaf]) + _magnitude(part, values, directions[leaf])
        if not abs(got - slopes[leaf]) <= sample.slack * size + 1e-9:
            raise WrongDerivative(f"by {leaf.name}: rule {got}, differences {slopes[leaf]}")
    count = len(leaves)
    found = [part for part in parts if part is not None]
    if order > 1:
        for part in found:
            count += _check(part, [*leaves, ct], values, sample, order - 1, seed + 1)
    return count


def _magnitude(
    part: Node | None, values: Mapping[Node, np.ndarray], direction: np.ndarray
) -> float:
    """Size of the terms that the directional derivative sums, which may cancel."""
    if part is None:
        return 0.0
    return float(np.sum(np.abs(value_of([part], values)[0] * direction)))


def _slope(
    node: Node,
    values: Mapping[Node, np.ndarray],
    directions: Mapping[Node, np.ndarray],
    ct: Node,
    sample: Sample,
) -> float:
    """Directional derivative of <ct, node> by central differences of fourth order."""

    def at(distance: float) -> np.ndarray:
        moved = {leaf: values[leaf] + distance * d for leaf, d in directions.items()}
        return value_of([node], {**values, **moved})[0].astype(np.float64)

    h = sample.step
    near, far = at(h) - at(-h), at(2 * h) - at(-2 * h)
    return float(np.sum(values[ct] * (8 * near - far)) / (12 * h))
