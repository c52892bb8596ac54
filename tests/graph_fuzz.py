"""Random graphs that run: drawn op by op with their values at hand, and shrunk when one fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphflow.compiler.autodiff import grad
from graphflow.compiler.dims import evaluate as size_value
from graphflow.compiler.dims import symbol
from graphflow.compiler.errors import GraphError, IndexOutOfRange
from graphflow.compiler.graph import Graph, Node, rebuild, topological_order
from graphflow.compiler.interpreter import evaluate, evaluate_node
from graphflow.compiler.op import ops
from graphflow.compiler.printer import graph_text
from graphflow.compiler.spec import is_float
from tests.io.random_graphs import random_node

#: sizes at which every graph is legal; empty ones among them
ENVIRONMENTS = ({"n": 5, "m": 3}, {"n": 1, "m": 2}, {"n": 0, "m": 1}, {"n": 40, "m": 17})
#: values stay below this, so that rounding errors do
LARGEST = 30.0

Values = list[np.ndarray]  # one array per environment


@dataclass(frozen=True)
class Case:
    """A graph with arrays for its leaves, one set per environment."""

    seed: int
    graph: Graph
    leaves: Mapping[Node, Values]

    def run(self, graph: Graph, number: int) -> Values:
        """Outputs and new values of `graph`, which has this case's leaves, by the interpreter."""
        inputs = [self.leaves[node][number] for node in graph.inputs]
        variables = {node: self.leaves[node][number] for node in graph.variables}
        outputs, updated = evaluate(graph, inputs, variables)
        return [*outputs, *(updated[target] for target, _ in graph.updates)]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}", graph_text(self.graph, sources=False)]
        used = set(self.graph.nodes)
        for node, values in self.leaves.items():
            if node in used:
                lines.append(f"{node.name}: {values[0]!r}")
        return "\n".join(lines)


class Drawing:
    """Nodes drawn so far, each with its value in every environment."""

    def __init__(self, seed: int):
        self.rng = random.Random(seed)
        self.float = self.rng.choice(["float64", "float64", "float32"])
        self.values: dict[Node, Values] = {}
        self.leaves: dict[Node, Values] = {}
        numbers = np.random.default_rng(seed)
        n, m = symbol("n"), symbol("m")
        for kind, dtype, shapes in (
            (
                "placeholder",
                self.float,
                [(n, m), (n, m), (m,), (n, 1), (m, 4), (n, 4, m), (3,), (), (n, 6, 3), (2, 3, 4)],
            ),
            ("placeholder", "int64", [(n,), (m,), (3,), (2,)]),
            ("placeholder", "bool", [(n, m), (m,)]),
            ("variable", self.float, [(4, 3), (3,), ()]),
            ("variable", "int32", [(3,)]),
        ):
            for shape in shapes:
                name = f"{kind[0]}{seed}.{len(self.leaves)}"
                leaf = ops.find(kind)(shape=shape, dtype=dtype, name=name)
                self.leaves[leaf] = self.values[leaf] = [
                    _numbers(numbers, [size_value(s, env) for s in shape], dtype)
                    for env in ENVIRONMENTS
                ]

    @property
    def variables(self) -> list[Node]:
        return [leaf for leaf in self.leaves if leaf.op.name == "variable"]

    def add(self, root: Node) -> bool:
        """Keep a node if its value is legal and moderate in every environment."""
        fresh = [node for node in topological_order([root]) if node not in self.values]
        made: dict[Node, Values] = {}
        for node in fresh:
            values = []
            for number, env in enumerate(ENVIRONMENTS):
                arguments = [(made.get(i) or self.values[i])[number] for i in node.inputs]
                if any(size_value(c.left, env) != size_value(c.right, env) for c in node.checks):
                    return False
                try:
                    with np.errstate(all="ignore"):
                        values.append(evaluate_node(node, arguments, env))
                except (GraphError, IndexOutOfRange):
                    return False
                if not isinstance(node.spec, tuple) and not _is_moderate(values[-1]):
                    return False
            made[node] = values
        self.values |= made
        return True

    def pick(self, wanted: Callable[[Node], bool]) -> Node | None:
        """A node that fits, late ones more often, so that graphs become deep."""
        fitting = [n for n in self.values if not isinstance(n.spec, tuple) and wanted(n)]
        if not fitting:
            return None
        return fitting[max(self.rng.randrange(len(fitting)) for _ in range(2))]

    def pick_float(self, least_axes: int = 0) -> Node | None:
        return self.pick(lambda x: x.dtype == self.float and x.ndim >= least_axes)


