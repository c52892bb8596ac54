"""Models to one `.gflow` file and back: a graph, arrays by name, and a config without code.

The file is the prediction as `gf.load` reads it. The layers stand in the metadata as JSON, with
class names from a closed table, and every weight is found by its name.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphflow import io
from graphflow.errors import GraphError
from graphflow.function import Function
from graphflow.io.atomic_file import replace_file
from graphflow.io.limits import DEFAULT_LIMITS
from graphflow.io.strict_json import canonical, parse
from graphflow.keras import losses, metrics, optimizers, serialization, tracing
from graphflow.keras.layers import LAYERS
from graphflow.keras.layers.base import Layer
from graphflow.keras.serialization import Table, serialize
from graphflow.structure import map_structure
from graphflow.tensor import Tensor
from graphflow.variable import Variable

__all__ = [
    "custom_object_scope",
    "layer_from_config",
    "load_model",
    "load_weights",
    "save_model",
    "save_weights",
]

#: metadata key of the config, and the version of its form
KEY, VERSION = "keras", 1

Path = str | os.PathLike[str]
custom_object_scope = serialization.custom_objects


def layer_from_config(config: Any) -> Any:
    """A layer or model from {"class_name": ..., "config": {...}}."""
    from graphflow.keras.models.functional import Functional
    from graphflow.keras.models.sequential import Sequential

    classes = {**LAYERS, "Functional": Functional, "Sequential": Sequential}
    table = Table("layer", Layer, classes, {})
    if not isinstance(config, Mapping):
        raise GraphError(f"layer: the config is {str(config)[:60]!r}; expected a dict")
    return table.from_config(config)


# ---- writing ---------------------------------------------------------------------------------


def save_model(
    model: Any, filepath: Path, overwrite: bool = True, include_optimizer: bool = True
) -> None:
    """See `Model.save`."""
    _check_path(filepath, overwrite)
    if os.fspath(filepath).endswith((".h5", ".hdf5", ".keras")):
        raise GraphError(f"save: {filepath} is a format of Keras; expected a name ending in .gflow")
    predict = model.predict_function
    state = _training_state(model) if include_optimizer and model.compiled else []
    _check_names([*model.weights, *state])
    document = {
        "version": VERSION,
        "model": serialize(model),
        "compile": _compile_config(model) if model.compiled else None,
        "weights": [weight.name for weight in model.weights],
        "state": [variable.name for variable in state],
    }
    saved = _with_variables(predict, [*model.weights, *state])
    io.save(saved, filepath, metadata={KEY: canonical(document)})


def _check_path(filepath: Path, overwrite: bool) -> None:
    if not overwrite and os.path.exists(filepath):
        raise GraphError(f"save: {os.fspath(filepath)} exists, and overwrite is False")


def _check_names(variables: list[Variable]) -> None:
    names = [variable.name for variable in variables]
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise GraphError(
            f"save: two weights are named {twice[0]!r}, so a file could not tell them apart; give "
            "the layers (also those of inner models) different names"
        )


def _training_state(model: Any) -> list[Variable]:
    """What the optimizer keeps; slots are made even if no step was taken."""
    return model.optimizer.variables


def _compile_config(model: Any) -> dict[str, Any]:
    given = model.compile_arguments
    config = {"optimizer": serialize(model.optimizer)}
    for name, table in (("loss", losses), ("metrics", metrics), ("weighted_metrics", metrics)):
        config[name] = serialize(_named(given[name], table))
    config["loss_weights"] = serialize(given["loss_weights"])
    config["jit_compile"] = given["jit_compile"]
    return config


def _named(value: Any, module: Any) -> Any:
    """Losses and metrics given as functions or classes, as the objects that they stand for."""

    def convert(item: Any) -> Any:
        is_given = isinstance(item, (str, Mapping)) or hasattr(item, "get_config")
        return item if is_given and not isinstance(item, type) else module.get(item)

    return map_structure(convert, value)


def _with_variables(predict: Function, variables: list[Variable]) -> Function:
    """The same function, which also owns these variables: each is stored as it is."""
    used = {variable.node for variable in predict.variables}
    extra = [(v, v * 1) for v in variables if v.node not in used]
    outputs = map_structure(lambda k: Tensor(predict.graph.outputs[k]), predict.structure)
    from graphflow.function import function

    return function(
        predict.inputs,
        outputs,
        [*predict.graph.updates, *extra],
        name=predict.name,
        on_unused_input="ignore",
    )


# ---- reading ---------------------------------------------------------------------------------


def load_model(
    filepath: Path, custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Any:
    """The model that `Model.save`, or Keras 3 (`.keras`), wrote: it predicts and trains as before.

    Args:
        custom_objects: classes of your own layers, losses, ... by class name.
        compile: also losses, metrics and the state of the optimizer.

    Raises:
        GraphFormatError: the file is damaged or not one of graphflow's.
        GraphError: the file holds no model, or one of a class that is not known.
    """
    if os.fspath(filepath).endswith((".keras", ".h5", ".hdf5")):
        from graphflow.keras.keras_files import load_keras_model

        return load_keras_model(filepath, custom_objects, compile)
    saved = io.read_graph(filepath)
    values = {str(node.name): array for node, array in saved.values.items()}
    document = _document(filepath, saved.metadata)

    def saved_weight(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path not in values:
            raise GraphError(f"load: the file holds no weight {path!r}")
        return values[path]

    with serialization.custom_objects(custom_objects), tracing.weights_from(saved_weight):
        model = layer_from_config(document["model"])
    found = [weight.name for weight in model.weights]
    if found != document.get("weights"):
        raise GraphError(f"load: the weights of the model in {os.fspath(filepath)} do not match it")
    if compile and document.get("compile") is not None:
        with serialization.custom_objects(custom_objects):
            _restore_training(model, document, values)
    return model


def _document(filepath: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    name = os.fspath(filepath)
    if KEY not in metadata:
        raise GraphError(f"load: {name} holds a function but no Keras model; use gf.load")
    document = parse(metadata[KEY].encode(), DEFAULT_LIMITS, "keras config")
    if not isinstance(document, dict) or "model" not in document:
        raise GraphError(f"load: the Keras config of {name} is damaged")
    if document.get("version") != VERSION:
        raise GraphError(
            f"load: {name} has version {document.get('version')!r} of the Keras config; this "
            f"graphflow reads {VERSION}"
        )
    return document


def _restore_training(
    model: Any, document: dict[str, Any], values: Mapping[str, np.ndarray]
) -> None:
    config = document["compile"]
    model.compile(
        optimizer=optimizers.get(config["optimizer"]),
        loss=_objects(config["loss"], losses),
        loss_weights=config["loss_weights"],
        metrics=_objects(config["metrics"], metrics),
        weighted_metrics=_objects(config["weighted_metrics"], metrics),
        jit_compile=config["jit_compile"],
    )
    wanted = set(document.get("state") or ())
    optimizer = model.optimizer
    if any(name.count("/") > 1 for name in wanted):
        optimizer.build(model.trainable_weights)
    for variable in optimizer.variables:
        if variable.name in wanted and variable.name in values:
            variable.value = values[str(variable.name)]


def _objects(value: Any, module: Any) -> Any:
    """A structure of names and configs with objects in the place of configs."""
    if isinstance(value, dict) and "class_name" in value:
        return module.get(value)
    if isinstance(value, dict):
        return {key: _objects(item, module) for key, item in value.items()}
    return [_objects(item, module) for item in value] if isinstance(value, list) else value


# ---- weights alone ---------------------------------------------------------------------------


def save_weights(model: Any, filepath: Path, overwrite: bool = True) -> None:
    """See `Model.save_weights`."""
    _check_path(filepath, overwrite)
    name = os.fspath(filepath)
    if name.endswith(".weights.h5"):
        from graphflow.keras.keras_files import keras_weights

        replace_file(name, [keras_weights(model)])
        return
    if not name.endswith(".npz"):
        raise GraphError(
            f"save_weights: {name}; expected a name ending in .npz, or in .weights.h5 for Keras"
        )
    _check_names(model.weights)
    np.savez(filepath, **{str(weight.name): weight.value for weight in model.weights})


def load_weights(model: Any, filepath: Path) -> None:
    """See `Model.load_weights`."""
    name = os.fspath(filepath)
    if name.endswith((".keras", ".h5", ".hdf5")):
        from graphflow.keras.keras_files import load_keras_weights

        load_keras_weights(model, filepath)
        return
    if name.endswith(".npz"):
        try:
            with np.load(filepath, allow_pickle=False) as file:
                arrays = [file[key] for key in file.files]
        except (ValueError, zipfile.BadZipFile) as error:
            raise GraphError(f"load_weights: {name} is no file of arrays: {error}") from None
    else:
        saved = io.read_graph(filepath)
        by_name = {node.name: array for node, array in saved.values.items()}
        arrays = [by_name[key] for key in _document(filepath, saved.metadata)["weights"]]
    model.set_weights(arrays)
