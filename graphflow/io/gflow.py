"""Functions and graphs to one `.gflow` file, and back; opening a file never runs code from it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow.compiler.dims import product
from graphflow.compiler.errors import GraphFormatError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import Op
from graphflow.compiler.ops.creation import Literal
from graphflow.compiler.spec import TensorSpec
from graphflow.errors import with_line
from graphflow.io.arrays import CODE_OF, contents, map_arrays, read_arrays, specs_of, verify
from graphflow.io.container import (
    FORMAT,
    USER_PREFIX,
    Header,
    check_user_entry,
    encode_header,
    open_container,
    order_tensors,
    parse_header,
    with_digest,
    write_container,
)
from graphflow.io.limits import DEFAULT_LIMITS, Limits
from graphflow.io.memory import live_bytes
from graphflow.io.schema import OPSET, Document, decode_document, encode_document, is_builtin
from graphflow.io.strict_json import canonical, parse

if TYPE_CHECKING:
    from graphflow.function import Function

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class SavedGraph:
    """A graph as it came out of a file.

    Attributes:
        graph: the nodes; placeholders and variables are new ones.
        values: the array of each variable.
        trainable: the variables that an optimizer should change.
        structure: nesting of the outputs, with their positions as leaves.
        name: name of the function.
        metadata: the strings that the writer added.
    """

    graph: Graph
    values: Mapping[Node, np.ndarray]
    trainable: frozenset[Node] = frozenset()
    structure: Any = None
    name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What a file holds, known without running it.

    Attributes:
        inputs: (name, spec) of each input.
        ops: number of nodes by op.
        parameters: elements of the trainable variables.
        state: elements of the other variables.
        memory: bytes of all tensors and an upper estimate of the values alive while running,
            every named dim taken as 1.
        digest: sha256 by which the file checks itself.
    """

    name: str
    format: int
    opset: int
    producer: str
    inputs: tuple[tuple[str, TensorSpec], ...]
    outputs: tuple[TensorSpec, ...]
    dims: tuple[str, ...]
    ops: Mapping[str, int]
    updates: int
    parameters: int
    state: int
    tensor_bytes: int
    file_bytes: int
    memory: int
    digest: str
    metadata: Mapping[str, str]

    @property
    def nodes(self) -> int:
        return sum(self.ops.values())


# ---- functions -------------------------------------------------------------------------------


def save(
    function: Function,
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    provenance: bool = True,
) -> None:
    """Write a function with its variables, so that `load` gives it back in another process.

    The same function gives the same bytes. A file at `path` is replaced only when the new one is
    complete and on disk. Nothing may run the function meanwhile.

    Args:
        metadata: strings to keep with it, by name.
        limits: what the file may need; `load` needs the same.
        provenance: also keep the names and lines of the source files that made the graph.

    Raises:
        GraphFormatError: something in the function cannot be saved, or exceeds `limits`.
        OSError: the file cannot be written; an old file at `path` is intact.
    """
    if not hasattr(function, "graph") or not hasattr(function, "variables"):
        raise GraphFormatError(
            with_line(
                f"save: got {type(function).__name__} as the function; expected what gf.function "
                "returns, as in gf.save(function, 'model.gflow')"
            )
        )
    from graphflow.variable import storage_of

    variables = function.variables
    write_graph(
        path,
        function.graph,
        {v.node: storage_of(v.node) for v in variables},
        structure=function.structure,
        name=function.name,
        trainable={v.node for v in variables if v.trainable},
        metadata=metadata,
        limits=limits,
        provenance=provenance,
    )


