"""Words of the driver's tables, shared by the code that writes them and the code that runs them."""

#: opcodes of the driver's rows
LAUNCH, COPY, UNLESS, JUMP, BEGIN, NEXT, SLICE, GATHER = range(1, 9)

#: words of one row
ROW = 12

#: words of a context: row, length, code, pointers, ids, local, counters, team, status, profile,
#: fuel, objects, entry table, row at which a call begins
CONTEXT = 14

#: what a run returns: it is finished, the arrays are not those of its table, a kernel reported an
#: error, or there is more to do
DONE, MISFIT, FAILED, UNDONE = range(4)

#: words of a team of threads, two cache lines (16 words) apart from each other: the count of
#: finished chunks; the launch (kernel, buffers, dims, extent, grain, chunks) and the number of
#: threads; whether a run is going on; and a claim word for each thread, CLAIM_STEP words apart
FINISHED, TASK, RUNNING, CLAIMS, CLAIM_STEP = 0, 16, 32, 48, 16
