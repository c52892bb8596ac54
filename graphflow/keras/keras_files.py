"""Files that Keras 3 wrote (`.keras` and `.weights.h5`) into models and weights of graphflow.

A `.keras` file is a zip of `config.json` and `model.weights.h5`. Weights are found by the names of
their layers, or, where the names differ, in the order in which Keras numbers layers of one class.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphflow.compiler.errors import GraphFormatError
from graphflow.errors import GraphError, ShapeError
from graphflow.io.limits import DEFAULT_LIMITS
from graphflow.io.strict_json import parse
from graphflow.keras import serialization, tracing
from graphflow.keras.hdf5 import Group, read_groups, write_groups
from graphflow.keras.keras_configs import model_from, training_from
from graphflow.keras.layers.base import Layer
from graphflow.keras.layers.core import InputLayer
from graphflow.keras.layers.operation import Operation
from graphflow.keras.models.functional import Functional
from graphflow.keras.models.model import Model
from graphflow.keras.models.sequential import Sequential
from graphflow.keras.naming import snake_case
from graphflow.keras.optimizers import RMSprop
from graphflow.keras.symbolic import Call
from graphflow.structure import flatten_structure
from graphflow.variable import Variable

Path = str | os.PathLike[str]
Pairs = list[tuple[Variable, np.ndarray]]


def load_keras_model(
    filepath: Path, custom_objects: Mapping[str, Any] | None = None, compile: bool = True
) -> Any:
    """The model of a `.keras` file; see `saving.load_model`.

    Raises:
        GraphFormatError: the file is damaged.
        GraphError: the model has a layer or an option that graphflow does not have.
    """
    label = f"load: {os.fspath(filepath)}"
    config, saved = _read_archive(filepath, label)
    # Half-empty files get a more telling message later.
    left = 2 * saved.count + 100_000

    def zeros(path: str, shape: tuple[int, ...]) -> np.ndarray:
        # A config can so not ask for more memory than the file brings along.
        nonlocal left
        left -= math.prod(shape)
        if left < 0:
            raise GraphFormatError(f"{label}: the config asks for more weights than the file holds")
        return np.zeros(shape, "float32")

    with _telling_damage(label), serialization.custom_objects(custom_objects):
        with tracing.weights_from(zeros):
            model = model_from(config)
        if not isinstance(model, Model):
            raise GraphFormatError(f"{label}: the config is that of a {type(model).__name__}")
        _assign(_matched(model, saved, label))
        if compile and config.get("compile_config"):
            model.compile(**training_from(config["compile_config"]))
            _restore_optimizer(model, saved, label)
    return model


@contextmanager
def _telling_damage(label: str) -> Iterator[None]:
    """What a config of the wrong form leads to, as one error."""
    try:
        yield
    except (GraphError, GraphFormatError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise GraphFormatError(f"{label}: the config is damaged: {error!r}") from None


def load_keras_weights(model: Any, filepath: Path) -> None:
    """Copy the weights of a `.weights.h5` or `.keras` file into a model that is built.

    Raises:
        GraphFormatError: the file is damaged.
        GraphError: its layers are not those of the model; no weight is changed.
    """
    label = f"load_weights: {os.fspath(filepath)}"
    if os.fspath(filepath).endswith(".keras"):
        saved = _read_archive(filepath, label)[1]
    else:
        saved = read_groups(os.fspath(filepath), label)
    if not model.built:
        raise GraphError(
            f"{label}: {model.name} has no weights yet; build it first, for example with Input"
        )
    _assign(_matched(model, saved, label))


def keras_weights(model: Any) -> bytes:
    """The weights of a model as the bytes of a `.weights.h5` file, which Keras 3 loads too."""
    groups = _grouped(model)
    buffer = io.BytesIO()
    write_groups(buffer, groups, "save_weights")
    return buffer.getvalue()


def _grouped(layer: Layer) -> Group:
    group = Group(layer.name, [weight.value for weight in _own_weights(layer)])
    for path, child in _children(layer, Group()):
        *outer, key = path.split("/")
        target = group
        for name in outer:
            target = target.groups.setdefault(name, Group())
        target.groups[key] = _grouped(child)
    return group


def _own_weights(layer: Layer) -> list[Variable]:
    """The weights of a layer itself; Keras counts the trainable ones first."""
    return sorted(layer._own_weights, key=lambda weight: not weight.trainable)


def _read_archive(filepath: Path, label: str) -> tuple[dict[str, Any], Group]:
    try:
        with zipfile.ZipFile(filepath) as archive:
            text = _member(archive, "config.json", DEFAULT_LIMITS.header, label)
            weights = _member(archive, "model.weights.h5", DEFAULT_LIMITS.memory, label)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise GraphFormatError(f"{label}: damaged, or no file of Keras 3: {error}") from None
    config = parse(text, DEFAULT_LIMITS, f"{label}: config.json")
    if not isinstance(config, dict):
        raise GraphFormatError(f"{label}: config.json holds no model")
    return config, read_groups(io.BytesIO(weights), label)


def _member(archive: zipfile.ZipFile, name: str, limit: int, label: str) -> bytes:
    if name not in archive.namelist():
        raise GraphFormatError(f"{label}: no {name} inside; expected a file of Keras 3")
    # The size in the directory may lie, so no more than the limit is unpacked.
    with archive.open(name) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise GraphFormatError(f"{label}: {name} is larger than {limit} bytes")
    return data


# ---- which array goes where ------------------------------------------------------------------


def _assign(pairs: Pairs) -> None:
    for weight, array in pairs:
        weight.value = array.astype(weight.dtype)


def _matched(model: Layer, saved: Group, label: str) -> Pairs:
    """(weight, array) for all weights of a model.

    Raises:
        GraphError: a layer, an array or a shape differs.
    """
    pairs = _own_arrays(model, saved, label)
    known = []
    for path, layer in _children(model, saved):
        known.append(path)
        group = saved.at(path)
        if group is not None:
            pairs += _matched(layer, group, label)
        elif layer.weights:
            raise GraphError(
                f"{label}: nothing is saved for the layer {layer.name!r}, expected at {path!r}; "
                f"the file has {', '.join(_paths_with_arrays(saved)[:8]) or 'no arrays'}"
            )
    taken = tuple(f"{path}/" for path in known)
    rest = [p for p in _paths_with_arrays(saved) if not f"{p}/".startswith((*taken, "optimizer/"))]
    if rest:
        raise GraphError(
            f"{label}: the file holds weights of layers that {model.name!r} does not have: "
            f"{', '.join(rest[:8])}"
        )
    return pairs


def _own_arrays(layer: Layer, group: Group, label: str) -> Pairs:
    weights = _own_weights(layer)
    if len(weights) != len(group.arrays):
        raise GraphError(
            f"{label}: {len(group.arrays)} arrays are saved for {layer.name!r}; expected "
            f"{len(weights)}: {', '.join(str(w.name) for w in weights) or 'none'}"
        )
    for weight, array in zip(weights, group.arrays, strict=True):
        if weight.shape != array.shape:
            raise ShapeError(
                f"{label}: the array of {weight.name} is {array.shape}; expected {weight.shape}"
            )
    return list(zip(weights, group.arrays, strict=True))


def _paths_with_arrays(group: Group, prefix: str = "") -> list[str]:
    found = [prefix.rstrip("/")] if group.arrays and prefix else []
    for key, inner in group.groups.items():
        found += _paths_with_arrays(inner, f"{prefix}{key}/")
    return found


def _children(layer: Layer, saved: Group) -> list[tuple[str, Layer]]:
    """The layers inside a layer, with the paths of their groups."""
    if isinstance(layer, (Sequential, Functional)):
        return _listed("layers", keras_order(layer), saved)
    found = []
    for key, value in vars(layer).items():
        if isinstance(value, Layer):
            found.append((key, value))
        elif isinstance(value, (list, tuple, dict)):
            inner = [leaf for leaf in flatten_structure(value) if isinstance(leaf, Layer)]
            found += _listed(key, inner, saved)
    return found


def _listed(key: str, layers: list[Layer], saved: Group) -> list[tuple[str, Layer]]:
    """Paths of the layers of a list: by their names if the file has the same, else by order."""
    container = saved.at(key)
    named = {group.name: k for k, group in container.groups.items()} if container else {}
    if container and "" not in named and len(named) == len(container.groups):
        weighted = {layer.name for layer in layers if layer.weights}
        if weighted == {
            container.groups[k].name for k in named.values() if container.groups[k].count
        }:
            return [(f"{key}/{named[layer.name]}", layer) for layer in layers if layer.weights]
    used: Counter[str] = Counter()
    result = []
    for layer in layers:
        base = snake_case(type(layer).__name__)
        number = used[base]
        used[base] += 1
        result.append((f"{key}/{base}_{number}" if number else f"{key}/{base}", layer))
    return result


def keras_order(model: Sequential | Functional) -> list[Layer]:
    """The layers in the order of Keras: far from the outputs first, then as outputs lead to them."""
    if isinstance(model, Sequential):
        return model.layers
    depths: Counter[Layer] = Counter()
    by_call: Counter[Call] = Counter()
    for call in reversed(model.calls):
        depth = max(by_call[call], depths[call.layer])
        by_call[call] = depths[call.layer] = depth
        for tensor in flatten_structure(call.inputs):
            by_call[tensor.call] = max(by_call[tensor.call], depth + 1)
    seen: dict[Layer, None] = {}
    done: set[Call] = set()
    pending = [tensor.call for tensor in reversed(model.output_list)]
    while pending:
        call = pending.pop()
        if call not in done:
            done.add(call)
            seen[call.layer] = None
            pending += [tensor.call for tensor in reversed(flatten_structure(call.inputs))]
    order = sorted(seen, key=lambda layer: -depths[layer])
    return [layer for layer in order if not isinstance(layer, (Operation, InputLayer))]


# ---- the optimizer ---------------------------------------------------------------------------


def _restore_optimizer(model: Any, saved: Group, label: str) -> None:
    """Steps, learning rate and averages, so that training goes on as in Keras."""
    group, optimizer = saved.groups.get("optimizer"), model.optimizer
    if group is None or len(group.arrays) < 2:
        return
    weights = _in_keras_order(model)
    optimizer.build(weights)
    slots = [[optimizer.slot(weight, name) for name in optimizer.slots] for weight in weights]
    # RMSprop makes one kind of average for all weights after the other.
    rows = list(zip(*slots, strict=True)) if isinstance(optimizer, RMSprop) else slots
    first = [optimizer.iterations, *([] if optimizer.schedule is not None else [optimizer.rate])]
    variables = [*first, *(slot for row in rows for slot in row)]
    shapes = [array.shape for array in group.arrays]
    if [variable.shape for variable in variables] != shapes:
        raise GraphError(
            f"{label}: the state of the optimizer does not fit {optimizer.name}; load with "
            "compile=False, and compile again"
        )
    _assign(list(zip(variables, group.arrays, strict=True)))


def _in_keras_order(layer: Layer) -> list[Variable]:
    """The trainable weights as Keras lists them."""
    if not isinstance(layer, (Sequential, Functional)):
        return layer.trainable_weights
    inner = keras_order(layer) if layer.trainable else []
    return [weight for child in inner for weight in _in_keras_order(child)]
