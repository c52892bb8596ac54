"""Ops that hold graphs: cond and scan, and the projection that takes one of their results.

A body is a Graph whose inputs stand for the op's operands, in order; it holds no variables, since
what it takes from outside is an operand. Derivatives replay: the reverse of a scan runs the body
forwards again to get the carries, then walks back over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.dims import Size
from graphflow.compiler.errors import DTypeError, GraphError, ShapeError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import Op, ops, register
from graphflow.compiler.ops.blocks import zeros_like
from graphflow.compiler.program import Branch, Copy, Loop, Sliced
from graphflow.compiler.spec import TensorSpec, is_equal, is_float, shape_text


class Control(Op):
    """An op whose value is a tuple and whose work is done by bodies."""

    arity = (0, 4096)

    def lower(
        self, bodies: Any, node: Node, operands: Sequence[int], targets: Sequence[int]
    ) -> list[Any]:
        """Steps that fill the buffers `targets`; `bodies` schedules, see `schedule._Bodies`."""
        raise NotImplementedError(f"{type(self).__name__} needs lower")


#: is shown a body and its operands before the interpreter runs it
BodyWatch = Callable[[Graph, Sequence[np.ndarray]], None]

_watch: ContextVar[BodyWatch | None] = ContextVar("body_watch", default=None)


@contextmanager
def watch_bodies(watch: BodyWatch | None) -> Iterator[None]:
    """Show `watch` the bodies that are interpreted inside; not those that stand in bodies."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def run_body(body: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a body, by the interpreter."""
    from graphflow.compiler.interpreter import evaluate

    watch = _watch.get()
    if watch is None:
        return evaluate(body, arrays, {})[0]
    watch(body, arrays)
    with watch_bodies(None):
        return evaluate(body, arrays, {})[0]


def _check_operands(op: str, body: Graph, specs: Sequence[TensorSpec], what: str) -> None:
    if len(body.inputs) != len(specs):
        raise GraphError(f"{op}: {what} takes {len(body.inputs)} operands, got {len(specs)}")
    for number, (node, spec) in enumerate(zip(body.inputs, specs, strict=True)):
        _check_same(f"{op}: operand {number} of {what}", node.spec, spec)
    if body.variables or body.updates:
        raise GraphError(f"{op}: {what} holds variables; pass them as operands")


def _check_same(what: str, expected: TensorSpec, got: TensorSpec) -> None:
    if got.dtype != expected.dtype:
        raise DTypeError(f"{what} is {got.dtype}, expected {expected.dtype}")
    same = len(got.shape) == len(expected.shape) and all(
        is_equal(a, b, what) for a, b in zip(expected.shape, got.shape, strict=True)
    )
    if not same:
        raise ShapeError(
            f"{what} is {shape_text(got.shape)}, expected {shape_text(expected.shape)}"
        )


