"""Objects to JSON-ready configs and back, through closed tables of names: no code, no pickles."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from graphflow.errors import GraphError

_custom: ContextVar[Mapping[str, Any] | None] = ContextVar("custom_objects", default=None)


@contextmanager
def custom_objects(objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Classes of the caller's own that names in a config may stand for."""
    token = _custom.set({**(_custom.get() or {}), **(objects or {})})
    try:
        yield
    finally:
        _custom.reset(token)


def custom_class(name: str) -> Any:
    """The caller's own class of a name, or None."""
    return (_custom.get() or {}).get(name)


class Table:
    """The classes of one kind that a name or a config can stand for.

    Args:
        kind: for messages, for example "optimizer".
        base: class of the objects.
        classes: by class name, as configs have them.
        aliases: further names, with what makes the object.
    """

    def __init__(
        self,
        kind: str,
        base: type,
        classes: Mapping[str, Any],
        aliases: Mapping[str, Callable[[], Any]],
    ):
        self.kind, self.base = kind, base
        self.classes = dict(classes)
        self.aliases = dict(aliases)

    def get(self, identifier: Any) -> Any:
        """The object that a name, a class, a config or an object stands for; functions stay."""
        if isinstance(identifier, str):
            return self.make(identifier)
        if isinstance(identifier, Mapping):
            return self.from_config(identifier)
        if isinstance(identifier, type) and issubclass(identifier, self.base):
            return identifier()
        if isinstance(identifier, self.base) or callable(identifier):
            return identifier
        raise GraphError(
            f"{self.kind}: got {identifier!r}; expected a name, an object or a function"
        )

    def make(self, name: str) -> Any:
        """A new object with default arguments.

        Raises:
            GraphError: the name is unknown; the message lists those known.
        """
        maker = self.aliases.get(name) or self.classes.get(name) or (_custom.get() or {}).get(name)
        if maker is None:
            known = sorted(self.aliases) or sorted(self.classes)
            close = difflib.get_close_matches(name, known, 1)
            remedy = f"did you mean {close[0]!r}? Expected" if close else "expected"
            raise GraphError(
                f"{self.kind}: {name!r} is unknown; {remedy} one of {', '.join(known)}"
            )
        return maker() if isinstance(maker, type) or name in self.aliases else maker

    def from_config(self, config: Mapping[str, Any]) -> Any:
        """The object of {"class_name": ..., "config": {...}}.

        Raises:
            GraphError: the class is not in the table, or its arguments are wrong.
        """
        name: Any = config.get("class_name")
        arguments = config.get("config", {})
        cls = (_custom.get() or {}).get(name) or self.classes.get(name)
        if not isinstance(name, str) or cls is None or not isinstance(arguments, Mapping):
            raise GraphError(
                f"{self.kind}: the class {str(name)[:60]!r} is unknown; expected one of "
                f"{', '.join(sorted(self.classes))}. Name your own in custom_objects={{...}}"
            )
        if not hasattr(cls, "from_config"):
            return cls
        try:
            return cls.from_config(dict(arguments))
        except (TypeError, KeyError) as error:
            raise GraphError(f"{self.kind}: the config of {name} is wrong: {error}") from None


def serialize(value: Any) -> Any:
    """A config value as JSON has it.

    Raises:
        GraphError: the value is nothing that a config can hold, for example a function.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [serialize(item) for item in value]
    if isinstance(value, dict):
        return {str(key): serialize(item) for key, item in value.items()}
    if hasattr(value, "get_config"):
        config = serialize(value.get_config())
        return {"class_name": type(value).__name__, "config": config}
    label = getattr(value, "__name__", type(value).__name__)
    raise GraphError(
        f"save: {label} is a function or object of your own, and files hold no code; give its "
        "class a get_config(self), or use model.export(path) to save the graph for prediction"
    )
