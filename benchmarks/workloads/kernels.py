"""Single kernels that move memory: elementwise, softmax, layer norm, Adam."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import networks
from benchmarks.workload import Feed, Feeds, Group, Inference, Update

PLACE = 4
GROUP = Group("kernel", "Memory-bound kernels")


def _arrays(names: str, *shape: int) -> Callable[[np.random.Generator], Feeds]:
    return lambda rng: {name: Feed(rng.standard_normal(shape, "f4")) for name in names}


def _silu(ops: Any, p: Any, x: Any, y: Any) -> Any:
    return ops.silu(x * y + 0.5)


def _layer_norm_parameters(rng: np.random.Generator) -> dict[str, Any]:
    return {"scale": networks.ones(1024), "offset": networks.zeros(1024)}


WORKLOADS = [
    Inference(
        name="kernel/silu-100k",  # silu(x y + 1/2)
        forward=_silu,
        parameters=lambda rng: {},
        feeds=_arrays("xy", 100_000),
        target=1.0,
        quick=True,
    ),
    Inference(
        name="kernel/silu-4M",
        forward=_silu,
        parameters=lambda rng: {},
        feeds=_arrays("xy", 4_000_000),
        target=1.0,
        quick=True,
    ),
    Inference(
        name="kernel/softmax-4096x1024",
        forward=lambda ops, p, x: ops.softmax(x),
        parameters=lambda rng: {},
        feeds=_arrays("x", 4096, 1024),
        target=1.0,
        quick=True,
    ),
    Inference(
        name="kernel/layer-norm-4096x1024",
        forward=lambda ops, p, x: ops.layer_norm(x, p["scale"], p["offset"]),
        parameters=_layer_norm_parameters,
        feeds=_arrays("x", 4096, 1024),
        target=1.0,
        quick=True,
    ),
    Update(name="kernel/adam-10M", size=10_000_000, target=1.0, quick=True),
]