def load(
    path: Path,
    *,
    allowed_ops: Collection[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    sha256: str | None = None,
    mmap: bool = False,
    custom_ops: Mapping[str, Op] | None = None,
    mode: str = "compiled",
) -> Function:
    """The function in a file, with its variables; a training step continues where it was saved.

    Args:
        allowed_ops: op names that the file may use; None allows all of graphflow's.
        limits: what the file may need.
        sha256: digest that the file must have, in hex.
        mmap: map the arrays instead of reading them. It starts at once, but does not compute the
            checksum, and the file must not be changed while the function lives.
        custom_ops: the caller's own ops that the file may use, by name.
        mode: how it runs, see `gf.function`.

    Raises:
        GraphFormatError: the file is refused; one line says why.
        OSError: the file cannot be opened.
    """
    from graphflow.function import function
    from graphflow.structure import map_structure
    from graphflow.tensor import Tensor
    from graphflow.variable import adopt_storage

    saved = read_graph(
        path,
        allowed_ops=allowed_ops,
        limits=limits,
        sha256=sha256,
        mmap=mmap,
        custom_ops=custom_ops,
    )
    for node, array in saved.values.items():
        adopt_storage(node, array, node in saved.trainable)
    outputs = map_structure(lambda k: Tensor(saved.graph.outputs[k]), saved.structure)
    return function(
        saved.graph.inputs,
        outputs,
        saved.graph.updates,
        name=saved.name or None,
        mode=mode,
        on_unused_input="ignore",
    )


def check(
    path: Path,
    *,
    allowed_ops: Collection[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    sha256: str | None = None,
    custom_ops: Mapping[str, Op] | None = None,
) -> Summary:
    """Every check that `load` makes, the checksum included, without keeping an array.

    Raises:
        GraphFormatError: the file is refused; one line says why.
    """
    with _named(path), open_container(path, limits) as file:
        inspected = _inspect(file.header, limits, allowed_ops, custom_ops)
        verify(file, sha256)
        return _summary(file.header, inspected, file.size)


# ---- graphs ----------------------------------------------------------------------------------


def write_graph(
    path: Path,
    graph: Graph,
    values: Mapping[Node, np.ndarray],
    *,
    structure: Any = None,
    name: str = "",
    trainable: Collection[Node] = (),
    metadata: Mapping[str, str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    provenance: bool = True,
) -> None:
    """Write a graph and the values of its variables; see `save`.

    Args:
        values: an array for each variable of the graph.
        structure: nesting of the outputs with their positions as leaves; None stands for a list.
    """
    if structure is None and graph.outputs:
        structure = list(range(len(graph.outputs)))
    with _named(path):
        document, constants, variables = encode_document(
            graph, name=name, structure=structure, trainable=trainable, provenance=provenance
        )
        arrays = {text: literal.array for literal, text in constants.items()}
        arrays |= {text: _value_of(node, values) for node, text in variables.items()}
        entries = order_tensors({text: (_code(text, a), a.shape) for text, a in arrays.items()})
        user = {f"{USER_PREFIX}{key}": text for key, text in (metadata or {}).items()}
        for key, text in user.items():
            check_user_entry(key, text)
        header = encode_header(entries, canonical(document), _producer(), user)
        # The reader's own checks, so that no file is written that nobody can read.
        probe = parse_header(
            with_digest(header, hashlib.sha256(header).hexdigest()),
            entries[-1].end if entries else 0,
            limits,
        )
        own = {node.op.name: node.op for node in _all_nodes(graph) if not is_builtin(node.op)}
        _inspect(probe, limits, None, own)
        write_container(path, header, contents(arrays[entry.name] for entry in entries))


def read_graph(
    path: Path,
    *,
    allowed_ops: Collection[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    sha256: str | None = None,
    mmap: bool = False,
    custom_ops: Mapping[str, Op] | None = None,
) -> SavedGraph:
    """The graph in a file, with the values of its variables; see `load`."""
    with _named(path), open_container(path, limits) as file:
        inspected = _inspect(file.header, limits, allowed_ops, custom_ops)
        arrays = (map_arrays if mmap else read_arrays)(file, sha256)
        document = inspected.document
        if document.constants:
            # The nodes so far hold constants of the right spec and no content.
            literals = {text: Literal.owning(arrays.pop(text)) for text in document.constants}
            document = decode_document(
                inspected.json,
                inspected.specs,
                limits,
                literal=literals.__getitem__,
                allowed_ops=allowed_ops,
                custom_ops=custom_ops,
            )
        return SavedGraph(
            document.graph,
            {row.node: arrays[row.tensor] for row in document.variables},
            frozenset(row.node for row in document.variables if row.trainable),
            document.structure,
            document.name,
            _metadata(file.header),
        )


@dataclass(frozen=True)
class _Inspected:
    """A header's graph after all checks that need no data."""

    json: Any
    specs: Mapping[str, TensorSpec]
    document: Document
    memory: int


def _inspect(
    header: Header,
    limits: Limits,
    allowed_ops: Collection[str] | None,
    custom_ops: Mapping[str, Op] | None,
) -> _Inspected:
    """Decode the graph with empty constants, and estimate what running it needs."""
    json = parse(header.graph, limits, "graph")
    specs = specs_of(header)
    document = decode_document(
        json,
        specs,
        limits,
        literal=lambda name: _Unread(specs[name]),
        allowed_ops=allowed_ops,
        custom_ops=custom_ops,
    )
    tensors = sum(entry.end - entry.begin for entry in header.entries)
    memory = tensors + live_bytes(document.graph)
    limits.check("memory", memory, "the planned memory in bytes")
    return _Inspected(json, specs, document, memory)


class _Unread(Literal):
    """A constant of a known spec whose elements are still in the file; takes no memory."""

    __slots__ = ()

    def __init__(self, spec: TensorSpec):
        self.array = np.broadcast_to(np.zeros((), spec.dtype), spec.shape)  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__


def _summary(header: Header, inspected: _Inspected, file_bytes: int) -> Summary:
    document = inspected.document
    counts = {True: 0, False: 0}
    for row in document.variables:
        count = product(row.node.shape)
        assert isinstance(count, int)  # equal to the tensor's shape, which has no names
        counts[row.trainable] += count
    graph = document.graph
    return Summary(
        name=document.name,
        format=FORMAT,
        opset=OPSET,
        producer=header.producer,
        inputs=tuple((n.name or f"input {k}", n.spec) for k, n in enumerate(graph.inputs)),
        outputs=tuple(node.spec for node in graph.outputs),
        dims=document.dims,
        ops=document.ops,
        updates=len(graph.updates),
        parameters=counts[True],
        state=counts[False],
        tensor_bytes=sum(entry.end - entry.begin for entry in header.entries),
        file_bytes=file_bytes,
        memory=inspected.memory,
        digest=header.digest,
        metadata=_metadata(header),
    )


def _metadata(header: Header) -> dict[str, str]:
    return {key[len(USER_PREFIX) :]: text for key, text in header.user.items()}


def _all_nodes(graph: Graph) -> Iterator[Node]:
    yield from graph.nodes
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, Graph):
                yield from _all_nodes(value)


def _value_of(node: Node, values: Mapping[Node, np.ndarray]) -> np.ndarray:
    if node not in values:
        raise GraphFormatError(f"variable {node.name or ''} has no value to save")
    return values[node]


def _code(name: str, array: np.ndarray) -> str:
    code = CODE_OF.get(array.dtype.name)
    if code is None:
        raise GraphFormatError(f"tensor {name}: dtype {array.dtype} cannot be saved")
    return code


def _producer() -> str:
    import graphflow

    return f"graphflow {graphflow.__version__}"


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the name of the file in front of what is wrong with it."""
    try:
        yield
    except GraphFormatError as error:
        name = ascii(os.path.basename(os.fspath(path)))[1:-1]
        raise GraphFormatError(f"{name}: {error}") from None
