"""An HDF5 file of weights, in the form of Keras 3, into a tree of arrays and back; nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, Any

import numpy as np

from graphflow.compiler.errors import GraphFormatError
from graphflow.errors import GraphError
from graphflow.io.limits import DEFAULT_LIMITS

#: arrays of a compressed file are at most so many times as large as what is stored of them
_LARGEST_RATIO = 1024


@dataclass
class Group:
    """What a file holds about one layer, model or optimizer.

    Attributes:
        name: of the layer when it was saved; empty for lists of layers, and in files of the first
            versions of Keras 3.
        arrays: its own weights, in order.
        groups: those of the layers inside, by key; ("layers", "dense_1") has the path
            "layers/dense_1".
    """

    name: str = ""
    arrays: list[np.ndarray] = field(default_factory=list)
    groups: dict[str, Group] = field(default_factory=dict)

    def at(self, path: str) -> Group | None:
        """The group at a path of keys, or None."""
        group: Group | None = self
        for key in path.split("/") if path else ():
            group = group.groups.get(key) if group is not None else None
        return group

    @property
    def count(self) -> int:
        """Elements of all arrays of the group and those inside."""
        own = sum(array.size for array in self.arrays)
        return own + sum(group.count for group in self.groups.values())


def read_groups(source: str | IO[bytes], label: str) -> Group:
    """The tree of a file.

    Args:
        source: a path or an open file.
        label: names the file in messages.

    Raises:
        GraphError: the h5py package is missing.
        GraphFormatError: it is no HDF5 file, or holds what a file of weights has no need of.
    """
    h5py = load_h5py(label)
    try:
        with h5py.File(source, "r") as file:
            if "layer_names" in file.attrs or "model_weights" in file:
                raise GraphFormatError(
                    f"{label}: this is the HDF5 form of Keras 2; load it with Keras and write it "
                    "again with model.save_weights('name.weights.h5')"
                )
            return _Reader(h5py, label).group(file, 0)
    except (OSError, RuntimeError, ArithmeticError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, (GraphError, FileNotFoundError)):
            raise
        raise GraphFormatError(f"{label}: damaged, or no HDF5 file: {error}") from None


def write_groups(target: IO[bytes], groups: Group, label: str) -> None:
    """Write a tree as `read_groups`, and Keras 3, read it."""
    with load_h5py(label).File(target, "w") as file:
        _write(file, groups)


def _write(parent: Any, group: Group) -> None:
    if group.name:
        own = parent.create_group("vars")
        own.attrs["name"] = group.name
        for number, array in enumerate(group.arrays):
            own.create_dataset(str(number), data=array)
    for key, inner in group.groups.items():
        _write(parent.require_group(key), inner)


def load_h5py(label: str) -> Any:
    """The h5py package, or an error that names the extra."""
    try:
        import h5py
    except ImportError:
        raise GraphError(
            f"{label}: files of Keras need the h5py package: pip install 'graphflow[h5py]'"
        ) from None
    return h5py


class _Reader:
    def __init__(self, h5py: Any, label: str):
        self.h5py, self.label = h5py, label
        self.objects = self.nbytes = 0

    def group(self, group: Any, depth: int) -> Group:
        DEFAULT_LIMITS.check("nesting", depth, f"{self.label}: the depth of groups")
        result = Group()
        for key in group:
            item = self._child(group, key)
            if isinstance(item, self.h5py.Dataset):
                raise GraphFormatError(f"{self.label}: {item.name} is an array outside of 'vars'")
            if key == "vars":
                name = item.attrs.get("name", "")
                result.name = name if isinstance(name, str) else ""
                result.arrays = self._arrays(item)
            else:
                result.groups[key] = self.group(item, depth + 1)
        return result

    def _arrays(self, group: Any) -> list[np.ndarray]:
        keys = list(group)
        if sorted(keys) != sorted(map(str, range(len(keys)))):
            raise GraphFormatError(
                f"{self.label}: {group.name} holds {', '.join(keys[:5])}; expected arrays 0, 1, ..."
            )
        return [self._array(self._child(group, str(k))) for k in range(len(keys))]

    def _child(self, group: Any, key: str) -> Any:
        self.objects += 1
        DEFAULT_LIMITS.check("tensors", self.objects, f"{self.label}: the number of entries")
        # Soft and external links could lead anywhere.
        if not isinstance(group.get(key, getlink=True), self.h5py.HardLink):
            raise GraphFormatError(f"{self.label}: {group.name}/{key} is a link; expected data")
        return group[key]

    def _array(self, data: Any) -> np.ndarray:
        name = f"{self.label}: {getattr(data, 'name', '?')}"
        if not isinstance(data, self.h5py.Dataset) or data.dtype.kind not in "biuf":
            raise GraphFormatError(f"{name} is no array of numbers")
        if data.external or data.is_virtual:
            raise GraphFormatError(f"{name} stands in another file; expected data of its own")
        if data.nbytes > 4096 + _LARGEST_RATIO * data.id.get_storage_size():
            raise GraphFormatError(
                f"{name} claims {data.nbytes} bytes, which the file does not hold"
            )
        self.nbytes += data.nbytes
        DEFAULT_LIMITS.check(
            "memory", self.nbytes, f"{self.label}: the size of the arrays in bytes"
        )
        return np.asarray(data[()])
