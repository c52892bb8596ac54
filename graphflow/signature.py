"""What a user lists for a function (inputs, outputs, updates, givens) into one checked Graph."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphflow.compiler.dims import Dim, symbols
from graphflow.compiler.graph import Graph, Node, made_from, rebuild, topological_order
from graphflow.compiler.op import describe
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.gradient import without_custom_rules
from graphflow.random import generator_updates
from graphflow.structure import flatten_structure, map_structure
from graphflow.tensor import Tensor, as_tensor
from graphflow.variable import Variable, is_variable


def build_graph(
    name: str,
    inputs: Any,
    outputs: Any,
    updates: Any,
    givens: Any,
    on_unused_input: str,
) -> tuple[Graph, Any]:
    """The graph of a function, and the structure of its outputs with their numbers as leaves.

    Raises:
        GraphError: something listed is not what it should be; the message names it.
    """
    feeds = _input_nodes(name, inputs)
    tops = [_output_node(name, leaf) for leaf in flatten_structure(outputs)]
    pairs = _update_pairs(name, updates)
    replaced = _given_pairs(name, givens)
    roots = _replaced_roots([*tops, *(value for _, value in pairs)], replaced)
    targets = (target for target, _ in pairs)
    graph = Graph(
        tuple(feeds),
        tuple(roots[: len(tops)]),
        tuple(zip(targets, roots[len(tops) :], strict=True)),
    )
    graph = replace(graph, updates=(*graph.updates, *generator_updates(graph)))
    _check_placeholders(name, graph)
    _check_dims(name, graph)
    _check_unused(name, graph, on_unused_input)
    numbers = iter(range(len(tops)))
    return graph, map_structure(lambda _: next(numbers), outputs)


# ---- inputs ----------------------------------------------------------------------------------


def _input_nodes(name: str, inputs: Any) -> list[Node]:
    listed = [inputs] if isinstance(inputs, (Tensor, Node)) else list(inputs)
    nodes: list[Node] = []
    names: dict[str, Node] = {}
    for number, item in enumerate(listed):
        node = item.node if isinstance(item, Tensor) else item
        if not isinstance(node, Node) or node.op.name != "placeholder":
            what = describe(node) if isinstance(node, Node) else f"a {type(item).__name__}"
            raise GraphError(
                with_line(
                    f"{name}: input {number} is no placeholder: {what}; expected gf.placeholder. "
                    "Variables are not listed; give other tensors a value with givens"
                )
            )
        if node in nodes:
            raise GraphError(with_line(f"{name}: {describe(node)} is listed twice as an input"))
        if node.name is not None and node.name in names:
            raise GraphError(
                with_line(
                    f"{name}: two inputs are named {node.name!r}; expected different names\n"
                    f"  {describe(names[node.name])}; {describe(node)}"
                )
            )
        if node.name is not None:
            names[node.name] = node
        nodes.append(node)
    return nodes


def _check_placeholders(name: str, graph: Graph) -> None:
    """Every placeholder that the results need must be an input."""
    listed = set(graph.inputs)
    missing = [n for n in graph.nodes if n.op.name == "placeholder" and n not in listed]
    if missing:
        raise GraphError(
            with_line(
                f"{name}: {len(missing)} placeholder(s) needed but not listed; expected them among "
                "the inputs or givens\n  " + "\n  ".join(describe(n) for n in missing[:3])
            )
        )


def _check_dims(name: str, graph: Graph) -> None:
    """Every named dim must follow from the shape of an input."""
    known = set(symbols(size for node in graph.inputs for size in node.shape))
    for node in graph.nodes:
        specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
        for missing in symbols(size for spec in specs for size in spec.shape):
            if missing not in known:
                raise ShapeError(
                    with_line(
                        f"{name}: the dim '{missing}' follows from no input; expected a placeholder "
                        f"with it among the inputs\n  {describe(node)}"
                    )
                )


def _check_unused(name: str, graph: Graph, on_unused_input: str) -> None:
    if on_unused_input not in ("raise", "warn", "ignore"):
        raise GraphError(
            with_line(
                f"{name}: on_unused_input={on_unused_input!r}; expected 'raise', 'warn' or 'ignore'"
            )
        )
    if on_unused_input == "ignore":
        return
    used = set(graph.nodes)
    needed = _needed_dims(graph)
    given = {s for node in graph.inputs if node in used for s in symbols(node.shape)}
    for node in graph.inputs:
        if node in used:
            continue
        # An input may be there for its size alone.
        brings = set(symbols(node.shape)) & needed - given
        given |= brings
        if brings:
            continue
        text = with_line(
            f"{name}: nothing uses the input {describe(node)}; remove it from the inputs, or pass "
            "on_unused_input='ignore'"
        )
        if on_unused_input == "raise":
            raise GraphError(text)
        warnings.warn(text, stacklevel=4)


def _needed_dims(graph: Graph) -> set[str]:
    needed: set[str] = set()
    for node in graph.nodes:
        specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
        needed.update(symbols(size for spec in specs for size in spec.shape))
        needed.update(symbols(_dims_in(node.attrs.values())))
    return needed


def _dims_in(values: Iterable[Any]) -> list[Dim]:
    found: list[Dim] = []
    for value in values:
        if isinstance(value, Dim):
            found.append(value)
        elif isinstance(value, tuple):
            found += _dims_in(value)
    return found


# ---- outputs, updates, givens ----------------------------------------------------------------


def _output_node(name: str, leaf: Any) -> Node:
    node = as_tensor(leaf, name=f"{name}: output").node
    if isinstance(node.spec, tuple):
        raise GraphError(with_line(f"{name}: {node.op.name} has several results; list them singly"))
    return node


def _pairs(name: str, what: str, listed: Any) -> list[tuple[Any, Any]]:
    if listed is None:
        return []
    pairs = list(listed.items()) if isinstance(listed, Mapping) else list(listed)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise GraphError(
                with_line(f"{name}: {what} holds {pair!r}; expected pairs (tensor, new tensor)")
            )
    return [(left, right) for left, right in pairs]


def _update_pairs(name: str, updates: Any) -> list[tuple[Node, Node]]:
    result: list[tuple[Node, Node]] = []
    for target, value in _pairs(name, "updates", updates):
        variable = target.node if isinstance(target, Tensor) else target
        if not isinstance(variable, Node) or not is_variable(variable):
            raise GraphError(
                with_line(
                    f"{name}: the update target {target!r} is no variable; expected gf.variable"
                )
            )
        if any(variable is other for other, _ in result):
            raise GraphError(
                with_line(f"{name}: {describe(variable)} is updated twice; expected one new value")
            )
        node = as_tensor(value, None if isinstance(value, (Tensor, Node)) else variable.dtype).node
        _check_same_spec(f"{name}: the update of", variable, node)
        result.append((variable, node))
    return result


def _check_same_spec(what: str, old: Node, new: Node) -> None:
    if new.dtype != old.dtype:
        raise GraphError(
            with_line(
                f"{what} {describe(old)} is {new.spec}; expected dtype {old.dtype}, use "
                f"gf.astype(..., {old.dtype!r})"
            )
        )
    if new.shape != old.shape:
        raise ShapeError(
            with_line(
                f"{what} {describe(old)} is {new.spec}; expected the same shape\n  {describe(new)}"
            )
        )


def _given_pairs(name: str, givens: Any) -> dict[Node, Node]:
    result: dict[Node, Node] = {}
    for target, value in _pairs(name, "givens", givens):
        node = target.node if isinstance(target, Tensor) else target
        if not isinstance(node, Node):
            raise GraphError(
                with_line(f"{name}: givens replaces {target!r}; expected a symbolic tensor")
            )
        new = as_tensor(value, None if isinstance(value, (Tensor, Node)) else node.dtype).node
        _check_same_spec(f"{name}: what givens puts for", node, new)
        result[node] = new
    return result


def _replaced_roots(roots: Sequence[Node], replaced: Mapping[Node, Node]) -> list[Node]:
    """The roots with givens put in and Python-only derivative rules taken out."""
    new: dict[Node, Node] = {}
    # What a given is replaced by is not searched for givens itself: all are put in at once.
    for node in topological_order(replaced.values()):
        new[node] = _rebuilt(node, new)
    inside = dict(new)
    new = {}
    for node in topological_order(roots):
        new[node] = inside[replaced[node]] if node in replaced else _rebuilt(node, new)
    return [new[root] for root in roots]


def _rebuilt(node: Node, new: Mapping[Node, Node]) -> Node:
    inputs = tuple(new[value] for value in node.inputs)
    bare = without_custom_rules(node, inputs)
    if bare is not None:
        return bare
    with made_from(node):
        return rebuild(node, inputs)


def variables_of(graph: Graph) -> list[Variable]:
    """The variables that a graph reads or writes."""
    return [Variable(node) for node in graph.variables]
