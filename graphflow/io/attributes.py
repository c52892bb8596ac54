"""Attributes of ops to JSON and back, by the kind that each op declares for each of them."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.errors import GraphFormatError
from graphflow.compiler.graph import Graph
from graphflow.compiler.op import Op
from graphflow.compiler.ops.creation import Literal
from graphflow.compiler.spec import DTYPES
from graphflow.io.sizes import SizeReader, encode_size
from graphflow.io.strict_json import canonical, shown

# A string of a file may select among what the program knows; it is never part of kernel source
# or of a message that has lines.
_WORD = re.compile(r"[A-Za-z0-9_.:/\-]{0,64}")
_SPECIAL = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


@dataclass(frozen=True, slots=True)
class References:
    """What attributes may point to: tensors by name, and bodies by number."""

    literal: Callable[[str], Literal]
    bodies: Sequence[Graph]


@dataclass(frozen=True, slots=True)
class Registrar:
    """What takes in the tensors and bodies of attributes that are being saved."""

    tensor: Callable[[Literal], str]
    body: Callable[[Graph], int]


class AttributeReader:
    """JSON values to attributes, under limits."""

    def __init__(self, sizes: SizeReader, references: References):
        self.sizes = sizes
        self.limits = sizes.limits
        self.references = references

    def read(self, kind: str, value: Any) -> Any:
        """The attribute of a kind.

        Raises:
            GraphFormatError: the value is none of that kind.
        """
        return KINDS[kind].read(self, value)

    def items(self, value: Any) -> list[Any]:
        if type(value) is not list:
            raise GraphFormatError(f"{shown(value)} is no list")
        self.limits.check("list_length", len(value), "the number of items")
        return value

    def integer(self, value: Any) -> int:
        if type(value) is not int:
            raise GraphFormatError(f"{shown(value)} is no int")
        self.limits.check("size", abs(value), "an int")
        return value

    def integers(self, value: Any) -> tuple[int, ...]:
        return tuple(self.integer(item) for item in self.items(value))

    def offset(self, value: Any) -> Any:
        size = self.sizes.read(value)
        self.sizes.spend(self.sizes.cost((size,)))
        return size

    def offsets(self, value: Any) -> tuple[Any, ...]:
        return tuple(self.offset(item) for item in self.items(value))

    def size(self, value: Any) -> Any:
        size = self.offset(value)
        if isinstance(size, int) and size < 0:
            raise GraphFormatError(f"the size {size} is negative")
        return size

    def shape(self, value: Any) -> tuple[Any, ...]:
        self.limits.check("rank", len(self.items(value)), "the number of axes")
        shape = tuple(self.size(item) for item in value)
        self.sizes.spend(self.sizes.cost(shape))
        return shape

    def axes(self, value: Any) -> tuple[int, ...]:
        axes = self.integers(value)
        self.limits.check("rank", max(axes, default=-1) + 1, "the number of axes")
        if any(axis < 0 for axis in axes) or axes != tuple(sorted(set(axes))):
            raise GraphFormatError(f"{shown(value)} are no sorted axes")
        return axes

    def permutation(self, value: Any) -> tuple[int, ...]:
        axes = self.integers(value)
        self.limits.check("rank", len(axes), "the number of axes")
        if sorted(axes) != list(range(len(axes))):
            raise GraphFormatError(f"{shown(value)} is no permutation")
        return axes

    def dtype(self, value: Any) -> str:
        if type(value) is not str or value not in DTYPES:
            raise GraphFormatError(f"{shown(value)} is no dtype")
        return value

    def word(self, value: Any) -> str:
        if type(value) is not str or _WORD.fullmatch(value) is None:
            raise GraphFormatError(f"{shown(value)} is no plain word")
        return value

    def boolean(self, value: Any) -> bool:
        if type(value) is not bool:
            raise GraphFormatError(f"{shown(value)} is no bool")
        return value

    def real(self, value: Any) -> float:
        if type(value) is str and value in _SPECIAL:
            return _SPECIAL[value]
        if type(value) is not float:
            raise GraphFormatError(f"{shown(value)} is no float")
        return value

    def scalar(self, value: Any) -> bool | int | float:
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            raise GraphFormatError(f"{shown(value)} fits no dtype")
        return value if type(value) in (bool, int) else self.real(value)

    def literal(self, value: Any) -> Literal:
        if type(value) is not str:
            raise GraphFormatError(f"{shown(value)} is no name of a tensor")
        return self.references.literal(value)

    def body(self, value: Any) -> Graph:
        bodies = self.references.bodies
        if type(value) is not int or not 0 <= value < len(bodies):
            raise GraphFormatError(f"{shown(value)} is none of the {len(bodies)} earlier bodies")
        return bodies[value]


def _encode_real(value: float) -> Any:
    value = float(value)
    if math.isnan(value):
        return "nan"
    return ("inf" if value > 0 else "-inf") if math.isinf(value) else value


def _encode_scalar(value: Any) -> Any:
    if isinstance(value, (bool, int)):
        return value
    return _encode_real(value)


def _encode_word(value: Any) -> str:
    if type(value) is not str or _WORD.fullmatch(value) is None:
        raise GraphFormatError(f"the string {shown(value)} cannot be saved")
    return value


def _encode_bool(value: Any) -> bool:
    if not isinstance(value, (bool, int)) or value not in (0, 1):
        raise GraphFormatError(f"{shown(value)} is no bool")
    return bool(value)


def _ints(value: Any, registrar: Registrar) -> list[int]:
    return [operator.index(item) for item in value]


def _sizes(value: Any, registrar: Registrar) -> list[Any]:
    return [encode_size(item) for item in value]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of attribute is read and written."""

    read: Callable[[AttributeReader, Any], Any]
    write: Callable[[Any, Registrar], Any]


