"""Scalar statements of a fused group: node and index in, name of the value out.

Every value is placed at the outermost loop whose variables it needs, so that a bias that does not
depend on the inner loop is loaded outside it. A (node, index) pair is computed once per scope.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from graphflow.compiler.codegen.source import KernelWriter
from graphflow.compiler.dims import Axis, Dim, Size, atoms, linear_offset
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Emitter, Map


class NotFusible(Exception):
    """The nodes cannot share a kernel; the fuse pass keeps them apart."""


@dataclass
class Block:
    """Statements and inner loops, in order; `head` is None for the kernel's own block."""

    head: str | None = None
    items: list[str | Block] = field(default_factory=list)

    def write(self, writer: KernelWriter) -> None:
        for item in self.items:
            if isinstance(item, str):
                writer.line(item)
            else:
                assert item.head is not None
                with writer.block(item.head):
                    item.write(writer)


@dataclass(frozen=True, slots=True)
class Access:
    """One load or store: which node's buffer, at which element offset, after how many loads."""

    node: Node
    offset: Size
    turn: int


class GroupEmitter(Emitter):
    """Emits the nodes of one group; loops are opened by its owner.

    Attributes:
        members: nodes computed here; all others are read from their buffers.
        known: values that the owner provides: node -> (index, text); asking for another index
            raises NotFusible.
        kept: text of elements that an earlier loop of the same row left in memory.
        loads, stores, sizes: what was touched, for collapsing loops and sharing storage.
    """

    def __init__(self, writer: KernelWriter, members: Collection[Node]):
        self.writer = writer
        self.members = members
        self.known: dict[Node, tuple[tuple[Size, ...], str, int]] = {}
        self.kept: dict[tuple[Node, tuple[Size, ...]], tuple[str, Size]] = {}
        self.blocks = [Block()]
        self.levels: dict[str, int] = {}
        self.memo: dict[object, tuple[str, int]] = {}
        self.guard = ""
        # Offsets into an empty array name no loop, but nothing may be loaded outside of the
        # loops over it.
        self.floor = 0
        self.loads: list[Access] = []
        self.stores: list[Access] = []
        self.sizes: list[Size] = []

    # ---- scopes ------------------------------------------------------------------------------

    @property
    def level(self) -> int:
        return len(self.blocks) - 1

    def open_loop(self, name: str, begin: str, end: str, step: str = "") -> None:
        """Open `for name in range(...)`; statements that need `name` go inside."""
        bounds = end if begin == "0" and not step else f"{begin}, {end}" + (step and f", {step}")
        self.blocks.append(Block(f"for {name} in range({bounds})"))
        self.levels[name] = self.level
        if end == "0":
            self.floor = self.level

    def close_loop(self) -> None:
        """Attach the innermost loop to its parent and forget the names inside."""
        closed = self.blocks.pop()
        if closed.items:
            self.blocks[-1].items.append(closed)
        self.floor = min(self.floor, self.level)
        self.memo = {key: value for key, value in self.memo.items() if value[1] <= self.level}
        self.levels = {name: level for name, level in self.levels.items() if level <= self.level}

    def statement(self, text: str, level: int | None = None) -> None:
        """Add a line to the block of `level` (the innermost by default)."""
        self.blocks[self.level if level is None else level].items.append(text)

    def level_of(self, text: str) -> int:
        return self.levels.get(text, 0)

    def size_level(self, size: Size) -> int:
        names = (atom.name for atom in atoms(size) if isinstance(atom, Axis))
        return max((self.level_of(name) for name in names), default=0)

    def define(self, name: str, text: str, level: int) -> str:
        self.statement(f"{name} = {text}", level)
        self.levels[name] = level
        return name

    # ---- what ops ask for --------------------------------------------------------------------

    def get(self, node: Node, index: tuple[Size, ...]) -> str:
        key = (node, index, self.guard)
        if key in self.memo:
            return self.memo[key][0]
        if node in self.known:
            expected, text, level = self.known[node]
            if index != expected:
                raise NotFusible(f"{node} is needed at {index}, known at {expected}")
        elif (node, index) in self.kept:
            text, place = self.kept[node, index]
            level = self.levels[text] = self.size_level(place)
        elif node in self.members:
            assert isinstance(node.op, Map)
            text = node.op.element(node, index, self)
            level = self.level_of(text)
        else:
            return self.load(node, index)
        self.memo[key] = (text, level)
        return text

    def load(self, node: Node, index: tuple[Size, ...]) -> str:
        """The element of a buffer."""
        offset = linear_offset(index, node.shape)
        key = ("load", node, offset, self.guard)
        if key in self.memo:
            return self.memo[key][0]
        self.loads.append(Access(node, offset, len(self.loads)))
        buffer, at = self.writer.buffer(node), self.writer.size(offset)
        level = max(self.size_level(offset), self.level_of(self.guard), self.floor)
        if self.guard:
            text = f"load_if({self.guard}, {buffer}, {at}, {CAST[node.dtype]}(0))"
        else:
            text = f"{buffer}[{at}]"
        name = self.define(self.writer.fresh(), text, level)
        self.memo[key] = (name, level)
        return name

    def assign(self, text: str, dtype: str, *operands: str) -> str:
        key = ("text", text)
        if key in self.memo:
            return self.memo[key][0]
        level = max(map(self.level_of, operands), default=0)
        name = self.define(self.writer.fresh(), text, level)
        self.memo[key] = (name, level)
        return name

    def size(self, size: Size) -> str:
        self.sizes.append(size)
        text = self.writer.size(size)
        self.levels[text] = max(self.size_level(size), self.level_of(text))
        return text

    def guarded(self, condition: str, value: Callable[[], str], other: str, dtype: str) -> str:
        outer = self.guard
        if outer:
            self.guard = self.assign(f"{outer} & {condition}", "bool", outer, condition)
        else:
            self.guard = condition
        try:
            inside = value()
        finally:
            self.guard = outer
        text = f"select({condition}, {inside}, {other})"
        return self.assign(text, dtype, condition, inside, other)

    def index_of(self, name: str, extent: Size) -> Size:
        return Dim((((Axis(name, extent),), 1),))

    def report(self, node: Node, bad: str, position: Size, value: str, bound: Size) -> None:
        # Inside a guard the index may be a stand-in that nobody asked for.
        test = f"{bad} & {self.guard}" if self.guard else bad
        at, limit = self.size(position), self.size(bound)
        level = max(self.floor, *map(self.level_of, (bad, self.guard, at, value, limit)))
        call = self.writer.report_call(node, at, value, limit)
        self.blocks[level].items.append(Block(f"if {test}", [call]))

    # ---- results -----------------------------------------------------------------------------

    def store(self, node: Node, index: tuple[Size, ...]) -> None:
        """Compute the element of `node` at `index` and store it, in the innermost loop."""
        value = self.get(node, index)
        offset = linear_offset(index, node.shape)
        self.stores.append(Access(node, offset, len(self.loads)))
        self.statement(f"{self.writer.output(node)}[{self.writer.size(offset)}] = {value}")

    def in_place_pairs(self, wanted: Mapping[Node, Node]) -> list[tuple[Node, Node]]:
        """(output, input) pairs that touch one element, the input before and nowhere else.

        Args:
            wanted: the variable that each new value is for; other leaves are never overwritten.
        """
        offsets: dict[Node, set[Size]] = {}
        last: dict[Node, int] = {}
        for access in self.loads:
            offsets.setdefault(access.node, set()).add(access.offset)
            last[access.node] = access.turn
        pairs: dict[Node, Node] = {}

        def fits(store: Access, node: Node) -> bool:
            same = offsets.get(node) == {store.offset} and node.dtype == store.node.dtype
            free = node not in pairs.values() and node.spec.size == store.node.spec.size
            return same and free and last[node] < store.turn

        for store in self.stores:
            variable = wanted.get(store.node)
            if variable is not None and fits(store, variable):
                pairs[store.node] = variable
        for store in self.stores:
            if store.node not in pairs:
                found = (node for node in offsets if not node.op.is_leaf and fits(store, node))
                source = next(found, None)
                if source is not None:
                    pairs[store.node] = source
        return list(pairs.items())
