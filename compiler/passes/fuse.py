"""Partition a graph into groups, one kernel each.

    %2 = matmul(%0, %1)                    group 0: %2 with epilogue %3, %4
    %3 = add(%2, %b)               ->      group 1: %5
    %4 = relu(%3)
    %5 = sum(%4)

Nodes are visited from the outputs backwards; each joins the group of its readers where one kernel
can hold them, and starts a group of its own otherwise. Index maps (`Op.is_free`) are repeated in
every group that reads through them. A group is legal if no path leaves it and comes back, and if
the code generator can write it as one kernel, which is asked by building it. Two things are kept
apart although one kernel could hold them: what depends on variables alone, which is computed once
and not in every call, and values that a kernel would compute again for each of many elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from graphflow.compiler.codegen.emitter import NotFusible
from graphflow.compiler.codegen.epilogue import check_epilogue
from graphflow.compiler.codegen.loops import LoopNest, domain_of
from graphflow.compiler.dims import typical
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.once import once_nodes
from graphflow.compiler.op import Elementwise, Map, Reduction, Template

#: a kernel of so many elements does not compute others, of which there are so much fewer, itself
FEWEST_REPEATED, MOST_REPEATS = 64 * 1024, 4
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

    `alias[node]` is the stored node (or leaf) whose buffer `node` is a reshape of. The groups of
    `static` nodes are computed once, while no variable changes.
    """

    graph: Graph
    groups: tuple[FusionGroup, ...]
    alias: dict[Node, Node]
    enabled: bool = True
    static: frozenset[Node] = frozenset()


def fuse(graph: Graph, enabled: bool = True) -> FusedGraph:
    """Partition `graph`; with `enabled` False every node that computes gets its own kernel."""
    return _Fuser(graph, enabled).run()


class _Fuser:
    def __init__(self, graph: Graph, enabled: bool):
        self.graph = graph
        self.enabled = enabled
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
        self.static = _static_nodes(graph)
        self.required = self._required()

    def _required(self) -> set[Node]:
        """Nodes that must lie in a buffer: results, and what templates read."""
        required = set(self.graph.roots)
        for node in self.graph.nodes:
            if not node.op.is_leaf and not isinstance(node.op, (Map, Reduction)):
                required.update(node.inputs)
        for node in self.graph.nodes:
            if node not in self.static and not node.op.is_free:
                required.update(n for n in map(_behind_moves, node.inputs) if n in self.static)
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
        return FusedGraph(self.graph, tuple(groups), self.alias, self.enabled, self.static)

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
        if self.enabled and readers and not isinstance(node.spec, tuple):
            if self._join(node, readers):
                return
            if len(readers) > 1:
                for number in sorted(readers, key=self._first_position):
                    if self._join(node, {number}):
                        return
        self._start(node)

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
        if any(n in self.static for n in members if not n.op.is_free) and any(
            n not in self.static for n in members if not n.op.is_free
        ):
            return False
        if self._is_repeated(node, members):
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

    def _is_repeated(self, node: Node, members: set[Node]) -> bool:
        """Whether one kernel would compute the node's elements again for each of many others.

        Values of whole rows are not repeated: the loop over the row lies inside.
        """
        if not isinstance(node.op, Elementwise):
            return False
        most = max(typical(n.spec.size) for n in members)
        if most < FEWEST_REPEATED or typical(node.spec.size) * MOST_REPEATS > most:
            return False
        return self._varies_along_rows(node, members)

    def _varies_along_rows(self, node: Node, members: set[Node]) -> bool:
        """Whether a member that computes reads the node with more than one element in a row."""
        pending = [node]
        while pending:
            value = pending.pop()
            if not value.shape or value.shape[-1] == 1:
                continue
            for user in self.graph.users[value]:
                if user.op.is_free:
                    pending.append(user)
                elif user in members:
                    return True
        return False

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


def _static_nodes(graph: Graph) -> frozenset[Node]:
    """Nodes to be computed once; not results of the graph, which each call makes anew."""
    if not graph.variables:
        return frozenset()
    results = set(graph.roots)
    for node in reversed(graph.nodes):
        if node in results and node.op.name == "reshape":
            results.update(node.inputs)
    once, depends = once_nodes(graph), set(graph.variables)
    found: set[Node] = set()
    for node in graph.nodes:
        inner = (n for n in node.inputs if not n.op.is_leaf)
        if node in once and node not in results and not node.op.is_leaf and found.issuperset(inner):
            found.add(node)
            if not depends.isdisjoint(node.inputs):
                depends.add(node)
    # What depends on constants alone goes where it is needed.
    wanted = found & depends
    for node in reversed(graph.nodes):
        if node in wanted:
            wanted.update(n for n in node.inputs if not n.op.is_leaf)
    return frozenset(wanted)


def _behind_moves(node: Node) -> Node:
    """What an index map of one value reads."""
    while node.op.is_free and len(node.inputs) == 1:
        (node,) = node.inputs
    return node
