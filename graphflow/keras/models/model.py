"""The base of all models: a layer that knows its inputs and can be trained, saved and drawn."""

from __future__ import annotations

import os
from typing import Any, Self

import numpy as np

from graphflow.errors import GraphError, ShapeError
from graphflow.keras import tracing
from graphflow.keras.data import as_rows
from graphflow.keras.layers.base import Layer
from graphflow.keras.layers.core import Input
from graphflow.keras.symbolic import KerasTensor, has_keras_tensor, traced_input
from graphflow.keras.trainer import Trainer
from graphflow.structure import flatten_structure
from graphflow.tensor import Tensor
from graphflow.variable import Placeholder


class Model(Trainer, Layer):  # type: ignore[misc]
    """A trainable network.

    `Model(inputs, outputs)` makes a functional model from tensors of layers. A subclass instead
    makes layers in `__init__` and calls them in `call(inputs)`; it takes its input shape from the
    first data.

    Attributes:
        inputs: the tensors that the model starts from.
        outputs_structure: its results, one or a list or dict of them.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if cls is Model and (args or "inputs" in kwargs):
            from graphflow.keras.models.functional import Functional

            return super().__new__(Functional)  # type: ignore[return-value]
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any):
        Layer.__init__(self, **kwargs)
        self.inputs: list[KerasTensor] = []
        self.outputs_structure: Any = None
        #: shapes of samples about whose reshaping the user has been told
        self.reshaped: set[tuple[int, ...]] = set()

    # ---- structure ---------------------------------------------------------------------------

    @property
    def layers(self) -> list[Layer]:
        """The layers directly inside the model."""
        return list(dict.fromkeys(self.sublayers()))

    @property
    def outputs(self) -> list[KerasTensor]:
        """The results as a list."""
        return self.output_list

    @property
    def output_list(self) -> list[KerasTensor]:
        return flatten_structure(self.outputs_structure)

    @property
    def input_shape(self) -> Any:
        """The shape of the input, or a list of shapes."""
        shapes = [tensor.shape for tensor in self._known_inputs()]
        return shapes if len(shapes) > 1 else shapes[0]

    @property
    def output_shape(self) -> Any:
        """The shape of the output, or a list of shapes."""
        self._known_inputs()
        shapes = [tensor.shape for tensor in self.output_list]
        return shapes if len(shapes) > 1 else shapes[0]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or position.

        Raises:
            GraphError: there is no such layer.
        """
        layers = self.layers
        if index is not None and -len(layers) <= index < len(layers):
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        raise GraphError(
            f"{self.name}: there is no layer {index if name is None else name!r}; expected one of "
            f"{', '.join(layer.name for layer in layers)}"
        )

    def ensure_inputs(self, x: Any) -> None:
        """Take the input shapes from the first data, where the model does not know them."""
        if self.inputs:
            return
        parts = list(x) if isinstance(x, (list, tuple)) and np.ndim(x[0]) > 1 else [x]
        shapes = [(None, *as_rows(part, f"{self.name}: x").shape[1:]) for part in parts]
        self.build(shapes if len(shapes) > 1 else shapes[0])
        self.built = True

    def build(self, input_shape: Any) -> None:
        """Make all weights for inputs of a shape (or a list of shapes), None for the batch."""
        shapes = input_shape if isinstance(input_shape, list) else [input_shape]
        tensors = [Input(batch_shape=tuple(shape)) for shape in shapes]
        self.built = True  # calling the model on them must not build it again
        self.inputs = tensors
        results = self(tensors if isinstance(input_shape, list) else tensors[0])
        self.outputs_structure = results

    def _known_inputs(self) -> list[KerasTensor]:
        if not self.inputs:
            raise GraphError(
                f"{self.name}: the input shape is unknown; give the first layer input_shape=..., "
                "begin with keras.Input(shape=...), or call model.build((None, ...))"
            )
        return self.inputs

    def placeholders(self) -> list[Placeholder]:
        """Fresh placeholders for the inputs."""
        result = []
        for tensor in self._known_inputs():
            result.append(traced_input(tensor.shape, tensor.dtype, tensor.name))
        return result  # type: ignore[return-value]

    def trace(
        self, inputs: list[Placeholder], training: bool
    ) -> tuple[list[Tensor], tracing.Trace]:
        """The outputs for graph tensors, with the updates and losses that layers leave."""
        with tracing.tracing(training) as trace:
            results = self(self._arranged(inputs), training=training)
        return flatten_structure(results), trace

    def _arranged(self, tensors: list[Any]) -> Any:
        """A list of inputs as `call` takes them."""
        return tensors if len(tensors) > 1 else tensors[0]

    def __call__(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """Apply the model: to outputs of layers, to graph tensors, or to arrays."""
        symbolic = has_keras_tensor(inputs) or any(
            isinstance(leaf, Tensor) for leaf in flatten_structure(inputs)
        )
        if symbolic or training:
            return super().__call__(inputs, *args, training=training, **kwargs)
        return self.predict_on_batch(inputs)

    def count_params(self) -> int:
        self._known_inputs()
        return super().count_params()

    # ---- text, pictures, files ---------------------------------------------------------------

    def summary(self, line_length: int | None = None, print_fn: Any = None) -> None:
        """Print the layers with their output shapes and numbers of weights."""
        from graphflow.keras.models.summary import summary_text

        (print_fn or print)(summary_text(self, line_length))

    def save(
        self,
        filepath: str | os.PathLike[str],
        overwrite: bool = True,
        include_optimizer: bool = True,
    ) -> None:
        """Write architecture, weights and training state to one `.gflow` file.

        `keras.models.load_model` gives the model back, which can go on training; `gf.load` gives
        its prediction as a function.

        Args:
            overwrite: replace a file that exists; otherwise that is an error.
            include_optimizer: also the state of the optimizer.

        Raises:
            GraphError: something in the model is code of the user's own.
        """
        from graphflow.keras.saving import save_model

        save_model(self, filepath, overwrite, include_optimizer)

    def export(self, filepath: str | os.PathLike[str]) -> None:
        """Write the prediction alone to a `.gflow` file, for `gf.load`; custom layers may be used."""
        from graphflow import io

        io.save(self.predict_function, filepath)

    def save_weights(self, filepath: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write the weights to an `.npz` file, or to a `.weights.h5` file, which Keras 3 reads too."""
        from graphflow.keras.saving import save_weights

        save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: str | os.PathLike[str]) -> None:
        """Read weights that `save_weights` or Keras 3 (`.weights.h5`) wrote, or a saved model's."""
        from graphflow.keras.saving import load_weights

        load_weights(self, filepath)

    def get_config(self) -> dict[str, Any]:
        raise GraphError(
            f"save: {type(self).__name__} is a class of your own, and files hold no code; use a "
            "Sequential or functional model, or model.export(path) to save the graph for prediction"
        )


def check_names(model: Model) -> None:
    """Refuse two layers of one name directly inside a model."""
    seen: dict[str, Layer] = {}
    for layer in model.layers:
        if seen.setdefault(layer.name, layer) is not layer:
            raise GraphError(
                f"{model.name}: two layers are named {layer.name!r}; expected different names"
            )


def check_is_tensor(what: str, value: Any) -> None:
    """Refuse what is no output of a layer."""
    for leaf in flatten_structure(value):
        if not isinstance(leaf, KerasTensor):
            raise GraphError(
                f"Model: {what} holds a {type(leaf).__name__}; expected keras.Input(...) and "
                "results of layers called on it"
            )
    if not flatten_structure(value):
        raise ShapeError(f"Model: {what} is empty")
