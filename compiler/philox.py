"""Turns a key and counters into random bits with NumPy: the reference for the kernels' stream.

Philox 4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Word i of
the stream depends on nothing but the key and its counter, so it is the same on every device and
for every number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = tuple[NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32], NDArray[np.uint32]]

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


def philox(key: int, c0: ArrayLike, c1: ArrayLike, c2: ArrayLike, c3: ArrayLike) -> Words:
    """The four words of Philox 4x32-10, each of the broadcast shape of the counters.

    Args:
        key: 64 bits.
        c0, c1, c2, c3: the words of the counter, taken modulo 2**32.
    """
    counters = (np.asarray(c).astype(np.uint32).astype(np.uint64) for c in (c0, c1, c2, c3))
    x0, x1, x2, x3 = np.broadcast_arrays(*counters)
    for number in range(ROUNDS):
        k0 = np.uint64((int(key) + number * KEY_STEPS[0]) & MASK)
        k1 = np.uint64(((int(key) >> 32) + number * KEY_STEPS[1]) & MASK)
        product0, product1 = MULTIPLIERS[0] * x0, MULTIPLIERS[1] * x2
        x0, x2 = _high(product1) ^ x1 ^ k0, _high(product0) ^ x3 ^ k1
        x1, x3 = product1 & np.uint64(MASK), product0 & np.uint64(MASK)
    return x0.astype(np.uint32), x1.astype(np.uint32), x2.astype(np.uint32), x3.astype(np.uint32)


def philox64(
    key: int, c0: ArrayLike, c1: ArrayLike, c2: ArrayLike, c3: ArrayLike
) -> NDArray[np.uint64]:
    """The first two words of `philox` as one integer, the first in the low half."""
    low, high, _, _ = philox(key, c0, c1, c2, c3)
    return low.astype(np.uint64) | (high.astype(np.uint64) << np.uint64(32))


def uniform_f32(bits: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The top 24 of 32 random bits as float32 in [0, 1)."""
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def uniform_f64(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The top 53 of 64 random bits as float64 in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _high(product: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return product >> np.uint64(32)
