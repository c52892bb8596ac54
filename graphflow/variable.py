"""The leaves that a user makes: placeholders to feed, and variables whose state outlives a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.spec import DEFAULT_FLOAT, shape_text
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.feeds import as_array
from graphflow.runtime.changes import note_change
from graphflow.tensor import Tensor, as_tensor, dtype_name, user_shape

__all__ = ["Placeholder", "Variable", "placeholder", "storage_of", "variable"]

#: bytes; one cache line, and the widest vector load
ALIGNMENT = 64


@dataclass(slots=True)
class _State:
    storage: np.ndarray
    trainable: bool
    view: np.ndarray


# Keyed by node and not held by the Variable, so that a graph keeps its state alive by itself.
_states: WeakKeyDictionary[Node, _State] = WeakKeyDictionary()


class Placeholder(Tensor):
    """A value that the caller of a function feeds."""

    __slots__ = ()


class Variable(Tensor):
    """State that lives between calls: functions read it, and write it through `updates`.

    Attributes:
        trainable: whether an optimizer should change it; graphflow itself does not look at it.
    """

    __slots__ = ()

    @property
    def trainable(self) -> bool:
        return _states[self.node].trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        _states[self.node].trainable = bool(value)

    @property
    def storage(self) -> np.ndarray:
        """The array that functions read and write in place: aligned, C-contiguous, never replaced.

        This view of it is read-only: what functions computed from a variable is computed again only
        after a change that they are told of, so write by `value` or `assign`.
        """
        return _states[self.node].view

    @property
    def value(self) -> np.ndarray:
        """A copy of the present value; setting it copies into the storage.

        `v.value[...] = 0` changes the copy only; `v.value = 0 * v.value` changes the variable.

        Raises:
            ShapeError, DTypeError: the new value does not fit.
        """
        return self.storage.copy()

    @value.setter
    def value(self, value: Any) -> None:
        label = f"variable {self.name or ''}".rstrip()
        array = as_array(value, self.dtype, with_label(label, self.node))
        if array.shape != self.storage.shape:
            raise ShapeError(
                with_line(
                    f"{label}: got shape {shape_text(array.shape)}; expected "
                    f"{shape_text(self.storage.shape)}, which is fixed for its life\n"
                    f"  {describe(self.node)}"
                )
            )
        write_storage(self.node, array)

    def numpy(self) -> np.ndarray:
        """A copy of the present value, as other libraries call it."""
        return self.value

    def assign(self, value: Any) -> None:
        """Copy an array into the variable, now. In a graph use `updates=[(variable, tensor)]`."""
        if isinstance(value, Tensor):
            raise GraphError(
                with_line(
                    f"assign: {value!r} is symbolic; use gf.function(..., updates=[(variable, "
                    "tensor)]) to compute and store it"
                )
            )
        self.value = value


def with_label(label: str, node: Node) -> str:
    """A label with the line that made the node, for messages."""
    return f"{label} [{node.source}]" if node.source else label


def is_variable(node: Node) -> bool:
    """Whether a node is a variable that was made with `variable`."""
    return node in _states


def storage_of(node: Node) -> np.ndarray:
    """The array of a variable node, for those that write it and count that (`note_change`)."""
    return _states[node].storage


def write_storage(node: Node, array: np.ndarray) -> None:
    """Copy an array of the same shape and dtype into a variable."""
    try:
        np.copyto(storage_of(node), array)
    finally:
        # Counted even if Ctrl-C comes between the two.
        note_change()


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A writable C-contiguous copy that begins at a multiple of ALIGNMENT bytes."""
    raw = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    begin = -raw.ctypes.data % ALIGNMENT
    copy = raw[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy


def _first_value(value: Any, dtype: object) -> np.ndarray:
    if isinstance(value, Variable):
        value = value.storage
    if isinstance(value, np.ndarray):
        # Weights can be large, so they do not become a constant of the graph first.
        return value.astype(dtype_name(value.dtype if dtype is None else dtype), copy=False)
    return np.asarray(as_tensor(value, dtype, "variable"))


def placeholder(
    shape: Any = (), dtype: object = DEFAULT_FLOAT, name: str | None = None
) -> Placeholder:
    """An input of a graph.

    Args:
        shape: sizes; an int is fixed, a string names a dim that may differ from call to call, and
            None is the dim "batch" in front and "dim<k>" elsewhere. One name is one size
            throughout a function.
        dtype: for example "float32", the default.
        name: for keyword feeds and messages.

    Raises:
        ShapeError: a size is negative or no size at all.

    >>> placeholder(("batch", 784), name="x")
    Placeholder<float32(batch, 784) x>
    """
    sizes = user_shape("placeholder", shape)
    return Placeholder(ops.placeholder(shape=sizes, dtype=dtype_name(dtype), name=name))


def variable(
    value: Any, name: str | None = None, dtype: object = None, trainable: bool = True
) -> Variable:
    """State with a first value.

    Args:
        value: array or nested list; arrays keep their dtype, Python floats become float32.
        dtype: another dtype for it.
        trainable: a mark for optimizers.

    >>> w = variable([[1.0, 2.0]], name="w")
    >>> w.value
    array([[1., 2.]], dtype=float32)
    """
    array = _first_value(value, dtype)
    node = ops.variable(shape=array.shape, dtype=array.dtype.name, name=name)
    return adopt_storage(node, aligned_copy(array), trainable)


def adopt_storage(node: Node, storage: np.ndarray, trainable: bool = True) -> Variable:
    """The Variable of a node that was made elsewhere (by a loader), over storage made elsewhere.

    Args:
        node: a node of the op `variable`, with a static shape.
        storage: writable, C-contiguous, of the node's dtype and shape.
    """
    fits = storage.dtype.name == node.dtype and storage.shape == node.shape
    if not fits or not storage.flags.c_contiguous:
        raise ShapeError(
            f"variable: the storage is {storage.dtype}{storage.shape}; expected {describe(node)}, "
            "C-contiguous"
        )
    view = storage.view()
    view.flags.writeable = False
    _states[node] = _State(storage, trainable, view)
    note_change()
    return Variable(node)