def _numbers(generator: np.random.Generator, shape: Sequence[int], dtype: str) -> np.ndarray:
    if is_float(dtype):
        return generator.uniform(-1.5, 1.5, shape).astype(dtype)
    return generator.integers(0, 2 if dtype == "bool" else 3, shape).astype(dtype)


def _is_moderate(value: np.ndarray) -> bool:
    if value.size > 20_000:
        return False
    if value.dtype.kind != "f":
        return True
    return bool(np.isfinite(value).all() and (np.abs(value) < LARGEST).all())


# ---- what is drawn ---------------------------------------------------------------------------

UNARY = ("tanh", "sin", "cos", "sigmoid", "relu", "abs", "negative", "square", "exp", "erf",
         "stop_gradient", "atan")  # fmt: skip
BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "atan2")


def _unary(d: Drawing) -> Node | None:
    x = d.pick_float()
    return ops.find(d.rng.choice(UNARY))(x) if x is not None else None


def _binary(d: Drawing) -> Node | None:
    a, b = d.pick_float(), d.pick_float()
    return ops.find(d.rng.choice(BINARY))(a, b) if a is not None and b is not None else None


def _with_constant(d: Drawing) -> Node | None:
    """Constants that the passes look for: 0, 1, -1, 2, and powers of two."""
    x = d.pick_float()
    if x is None:
        return None
    value = d.rng.choice([0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 0.3])
    other = ops.full(shape=d.rng.choice([(), (1,), x.shape]), value=value, dtype=x.dtype)
    name = d.rng.choice(["add", "subtract", "multiply", "divide", "power", "maximum"])
    if name == "divide" and value == 0:
        return None
    operands = [x, other] if d.rng.random() < 0.7 or name in ("divide", "power") else [other, x]
    return ops.find(name)(*operands)


def _choice(d: Drawing) -> Node | None:
    c = d.pick(lambda x: x.dtype == "bool")
    a, b = d.pick_float(), d.pick_float()
    return ops.where(c, a, b) if c is not None and a is not None and b is not None else None


def _comparison(d: Drawing) -> Node | None:
    a, b = d.pick_float(), d.pick_float()
    name = d.rng.choice(["less", "greater_equal", "logical_not"])
    if name == "logical_not":
        c = d.pick(lambda x: x.dtype == "bool")
        return ops.logical_not(c) if c is not None else None
    return ops.find(name)(a, b) if a is not None and b is not None else None


def _reduction(d: Drawing) -> Node | None:
    x = d.pick_float(1)
    if x is None:
        return None
    axes = tuple(a for a in range(x.ndim) if d.rng.random() < 0.5) or (x.ndim - 1,)
    total = ops.find(d.rng.choice(["sum", "sum", "max", "min", "prod"]))(x, axes=axes)
    if d.rng.random() < 0.4:
        # As softmax and the norms do: the result meets what it was made of.
        kept = tuple(1 if a in axes else size for a, size in enumerate(x.shape))
        return ops.subtract(x, ops.reshape(total, shape=kept))
    return total


def _matmul(d: Drawing) -> Node | None:
    a = d.pick_float(2)
    if a is None:
        return None
    left, right = d.rng.random() < 0.3, d.rng.random() < 0.3
    inner = a.shape[-2 if left else -1]
    b = d.pick(
        lambda x: x.dtype == d.float and x.ndim >= 2 and x.shape[-1 if right else -2] == inner
    )
    if b is None:
        return None
    return ops.matmul(a, b, transpose_a=left, transpose_b=right) * 0.3


def _movement(d: Drawing) -> Node | None:
    x = d.pick_float(1)
    if x is None:
        return None
    kind = d.rng.choice(["permute", "reshape", "broadcast", "concat", "flip", "expand", "pad"])
    if kind == "permute":
        axes = tuple(d.rng.sample(range(x.ndim), x.ndim))
        return ops.permute_dims(x, axes=axes)
    if kind == "reshape":
        split = d.rng.randrange(x.ndim)
        front = x.shape[:split]
        size = x.spec.size if not front else None
        if size is None:
            rest = ops.placeholder(shape=x.shape[split:], dtype=x.dtype).spec.size
            return ops.reshape(x, shape=(*front, rest))
        return ops.reshape(x, shape=(size,))
    if kind == "broadcast":
        return ops.broadcast_to(x, shape=(d.rng.choice([2, symbol("m")]), *x.shape))
    if kind == "concat":
        return ops.concat(x, x, ops.negative(x), axis=d.rng.randrange(x.ndim))
    if kind == "flip":
        axis = d.rng.randrange(x.ndim)
        start = tuple(x.shape[a] - 1 if a == axis else 0 for a in range(x.ndim))
        step = tuple(-1 if a == axis else 1 for a in range(x.ndim))
        return ops.slice(x, start=start, step=step, shape=x.shape)
    if kind == "expand":
        place = d.rng.randrange(x.ndim + 1)
        return ops.reshape(x, shape=(*x.shape[:place], 1, *x.shape[place:]))
    fill = ops.full(shape=(), value=0.25, dtype=x.dtype)
    low, high = (tuple(d.rng.randrange(3) for _ in x.shape) for _ in range(2))
    return ops.pad(x, fill, low=low, high=high, interior=(d.rng.randrange(2),) * x.ndim)


