"""Picture to a smaller Picture: a frame becomes one box that says what is inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from graphflow.viz.op_text import short_spec
from graphflow.viz.picture import Box, Cluster, Edge, Element, Picture

_LONGEST_NAMES = 28


def collapse(picture: Picture, is_closed: Callable[[Cluster], bool]) -> Picture:
    """The picture with each closed frame as one box; edges lead to the box, each once."""
    new: dict[Element, Element] = {}
    root = Cluster("root", "root", picture.root.title, heat=picture.root.heat)
    leaving = values_that_leave(picture)

    def copy(old: Cluster, target: Cluster) -> None:
        for child in old.children:
            if isinstance(child, Cluster) and is_closed(child):
                box = closed_box(child, leaving.get(child, {}))
                target.add(box)
                new[child] = box
                new.update(dict.fromkeys(child.boxes(), box))
                new.update(dict.fromkeys(child.clusters(), box))
            elif isinstance(child, Cluster):
                frame = Cluster(
                    child.key, child.kind, child.title, None, [], child.hover, child.label
                )
                frame.heat = child.heat
                target.add(frame)
                new[child] = frame
                copy(child, frame)
            else:
                box = Box(**{**vars(child), "parent": None})
                target.add(box)
                new[child] = box

    copy(picture.root, root)
    edges: dict[tuple[Element, Element, str], Edge] = {}
    for edge in picture.edges:
        source, target = new[edge.source], new[edge.target]
        if source is not target:
            edges.setdefault((source, target, edge.kind), Edge(source, target, edge.kind))
    return Picture(root, list(edges.values()), picture.title)


def values_that_leave(picture: Picture) -> dict[Cluster, dict[Element, None]]:
    """For each frame the elements inside it whose value is read outside."""
    found: dict[Cluster, dict[Element, None]] = {}
    for edge in picture.edges:
        around = set(picture.ancestors(edge.target))
        for cluster in picture.ancestors(edge.source):
            if cluster not in around and cluster is not edge.target:
                found.setdefault(cluster, {})[edge.source] = None
    return found


def closed_box(cluster: Cluster, leaving: dict[Element, None]) -> Box:
    """One box for a frame: how many ops of which kinds, the variables it reads and sets."""
    boxes = list(cluster.boxes())
    ops = [box for box in boxes if box.kind == "op"]
    kinds = Counter(box.node.op.name for box in ops if box.node is not None)
    lines = [_count(len(ops), "op")] if ops else []
    read = dict.fromkeys(box.title for box in boxes if box.kind == "variable")
    written = dict.fromkeys(box.title.removesuffix(" :=") for box in boxes if box.kind == "update")
    # What is set is mostly read too, which need not be said.
    only_read = [name for name in read if name not in written]
    if only_read:
        lines.append(f"{'reads ' if written else ''}{_names(only_read, 'variable')}")
    if written:
        lines.append(f"sets {_names(list(written), 'variable')}")
    hover = [*cluster.hover, ", ".join(f"{n} {name}" for name, n in kinds.most_common(12))]
    labels = {_leaving_label(element) for element in leaving}
    family = {"body": "control", "update": "variable"}.get(cluster.kind, "scope")
    return Box(
        cluster.key,
        "scope",
        family,
        cluster.title,
        tuple(lines),
        labels.pop() if len(labels) == 1 else "",
        tuple(hover),
        heat=cluster.heat,
        weight=sum(box.weight for box in boxes if box.kind in ("op", "movement", "constant")),
    )


def _leaving_label(element: Element) -> str:
    """The shape of a value outside of its frame, where the ops that tell it cannot be seen."""
    if element.label or not isinstance(element, Box) or element.node is None:
        return element.label
    return short_spec(element.node.spec)


def _names(names: list[str], noun: str) -> str:
    text = ", ".join(names)
    return text if len(text) <= _LONGEST_NAMES else _count(len(names), noun)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def depth_of(cluster: Cluster) -> int:
    """1 for a frame directly on the page."""
    depth = 0
    while cluster.parent is not None:
        cluster, depth = cluster.parent, depth + 1
    return depth


def visible_boxes(picture: Picture, depth: int) -> int:
    """How many boxes there are when updates, and frames deeper than `depth` levels, are closed."""
    count = 0
    stack: list[tuple[Element, int]] = [(child, 1) for child in picture.root.children]
    while stack:
        element, level = stack.pop()
        if isinstance(element, Cluster) and element.kind != "update" and level <= depth:
            stack.extend((child, level + 1) for child in element.children)
        else:
            count += 1
    return count


def overview_depth(picture: Picture) -> int:
    """How many levels of frames stay open in an overview: none, unless one frame holds it all."""
    frames, depth = picture.root.children, 0
    while True:
        inner = [child for child in frames if isinstance(child, Cluster)]
        ops = [child for child in frames if isinstance(child, Box) and child.kind == "op"]
        if len(inner) != 1 or ops:
            return depth
        frames, depth = inner[0].children, depth + 1


def fitting_depth(picture: Picture, most: int) -> int:
    """The largest number of open levels with at most `most` boxes; 0 where none has so few."""
    deepest = max((depth_of(cluster) for cluster in picture.root.clusters()), default=0)
    return next((d for d in range(deepest, 0, -1) if visible_boxes(picture, d) <= most), 0)
