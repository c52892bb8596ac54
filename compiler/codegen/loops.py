"""A fused group of maps and reductions in, the loop nest of its kernel out.

Three shapes of kernel:

    map      for i: store                                    (elementwise chains, index maps)
    rows     for i: { for r: accumulate }*; for r: store     (softmax: reduced axes innermost)
    columns  for block of c: for r: for c: accumulate        (bias gradients: reduced axes outside)

Neighbouring axes that every access walks as one are collapsed into one loop. The outermost loop
runs lo..hi, so that threads can share it; a reduction is never split, so results do not depend on
the number of threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from graphflow.compiler.codegen.emitter import Access, GroupEmitter, NotFusible
from graphflow.compiler.codegen.source import KernelDraft, KernelWriter
from graphflow.compiler.dims import (
    Axis,
    Dim,
    Size,
    axis,
    coefficient,
    delinearize,
    product,
    typical,
)
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Reduction

#: elements for which the second pass over a row asks at a time, in steps of a cache line, and the
#: least size of an array for which it does
AHEAD, AHEAD_LINE, AHEAD_SIZE = 256, 16, 256 * 1024
#: an outermost axis of fewer elements, or of a number not known, is joined with the next
FEWEST_SHARES = 16
#: columns accumulated side by side on the stack
COLUMN_BLOCK = 256
#: values that cost at least this and are needed in several passes over a row are kept on the stack,
#: where the row is not longer
KEEP_COST, KEEP_ELEMENTS, MOST_KEPT = 8, 4096, 2
#: below this many neighbouring columns, rows are walked instead
FEWEST_COLUMNS = 4


@dataclass(frozen=True)
class Domain:
    """What a group iterates over: kept axes, and the reduced ones if it has reductions.

    `shape` is the shape of the reductions' input, or of the outputs where there are none.
    """

    shape: tuple[Size, ...]
    reduced: tuple[int, ...] = ()

    @property
    def kept(self) -> tuple[int, ...]:
        return tuple(a for a in range(len(self.shape)) if a not in self.reduced)

    @property
    def kept_shape(self) -> tuple[Size, ...]:
        return tuple(self.shape[a] for a in self.kept)


def domain_of(nodes: Sequence[Node], outputs: Sequence[Node]) -> Domain:
    """The one domain of a group; NotFusible where its members do not share one."""
    reductions = [node for node in nodes if isinstance(node.op, Reduction)]
    if reductions:
        found = {Domain(n.inputs[0].shape, n.attrs["axes"]) for n in reductions}
        if len(found) > 1:
            raise NotFusible("reductions over different axes")
        domain = found.pop()
        allowed = {domain.shape, domain.kept_shape}
    else:
        domain = Domain(outputs[0].shape)
        allowed = {domain.shape}
    if any(node.shape not in allowed for node in outputs):
        raise NotFusible("outputs of different shapes")
    columns = domain.kept and domain.reduced and domain.kept[-1] > domain.reduced[-1]
    if columns and any(node.shape == domain.shape for node in outputs):
        # Walking down columns for every output element would miss the cache each time.
        raise NotFusible("elements of columns that are summed first")
    return domain


@dataclass(frozen=True)
class LoopAxis:
    """One loop after collapsing: its variable and the domain axes that it walks."""

    variable: Size
    extent: Size
    positions: tuple[int, ...]


class LoopNest:
    """Builds the kernel of one group.

    Args:
        nodes: members in topological order.
        outputs: members to store.
        wanted: variables that outputs should be written over.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        outputs: Sequence[Node],
        wanted: Mapping[Node, Node] = MappingProxyType({}),
    ):
        self.wanted = wanted
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.domain = domain_of(nodes, outputs)
        self.reductions = [node for node in nodes if isinstance(node.op, Reduction)]
        self.waves = self._waves()

    def _waves(self) -> list[list[Node]]:
        """Reductions in the order of their passes; those of one wave share a loop."""
        depth: dict[Node, int] = {}
        members = set(self.nodes)
        for node in self.nodes:
            below = max((depth[i] for i in node.inputs if i in members), default=0)
            depth[node] = below + isinstance(node.op, Reduction)
        count = max(depth.values(), default=0)
        return [[n for n in self.reductions if depth[n] == wave + 1] for wave in range(count)]

    # ---- choosing the loops ------------------------------------------------------------------

    def build(self) -> KernelDraft:
        """The kernel; raises NotFusible where the members do not fit into one."""
        plain = [
            LoopAxis(axis(f"i{a}", size), size, (a,)) for a, size in enumerate(self.domain.shape)
        ]
        probe = self._emit(plain, columns=False)
        kept = self._collapse([plain[a] for a in self.domain.kept], probe, "i")
        reduced = self._collapse([plain[a] for a in self.domain.reduced], probe, "r")
        columns = bool(self.reductions) and self._prefers_columns(kept, reduced, probe)
        kept = self._shared(kept, 1 if columns or not reduced else 0)
        emitter = self._emit([*kept, *reduced], columns)
        return self._draft(emitter, kept, reduced, columns)

    def _shared(self, kept: list[LoopAxis], inner: int) -> list[LoopAxis]:
        """Join a short outermost axis with the next, so that threads have enough to share.

        The last `inner` axes stay loops of their own.
        """
        while len(kept) - inner > 1:
            first, second, *rest = kept
            if isinstance(first.extent, int) and first.extent >= FEWEST_SHARES:
                break
            extent = first.extent * second.extent
            joined = LoopAxis(axis("u0", extent), extent, first.positions + second.positions)
            kept = [joined, *rest]
        return kept

    def _collapse(self, axes: list[LoopAxis], probe: GroupEmitter, prefix: str) -> list[LoopAxis]:
        """Join neighbours that every access walks with one stride; drop axes of size 1."""
        touched = {a.offset for a in probe.loads} | {a.offset for a in probe.stores}
        touched |= set(probe.sizes)
        groups: list[list[LoopAxis]] = []
        for item in axes:
            if item.extent == 1:
                continue
            if groups and _walk_together(groups[-1][-1], item, touched):
                groups[-1].append(item)
            else:
                groups.append([item])
        result = []
        for number, group in enumerate(groups):
            extent = product(item.extent for item in group)
            positions = tuple(p for item in group for p in item.positions)
            result.append(LoopAxis(axis(f"{prefix}{number}", extent), extent, positions))
        return result

    def _prefers_columns(
        self, kept: list[LoopAxis], reduced: list[LoopAxis], probe: GroupEmitter
    ) -> bool:
        """Whether the last kept axis is the one that lies side by side in memory."""
        if not kept or not reduced or any(n.shape == self.domain.shape for n in self.outputs):
            return False
        if isinstance(kept[-1].extent, int) and kept[-1].extent < FEWEST_COLUMNS:
            return False
        trial = self._emit([*kept, *reduced], columns=False)

        def leaps(variable: Size) -> int:
            """Loads that do not walk through memory where this is the innermost loop."""
            return sum(coefficient(a.offset, variable) not in (0, 1) for a in trial.loads)

        return leaps(reduced[-1].variable) > leaps(kept[-1].variable)

    # ---- writing them ------------------------------------------------------------------------

    def _emit(self, axes: list[LoopAxis], columns: bool) -> GroupEmitter:
        emitter = GroupEmitter(KernelWriter(), set(self.nodes))
        index = self._index(axes)
        kept = [a for a in axes if a.positions[0] in self.domain.kept and a.extent != 1]
        reduced = [a for a in axes if a.positions[0] in self.domain.reduced and a.extent != 1]
        if columns:
            self._emit_columns(emitter, index, kept, reduced)
        else:
            self._emit_rows(emitter, index, kept, reduced)
        emitter.blocks[0].write(emitter.writer)
        return emitter

    def _index(self, axes: list[LoopAxis]) -> tuple[Size, ...]:
        index: list[Size] = [0] * len(self.domain.shape)
        for item in axes:
            sizes = tuple(self.domain.shape[p] for p in item.positions)
            for position, part in zip(
                item.positions, delinearize(item.variable, sizes), strict=True
            ):
                index[position] = part
        return tuple(index)

    def _open(self, emitter: GroupEmitter, axes: Sequence[LoopAxis], outermost: bool) -> None:
        for number, item in enumerate(axes):
            shared = outermost and number == 0
            begin, end = ("lo", "hi") if shared else ("0", emitter.writer.size(item.extent))
            emitter.open_loop(_name(item.variable), begin, end)

    def _close(self, emitter: GroupEmitter, axes: Sequence[LoopAxis]) -> None:
        for _ in axes:
            emitter.close_loop()

    def _emit_rows(
        self,
        emitter: GroupEmitter,
        index: tuple[Size, ...],
        kept: list[LoopAxis],
        reduced: list[LoopAxis],
    ) -> None:
        row = tuple(index[a] for a in self.domain.kept)
        position = self._position(index)
        rows = self._rows_to_keep(emitter)
        self._open(emitter, kept, outermost=True)
        for number, wave in enumerate(self.waves):
            state = {node: self._start(emitter, node) for node in wave}
            opened = self._open_pass(emitter, kept, reduced, number)
            for node in wave:
                value = emitter.get(node.inputs[0], index)
                at = emitter.size(position)
                for name, text in _updates(node, state[node], value, at):
                    emitter.statement(f"{name} = {text}")
            for node in [n for n in rows if (n, index, "") in emitter.memo]:
                element = f"{rows.pop(node)}[{emitter.size(position)}]"
                emitter.statement(f"{element} = {emitter.get(node, index)}")
                emitter.kept[node, index] = element, position
                emitter.levels[element] = emitter.level
            self._close(emitter, opened)
            for node in wave:
                result = node.op.final(state[node])  # type: ignore[attr-defined]
                emitter.known[node] = (row, result, emitter.level)
                emitter.levels[result] = emitter.level
        whole = [n for n in self.outputs if n.shape == self.domain.shape]
        for node in self.outputs:
            if node not in whole:
                emitter.store(node, row)
        if whole:
            opened = self._open_pass(emitter, kept, reduced, len(self.waves))
            for node in whole:
                emitter.store(node, index)
            self._close(emitter, opened)
        self._close(emitter, kept)

    def _open_pass(
        self, emitter: GroupEmitter, kept: list[LoopAxis], reduced: list[LoopAxis], number: int
    ) -> list[LoopAxis]:
        """The loops of a pass over a row; the second pass asks for what the next row needs.

        The first pass waits for memory, the second one computes with what it has found: asking
        meanwhile takes softmax of 4096 x 1024 from 1.9 to 1.5 ms on one core.
        """
        rows = self._rows_ahead(emitter, kept, reduced) if number == 1 else []
        if not rows:
            self._open(emitter, reduced, outermost=False)
            return reduced
        (item,) = reduced
        name, size = _name(item.variable), emitter.writer.size(item.extent)
        emitter.open_loop("q", "0", size, str(AHEAD))
        emitter.open_loop("p", "q", f"q + {AHEAD}", str(AHEAD_LINE))
        place = axis("p", item.extent)
        for access in rows:
            step = coefficient(access.offset, kept[-1].variable)
            near = access.offset + (place - item.variable)
            at = emitter.writer.size(near + step)  # type: ignore[operator]
            emitter.statement(f"prefetch({emitter.writer.buffer(access.node)}, {at})")
        emitter.close_loop()
        even = isinstance(item.extent, int) and item.extent % AHEAD == 0
        emitter.open_loop(name, "q", f"q + {AHEAD}" if even else f"min(q + {AHEAD}, {size})", "1")
        return [item, item]

    def _rows_ahead(
        self, emitter: GroupEmitter, kept: list[LoopAxis], reduced: list[LoopAxis]
    ) -> list[Access]:
        """Loads of the first pass that walk through rows of a large array."""
        if len(reduced) != 1 or not kept or typical(reduced[0].extent) < 2 * AHEAD:
            return []
        found: dict[Node, Access] = {}
        for access in emitter.loads:
            step = coefficient(access.offset, kept[-1].variable)
            along = coefficient(access.offset, reduced[0].variable) == 1
            if along and step not in (0, None) and typical(access.node.spec.size) >= AHEAD_SIZE:
                found.setdefault(access.node, access)
        return list(found.values())

    def _rows_to_keep(self, emitter: GroupEmitter) -> dict[Node, str]:
        """Arrays on the stack for costly values that several passes over a row need."""
        size = product(self.domain.shape[a] for a in self.domain.reduced)
        if not isinstance(size, int) or not 1 < size <= KEEP_ELEMENTS:
            return {}
        passes = [[node.inputs[0] for node in wave] for wave in self.waves]
        passes.append([n for n in self.outputs if n.shape == self.domain.shape])
        needed = [node for roots in passes for node in self._elements_of(roots)]
        costly = [
            n for n in self.nodes
            if n.op.cost >= KEEP_COST and n.shape == self.domain.shape and needed.count(n) > 1
        ]  # fmt: skip
        rows = {}
        for node in costly[:MOST_KEPT]:
            name = emitter.writer.fresh("row")
            slot = emitter.writer.counter
            rows[node] = emitter.define(name, f"stack({size}, {CAST[node.dtype]}, {slot})", 0)
        return rows

    def _elements_of(self, roots: Sequence[Node]) -> set[Node]:
        """Members that are computed element by element for some values."""
        members, found, pending = set(self.nodes), set(), list(roots)
        while pending:
            node = pending.pop()
            if node in members and node not in found and not isinstance(node.op, Reduction):
                found.add(node)
                pending += node.inputs
        return found

    def _position(self, index: tuple[Size, ...]) -> Size:
        """Flat position along the reduced axes."""
        position: Size = 0
        for a in self.domain.reduced:
            position = position * self.domain.shape[a] + index[a]
        return position

    def _start(self, emitter: GroupEmitter, node: Node) -> list[str]:
        """Running values of a reduction, initialised in the current loop."""
        names = []
        for _, initial in node.op.accumulators(node.inputs[0].dtype):  # type: ignore[attr-defined]
            name = emitter.writer.fresh("a")
            names.append(emitter.define(name, initial, emitter.level))
        return names

    def _emit_columns(
        self,
        emitter: GroupEmitter,
        index: tuple[Size, ...],
        kept: list[LoopAxis],
        reduced: list[LoopAxis],
    ) -> None:
        writer, column, outer = emitter.writer, kept[-1], kept[:-1]
        row = tuple(index[a] for a in self.domain.kept)
        position = self._position(index)
        name = _name(column.variable)
        arrays = {node: self._arrays(emitter, node) for node in self.reductions}
        self._open(emitter, outer, outermost=True)
        begin, end = ("0", writer.size(column.extent)) if outer else ("lo", "hi")
        emitter.open_loop("c0", begin, end, str(COLUMN_BLOCK))
        emitter.define("c1", f"min(c0 + {COLUMN_BLOCK}, {end})", emitter.level)
        for wave in self.waves:
            emitter.open_loop(name, "c0", "c1")
            for node in wave:
                initial = node.op.accumulators(node.inputs[0].dtype)  # type: ignore[attr-defined]
                for array, (_, text) in zip(arrays[node], initial, strict=True):
                    emitter.statement(f"{array}[{name} - c0] = {text}")
            emitter.close_loop()
            self._open(emitter, reduced, outermost=False)
            emitter.open_loop(name, "c0", "c1")
            self._place_results(emitter)
            for node in wave:
                value = emitter.get(node.inputs[0], index)
                at = emitter.size(position)
                running = [self._element(emitter, array, name) for array in arrays[node]]
                texts = node.op.update(running, value, at)  # type: ignore[attr-defined]
                for array, text in zip(arrays[node], texts, strict=True):
                    emitter.statement(f"{array}[{name} - c0] = {text}")
            emitter.close_loop()
            self._close(emitter, reduced)
            for node in wave:
                texts = [f"{array}[{name} - c0]" for array in arrays[node]]
                result = node.op.final(texts)  # type: ignore[attr-defined]
                emitter.known[node] = (row, result, emitter.level)
        emitter.open_loop(name, "c0", "c1")
        self._place_results(emitter)
        for node in self.outputs:
            emitter.store(node, row)
        emitter.close_loop()
        emitter.close_loop()
        self._close(emitter, outer)

    def _place_results(self, emitter: GroupEmitter) -> None:
        """Finished columns are elements of arrays: they belong to the column loop just opened."""
        for node, (row, text, _) in emitter.known.items():
            emitter.known[node] = (row, text, emitter.level)
            emitter.levels[text] = emitter.level

    def _arrays(self, emitter: GroupEmitter, node: Node) -> list[str]:
        names = []
        for dtype, _ in node.op.accumulators(node.inputs[0].dtype):  # type: ignore[attr-defined]
            name = emitter.writer.fresh("a")
            slot = emitter.writer.counter
            emitter.define(name, f"stack({COLUMN_BLOCK}, {CAST[dtype]}, {slot})", 0)
            names.append(name)
        return names

    def _element(self, emitter: GroupEmitter, array: str, name: str) -> str:
        return emitter.define(emitter.writer.fresh(), f"{array}[{name} - c0]", emitter.level)

    # ---- facts for the launch ----------------------------------------------------------------

    def _draft(
        self,
        emitter: GroupEmitter,
        kept: list[LoopAxis],
        reduced: list[LoopAxis],
        columns: bool,
    ) -> KernelDraft:
        work = sum(node.op.cost for node in self.nodes) + len(emitter.loads)
        parallel = kept[0] if kept else None
        inner = [a.extent for a in (*kept, *reduced) if a is not parallel]
        pairs = [] if self.reductions else emitter.in_place_pairs(self.wanted)
        # Threads that share a vectorised axis share whole vectors.
        vectors = parallel is not None and (not inner or (columns and len(kept) == 1))
        return emitter.writer.draft(
            group_name(self.nodes),
            parallel.extent if parallel else 1,
            product(inner) * work,
            grain=16 if vectors else 1,
            in_place=pairs,
        )


def _name(variable: Size) -> str:
    assert isinstance(variable, Dim)
    atom = variable.terms[0][0][0]
    assert isinstance(atom, Axis)
    return atom.name


def _updates(node: Node, state: list[str], value: str, position: str) -> list[tuple[str, str]]:
    """(name, new text) of the running values of a reduction."""
    texts = node.op.update(state, value, position)  # type: ignore[attr-defined]
    if len(texts) > 1:
        # All new values are made from the old ones.
        return (
            [(", ".join(state), ", ".join(texts))]
            if state[0].isidentifier()
            else list(zip(state, texts, strict=True))
        )
    return list(zip(state, texts, strict=True))


def _walk_together(outer: LoopAxis, inner: LoopAxis, touched: set[Size]) -> bool:
    for size in touched:
        far, near = coefficient(size, outer.variable), coefficient(size, inner.variable)
        if far is None or near is None or far != near * inner.extent:
            return False
    return True


def group_name(nodes: Sequence[Node], most: int = 6) -> str:
    """`multiply_add_tanh`: the ops that compute something, in order."""
    names = [node.op.name for node in nodes if not node.op.is_free] or [
        node.op.name for node in nodes
    ]
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1}_more"]
    return "_".join(names)
