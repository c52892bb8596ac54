"""Control flow in a graph: Python functions that build bodies in, nodes that hold them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphflow.compiler.graph import Graph, Node, next_serial, rebuild, topological_order
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.control import results, scan_length
from graphflow.errors import DTypeError, GraphError, with_line
from graphflow.structure import fill_structure, flatten_structure, map_structure
from graphflow.tensor import Tensor, as_tensor

__all__ = ["cond", "scan"]


def cond(predicate: Any, true_fn: Callable, false_fn: Callable, *operands: Any) -> Any:
    """`true_fn(*operands)` where the predicate is true, else `false_fn(*operands)`.

    Only the branch that is taken runs. The functions may use tensors from outside.

    Args:
        predicate: bool scalar.
        true_fn, false_fn: build the branches; both give the same nesting, dtypes and shapes.
        operands: tensors, or nested lists, tuples and dicts of them.

    Raises:
        GraphError: the branches give different things.

    >>> import graphflow as gf
    >>> x = gf.placeholder((), name="x")
    >>> y = gf.cond(x > 0, lambda: x * 2, lambda: -x)
    >>> gf.function([x], y, mode="interpret")(-3.0)
    np.float32(3.0)
    """
    test = as_tensor(predicate, name="cond").node
    if test.dtype != "bool" or test.shape != ():
        raise DTypeError(
            with_line(
                f"cond: the predicate is {describe(test)}; expected a bool scalar, e.g. x > 0"
            )
        )
    given = [map_structure(lambda v: as_tensor(v, name="cond"), item) for item in operands]
    flat = [tensor.node for tensor in flatten_structure(given)]
    sides = [_Traced("cond", lambda *a, f=f: f(*a), given) for f in (true_fn, false_fn)]
    left, right = sides
    if map_structure(lambda _: 0, left.structure) != map_structure(lambda _: 0, right.structure):
        raise GraphError(
            with_line(
                f"cond: true_fn gives {_nesting(left)}, false_fn {_nesting(right)}; "
                "both must give the same nesting"
            )
        )
    outside = list(dict.fromkeys((*left.captured, *right.captured)))
    bodies = [side.graph(outside) for side in sides]
    node = ops.cond(test, *flat, *outside, then=bodies[0], otherwise=bodies[1])
    return fill_structure(left.structure, iter(map(Tensor, results(node))))


def scan(
    fn: Callable,
    init: Any,
    xs: Any = None,
    length: Any = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """A loop with state: `carry, y = fn(carry, x)` for each row x of `xs`; rows y are stacked.

    Args:
        fn: builds one pass from the carry and the row (None without `xs`).
        init: first carry: tensors nested as you like; its dtypes and shapes stay.
        xs: tensors (nested) with the same number of rows along axis 0.
        length: passes, where `xs` is None.
        reverse: walk from the last row to the first; row t of the result stays at t.

    Returns:
        The last carry, and the stacked rows in the nesting of y.

    Raises:
        GraphError: fn gives no pair, or another nesting for the carry.
        ShapeError, DTypeError: the carry changes its shape or dtype.

    >>> import graphflow as gf
    >>> x = gf.placeholder(("n",), name="x")
    >>> total, sums = gf.scan(lambda c, v: (c + v, c + v), 0.0, x)
    >>> gf.function([x], sums, mode="interpret")([1, 2, 3])
    array([1., 3., 6.], dtype=float32)
    """
    carry = map_structure(lambda v: as_tensor(v, name="scan"), init)
    rows = map_structure(lambda v: as_tensor(v, name="scan"), xs)
    carries = [t.node for t in flatten_structure(carry)]
    sequences = [t.node for t in flatten_structure(rows)]
    passes = scan_length(sequences, length)
    first = map_structure(_row_like, rows)
    traced = _Traced("scan", fn, [carry, first])
    if not isinstance(traced.structure, (tuple, list)) or len(traced.structure) != 2:
        raise GraphError(with_line("scan: fn must return a pair (new carry, row)"))
    new_carry, row = traced.structure
    if map_structure(lambda _: 0, new_carry) != map_structure(lambda _: 0, carry):
        raise GraphError(with_line("scan: fn returns a carry nested differently from init"))
    body = traced.graph(traced.captured)
    node = ops.scan(
        *carries,
        *sequences,
        *traced.captured,
        body=body,
        carries=len(carries),
        sequences=len(sequences),
        length=passes,
        reverse=bool(reverse),
    )
    leaves = iter(map(Tensor, results(node)))
    return fill_structure(carry, leaves), fill_structure(row, leaves)


def _row_like(tensor: Tensor) -> Tensor:
    node = tensor.node
    if node.ndim == 0:
        raise GraphError(with_line(f"scan: {describe(node)} has no axis to walk along"))
    return Tensor(ops.placeholder(dtype=node.dtype, shape=node.shape[1:]))


class _Traced:
    """What a Python function builds from placeholders, and what it takes from outside."""

    def __init__(self, op: str, fn: Callable, arguments: Sequence[Any]):
        self.inputs: list[Node] = []
        inside = [map_structure(self._placeholder, argument) for argument in arguments]
        begin = next_serial()
        made = fn(*inside)
        self.structure = map_structure(lambda v: as_tensor(v, name=op), made)
        self.outputs = [tensor.node for tensor in flatten_structure(self.structure)]
        own = set(self.inputs)
        # What was there before the function ran comes from outside.
        self.captured = list(self._outside(begin, own))

    def _placeholder(self, tensor: Tensor) -> Tensor:
        self.inputs.append(ops.placeholder(dtype=tensor.node.dtype, shape=tensor.node.shape))
        return Tensor(self.inputs[-1])

    def _outside(self, begin: int, own: set[Node]) -> list[Node]:
        found: dict[Node, None] = {}
        seen: set[Node] = set()
        stack = list(self.outputs)
        while stack:
            node = stack.pop()
            if node in seen or node in own:
                continue
            seen.add(node)
            if node.serial < begin or node.op.stateful:
                found[node] = None
            else:
                stack.extend(reversed(node.inputs))
        return sorted(found, key=lambda node: node.serial)

    def graph(self, outside: Sequence[Node]) -> Graph:
        """The body over its placeholders and one more for each node from outside."""
        extra = [ops.placeholder(dtype=n.dtype, shape=n.shape) for n in outside]
        swap = dict(zip(outside, extra, strict=True))
        for node in topological_order(self.outputs):
            if node not in swap:
                swap[node] = rebuild(node, tuple(swap[i] for i in node.inputs))
        return Graph((*self.inputs, *extra), tuple(swap[node] for node in self.outputs))


def _nesting(traced: _Traced) -> str:
    return str(map_structure(lambda t: str(t.node.spec), traced.structure))
