"""First values of weights, by Keras' rules for scale and truncation."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from graphflow.keras import seeding
from graphflow.keras.naming import snake_case
from graphflow.keras.serialization import Table

#: standard deviation of a unit normal that was cut at 2, which truncation divides out
TRUNCATED_STDDEV = 0.87962566103423978


class Initializer:
    """Makes the first value of a weight; `initializer(shape, dtype)`."""

    def __init__(self, **config: Any):
        self.config = config

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        """The array, before it is cast."""
        raise NotImplementedError(f"{type(self).__name__} must define values")

    def __call__(self, shape: Any, dtype: str | None = None) -> np.ndarray:
        return np.asarray(self.values(tuple(shape))).astype(dtype or "float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return dict(self.config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


class Zeros(Initializer):
    """All 0."""

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All 1."""

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


class Constant(Initializer):
    """All `value`."""

    def __init__(self, value: float = 0.0):
        super().__init__(value=value)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.config["value"])


class RandomNormal(Initializer):
    """Normal with a mean and standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        super().__init__(mean=mean, stddev=stddev, seed=seed)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        draw = _rng(self.config).normal(self.config["mean"], self.config["stddev"], shape)
        return draw


class RandomUniform(Initializer):
    """Uniform between two bounds."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None):
        super().__init__(minval=minval, maxval=maxval, seed=seed)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        draw = _rng(self.config).uniform(self.config["minval"], self.config["maxval"], shape)
        return draw


class TruncatedNormal(Initializer):
    """Normal, drawn again where it lies more than 2 standard deviations out."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None):
        super().__init__(mean=mean, stddev=stddev, seed=seed)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        unit = _truncated(_rng(self.config), shape)
        return self.config["mean"] + self.config["stddev"] * unit


class VarianceScaling(Initializer):
    """Variance scale / n with n the fan in, the fan out, or their mean (He, Glorot, LeCun)."""

    scale, mode, distribution = 1.0, "fan_avg", "uniform"

    def __init__(self, seed: int | None = None):
        super().__init__(seed=seed)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return _rng(self.config).uniform(-limit, limit, shape)
        stddev = math.sqrt(variance) / TRUNCATED_STDDEV
        return stddev * _truncated(_rng(self.config), shape)


class GlorotUniform(VarianceScaling):
    """Uniform, variance 2 / (fan in + fan out)."""


class GlorotNormal(VarianceScaling):
    """Truncated normal, variance 2 / (fan in + fan out)."""

    distribution = "normal"


class HeUniform(VarianceScaling):
    """Uniform, variance 2 / fan in."""

    scale, mode = 2.0, "fan_in"


class HeNormal(VarianceScaling):
    """Truncated normal, variance 2 / fan in."""

    scale, mode, distribution = 2.0, "fan_in", "normal"


class LecunUniform(VarianceScaling):
    """Uniform, variance 1 / fan in."""

    mode = "fan_in"


class LecunNormal(VarianceScaling):
    """Truncated normal, variance 1 / fan in."""

    mode, distribution = "fan_in", "normal"


class Orthogonal(Initializer):
    """Orthonormal rows or columns: the Q of a random matrix, times `gain`."""

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        super().__init__(gain=gain, seed=seed)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        rows, columns = math.prod(shape[:-1]), shape[-1]
        draw = _rng(self.config).normal(size=(max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(draw)
        # The sign makes the distribution uniform over orthogonal matrices.
        q = q * np.sign(np.diag(r))
        q = q if rows >= columns else q.T
        return self.config["gain"] * q.reshape(shape)


def fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """(fan in, fan out) of a kernel (*window, inputs, outputs)."""
    if len(shape) < 2:
        size = float(shape[0]) if shape else 1.0
        return size, size
    window = math.prod(shape[:-2])
    return float(shape[-2] * window), float(shape[-1] * window)


def _rng(config: dict[str, Any]) -> np.random.Generator:
    return seeding.generator(config.get("seed"))


def _truncated(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    draw = rng.normal(size=shape)
    while (far := np.abs(draw) > 2).any():
        draw[far] = rng.normal(size=int(far.sum()))
    return draw


glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal
zeros, ones, constant, orthogonal = Zeros, Ones, Constant, Orthogonal
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal

_CLASSES = (
    Zeros, Ones, Constant, RandomNormal, RandomUniform, TruncatedNormal, GlorotUniform,
    GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal,
)  # fmt: skip

TABLE = Table(
    "initializer",
    Initializer,
    {cls.__name__: cls for cls in _CLASSES},
    {snake_case(cls.__name__): cls for cls in _CLASSES}
    | {"uniform": RandomUniform, "normal": RandomNormal},
)


def get(identifier: Any) -> Any:
    """The initializer of a name, a config or an object; functions of (shape, dtype) stay."""
    return TABLE.get(identifier)
