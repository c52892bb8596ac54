"""Fused groups in, a Program out: order, buffers, in-place reuse, launches.

Order: topological; first what stays the same from call to call; kernels that overwrite a variable
come after all that read its old value and after all that may fail, so that a step which stops at a
bad index has changed nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from graphflow.compiler.codegen.epilogue import emit_template
from graphflow.compiler.codegen.loops import LoopNest
from graphflow.compiler.codegen.source import KernelDraft, NoteOf, Status
from graphflow.compiler.dims import Size
from graphflow.compiler.errors import VerificationError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.lifetimes import Lifetimes, Storage
from graphflow.compiler.op import describe
from graphflow.compiler.ops.control import Control
from graphflow.compiler.ordering import closure, topological
from graphflow.compiler.passes.fuse import FusedGraph, FusionGroup, fuse
from graphflow.compiler.passes.repeats import LOAD_COST
from graphflow.compiler.program import (
    STATUS,
    Argument,
    Branch,
    Buffer,
    Copy,
    Kernel,
    Launch,
    Loop,
    Note,
    Program,
    Step,
)
from graphflow.compiler.spec import TensorSpec
from graphflow.compiler.target import Target

IMPORTS = """\
from math import inf, nan

from graphflow.runtime.intrinsics import *
from graphflow.runtime.kernels.tiles import *
"""


def emit_group(group: FusionGroup, target: Target, wanted: Mapping[Node, Node]) -> KernelDraft:
    """The kernel of one group; `wanted` are the variables that its outputs should overwrite."""
    if group.template is not None:
        return emit_template(group.template, group.nodes, group.outputs, target, wanted)
    return LoopNest(group.nodes, group.outputs, wanted).build()


@dataclass(frozen=True)
class ControlDraft:
    """Stands among the drafts for an op with bodies: what it reads and the results it writes."""

    node: Node
    buffers: tuple[Node, ...]
    writes: tuple[Node, ...]
    in_place: tuple[tuple[Node, Node], ...] = ()


@dataclass(frozen=True)
class Origin:
    """The nodes behind a launch, for whoever computes them in another way and compares.

    Attributes:
        nodes: what it computes, in order.
        reads: the values that it takes from outside, and the buffer that holds each.
        writes: the nodes that it stores, and where.
    """

    nodes: tuple[Node, ...]
    reads: tuple[tuple[Node, int], ...]
    writes: tuple[tuple[Node, int], ...]


@dataclass
class Tables:
    """What a graph and the bodies inside it share: buffers, kernels, notes, constants."""

    target: Target
    storages: list[Storage] = field(default_factory=list)
    entries: dict[str, int] = field(default_factory=dict)
    kernels: list[Kernel] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    origins: dict[Launch, Origin] = field(default_factory=dict)
    constants: list[np.ndarray] = field(default_factory=list)
    holders: dict[Node, int] = field(default_factory=dict)
    status: int | None = None


class Scheduler:
    """Orders one fused graph: the Program's own, or a body's."""

    def __init__(self, fused: FusedGraph, tables: Tables):
        self.fused = fused
        self.graph = fused.graph
        self.tables = tables
        self.groups = fused.groups
        self.drafts = [self._draft(group) for group in self.groups]
        self.home = {node: k for k, draft in enumerate(self.drafts) for node in draft.writes}
        self.buffer_of: dict[Node, int] = {}
        #: groups that run only when a variable has changed, and what others read of them
        self.once: set[int] = set()
        self.kept: set[Node] = set()
        # A body may be scheduled more than once, each time into other buffers.
        self.notes: dict[Node, int] = {}

    def _draft(self, group: FusionGroup) -> KernelDraft | ControlDraft:
        node = group.template
        if node is None or not isinstance(node.op, Control):
            wanted = {value: variable for variable, value in self.graph.updates}
            return emit_group(group, self.tables.target, wanted)
        projections = tuple(n for n in self.graph.users[node] if n.op.is_projection)
        return ControlDraft(node, (*node.inputs, *projections), projections)

    def build(self, name: str) -> Program:
        """Order the groups, give every stored node a buffer, and write the launches."""
        for kind, nodes in (("input", self.graph.inputs), ("variable", self.graph.variables)):
            for slot, node in enumerate(nodes):
                self._new_buffer(node, Buffer(kind, node.spec, slot))  # type: ignore[arg-type]
        self._hold_constants()
        direct = self._updates_in_place()
        outputs = self._direct_outputs(direct)
        self._keep_results({*direct, *outputs})
        launches = self._run_groups(direct, outputs)
        once = len(self.once)
        steps = launches[:once] + self._copies_before() + launches[once:]
        steps += self._copies_after(direct)
        Lifetimes(self.tables.storages).walk(steps)
        return self._program(name, steps)

    def build_body(self, operands: Sequence[int], targets: Sequence[int]) -> list[Step]:
        """Steps of a body.

        Args:
            operands: buffers of the body's inputs.
            targets: buffers that get the outputs; one may be an operand (a carry).
        """
        self.buffer_of = dict(zip(self.graph.inputs, operands, strict=True))
        self._hold_constants()
        steps = self._run_groups({}, {})
        sources = [self.buffer_of[self.stored(node)] for node in self.graph.outputs]
        return steps + self._copy_all(list(zip(sources, targets, strict=True)))

    def _hold_constants(self) -> None:
        for node in self.graph.nodes:
            if node.op.name != "constant":
                continue
            holders, constants = self.tables.holders, self.tables.constants
            if node not in holders:
                holders[node] = self._new_buffer(
                    None, Buffer("constant", node.spec, len(constants))
                )
                constants.append(node.attrs["value"].array)
            self.buffer_of[node] = holders[node]

    def _run_groups(self, direct: dict[Node, Node], outputs: dict[Node, int]) -> list[Step]:
        order = self._order(direct)
        last_use = self._last_uses(order)
        steps: list[Step] = []
        for position, number in enumerate(order):
            draft = self.drafts[number]
            dying = {n for n in self._reads(number) if last_use[n] == position} - self._kept()
            for node in draft.writes:
                self._place(node, draft, dying, direct, outputs)
            if isinstance(draft, ControlDraft):
                steps += lower_control(self, draft.node, draft.writes)
            else:
                steps.append(self._launch(number, draft))
        return steps

    def _kept(self) -> set[Node]:
        """Nodes whose buffers are still wanted after the last group."""
        return {self.stored(node) for node in self.graph.roots}

    # ---- once --------------------------------------------------------------------------------

    def _keep_results(self, owned: set[Node]) -> None:
        """Find the groups that need not run in every call; not those that fill `owned` storage."""
        needs = self._dependencies()
        for number in topological(needs):
            draft, group = self.drafts[number], self.groups[number]
            same = isinstance(draft, KernelDraft) and self.fused.once.issuperset(group.nodes)
            worth = self._reads(number) or any(n.op.cost > LOAD_COST for n in group.nodes)
            if same and worth and needs[number] <= self.once and owned.isdisjoint(draft.writes):
                self.once.add(number)
        others = [k for k in range(len(self.groups)) if k not in self.once]
        read = self._kept().union(*map(self._reads, others))
        self.kept = {n for k in self.once for n in self.drafts[k].writes if n in read}

    # ---- order -------------------------------------------------------------------------------

    def stored(self, node: Node) -> Node:
        """The leaf or stored node in whose buffer `node` lies."""
        while node in self.fused.alias:
            node = self.fused.alias[node]
        return node

    def _reads(self, number: int) -> set[Node]:
        draft = self.drafts[number]
        return {self.stored(n) for n in draft.buffers if isinstance(n, Node)} - set(draft.writes)

    def _dependencies(self) -> list[set[int]]:
        return [
            {self.home[n] for n in self._reads(k) if n in self.home}
            for k in range(len(self.groups))
        ]

    def _updates_in_place(self) -> dict[Node, Node]:
        """Update values that their kernel may write straight into the variable."""
        needs = self._dependencies()
        following = closure(needs)
        failing = {k for k, g in enumerate(self.groups) if any(map(_may_fail, g.nodes))}
        values = [value for _, value in self.graph.updates]
        # What another update copies must still be there after the last kernel.
        copied = {self.stored(value) for value in values}
        direct: dict[Node, Node] = {}
        for variable, value in self.graph.updates:
            number = self.home.get(value)
            if number is None or values.count(value) > 1 or value.shape != variable.shape:
                continue
            if variable in copied:
                continue
            here = variable in self._reads(number)
            if here and self._in_place(self.drafts[number]).get(value) is not variable:
                continue
            readers = {k for k in range(len(self.groups)) if variable in self._reads(k)}
            after = following[number]
            if after & readers or after & failing or (number in failing):
                continue
            direct[value] = variable
        return self._without_deadlock(direct, needs)

    def _without_deadlock(
        self, direct: dict[Node, Node], needs: list[set[int]]
    ) -> dict[Node, Node]:
        """Drop in-place updates until 'readers before the writer' leaves an order."""
        while direct and len(topological(self._constrained(direct, needs))) < len(self.groups):
            direct = dict(list(direct.items())[:-1])
        return direct

    def _constrained(self, direct: dict[Node, Node], needs: list[set[int]]) -> list[set[int]]:
        constrained = [set(s) for s in needs]
        for value, variable in direct.items():
            writer = self.home[value]
            for k in range(len(self.groups)):
                if k != writer and variable in self._reads(k):
                    constrained[writer].add(k)
        return constrained

    def _order(self, direct: dict[Node, Node]) -> list[int]:
        writers = {self.home[value] for value in direct}
        constrained = self._constrained(direct, self._dependencies())
        order = topological(constrained, lambda k: (k not in self.once, k in writers))
        if len(order) < len(self.groups):
            raise VerificationError("after fuse: kernels need each other's results")
        return order

    def _last_uses(self, order: list[int]) -> dict[Node, int]:
        """Position in `order` of the last group that reads each stored node."""
        return {node: at for at, number in enumerate(order) for node in self._reads(number)}

    # ---- buffers -----------------------------------------------------------------------------

    def _new_buffer(self, node: Node | None, buffer: Buffer) -> int:
        self.tables.storages.append(Storage(buffer))
        number = len(self.tables.storages) - 1
        if node is not None:
            self.buffer_of[node] = number
        return number

    def _direct_outputs(self, direct: dict[Node, Node]) -> dict[Node, int]:
        """Stored nodes whose buffer is an output's own array."""
        found: dict[Node, int] = {}
        for slot, node in enumerate(self.graph.outputs):
            base = self.stored(node)
            if base in self.home and base not in direct and base not in found:
                found[base] = slot
        return found

    def _output_buffer(self, slot: int) -> int:
        return self._new_buffer(None, Buffer("output", self.graph.outputs[slot].spec, slot))

    def _place(
        self,
        node: Node,
        draft: KernelDraft | ControlDraft,
        at_end: set[Node],
        direct: dict[Node, Node],
        outputs: dict[Node, int],
    ) -> None:
        """Choose the buffer of a node that the current kernel stores."""
        if node in direct:
            self.buffer_of[node] = self.buffer_of[direct[node]]
            return
        if node in outputs:
            spec = self.graph.outputs[outputs[node]].spec
            self._new_buffer(node, Buffer("output", spec, outputs[node]))
            return
        base = self._in_place(draft).get(node)
        # Only what a kernel of this graph made: an operand of a body belongs to others.
        if base in at_end and base in self.home:
            number = self.buffer_of[base]
            kind = self.tables.storages[number].buffer.kind
            if kind == "temp" and node not in self.kept and base.spec.nbytes == node.spec.nbytes:
                self.buffer_of[node] = number
                return
        self._new_buffer(node, Buffer("kept" if node in self.kept else "temp", node.spec))

    def _in_place(self, draft: KernelDraft | ControlDraft) -> dict[Node, Node]:
        """What each result may lie in place of: a value that the kernel reads as one buffer only.

        A template may read a reshape of the value elsewhere, in an order of its own.
        """
        read = [self.stored(n) for n in draft.buffers if isinstance(n, Node)]
        pairs = ((out, self.stored(source)) for out, source in draft.in_place)
        return {out: base for out, base in pairs if read.count(base) == 1}

    # ---- steps -------------------------------------------------------------------------------

    def _launch(self, number: int, draft: KernelDraft) -> Launch:
        group = self.groups[number]
        ids = []
        for entry in draft.buffers:
            if isinstance(entry, Status):
                if self.tables.status is None:
                    self.tables.status = self._new_buffer(None, Buffer("status", STATUS))
                ids.append(self.tables.status)
            else:
                ids.append(self.buffer_of[self.stored(entry)])
        dims: list[Size] = [
            self._note(d.node) + 1 if isinstance(d, NoteOf) else d for d in draft.dims
        ]
        launch = Launch(
            kernel=self._kernel(group, draft),
            buffers=tuple(ids),
            dims=tuple(dims),
            extent=draft.extent,
            cost=draft.cost,
            grain=draft.grain,
            parallel=draft.parallel,
            can_fail=any(isinstance(entry, Status) for entry in draft.buffers),
            label=draft.name,
            nodes=tuple(self._note(n) for n in group.nodes),
        )
        self.tables.origins[launch] = self._origin(group, draft)
        return launch

    def _origin(self, group: FusionGroup, draft: KernelDraft) -> Origin:
        members = set(group.nodes)
        taken = dict.fromkeys(v for n in group.nodes for v in n.inputs if v not in members)
        return Origin(
            group.nodes,
            tuple((node, self.buffer_of[self.stored(node)]) for node in taken),
            tuple((node, self.buffer_of[node]) for node in draft.writes),
        )

    def _note(self, node: Node) -> int:
        """The number of a node's note; it is written when the node's buffer is known."""
        if node not in self.notes:
            self.notes[node] = len(self.tables.notes)
            buffer = self.buffer_of.get(self.stored(node))
            self.tables.notes.append(Note(node.label, node.source, buffer))
        return self.notes[node]

    def _kernel(self, group: FusionGroup, draft: KernelDraft) -> int:
        digest = hashlib.sha256(draft.body.encode()).hexdigest()[:8]
        entry = f"{draft.name}_{digest}"
        if entry not in self.tables.entries:
            self.tables.entries[entry] = len(self.tables.kernels)
            source = f"{IMPORTS}\n\n@kernel\ndef {entry}(buffers, dims, lo, hi):\n{draft.body}"
            kernel = Kernel(draft.name, source, _header(group, draft), entry)
            self.tables.kernels.append(kernel)
        return self.tables.entries[entry]

    def _copies_before(self) -> list[Step]:
        """Outputs that are leaves are copied first: a variable's old value is what was asked."""
        steps: list[Step] = []
        for slot, node in enumerate(self.graph.outputs):
            base = self.stored(node)
            if base not in self.home:
                steps.append(Copy(self.buffer_of[base], self._output_buffer(slot)))
        return steps

    def _copies_after(self, direct: dict[Node, Node]) -> list[Step]:
        """Second mentions of an output, then updates that could not be written in place."""
        steps: list[Step] = []
        direct_outputs = self._direct_outputs(direct)
        for slot, node in enumerate(self.graph.outputs):
            base = self.stored(node)
            if base in self.home and direct_outputs.get(base) != slot:
                steps.append(Copy(self.buffer_of[base], self._output_buffer(slot)))
        pairs = [
            (self.buffer_of[self.stored(value)], self.buffer_of[target])
            for target, value in self.graph.updates
            if value not in direct
        ]
        return steps + self._copy_all(pairs)

    def _copy_all(self, pairs: Sequence[tuple[int, int]]) -> list[Step]:
        """Copy (source, target) buffers as if all at once."""
        targets = {target for source, target in pairs if source != target}
        first: list[Step] = []
        then: list[Step] = []
        for source, target in pairs:
            if source == target:
                continue
            if source in targets:
                # Another copy would overwrite the source before it is read.
                spec = self.tables.storages[source].buffer.spec
                temp = self._new_buffer(None, Buffer("temp", spec))
                first.append(Copy(source, temp))
                source = temp
            then.append(Copy(source, target))
        return first + then

    # ---- the result --------------------------------------------------------------------------

    def _program(self, name: str, steps: list[Step]) -> Program:
        buffers = tuple(
            replace(s.buffer, lifetime=(s.first, s.last))
            if s.buffer.kind == "temp" and s.first is not None and s.last is not None
            else s.buffer
            for s in self.tables.storages
        )
        flops, traffic = _work(steps, buffers)
        variables = self.graph.variables
        return Program(
            name=name,
            inputs=tuple(_argument(n) for n in self.graph.inputs),
            variables=tuple(_argument(n) for n in variables),
            written=frozenset(variables.index(target) for target, _ in self.graph.updates),
            constants=tuple(self.tables.constants),
            outputs=tuple(n.spec for n in self.graph.outputs),
            buffers=buffers,
            kernels=tuple(self.tables.kernels),
            steps=tuple(steps),
            notes=tuple(self.tables.notes),
            flops=flops,
            traffic=traffic,
            once=len(self.once),
        )


