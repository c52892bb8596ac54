"""NumPy's side: products through its BLAS."""

from __future__ import annotations

from typing import Any

from benchmarks.operations import Operations
from benchmarks.peers.base import Peer
from benchmarks.workload import Inference, Session


class NumpyOperations(Operations):
    side = "NumPy"

    def matmul(self, x: Any, w: Any) -> Any:
        return x @ w


class Numpy(Peer):
    name = "NumPy"
    modules = ("numpy",)
    groups = ("gemm",)
    place = 6

    def inference(self, workload: Inference) -> Session:
        parameters, feeds = workload.data()
        p = {name: item.array for name, item in parameters.items()}
        given = {name: feed.array for name, feed in feeds.items()}
        ops = NumpyOperations()

        def call() -> Any:
            return workload.forward(ops, p, **given)

        call()
        return Session(call=call, outputs=lambda: [call()])


PEERS = [Numpy()]
