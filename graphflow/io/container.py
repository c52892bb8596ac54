"""The outer form of a saved graph: a safetensors file with strings in its `__metadata__`.

    u64 N | N bytes of JSON, padded with spaces to a multiple of 64 | data of the tensors

`open_container` checks every number of the header before anything is allocated; this module needs
the standard library only. `write_container` writes the one canonical file of its arguments.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from graphflow.compiler.errors import GraphFormatError
from graphflow.io.atomic_file import kind_of, replace_file
from graphflow.io.limits import LONGEST_HEADER, Limits
from graphflow.io.strict_json import canonical, has_surrogate, parse, shown

FORMAT = 1
#: bytes of one element, by dtype code of safetensors
ITEMSIZE = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip
#: the data begins at a multiple of this many bytes
ALIGNMENT = 64
CHUNK = 1 << 22

GRAPH_KEY, DIGEST_KEY = "graphflow.graph", "graphflow.sha256"
FORMAT_KEY, PRODUCER_KEY = "graphflow.format", "graphflow.producer"
USER_PREFIX = "user."
#: stands for the digest while the digest is computed
_NO_DIGEST = "0" * 64

_NAME = re.compile(r"[A-Za-z0-9_./:\-\[\]<> ]{1,256}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PRODUCER = re.compile(r"[A-Za-z0-9_.+\- ]{1,64}")
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_OPEN_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe would otherwise wait for a writer
    | getattr(os, "O_BINARY", 0)
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the table: dtype code, shape, and where its bytes lie in the data."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header.

    Attributes:
        entries: the tensors in the order of their bytes.
        graph: JSON text of the graph.
        digest: sha256 of the header with 64 zeros in the digest's place, and of the data.
        producer: who wrote the file; for messages only.
        user: the strings that a user added.
    """

    entries: tuple[Entry, ...]
    graph: bytes
    digest: str
    producer: str
    user: Mapping[str, str]


def is_name(text: Any) -> bool:
    """Whether a value may be the name of something in a saved graph.

    No name is ever used as a path or an attribute; those that look like one are refused all the
    same, for the sake of tools that unpack tensors into files.
    """
    return (
        type(text) is str
        and _NAME.fullmatch(text) is not None
        and not text.startswith(("__", "/"))
        and ".." not in text
    )


# ---- reading ---------------------------------------------------------------------------------


class ContainerFile:
    """An open file whose header has been checked; close it, or use it in a `with`."""

    def __init__(self, descriptor: int, raw_header: bytes, header: Header, size: int):
        self.descriptor = descriptor
        self.header = header
        self.size = size
        self.data_start = 8 + len(raw_header)
        self._raw_header = raw_header

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)

    def verified_data(self, pin: str | None = None) -> Iterator[tuple[Entry, bytes]]:
        """The data in pieces of at most CHUNK bytes, in file order, hashed on the way.

        A piece never spans two tensors. The pieces may be used only once the iterator has ended:
        only then is it known that they are what the writer wrote.

        Args:
            pin: sha256 that the whole file must have, in hex.

        Raises:
            GraphFormatError: the data does not have the digest that the header states, or the file
                does not have the pinned one.
        """
        state = hashlib.sha256(_without_digest(self._raw_header, self.header.digest))
        whole = hashlib.sha256(len(self._raw_header).to_bytes(8, "little") + self._raw_header)
        position = self.data_start
        os.lseek(self.descriptor, position, os.SEEK_SET)
        for entry in self.header.entries:
            left = entry.end - entry.begin
            while left:
                piece = os.read(self.descriptor, min(left, CHUNK))
                if not piece:
                    raise GraphFormatError("the file became shorter while it was read")
                state.update(piece)
                if pin is not None:
                    whole.update(piece)
                left -= len(piece)
                yield entry, piece
        if state.hexdigest() != self.header.digest:
            raise GraphFormatError(
                "the checksum does not match; the file is damaged, fetch it anew"
            )
        if pin is not None and whole.hexdigest() != pin.lower():
            raise GraphFormatError(
                f"the file's sha256 is {whole.hexdigest()}; expected {shown(pin, 70)}"
            )


def open_container(path: str | os.PathLike[str], limits: Limits) -> ContainerFile:
    """Open a file and check its header.

    Raises:
        GraphFormatError: the file is refused.
        OSError: it cannot be opened.
    """
    descriptor = _open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        raw = _read_header(descriptor, size, limits)
        header = parse_header(raw, size - 8 - len(raw), limits)
        return ContainerFile(descriptor, raw, header, size)
    except BaseException:
        os.close(descriptor)
        raise


def _open_regular(path: str | os.PathLike[str]) -> int:
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise GraphFormatError("a symbolic link; give the file that it points to") from None
        if error.errno == errno.ENXIO:
            raise GraphFormatError("a device or socket; expected a regular file") from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise GraphFormatError(f"{kind_of(mode)}; expected a regular file")
    return descriptor


_MAGIC = {
    b"\x80": "a pickle", b"PK": "a zip archive (.keras, .npz or .pt)", b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file", b"\x93NUMPY": "a .npy file", b"\x08": "perhaps an ONNX model",
    b"{": "a JSON text", b"\xef\xbb\xbf": "a text",
}  # fmt: skip


