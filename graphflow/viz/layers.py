"""Picture to rows: for each frame, which row an element is in and in which order (Sugiyama).

Every frame is laid out on its own, as a stack of rows in which all edges go down. An edge that
passes a row gets a slot there, so it has a lane between the boxes; an edge that crosses the border
of a frame gets a port in the first or last row. Edges that carry one value share their lanes.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from graphflow.viz.picture import Box, Cluster, Element, Picture

#: lanes per element that a frame may have before its longest edges are drawn as references
_LANES_PER_ELEMENT, _FREE_LANES = 10, 300
_SWEEPS, _SWEEPS_IF_LARGE, _LARGE = 12, 4, 2500
#: rows pairs are improved by exchanging neighbours only in frames this small
_MOST_EXCHANGED = 400

#: a value on its way: the element that makes it, and the kind of its edges
Value = tuple[Element, str]


@dataclass(eq=False)
class Slot:
    """A place in a row.

    Attributes:
        kind: "box", "cluster", "lane" (an edge passes), "in" or "out" (a port).
        up, down: links to the rows above and below.
    """

    kind: str
    row: int
    element: Element | None = None
    value: Value | None = None
    up: list[Link] = field(default_factory=list)
    down: list[Link] = field(default_factory=list)
    index: int = 0
    #: filled by `place`: reference point, and extents to the left, right and down of it
    x: float = 0.0
    y: float = 0.0
    left: float = 0.0
    right: float = 0.0
    height: float = 0.0


@dataclass(eq=False)
class Link:
    """A piece of an edge between slots of two neighbouring rows."""

    upper: Slot
    lower: Slot
    value: Value
    #: position within the slots' width as fractions, -0.5..0.5, while ordering
    upper_at: float = 0.0
    lower_at: float = 0.0


@dataclass(eq=False)
class Level:
    """The rows of one frame."""

    cluster: Cluster
    rows: list[list[Slot]] = field(default_factory=list)
    inner: dict[Cluster, Level] = field(default_factory=dict)
    ports_in: dict[Value, Slot] = field(default_factory=dict)
    ports_out: dict[Value, Slot] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    #: filled by `place`: sizes, and (top, bottom) of each row
    width: float = 0.0
    height: float = 0.0
    title_width: float = 0.0
    row_spans: list[tuple[float, float]] = field(default_factory=list)

    def walk(self) -> list[Level]:
        """This level and all below it, outer ones first."""
        found, stack = [], [self]
        while stack:
            level = stack.pop()
            found.append(level)
            stack.extend(reversed(level.inner.values()))
        return found


def layer_picture(picture: Picture) -> Level:
    """Rows and their order for each frame of the picture."""
    wires = _split_edges(picture)
    levels: dict[Cluster, Level] = {}
    for cluster in reversed([picture.root, *picture.root.clusters()]):
        inner = {c: levels[c] for c in cluster.children if isinstance(c, Cluster)}
        levels[cluster] = _LevelBuilder(cluster, wires.get(cluster, {}), inner).build()
    return levels[picture.root]


# ---- edges, a piece for each frame -----------------------------------------------------------

#: an end of a piece: ("child", element), ("in", value) or ("out", value)
_End = tuple[str, object]
_Wires = dict[tuple[_End, Value], dict[_End, None]]


def _split_edges(picture: Picture) -> dict[Cluster, _Wires]:
    """For each frame its pieces: (end above, value) -> the ends below."""
    wires: dict[Cluster, _Wires] = {}

    def add(cluster: Cluster, above: _End, value: Value, below: _End | None) -> None:
        ends = wires.setdefault(cluster, {}).setdefault((above, value), {})
        if below is not None:
            ends[below] = None

    for edge in picture.edges:
        value: Value = (edge.source, edge.kind)
        out, into = picture.ancestors(edge.source), picture.ancestors(edge.target)
        common = 0
        while common < min(len(out), len(into)) and out[common] is into[common]:
            common += 1
        sources = [*out[common:], edge.source]
        targets = [*into[common:], edge.target]
        add(out[common - 1], ("child", sources[0]), value, ("child", targets[0]))
        for cluster, child in pairwise(sources):
            add(cluster, ("child", child), value, ("out", value))  # type: ignore[arg-type]
        for cluster, child in pairwise(targets):
            add(cluster, ("in", value), value, ("child", child))  # type: ignore[arg-type]
        # The frame of a control-flow op is itself an end: the edge stops at its border.
        if isinstance(edge.target, Cluster):
            add(edge.target, ("in", value), value, None)
        if isinstance(edge.source, Cluster):
            add(edge.source, ("body", edge.source), value, ("out", value))
    return wires


class _LevelBuilder:
    def __init__(self, cluster: Cluster, wires: _Wires, inner: dict[Cluster, Level]):
        self.level = Level(cluster, inner=inner)
        self.cluster = cluster
        self.wires = wires
        self.first = 0 if cluster.kind == "root" else 1
        self.rank: dict[Element, int] = {}
        self.slots: dict[_End, Slot] = {}
        self.references = 0

    def build(self) -> Level:
        self._rank_children()
        last = max(self.rank.values(), default=self.first)
        below = dict.fromkeys(end for ends in self.wires.values() for end in ends)
        outs = [end for end in below if end[0] == "out"]
        self.level.rows = [[] for _ in range(last + 1 + bool(outs))]
        for element in self.cluster.children:
            kind = "box" if isinstance(element, Box) else "cluster"
            self.slots["child", element] = Slot(kind, self.rank[element], element)
        for end, value in self.wires:
            if end[0] == "in" and end not in self.slots:
                self.slots[end] = self.level.ports_in[value] = Slot("in", 0, value=value)
        for end in outs:
            slot = Slot("out", last + 1, value=end[1])  # type: ignore[arg-type]
            self.slots[end] = self.level.ports_out[end[1]] = slot  # type: ignore[index]
        for slot in self.slots.values():
            self.level.rows[slot.row].append(slot)
        self._make_links()
        self._attach_ports()
        order_rows(self.level)
        return self.level

    # ---- rows of the elements ----------------------------------------------------------------

    def _rank_children(self) -> None:
        """Longest path from the top; then elements move down to where their edges are shorter."""
        above: dict[Element, dict[Element, None]] = {c: {} for c in self.cluster.children}
        below: dict[Element, dict[Element, None]] = {c: {} for c in self.cluster.children}
        arriving = dict.fromkeys(self.cluster.children, 0)
        leaving = dict.fromkeys(self.cluster.children, 0)
        reaches_end: dict[Element, None] = {}
        for (end, _), targets in self.wires.items():
            if end[0] == "child":
                leaving[end[1]] += 1  # type: ignore[index]
            for target in targets:
                if target[0] == "child":
                    arriving[target[1]] += 1  # type: ignore[index]
                if end[0] == target[0] == "child":
                    above[target[1]][end[1]] = None  # type: ignore[index]
                    below[end[1]][target[1]] = None  # type: ignore[index]
                elif end[0] == "child":
                    reaches_end[end[1]] = None  # type: ignore[index]
        order = _sorted_from_top(self.cluster.children, above, below)
        for element in order:
            self.rank[element] = max((self.rank[a] + 1 for a in above[element]), default=self.first)
        last = max(self.rank.values(), default=self.first)
        for element in reversed(order):
            limits = [self.rank[b] - 1 for b in below[element]]
            if element in reaches_end:
                limits.append(last)
            if limits and leaving[element] > arriving[element]:
                self.rank[element] = min(limits)

    # ---- links and lanes ---------------------------------------------------------------------

    def _make_links(self) -> None:
        reach = self._longest_drawn_edge()
        for (end, value), targets in list(self.wires.items()):
            if end[0] == "body":
                continue
            start = self.slots[end]
            near: list[Slot] = []
            far: list[Slot] = []
            for slot in sorted((self.slots[t] for t in targets), key=lambda s: s.row):
                (near if slot.row - start.row <= reach else far).append(slot)
            self._link_all(start, value, near)
            while far:
                first = far[0].row
                together = [slot for slot in far if slot.row - first <= reach]
                far = far[len(together) :]
                self._link_all(self._reference(value, first - 1), value, together)

    def _longest_drawn_edge(self) -> int:
        """The span up to which edges are drawn, so that the number of lanes stays linear."""
        spans: list[int] = []
        for (end, _), targets in self.wires.items():
            if end[0] != "body" and targets:
                rows = [self.slots[target].row for target in targets]
                spans.append(max(rows) - self.slots[end].row)
        budget = _LANES_PER_ELEMENT * len(self.slots) + _FREE_LANES
        reach = max(spans, default=0)
        while reach > 2 and sum(span - 1 for span in spans if 1 < span <= reach) > budget:
            reach = max(2, reach * 2 // 3)
        return reach

    def _reference(self, value: Value, row: int) -> Slot:
        """A small box that stands for a value drawn far above."""
        source = value[0]
        self.references += 1
        key = f"{source.key}_ref{self.cluster.key}_{self.references}"
        family = source.family if isinstance(source, Box) else "control"
        hover = (f"drawn above as {source.title}", *source.hover)
        of = source if isinstance(source, Box) else None
        box = Box(key, "reference", family, f"↑ {source.title}", hover=hover, of=of)
        self.cluster.add(box)
        slot = Slot("box", row, box)
        self.level.rows[row].append(slot)
        return slot

    def _link_all(self, start: Slot, value: Value, targets: Sequence[Slot]) -> None:
        """Links from `start` to targets sorted by row, over lanes in the rows between."""
        at = start
        for target in targets:
            while at.row < target.row - 1:
                lane = Slot("lane", at.row + 1, value=value)
                self.level.rows[lane.row].append(lane)
                self._link(at, lane, value)
                at = lane
            self._link(at, target, value)

    def _link(self, upper: Slot, lower: Slot, value: Value) -> None:
        link = Link(upper, lower, value)
        upper.down.append(link)
        lower.up.append(link)
        self.level.links.append(link)

    def _attach_ports(self) -> None:
        """Where along an inner frame its links arrive and leave, from the order of its ports."""
        for link in self.level.links:
            if link.upper.kind == "cluster":
                inner = self.level.inner[link.upper.element]  # type: ignore[index]
                link.upper_at = _fraction(inner.rows[-1], inner.ports_out.get(link.value))
            if link.lower.kind == "cluster":
                inner = self.level.inner[link.lower.element]  # type: ignore[index]
                link.lower_at = _fraction(inner.rows[0], inner.ports_in.get(link.value))


def _fraction(row: Sequence[Slot], slot: Slot | None) -> float:
    return 0.0 if slot is None else (slot.index + 1) / (len(row) + 1) - 0.5


def _sorted_from_top(
    elements: Sequence[Element],
    above: dict[Element, dict[Element, None]],
    below: dict[Element, dict[Element, None]],
) -> list[Element]:
    waiting = {element: len(above[element]) for element in elements}
    order = [element for element in elements if not waiting[element]]
    for element in order:
        for reader in below[element]:
            waiting[reader] -= 1
            if not waiting[reader]:
                order.append(reader)
    assert len(order) == len(elements), "frames are runs of a topological order: no cycle"
    return order


# ---- order inside the rows -------------------------------------------------------------------


def order_rows(level: Level) -> None:
    """Permute the slots of each row so that few links cross (barycentre sweeps)."""
    rows = level.rows
    _start_order(rows)
    count = sum(map(len, rows))
    best, best_crossings = [list(row) for row in rows], count_crossings(rows)
    for sweep in range(_SWEEPS if count <= _LARGE else _SWEEPS_IF_LARGE):
        if not best_crossings:
            break
        if sweep % 2 == 0:
            for row in rows[1:]:
                _sort_row(row, upwards=True)
        else:
            for row in reversed(rows[:-1]):
                _sort_row(row, upwards=False)
        crossings = count_crossings(rows)
        if crossings < best_crossings:
            best, best_crossings = [list(row) for row in rows], crossings
    for row, ordered in zip(rows, best, strict=True):
        row[:] = ordered
        _number(row)
    if best_crossings and count <= _MOST_EXCHANGED:
        _exchange_neighbours(rows)


def _number(row: Sequence[Slot]) -> None:
    for index, slot in enumerate(row):
        slot.index = index


def _start_order(rows: list[list[Slot]]) -> None:
    """Depth first from the results upwards, operands from left to right."""
    seen: set[Slot] = set()
    ordered: list[list[Slot]] = [[] for _ in rows]
    for row in reversed(rows):
        for root in row:
            stack = [root]
            while stack:
                slot = stack.pop()
                if slot not in seen:
                    seen.add(slot)
                    ordered[slot.row].append(slot)
                    stack.extend(link.upper for link in reversed(slot.up))
    for row, slots in zip(rows, ordered, strict=True):
        row[:] = slots
        _number(row)


def _sort_row(row: list[Slot], upwards: bool) -> None:
    keys = {}
    for slot in row:
        links = slot.up if upwards else slot.down
        if upwards:
            places = [link.upper.index + link.upper_at - link.lower_at for link in links]
        else:
            places = [link.lower.index + link.lower_at - link.upper_at for link in links]
        keys[slot] = sum(places) / len(places) if places else float(slot.index)
    row.sort(key=keys.__getitem__)
    _number(row)


def _ends(row: Sequence[Slot]) -> list[tuple[float, float]]:
    """The links below a row as pairs of positions, from left to right."""
    return sorted(
        (link.upper.index + link.upper_at, link.lower.index + link.lower_at)
        for slot in row
        for link in slot.down
    )


def count_crossings(rows: Sequence[Sequence[Slot]]) -> int:
    """Pairs of links that cross, over all gaps between rows."""
    total = 0
    for row in rows:
        total += _inversions([lower for _, lower in _ends(row)])
    return total


def _inversions(sequence: Sequence[float]) -> int:
    total = 0
    seen: list[float] = []
    for value in sequence:
        total += len(seen) - bisect_right(seen, value)
        insort(seen, value)
    return total


def _exchange_neighbours(rows: Sequence[list[Slot]]) -> None:
    """Swap neighbours while that removes crossings; at most a few rounds."""
    for _ in range(4):
        improved = False
        for row in rows:
            for index in range(len(row) - 1):
                left, right = row[index], row[index + 1]
                if _pair_crossings(left, right) > _pair_crossings(right, left):
                    row[index], row[index + 1] = right, left
                    left.index, right.index = index + 1, index
                    improved = True
        if not improved:
            return


def _pair_crossings(left: Slot, right: Slot) -> int:
    """Crossings between the links of two neighbours if `left` stands left of `right`."""
    total = 0
    for a in left.up:
        for b in right.up:
            total += a.upper.index + a.upper_at > b.upper.index + b.upper_at
    for a in left.down:
        for b in right.down:
            total += a.lower.index + a.lower_at > b.lower.index + b.lower_at
    return total
