"""Products x w of many shapes; w is a weight, which a side may rearrange beforehand."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.networks import weight
from benchmarks.workload import Feed, Feeds, Group, Inference, Parameters

PLACE = 6
GROUP = Group("gemm", "GEMM sweep, rows × depth × columns", mean_target=0.9)

# Rows, depth, columns.
QUICK = (
    *((1, 784, 128), (32, 784, 64), (256, 784, 128), (33, 33, 33), (128, 256, 1024)),
    *((256, 1024, 1024), (512, 512, 512), (64, 1600, 10)),
)
SHAPES = (
    *QUICK,
    # one row, one column, ten columns
    *((1, 1024, 1024), (1, 4096, 1000), (1000, 1000, 1), (32, 64, 10), (256, 128, 10)),
    *((32, 64, 64), (1000, 128, 10), (16, 128, 512), (800, 64, 512)),
    # gradients of weights: few columns, deep
    *((784, 32, 64), (64, 32, 64), (1024, 256, 1024)),
    # odd sizes
    *((100, 100, 100), (1000, 1000, 1000), (127, 255, 63), (33, 1000, 33), (257, 769, 129)),
    # square and large
    *((64, 64, 64), (128, 128, 128), (256, 256, 256), (1024, 1024, 1024), (2048, 2048, 2048)),
)


def _parameters(depth: int, columns: int) -> Callable[[np.random.Generator], Parameters]:
    return lambda rng: {"w": weight(rng, depth, columns)}


def _feeds(rows: int, depth: int) -> Callable[[np.random.Generator], Feeds]:
    return lambda rng: {"x": Feed(rng.standard_normal((rows, depth), "f4"))}


def _product(ops: Any, p: Any, x: Any) -> Any:
    return ops.matmul(x, p["w"])


WORKLOADS = [
    Inference(
        name=f"gemm/{rows}x{depth}x{columns}",
        forward=_product,
        parameters=_parameters(depth, columns),
        feeds=_feeds(rows, depth),
        target=1.3,
        tolerance=1e-4,
        quick=(rows, depth, columns) in QUICK,
        # It calls the same library as eager; PyTensor calls the BLAS that NumPy has.
        without=("torch.compile", "PyTensor (Numba)"),
    )
    for rows, depth, columns in SHAPES
]
