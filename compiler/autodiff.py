"""Reverse mode: a graph in, the graph of its derivatives out, from the ops' vjp rules.

Forward mode needs no rules of its own: a vjp is linear in its cotangent, so the vjp of the vjp
with respect to that cotangent is the jvp (the double-vjp identity).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow.compiler.errors import GradientError
from graphflow.compiler.graph import Node, made_from, topological_order
from graphflow.compiler.op import describe
from graphflow.compiler.ops.blocks import sum_to, zeros_like
from graphflow.compiler.spec import is_float


def vjp(
    outputs: Sequence[Node], wrt: Sequence[Node], cotangents: Sequence[Node]
) -> list[Node | None]:
    """Pull cotangents of `outputs` back to `wrt`.

    Args:
        outputs: differentiated values.
        wrt: nodes to differentiate by; may lie anywhere in the graph.
        cotangents: one per output, of its shape and dtype.

    Returns:
        One node per entry of `wrt`, of its spec, or None where no differentiable path exists.
    """
    order = topological_order(outputs)
    needed = _between(order, wrt)
    total: dict[Node, Any] = {}
    for output, cotangent in zip(outputs, cotangents, strict=True):
        if output in needed:
            _accumulate(total, output, cotangent)
    wanted = set(wrt)
    for node in reversed(order):
        if node not in total or not node.inputs:
            continue
        if not any(value in needed for value in node.inputs):
            continue
        cotangent = total[node] if node in wanted else total.pop(node)
        if node.op.name == "project":
            # A result of an op with several: its cotangent waits until all have arrived.
            (whole,) = node.inputs
            entry = total.setdefault(whole, [None] * len(whole.spec))
            with made_from(node):
                index = node.attrs["index"]
                entry[index] = cotangent if entry[index] is None else entry[index] + cotangent
            continue
        with made_from(node):
            parts = node.op.vjp(node, cotangent)
            if len(parts) != len(node.inputs):
                raise GradientError(
                    f"{node.op.name}.vjp gave {len(parts)} cotangents for {len(node.inputs)} inputs"
                )
            for value, part in zip(node.inputs, parts, strict=True):
                if part is not None and value in needed:
                    _accumulate(total, value, _matched(node, value, part))
    return [total.get(node) for node in wrt]


def _between(order: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """Nodes on a path from `wrt`, found in one sweep; ints and bools carry no derivative."""
    needed = set(wrt)
    for node in order:
        depends = any(value in needed for value in node.inputs)
        if depends and node.op.differentiable and _carries_gradient(node):
            needed.add(node)
    return needed


def _carries_gradient(node: Node) -> bool:
    return isinstance(node.spec, tuple) or is_float(node.dtype)


def _accumulate(total: dict[Node, Any], node: Node, part: Node) -> None:
    total[node] = total[node] + part if node in total else part


def _matched(node: Node, value: Node, part: Node) -> Node:
    """A cotangent summed over the axes along which the op broadcast its input."""
    if part.dtype != value.dtype:
        raise GradientError(
            f"{node.op.name}.vjp gave a cotangent of {part.dtype} for {describe(value)}"
        )
    return sum_to(part, value.shape)


def grad(loss: Node, wrt: Sequence[Node]) -> list[Node]:
    """Gradients of a scalar by each of `wrt`; zeros where the loss does not depend on one.

    Raises:
        GradientError: the loss is no float scalar, or a node in `wrt` is no float.
    """
    if loss.shape != ():
        raise GradientError(
            f"grad: {describe(loss)} is no scalar; reduce it first, for example with gf.mean, "
            "or use gf.vjp with a cotangent"
        )
    for node in (loss, *wrt):
        if not is_float(node.dtype):
            raise GradientError(
                f"grad: {describe(node)} is no float, so it has no derivative; cast it with "
                "gf.astype before the operations to be differentiated"
            )
    with made_from(loss):
        from graphflow.compiler.ops.blocks import full_like

        seed = full_like(loss, 1.0)
    return [
        part if part is not None else zeros_like(node)
        for node, part in zip(wrt, vjp([loss], wrt, [seed]), strict=True)
    ]
