"""Helpers under the names of `keras.utils`: one-hot targets, seeds, pictures of models."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from graphflow.errors import DTypeError, GraphError
from graphflow.keras.naming import clear_session
from graphflow.keras.seeding import set_random_seed

__all__ = ["clear_session", "normalize", "plot_model", "set_random_seed", "to_categorical"]


def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """One-hot rows of integer labels: (...,) to (..., num_classes), as float64 like Keras.

    Args:
        x: labels 0..num_classes - 1; a last axis of size 1 is dropped.
        num_classes: the largest label + 1 by default.

    Raises:
        DTypeError: the labels are no whole numbers.
        GraphError: a label lies outside the classes.

    >>> to_categorical([0, 2]).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    labels = np.asarray(x)
    if labels.dtype.kind not in "biu" and not np.array_equal(labels, np.rint(labels)):
        raise DTypeError("to_categorical: the labels are no whole numbers")
    labels = labels.astype("int64")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    count = num_classes or (int(labels.max()) + 1 if labels.size else 0)
    if labels.size and not (0 <= labels.min() and labels.max() < count):
        raise GraphError(
            f"to_categorical: labels from {labels.min()} to {labels.max()}; expected 0 to {count - 1}"
        )
    return np.equal.outer(labels, np.arange(count)).astype("float64")


def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """x divided by its norm along an axis; zeros stay."""
    array = np.asarray(x)
    length = np.linalg.norm(array, order, axis, keepdims=True)
    return array / np.where(length == 0, 1, length)


def plot_model(
    model: Any,
    to_file: str | os.PathLike[str] = "model.svg",
    detail: str | None = "overview",
    **options: Any,
) -> Any:
    """Draw the layers of a model; needs no other program.

    Args:
        to_file: its ending chooses the format: .svg, .html, .dot, .mmd or .txt.
        detail: "overview" (layers as boxes), "ops" or "full".
        options: as for `gf.viz`.

    Returns:
        The drawing, which a notebook shows.
    """
    from graphflow.viz import viz

    return viz(model.predict_function, to_file, detail=detail, **options)
