"""A matmul node in, the loops around the register tile out.

A share of the kernel (`unit`) is a block of the result, so that no sum is ever split:

    near     B is small: the rows of one tile, all columns; A and B are read in place
    packed   many rows by the columns of a tile: this panel of B is copied to the stack, a slice of k
             at a time, by the first tile of rows that uses it
    streamed few rows: B is read once, in order, a thin slice of k at a time; neighbouring panels of
             a thread's share are read together
    copied   a transposed A is copied as well: its steps lie too far apart for the cache

Where the rows are a named dim, one kernel holds packed and streamed loops and decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.codegen.tile_writer import Level, Place, Range, Text, TileWriter
from graphflow.compiler.codegen.tiling import WIDEST, Tile, blocks, choose_tile, even_block
from graphflow.compiler.dims import Size, delinearize, linear_offset, product, typical
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, broadcast_index
from graphflow.compiler.spec import ITEMSIZE, is_float
from graphflow.compiler.target import Target

#: most columns of a block that is read in place: the epilogue's row on the stack; and the bytes of
#: B, with which it stays in the first-level cache
NEAR_COLUMNS, NEAR_BYTES = 256, 32 * 1024
#: most rows that are multiplied by one copy of a panel, by the least number of panels
PACKED_ROWS = (8, 320), (4, 160), (0, 64)
#: bytes of one packed panel, and the most steps of k in it
PANEL_BYTES, PANEL_STEPS = 96 * 1024, 512
#: most vectors in a panel: wider ones leave L1 (6 x 4 tiles: 0.78 of the speed of 9 x 3)
PANEL_VECTORS = 3
#: steps of a transposed A that are so many bytes apart push each other out of the cache
FAR_BYTES = 1024
#: rows and columns of a block for which A is copied; columns where its results lie on the stack
COPIED_ROWS, COPIED_COLUMNS, STAGED_COLUMNS = 128, 512, 256
#: with fewer rows, packing costs more than it saves (measured: 16..48 x 1024 x 1024)
FEW_ROWS = 40
#: steps of k in which rows of B are read in order (28 GB/s against 11 without), and the tallest tile
STREAM_STEPS, STREAM_HEIGHT = 32, 8
#: most columns of a block that is read in order (measured: 512 take 0.8 of the time of 128)
STREAM_COLUMNS = 512
#: with fewer blocks of rows, columns are shared too, where each share has some multiply-adds
FEWEST_SHARES, SHARE_WORK = 4, 32 * 1024


@dataclass(frozen=True)
class Operand:
    """A matrix in a buffer: element (i, j) of batch t lies at offset(t) + i * row + j * column."""

    buffer: str
    offset: Size
    row: Size
    column: Size


@dataclass(frozen=True)
class _Slice:
    """A range of k: where it starts, its length, and when it adds to what is there already."""

    first: Size
    count: Text
    add: str


def emit_matmul(node: Node, kernel: TemplateKernel, target: Target) -> KernelDraft:
    """Write the kernel of a matmul node."""
    if not is_float(node.dtype):
        return _emit_integers(node, kernel)
    return _MatmulWriter(node, kernel, target).write()


class _Layout:
    """The sizes of a product, and where its operands lie.

    Where B is one matrix for all batches, the rows of all batches are the rows of one product.
    """

    def __init__(self, node: Node, kernel: TemplateKernel):
        a, b = node.inputs
        left, right = node.attrs["transpose_a"], node.attrs["transpose_b"]
        self.leading = node.shape[:-2]
        self.inner: Size = a.shape[-2 if left else -1]
        self.rows, self.columns = node.shape[-2:]
        self.folded = product(b.shape[:-2]) == 1 and not left
        if self.folded:
            self.rows = product(node.shape[:-1])
            self.leading = ()
        self.count = product(self.leading)
        place = delinearize(kernel.index("matrix", self.count), self.leading)
        offsets = [
            0
            if self.folded
            else linear_offset(broadcast_index(x.shape[:-2], place), x.shape[:-2])
            * product(x.shape[-2:])
            for x in (a, b)
        ]
        a_strides = (1, self.rows) if left else (self.inner, 1)
        b_strides = (1, self.inner) if right else (self.columns, 1)
        if self.columns == 1:
            b_strides = (1, 1)
        elif self.inner == 1:
            b_strides = (self.columns, 1)
        self.a = Operand(kernel.buffer(a), offsets[0], *a_strides)
        self.b = Operand(kernel.buffer(b), offsets[1], *b_strides)
        self.place = place
        self.shape = node.shape

    def index(self, row: Size, column: Size) -> tuple[Size, ...]:
        """The index into the node of an element of the current product."""
        if self.folded:
            return (*delinearize(row, self.shape[:-1]), column)
        return (*self.place, row, column)


class _MatmulWriter(TileWriter):
    """Writes the loops of one product of floats."""

    def __init__(self, node: Node, kernel: TemplateKernel, target: Target):
        super().__init__(node, kernel)
        self.layout = _Layout(node, kernel)
        self.itemsize = ITEMSIZE[node.dtype]
        self.machine = target

    def write(self) -> KernelDraft:
        """Choose the loops, and write them."""
        at = self.layout
        in_order = at.b.column == 1
        size = typical(at.inner * at.columns) * self.itemsize
        is_near = in_order and size <= self.machine.cache_bytes
        few = isinstance(at.rows, int) and at.rows < FEW_ROWS
        if is_near and (few or size <= NEAR_BYTES):
            return self._write_near()
        if not few and self._wants_copy():
            return self._write_copied()
        return self._write_far(few, in_order, is_near)

    def _tile(self, columns: Size, panel: bool = False) -> Tile:
        # Tall tiles of rows whose distance is a multiple of 4 KiB fall into one set of L1.
        stride = self.layout.a.row
        aliased = isinstance(stride, int) and stride * self.itemsize % 4096 == 0
        tallest, widest = 9 if aliased else 14, PANEL_VECTORS if panel else WIDEST
        rows = self.layout.rows
        if panel and not isinstance(rows, int):
            rows = PACKED_ROWS[0][1]
        return choose_tile(self.machine, self.node.dtype, rows, columns, tallest, widest, panel)

    def _wants_copy(self) -> bool:
        """Whether the rows of a tile are neighbours in memory, and its steps far from each other."""
        step = self.layout.a.column
        return step != 1 and (not isinstance(step, int) or step * self.itemsize >= FAR_BYTES)

    # ---- near --------------------------------------------------------------------------------

    def _near_block(self) -> tuple[Tile, int]:
        """The tile, and the columns of a block."""
        rows, columns = self.layout.rows, self.layout.columns
        tile = self._tile(columns)
        if not isinstance(columns, int):
            return tile, max(1, NEAR_COLUMNS // tile.width) * tile.width
        block = min(columns, NEAR_COLUMNS)
        if isinstance(rows, int):
            work = rows * columns * typical(self.layout.inner)
            strips = -(-rows // tile.height)
            shares = min(FEWEST_SHARES // max(1, strips), work // SHARE_WORK, columns // tile.lanes)
            if shares > 1:
                # A power of two, which any usual number of threads shares evenly.
                block = min(block, -(-columns >> (shares.bit_length() - 1)))
        if block < columns:
            block = even_block(columns, block, tile.lanes)
            tile = self._tile(block)
        return tile, max(1, block)

    def _write_near(self) -> KernelDraft:
        tile, block = self._near_block()
        self.open_block(tile.height * block)
        with self._blocks(tile.height, block) as (extent, rows, columns):
            self._multiply(tile, _Slice(0, self.layout.inner, "0"), rows, columns, block)
            self.write_epilogue(rows, columns, Place("block", 0, block), self.layout.index)
        return self.kernel.kernel(extent, cost=tile.height * block * self.layout.inner)

    @contextmanager
    def _blocks(self, height: int, width: int) -> Iterator[tuple[Size, Range, Range]]:
        """A loop over the blocks of a share: the extent, and the current rows and columns."""
        kernel, at = self.kernel, self.layout
        strips, panels = blocks(at.rows, height), blocks(at.columns, width)
        extent = at.count * strips * panels
        with kernel.loop("unit", "lo", "hi"):
            unit = kernel.index("unit", extent)
            matrix, strip, panel = delinearize(unit, (at.count, strips, panels))
            if at.count != 1:
                kernel.line(f"matrix = {kernel.size(matrix)}")
            rows = self.range_of("row", strip, strips, at.rows, height)
            yield extent, rows, self.range_of("column", panel, panels, at.columns, width)

    # ---- copied ------------------------------------------------------------------------------

    def _write_copied(self) -> KernelDraft:
        kernel, at = self.kernel, self.layout
        tile = self._tile(at.columns, panel=True)
        most = COPIED_COLUMNS if kernel.epilogue is None else STAGED_COLUMNS
        height = COPIED_ROWS // tile.height * tile.height
        if isinstance(at.rows, int):
            height = even_block(at.rows, height, tile.height)
        across = typical(at.columns)
        width = even_block(across, most, tile.width)
        while -(-typical(at.rows) // height) * -(-across // width) < FEWEST_SHARES:
            if width <= tile.width or height * width * typical(at.inner) < 4 * SHARE_WORK:
                break
            width = even_block(across, width // 2, tile.width)
        steps, row = self._panel_steps(tile), self._copy_row(height)
        kernel.line(f"panel = stack({steps * tile.width}, {self.cast}, 1)")
        kernel.line(f"part = stack({steps * row}, {self.cast}, 3)")
        self.open_block(height * width)
        with self._blocks(height, width) as (extent, rows, columns):
            with self._slices(steps) as piece:
                start = at.a.offset + rows.first * at.a.row + piece.first * at.a.column
                kernel.line(
                    f"copy_rows({tile.lanes}, part, {row}, {at.a.buffer}, {kernel.size(start)}, "
                    f"{kernel.size(at.a.column)}, {self.text(piece.count)}, {rows.count})"
                )
                with self.rolled("j", "0", columns.count, tile.width):
                    kernel.line(f"across = min({tile.width}, {columns.count} - j)")
                    first = columns.first + kernel.index("j", width)
                    part = Range(first, "across", columns.size, tile.width)
                    c = self._target(rows, first, first - columns.first, width)
                    self._write_panel(tile, piece, rows, part, c, Place("part", 0, 1), row)
            self.write_epilogue(rows, columns, Place("block", 0, width), at.index)
        return kernel.kernel(extent, cost=height * width * at.inner)

    def _copy_row(self, rows: int) -> int:
        """Distance of the steps in a copy of A: an odd number of cache lines."""
        line = 64 // self.itemsize
        lines = -(-rows // line)
        return (lines + 1 - lines % 2) * line

    def _panel_steps(self, tile: Tile) -> int:
        """Steps of k in a packed panel, a multiple of the lanes."""
        inner = self.layout.inner
        steps = min(PANEL_STEPS, PANEL_BYTES // (tile.width * self.itemsize))
        if isinstance(inner, int):
            return even_block(inner, steps, tile.lanes)
        return max(1, steps // tile.lanes) * tile.lanes

    # ---- packed and streamed -----------------------------------------------------------------

    def _write_far(self, few: bool, in_order: bool, is_near: bool) -> KernelDraft:
        kernel, at = self.kernel, self.layout
        tile = self._tile(at.columns, panel=True)
        panels = blocks(at.columns, tile.width)
        # Where there are few panels to share, the rows are shared.
        most = next(rows for least, rows in PACKED_ROWS if typical(panels) >= least)
        height = max(1, most // tile.height) * tile.height
        if isinstance(at.rows, int):
            height = even_block(at.rows, height, tile.height)
        packs, streams = not few or not in_order, in_order and (few or not isinstance(at.rows, int))
        wide = max(1, STREAM_COLUMNS // tile.width)
        if packs:
            kernel.line(f"panel = stack({self._panel_steps(tile) * tile.width}, {self.cast}, 1)")
        streamed = min(FEW_ROWS, height) * wide * tile.width if streams else 0
        self.open_block(max(height * tile.width if packs else 0, streamed))
        if packs and streams:
            with kernel.block(f"if {kernel.size(at.rows)} < {FEW_ROWS}"):
                self._write_streamed(tile, panels, wide, is_near)
            with kernel.block("else"):
                self._write_packed(tile, height)
        elif streams:
            self._write_streamed(tile, panels, wide, is_near)
        else:
            self._write_packed(tile, height)
        extent = at.count * blocks(at.rows, height) * panels
        return kernel.kernel(extent, cost=height * tile.width * at.inner)

    def _write_streamed(self, tile: Tile, panels: Size, wide: int, is_near: bool) -> None:
        """Few rows: all of them by neighbouring panels."""
        kernel, at = self.kernel, self.layout
        width, steps = tile.width, typical(at.inner) if is_near else STREAM_STEPS
        if not is_near or not isinstance(at.rows, int):
            tile = replace(tile, height=min(tile.height, STREAM_HEIGHT))
        rows = Range(0, kernel.size(at.rows), at.rows, FEW_ROWS)
        if at.count == 1:
            # One matrix: its panels are the units.
            with kernel.loop("panel", "lo", "hi", str(wide)):
                self._write_columns(tile, rows, f"min({wide}, hi - panel)", width, steps)
            return
        size = kernel.size(panels)
        with kernel.loop("matrix", f"lo // ({size})", f"(hi + {size} - 1) // ({size})"):
            kernel.line(f"last = min(hi - matrix * ({size}), {size})")
            with kernel.loop("panel", f"max(lo - matrix * ({size}), 0)", "last", str(wide)):
                self._write_columns(tile, rows, f"min({wide}, last - panel)", width, steps)

    def _write_columns(self, tile: Tile, rows: Range, count: str, width: int, steps: int) -> None:
        """All rows by some panels."""
        kernel, at = self.kernel, self.layout
        kernel.line(f"column0 = panel * {width}")
        kernel.line(f"columns = min(({count}) * {width}, {kernel.size(at.columns)} - column0)")
        columns = Range(kernel.index("column0", at.columns), "columns", at.columns, width)
        stride = max(1, STREAM_COLUMNS // width) * width
        with self._slices(steps) as piece:
            self._multiply(tile, piece, rows, columns, stride)
        self.write_epilogue(rows, columns, Place("block", 0, stride), at.index)

    def _write_packed(self, tile: Tile, height: int) -> None:
        """Blocks of rows by one panel."""
        at, width = self.layout, tile.width
        with self._blocks(height, width) as (_, rows, columns):
            a_row = at.a.offset + rows.first * at.a.row
            with self._slices(self._panel_steps(tile)) as piece:
                a = Place(at.a.buffer, a_row + piece.first * at.a.column, at.a.row)
                c = self._target(rows, columns.first, 0, width)
                self._write_panel(tile, piece, rows, columns, c, a, at.a.column)
            self.write_epilogue(rows, columns, Place("block", 0, width), at.index)

    # ---- the products ------------------------------------------------------------------------

    def _write_panel(
        self,
        tile: Tile,
        piece: _Slice,
        rows: Range,
        columns: Range,
        c: Place,
        a: Place,
        a_step: Size,
    ) -> None:
        """Multiply rows by these columns of one slice of B, which is packed first or meanwhile."""
        kernel, b = self.kernel, self.layout.b
        start = b.offset + piece.first * b.row + columns.first * b.column
        if b.column == 1:
            place, level = Place(b.buffer, start), Level(piece.count, a_step, b.row)
            self.gemm_panel(tile, c, rows, columns, a, place, level, piece.add)
            return
        kernel.line(
            f"pack_transposed({tile.lanes}, panel, {tile.width}, {b.buffer}, "
            f"{kernel.size(start)}, {kernel.size(b.column)}, {self.text(piece.count)}, "
            f"{columns.count})"
        )
        level = Level(piece.count, a_step, tile.width)
        self.gemm(tile, c, rows, columns, a, Place("panel", 0), [level], piece.add)

    @contextmanager
    def _slices(self, steps: int) -> Iterator[_Slice]:
        """A loop over slices of k; no loop where one slice holds all."""
        kernel, inner = self.kernel, self.layout.inner
        if isinstance(inner, int) and inner <= steps:
            yield _Slice(0, inner, "0")
            return
        # One pass even for no k at all: it stores the zeros.
        total = kernel.size(inner)
        end = total if isinstance(inner, int) else f"max({total}, 1)"
        with self.rolled("k0", "0", end, steps):
            kernel.line(f"steps = min({steps}, {total} - k0)")
            yield _Slice(kernel.index("k0", inner), "steps", "k0 > 0")

    def _multiply(
        self, tile: Tile, piece: _Slice, rows: Range, columns: Range, stride: int
    ) -> None:
        """C (+)= A B for some rows, some columns and a slice of k, read where they lie."""
        at = self.layout
        c = self._target(rows, columns.first, 0, stride)
        a = at.a.offset + rows.first * at.a.row + piece.first * at.a.column
        b = at.b.offset + piece.first * at.b.row + columns.first * at.b.column
        level = Level(piece.count, at.a.column, at.b.row)
        places = Place(at.a.buffer, a, at.a.row), Place(at.b.buffer, b)
        self.gemm(tile, c, rows, columns, *places, [level], piece.add)

    def _target(self, rows: Range, column: Size, block_at: Size, block_row: int) -> Place:
        """Where results of these rows from a column on go."""
        at = self.layout
        matrix = self.kernel.index("matrix", at.count)
        place = (matrix * at.rows + rows.first) * at.columns + column
        return self.result(place, at.columns, block_at, block_row)


def _emit_integers(node: Node, kernel: TemplateKernel) -> KernelDraft:
    """Integers wrap, so the order of a sum is free: a plain dot product for each element."""
    at, size = _Layout(node, kernel), kernel.size
    cast = CAST[node.dtype]
    with kernel.loop("unit", "lo", "hi"):
        matrix, row = delinearize(kernel.index("unit", at.count * at.rows), (at.count, at.rows))
        kernel.line(f"matrix = {size(matrix)}")
        kernel.line(f"row = {size(row)}")
        row, column = kernel.index("row", at.rows), kernel.index("column", at.columns)
        k = kernel.index("k", at.inner)
        with kernel.loop("column", "0", size(at.columns)):
            kernel.line(f"total = {cast}(0)")
            with kernel.loop("k", "0", size(at.inner)):
                left = f"{at.a.buffer}[{size(at.a.offset + row * at.a.row + k * at.a.column)}]"
                right = f"{at.b.buffer}[{size(at.b.offset + k * at.b.row + column * at.b.column)}]"
                kernel.line(f"total = fma_fast({left}, {right}, total)")
            kernel.store(at.index(row, column), "total")
    return kernel.kernel(at.count * at.rows, cost=at.columns * at.inner)
