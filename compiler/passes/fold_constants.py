"""Compute what does not depend on inputs or variables.

    %0 = full(value=2.0) : float32()
    %1 = full(value=3.0) : float32()        ->      %0 = full(value=6.0) : float32()
    %2 = multiply(%0, %1) : float32()

Values come from the references of the ops, the oracle of the compiled code. A node that cannot be
computed here (an index out of range) stays, so that the error belongs to the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim
from graphflow.compiler.errors import IndexOutOfRange
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import Elementwise, ops
from graphflow.compiler.ops.blocks import full
from graphflow.compiler.spec import TensorSpec

#: larger results would grow the program more than computing them costs
MOST_BYTES = 1 << 20
#: a constant of at most this many elements is looked at for being one repeated value
MOST_COMPARED = 4096


def fold_constants(graph: Graph) -> Graph:
    """Replace nodes of known inputs by their value."""
    values = _Values()

    def fold(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        if node.op.arity == (0, 0) or node.op.stateful or not isinstance(node.spec, TensorSpec):
            return node
        uniform = _uniform(node)
        if uniform is not None:
            return uniform
        value = values.find(node)
        if value is None or _is_wider(node):
            return node
        result = constant_or_full(value)
        values.known[result] = value
        return result

    return graph.rewrite(fold)


class _Values:
    """Values of nodes that can be known, computed when first asked for."""

    def __init__(self) -> None:
        self.known: dict[Node, np.ndarray | None] = {}

    def find(self, node: Node) -> np.ndarray | None:
        """The value of a node whose inputs were asked for before, or None."""
        if node not in self.known:
            self.known[node] = self._compute(node) if _is_foldable(node) else None
        return self.known[node]

    def _compute(self, node: Node) -> np.ndarray | None:
        arguments = []
        for x in node.inputs:
            value = self.find(x)
            if value is None:
                return None
            arguments.append(value)
        return _reference(node, arguments)


def _is_foldable(node: Node) -> bool:
    """Whether the node alone allows it: no state, no named dims, and a small result."""
    if node.op.stateful or node.op.is_projection or not isinstance(node.spec, TensorSpec):
        return False
    nbytes = node.spec.nbytes
    if isinstance(nbytes, Dim) or nbytes > MOST_BYTES:
        return False
    # A size of 0 hides the names of the others.
    if any(isinstance(size, Dim) for size in node.shape):
        return False
    return not any(isinstance(item, Dim) for value in node.attrs.values() for item in _items(value))


def _items(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def _reference(node: Node, arguments: list[Any]) -> np.ndarray | None:
    try:
        with np.errstate(all="ignore"):
            result = node.op.reference(*arguments, **node.attrs)
    except IndexOutOfRange:
        # The error belongs to the run, where the caller can see it.
        return None
    return np.asarray(result, dtype=node.dtype)


def _uniform(node: Node) -> Node | None:
    """A scalar function of fulls is a full, of any size and with named dims too."""
    if not isinstance(node.op, Elementwise) or any(x.op.name != "full" for x in node.inputs):
        return None
    value = _reference(node, [np.array(x.attrs["value"], x.dtype) for x in node.inputs])
    if value is None or np.isnan(value):
        return None
    return full(node.shape, value.item(), node.dtype)


def _is_wider(node: Node) -> bool:
    """An index map that repeats elements costs nothing in a kernel; its result costs memory."""
    return node.op.is_free and node.spec.size > sum(x.spec.size for x in node.inputs)


def constant_or_full(array: np.ndarray) -> Node:
    """An array as a node: a `full` if it is small and one repeated value, else a `constant`."""
    if 0 < array.size <= MOST_COMPARED:
        first = array.flat[0]
        # Bits are compared, so that -0.0 keeps its sign; NaN is equal to nothing, also as a key.
        same = array.tobytes() == np.full(array.shape, first, array.dtype).tobytes()
        if same and not np.isnan(first):
            return full(array.shape, first.item(), array.dtype.name)
    return ops.constant(value=array)
