"""Random tensors: a generator's state in, tensors of random numbers out, new ones on every call.

The state is a variable like any other, int64 (seed, counter). A function that draws from it adds 1
to the counter on each call, unless its updates say otherwise. Inside `gf.scan` every pass sees one
state, so it draws the same numbers; draw them outside, one row per pass, where that is not meant.
The numbers follow from the seed, the counter, and the order in which the draws were written;
threads and fusion do not change them.
"""

from __future__ import annotations

import math
import secrets
import threading
from typing import Any
from weakref import WeakSet

import numpy as np

from graphflow import functions
from graphflow.compiler.dims import Dim
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import as_dtype
from graphflow.compiler.ops.random import RandomOp
from graphflow.compiler.spec import DEFAULT_FLOAT, DEFAULT_INT, is_float, is_integer
from graphflow.composite import composite
from graphflow.errors import DTypeError, GraphError, ShapeError, with_line
from graphflow.manipulation import take
from graphflow.tensor import Tensor, as_tensor, dtype_name, user_shape
from graphflow.variable import Variable, is_variable, variable

__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "normal",
    "permutation",
    "randint",
    "seed",
    "truncated_normal",
    "uniform",
]


#: the states of all generators
_states: WeakSet[Node] = WeakSet()


class Generator:
    """A source of random numbers.

    Attributes:
        state: variable int64 (seed, counter); `state.value = ...` sets both.

    Args:
        seed: any integer; None takes one from the operating system.
    """

    def __init__(self, seed: int | None = None, name: str = "random_state"):
        first = secrets.randbits(64) if seed is None else seed
        self.state: Variable = variable(_state_of(first), name=name, trainable=False)
        self._streams = 0
        self._lock = threading.Lock()
        _states.add(self.state.node)

    def seed(self, seed: int) -> None:
        """Start again: functions that exist repeat their numbers, and so do graphs built anew."""
        with self._lock:
            self.state.value = _state_of(seed)
            self._streams = 0

    def next_stream(self) -> int:
        """The number that tells the next draw in a graph from those before it."""
        with self._lock:
            self._streams += 1
            return self._streams - 1


def _state_of(seed: int) -> np.ndarray:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise GraphError(with_line(f"seed: got {seed!r}; expected an int"))
    low = int(seed) & (1 << 64) - 1
    return np.array([low - (1 << 64) if low >> 63 else low, 0], np.int64)


_default: Generator | None = None
_default_lock = threading.Lock()


def default_generator() -> Generator:
    """The generator behind every draw that names none; its first seed is the system's."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Generator()
        return _default


def seed(seed: int) -> None:
    """Seed the default generator; see `Generator.seed`.

    The numbering of draws starts again too, so that building a graph after `seed` gives the same
    numbers each time. Draws made before and after it in one function may therefore be equal; use
    a Generator of its own for one of them.

    >>> import graphflow as gf
    >>> gf.seed(7)
    >>> f = gf.function([], gf.random.uniform((2,)), mode="interpret")
    >>> first = f()
    >>> bool((first != f()).all())
    True
    >>> gf.seed(7)
    >>> bool((first == f()).all())
    True
    """
    default_generator().seed(seed)


def generator_updates(graph: Graph) -> list[tuple[Node, Node]]:
    """Pairs (state, state with the next counter) of the generators that a graph draws from.

    A state counts if a random op reads it (which holds for loaded graphs too), or if it was made by
    a Generator (a loop's body draws from it unseen).
    """
    written = {target for target, _ in graph.updates}
    states = dict.fromkeys(node.inputs[0] for node in graph.nodes if isinstance(node.op, RandomOp))
    states |= dict.fromkeys(node for node in graph.variables if node in _states)
    step = np.array([0, 1], np.int64)
    return [
        (state, ops.add(state, ops.constant(value=step)))
        for state in states
        if is_variable(state) and state not in written
    ]


# ---- draws -----------------------------------------------------------------------------------


def _draw(op: Any, generator: Generator | None, **attrs: Any) -> Node:
    source = default_generator() if generator is None else generator
    return op(source.state.node, stream=source.next_stream(), **attrs)


def _float_dtype(name: str, dtype: object) -> str:
    result = dtype_name(dtype)
    if not is_float(result):
        raise DTypeError(with_line(f"{name}: dtype {result}; expected float32 or float64"))
    return result


def _unit(name: str, shape: Any, dtype: str, generator: Generator | None) -> Tensor:
    """Uniform in [0, 1)."""
    sizes = user_shape(name, shape)
    return Tensor(_draw(ops.random_uniform, generator, shape=sizes, dtype=dtype))


def _placed(x: Tensor, scale: Any, offset: Any, shape: Any, name: str) -> Tensor:
    """x · scale + offset, which must not change the shape."""
    if not (isinstance(scale, (int, float)) and scale == 1):
        x = x * scale
    if not (isinstance(offset, (int, float)) and offset == 0):
        x = x + offset
    wanted = user_shape(name, shape)
    if x.shape != wanted:
        raise ShapeError(
            with_line(f"{name}: the parameters make {x.node.spec}; expected the shape {wanted}")
        )
    return x


@composite
def uniform(
    shape: Any,
    minval: Any = 0.0,
    maxval: Any = 1.0,
    dtype: object = DEFAULT_FLOAT,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in [minval, maxval); rounding may give maxval itself.

    Args:
        shape: sizes; named dims may be among them.
        minval, maxval: numbers, or tensors of that dtype that broadcast to the shape.
        generator: the default generator if None.
    """
    kind = _float_dtype("uniform", dtype)
    x = _unit("uniform", shape, kind, generator)
    return _placed(x, maxval - minval, minval, shape, "uniform")


@composite
def normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: object = DEFAULT_FLOAT,
    generator: Generator | None = None,
) -> Tensor:
    """Normal with the given mean and standard deviation, by Box and Muller: √(-2 ln u) cos 2πv."""
    kind = _float_dtype("normal", dtype)
    # 1 - u lies in (0, 1], so the logarithm is finite.
    radius = functions.sqrt(functions.log1p(-_unit("normal", shape, kind, generator)) * -2.0)
    angle = _unit("normal", shape, kind, generator) * (2 * math.pi)
    return _placed(radius * functions.cos(angle), stddev, mean, shape, "normal")


