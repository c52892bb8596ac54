"""The exceptions that graphflow raises, and the line of the user that messages end with."""

from __future__ import annotations

from graphflow.compiler.errors import (
    DTypeError,
    GradientError,
    GraphError,
    IndexOutOfRange,
    NaNError,
    ShapeError,
    VerificationError,
)
from graphflow.compiler.graph import user_line

__all__ = [
    "DTypeError",
    "GradientError",
    "GraphError",
    "IndexOutOfRange",
    "NaNError",
    "ShapeError",
    "VerificationError",
    "with_line",
]


def with_line(text: str) -> str:
    """`text` followed by the user's file:line, where there is one."""
    here = user_line()
    return f"{text}\n  at {here}" if here else text
