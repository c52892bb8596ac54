"""Tensors of the functional API: a traced graph tensor that remembers which layer made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphflow.compiler.dims import Size
from graphflow.errors import GraphError
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

    # ---- operators, each a layer of its own --------------------------------------------------

    #: arrays leave operators with a tensor of a layer to it
    __array_ufunc__ = None

    def __add__(self, other: Any) -> KerasTensor:
        return _operation("add", self, other)

    def __radd__(self, other: Any) -> KerasTensor:
        return _operation("add", other, self)

    def __sub__(self, other: Any) -> KerasTensor:
        return _operation("subtract", self, other)

    def __rsub__(self, other: Any) -> KerasTensor:
        return _operation("subtract", other, self)

    def __mul__(self, other: Any) -> KerasTensor:
        return _operation("multiply", self, other)

    def __rmul__(self, other: Any) -> KerasTensor:
        return _operation("multiply", other, self)

    def __truediv__(self, other: Any) -> KerasTensor:
        return _operation("divide", self, other)

    def __rtruediv__(self, other: Any) -> KerasTensor:
        return _operation("divide", other, self)

    def __floordiv__(self, other: Any) -> KerasTensor:
        return _operation("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> KerasTensor:
        return _operation("floor_divide", other, self)

    def __mod__(self, other: Any) -> KerasTensor:
        return _operation("mod", self, other)

    def __rmod__(self, other: Any) -> KerasTensor:
        return _operation("mod", other, self)

    def __pow__(self, other: Any) -> KerasTensor:
        return _operation("power", self, other)

    def __rpow__(self, other: Any) -> KerasTensor:
        return _operation("power", other, self)

    def __matmul__(self, other: Any) -> KerasTensor:
        return _operation("matmul", self, other)

    def __rmatmul__(self, other: Any) -> KerasTensor:
        return _operation("matmul", other, self)

    def __lt__(self, other: Any) -> KerasTensor:
        return _operation("less", self, other)

    def __le__(self, other: Any) -> KerasTensor:
        return _operation("less_equal", self, other)

    def __gt__(self, other: Any) -> KerasTensor:
        return _operation("greater", self, other)

    def __ge__(self, other: Any) -> KerasTensor:
        return _operation("greater_equal", self, other)

    def __neg__(self) -> KerasTensor:
        return _operation("negative", self)

    def __abs__(self) -> KerasTensor:
        return _operation("absolute", self)

    def __getitem__(self, key: Any) -> KerasTensor:
        from graphflow.keras.layers.operation import get_item

        return get_item(self, key)

    def __iter__(self) -> Any:
        raise GraphError(f"{self!r} cannot be iterated over; index it, as in x[:, 0]")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise GraphError(
            f"{self!r} has no values yet; make a model of it and call predict, or use a layer"
        )

    def __bool__(self) -> bool:
        raise GraphError(
            f"{self!r} has no value while a model is being built; `if` and `and` cannot depend on it"
        )

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


def _operation(op: str, *operands: Any) -> Any:
    from graphflow.keras.layers.operation import apply

    return apply(op, *operands)


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
