"""What a user feeds (arrays of any dtype, labels of any rank) into batches that a model accepts."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.dims import Size
from graphflow.errors import DTypeError, GraphError, IndexOutOfRange, ShapeError
from graphflow.function import Function
from graphflow.keras.symbolic import KerasTensor, static_shape
from graphflow.tensor import Tensor

#: bytes of rows that are cast ahead of the steps that read them: they stay in a core's cache
STAGING = 1 << 20


class Batches:
    """Rows of several arrays, batch by batch, for a function with inputs of some dtypes.

    Rows that are in memory as the function needs them are not copied; others are cast, some batches
    at a time, into buffers that are used again.
    """

    def __init__(self, arrays: Sequence[np.ndarray], dtypes: Sequence[str], batch_size: int):
        self.arrays = list(arrays)
        self.dtypes = [np.dtype(name) for name in dtypes]
        self.rows = len(arrays[0])
        self.batch_size = min(batch_size, self.rows)
        self._ready = all(
            array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned
            for array, dtype in zip(self.arrays, self.dtypes, strict=True)
        )
        row_bytes = sum(
            math.prod(array.shape[1:]) * dtype.itemsize
            for array, dtype in zip(self.arrays, self.dtypes, strict=True)
        )
        self._most = max(1, STAGING // max(1, row_bytes * self.batch_size))
        self._buffers: list[np.ndarray] = []

    def __len__(self) -> int:
        return math.ceil(self.rows / self.batch_size)

    def run(
        self,
        function: Function,
        first: int,
        most: int,
        order: np.ndarray | None = None,
        keep_all: bool = False,
    ) -> tuple[Any, int]:
        """Call the function for some batches from number `first` on; its results, and how many.

        Args:
            most: how many are wanted; a smaller last batch comes alone.
            order: of the rows; as they lie by default.
            keep_all: see `Function.run_many`.
        """
        begin, size = first * self.batch_size, self.batch_size
        count = min((self.rows - begin) // size, most)
        if count == 0:
            count, size = 1, self.rows - begin
        if not self._ready:
            count = min(count, self._most)
        rows: Any = slice(begin, begin + count * size)
        if order is not None:
            rows = order[rows]
            if self._ready:
                table = rows.reshape(count, size)
                return function.run_many(*self.arrays, order=table, keep_all=keep_all), count
        parts = [array[rows] for array in self.arrays] if self._ready else self._cast(rows)
        stacks = [part.reshape(count, size, *part.shape[1:]) for part in parts]
        return function.run_many(*stacks, keep_all=keep_all), count

    def _cast(self, rows: Any) -> list[np.ndarray]:
        """Rows of every array, in its dtype; valid until the next call."""
        if not self._buffers:
            longest = min(self._most * self.batch_size, self.rows)
            self._buffers = [
                np.empty((longest, *array.shape[1:]), dtype)
                for array, dtype in zip(self.arrays, self.dtypes, strict=True)
            ]
        parts = []
        for array, buffer in zip(self.arrays, self._buffers, strict=True):
            chosen = array[rows]
            np.copyto(buffer[: len(chosen)], chosen, casting="unsafe")
            parts.append(buffer[: len(chosen)])
        return parts


def as_rows(value: Any, label: str) -> np.ndarray:
    """A user's array, list or frame as an array of numbers with at least one axis.

    Raises:
        GraphError: it is a generator or the like.
        DTypeError: it holds no numbers.
    """
    if isinstance(value, (Tensor, KerasTensor)):
        raise GraphError(f"{label}: got a symbolic tensor; expected an array")
    if hasattr(value, "__next__") or callable(value):
        raise GraphError(
            f"{label}: got a {type(value).__name__}; expected arrays. Collect generated batches "
            "with np.concatenate, or call train_on_batch for each"
        )
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(f"{label}: the rows differ in length; expected a rectangle") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{label}: got dtype {array.dtype}; expected numbers or bools")
    if array.ndim == 0:
        raise ShapeError(f"{label}: got a single number; expected an array with an axis of samples")
    return array


def input_arrays(model: Any, x: Any, warn: bool = True) -> list[np.ndarray]:
    """The arrays of `x` in the order of the inputs of a model, each of the shape of its input.

    Args:
        x: an array, a list of arrays, or a dict by names of inputs.
        warn: say so where a sample is reshaped.
    """
    inputs: list[KerasTensor] = model.inputs
    if isinstance(x, Mapping):
        names = [tensor.name for tensor in inputs]
        if missing := [name for name in names if name not in x]:
            raise GraphError(f"{model.name}: no array for the input {missing[0]!r}; got {list(x)}")
        parts = [x[name] for name in names]
    elif len(inputs) > 1:
        if not isinstance(x, (list, tuple)) or len(x) != len(inputs):
            count = len(x) if isinstance(x, (list, tuple)) else 1
            raise GraphError(
                f"{model.name}: {count} input(s) given; expected a list of {len(inputs)}: "
                f"{', '.join(tensor.name for tensor in inputs)}"
            )
        parts = list(x)
    else:
        single = isinstance(x, (list, tuple)) and len(x) == 1 and np.ndim(x[0]) > 1
        parts = [x[0] if single and np.ndim(x[0]) == len(inputs[0].shape) else x]
    arrays = [
        _as_input(model, as_rows(part, f"{model.name}: input {tensor.name!r}"), tensor, warn)
        for part, tensor in zip(parts, inputs, strict=True)
    ]
    _check_rows(model.name, arrays)
    return arrays


def _as_input(model: Any, array: np.ndarray, tensor: KerasTensor, warn: bool) -> np.ndarray:
    expected = tensor.shape
    if _fits(array.shape, expected):
        return array
    sample, wanted = array.shape[1:], expected[1:]
    if array.ndim == 1 and len(expected) == 2 and expected[1] in (1, None):
        return array[:, None]
    sizes = [size for size in wanted if size is not None]
    if len(sizes) == len(wanted) and math.prod(sizes) == math.prod(sample) and array.ndim > 1:
        if warn and sample not in model.reshaped:
            model.reshaped.add(sample)
            warnings.warn(
                f"{model.name}: samples of shape {sample} are reshaped to {wanted}, the shape that "
                f"the input {tensor.name!r} declares",
                stacklevel=_user_level(),
            )
        return array.reshape(len(array), *sizes)
    shown = f"(batch, {', '.join(map(str, wanted))}{',' if not wanted else ''})"
    remedy = f"Samples with {math.prod(sample)} elements cannot be reshaped to {wanted}"
    if _fits(array.shape, wanted):
        remedy = "This is one sample: x[None] is a batch of it"
    raise ShapeError(
        f"{model.name}: input {tensor.name!r} got {array.shape}; expected {shown}. {remedy}"
    )


def _user_level() -> int:
    """How many calls above `warnings.warn` the user's own line is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("graphflow."):
        level, frame = level + 1, frame.f_back
    return level


