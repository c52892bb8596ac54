"""A model as a table: each layer with its output shape and number of weights."""

from __future__ import annotations

from typing import Any

from graphflow.keras.layers.base import Layer
from graphflow.structure import flatten_structure


def summary_text(model: Any, line_length: int | None = None) -> str:
    """The table that `model.summary()` prints.

    Args:
        line_length: width, else as wide as the entries need.
    """
    rows = [("Layer (type)", "Output Shape", "Param #")]
    rows += [
        (f"{layer.name} ({type(layer).__name__})", _shape_text(model, layer), _count_text(layer))
        for layer in model.layers
    ]
    widths = [max(len(row[k]) for row in rows) + 2 for k in range(3)]
    if line_length is not None:
        widths[0] += max(0, line_length - sum(widths) - 4)
    lines = [f'Model: "{model.name}"', _rule("┌", "┬", "┐", widths), _row(rows[0], widths)]
    for row in rows[1:]:
        lines += [_rule("├", "┼", "┤", widths), _row(row, widths)]
    lines.append(_rule("└", "┴", "┘", widths))
    return "\n".join([*lines, *_totals(model)])


def _rule(left: str, middle: str, right: str, widths: list[int]) -> str:
    return left + middle.join("─" * width for width in widths) + right


def _row(cells: tuple[str, str, str], widths: list[int]) -> str:
    name, shape, count = cells
    texts = (
        f" {name}".ljust(widths[0]), f" {shape}".ljust(widths[1]), f"{count} ".rjust(widths[2])
    )  # fmt: skip
    return "│" + "│".join(texts) + "│"


def _shape_text(model: Any, layer: Layer) -> str:
    shapes = _output_shapes(model, layer)
    return ", ".join(str(shape) for shape in shapes) if shapes else "?"


def _output_shapes(model: Any, layer: Layer) -> list[Any]:
    """Shapes of the results of the first call of a layer that leads to the outputs."""
    pending, seen = [tensor.call for tensor in model.output_list], set()
    while pending:
        call = pending.pop()
        if call in seen:
            continue
        seen.add(call)
        if call.layer is layer:
            return [tensor.shape for tensor in flatten_structure(call.outputs)]
        pending.extend(tensor.call for tensor in flatten_structure(call.inputs))
    return []


def _count_text(layer: Layer) -> str:
    return f"{layer.count_params():,}" if layer.built else "unbuilt"


def _totals(model: Any) -> list[str]:
    if not model.built:
        return [" The input shape is unknown, so the weights are not made yet."]
    groups = {
        "Total params": model.weights,
        "Trainable params": model.trainable_weights,
        "Non-trainable params": model.non_trainable_weights,
    }
    return [
        f" {label}: {sum(w.storage.size for w in weights):,} "
        f"({_bytes_text(sum(w.storage.nbytes for w in weights))})"
        for label, weights in groups.items()
    ]


def _bytes_text(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"
