"""Words of the driver's tables, shared by the code that writes them and the code that runs them."""

#: opcodes of the driver's rows
LAUNCH, COPY, UNLESS, JUMP, BEGIN, NEXT, SLICE, GATHER, KEPT = range(1, 10)

#: words of one row
ROW = 12

#: words of a context: row, length, code, pointers, ids, local, counters, team, status, profile,
#: fuel, objects, entry table, address of the changes (see `runtime.changes`), changes for which the
#: kept buffers were filled (-1: none), changes for which they are being filled, row behind what
#: fills them, whether the program writes variables
CONTEXT = 18

#: what a run returns: it is finished, the arrays are not those of its table, a kernel reported an
#: error, or there is more to do
DONE, MISFIT, FAILED, UNDONE = range(4)

#: words of a team of threads: whether a run is going on, and the number of threads; then a block for
#: each thread, whose parts lie two cache lines (16 words) apart: what it waits for, the number of
#: chunks of its range that are finished, and how many will be
RUNNING, SIZE, BLOCKS, BLOCK = 0, 8, 16, 48
#: words of a block: claim, kernel, buffers, dims, extent, grain, chunks; finished; expected
CLAIM, TASK, FINISHED, EXPECTED = 0, 1, 16, 32
