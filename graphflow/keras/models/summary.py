"""A model as a table: each layer with its output shape and number of weights."""

from __future__ import annotations

from typing import Any

from graphflow.keras.layers.base import Layer
from graphflow.keras.symbolic import Call
from graphflow.structure import flatten_structure


def summary_text(model: Any, line_length: int | None = None) -> str:
    """The table that `model.summary()` prints.

    Args:
        line_length: width, else as wide as the entries need.
    """
    calls = _calls(model)
    rows = [["Layer (type)", "Output Shape", "Param #"]]
    rows += [
        [f"{layer.name} ({type(layer).__name__})", _shape_text(calls, layer), _count_text(layer)]
        for layer in model.layers
    ]
    sources = ["Connected to", *(_sources_text(calls, layer) for layer in model.layers)]
    if not _is_chain(calls):
        rows = [[*row, source] for row, source in zip(rows, sources, strict=True)]
    widths = [max(len(row[k]) for row in rows) + 2 for k in range(len(rows[0]))]
    if line_length is not None:
        widths[0] += max(0, line_length - sum(widths) - len(widths) - 1)
    lines = [f'Model: "{model.name}"', _rule("┌", "┬", "┐", widths), _row(rows[0], widths)]
    for row in rows[1:]:
        lines += [_rule("├", "┼", "┤", widths), _row(row, widths)]
    lines.append(_rule("└", "┴", "┘", widths))
    return "\n".join([*lines, *_totals(model)])


def _rule(left: str, middle: str, right: str, widths: list[int]) -> str:
    return left + middle.join("─" * width for width in widths) + right


def _row(cells: list[str], widths: list[int]) -> str:
    # Numbers end below each other.
    texts = [
        f"{cell} ".rjust(width) if k == 2 else f" {cell}".ljust(width)
        for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "│" + "│".join(texts) + "│"


def _calls(model: Any) -> dict[Layer, list[Call]]:
    """The uses of each layer that lead to the outputs, the last one first."""
    pending, found = [tensor.call for tensor in model.output_list], dict[Call, None]()
    while pending:
        call = pending.pop()
        if call not in found:
            found[call] = None
            pending.extend(tensor.call for tensor in flatten_structure(call.inputs))
    result: dict[Layer, list[Call]] = {}
    for call in found:
        result.setdefault(call.layer, []).append(call)
    return result


def _is_chain(calls: dict[Layer, list[Call]]) -> bool:
    """Whether each layer is used once, on the result of the one before it."""
    used = [t for uses in calls.values() for c in uses for t in flatten_structure(c.inputs)]
    once = all(len(uses) == 1 for uses in calls.values())
    return once and len(used) == len(set(used)) == max(len(calls) - 1, 0)


def _shape_text(calls: dict[Layer, list[Call]], layer: Layer) -> str:
    uses = calls.get(layer)
    if not uses:
        return "?"
    return ", ".join(str(tensor.shape) for tensor in flatten_structure(uses[-1].outputs))


def _sources_text(calls: dict[Layer, list[Call]], layer: Layer) -> str:
    tensors = [t for call in reversed(calls.get(layer, ())) for t in flatten_structure(call.inputs)]
    return ", ".join(dict.fromkeys(tensor.name for tensor in tensors)) or "-"


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
        f" {label}: {sum(w.value.size for w in weights):,} "
        f"({_bytes_text(sum(w.value.nbytes for w in weights))})"
        for label, weights in groups.items()
    ]


def _bytes_text(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"