def _take(d: Drawing) -> Node | None:
    x, indices = d.pick_float(1), d.pick(lambda x: x.dtype == "int64")
    if x is None or indices is None:
        return None
    return ops.take(x, indices, axis=d.rng.randrange(x.ndim))


def _gradient(d: Drawing) -> Node | None:
    """The gradient of a sum by one of its leaves."""
    y = d.pick_float()
    if y is None:
        return None
    weights = ops.cos(y)
    loss = ops.sum(y * weights, axes=tuple(range(y.ndim))) if y.ndim else y * weights
    leaves = [n for n in topological_order([loss]) if n in d.leaves and n.dtype == d.float]
    if not leaves:
        return None
    return grad(loss, [d.rng.choice(leaves)])[0]


IN_DOMAIN = {
    "tame": ("asin", "acos", "atanh", "log1p", "expm1", "sinh", "cosh", "asinh"),
    "positive": ("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "acosh"),
}


def _in_domain(d: Drawing) -> Node | None:
    """A function with a domain, of an argument made to lie in it."""
    x = d.pick_float()
    if x is None:
        return None
    kind = d.rng.choice(list(IN_DOMAIN))
    inside = ops.tanh(x) * 0.8 if kind == "tame" else ops.square(x) + 1.25
    return ops.find(d.rng.choice(IN_DOMAIN[kind]))(inside)


def _randomness(d: Drawing) -> Node | None:
    """Random numbers of some shape that is in use."""
    like = d.pick_float()
    (state,) = (n for n in d.leaves if n.dtype == "int64" and n.shape == (2,))
    if like is None:
        return None
    stream = d.rng.randrange(4)
    if d.rng.random() < 0.3:
        order = ops.random_permutation(state, size=symbol("m"), stream=stream)
        table = d.pick(lambda x: x.dtype == d.float and x.ndim > 0 and x.shape[0] == symbol("m"))
        return ops.take(table, order, axis=0) if table is not None else None
    return ops.random_uniform(state, shape=like.shape, dtype=d.float, stream=stream)


def _conv(d: Drawing) -> Node | None:
    """A convolution along the middle axis of (n, 6, 3)."""
    x = d.pick(lambda x: x.dtype == d.float and x.ndim == 3 and x.shape[1:] == (6, 3))
    w = d.pick(lambda x: x.dtype == d.float and x.shape == (2, 3, 4))
    if x is None or w is None:
        return None
    stride, dilation, low, high = (d.rng.randrange(a, a + 2) for a in (1, 1, 0, 0))
    return ops.conv(
        x, w, strides=(stride,), dilation=(dilation,), low=(low,), high=(high,), groups=1
    )


def _loop(d: Drawing) -> Node | None:
    """A scan over the rows of a tensor, or a choice between two bodies."""
    x = d.pick_float(1)
    if x is None:
        return None
    row, carry = (ops.placeholder(shape=x.shape[1:], dtype=x.dtype) for _ in range(2))
    new = ops.tanh(carry * 0.5 + row)
    if d.rng.random() < 0.6:
        body = Graph((carry, row), (new, new * row))
        first = ops.full(shape=row.shape, value=0.1, dtype=x.dtype)
        made = ops.scan(
            first, x, body=body, carries=1, sequences=1, length=x.shape[0],
            reverse=d.rng.random() < 0.5,
        )  # fmt: skip
    else:
        other = d.pick(lambda y: y.spec == row.spec)
        mask = d.pick(lambda y: y.dtype == "bool")
        if other is None or mask is None:
            return None
        first = ops.full(shape=row.shape, value=0.3, dtype=x.dtype)
        test = ops.any(mask, axes=tuple(range(mask.ndim)))
        inputs = (carry, row)
        bodies = {"then": Graph(inputs, (new, row)), "otherwise": Graph(inputs, (carry, new))}
        made = ops.cond(test, other, first, **bodies)
    return ops.project(made, index=d.rng.randrange(2))


def _twin(d: Drawing) -> Node | None:
    """A second copy of a node, for common subexpressions."""
    x = d.pick(lambda x: bool(x.inputs))
    return x.op(*x.inputs, **x.attrs) if x is not None and not x.op.stateful else None


def _any_op(d: Drawing) -> Node | None:
    """Any registered op with random attributes."""
    op = ops.find(d.rng.choice([n for n in ops.names() if n not in _NOT_DRAWN]))
    if "graph" in op.attributes.values():
        return None
    pool = [n for n in d.values if not isinstance(n.spec, tuple)]
    return random_node(d.rng, op, pool, tries=30)


#: what jumps where rounding decides, so that compiled and interpreted values may differ
JUMPS = {
    "floor_divide", "remainder", "fmod", "equal", "not_equal", "argmax", "argmin", "floor", "ceil",
    "round", "trunc", "sign", "cast", "tan", "is_nan",
}  # fmt: skip
_NOT_DRAWN = JUMPS | {"placeholder", "variable", "project"}

PRODUCTIONS = (
    (_unary, 5), (_binary, 5), (_with_constant, 3), (_choice, 1), (_comparison, 1), (_reduction, 3),
    (_matmul, 2), (_movement, 3), (_take, 1), (_gradient, 2), (_twin, 1), (_any_op, 5),
    (_in_domain, 2), (_randomness, 1), (_conv, 1), (_loop, 1),
)  # fmt: skip


def random_case(seed: int, size: int = 24) -> Case:
    """A graph of about `size` drawn nodes (gradients bring more), with updates now and then."""
    d = Drawing(seed)
    makers, weights = zip(*PRODUCTIONS, strict=True)
    drawn: list[Node] = []
    tries = 0
    while len(drawn) < size and tries < 40 * size:
        tries += 1
        (maker,) = d.rng.choices(makers, weights)
        try:
            node = maker(d)
        except GraphError:
            continue
        if node is None or isinstance(node.spec, tuple) or node in d.values:
            continue
        if d.add(node):
            drawn.append(node)
    late = drawn[len(drawn) // 2 :]
    outputs = tuple(d.rng.sample(late, min(len(late), d.rng.randint(1, 5))))
    updates = {}
    for node in drawn:
        targets = [v for v in d.variables if v.spec == node.spec and v not in updates]
        if targets and d.rng.random() < 0.5:
            updates[d.rng.choice(targets)] = node
    inputs = tuple(leaf for leaf in d.leaves if leaf.op.name == "placeholder")
    return Case(seed, Graph(inputs, outputs, tuple(updates.items())), d.leaves)


def merge(cases: Iterable[Case]) -> Case:
    """Several cases as one graph, so that they are compiled together."""
    cases = list(cases)
    graph = Graph(
        tuple(node for case in cases for node in case.graph.inputs),
        tuple(node for case in cases for node in case.graph.outputs),
        tuple(pair for case in cases for pair in case.graph.updates),
    )
    leaves = {node: values for case in cases for node, values in case.leaves.items()}
    return Case(cases[0].seed, graph, leaves)


# ---- shrinking -------------------------------------------------------------------------------


def shrink(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that fails too: one early root, and nodes made inputs with their values."""
    for root in case.graph.nodes:
        if isinstance(root.spec, tuple):
            continue
        single = Case(case.seed, Graph(case.graph.inputs, (root,)), case.leaves)
        if fails(single):
            case = single
            break
    progress = True
    while progress:
        progress = False
        for node in reversed(case.graph.nodes):
            if not node.inputs or isinstance(node.spec, tuple) or node in case.graph.roots:
                continue
            smaller = _with_input(case, node)
            if smaller is not None and fails(smaller):
                case, progress = smaller, True
                break
    used = set(case.graph.nodes)
    needed = tuple(leaf for leaf in case.graph.inputs if leaf in used)
    trimmed = Case(case.seed, Graph(needed, case.graph.outputs, case.graph.updates), case.leaves)
    return trimmed if fails(trimmed) else case


def _with_input(case: Case, dropped: Node) -> Case | None:
    """The case with one node fed from outside."""
    probe = Case(case.seed, Graph(case.graph.inputs, (dropped,)), case.leaves)
    values = [probe.run(probe.graph, number)[0] for number in range(len(ENVIRONMENTS))]
    name = f"s{len(case.leaves)}"
    leaf = ops.placeholder(shape=dropped.shape, dtype=dropped.dtype, name=name)
    graph = case.graph.rewrite(
        lambda node, inputs: leaf if node is dropped else rebuild(node, inputs)
    )
    graph = Graph((*graph.inputs, leaf), graph.outputs, graph.updates)
    return Case(case.seed, graph, {**case.leaves, leaf: values})
