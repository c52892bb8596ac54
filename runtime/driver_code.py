"""The native driver: walks a table of int64 words, in raw memory, without Python.

A context is a block of words (CONTEXT); the code is rows of ROW words, the first an opcode:

    LAUNCH   kernel, ids, count, dims, extent, grain, chunks, can_fail, slot, work
    COPY     source id, target id, bytes
    UNLESS   buffer id, row          jump to row if the buffer's first byte is 0
    JUMP     row
    BEGIN    counter, passes, row    counter = 0; jump to row if there is no pass
    NEXT     counter, passes, row    counter += 1; jump to row while passes are left
    SLICE    counter, base id, buffer id, row bytes, last row or -1 (forwards)
    GATHER   counter, base id, buffer id, row bytes, rows, order id
             the next rows of the order, an int64 array, are copied from the base into the buffer
    KEPT     the kept buffers are filled

From row -1, a run begins with the NumPy arrays of a call. Their struct is read in place, as every
extension module does (PyArrayObject_fields of NumPy's C ABI). The entry table says what to expect:

    size of an object's header, address of numpy.ndarray, inputs, inputs and outputs
    for each input               address of its dtype, number of axes, sizes...
    for each input and output    number of buffers, their ids...

Rows up to KEPT fill the kept buffers from weights; a run begins behind them while no variable has
changed (see `runtime.changes`).

A launch is cut into chunks, and each thread has a range of them of its own, which it claims one by
one with a compare-and-swap on its word `sequence << 32 | end << 16 | next`; then it helps the
others. So a thread has the same part of an array in launch after launch, and finds it in its own
cache. No launch waits for a thread to wake: the caller does what nobody claims.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from graphflow.runtime.layout import (
    BEGIN,
    BLOCK,
    BLOCKS,
    CLAIM,
    COPY,
    DONE,
    EXPECTED,
    FAILED,
    FINISHED,
    GATHER,
    JUMP,
    KEPT,
    LAUNCH,
    MISFIT,
    NEXT,
    ROW,
    RUNNING,
    SIZE,
    SLICE,
    TASK,
    UNDONE,
    UNLESS,
)

I64 = ir.IntType(64)
POINTER = I64.as_pointer()


def _word(builder: Any, base: Any, index: Any) -> Any:
    return builder.gep(builder.inttoptr(base, POINTER), [index])


@intrinsic
def word(typing, base, index):  # type: ignore[no-untyped-def]
    """Word `index` of the block at address `base`."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_word(builder, *args))

    return types.int64(types.int64, types.int64), lower


@intrinsic
def set_word(typing, base, index, value):  # type: ignore[no-untyped-def]
    """Store a word."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _word(builder, *args[:2]))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), lower


@intrinsic
def byte(typing, base):  # type: ignore[no-untyped-def]
    """The byte at an address."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], ir.IntType(8).as_pointer()))
        return builder.zext(value, I64)

    return types.int64(types.int64), lower


@intrinsic
def acquire(typing, base, index):  # type: ignore[no-untyped-def]
    """An atomic load after which later reads see what was released with the word."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_word(builder, *args), "acquire", 8)

    return types.int64(types.int64, types.int64), lower


@intrinsic
def release(typing, base, index, value):  # type: ignore[no-untyped-def]
    """An atomic store that publishes all earlier writes."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _word(builder, *args[:2]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), lower


@intrinsic
def swap_if(typing, base, index, expected, value):  # type: ignore[no-untyped-def]
    """Compare-and-swap; 1 where the word was `expected`."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _word(builder, *args[:2])
        result = builder.cmpxchg(place, args[2], args[3], "acq_rel", "acquire")
        return builder.zext(builder.extract_value(result, 1), I64)

    return types.int64(types.int64, types.int64, types.int64, types.int64), lower


@intrinsic
def count_up(typing, base, index):  # type: ignore[no-untyped-def]
    """Add 1 to a word, atomically; what it was before."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _word(builder, *args), I64(1), "acq_rel")

    return types.int64(types.int64, types.int64), lower


