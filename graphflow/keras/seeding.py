"""The one random source of the Keras level: initial weights and the order of shuffled rows."""

from __future__ import annotations

import random

import numpy as np

import graphflow.random
from graphflow.errors import GraphError

_generator = np.random.default_rng()


def generator(seed: int | None = None) -> np.random.Generator:
    """A generator of its own for a seed, else the shared one."""
    return _generator if seed is None else np.random.default_rng(seed)


def set_random_seed(seed: int) -> None:
    """Seed everything random: initial weights, shuffling, dropout, `random` and `numpy.random`.

    A program that builds, compiles and fits its models after this call repeats its numbers.

    Raises:
        GraphError: the seed is no int in 0..2**32 - 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise GraphError(f"set_random_seed: got {seed!r}; expected an int in 0..2**32 - 1")
    global _generator
    random.seed(int(seed))
    np.random.seed(int(seed))
    _generator = np.random.default_rng(int(seed))
    graphflow.random.seed(int(seed))