KINDS: dict[str, Kind] = {
    "dtype": Kind(AttributeReader.dtype, lambda v, _: _encode_word(v)),
    "shape": Kind(AttributeReader.shape, _sizes),
    "size": Kind(AttributeReader.size, lambda v, _: encode_size(v)),
    "sizes": Kind(AttributeReader.offsets, _sizes),
    "int": Kind(AttributeReader.integer, lambda v, _: operator.index(v)),
    "ints": Kind(AttributeReader.integers, _ints),
    "axes": Kind(AttributeReader.axes, _ints),
    "permutation": Kind(AttributeReader.permutation, _ints),
    "scalar": Kind(AttributeReader.scalar, lambda v, _: _encode_scalar(v)),
    "float": Kind(AttributeReader.real, lambda v, _: _encode_real(v)),
    "bool": Kind(AttributeReader.boolean, lambda v, _: _encode_bool(v)),
    "str": Kind(AttributeReader.word, lambda v, _: _encode_word(v)),
    "array": Kind(AttributeReader.literal, lambda v, r: r.tensor(v)),
    "graph": Kind(AttributeReader.body, lambda v, r: r.body(v)),
}

#: kinds that point outside the node; the others are plain data with one text each
REFERENCES = frozenset({"array", "graph"})


def read_attributes(op: Op, values: Any, reader: AttributeReader) -> dict[str, Any]:
    """The attributes of a node of `op`, of exactly the names and kinds that it declares.

    Raises:
        GraphFormatError: a name is missing or unknown, or a value is not of its kind.
    """
    if type(values) is not dict or values.keys() != op.attributes.keys():
        found = sorted(values) if type(values) is dict else values
        raise GraphFormatError(f"attributes {shown(found)}; expected {sorted(op.attributes)}")
    result = {}
    for name, value in values.items():
        try:
            result[name] = reader.read(op.attributes[name], value)
        except GraphFormatError as error:
            raise GraphFormatError(f"attribute {name}: {error}") from None
    return result


def write_attributes(op: Op, attrs: Any, registrar: Registrar) -> dict[str, Any]:
    """The JSON form of a node's attributes, names sorted.

    Raises:
        GraphFormatError: a value has no form in a file.
    """
    result = {}
    for name in sorted(op.attributes):
        try:
            result[name] = KINDS[op.attributes[name]].write(attrs[name], registrar)
        except (GraphFormatError, TypeError, ValueError) as error:
            raise GraphFormatError(f"attribute {name}: {error}") from None
    return result


def check_canonical(op: Op, values: dict[str, Any], attrs: Any) -> None:
    """Refuse plain attributes that the op changed, such as the int 300 in an int8.

    Raises:
        GraphFormatError: names the attribute.
    """
    for name, kind in op.attributes.items():
        if kind in REFERENCES:
            continue
        kept = KINDS[kind].write(attrs[name], _NO_REFERENCES)
        if canonical(kept) != canonical(values[name]):
            raise GraphFormatError(
                f"attribute {name}: {shown(values[name])} is not in its canonical form {shown(kept)}"
            )


def _no_reference(value: Any) -> Any:
    raise GraphFormatError("a reference inside plain data")


_NO_REFERENCES = Registrar(_no_reference, _no_reference)
