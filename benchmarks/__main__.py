"""`python -m benchmarks`: every workload on every side in turns, as a table of ratios."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, probe, table
from benchmarks.contest import QUICK, Contest, Pace
from benchmarks.crew import Side, SideError, pin_cores, pinned, why_missing
from benchmarks.peers import peers
from benchmarks.results import Row
from benchmarks.workload import OURS, Group, Workload
from benchmarks.workloads import families

# No workload begins after the first, and no side is waited for after the second.
QUICK_SECONDS, QUICK_END = 160.0, 172.0


def arguments_of(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="workloads whose name contains or matches it, e.g. train/ or 'gemm/1x*'; repeatable",
    )
    parser.add_argument(
        "--peers", help="comma-separated sides to compare with; by default all that are installed"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer workloads and rounds, at most 3 minutes; what found no time is named",
    )
    parser.add_argument("--rounds", type=int, help="rounds of each side")
    parser.add_argument(
        "--patience",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long, before each workload, for other processes to leave the cores",
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of every side (2)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="SIDE=PATH",
        help="interpreter of a side that lives in another environment",
    )
    parser.add_argument("--json", help="write all rounds to this file")
    parser.add_argument("--markdown", help="write the table to this file as well")
    parser.add_argument(
        "--insert",
        action="append",
        default=[],
        metavar="FILE",
        help="put the table between the markers of a document such as README.md; repeatable",
    )
    parser.add_argument("--list", action="store_true", help="name workloads and sides, and stop")
    return parser.parse_args(given)


def chosen(workloads: list[Workload], only: list[str], quick: bool) -> list[Workload]:
    """Those that match a pattern; without patterns all, or the quick ones."""
    if only:
        return [w for w in workloads if any(_matches(w.name, pattern) for pattern in only)]
    return [w for w in workloads if w.quick or not quick]


def _matches(name: str, pattern: str) -> bool:
    return pattern in name or fnmatch.fnmatch(name, pattern)


def sides_of(
    wanted: str | None, interpreters: dict[str, str], environment: dict[str, str]
) -> tuple[list[Side], dict[str, str]]:
    """The sides, and why some are missing; a side that cannot start is missing too."""
    names = list(peers())
    if wanted is not None:
        asked = [name.strip() for name in wanted.split(",") if name.strip()]
        unknown = [name for name in (*asked, *interpreters) if name not in names]
        if unknown:
            sys.exit(f"no side is named {unknown[0]!r}; there are {', '.join(names)}")
        names = [name for name in names if name == OURS or name in asked]
    sides, missing = [], {}
    for name in names:
        side = Side(peers()[name], environment, interpreters.get(name, ""))
        sides.append(side)
        reason = why_missing(side.peer, interpreters)
        try:
            if not reason:
                side.start()
        except SideError as error:
            reason = f"does not start: {error}"
        if reason:
            missing[name] = reason
    return sides, missing


class Report:
    """What is known so far; it is written after each row, so that a stopped run leaves its part."""

    def __init__(self, arguments: argparse.Namespace, about: dict[str, Any], roof: probe.Roof):
        self.arguments, self.about, self.roof = arguments, about, roof
        self.groups: list[tuple[Group, list[Row]]] = []
        self.missing: dict[str, str] = {}

    @property
    def rows(self) -> list[Row]:
        return [row for _, found in self.groups for row in found]

    def write(self) -> str:
        """The Markdown, after writing the files that were asked for."""
        for row in self.rows:
            row.roof, row.roof_name = self.roof.bound(row.flops, row.moved)
        parts = (self.about, self.roof, self.groups, self.missing)
        text = table.markdown(*parts)
        if self.arguments.markdown:
            Path(self.arguments.markdown).write_text(text)
        if self.arguments.json:
            Path(self.arguments.json).write_text(json.dumps(table.as_json(*parts), indent=1))
        return text

    def insert(self, text: str) -> None:
        """Put the tables into documents."""
        texts = {"short": table.short_table(self.about, self.groups), "full": text}
        for name in self.arguments.insert:
            Path(name).write_text(table.inserted(Path(name).read_text(), texts))


def run(arguments: argparse.Namespace) -> list[Row]:
    """Measure, print and write; the rows in the order of the table."""
    begin = time.monotonic()
    pace = dataclasses.replace(QUICK, deadline=begin + QUICK_END) if arguments.quick else Pace()
    rounds = arguments.rounds or pace.rounds
    pace = dataclasses.replace(pace, rounds=rounds, patience=arguments.patience)
    environment, cores = pinned(arguments.threads), pin_cores(arguments.threads)
    about = machine.header(arguments.threads, cores)
    report = Report(arguments, about, probe.measure(arguments.threads))
    interpreters = dict(item.split("=", 1) for item in arguments.python)
    sides, report.missing = sides_of(arguments.peers, interpreters, environment)
    if OURS in report.missing:
        sys.exit(f"{OURS}: {report.missing[OURS]}")
    started = [side for side in sides if side.versions]
    about["versions"] = {
        s.name: " ".join(f"{name} {version}" for name, version in s.versions.items())
        for s in started
    }
    if arguments.quick and not arguments.only:
        about["left out"] = [w.name for _, found in families() for w in found if not w.quick]
    contest = Contest(sides, report.missing, pace, environment, cores, _progress)
    for group, workloads in families():
        rows: list[Row] = []
        report.groups.append((group, rows))
        for workload in chosen(workloads, arguments.only, arguments.quick):
            if arguments.quick and time.monotonic() - begin > QUICK_SECONDS:
                reason = f"the {QUICK_SECONDS:.0f} s of --quick were over"
                rows.append(Row(workload.name, target=workload.target, not_run=reason))
                continue
            rows.append(contest.row(workload))
            _finished(rows[-1])
            report.write()
    report.roof = probe.best(report.roof, probe.measure(arguments.threads))
    about["seconds"] = time.monotonic() - begin
    about["idle"] = {s.name: s.used / s.waited for s in started if s.waited > 1}
    for side in sides:
        side.stop()
    _progress("")
    text = report.write()
    print(text)
    report.insert(text)
    return report.rows


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _finished(row: Row) -> None:
    """A line for logs, so that a run that is stopped has not said nothing."""
    if not sys.stderr.isatty():
        ours, ratio = table.seconds_text(row.ours.median), table.ratio_text(row.ratio)
        print(f"{row.name}: {ours}, ratio {ratio}", file=sys.stderr, flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """0 when everything that ran was right, 1 when an output of ours was wrong or missing."""
    arguments = arguments_of(given)
    every = [workload for _, workloads in families() for workload in workloads]
    if arguments.list:
        print("\n".join(w.name + ("  (quick)" if w.quick else "") for w in every))
        print("sides: " + ", ".join(peers()))
        return 0
    if not chosen(every, arguments.only, arguments.quick):
        sys.exit(f"no workload matches {', '.join(arguments.only)}; see --list")
    rows = run(arguments)
    return int(any(row.ours.problem for row in rows))


if __name__ == "__main__":
    sys.exit(main())
