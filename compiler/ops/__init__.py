"""The op definitions, a family per file; importing this package fills the registry."""

from graphflow.compiler.ops import (
    arithmetic,
    control,
    conv,
    creation,
    indexing,
    linalg,
    logic,
    movement,
    pool,
    random,
    reduction,
    transcendental,
)
from graphflow.compiler.ops.blocks import as_dtype, full, full_like, sum_to, zeros_like

__all__ = [
    "arithmetic",
    "as_dtype",
    "control",
    "conv",
    "creation",
    "full",
    "full_like",
    "indexing",
    "linalg",
    "logic",
    "movement",
    "pool",
    "random",
    "reduction",
    "sum_to",
    "transcendental",
    "zeros_like",
]
