"""Graph to the variable that each node serves: what only one new value needs belongs together."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.graph import Graph, Node, topological_order


@dataclass(frozen=True)
class Owners:
    """What the updates of a graph need.

    Attributes:
        owner: the variable that a node serves, for nodes that serve one and no output. A slot of
            an optimizer, whose new value a weight needs too, counts with its weight.
        forward: what the outputs need, and running sums, which nothing but themselves reads.
        title: the name of each owner: the variable of its group that the forward part reads.
    """

    owner: dict[Node, Node]
    forward: set[Node]
    title: dict[Node, Node]


def update_owners(graph: Graph) -> Owners:
    """Owners of the nodes of `graph`, in one walk from the updates back."""
    targets: dict[Node, Node] = {}
    for target, value in graph.updates:
        targets.setdefault(value, target)
    outputs = set(topological_order(graph.outputs))
    served: dict[Node, Node | None] = {}
    for node in reversed(graph.nodes):
        readers = [served[reader] for reader in graph.users.get(node, ()) if reader in served]
        if node in outputs or None in readers or len(set(readers)) > 1:
            # None: more than one variable, or an output.
            served[node] = None
        elif readers:
            served[node] = readers[0]
        elif node in targets:
            served[node] = targets[node]
    owner = {node: variable for node, variable in served.items() if variable is not None}
    sums = [value for target, value in graph.updates if owner.get(target) is target]
    forward = set(topological_order([*graph.outputs, *sums]))
    title = {variable: variable for variable in owner.values()}
    for target, value in graph.updates:
        if value in owner and target in forward:
            title[owner[value]] = target
    return Owners(owner, forward, title)