def _read_header(descriptor: int, size: int, limits: Limits) -> bytes:
    start = os.read(descriptor, 8)
    if size < 10 or len(start) != 8:
        raise GraphFormatError(f"{size} bytes are too few for a saved graph")
    length = int.from_bytes(start, "little")
    if not 2 <= length <= size - 8 or length > LONGEST_HEADER:
        kind = next((k for magic, k in _MAGIC.items() if start.startswith(magic)), "")
        hint = f"; it looks like {kind}" if kind else ""
        raise GraphFormatError(f"not a saved graph: a header of {length} bytes is impossible{hint}")
    limits.check("header", length, "the header's length")
    if (8 + length) % ALIGNMENT:
        raise GraphFormatError(f"the data begins at byte {8 + length}, no multiple of {ALIGNMENT}")
    pieces = []
    while length:
        piece = os.read(descriptor, min(length, CHUNK))
        if not piece:
            raise GraphFormatError("the file became shorter while it was read")
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def parse_header(raw: bytes, data_bytes: int, limits: Limits) -> Header:
    """The checked form of a header that stands before `data_bytes` bytes of data.

    Raises:
        GraphFormatError: it breaks a rule of the format or exceeds `limits`.
    """
    if raw[:1] != b"{":
        raise GraphFormatError(f"the header begins with {shown(raw[:4])}; expected a JSON object")
    table = parse(raw, limits, "header")
    metadata = table.pop("__metadata__", None)
    if type(metadata) is not dict or not all(type(v) is str for v in metadata.values()):
        raise GraphFormatError("header: __metadata__ is no object of strings; not a saved graph")
    producer = metadata.get(PRODUCER_KEY, "")
    _check_format(metadata.get(FORMAT_KEY), producer)
    _check_metadata(metadata, raw)
    entries = _parse_table(table, data_bytes, limits)
    user = {k: v for k, v in metadata.items() if k.startswith(USER_PREFIX)}
    graph = metadata[GRAPH_KEY].encode("utf-8", "surrogatepass")
    return Header(entries, graph, metadata[DIGEST_KEY], producer, user)


def _check_format(version: Any, producer: str) -> None:
    if version == str(FORMAT):
        return
    if type(version) is not str:
        raise GraphFormatError(
            "header: graphflow.format is missing; this safetensors file holds no graph"
        )
    writer = f", written by {producer}" if _PRODUCER.fullmatch(producer) else ""
    if re.fullmatch(r"[1-9][0-9]{0,5}", version) is None:
        raise GraphFormatError(f"header: graphflow.format {shown(version)} is no version")
    raise GraphFormatError(
        f"format {version}{writer} needs a newer graphflow; this one reads format {FORMAT}"
    )


def _check_metadata(metadata: Mapping[str, str], raw: bytes) -> None:
    known = {FORMAT_KEY, GRAPH_KEY, DIGEST_KEY, PRODUCER_KEY}
    for key in sorted(known - metadata.keys()):
        raise GraphFormatError(f"header: {key} is missing")
    for key, value in metadata.items():
        if key in known:
            continue
        check_user_entry(key, value)
    if _PRODUCER.fullmatch(metadata[PRODUCER_KEY]) is None:
        raise GraphFormatError(f"header: graphflow.producer {shown(metadata[PRODUCER_KEY])}")
    digest = metadata[DIGEST_KEY]
    if _DIGEST.fullmatch(digest) is None:
        raise GraphFormatError(f"header: graphflow.sha256 {shown(digest)} is no sha256 in hex")
    if raw.count(digest.encode()) != 1:
        raise GraphFormatError("header: the digest occurs more than once")


def check_user_entry(key: str, value: Any) -> None:
    """Refuse a `user.` entry that a terminal or another program might misread."""
    if not key.startswith(USER_PREFIX) or not is_name(key[len(USER_PREFIX) :]):
        raise GraphFormatError(f"metadata: the key {shown(key)} is not allowed")
    if type(value) is not str:
        raise GraphFormatError(f"metadata: {key} is a {type(value).__name__}; expected a string")
    if has_surrogate(value):
        raise GraphFormatError(f"metadata: {key} holds half of a surrogate pair")
    for character in set(value):
        control = unicodedata.category(character) == "Cc" and character not in "\n\t"
        if control or character in _DIRECTIONS:
            raise GraphFormatError(f"metadata: {key} holds the control character {character!a}")


def _parse_table(table: Mapping[str, Any], data_bytes: int, limits: Limits) -> tuple[Entry, ...]:
    limits.check("tensors", len(table), "the number of tensors")
    limits.check("memory", data_bytes, "the number of bytes of all tensors")
    entries = [_parse_entry(name, row, limits) for name, row in table.items()]
    entries.sort(key=lambda e: (e.begin, e.end))
    position = 0
    for entry in entries:
        if entry.begin != position:
            kind = "overlaps the tensor before it" if entry.begin < position else "follows a hole"
            raise GraphFormatError(f"tensor {entry.name}: it {kind}, at byte {entry.begin}")
        if entry.begin % ITEMSIZE[entry.dtype]:
            raise GraphFormatError(f"tensor {entry.name}: byte {entry.begin} is not aligned")
        position = entry.end
    if position != data_bytes:
        kind = "missing" if position > data_bytes else "not described by the header"
        raise GraphFormatError(f"{abs(position - data_bytes)} bytes at the end are {kind}")
    return tuple(entries)


