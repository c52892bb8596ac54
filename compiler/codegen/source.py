"""Lines of one kernel: buffers, dims and statements in, source text with its launch facts out.

A kernel is a Python function in a small language (`runtime.intrinsics`) that Numba compiles:

    def matmul_add_relu(buffers, dims, lo, hi):
        x0 = buffer(buffers, 0, f32)
        d0 = dims[0]
        for i in range(lo, hi): ...

Names are counters, never the user's; sizes that are static are literals, named dims are entries of
`dims`. So kernels of one structure are one text, and no string of a saved file reaches the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from graphflow.compiler.dims import Atom, Axis, Size, Symbol, size_source, symbol
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST

_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Status:
    """Stands among the buffers for the block that kernels report errors into."""


@dataclass(frozen=True, slots=True)
class NoteOf:
    """Stands among the dims for the note (name, user line) of a node, used in error reports."""

    node: Node


@dataclass(frozen=True)
class KernelDraft:
    """One kernel and how to launch it, in terms of nodes; `schedule` turns nodes into buffers.

    Attributes:
        name: what it computes, for the file name.
        body: source of the function body, without imports and header.
        buffers: node (or Status) of each slot.
        writes: nodes that the kernel stores.
        dims: what each entry of `dims` holds.
        extent, cost, grain, parallel: see program.Launch.
        in_place: (output, input) pairs that may share storage: same element, read before written.
    """

    name: str
    body: str
    buffers: tuple[Node | Status, ...]
    writes: tuple[Node, ...]
    dims: tuple[Size | NoteOf, ...]
    extent: Size
    cost: Size
    grain: int = 1
    parallel: bool = True
    in_place: tuple[tuple[Node, Node], ...] = ()


@dataclass
class KernelWriter:
    """Collects a kernel's statements; blocks nest by context managers."""

    buffers: list[Node | Status] = field(default_factory=list)
    writes: list[Node] = field(default_factory=list)
    dims: list[Size | NoteOf] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    depth: int = 0
    counter: int = 0

    # ---- what the kernel reads ---------------------------------------------------------------

    def buffer(self, node: Node | Status, write: bool = False) -> str:
        """The name of the buffer that holds `node`; a slot is made on first use."""
        if node not in self.buffers:
            self.buffers.append(node)
        if write and isinstance(node, Node) and node not in self.writes:
            self.writes.append(node)
        return f"x{self.buffers.index(node)}"

    def output(self, node: Node) -> str:
        """The name of the buffer that the kernel stores `node` into."""
        return self.buffer(node, write=True)

    def size(self, size: Size) -> str:
        """Text of a size or an index: literals, `dims` entries and loop variables."""
        if isinstance(size, int):
            return str(size)
        text = size_source(size, self._atom)
        single = len(size.terms) == 1 and size.terms[0][1] == 1 and len(size.terms[0][0]) == 1
        return text if single else f"({text})"

    def _atom(self, atom: Atom) -> str:
        if isinstance(atom, Axis):
            return atom.name
        assert isinstance(atom, Symbol)
        return self._dim(symbol(atom.name))

    def _dim(self, entry: Size | NoteOf) -> str:
        if entry not in self.dims:
            self.dims.append(entry)
        return f"d{self.dims.index(entry)}"

    def fresh(self, prefix: str = "t") -> str:
        """A new local name."""
        self.counter += 1
        return f"{prefix}{self.counter}"

    # ---- statements --------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append(_INDENT * (self.depth + 1) + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """`head:` and an indented block; left out when nothing was written inside."""
        self.line(f"{head}:")
        before = len(self.lines)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            if len(self.lines) == before:
                self.lines.pop()

    def loop(self, name: str, begin: str, end: str, step: str = "1"):  # type: ignore[no-untyped-def]
        """`for name in range(begin, end, step)`."""
        if step == "1":
            bounds = end if begin == "0" else f"{begin}, {end}"
        else:
            bounds = f"{begin}, {end}, {step}"
        return self.block(f"for {name} in range({bounds})")

    def report(self, node: Node, position: str, value: str, bound: str) -> None:
        """Tell the caller that `value`, element `position` of the indices of `node`, is bad."""
        self.line(self.report_call(node, position, value, bound))

    def report_call(self, node: Node, position: str, value: str, bound: str) -> str:
        """Text of the call behind `report`."""
        status, code = self.buffer(Status()), self._dim(NoteOf(node))
        return f"report({status}, {code}, i64({position}), {value}, i64({bound}))"

    # ---- the result --------------------------------------------------------------------------

    def draft(
        self,
        name: str,
        extent: Size,
        cost: Size,
        *,
        grain: int = 1,
        parallel: bool = True,
        in_place: Sequence[tuple[Node, Node]] = (),
    ) -> KernelDraft:
        """The finished kernel; buffer scopes of in-place pairs are shared."""
        scope = {out: self.buffers.index(source) for out, source in in_place}
        head = []
        for slot, node in enumerate(self.buffers):
            dtype = "i64" if isinstance(node, Status) else CAST[node.dtype]
            shared = f", {scope[node]}" if node in scope else ""
            head.append(f"{_INDENT}x{slot} = buffer(buffers, {slot}, {dtype}{shared})")
        head += [f"{_INDENT}d{slot} = dims[{slot}]" for slot in range(len(self.dims))]
        return KernelDraft(
            name,
            "\n".join(head + self.lines) + "\n",
            tuple(self.buffers),
            tuple(self.writes),
            tuple(self.dims),
            extent,
            cost,
            grain,
            parallel,
            tuple(in_place),
        )
