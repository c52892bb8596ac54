"""Penalties on weights that are added to the loss."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from graphflow import functions, linalg, statistics
from graphflow.errors import GraphError, ShapeError
from graphflow.keras.serialization import Table
from graphflow.tensor import Tensor


class Regularizer:
    """A scalar from a weight."""

    def __call__(self, weight: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


class L1L2(Regularizer):
    """l1 Σ|w| + l2 Σw²"""

    def __init__(self, l1: float = 0.0, l2: float = 0.0):
        self.l1, self.l2 = _factor("L1L2", "l1", l1), _factor("L1L2", "l2", l2)

    def __call__(self, weight: Tensor) -> Tensor:
        return (
            statistics.sum(functions.abs(weight)) * self.l1
            + statistics.sum(functions.square(weight)) * self.l2
        )


class L1(Regularizer):
    """l1 Σ|w|"""

    def __init__(self, l1: float = 0.01):
        self.l1 = _factor("L1", "l1", l1)

    def __call__(self, weight: Tensor) -> Tensor:
        return statistics.sum(functions.abs(weight)) * self.l1


class L2(Regularizer):
    """l2 Σw²"""

    def __init__(self, l2: float = 0.01):
        self.l2 = _factor("L2", "l2", l2)

    def __call__(self, weight: Tensor) -> Tensor:
        return statistics.sum(functions.square(weight)) * self.l2


class OrthogonalRegularizer(Regularizer):
    """factor · mean |a · b| over the pairs of different rows (or columns), each of length 1."""

    def __init__(self, factor: float = 0.01, mode: str = "rows"):
        if mode not in ("rows", "columns"):
            raise GraphError(f"OrthogonalRegularizer: mode {mode!r}; expected 'rows' or 'columns'")
        self.factor, self.mode = _factor("OrthogonalRegularizer", "factor", factor), mode

    def __call__(self, weight: Tensor) -> Tensor:
        if weight.ndim != 2:
            raise ShapeError(
                f"OrthogonalRegularizer: the weight is {weight.shape}; expected a matrix"
            )
        rows = weight if self.mode == "rows" else linalg.matrix_transpose(weight)
        lengths = functions.sqrt(statistics.sum(functions.square(rows), 1, keepdims=True))
        rows = rows / functions.maximum(lengths, 1e-12)
        products = linalg.matmul(rows, linalg.matrix_transpose(rows))
        size: Any = rows.shape[0]
        others = functions.abs(products) * (1.0 - np.eye(size, dtype="float32"))
        return statistics.sum(others) * (self.factor / max(1, size * (size - 1)))


def _factor(name: str, what: str, value: Any) -> float:
    is_number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise GraphError(f"{name}: {what} is {value!r}; expected a number >= 0")
    return float(value)


l1, l2, l1_l2, orthogonal_regularizer = L1, L2, L1L2, OrthogonalRegularizer

TABLE = Table(
    "regularizer",
    Regularizer,
    {cls.__name__: cls for cls in (L1, L2, L1L2, OrthogonalRegularizer)},
    {"l1": L1, "l2": L2, "l1_l2": L1L2, "orthogonal_regularizer": OrthogonalRegularizer},
)


def get(identifier: Any) -> Any:
    """The penalty of a name, a config or an object; None stays."""
    return None if identifier is None else TABLE.get(identifier)
