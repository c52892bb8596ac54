"""First values of weights, by Keras' rules for scale and truncation."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from graphflow.errors import GraphError, ShapeError
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
    """All `value`; an array must have the shape of the weight."""

    def __init__(self, value: Any = 0.0):
        super().__init__(value=value)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        value = np.asarray(self.config["value"])
        if value.ndim and value.shape != shape:
            raise ShapeError(
                f"Constant: the value is {value.shape}; expected one number, or {shape} as the weight"
            )
        return np.broadcast_to(value, shape)


class Identity(Initializer):
    """`gain` on the diagonal of a matrix, else 0."""

    def __init__(self, gain: float = 1.0):
        super().__init__(gain=gain)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) != 2:
            raise ShapeError(f"Identity: the weight is {shape}; expected a matrix")
        return self.config["gain"] * np.eye(*shape)


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


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("truncated_normal", "untruncated_normal", "uniform")


class VarianceScaling(Initializer):
    """Variance scale / n, with n the fan in, the fan out, or their mean (see `fans`).

    Args:
        scale: positive.
        mode: "fan_in", "fan_out" or "fan_avg".
        distribution: "truncated_normal" (or "normal": cut at 2 standard deviations, with the
            variance after the cut), "untruncated_normal" or "uniform".
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
    ):
        super().__init__(scale=scale, mode=mode, distribution=distribution, seed=seed)
        kind = "truncated_normal" if distribution == "normal" else distribution
        for what, value, known in (("mode", mode, _MODES), ("distribution", kind, _DISTRIBUTIONS)):
            if value not in known:
                raise GraphError(
                    f"{type(self).__name__}: {what} {value!r} is unknown; expected one of "
                    f"{', '.join(known)}"
                )
        if not scale > 0:
            raise GraphError(f"{type(self).__name__}: scale is {scale!r}; expected a number > 0")
        self.scale, self.mode, self.distribution = scale, mode, kind

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        fan_in, fan_out = fans(shape)
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        rng = _rng(self.config)
        if self.distribution == "uniform":
            limit = math.sqrt(3 * variance)
            return rng.uniform(-limit, limit, shape)
        if self.distribution == "untruncated_normal":
            return rng.normal(0, math.sqrt(variance), shape)
        return math.sqrt(variance) / TRUNCATED_STDDEV * _truncated(rng, shape)


class _Preset(VarianceScaling):
    """A VarianceScaling that only takes a seed."""

    preset: tuple[float, str, str]

    def __init__(self, seed: int | None = None):
        super().__init__(*self.preset, seed=seed)
        self.config = {"seed": seed}


class GlorotUniform(_Preset):
    """Uniform, variance 2 / (fan in + fan out)."""

    preset = (1.0, "fan_avg", "uniform")


class GlorotNormal(_Preset):
    """Truncated normal, variance 2 / (fan in + fan out)."""

    preset = (1.0, "fan_avg", "truncated_normal")


class HeUniform(_Preset):
    """Uniform, variance 2 / fan in."""

    preset = (2.0, "fan_in", "uniform")


class HeNormal(_Preset):
    """Truncated normal, variance 2 / fan in."""

    preset = (2.0, "fan_in", "truncated_normal")


class LecunUniform(_Preset):
    """Uniform, variance 1 / fan in."""

    preset = (1.0, "fan_in", "uniform")


class LecunNormal(_Preset):
    """Truncated normal, variance 1 / fan in."""

    preset = (1.0, "fan_in", "truncated_normal")


class Orthogonal(Initializer):
    """Orthonormal rows or columns: the Q of a random matrix, times `gain`."""

    def __init__(self, gain: float = 1.0, seed: int | None = None):
        super().__init__(gain=gain, seed=seed)

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise ShapeError(f"Orthogonal: the weight is {shape}; expected two axes or more")
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
identity, variance_scaling = Identity, VarianceScaling
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal

_CLASSES = (
    Zeros, Ones, Constant, RandomNormal, RandomUniform, TruncatedNormal, GlorotUniform,
    GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal, Identity,
    VarianceScaling,
)  # fmt: skip

TABLE = Table(
    "initializer",
    Initializer,
    {cls.__name__: cls for cls in _CLASSES},
    {snake_case(cls.__name__): cls for cls in _CLASSES}
    | {"uniform": RandomUniform, "normal": RandomNormal, "zero": Zeros, "one": Ones},
)


def get(identifier: Any) -> Any:
    """The initializer of a name, a config or an object; functions of (shape, dtype) stay."""
    return TABLE.get(identifier)
