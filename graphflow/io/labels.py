"""Names, scopes and user lines of nodes to a side table and back: to be looked at only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.errors import GraphFormatError
from graphflow.compiler.graph import Node
from graphflow.io.container import is_name
from graphflow.io.strict_json import shown

_LINE = re.compile(r"[A-Za-z0-9_.\-\[\]<> ]{1,240}:[0-9]{1,9}")
_OTHER = re.compile(r"[^A-Za-z0-9_./:\-\[\]<> ]")
FIELDS = ("names", "scopes", "lines")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scope and user line that nodes of a file are given when they are made."""

    name: str | None
    scope: str
    source: str


class LabelWriter:
    """Gathers strings into one table; a node refers to them by position, 0 for none."""

    def __init__(self, provenance: bool):
        self.provenance = provenance
        self._numbers: dict[str, int] = {}

    @property
    def strings(self) -> list[str]:
        return list(self._numbers)

    def rows(self, nodes: Sequence[Node]) -> dict[str, list[int]]:
        """The numbers of each node's name, scope and line."""
        lines = [_clean_line(node.source) if self.provenance else "" for node in nodes]
        return {
            "names": [self._number(_clean_name(node)) for node in nodes],
            "scopes": [self._number(_cleaned(node.scope)) for node in nodes],
            "lines": [self._number(line) for line in lines],
        }

    def _number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers) + 1) if text else 0


def _clean_name(node: Node) -> str:
    if node.name and node.op.is_leaf and not is_name(node.name):
        raise GraphFormatError(
            f"the name {shown(node.name)} of a {node.op.name} cannot be saved; use letters, "
            "digits, space and _ . / : - [ ] < > (at most 256)"
        )
    return _cleaned(node.name or "")


def _cleaned(text: str) -> str:
    """Text with what a file may not hold replaced: it is only looked at, never looked up."""
    text = _OTHER.sub("_", text).replace("..", "__")
    text = text.lstrip("_/")[:256]
    return text if is_name(text) else ""


def _clean_line(source: str) -> str:
    file, colon, number = source.rpartition(":")
    line = f"{_OTHER.sub('_', file).replace('/', '_').replace(':', '_')[-240:]}:{number}"
    return line if colon and _LINE.fullmatch(line) else ""


def read_strings(value: Any) -> list[str]:
    """The string table.

    Raises:
        GraphFormatError: it holds something that is no name.
    """
    if type(value) is not list or not all(map(is_name, value)):
        bad = [x for x in value if not is_name(x)][:1] if type(value) is list else value
        raise GraphFormatError(f"strings: {shown(bad)} is no list of names")
    if len(set(value)) != len(value):
        raise GraphFormatError("strings: one occurs twice")
    return value


def read_labels(rows: dict[str, Any], strings: Sequence[str], count: int) -> list[Origin]:
    """Name, scope and line of each of `count` nodes.

    Raises:
        GraphFormatError: the rows are not one number per node.
    """
    table = ["", *strings]
    columns = []
    for field in FIELDS:
        numbers = rows[field]
        fits = type(numbers) is list and len(numbers) == count
        if not fits or not all(type(n) is int and 0 <= n < len(table) for n in numbers):
            raise GraphFormatError(f"{field}: expected {count} numbers of strings")
        columns.append([table[number] for number in numbers])
    for line in set(columns[2]):
        if line and _LINE.fullmatch(line) is None:
            raise GraphFormatError(f"lines: {shown(line)} is no file:line")
    return [Origin(name or None, scope, line) for name, scope, line in zip(*columns, strict=True)]
