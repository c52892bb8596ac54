"""Every setting of graphflow in one table: its environment variable, its default, what it does.

A setting has the value given by the innermost `with gf.config(name=value):`, else that of its
environment variable, else its default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from graphflow.errors import GraphError


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table; `parse` turns the text of the environment into a value."""

    name: str
    variable: str
    default: Any
    parse: Callable[[str], Any]
    meaning: str


def _flag(text: str) -> bool:
    values = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return values[text.lower()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


SETTINGS = (
    Setting("debug", "GRAPHFLOW_DEBUG", 0, int,
            "0 quiet, 1 compile summary, 2 launch timings (first call), 3 passes, 4 kernel source, 5 IR"),
    Setting("dump", "GRAPHFLOW_DUMP", "", str,
            "folder for numbered IR, schedule, memory map and kernels of every compilation"),
    Setting("check", "GRAPHFLOW_CHECK", False, _flag, "verify the graph after every pass"),
    Setting("cache_dir", "GRAPHFLOW_CACHE_DIR", "", str,
            "folder of compiled kernels; empty means graphflow/ in the user's cache folder"),
    Setting("num_threads", "GRAPHFLOW_NUM_THREADS", 0, int,
            "threads of a compiled function; 0 means one per usable core"),
    Setting("passes", "GRAPHFLOW_PASSES", (), _names,
            "comma-separated passes to leave out, for bisecting; 'all' for every one that can be"),
    Setting("data", "GRAPHFLOW_DATA", "", str, "folder in which datasets are looked for first"),
)  # fmt: skip

_TABLE: Mapping[str, Setting] = {setting.name: setting for setting in SETTINGS}
_overrides: ContextVar[Mapping[str, Any] | None] = ContextVar("config_overrides", default=None)


class Config:
    """`config.debug` reads a setting; `with config(debug=4):` changes some for a block."""

    def __getattr__(self, name: str) -> Any:
        setting = _TABLE.get(name)
        if setting is None:
            raise AttributeError(f"no setting is named {name!r}; there are {', '.join(_TABLE)}")
        overrides = _overrides.get() or {}
        if name in overrides:
            return overrides[name]
        text = os.environ.get(setting.variable)
        if text is None or text == "":
            return setting.default
        try:
            return setting.parse(text)
        except (KeyError, ValueError):
            raise GraphError(
                f"{setting.variable}={text!r} cannot be read; {setting.meaning}"
            ) from None

    @contextmanager
    def __call__(self, **settings: Any) -> Iterator[None]:
        for name, value in settings.items():
            setting = _TABLE.get(name)
            if setting is None:
                raise GraphError(
                    f"config: no setting is named {name!r}; there are {', '.join(_TABLE)}"
                )
            expected = type(setting.default)
            if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
                raise GraphError(
                    f"config: {name}={value!r} is a {type(value).__name__}; expected "
                    f"{expected.__name__}: {setting.meaning}"
                )
        token = _overrides.set({**(_overrides.get() or {}), **settings})
        try:
            yield
        finally:
            _overrides.reset(token)

    def __repr__(self) -> str:
        rows = (f"{s.name} = {getattr(self, s.name)!r}  ({s.variable})" for s in SETTINGS)
        return "\n".join(rows)


config = Config()
