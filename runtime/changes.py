"""Tells whether a variable may have changed since a moment, for what is computed from them once."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable

import numpy as np

_count = itertools.count(1)
_latest = 0
_exposed: set[int] = set()


def latest() -> int:
    """A number that differs from that of any moment before the last change."""
    return _latest


def note() -> int:
    """Note that some variable has changed; the new number."""
    global _latest
    _latest = next(_count)
    return _latest


def expose(storage: np.ndarray) -> None:
    """The array was handed out: whoever holds it may write it at any time."""
    address = storage.ctypes.data
    if address not in _exposed:
        _exposed.add(address)
        # Another array may come to lie there.
        weakref.finalize(storage, _exposed.discard, address)
        note()


def are_exposed(addresses: Iterable[int]) -> bool:
    """Whether any of the arrays at these addresses was handed out."""
    return not _exposed.isdisjoint(addresses)
