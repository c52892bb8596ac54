"""Partition a graph into groups, one kernel each.

    %2 = matmul(%0, %1)                    group 0: %2 with epilogue %3, %4
    %3 = add(%2, %b)               ->      group 1: %5
    %4 = relu(%3)
    %5 = sum(%4)

Nodes are visited from the outputs backwards; each joins the group of its readers where one kernel
can hold them, and starts a group of its own otherwise. Index maps (`Op.is_free`) are repeated in
every group that reads through them. A group is legal if no path leaves it and comes back, and if
the code generator can write it as one kernel, which is asked by building it.

Not all that one kernel can hold belongs there: a costly value of few elements that a wider kernel
would compute again for each of its own elements (see `repeats`), and what stays the same from call
to call (see `once`), get a group of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from graphflow.compiler.codegen.emitter import NotFusible
from graphflow.compiler.codegen.epilogue import check_epilogue
from graphflow.compiler.codegen.loops import LoopNest, domain_of
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.once import once_nodes
from graphflow.compiler.op import Map, Reduction, Template
from graphflow.compiler.passes.repeats import Repeats

#: more nodes than this in one kernel cost compile time and registers
MOST_NODES = 128


@dataclass(frozen=True)
class FusionGroup:
    """Nodes that one kernel computes.

    Attributes:
        nodes: members in topological order (index maps may be members of several groups).
        outputs: members that are stored.
        template: the member with a kernel of its own, if there is one.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]
    template: Node | None = None


@dataclass(frozen=True)
class FusedGraph:
    """A graph and its groups, in an order in which they can run.

    Attributes:
        alias: `alias[node]` is the stored node (or leaf) whose buffer `node` is a reshape of.
        once: nodes that need not be computed in every call.
    """

    graph: Graph
    groups: tuple[FusionGroup, ...]
    alias: dict[Node, Node]
    enabled: bool = True
    once: frozenset[Node] = frozenset()


def fuse(graph: Graph, enabled: bool = True, once: bool = True) -> FusedGraph:
    """Partition `graph`.

    Args:
        enabled: with False, every node that computes gets its own kernel.
        once: keep what depends on weights alone apart; with False, as in the body of a loop, that
            would gain nothing.
    """
    return _Fuser(graph, enabled, once_nodes(graph) if once else frozenset()).run()


