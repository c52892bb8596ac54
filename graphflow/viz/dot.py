"""Picture to the DOT language, for those who have Graphviz or a tool that reads it."""

from __future__ import annotations

from graphflow.viz.families import FAMILIES
from graphflow.viz.picture import Box, Cluster, Element, Picture

_ROUND = ("input", "variable", "constant", "output", "update", "movement", "reference")


def dot_text(picture: Picture) -> str:
    """The picture as a `digraph` with nested clusters."""
    lines = [
        "digraph graphflow {",
        "  compound=true; rankdir=TB; fontname=Helvetica;",
        "  node [shape=box, style=filled, fontname=Helvetica, fontsize=11];",
        "  edge [fontname=Helvetica, fontsize=9, color=gray40];",
    ]
    if picture.title:
        lines.append(f"  label={_quote(picture.title)}; labelloc=t; labeljust=l;")
    lines += _cluster_lines(picture.root, "  ")
    for edge in picture.edges:
        source, target = _anchor(edge.source), _anchor(edge.target)
        options = []
        if edge.source.label:
            options.append(f"label={_quote(edge.source.label)}")
        if isinstance(edge.source, Cluster):
            options.append(f"ltail={_quote(f'cluster_{edge.source.key}')}")
        if isinstance(edge.target, Cluster):
            options.append(f"lhead={_quote(f'cluster_{edge.target.key}')}")
        if edge.kind == "update":
            options.append("style=dashed")
        tail = f" [{', '.join(options)}]" if options else ""
        lines.append(f"  {_quote(source)} -> {_quote(target)}{tail};")
    return "\n".join([*lines, "}", ""])


def _cluster_lines(cluster: Cluster, indent: str) -> list[str]:
    lines = []
    for child in cluster.children:
        if isinstance(child, Box):
            lines.append(f"{indent}{_quote(child.key)} [{_box_options(child)}];")
            continue
        style = "dashed" if child.kind == "group" else "rounded"
        lines.append(f"{indent}subgraph {_quote(f'cluster_{child.key}')} {{")
        lines.append(f"{indent}  label={_quote(child.title)}; style={style}; color=gray60;")
        if not any(child.boxes()):
            lines.append(f"{indent}  {_quote(_anchor(child))} [style=invis];")
        lines += _cluster_lines(child, indent + "  ")
        lines.append(f"{indent}}}")
    return lines


def _box_options(box: Box) -> str:
    fill, border, ink = FAMILIES[box.family].light
    style = "rounded,filled" if box.kind in _ROUND else "filled"
    label = "\n".join((box.title, *box.lines))
    return (
        f'label={_quote(label)}, style="{style}", fillcolor="{fill}", color="{border}", '
        f'fontcolor="{ink}", tooltip={_quote(chr(10).join(box.hover))}'
    )


def _anchor(element: Element) -> str:
    """The key of a box; DOT edges cannot end at a cluster, so one of its boxes stands for it."""
    if isinstance(element, Box):
        return element.key
    return next((box.key for box in element.boxes()), f"{element.key}_empty")


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(c for c in escaped if c.isprintable() or c == " ") + '"'
