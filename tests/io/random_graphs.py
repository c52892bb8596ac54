"""Random nodes and graphs for tests: every registered op, with attributes drawn by their kinds."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from graphflow.compiler.dims import Size, floor_div, symbol
from graphflow.compiler.errors import GraphError
from graphflow.compiler.graph import Graph, Node, name_scope, topological_order
from graphflow.compiler.op import Op, ops
from graphflow.compiler.ops.creation import Literal
from graphflow.compiler.spec import DTYPES, is_float

LEAVES = ("placeholder", "variable")


def names_of_ops() -> list[str]:
    """Every op that computes something; control flow is saved by tests of its own."""
    return [
        name
        for name in ops.names()
        if name not in LEAVES
        and "graph" not in ops.find(name).attributes.values()
        and not ops.find(name).is_projection
    ]


def random_array(rng: random.Random, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Small numbers, so that ints serve as indices now and then."""
    generator = np.random.default_rng(rng.getrandbits(32))
    if is_float(dtype):
        return generator.normal(size=shape).astype(dtype)
    return generator.integers(0, 2 if dtype == "bool" else 4, size=shape).astype(dtype)


def random_size(rng: random.Random, symbolic: bool) -> Size:
    """A small int, or a named dim and a polynomial or quotient of it."""
    if not symbolic or rng.random() < 0.6:
        return rng.randrange(0, 5)
    n, m = symbol("n"), symbol("m")
    return rng.choice([n, m, 2 * n, n + 1, n * m, n + 3 * m + 2, floor_div(n + 1, 2)])


def random_attribute(
    rng: random.Random, kind: str, symbolic: bool = False, rank: int | None = None
) -> Any:
    """A value of a kind, legal for the kind but often not for the op."""
    rank = rng.randrange(0, 4) if rank is None else rank
    makers = {
        "dtype": lambda: rng.choice(DTYPES),
        "shape": lambda: tuple(random_size(rng, symbolic) for _ in range(rank)),
        "size": lambda: random_size(rng, symbolic),
        "sizes": lambda: tuple(random_size(rng, symbolic) - rng.randrange(3) for _ in range(rank)),
        "int": lambda: rng.choice([1, 1, *range(-3, 5)]),
        "ints": lambda: tuple(rng.choice([1, 1, 1, *range(-2, 4)]) for _ in range(rank)),
        "axes": lambda: tuple(a for a in range(4) if rng.random() < 0.4),
        "permutation": lambda: tuple(rng.sample(range(rank), rank)),
        "scalar": lambda: rng.choice([0, 1, True, -1.5, float("inf"), float("nan")]),
        "float": lambda: rng.choice([0.0, 1e-3, -1.5, float("inf")]),
        "bool": lambda: rng.random() < 0.5,
        "str": lambda: rng.choice(["", "same", "x"]),
        "array": lambda: Literal(random_array(rng, (2,) * rank, rng.choice(DTYPES))),
    }
    return makers[kind]()


def random_call(
    rng: random.Random, op: Op, pool: list[Node], symbolic: bool = False
) -> tuple[list[Node], dict[str, Any]]:
    """Inputs and attributes for an op; ranks and dtypes mostly agree, so that some are legal."""
    low, high = op.arity
    count = rng.randint(low, min(high, low + 2))
    first = rng.choice(pool)
    alike = [node for node in pool if node.dtype == first.dtype]
    inputs = [first, *(rng.choice(alike if rng.random() < 0.7 else pool) for _ in range(count))]
    rank = rng.choice([None, *range(4)])
    attrs = {
        name: random_attribute(rng, kind, symbolic, rank) for name, kind in op.attributes.items()
    }
    return inputs[:count], attrs


def random_node(rng: random.Random, op: Op, pool: list[Node], tries: int = 20_000) -> Node | None:
    """A node of `op` over nodes of `pool`, or None if no attempt was legal.

    An error other than GraphError is let through: an op must refuse what it cannot do in its own
    words, since attributes also come from files.
    """
    for _ in range(tries):
        inputs, attrs = random_call(rng, op, pool)
        try:
            return op(*inputs, **attrs)
        except GraphError:
            continue
    return None


def node_by_gradient(rng: random.Random, op: Op, pool: list[Node]) -> Node | None:
    """A node of `op` among those that the reverse rule of some other op makes."""
    if op is ops.conv_weight_grad_parts:
        # Made of the whole gradient, by a pass.
        whole = node_by_gradient(rng, ops.conv_weight_grad, pool)
        return None if whole is None else op(*whole.inputs, parts=3, **whole.attrs)
    for name in names_of_ops():
        other = ops.find(name)
        if not name.startswith(op.name.split("_")[0]) or "graph" in other.attributes.values():
            continue
        for _ in range(20):
            node = random_node(rng, other, pool)
            if node is None or isinstance(node.spec, tuple) or not is_float(node.dtype):
                continue
            ct = ops.placeholder(shape=node.shape, dtype=node.dtype, name="ct")
            parts = [part for part in other.vjp(node, ct) if part is not None]
            found = [n for n in topological_order(parts) if n.op is op]
            if found:
                return found[0]
    return None


def random_leaves(rng: random.Random) -> tuple[list[Node], list[Node]]:
    """Placeholders (some with named dims) and variables, of several dtypes and ranks."""
    n = symbol("n")
    shapes: list[tuple[Size, ...]] = [
        (),
        (2,),
        (3,),
        (2, 3),
        (1, 3),
        (2, 3, 2),
        (3, 2, 4),
        (n, 3),
        (n,),
        (0, 2),
    ]
    inputs = [
        ops.placeholder(shape=shape, dtype=dtype, name=f"in/{dtype}{k}")
        for dtype in ("float32", "float64", "int64", "bool")
        for k, shape in enumerate(shapes)
    ]
    variables = [
        ops.variable(shape=shape, dtype=dtype, name=rng.choice([f"w/{dtype}:{k}", None]))
        for dtype in ("float32", "int32", "bool")
        for k, shape in enumerate([(), (3,), (2, 3), (4, 4)])
    ]
    return inputs, variables


def random_graph(seed: int, size: int = 30) -> tuple[Graph, dict[Node, np.ndarray]]:
    """A graph of about `size` random ops with updates, and values for its variables."""
    rng = random.Random(seed)
    inputs, variables = random_leaves(rng)
    pool = [*inputs, *variables]
    with name_scope("block"):
        while len(pool) < len(inputs) + len(variables) + size:
            node = random_node(rng, ops.find(rng.choice(names_of_ops())), pool, tries=20)
            if node is not None and not isinstance(node.spec, tuple):
                pool.append(node)
    made = pool[len(inputs) + len(variables) :]
    outputs = tuple(rng.sample(made, min(len(made), 5)))
    updates = {}
    for node in made:
        targets = [v for v in variables if v.spec == node.spec and v not in updates]
        if targets and rng.random() < 0.5:
            updates[rng.choice(targets)] = node
    graph = Graph(tuple(inputs), outputs, tuple(updates.items()))
    values = {v: random_array(rng, v.shape, v.dtype) for v in graph.variables}
    return graph, values