@register
class Project(Op):
    """y = x[index], one result of an op that has several"""

    attributes: ClassVar[Mapping[str, str]] = {"index": "int"}
    is_projection = True

    def infer(self, x: Any, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        if not isinstance(x, tuple) or not 0 <= attrs["index"] < len(x):
            raise GraphError(f"project: there is no result {attrs['index']}")
        return x[attrs["index"]]

    def reference(self, x: Any, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return x[attrs["index"]]


def results(node: Node) -> list[Node]:
    """All results of an op that has several, as nodes."""
    return [ops.project(node, index=k) for k in range(len(node.spec))]


@register
class Cond(Control):
    """y = then(operands) where the bool scalar is true, else otherwise(operands).

    The cotangents of the operands come from the branch that was taken.
    """

    attributes: ClassVar[Mapping[str, str]] = {"otherwise": "graph", "then": "graph"}

    def infer(self, *specs: TensorSpec, **attrs: Any) -> Any:
        then, otherwise = attrs["then"], attrs["otherwise"]
        if not specs or specs[0] != TensorSpec("bool", ()):
            got = specs[0] if specs else "nothing"
            raise DTypeError(f"cond: the predicate is {got}; expected a bool scalar")
        for name, body in (("then", then), ("otherwise", otherwise)):
            _check_operands("cond", body, specs[1:], name)
        if len(then.outputs) != len(otherwise.outputs):
            raise GraphError(
                f"cond: then gives {len(then.outputs)} values, otherwise {len(otherwise.outputs)}"
            )
        for k, (a, b) in enumerate(zip(then.outputs, otherwise.outputs, strict=True)):
            _check_same(f"cond: value {k} of otherwise", a.spec, b.spec)
        return tuple(node.spec for node in then.outputs)

    def vjp(self, node: Node, ct: Any) -> list[Node | None]:
        operands = node.inputs[1:]
        wanted = [k for k, x in enumerate(operands) if is_float(x.dtype)]
        given = [k for k, c in enumerate(ct) if c is not None]
        bodies = {name: _reverse(node.attrs[name], given, wanted) for name in ("then", "otherwise")}
        reverse = ops.cond(node.inputs[0], *operands, *(ct[k] for k in given), **bodies)
        parts: list[Node | None] = [None] * len(node.inputs)
        for k, part in zip(wanted, results(reverse), strict=True):
            parts[k + 1] = part
        return parts

    def lower(
        self, bodies: Any, node: Node, operands: Sequence[int], targets: Sequence[int]
    ) -> list[Any]:
        sides = (
            tuple(bodies.steps(node.attrs[name], operands[1:], targets))
            for name in ("then", "otherwise")
        )
        return [Branch(operands[0], *sides)]

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> Any:
        pick, *operands = arrays
        return tuple(run_body(attrs["then" if pick else "otherwise"], operands))


def _placeholders(nodes: Sequence[Node]) -> tuple[Node, ...]:
    return tuple(ops.placeholder(dtype=n.dtype, shape=n.shape) for n in nodes)


def _reverse(body: Graph, given: Sequence[int], wanted: Sequence[int]) -> Graph:
    """(operands, cotangents of the outputs `given`) -> cotangents of the operands `wanted`."""
    from graphflow.compiler.autodiff import vjp

    outputs = [body.outputs[k] for k in given]
    cotangents = _placeholders(outputs)
    sources = [body.inputs[k] for k in wanted]
    parts = vjp(outputs, sources, cotangents)
    values = (
        part if part is not None else zeros_like(x) for part, x in zip(parts, sources, strict=True)
    )
    return Graph((*body.inputs, *cotangents), tuple(values))


@register
class Scan(Control):
    """Carries c and rows y of a loop: for t in 0..length-1: c, y[t] = body(c, x[t], constants).

    Operands: `carries` initial values, `sequences` arrays with `length` rows, then constants. The
    results are the final carries and the stacked rows. With `reverse`, t runs downwards and row t
    stays at its place. Cotangents: a scan the other way over the carries that a replay gives.
    """

    attributes: ClassVar[Mapping[str, str]] = {
        "body": "graph",
        "carries": "int",
        "length": "size",
        "reverse": "bool",
        "sequences": "int",
    }

    def infer(self, *specs: TensorSpec, **attrs: Any) -> Any:
        body, length = attrs["body"], attrs["length"]
        carries, sequences = attrs["carries"], attrs["sequences"]
        if not 0 <= carries <= len(body.outputs) or not 0 <= sequences <= len(specs) - carries:
            raise GraphError(f"scan: {carries} carries and {sequences} sequences do not fit")
        inner = list(specs)
        for k in range(carries, carries + sequences):
            if specs[k].ndim == 0 or not is_equal(specs[k].shape[0], length, "scan length"):
                raise ShapeError(
                    f"scan: sequence {k - carries} is {specs[k]}; expected {length} rows"
                )
            inner[k] = specs[k].with_shape(specs[k].shape[1:])
        _check_operands("scan", body, inner, "the body")
        for k in range(carries):
            _check_same(f"scan: new carry {k}", specs[k], body.outputs[k].spec)
        rows = [node.spec for node in body.outputs[carries:]]
        return (*specs[:carries], *(r.with_shape((length, *r.shape)) for r in rows))

    def vjp(self, node: Node, ct: Any) -> list[Node | None]:
        body, count = node.attrs["body"], node.attrs["carries"]
        rows = node.attrs["sequences"]
        attrs = {key: node.attrs[key] for key in ("length", "sequences")}
        # Replay, keeping the carry that each pass began with.
        kept = Graph(body.inputs, (*body.outputs[:count], *body.inputs[:count]))
        replay = ops.scan(
            *node.inputs, body=kept, carries=count, reverse=node.attrs["reverse"], **attrs
        )
        history = results(replay)[count:]
        smooth = [k for k, x in enumerate(node.inputs) if is_float(x.dtype)]
        carried = [k for k in smooth if k < count]
        moved = [k for k in smooth if count <= k < count + rows]
        fixed = [k for k in smooth if k >= count + rows]
        given = [k for k in range(count, len(ct)) if ct[k] is not None]
        reverse = self._reverse_body(node, carried, moved, fixed, given)
        first = [ct[k] if ct[k] is not None else zeros_like(node.inputs[k]) for k in carried]
        totals = [zeros_like(node.inputs[k]) for k in fixed]
        sequences = [*history, *node.inputs[count : count + rows], *(ct[k] for k in given)]
        back = ops.scan(
            *first,
            *totals,
            *sequences,
            *node.inputs[count + rows :],
            body=reverse,
            carries=len(first) + len(totals),
            sequences=len(sequences),
            length=node.attrs["length"],
            reverse=not node.attrs["reverse"],
        )
        parts: list[Node | None] = [None] * len(node.inputs)
        for k, part in zip((*carried, *fixed, *moved), results(back), strict=True):
            parts[k] = part
        return parts

    @staticmethod
    def _reverse_body(
        node: Node,
        carried: Sequence[int],
        moved: Sequence[int],
        fixed: Sequence[int],
        given: Sequence[int],
    ) -> Graph:
        """(ct of carries, totals, carry, rows, ct of rows, constants) -> the same one pass back."""
        from graphflow.compiler.autodiff import vjp

        body, count = node.attrs["body"], node.attrs["carries"]
        split = count + node.attrs["sequences"]
        carry_cts = _placeholders([body.inputs[k] for k in carried])
        totals = _placeholders([body.inputs[k] for k in fixed])
        row_cts = _placeholders([body.outputs[k] for k in given])
        outputs = [body.outputs[k] for k in (*carried, *given)]
        wanted = [body.inputs[k] for k in (*carried, *fixed, *moved)]
        raw = vjp(outputs, wanted, [*carry_cts, *row_cts])
        parts = [p if p is not None else zeros_like(x) for p, x in zip(raw, wanted, strict=True)]
        for k, total in enumerate(totals, len(carried)):
            parts[k] = total + parts[k]
        inputs = (*carry_cts, *totals, *body.inputs[:split], *row_cts, *body.inputs[split:])
        return Graph(inputs, tuple(parts))

    def lower(
        self, bodies: Any, node: Node, operands: Sequence[int], targets: Sequence[int]
    ) -> list[Any]:
        body, count = node.attrs["body"], node.attrs["carries"]
        split, reverse = count + node.attrs["sequences"], node.attrs["reverse"]
        sliced, inner, written = [], list(targets[:count]), list(targets[:count])
        pairs = [
            *((spec, base, inner) for spec, base in zip(
                (x.spec for x in body.inputs[count:split]), operands[count:split], strict=True
            )),
            *((y.spec, base, written) for y, base in zip(
                body.outputs[count:], targets[count:], strict=True
            )),
        ]  # fmt: skip
        for spec, base, places in pairs:
            row = bodies.row(spec, base)
            sliced.append(Sliced(row, base, spec.nbytes, reverse))
            places.append(row)
        # The carry lives in the buffer of the result; each pass overwrites it at its end.
        start = [Copy(a, b) for a, b in zip(operands[:count], targets[:count], strict=True)]
        steps = bodies.steps(body, [*inner, *operands[split:]], written)
        return [*start, Loop(node.attrs["length"], tuple(sliced), tuple(steps))]

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> Any:
        count, rows, length = attrs["carries"], attrs["sequences"], attrs["length"]
        body = attrs["body"]
        carries = list(arrays[:count])
        sequences, constants = arrays[count : count + rows], arrays[count + rows :]
        steps = range(length - 1, -1, -1) if attrs["reverse"] else range(length)
        stacked: list[np.ndarray] | None = None
        for t in steps:
            values = run_body(body, [*carries, *(x[t] for x in sequences), *constants])
            carries, made = values[:count], values[count:]
            if stacked is None:
                stacked = [np.zeros((length, *v.shape), v.dtype) for v in made]
            for target, value in zip(stacked, made, strict=True):
                target[t] = value
        if stacked is None:
            from graphflow.compiler.interpreter import bind_dims

            sample = [*carries, *(np.zeros(x.shape[1:], x.dtype) for x in sequences), *constants]
            env = bind_dims(body.inputs, sample)
            specs = [node.spec for node in body.outputs[count:]]
            stacked = [np.zeros((0, *s.concrete_shape(env)), s.dtype) for s in specs]
        return (*carries, *stacked)


def scan_length(sequences: Sequence[Node], length: Size | None) -> Size:
    """The number of passes: given, or the rows of the first sequence."""
    if length is not None:
        return length
    if not sequences:
        raise GraphError("scan: without sequences the length must be given")
    if sequences[0].ndim == 0:
        raise ShapeError(f"scan: sequence 0 is {sequences[0].spec}; it has no axis to walk along")
    return sequences[0].shape[0]
