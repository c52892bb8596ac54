"""The long campaign: `python -m tests.fuzz --graphs 5000` checks that many random graphs."""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from functools import partial

from graphflow.compiler.pipeline import pass_names
from tests.fuzz.checks import (
    Check,
    all_passes_differ,
    bad_indices_differ,
    compiled_differs,
    outcome,
    report,
)
from tests.fuzz.generator import random_case


def checks_of(seed: int, thorough: bool) -> dict[str, Check]:
    """Passes on the interpreter; compiled code, its errors, and it without one pass (or each)."""
    left_out = [*pass_names(), "all"]
    if not thorough:
        left_out = [left_out[seed % len(left_out)]]
    return {
        "passes": all_passes_differ,
        "compiled": compiled_differs,
        "bad indices": bad_indices_differ,
        **{f"without {name}": partial(compiled_differs, without=[name]) for name in left_out},
    }


def main() -> int:
    """Check the seeds, print each failure in its smallest form; 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--graphs", type=int, default=1000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--size", type=int, default=12, help="drawn nodes of a graph")
    parser.add_argument("--thorough", action="store_true", help="leave out each pass in turn")
    parser.add_argument("--favourite", help="draw this production most, for example: chain")
    options = parser.parse_args()
    failures, begin = 0, time.perf_counter()
    for count, seed in enumerate(range(options.first, options.first + options.graphs), 1):
        if sys.stderr.isatty():
            print(f"seed {seed}, {failures} failed", end="\r", file=sys.stderr)
        case = random_case(seed, options.size, options.favourite)
        for name, check in checks_of(seed, options.thorough).items():
            found = outcome(check, case)
            if found is not None:
                failures += 1
                print(f"==== seed {seed}, {name}: {found}", flush=True)
                print(f"---- smallest: {report(check, case)}\n", flush=True)
                break
    seconds = time.perf_counter() - begin
    print(f"{count} graphs in {seconds:.0f} s, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    # A kernel that writes outside its arrays ends the process; this says at which check.
    faulthandler.enable()
    sys.exit(main())