def _argument(node: Node) -> Argument:
    return Argument(node.name or f"{node.op.name}{node.serial}", node.spec, node.source)


def _header(group: FusionGroup, draft: KernelDraft) -> str:
    """What the kernel computes, as comment lines; user text is reduced to safe characters."""
    lines = [f"# {draft.name}"]
    for node in group.nodes:
        stored = " -> buffer" if node in group.outputs else ""
        inputs = ", ".join(describe(i) for i in node.inputs)
        lines.append(_safe(f"#   {node.label}({inputs}) : {node.spec} [{node.source}]{stored}"))
    extent = f"#   launch: {draft.extent} iterations, {draft.cost} operations each"
    lines.append(_safe(extent + ("" if draft.parallel else ", not shared by threads")))
    return "\n".join(lines) + "\n"


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() and ord(c) < 127 else "?" for c in text)


def _may_fail(node: Node) -> bool:
    bodies = (value for value in node.attrs.values() if isinstance(value, Graph))
    return node.op.can_fail or any(_may_fail(n) for body in bodies for n in body.nodes)


def _work(steps: Sequence[Step], buffers: Sequence[Buffer]) -> tuple[Size, Size]:
    """Element operations and bytes of one run; of a branch, those of both sides."""
    flops: Size = 0
    traffic: Size = 0
    for step in steps:
        if isinstance(step, Launch):
            flops = flops + step.extent * step.cost
            for number in step.buffers:
                traffic = traffic + buffers[number].spec.nbytes
        elif isinstance(step, Loop):
            inner = _work(step.body, buffers)
            flops, traffic = flops + step.count * inner[0], traffic + step.count * inner[1]
        elif isinstance(step, Branch):
            for side in (step.then, step.otherwise):
                inner = _work(side, buffers)
                flops, traffic = flops + inner[0], traffic + inner[1]
    return flops, traffic


