"""Nested lists, tuples and dicts of values into a flat list, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def flatten_structure(value: Any) -> list[Any]:
    """The leaves, depth first, dicts in their own order; None has no leaf."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flatten_structure(item)]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flatten_structure(item)]
    return [value]


def map_structure(function: Callable[[Any], Any], value: Any) -> Any:
    """The same nesting with `function` of each leaf."""
    if value is None:
        return None
    if isinstance(value, dict):
        return {key: map_structure(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_structure(function, item) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(map_structure(function, item) for item in value)
    return function(value)


def fill_structure(structure: Any, leaves: Iterator[Any]) -> Any:
    """The nesting of `structure` with its leaves replaced, in order."""
    return map_structure(lambda _: next(leaves), structure)


def flatten_like(structure: Any, value: Any) -> list[Any]:
    """The parts of `value` at the leaves of `structure`; a leaf takes whatever stands there.

    Raises:
        ValueError: the nesting differs.
    """
    if structure is None:
        return []
    if isinstance(structure, dict):
        if not isinstance(value, dict) or value.keys() != structure.keys():
            raise ValueError(f"expected a dict with the keys {sorted(map(str, structure))}")
        return [leaf for key in structure for leaf in flatten_like(structure[key], value[key])]
    if isinstance(structure, (list, tuple)):
        if not isinstance(value, (list, tuple)) or len(value) != len(structure):
            raise ValueError(f"expected {len(structure)} values in a list or tuple")
        pairs = zip(structure, value, strict=True)
        return [leaf for part, item in pairs for leaf in flatten_like(part, item)]
    return [value]
