"""The op definitions, a family per file; importing this package fills the registry."""

from graphflow.compiler.ops import (
    control,
    conv,
    creation,
    elementwise,
    indexing,
    linalg,
    movement,
    pool,
    random,
    reduction,
)
from graphflow.compiler.ops.blocks import as_dtype, full, full_like, sum_to, zeros_like

__all__ = [
    "as_dtype",
    "control",
    "conv",
    "creation",
    "elementwise",
    "full",
    "full_like",
    "indexing",
    "linalg",
    "movement",
    "pool",
    "random",
    "reduction",
    "sum_to",
    "zeros_like",
]
