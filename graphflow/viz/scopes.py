"""An order of nodes in which each name scope is one run, or as few runs as the edges allow.

A scope can be drawn as one frame only if no path leaves it and comes back. The nodes of one scope
are therefore cut into runs of a topological order: a frame is a run, so the frames cannot form a
cycle at any depth.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence

Path = tuple[str, ...]


def contiguous_order(inputs: Sequence[Sequence[int]], paths: Sequence[Path]) -> list[int]:
    """Topological order of items 0..n-1 that stays inside a scope while it can.

    Args:
        inputs: for each item the items that it reads, all of them smaller than its own number.
        paths: for each item the names of the scopes around it, outermost first.

    Returns:
        The items, inputs before readers.
    """
    return _ReverseWalk(inputs, paths).run()[::-1]


class _ReverseWalk:
    """Places items from the results backwards, so what only one reader needs comes just before it.

    `ready[path]` is a heap of the items at or below a path whose readers are all placed.
    `blockers[path]` counts edges that lead from unplaced items below the path to unplaced items
    elsewhere: entering a scope without blockers means leaving it once.
    """

    def __init__(self, inputs: Sequence[Sequence[int]], paths: Sequence[Path]):
        self.inputs = [list(dict.fromkeys(values)) for values in inputs]
        self.paths = paths
        self.waiting = [0] * len(inputs)
        self.placed = [False] * len(inputs)
        self.ready: dict[Path, list[int]] = defaultdict(list)
        self.direct: dict[Path, list[int]] = defaultdict(list)
        self.open_children: dict[Path, dict[Path, None]] = defaultdict(dict)
        self.blockers: dict[Path, int] = defaultdict(int)
        for item, values in enumerate(self.inputs):
            for value in values:
                self.waiting[value] += 1
                for path in self._left_by(value, item):
                    self.blockers[path] += 1

    def _left_by(self, value: int, reader: int) -> list[Path]:
        """The scopes that the edge from `value` to `reader` leaves."""
        path, other = self.paths[value], self.paths[reader]
        return [path[:depth] for depth in range(1, len(path) + 1) if path[:depth] != other[:depth]]

    def run(self) -> list[int]:
        for item in range(len(self.inputs)):
            if not self.waiting[item]:
                self._make_ready(item)
        order: list[int] = []
        current: Path = ()
        while len(order) < len(self.inputs):
            while current and self._newest(self.ready[current]) is None:
                current = current[:-1]
            item = self._choose(current)
            order.append(item)
            self._place(item)
            current = self.paths[item]
        return order

    def _make_ready(self, item: int) -> None:
        path = self.paths[item]
        heapq.heappush(self.direct[path], -item)
        for depth in range(len(path) + 1):
            heapq.heappush(self.ready[path[:depth]], -item)
            if depth:
                self.open_children[path[: depth - 1]][path[:depth]] = None

    def _place(self, item: int) -> None:
        self.placed[item] = True
        for value in self.inputs[item]:
            self.waiting[value] -= 1
            for path in self._left_by(value, item):
                self.blockers[path] -= 1
            if not self.waiting[value]:
                self._make_ready(value)

    def _newest(self, heap: list[int]) -> int | None:
        """The last unplaced item of a heap, or None."""
        while heap and self.placed[-heap[0]]:
            heapq.heappop(heap)
        return -heap[0] if heap else None

    def _choose(self, path: Path) -> int:
        """A ready item at or below `path`, out of the scope with the fewest blockers."""
        while True:
            best: tuple[int, int, Path | None] | None = None
            item = self._newest(self.direct[path])
            if item is not None:
                best = (0, -item, None)
            for child in list(self.open_children[path]):
                newest = self._newest(self.ready[child])
                if newest is None:
                    del self.open_children[path][child]
                    continue
                key = (self.blockers[child], -newest)
                if best is None or key < best[:2]:
                    best = (*key, child)
            assert best is not None, "a path is entered only while it has a ready item"
            if best[2] is None:
                return -best[1]
            path = best[2]
