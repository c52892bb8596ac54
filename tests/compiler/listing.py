"""What the pass tests share: leaves to build graphs on, and a pass's result as IR text."""

import textwrap

from graphflow.compiler.dims import symbol
from graphflow.compiler.graph import Graph, topological_order
from graphflow.compiler.op import ops
from graphflow.compiler.printer import graph_text
from graphflow.compiler.verify import check_graph

N = symbol("n")


def leaf(shape=(4, 6), dtype="float32", name="x"):
    return ops.placeholder(shape=shape, dtype=dtype, name=name)


def graph_of(*outputs):
    """The graph of some nodes; its inputs are the placeholders that they need, in order."""
    nodes = topological_order(outputs)
    inputs = sorted((n for n in nodes if n.op.name == "placeholder"), key=lambda n: n.serial)
    return Graph(tuple(inputs), outputs)


def after(run, *outputs):
    """The listing of the graph of `outputs` after a pass, which must leave a right graph."""
    graph = run(graph_of(*outputs))
    check_graph(graph, run.__name__)
    return graph_text(graph, sources=False)


def text(listing):
    """A listing written in a test, without the test's indentation."""
    return textwrap.dedent(listing).lstrip("\n")


def change_by(run, *outputs):
    """The listing after a pass that changed the graph; None where it gave back the very graph."""
    graph = graph_of(*outputs)
    result = run(graph)
    return None if result is graph else graph_text(result, sources=False)
