"""Tensors of the functional API: a traced graph tensor that remembers which layer made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphflow.compiler.dims import Size
from graphflow.structure import flatten_structure, map_structure
from graphflow.tensor import Tensor
from graphflow.variable import placeholder

if TYPE_CHECKING:
    from graphflow.keras.layers.base import Layer

Shape = tuple[int | None, ...]


class Call:
    """One use of a layer; a shared layer has several.

    Attributes:
        layer: the layer that was called.
        inputs: KerasTensors in the structure in which the layer got them.
        outputs: its results, in theirs.
    """

    def __init__(self, layer: Layer, inputs: Any, results: Any):
        self.layer = layer
        self.inputs = inputs
        numbers = iter(range(len(flatten_structure(results))))
        self.outputs = map_structure(lambda t: KerasTensor(t, self, next(numbers)), results)


class KerasTensor:
    """A value between two layers.

    Attributes:
        traced: the graph tensor it has when the model does not train; knows shape and dtype.
        call: the use of a layer that made it.
        index: which of the results of that call it is.
    """

    def __init__(self, traced: Tensor, call: Call, index: int):
        self.traced = traced
        self.call = call
        self.index = index

    @property
    def shape(self) -> Shape:
        """Sizes, None where they are known only when the model runs."""
        return static_shape(self.traced.shape)

    @property
    def dtype(self) -> str:
        return self.traced.dtype

    @property
    def name(self) -> str:
        return self.call.layer.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


def static_shape(shape: tuple[Size, ...]) -> Shape:
    """A graph shape with None for every size that is not an int."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def traced_input(shape: Shape, dtype: str, name: str) -> Tensor:
    """A placeholder of a Keras shape: the first None is "batch", others are dims of their own."""
    sizes = [f"{name}_dim{k}" if size is None else size for k, size in enumerate(shape)]
    if shape and shape[0] is None:
        sizes[0] = "batch"
    return placeholder(tuple(sizes), dtype, name=name)


def has_keras_tensor(structure: Any) -> bool:
    """Whether some leaf is a KerasTensor."""
    return any(isinstance(leaf, KerasTensor) for leaf in flatten_structure(structure))
