"""What random graphs are drawn from: one function per kind of node, or of a few nodes."""

from __future__ import annotations

from graphflow.compiler.autodiff import grad
from graphflow.compiler.dims import floor_div, symbol
from graphflow.compiler.graph import Node, topological_order
from graphflow.compiler.op import ops
from graphflow.compiler.spec import FLOATS, is_float, is_integer
from tests.fuzz.drawing import INTEGER_DTYPES, Drawing
from tests.io.random_graphs import random_node

UNARY = ("tanh", "sin", "cos", "sigmoid", "relu", "abs", "negative", "square", "exp", "erf",
         "stop_gradient", "atan")  # fmt: skip
BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "atan2")
EXACT_UNARY = ("relu", "abs", "negative", "square", "stop_gradient", "sign", "floor", "round")
EXACT_BINARY = ("add", "subtract", "multiply", "maximum", "minimum", "floor_divide", "remainder")
COMPARISONS = ("less", "less_equal", "greater", "greater_equal")

#: what jumps where rounding decides, so that compiled and interpreted values may differ
JUMPS = frozenset(
    ("floor_divide", "remainder", "fmod", "equal", "not_equal", "argmax", "argmin", "floor", "ceil")
    + ("round", "trunc", "sign", "cast", "tan", "is_nan")
)
_NOT_DRAWN = frozenset(("placeholder", "variable", "project"))


def unary(d: Drawing) -> Node | None:
    x = d.pick_float()
    return ops.find(d.rng.choice(EXACT_UNARY if d.exact else UNARY))(x)


def binary(d: Drawing) -> Node | None:
    a = d.pick_float()
    b = d.pick_like(a)
    return ops.find(d.rng.choice(EXACT_BINARY if d.exact else BINARY))(a, b) if b else None


def with_constant(d: Drawing) -> Node | None:
    """Constants that the passes look for: 0, 1, -1, 2, and powers of two."""
    x = d.pick_float()
    value = d.rng.choice([0.0, -0.0, 1.0, -1.0, 2.0, 0.5] + [] if d.exact else [0.3])
    other = ops.full(shape=d.rng.choice([(), (1,), x.shape]), value=value, dtype=x.dtype)
    name = d.rng.choice(["add", "subtract", "multiply", "divide", "power", "maximum"])
    if name == "divide" and value == 0:
        return None
    operands = [x, other] if d.rng.random() < 0.7 or name in ("divide", "power") else [other, x]
    return ops.find(name)(*operands)


def choice(d: Drawing) -> Node | None:
    """`where` with a condition of any shape that broadcasts."""
    c = d.pick(lambda x: x.dtype == "bool")
    a = d.pick_float() if d.rng.random() < 0.7 else d.pick_integer()
    b = d.pick_like(a)
    return ops.where(c, a, b) if b is not None else None


def comparison(d: Drawing) -> Node | None:
    a = d.pick_float() if d.rng.random() < 0.6 else d.pick_integer()
    b = d.pick_like(a)
    names = COMPARISONS
    if d.exact or is_integer(a.dtype):
        names = (*names, "equal", "not_equal")
    return ops.find(d.rng.choice(names))(a, b) if b is not None else None


def logic(d: Drawing) -> Node | None:
    a, b = (d.pick(lambda x: x.dtype == "bool") for _ in range(2))
    kind = d.rng.choice(["not", "reduce", "binary"])
    if kind == "not":
        return ops.logical_not(a)
    if kind == "reduce":
        return ops.find(d.rng.choice(["all", "any"]))(a, axes=d.pick_axes(a)) if a.ndim else None
    return ops.find(d.rng.choice(["logical_and", "logical_or", "logical_xor"]))(a, b)


def reduction(d: Drawing) -> Node | None:
    x = d.pick_float(1)
    if d.exact and d.rng.random() < 0.2:
        return ops.find(d.rng.choice(["argmax", "argmin"]))(x, axes=(d.rng.randrange(x.ndim),))
    name = d.rng.choice(["sum", "sum", "max", "min", "prod"])
    return ops.find(name)(x, axes=d.pick_axes(x))


def integer(d: Drawing) -> Node | None:
    """Arithmetic that wraps around, and what is undefined for machines: x // 0, the least // -1."""
    a = d.pick_integer()
    kind = d.rng.choice(["unary", "binary", "binary", "reduce", "cast", "clip"])
    if kind == "unary":
        return ops.find(d.rng.choice(["negative", "abs", "square", "sign", "relu"]))(a)
    if kind == "cast":
        targets = (*INTEGER_DTYPES, d.float, "bool") if d.exact else (*INTEGER_DTYPES, "bool")
        return ops.cast(a, dtype=d.rng.choice(targets))
    if kind == "reduce":
        if not a.ndim:
            return None
        name = d.rng.choice(["sum", "prod", "max", "min", "argmax", "argmin"])
        axes = (d.rng.randrange(a.ndim),) if name.startswith("arg") else d.pick_axes(a)
        return ops.find(name)(a, axes=axes)
    b = d.pick_like(a)
    if b is None:
        return None
    if kind == "clip":
        low, high = (ops.full(shape=(), value=v, dtype=a.dtype) for v in (1, 2))
        return ops.clip(a, low, high)
    names = ("add", "subtract", "multiply", "maximum", "minimum", "floor_divide", "remainder",
             "fmod", "power")  # fmt: skip
    return ops.find(d.rng.choice(names))(a, b)


