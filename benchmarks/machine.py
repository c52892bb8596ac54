"""The header of a report: the machine, the versions and the settings that the numbers belong to."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

# Where others take more than this share of the cores, a round is repeated, and a row says so.
DISTURBED = 0.1
_STATISTICS = Path("/proc/stat")  # Linux only; elsewhere nothing is known of others


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else "unknown processor"


def _vectors() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "unknown vectors"
    known = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}
    return next((name for flag, name in known.items() if flag in flags), "unknown vectors")


def _revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def header(threads: int, cores: list[int]) -> dict[str, Any]:
    """What is known before the run; `load` says whether others used the machine meanwhile."""
    return {
        "processor": _processor(),
        "vectors": _vectors(),
        "cores": cores,
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "revision": _revision(),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
    }


class Bystanders:
    """How much of the pinned cores other processes took between two moments; 0 where unknown.

    What a virtual machine did not get from its host counts as theirs.
    """

    def __init__(self, cores: list[int]):
        self.cores = cores
        self._begin = self._sample()

    def _sample(self) -> tuple[float, float, float]:
        """Ticks in which the cores were busy, ticks of this run's processes, all ticks."""
        busy = total = 0.0
        if not _STATISTICS.exists():
            return 0.0, 0.0, 0.0
        wanted = {f"cpu{core}" for core in self.cores}
        for line in _STATISTICS.read_text().splitlines():
            name, *fields = line.split()
            if name in wanted:
                ticks = [float(field) for field in fields[:8]]
                total += sum(ticks)
                busy += sum(ticks) - ticks[3] - ticks[4]  # idle, waiting for a disk
        return busy, _session_ticks(), total

    def share(self) -> float:
        """Since the last call, or since the start; 0 to 1."""
        now = self._sample()
        busy, own, total = (b - a for a, b in zip(self._begin, now, strict=True))
        self._begin = now
        return min(1.0, max(0.0, (busy - own) / total)) if total else 0.0

    def wait(self, share: float, patience: float) -> None:
        """Until others take less than `share` for half a second, or `patience` seconds are over."""
        end = time.monotonic() + patience
        self.share()
        while time.monotonic() < end:
            time.sleep(0.5)
            if self.share() < share:
                return


def _session_ticks() -> float:
    """User and system time of all living processes that this terminal session started."""
    session, ticks = os.getsid(0), 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name of a program may hold spaces and brackets.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[3]) == session:
            ticks += float(fields[11]) + float(fields[12])
    return ticks
