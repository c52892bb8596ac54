"""A value and a kernel that could compute it in, whether that would repeat too much work out.

    %1 = rsqrt(%variance) : float32(64)             64 times in a kernel of its own,
    %2 = multiply(%x, %1) : float32(n, 64)          n x 64 times in that of %2

In the loops of a kernel a value is computed outside those whose axes it does not have, so a value
per row costs nothing more than in a kernel of its own; one per column is computed for every row.
"""

from __future__ import annotations

from collections.abc import Collection

from graphflow.compiler.codegen.loops import Domain
from graphflow.compiler.dims import Size, product, typical
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import Elementwise, Map, Reduction

#: element operations that pay for a launch and for a value that goes through memory
WORTH = 8192
#: one element is loaded in about the time of so many additions
LOAD_COST = 4
#: a value is computed at least so many times as often as it has elements
FEWEST_REPEATS = 4


class Repeats:
    """Answers for the nodes of one graph."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._chains: dict[Node, tuple[int, int, bool, bool]] = {}

    def are_costly(
        self, node: Node, members: Collection[Node], template: Node | None, anew: bool
    ) -> bool:
        """Whether the members of a group that read the node should find it stored.

        Args:
            anew: the value stays the same from call to call, so all of its work is repeated.
        """
        if not isinstance(node.op, Map):
            # Kernels hold a reduction or a product only where they need it once.
            return anew
        if not node.shape or not (anew or isinstance(node.op, Elementwise)):
            # What only moves values (a padding) is done where they are read.
            return False
        cost = self._cost(node, anew)
        if not cost:
            return False
        times = self._times(node, members, template)
        if anew:
            return cost * times * typical(node.spec.size) >= WORTH
        return times >= FEWEST_REPEATS and cost * (times - 1) * typical(node.spec.size) >= WORTH

    def _cost(self, node: Node, anew: bool) -> int:
        """What is saved for one element where it is loaded; 0 if the load costs as much."""
        if node not in self._chains:
            self._chains[node] = self._chain(node)
        work, loads, widens, behind = self._chains[node]
        if work >= LOAD_COST or behind:
            return work
        # A sum of two weights is not worth a launch in every call; once it is.
        return work + loads - 1 if anew and loads > 1 and not widens else 0

    def _chain(self, node: Node) -> tuple[int, int, bool, bool]:
        """Of the values of its size that a node is made of: operations for one element, loads,
        whether all that is loaded is smaller, and whether a product or a reduction stores one, which
        can store the node in its place.
        """
        size = typical(node.spec.size)
        found, pending, work, loads, widens, behind = {node}, [node], 0, 0, True, False
        while pending:
            value = pending.pop()
            work += value.op.cost
            for x in value.inputs:
                if x in found:
                    continue
                found.add(x)
                whole = 2 * typical(x.spec.size) > size
                if isinstance(x.op, Map) and (whole or x.op.is_free):
                    pending.append(x)
                else:
                    loads, widens = loads + 1, widens and not whole
                    behind |= whole and not x.op.is_leaf and not x.op.is_projection
        return work, loads, widens, behind

    def _times(self, node: Node, members: Collection[Node], template: Node | None) -> float:
        """How often a group would compute an element of the node."""
        domain = _domain(members, template)
        most, pending, seen = 1.0, [(node, 1.0)], {node}
        while pending:
            value, times = pending.pop()
            have = max(typical(value.spec.size), 1)
            for user in self.graph.users[value]:
                if user not in members or user in seen or not isinstance(user.op, Map):
                    continue
                seen.add(user)
                grows = typical(user.spec.size) > have
                more = _visits(value.shape, user.shape, domain, template) / have if grows else 1
                most = max(most, times * more)
                # What computes larger values holds this one meanwhile.
                if not (grows and isinstance(user.op, Elementwise)):
                    pending.append((user, times * more))
        return most


def _domain(members: Collection[Node], template: Node | None) -> Domain:
    if template is not None:
        return Domain(template.shape)
    reductions = [node for node in members if isinstance(node.op, Reduction)]
    if reductions:
        return Domain(reductions[0].inputs[0].shape, reductions[0].attrs["axes"])
    widest = max(members, key=lambda node: typical(node.spec.size))
    return Domain(widest.shape)


def _visits(
    shape: tuple[Size, ...], wide: tuple[Size, ...], domain: Domain, template: Node | None
) -> int:
    """How often loops over `wide` compute a value of `shape`."""
    if template is not None:
        # A template hands over its elements one by one.
        return typical(product(wide))
    order = [*range(len(wide))]
    if wide == domain.shape and domain.reduced and domain.kept:
        columns = domain.kept[-1] > domain.reduced[-1]
        order = order if columns else [*domain.kept, *domain.reduced]
    missing = len(wide) - len(shape)
    sizes = [1] * missing + list(shape)
    varying = [k for k, axis in enumerate(order) if missing >= 0 and sizes[axis] != 1]
    last = max(varying, default=-1)
    return typical(product(wide[axis] for axis in order[: last + 1]))
