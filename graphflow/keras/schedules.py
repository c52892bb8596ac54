"""Learning rates that change with the number of steps, computed inside the training graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from graphflow import functions
from graphflow.errors import GraphError
from graphflow.keras.serialization import Table
from graphflow.tensor import Tensor, as_tensor


class LearningRateSchedule:
    """Base of the schedules; a subclass defines `__call__(step) -> rate` for float32 scalars."""

    fields: tuple[str, ...] = ()

    def __call__(self, step: Any) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, step)")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {name: getattr(self, name) for name in self.fields}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LearningRateSchedule:
        """The schedule that `get_config` describes."""
        return cls(**config)


class ExponentialDecay(LearningRateSchedule):
    """initial_learning_rate · decay_rate ^ (step / decay_steps); in stairs: rounded down."""

    fields = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase")

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: float,
        decay_rate: float,
        staircase: bool = False,
    ):
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.decay_rate, self.staircase = decay_rate, staircase

    def __call__(self, step: Any) -> Tensor:
        part = as_tensor(step) / float(self.decay_steps)
        part = functions.floor(part) if self.staircase else part
        return self.initial_learning_rate * functions.pow(float(self.decay_rate), part)


class CosineDecay(LearningRateSchedule):
    """Half a cosine from initial_learning_rate to alpha times it, over decay_steps."""

    fields = ("initial_learning_rate", "decay_steps", "alpha")

    def __init__(self, initial_learning_rate: float, decay_steps: float, alpha: float = 0.0):
        self.initial_learning_rate, self.decay_steps = initial_learning_rate, decay_steps
        self.alpha = alpha

    def __call__(self, step: Any) -> Tensor:
        part = functions.minimum(as_tensor(step) / float(self.decay_steps), 1.0)
        cosine = 0.5 * (1 + functions.cos(part * math.pi))
        return self.initial_learning_rate * ((1 - self.alpha) * cosine + self.alpha)


class PiecewiseConstantDecay(LearningRateSchedule):
    """values[i] up to the step boundaries[i], and the last value after the last boundary."""

    fields = ("boundaries", "values")

    def __init__(self, boundaries: Sequence[float], values: Sequence[float]):
        if len(values) != len(boundaries) + 1:
            raise GraphError(
                f"PiecewiseConstantDecay: {len(boundaries)} boundaries and {len(values)} values; "
                "expected one value more"
            )
        self.boundaries, self.values = list(boundaries), list(values)

    def __call__(self, step: Any) -> Tensor:
        count = as_tensor(step)
        rate = as_tensor(float(self.values[-1]), "float32")
        pairs = list(zip(self.boundaries, self.values[:-1], strict=True))
        for boundary, value in reversed(pairs):
            rate = functions.where(count <= float(boundary), float(value), rate)
        return rate


_CLASSES = (ExponentialDecay, CosineDecay, PiecewiseConstantDecay)
TABLE = Table("schedule", LearningRateSchedule, {c.__name__: c for c in _CLASSES}, {})


def get(identifier: Any) -> LearningRateSchedule | None:
    """The schedule that a learning rate is, or None for a number."""
    if isinstance(identifier, LearningRateSchedule):
        return identifier
    return TABLE.from_config(identifier) if isinstance(identifier, dict) else None
