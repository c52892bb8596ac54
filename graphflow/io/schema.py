"""A graph to the JSON value that a saved file holds, and back through the ops' own inference.

A node is `[op, [input numbers], {attributes}]`, and its inputs have smaller numbers than itself, so
a cycle cannot be written. Shapes and dtypes of computed nodes are not in the file: reading builds
each node with `ops.<name>(...)`, which infers them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphflow.compiler import ops as _definitions
from graphflow.compiler.dims import Dim, Size, symbols
from graphflow.compiler.errors import GraphError, GraphFormatError
from graphflow.compiler.graph import Graph, Node, made_from, topological_order
from graphflow.compiler.op import Op, ops
from graphflow.compiler.ops.creation import Literal
from graphflow.compiler.spec import DTYPES, TensorSpec
from graphflow.io.attributes import (
    AttributeReader,
    References,
    Registrar,
    check_canonical,
    read_attributes,
    write_attributes,
)
from graphflow.io.container import is_name
from graphflow.io.labels import FIELDS, LabelWriter, Origin, read_labels, read_strings
from graphflow.io.limits import Limits
from graphflow.io.sizes import SizeReader
from graphflow.io.strict_json import shown
from graphflow.io.structure import read_structure, write_structure

#: version of the set of ops and their attributes
OPSET = 1
CUSTOM = "custom:"
CONSTANT_PREFIX, VARIABLE_PREFIX = "constant.", "variable."

_CUSTOM_NAME = re.compile(r"[A-Za-z0-9_.:\-]{1,128}")
_BUILTIN_MODULES = _definitions.__name__ + "."
_GRAPH_KEYS = {"nodes", "inputs", "outputs", *FIELDS}
_DOCUMENT_KEYS = {
    "opset", "name", "strings", "bodies", "variables", "updates", "structure", *_GRAPH_KEYS,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VariableRow:
    """A variable of a saved graph: its node, the tensor with its value, and its mark."""

    node: Node
    tensor: str
    trainable: bool


@dataclass(frozen=True)
class Document:
    """What the JSON of a saved graph says.

    Attributes:
        structure: nesting of the outputs, with positions in `graph.outputs` as leaves.
        constants: names of the tensors that constants hold.
        ops: number of nodes by op name, those of bodies included.
        dims: named dims, sorted.
    """

    graph: Graph
    name: str
    structure: Any
    variables: tuple[VariableRow, ...]
    constants: Mapping[str, Literal] = field(default_factory=dict)
    ops: Mapping[str, int] = field(default_factory=dict)
    dims: tuple[str, ...] = ()


def is_builtin(op: Op) -> bool:
    """Whether an op belongs to the closed table of graphflow's own ops."""
    return ops.find(op.name) is op and type(op).__module__.startswith(_BUILTIN_MODULES)


# ---- writing ---------------------------------------------------------------------------------


