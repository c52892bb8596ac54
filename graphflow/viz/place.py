"""Rows to coordinates: where each slot lies, how wide the frames are, and the curves of edges.

Horizontal positions: neighbours in different rows that should stand exactly below each other are
joined into blocks; rows are then relaxed towards their neighbours, each row solved exactly under
its order and distances; then every block moves as one; at last edges that pass many rows lose the
bends that they do not need. `layout.js` does the same in the browser
when a frame is opened or closed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from graphflow.viz.layers import Level, Link, Slot
from graphflow.viz.measure import (
    FRAME_TITLE_HEIGHT,
    TITLE_SIZE,
    box_size,
    frame_title,
    label_width,
    text_width,
)
from graphflow.viz.picture import Box

#: least distance between neighbours by kind: boxes, next to a lane, between lanes
BETWEEN_BOXES, BESIDE_LANE, BETWEEN_LANES = 20.0, 12.0, 10.0
FRAME_PADDING = 14.0
ROW_GAP, BORDER_GAP, LABEL_HEIGHT = 22.0, 10.0, 15.0
#: a gap grows by this share of the longest sideways way in it, up to a limit
GAP_PER_WAY, MOST_GAP = 0.10, 44.0
ROUNDS = 8
#: straight links may widen a drawing by this factor; beyond it a link is made straight only if
#: that moves its ends by at most so much
MOST_WIDENED, MOST_BEND, MOST_PUSH = 1.5, 120.0, 80.0
LEAVES = ("input", "variable", "constant", "reference")
#: distance between edges that arrive side by side
ARRIVAL = 14.0
ARROW = 6.0


def place(level: Level) -> None:
    """Set x, y and the extents of every slot, and the sizes of all frames."""
    for inner in reversed(level.walk()):
        _place_one(inner)


def _place_one(level: Level) -> None:
    for row in level.rows:
        for slot in row:
            _measure(slot, level)
    aligned = _aligned_links(level)
    _relax(level, aligned)
    _move_blocks(level, aligned)
    _straighten_lanes(level)
    slots = [slot for row in level.rows for slot in row]
    low = min((slot.x - slot.left for slot in slots), default=0.0)
    if level.cluster.kind != "root":
        # The title stands in the corner, left of all ports, so that no edge runs through it.
        width = text_width(frame_title(level.cluster), TITLE_SIZE - 1, bold=True)
        ports = [slot.x for slot in level.rows[0]]
        low = min([low, *(x - width - BESIDE_LANE for x in ports)])
        level.title_width = width
    for slot in slots:
        slot.x += FRAME_PADDING - low
    right = max((slot.x + slot.right for slot in slots), default=0.0)
    level.width = max(right, FRAME_PADDING + level.title_width) + FRAME_PADDING
    _place_rows(level)


def _measure(slot: Slot, level: Level) -> None:
    if slot.kind == "box":
        assert isinstance(slot.element, Box)
        width, slot.height = box_size(slot.element)
        slot.left = width / 2
        slot.right = max(width / 2, label_width(slot.element.label) if has_label(slot) else 0)
    elif slot.kind == "cluster":
        inner = level.inner[slot.element]  # type: ignore[index]
        slot.left = slot.right = inner.width / 2
        slot.height = inner.height


def _distance(left: Slot, right: Slot) -> float:
    """The least distance between the reference points of two neighbours."""
    thin = [slot.kind in ("lane", "in", "out") for slot in (left, right)]
    gap = BETWEEN_LANES if all(thin) else BESIDE_LANE if any(thin) else BETWEEN_BOXES
    return left.right + gap + right.left


def leaves_at(link: Link, level: Level) -> float:
    """Where a link begins, from the reference point of its upper slot."""
    return _port_offset(link.upper, level, link, out=True)


def arrives_at(link: Link, level: Level) -> float:
    """Where a link ends, from the reference point of its lower slot."""
    return _port_offset(link.lower, level, link, out=False)


def _port_offset(slot: Slot, level: Level, link: Link, out: bool) -> float:
    if slot.kind != "cluster":
        return 0.0
    inner = level.inner[slot.element]  # type: ignore[index]
    port = (inner.ports_out if out else inner.ports_in)[link.value]
    return port.x - inner.width / 2


# ---- blocks ----------------------------------------------------------------------------------


def _strength(link: Link) -> float:
    """How much a link wants to be straight: long edges most, the edges of leaves least."""
    ends = (link.upper, link.lower)
    lanes = sum(slot.kind == "lane" for slot in ends)
    if lanes == 2:
        return 8.0
    if any(slot.kind in ("in", "out") for slot in ends):
        return 3.0
    upper = link.upper.element
    if isinstance(upper, Box) and upper.kind in LEAVES:
        return 1.0
    return 2.0 if lanes else 2.5


def _off_centre(link: Link) -> float:
    """How far the link is from the middle of the links of its ends."""
    up = sorted(link.lower.up, key=lambda other: other.upper.index)
    down = sorted(link.upper.down, key=lambda other: other.lower.index)
    return abs(up.index(link) - (len(up) - 1) / 2) + abs(down.index(link) - (len(down) - 1) / 2)


def _aligned_links(level: Level) -> set[Link]:
    """Links that will be exactly vertical: at most one per slot and side, none crossing."""
    aligned: set[Link] = set()
    for row in level.rows:
        links = [link for slot in row for link in slot.down]
        links.sort(key=lambda link: (-_strength(link), _off_centre(link), link.upper.index))
        uppers: list[int] = []
        lowers: list[int] = []
        for link in links:
            upper, lower = link.upper.index, link.lower.index
            at = bisect_left(uppers, upper)
            taken = at < len(uppers) and uppers[at] == upper
            if taken or at != bisect_left(lowers, lower) or lower in lowers[at : at + 1]:
                continue
            uppers.insert(at, upper)
            lowers.insert(at, lower)
            aligned.add(link)
    return aligned


class _Blocks:
    """Slots that share one position, up to a fixed shift, because aligned links join them."""

    def __init__(self, level: Level, aligned: set[Link]):
        self.block_of: dict[Slot, int] = {}
        self.shift: dict[Slot, float] = {}
        self.members: list[list[Slot]] = []
        for row in level.rows:
            for slot in row:
                link = next((link for link in slot.up if link in aligned), None)
                if link is None:
                    self.block_of[slot], self.shift[slot] = len(self.members), 0.0
                    self.members.append([])
                else:
                    start = leaves_at(link, level) - arrives_at(link, level)
                    self.block_of[slot] = self.block_of[link.upper]
                    self.shift[slot] = self.shift[link.upper] + start
                self.members[self.block_of[slot]].append(slot)
        self.pulls: list[list[tuple[int, float, float]]] = [[] for _ in self.members]
        for link in level.links:
            upper, lower = self.block_of[link.upper], self.block_of[link.lower]
            if upper != lower:
                way = self.shift[link.upper] + leaves_at(link, level)
                way -= self.shift[link.lower] + arrives_at(link, level)
                weight = _strength(link)
                self.pulls[lower].append((upper, way, weight))
                self.pulls[upper].append((lower, -way, weight))
        self._find_order(level)

    def _find_order(self, level: Level) -> None:
        """Distances between blocks that are neighbours somewhere, and an order from the left."""
        self.right_of: list[dict[int, float]] = [{} for _ in self.members]
        waiting = [0] * len(self.members)
        for row in level.rows:
            for a, b in pairwise(row):
                first, second = self.block_of[a], self.block_of[b]
                apart = self.shift[a] + _distance(a, b) - self.shift[b]
                waiting[second] += second not in self.right_of[first]
                self.right_of[first][second] = max(apart, self.right_of[first].get(second, apart))
        self.order = [block for block, count in enumerate(waiting) if not count]
        for block in self.order:
            for other in self.right_of[block]:
                waiting[other] -= 1
                if not waiting[other]:
                    self.order.append(other)

    def wanted(self) -> list[float]:
        """The mean of the positions of the slots of each block."""
        return [sum(s.x - self.shift[s] for s in group) / len(group) for group in self.members]

    def separate(self, wanted: Sequence[float]) -> list[float]:
        """Positions near the wanted ones that keep all distances.

        Pushing everything rightwards keeps them, pushing leftwards too, and so does the mean.
        """
        right, left = list(wanted), list(wanted)
        for block in self.order:
            for other, apart in self.right_of[block].items():
                right[other] = max(right[other], right[block] + apart)
        for block in reversed(self.order):
            for other, apart in self.right_of[block].items():
                left[block] = min(left[block], left[other] - apart)
        return [(a + b) / 2 for a, b in zip(right, left, strict=True)]

    def improve(self, x: list[float]) -> list[float]:
        """Move blocks towards what they are linked to, one after the other, as far as free."""
        left_of: list[dict[int, float]] = [{} for _ in self.members]
        for block, others in enumerate(self.right_of):
            for other, apart in others.items():
                left_of[other][block] = apart
        for round_number in range(ROUNDS):
            order = self.order if round_number % 2 else reversed(self.order)
            for block in order:
                if not self.pulls[block]:
                    continue
                total = sum(weight for _, _, weight in self.pulls[block])
                goal = sum((x[o] + way) * weight for o, way, weight in self.pulls[block]) / total
                right_of = self.right_of[block].items()
                low = max((x[o] + apart for o, apart in left_of[block].items()), default=-inf)
                high = min((x[o] - apart for o, apart in right_of), default=inf)
                x[block] = min(max(goal, low), max(low, high))
        return x


def _move_blocks(level: Level, aligned: set[Link]) -> None:
    """Give all slots of a block one position.

    Rigid blocks push each other aside, and in a dense drawing the pushes add up. Where they widen
    it too much, links far from straight, and those of blocks pushed far away, stay curved.
    """
    most = MOST_WIDENED * _extent([slot.x for row in level.rows for slot in row]) + MOST_BEND
    kept, loose = aligned, aligned
    while True:
        blocks = _Blocks(level, kept)
        wanted = blocks.wanted()
        x = blocks.separate(wanted)
        if not loose or _extent(x) <= most:
            break
        if kept is aligned:
            kept = {link for link in aligned if abs(_bend(link, level)) <= MOST_BEND}
            continue
        pushed = [abs(a - b) > MOST_PUSH for a, b in zip(x, wanted, strict=True)]
        loose = {link for link in kept if pushed[blocks.block_of[link.upper]]}
        if loose:
            kept -= _worst_half(loose, level)
    x = blocks.improve(x)
    for slot, block in blocks.block_of.items():
        slot.x = x[block] + blocks.shift[slot]


def _straighten_lanes(level: Level) -> None:
    """Let each edge that passes several rows bend as rarely as its neighbours allow."""
    for slot in (slot for row in level.rows for slot in row):
        if slot.kind != "lane" or slot.up[0].upper.kind == "lane":
            continue
        lanes: list[Slot] = []
        low, high = -inf, inf
        lane: Slot | None = slot
        while lane is not None:
            least, most = _room(lane, level.rows[lane.row])
            if lanes and max(low, least) > min(high, most):
                _stand_in_line(lanes, low, high)
                lanes, low, high = [], -inf, inf
            lanes.append(lane)
            low, high = max(low, least), min(high, most)
            lane = next((x.lower for x in lane.down if x.lower.kind == "lane"), None)
        _stand_in_line(lanes, low, high)


def _room(slot: Slot, row: Sequence[Slot]) -> tuple[float, float]:
    """Between which positions a slot can move while its neighbours stay."""
    low, high = -inf, inf
    if slot.index:
        left = row[slot.index - 1]
        low = left.x + _distance(left, slot)
    if slot.index + 1 < len(row):
        right = row[slot.index + 1]
        high = right.x - _distance(slot, right)
    return low, high


def _stand_in_line(lanes: Sequence[Slot], low: float, high: float) -> None:
    """Give lanes the position that most of them have, or the nearest one that is free."""
    counts: dict[float, int] = {}
    for lane in lanes:
        counts[lane.x] = counts.get(lane.x, 0) + 1
    usual = max(counts, key=counts.__getitem__)
    for lane in lanes:
        lane.x = max(low, min(high, usual))


def _extent(positions: Sequence[float]) -> float:
    return max(positions, default=0.0) - min(positions, default=0.0)


def _bend(link: Link, level: Level) -> float:
    """How far a link is from being straight."""
    upper, lower = link.upper.x + leaves_at(link, level), link.lower.x + arrives_at(link, level)
    return upper - lower


def _worst_half(links: set[Link], level: Level) -> set[Link]:
    bends = sorted(abs(_bend(link, level)) for link in links)
    limit = bends[len(bends) // 2]
    return {link for link in links if abs(_bend(link, level)) >= limit}


# ---- relaxation ------------------------------------------------------------------------------


def _relax(level: Level, aligned: set[Link]) -> None:
    """Move the slots of each row towards their neighbours in the other rows, several times."""
    for row in level.rows:
        x = 0.0
        for left, slot in zip([None, *row], row, strict=False):
            x = x + _distance(left, slot) if left is not None else 0.0
            slot.x = x
        for slot in row:
            slot.x -= x / 2
    pulls = {
        slot: (_pulls(slot.up, level, aligned, True), _pulls(slot.down, level, aligned, False))
        for row in level.rows
        for slot in row
    }
    gaps = [[_distance(a, b) for a, b in pairwise(row)] for row in level.rows]
    for round_number in range(ROUNDS):
        both = round_number >= ROUNDS // 2
        for row, gap in zip(level.rows, gaps, strict=True):
            _settle(row, gap, pulls, (True, both))
        for row, gap in zip(reversed(level.rows), reversed(gaps), strict=True):
            _settle(row, gap, pulls, (both, True))


#: (slot that pulls, offset of the pulled one from it, weight)
_Pull = tuple[Slot, float, float]


def _pulls(links: Sequence[Link], level: Level, aligned: set[Link], up: bool) -> list[_Pull]:
    result = []
    for link in links:
        weight = _strength(link) * (4.0 if link in aligned else 1.0)
        offset = leaves_at(link, level) - arrives_at(link, level)
        result.append((link.upper, offset, weight) if up else (link.lower, -offset, weight))
    return result


def _settle(
    row: Sequence[Slot],
    gaps: Sequence[float],
    pulls: dict[Slot, tuple[list[_Pull], list[_Pull]]],
    use: tuple[bool, bool],
) -> None:
    """Positions of least squared distance to the wanted ones, in order and with the gaps kept.

    Without the gaps this is isotonic regression, solved by pooling adjacent violators.
    """
    pools: list[list[float]] = []
    before = 0.0
    starts = []
    for index, slot in enumerate(row):
        before += gaps[index - 1] if index else 0.0
        starts.append(before)
        # A weak pull to the old place decides where nothing else does.
        weight, total = 0.05, 0.05 * slot.x
        for part, used in zip(pulls[slot], use, strict=True):
            if used:
                for other, offset, strength in part:
                    weight += strength
                    total += strength * (other.x + offset)
        pools.append([total - weight * before, weight, 1])
        while len(pools) > 1 and pools[-2][0] * pools[-1][1] >= pools[-1][0] * pools[-2][1]:
            last = pools.pop()
            pools[-1] = [pools[-1][0] + last[0], pools[-1][1] + last[1], pools[-1][2] + last[2]]
    index = 0
    for total, weight, count in pools:
        for _ in range(int(count)):
            row[index].x = total / weight + starts[index]
            index += 1


# ---- rows and curves -------------------------------------------------------------------------


def _place_rows(level: Level) -> None:
    """Heights of rows and of the gaps between them."""
    top = 4.0 if level.cluster.kind != "root" else FRAME_PADDING
    for number, row in enumerate(level.rows):
        height = max((slot.height for slot in row), default=0.0)
        if number == 0 and level.cluster.kind != "root":
            height = FRAME_TITLE_HEIGHT
        for slot in row:
            slot.y = top + (height - slot.height) / 2
            if has_label(slot):
                # Other edges turn only below the row, so none runs through the label.
                height = max(height, slot.y + slot.height + LABEL_HEIGHT - top)
        level.row_spans.append((top, top + height))
        if number + 1 < len(level.rows):
            top += height + _gap_below(level, row)
        else:
            last_is_port = any(slot.kind == "out" for slot in row)
            level.height = top + height + (4.0 if last_is_port else FRAME_PADDING)


def has_label(slot: Slot) -> bool:
    """Whether the shape of the value is written below the slot."""
    return bool(slot.down and slot.element is not None and slot.element.label)


def _gap_below(level: Level, row: Sequence[Slot]) -> float:
    ways = [0.0]
    for slot in row:
        for link in slot.down:
            begin = link.upper.x + leaves_at(link, level)
            ways.append(abs(begin - link.lower.x - arrives_at(link, level)))
    # Ports need no room for arrow heads.
    at_border = all(
        slot.kind == "in" or all(link.lower.kind in ("out", "lane") for link in slot.down)
        for slot in row
    )
    base = BORDER_GAP if at_border else ROW_GAP
    return base + min(MOST_GAP, GAP_PER_WAY * max(ways))


@dataclass(frozen=True)
class Wire:
    """One piece of an edge in page coordinates: straight, a curve through the gap, straight.

    Attributes:
        points: begin, end of the upper straight part, begin and end of the lower one.
        arrives: whether it ends at a box, with an arrow head.
    """

    link: Link
    points: tuple[tuple[float, float], ...]
    arrives: bool


def wires(level: Level, left: float, top: float) -> Iterator[Wire]:
    """The pieces of the edges of one level whose frame begins at (left, top)."""
    for number, row in enumerate(level.rows):
        for slot in row:
            begun: set[float] = set()
            for link in slot.down:
                x0 = left + slot.x + leaves_at(link, level)
                x1 = left + link.lower.x + arrives_at(link, level) + _spread(link, level)
                y0 = top + (0.0 if slot.kind == "in" else slot.y + slot.height)
                # Edges that leave at one place share their first part.
                if x0 in begun:
                    y0 = top + level.row_spans[number][1]
                elif slot.kind == "lane":
                    y0 = top + level.row_spans[number][0]
                begun.add(x0)
                arrives = link.lower.kind == "box" or _ends_at_border(link, level)
                y1, y2 = top + level.row_spans[number][1], top + level.row_spans[number + 1][0]
                y3 = y2 if link.lower.kind == "lane" else top + link.lower.y
                if link.lower.kind == "out":
                    y3 = top + level.height
                if arrives:
                    y3 -= ARROW
                    y2 = min(y2, y3)
                yield Wire(link, ((x0, y0), (x0, y1), (x1, y2), (x1, max(y2, y3))), arrives)


def _ends_at_border(link: Link, level: Level) -> bool:
    """Whether a link goes no further than the border of the frame that it reaches."""
    if link.lower.kind != "cluster":
        return False
    return not level.inner[link.lower.element].ports_in[link.value].down  # type: ignore[index]


def _spread(link: Link, level: Level) -> float:
    """Arriving edges stand side by side: the one from straight above in the middle."""
    lower = link.lower
    if lower.kind != "box" or len(lower.up) == 1:
        return 0.0
    ordered = sorted(lower.up, key=lambda up: up.upper.x + leaves_at(up, level))
    offsets = [up.upper.x + leaves_at(up, level) - lower.x for up in ordered]
    straight = [k for k, offset in enumerate(offsets) if abs(offset) < 1.0]
    middle = float(straight[0]) if straight else (len(ordered) - 1) / 2
    step = min(ARRIVAL, (lower.left - 9) / max(1.0, middle, len(ordered) - 1 - middle))
    return (ordered.index(link) - middle) * step
