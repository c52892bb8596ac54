"""Names: of layers and models (`dense`, `dense_1`, ...), and of the arguments of a constructor."""

from __future__ import annotations

import difflib
import inspect
import re
from collections import Counter
from collections.abc import Collection, Mapping

from graphflow.errors import GraphError

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


def argument_names(cls: type) -> list[str]:
    """Names of the arguments of a constructor, and of those that it passes on."""
    names: dict[str, None] = {}
    for base in cls.__mro__:
        if base is object or "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names |= dict.fromkeys(p.name for p in parameters if p.kind in kinds)
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return [name for name in names if name != "self"]


def check_arguments(
    cls: type, unknown: Collection[str], renamed: Mapping[str, str] | None = None
) -> None:
    """Refuse arguments that a constructor does not have.

    Args:
        renamed: names of old, with those that they have now.

    Raises:
        GraphError: names the first one, and what may be meant.
    """
    for name in unknown:
        known = argument_names(cls)
        close = difflib.get_close_matches(name, known, 1)
        meant = (renamed or {}).get(name) or (close[0] if close else None)
        remedy = f"did you mean {meant}?" if meant else f"expected one of {', '.join(known)}"
        raise GraphError(f"{cls.__name__}: there is no argument {name!r}; {remedy}")
