"""A side's own process: builds one workload at a time and runs rounds of it when asked."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
from itertools import repeat
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import peers
from benchmarks.workload import Session, Unsupported
from benchmarks.workloads import by_name

_STATUS = Path("/proc/self/status")


def seconds_of(session: Session, calls: int) -> float:
    """Of one call, over `calls` of them."""
    call = session.call
    begin = time.perf_counter()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter() - begin) / calls


def settle(pause: float = 0.005, limit: float = 1.0) -> None:
    """Wait until the threads of this process sleep: those of some BLAS spin for 0.1 s."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = time.process_time()
        time.sleep(pause)
        if time.process_time() - before < 0.1 * pause:
            return


class Worker:
    """The questions that the parent may ask, one method each."""

    def __init__(self, name: str):
        self.peer = peers()[name]
        self.session: Session | None = None

    def start(self) -> dict[str, str]:
        self.peer.start()
        return self.peer.versions()

    def build(self, name: str) -> dict[str, float]:
        """Facts of the session; `seconds` covers building and the first call."""
        self.drop()
        begin = time.perf_counter()
        self.session = self.peer.build(by_name()[name])
        return {"seconds": time.perf_counter() - begin, **self.session.facts}

    def outputs(self) -> list[np.ndarray]:
        self._built.reset()
        return [np.array(array) for array in self._built.outputs()]

    def warm(self, seconds: float, longest: int) -> float:
        """Seconds of a call, after running for a while."""
        self._built.reset()
        end, calls = time.perf_counter() + seconds, 1
        while True:
            one = seconds_of(self._built, calls)
            if time.perf_counter() > end:
                settle()
                return one
            calls = min(2 * calls, longest)
            if calls == longest:
                self._built.reset()

    def measure(self, calls: int) -> float:
        """One round: seconds of a call, with caches and threads warmed by a tenth as many."""
        self._built.reset()
        seconds_of(self._built, max(1, calls // 10))
        seconds = seconds_of(self._built, calls)
        settle()
        return seconds

    def process(self, name: str, folder: str) -> list[str]:
        return self.peer.process(by_name()[name], folder)  # type: ignore[attr-defined]

    def peak_memory(self) -> int:
        """Bytes; of this program only, where getrusage would count its parent's too."""
        if not _STATUS.exists():
            raise Unsupported("the peak of a process is known on Linux only")
        status = _STATUS.read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def drop(self) -> None:
        self.session = None
        gc.collect()

    @property
    def _built(self) -> Session:
        if self.session is None:
            raise RuntimeError("nothing is built")
        return self.session


def serve(connection: Connection, name: str) -> None:
    """Answers (kind, value, idle share of a core) until the parent closes the pipe."""
    worker = Worker(name)
    gc.disable()
    while True:
        rest, processor = time.perf_counter(), time.process_time()
        try:
            question, *arguments = connection.recv()
        except EOFError:
            return
        waited = time.perf_counter() - rest
        used = time.process_time() - processor
        answer: tuple[str, Any]
        try:
            answer = ("ok", getattr(worker, question)(*arguments))
        except Unsupported as error:
            answer = ("unsupported", str(error))
        except Exception as error:  # noqa: BLE001 - the parent reports whatever a peer raises
            traceback.print_exc()
            answer = ("error", f"{type(error).__name__}: {error}")
        connection.send((*answer, waited, used))


def main() -> None:
    # What libraries print must not disturb the table.
    os.dup2(2, 1)
    serve(Connection(int(sys.argv[1])), sys.argv[2])


if __name__ == "__main__":
    main()
