"""A seed in, leaves and nodes with their values out: the state that productions draw from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from graphflow.compiler.dims import Size, symbol
from graphflow.compiler.dims import evaluate as size_value
from graphflow.compiler.errors import GraphError, IndexOutOfRange
from graphflow.compiler.graph import Node, topological_order
from graphflow.compiler.interpreter import evaluate_node
from graphflow.compiler.op import ops
from graphflow.compiler.spec import is_float, is_integer
from tests.fuzz.case import Environment, Values

#: values of rounding graphs stay below this, so that rounding errors do
LARGEST = 60.0
#: values of exact graphs are multiples of 1/256 below this: sums of 1000 products stay exact
LARGEST_EXACT, GRAIN = 4096.0, 256.0
MOST_ELEMENTS, MOST_PASSES = 40_000, 33

INTEGER_DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
#: named sizes beside the vector width: below, at and above it, and longer than a column block
SMALL, ODD, LONG = (1, 2, 3, 4), (7, 8, 16, 17, 33), (40, 100, 257, 300)


def draw_environments(rng: random.Random) -> tuple[Environment, ...]:
    """Four pairs of sizes; some graphs never see an empty axis, so that they may take a maximum."""
    third = {"n": rng.choice(ODD), "m": rng.choice(ODD)}
    if rng.random() < 0.4:
        third = {"n": rng.choice((0, 0, 2)), "m": rng.choice((0, 1, 3))}
    far = [rng.choice(LONG), rng.choice((*SMALL, *ODD))]
    rng.shuffle(far)
    return (
        {"n": 5, "m": 3},
        {"n": rng.choice(SMALL), "m": rng.choice(SMALL)},
        third,
        dict(zip("nm", far, strict=True)),
    )


class Drawing:
    """Nodes drawn so far, each with its value in every environment.

    Attributes:
        exact: see Case; such graphs may also round, cast and compare, since nothing is uncertain.
        float, integer: the dtypes of this graph's numbers.
    """

    def __init__(self, seed: int):
        self.rng = rng = random.Random(seed)
        self.exact = rng.random() < 0.35
        self.float = "float64" if self.exact else rng.choice(["float64", "float64", "float32"])
        self.integer = rng.choice(INTEGER_DTYPES)
        self.environments = draw_environments(rng)
        self.values: dict[Node, Values] = {}
        self.leaves: dict[Node, Values] = {}
        numbers = np.random.default_rng(seed)
        for kind, dtype, shapes in self._leaf_shapes():
            for shape in shapes:
                name = f"{kind[0]}{seed}.{len(self.leaves)}"
                leaf = ops.find(kind)(shape=shape, dtype=dtype, name=name)
                self.leaves[leaf] = self.values[leaf] = [
                    self._numbers(numbers, [size_value(s, env) for s in shape], dtype)
                    for env in self.environments
                ]

    def _leaf_shapes(self) -> list[tuple[str, str, list[tuple[Size, ...]]]]:
        n, m = symbol("n"), symbol("m")
        s, t = (self.rng.choice((0, *SMALL, *ODD, *ODD)) for _ in range(2))
        return [
            (
                "placeholder",
                self.float,
                [(n, m), (n, m), (m,), (n,), (n, 1), (m, 4), (n, 4, m), (3,), (), (n, 6, 3),
                 (2, 3, 4), (s, t), (t,), (s, n, t), (n, s), (5, 5, 3), (3, 3, 3, 2), (n, 2, 3, m),
                 (2 * n, m), (n + m, 3)],
            ),
            ("placeholder", "int64", [(n,), (m,), (3,), (2,)]),
            ("placeholder", self.integer, [(n, m), (m,), (s, t)]),
            ("placeholder", "bool", [(n, m), (m,), (n, 1), ()]),
            ("variable", self.float, [(4, 3), (4, 3), (3,), (3,), (), (s, t), (s, t)]),
            ("variable", "int32", [(3,), (3,)]),
        ]  # fmt: skip

    def _numbers(
        self, generator: np.random.Generator, shape: Sequence[int], dtype: str
    ) -> np.ndarray:
        if is_float(dtype):
            if self.exact:
                return np.asarray(generator.integers(-4, 5, shape) / 2, dtype)
            return np.asarray(generator.uniform(-1.5, 1.5, shape), dtype)
        if dtype == self.integer and generator.random() < 0.4 and dtype != "int64":
            # The whole range, so that sums and products wrap around.
            limits = np.iinfo(dtype)
            return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        return np.asarray(generator.integers(0, 2 if dtype == "bool" else 3, shape), dtype)

    @property
    def variables(self) -> list[Node]:
        return [leaf for leaf in self.leaves if leaf.op.name == "variable"]

    # ---- keeping nodes -----------------------------------------------------------------------

    def add(self, root: Node) -> bool:
        """Keep a node if its value is legal and moderate in every environment."""
        fresh = [node for node in topological_order([root]) if node not in self.values]
        made: dict[Node, Values] = {}
        for node in fresh:
            values = []
            for number, env in enumerate(self.environments):
                arguments = [(made.get(i) or self.values[i])[number] for i in node.inputs]
                if any(size_value(c.left, env) != size_value(c.right, env) for c in node.checks):
                    return False
                if not self._is_small(node, env):
                    return False
                try:
                    with np.errstate(all="ignore"):
                        values.append(evaluate_node(node, arguments, env))
                except (GraphError, IndexOutOfRange):
                    return False
                if not isinstance(node.spec, tuple) and not self._is_moderate(values[-1]):
                    return False
            made[node] = values
        self.values |= made
        return True

    def _is_small(self, node: Node, env: Environment) -> bool:
        specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
        return all(size_value(spec.size, env) <= MOST_ELEMENTS for spec in specs)

    def _is_moderate(self, value: np.ndarray) -> bool:
        if value.dtype.kind != "f":
            return True
        if not np.isfinite(value).all() or (self.exact and value.dtype != self.float):
            return False
        if self.exact:
            return bool((np.abs(value) < LARGEST_EXACT).all() and (value * GRAIN % 1 == 0).all())
        return bool((np.abs(value) < LARGEST).all())

    def is_short(self, length: Size) -> bool:
        """Whether a loop of this many passes is interpreted in little time at all sizes."""
        return all(size_value(length, env) <= MOST_PASSES for env in self.environments)

    # ---- choosing nodes ----------------------------------------------------------------------

    def pick(self, wanted: Callable[[Node], bool]) -> Node | None:
        """A node that fits, late ones more often, so that graphs become deep."""
        fitting = [n for n in self.values if not isinstance(n.spec, tuple) and wanted(n)]
        if not fitting:
            return None
        return fitting[max(self.rng.randrange(len(fitting)) for _ in range(2))]

    def pick_float(self, least_axes: int = 0) -> Node | None:
        return self.pick(lambda x: x.dtype == self.float and x.ndim >= least_axes)

    def pick_integer(self, least_axes: int = 0) -> Node | None:
        return self.pick(lambda x: is_integer(x.dtype) and x.ndim >= least_axes)

    def pick_like(self, node: Node) -> Node | None:
        """A node of the same dtype, mostly of the same shape."""
        if self.rng.random() < 0.6:
            return self.pick(lambda x: x.spec == node.spec)
        return self.pick(lambda x: x.dtype == node.dtype)

    def pick_axes(self, node: Node) -> tuple[int, ...]:
        """Leading, trailing, middle, several or all axes."""
        ndim, rng = node.ndim, self.rng
        kinds = {
            "leading": tuple(range(rng.randint(1, ndim))),
            "first": (0,),
            "last": (ndim - 1,),
            "middle": (ndim // 2,),
            "several": tuple(a for a in range(ndim) if rng.random() < 0.6) or (0,),
            "all": tuple(range(ndim)),
        }
        return kinds[rng.choice(list(kinds))]
