"""Graph to text: a numbered listing in topological order, for dumps, golden tests and readers.

    %0 = placeholder "x" : float32(batch, 784)                    # train.py:5
    %1 = variable "w" : float32(784, 64)                          # train.py:6
    %2 = matmul(%0, %1) : float32(batch, 64)                      # train.py:9 in dense
    %3 = sum(%2, axes=(1,)) : float32(batch,)                     # train.py:10
    return %3
    update %1 "w" := %5

Nodes are numbered as in `graph.nodes`; scalars and shapes print by name, arrays shortened.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.spec import TensorSpec

#: column of the comment, where the statement leaves room for it
_COMMENT_COLUMN = 64
#: longest text of one attribute; arrays can be large
_LONGEST_VALUE = 72


def graph_text(graph: Graph, sources: bool = True) -> str:
    """A listing of `graph`, one node per line, the same text for the same graph.

    Args:
        sources: append the user's line and the name scope of each node as a comment; without
            them the text does not change when the user's file does.

    Returns:
        Lines that end in a newline; sub-graphs in attributes are indented under their node.
    """
    return "".join(f"{line}\n" for line in _lines(graph, sources))


def number_nodes(graph: Graph) -> dict[Node, int]:
    """The number of each node in the listing: its place in `graph.nodes`.

    Unused inputs and variables that are only written come after those.
    """
    targets = (target for target, _ in graph.updates)
    order = dict.fromkeys((*graph.nodes, *graph.inputs, *targets))
    return {node: number for number, node in enumerate(order)}


def spec_text(spec: Any) -> str:
    """`float32(batch, 3)`; for an op with several results, all of them in parentheses."""
    if isinstance(spec, TensorSpec):
        return str(spec)
    return f"({', '.join(spec_text(part) for part in spec)})"


def visible_attrs(node: Node) -> dict[str, Any]:
    """The attributes that the spec of the node does not show already, sub-graphs left out."""
    specs = [node.spec] if isinstance(node.spec, TensorSpec) else []
    return {
        name: value
        for name, value in node.attrs.items()
        if not subgraphs(value)
        and not any(
            (name == "dtype" and value == spec.dtype) or (name == "shape" and value == spec.shape)
            for spec in specs
        )
    }


def subgraphs(value: Any) -> tuple[Graph, ...]:
    """The graphs in one attribute: itself, or the members of a tuple."""
    if isinstance(value, Graph):
        return (value,)
    if isinstance(value, tuple) and value and all(isinstance(item, Graph) for item in value):
        return value
    return ()


def value_text(value: Any) -> str:
    """Text of an attribute on one line: dims by name, strings quoted, long arrays shortened."""
    text = _full_text(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _full_text(value: Any) -> str:
    if isinstance(value, Dim):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        inner = ", ".join(_full_text(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and float(np.float32(value)) == value:
        # A float32 value reads 0.1 and not 0.10000000149011612; it is still exact.
        value = float(str(np.float32(value)))
    return " ".join(repr(value).split())


def _lines(graph: Graph, sources: bool) -> list[str]:
    number = number_nodes(graph)
    lines = []
    for node in number:
        lines.append(_with_comment(statement(node, number), node, sources))
        for name, value in node.attrs.items():
            graphs = subgraphs(value)
            for position, graph_inside in enumerate(graphs):
                title = name if isinstance(value, Graph) else f"{name}[{position}]"
                lines.append(f"  {title}:")
                lines.extend(f"    {line}" for line in _lines(graph_inside, sources))
    if graph.outputs:
        lines.append(f"return {', '.join(f'%{number[node]}' for node in graph.outputs)}")
    for target, value in graph.updates:
        lines.append(f"update %{number[target]}{_quoted_name(target)} := %{number[value]}")
    return lines


def statement(node: Node, number: dict[Node, int]) -> str:
    """One line of the listing, without its comment."""
    arguments = [f"%{number[value]}" for value in node.inputs]
    arguments += [f"{name}={value_text(value)}" for name, value in visible_attrs(node).items()]
    call = node.op.name + (f"({', '.join(arguments)})" if arguments else "")
    return f"%{number[node]} = {call}{_quoted_name(node)} : {spec_text(node.spec)}"


def _quoted_name(node: Node) -> str:
    return f" {json.dumps(node.name, ensure_ascii=False)}" if node.name else ""


def _with_comment(statement: str, node: Node, sources: bool) -> str:
    if not sources or not (node.source or node.scope):
        return statement
    words = [node.source] if node.source else []
    if node.scope:
        words.append(f"in {node.scope}")
    return f"{statement:<{_COMMENT_COLUMN}}  # {' '.join(words)}"
