"""`python -m benchmarks.step`: one training step of the seed's MLP, and its starts.

The same as `python -m benchmarks` with only these workloads; every option of it works here too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.__main__ import main as run

WORKLOADS = ("train/seed-mlp", "start/process-mlp", "start/train-seed-mlp")


def main(given: Sequence[str] | None = None) -> int:
    chosen = [part for name in WORKLOADS for part in ("--only", name)]
    return run([*chosen, *(sys.argv[1:] if given is None else given)])


if __name__ == "__main__":
    sys.exit(main())
