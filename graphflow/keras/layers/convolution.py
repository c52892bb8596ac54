"""Convolution layers over images."""

from __future__ import annotations

from typing import Any

from graphflow import nn
from graphflow.errors import ShapeError
from graphflow.keras import activations, initializers, regularizers
from graphflow.keras.layers.base import Layer, known_size, positive
from graphflow.keras.symbolic import Shape
from graphflow.tensor import Tensor


def pair(name: str, what: str, value: Any) -> tuple[int, int]:
    """Two positive ints, from one or two."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2:
        raise ShapeError(f"{name}: {what} is {value!r}; expected one or two ints")
    return positive(name, what, both[0]), positive(name, what, both[1])


def checked_format(name: str, data_format: str | None) -> str:
    """ "channels_last" or "channels_first"."""
    if data_format not in (None, "channels_last", "channels_first"):
        raise ShapeError(
            f"{name}: data_format is {data_format!r}; expected 'channels_last' or 'channels_first'"
        )
    return data_format or "channels_last"


class Conv2D(Layer):
    """activation(x ∗ kernel + bias), the kernel moved over the height and width of images.

    Args:
        filters: channels of the result.
        kernel_size, strides, dilation_rate: one int or (height, width).
        padding: "valid" or "same".
        groups: channels are split into so many groups that do not mix.

    Shapes: (batch, height, width, channels) to (batch, height', width', filters).
    """

    fields = (
        "filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups",
        "activation", "use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer",
        "bias_regularizer",
    )  # fmt: skip

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = positive("Conv2D", "filters", filters)
        self.kernel_size = pair("Conv2D", "kernel_size", kernel_size)
        self.strides = pair("Conv2D", "strides", strides)
        self.padding = padding.lower()
        self.data_format = checked_format("Conv2D", data_format)
        self.dilation_rate = pair("Conv2D", "dilation_rate", dilation_rate)
        self.groups = positive("Conv2D", "groups", groups)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 4:
            raise ShapeError(
                f"{self.name}: the input is {input_shape}; expected 4 axes, "
                f"(batch, height, width, channels) for {self.data_format}"
            )
        axis = -1 if self.data_format == "channels_last" else 1
        channels = known_size(self.name, input_shape, axis)
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"{self.name}: groups={self.groups} must divide the channels ({channels}) and the "
                f"filters ({self.filters})"
            )
        self.kernel = self.add_weight(
            (*self.kernel_size, channels // self.groups, self.filters),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.filters,),
                self.bias_initializer,
                regularizer=self.bias_regularizer,
                name="bias",
            )

    def call(self, inputs: Tensor) -> Tensor:
        y = nn.conv2d(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            groups=self.groups,
            data_format=self.data_format,
        )
        if self.use_bias:
            last = self.data_format == "channels_last"
            y = y + (self.bias if last else self.bias[:, None, None])
        return self.activation(y)
