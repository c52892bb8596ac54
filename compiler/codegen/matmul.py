"""A matmul node in, the loops around the register tile out.

A share of the kernel (`unit`) is a block of the result, so that no sum is ever split:

    near     B fits near the core: a few rows, all columns; B is read in place
    packed   B is large or transposed: many rows, some columns; panels of B as wide as a tile are
             copied side by side on the stack, a slice of k at a time, and so is a transposed A
    stream   B is large and the rows are few: B is read once, in order, a thin slice of k at a time

Which one is right may depend on a named dim; then the kernel holds the last two and decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.codegen.tile_writer import Level, Place, Range, Text, TileWriter
from graphflow.compiler.codegen.tiling import Tile, blocks, choose_tile, even_block
from graphflow.compiler.dims import Size, delinearize, linear_offset, product, typical
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, broadcast_index
from graphflow.compiler.spec import ITEMSIZE, is_float
from graphflow.compiler.target import Target

#: most columns of a block that is read in place: the epilogue's row on the stack; and the bytes of
#: B, with which it stays in the first-level cache
NEAR_COLUMNS, NEAR_BYTES = 256, 32 * 1024
#: most rows and columns of a packed block; of one for which a transposed A is copied, too
PACKED, COPIED = (320, 256), (128, 512)
#: rows of a packed block where their number is a named dim: enough blocks for a usual batch
UNKNOWN_ROWS = 64
#: most columns of that with an epilogue: its block of results lies on the stack
STAGED_COLUMNS = 256
#: steps of a transposed A that are so many bytes apart push each other out of the cache
FAR_BYTES = 1024
#: bytes of one packed panel, and the most steps of k in it
PANEL_BYTES, PANEL_STEPS = 96 * 1024, 512
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


@dataclass(frozen=True)
class Plan:
    """Block sizes of one product.

    Attributes:
        rows, columns: size of a block.
        group: columns that are packed at a time; they divide `columns`.
        steps: steps of k in a packed panel; 0 if B is never packed.
        streams: whether the kernel has the loops for few rows.
        copies: whether A is copied as well.
    """

    tile: Tile
    rows: int
    columns: int
    group: int
    steps: int = 0
    streams: bool = False
    copies: bool = False


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
        self.plan = self._plan()

    # ---- choosing the blocks -----------------------------------------------------------------

    def _plan(self) -> Plan:
        at = self.layout
        tile = self._tile(at.columns)
        in_order = at.b.column == 1
        size = typical(at.inner * at.columns) * self.itemsize
        self.is_near = size <= self.machine.cache_bytes
        few = isinstance(at.rows, int) and at.rows < FEW_ROWS
        near = self.is_near if few else size <= NEAR_BYTES
        return self._near_plan(tile) if in_order and near else self._far_plan(in_order)

    def _tile(self, columns: Size, widest: int = 8) -> Tile:
        # Tall tiles of rows whose distance is a multiple of 4 KiB fall into one set of L1.
        stride = self.layout.a.row
        aliased = isinstance(stride, int) and stride * self.itemsize % 4096 == 0
        rows, tallest = self.layout.rows, 9 if aliased else 14
        return choose_tile(self.machine, self.node.dtype, rows, columns, tallest, widest)

    def _near_plan(self, tile: Tile) -> Plan:
        rows, columns = self.layout.rows, self.layout.columns
        if not isinstance(columns, int):
            block = max(1, NEAR_COLUMNS // tile.width) * tile.width
            return Plan(tile, tile.height, block, block)
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
        block = max(1, block)
        return Plan(tile, tile.height, block, block)

    def _far_plan(self, in_order: bool) -> Plan:
        rows, columns, inner = self.layout.rows, self.layout.columns, self.layout.inner
        few = isinstance(rows, int) and rows < FEW_ROWS
        streams = in_order and (few or not isinstance(rows, int))
        across = typical(columns)
        tile = self._tile(columns, 3)
        if few and streams:
            width = min(across, max(across // 4, 2 * tile.width), STREAM_COLUMNS)
            width = even_block(across, width, tile.width)
            return Plan(tile, even_block(typical(rows), FEW_ROWS, 1), width, width, 0, True)
        copies = not few and self._wants_copy()
        height, width = self._packed_block(tile, *(COPIED if copies else PACKED))
        group = width if copies else tile.width
        if streams:
            width = even_block(across, min(max(across // 4, group), STREAM_COLUMNS), group)
        width = -(-width // group) * group
        steps = min(PANEL_STEPS, PANEL_BYTES // (tile.width * self.itemsize))
        if isinstance(inner, int):
            steps = even_block(inner, steps, tile.lanes)
        steps = max(1, steps // tile.lanes) * tile.lanes
        return Plan(tile, height, width, group, steps, streams, copies)

    def _wants_copy(self) -> bool:
        """Whether the rows of a tile are neighbours in memory, and its steps far from each other."""
        step = self.layout.a.column
        return step != 1 and (not isinstance(step, int) or step * self.itemsize >= FAR_BYTES)

    def _packed_block(self, tile: Tile, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a block; enough blocks to share, also in small products."""
        rows, columns = self.layout.rows, self.layout.columns
        across = typical(columns)
        height = max(1, height // tile.height) * tile.height
        if self.kernel.epilogue is not None:
            width = min(width, STAGED_COLUMNS)
        width = even_block(across, width, tile.width)
        if not isinstance(rows, int):
            return min(height, UNKNOWN_ROWS // tile.height * tile.height), width
        height = even_block(rows, height, tile.height)
        while -(-rows // height) * -(-across // width) < FEWEST_SHARES:
            if height * width * typical(self.layout.inner) < 4 * SHARE_WORK:
                break
            if width > max(height // 2, tile.width):
                width = even_block(across, width // 2, tile.width)
            elif height > 2 * tile.height:
                height = even_block(rows, height // 2, tile.height)
            else:
                break
        return height, width

    # ---- writing the loops -------------------------------------------------------------------

    def write(self) -> KernelDraft:
        kernel, at, plan = self.kernel, self.layout, self.plan
        if plan.steps:
            kernel.line(f"panel = stack({plan.steps * plan.tile.width}, {self.cast}, 1)")
        if plan.copies:
            kernel.line(f"part = stack({plan.steps * self._copy_row()}, {self.cast}, 3)")
        streamed = min(FEW_ROWS, plan.rows) * plan.columns if plan.streams else 0
        self.open_block(max(plan.rows * plan.group, streamed))
        strips, panels = blocks(at.rows, plan.rows), blocks(at.columns, plan.columns)
        extent = at.count * strips * panels
        with kernel.loop("unit", "lo", "hi"):
            unit = kernel.index("unit", extent)
            matrix, strip, panel = delinearize(unit, (at.count, strips, panels))
            if at.count != 1:
                kernel.line(f"matrix = {kernel.size(matrix)}")
            self.rows = self.range_of("row", strip, strips, at.rows, plan.rows)
            self.columns = self.range_of("column", panel, panels, at.columns, plan.columns)
            with self._groups():
                self._write_block()
                self.write_epilogue(
                    self.rows, self.columns, Place("block", 0, self.stride), at.index
                )
        return kernel.kernel(extent, cost=plan.rows * plan.columns * at.inner)

    @contextmanager
    def _groups(self) -> Iterator[None]:
        """The columns of a block in groups: all of them where B is streamed."""
        kernel, plan, columns = self.kernel, self.plan, self.columns
        self.stride: Text = plan.columns
        if plan.group == plan.columns:
            yield
            return
        begin, wide = kernel.size(columns.first), str(plan.group)
        if plan.streams:
            wide = "wide"
            few = f"{self.rows.count} < {FEW_ROWS}"
            kernel.line(f"wide = select({few}, {plan.columns}, {plan.group})")
        self.stride = wide if plan.streams else plan.group
        with self.rolled("group", "0", f"({columns.count} + {wide} - 1) // {wide}"):
            kernel.line(f"first = {begin} + group * {wide}")
            kernel.line(f"count = min({wide}, {begin} + {columns.count} - first)")
            first = kernel.index("first", columns.size)
            self.columns = Range(first, "count", columns.size, plan.group)
            yield

    def _write_block(self) -> None:
        kernel, plan = self.kernel, self.plan
        if plan.streams and plan.steps:
            with kernel.block(f"if {self.rows.count} < {FEW_ROWS}"):
                self._write_stream()
            with kernel.block("else"):
                self._write_packed()
        elif plan.streams:
            self._write_stream()
        elif plan.steps:
            self._write_packed()
        else:
            whole = _Slice(0, self.layout.inner, "0")
            self._multiply(plan.tile, whole, self.columns)

    def _in_place(self, piece: _Slice) -> Place:
        """The current columns and k of B in its own buffer."""
        b = self.layout.b
        return Place(b.buffer, b.offset + piece.first * b.row + self.columns.first * b.column)

    def _write_stream(self) -> None:
        columns = replace(self.columns, block=self.plan.columns)
        tile, steps = self.plan.tile, STREAM_STEPS
        if self.is_near:
            steps = typical(self.layout.inner)
        else:
            tile = replace(tile, height=min(tile.height, STREAM_HEIGHT))
        with self._slices(steps) as piece:
            self._multiply(tile, piece, columns)

    def _write_packed(self) -> None:
        kernel, plan = self.kernel, self.plan
        width = plan.tile.width
        with self._slices(plan.steps) as piece:
            if plan.copies:
                self._copy_a(piece)
            if plan.group == width:
                self._write_panel(piece, self.columns)
                return
            with self.rolled("j", "0", self.columns.count, width):
                kernel.line(f"across = min({width}, {self.columns.count} - j)")
                first = self.columns.first + kernel.index("j", plan.group)
                self._write_panel(piece, replace(self.columns, first=first, count="across"))

    def _copy_row(self) -> int:
        """Distance of the steps in the copy of A: an odd number of cache lines."""
        return self.plan.rows // 32 * 32 + 16 + (32 if self.plan.rows % 32 > 16 else 0)

    def _copy_a(self, piece: _Slice) -> None:
        """Copy the current rows and steps of a transposed A, as they lie."""
        kernel, a = self.kernel, self.layout.a
        at = a.offset + self.rows.first * a.row + piece.first * a.column
        kernel.line(
            f"copy_rows({self.plan.tile.lanes}, part, {self._copy_row()}, {a.buffer}, "
            f"{kernel.size(at)}, {kernel.size(a.column)}, {self.text(piece.count)}, "
            f"{self.rows.count})"
        )

    def _write_panel(self, piece: _Slice, columns: Range) -> None:
        """Multiply all rows by these columns of one slice of B, which is packed first or meanwhile."""
        kernel, b, tile = self.kernel, self.layout.b, self.plan.tile
        c, a, a_step = self._operands(piece, columns)
        if self.plan.copies:
            a, a_step = Place("part", 0, 1), self._copy_row()
        start = b.offset + piece.first * b.row + columns.first * b.column
        if b.column == 1:
            place, level = Place(b.buffer, start), Level(piece.count, a_step, b.row)
            self.gemm_panel(tile, c, self.rows, columns, a, place, level, piece.add)
            return
        kernel.line(
            f"pack_transposed({tile.lanes}, panel, {tile.width}, {b.buffer}, "
            f"{kernel.size(start)}, {kernel.size(b.column)}, {self.text(piece.count)}, "
            f"{columns.count})"
        )
        level = Level(piece.count, a_step, tile.width)
        self.gemm(tile, c, self.rows, columns, a, Place("panel", 0), [level], piece.add)

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

    def _multiply(self, tile: Tile, piece: _Slice, columns: Range) -> None:
        """C (+)= A B for the current rows, some columns and a slice of k, read where they lie."""
        c, a, a_step = self._operands(piece, columns)
        level = Level(piece.count, a_step, self.layout.b.row)
        self.gemm(tile, c, self.rows, columns, a, self._in_place(piece), [level], piece.add)

    def _operands(self, piece: _Slice, columns: Range) -> tuple[Place, Place, Size]:
        """Where results of these columns go, the current rows of A, and the distance of its steps."""
        at = self.layout
        matrix = self.kernel.index("matrix", at.count)
        place = (matrix * at.rows + self.rows.first) * at.columns + columns.first
        c = self.result(place, at.columns, columns.first - self.columns.first, self.stride)
        a_at = at.a.offset + self.rows.first * at.a.row + piece.first * at.a.column
        return c, Place(at.a.buffer, a_at, at.a.row), at.a.column


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
