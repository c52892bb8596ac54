"""Time stamps of launches in, a table or a Chrome trace out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from graphflow.compiler.program import Launch, Program


@dataclass(frozen=True, slots=True)
class LaunchRecord:
    """Time of one launch: mean seconds a call, its share of all launches, its last begin and end.

    One that did not run (results of weights that are still right, a branch not taken) has 0 calls.

    `nodes` are (op, user's line) pairs.
    """

    label: str
    calls: int
    seconds: float
    share: float
    begin: float
    end: float
    nodes: tuple[tuple[str, str], ...]


def records_from(
    launches: Sequence[Launch], table: np.ndarray, seconds: float, program: Program
) -> list[LaunchRecord]:
    """Records from the driver's counts.

    Args:
        table: per launch: calls, sum of cycles, cycles at the last begin and end.
        seconds: wall time of all runs; cycles are scaled so that they fill it at most.
    """
    rows = table[: len(launches)].astype(np.float64)
    cycles = rows[:, 1].sum()
    scale = seconds / cycles if cycles else 0.0
    origin = rows[rows[:, 0] > 0, 2].min(initial=np.inf)
    records = []
    for launch, (calls, total, begin, end) in zip(launches, rows, strict=True):
        notes = tuple((program.notes[n].name, program.notes[n].source) for n in launch.nodes)
        mean = total * scale / calls if calls else 0.0
        share = total / cycles if cycles else 0.0
        first, last = ((t - origin) * scale if calls else 0.0 for t in (begin, end))
        records.append(LaunchRecord(launch.label, int(calls), mean, share, first, last, notes))
    return records


def chrome_trace(records: Sequence[LaunchRecord], path: str) -> None:
    """Write the last run for chrome://tracing or Perfetto."""
    events = [
        {
            "name": record.label,
            "ph": "X",
            "pid": 0,
            "tid": 0,
            "ts": record.begin * 1e6,
            "dur": (record.end - record.begin) * 1e6,
            "args": asdict(record),
        }
        for record in records
    ]
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, file)
