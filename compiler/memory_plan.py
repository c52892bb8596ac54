"""Lifetimes and sizes of buffers in, offsets in one arena out.

    buffer  life    bytes        offset
    a       0..1    256          0
    b       1..2    128    ->    256
    c       2..3    256          0        (a is dead)

Greedy by size: the largest buffer first, each at the lowest offset that is free during its whole
life. For the sizes met here this stays within a few per cent of the largest sum of live buffers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ALIGNMENT = 64

Lifetime = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Byte offsets by buffer id, the arena's size, and the bound that no plan can go below."""

    offsets: dict[int, int]
    arena_bytes: int
    peak_live_bytes: int


def _align(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT


def plan_memory(temps: Mapping[int, tuple[Lifetime, int]], reuse: bool = True) -> Layout:
    """Place each buffer.

    Args:
        temps: buffer id -> ((first step, last step), bytes); both steps inclusive.
        reuse: False gives every buffer a place of its own (for looking at all values).
    """
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[int, int] = {}
    order = sorted(temps, key=lambda number: (-temps[number][1], temps[number][0], number))
    for number in order:
        (first, last), size = temps[number]
        size = _align(size)
        taken = sorted(
            (offset, end)
            for offset, end, start, stop in placed
            if not reuse or (start <= last and first <= stop)
        )
        offset = 0
        for begin, end in taken:
            if offset + size <= begin:
                break
            offset = max(offset, end)
        offsets[number] = offset
        placed.append((offset, offset + size, first, last))
    arena = max((end for _, end, _, _ in placed), default=0)
    return Layout(offsets, arena, _peak(temps))


def _peak(temps: Mapping[int, tuple[Lifetime, int]]) -> int:
    changes: dict[int, int] = {}
    for (first, last), size in temps.values():
        changes[first] = changes.get(first, 0) + _align(size)
        changes[last + 1] = changes.get(last + 1, 0) - _align(size)
    peak = live = 0
    for step in sorted(changes):
        live += changes[step]
        peak = max(peak, live)
    return peak
