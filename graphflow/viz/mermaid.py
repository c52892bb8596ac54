"""Picture to Mermaid, which Markdown viewers draw."""

from __future__ import annotations

import re

from graphflow.viz.families import FAMILIES
from graphflow.viz.picture import Box, Cluster, Picture

_ROUND = ("input", "variable", "constant", "output", "update", "movement", "reference")


def mermaid_text(picture: Picture) -> str:
    """The picture as a Mermaid flowchart with subgraphs."""
    lines = ["flowchart TD"]
    lines += _cluster_lines(picture.root, "  ")
    for edge in picture.edges:
        arrow = "-.->" if edge.kind == "update" else "-->"
        label = f"|{_quote(edge.source.label)}|" if edge.source.label else ""
        lines.append(
            f"  {_identifier(edge.source.key)} {arrow}{label} {_identifier(edge.target.key)}"
        )
    used = {box.family for box in picture.root.boxes()}
    for name, family in FAMILIES.items():
        if name in used:
            fill, border, ink = family.light
            lines.append(f"  classDef {name} fill:{fill},stroke:{border},color:{ink}")
    return "\n".join([*lines, ""])


def _cluster_lines(cluster: Cluster, indent: str) -> list[str]:
    lines = []
    for child in cluster.children:
        if isinstance(child, Cluster):
            lines.append(f"{indent}subgraph {_identifier(child.key)}[{_quote(child.title)}]")
            lines += _cluster_lines(child, indent + "  ")
            lines.append(f"{indent}end")
        else:
            lines.append(f"{indent}{_box(child)}:::{child.family}")
    return lines


def _box(box: Box) -> str:
    text = _quote("\n".join((box.title, *box.lines)))
    shape = f"([{text}])" if box.kind in _ROUND else f"[{text}]"
    return f"{_identifier(box.key)}{shape}"


def _identifier(key: str) -> str:
    return re.sub(r"\W", "_", key, flags=re.ASCII)


def _quote(text: str) -> str:
    """Quoted text; characters that Mermaid or HTML would read are written as entities."""
    escaped = "".join(
        f"#{ord(c)};" if c in '"#;<>&`' else c for c in text if c.isprintable() or c == "\n"
    )
    return '"' + escaped.replace("\n", "<br>") + '"'
