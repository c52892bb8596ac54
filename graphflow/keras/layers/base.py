"""The base of all layers: weights by name, and `call` from graph tensors to graph tensors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from graphflow.compiler.graph import name_scope
from graphflow.errors import GraphError, ShapeError
from graphflow.keras import activations, initializers, regularizers, tracing
from graphflow.keras.naming import check_arguments, snake_case, unique_name
from graphflow.keras.serialization import serialize
from graphflow.keras.symbolic import Call, KerasTensor, Shape, has_keras_tensor, static_shape
from graphflow.structure import flatten_structure, map_structure
from graphflow.tensor import Tensor
from graphflow.variable import Variable, variable


class Layer:
    """A function of tensors with weights.

    A subclass makes its weights in `build(input_shape)` with `add_weight`, and returns its result
    from `call(inputs)` or `call(inputs, training)`, written with graphflow's functions.

    Args:
        name: unique within a model; by default made from the class name.
        trainable: whether an optimizer changes the weights.
        dtype: of the weights.
        input_shape: shape of one sample, for the first layer of a Sequential.

    Attributes:
        built: whether the weights exist.
    """

    #: constructor arguments that `get_config` returns, kept under the same names
    fields: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: str | None = None,
        input_shape: Any = None,
        input_dim: int | None = None,
        batch_input_shape: Any = None,
        **unknown: Any,
    ):
        check_arguments(type(self), unknown)
        self.name = name or unique_name(snake_case(type(self).__name__))
        self.dtype = dtype or "float32"
        self.built = False
        self.declared_shape = _declared(self.name, input_shape, input_dim, batch_input_shape)
        self._trainable = bool(trainable)
        self._own_weights: list[Variable] = []
        self._regularized: list[tuple[Variable, Any]] = []
        self._scope = ""

    # ---- to be defined -----------------------------------------------------------------------

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape, with None for unknown sizes."""

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The result for graph tensors."""
        raise NotImplementedError(f"{type(self).__name__} must define call(self, inputs)")

    # ---- weights -----------------------------------------------------------------------------

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = "glorot_uniform",
        dtype: str | None = None,
        trainable: bool = True,
        regularizer: Any = None,
        name: str | None = None,
    ) -> Variable:
        """A weight of this layer.

        Args:
            shape: ints.
            initializer: a name, an object, or a function of (shape, dtype).
            trainable: whether gradients change it.
            regularizer: a penalty that is added to the loss.
            name: unique within the layer.
        """
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        path = f"{self._scope or self.name}/{name or f'weight_{len(self._own_weights)}'}"
        if any(not isinstance(size, (int, np.integer)) or size < 0 for size in sizes):
            raise ShapeError(f"{path}: the shape is {sizes}; expected ints, so that it has a size")
        value = _first_value(path, sizes, dtype or self.dtype, initializer)
        weight = variable(value, name=path, trainable=trainable)
        self._own_weights.append(weight)
        if regularizer is not None:
            self._regularized.append((weight, regularizers.get(regularizer)))
        return weight

    def add_loss(self, loss: Tensor) -> None:
        """Add a scalar to the loss of the model; call it inside `call`."""
        trace = tracing.current_trace()
        if trace is not None:
            trace.losses.append(loss)

    def add_update(self, weight: Variable, value: Tensor) -> None:
        """Store a new value after each training step; call it inside `call`."""
        trace = tracing.current_trace()
        if trace is not None and trace.training:
            trace.updates.append((weight, value))

    def sublayers(self) -> Iterator[Layer]:
        """The layers that this one holds as attributes, or in lists and dicts of them."""
        for value in list(vars(self).values()):
            if isinstance(value, (Layer, list, tuple, dict)):
                yield from (leaf for leaf in flatten_structure(value) if isinstance(leaf, Layer))

    def all_layers(self) -> list[Layer]:
        """This layer and those inside it, each once."""
        found: dict[Layer, None] = {self: None}
        for layer in self.sublayers():
            found.update(dict.fromkeys(layer.all_layers()))
        return list(found)

    @property
    def weights(self) -> list[Variable]:
        """All weights, in the order in which they were made, layer by layer."""
        return [weight for layer in self.all_layers() for weight in layer._own_weights]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The weights that an optimizer changes."""
        if not self._trainable:
            return []
        layers = [layer for layer in self.all_layers() if layer._trainable]
        return [weight for layer in layers for weight in layer._own_weights if weight.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The other weights."""
        trainable = set(self.trainable_weights)
        nodes = {weight.node for weight in trainable}
        return [weight for weight in self.weights if weight.node not in nodes]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    @property
    def trainable(self) -> bool:
        """Whether an optimizer changes the weights; setting it includes the layers inside."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.all_layers():
            layer._trainable = bool(value)

    def get_weights(self) -> list[np.ndarray]:
        """Copies of the weights."""
        return [weight.value for weight in self.weights]

    def set_weights(self, values: Any) -> None:
        """Copy arrays into the weights, in the order of `get_weights`.

        Raises:
            ShapeError: the number of arrays or a shape differs; no weight is changed.
        """
        weights, arrays = self.weights, [np.asarray(value) for value in values]
        if len(weights) != len(arrays):
            raise ShapeError(
                f"{self.name}: {len(arrays)} arrays given for {len(weights)} weights"
                + ("" if self.built else "; build the layer first, it has no weights yet")
            )
        for weight, array in zip(weights, arrays, strict=True):
            if weight.shape != array.shape:
                raise ShapeError(f"{weight.name}: got {array.shape}; expected {weight.shape}")
        for weight, array in zip(weights, arrays, strict=True):
            weight.value = array.astype(weight.dtype)

    def count_params(self) -> int:
        """The number of elements of all weights."""
        if not self.built:
            raise GraphError(f"{self.name}: not built yet, so the number of weights is unknown")
        return sum(weight.value.size for weight in self.weights)

    def penalties(self) -> list[Tensor]:
        """The regularisation terms of the weights, one scalar each."""
        pairs = [pair for layer in self.all_layers() for pair in layer._regularized]
        return [regularizer(weight) for weight, regularizer in pairs]

    # ---- calling -----------------------------------------------------------------------------

    def __call__(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Apply the layer: to outputs of other layers, to graph tensors, or to arrays."""
        if has_keras_tensor(inputs):
            _check_all_symbolic(self.name, inputs)
            traced = map_structure(lambda leaf: leaf.traced, inputs)
            with tracing.tracing(training=False):
                results = self._apply(traced, args, kwargs)
            return Call(self, inputs, results).outputs
        outer = tracing.current_trace()
        mode = bool(training) if training is not None else outer is not None and outer.training
        if any(isinstance(leaf, Tensor) for leaf in flatten_structure(inputs)):
            if outer is not None and outer.training == mode:
                return self._apply(inputs, args, kwargs)
            with tracing.tracing(mode) as trace:
                results = self._apply(inputs, args, kwargs)
            if outer is not None:
                outer.losses.extend(trace.losses)
            return results
        return self._evaluate(inputs, mode)

    def _evaluate(self, inputs: Any, training: bool) -> Any:
        """The result for arrays, computed at once."""
        from graphflow.function import function
        from graphflow.tensor import as_tensor

        def as_float(leaf: Any) -> Tensor:
            array = np.asarray(leaf)
            return as_tensor(array.astype("float32") if array.dtype.kind == "f" else array)

        listed = inputs
        if isinstance(inputs, list) and not any(hasattr(leaf, "shape") for leaf in inputs):
            listed = np.asarray(inputs)
        with tracing.tracing(training) as trace:
            results = self._apply(map_structure(as_float, listed), (), {})
        return function([], results, updates=trace.updates, mode="interpret")()

    def _apply(self, inputs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.ensure_built(map_structure(lambda leaf: static_shape(leaf.shape), inputs))
        if "training" in _parameters(type(self)):
            trace = tracing.current_trace()
            kwargs = {**kwargs, "training": trace is not None and trace.training}
        with name_scope(self.name):
            return self.call(inputs, *args, **kwargs)

    def ensure_built(self, input_shape: Any) -> None:
        """Call `build` unless that has happened."""
        if not self.built:
            self.build(input_shape)
            self.built = True

    # ---- description -------------------------------------------------------------------------

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the result for inputs of a shape, with None for unknown sizes."""
        from graphflow.keras.symbolic import traced_input

        shapes = input_shape if isinstance(input_shape, list) else [tuple(input_shape)]
        inputs = [traced_input(tuple(s), "float32", f"input{k}") for k, s in enumerate(shapes)]
        with tracing.tracing(training=False):
            results = self._apply(inputs if isinstance(input_shape, list) else inputs[0], (), {})
        return map_structure(lambda tensor: static_shape(tensor.shape), results)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments that make a layer like this one, without its weights."""
        config: dict[str, Any] = {"name": self.name, "trainable": self._trainable}
        for field in self.fields:
            value = getattr(self, field)
            if field.endswith("activation") and value is not None:
                config[field] = activations.serialize(value)
            else:
                config[field] = serialize(value)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer that `get_config` describes."""
        return cls(**config)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"


def _parameters(cls: type[Layer]) -> set[str]:
    return set(inspect.signature(cls.call).parameters)


def _declared(name: str, shape: Any, dim: int | None, batch_shape: Any) -> Shape | None:
    """The shape with the batch in front that the first layer of a Sequential was given."""
    if batch_shape is not None:
        return tuple(batch_shape)
    if dim is not None:
        shape = (dim,)
    if shape is None:
        return None
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(size is not None and (not isinstance(size, int) or size < 0) for size in sizes):
        raise ShapeError(f"{name}: input_shape is {shape!r}; expected ints or None per axis")
    return (None, *sizes)


def _first_value(path: str, shape: tuple[int, ...], dtype: str, initializer: Any) -> np.ndarray:
    source = tracing.weight_source()
    if source is None:
        value = np.asarray(initializers.get(initializer)(shape, dtype))
    else:
        value = source(path, shape)
    if value.shape != shape:
        origin = "the initializer made" if source is None else "the file holds"
        raise ShapeError(f"{path}: {origin} {value.shape}; expected {shape}")
    return value.astype(dtype, copy=False)


def _check_all_symbolic(name: str, inputs: Any) -> None:
    for leaf in flatten_structure(inputs):
        if not isinstance(leaf, KerasTensor):
            raise GraphError(
                f"{name}: called on layer outputs mixed with a {type(leaf).__name__}; expected "
                "layer outputs only"
            )


def positive(name: str, what: str, value: Any) -> int:
    """`value` as a positive int, or an error that names the layer and the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise GraphError(f"{name}: {what} is {value!r}; expected a positive int")
    return int(value)


def known_size(name: str, shape: Shape, axis: int) -> int:
    """The size of an axis that weights depend on.

    Raises:
        ShapeError: it is unknown, or there is no such axis.
    """
    size = shape[axis] if -len(shape) <= axis < len(shape) else None
    if size is None:
        raise ShapeError(
            f"{name}: axis {axis} of the input {shape} must have a known size, weights depend on "
            "it; give it in Input(shape=...)"
        )
    return size