class _GraphWriter:
    """Nodes to JSON rows; gathers tensors, bodies and strings on the way."""

    def __init__(self, provenance: bool):
        self.labels = LabelWriter(provenance)
        self.constants: dict[Literal, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self._numbers: dict[Graph, int] = {}
        self._registrar = Registrar(self._constant, self._body)

    def rows(self, graph: Graph) -> tuple[dict[str, Any], dict[Node, int]]:
        """The JSON object of a graph, and the number of each node."""
        targets = (target for target, _ in graph.updates)
        order = topological_order([*graph.inputs, *graph.roots, *targets])
        numbers = {node: number for number, node in enumerate(order)}
        rows = [self._row(node, numbers) for node in order]
        return {
            "nodes": rows,
            "inputs": [numbers[node] for node in graph.inputs],
            "outputs": [numbers[node] for node in graph.outputs],
            **self.labels.rows(order),
        }, numbers

    def _row(self, node: Node, numbers: Mapping[Node, int]) -> list[Any]:
        name = node.op.name
        if not is_builtin(node.op):
            if _CUSTOM_NAME.fullmatch(name) is None:
                raise GraphFormatError(f"the custom op name {shown(name)} cannot be saved")
            name = CUSTOM + name
        try:
            attrs = write_attributes(node.op, node.attrs, self._registrar)
        except GraphFormatError as error:
            raise GraphFormatError(f"{node.op.name}: {error}") from None
        return [name, [numbers[value] for value in node.inputs], attrs]

    def _constant(self, literal: Literal) -> str:
        return self.constants.setdefault(literal, f"{CONSTANT_PREFIX}{len(self.constants)}")

    def _body(self, graph: Graph) -> int:
        # The rows of a body come first, so that bodies inside it get smaller numbers.
        if graph not in self._numbers:
            rows, _ = self.rows(graph)
            self._numbers[graph] = len(self.bodies)
            self.bodies.append(rows)
        return self._numbers[graph]


def encode_document(
    graph: Graph,
    *,
    name: str = "",
    structure: Any = None,
    trainable: Collection[Node] = (),
    provenance: bool = True,
) -> tuple[dict[str, Any], dict[Literal, str], dict[Node, str]]:
    """The JSON value of a graph, and the tensor names of its constants and variables.

    Raises:
        GraphFormatError: something in it has no form in a file.
    """
    if name and not is_name(name):
        raise GraphFormatError(f"the function name {shown(name)} cannot be saved")
    writer = _GraphWriter(provenance)
    rows, numbers = writer.rows(graph)
    variables = [node for node in numbers if node.op.name == "variable"]
    tensors = _tensor_names(variables)
    document = {
        "opset": OPSET,
        "name": name,
        "strings": writer.labels.strings,
        "bodies": writer.bodies,
        **rows,
        "variables": [[numbers[n], tensors[n], n in trainable] for n in variables],
        "updates": [[numbers[target], numbers[value]] for target, value in graph.updates],
        "structure": write_structure(structure),
    }
    return document, writer.constants, tensors


def _tensor_names(variables: Sequence[Node]) -> dict[Node, str]:
    """A tensor name for each variable: its own where it can serve, else a numbered one."""
    taken: set[str] = set()
    result = {}
    for number, node in enumerate(variables):
        name = node.name or ""
        reserved = name.startswith((CONSTANT_PREFIX, VARIABLE_PREFIX))
        if not is_name(name) or reserved or name in taken:
            name = f"{VARIABLE_PREFIX}{number}"
        taken.add(name)
        result[node] = name
    return result


# ---- reading ---------------------------------------------------------------------------------


def decode_document(
    document: Any,
    specs: Mapping[str, TensorSpec],
    limits: Limits,
    *,
    literal: Callable[[str], Literal],
    allowed_ops: Collection[str] | None = None,
    custom_ops: Mapping[str, Op] | None = None,
) -> Document:
    """The graph of a JSON value.

    Args:
        specs: dtype and shape of each tensor of the file.
        literal: gives the constant for the name of a tensor.
        allowed_ops: op names that may occur; None allows all.
        custom_ops: ops of the caller, by the name after "custom:".

    Raises:
        GraphFormatError: the value is no graph of this version, or exceeds `limits`.
    """
    return _DocumentReader(specs, limits, literal, allowed_ops, custom_ops or {}).read(document)


class _DocumentReader:
    def __init__(
        self,
        specs: Mapping[str, TensorSpec],
        limits: Limits,
        literal: Callable[[str], Literal],
        allowed_ops: Collection[str] | None,
        custom_ops: Mapping[str, Op],
    ):
        self.specs = specs
        self.limits = limits
        self.allowed_ops = allowed_ops
        self.custom_ops = custom_ops
        self.sizes = SizeReader(limits)
        self.bodies: list[Graph] = []
        self.body_depths: dict[Graph, int] = {}
        self.counts: dict[str, int] = {}
        self._found: dict[str, Op] = {}
        self._costs: dict[Node, int] = {}
        self._nodes: list[Node] = []
        self.constants: dict[str, Literal] = {}
        self._literal = literal
        self._attributes = AttributeReader(self.sizes, References(self._constant, self.bodies))

    def read(self, document: Any) -> Document:
        self._check_keys(document)
        strings = read_strings(document["strings"])
        parts = [*document["bodies"], document]
        self._check_ops(parts)
        for number, body in enumerate(document["bodies"]):
            try:
                self._read_body(body, strings)
            except GraphFormatError as error:
                raise GraphFormatError(f"body {number}: {error}") from None
        nodes = self._read_nodes(document, strings)
        graph = Graph(
            self._read_inputs(document["inputs"], nodes),
            _read_outputs(document["outputs"], nodes),
            _read_updates(document["updates"], nodes),
        )
        self._nodes += nodes
        _check_needed(graph, nodes)
        _check_dims(graph, self._nodes)
        unused = set(self.bodies) - set(_bodies_of(self._nodes))
        if unused:
            raise GraphFormatError(f"{len(unused)} bodies are used by no node")
        variables = self._read_variables(document["variables"], nodes)
        self._check_tensors(variables)
        return Document(
            graph,
            document["name"],
            read_structure(document["structure"], len(graph.outputs)),
            variables,
            self.constants,
            dict(sorted(self.counts.items())),
            tuple(sorted(self.sizes.names)),
        )

    def _check_keys(self, document: Any) -> None:
        opset = document.get("opset") if type(document) is dict else None
        if type(opset) is int and opset > OPSET:
            raise GraphFormatError(
                f"opset {opset} needs a newer graphflow; this one reads opset {OPSET}"
            )
        if type(opset) is not int or opset != OPSET:
            raise GraphFormatError(f"opset {shown(opset)} is unknown; expected {OPSET}")
        _check_object(document, _DOCUMENT_KEYS, "the graph")
        if document["name"] != "" and not is_name(document["name"]):
            raise GraphFormatError(f"the function name {shown(document['name'])} is not allowed")
        if type(document["bodies"]) is not list:
            raise GraphFormatError("bodies: expected a list")
        for number, body in enumerate(document["bodies"]):
            _check_object(body, _GRAPH_KEYS, f"body {number}")

    def _check_ops(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Form, op and input numbers of every node, before any schema or shape code runs."""
        count = edges = 0
        for part in parts:
            rows = part["nodes"]
            if type(rows) is not list:
                raise GraphFormatError("nodes: expected a list")
            count += len(rows)
            self.limits.check("nodes", count, "the number of nodes")
            for number, row in enumerate(rows):
                try:
                    edges += self._check_row(row, number)
                except GraphFormatError as error:
                    raise GraphFormatError(f"node {number}: {error}") from None
            self.limits.check("edges", edges, "the number of inputs of all nodes")

    def _check_row(self, row: Any, number: int) -> int:
        if type(row) is not list or len(row) != 3 or type(row[1]) is not list:
            raise GraphFormatError(f"{shown(row)} is not [op, [inputs], {{attributes}}]")
        name, inputs, _ = row
        op = self._find(name)
        low, high = op.arity
        if not low <= len(inputs) <= high:
            raise GraphFormatError(f"{name} has {len(inputs)} inputs; expected {low} to {high}")
        for value in inputs:
            if type(value) is not int or not 0 <= value < number:
                raise GraphFormatError(f"{name}: input {shown(value)} is no earlier node")
        self.counts[name] = self.counts.get(name, 0) + 1
        return len(inputs)

    def _find(self, name: Any) -> Op:
        if type(name) is not str:
            raise GraphFormatError(f"op {shown(name)} is no string")
        op = self._found.get(name)
        if op is None:
            op = self._found[name] = self._look_up(name)
        return op

    def _look_up(self, name: str) -> Op:
        if self.allowed_ops is not None and name not in self.allowed_ops:
            raise GraphFormatError(f"op {shown(name)} is not among the allowed ops")
        if name.startswith(CUSTOM):
            own = self.custom_ops.get(name[len(CUSTOM) :])
            if own is None:
                raise GraphFormatError(
                    f"op {shown(name)} is the user's own; give it with custom_ops={{...}}"
                )
            return own
        found = ops.find(name)
        if found is None or not is_builtin(found):
            raise GraphFormatError(f"op {shown(name)} is unknown; a newer graphflow may know it")
        return found

    # ---- nodes -------------------------------------------------------------------------------

    def _read_nodes(self, part: Mapping[str, Any], strings: Sequence[str]) -> list[Node]:
        origins = read_labels(dict(part), strings, len(part["nodes"]))
        nodes: list[Node] = []
        # A float that overflows its dtype is refused as such; NumPy need not warn as well.
        with np.errstate(over="ignore"):
            for number, (row, origin) in enumerate(zip(part["nodes"], origins, strict=True)):
                try:
                    nodes.append(self._build(row, origin, nodes))
                except GraphFormatError as error:
                    raise GraphFormatError(f"node {number} ({row[0]}): {error}") from None
        return nodes

    def _build(self, row: Any, origin: Origin, nodes: Sequence[Node]) -> Node:
        op, inputs = self._find(row[0]), [nodes[number] for number in row[1]]
        for node in inputs:
            self.sizes.spend(self._costs[node])
        attrs = read_attributes(op, row[2], self._attributes)
        try:
            with made_from(origin):  # type: ignore[arg-type]
                node = op(*inputs, name=origin.name, **attrs)
        except MemoryError:
            raise
        except GraphError as error:
            raise GraphFormatError(_first_line(error)) from None
        except Exception as error:  # noqa: BLE001 rules never meet from users what a file can say
            raise GraphFormatError(f"{type(error).__name__}: {_first_line(error)}") from None
        check_canonical(op, row[2], node.attrs)
        self._check_spec(node)
        return node

    def _check_spec(self, node: Node) -> None:
        """Refuse an inferred spec that leaves the limits; note what each use of it will cost."""
        cost = 0
        for spec in node.spec if isinstance(node.spec, tuple) else (node.spec,):
            if spec.dtype not in DTYPES:
                raise GraphFormatError(f"dtype {shown(spec.dtype)} is not supported")
            self.limits.check("rank", len(spec.shape), "the number of axes")
            for size in spec.shape:
                if isinstance(size, int) and size < 0:
                    raise GraphFormatError(f"the inferred size {size} is negative")
                if isinstance(size, int):
                    self.limits.check("size", size, "an inferred size")
            cost += self.sizes.cost(spec.shape)
        self._costs[node] = cost

    def _constant(self, name: str) -> Literal:
        if name not in self.specs:
            raise GraphFormatError(f"there is no tensor {shown(name)}")
        if name not in self.constants:
            self.constants[name] = self._literal(name)
        return self.constants[name]

    # ---- parts -------------------------------------------------------------------------------

    def _read_body(self, body: Mapping[str, Any], strings: Sequence[str]) -> None:
        nodes = self._read_nodes(body, strings)
        graph = Graph(
            self._read_inputs(body["inputs"], nodes), _read_outputs(body["outputs"], nodes)
        )
        if any(node.op.name == "variable" for node in nodes):
            raise GraphFormatError("a body cannot hold variables")
        _check_needed(graph, nodes)
        inner = (self.body_depths[value] for value in _bodies_of(nodes))
        self.body_depths[graph] = 1 + max(inner, default=0)
        self.limits.check("body_depth", self.body_depths[graph], "the depth of bodies")
        self.bodies.append(graph)
        self._nodes += nodes

    def _read_inputs(self, value: Any, nodes: Sequence[Node]) -> tuple[Node, ...]:
        numbers = _numbers(value, len(nodes), "inputs")
        placeholders = [n for n, node in enumerate(nodes) if node.op.name == "placeholder"]
        if sorted(numbers) != placeholders:
            raise GraphFormatError(
                f"inputs {shown(numbers)} are not the placeholders {shown(placeholders)}, each once"
            )
        return tuple(nodes[number] for number in numbers)

    def _read_variables(self, rows: Any, nodes: Sequence[Node]) -> tuple[VariableRow, ...]:
        wanted = [n for n, node in enumerate(nodes) if node.op.name == "variable"]
        if type(rows) is not list or not all(type(r) is list and len(r) == 3 for r in rows):
            raise GraphFormatError("variables: expected [node, tensor, trainable] rows")
        if [row[0] for row in rows] != wanted or any(type(row[0]) is not int for row in rows):
            raise GraphFormatError("variables: expected one row for each variable, in order")
        result = []
        for number, tensor, trainable in rows:
            node = nodes[number]
            if type(tensor) is not str or tensor not in self.specs or type(trainable) is not bool:
                raise GraphFormatError(f"variables: node {number} has no tensor and mark")
            if node.spec != self.specs[tensor]:
                raise GraphFormatError(
                    f"variables: node {number} is {node.spec}, tensor {tensor} is "
                    f"{self.specs[tensor]}"
                )
            result.append(VariableRow(node, tensor, trainable))
        return tuple(result)

    def _check_tensors(self, variables: Sequence[VariableRow]) -> None:
        """Every tensor is the value of one variable, or of constants."""
        used = [row.tensor for row in variables]
        if len(set(used)) != len(used) or not self.constants.keys().isdisjoint(used):
            raise GraphFormatError("variables: two share a tensor, or share one with a constant")
        unused = self.specs.keys() - set(used) - self.constants.keys()
        if unused:
            raise GraphFormatError(f"tensor {min(unused)} belongs to nothing in the graph")


def _first_line(error: Exception) -> str:
    return shown((str(error).splitlines() or [""])[0], 200)[1:-1]


def _check_object(value: Any, keys: set[str], what: str) -> None:
    if type(value) is not dict or value.keys() != keys:
        odd = sorted(value.keys() ^ keys) if type(value) is dict else value
        raise GraphFormatError(f"{what}: missing or unknown: {shown(odd)}")


def _numbers(value: Any, count: int, what: str) -> list[int]:
    if type(value) is not list or not all(type(n) is int and 0 <= n < count for n in value):
        raise GraphFormatError(f"{what}: {shown(value)} are no numbers of nodes")
    return value


def _read_outputs(value: Any, nodes: Sequence[Node]) -> tuple[Node, ...]:
    chosen = tuple(nodes[number] for number in _numbers(value, len(nodes), "outputs"))
    if any(isinstance(node.spec, tuple) for node in chosen):
        raise GraphFormatError("outputs: a node with several results is none")
    return chosen


def _read_updates(value: Any, nodes: Sequence[Node]) -> tuple[tuple[Node, Node], ...]:
    if type(value) is not list or not all(type(p) is list and len(p) == 2 for p in value):
        raise GraphFormatError("updates: expected [variable, new value] pairs")
    pairs = []
    for pair in value:
        target, new = (nodes[number] for number in _numbers(pair, len(nodes), "updates"))
        if target.op.name != "variable" or target.spec != new.spec:
            raise GraphFormatError(f"updates: {shown(pair)} is no variable and value of one spec")
        pairs.append((target, new))
    if len({target for target, _ in pairs}) != len(pairs):
        raise GraphFormatError("updates: one variable occurs twice")
    return tuple(pairs)


def _check_needed(graph: Graph, nodes: Sequence[Node]) -> None:
    """Refuse nodes that compute nothing: a file holds what the function does and no more."""
    targets = (target for target, _ in graph.updates)
    needed = set(topological_order([*graph.inputs, *graph.roots, *targets]))
    if len(needed) != len(nodes):
        number = next(n for n, node in enumerate(nodes) if node not in needed)
        raise GraphFormatError(f"node {number} is needed by no output")


def _check_dims(graph: Graph, nodes: Sequence[Node]) -> None:
    """Every named dim, in bodies too, must follow from the shape of an input of the function."""
    known = set(symbols(size for node in graph.inputs for size in node.shape))
    for node in nodes:
        specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
        sizes = [size for spec in specs for size in spec.shape]
        for name in symbols([*sizes, *_dims_in(tuple(node.attrs.values()))]):
            if name not in known:
                raise GraphFormatError(f"the dim {name} follows from no input")


def _dims_in(value: Any) -> list[Size]:
    if isinstance(value, Dim):
        return [value]
    return [dim for item in value for dim in _dims_in(item)] if isinstance(value, tuple) else []


def _bodies_of(nodes: Sequence[Node]) -> list[Graph]:
    return [value for node in nodes for value in node.attrs.values() if isinstance(value, Graph)]