def lower_control(outer: Scheduler, node: Node, projections: Sequence[Node]) -> list[Step]:
    """Steps of an op with bodies; its results lie in the buffers of the projections."""
    targets: list[int] = []
    for index, spec in enumerate(node.spec):
        found = [p for p in projections if p.attrs["index"] == index]
        if found:
            targets.append(outer.buffer_of[found[0]])
        else:
            targets.append(outer._new_buffer(None, Buffer("temp", spec)))
    operands = [outer.buffer_of[outer.stored(value)] for value in node.inputs]
    steps = node.op.lower(_Bodies(outer), node, operands, targets)  # type: ignore[attr-defined]
    for projection in projections:
        mine = outer.buffer_of[projection]
        if mine != targets[projection.attrs["index"]]:
            steps.append(Copy(targets[projection.attrs["index"]], mine))
    return steps


class _Bodies:
    """What `Control.lower` may ask of the scheduler."""

    def __init__(self, outer: Scheduler):
        self.outer = outer

    def temp(self, spec: TensorSpec) -> int:
        """A new buffer in the arena."""
        return self.outer._new_buffer(None, Buffer("temp", spec))

    def row(self, spec: TensorSpec, base: int) -> int:
        """A buffer without storage, to be pointed at rows of `base` by a loop."""
        return self.outer._new_buffer(None, Buffer("temp", spec, alias=base))

    def steps(self, body: Graph, operands: Sequence[int], targets: Sequence[int]) -> list[Step]:
        """The body as steps; see Scheduler.build_body."""
        inner = Scheduler(fuse(body, self.outer.fused.enabled, once=False), self.outer.tables)
        return inner.build_body(operands, targets)


def schedule(
    fused: FusedGraph, name: str, target: Target
) -> tuple[Program, Mapping[Launch, Origin]]:
    """The Program of a fused graph for a machine, and what stands behind its launches."""
    tables = Tables(target)
    return Scheduler(fused, tables).build(name), tables.origins
