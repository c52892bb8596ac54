"""What a box says of its node: op, folded scalars, attributes, and what the pointer shows."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from graphflow.compiler.graph import Node
from graphflow.compiler.op import Elementwise
from graphflow.compiler.printer import spec_text, statement, value_text, visible_attrs
from graphflow.compiler.spec import TensorSpec, shape_text
from graphflow.viz.measure import shorten

_INFIX = re.compile(r"\{0\} (\S+) \{1\}")
_MATHEMATICAL = {"*": "×", "-": "−", "/": "÷", "<=": "≤", ">=": "≥", "!=": "≠", "==": "="}
#: stands for an operand that an edge brings
_WIRE = "·"
_LONGEST_TITLE, _LONGEST_LINE, _MOST_LINES = 40, 44, 3
_PLAIN = {"strides": 1, "dilation": 1, "groups": 1, "low": 0, "high": 0}


def op_title(node: Node, scalars: Sequence[str | None]) -> str:
    """The op with its scalar operands: `multiply × 0.5`, `subtract 1 − ·`, `clip(·, 0, 6)`.

    Args:
        scalars: one per input, the text of a folded scalar, or None for an input that has an edge.
    """
    name = node.op.name
    if not any(scalars):
        return shorten(name, _LONGEST_TITLE)
    infix = _INFIX.search(node.op.expr) if isinstance(node.op, Elementwise) else None
    if infix is None:
        text = f"{name}({', '.join(scalar or _WIRE for scalar in scalars)})"
    else:
        sign = _MATHEMATICAL.get(infix[1], infix[1])
        left, right = scalars
        if node.op.commutative and left and not right:
            left, right = right, left
        text = (
            f"{name} {sign} {right}" if left is None else f"{name} {left} {sign} {right or _WIRE}"
        )
    return shorten(text, _LONGEST_TITLE)


def attribute_lines(node: Node) -> tuple[str, ...]:
    """The attributes on a few short lines; the listing has those that change nothing."""
    lines: list[str] = []
    for name, value in visible_attrs(node).items():
        if value is False or value is None or _changes_nothing(name, value):
            continue
        word = shorten(name if value is True else f"{name}={value_text(value)}", _LONGEST_LINE)
        if lines and len(lines[-1]) + len(word) + 2 <= _LONGEST_LINE:
            lines[-1] = f"{lines[-1]}, {word}"
        else:
            lines.append(word)
    return tuple(lines) if len(lines) <= _MOST_LINES else (*lines[: _MOST_LINES - 1], "…")


def _changes_nothing(name: str, value: object) -> bool:
    """Whether a setting of a convolution has the value that leaves it plain."""
    plain = _PLAIN.get(name)
    return plain is not None and all(v == plain for v in np.ravel(np.asarray(value, dtype=object)))


def number_text(value: float | bool) -> str:
    """A scalar in few characters: `0.1`, `1`, `1e-07`, `true`."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def scalar_text(node: Node) -> str | None:
    """The number that a node is everywhere: a fill, a constant of one element, or a dim's value.

    The value of the dim `batch` in a computation is element `batch` of an iota.
    """
    if node.op.name == "full":
        return number_text(node.attrs["value"])
    if node.op.name == "constant" and node.attrs["value"].array.size == 1:
        return number_text(node.attrs["value"].array.reshape(-1)[0])
    if node.op.name == "slice" and node.shape == (1,) and node.inputs[0].op.name == "iota":
        return str(node.attrs["start"][0])
    return None


def short_spec(spec: object) -> str:
    """A shape, with the dtype in front where it is not float32."""
    if not isinstance(spec, TensorSpec):
        return spec_text(spec)
    shape = "scalar" if spec.shape == () else shape_text(spec.shape)
    return shape if spec.dtype == "float32" else f"{spec.dtype} {shape}"


def value_label(node: Node, inputs: Sequence[Node]) -> str:
    """The spec of a value where it is news: where no input has the same."""
    if not isinstance(node.spec, TensorSpec):
        return spec_text(node.spec)
    known = [value.spec for value in inputs]
    return "" if node.spec in known else short_spec(node.spec)


def hover_lines(node: Node, number: dict[Node, int], folded: Sequence[Node]) -> tuple[str, ...]:
    """Statement of the listing, the folded operands, all attributes, scope and the user's line."""
    lines = [statement(node, number)]
    lines += [f"with {statement(value, number)}" for value in folded]
    if node.scope:
        lines.append(f"scope {node.scope}")
    if node.source:
        lines.append(f"line {node.source}")
    return tuple(lines)
