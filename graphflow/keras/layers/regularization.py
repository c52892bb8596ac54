"""Layers that add noise while training, so that a network does not learn its data by heart."""

from __future__ import annotations

from typing import Any

from graphflow import nn, random
from graphflow.errors import GraphError
from graphflow.keras.layers.base import Layer
from graphflow.tensor import Tensor


class Dropout(Layer):
    """x / (1 - rate) where a coin says so, else 0, while training; x otherwise.

    Args:
        rate: probability of 0.
        noise_shape: shape of the coins, which broadcasts to that of the input; None for the batch.
        seed: for coins that repeat; by default they follow `utils.set_random_seed`.
    """

    fields = ("rate", "noise_shape", "seed")

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
            raise GraphError(f"Dropout: rate is {rate!r}; expected a number in 0..1")
        self.rate, self.seed = rate, seed
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)
        self._generator = None if seed is None else random.Generator(seed, f"{self.name}/seed")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        coins = self.noise_shape
        if coins is not None:
            pairs = zip(coins, inputs.shape, strict=True)
            coins = tuple(own if size is None else size for size, own in pairs)
        return nn.dropout(inputs, self.rate, training, coins, self._generator)
