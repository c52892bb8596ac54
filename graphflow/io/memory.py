"""A graph to an upper estimate of the bytes that running it holds at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphflow.compiler.dims import Size, evaluate
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.spec import ITEMSIZE, TensorSpec


class _Ones(Mapping[str, int]):
    """Every named dim is 1: the smallest size at which something is computed."""

    def __getitem__(self, name: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


_ONES = _Ones()


def live_bytes(graph: Graph) -> int:
    """The largest sum of values alive at one time, with every value stored and named dims 1.

    A compiled function fuses most of them away; the interpreter holds them all.
    """
    return _peak(graph, {})


def _peak(graph: Graph, known: dict[Graph, int]) -> int:
    if graph in known:
        return known[graph]
    readers = {node: len(users) for node, users in graph.users.items()}
    for root in graph.roots:
        readers[root] += 1  # roots stay to the end
    live = peak = 0
    for node in graph.nodes:
        live += _bytes(node)
        inside = [_peak(v, known) for v in node.attrs.values() if isinstance(v, Graph)]
        peak = max(peak, live + max(inside, default=0))
        for value in dict.fromkeys(node.inputs):
            readers[value] -= 1
            if not readers[value]:
                live -= _bytes(value)
    known[graph] = peak
    return peak


def _bytes(node: Node) -> int:
    if node.op.is_leaf and node.op.name != "placeholder":
        return 0  # variables and constants are counted with the tensors of the file
    specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
    return sum(_spec_bytes(spec) for spec in specs)


def _spec_bytes(spec: TensorSpec) -> int:
    total = ITEMSIZE[spec.dtype]
    for size in spec.shape:
        total *= max(_value(size), 0)
    return total


def _value(size: Size) -> int:
    try:
        return evaluate(size, _ONES)
    except ZeroDivisionError:
        return 0  # such as h // (w - 1): it has no value for dims of 1