def _parse_entry(name: str, row: Any, limits: Limits) -> Entry:
    if not is_name(name):
        raise GraphFormatError(f"tensor name {shown(name)} is not allowed")
    if type(row) is not dict or row.keys() != {"dtype", "shape", "data_offsets"}:
        raise GraphFormatError(f"tensor {name}: expected dtype, shape and data_offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if type(dtype) is not str or dtype not in ITEMSIZE:
        raise GraphFormatError(f"tensor {name}: dtype {shown(dtype)} is unknown")
    count = _checked_count(name, shape, limits)
    if type(offsets) is not list or len(offsets) != 2 or not all(type(x) is int for x in offsets):
        raise GraphFormatError(f"tensor {name}: data_offsets {shown(offsets)} are no two ints")
    begin, end = offsets
    if not 0 <= begin <= end or end - begin != count * ITEMSIZE[dtype]:
        raise GraphFormatError(
            f"tensor {name}: bytes {begin}..{end} do not fit {dtype} of shape {shown(shape)}"
        )
    return Entry(name, dtype, tuple(shape), begin, end)


def _checked_count(name: str, shape: Any, limits: Limits) -> int:
    """Number of elements, in Python's ints, which do not overflow."""
    if type(shape) is not list or not all(type(size) is int and size >= 0 for size in shape):
        raise GraphFormatError(f"tensor {name}: shape {shown(shape)} is no list of sizes")
    limits.check("rank", len(shape), f"tensor {name}: the number of axes")
    limits.check("size", max(shape, default=0), f"tensor {name}: an axis")
    # A size of 0 must not hide a huge product of the others from code that computes strides.
    extent = math.prod(size or 1 for size in shape)
    limits.check("memory", extent, f"tensor {name}: the product of its sizes")
    return math.prod(shape)


def _without_digest(raw: bytes, digest: str) -> bytes:
    return raw.replace(digest.encode(), _NO_DIGEST.encode())


# ---- writing ---------------------------------------------------------------------------------


def order_tensors(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> list[Entry]:
    """Places in the data for tensors given as name -> (dtype code, shape).

    First those whose length is a multiple of ALIGNMENT, so that each of them begins at one and
    can be used in a memory map as it is; then by element size, which keeps elements aligned.
    """
    lengths = {n: ITEMSIZE[d] * math.prod(shape) for n, (d, shape) in tensors.items()}
    order = sorted(
        tensors, key=lambda n: (lengths[n] % ALIGNMENT != 0, -ITEMSIZE[tensors[n][0]], n)
    )
    entries, position = [], 0
    for name in order:
        dtype, shape = tensors[name]
        entries.append(Entry(name, dtype, shape, position, position + lengths[name]))
        position += lengths[name]
    return entries


def encode_header(
    entries: Sequence[Entry], graph: str, producer: str, user: Mapping[str, str]
) -> bytes:
    """The canonical header, with zeros for the digest."""
    table: dict[str, Any] = {
        "__metadata__": {
            FORMAT_KEY: str(FORMAT),
            GRAPH_KEY: graph,
            PRODUCER_KEY: producer,
            DIGEST_KEY: _NO_DIGEST,
            **{key: user[key] for key in sorted(user)},
        }
    }
    for entry in sorted(entries, key=lambda e: e.name):
        table[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [entry.begin, entry.end],
        }
    raw = canonical(table).encode("ascii")
    return raw + b" " * (-(8 + len(raw)) % ALIGNMENT)


def with_digest(header: bytes, digest: str) -> bytes:
    """The header with a digest in its place."""
    place = _digest_place(header)
    return header[:place] + digest.encode() + header[place + len(digest) :]


def _digest_place(header: bytes) -> int:
    # Quotes inside strings are escaped, so the key and its value can occur here only.
    return header.index(f'"{DIGEST_KEY}":"{_NO_DIGEST}"'.encode()) + len(DIGEST_KEY) + 4


def write_container(
    path: str | os.PathLike[str], header: bytes, contents: Sequence[memoryview]
) -> None:
    """Write a header of `encode_header` and the bytes of its entries, in their order.

    The digest is taken of the very bytes that are written, and put into its place at the end.
    """
    state = hashlib.sha256(header)
    place = 8 + _digest_place(header)

    def chunks() -> Iterator[bytes | memoryview]:
        yield len(header).to_bytes(8, "little") + header
        for content in contents:
            for begin in range(0, len(content), CHUNK):
                piece = bytes(content[begin : begin + CHUNK])  # a copy: arrays may be changing
                state.update(piece)
                yield piece

    replace_file(path, chunks(), lambda: (place, state.hexdigest().encode()))
