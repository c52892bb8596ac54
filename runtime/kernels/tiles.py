"""Turns products of tiles into LLVM vector code: one micro-kernel, and the packing that feeds it.

The micro-kernel keeps `rows x vectors` accumulators in vector registers and runs a nest of loops
over the summed index. In each step it loads `vectors` vectors of B (unit stride) and adds their
products with one broadcast element of A per row:

    for k: b = B[k, 0 : vectors * lanes]; for r: sum[r] += A[r, k] * b

Matrix products, convolutions and their weight gradients differ only in the strides. The order of
a sum depends on nothing but the loop nest, so a result has the same bits for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

__all__ = ["copy_rows", "gemm_panel", "gemm_tiles", "pack_transposed"]

_I1, _I32, _I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)

#: how many rows of B are asked for before they are read
_ROWS_AHEAD = 16

#: (count, stride in A, stride in B) of one loop over the summed index
Level = tuple[ir.Value, ir.Value, ir.Value]


class _Vectors:
    """Instructions on vectors of one dtype and width."""

    def __init__(self, builder: ir.IRBuilder, dtype: types.Float, lanes: int) -> None:
        self.builder, self.lanes = builder, lanes
        self.element = ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
        self.align = dtype.bitwidth // 8
        self.type = ir.VectorType(self.element, lanes)
        self.mask_type = ir.VectorType(_I1, lanes)
        self.suffix = f"v{lanes}f{dtype.bitwidth}"

    def constant(self, value: float) -> ir.Value:
        return ir.Constant(self.type, [value] * self.lanes)

    def call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        function = ir.FunctionType(result, [arg.type for arg in args])
        name = f"{name}.{self.suffix}"
        return self.builder.call(
            cgutils.get_or_insert_function(self.builder.module, function, name), args
        )

    def multiply_add(self, a: ir.Value, b: ir.Value, total: ir.Value) -> ir.Value:
        """a * b + total, fused where the CPU can; never a call of libm."""
        return self.call("llvm.fmuladd", self.type, a, b, total)

    def at(self, base: ir.Value, offset: ir.Value) -> ir.Value:
        return self.builder.gep(base, [offset], inbounds=True)

    def pointer(self, base: ir.Value, offset: ir.Value) -> ir.Value:
        return self.builder.bitcast(self.at(base, offset), self.type.as_pointer())

    def load(self, base: ir.Value, offset: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        pointer = self.pointer(base, offset)
        if mask is None:
            return self.builder.load(pointer, align=self.align)
        args = (pointer, _I32(self.align), mask, self.constant(0.0))
        return self.call("llvm.masked.load", self.type, *args)

    def store(
        self, value: ir.Value, base: ir.Value, offset: ir.Value, mask: ir.Value | None = None
    ) -> None:
        pointer = self.pointer(base, offset)
        if mask is None:
            self.builder.store(value, pointer, align=self.align)
        else:
            self.call("llvm.masked.store", ir.VoidType(), value, pointer, _I32(self.align), mask)

    def prefetch(self, base: ir.Value, offset: ir.Value) -> None:
        """Ask for the cache line of an element, which will be read; any address will do."""
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        name = "llvm.prefetch.p0i8"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        pointer = self.builder.bitcast(self.builder.gep(base, [offset]), byte)
        self.builder.call(function, [pointer, _I32(0), _I32(3), _I32(1)])

    def broadcast(self, value: ir.Value) -> ir.Value:
        undefined = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, value, _I32(0))
        lanes = ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def mask(self, count: ir.Value, first: int) -> ir.Value:
        """True in the lanes i with first + i < count."""
        if isinstance(count, ir.Constant):
            return ir.Constant(
                self.mask_type, [int(first + i < count.constant) for i in range(self.lanes)]
            )
        places = ir.Constant(
            ir.VectorType(_I64, self.lanes), [first + i for i in range(self.lanes)]
        )
        return self.builder.icmp_signed("<", places, self.broadcast(count))


@contextmanager
def _loop(builder: ir.IRBuilder, begin: ir.Value, end: ir.Value, step: int) -> Iterator[ir.Value]:
    """`for i in range(begin, end, step)`."""
    entry = builder.block
    head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(_I64)
    index.add_incoming(begin, entry)
    builder.cbranch(builder.icmp_signed("<", index, end), body, done)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, _I64(step), flags=("nsw",)), builder.block)
    builder.branch(head)
    builder.position_at_end(done)


class _Product:
    """Writes C (+)= A B for a block of rows and columns, tile by tile."""

    def __init__(
        self,
        v: _Vectors,
        c: tuple[ir.Value, ir.Value],
        a: tuple[ir.Value, ir.Value],
        b: ir.Value,
        levels: Sequence[Level],
        add: ir.Value,
    ) -> None:
        """c and a are (base pointer, row stride)."""
        self.v, self.builder = v, v.builder
        (self.c, self.c_row), (self.a, self.a_row), self.b = c, a, b
        self.levels, self.add = levels, add
        #: where B comes from (base, row stride), if it is to be copied to `b` first
        self.source: tuple[ir.Value, ir.Value] | None = None
        self.copies = False

    @contextmanager
    def copying(self) -> Iterator[None]:
        """B is read where it comes from, and copied to where it is read afterwards."""
        assert self.source is not None
        usual = self.b, self.levels
        ((count, a_step, panel_row),) = self.levels
        self.panel, self.copies = (self.b, panel_row), True
        self.b, self.levels = self.source[0], [(count, a_step, self.source[1])]
        yield
        self.copies = False
        self.b, self.levels = usual

    def tile(
        self, rows: int, vectors: int, row: ir.Value, column: ir.Value, left: ir.Value | None
    ) -> None:
        """One tile at (row, column); `left` columns of it exist, all of them if None."""
        builder, v = self.builder, self.v
        masks: list[ir.Value | None] = [None] * vectors
        if left is not None:
            masks = [v.mask(left, j * v.lanes) for j in range(vectors)]
        a_rows = [
            v.at(self.a, builder.mul(builder.add(row, _I64(r)), self.a_row)) for r in range(rows)
        ]
        at = builder.add(builder.mul(row, self.c_row), column)
        places = [
            builder.add(at, builder.add(builder.mul(_I64(r), self.c_row), _I64(j * v.lanes)))
            for r in range(rows)
            for j in range(vectors)
        ]
        sums = [v.constant(0.0)] * (rows * vectors)
        sums = self._nest(self.levels, a_rows, v.at(self.b, column), masks, sums)

        def finish(accumulate: bool) -> None:
            for number, (place, value) in enumerate(zip(places, sums, strict=True)):
                mask = masks[number % vectors]
                if accumulate:
                    value = builder.fadd(v.load(self.c, place, mask), value)
                v.store(value, self.c, place, mask)

        _either(builder, self.add, lambda: finish(True), lambda: finish(False))

    def _nest(
        self,
        levels: Sequence[Level],
        a_rows: list[ir.Value],
        b: ir.Value,
        masks: list[ir.Value | None],
        sums: list[ir.Value],
    ) -> list[ir.Value]:
        """The loops over the summed index; the sums are loop-carried registers."""
        builder, v = self.builder, self.v
        if not levels:
            row_of_b = [v.load(b, _I64(j * v.lanes), mask) for j, mask in enumerate(masks)]
            totals = iter(sums)
            new = []
            for a_row in a_rows:
                a = v.broadcast(builder.load(a_row))
                new += [v.multiply_add(a, column, next(totals)) for column in row_of_b]
            return new
        (count, a_step, b_step), *inner = levels
        entry = builder.block
        head, body, done = (
            builder.append_basic_block(f"sum_{n}") for n in ("head", "body", "done")
        )
        builder.branch(head)
        builder.position_at_end(head)
        index, *carried = [builder.phi(t) for t in (_I64, *[v.type] * len(sums))]
        for phi, start in zip((index, *carried), (_I64(0), *sums), strict=True):
            phi.add_incoming(start, entry)
        builder.cbranch(builder.icmp_signed("<", index, count), body, done)
        builder.position_at_end(body)
        a_offset, b_offset = builder.mul(index, a_step), builder.mul(index, b_step)
        inner_rows = [v.at(a, a_offset) for a in a_rows]
        if self.copies:
            self._copy_row(index, v.at(b, b_offset), b_step, masks)
        new = self._nest(inner, inner_rows, v.at(b, b_offset), masks, carried)
        following = builder.add(index, _I64(1), flags=("nsw",))
        for phi, value in zip((index, *carried), (following, *new), strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return carried

    def _copy_row(
        self, k: ir.Value, row: ir.Value, step: ir.Value, masks: list[ir.Value | None]
    ) -> None:
        """Copy row k of B to the panel, and ask for a row further on."""
        builder, v = self.builder, self.v
        panel, panel_row = self.panel
        ahead = builder.mul(step, _I64(_ROWS_AHEAD))
        for j, mask in enumerate(masks):
            place = _I64(j * v.lanes)
            v.prefetch(row, builder.add(ahead, place))
            target = builder.add(builder.mul(k, panel_row), place)
            v.store(v.load(row, place, mask), panel, target)


def _either(
    builder: ir.IRBuilder, condition: ir.Value, then: Callable, otherwise: Callable
) -> None:
    """if/else; a constant condition leaves one side."""
    if isinstance(condition, ir.Constant):
        (then if condition.constant else otherwise)()
        return
    with builder.if_else(condition) as (true, false):
        with true:
            then()
        with false:
            otherwise()


def _partial(size: ir.Value, step: int, tail: int) -> tuple[bool, int]:
    """(whether whole steps can occur, the tail): 0 none, `step` any size, else exactly that."""
    if isinstance(size, ir.Constant):
        return size.constant >= step, size.constant % step
    return True, tail


def _whole(builder: ir.IRBuilder, size: ir.Value, step: int, tail: int) -> ir.Value:
    """The part of `size` that whole steps cover."""
    if isinstance(size, ir.Constant):
        return _I64(size.constant // step * step)
    return size if tail == 0 else builder.sub(size, builder.urem(size, _I64(step)))


def _emit_columns(
    product: _Product,
    rows: ir.Value,
    columns: ir.Value,
    shape: tuple[int, int],
    tails: tuple[int, int],
) -> None:
    """All tiles: columns outside, so that a panel of B is used by every row while it is near."""
    builder, lanes = product.builder, product.v.lanes
    width = shape[1] * lanes
    some, tail = _partial(columns, width, tails[1])
    whole = _whole(builder, columns, width, tail)
    if some:
        with _loop(builder, _I64(0), whole, width) as column:
            _emit_rows(product, rows, column, None, shape, tails[0])
    if tail == width:
        left = builder.sub(columns, whole)
        with builder.if_then(builder.icmp_signed(">", left, _I64(0))):
            _emit_rows(product, rows, whole, left, shape, tails[0])
    elif tail:
        narrow = shape[0], -(-tail // lanes)
        left = _I64(tail) if tail % lanes else None
        with builder.if_then(builder.icmp_signed("<", whole, columns)):
            _emit_rows(product, rows, whole, left, narrow, tails[0])


def _emit_rows(
    product: _Product,
    rows: ir.Value,
    column: ir.Value,
    left: ir.Value | None,
    shape: tuple[int, int],
    row_tail: int,
) -> None:
    builder, (height, vectors) = product.builder, shape
    some, tail = _partial(rows, height, row_tail)
    whole = _whole(builder, rows, height, tail)
    begin = _I64(0)
    if product.source is not None:
        _emit_first_rows(product, rows, column, left, shape, some)
        begin = _I64(height)
    if some:
        with _loop(builder, begin, whole, height) as row:
            product.tile(height, vectors, row, column, left)
    if tail == height:
        # The rest in powers of two: each is a tile of its own, without scalar rows.
        rest = builder.sub(rows, whole)
        for power in (16, 8, 4, 2, 1):
            if power < height:
                fits = builder.icmp_signed(">=", rest, _I64(power))
                with builder.if_then(fits):
                    product.tile(power, vectors, builder.sub(rows, rest), column, left)
                rest = builder.select(fits, builder.sub(rest, _I64(power)), rest)
    elif tail:
        with builder.if_then(builder.icmp_signed("<", whole, rows)):
            product.tile(tail, vectors, whole, column, left)


def _emit_first_rows(
    product: _Product,
    rows: ir.Value,
    column: ir.Value,
    left: ir.Value | None,
    shape: tuple[int, int],
    some: bool,
) -> None:
    """The first tile of a panel, which copies B on the way; without a whole tile a plain copy."""
    builder, (height, vectors) = product.builder, shape

    def multiply() -> None:
        with product.copying():
            product.tile(height, vectors, _I64(0), column, left)

    def copy() -> None:
        with product.copying():
            product.tile(0, vectors, _I64(0), column, left)

    enough = builder.icmp_signed(">=", rows, _I64(height)) if some else _I1(0)
    if isinstance(rows, ir.Constant):
        enough = _I1(int(some))
    _either(builder, enough, multiply, copy)


def _formal(argument: types.Type) -> types.Type:
    """How an int64 argument is passed: a literal stays one, so that its value is known here."""
    return argument if isinstance(argument, types.IntegerLiteral) else types.int64


def _base(v: _Vectors, value: ir.Value, at: ir.Value) -> ir.Value:
    """Pointer to element `at` of a buffer or of an address."""
    if isinstance(value.type, ir.IntType):
        value = v.builder.inttoptr(value, v.element.as_pointer())
    return v.at(value, at)


@intrinsic(prefer_literal=True)
def gemm_tiles(
    typing, height, vectors, lanes, row_tail, column_tail,
    c, c_at, c_row, rows, columns, add, a, a_at, a_row, b, b_at, *levels,
):  # fmt: skip
    """C = A B, or C += A B where `add` holds, for a block of any size.

    A tile has `height` rows and `vectors * lanes` columns. Offsets (`_at`) and strides count
    elements; columns of B and C have stride 1. `levels` is `count, a_step, b_step` for each loop
    over the summed index, outermost first. `b` may be an `address`.

    The tails (literals) say what can be left over when the rows are cut into tiles: 0 nothing, t
    exactly t rows or none, `height` any number; for columns likewise with `vectors * lanes`.
    """
    dtype = c.dtype
    sizes = (c_at, c_row, rows, columns, a_at, a_row, b_at, *levels)
    shape = (height, vectors, lanes, row_tail, column_tail)
    add_formal = add if isinstance(add, types.IntegerLiteral) else types.boolean

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        c, c_at, c_row, rows, columns, add, a, a_at, a_row, b, b_at, *nest = args[5:]
        given = (c_at, c_row, rows, columns, a_at, a_row, b_at, *nest)
        c_at, c_row, rows, columns, a_at, a_row, b_at, *nest = (
            _I64(t.literal_value) if isinstance(t, types.IntegerLiteral) else value
            for t, value in zip(sizes, given, strict=True)
        )
        if isinstance(add_formal, types.IntegerLiteral):
            add = _I1(add_formal.literal_value)
        tile_height, tile_vectors, width, *tails = (t.literal_value for t in shape)
        v = _Vectors(builder, dtype, width)
        c, a, b = _base(v, c, c_at), _base(v, a, a_at), _base(v, b, b_at)
        levels = list(zip(nest[::3], nest[1::3], nest[2::3], strict=True))
        product = _Product(v, (c, c_row), (a, a_row), b, levels, add)
        _emit_columns(product, rows, columns, (tile_height, tile_vectors), tuple(tails))
        return context.get_dummy_value()

    c_at, c_row, rows, columns, a_at, a_row, b_at, *nest = map(_formal, sizes)
    formal = (c, c_at, c_row, rows, columns, add_formal, a, a_at, a_row, b, b_at, *nest)
    return signature(types.none, *shape, *formal), lower


@intrinsic(prefer_literal=True)
def gemm_panel(
    typing, height, vectors, lanes, row_tail, column_tail,
    c, c_at, c_row, rows, columns, add, a, a_at, a_row, panel, b, b_at, count, a_step, b_row,
):  # fmt: skip
    """`gemm_tiles` for at most `vectors * lanes` columns, which copies B to `panel` on the way.

    The first tile of rows reads B in its buffer and stores it, the others read the panel: a copy
    before them would wait for memory, here the products hide it.
    """
    dtype = c.dtype
    sizes = (c_at, c_row, rows, columns, a_at, a_row, b_at, count, a_step, b_row)
    shape = (height, vectors, lanes, row_tail, column_tail)
    add_formal = add if isinstance(add, types.IntegerLiteral) else types.boolean

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        c, c_at, c_row, rows, columns, add, a, a_at, a_row, panel, b, b_at, *nest = args[5:]
        given = (c_at, c_row, rows, columns, a_at, a_row, b_at, *nest)
        c_at, c_row, rows, columns, a_at, a_row, b_at, count, a_step, b_row = (
            _I64(t.literal_value) if isinstance(t, types.IntegerLiteral) else value
            for t, value in zip(sizes, given, strict=True)
        )
        if isinstance(add_formal, types.IntegerLiteral):
            add = _I1(add_formal.literal_value)
        tile_height, tile_vectors, width, *tails = (t.literal_value for t in shape)
        v = _Vectors(builder, dtype, width)
        c, a, b = _base(v, c, c_at), _base(v, a, a_at), _base(v, b, b_at)
        levels = [(count, a_step, _I64(tile_vectors * width))]
        product = _Product(v, (c, c_row), (a, a_row), panel, levels, add)
        product.source = b, b_row
        _emit_columns(product, rows, columns, (tile_height, tile_vectors), tuple(tails))
        return context.get_dummy_value()

    c_at, c_row, rows, columns, a_at, a_row, b_at, *nest = map(_formal, sizes)
    formal = (c, c_at, c_row, rows, columns, add_formal, a, a_at, a_row, panel, b, b_at, *nest)
    return signature(types.none, *shape, *formal), lower


# ---- Packing -------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def copy_rows(typing, lanes, target, target_row, source, at, row, count, columns):
    """target[r * target_row + j] = source[at + r * row + j] for r < count and j < columns."""
    sizes = (target_row, at, row, count, columns)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        _, target, target_row, source, *rest = args
        target_row, at, row, count, columns = (
            _I64(t.literal_value) if isinstance(t, types.IntegerLiteral) else value
            for t, value in zip(sizes, (target_row, *rest), strict=True)
        )
        v = _Vectors(builder, types.unliteral(source_type.dtype), lanes.literal_value)
        base, step = v.at(source, at), 4 * v.lanes
        whole = _whole(builder, columns, step, step)
        with _loop(builder, _I64(0), count, 1) as r:
            start = v.at(base, builder.mul(r, row))
            goal = v.at(target, builder.mul(r, target_row))
            ahead = builder.mul(row, _I64(_ROWS_AHEAD))
            with _loop(builder, _I64(0), whole, step) as j:
                places = [builder.add(j, _I64(k * v.lanes)) for k in range(4)]
                for place in places:
                    v.prefetch(start, builder.add(ahead, place))
                for place, value in [(place, v.load(start, place)) for place in places]:
                    v.store(value, goal, place)
            with _loop(builder, whole, columns, v.lanes) as j:
                mask = v.mask(builder.sub(columns, j), 0)
                v.store(v.load(start, j, mask), goal, j, mask)
        return context.get_dummy_value()

    source_type = source
    formal = (lanes, target, _formal(target_row), source, *map(_formal, sizes[1:]))
    return signature(types.none, *formal), lower


@intrinsic(prefer_literal=True)
def pack_transposed(typing, lanes, panel, width, source, at, column, count, columns):
    """panel[k, j] = source[at + j * column + k] for k < count and j < columns; `width` a panel row.

    Square blocks of `lanes` elements are turned in registers. Rows of the panel up to the next
    multiple of `lanes` beyond `count`, and columns up to `width`, may be overwritten with zeros.
    """
    sizes = (at, column, count, columns)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: Sequence[ir.Value]) -> Any:
        _, panel, _, source, *rest = args
        at, column, count, columns = (
            _I64(t.literal_value) if isinstance(t, types.IntegerLiteral) else value
            for t, value in zip(sizes, rest, strict=True)
        )
        v = _Vectors(builder, types.unliteral(source_type.dtype), lanes.literal_value)
        step, panel_row = v.lanes, _I64(width.literal_value)
        base = v.at(source, at)

        def block(j: ir.Value, k: ir.Value, masked: bool) -> None:
            start = builder.add(builder.mul(j, column), k)
            mask = v.mask(builder.sub(count, k), 0) if masked else None
            rows = []
            for r in range(step):
                place = builder.add(start, builder.mul(_I64(r), column))
                inside = mask
                if masked:
                    exists = builder.icmp_signed("<", builder.add(j, _I64(r)), columns)
                    inside = builder.and_(mask, v.broadcast(exists))
                rows.append(v.load(base, place, inside))
            target = builder.add(builder.mul(k, panel_row), j)
            for r, row in enumerate(_transposed(builder, rows)):
                v.store(row, panel, builder.add(target, builder.mul(_I64(r), panel_row)))

        with _loop(builder, _I64(0), columns, step) as j, _loop(builder, _I64(0), count, step) as k:
            whole = builder.and_(
                builder.icmp_signed("<=", builder.add(j, _I64(step)), columns),
                builder.icmp_signed("<=", builder.add(k, _I64(step)), count),
            )
            _either(builder, whole, lambda: block(j, k, False), lambda: block(j, k, True))
        return context.get_dummy_value()

    source_type = source
    formal = (lanes, panel, width, source, *map(_formal, sizes))
    return signature(types.none, *formal), lower


def _transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """The columns of a square block: log2(n) rounds that interleave row i with row i + n/2."""
    n = len(rows)
    low = [lane for i in range(n // 2) for lane in (i, n + i)]
    masks = [
        ir.Constant(ir.VectorType(_I32, n), [lane + half for lane in low]) for half in (0, n // 2)
    ]
    for _ in range(n.bit_length() - 1):
        rows = [
            builder.shuffle_vector(rows[i], rows[i + n // 2], mask)
            for i in range(n // 2)
            for mask in masks
        ]
    return rows
