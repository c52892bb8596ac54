"""Counts the multiplications and additions of a network from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.operations import Operations
from benchmarks.workload import Feeds, Parameters

# Cost of a value of an elementwise function; products dominate wherever they occur.
ELEMENT = 1
TRANSCENDENTAL = 10


@dataclass(frozen=True)
class Shape:
    """A value of which only the shape is known."""

    counter: Counter
    sizes: tuple[int, ...]

    def _with(self, other: Any) -> Shape:
        sizes = other.sizes if isinstance(other, Shape) else ()
        wide = max(self.sizes, sizes, key=math.prod)
        return self.counter.each(Shape(self.counter, wide))

    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = _with


class Counter(Operations):
    """Adds up the work of each operation."""

    side = "counting"

    def __init__(self) -> None:
        self.flops = 0.0
        self.first_product = 0.0

    def each(self, x: Shape, cost: float = ELEMENT) -> Shape:
        self.flops += cost * math.prod(x.sizes)
        return x

    def product(self, sizes: tuple[int, ...], depth: int) -> Shape:
        """`depth` multiplications and additions for each value."""
        cost = 2.0 * depth * math.prod(sizes)
        self.first_product = self.first_product or cost
        self.flops += cost
        return Shape(self, sizes)

    def matmul(self, x: Shape, w: Shape) -> Shape:
        return self.product((*x.sizes[:-1], w.sizes[-1]), w.sizes[0])

    def relu(self, x: Shape) -> Shape:
        return self.each(x)

    def silu(self, x: Shape) -> Shape:
        return self.each(x, TRANSCENDENTAL)

    gelu = softmax = silu

    def layer_norm(self, x: Shape, scale: Shape, offset: Shape) -> Shape:
        return self.each(x, 8)

    def conv(self, x: Shape, w: Shape, stride: int = 1, padding: int = 0) -> Shape:
        high, wide, depth, outputs = w.sizes
        area = self._area(x, high, wide, stride, padding)
        return self.product((x.sizes[0], *area, outputs), high * wide * depth)

    def depthwise(self, x: Shape, w: Shape, stride: int = 1, padding: int = 1) -> Shape:
        high, wide = w.sizes[:2]
        area = self._area(x, high, wide, stride, padding)
        return self.product((x.sizes[0], *area, x.sizes[3]), high * wide)

    def _area(self, x: Shape, high: int, wide: int, stride: int, padding: int) -> tuple[int, int]:
        kernel = (high, wide)
        rows, columns = (
            (size + 2 * padding - k) // stride + 1
            for size, k in zip(x.sizes[1:3], kernel, strict=True)
        )
        return rows, columns

    def batch_norm(self, x: Shape, *statistics: Shape) -> Shape:
        return self.each(x, 2)

    def max_pool(self, x: Shape, size: int, stride: int, padding: int = 0) -> Shape:
        area = self._area(x, size, size, stride, padding)
        return self.each(Shape(self, (x.sizes[0], *area, x.sizes[3])), size * size)

    def image_mean(self, x: Shape) -> Shape:
        self.each(x)
        return Shape(self, (x.sizes[0], x.sizes[-1]))

    token_mean = image_mean

    def dense_of_image(self, x: Shape, w: Shape, b: Shape) -> Shape:
        flat = Shape(self, (x.sizes[0], math.prod(x.sizes[1:])))
        return self.dense(flat, Shape(self, (flat.sizes[1], w.sizes[-1])), b)

    def self_attention(self, qkv: Shape, heads: int) -> Shape:
        batch, tokens, triple = qkv.sizes
        width = triple // 3
        self.softmax(self.product((batch, heads, tokens, tokens), width // heads))
        return self.product((batch, tokens, width), tokens)

    def lstm(self, x: Shape, w: Shape, u: Shape, b: Shape) -> Shape:
        steps, batch, features = x.sizes
        hidden = u.sizes[0]
        gates = self.product((steps, batch, 4 * hidden), features)
        self.product(gates.sizes, hidden)
        self.each(gates, TRANSCENDENTAL)
        return Shape(self, (batch, hidden))

    def cross_entropy(self, logits: Shape, labels: Shape) -> Shape:
        self.softmax(logits)
        return Shape(self, ())


def count(
    forward: Callable[..., Any],
    parameters: Parameters,
    feeds: Feeds,
    first_layer_only: bool = False,
) -> tuple[float, int]:
    """Floating-point operations, and values in the output.

    Args:
        first_layer_only: count only the first product, whose data need no gradient.
    """
    counter = Counter()
    shapes = {name: Shape(counter, p.array.shape) for name, p in parameters.items()}
    given = {name: Shape(counter, f.array.shape) for name, f in feeds.items()}
    result = forward(counter, shapes, **given)
    flops = counter.first_product if first_layer_only else counter.flops
    return flops, math.prod(result.sizes)
