"""Pooling layers over images: windows, or whole images, into one number per channel."""

from __future__ import annotations

from typing import Any

from graphflow import nn
from graphflow.keras.layers.base import Layer
from graphflow.keras.layers.convolution import checked_format, pair
from graphflow.tensor import Tensor


class _Pooling2D(Layer):
    """What the windowed layers share.

    Args:
        pool_size: the window, one int or (height, width).
        strides: distance of windows, the window by default.
        padding: "valid" or "same".
    """

    fields = ("pool_size", "strides", "padding", "data_format")

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        label = type(self).__name__
        self.pool_size = pair(label, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair(label, "strides", strides)
        self.padding = padding.lower()
        self.data_format = checked_format(label, data_format)

    def call(self, inputs: Tensor) -> Tensor:
        return self.pool(inputs, self.pool_size, self.strides, self.padding, self.data_format)

    def pool(self, x: Tensor, size: Any, strides: Any, padding: str, data_format: str) -> Tensor:
        raise NotImplementedError


class MaxPooling2D(_Pooling2D):
    """The largest element of each window."""

    def pool(self, x: Tensor, size: Any, strides: Any, padding: str, data_format: str) -> Tensor:
        return nn.max_pool(x, size, strides, padding, data_format)


class AveragePooling2D(_Pooling2D):
    """The mean of each window; padding does not count."""

    def pool(self, x: Tensor, size: Any, strides: Any, padding: str, data_format: str) -> Tensor:
        return nn.avg_pool(x, size, strides, padding, data_format)


class GlobalAveragePooling2D(Layer):
    """The mean over height and width: (batch, height, width, channels) to (batch, channels)."""

    fields = ("data_format", "keepdims")

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = checked_format(type(self).__name__, data_format)
        self.keepdims = keepdims

    def call(self, inputs: Tensor) -> Tensor:
        return nn.global_avg_pool(inputs, self.data_format, self.keepdims)


class GlobalMaxPooling2D(GlobalAveragePooling2D):
    """The largest element over height and width: to (batch, channels)."""

    def call(self, inputs: Tensor) -> Tensor:
        return nn.global_max_pool(inputs, self.data_format, self.keepdims)


MaxPool2D, AvgPool2D = MaxPooling2D, AveragePooling2D
GlobalAvgPool2D, GlobalMaxPool2D = GlobalAveragePooling2D, GlobalMaxPooling2D
