"""Rows of results as Markdown for people and as JSON for programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import DISTURBED
from benchmarks.probe import Roof
from benchmarks.results import Cell, Row, geometric_mean
from benchmarks.workload import OURS, Group

# A ratio above it is far off, whatever the target.
FAR = 1.3


def seconds_text(seconds: float) -> str:
    """
    >>> seconds_text(12.34e-6), seconds_text(0.00123), seconds_text(2.5), seconds_text(math.nan)
    ('12.3 µs', '1.23 ms', '2.50 s', '–')
    """
    if math.isnan(seconds):
        return "–"
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * factor:
            return f"{seconds / factor:#.3g} {unit}".replace(". ", " ")
    return f"{seconds * 1e6:.2f} µs"


def ratio_text(ratio: float) -> str:
    return "–" if math.isnan(ratio) else f"{ratio:.2f}"


def _cell_text(cell: Cell | None, note: str) -> str:
    if cell is None:
        return ""
    if not cell.seconds:
        return f"– [{note}]"
    return f"{seconds_text(cell.median)} ±{100 * cell.spread:.0f} %"


def _roof_text(row: Row) -> str:
    """Achieved rate, and the share of what the probe allows."""
    if not row.roof or not row.ours.seconds:
        return "–"
    seconds = row.ours.median
    if row.roof_name == "FLOP/s":
        rate = f"{row.flops / seconds / 1e9:.3g} GFLOP/s"
    else:
        rate = f"{row.moved / seconds / 1e9:.3g} GB/s ({row.roof_name})"
    return f"{rate}, {100 * row.roof / seconds:.0f} %"


class Notes:
    """Reasons, numbered; the same text gets the same number."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def number(self, text: str) -> str:
        if text not in self.texts:
            self.texts.append(text)
        return str(self.texts.index(text) + 1)

    def markdown(self) -> list[str]:
        return [f"[{k}] {text}  " for k, text in enumerate(self.texts, 1)]


