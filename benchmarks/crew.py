"""The parent's view of the workers: one process per side, asked one at a time."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import Pipe
from types import MappingProxyType
from typing import Any

from benchmarks.peers.base import Peer
from benchmarks.workload import Unsupported

THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("GRAPHFLOW_NUM_THREADS", "NPROC", "PYTENSOR_NUM_THREADS"),
)


class SideError(Exception):
    """A side failed at what it was asked; the text goes into the table."""


def pinned(threads: int) -> dict[str, str]:
    """The environment of every worker: the same number of threads for each library."""
    return {name: str(threads) for name in THREAD_VARIABLES}


def pin_cores(threads: int) -> list[int]:
    """Keep this process and its children on as many cores as they have threads.

    Nothing is pinned where the system cannot; the result is then empty.
    """
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))[:threads]
    os.sched_setaffinity(0, cores)
    return cores


def why_missing(peer: Peer, interpreters: Mapping[str, str]) -> str:
    """What is not installed, or ""."""
    if peer.name in interpreters:
        return ""
    absent = [name for name in peer.modules if importlib.util.find_spec(name) is None]
    return f"not installed ({', '.join(absent)})" if absent else ""


class Side:
    """A peer's process; it is started when it is first asked, and again after it died."""

    def __init__(
        self,
        peer: Peer,
        environment: Mapping[str, str],
        python: str = "",
        caches: Mapping[str, str] = MappingProxyType({}),
    ):
        self.peer, self.name = peer, peer.name
        self.environment = {**os.environ, **environment, **peer.environment, **caches}
        # Installed packages have their bytecode; a checkout shall keep its own as well.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self.python = python or sys.executable
        self.versions: dict[str, str] = {}
        self.waited = self.used = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        # Open as long as the side lives.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115

    def start(self, limit: float = 60.0) -> None:
        """Start the process and import the library."""
        if self._process is not None:
            return
        self._pipe, child = Pipe()
        command = [self.python, "-m", "benchmarks.worker", str(child.fileno()), self.name]
        self._process = subprocess.Popen(
            command,
            env=self.environment,
            pass_fds=[child.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=self._errors,
        )
        child.close()
        self.versions = self.ask(limit, "start")

    def ask(self, limit: float, question: str, *arguments: Any) -> Any:
        """The answer of the worker's method.

        Raises:
            Unsupported: the side has no such operation.
            SideError: it failed, died, or gave no answer within `limit` seconds.
        """
        self.start()
        try:
            self._pipe.send((question, *arguments))
            if not self._pipe.poll(limit):
                self.stop()
                raise SideError(f"{question}: no answer within {limit:.0f} s")
            kind, value, waited, used = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise SideError(f"{question}: the process ended ({self._end()})") from None
        self.waited, self.used = self.waited + waited, self.used + used
        if kind == "unsupported":
            raise Unsupported(value)
        if kind == "error":
            raise SideError(value)
        return value

    def _end(self) -> str:
        """Exit status and the last line that the process wrote."""
        assert self._process is not None
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        self._process = None
        return f"status {status}" + (f", {lines[-1][:200]}" if lines else "")

    def stop(self) -> None:
        """End the process; a later question starts a new one."""
        if self._process is not None:
            self._pipe.close()
            self._process.kill()
            self._process.wait()
            self._process = None
