"""Loops over the same operands with the same carries become one loop with the rows of all.

    %1 = scan(%c, %x, body=A)       c' = f(c, x), y = g(c, x)
    %2 = scan(%c, %x, body=B)       c' = f(c, x), y = c
->
    %1 = scan(%c, %x, body=AB)      c' = f(c, x), y = g(c, x), c

The reverse of a scan replays it to get the carries of each pass; the replay meets the scan itself.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.passes.cse import cse


@dataclass(frozen=True)
class _Merged:
    """One body for several scans: where the results of each lie among those of the new one."""

    body: Graph
    places: dict[Node, list[int]]


def merge_scans(graph: Graph) -> Graph:
    """Merge scans that differ in their rows alone."""
    alike: dict[Hashable, list[Node]] = {}
    for node in graph.nodes:
        if node.op.name == "scan":
            attrs = (node.attrs[key] for key in ("carries", "length", "reverse", "sequences"))
            alike.setdefault((node.inputs, *attrs), []).append(node)
    merged: dict[Node, _Merged] = {}
    for nodes in alike.values():
        found = _merge(nodes) if len(nodes) > 1 else None
        if found is not None:
            merged |= dict.fromkeys(nodes, found)
    if not merged:
        return graph
    made: dict[Graph, Node] = {}

    def replace(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node in merged:
            body = merged[node].body
            if body not in made:
                made[body] = ops.scan(*inputs, **{**node.attrs, "body": body})
            return made[body]
        if node.op.is_projection and node.inputs[0] in merged:
            source = node.inputs[0]
            index = merged[source].places[source][node.attrs["index"]]
            return ops.project(*inputs, index=index)
        return rebuild(node, inputs)

    return graph.rewrite(replace)


def _merge(nodes: list[Node]) -> _Merged | None:
    """The one body, if the carries are computed alike."""
    bodies = [node.attrs["body"] for node in nodes]
    first, carries = bodies[0], nodes[0].attrs["carries"]
    outputs = [_moved(body, first.inputs) for body in bodies]
    together = cse(Graph(first.inputs, tuple(n for group in outputs for n in group)))
    rest, groups = list(together.outputs), []
    for group in outputs:
        groups.append(rest[: len(group)])
        rest = rest[len(group) :]
    shared = groups[0][:carries]
    if any(group[:carries] != shared for group in groups):
        return None
    rows = list(dict.fromkeys(row for group in groups for row in group[carries:]))
    places = {
        node: [*range(carries), *(carries + rows.index(row) for row in group[carries:])]
        for node, group in zip(nodes, groups, strict=True)
    }
    return _Merged(Graph(first.inputs, (*shared, *rows)), places)


def _moved(body: Graph, inputs: tuple[Node, ...]) -> tuple[Node, ...]:
    """The outputs of a body over the placeholders of another one."""
    own = dict(zip(body.inputs, inputs, strict=True))
    return body.rewrite(lambda node, values: own.get(node) or rebuild(node, values)).outputs
