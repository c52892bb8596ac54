"""The JSON in which Keras 3 describes a model, into a model of graphflow; no code is run from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphflow.errors import GraphError
from graphflow.keras import initializers, losses, metrics, optimizers, regularizers, schedules
from graphflow.keras.layers import LAYERS
from graphflow.keras.layers.operation import OPERATIONS, Operation, encoded
from graphflow.keras.models.functional import Functional
from graphflow.keras.models.sequential import Sequential
from graphflow.keras.naming import argument_names, snake_case
from graphflow.keras.serialization import custom_class
from graphflow.keras.symbolic import KerasTensor
from graphflow.structure import flatten_structure

#: options of Keras that change nothing here, whatever their value
_IGNORED = {
    "build_input_shape", "ema_momentum", "ema_overwrite_frequency", "renorm_momentum",
    "shared_object_id",
}  # fmt: skip

#: values of an option that graphflow lacks which mean that it is not used
_UNUSED: tuple[Any, ...] = (None, False, "channels_last", [], {})

_TABLES = (initializers, regularizers, losses, metrics, optimizers, schedules)


def model_from(entry: Any) -> Any:
    """The layer or model of {"class_name": ..., "config": {...}, ...}.

    Raises:
        GraphError: a class is unknown, or an option is set that graphflow does not have.
    """
    name, config = _parts(entry)
    custom = custom_class(name)
    if custom is not None:
        return custom.from_config({k: v for k, v in config.items() if k != "dtype"})
    if name == "Sequential":
        return Sequential([model_from(item) for item in config["layers"]], config.get("name"))
    if name in ("Functional", "Model"):
        return _Graph(config).model()
    if name not in LAYERS or name == "Operation":
        raise GraphError(
            f"load: the layer class {name[:60]!r} is unknown; expected one of "
            f"{', '.join(sorted(LAYERS))}. Name your own in custom_objects={{...}}"
        )
    return _made(LAYERS[name], config, f"{name} {config.get('name', '')!r}")


def value_from(value: Any) -> Any:
    """A value inside a config: objects in graphflow's form, tuples as lists, the rest as it is."""
    if isinstance(value, list):
        return [value_from(item) for item in value]
    if not isinstance(value, dict):
        return value
    name = value.get("class_name")
    if name is None:
        return {key: value_from(item) for key, item in value.items()}
    if name == "__tuple__":
        return [value_from(item) for item in value["items"]]
    if name == "function":
        return value["config"]
    name, config = _parts(value)
    if name.endswith("DTypePolicy"):
        if config.get("name") not in ("float32", "float64"):
            raise GraphError(
                f"load: a layer has the dtype policy {config.get('name')!r}; expected 'float32' or "
                "'float64'. Set it in Keras before saving"
            )
        return config["name"]
    for module in _TABLES:
        classes = module.TABLE.classes
        if name in classes:
            return {"class_name": name, "config": known_options(classes[name], config, name)}
    return {"class_name": name, "config": value_from(config)}


def known_options(cls: Any, config: Mapping[str, Any], label: str) -> dict[str, Any]:
    """The options of a config that a class takes.

    Raises:
        GraphError: another one is set.
    """
    accepted = argument_names(cls)
    result = {}
    for key, given in config.items():
        value = value_from(given)
        if key in accepted:
            result[key] = value
        elif key not in _IGNORED and not any(value is u or value == u for u in _UNUSED):
            raise GraphError(
                f"load: {label} sets {key}={value!r}, which graphflow's {cls.__name__} does not have"
            )
    return result


def _made(cls: Any, config: Mapping[str, Any], label: str) -> Any:
    options = known_options(cls, config, label)
    try:
        return cls.from_config(options)
    except (TypeError, KeyError) as error:
        raise GraphError(f"load: the config of {label} is wrong: {error}") from None


def _parts(entry: Any) -> tuple[str, dict[str, Any]]:
    """(class name, config) of an entry."""
    if isinstance(entry, dict) and isinstance(entry.get("class_name"), str):
        config = entry.get("config")
        if isinstance(config, dict):
            return entry["class_name"], config
    raise GraphError(f"load: got {str(entry)[:60]!r}; expected a class name and a config")


