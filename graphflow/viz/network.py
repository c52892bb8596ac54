"""Graph to a networkx graph, which opens it to any graph algorithm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphflow.compiler.printer import number_nodes, spec_text, value_text, visible_attrs
from graphflow.viz.subject import graph_of

if TYPE_CHECKING:
    import networkx


def to_networkx(x: Any) -> networkx.MultiDiGraph:
    """The nodes of `x` by their number in the listing, with an edge for each operand.

    Args:
        x: anything that `viz` draws.

    Returns:
        A MultiDiGraph. Nodes carry `op`, `name`, `dtype`, `shape`, `spec`, `attrs`, `scope`,
        `source` and the `node` itself; edges carry `argument`, the position of the operand. The
        graph's attributes `inputs`, `outputs` and `updates` hold node numbers.
    """
    import networkx

    graph = graph_of(x).graph
    number = number_nodes(graph)
    result = networkx.MultiDiGraph(
        inputs=[number[node] for node in graph.inputs],
        outputs=[number[node] for node in graph.outputs],
        updates=[(number[target], number[value]) for target, value in graph.updates],
    )
    for node, key in number.items():
        result.add_node(
            key,
            op=node.op.name,
            name=node.name or "",
            dtype=getattr(node.spec, "dtype", None),
            shape=getattr(node.spec, "shape", None),
            spec=spec_text(node.spec),
            attrs={name: value_text(value) for name, value in visible_attrs(node).items()},
            scope=node.scope,
            source=node.source,
            node=node,
        )
        for position, value in enumerate(node.inputs):
            result.add_edge(number[value], key, argument=position)
    return result