class _Fuser:
    def __init__(self, graph: Graph, enabled: bool, once: frozenset[Node]):
        self.graph = graph
        self.enabled = enabled
        self.once = once
        self.position = {node: k for k, node in enumerate(graph.nodes)}
        self.members: dict[int, set[Node]] = {}
        self.template: dict[int, Node] = {}
        #: groups that compute a node; index maps may have several
        self.homes: dict[Node, set[int]] = {node: set() for node in graph.nodes}
        self.alias: dict[Node, Node] = {}
        #: the group that stores an index map
        self.storage: dict[Node, int] = {}
        self.numbers = itertools.count()
        #: an order in which the groups can run
        self.rank: dict[int, int] = {}
        self.required = self._required()
        self.repeats = Repeats(graph)

    def _required(self) -> set[Node]:
        """Nodes that must lie in a buffer: results, and what templates read."""
        required = set(self.graph.roots)
        for node in self.graph.nodes:
            if not node.op.is_leaf and not isinstance(node.op, (Map, Reduction)):
                required.update(node.inputs)
        for node in reversed(self.graph.nodes):
            if node in required and node.op.name == "reshape":
                required.update(node.inputs)
        return required

    def run(self) -> FusedGraph:
        for node in reversed(self.graph.nodes):
            if not node.op.is_leaf and not node.op.is_projection:
                self._place(node)
        groups = []
        for number in sorted(self.members, key=self.rank.__getitem__):
            nodes = tuple(sorted(self.members[number], key=self.position.__getitem__))
            outputs = tuple(n for n in nodes if self._is_stored(n, (number,)))
            groups.append(FusionGroup(nodes, outputs, self.template.get(number)))
        return FusedGraph(self.graph, tuple(groups), self.alias, self.enabled, self.once)

    # ---- placing one node --------------------------------------------------------------------

    def _place(self, node: Node) -> None:
        readers = self._reading_groups([node])
        if node.op.is_free:
            for number in readers:
                self.members[number].add(node)
            self.homes[node] = set(readers)
            if node in self.required:
                if node.op.name == "reshape":
                    self.alias[node] = node.inputs[0]
                else:
                    self._start(node)
            return
        if self.enabled and not isinstance(node.spec, tuple):
            readers = self._wanted_readers(node, readers)
            if readers and self._join(node, readers):
                return
            if len(readers) > 1 and (node not in self.once or self._is_once(readers)):
                for number in sorted(readers, key=self._first_position):
                    if self._join(node, {number}):
                        return
        self._start(node)

    def _wanted_readers(self, node: Node, readers: set[int]) -> set[int]:
        """The groups that may compute the node for themselves; the others read it from a buffer."""
        if node in self.once and not self._is_once(readers):
            always = {k for k in readers if not self._is_once({k})}
            # Stored by a group that runs in every call, it would no longer be computed once.
            if self._is_stored(node, always) or any(self._costs(node, k) for k in always):
                return readers - always
        return {k for k in readers if not self._costs(node, k)}

    def _is_once(self, numbers: Iterable[int]) -> bool:
        """Whether all that these groups compute stays the same from call to call."""
        return all(self.once.issuperset(self.members[number]) for number in numbers)

    def _costs(self, node: Node, number: int) -> bool:
        """Whether computing the node in a group costs more than storing it before."""
        anew = node in self.once and not self._is_once({number})
        return self.repeats.are_costly(node, self.members[number], self.template.get(number), anew)

    def _start(self, node: Node) -> None:
        """A group of its own for the node, which it stores."""
        number = next(self.numbers)
        self.members[number] = {node}
        self.homes[node].add(number)
        self.rank[number] = min(self.rank.values(), default=0) - 1
        if node.op.is_free:
            self.storage[node] = number
        if not isinstance(node.op, (Map, Reduction)):
            self.template[number] = node

    def _first_position(self, number: int) -> int:
        return min(self.position[node] for node in self.members[number])

    def _reading_groups(self, nodes: Iterable[Node]) -> set[int]:
        """Groups that compute with the values of `nodes` element by element."""
        found: set[int] = set()
        for node in nodes:
            for user in self.graph.users[node]:
                if isinstance(user.op, (Map, Reduction)):
                    found |= self.homes[user]
        return found

    def _join(self, node: Node, numbers: set[int]) -> bool:
        """Merge the groups and put the node in front of them, if one kernel can hold all."""
        members = set().union(*(self.members[n] for n in numbers)) | {node}
        templates = [self.template[n] for n in numbers if n in self.template]
        if isinstance(node.op, Template):
            templates.append(node)
        if len(members) > MOST_NODES or len(templates) > 1:
            return False
        template = templates[0] if templates else None
        if template is not None and not getattr(template.op, "takes_epilogue", False):
            return False
        if template is not None and self._is_fed_by(template, members, numbers):
            return False
        if not isinstance(node.op, (Map, Reduction, Template)):
            return False
        if len(numbers) > 1 and not self._may_merge(numbers):
            return False
        between = self._between(node, numbers)
        if any(self._successors([n]) & numbers for n in between):
            # A path would leave the group and come back.
            return False
        if not self._fits(node, members, numbers, template):
            return False
        kept, *others = sorted(numbers)
        for number in others:
            for member in self.members.pop(number):
                self.homes[member].discard(number)
                self.homes[member].add(kept)
            self.template.pop(number, None)
            for stored, home in self.storage.items():
                if home == number:
                    self.storage[stored] = kept
        self.members[kept] = members
        self.homes[node].add(kept)
        self._rank_merged(kept, numbers, between)
        if template is not None:
            self.template[kept] = template
        return True

    def _may_merge(self, numbers: set[int]) -> bool:
        """Whether no group would repeat, or do in every call, what another one of them stores."""
        if len({self._is_once({number}) for number in numbers}) > 1:
            return False
        for number in numbers:
            for node in self._computed(number):
                others = self._readers([node]) & numbers - {number}
                if any(self._costs(node, other) for other in others):
                    return False
        return True

    def _is_fed_by(self, template: Node, members: set[Node], numbers: set[int]) -> bool:
        """Whether the template reads what the group would compute behind it."""
        stack = list(template.inputs)
        while stack:
            value = stack.pop()
            if value in members and (not value.op.is_free or self.storage.get(value) in numbers):
                return True
            if value in self.alias:
                stack.append(self.alias[value])
        return False

    def _fits(
        self, node: Node, members: set[Node], numbers: set[int], template: Node | None
    ) -> bool:
        """Whether one kernel can hold the members; a map in front of one group needs no trial."""
        nodes = sorted(members, key=self.position.__getitem__)
        outputs = [n for n in nodes if self._is_stored(n, numbers)]
        try:
            if template is not None:
                if any(isinstance(n.op, Reduction) for n in nodes):
                    return False
                check_epilogue(template, nodes, outputs)
            elif isinstance(node.op, Reduction) or (
                len(numbers) > 1 and any(isinstance(n.op, Reduction) for n in nodes)
            ):
                LoopNest(nodes, outputs).build()
            else:
                domain_of(nodes, outputs)
        except NotFusible:
            return False
        return True

    def _is_stored(self, node: Node, numbers: Collection[int]) -> bool:
        """Whether a member of these groups, seen as one, is written to a buffer by them."""
        if node.op.is_free:
            return self.storage.get(node) in numbers
        if node in self.required:
            return True
        return any(not self.homes[user] <= set(numbers) for user in self.graph.users[node])

    # ---- paths -------------------------------------------------------------------------------

    def _between(self, node: Node, numbers: set[int]) -> set[int]:
        """Groups that need the future group and run before the last of its parts as of now."""
        last = max(self.rank[number] for number in numbers)
        stack = [*self._successors(numbers), *self._readers([node])]
        found: set[int] = set()
        while stack:
            number = stack.pop()
            if number in numbers or number in found or self.rank[number] > last:
                continue
            found.add(number)
            stack += self._successors([number])
        return found

    def _rank_merged(self, kept: int, numbers: set[int], later: set[int]) -> None:
        """The merged group takes the last place of its parts; what reads it goes behind."""
        place = max(self.rank[number] for number in numbers)
        for number in numbers:
            del self.rank[number]
        self.rank[kept] = place
        if later:
            order = sorted(self.rank, key=self.rank.__getitem__)
            moved = [number for number in order if number in later]
            order = [number for number in order if number not in later]
            at = order.index(kept) + 1
            order[at:at] = moved
            self.rank = {number: k - len(order) for k, number in enumerate(order)}

    def _successors(self, numbers: Iterable[int]) -> set[int]:
        """Other groups that read what these groups store."""
        return set().union(*(self._readers(self._computed(k)) - {k} for k in numbers))

    def _computed(self, number: int) -> list[Node]:
        """Members that others wait for; an index map that is repeated in each group is not one."""
        members = self.members[number]
        return [n for n in members if not n.op.is_free or self.storage.get(n) == number]

    def _readers(self, nodes: Iterable[Node]) -> set[int]:
        """Groups that read any of `nodes`, also through stored reshapes."""
        found: set[int] = set()
        stack = list(nodes)
        while stack:
            for user in self.graph.users[stack.pop()]:
                found |= self.homes[user]
                if user in self.alias or user.op.is_projection:
                    stack.append(user)
        return found
