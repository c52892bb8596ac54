"""Layers that move elements without computing: flatten, reshape, permute, pad."""

from __future__ import annotations

import math
from typing import Any

from graphflow import manipulation
from graphflow.errors import ShapeError
from graphflow.keras.layers.base import Layer
from graphflow.keras.symbolic import Shape
from graphflow.tensor import Tensor


class Flatten(Layer):
    """All axes of a sample joined into one: (batch, a, b, ...) to (batch, a · b · ...)."""

    def call(self, inputs: Tensor) -> Tensor:
        if inputs.ndim < 2:
            return manipulation.reshape(inputs, (inputs.shape[0], 1))
        return manipulation.flatten(inputs, start_axis=1)


class Reshape(Layer):
    """Another shape for each sample, the same elements in row-major order.

    Args:
        target_shape: without the batch; one entry may be -1, which takes what is left.
    """

    fields = ("target_shape",)

    def __init__(self, target_shape: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.target_shape = tuple(target_shape)

    def build(self, input_shape: Shape) -> None:
        sizes = input_shape[1:]
        if None in sizes:
            return
        have = math.prod(size for size in sizes if size is not None)
        fixed = math.prod(size for size in self.target_shape if size != -1)
        free = -1 in self.target_shape
        if (have != fixed and not free) or (free and (fixed == 0 or have % fixed)):
            raise ShapeError(
                f"{self.name}: a sample of shape {sizes} has {have} elements, which do not fill "
                f"target_shape={self.target_shape}"
            )

    def call(self, inputs: Tensor) -> Tensor:
        return manipulation.reshape(inputs, (inputs.shape[0], *self.target_shape))


class Permute(Layer):
    """The axes of each sample in another order, counted from 1; (2, 1) swaps two."""

    fields = ("dims",)

    def __init__(self, dims: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ShapeError(f"Permute: dims is {self.dims}; expected an order of 1, 2, ...")

    def call(self, inputs: Tensor) -> Tensor:
        return manipulation.permute_dims(inputs, (0, *self.dims))


class ZeroPadding2D(Layer):
    """Images (batch, height, width, channels) inside a frame of zeros.

    Args:
        padding: one int, (height, width), or ((top, bottom), (left, right)).
    """

    fields = ("padding",)

    def __init__(self, padding: Any = 1, **kwargs: Any):
        super().__init__(**kwargs)
        pair = (padding, padding) if isinstance(padding, int) else tuple(padding)
        self.padding = tuple((p, p) if isinstance(p, int) else tuple(p) for p in pair)

    def call(self, inputs: Tensor) -> Tensor:
        return manipulation.pad(inputs, ((0, 0), *self.padding, (0, 0)))
