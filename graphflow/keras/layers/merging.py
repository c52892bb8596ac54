"""Layers of several inputs: sums, products, extremes and concatenations."""

from __future__ import annotations

from functools import reduce
from typing import Any

from graphflow import functions, manipulation
from graphflow.errors import GraphError
from graphflow.keras.layers.base import Layer
from graphflow.tensor import Tensor


class _Merge(Layer):
    """What the elementwise layers share: a list of inputs, combined from left to right."""

    def build(self, input_shape: Any) -> None:
        if not isinstance(input_shape, list) or len(input_shape) < 2:
            raise GraphError(
                f"{self.name}: got one input; expected a list of at least two, {type(self).__name__}"
                "()([a, b])"
            )

    def call(self, inputs: list[Tensor]) -> Tensor:
        return reduce(self.combine, inputs)

    def combine(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError


class Add(_Merge):
    """a + b + ..."""

    def combine(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


class Subtract(_Merge):
    """a - b"""

    def combine(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


class Multiply(_Merge):
    """a · b · ..."""

    def combine(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Average(Add):
    """(a + b + ...) / n"""

    def call(self, inputs: list[Tensor]) -> Tensor:
        return reduce(self.combine, inputs) * (1 / len(inputs))


class Maximum(_Merge):
    """The largest of the inputs, element by element."""

    def combine(self, a: Tensor, b: Tensor) -> Tensor:
        return functions.maximum(a, b)


class Minimum(_Merge):
    """The smallest of the inputs, element by element."""

    def combine(self, a: Tensor, b: Tensor) -> Tensor:
        return functions.minimum(a, b)


class Concatenate(_Merge):
    """The inputs one after another along an axis."""

    fields = ("axis",)

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: list[Tensor]) -> Tensor:
        return manipulation.concat(inputs, self.axis)


def add(inputs: Any, **kwargs: Any) -> Any:
    """`Add()(inputs)`"""
    return Add(**kwargs)(inputs)


def multiply(inputs: Any, **kwargs: Any) -> Any:
    """`Multiply()(inputs)`"""
    return Multiply(**kwargs)(inputs)


def concatenate(inputs: Any, axis: int = -1, **kwargs: Any) -> Any:
    """`Concatenate(axis)(inputs)`"""
    return Concatenate(axis, **kwargs)(inputs)
