"""One count of all changes of variables in the process: it tells if results of weights are still right.

Kernels write variables without Python, and Python without the native code, so each side has a count
of its own, and their sum is what is compared. A change is counted when it is complete.
"""

from __future__ import annotations

import threading

import numpy as np

_counts = np.zeros(2, np.int64)
_lock = threading.Lock()

#: where the two words lie: changes made by Python, changes made by programs
ADDRESS: int = _counts.ctypes.data


def note_change() -> None:
    """To be called by whoever has written into the storage of a variable from Python."""
    with _lock:
        _counts[0] += 1


def change_count() -> int:
    """Changes of any variable so far."""
    return int(_counts.sum())
