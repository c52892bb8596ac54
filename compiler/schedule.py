"""Fused groups in, a Program out: order, buffers, in-place reuse, launches.

Order: topological; kernels that overwrite a variable come after all that read its old value and
after all that may fail, so that a step which stops at a bad index has changed nothing.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from graphflow.compiler.codegen.epilogue import emit_template
from graphflow.compiler.codegen.loops import LoopNest
from graphflow.compiler.codegen.source import KernelDraft, NoteOf, Status
from graphflow.compiler.dims import Size
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import Map, Reduction, describe
from graphflow.compiler.passes.fuse import FusedGraph, FusionGroup
from graphflow.compiler.program import (
    Argument,
    Buffer,
    Copy,
    Kernel,
    Launch,
    Note,
    Program,
    Step,
)
from graphflow.compiler.spec import TensorSpec

IMPORTS = """\
from math import inf, nan

from graphflow.runtime.intrinsics import *
from graphflow.runtime.kernels.tiles import *
"""


def emit_group(group: FusionGroup) -> KernelDraft:
    """The kernel of one group."""
    if group.template is not None:
        return emit_template(group.template, group.nodes, group.outputs)
    return LoopNest(group.nodes, group.outputs).build()


@dataclass
class _Storage:
    """A buffer being planned."""

    buffer: Buffer
    first: int | None = None
    last: int | None = None


class Scheduler:
    """Builds the Program of one fused graph."""

    def __init__(self, fused: FusedGraph, name: str):
        self.fused = fused
        self.graph = fused.graph
        self.name = name
        self.groups = fused.groups
        self.drafts = [emit_group(group) for group in self.groups]
        self.home = {node: k for k, group in enumerate(self.groups) for node in group.outputs}
        self.storages: list[_Storage] = []
        self.buffer_of: dict[Node, int] = {}
        self.kernels: dict[str, int] = {}
        self.kernel_list: list[Kernel] = []
        self.notes: dict[Node, int] = {}
        self.status: int | None = None

    def build(self) -> Program:
        """Order the groups, give every stored node a buffer, and write the launches."""
        for kind, nodes in (("input", self.graph.inputs), ("variable", self.graph.variables)):
            for slot, node in enumerate(nodes):
                self._new_buffer(node, Buffer(kind, node.spec, slot))  # type: ignore[arg-type]
        constants = [n for n in self.graph.nodes if n.op.name == "constant"]
        for slot, node in enumerate(constants):
            self._new_buffer(node, Buffer("constant", node.spec, slot))
        direct = self._updates_in_place()
        order = self._order(direct)
        last_use = self._last_uses(order)
        direct_outputs = self._direct_outputs(direct)
        steps: list[Step] = list(self._copies_before())
        start = len(steps)
        for position, number in enumerate(order):
            steps.append(self._launch(number, start + position, last_use, direct, direct_outputs))
        steps += self._copies_after(direct, len(steps))
        self._lifetimes(steps)
        return self._program(steps, constants)

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
        following = _closure(needs)
        failing = {k for k, g in enumerate(self.groups) if any(n.op.can_fail for n in g.nodes)}
        values = [value for _, value in self.graph.updates]
        direct: dict[Node, Node] = {}
        for variable, value in self.graph.updates:
            number = self.home.get(value)
            if number is None or values.count(value) > 1 or value.shape != variable.shape:
                continue
            pairs = dict(self.drafts[number].in_place)
            here = variable in self._reads(number)
            if here and pairs.get(value) is not variable:
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
        while direct and len(self._topological(self._constrained(direct, needs), set())) < len(
            self.groups
        ):
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
        return self._topological(constrained, writers)

    def _topological(self, needs: list[set[int]], late: set[int]) -> list[int]:
        """Kahn's order; groups in `late` only when nothing else is ready."""
        missing = [len(s) for s in needs]
        users: list[list[int]] = [[] for _ in needs]
        for k, s in enumerate(needs):
            for d in s:
                users[d].append(k)
        ready = [(k in late, k) for k, count in enumerate(missing) if count == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            _, k = heapq.heappop(ready)
            order.append(k)
            for user in users[k]:
                missing[user] -= 1
                if missing[user] == 0:
                    heapq.heappush(ready, (user in late, user))
        return order

    def _last_uses(self, order: list[int]) -> dict[Node, int]:
        """Position in `order` of the last group that reads each stored node."""
        return {node: at for at, number in enumerate(order) for node in self._reads(number)}

    # ---- buffers -----------------------------------------------------------------------------

    def _new_buffer(self, node: Node | None, buffer: Buffer) -> int:
        self.storages.append(_Storage(buffer))
        number = len(self.storages) - 1
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
        draft: KernelDraft,
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
        for out, source in draft.in_place:
            base = self.stored(source)
            number = self.buffer_of[base]
            if out is node and base in at_end and self.storages[number].buffer.kind == "temp":
                if base.spec.nbytes == node.spec.nbytes:
                    self.buffer_of[node] = number
                    return
        self._new_buffer(node, Buffer("temp", node.spec))

    # ---- steps -------------------------------------------------------------------------------

    def _launch(
        self,
        number: int,
        step: int,
        last_use: dict[Node, int],
        direct: dict[Node, Node],
        outputs: dict[Node, int],
    ) -> Launch:
        group, draft = self.groups[number], self.drafts[number]
        kept = {self.stored(v) for _, v in self.graph.updates} | {
            self.stored(n) for n in self.graph.outputs
        }
        position = step - sum(isinstance(s, Copy) for s in self._before)
        dying = {n for n in self._reads(number) if last_use.get(n) == position} - kept
        for node in draft.writes:
            self._place(node, draft, dying, direct, outputs)
        ids = []
        for entry in draft.buffers:
            if isinstance(entry, Status):
                if self.status is None:
                    self.status = self._new_buffer(None, Buffer("status", _STATUS_SPEC))
                ids.append(self.status)
            else:
                ids.append(self.buffer_of[self.stored(entry)])
        dims: list[Size] = [
            self._note(d.node) + 1 if isinstance(d, NoteOf) else d for d in draft.dims
        ]
        return Launch(
            kernel=self._kernel(group, draft),
            buffers=tuple(ids),
            dims=tuple(dims),
            extent=draft.extent,
            cost=draft.cost,
            grain=draft.grain,
            parallel=draft.parallel,
            can_fail=any(n.op.can_fail for n in group.nodes),
            label=draft.name,
            nodes=tuple(self._note(n) for n in group.nodes),
        )

    def _note(self, node: Node) -> int:
        return self.notes.setdefault(node, len(self.notes))

    def _kernel(self, group: FusionGroup, draft: KernelDraft) -> int:
        digest = hashlib.sha256(draft.body.encode()).hexdigest()[:8]
        entry = f"{draft.name}_{digest}"
        if entry not in self.kernels:
            self.kernels[entry] = len(self.kernel_list)
            source = f"{IMPORTS}\n\n@kernel\ndef {entry}(buffers, dims, lo, hi):\n{draft.body}"
            self.kernel_list.append(Kernel(draft.name, source, _header(group, draft), entry))
        return self.kernels[entry]

    def _copies_before(self) -> list[Step]:
        """Outputs that are leaves are copied first: a variable's old value is what was asked."""
        self._before: list[Step] = []
        for slot, node in enumerate(self.graph.outputs):
            base = self.stored(node)
            if base not in self.home:
                self._before.append(Copy(self.buffer_of[base], self._output_buffer(slot)))
        return self._before

    def _copies_after(self, direct: dict[Node, Node], done: int) -> list[Step]:
        """Second mentions of an output, then updates that could not be written in place."""
        steps: list[Step] = []
        direct_outputs = self._direct_outputs(direct)
        for slot, node in enumerate(self.graph.outputs):
            base = self.stored(node)
            if base in self.home and direct_outputs.get(base) != slot:
                steps.append(Copy(self.buffer_of[base], self._output_buffer(slot)))
        late = [(t, self.stored(v)) for t, v in self.graph.updates if v not in direct]
        targets = {target for target, _ in self.graph.updates}
        sources = []
        for target, value in late:
            source = self.buffer_of[value]
            if value in targets and value is not target:
                # Another update may overwrite this variable first.
                temp = self._new_buffer(None, Buffer("temp", value.spec))
                steps.insert(0, Copy(source, temp))
                source = temp
            sources.append((source, self.buffer_of[target]))
        steps += [Copy(source, target) for source, target in sources if source != target]
        return steps

    # ---- the result --------------------------------------------------------------------------

    def _lifetimes(self, steps: list[Step]) -> None:
        for at, step in enumerate(steps):
            ids: Iterable[int] = (
                step.buffers if isinstance(step, Launch) else (step.source, step.target)  # type: ignore[union-attr]
            )
            for number in ids:
                storage = self.storages[number]
                storage.first = at if storage.first is None else storage.first
                storage.last = at

    def _program(self, steps: list[Step], constants: list[Node]) -> Program:
        buffers = tuple(
            replace(s.buffer, lifetime=(s.first, s.last))
            if s.buffer.kind == "temp" and s.first is not None and s.last is not None
            else s.buffer
            for s in self.storages
        )
        notes = tuple(
            Note(n.label, n.source, self.buffer_of.get(self.stored(n))) for n in self.notes
        )
        launches = [s for s in steps if isinstance(s, Launch)]
        traffic: Size = 0
        flops: Size = 0
        for launch in launches:
            flops = flops + launch.extent * launch.cost
            for number in launch.buffers:
                traffic = traffic + buffers[number].spec.nbytes
        arrays: list[np.ndarray] = [n.attrs["value"].array for n in constants]
        variables = self.graph.variables
        return Program(
            name=self.name,
            inputs=tuple(_argument(n) for n in self.graph.inputs),
            variables=tuple(_argument(n) for n in variables),
            written=frozenset(variables.index(target) for target, _ in self.graph.updates),
            constants=tuple(arrays),
            outputs=tuple(n.spec for n in self.graph.outputs),
            buffers=buffers,
            kernels=tuple(self.kernel_list),
            steps=tuple(steps),
            notes=notes,
            flops=flops,
            traffic=traffic,
        )


def _argument(node: Node) -> Argument:
    return Argument(node.name or f"{node.op.name}{node.serial}", node.spec, node.source)


def _closure(needs: list[set[int]]) -> list[set[int]]:
    """For each group all groups that come after it, directly or not."""
    following: list[set[int]] = [set() for _ in needs]
    for k in reversed(Scheduler._topological(None, needs, set())):  # type: ignore[arg-type]
        for d in needs[k]:
            following[d] |= {k} | following[k]
    return following


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


_STATUS_SPEC = TensorSpec("int64", (8,))


def schedule(fused: FusedGraph, name: str) -> Program:
    """The Program of a fused graph."""
    return Scheduler(fused, name).build()
