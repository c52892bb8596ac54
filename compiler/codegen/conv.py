"""Convolution nodes without padding in, the loops around the register tile out.

Channels lie last, so the taps of one kernel row and their channels are neighbours in memory. A row
of output pixels is then a product of matrices: its rows are the pixels (distance stride * c_in),
and the summed index runs over kernel rows, then over (tap, channel) of a row. No im2col:

    conv          sum over (kernel rows..., kernel column * channel)    rows: pixels of a line
    weight_grad   sum over (image, lines..., pixel)                     rows: kernel column * channel

A weight gradient is shared by blocks of the result, or by ranges of images (`parts`), each of which
makes a whole gradient of its own: two threads that both read all images wait for each other's
caches (64 x 14 x 14 x 32 -> 64: 3.6 ms by blocks, 1.6 ms by ranges).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.codegen.tile_writer import Level, Place, Range, Text, TileWriter
from graphflow.compiler.codegen.tiling import blocks, choose_tile, even_block
from graphflow.compiler.dims import (
    Size,
    delinearize,
    floor_div,
    product,
    row_major_strides,
    typical,
)
from graphflow.compiler.graph import Node
from graphflow.compiler.spec import ITEMSIZE
from graphflow.compiler.target import Target

#: most pixels and channels of a block: the epilogue's part of the stack
BLOCK_PIXELS, BLOCK_CHANNELS = 112, 128
#: bytes of the results that share one packed panel of the weights, and the most steps of the sum in
#: the panel
PACKED_BYTES, PANEL_STEPS = 128 * 1024, 512
#: bytes of the cotangent that all blocks of a weight gradient read before the next ones
SLICE_BYTES = 256 * 1024
#: rows and columns of a block of a weight gradient
GRAD_ROWS, GRAD_COLUMNS = 96, 128


class _Taps:
    """How a kernel moves over an image, in element strides.

    Attributes:
        image, lines, pixel: distance of images, of output lines (each leading axis), of pixels.
        loops: (count, image stride) of each loop over taps.
        channels: what is left of the sum, with image stride 1: the channels of a group, or the
            taps and channels of a kernel row, which are one stretch of memory.
    """

    def __init__(self, image: tuple[Size, ...], kernel: tuple[int, ...], node: Node):
        strides, dilation = node.attrs["strides"], node.attrs["dilation"]
        self.groups: int = node.attrs["groups"]
        self.image, *steps = row_major_strides(image)[:-1]
        *self.lines, self.pixel = [s * step for s, step in zip(strides, steps, strict=True)]
        self.loops = [(k, d * step) for k, d, step in zip(kernel, dilation, steps, strict=True)]
        self.channels = floor_div(image[-1], self.groups)
        if self.groups == 1 and dilation[-1] == 1:
            self.channels = self.channels * kernel[-1]
            self.loops.pop()

    def line(self, place: Sequence[Size]) -> Size:
        """Image offset of the output line (image, *leading axes)."""
        offsets = (p * s for p, s in zip(place, (self.image, *self.lines), strict=True))
        return sum(offsets, start=0)


class _ConvWriter(TileWriter):
    """Writes a convolution.

    A block is some lines of output pixels by some channels. Small weights are read in place, a
    line at a time; large ones are packed, one panel for many lines.
    """

    def __init__(self, node: Node, kernel: TemplateKernel, target: Target):
        super().__init__(node, kernel)
        x, w = node.inputs
        self.taps = _Taps(x.shape, w.shape[:-2], node)
        self.x, self.w = kernel.buffer(x), kernel.buffer(w)
        self.w_steps = row_major_strides(w.shape)
        self.lines = node.shape[:-2]
        self.pixels = node.shape[-2]
        self.outputs = node.shape[-1]
        self.channels = floor_div(self.outputs, self.taps.groups)
        tile = self.tile = choose_tile(target, node.dtype, self.pixels, self.channels)
        size = typical(product(w.shape)) * ITEMSIZE[node.dtype]
        self.packed = size > target.cache_bytes and typical(self.taps.channels) >= tile.lanes
        self.row_block = BLOCK_PIXELS // tile.height * tile.height
        if isinstance(self.pixels, int):
            self.row_block = self.pixels
            if self.pixels > BLOCK_PIXELS:
                self.row_block = even_block(self.pixels, BLOCK_PIXELS, tile.height)
        most = tile.width if self.packed else BLOCK_CHANNELS
        self.column_block = even_block(typical(self.channels), most, tile.width)
        if isinstance(self.channels, int):
            self.column_block = min(self.column_block, self.channels)
        row_bytes = self.row_block * self.column_block * ITEMSIZE[node.dtype]
        self.line_block = max(1, PACKED_BYTES // row_bytes) if self.packed else 1

    def write(self) -> KernelDraft:
        kernel = self.kernel
        groups, lines = self.taps.groups, product(self.lines)
        if self.packed:
            kernel.line(f"panel = stack({PANEL_STEPS * self.tile.width}, {self.cast}, 1)")
        self.open_block(self.line_block * self.row_block * self.column_block)
        parts = (
            blocks(lines, self.line_block),
            blocks(self.pixels, self.row_block),
            groups,
            blocks(self.channels, self.column_block),
        )
        # Packed weights stay near while all lines pass by.
        order = (2, 3, 0, 1) if self.packed else (0, 1, 2, 3)
        extent = product(parts)
        with kernel.loop("unit", "lo", "hi"):
            unit = kernel.index("unit", extent)
            places = delinearize(unit, tuple(parts[k] for k in order))
            line, strip, group, panel = (places[order.index(k)] for k in range(4))
            if groups > 1:
                kernel.line(f"group = {kernel.size(group)}")
            self.group = kernel.index("group", groups)
            self.line = self.range_of("line", line, parts[0], lines, self.line_block)
            self.rows = self.range_of("row", strip, parts[1], self.pixels, self.row_block)
            self.columns = self.range_of(
                "column", panel, parts[3], self.channels, self.column_block
            )
            self._write_sums()
            self._write_results()
        work = self.line_block * self.row_block * self.column_block
        return kernel.kernel(extent, cost=work * product(self.node.inputs[1].shape[:-1]))

    @contextmanager
    def _each_line(self, skipped: int = 0) -> Iterator[Size]:
        """The lines of the block, one after another, without the first `skipped`."""
        if self.line_block == 1:
            yield self.line.first
            return
        first = self.kernel.size(self.line.first)
        begin, count = first, self.line.count
        if skipped:
            begin, count = f"{first} + {skipped}", f"{count} - {skipped}"
        with self.rolled("line", begin, count):
            yield self.kernel.index("line", self.line.size)

    def _write_sums(self) -> None:
        taps, w_steps = self.taps, self.w_steps
        at = self.group * self.channels + self.columns.first
        if not self.packed:
            levels = [
                Level(count, step, w_step)
                for (count, step), w_step in zip(taps.loops, w_steps, strict=False)
                if count > 1
            ]
            levels.append(Level(taps.channels, 1, w_steps[-2]))
            self._multiply(Place(self.w, at), levels, 0, "0")
            return
        kernel = self.kernel
        shift: Size = 0
        with ExitStack() as loops:
            names = []
            for number, (count, step) in enumerate(taps.loops):
                if count > 1:
                    name = f"t{number}"
                    names.append(name)
                    loops.enter_context(self.rolled(name, "0", str(count)))
                    tap = kernel.index(name, count)
                    at, shift = at + tap * w_steps[number], shift + tap * step
            total = self.text(taps.channels)
            steps: Text = taps.channels
            if not isinstance(steps, int) or steps > PANEL_STEPS:
                names.append("k0")
                end = total if isinstance(steps, int) else f"max({total}, 1)"
                loops.enter_context(self.rolled("k0", "0", end, PANEL_STEPS))
                steps = "steps"
                kernel.line(f"steps = min({PANEL_STEPS}, {total} - k0)")
                first = kernel.index("k0", taps.channels)
                at, shift = at + first * w_steps[-2], shift + first
            add = f"{' + '.join(names)} > 0" if names else "0"
            c, a = self._operands(self.line.first, shift)
            level = Level(steps, 1, w_steps[-2])
            self.gemm_panel(self.tile, c, self.rows, self.columns, a, Place(self.w, at), level, add)
            if self.line_block > 1:
                level = Level(steps, 1, self.tile.width)
                self._multiply(Place("panel", 0), [level], shift, add, skipped=1)

    def _multiply(
        self, b: Place, levels: Sequence[Level], shift: Size, add: str, skipped: int = 0
    ) -> None:
        """Every line of the block: C (+)= pixels of x, `shift` elements further, times `b`."""
        with self._each_line(skipped) as line:
            c, a = self._operands(line, shift)
            self.gemm(self.tile, c, self.rows, self.columns, a, b, levels, add)

    def _operands(self, line: Size, shift: Size) -> tuple[Place, Place]:
        """Where the results of a line go, and where its pixels of x lie."""
        taps = self.taps
        pixel = line * self.pixels + self.rows.first
        place = pixel * self.outputs + self.group * self.channels + self.columns.first
        a_at = taps.line(delinearize(line, self.lines)) + self.rows.first * taps.pixel
        a_at = a_at + self.group * taps.channels + shift
        c = self.result(place, self.outputs, self._block_at(line), self.column_block)
        return c, Place(self.x, a_at, taps.pixel)

    def _block_at(self, line: Size) -> Size:
        return (line - self.line.first) * (self.row_block * self.column_block)

    def _write_results(self) -> None:
        if self.kernel.epilogue is None:
            return
        with self._each_line() as line:
            block = Place("block", self._block_at(line), self.column_block)
            place = delinearize(line, self.lines)
            channel = self.group * self.channels
            self.write_epilogue(
                self.rows, self.columns, block, lambda row, column: (*place, row, channel + column)
            )


def emit_conv(node: Node, kernel: TemplateKernel, target: Target) -> KernelDraft:
    """Write the kernel of a conv node without padding."""
    return _ConvWriter(node, kernel, target).write()


@dataclass(frozen=True)
class _Slice:
    """Some images and lines of the cotangent, and when they add to a sum that has begun."""

    image: Size
    images: Text
    line: Size
    lines: Text
    add: str


class _WeightGradWriter(TileWriter):
    """Writes a gradient of weights.

    The loop over images lies outside that over the blocks of the result: a slice of the cotangent
    then stays near while all blocks of a thread use it. Each block still adds in one order.
    """

    def __init__(self, node: Node, kernel: TemplateKernel, target: Target):
        super().__init__(node, kernel)
        x, ct = node.inputs
        self.x, self.ct = kernel.buffer(x), kernel.buffer(ct)
        self.parts: int = node.attrs.get("parts", 1)
        self.taps = taps = _Taps(x.shape, node.attrs["kernel"], node)
        self.shape = ct.shape
        self.steps = row_major_strides(ct.shape)[:-1]
        self.outputs = ct.shape[-1]
        self.channels = floor_div(self.outputs, taps.groups)
        self.tile = choose_tile(target, node.dtype, taps.channels, self.channels)
        self.column_block = even_block(typical(self.channels), GRAD_COLUMNS, self.tile.width)
        self.row_block = self._rows_of_block()

    def _rows_of_block(self) -> int:
        """About GRAD_ROWS, such that the number of blocks is even."""
        rows, taps = typical(self.taps.channels), self.taps
        block = even_block(rows, GRAD_ROWS, self.tile.height)
        others = product(count for count, _ in taps.loops) * taps.groups
        strips = -(-rows // block)
        if typical(others * blocks(self.channels, self.column_block)) * strips % 2:
            block = even_block(rows, -(-rows // (strips + 1)), self.tile.height)
        return block

    def write(self) -> KernelDraft:
        kernel, taps = self.kernel, self.taps
        cuts = (
            *(count for count, _ in taps.loops),
            taps.groups,
            blocks(taps.channels, self.row_block),
            blocks(self.channels, self.column_block),
        )
        extent = product(cuts)
        with ExitStack() as loops:
            if self.parts > 1:
                loops.enter_context(kernel.loop("part", "lo", "hi"))
            piece = loops.enter_context(self._slices())
            bounds = ("0", kernel.size(extent)) if self.parts > 1 else ("lo", "hi")
            loops.enter_context(kernel.loop("unit", *bounds))
            *places, group, strip, panel = delinearize(kernel.index("unit", extent), cuts)
            for name, place, count in zip(self._names(), (*places, group), cuts, strict=False):
                if count != 1:
                    kernel.line(f"{name} = {kernel.size(place)}")
            rows = self.range_of("row", strip, cuts[-2], taps.channels, self.row_block)
            columns = self.range_of("column", panel, cuts[-1], self.channels, self.column_block)
            self._multiply(piece, rows, columns)
        work = self.row_block * self.column_block * product(self.shape[:-1])
        if self.parts > 1:
            return kernel.kernel(self.parts, cost=floor_div(extent * work, self.parts))
        return kernel.kernel(extent, cost=work)

    def _names(self) -> list[str]:
        return [*(f"t{k}" for k in range(len(self.taps.loops))), "group"]

    def _images(self) -> tuple[Size, Text, Text]:
        """The first image, the end and the number of the images of a part."""
        kernel, count = self.kernel, self.shape[0]
        if self.parts == 1:
            return 0, count, count
        part = kernel.index("part", self.parts)
        begin, end = (floor_div(count * p, self.parts) for p in (part, part + 1))
        kernel.line(f"begin = {kernel.size(begin)}")
        kernel.line(f"end = {kernel.size(end)}")
        if isinstance(count, int) and count % self.parts == 0:
            return kernel.index("begin", count), "end", count // self.parts
        return kernel.index("begin", count), "end", "end - begin"

    @contextmanager
    def _slices(self) -> Iterator[_Slice]:
        """Loops over slices of the cotangent: several images, or some lines of one."""
        kernel, (count, *leading, _, _) = self.kernel, self.shape
        itemsize = ITEMSIZE[self.node.dtype]
        most = max(1, SLICE_BYTES // max(1, typical(self.steps[0]) * itemsize))
        lines = max(1, SLICE_BYTES // max(1, typical(self.steps[1]) * itemsize))
        image, end, images = self._images()
        added = []
        with ExitStack() as loops:
            if not isinstance(images, int) or images > most:
                first = "begin" if self.parts > 1 else "lo - lo"
                added.append(f"image0 > {first}" if self.parts > 1 else "image0 > 0")
                # One pass even without images: it stores the zeros.
                last = self.text(end)
                if not isinstance(images, int):
                    last = f"max({last}, {first} + 1)"
                loops.enter_context(kernel.loop("image0", first, last, str(most)))
                kernel.line(f"images = min({most}, {self.text(end)} - image0)")
                image, images = kernel.index("image0", count), "images"
            line: Size = 0
            span: Text = leading[0] if leading else 1
            if not isinstance(span, int) or span > lines:
                added.append("line0 > 0")
                total = kernel.size(leading[0])
                stop = total if isinstance(leading[0], int) else f"max({total}, 1)"
                loops.enter_context(self.rolled("line0", "0", stop, lines))
                kernel.line(f"lines = min({lines}, {total} - line0)")
                line, span = kernel.index("line0", leading[0]), "lines"
            add = " | ".join(f"({text})" for text in added) if len(added) > 1 else "".join(added)
            yield _Slice(image, images, line, span, add or "0")

    def _multiply(self, piece: _Slice, rows: Range, columns: Range) -> None:
        """w̄ (+)= xᵀ ȳ for a block of (channel of x, channel of ȳ) at one tap."""
        taps, index = self.taps, self.kernel.index
        *places, group = (
            index(name, count)
            for name, count in zip(
                self._names(), (*(count for count, _ in taps.loops), taps.groups), strict=True
            )
        )
        leading = self.shape[1:-2]
        start = [piece.image, piece.line, *[0] * len(leading)][: 1 + len(leading)]
        a_at = taps.line(start) + group * taps.channels + rows.first
        tap: Size = 0
        for place, (count, step) in zip(places, taps.loops, strict=True):
            a_at, tap = a_at + place * step, tap * count + place
        b_at = sum((p * s for p, s in zip(start, self.steps, strict=False)), start=0)
        channel = group * self.channels + columns.first
        c_at = (tap * taps.channels + rows.first) * self.outputs + channel
        if self.parts > 1:
            whole = product(self.node.shape[1:])
            c_at = c_at + self.kernel.index("part", self.parts) * whole
        counts: list[Text] = [piece.images, *leading, self.shape[-2]]
        if leading:
            counts[1] = piece.lines
        steps = (taps.image, *taps.lines, taps.pixel)
        nest = zip(counts, steps, self.steps, strict=True)
        self.gemm(
            self.tile,
            self.result(c_at, self.outputs, 0, 0),
            rows,
            columns,
            Place(self.x, a_at, 1),
            Place(self.ct, b_at + channel),
            [Level(*level) for level in nest if level[0] != 1],
            piece.add,
        )


def emit_conv_weight_grad(node: Node, kernel: TemplateKernel, target: Target) -> KernelDraft:
    """Write the kernel of a conv_weight_grad node without padding."""
    return _WeightGradWriter(node, kernel, target).write()
