"""The nesting of a function's outputs to JSON and back.

{"loss": 0, "parts": (1, [2])}  ->  {"loss": 0, "parts": ["tuple", 1, ["list", 2]]}
"""

from __future__ import annotations

from typing import Any

from graphflow.compiler.errors import GraphFormatError
from graphflow.io.container import is_name
from graphflow.io.strict_json import shown

_TYPES: dict[str, Any] = {"list": list, "tuple": tuple}


def write_structure(value: Any) -> Any:
    """The JSON form of nested lists, tuples and dicts with output positions as leaves.

    Raises:
        GraphFormatError: a container or a key of another kind.
    """
    if value is None or type(value) is int:
        return value
    if isinstance(value, dict):
        for key in value:
            if not is_name(key):
                raise GraphFormatError(
                    f"the key {shown(key)} of the outputs cannot be saved; use a string of "
                    "letters, digits, space and _ . / : -"
                )
        return {key: write_structure(item) for key, item in value.items()}
    for name, kind in _TYPES.items():
        if type(value) is kind:
            return [name, *(write_structure(item) for item in value)]
    raise GraphFormatError(
        f"outputs nested in a {type(value).__name__} cannot be saved; use a list, tuple or dict"
    )


def read_structure(value: Any, count: int) -> Any:
    """The nesting; every one of `count` outputs is a leaf of it, in order.

    Raises:
        GraphFormatError: it is no such nesting.
    """
    leaves: list[int] = []
    structure = _read(value, leaves)
    if leaves != list(range(count)):
        raise GraphFormatError(f"structure: leaves {shown(leaves)}; expected 0 to {count - 1}")
    return structure


def _read(value: Any, leaves: list[int]) -> Any:
    if value is None:
        return None
    if type(value) is int:
        leaves.append(value)
        return value
    if type(value) is dict:
        if not all(map(is_name, value)):
            raise GraphFormatError(f"structure: the keys {shown(list(value))} are not allowed")
        return {key: _read(item, leaves) for key, item in value.items()}
    if type(value) is list and value and type(value[0]) is str and value[0] in _TYPES:
        return _TYPES[value[0]](_read(item, leaves) for item in value[1:])
    raise GraphFormatError(f"structure: {shown(value)} is no nesting of outputs")
