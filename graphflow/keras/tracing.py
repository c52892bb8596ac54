"""What a layer may ask and tell while its graph is being built: training or not, updates, losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np

from graphflow.tensor import Tensor
from graphflow.variable import Variable


@dataclass
class Trace:
    """One walk over the layers of a model.

    Attributes:
        training: whether dropout drops and batch normalisation uses the batch.
        updates: (variable, new value) of state that changes while training.
        losses: scalars that are added to the loss.
    """

    training: bool
    updates: list[tuple[Variable, Tensor]] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)


_trace: ContextVar[Trace | None] = ContextVar("keras_trace", default=None)
#: the first value of a weight of a path and shape
Source = Callable[[str, tuple[int, ...]], np.ndarray]
_source: ContextVar[Source | None] = ContextVar("keras_weights", default=None)


def current_trace() -> Trace | None:
    """The walk that is under way, if any."""
    return _trace.get()


@contextmanager
def tracing(training: bool) -> Iterator[Trace]:
    """Layers called inside see `training`, and leave their updates and losses in the Trace."""
    trace = Trace(training)
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


@contextmanager
def weights_from(source: Source) -> Iterator[None]:
    """Weights made inside take their first values from here, and not from initialisers.

    A file can so not ask for more memory than it brings along.
    """
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def weight_source() -> Source | None:
    """What a loader provides, or None."""
    return _source.get()
