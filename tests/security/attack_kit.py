"""Builds saved graphs by hand, right or wrong in one place, for the attack files and the fuzzer."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

#: what makes the file, and words that the refusal must contain
Attack = tuple[Callable[[], bytes], str]
ZEROS = "0" * 64

#: two inputs, a variable that is updated, and a constant
DOCUMENT: dict[str, Any] = {
    "opset": 1,
    "name": "step",
    "strings": ["x", "w", "model.py:3", "dense"],
    "bodies": [],
    "nodes": [
        ["placeholder", [], {"dtype": "float32", "shape": ["n", 3]}],
        ["variable", [], {"dtype": "float32", "shape": [3]}],
        ["constant", [], {"value": "constant.0"}],
        ["multiply", [0, 1], {}],
        ["add", [3, 2], {}],
        ["sum", [4], {"axes": [0]}],
        ["subtract", [1, 5], {}],
    ],
    "inputs": [0],
    "outputs": [4, 5],
    "names": [1, 2, 0, 0, 0, 0, 0],
    "scopes": [0, 0, 0, 4, 4, 0, 0],
    "lines": [3, 3, 3, 3, 3, 3, 3],
    "variables": [[1, "w", True]],
    "updates": [[1, 6]],
    "structure": {"y": 0, "total": ["list", 1]},
}
TABLE: dict[str, Any] = {
    "constant.0": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
    "w": {"dtype": "F32", "shape": [3], "data_offsets": [12, 24]},
}
DATA = bytes(24)


def metadata(graph: str) -> dict[str, Any]:
    """The strings of a right header."""
    return {
        "graphflow.format": "1",
        "graphflow.graph": graph,
        "graphflow.producer": "graphflow 0.1.0",
        "graphflow.sha256": ZEROS,
    }


def text(value: Any) -> str:
    """JSON as Python writes it, whatever the value."""
    return json.dumps(value, separators=(",", ":"))


def header_text(document: Any = DOCUMENT, table: Any = TABLE, **changes: Any) -> str:
    """The header's JSON; `changes` replace entries of the metadata, None removes one."""
    graph = document if isinstance(document, str) else text(document)
    strings = metadata(graph)
    for key, value in changes.items():
        key = key.replace("__", ".")
        strings = {k: v for k, v in {**strings, key: value}.items() if v is not None}
    return text({"__metadata__": strings, **table})


def seal(header: str | bytes, data: bytes = DATA) -> bytes:
    """A file of a header and data, padded, with a right digest where the zeros are."""
    raw = header.encode("utf-8", "surrogatepass") if isinstance(header, str) else header
    raw += b" " * (-(8 + len(raw)) % 64)
    digest = hashlib.sha256(raw + data).hexdigest()
    return len(raw).to_bytes(8, "little") + raw.replace(ZEROS.encode(), digest.encode(), 1) + data


def changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The right file after `change` of the document."""
    document = copy.deepcopy(DOCUMENT)
    change(document)
    return seal(header_text(document))


def retabled(change: Callable[[dict[str, Any]], Any], data: bytes = DATA) -> bytes:
    """The right file after `change` of the tensor table."""
    table = copy.deepcopy(TABLE)
    change(table)
    return seal(header_text(table=table), data)


def of_nodes(
    nodes: list[Any], *, inputs: list[int] | None = None, outputs: list[int] | None = None
) -> bytes:
    """A file without tensors whose graph has these nodes; the last is the output."""
    count = len(nodes)
    document = {
        "opset": 1,
        "name": "",
        "strings": [],
        "bodies": [],
        "nodes": nodes,
        "inputs": inputs or [k for k, row in enumerate(nodes) if row[0] == "placeholder"],
        "outputs": outputs or [count - 1],
        "names": [0] * count,
        "scopes": [0] * count,
        "lines": [0] * count,
        "variables": [],
        "updates": [],
        "structure": ["list", *range(len(outputs or [0]))],
    }
    return seal(header_text(document, {}), b"")


def placeholder(*shape: Any, dtype: str = "float32") -> list[Any]:
    """A placeholder row."""
    return ["placeholder", [], {"dtype": dtype, "shape": list(shape)}]


def op_over(op: str, attrs: dict[str, Any], *shapes: tuple[Any, ...]) -> Callable[[], bytes]:
    """A graph of placeholders and one op over them."""
    rows = [placeholder(*shape) for shape in shapes]
    return lambda: of_nodes([*rows, [op, list(range(len(rows))), attrs]])
