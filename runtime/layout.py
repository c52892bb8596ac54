"""Words of the driver's tables, shared by the code that writes them and the code that runs them."""

#: opcodes of the driver's rows
LAUNCH, COPY, UNLESS, JUMP, BEGIN, NEXT, SLICE, GATHER = range(1, 9)

#: words of one row
ROW = 12

#: words of a context: row, length, code, pointers, ids, local, counters, team, status, profile,
#: fuel, objects, entry table
CONTEXT = 13

#: what a run returns: it is finished, the arrays are not those of its table, a kernel reported an
#: error, or there is more to do
DONE, MISFIT, FAILED, UNDONE = range(4)

#: words of a team of threads, a cache line (8 words) or more apart from each other:
#: the claim word, the count of finished chunks, the launch (kernel, buffers, dims, extent, grain,
#: chunks), and whether a run is going on
CLAIM, FINISHED, TASK, RUNNING, TEAM = 0, 16, 32, 48, 64