def _fits(shape: tuple[int, ...], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(
        size is None or size == own for own, size in zip(shape, expected, strict=True)
    )


def _check_rows(name: str, arrays: Sequence[np.ndarray]) -> None:
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        raise ShapeError(f"{name}: inputs, targets and weights have {sorted(counts)} samples")
    if counts == {0}:
        raise ShapeError(f"{name}: there is no sample; expected at least one")


def target_arrays(model: Any, y: Any, kinds: Sequence[str], names: Sequence[str]) -> list[Any]:
    """One array per output: of labels, or shaped like the output, as its loss needs it.

    Args:
        kinds: `Loss.target` of each output.
        names: of the outputs.
    """
    outputs = model.output_list
    if isinstance(y, Mapping):
        parts = [y[name] for name in names if name in y]
    elif len(outputs) > 1 and isinstance(y, (list, tuple)):
        parts = list(y)
    else:
        parts = [y]
    if len(parts) != len(outputs):
        raise GraphError(
            f"{model.name}: {len(parts)} target(s) given for {len(outputs)} outputs: "
            f"{', '.join(names)}"
        )
    return [
        as_target(f"{model.name}: y", as_rows(part, f"{model.name}: y"), kind, out.traced.shape)
        for part, kind, out in zip(parts, kinds, outputs, strict=True)
    ]


def as_target(label: str, y: np.ndarray, kind: str, output_shape: tuple[Size, ...]) -> np.ndarray:
    """Targets of the rank and dtype that a loss of this kind compares with an output."""
    output = static_shape(output_shape)
    if kind == "labels":
        return _as_labels(label, y, output)
    if kind == "any":
        return y if y.dtype.kind == "f" else y.astype("int64" if y.dtype.kind != "b" else "float32")
    if y.ndim == len(output) - 1 and output[-1] == 1:
        y = y[..., None]
    elif y.ndim == len(output) + 1 and y.shape[-1] == 1:
        y = y[..., 0]
    if _fits(y.shape, output):
        return y
    remedy = ""
    is_labels = y.ndim == len(output) - 1 or (y.ndim == len(output) and y.shape[-1] == 1)
    if is_labels and y.dtype.kind in "iu":
        remedy = "; integer labels go with a sparse_categorical_crossentropy, or to_categorical(y)"
    raise ShapeError(f"{label} got {y.shape}; expected {output}, the shape of the output{remedy}")


def _as_labels(label: str, y: np.ndarray, output: Sequence[int | None]) -> np.ndarray:
    if y.ndim == len(output) and y.shape[-1] == 1:
        y = y[..., 0]
    if y.ndim == len(output) and y.shape[-1] == output[-1]:
        raise ShapeError(
            f"{label} got {y.shape}; expected integer labels {tuple(output[:-1])}. One-hot targets "
            "go with categorical_crossentropy, labels are y.argmax(-1)"
        )
    if not _fits(y.shape, output[:-1]):
        raise ShapeError(f"{label} got {y.shape}; expected labels {tuple(output[:-1])}")
    if y.dtype.kind == "f":
        rounded = np.rint(y)
        if not np.array_equal(rounded, y):
            raise DTypeError(f"{label} holds {y.dtype} that are no whole numbers; expected labels")
        y = rounded
    labels = y.astype("int64", copy=False)
    classes = output[-1]
    if classes is None:
        return labels
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        shown = place[0] if len(place) == 1 else place
        raise IndexOutOfRange(
            f"{label}[{shown}] is the label {labels[place]}; expected 0..{classes - 1}, the "
            f"output has {classes} classes. Count labels from 0, or use as many units as classes"
        )
    return labels


def sample_weights(
    name: str, y: list[Any], sample_weight: Any, class_weight: Mapping[Any, float] | None
) -> np.ndarray | None:
    """One weight per sample from weights per sample and per class, or None."""
    weights = None
    if sample_weight is not None:
        weights = as_rows(sample_weight, f"{name}: sample_weight").astype("float32")
        if weights.ndim == 2 and weights.shape[1] == 1:
            weights = weights[:, 0]
        if weights.ndim != 1:
            raise ShapeError(f"{name}: sample_weight is {weights.shape}; expected one per sample")
    if class_weight is None:
        return weights
    if len(y) != 1:
        raise GraphError(f"{name}: class_weight needs a model with one output")
    labels = y[0].argmax(-1) if y[0].ndim > 1 and y[0].shape[-1] > 1 else y[0].reshape(len(y[0]))
    classes, index = np.unique(labels.astype("int64"), return_inverse=True)
    # As in Keras, classes that are not listed count once.
    per_class = np.array([class_weight.get(int(c), 1.0) for c in classes], "float32")
    chosen = per_class[index]
    return chosen if weights is None else weights * chosen


def split_validation(
    arrays: Sequence[np.ndarray], share: float, name: str
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first rows for training and the last `share` of them for validation."""
    rows = len(arrays[0])
    cut = math.floor(rows * (1 - share))
    if not 0 < cut < rows:
        raise GraphError(
            f"{name}: validation_split={share} of {rows} samples leaves {cut} for training and "
            f"{rows - cut} for validation; expected some of both"
        )
    return [array[:cut] for array in arrays], [array[cut:] for array in arrays]
