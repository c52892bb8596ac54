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


def run(arguments: argparse.Namespace) -> list[Row]:
    """Measure, print and write; the rows in the order of the table."""
    begin = time.monotonic()
    pace = dataclasses.replace(QUICK, deadline=begin + QUICK_END) if arguments.quick else Pace()
    if arguments.rounds:
        pace = dataclasses.replace(pace, rounds=arguments.rounds)
    pace = dataclasses.replace(pace, patience=arguments.patience)
    environment = pinned(arguments.threads)
    cores = pin_cores(arguments.threads)
    about = machine.header(arguments.threads, cores)
    roof = probe.measure(arguments.threads)
    interpreters = dict(item.split("=", 1) for item in arguments.python)
    sides, missing = sides_of(arguments.peers, interpreters, environment)
    about["versions"] = {
        side.name: " ".join(f"{n} {v}" for n, v in side.versions.items())
        for side in sides
        if side.versions
    }
    if OURS in missing:
        sys.exit(f"{OURS}: {missing[OURS]}")
    contest = Contest(sides, missing, pace, environment, cores, _progress)
    groups: list[tuple[Group, list[Row]]] = []
    for group, workloads in families():
        rows = []
        for workload in chosen(workloads, arguments.only, arguments.quick):
            if arguments.quick and time.monotonic() - begin > QUICK_SECONDS:
                reason = f"the {QUICK_SECONDS:.0f} s of --quick were over"
                rows.append(Row(workload.name, target=workload.target, not_run=reason))
                continue
            rows.append(contest.row(workload))
            _finished(rows[-1])
        groups.append((group, rows))
    roof = probe.best(roof, probe.measure(arguments.threads))
    for _, rows in groups:
        for row in rows:
            row.roof, row.roof_name = roof.bound(row.flops, row.moved)
    if arguments.quick and not arguments.only:
        every = [workload for _, workloads in families() for workload in workloads]
        about["left out"] = [w.name for w in every if not w.quick]
    about["seconds"] = time.monotonic() - begin
    about["idle"] = {s.name: s.used / s.waited for s in sides if s.waited > 1}
    for side in sides:
        side.stop()
    _progress("")
    text = table.markdown(about, roof, groups, missing)
    print(text)
    if arguments.markdown:
        Path(arguments.markdown).write_text(text)
    if arguments.json:
        content = table.as_json(about, roof, groups, missing)
        Path(arguments.json).write_text(json.dumps(content, indent=1))
    rows = [row for _, found in groups for row in found]
    for name in arguments.insert:
        texts = {"short": table.short_table(about, groups), "full": text}
        Path(name).write_text(table.inserted(Path(name).read_text(), texts))
    return rows


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
