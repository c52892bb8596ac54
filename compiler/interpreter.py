"""A graph and arrays in, arrays out: every node by its op's NumPy reference, one after another.

It is the oracle that compiled code is compared with, so it is written to be obviously right: no
fusion, no reuse of storage, and each value is checked against the spec that was inferred for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim, Size, Symbol, is_nonnegative, symbols
from graphflow.compiler.dims import evaluate as size_value
from graphflow.compiler.dims import symbol as named
from graphflow.compiler.errors import GraphError, IndexOutOfRange, ShapeError, VerificationError
from graphflow.compiler.graph import Graph, Node, topological_order, user_line
from graphflow.compiler.op import concrete, describe
from graphflow.compiler.spec import TensorSpec, shape_text

#: called after each node with (node, its input arrays, its value)
Watch = Callable[[Node, list[Any], Any], None]


def evaluate(
    graph: Graph,
    inputs: Sequence[np.ndarray],
    variables: Mapping[Node, np.ndarray],
    watch: Watch | None = None,
) -> tuple[list[np.ndarray], dict[Node, np.ndarray]]:
    """The outputs, and the new value of each variable that the graph updates.

    Args:
        inputs: one array per graph input, of its dtype and rank.
        variables: the present value of each variable.
        watch: is shown every computed value.

    Raises:
        ShapeError: the inputs' shapes contradict each other or a fact that the graph relies on.
    """
    env = bind_dims(graph.inputs, inputs)
    verify_checks(graph, env)
    values: dict[Node, Any] = dict(zip(graph.inputs, inputs, strict=True))
    values |= {node: variables[node] for node in graph.variables}
    remaining = {node: len(users) for node, users in graph.users.items()}
    kept = set(graph.roots)
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                arguments = [values[value] for value in node.inputs]
                values[node] = evaluate_node(node, arguments, env)
                if watch is not None:
                    watch(node, arguments, values[node])
            for value in dict.fromkeys(node.inputs):
                remaining[value] -= 1
                if not remaining[value] and value not in kept:
                    del values[value]
    outputs = [values[node] for node in graph.outputs]
    return outputs, {target: values[value] for target, value in graph.updates}


def evaluate_node(node: Node, arguments: Sequence[Any], env: Mapping[str, int]) -> Any:
    """The value of one node (a tuple for ops with several results), checked against its spec."""
    specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
    for spec in specs:
        _check_sizes(node, spec, env)
    attrs = {name: concrete(value, env) for name, value in node.attrs.items()}
    try:
        result = node.op.reference(*arguments, **attrs)
    except IndexOutOfRange as error:
        raise IndexOutOfRange(f"{error}\n  {describe(node)}") from None
    parts = result if isinstance(node.spec, tuple) else (result,)
    arrays = tuple(np.asarray(part) for part in parts)
    for array, spec in zip(arrays, specs, strict=True):
        if array.dtype.name != spec.dtype or array.shape != spec.concrete_shape(dict(env)):
            raise VerificationError(
                f"{node.op.name}.reference gave {array.dtype}{array.shape} for {describe(node)}"
            )
    return arrays if isinstance(node.spec, tuple) else arrays[0]


def _check_sizes(node: Node, spec: TensorSpec, env: Mapping[str, int]) -> None:
    for size in spec.shape:
        if not is_nonnegative(size) and size_value(size, env) < 0:
            raise ShapeError(
                f"{node.op.name}: size {size} is {size_value(size, env)} for {dims_text(env)}\n"
                f"  {describe(node)}"
            )


def verify_checks(graph: Graph, env: Mapping[str, int]) -> None:
    """Check the facts that shape inference left to run time.

    Raises:
        ShapeError: one does not hold; names the dims and the line that needs it.
    """
    for node in graph.nodes:
        for check in node.checks:
            left, right = size_value(check.left, env), size_value(check.right, env)
            if left != right:
                raise ShapeError(
                    f"{node.op.name}: {check.reason}: {check.left} is {left} and {check.right} is "
                    f"{right} for {dims_text(env)}; expected them to be equal\n  {describe(node)}"
                )


def dims_text(env: Mapping[str, int]) -> str:
    """`batch=3, time=5`."""
    return ", ".join(f"{name}={value}" for name, value in sorted(env.items())) or "these inputs"


def bind_dims(placeholders: Sequence[Node], arrays: Sequence[np.ndarray]) -> dict[str, int]:
    """The value of every named dim, read off the shapes of the arrays.

    Axes that are a bare name are read first; an axis such as `2*n + 1` gives n where nothing else
    does. Every axis is then checked.
    """
    env: dict[str, int] = {}
    origin: dict[str, str] = {}
    axes = [
        (node, axis, size, array.shape[axis])
        for node, array in zip(placeholders, arrays, strict=True)
        if _has_rank(node, array)
        for axis, size in enumerate(node.shape)
    ]
    for bare in (True, False):
        for node, axis, size, actual in axes:
            found = _solve(size, actual, bare)
            if found is not None and found[0] not in env:
                env[found[0]] = found[1]
                origin[found[0]] = f"{node.name or 'an input'} (axis {axis})"
    for node, axis, size, actual in axes:
        unknown = [name for name in symbols([size]) if name not in env]
        if unknown:
            raise ShapeError(
                f"dim {unknown[0]!r} follows from no input; {describe(node)}{_call_line()}"
            )
        if size_value(size, env) != actual:
            raise ShapeError(_mismatch(node, axis, size, actual, env, origin))
    return env


def _has_rank(node: Node, array: np.ndarray) -> bool:
    if array.ndim != node.ndim:
        raise ShapeError(
            f"{node.name or 'an input'}: got {array.ndim} axes, shape {array.shape}; expected "
            f"{node.ndim} axes, {shape_text(node.shape)}\n  {describe(node)}{_call_line()}"
        )
    return True


def _solve(size: Size, actual: int, bare: bool) -> tuple[str, int] | None:
    """(name, value) from `size == actual`, where size is a name or linear in the only name."""
    if isinstance(size, int):
        return None
    names = symbols([size])
    if len(names) != 1:
        return None
    (name,) = names
    if bare:
        return (name, actual) if size == named(name) else None
    linear = all(len(m) <= 1 and all(isinstance(a, Symbol) for a in m) for m, _ in size.terms)
    if not linear:
        return None
    offset = size_value(size, {name: 0})
    slope = size_value(size, {name: 1}) - offset
    value, rest = divmod(actual - offset, slope)
    return (name, value) if rest == 0 and value >= 0 else None


def _mismatch(
    node: Node,
    axis: int,
    size: Size,
    actual: int,
    env: Mapping[str, int],
    origin: Mapping[str, str],
) -> str:
    label = node.name or "an input"
    if isinstance(size, Dim):
        read = "; ".join(f"{name} is {env[name]} in {origin[name]}" for name in symbols([size]))
        return (
            f"{label}: axis {axis} is {actual}; expected {size} = {size_value(size, env)}, since "
            f"{read}\n  {describe(node)}{_call_line()}"
        )
    return (
        f"{label}: axis {axis} is {actual}; expected {size}, shape {shape_text(node.shape)}\n"
        f"  {describe(node)}{_call_line()}"
    )


def _call_line() -> str:
    """The line that called, as the last line of a message."""
    here = user_line()
    return f"\n  at {here}" if here else ""


def constant_value(node: Node) -> np.ndarray | None:
    """The value of a node that depends on constants only; None for any other."""
    order = topological_order([node])
    if any(n.op.stateful or _is_symbolic(n) for n in order):
        return None
    if isinstance(node.spec, tuple):
        raise GraphError(f"{describe(node)} has several results")
    outputs, _ = evaluate(Graph((), (node,)), (), {})
    return outputs[0]


def _is_symbolic(node: Node) -> bool:
    specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
    return any(isinstance(size, Dim) for spec in specs for size in spec.shape)
