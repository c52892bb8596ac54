"""Two arrays in, the largest difference beyond rounding out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

#: error, relative to the largest element, that sums taken in another order may have
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}

#: relative change of the inputs that stands for rounding inside, and how much larger than its
#: effect an error may be
NUDGE = {"float32": 2e-5, "float64": 1e-10}
MOST_EFFECT = 4.0


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
        nudged: gives the expected value for inputs changed by `nudge`; asked for if the arrays
            differ. What a change in the last digits of the inputs explains is rounding: a sum
            that cancels to nothing, a comparison of equal numbers.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return f"{got.dtype}{got.shape} where the interpreter has {expected.dtype}{expected.shape}"
    distance, allowed = _distance(expected, got), 0.0
    if expected.dtype.kind == "f":
        finite = np.abs(expected[np.isfinite(expected)])
        # Errors of a sum scale with its terms, so with the largest element.
        allowed = TOLERANCE[expected.dtype.name] * float(finite.max(initial=0.0))
    wrong = distance > allowed
    if wrong.any() and (other := nudged()) is not None:
        effect = _distance(expected, other)
        most = float(effect[np.isfinite(effect)].max(initial=0.0))
        wrong &= (distance > MOST_EFFECT * most) if expected.dtype.kind == "f" else effect == 0
    if not wrong.any():
        return None
    at = np.unravel_index(int(np.argmax(np.where(wrong, distance, -1.0))), distance.shape)
    return Difference(
        tuple(map(int, at)), got[at], expected[at], int(np.count_nonzero(wrong)), expected.size
    )


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


def nudge(arrays: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The arrays with each float changed in its last digits, up or down; always the same way."""
    rng = np.random.default_rng(0)
    return [
        array * (1 + rng.choice((-1, 1), array.shape) * NUDGE[array.dtype.name]).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for array in arrays
    ]
