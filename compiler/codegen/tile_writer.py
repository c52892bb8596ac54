"""The statements that every kernel around the register tile is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.codegen.tiling import Tile, tail
from graphflow.compiler.dims import Size
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST

#: a size, or the text of one
Text = Size | str


@dataclass(frozen=True)
class Place:
    """A matrix in a buffer: the buffer's name, the first element, the distance of its rows."""

    buffer: str
    at: Text
    row: Text = 0


@dataclass(frozen=True)
class Level:
    """One loop over the summed index: how often, and the steps in A and B."""

    count: Text
    a_step: Text
    b_step: Text


@dataclass(frozen=True)
class Range:
    """Part of an axis: first element, text of the count, and what cutting it can leave over.

    `size` is that of the whole axis, which comes in blocks of `block`.
    """

    first: Size
    count: str
    size: Size
    block: int

    def tail(self, step: int) -> int:
        return tail(self.size, self.block, step)


class TileWriter:
    """Writes blocks of a node's value with `gemm_tiles`, and hands them to the epilogue.

    Without an epilogue tiles are stored where they belong. With one they go to `block`, an array
    on the stack, and a loop with the columns innermost computes the group's outputs from it.
    """

    def __init__(self, node: Node, kernel: TemplateKernel):
        self.node, self.kernel = node, kernel
        self.cast = CAST[node.dtype]

    def text(self, size: Text) -> str:
        return size if isinstance(size, str) else self.kernel.size(size)

    def open_block(self, elements: int) -> None:
        """Room for the largest block; needed only by an epilogue."""
        if self.kernel.epilogue is not None:
            self.kernel.line(f"block = stack({max(1, elements)}, {self.cast}, 2)")

    def result(self, at: Size, row: Size, block_at: Size, block_row: Text) -> Place:
        """Where tiles go: to the output, or to the block on the stack."""
        if self.kernel.epilogue is None:
            return Place(self.kernel.output(self.node), at, row)
        return Place("block", block_at, block_row)

    def range_of(self, name: str, number: Size, parts: Size, size: Size, block: int) -> Range:
        """The `number`-th of the blocks that cut an axis."""
        kernel, total = self.kernel, self.kernel.size(size)
        if parts == 1:
            return Range(0, total, size, block)
        kernel.line(f"{name}0 = {kernel.size(number * block)}")
        first = kernel.index(f"{name}0", size)
        if block == 1 or (isinstance(size, int) and size % block == 0):
            return Range(first, str(block), size, block)
        kernel.line(f"{name}s = min({block}, {total} - {name}0)")
        return Range(first, f"{name}s", size, block)

    def rolled(
        self, name: str, begin: str, count: str, step: int = 1
    ) -> AbstractContextManager[None]:
        """A loop over `count` values from `begin` on, with much inside.

        Loops with few passes between literals are unrolled; such a bound would copy all the tiles
        inside (0.75 s to compile a convolution instead of 0.23 s).
        """
        begin, end = ("lo - lo", count) if begin == "0" else (begin, f"{begin} + {count}")
        return self.kernel.loop(name, begin, end, str(step))

    def gemm(
        self,
        tile: Tile,
        c: Place,
        rows: Range,
        columns: Range,
        a: Place,
        b: Place,
        levels: Sequence[Level],
        add: str = "0",
    ) -> None:
        """C = A B for a block, or C += A B where `add` holds."""
        nest = (part for level in levels for part in (level.count, level.a_step, level.b_step))
        self._call("gemm_tiles", tile, c, rows, columns, a, (add, b.buffer, b.at, *nest))

    def gemm_panel(
        self,
        tile: Tile,
        c: Place,
        rows: Range,
        columns: Range,
        a: Place,
        b: Place,
        level: Level,
        add: str,
    ) -> None:
        """`gemm` for the columns of one tile, which leaves B's rows side by side in `panel`."""
        rest = (add, "panel", b.buffer, b.at, level.count, level.a_step, level.b_step)
        self._call("gemm_panel", tile, c, rows, columns, a, rest)

    def _call(
        self,
        name: str,
        tile: Tile,
        c: Place,
        rows: Range,
        columns: Range,
        a: Place,
        rest: Sequence[Text],
    ) -> None:
        add, *others = rest
        arguments = (
            tile.height, tile.vectors, tile.lanes, rows.tail(tile.height),
            columns.tail(tile.width), c.buffer, c.at, c.row, rows.count, columns.count, add,
            a.buffer, a.at, a.row, *others,
        )  # fmt: skip
        self.kernel.line(f"{name}({', '.join(map(self.text, arguments))})")

    def write_epilogue(
        self,
        rows: Range,
        columns: Range,
        block: Place,
        index: Callable[[Size, Size], tuple[Size, ...]],
    ) -> None:
        """Hand each element of the block on; `index` gives its place from row and column."""
        kernel = self.kernel
        if kernel.epilogue is None:
            return
        row0, column0 = kernel.size(rows.first), kernel.size(columns.first)
        with (
            self.rolled("row", row0, rows.count),
            kernel.loop("column", column0, f"{column0} + {columns.count}"),
        ):
            where = index(kernel.index("row", rows.size), kernel.index("column", columns.size))
            line = f"{self.text(block.at)} + (row - {row0}) * {self.text(block.row)}"
            kernel.store(where, f"block[{line} + (column - {column0})]")