@intrinsic
def pause(typing):  # type: ignore[no-untyped-def]
    """Tell the core that this is a spin loop."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        triple = builder.module.triple
        name, values = "llvm.x86.sse2.pause", []
        if triple.startswith(("aarch64", "arm64")):
            name, values = "llvm.aarch64.hint", [ir.IntType(32)(1)]
        kind = ir.FunctionType(ir.VoidType(), [v.type for v in values])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
        return context.get_dummy_value()

    return types.void(), lower


@intrinsic
def cycles(typing):  # type: ignore[no-untyped-def]
    """The core's time stamp counter."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(I64, [])
        name = "llvm.readcyclecounter"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])

    return types.int64(), lower


@intrinsic
def float_mode(typing):  # type: ignore[no-untyped-def]
    """The thread's floating-point control word."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith(("aarch64", "arm64")):
            kind = ir.FunctionType(I64, [])
            return builder.asm(kind, "mrs $0, fpcr", "=r", [], side_effect=True)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _control(builder, "llvm.x86.sse.stmxcsr", place)
        return builder.zext(builder.load(place), I64)

    return types.int64(), lower


@intrinsic
def set_float_mode(typing, mode):  # type: ignore[no-untyped-def]
    """Set the thread's floating-point control word."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith(("aarch64", "arm64")):
            kind = ir.FunctionType(ir.VoidType(), [I64])
            builder.asm(kind, "msr fpcr, $0", "r", args, side_effect=True)
        else:
            place = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(builder.trunc(args[0], ir.IntType(32)), place)
            _control(builder, "llvm.x86.sse.ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int64), lower


def _control(builder: Any, name: str, place: Any) -> None:
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(place, byte)])


@intrinsic
def flushing(typing, mode):  # type: ignore[no-untyped-def]
    """A control word with which results that would be subnormal are zero."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        arm = builder.module.triple.startswith(("aarch64", "arm64"))
        # FZ of FPCR, which takes operands for zero as well; FTZ of MXCSR, which does not.
        return builder.or_(args[0], I64(1 << 24 if arm else 1 << 15))

    return types.int64(types.int64), lower


@intrinsic
def call_kernel(typing, kernel, buffers, dims, low, high):  # type: ignore[no-untyped-def]
    """kernel(buffers, dims, low, high)"""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, I64, I64])
        function = builder.inttoptr(args[0], kind.as_pointer())
        buffers, dims = (builder.inttoptr(a, POINTER) for a in args[1:3])
        builder.call(function, [buffers, dims, *args[3:]])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), lower


def copy_bytes(target, source, count):  # type: ignore[no-untyped-def]
    """Copy words, then the rest as bytes; the ranges do not overlap."""
    for k in range(count // 8):
        set_word(target, k, word(source, k))
    for k in range(count // 8 * 8, count):
        set_byte(target + k, byte(source + k))


@intrinsic
def set_byte(typing, base, value):  # type: ignore[no-untyped-def]
    """Store the low byte of a value."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        builder.store(builder.trunc(args[1], ir.IntType(8)), place)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), lower


def take_chunks(team, me):  # type: ignore[no-untyped-def]
    """Claim and run the chunks of a thread's own range, then those of others; how many of its own.

    Who waits looks at a word of its own only: one that others claim would be slow for them.
    """
    taken = take_range(team + (BLOCKS + me * BLOCK) * 8)
    if (taken > 0) | (me == 0):
        for k in range(word(team, SIZE)):
            take_range(team + (BLOCKS + k * BLOCK) * 8)
    return taken


