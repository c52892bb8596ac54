"""`gf.viz`: what a user wants to look at, in, a drawing in one of six formats, out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from graphflow.compiler.errors import GraphError
from graphflow.compiler.graph import Node
from graphflow.compiler.printer import graph_text
from graphflow.viz.build import build_picture
from graphflow.viz.collapse import collapse, depth_of, fitting_depth, overview_depth
from graphflow.viz.fold import DETAILS
from graphflow.viz.picture import Cluster, Picture
from graphflow.viz.subject import graph_of

FORMATS = ("svg", "html", "dot", "mermaid", "text")
_SUFFIXES = {
    ".svg": "svg",
    ".html": "html",
    ".htm": "html",
    ".dot": "dot",
    ".gv": "dot",
    ".mmd": "mermaid",
    ".mermaid": "mermaid",
    ".txt": "text",
}
#: a drawing of more boxes is hard to read: name scopes are closed until there are so few
MOST_BOXES, OVERVIEW_BOXES = 150, 60


class Drawing(str):
    """The text of a drawing, which a notebook shows as the picture that it is.

    Attributes:
        language: what the text is written in, one of FORMATS.
    """

    language: str

    def __new__(cls, text: str, language: str) -> Self:
        drawing = super().__new__(cls, text)
        drawing.language = language
        return drawing

    def __repr__(self) -> str:
        if self.language == "text":
            return str(self)
        return f"<{self.language} drawing, {len(self)} characters>"

    def _repr_mimebundle_(self, **kwargs: object) -> dict[str, str]:
        if self.language == "svg":
            return {"image/svg+xml": str(self), "text/plain": repr(self)}
        if self.language == "html":
            # A frame of its own keeps the page's script and styles out of the notebook.
            page = str(self).replace("&", "&amp;").replace('"', "&quot;")
            frame = f'<iframe srcdoc="{page}" width="100%" height="600" frameborder="0"></iframe>'
            return {"text/html": frame, "text/plain": repr(self)}
        return {"text/plain": str(self)}


def viz(
    x: Any,
    path: str | os.PathLike[str] | None = None,
    format: str | None = None,
    *,
    detail: str | None = None,
    depth: int | None = None,
    groups: Sequence[tuple[str, Iterable[Node]]] | None = None,
    heat: Mapping[Any, float] | None = None,
    title: str | None = None,
) -> Drawing:
    """Draw a graph.

    Args:
        x: a Tensor, a list or dict of Tensors, a Function or a Graph.
        path: file to write; its ending chooses the format where `format` does not: .svg, .html
            (pan, zoom, search, open and close name scopes), .dot, .mmd, .txt.
        format: "svg" (default), "html", "dot", "mermaid" or "text" (a listing, one node per line).
        detail: "full" draws every node; "ops" folds scalars, broadcasting and chains of reshapes;
            "overview" also closes name scopes. By default "ops", and name scopes are closed as far
            as needed where it would have more than 150 boxes.
        depth: how many levels of name scopes stay open.
        groups: (label, nodes) of fused kernels, framed instead of name scopes.
        heat: share of the run time, 0..1, for nodes (or tensors); colours their boxes.
        title: heading; by default the name of a Function.

    Returns:
        The text of the drawing, a `str` that notebooks show as a picture.

    Raises:
        GraphError: `x` cannot be drawn, or the format, detail or depth is none that exists.

    >>> import graphflow as gf
    >>> x = gf.placeholder(("batch", 2), name="x")
    >>> print(gf.viz(gf.exp(x), format="text"), end="")  # doctest: +ELLIPSIS
    %0 = placeholder "x" : float32(batch, 2)...
    %1 = exp(%0) : float32(batch, 2)...
    return %1
    """
    format = _chosen_format(path, format)
    if detail is not None and detail not in DETAILS:
        raise GraphError(f"viz: detail {detail!r} does not exist; there are {', '.join(DETAILS)}")
    if depth is not None and depth < 0:
        raise GraphError(f"viz: depth is {depth}; expected 0 (all closed) or more")
    subject = graph_of(x)
    if format == "text":
        text = graph_text(subject.graph)
    else:
        by_node = {getattr(key, "node", key): share for key, share in (heat or {}).items()}
        heading = subject.title if title is None else title
        picture = build_picture(
            subject.graph, detail or "ops", heading, subject.output_names, groups, by_node
        )
        text = _render(picture, format, _closing_rule(picture, detail, depth))
    if path is not None:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    return Drawing(text, format)


def _chosen_format(path: str | os.PathLike[str] | None, format: str | None) -> str:
    if format is None and path is not None:
        suffix = Path(path).suffix.lower()
        if suffix not in _SUFFIXES:
            raise GraphError(
                f"viz: {Path(path).name!r} does not say which format; end it in "
                f"{', '.join(_SUFFIXES)} or give format="
            )
        return _SUFFIXES[suffix]
    if format is None:
        return "svg"
    if format not in FORMATS:
        raise GraphError(f"viz: format {format!r} does not exist; there are {', '.join(FORMATS)}")
    return format


def _closing_rule(
    picture: Picture, detail: str | None, depth: int | None
) -> Callable[[Cluster], bool]:
    """Which frames are closed; updates, all alike, are the first."""
    by_itself = depth is None
    if depth is None and detail == "overview":
        depth = overview_depth(picture)
    elif depth is None and detail is None and sum(1 for _ in picture.root.boxes()) > MOST_BOXES:
        depth = fitting_depth(picture, OVERVIEW_BOXES)
    if depth is None:
        return lambda cluster: False
    most = depth
    return lambda c: depth_of(c) > most or (by_itself and c.kind == "update")


def _render(picture: Picture, format: str, is_closed: Callable[[Cluster], bool]) -> str:
    if format == "html":
        from graphflow.viz.html import html_text

        return html_text(picture, is_closed)
    picture = collapse(picture, is_closed)
    if format == "svg":
        from graphflow.viz.svg import svg_text

        return svg_text(picture)
    if format == "dot":
        from graphflow.viz.dot import dot_text

        return dot_text(picture)
    from graphflow.viz.mermaid import mermaid_text

    return mermaid_text(picture)
