"""Graph to Picture: boxes with their text, frames around them, and edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.printer import number_nodes, spec_text, subgraphs
from graphflow.viz.bodies import input_names, output_names, result_name
from graphflow.viz.families import family_of
from graphflow.viz.fold import Folding
from graphflow.viz.measure import shorten
from graphflow.viz.op_text import (
    attribute_lines,
    hover_lines,
    op_title,
    scalar_text,
    short_spec,
    value_label,
)
from graphflow.viz.owners import update_owners
from graphflow.viz.picture import Box, Cluster, Edge, Element, Picture
from graphflow.viz.scopes import Path, contiguous_order

#: first part of every path: what the outputs need, and what only the updates need
_FORWARD, _UPDATE = "forward", "update"
_LONGEST_NAME = 32
#: fewer boxes that compute one new value need no frame
_LEAST_FRAMED = 2

Groups = Sequence[tuple[str, Iterable[Node]]]


def build_picture(
    graph: Graph,
    detail: str,
    title: str = "",
    output_names: Sequence[str] = (),
    groups: Groups | None = None,
    heat: Mapping[Node, float] | None = None,
) -> Picture:
    """Boxes, frames and edges of `graph`.

    Args:
        detail: one of `fold.DETAILS`.
        output_names: text for the outputs; otherwise the names of their nodes.
        groups: (label, nodes) of each fused kernel; frames are then the groups instead of the name
            scopes. An index map may be a member of several groups and is drawn in each.
        heat: share of the run time, 0..1, of nodes.
    """
    root = Cluster("root", "root", title)
    builder = _Builder(graph, detail, groups, heat or {}, root, "")
    builder.output_names = output_names
    builder.run()
    for cluster in [root, *root.clusters()]:
        parts = [box.heat for box in cluster.boxes() if box.heat is not None]
        cluster.heat = sum(parts) if parts else None
    return Picture(root, builder.edges, title)


class _Item:
    """A node at one place: in one scope, or in one of the groups that it is a member of."""

    def __init__(self, node: Node, path: Path):
        self.node = node
        self.path = path
        self.element: Element | None = None


class _Builder:
    """Fills `root` with the elements of one graph; all keys begin with `prefix`."""

    def __init__(
        self,
        graph: Graph,
        detail: str,
        groups: Groups | None,
        heat: Mapping[Node, float],
        root: Cluster,
        prefix: str,
    ):
        self.graph = graph
        self.detail = detail
        self.groups = groups
        self.heat = heat
        self.root = root
        self.prefix = prefix
        self.output_names: Sequence[str] = ()
        #: in a body: the name and the part of what each input stands for
        self.input_names: dict[Node, tuple[str, str]] = {}
        self.edges: list[Edge] = []
        self.fold = Folding(graph, detail)
        self.number = number_nodes(graph)
        self.owners = update_owners(graph)
        #: frames that no name scope asked for: their part of the path -> title
        self.update_titles = self._update_titles()
        self.items: dict[Node, list[_Item]] = {}
        self.leaves: dict[tuple[Node, Cluster, str], Box] = {}
        self.copies: dict[Node, int] = {}
        self.runs: dict[Path, int] = {}

    def run(self) -> None:
        for node in self.graph.inputs:
            if self.detail == "full" or node in self.graph.users or not self.input_names:
                self._leaf(node, self.root, _FORWARD)
        order = self._ordered_items()
        self._make_frames(order)
        for item in order:
            self._connect(item)
        self._add_outputs()
        self._add_updates()

    # ---- frames ------------------------------------------------------------------------------

    def _paths(self, node: Node, groups_of: dict[Node, list[str]]) -> list[Path]:
        if self.groups is not None:
            return [(_FORWARD, number) for number in groups_of.get(node, ())] or [(_FORWARD,)]
        phase = _FORWARD if node in self.owners.forward else _UPDATE
        scopes = tuple(filter(None, node.scope.split("/")))
        part = self._update_part(node)
        return [(phase, part)] if part in self.update_titles else [(phase, *scopes)]

    def _update_part(self, node: Node) -> str:
        """The frame of what only one variable's new value needs; no name scope holds a slash."""
        owner = self.owners.owner.get(node)
        return "" if owner is None or node.scope else f"/{self.number[owner]}"

    def _update_titles(self) -> dict[str, str]:
        sizes = Counter(self._update_part(node) for node in self.fold.boxed())
        titles = {}
        for owner, variable in self.owners.title.items():
            part = f"/{self.number[owner]}"
            if sizes[part] >= _LEAST_FRAMED:
                titles[part] = f"update {variable.name or f'%{self.number[variable]}'}"
        return titles

    def _ordered_items(self) -> list[_Item]:
        """The items in an order in which each frame is one run where that is possible."""
        groups_of: dict[Node, list[str]] = {}
        for number, (_, nodes) in enumerate(self.groups or ()):
            for node in dict.fromkeys(nodes):
                groups_of.setdefault(node, []).append(str(number))
        items: list[_Item] = []
        inputs: list[list[int]] = []
        position: dict[_Item, int] = {}
        for node in self.fold.boxed():
            self.items[node] = [_Item(node, path) for path in self._paths(node, groups_of)]
            for item in self.items[node]:
                values = (self._item_for(value, item.path) for value in self.fold.inputs(node))
                inputs.append([position[value] for value in values if value is not None])
                position[item] = len(items)
                items.append(item)
        return [items[k] for k in contiguous_order(inputs, [item.path for item in items])]

    def _item_for(self, node: Node, path: Path) -> _Item | None:
        """The item of `node` that a reader in `path` reads; None for leaves."""
        places = self.items.get(node)
        if not places:
            return None
        return next((item for item in places if item.path == path), places[0])

    def _make_frames(self, order: Sequence[_Item]) -> None:
        """A frame for each run of the order, and in it an element for each item."""
        opened: list[tuple[Path, Cluster]] = []
        for item in order:
            while opened and item.path[: len(opened[-1][0])] != opened[-1][0]:
                opened.pop()
            parent = opened[-1][1] if opened else self.root
            # Paths begin with the phase, which has no frame.
            for depth in range(len(opened) + 2, len(item.path) + 1):
                frame = self._frame(item.path[:depth])
                parent.add(frame)
                opened.append((item.path[:depth], frame))
                parent = frame
            item.element = self._element(item, parent)

    def _frame(self, path: Path) -> Cluster:
        run = self.runs[path] = self.runs.get(path, 0) + 1
        key = f"{self.prefix}s{sum(self.runs.values())}"
        suffix = ""
        if len(path) == 2 and path[0] == _UPDATE and (_FORWARD, *path[1:]) in self.runs:
            # What derivatives of a scope's ops add has the same scope.
            suffix = " · backward"
        if run > 1:
            suffix += f" ({run})"
        kind, name, short = "scope", "/".join(path[1:]), path[-1]
        if self.groups is not None:
            kind, name = "group", self.groups[int(path[1])][0]
            short = name
        elif path[-1] in self.update_titles:
            kind, name = "update", self.update_titles[path[-1]]
            short = name
        short = shorten(short, _LONGEST_NAME)
        return Cluster(key, kind, f"{short}{suffix}", hover=(name,))

    # ---- boxes -------------------------------------------------------------------------------

    def _key(self, node: Node) -> str:
        copy = self.copies[node] = self.copies.get(node, 0) + 1
        key = f"{self.prefix}n{self.number[node]}"
        return key if copy == 1 else f"{key}_{copy}"

    def _element(self, item: _Item, parent: Cluster) -> Element:
        """The box of an op; a frame around its sub-graphs, if it has some."""
        node = item.node
        scalars = [self.fold.scalar(value) for value in node.inputs]
        folded = [
            base
            for base, text in zip(map(self.fold.base.get, node.inputs), scalars, strict=True)
            if text is not None and base is not None
        ]
        hover = hover_lines(node, self.number, list(dict.fromkeys(folded)))
        title, key = op_title(node, scalars), self._key(node)
        inside = [(name, g) for name, value in node.attrs.items() for g in subgraphs(value)]
        if inside:
            body = Cluster(key, "body", title, hover=hover, label=short_spec(node.spec))
            parent.add(body)
            for position, (name, graph) in enumerate(inside):
                frame = Cluster(f"{key}_{position}", "scope", name)
                body.add(frame)
                inner = _Builder(graph, self.detail, None, self.heat, frame, f"{frame.key}_")
                inner.input_names = dict(zip(graph.inputs, input_names(node, graph), strict=True))
                inner.output_names = output_names(node, graph)
                inner.run()
                self.edges += inner.edges
            return body
        kind, lines, label = "op", attribute_lines(node), value_label(node, self.fold.inputs(node))
        family, weight = family_of(node), 1
        if node in self.fold.words:
            words = self.fold.words[node]
            title, lines, label = f"{' · '.join(words)} {short_spec(node.spec)}", (), ""
            kind, weight = "movement", len(words)
        elif node.op.is_projection:
            title, lines, label = f"{result_name(node)} {short_spec(node.spec)}", (), ""
            kind = "movement"
        elif scalar_text(node) is not None:
            kind, title, lines = "constant", f"{node.op.name} {scalar_text(node)}", ()
        if node.name:
            lines = (f"“{shorten(node.name, _LONGEST_NAME)}”", *lines)
        box = Box(key, kind, family, title, lines, label, hover, weight=weight, node=node)
        box.repeated = self.copies[node] > 1
        box.heat = self.heat.get(node)
        parent.add(box)
        return box

    def _leaf(self, node: Node, place: Cluster, phase: str) -> Box:
        """The box of a leaf for readers in `place`: one for each frame and phase that reads it.

        In full detail, and for inputs that the outputs need, one box serves all.
        """
        if self.detail == "full" or (node.op.name == "placeholder" and phase == _FORWARD):
            place, phase = self.root, _FORWARD
        home = place
        while self.groups is not None and home.kind == "group":
            # Kernels read buffers, which lie outside of them.
            home = home.parent or self.root
        box = self.leaves.get((node, place, phase))
        if box is None:
            box = self.leaves[node, place, phase] = self._leaf_box(node)
            home.add(box)
        return box

    def _leaf_box(self, node: Node) -> Box:
        kind = {"placeholder": "input", "variable": "variable"}.get(node.op.name, "constant")
        key = self._key(node)
        lines = [spec_text(node.spec)]
        name, part = self.input_names.get(node, (node.name, ""))
        if part:
            lines.append(part)
        if kind == "input" and node not in self.graph.users:
            lines.append("not used")
        unnamed = f"{kind} %{self.number[node]}"
        if kind == "constant":
            unnamed = f"constant {scalar_text(node) or ''}".strip()
        title = shorten(name or unnamed, _LONGEST_NAME)
        hover = hover_lines(node, self.number, ())
        return Box(
            key, kind, kind, title, tuple(lines), "", hover, self.copies[node] > 1, node=node
        )

    # ---- edges -------------------------------------------------------------------------------

    def _value(self, node: Node, reader: Cluster, path: Path) -> Element:
        """The element from which a reader takes the value of `node`."""
        node = self.fold.base[node]
        item = self._item_for(node, path)
        if item is not None and item.element is not None:
            return item.element
        return self._leaf(node, reader, path[0])

    def _connect(self, item: _Item) -> None:
        element = item.element
        assert element is not None and element.parent is not None
        for value in self.fold.inputs(item.node):
            self.edges.append(Edge(self._value(value, element.parent, item.path), element))

    def _add_outputs(self) -> None:
        single = len(self.graph.outputs) == 1
        for position, node in enumerate(self.graph.outputs):
            given = self.output_names[position] if position < len(self.output_names) else ""
            name = given or node.name or ("output" if single else f"output {position}")
            box = Box(
                f"{self.prefix}out{position}",
                "output",
                "output",
                shorten(name, _LONGEST_NAME),
                (spec_text(node.spec),),
                hover=(f"return %{self.number[node]}",),
            )
            self.root.add(box)
            self.edges.append(Edge(self._value(node, self.root, (_FORWARD,)), box))

    def _add_updates(self) -> None:
        for position, (target, value) in enumerate(self.graph.updates):
            source = self._value(value, self.root, (_UPDATE,))
            name = shorten(target.name or f"variable %{self.number[target]}", _LONGEST_NAME)
            box = Box(
                f"{self.prefix}set{position}",
                "update",
                "variable",
                f"{name} :=",
                (spec_text(target.spec),),
                hover=(
                    f"update %{self.number[target]} := %{self.number[value]}",
                    *hover_lines(target, self.number, ()),
                ),
                node=target,
            )
            place = source.parent or self.root
            if place.kind == "group":
                place = place.parent or self.root
            place.add(box)
            self.edges.append(Edge(source, box, "update"))
