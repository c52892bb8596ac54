"""Models that are a chain of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.errors import GraphError
from graphflow.keras.layers.base import Layer
from graphflow.keras.layers.core import Input, InputLayer
from graphflow.keras.models.model import Model, check_names
from graphflow.keras.serialization import serialize
from graphflow.keras.symbolic import KerasTensor


class Sequential(Model):
    """Layers one after another.

    The input shape comes from `keras.Input` as the first entry, from `input_shape` of the first
    layer, from `build`, or from the first data.
    """

    def __init__(self, layers: Sequence[Any] | None = None, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self._chain: list[Layer] = []
        for layer in layers or ():
            self._append(layer)
        self._try_to_build()

    def add(self, layer: Any) -> None:
        """Append a layer."""
        self._append(layer)
        self._try_to_build()

    def pop(self) -> Layer:
        """Remove the last layer and return it."""
        if not self._chain:
            raise GraphError(f"{self.name}: there is no layer to remove")
        layer = self._chain.pop()
        self._try_to_build()
        return layer

    def _append(self, layer: Any) -> None:
        if isinstance(layer, KerasTensor):
            layer = layer.call.layer
        if not isinstance(layer, Layer):
            raise GraphError(
                f"{self.name}: {layer!r} is no layer; expected objects of keras.layers"
            )
        if isinstance(layer, InputLayer):
            if self._chain or self.inputs:
                raise GraphError(f"{self.name}: an Input must come first")
            self.inputs = [layer.output]
            return
        if layer in self._chain:
            raise GraphError(
                f"{self.name}: the layer {layer.name!r} is in the chain already; share layers in a "
                "functional model"
            )
        self._chain.append(layer)

    def _try_to_build(self) -> None:
        """Connect the layers if the input shape is known."""
        check_names(self)
        self.built = False
        self._predict = None
        self.outputs_structure = None
        if not self.inputs and self._chain:
            shape = self._chain[0].declared_shape
            first = self._chain[0]
            if shape is not None:
                self.inputs = [Input(batch_shape=shape)]
            elif isinstance(first, Model) and len(first.inputs) == 1:
                self.inputs = [Input(batch_shape=first.inputs[0].shape)]
        if self.inputs and self._chain:
            self._connect()

    def _connect(self) -> None:
        tensor = self.inputs[0]
        for layer in self._chain:
            tensor = layer(tensor)
        self.outputs_structure = tensor
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Make all weights for an input shape with the batch in front, for example (None, 784)."""
        if self.outputs_structure is not None:
            return
        if not self._chain:
            raise GraphError(f"{self.name}: there is no layer; expected at least one")
        self.inputs = [Input(batch_shape=tuple(input_shape))]
        self._connect()

    def call(self, inputs: Any) -> Any:
        for layer in self._chain:
            inputs = layer(inputs)
        return inputs

    def get_config(self) -> dict[str, Any]:
        first = [serialize(tensor.call.layer) for tensor in self.inputs]
        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": [*first, *(serialize(layer) for layer in self._chain)],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Sequential:
        from graphflow.keras.saving import layer_from_config

        model = cls([layer_from_config(entry) for entry in config["layers"]], config["name"])
        model._trainable = bool(config.get("trainable", True))
        return model
