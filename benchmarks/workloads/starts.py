"""Compile time with empty caches, and the start of a whole process."""

from benchmarks.workload import FirstCall, Group, WarmProcess
from benchmarks.workloads.training import WORKLOADS as TRAINING

PLACE = 5
GROUP = Group("start", "Starts: first call with empty caches, whole warm process")
WORKLOADS = [
    WarmProcess(name="start/process-mlp", of="infer/mlp-b1", limit=0.25, quick=True),
    *(
        FirstCall(
            name=f"start/{training.name.replace('/', '-')}",
            of=training.name,
            # Eager has nothing to compile.
            without=("PyTorch eager",),
        )
        for training in TRAINING
    ),
]
