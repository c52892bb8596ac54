"""What is drawn, before any position: boxes with text, nested clusters, and edges between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from graphflow.compiler.graph import Node


@dataclass(eq=False)
class Box:
    """One box of a drawing.

    Attributes:
        key: unique id in the drawing, the same in every run; `n12` stands for %12 of the listing.
        kind: "op", "movement" (a few small words on the wire), "input", "variable", "constant",
            "update" (variable := value), "output", "scope" (a collapsed cluster) or "reference"
            (stands for a box far away).
        family: colour family, see `families.FAMILIES`.
        title: first line.
        lines: smaller lines below it.
        label: shape of the value, written beside the edge that leaves the box; may be empty.
        hover: what a reader learns by pointing at it, a line each.
        repeated: True for the second and later boxes of one node.
        heat: share of the run time, 0..1, or None.
        weight: how many nodes of the graph the box stands for.
        of: for a "reference", the box that it stands for.
    """

    key: str
    kind: str
    family: str
    title: str
    lines: tuple[str, ...] = ()
    label: str = ""
    hover: tuple[str, ...] = ()
    repeated: bool = False
    heat: float | None = None
    weight: int = 1
    node: Node | None = None
    parent: Cluster | None = None
    of: Box | None = None


@dataclass(eq=False)
class Cluster:
    """A frame around boxes and clusters.

    Attributes:
        kind: "root", "scope" (a name scope), "update" (what only one variable's new value needs),
            "group" (a fused kernel) or "body" (the sub-graph of a control-flow op, which is then
            the cluster itself).
    """

    key: str
    kind: str
    title: str
    parent: Cluster | None = None
    children: list[Element] = field(default_factory=list)
    hover: tuple[str, ...] = ()
    label: str = ""
    heat: float | None = None

    def add(self, element: Element) -> None:
        element.parent = self
        self.children.append(element)

    def boxes(self) -> Iterator[Box]:
        """All boxes inside, at any depth, in order."""
        stack: list[Element] = list(reversed(self.children))
        while stack:
            element = stack.pop()
            if isinstance(element, Box):
                yield element
            else:
                stack.extend(reversed(element.children))

    def clusters(self) -> Iterator[Cluster]:
        """All clusters inside, at any depth, outer ones first."""
        stack = [c for c in reversed(self.children) if isinstance(c, Cluster)]
        while stack:
            cluster = stack.pop()
            yield cluster
            stack.extend(c for c in reversed(cluster.children) if isinstance(c, Cluster))


Element = Box | Cluster


@dataclass(frozen=True, eq=False)
class Edge:
    """From the element that makes a value to one that reads it; kind is "data" or "update"."""

    source: Element
    target: Element
    kind: str = "data"


@dataclass(eq=False)
class Picture:
    """A whole drawing."""

    root: Cluster
    edges: list[Edge]
    title: str = ""

    def ancestors(self, element: Element) -> list[Cluster]:
        """Clusters around an element, from the root inwards."""
        path = []
        parent = element.parent
        while parent is not None:
            path.append(parent)
            parent = parent.parent
        return path[::-1]
