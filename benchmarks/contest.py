"""Runs one workload on every side: build, compare outputs, then rounds in turns."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.crew import Side, SideError
from benchmarks.machine import DISTURBED, Bystanders
from benchmarks.results import Cell, Row
from benchmarks.workload import OURS, FirstCall, Unsupported, WarmProcess, Workload


@dataclass(frozen=True)
class Pace:
    """How long everything may take.

    Attributes:
        rounds: rounds of each side.
        round_seconds: length of a round, where a call is not longer.
        warm_seconds: running before the first round.
        build_limit: seconds for building one workload on one side.
        process_rounds: repetitions of what needs a new process each time.
        patience: seconds to wait, before a workload, for others to leave the machine.
        deadline: moment of `time.monotonic()` after which nothing is waited for.
    """

    rounds: int = 9
    round_seconds: float = 0.1
    warm_seconds: float = 0.3
    build_limit: float = 180.0
    process_rounds: int = 3
    patience: float = 0.0
    deadline: float = math.inf

    @property
    def limit(self) -> float:
        """Seconds that an answer may take."""
        return min(self.build_limit, max(1.0, self.deadline - time.monotonic()))


QUICK = Pace(rounds=3, round_seconds=0.02, warm_seconds=0.05, build_limit=25.0, process_rounds=1)

# Seconds of first calls after which a side gets no further one.
LONG_START = 10.0


def difference(got: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Largest difference over the largest magnitude expected; infinite for other shapes or NaN."""
    worst = 0.0
    if len(got) != len(expected):
        return float("inf")
    for a, b in zip(got, expected, strict=True):
        if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
            return float("inf")
        if b.size:
            scale = max(float(np.abs(b).max()), 1e-30)
            worst = max(worst, float(np.abs(a.astype("f8") - b).max()) / scale)
    return worst


def compare(outputs: Mapping[str, list[np.ndarray]], tolerance: float) -> dict[str, str]:
    """What is wrong, by side: a peer that contradicts ours, or ours, if all peers do.

    >>> one, two = [np.ones(2)], [np.full(2, 2.0)]
    >>> compare({"graphflow": one, "A": one, "B": two}, 1e-3)
    {'B': 'differs from graphflow by 0.5 of the largest value'}
    """
    if OURS not in outputs:
        return {}
    apart = {
        name: difference(outputs[OURS], values) for name, values in outputs.items() if name != OURS
    }
    wrong = {name: d for name, d in apart.items() if not d <= tolerance}
    if apart and len(wrong) == len(apart):
        worst = ", ".join(f"{name} by {d:.2g}" for name, d in wrong.items())
        return {OURS: f"WRONG: differs from {worst} of the largest value"}
    return {
        name: f"differs from {OURS} by {d:.2g} of the largest value" for name, d in wrong.items()
    }


def _is_enough(shares: list[float], rounds: int) -> bool:
    """As many calm rounds as wanted, or three times as many in all."""
    calm = sum(share <= DISTURBED for share in shares)
    return calm >= rounds or len(shares) >= 3 * rounds


def calmest(shares: list[float], rounds: int) -> tuple[list[int], float]:
    """The rounds in which others took least, and the most that they took in one of these.

    The choice knows nothing of what was measured, so it favours no side.

    >>> calmest([0.5, 0.0, 0.1], 2)
    ([1, 2], 0.1)
    """
    order = sorted(range(len(shares)), key=lambda k: shares[k])[:rounds]
    return sorted(order), max((shares[k] for k in order), default=0.0)


