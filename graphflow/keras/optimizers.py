"""Optimizers: gradients into new values of weights, as a part of the training graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphflow import functions, statistics
from graphflow.errors import GraphError
from graphflow.keras import schedules
from graphflow.keras.naming import check_arguments, snake_case
from graphflow.keras.serialization import Table
from graphflow.tensor import Tensor
from graphflow.variable import Variable, variable

Updates = list[tuple[Variable, Tensor]]


class Optimizer:
    """Base of the optimizers; a subclass defines `slots` and `step`.

    Args:
        learning_rate: a number, or a schedule (function of the number of steps).
        weight_decay: share of a weight, times the learning rate, that is taken off each step.
        clipnorm: longest allowed gradient of one weight.
        clipvalue: largest allowed element of a gradient.
        global_clipnorm: longest allowed gradient of all weights together.

    Attributes:
        iterations: variable, the number of steps taken.
        rate: variable, the learning rate where it follows no schedule.
    """

    fields: tuple[str, ...] = ()
    #: names of the arrays kept for each weight
    slots: tuple[str, ...] = ()

    def __init__(
        self,
        learning_rate: Any = 0.001,
        *,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        name: str | None = None,
        **unknown: Any,
    ):
        check_arguments(type(self), unknown, {"lr": "learning_rate"})
        self.name = name or snake_case(type(self).__name__)
        self.weight_decay, self.clipnorm, self.clipvalue = weight_decay, clipnorm, clipvalue
        self.global_clipnorm = global_clipnorm
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise GraphError(
                f"{self.name}: at most one of clipnorm, clipvalue and global_clipnorm can be given"
            )
        self.schedule: schedules.LearningRateSchedule | None = schedules.get(learning_rate)
        first = 0.0 if self.schedule is not None else _checked_rate(self.name, learning_rate)
        self.rate = variable(np.float32(first), name=f"{self.name}/learning_rate", trainable=False)
        self.iterations = variable(np.int64(0), name=f"{self.name}/iterations", trainable=False)
        self._slots: dict[tuple[Any, str], Variable] = {}

    # ---- to be defined -----------------------------------------------------------------------

    def step(self, weight: Variable, gradient: Tensor, rate: Tensor, number: Tensor) -> Updates:
        """The new values of a weight and its slots.

        Args:
            rate: learning rate, a float32 scalar.
            number: number of this step from 1, a float64 scalar.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step")

    # ---- state -------------------------------------------------------------------------------

    @property
    def learning_rate(self) -> float:
        """The present learning rate; setting it works between any two steps."""
        if self.schedule is None:
            return float(self.rate.value)
        return float(self.schedule(functions.astype(np.int64(self.iterations.value), "float32")))

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self.schedule is not None:
            raise GraphError(f"{self.name}: the learning rate follows a schedule; it cannot be set")
        self.rate.value = np.float32(_checked_rate(self.name, value))

    lr = learning_rate

    def slot(self, weight: Variable, name: str) -> Variable:
        """The array called `name` that goes with a weight; zeros at first."""
        key = (weight.node, name)
        if key not in self._slots:
            label = f"{self.name}/{weight.name}/{name}"
            zeros = np.zeros(weight.shape, weight.dtype)
            self._slots[key] = variable(zeros, name=label, trainable=False)
        return self._slots[key]

    def build(self, weights: Sequence[Variable]) -> None:
        """Make all slots of these weights."""
        for weight in weights:
            for name in self.slots:
                self.slot(weight, name)

    @property
    def variables(self) -> list[Variable]:
        """Everything that a training run needs to go on as if it had not stopped."""
        return [self.iterations, self.rate, *self._slots.values()]

    # ---- the graph ---------------------------------------------------------------------------

    def updates(self, weights: Sequence[Variable], gradients: Sequence[Tensor]) -> Updates:
        """New values of all weights, slots and the number of steps."""
        number = functions.astype(self.iterations, "float64") + 1.0
        rate: Tensor = self.rate
        if self.schedule is not None:
            rate = self.schedule(functions.astype(self.iterations, "float32"))
        result: Updates = [(self.iterations, self.iterations + 1)]
        for weight, gradient in zip(weights, self._clipped(gradients), strict=True):
            pairs = self.step(weight, gradient, rate, number)
            if self.weight_decay:
                pairs = [
                    (target, new - weight * (rate * self.weight_decay) if target is weight else new)
                    for target, new in pairs
                ]
            result.extend(pairs)
        return result

    def _clipped(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        if self.clipvalue is not None:
            return [functions.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        if self.clipnorm is not None:
            return [g * _shrink(_square_sum([g]), self.clipnorm) for g in gradients]
        if self.global_clipnorm is not None:
            factor = _shrink(_square_sum(gradients), self.global_clipnorm)
            return [g * factor for g in gradients]
        return list(gradients)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        rate: Any = self.learning_rate if self.schedule is None else self.schedule
        names = ("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", *self.fields)
        own = {name: getattr(self, name) for name in names}
        return {"learning_rate": rate, "name": self.name, **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Optimizer:
        """The optimizer that `get_config` describes."""
        return cls(**config)


def _checked_rate(name: str, value: Any) -> float:
    if not isinstance(value, (int, float, np.number)) or not 0 <= value < float("inf"):
        raise GraphError(
            f"{name}: learning_rate is {value!r}; expected a number >= 0 or a schedule"
        )
    return float(value)


def _square_sum(gradients: Sequence[Tensor]) -> Tensor:
    total = statistics.sum(functions.square(gradients[0]))
    for gradient in gradients[1:]:
        total = total + statistics.sum(functions.square(gradient))
    return total


def _shrink(square_sum: Tensor, longest: float) -> Tensor:
    """The factor that makes a vector no longer than `longest`."""
    return longest / functions.maximum(functions.sqrt(square_sum), longest)


class SGD(Optimizer):
    """w ← w - rate · g; with momentum v ← momentum · v - rate · g, w ← w + v.

    Args:
        nesterov: look ahead, w ← w + momentum · v - rate · g.
    """

    fields = ("momentum", "nesterov")

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, **kwargs)
        if not 0 <= momentum <= 1:
            raise GraphError(f"{self.name}: momentum is {momentum!r}; expected a number in 0..1")
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("momentum",) if momentum else ()

    def step(self, weight: Variable, gradient: Tensor, rate: Tensor, number: Tensor) -> Updates:
        change = gradient * rate
        if not self.momentum:
            return [(weight, weight - change)]
        velocity = self.slot(weight, "momentum")
        moved = velocity * self.momentum - change
        ahead = moved * self.momentum - change if self.nesterov else moved
        return [(velocity, moved), (weight, weight + ahead)]


class Adam(Optimizer):
    """m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g², w ← w - α m / (√v + epsilon).

    With α = rate · √(1 - β₂ᵗ) / (1 - β₁ᵗ) at step t (Kingma and Ba, 2015, section 2).
    """

    fields = ("beta_1", "beta_2", "epsilon", "amsgrad")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.amsgrad = beta_1, beta_2, epsilon, amsgrad
        self.slots = ("momentum", "velocity", *(("velocity_hat",) if amsgrad else ()))

    def step(self, weight: Variable, gradient: Tensor, rate: Tensor, number: Tensor) -> Updates:
        m, v = self.slot(weight, "momentum"), self.slot(weight, "velocity")
        # float64: 1 - 0.999 in float32 is wrong in the fifth digit.
        first, second = (1.0 - functions.pow(beta, number) for beta in (self.beta_1, self.beta_2))
        alpha = rate * functions.astype(functions.sqrt(second) / first, "float32")
        new_m = m + (gradient - m) * (1 - self.beta_1)
        new_v = v + (functions.square(gradient) - v) * (1 - self.beta_2)
        result: Updates = [(m, new_m), (v, new_v)]
        if self.amsgrad:
            largest = self.slot(weight, "velocity_hat")
            new_v = functions.maximum(largest, new_v)
            result.append((largest, new_v))
        change = new_m * alpha / (functions.sqrt(new_v) + self.epsilon)
        return [*result, (weight, weight - change)]


class AdamW(Adam):
    """Adam with weight decay apart from the gradient (Loshchilov and Hutter, 2019)."""

    def __init__(self, learning_rate: Any = 0.001, weight_decay: float = 0.004, **kwargs: Any):
        super().__init__(learning_rate, weight_decay=weight_decay, **kwargs)


class RMSprop(Optimizer):
    """v ← rho v + (1 - rho) g², w ← w - rate · g / √(v + epsilon).

    Args:
        momentum: the step is momentum times the last one, plus the above.
        centered: v minus the square of the mean gradient is used.
    """

    fields = ("rho", "momentum", "epsilon", "centered")

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **kwargs: Any,
    ):
        super().__init__(learning_rate, **kwargs)
        self.rho, self.momentum, self.epsilon = rho, momentum, epsilon
        self.centered = centered
        self.slots = (
            "velocity", *(("momentum",) if momentum else ()),
            *(("average_gradient",) if centered else ()),
        )  # fmt: skip

    def step(self, weight: Variable, gradient: Tensor, rate: Tensor, number: Tensor) -> Updates:
        v = self.slot(weight, "velocity")
        new_v = v * self.rho + functions.square(gradient) * (1 - self.rho)
        result: Updates = [(v, new_v)]
        spread = new_v
        if self.centered:
            mean = self.slot(weight, "average_gradient")
            new_mean = mean * self.rho + gradient * (1 - self.rho)
            result.append((mean, new_mean))
            spread = new_v - functions.square(new_mean)
        change = gradient * rate * functions.rsqrt(spread + self.epsilon)
        if self.momentum:
            last = self.slot(weight, "momentum")
            change = last * self.momentum + change
            result.append((last, change))
        return [*result, (weight, weight - change)]


_CLASSES = (SGD, Adam, AdamW, RMSprop)
TABLE = Table(
    "optimizer",
    Optimizer,
    {cls.__name__: cls for cls in _CLASSES},
    {cls.__name__.lower(): cls for cls in _CLASSES},
)


def get(identifier: Any) -> Optimizer:
    """An optimizer from a name, a class, a config or an object."""
    found = TABLE.get(identifier)
    if not isinstance(found, Optimizer):
        raise GraphError(f"optimizer: got {identifier!r}; expected a name or an Optimizer")
    return found
