"""The header of a report: the machine, the versions and the settings that the numbers belong to."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path


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


def header(threads: int, cores: list[int]) -> dict[str, object]:
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
