"""Equal nodes become one.

%1 = exp(%0)
%2 = exp(%0)                    ->      %1 = exp(%0)
%3 = add(%1, %2)                        %2 = add(%1, %1)
"""

from __future__ import annotations

from collections.abc import Hashable

from graphflow.compiler.graph import Graph, Node, rebuild


def cse(graph: Graph) -> Graph:
    """Merge nodes of the same op, inputs and attributes; leaves that are state stay apart."""
    known: dict[Hashable, Node] = {}

    def merge(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        if node.op.stateful:
            return node
        operands = node.inputs
        if node.op.commutative:
            operands = tuple(sorted(operands, key=lambda value: value.serial))
        # 0.0 and -0.0, 1 and True are equal as keys; their text is not.
        attrs = tuple(
            (key, value, repr(value) if isinstance(value, (int, float)) else None)
            for key, value in sorted(node.attrs.items())
        )
        return known.setdefault((node.op.name, operands, attrs), node)

    return graph.rewrite(merge)
