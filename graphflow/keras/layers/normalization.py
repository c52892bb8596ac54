"""Normalisation layers: inputs with mean 0 and variance 1, then a learned scale and offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow import functions, nn
from graphflow.errors import ShapeError
from graphflow.keras import initializers, regularizers
from graphflow.keras.layers.base import Layer, known_size
from graphflow.keras.symbolic import Shape
from graphflow.tensor import Tensor


class BatchNormalization(Layer):
    """gamma · (x - mean) / √(variance + epsilon) + beta, per channel.

    While training, mean and variance are those of the batch, and moving averages follow them:
    moving = momentum · moving + (1 - momentum) · batch. Otherwise the moving averages are used.

    Args:
        axis: the axis of the channels.
    """

    fields = (
        "axis", "momentum", "epsilon", "center", "scale", "beta_initializer", "gamma_initializer",
        "moving_mean_initializer", "moving_variance_initializer", "beta_regularizer",
        "gamma_regularizer",
    )  # fmt: skip

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale = center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)
        self.moving_mean_initializer = initializers.get(moving_mean_initializer)
        self.moving_variance_initializer = initializers.get(moving_variance_initializer)
        self.beta_regularizer = regularizers.get(beta_regularizer)
        self.gamma_regularizer = regularizers.get(gamma_regularizer)

    def build(self, input_shape: Shape) -> None:
        shape = (known_size(self.name, input_shape, self.axis),)
        if self.axis % len(input_shape) == 0:
            raise ShapeError(
                f"{self.name}: axis is {self.axis}; expected not the axis of the batch"
            )
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(
                shape, self.gamma_initializer, regularizer=self.gamma_regularizer, name="gamma"
            )
        if self.center:
            self.beta = self.add_weight(
                shape, self.beta_initializer, regularizer=self.beta_regularizer, name="beta"
            )
        self.moving_mean = self.add_weight(
            shape, self.moving_mean_initializer, trainable=False, name="moving_mean"
        )
        self.moving_variance = self.add_weight(
            shape, self.moving_variance_initializer, trainable=False, name="moving_variance"
        )

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        mean: Tensor = self.moving_mean
        variance: Tensor = self.moving_variance
        if training and self.trainable:
            place = self.axis % inputs.ndim
            mean, variance = nn.moments(inputs, [a for a in range(inputs.ndim) if a != place])
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                self.add_update(moving, moving * self.momentum + batch * (1 - self.momentum))
        return nn.batch_norm(inputs, mean, variance, self.gamma, self.beta, self.axis, self.epsilon)


class LayerNormalization(Layer):
    """gamma · (x - mean) / √(variance + epsilon) + beta, over some axes of each sample.

    Args:
        axis: an axis or a list of them; gamma and beta have their sizes.
    """

    fields = ("axis", "epsilon", "center", "scale", "beta_initializer", "gamma_initializer")

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.axis = axis if isinstance(axis, int) else sorted(axis)
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self.beta_initializer = initializers.get(beta_initializer)
        self.gamma_initializer = initializers.get(gamma_initializer)

    @property
    def axes(self) -> tuple[int, ...]:
        return (self.axis,) if isinstance(self.axis, int) else tuple(self.axis)

    def build(self, input_shape: Shape) -> None:
        shape = tuple(known_size(self.name, input_shape, axis) for axis in self.axes)
        self.gamma = self.beta = None
        if self.scale:
            self.gamma = self.add_weight(shape, self.gamma_initializer, name="gamma")
        if self.center:
            self.beta = self.add_weight(shape, self.beta_initializer, name="beta")

    def call(self, inputs: Tensor) -> Tensor:
        return nn.layer_norm(inputs, self.gamma, self.beta, self.axes, self.epsilon)


class Rescaling(Layer):
    """scale · x + offset, for example Rescaling(1 / 255) for images."""

    fields = ("scale", "offset")

    def __init__(self, scale: float, offset: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale, self.offset = scale, offset

    def call(self, inputs: Tensor) -> Tensor:
        return functions.astype(inputs, self.dtype) * self.scale + self.offset
