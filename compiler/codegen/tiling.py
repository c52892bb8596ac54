"""Sizes of a product in, the shape of its register tile and the blocks around it out."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.dims import Size, floor_div, typical
from graphflow.compiler.target import Target

# A core with two multiply-add units of four cycles latency. The other rates are fitted to measured
# tiles of AVX-512 (4x4, 4x6, 6x4, 7x3, 8x2, 8x3, 14x1, 14x2, 24x1): loads a cycle, bytes a cycle
# of an operand that is not in L1, and cycles lost in each step.
_LATENCY, _LOADS, _BYTES, _LOST = 4.0, 1.6, 24.0, 0.7
_TALLEST, WIDEST = 14, 8


@dataclass(frozen=True, slots=True)
class Tile:
    """`height` rows by `vectors` vectors of `lanes` elements, all held in registers."""

    height: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes


def blocks(size: Size, step: int) -> Size:
    """How many steps cover `size`."""
    return floor_div(size + (step - 1), step)


def even_block(size: int, most: int, multiple: int) -> int:
    """A block, a multiple of `multiple` of at most `most`, that cuts `size` into like parts."""
    parts = max(1, -(-size // max(multiple, most // multiple * multiple)))
    return max(1, -(-size // (parts * multiple))) * multiple


def tail(size: Size, block: int, step: int) -> int:
    """What steps leave over in blocks of a size: 0 nothing, t exactly t, `step` anything."""
    if not isinstance(size, int):
        return step
    found = {size % block % step}
    if size >= block:
        found.add(block % step)
    found.discard(0)
    return 0 if not found else found.pop() if len(found) == 1 else step


def choose_tile(
    target: Target,
    dtype: str,
    rows: Size,
    columns: Size,
    tallest: int = _TALLEST,
    widest: int = WIDEST,
    panels: bool = False,
) -> Tile:
    """The tile with the least estimated time for one step of the summed index.

    All sums stay in registers, next to one row of B and one element of A. Tall tiles read B less
    often, wide ones A. Few rows are cut evenly, since threads share them by whole tiles; with
    `panels` the columns, since threads share those.
    """
    lanes = target.lanes(dtype)
    m, n = max(1, typical(rows)), max(1, typical(columns))
    best: tuple[float, int, int] | None = None
    for vectors in range(1, min(widest, -(-n // lanes)) + 1):
        for height in range(1, min(tallest, m) + 1):
            if height * vectors + vectors + 1 > target.registers:
                break
            cycles = _cycles(target, m, n, height, vectors, lanes)
            units = -(-n // (vectors * lanes)) if panels else -(-m // height)
            # Two threads wait for the one with more tiles.
            cycles *= (units + units % 2) / units if 1 < units < 16 else 1.0
            if best is None or cycles < best[0]:
                best = cycles, height, vectors
    assert best is not None
    return Tile(best[1], best[2], lanes)


def _cycles(target: Target, m: int, n: int, height: int, vectors: int, lanes: int) -> float:
    """Estimated cycles of one step of the summed index over an m x n result."""
    total = 0.0
    per_row, rest_rows = divmod(m, height)
    wide, rest = divmod(n, vectors * lanes)
    for h, tall in ((height, per_row), (rest_rows, 1)):
        for v, across in ((vectors, wide), (-(-rest // lanes), 1)):
            if h and v:
                traffic = v * target.vector_bits / 8 / _BYTES
                step = max(h * v / 2, (h + v) / _LOADS, _LATENCY, traffic)
                total += tall * across * (step + _LOST)
    return total
