"""Three seconds of the fuzzer, and the proof that its watch would notice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUZZER = str(ROOT / "tests" / "security" / "fuzz_gflow.py")


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_but_refusals(seed: int) -> None:
    result = subprocess.run(
        [sys.executable, FUZZER, "--seconds", "3", "--seed", str(seed)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "action",
    ["exec('1')", "eval('1')", "__import__('this')", "open('/dev/null', 'w')", "open('/etc/passwd')",
     "__import__('os').system('true')", "__import__('socket').socket()",
     "__import__('pickle').loads(b'cbuiltins\\nlen\\n.')", "__import__('os').remove('x')"],
)  # fmt: skip
def test_the_watch_notices(action: str) -> None:
    script = (
        "import os, pickle, socket, sys\n"
        "from tests.security.fuzz_gflow import Watch\n"
        f"action = compile({action!r}, 'action', 'eval')\n"
        "watch = Watch()\n"
        "watch.armed = True\n"
        "try:\n"
        "    eval(action)\n"
        "except RuntimeError as error:\n"
        "    watch.armed = False\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert "forbidden while reading" in result.stdout, result.stderr
