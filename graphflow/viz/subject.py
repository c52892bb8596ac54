"""What a user hands to `viz`: tensors, functions and graphs, all turned into one Graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.errors import GraphError
from graphflow.compiler.graph import Graph, Node, topological_order


@dataclass(frozen=True)
class Subject:
    """A graph to look at, with the names that the user's structure gives."""

    graph: Graph
    title: str = ""
    output_names: tuple[str, ...] = ()


def graph_of(x: Any) -> Subject:
    """The graph of a Tensor, a list, tuple or dict of Tensors, a Function or a Graph.

    Anything with a `.graph` that is a Graph, or a `.node` that is a Node, will do.

    Raises:
        GraphError: `x` is none of these.
    """
    if isinstance(x, Graph):
        return Subject(x)
    graph = getattr(x, "graph", None)
    if isinstance(graph, Graph):
        name = getattr(x, "name", None)
        names = _names_of_outputs(getattr(x, "structure", None), len(graph.outputs))
        return Subject(graph, name if isinstance(name, str) else "", names)
    if isinstance(x, Mapping) and x:
        nodes = [_node_of(value) for value in x.values()]
        return Subject(_graph_for(nodes), "", tuple(map(str, x)))
    if isinstance(x, (list, tuple)) and x:
        return Subject(_graph_for([_node_of(value) for value in x]))
    return Subject(_graph_for([_node_of(x)]))


def _names_of_outputs(structure: Any, count: int) -> tuple[str, ...]:
    """Names by the keys on the way to each number in a nesting; none where there is no key."""
    names = [""] * count

    def walk(part: Any, way: tuple[str, ...], has_key: bool) -> None:
        if isinstance(part, Mapping):
            for key, item in part.items():
                walk(item, (*way, str(key)), True)
        elif isinstance(part, (list, tuple)):
            for position, item in enumerate(part):
                walk(item, (*way, str(position)), has_key)
        elif has_key:
            names[part] = names[part] or ".".join(way)

    walk(structure, (), False)
    return tuple(names)


def _node_of(value: Any) -> Node:
    node = value if isinstance(value, Node) else getattr(value, "node", None)
    if not isinstance(node, Node):
        raise GraphError(
            f"viz: cannot draw {type(value).__name__}; expected a Tensor, a list or dict of "
            "Tensors, a Function or a Graph"
        )
    return node


def _graph_for(outputs: list[Node]) -> Graph:
    """The graph that the outputs need, fed by its placeholders in order of creation."""
    needed = topological_order(outputs)
    inputs = [node for node in needed if node.op.name == "placeholder"]
    return Graph(tuple(sorted(inputs, key=lambda node: node.serial)), tuple(outputs))