class Contest:
    """The sides that take part, and the pace."""

    def __init__(
        self,
        sides: list[Side],
        missing: Mapping[str, str],
        pace: Pace,
        environment: Mapping[str, str],
        cores: list[int],
        say: Callable[[str], None] = lambda text: None,
    ):
        self.sides, self.missing, self.pace, self.say = sides, missing, pace, say
        self.environment, self.cores = environment, cores

    def row(self, workload: Workload) -> Row:
        """Measure one workload."""
        begin = time.perf_counter()
        row = Row(workload.name, target=workload.target)
        row.flops, row.moved = workload.work()
        taking_part = []
        for side in self.sides:
            if not side.peer.takes_part(workload):
                continue
            row.cells[side.name] = cell = Cell(problem=self.missing.get(side.name, ""))
            if not cell.problem:
                taking_part.append(side)
        if isinstance(workload, WarmProcess):
            row.limit = workload.limit
            self._processes(workload, taking_part, row)
        elif isinstance(workload, FirstCall):
            self._first_calls(workload, taking_part, row)
        else:
            self._rounds(workload, self._checked(workload, taking_part, row), row)
        row.took = time.perf_counter() - begin
        return row

    def _try(self, row: Row, side: Side, action: Callable[[Side], None]) -> bool:
        """False if the side failed; the reason is in its cell then, and its times are gone."""
        cell = row.cells[side.name]
        try:
            action(side)
        except (Unsupported, SideError) as error:
            cell.seconds.clear()
            cell.problem = " ".join(str(error).split())[:300]
            return False
        return True

    def _checked(self, workload: Workload, sides: list[Side], row: Row) -> list[Side]:
        """The sides that built it and whose outputs agree."""
        outputs = {}

        def build(side: Side) -> None:
            facts = side.ask(self.pace.limit, "build", workload.name)
            row.cells[side.name].facts = facts
            outputs[side.name] = side.ask(self.pace.limit, "outputs")

        for side in sides:
            self.say(f"{workload.name}: {side.name}")
            self._try(row, side, build)
        for name, problem in compare(outputs, workload.tolerance).items():
            row.cells[name].problem = problem
        return [side for side in sides if not row.cells[side.name].problem]

    def _rounds(self, workload: Workload, sides: list[Side], row: Row) -> None:
        pace, longest = self.pace, workload.longest_round
        calls = {}

        def warm(side: Side) -> None:
            one = side.ask(pace.limit, "warm", pace.warm_seconds, longest)
            calls[side.name] = max(1, min(longest, round(pace.round_seconds / max(one, 1e-7))))

        def measure(side: Side) -> None:
            seconds = side.ask(pace.limit, "measure", calls[side.name])
            row.cells[side.name].seconds.append(seconds)

        sides = [s for s in sides if self._try(row, s, warm)]
        others = Bystanders(self.cores)
        others.wait(DISTURBED, pace.patience)
        shares: list[float] = []
        while sides and not _is_enough(shares, pace.rounds):
            others.share()
            for side in list(sides):
                if not self._try(row, side, measure):
                    sides.remove(side)
            # Another side goes first in the next round.
            sides = sides[1:] + sides[:1]
            shares.append(others.share())
        kept, row.foreign = calmest(shares, pace.rounds)
        for side in sides:
            cell = row.cells[side.name]
            cell.seconds = [cell.seconds[k] for k in kept]
            side.ask(pace.limit, "drop")

    def _first_calls(self, workload: FirstCall, sides: list[Side], row: Row) -> None:
        for _ in range(self.pace.process_rounds):
            for side in sides:
                # What takes long is measured once.
                cell = row.cells[side.name]
                if cell.problem or sum(cell.seconds) > LONG_START:
                    continue
                self.say(f"{workload.name}: {side.name}")
                with tempfile.TemporaryDirectory() as folder:
                    caches = {n: v.format(folder=folder) for n, v in side.peer.caches.items()}
                    fresh = Side(side.peer, self.environment, side.python, caches)
                    self._try(row, fresh, partial(self._first_call, workload.of, row))
                    fresh.stop()

    def _first_call(self, name: str, row: Row, fresh: Side) -> None:
        cell = row.cells[fresh.name]
        facts = fresh.ask(self.pace.limit, "build", name)
        cell.seconds.append(facts["seconds"])
        cell.facts["peak process bytes"] = fresh.ask(self.pace.limit, "peak_memory")

    def _processes(self, workload: WarmProcess, sides: list[Side], row: Row) -> None:
        with tempfile.TemporaryDirectory() as folder:
            commands: dict[str, list[str]] = {}

            def save(side: Side) -> None:
                place = os.path.join(folder, str(len(commands)))
                os.mkdir(place)
                commands[side.name] = side.ask(self.pace.limit, "process", workload.of, place)

            def run(side: Side) -> None:
                begin = time.perf_counter()
                done = subprocess.run(
                    commands[side.name],
                    env=side.environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode:
                    raise SideError(f"the process failed: {done.stderr.strip()[-200:]}")
                row.cells[side.name].seconds.append(time.perf_counter() - begin)

            sides = [s for s in sides if self._try(row, s, save)]
            # The first one reads the files from the disk, and is not kept.
            for number in range(2 * self.pace.process_rounds + 1):
                sides = [s for s in sides if self._try(row, s, run)]
                if number == 0:
                    for side in sides:
                        row.cells[side.name].seconds.clear()
