"""Productions of several nodes that compilers get wrong: chained reductions, epilogues, bodies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import graphflow as gf
from graphflow.compiler.autodiff import grad
from graphflow.compiler.dims import symbol
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import restore_axes
from graphflow.compiler.ops.control import results
from graphflow.tensor import Tensor
from tests.fuzz.drawing import Drawing

# ---- reductions that build on each other -----------------------------------------------------


def chain(d: Drawing) -> Node | None:
    """x and a reduction of it meet, are reduced again, and so on; mostly over the same axes."""
    x = y = d.pick_float(1)
    axes = d.pick_axes(x)
    total = None
    for _ in range(d.rng.randint(1, 3)):
        if d.rng.random() < 0.25:
            axes = d.pick_axes(x)
        total = _total(d, y, axes)
        meets = d.rng.choice([x, y, y])
        y = _tamed(d, _meeting(d, meets, restore_axes(total, axes)))
    ending = d.rng.choice(["element", "element", "total", "both"])
    if ending == "element":
        return y
    last = _total(d, y, axes)
    return last if ending == "total" else ops.add(y, restore_axes(last, axes))


def _total(d: Drawing, y: Node, axes: tuple[int, ...]) -> Node:
    name = d.rng.choice(["sum", "sum", "max", "min"])
    total = ops.find(name)(y, axes=axes)
    if name == "sum" and not d.exact and d.rng.random() < 0.7:
        total = gf.mean(Tensor(y), axis=axes).node
    return _tamed(d, total) if d.rng.random() < 0.4 else total


def _meeting(d: Drawing, y: Node, total: Node) -> Node:
    kind = d.rng.choice(["subtract", "subtract", "multiply", "add", "maximum", "where"])
    if kind == "where":
        return ops.where(ops.less(y, total), y, total)
    return ops.find(kind)(y, total)


def _tamed(d: Drawing, y: Node) -> Node:
    """Something elementwise that keeps values moderate."""
    names = ("abs", "relu", "negative") if d.exact else ("tanh", "square", "abs", "sin", "sigmoid")
    return ops.find(d.rng.choice(names))(y) if d.rng.random() < 0.6 else y


def cross(d: Drawing) -> Node | None:
    """A reduction of a reduction over other axes, both broadcast back to where they came from."""
    x = d.pick_float(2)
    first = d.rng.randrange(x.ndim)
    rows = restore_axes(_total(d, x, (first,)), (first,))
    second = d.rng.choice([a for a in range(x.ndim) if a != first])
    columns = restore_axes(_total(d, ops.subtract(x, rows), (second,)), (second,))
    return ops.subtract(ops.maximum(x, rows), columns)


# ---- what users write ------------------------------------------------------------------------


def composite(d: Drawing) -> Node | None:
    """A function of the public API over random axes."""
    x = d.pick_float(1)
    axes = d.pick_axes(x)
    axis = d.rng.choice(axes)
    made = d.rng.choice(MOVES if d.exact else (*NORMS, *MOVES))(Tensor(x), axes, axis)
    return made.node


def _standardised(x: Tensor, axes: tuple[int, ...], axis: int) -> Tensor:
    mean, variance = gf.nn.moments(x, axes, keepdims=True)
    return (x - mean) * gf.rsqrt(variance + 0.1)


Composite = Callable[[Any, tuple[int, ...], int], Tensor]
NORMS: tuple[Composite, ...] = (
    lambda x, axes, axis: gf.var(x, axes),
    lambda x, axes, axis: gf.var(x, axes, keepdims=True) * x,
    lambda x, axes, axis: gf.sqrt(gf.var(x, axes) + 0.1),
    lambda x, axes, axis: gf.logsumexp(x, axes),
    lambda x, axes, axis: x - gf.logsumexp(x, axes, keepdims=True),
    lambda x, axes, axis: gf.nn.softmax(x, axis),
    lambda x, axes, axis: gf.nn.softmax(x, axes) * x,
    lambda x, axes, axis: gf.nn.log_softmax(x, axis),
    lambda x, axes, axis: gf.nn.layer_norm(x, axis=axes, epsilon=0.1),
    lambda x, axes, axis: gf.nn.rms_norm(x, axis=axes, epsilon=0.1),
    lambda x, axes, axis: gf.mean(gf.square(x - gf.mean(x, axes, keepdims=True)), axes),
    lambda x, axes, axis: gf.mean(gf.abs(x), axes) + gf.max(x, axes),
    _standardised,
    lambda x, axes, axis: gf.nn.gelu(x) + gf.nn.softplus(x) + gf.nn.elu(x) + gf.nn.silu(x),
)
MOVES: tuple[Composite, ...] = (
    lambda x, axes, axis: gf.flip(x, axes),
    lambda x, axes, axis: gf.roll(x, 1, axis),
    lambda x, axes, axis: gf.repeat(x, 2, axis),
    lambda x, axes, axis: gf.tile(x, 2),
    lambda x, axes, axis: gf.pad(x, 1, "edge"),
    lambda x, axes, axis: gf.pad(x, 1, "reflect"),
    lambda x, axes, axis: gf.stack([gf.sum(x, axis), gf.max(x, axis)], 0),
    lambda x, axes, axis: gf.concat([gf.sum(x, axis, keepdims=True), x], axis),
    lambda x, axes, axis: x[1:] - x[:-1],
    lambda x, axes, axis: x[..., ::-2],
    lambda x, axes, axis: gf.moveaxis(x, axis, 0)[1:, None],
    lambda x, axes, axis: gf.where(gf.max(x, axis, keepdims=True) > 0.5, x, 0.0),
    lambda x, axes, axis: gf.max(x, axes, keepdims=True) - gf.sum(gf.nn.relu(x), axes),
)


# ---- epilogues -------------------------------------------------------------------------------


def epilogue(d: Drawing) -> Node | None:
    """Elementwise work behind a product or convolution, with operands of its shape or narrower."""
    y = d.pick(lambda x: _template_behind(x) is not None)
    if y is None:
        return None
    for _ in range(d.rng.randint(1, 4)):
        other = d.pick(partial(_reaches_into, y))
        if other is not None and d.rng.random() < 0.7:
            y = ops.find(d.rng.choice(["add", "subtract", "maximum", "multiply"]))(y, other)
        else:
            y = _tamed(d, y)
    kind = d.rng.choice(["all", "reduced", "moved", "normalised"])
    if y.ndim == 0 or kind == "all":
        return y
    axes = d.pick_axes(y)
    if kind == "moved":
        return ops.permute_dims(y, axes=tuple(d.rng.sample(range(y.ndim), y.ndim)))
    total = _total(d, y, axes)
    return total if kind == "reduced" else ops.subtract(y, restore_axes(total, axes))


def _reaches_into(y: Node, x: Node) -> bool:
    """Whether x has the last axes of y, or all of them."""
    return x.dtype == y.dtype and x.ndim <= y.ndim and x.shape == y.shape[y.ndim - x.ndim :]


def _template_behind(node: Node) -> Node | None:
    """The product or convolution that a short chain of scalar functions ends in."""
    for _ in range(3):
        if node.op.name in ("matmul", "conv", "scatter_add"):
            return node
        if not node.inputs:
            return None
        node = node.inputs[0]
    return None


# ---- bodies ----------------------------------------------------------------------------------


class _Body:
    """Nodes over the operands of a body; all are safe for every shape and stay moderate."""

    def __init__(self, d: Drawing, inputs: tuple[Node, ...], size: int):
        self.d, self.inputs, self.nodes = d, inputs, list(inputs)
        for _ in range(size):
            self.nodes.append(self._drawn())

    def _drawn(self) -> Node:
        rng = self.d.rng
        x = rng.choice(self.nodes)
        kind = rng.choice(["unary", "binary", "binary", "total", "turned", "chosen", "nested"])
        if kind == "binary":
            other = rng.choice([y for y in self.nodes if y.shape == x.shape])
            return self.small(ops.find(rng.choice(["add", "subtract", "multiply"]))(x, other))
        if kind == "total" and x.ndim:
            axes = self.d.pick_axes(x)
            return self.small(ops.add(x, restore_axes(ops.sum(x, axes=axes), axes)))
        if kind == "turned" and x.ndim:
            start = (x.shape[0] - 1, *[0] * (x.ndim - 1))
            step = (-1, *[1] * (x.ndim - 1))
            return ops.slice(x, start=start, step=step, shape=x.shape)
        if kind == "nested":
            return self._nested(x)
        if kind == "chosen":
            zero = ops.full(shape=(), value=0, dtype=x.dtype)
            return ops.where(ops.less(x, zero), ops.negative(x), x)
        return self.small(x)

    def _nested(self, x: Node) -> Node:
        """A loop or a choice inside the body."""
        (c,) = _placeholders([x])
        once, twice = Graph((c,), (self.small(c + c),)), Graph((c,), (ops.negative(c),))
        if self.d.rng.random() < 0.5:
            attrs = {"carries": 1, "sequences": 0, "length": self.d.rng.randrange(3)}
            return results(ops.scan(x, body=once, reverse=False, **attrs))[0]
        test = ops.less(x, ops.full(shape=(), value=0, dtype=x.dtype))
        test = ops.any(test, axes=tuple(range(x.ndim))) if x.ndim else test
        return results(ops.cond(test, x, then=once, otherwise=twice))[0]

    def small(self, x: Node) -> Node:
        if not self.d.exact:
            return ops.tanh(x)
        one = ops.full(shape=(), value=1, dtype=x.dtype)
        return ops.maximum(ops.minimum(x, one + one), ops.negative(one))

    def like(self, node: Node) -> Node:
        """A result of the spec of `node`: computed, an operand, or an operand of another place."""
        return self.d.rng.choice([x for x in self.nodes if x.spec == node.spec])


def _placeholders(nodes: list[Node]) -> list[Node]:
    return [ops.placeholder(shape=x.shape, dtype=x.dtype) for x in nodes]


def loop(d: Drawing) -> Node | None:
    """A scan with one to three carries that may change places, rows, and constants."""
    carry = d.pick(lambda x: x.dtype == d.float and x.ndim <= 2)
    carries = [carry, *(d.pick_like(carry) or carry for _ in range(d.rng.randrange(3)))]
    first = d.pick_float(1)
    sequences = [first] if d.rng.random() < 0.8 else []
    if sequences and d.rng.random() < 0.4:
        sequences.append(d.pick(lambda x: x.ndim > 0 and x.shape[0] == first.shape[0]) or first)
    sequences = [x for x in sequences if x.dtype == d.float]
    constants = [d.pick_float()] if d.rng.random() < 0.5 else []
    length = sequences[0].shape[0] if sequences else d.rng.choice([3, symbol("n")])
    if not d.is_short(length):
        return None
    inner = _placeholders(carries)
    inner += [ops.placeholder(shape=x.shape[1:], dtype=x.dtype) for x in sequences]
    inner += _placeholders(constants)
    body = _Body(d, tuple(inner), d.rng.randint(1, 6))
    rows = [d.rng.choice(body.nodes) for _ in range(d.rng.randrange(3))]
    outputs = (*(body.like(x) for x in carries), *rows)
    made = ops.scan(
        *carries, *sequences, *constants,
        body=Graph(tuple(inner), outputs), carries=len(carries), sequences=len(sequences),
        length=length, reverse=d.rng.random() < 0.5,
    )  # fmt: skip
    return _one_result(d, made)


def recurrent(d: Drawing) -> Node | None:
    """A layer with products of rows, of the state and of both, perhaps differentiated."""
    xs = d.pick(lambda x: x.dtype == d.float and x.ndim == 3 and x.shape[1:] == (4, symbol("m")))
    w = d.pick(lambda x: x.dtype == d.float and x.shape == (symbol("m"), 4))
    v = d.pick(lambda x: x.dtype == d.float and x.shape == (4, 3))
    if xs is None or not d.is_short(xs.shape[0]):
        return None
    start = ops.full(shape=(4, 4), value=0.5, dtype=d.float)
    u = _product(v, v, right=True) * 0.5
    total = ops.full(shape=w.shape, value=0.0, dtype=d.float)
    operands = [start, total, xs, w, u]
    h, t, x, inner_w, inner_u = (
        ops.placeholder(shape=y.shape[1:] if y is xs else y.shape, dtype=d.float) for y in operands
    )
    body = _Body(d, (), 0)
    into = _product(x, inner_w) if d.rng.random() < 0.8 else ops.sum(x, axes=(1,))
    if into.ndim == 1:
        into = restore_axes(into, (1,))
    new = body.small(into + _product(h, inner_u))
    added = _product(x, d.rng.choice([new, h]), left=True)
    new_t = t + added if d.rng.random() < 0.7 else body.small(t + added)
    rows = d.rng.sample([new, h, into, added, _product(new, inner_u)], d.rng.randrange(3))
    made = ops.scan(
        *operands,
        body=Graph((h, t, x, inner_w, inner_u), (new, new_t, *rows)), carries=2, sequences=1,
        length=xs.shape[0], reverse=d.rng.random() < 0.5,
    )  # fmt: skip
    result = _one_result(d, made)
    if result is None or d.rng.random() < 0.5:
        return result
    parts = [ops.sum(ops.square(y), axes=(0, 1)) for y in results(made)[:2]]
    return grad(parts[0] + parts[1], [d.rng.choice([xs, w, v])])[0]


def _product(a: Node, b: Node, left: bool = False, right: bool = False) -> Node:
    return ops.matmul(a, b, transpose_a=left, transpose_b=right)


def branch(d: Drawing) -> Node | None:
    """A cond whose bodies may return operands, swapped ones, or one value twice."""
    operands = [d.pick_float()]
    operands += [d.pick_like(operands[0]) or operands[0] for _ in range(d.rng.randrange(3))]
    mask = d.pick(lambda y: y.dtype == "bool")
    test = ops.any(mask, axes=tuple(range(mask.ndim))) if mask.ndim else mask
    wanted = [d.rng.choice(operands) for _ in range(d.rng.randint(1, 3))]
    bodies = {}
    for name in ("then", "otherwise"):
        inner = tuple(_placeholders(operands))
        body = _Body(d, inner, d.rng.randint(0, 5))
        bodies[name] = Graph(inner, tuple(body.like(x) for x in wanted))
    return _one_result(d, ops.cond(test, *operands, **bodies))


def _one_result(d: Drawing, made: Node) -> Node | None:
    """One result; the others are kept as well if they are legal."""
    parts = results(made)
    d.rng.shuffle(parts)
    for part in parts[1:]:
        if not d.add(part):
            return None
    return parts[0]
