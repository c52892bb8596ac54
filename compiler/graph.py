"""Node and Graph: one application of an op, and an ordered, immutable set of them."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any

from graphflow.compiler.spec import DimCheck

if TYPE_CHECKING:
    from graphflow.compiler.op import Op

# Both spellings, since compiler/ and runtime/ are reached through links in a checkout.
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PACKAGE = tuple(
    {
        os.path.join(root, folder) + os.sep
        for root in (_HERE, os.path.dirname(_HERE), os.path.realpath(_HERE))
        for folder in ("graphflow", "compiler", "runtime")
    }
    | {os.path.join(os.path.dirname(os.path.realpath(__file__)), "")}
)

_provenance: ContextVar[Node | None] = ContextVar("provenance", default=None)
_scope: ContextVar[str] = ContextVar("name_scope", default="")
_serial = itertools.count()


def next_serial() -> int:
    """A number between those of the nodes made before and after."""
    return next(_serial)


def user_line() -> str:
    """`file:line` of the nearest caller outside graphflow; empty where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith("<frozen"):
        return ""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


@contextmanager
def made_from(node: Node) -> Iterator[None]:
    """Nodes made inside inherit the user's line and the name scope of `node`."""
    token = _provenance.set(node)
    try:
        yield
    finally:
        _provenance.reset(token)


@contextmanager
def name_scope(name: str) -> Iterator[None]:
    """Nodes made inside belong to the scope `name`; scopes nest with '/'."""
    outer = _scope.get()
    token = _scope.set(f"{outer}/{name}" if outer else name)
    try:
        yield
    finally:
        _scope.reset(token)


