"""The driver's object code in, two callables out: one runs a context, one is a worker's life."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from graphflow.runtime import cache


def _function(name: str, arguments: int) -> Callable[..., int]:
    def build() -> bytes:
        from graphflow.runtime import driver_code

        return driver_code.build(name)

    loaded = cache.get_object("driver", name, [f"gf_{name}"], build)
    kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * arguments)
    function: Any = kind(loaded[f"gf_{name}"])
    # The code lives as long as the function that calls it.
    function.loaded = loaded
    return function


@lru_cache(maxsize=1)
def run_context() -> Callable[[int], int]:
    """`run(context address) -> row`; see `driver_code.run`. Other Python threads go on meanwhile."""
    return _function("run", 1)


@lru_cache(maxsize=1)
def work_for() -> Callable[[int, int, int], int]:
    """`work(team address, number of the thread, spins)`; see `driver_code.work`."""
    return _function("work", 3)
