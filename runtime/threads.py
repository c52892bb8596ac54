"""A team of threads that stays awake during a step and sleeps between steps.

A member is a Python thread inside one native call: during a run it spins on its claim word and
takes chunks of the published launch. A while after the run it returns to Python, and sleeps on an
event. The caller never waits for a sleeper: it does the chunks that nobody claims.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from graphflow.runtime.driver import work_for
from graphflow.runtime.layout import BLOCK, BLOCKS, RUNNING, SIZE

#: looks at the claim word, after a run, before a member goes to sleep; about 50 µs
SPINS = 4000


def usable_threads() -> int:
    """GRAPHFLOW_NUM_THREADS, or the number of cores that this process may use."""
    text = os.environ.get("GRAPHFLOW_NUM_THREADS", "")
    if text:
        if not text.isdigit() or int(text) < 1:
            raise ValueError(f"GRAPHFLOW_NUM_THREADS={text!r}; expected a number of at least 1")
        return int(text)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class Team:
    """`size - 1` members besides the caller.

    Use `enter` before and `leave` after a run; a team serves one caller at a time, and a second
    one runs by itself.
    """

    def __init__(self, size: int):
        self.size = size
        self.words = np.zeros(BLOCKS + size * BLOCK + 16, np.int64)
        begin = -(self.words.ctypes.data // 8) % 16
        self.words = self.words[begin:]
        self.words[SIZE] = size
        self.address = self.words.ctypes.data
        self._busy = threading.Lock()
        self._wake = [threading.Event() for _ in range(size - 1)]
        self._asleep = [True] * (size - 1)
        for number in range(size - 1):
            name = f"graphflow-{number + 1}"
            threading.Thread(target=self._live, args=(number,), name=name, daemon=True).start()

    def _live(self, number: int) -> None:
        work, wake = work_for(), self._wake[number]
        while True:
            self._asleep[number] = True
            # A run that began before the line above has not set the event.
            if not self.words[RUNNING]:
                wake.wait()
            wake.clear()
            self._asleep[number] = False
            work(self.address, number + 1, SPINS)

    def enter(self) -> bool:
        """Wake the members for a run; False if another caller has the team."""
        if not self._busy.acquire(blocking=False):
            return False
        self.words[RUNNING] = 1
        for number, asleep in enumerate(self._asleep):
            if asleep:
                self._wake[number].set()
        return True

    def leave(self) -> None:
        self.words[RUNNING] = 0
        self._busy.release()


_lock = threading.Lock()
_teams: dict[int, Team] = {}


def get_team(size: int) -> Team | None:
    """The process's team of this size; None for a single thread."""
    if size <= 1:
        return None
    with _lock:
        if size not in _teams:
            _teams[size] = Team(size)
        return _teams[size]


def _forget_teams() -> None:
    """A forked child has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _teams.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_teams)