class _Graph:
    """A functional model: layers, and nodes that say on which tensors each is called."""

    def __init__(self, config: dict[str, Any]):
        self.config = config
        self.tensors: dict[tuple[str, int], list[KerasTensor]] = {}

    def model(self) -> Functional:
        pending = []
        for entry in self.config["layers"]:
            name = entry.get("name") or entry["config"]["name"]
            nodes = entry["inbound_nodes"]
            if str(entry.get("module", "")).startswith("keras.src.ops"):
                layer: Any = entry
            else:
                layer = model_from(entry)
            if not nodes:
                self.tensors[name, 0] = [layer.output]
            pending += [(name, number, layer, node) for number, node in enumerate(nodes)]
        while pending:
            waiting = [item for item in pending if not self._call(*item)]
            if len(waiting) == len(pending):
                raise GraphError(
                    f"load: the layer {pending[0][0]!r} has an input that nothing makes"
                )
            pending = waiting
        inputs, outputs = (self._resolved(self.config[f"{k}_layers"]) for k in ("input", "output"))
        return Functional(inputs, outputs, self.config.get("name"))

    def _call(self, name: str, number: int, layer: Any, node: Any) -> bool:
        """Call a layer on a node's tensors; False if one of them is not made yet."""
        if isinstance(node, list) or not isinstance(node, dict):
            raise GraphError(
                f"load: {name!r} has a node in the form of Keras 2; save it with Keras 3"
            )
        sources = [
            leaf["config"]["keras_history"]
            for leaf in _leaves([node["args"], node["kwargs"]])
            if leaf.get("class_name") == "__keras_tensor__"
        ]
        if any((source[0], source[1]) not in self.tensors for source in sources):
            return False
        arguments = [self._argument(value) for value in node["args"]]
        options = {k: self._argument(v) for k, v in node["kwargs"].items() if v is not None}
        if isinstance(layer, dict):
            result = _operation(layer, arguments, options)
        else:
            if len(arguments) != 1 or set(options) - {"training"}:
                raise GraphError(
                    f"load: {name!r} is called with {len(arguments)} arguments and "
                    f"{sorted(options) or 'no options'}; expected its input alone"
                )
            result = layer(arguments[0])
        self.tensors[name, number] = flatten_structure(result)
        return True

    def _argument(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._argument(item) for item in value]
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            return self._tensor(value["config"]["keras_history"])
        if isinstance(value, dict) and value.get("class_name") == "__slice__":
            parts = value["config"]
            return slice(parts["start"], parts["stop"], parts["step"])
        if isinstance(value, dict) and value.get("class_name") == "__ellipsis__":
            return Ellipsis
        if isinstance(value, dict) and "class_name" not in value:
            return {key: self._argument(item) for key, item in value.items()}
        return value_from(value)

    def _tensor(self, history: Any) -> KerasTensor:
        name, node, index = history
        try:
            return self.tensors[name, node][index]
        except (KeyError, IndexError, TypeError):
            raise GraphError(
                f"load: the config refers to {history!r}, which nothing makes"
            ) from None

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._resolved(item) for key, item in value.items()}
        if value and isinstance(value[0], str):
            return self._tensor(value)
        listed = [self._resolved(item) for item in value]
        return listed if len(listed) > 1 else listed[0]


def _leaves(value: Any) -> list[dict[str, Any]]:
    """All dicts with a class name within a value."""
    if isinstance(value, dict):
        own = [value] if "class_name" in value else []
        return own + [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else []


def _operation(entry: dict[str, Any], arguments: list[Any], options: dict[str, Any]) -> Any:
    """The result of an operator that stands in a config as an operation of Keras."""
    op = {"true_divide": "divide"}.get(
        snake_case(entry["class_name"]), snake_case(entry["class_name"])
    )
    extra = {
        k: v for k, v in entry["config"].items() if k not in ("name", "dtype") and v is not None
    }
    if op not in OPERATIONS or extra or options:
        raise GraphError(
            f"load: the operation {entry['class_name']} is not supported; expected layers, and "
            f"operators among {', '.join(sorted(OPERATIONS))}"
        )
    if op == "get_item":
        key = arguments[1]
        arguments = [arguments[0], encoded(tuple(key) if isinstance(key, list) else key)]
    tensors = [value for value in arguments if isinstance(value, KerasTensor)]
    fixed = [None if isinstance(value, KerasTensor) else value for value in arguments]
    operation = Operation(op, fixed, name=entry["config"].get("name"))
    return operation(tensors if len(tensors) > 1 else tensors[0])


def training_from(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `compile` from the part of a file that Keras keeps of them.

    Raises:
        GraphError: something in it has no counterpart.
    """
    if config.get("run_eagerly") or config.get("steps_per_execution", 1) != 1:
        raise GraphError("load: the model was compiled to run eagerly or in groups of steps")
    result: dict[str, Any] = {"optimizer": optimizers.get(value_from(config["optimizer"]))}
    for key, module in (("loss", losses), ("metrics", metrics), ("weighted_metrics", metrics)):
        result[key] = _objects(value_from(config.get(key)), module)
    result["loss_weights"] = config.get("loss_weights")
    return result


def _objects(value: Any, module: Any) -> Any:
    if isinstance(value, dict) and "class_name" in value:
        return module.get(value)
    if isinstance(value, dict):
        return {key: _objects(item, module) for key, item in value.items()}
    return [_objects(item, module) for item in value] if isinstance(value, list) else value