def take_range(block):  # type: ignore[no-untyped-def]
    """Claim and run chunks of one thread's range; how many."""
    taken = 0
    while True:
        claim = acquire(block, CLAIM)
        chunk = claim & 0xFFFF
        if chunk >= claim >> 16 & 0xFFFF:
            return taken
        kernel, buffers, dims = word(block, TASK), word(block, TASK + 1), word(block, TASK + 2)
        extent, grain, chunks = word(block, TASK + 3), word(block, TASK + 4), word(block, TASK + 5)
        # The claim fails if another thread has made it, perhaps for an earlier launch.
        if swap_if(block, CLAIM, claim, claim + 1) == 1:
            units = (extent + grain - 1) // grain
            low = units * chunk // chunks * grain
            high = min(units * (chunk + 1) // chunks * grain, extent)
            call_kernel(kernel, buffers, dims, low, high)
            count_up(block, FINISHED)
            taken += 1


def publish(team, kernel, buffers, dims, extent, grain, chunks):  # type: ignore[no-untyped-def]
    """Offer a launch to the team, help with it, and wait until every chunk is done."""
    size = word(team, SIZE)
    sequence = (word(team, BLOCKS + CLAIM) >> 32) + 1
    # The members first: they need time to see it. All earlier claims are used up.
    for number in range(size):
        k = size - 1 - number
        block = team + (BLOCKS + k * BLOCK) * 8
        begin, end = chunks * k // size, chunks * (k + 1) // size
        set_word(block, TASK, kernel)
        set_word(block, TASK + 1, buffers)
        set_word(block, TASK + 2, dims)
        set_word(block, TASK + 3, extent)
        set_word(block, TASK + 4, grain)
        set_word(block, TASK + 5, chunks)
        set_word(block, EXPECTED, word(block, EXPECTED) + end - begin)
        release(block, CLAIM, (sequence << 32) + (end << 16) + begin)
    take_chunks(team, 0)
    for k in range(size):
        block = team + (BLOCKS + k * BLOCK) * 8
        while acquire(block, FINISHED) != word(block, EXPECTED):
            pause()


def run(context):  # type: ignore[no-untyped-def]
    """`walk` without subnormal results, which are 50 times as slow as others on many CPUs.

    An Adam average whose gradient has become zero is subnormal after 800 steps.
    """
    mode = float_mode()
    set_float_mode(flushing(mode))
    state = walk(context)
    set_float_mode(mode)
    if (word(context, 17) != 0) & (state != MISFIT):
        count_change(context)
    return state


def count_change(context):  # type: ignore[no-untyped-def]
    """Tell all programs that this one has written variables; its own kept buffers stay right."""
    changes = word(context, 13)
    before = count_up(changes, 1) + acquire(changes, 0)
    if before == word(context, 14):
        set_word(context, 14, before + 1)


def first_row(context):  # type: ignore[no-untyped-def]
    """Where a run begins: behind the rows that fill the kept buffers, if those are still right."""
    behind = word(context, 16)
    if behind != 0:
        changes = word(context, 13)
        now = acquire(changes, 0) + acquire(changes, 1)
        if now == word(context, 14):
            return behind
        set_word(context, 14, -1)
        set_word(context, 15, now)
    return 0


def walk(context):  # type: ignore[no-untyped-def]
    """Walk the code from the context's row until its end, an error, or until the fuel is spent.

    From row -1, the arrays of a call are entered first. Returns DONE, or MISFIT if the arrays do
    not fit and nothing was run, or FAILED, each with the row at -1 again; UNDONE if the fuel is
    spent: the next call goes on.
    """
    at, length = word(context, 0), word(context, 1)
    set_word(context, 0, -1)
    if at < 0:
        if not enter(context):
            return MISFIT
        at = first_row(context)
    code, pointers, ids = word(context, 2), word(context, 3), word(context, 4)
    local, counters = word(context, 5), word(context, 6)
    team, status, profile = word(context, 7), word(context, 8), word(context, 9)
    fuel = word(context, 10)
    while at < length:
        row = code + at * (ROW * 8)
        opcode = word(row, 0)
        at += 1
        if opcode == LAUNCH:
            if fuel < 0:
                set_word(context, 0, at - 1)
                return UNDONE
            fuel -= word(row, 10)
            first, count = word(row, 2), word(row, 3)
            for k in range(count):
                set_word(local, k, word(pointers, word(ids, first + k)))
            begin = 0
            if profile != 0:
                begin = cycles()
            extent, chunks = word(row, 5), word(row, 7)
            if (chunks > 1) & (team != 0):
                publish(team, word(row, 1), local, word(row, 4), extent, word(row, 6), chunks)
            else:
                call_kernel(word(row, 1), local, word(row, 4), 0, extent)
            if profile != 0:
                slot = profile + word(row, 9) * 32
                end = cycles()
                set_word(slot, 0, word(slot, 0) + 1)
                set_word(slot, 1, word(slot, 1) + end - begin)
                set_word(slot, 2, begin)
                set_word(slot, 3, end)
            if word(row, 8) != 0 and word(status, 0) != 0:
                return FAILED
        elif opcode == COPY:
            source, target = word(pointers, word(row, 1)), word(pointers, word(row, 2))
            copy_bytes(target, source, word(row, 3))
        elif opcode == SLICE:
            step = word(counters, word(row, 1))
            if word(row, 5) >= 0:
                step = word(row, 5) - step
            base = word(pointers, word(row, 2))
            set_word(pointers, word(row, 3), base + step * word(row, 4))
        elif opcode == GATHER:
            size, rows = word(row, 4), word(row, 5)
            order = word(pointers, word(row, 6)) + word(counters, word(row, 1)) * rows * 8
            base, target = word(pointers, word(row, 2)), word(pointers, word(row, 3))
            for k in range(rows):
                copy_bytes(target + k * size, base + word(order, k) * size, size)
        elif opcode == UNLESS:
            if byte(word(pointers, word(row, 1))) == 0:
                at = word(row, 2)
        elif opcode == JUMP:
            at = word(row, 1)
        elif opcode == BEGIN:
            set_word(counters, word(row, 1), 0)
            if word(row, 2) <= 0:
                at = word(row, 3)
        elif opcode == NEXT:
            step = word(counters, word(row, 1)) + 1
            set_word(counters, word(row, 1), step)
            if step < word(row, 2):
                at = word(row, 3)
        elif opcode == KEPT:
            set_word(context, 14, word(context, 15))
    return DONE


def has_plain_array(object, header, kind, dtype, ndim, shape):  # type: ignore[no-untyped-def]
    """Whether an object is an ndarray of this dtype and shape, C-contiguous and aligned."""
    if word(object + header - 8, 0) != kind:
        return False
    fields = object + header
    # Flags: 1 is C-contiguous, 256 is aligned.
    if word(fields, 5) != dtype or word(fields, 6) & 257 != 257:
        return False
    if word(fields, 1) & 0xFFFFFFFF != ndim:
        return False
    sizes = word(fields, 2)
    for axis in range(ndim):
        if word(sizes, axis) != word(shape, axis):
            return False
    return True


def enter(context):  # type: ignore[no-untyped-def]
    """Enter the arrays of a call into the pointer table; whether they are what it describes."""
    pointers, objects, table = word(context, 3), word(context, 11), word(context, 12)
    header, kind = word(table, 0), word(table, 1)
    inputs, count = word(table, 2), word(table, 3)
    table += 32
    for k in range(inputs):
        ndim = word(table, 1)
        if not has_plain_array(word(objects, k), header, kind, word(table, 0), ndim, table + 16):
            return False
        table += 16 + ndim * 8
    for k in range(count):
        data = word(word(objects, k) + header, 0)
        ids = word(table, 0)
        for place in range(1, ids + 1):
            set_word(pointers, word(table, place), data)
        table += 8 + ids * 8
    return True


def work(team, me, spins):  # type: ignore[no-untyped-def]
    """A worker's life: run chunks, and return after `spins` looks that found no run going on."""
    set_float_mode(flushing(float_mode()))
    idle = 0
    while idle < spins:
        if take_chunks(team, me) > 0:
            idle = 0
        else:
            # Within a run there will be more: the caller may be in a long chunk.
            idle = 0 if acquire(team, RUNNING) else idle + 1
            pause()
    return 0


def build(name: str) -> bytes:
    """Object code of `run` or `work`; the symbol is `gf_<name>`."""
    from graphflow.runtime.jit import compile_function

    signatures = {"run": types.int64(types.int64), "work": types.int64(*[types.int64] * 3)}
    functions: dict[str, Any] = {"run": run, "work": work}
    return compile_function(functions[name], signatures[name], f"gf_{name}")
