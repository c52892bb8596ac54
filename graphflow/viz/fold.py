"""Which nodes of a graph get a box of their own, and what becomes of the others.

Levels of detail:

- "full": a box for every node.
- "ops": scalars are written into the op that reads them, axes that are only added or repeated for
  broadcasting are left out, other index maps become small words on the wire, and a variable is
  drawn beside each place that reads it.
- "overview": as "ops", without index maps, but where a name scope holds nothing else, and with name
  scopes collapsed.
"""

from __future__ import annotations

from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.ops.movement import Movement
from graphflow.viz.op_text import scalar_text

DETAILS = ("overview", "ops", "full")


class Folding:
    """What is folded in one graph.

    Attributes:
        base: for each node the node whose value a reader of it is drawn to read.
        words: the op names that the small text of an index map stands for, first one first.
    """

    def __init__(self, graph: Graph, detail: str):
        self.graph = graph
        self.detail = detail
        self.roots = dict.fromkeys(graph.roots)
        self.base: dict[Node, Node] = {}
        self.words: dict[Node, list[str]] = {}
        self._absorbed: set[Node] = set()
        self._scalars: dict[Node, str] = {}
        #: the scopes in which more than index maps happen
        self._working_scopes = {
            node.scope
            for node in graph.nodes
            if not node.op.is_leaf and not isinstance(node.op, Movement)
        }
        for node in graph.nodes:
            text = None if detail == "full" else self._scalar_of(node)
            if text is not None:
                self._scalars[node] = text
            self.base[node] = self.base[node.inputs[0]] if self._is_left_out(node) else node
        if detail != "full":
            self._merge_movements()
        self._needed = self._reached_from_roots()

    def scalar(self, node: Node) -> str | None:
        """Text of a value that is written into its readers instead of being drawn."""
        return self._scalars.get(self.base[node])

    def _scalar_of(self, node: Node) -> str | None:
        """The number that a node is, or the size that it computes: `batch`, `4·height`."""
        text = scalar_text(node)
        if text is not None or node.op.name not in ("multiply", "cast"):
            return text
        factors = [self.base[value] for value in node.inputs]
        texts = [self._scalars.get(value) for value in factors]
        if all(value.op.name in ("full", "constant") for value in factors) or None in texts:
            # Numbers alone stay: the user wrote an op on them.
            return None
        return "·".join(text for text in texts if text not in (None, "1"))

    def boxed(self) -> list[Node]:
        """The nodes that are drawn as ops, in the order of the graph."""
        return [node for node in self.graph.nodes if self.has_box(node)]

    def has_box(self, node: Node) -> bool:
        """Whether the node is drawn as an op (leaves are drawn where they are read)."""
        return node in self._needed and not node.op.is_leaf

    def inputs(self, node: Node) -> list[Node]:
        """The nodes from which an edge leads to the box of `node`, each once."""
        while node.inputs and self.base[node.inputs[0]] in self._absorbed:
            node = self.base[node.inputs[0]]
        bases = dict.fromkeys(self.base[value] for value in node.inputs)
        return [value for value in bases if self.scalar(value) is None]

    def _reached_from_roots(self) -> set[Node]:
        """What the drawn edges lead to; the operands of a folded scalar are not."""
        needed: set[Node] = set()
        stack = [self.base[node] for node in self.roots]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack.extend(self.inputs(node))
        return needed

    def _is_left_out(self, node: Node) -> bool:
        if self.detail == "full" or not isinstance(node.op, Movement) or node in self.roots:
            return False
        if node in self._scalars:
            # A dim's value is a slice of an iota, which its readers need not see.
            return False
        if node.scope and node.scope not in self._working_scopes:
            # A layer that only reshapes is still a layer.
            return False
        return self.detail == "overview" or _only_repeats(node)

    def _merge_movements(self) -> None:
        """A chain of index maps becomes one text, if nothing else reads the values inside it."""
        readers: dict[Node, int] = dict.fromkeys(self.roots, 2)
        kept = [node for node in self.graph.nodes if self.base[node] is node]
        for node in kept:
            for value in dict.fromkeys(self.base[v] for v in node.inputs):
                readers[value] = readers.get(value, 0) + 1
        for node in kept:
            if isinstance(node.op, Movement):
                before = self.base[node.inputs[0]]
                self.words[node] = [node.op.name]
                if before in self.words and readers[before] == 1:
                    self._absorbed.add(before)
                    self.words[node] = [*self.words[before], node.op.name]


def _only_repeats(node: Node) -> bool:
    """Whether an index map only adds, drops or repeats axes, as broadcasting needs it."""
    if set(node.op.attributes) != {"shape"}:
        return False
    before = [size for size in node.inputs[0].shape if size != 1]
    after = [size for size in node.shape if size != 1]
    short, long = sorted((before, after), key=len)
    rest = iter(long)
    return all(size in rest for size in short)
