"""Operators between layers (`x + y`, `2 * x`, `x[:, 0]`) as layers without weights."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from graphflow import functions
from graphflow.errors import GraphError
from graphflow.keras.layers.base import Layer
from graphflow.keras.naming import unique_name
from graphflow.keras.symbolic import KerasTensor
from graphflow.structure import flatten_structure
from graphflow.tensor import Tensor

#: what an operator computes, by the name that Keras gives it
OPERATIONS: dict[str, Callable[..., Any]] = {
    "absolute": functions.abs,
    "add": operator.add,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "get_item": lambda x, key: x[_decoded(key)],
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "matmul": operator.matmul,
    "mod": operator.mod,
    "multiply": operator.mul,
    "negative": operator.neg,
    "power": operator.pow,
    "subtract": operator.sub,
}


class Operation(Layer):
    """An operator with some operands fixed.

    Args:
        op: its name in OPERATIONS.
        operands: numbers or arrays, and None in the place of each input; the key of "get_item" as
            `encoded` writes it.
    """

    fields = ("op", "operands")

    def __init__(self, op: str, operands: Any, name: str | None = None, **kwargs: Any):
        if op not in OPERATIONS:
            raise GraphError(f"Operation: {op!r} is unknown; expected one of {sorted(OPERATIONS)}")
        super().__init__(name=name or unique_name(op), **kwargs)
        self.op, self.operands = op, list(operands)

    def call(self, inputs: Any) -> Tensor:
        given = iter(flatten_structure(inputs))
        # The key of get_item may hold None, so it is not looked at.
        fixed = 1 if self.op == "get_item" else len(self.operands)
        operands = [
            next(given) if k < fixed and value is None else value
            for k, value in enumerate(self.operands)
        ]
        first = next(value for value in operands if isinstance(value, Tensor))
        return OPERATIONS[self.op](
            *(_like(first, v) if k < fixed else v for k, v in enumerate(operands))
        )


def _like(tensor: Tensor, value: Any) -> Any:
    """An array in the dtype of a tensor, so that it does not widen the result."""
    if not isinstance(value, (list, np.ndarray)):
        return value
    array = np.asarray(value)
    return array.astype(tensor.dtype) if array.dtype.kind in "biuf" else array


def apply(op: str, *operands: Any) -> Any:
    """The result of an operator on tensors of layers and on constants."""
    tensors = [value for value in operands if isinstance(value, KerasTensor)]
    fixed = [None if isinstance(value, KerasTensor) else _constant(op, value) for value in operands]
    return Operation(op, fixed)(tensors if len(tensors) > 1 else tensors[0])


def get_item(tensor: KerasTensor, key: Any) -> Any:
    """`tensor[key]`; the axis of the batch counts as the first."""
    return Operation("get_item", [None, encoded(key)])(tensor)


def _constant(op: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise GraphError(
            f"{op}: got a {type(value).__name__} beside the output of a layer; expected another "
            "output, a number or an array"
        )
    return array if array.ndim else array.item()


def encoded(key: Any) -> list[Any]:
    """An index as JSON has it: ints, None, "..." and [start, stop, step]."""
    parts: list[Any] = []
    for part in key if isinstance(key, tuple) else (key,):
        if isinstance(part, slice):
            parts.append([part.start, part.stop, part.step])
        elif part is Ellipsis:
            parts.append("...")
        elif part is None or (isinstance(part, (int, np.integer)) and not isinstance(part, bool)):
            parts.append(part if part is None else int(part))
        else:
            raise GraphError(
                f"get_item: {part!r} is no index of the output of a layer; expected ints, slices, "
                "None and ..."
            )
    return parts


def _decoded(key: list[Any]) -> tuple[Any, ...]:
    return tuple(
        slice(*part) if isinstance(part, list) else Ellipsis if part == "..." else part
        for part in key
    )