class Node:
    """One op applied to inputs; immutable, compared by identity.

    Attributes:
        op: what is computed.
        inputs: the nodes it reads.
        attrs: static attributes, by name, values hashable.
        spec: dtype and shape of the value (a tuple of specs for ops with several results).
        source: the user's file:line that made it.
        scope: name scope, '/'-separated.
        name: the user's name for it, or None.
        checks: dim equalities that are verified when the function runs.
        serial: creation number; orders leaves that are otherwise equal.
    """

    __slots__ = (
        "__weakref__", "attrs", "checks", "inputs", "name", "op", "scope", "serial", "source",
        "spec",
    )  # fmt: skip

    op: Op
    inputs: tuple[Node, ...]
    attrs: Mapping[str, Any]
    spec: Any
    name: str | None
    checks: tuple[DimCheck, ...]
    source: str
    scope: str
    serial: int

    def __init__(
        self,
        op: Op,
        inputs: tuple[Node, ...],
        attrs: Mapping[str, Any],
        spec: Any,
        name: str | None = None,
        checks: tuple[DimCheck, ...] = (),
    ):
        origin = _provenance.get()
        set_field = object.__setattr__
        set_field(self, "op", op)
        set_field(self, "inputs", inputs)
        set_field(self, "attrs", attrs)
        set_field(self, "spec", spec)
        set_field(self, "name", name)
        set_field(self, "checks", checks)
        set_field(self, "source", origin.source if origin is not None else user_line())
        set_field(self, "scope", origin.scope if origin is not None else _scope.get())
        set_field(self, "serial", next(_serial))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Node is immutable; make a new one instead of setting {name}")

    @property
    def dtype(self) -> str:
        return self.spec.dtype

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.spec.shape

    @property
    def ndim(self) -> int:
        return len(self.spec.shape)

    @property
    def label(self) -> str:
        """Scope and op name, for people."""
        return f"{self.scope}/{self.op.name}" if self.scope else self.op.name

    def __repr__(self) -> str:
        return f"<{self.name or self.label} {self.spec}>"

    # Arithmetic, so that vjp rules and passes read like mathematics. Both operands have one dtype;
    # a Python scalar takes the dtype of the node.

    def __add__(self, other: Operand) -> Node:
        return _binary("add", self, other)

    def __radd__(self, other: Operand) -> Node:
        return _binary("add", other, self)

    def __sub__(self, other: Operand) -> Node:
        return _binary("subtract", self, other)

    def __rsub__(self, other: Operand) -> Node:
        return _binary("subtract", other, self)

    def __mul__(self, other: Operand) -> Node:
        return _binary("multiply", self, other)

    def __rmul__(self, other: Operand) -> Node:
        return _binary("multiply", other, self)

    def __truediv__(self, other: Operand) -> Node:
        return _binary("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Node:
        return _binary("divide", other, self)

    def __pow__(self, other: Operand) -> Node:
        return _binary("power", self, other)

    def __neg__(self) -> Node:
        return _ops().negative(self)


Operand = Node | int | float | bool


def _ops() -> Any:
    from graphflow.compiler.op import ops

    return ops


def _binary(name: str, left: Operand, right: Operand) -> Node:
    ops = _ops()
    dtype = left.dtype if isinstance(left, Node) else right.dtype  # type: ignore[union-attr]
    left, right = (
        x if isinstance(x, Node) else ops.full(value=x, shape=(), dtype=dtype)
        for x in (left, right)
    )
    return getattr(ops, name)(left, right)


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order between inputs and outputs.

    Attributes:
        inputs: placeholder nodes, in the order in which the caller feeds them.
        outputs: the nodes returned, in order.
        updates: pairs (variable node, node with its next value).
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    updates: tuple[tuple[Node, Node], ...] = ()

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node that the outputs and updates need, inputs of a node before it."""
        return tuple(topological_order(self.roots))

    @property
    def roots(self) -> tuple[Node, ...]:
        return (*self.outputs, *(value for _, value in self.updates))

    @cached_property
    def variables(self) -> tuple[Node, ...]:
        """Variable nodes read or written, in order of creation."""
        found = {n for n in self.nodes if n.op.name == "variable"}
        found |= {target for target, _ in self.updates}
        return tuple(sorted(found, key=lambda n: n.serial))

    @cached_property
    def users(self) -> dict[Node, tuple[Node, ...]]:
        """For each node the nodes that read it, each once, in order."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                users[value].append(node)
        return {node: tuple(readers) for node, readers in users.items()}

    @cached_property
    def checks(self) -> tuple[DimCheck, ...]:
        return tuple(dict.fromkeys(check for node in self.nodes for check in node.checks))

    def with_roots(self, roots: Sequence[Node]) -> Graph:
        """The same function with other nodes for outputs and update values, in `roots` order."""
        count = len(self.outputs)
        targets = (target for target, _ in self.updates)
        return Graph(
            self.inputs, tuple(roots[:count]), tuple(zip(targets, roots[count:], strict=True))
        )

    def rewrite(self, replace: Callable[[Node, tuple[Node, ...]], Node]) -> Graph:
        """Rebuild the graph, asking `replace(node, new inputs)` for each node in order.

        Nodes that `replace` makes inherit provenance. The same graph is returned if nothing
        changed.
        """
        new: dict[Node, Node] = {}
        for node in self.nodes:
            with made_from(node):
                new[node] = replace(node, tuple(new[i] for i in node.inputs))
        roots = [new[node] for node in self.roots]
        return self if tuple(roots) == self.roots else self.with_roots(roots)


def rebuild(node: Node, inputs: tuple[Node, ...]) -> Node:
    """`node` over other inputs; the node itself where the inputs are the same."""
    if inputs == node.inputs:
        return node
    return node.op(*inputs, name=node.name, **node.attrs)


def topological_order(roots: Iterable[Node], within: set[Node] | None = None) -> list[Node]:
    """Nodes that `roots` need, inputs first; iterative, so depth is no limit."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in roots:
        stack: list[tuple[Node, Iterator[Node]]] = []
        if root not in seen:
            seen.add(root)
            stack.append((root, iter(root.inputs)))
        while stack:
            node, rest = stack[-1]
            for value in rest:
                if value not in seen and (within is None or value in within):
                    seen.add(value)
                    stack.append((value, iter(value.inputs)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order
