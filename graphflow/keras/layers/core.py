"""Layers that every network has: inputs, dense layers, activations, embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphflow import linalg, nn
from graphflow.errors import ShapeError
from graphflow.keras import activations, initializers, regularizers
from graphflow.keras.layers.base import Layer, known_size, positive
from graphflow.keras.symbolic import Call, KerasTensor, Shape, traced_input
from graphflow.tensor import Tensor, dtype_name


class InputLayer(Layer):
    """The start of a model; see `Input`."""

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: str | None = None,
        name: str | None = None,
        batch_shape: Any = None,
        **kwargs: Any,
    ):
        if shape is None and batch_shape is None:
            raise ShapeError("Input: no shape given; expected the shape of one sample")
        super().__init__(name=name, **kwargs)
        self.dtype = dtype_name(dtype or "float32")
        sizes = (shape,) if isinstance(shape, int) else shape
        self.batch_shape: Shape = tuple(batch_shape) if sizes is None else (batch_size, *sizes)
        for size in self.batch_shape:
            if size is not None and (not isinstance(size, (int, np.integer)) or size < 0):
                raise ShapeError(f"Input: the shape is {self.batch_shape}; expected ints or None")
        self.built = True
        traced = traced_input(self.batch_shape, self.dtype, self.name)
        self.output: KerasTensor = Call(self, None, traced).outputs

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "batch_shape": list(self.batch_shape)}


def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: str | None = None,
    name: str | None = None,
    batch_shape: Any = None,
) -> KerasTensor:
    """The tensor that a functional model starts from.

    Args:
        shape: of one sample, without the batch; None for a size that may differ.
        dtype: "float32" by default.
        name: for feeding several inputs by name.
        batch_shape: the shape with the batch, instead of `shape`.
    """
    return InputLayer(shape, batch_size, dtype, name, batch_shape).output


class Dense(Layer):
    """activation(x kernel + bias)

    Args:
        units: size of the last axis of the result.
        activation: a name or a function; none by default.

    Shapes: (batch, ..., features) to (batch, ..., units).
    """

    fields = (
        "units", "activation", "use_bias", "kernel_initializer", "bias_initializer",
        "kernel_regularizer", "bias_regularizer",
    )  # fmt: skip

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = positive("Dense", "units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    def build(self, input_shape: Shape) -> None:
        features = known_size(self.name, input_shape, -1)
        if len(input_shape) < 2:
            raise ShapeError(f"{self.name}: the input is {input_shape}; expected (batch, features)")
        self.kernel = self.add_weight(
            (features, self.units),
            self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(
                (self.units,), self.bias_initializer, regularizer=self.bias_regularizer, name="bias"
            )

    def call(self, inputs: Tensor) -> Tensor:
        y = linalg.matmul(inputs, self.kernel)
        return self.activation(y + self.bias if self.use_bias else y)


class Activation(Layer):
    """A function of each element (or, for softmax, of each row)."""

    fields = ("activation",)

    def __init__(self, activation: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.activation = activations.get(activation)

    def call(self, inputs: Tensor) -> Tensor:
        return self.activation(inputs)


class ReLU(Layer):
    """max(x, 0), with an upper bound, a slope below the threshold, or another threshold."""

    fields = ("max_value", "negative_slope", "threshold")

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.max_value, self.threshold = max_value, threshold
        self.negative_slope = negative_slope

    def call(self, inputs: Tensor) -> Tensor:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(Layer):
    """x where x >= 0, else negative_slope · x"""

    fields = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any):
        super().__init__(**kwargs)
        self.negative_slope = negative_slope

    def call(self, inputs: Tensor) -> Tensor:
        return nn.leaky_relu(inputs, self.negative_slope)


class Softmax(Layer):
    """eˣ / Σ eˣ along an axis"""

    fields = ("axis",)

    def __init__(self, axis: int = -1, **kwargs: Any):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs: Tensor) -> Tensor:
        return nn.softmax(inputs, self.axis)


class Embedding(Layer):
    """Rows of a table at integer indices: (batch, ...) to (batch, ..., output_dim).

    Args:
        input_dim: number of rows; indices must be below it.
        output_dim: size of a row.
    """

    fields = ("input_dim", "output_dim", "embeddings_initializer", "embeddings_regularizer")

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.input_dim = positive("Embedding", "input_dim", input_dim)
        self.output_dim = positive("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)

    def build(self, input_shape: Shape) -> None:
        self.embeddings = self.add_weight(
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            regularizer=self.embeddings_regularizer,
            name="embeddings",
        )

    def call(self, inputs: Tensor) -> Tensor:
        from graphflow.compiler.spec import is_integer
        from graphflow.functions import astype

        indices = inputs if is_integer(inputs.dtype) else astype(inputs, "int64")
        return nn.embedding(indices, self.embeddings)
