"""Compute what does not depend on inputs or variables.

%0 = full((), 2.0)
%1 = full((), 3.0)              ->      %2 = full((), 6.0)
%2 = multiply(%0, %1)
"""

from __future__ import annotations

import numpy as np

from graphflow.compiler.dims import Dim
from graphflow.compiler.errors import IndexOutOfRange
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.spec import TensorSpec

#: larger results would grow the program more than computing them costs
MOST_BYTES = 1 << 20


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes of known inputs by their value, as the op's reference gives it."""
    values: dict[Node, np.ndarray] = {}

    def fold(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        value = _value(node, values)
        if value is None:
            return node
        if node.op.arity != (0, 0):
            node = ops.constant(value=value)
        values[node] = value
        return node

    return graph.rewrite(fold)


def _value(node: Node, values: dict[Node, np.ndarray]) -> np.ndarray | None:
    if node.op.stateful or not isinstance(node.spec, TensorSpec):
        return None
    nbytes = node.spec.nbytes
    if (
        isinstance(nbytes, Dim)
        or any(isinstance(s, Dim) for s in node.shape)
        or nbytes > MOST_BYTES
    ):
        return None
    if any(isinstance(item, Dim) for value in node.attrs.values() for item in _items(value)):
        return None
    if node.op.is_projection or any(value not in values for value in node.inputs):
        return None
    try:
        with np.errstate(all="ignore"):
            result = node.op.reference(*(values[i] for i in node.inputs), **node.attrs)
    except IndexOutOfRange:
        # The error belongs to the run, where the caller can see it.
        return None
    return np.asarray(result, dtype=node.dtype)


def _items(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)
