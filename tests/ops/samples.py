"""Rows of the sample table, and the arrays that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphflow.compiler.graph import Node
from graphflow.compiler.spec import INTEGERS


@dataclass(frozen=True)
class Sample:
    """One row: what an op is applied to, and how exact its results are.

    Attributes:
        inputs: arrays of the operands.
        attrs: static attributes.
        wrt: operands of float64 by which the op has a derivative here.
        rtol: of the compiled value against the reference; None for the usual one of the dtype, 0
            for equal bits.
        atol: the same, absolute.
        symbolic: sizes other than 1 become named dims, so that rows share kernels.
        leaf: the op that makes the operands.
        make: builds the node from the operands, where it is not one application of the op.
        order: up to which order derivatives are checked.
        twice: whether f(x, x) is smooth as well.
        slack: relative error that the derivative may have.
        step: of the central differences.
    """

    inputs: tuple[np.ndarray, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[int, ...] = ()
    rtol: float | None = None
    atol: float = 0.0
    symbolic: bool = False
    leaf: str = "placeholder"
    make: Callable[..., Node] | None = None
    order: int = 2
    twice: bool = True
    slack: float = 1e-6
    step: float = 5e-4


def spread(shape: tuple[int, ...], low: float, high: float, which: int = 0) -> np.ndarray:
    """Different numbers between low and high in a mixed order.

    No two of them, nor those of another `which` (0..3), come closer than (high - low) / 4n: kinks
    of maximum and the like stay out of the reach of central differences.
    """
    count = int(np.prod(shape, dtype=int))
    steps = np.random.default_rng(count + which).permutation(count) + (which + 0.5) / 4
    return (low + (high - low) * steps / max(count, 1)).reshape(shape)


def float_corners(dtype: str) -> np.ndarray:
    limits = np.finfo(dtype)
    tiny = float(limits.smallest_subnormal)
    inner = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, 1e-3, -17.25, 88.0]
    outer = [
        np.nan,
        np.inf,
        -np.inf,
        float(limits.max),
        float(limits.min),
        float(limits.tiny),
        tiny,
    ]
    return np.array(inner + outer, dtype)


def int_corners(dtype: str) -> np.ndarray:
    limits = np.iinfo(dtype)
    numbers = [limits.min, limits.min + 1, -7, -1, 0, 1, 2, 3, 7, limits.max - 1, limits.max]
    return np.array([n for n in numbers if limits.min <= n <= limits.max], dtype)


def corners(dtype: str) -> np.ndarray:
    if dtype == "bool":
        return np.array([False, True])
    return int_corners(dtype) if dtype in INTEGERS else float_corners(dtype)


def pairs(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """All combinations, as one column per operand."""
    grid = np.meshgrid(*columns, indexing="ij")
    return tuple(np.ascontiguousarray(g.reshape(-1)) for g in grid)


def array(*values: Any, dtype: str = "float64") -> np.ndarray:
    return np.array(values, dtype)