#: P(|z| < 2) of a standard normal z
_WITHIN_TWO = math.erf(math.sqrt(2.0))


@composite
def truncated_normal(
    shape: Any,
    mean: Any = 0.0,
    stddev: Any = 1.0,
    dtype: object = DEFAULT_FLOAT,
    generator: Generator | None = None,
) -> Tensor:
    """Normal restricted to mean ± 2 stddev, as Keras' initialisers take it (Φ⁻¹ of a uniform)."""
    kind = _float_dtype("truncated_normal", dtype)
    u = _unit("truncated_normal", shape, kind, generator)
    half = _inverse_erf((u * 2.0 - 1.0) * _WITHIN_TWO, steps=2 if kind == "float64" else 1)
    z = functions.clip(half * math.sqrt(2.0), -2.0, 2.0)
    return _placed(z, stddev, mean, shape, "truncated_normal")


def _inverse_erf(p: Tensor, steps: int) -> Tensor:
    """x with erf x = p, for |p| <= 0.9545: Winitzki's formula, made exact by Halley's method.

    The formula is right to 2e-3, and each step cubes the error.
    """
    a = 0.147
    logarithm = functions.log1p(-(p * p))
    middle = logarithm * 0.5 + 2 / (math.pi * a)
    inner = functions.sqrt(middle * middle - logarithm * (1 / a)) - middle
    x = functions.sign(p) * functions.sqrt(functions.maximum(inner, 0.0))
    for _ in range(steps):
        newton = (functions.erf(x) - p) * functions.exp(x * x) * (math.sqrt(math.pi) / 2)
        x = x - newton / (x * newton + 1.0)
    return x


@composite
def bernoulli(
    shape: Any, p: Any = 0.5, dtype: object = "bool", generator: Generator | None = None
) -> Tensor:
    """True (or 1) with probability p.

    Args:
        p: a number, or a tensor of probabilities that broadcasts to the shape.

    Raises:
        GraphError: p is a number outside 0..1.
    """
    if isinstance(p, (int, float)) and not 0 <= p <= 1:
        raise GraphError(with_line(f"bernoulli: p is {p}; expected a probability in 0..1"))
    kind = p.dtype if isinstance(p, Tensor) and is_float(p.dtype) else DEFAULT_FLOAT
    # A uniform number is below 1, and never below 0: p = 1 and p = 0 are certain.
    hit = _unit("bernoulli", shape, kind, generator) < p
    return Tensor(as_dtype(_placed(hit, 1, 0, shape, "bernoulli").node, dtype_name(dtype)))


@composite
def randint(
    shape: Any,
    minval: int,
    maxval: int,
    dtype: object = DEFAULT_INT,
    generator: Generator | None = None,
) -> Tensor:
    """Integers in [minval, maxval), each as likely as the others.

    Raises:
        GraphError: there is no integer in between, or the dtype does not hold them.
    """
    kind = dtype_name(dtype)
    low, high = int(minval), int(maxval)
    if low != minval or high != maxval or high <= low:
        raise GraphError(with_line(f"randint: {minval}..{maxval}; expected ints, minval < maxval"))
    if not is_integer(kind):
        raise DTypeError(with_line(f"randint: dtype {kind}; expected an integer dtype"))
    limits = np.iinfo(kind)
    if low < limits.min or high - 1 > limits.max:
        raise GraphError(with_line(f"randint: {kind} does not hold {low}..{high - 1}"))
    sizes = user_shape("randint", shape)
    bits = Tensor(_draw(ops.random_bits, generator, shape=sizes, dtype="uint64"))
    # The remainder of 64 bits favours no number by more than (maxval - minval) / 2**64.
    if high - low < 1 << 64:
        bits = bits % (high - low)
    # Both casts and the sum wrap, which is right modulo the size of the dtype.
    number = as_dtype(bits.node, kind)
    return Tensor(number if low == 0 else number + low)


@composite
def permutation(x: Any, generator: Generator | None = None) -> Tensor:
    """A random order: of 0..n-1 for a size n, of the first axis for a tensor.

    Args:
        x: an int or a named dim; or a tensor (n, ...), whose rows are taken in random order.
    """
    if isinstance(x, (int, np.integer, Dim)) and not isinstance(x, bool):
        (size,) = user_shape("permutation", x)
        return Tensor(_draw(ops.random_permutation, generator, size=size))
    tensor = as_tensor(x, name="permutation")
    if not tensor.ndim:
        raise ShapeError(
            with_line(f"permutation: {describe(tensor.node)}; expected a size or at least one axis")
        )
    order = _draw(ops.random_permutation, generator, size=tensor.shape[0])
    return take(tensor, Tensor(order), axis=0)
