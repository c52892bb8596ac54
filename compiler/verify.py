"""The invariants of a graph; a pass that breaks one is stopped where it did."""

from __future__ import annotations

from graphflow.compiler.errors import VerificationError
from graphflow.compiler.graph import Graph, Node


def check_graph(graph: Graph, where: str) -> None:
    """Check order, arity, leaves, updates, and that every spec is what inference gives.

    Args:
        where: the pass that made the graph, for the message.

    Raises:
        VerificationError: an invariant does not hold.
    """
    seen: set[Node] = set()
    for node in graph.nodes:
        if any(value not in seen for value in node.inputs):
            raise VerificationError(f"after {where}: {node} comes before one of its inputs")
        seen.add(node)
        _check_node(node, where)
    fed = set(graph.inputs)
    for node in graph.nodes:
        if node.op.name == "placeholder" and node not in fed:
            raise VerificationError(f"after {where}: {node} [{node.source}] is not an input")
    for node in graph.inputs:
        if node.op.name != "placeholder":
            raise VerificationError(f"after {where}: the input {node} is no placeholder")
    targets = [target for target, _ in graph.updates]
    if len(set(targets)) != len(targets):
        raise VerificationError(f"after {where}: a variable is updated twice")
    for target, value in graph.updates:
        if target.op.name != "variable" or target.spec != value.spec:
            raise VerificationError(f"after {where}: {target} cannot be updated with {value}")


def _check_node(node: Node, where: str) -> None:
    low, high = node.op.arity
    if not low <= len(node.inputs) <= high:
        raise VerificationError(f"after {where}: {node} has {len(node.inputs)} inputs")
    if node.attrs.keys() != node.op.attributes.keys():
        raise VerificationError(f"after {where}: {node} has the attributes {sorted(node.attrs)}")
    for value in node.attrs.values():
        hash(value)
    spec = node.op.infer(*(value.spec for value in node.inputs), **node.attrs)
    if spec != node.spec:
        raise VerificationError(f"after {where}: {node} has {node.spec}, inference gives {spec}")