def group_table(group: Group, rows: Sequence[Row], notes: Notes) -> list[str]:
    """The lines of one group's table; what was not timed carries the number of its reason."""
    names = [name for row in rows for name in row.cells if name != OURS]
    peers = list(dict.fromkeys(names))
    head = ["workload", OURS, *peers, "ratio (quartiles)", "target", "", "roofline"]
    lines = [f"## {group.title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        short = row.name.split("/", 1)[1]
        if row.not_run:
            mark = f"not run [{notes.number(row.not_run)}]"
            lines.append(f"| {short} | {mark} |" + " |" * (len(head) - 2))
            continue
        texts = []
        for name in (OURS, *peers):
            cell = row.cells.get(name)
            note = notes.number(f"{name}: {cell.problem}") if cell and cell.problem else ""
            text = _cell_text(cell, note)
            texts.append(f"**{text}**" if name == row.best_peer else text)
        low, high = row.ratio_range
        ratio = ratio_text(row.ratio)
        if row.foreign > DISTURBED:
            short += f" (disturbed {100 * row.foreign:.0f} %)"
        if not math.isnan(low):
            ratio += f" ({low:.2f}–{high:.2f})"
        target = ratio_text(math.nan if row.target is None else row.target)
        if row.limit is not None:
            target = seconds_text(row.limit)
        columns = [short, *texts, ratio, target, row.verdict, _roof_text(row)]
        lines.append(f"| {' | '.join(columns)} |")
    if group.mean_target is not None:
        mean = geometric_mean(list(rows))
        state = "" if math.isnan(mean) else "met" if mean <= group.mean_target else "missed"
        blank = [""] * (len(peers) + 1)
        columns = ["geometric mean", *blank, ratio_text(mean), f"{group.mean_target:.2f}", state]
        lines.append(f"| {' | '.join(columns)} | |")
    return [*lines, ""]


def memory_table(rows: Sequence[Row]) -> list[str]:
    """Bytes of temporaries, and of whole processes, where a side can say."""
    lines = []
    for fact, title in (
        ("temporary bytes", "Memory: temporaries of a call"),
        ("peak process bytes", "Memory: peak of a process that builds and calls once"),
    ):
        told = {
            row.name: {n: c.facts[fact] for n, c in row.cells.items() if fact in c.facts}
            for row in rows
        }
        told = {name: cells for name, cells in told.items() if max(cells.values(), default=0) > 0}
        if not told:
            continue
        sides = list(dict.fromkeys(name for cells in told.values() for name in cells))
        lines += [f"## {title}", "", f"| workload | {' | '.join(sides)} | ratio |"]
        lines.append("|---" * (len(sides) + 2) + "|")
        for name, cells in told.items():
            sizes = [f"{cells[s] / 2**20:.2f} MiB" if s in cells else "" for s in sides]
            others = [size for side, size in cells.items() if side != OURS]
            has_ratio = OURS in cells and others and min(others) > 0
            ratio = cells[OURS] / min(others) if has_ratio else math.nan
            lines.append(f"| {name} | {' | '.join(sizes)} | {ratio_text(ratio)} |")
        lines.append("")
    return lines


def summary(rows: Sequence[Row]) -> list[str]:
    """How many targets are met, and what is far off."""
    verdicts = [row.verdict for row in rows]
    counts = {"met": "targets met", "missed": "missed", "no peer": "without a peer"}
    counts["not run"] = "not run"
    lines = [", ".join(f"{verdicts.count(v)} {text}" for v, text in counts.items()) + "."]
    wrong = [row.name for row in rows if row.ours.problem]
    if wrong:
        lines.append(f"Not built, or wrong: {', '.join(wrong)}.")
    far = sorted((row for row in rows if row.ratio > FAR), key=lambda row: -row.ratio)
    if far:
        items = ", ".join(f"{row.name} {row.ratio:.2f} ({row.best_peer})" for row in far)
        lines.append(f"Far off (ratio above {FAR}): {items}.")
    return [*lines, ""]


def markdown(
    machine: Mapping[str, Any],
    roof: Roof,
    groups: Sequence[tuple[Group, Sequence[Row]]],
    missing: Mapping[str, str],
) -> str:
    """The whole report."""
    rows = [row for _, found in groups for row in found]
    bandwidths = ", ".join(f"{n} {r / 1e9:.0f} GB/s" for n, r in roof.bandwidth.items())
    cores = f"{machine['threads']} threads on cores {machine['cores']}"
    software = f"{machine['system']}, Python {machine['python']}, revision {machine['revision']}"
    probe = f"Probe: {roof.flops / 1e9:.0f} GFLOP/s; {bandwidths}."
    lines = [
        f"{machine['processor']}, {machine['vectors']}, {cores}; {software}.",
        f"{probe} Load before the run: {machine['load']:.2f}.",
        "Sides: " + "; ".join(f"{n} {v}" for n, v in machine.get("versions", {}).items()) + ".",
    ]
    if missing:
        lines.append("Missing: " + "; ".join(f"{n}: {w}" for n, w in missing.items()) + ".")
    if machine.get("left out"):
        lines.append(f"Left out by --quick: {', '.join(machine['left out'])}.")
    notes = Notes()
    lines += ["", *summary(rows)]
    for group, found in groups:
        if found:
            lines += group_table(group, found, notes)
    return "\n".join([*lines, *memory_table(rows), *notes.markdown(), ""])


def short_table(machine: Mapping[str, Any], groups: Sequence[tuple[Group, Sequence[Row]]]) -> str:
    """A line for each workload that was timed, and one for each sweep."""
    setup = f"{machine['processor']}, {machine['vectors']}, {machine['threads']} threads"
    lines = [
        f"{setup}, {machine['date']}, revision {machine['revision']}:",
        "",
        f"| workload | {OURS} | fastest peer | ratio |",
        "|---|---|---|---|",
    ]
    for group, rows in groups:
        timed = [row for row in rows if row.ours.seconds and row.best_peer]
        if group.mean_target is not None and timed:
            title = f"{group.name}/, geometric mean of {len(timed)}"
            lines.append(f"| {title} | | | {ratio_text(geometric_mean(timed))} |")
            continue
        for row in timed:
            peer = f"{seconds_text(row.cells[row.best_peer].median)} {row.best_peer}"
            ours = seconds_text(row.ours.median)
            lines.append(f"| {row.name} | {ours} | {peer} | {ratio_text(row.ratio)} |")
    return "\n".join(lines)


_PLACE = re.compile(r"(<!-- measured: (short|full) -->\n).*?(<!-- end -->)", re.DOTALL)


def inserted(document: str, texts: Mapping[str, str]) -> str:
    """The document with `texts["short"]` or `texts["full"]` between its markers.

    Raises:
        ValueError: it has no `<!-- measured: short -->` or `full`, followed by `<!-- end -->`.

    >>> inserted("<!-- measured: short -->\\nold\\n<!-- end -->", {"short": "new"})
    '<!-- measured: short -->\\nnew\\n<!-- end -->'
    """
    if not _PLACE.search(document):
        raise ValueError("no <!-- measured: short --> or full ... <!-- end --> in the document")
    return _PLACE.sub(lambda found: f"{found[1]}{texts[found[2]].strip()}\n{found[3]}", document)


def _number(value: float | None) -> float | None:
    """JSON has no NaN."""
    return None if value is None or math.isnan(value) else value


def as_json(
    machine: Mapping[str, Any],
    roof: Roof,
    groups: Sequence[tuple[Group, Sequence[Row]]],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that was measured, with all rounds."""
    return {
        "machine": dict(machine),
        "probe": {"flops": roof.flops, "bandwidth": roof.bandwidth},
        "missing": dict(missing),
        "groups": {
            group.name: {
                "mean_target": group.mean_target,
                "geometric_mean": _number(geometric_mean(list(rows))),
            }
            for group, rows in groups
            if group.mean_target is not None
        },
        "rows": [_row_json(row) for _, rows in groups for row in rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    seconds = row.ours.median
    return {
        "workload": row.name,
        "ratio": _number(row.ratio),
        "ratio_quartiles": [_number(value) for value in row.ratio_range],
        "best_peer": row.best_peer,
        "target": row.target,
        "limit": row.limit,
        "verdict": row.verdict,
        "not_run": row.not_run,
        "foreign": row.foreign,
        "took": row.took,
        "flops": row.flops,
        "bytes": row.moved,
        "bound": row.roof_name,
        "of_roof": _number(row.roof / seconds if row.roof else math.nan),
        "sides": {
            name: {
                "median": _number(cell.median),
                "spread": cell.spread,
                "seconds": cell.seconds,
                "problem": cell.problem,
                "facts": cell.facts,
            }
            for name, cell in row.cells.items()
        },
    }
