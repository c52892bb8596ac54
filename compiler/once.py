"""A graph in, the values that stay the same from call to call out: those made of weights alone."""

from __future__ import annotations

from graphflow.compiler.dims import Dim
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.ops.control import Control
from graphflow.compiler.spec import TensorSpec


def once_nodes(graph: Graph) -> frozenset[Node]:
    """Nodes that need to be computed only when a variable has changed since the last call.

    They depend on constants and on variables that the graph does not update, their sizes have no
    names, and nothing in them can fail.
    """
    updated = {target for target, _ in graph.updates}
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op.is_leaf:
            same = node.op.name != "placeholder" and node not in updated
        else:
            same = not (node.op.stateful or node.op.can_fail or isinstance(node.op, Control))
        if same and found.issuperset(node.inputs) and _is_static(node):
            found.add(node)
    return frozenset(found)


def _is_static(node: Node) -> bool:
    """Whether no named dim stands in the sizes or attributes."""
    if not isinstance(node.spec, TensorSpec):
        return False
    values = [item for v in node.attrs.values() for item in (v if isinstance(v, tuple) else (v,))]
    return not any(isinstance(item, Dim) for item in (*node.shape, *values))
