"""Measurements of one workload on every side, and the ratios that follow from them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from benchmarks.workload import OURS


@dataclass
class Cell:
    """One side of one workload: seconds of each round, or why there are none."""

    seconds: list[float] = field(default_factory=list)
    problem: str = ""
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds) if self.seconds else math.nan

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, over the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


@dataclass
class Row:
    """One workload.

    Attributes:
        cells: by side, in the order of the columns.
        flops, moved: work of one call; 0 where there is no such figure.
        roof: seconds that the probe's rates allow for it, or 0.
        limit: wanted seconds, where the target is no ratio.
        foreign: share of the cores that other processes took while this was timed.
        took: seconds of building, comparing and timing it.
    """

    name: str
    cells: dict[str, Cell] = field(default_factory=dict)
    target: float | None = None
    limit: float | None = None
    flops: float = 0.0
    moved: float = 0.0
    roof: float = 0.0
    roof_name: str = ""
    not_run: str = ""
    foreign: float = 0.0
    took: float = 0.0

    @property
    def ours(self) -> Cell:
        return self.cells.get(OURS, Cell())

    @property
    def best_peer(self) -> str:
        """Name of the fastest peer that was timed, or ""."""
        timed = [n for n, cell in self.cells.items() if n != OURS and cell.seconds]
        return min(timed, key=lambda name: self.cells[name].median, default="")

    @property
    def ratio(self) -> float:
        """Our median over that of the best peer; NaN where one of them is missing."""
        best = self.best_peer
        return self.ours.median / self.cells[best].median if best else math.nan

    @property
    def ratio_range(self) -> tuple[float, float]:
        """Quartiles of the ratios of rounds that ran next to each other; NaN with fewer than 2."""
        best = self.best_peer
        if not best or min(len(self.ours.seconds), len(self.cells[best].seconds)) < 2:
            return math.nan, math.nan
        # A side that takes long at its first call has fewer of them.
        pairs = zip(self.ours.seconds, self.cells[best].seconds, strict=False)
        low, _, high = statistics.quantiles([a / b for a, b in pairs], n=4, method="inclusive")
        return low, high

    @property
    def verdict(self) -> str:
        """ "met", "missed", or why there is none."""
        if self.not_run:
            return "not run"
        if self.target is None and self.limit is None:
            return ""
        if not self.ours.seconds:
            return "missed"
        if self.limit is not None and self.ours.median > self.limit:
            return "missed"
        if self.target is not None:
            if not self.best_peer:
                return "no peer"
            return "met" if self.ratio <= self.target else "missed"
        return "met"


def geometric_mean(rows: list[Row]) -> float:
    """Of the ratios that exist."""
    ratios = [row.ratio for row in rows if not math.isnan(row.ratio)]
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
