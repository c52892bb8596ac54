"""Two arrays in, the largest difference beyond rounding out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: error that a sum in another order may have, relative to the element or, if that is larger, to
#: the middle one
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}

#: relative change of every value on the way that stands for rounding, and how much larger than its
#: effect an error may be: noise that is squared, as optimizers do, has a long tail
NUDGE = {"float32": 2e-5, "float64": 1e-10}
MOST_EFFECT = 16.0


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two arrays of one spec differ most.

    Attributes:
        at: the index; `got` and `expected` are the elements there.
        count: how many of the `size` elements differ beyond rounding.
    """

    at: tuple[int, ...]
    got: object
    expected: object
    count: int
    size: int

    def __str__(self) -> str:
        return (
            f"{self.got} at {self.at} where the interpreter has {self.expected}; "
            f"{self.count} of {self.size} elements differ"
        )


def largest_difference(
    expected: np.ndarray,
    got: np.ndarray,
    nudged: Callable[[], np.ndarray | None] = lambda: None,
) -> Difference | str | None:
    """How two arrays differ; None where only by rounding, a text where not even the spec agrees.

    Args:
        nudged: gives the expected value with all that it is made of changed by a `Nudge`; asked
            for if the arrays differ. What a change in the last digits explains is rounding: a sum
            that cancels to nothing, a comparison of equal numbers.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return f"{got.dtype}{got.shape} where the interpreter has {expected.dtype}{expected.shape}"
    distance = _distance(expected, got)
    if expected.dtype.kind == "f":
        sizes = np.where(np.isfinite(expected), np.abs(expected), 0)
        allowed = TOLERANCE[expected.dtype.name] * _at_least_typical(sizes)
        # Kernels take subnormal numbers for zero.
        wrong = distance > allowed + 2 * np.finfo(expected.dtype).tiny
    else:
        wrong = distance > 0
    if wrong.any() and (other := nudged()) is not None:
        effect = _distance(expected, other)
        if expected.dtype.kind == "f":
            effect = MOST_EFFECT * _at_least_typical(effect)
        wrong &= distance > effect
    if not wrong.any():
        return None
    at = np.unravel_index(int(np.argmax(np.where(wrong, distance, -1.0))), distance.shape)
    return Difference(
        tuple(map(int, at)), got[at], expected[at], int(np.count_nonzero(wrong)), expected.size
    )


def _at_least_typical(sizes: np.ndarray) -> np.ndarray:
    """Sizes, those below the middle one raised to it: a sum may come out small by chance.

    The largest would not do, since masks and the like put a few huge elements beside all others.
    """
    finite = sizes[np.isfinite(sizes)]
    return np.fmax(sizes, np.median(finite)) if finite.size else sizes


def _distance(expected: np.ndarray, got: np.ndarray) -> np.ndarray:
    """|expected - got|: 0 where both are the same NaN or infinity, infinite where one is."""
    with np.errstate(all="ignore"):
        if expected.dtype.kind == "f":
            same = (expected == got) | (np.isnan(expected) & np.isnan(got))
            distance = np.abs(expected.astype(np.float64) - got.astype(np.float64))
            return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))
        # Differences of integers may overflow; floats of them may not tell neighbours apart.
        distance = np.abs(expected.astype(np.float64) - got.astype(np.float64))
        return np.where(expected == got, 0.0, np.maximum(distance, 1.0))


class Nudge:
    """Changes each float of a value in its last digits, up or down; the same way in every run."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def __call__(self, value: Any) -> Any:
        """The value (an array, or a tuple of them) with its floats changed."""
        if isinstance(value, tuple):
            return tuple(map(self, value))
        if value.dtype.kind != "f":
            return value
        signs = self._rng.choice((-1, 1), value.shape)
        return value * (1 + signs * NUDGE[value.dtype.name]).astype(value.dtype)
