"""Functions over several ops that appear in graphs, profiles and messages under their own name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from graphflow.compiler.graph import name_scope

P = ParamSpec("P")
R = TypeVar("R")


def composite(function: Callable[P, R]) -> Callable[P, R]:
    """Put the nodes that `function` makes into a name scope called like it."""

    @functools.wraps(function)
    def scoped(*args: P.args, **kwargs: P.kwargs) -> R:
        with name_scope(function.__name__):
            return function(*args, **kwargs)

    return scoped
