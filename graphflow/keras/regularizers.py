"""Penalties on weights that are added to the loss."""

from __future__ import annotations

from typing import Any, Self

from graphflow import functions, statistics
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
        self.l1, self.l2 = l1, l2

    def __call__(self, weight: Tensor) -> Tensor:
        return (
            statistics.sum(functions.abs(weight)) * self.l1
            + statistics.sum(functions.square(weight)) * self.l2
        )


class L1(Regularizer):
    """l1 Σ|w|"""

    def __init__(self, l1: float = 0.01):
        self.l1 = l1

    def __call__(self, weight: Tensor) -> Tensor:
        return statistics.sum(functions.abs(weight)) * self.l1


class L2(Regularizer):
    """l2 Σw²"""

    def __init__(self, l2: float = 0.01):
        self.l2 = l2

    def __call__(self, weight: Tensor) -> Tensor:
        return statistics.sum(functions.square(weight)) * self.l2


l1, l2, l1_l2 = L1, L2, L1L2

TABLE = Table(
    "regularizer",
    Regularizer,
    {"L1": L1, "L2": L2, "L1L2": L1L2},
    {"l1": L1, "l2": L2, "l1_l2": L1L2},
)


def get(identifier: Any) -> Any:
    """The penalty of a name, a config or an object; None stays."""
    return None if identifier is None else TABLE.get(identifier)