def cast(d: Drawing) -> Node | None:
    """Bools and ints as floats, floats as the other float; where nothing rounds, as ints too."""
    if d.exact and d.rng.random() < 0.5:
        return ops.cast(d.pick_float(), dtype=d.rng.choice((*INTEGER_DTYPES, "bool")))
    if not d.exact and d.rng.random() < 0.3:
        return ops.cast(d.pick(lambda x: is_float(x.dtype)), dtype=d.rng.choice(FLOATS))
    small = d.pick(lambda x: x.dtype in ("bool", "int64", "int8", "uint8"))
    return ops.cast(small, dtype=d.float)


def matmul(d: Drawing) -> Node | None:
    a = d.pick_float(2) if d.rng.random() < 0.85 else d.pick_integer(2)
    left, right = d.rng.random() < 0.3, d.rng.random() < 0.3
    inner = a.shape[-2 if left else -1]
    b = d.pick(
        lambda x: x.dtype == a.dtype and x.ndim >= 2 and x.shape[-1 if right else -2] == inner
    )
    if b is None:
        return None
    y = ops.matmul(a, b, transpose_a=left, transpose_b=right)
    return y if is_integer(a.dtype) else y * (0.5 if d.exact else 0.3)


def movement(d: Drawing) -> Node | None:
    x = d.pick_float(1)
    kinds = ["permute", "reshape", "broadcast", "concat", "flip", "expand", "pad", "slice", "crop"]
    kind = d.rng.choice(kinds)
    if kind == "permute":
        return ops.permute_dims(x, axes=tuple(d.rng.sample(range(x.ndim), x.ndim)))
    if kind == "reshape":
        return _reshaped(d, x)
    if kind == "broadcast":
        return ops.broadcast_to(x, shape=(d.rng.choice([2, symbol("m")]), *x.shape))
    if kind == "concat":
        return _concat(d, x)
    if kind == "flip":
        axis = d.rng.randrange(x.ndim)
        start = tuple(x.shape[a] - 1 if a == axis else 0 for a in range(x.ndim))
        step = tuple(-1 if a == axis else 1 for a in range(x.ndim))
        return ops.slice(x, start=start, step=step, shape=x.shape)
    if kind == "slice":
        return _sliced(d, x)
    if kind == "expand":
        place = d.rng.randrange(x.ndim + 1)
        return ops.reshape(x, shape=(*x.shape[:place], 1, *x.shape[place:]))
    fill = ops.full(shape=(), value=0.25, dtype=x.dtype)
    if d.rng.random() < 0.3:
        fill = d.pick(lambda y: y.dtype == d.float and not y.ndim)
    least = -1 if kind == "crop" else 0
    low, high = (tuple(d.rng.randrange(least, 3) for _ in x.shape) for _ in range(2))
    return ops.pad(x, fill, low=low, high=high, interior=(d.rng.randrange(2),) * x.ndim)


def _reshaped(d: Drawing, x: Node) -> Node:
    """Two neighbouring axes as one, all as one, or one as two."""
    if d.rng.random() < 0.3:
        at, part = d.rng.randrange(x.ndim), d.rng.choice([2, 3, symbol("n"), symbol("m")])
        split = (part, floor_div(x.shape[at], part))
        return ops.reshape(x, shape=(*x.shape[:at], *split, *x.shape[at + 1 :]))
    if x.ndim < 2 or d.rng.random() < 0.4:
        return ops.reshape(x, shape=(x.spec.size,))
    at = d.rng.randrange(x.ndim - 1)
    merged = x.shape[at] * x.shape[at + 1]
    return ops.reshape(x, shape=(*x.shape[:at], merged, *x.shape[at + 2 :]))


def _concat(d: Drawing, x: Node) -> Node:
    """x with itself changed, or with what fits; or a stack, along any axis."""
    other = d.pick(lambda y: y.spec == x.spec) or x
    if d.rng.random() < 0.4:
        place = d.rng.randrange(x.ndim + 1)
        parts = [
            ops.reshape(y, shape=(*x.shape[:place], 1, *x.shape[place:]))
            for y in (x, other, ops.negative(other))
        ]
        return ops.concat(*parts, axis=place)
    return ops.concat(x, other, ops.negative(x), axis=d.rng.randrange(x.ndim))


