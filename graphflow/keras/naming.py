"""Names of layers and models: a class name into `dense`, `dense_1`, `dense_2`, ..."""

from __future__ import annotations

import re
from collections import Counter

_counts: Counter[str] = Counter()


def snake_case(name: str) -> str:
    """`GlobalAveragePooling2D` -> `global_average_pooling2d`"""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def unique_name(base: str) -> str:
    """`base`, and with a number behind it from the second use on."""
    number = _counts[base]
    _counts[base] += 1
    return f"{base}_{number}" if number else base


def clear_session() -> None:
    """Start the numbering of automatic names again."""
    _counts.clear()
