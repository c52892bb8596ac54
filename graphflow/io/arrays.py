"""Tensors of a container to NumPy arrays, copied and verified or mapped, and arrays to tensors."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Mapping

import numpy as np

from graphflow.compiler.errors import GraphFormatError
from graphflow.compiler.spec import DTYPES, TensorSpec
from graphflow.io.container import ALIGNMENT, ContainerFile, Entry, Header

#: dtype name by code; F16 and BF16 are codes of safetensors that graphs have no dtype for
DTYPE_OF = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F32": "float32", "F64": "float64",
}  # fmt: skip
CODE_OF = {name: code for code, name in DTYPE_OF.items()}
assert set(CODE_OF) == set(DTYPES)


def specs_of(header: Header) -> dict[str, TensorSpec]:
    """dtype and shape of each tensor.

    Raises:
        GraphFormatError: graphs have no such dtype.
    """
    for entry in header.entries:
        if entry.dtype not in DTYPE_OF:
            raise GraphFormatError(f"tensor {entry.name}: dtype {entry.dtype} is not supported")
    return {e.name: TensorSpec(DTYPE_OF[e.dtype], e.shape) for e in header.entries}


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new C-contiguous array that begins at a multiple of ALIGNMENT bytes."""
    count = math.prod(shape) * dtype.itemsize  # np.prod would overflow silently
    raw = np.empty(count + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    return raw[begin : begin + count].view(dtype).reshape(shape)


def read_arrays(file: ContainerFile, pin: str | None) -> dict[str, np.ndarray]:
    """Every tensor as an aligned, writable copy whose checksum was right.

    Raises:
        GraphFormatError: the data is damaged, or not the pinned one.
    """
    arrays = {e.name: aligned_empty(e.shape, _stored_dtype(e)) for e in file.header.entries}
    _fill(file, pin, arrays)
    return {name: _native(name, array) for name, array in arrays.items()}


def verify(file: ContainerFile, pin: str | None) -> None:
    """Read the data for its checksum and the values of bools, and keep none of it."""
    for entry, piece in file.verified_data(pin):
        if entry.dtype == "BOOL":
            _check_bools(entry.name, np.frombuffer(piece, np.uint8))


def map_arrays(file: ContainerFile, pin: str | None) -> dict[str, np.ndarray]:
    """Every tensor as a private view of the file: pages are read when they are touched.

    Writing to an array changes the memory of this process only. The checksum is not computed,
    unless a `pin` asks for it.

    Raises:
        GraphFormatError: a bool is neither 0 nor 1, or the file is not the pinned one.
    """
    if pin is not None:
        verify(file, pin)
    mapping = mmap.mmap(file.descriptor, file.size, access=mmap.ACCESS_COPY)
    if len(mapping) < file.size:
        raise GraphFormatError("the file became shorter while it was read")
    arrays = {}
    for entry in file.header.entries:
        dtype = _stored_dtype(entry)
        count = (entry.end - entry.begin) // dtype.itemsize
        view = np.frombuffer(mapping, dtype, count, file.data_start + entry.begin)
        if entry.begin % ALIGNMENT or entry.dtype == "BOOL":
            # Kernels load whole vectors; a bool is copied so that what is checked is what is used.
            copy = aligned_empty(view.shape, dtype)
            np.copyto(copy, view)
            view = copy
        arrays[entry.name] = _native(entry.name, view.reshape(entry.shape))
    return arrays


def _stored_dtype(entry: Entry) -> np.dtype:
    return np.dtype(DTYPE_OF[entry.dtype]).newbyteorder("<")


def _native(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype == np.bool_:
        _check_bools(name, array.view(np.uint8))
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _check_bools(name: str, content: np.ndarray) -> None:
    """Kernels branch on bools; a byte that is neither 0 nor 1 has no defined meaning there."""
    if content.size and content.max() > 1:
        raise GraphFormatError(f"tensor {name}: a bool is {content.max()}; expected 0 or 1")


def _fill(file: ContainerFile, pin: str | None, arrays: Mapping[str, np.ndarray]) -> None:
    position: dict[str, int] = dict.fromkeys(arrays, 0)
    targets = {name: array.reshape(-1).view(np.uint8) for name, array in arrays.items()}
    for entry, piece in file.verified_data(pin):
        begin = position[entry.name]
        targets[entry.name][begin : begin + len(piece)] = np.frombuffer(piece, np.uint8)
        position[entry.name] = begin + len(piece)


def contents(arrays: Iterable[np.ndarray]) -> list[memoryview]:
    """The bytes of arrays as a file holds them: C order, little-endian."""
    views = []
    for array in arrays:
        stored = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        if array.dtype == np.bool_:
            _check_bools("of bools", stored.view(np.uint8))
        views.append(stored.view(np.uint8).data)
    return views