def _sliced(d: Drawing, x: Node) -> Node:
    """Steps of 2 and 3, forwards and backwards, from either end."""
    start, step, shape = [], [], []
    for size in x.shape:
        stride = d.rng.choice([1, 1, 2, 3])
        begin = d.rng.randrange(2) if size != 1 else 0
        count = floor_div(size - begin + stride - 1, stride)
        if d.rng.random() < 0.3:
            begin, stride = size - 1 - begin, -stride
        start.append(begin)
        step.append(stride)
        shape.append(count)
    return ops.slice(x, start=tuple(start), step=tuple(step), shape=tuple(shape))


def take(d: Drawing) -> Node | None:
    x, indices = d.pick_float(1), d.pick(lambda x: is_integer(x.dtype) and x.ndim <= 2)
    return ops.take(x, indices, axis=d.rng.randrange(x.ndim))


def scatter(d: Drawing) -> Node | None:
    x, indices = d.pick_float(1), d.pick(lambda x: x.dtype == "int64" and x.ndim == 1)
    axes = [a for a in range(x.ndim) if x.shape[a] == indices.shape[0]]
    if not axes:
        return None
    return ops.scatter_add(x, indices, axis=d.rng.choice(axes), size=d.rng.choice([3, 4, 7]))


def gradient(d: Drawing) -> Node | None:
    """The gradient of a sum by one of its leaves."""
    y = d.pick_float()
    weights = ops.square(y) if d.exact else ops.cos(y)
    loss = ops.sum(y * weights, axes=tuple(range(y.ndim))) if y.ndim else y * weights
    leaves = [n for n in topological_order([loss]) if n in d.leaves and n.dtype == d.float]
    if not leaves:
        return None
    return grad(loss, [d.rng.choice(leaves)])[0]


IN_DOMAIN = {
    "tame": ("asin", "acos", "atanh", "log1p", "expm1", "sinh", "cosh", "asinh"),
    "positive": ("log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "acosh"),
}


def in_domain(d: Drawing) -> Node | None:
    """A function with a domain, of an argument made to lie in it."""
    if d.exact:
        return None
    x = d.pick_float()
    kind = d.rng.choice(list(IN_DOMAIN))
    inside = ops.tanh(x) * 0.8 if kind == "tame" else ops.square(x) + 1.25
    return ops.find(d.rng.choice(IN_DOMAIN[kind]))(inside)


def randomness(d: Drawing) -> Node | None:
    """Random numbers of some shape that is in use."""
    like = d.pick_float()
    (state,) = (n for n in d.leaves if n.dtype == "int64" and n.shape == (2,))
    stream = d.rng.randrange(4)
    if d.rng.random() < 0.3:
        order = ops.random_permutation(state, size=symbol("m"), stream=stream)
        table = d.pick(lambda x: x.dtype == d.float and x.ndim > 0 and x.shape[0] == symbol("m"))
        return ops.take(table, order, axis=0) if table is not None else None
    return ops.random_uniform(state, shape=like.shape, dtype=d.float, stream=stream)


def conv(d: Drawing) -> Node | None:
    """A convolution along the middle axis of (n, 6, 3), or over the (5, 5) of an image."""
    flat = d.rng.random() < 0.5
    x = d.pick(
        lambda x: (
            x.dtype == d.float
            and (x.ndim == 3 and x.shape[1:] == (6, 3) if flat else x.shape == (5, 5, 3))
        )
    )
    shape = (2, 3, 4) if flat else (3, 3, 3, 2)
    w = d.pick(lambda x: x.dtype == d.float and x.shape == shape)
    if x is None or w is None:
        return None
    if not flat:
        x = ops.reshape(x, shape=(1, *x.shape))
    axes = range(1 if flat else 2)
    strides, dilation, low, high = (
        tuple(d.rng.randrange(a, a + 2) for _ in axes) for a in (1, 1, 0, 0)
    )
    y = ops.conv(x, w, strides=strides, dilation=dilation, low=low, high=high, groups=1)
    return y * (0.5 if d.exact else 0.3)


def twin(d: Drawing) -> Node | None:
    """A second copy of a node, for common subexpressions."""
    x = d.pick(lambda x: bool(x.inputs) and not x.op.is_projection)
    return x.op(*x.inputs, **x.attrs) if x is not None and not x.op.stateful else None


def any_op(d: Drawing) -> Node | None:
    """Any registered op with random attributes."""
    not_drawn = _NOT_DRAWN if d.exact else _NOT_DRAWN | JUMPS
    op = ops.find(d.rng.choice([n for n in ops.names() if n not in not_drawn]))
    if "graph" in op.attributes.values():
        return None
    pool = [n for n in d.values if not isinstance(n.spec, tuple)]
    return random_node(d.rng, op, pool, tries=30)
