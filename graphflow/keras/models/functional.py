"""Models made of tensors: the layers between inputs and outputs, called again in the same order."""

from __future__ import annotations

from typing import Any

from graphflow.errors import GraphError
from graphflow.keras.layers.base import Layer
from graphflow.keras.models.model import Model, check_is_tensor, check_names
from graphflow.keras.serialization import serialize
from graphflow.keras.symbolic import Call, KerasTensor
from graphflow.structure import flatten_structure, map_structure


class Functional(Model):
    """A graph of layers.

    Args:
        inputs: `keras.Input`s: one, a list, or a dict by name.
        outputs: results of layers: one, a list, or a dict by name.
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        check_is_tensor("inputs", inputs)
        check_is_tensor("outputs", outputs)
        self.inputs = flatten_structure(inputs)
        self._input_structure = inputs
        self.outputs_structure = outputs
        self.calls = _ordered_calls(self.name, self.output_list, self.inputs)
        self._members = list(dict.fromkeys(call.layer for call in self.calls))
        self.built = True
        check_names(self)

    def call(self, inputs: Any) -> Any:
        given = [inputs[t.name] for t in self.inputs] if isinstance(inputs, dict) else inputs
        tensors = flatten_structure(given)
        if len(tensors) != len(self.inputs):
            raise GraphError(f"{self.name}: {len(tensors)} inputs; expected {len(self.inputs)}")
        values: dict[KerasTensor, Any] = dict(zip(self.inputs, tensors, strict=True))
        for call in self.calls:
            if all(tensor in values for tensor in flatten_structure(call.outputs)):
                continue
            results = call.layer(map_structure(values.__getitem__, call.inputs))
            pairs = zip(flatten_structure(call.outputs), flatten_structure(results), strict=True)
            values.update(pairs)
        return map_structure(values.__getitem__, self.outputs_structure)

    def get_config(self) -> dict[str, Any]:
        layers = self._members
        positions = {call: k for k, call in enumerate(self.calls)}

        def reference(tensor: KerasTensor) -> dict[str, int]:
            return {"call": positions[tensor.call], "index": tensor.index}

        return {
            "name": self.name,
            "trainable": self._trainable,
            "layers": [serialize(layer) for layer in layers],
            "calls": [
                {
                    "layer": layers.index(call.layer),
                    "inputs": map_structure(reference, call.inputs),
                }
                for call in self.calls
            ],
            "inputs": map_structure(reference, self._input_structure),
            "outputs": map_structure(reference, self.outputs_structure),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Functional:
        from graphflow.keras.saving import layer_from_config

        layers = [layer_from_config(entry) for entry in config["layers"]]
        made: list[list[KerasTensor]] = []

        def resolve(value: Any) -> Any:
            if isinstance(value, dict) and value.keys() == {"call", "index"}:
                return made[_checked(value["call"], len(made))][value["index"]]
            if isinstance(value, dict):
                return {key: resolve(item) for key, item in value.items()}
            return [resolve(item) for item in value]

        for entry in config["calls"]:
            layer = layers[_checked(entry["layer"], len(layers))]
            is_input = entry["inputs"] is None
            result = layer.output if is_input else layer(resolve(entry["inputs"]))
            made.append(flatten_structure(result))
        model = cls(resolve(config["inputs"]), resolve(config["outputs"]), config["name"])
        model._trainable = bool(config.get("trainable", True))
        return model


def _checked(number: Any, count: int) -> int:
    """A position in a list, which a file may get wrong."""
    if type(number) is not int or not 0 <= number < count:
        raise GraphError(f"model: the config refers to entry {number!r} of {count}")
    return number


def _ordered_calls(name: str, outputs: list[KerasTensor], inputs: list[KerasTensor]) -> list[Call]:
    """The calls that lead from the inputs to the outputs, each after those that it needs."""
    starts = {tensor.call for tensor in inputs}
    done: dict[Call, None] = dict.fromkeys(tensor.call for tensor in inputs)
    pending = [tensor.call for tensor in reversed(outputs)]
    while pending:
        call = pending[-1]
        if call in done:
            pending.pop()
            continue
        if call.inputs is None:
            raise GraphError(
                f"{name}: the outputs depend on the input {call.layer.name!r}, which is not among "
                f"the inputs {[tensor.name for tensor in inputs]}"
            )
        needed = [tensor.call for tensor in flatten_structure(call.inputs)]
        missing = [c for c in needed if c not in done]
        if missing:
            pending.extend(reversed(missing))
        else:
            done[call] = None
            pending.pop()
    ordered = list(done)
    if not all(isinstance(call.layer, Layer) for call in starts):
        raise GraphError(f"{name}: an input is no tensor of keras.Input")
    return ordered
