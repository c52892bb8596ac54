"""Index maps: ops that move elements and compute nothing, free inside a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.dims import (
    Dim,
    Size,
    delinearize,
    floor_div,
    is_nonnegative,
    linear_offset,
    product,
)
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Emitter, Map, ops, register
from graphflow.compiler.ops.blocks import permute, reshape, sum_to, zeros_like
from graphflow.compiler.spec import TensorSpec, broadcast_shapes, is_equal, shape_text


class Movement(Map):
    """An index map of one input."""

    is_free = True
    cost = 0

    def source_index(self, node: Node, index: tuple[Size, ...]) -> tuple[Size, ...]:
        """The index into the input for an element of the output."""
        raise NotImplementedError(f"{type(self).__name__} needs source_index")

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        return emit.get(node.inputs[0], self.source_index(node, index))


@register
class Reshape(Movement):
    """y = x with another shape, same elements in row-major order;  x̄ = reshape(ȳ)"""

    attributes: ClassVar[Mapping[str, str]] = {"shape": "shape"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        shape = attrs["shape"]
        if not is_equal(x.size, product(shape), "reshape keeps the number of elements"):
            raise ShapeError(
                f"reshape: {shape_text(x.shape)} has {x.size} elements, "
                f"{shape_text(shape)} has {product(shape)}"
            )
        return x.with_shape(shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [reshape(ct, node.inputs[0].shape)]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return x.reshape(attrs["shape"])

    def source_index(self, node: Node, index: tuple[Size, ...]) -> tuple[Size, ...]:
        return _reshaped_index(index, node.shape, node.inputs[0].shape)


def _reshaped_index(
    index: tuple[Size, ...], shape: tuple[Size, ...], source: tuple[Size, ...]
) -> tuple[Size, ...]:
    """Index into `source` of element `index` of `shape`; axes that agree pass through."""
    front = 0
    while front < min(len(shape), len(source)) and shape[front] == source[front]:
        front += 1
    back = 0
    while back < min(len(shape), len(source)) - front and shape[-1 - back] == source[-1 - back]:
        back += 1
    inner, outer = slice(front, len(shape) - back), slice(front, len(source) - back)
    offset = linear_offset(index[inner], shape[inner])
    tail = index[len(index) - back :]
    return (*index[:front], *delinearize(offset, source[outer]), *tail)


@register
class PermuteDims(Movement):
    """y[i_axes] = x[i]: axis k of y is axis axes[k] of x;  x̄ = the inverse permutation of ȳ"""

    attributes: ClassVar[Mapping[str, str]] = {"axes": "permutation"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        axes = attrs["axes"]
        if sorted(axes) != list(range(x.ndim)):
            raise ShapeError(f"permute_dims: axes {axes} are no permutation of {x.ndim} axes")
        return x.with_shape(x.shape[axis] for axis in axes)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [permute(ct, tuple(int(a) for a in np.argsort(node.attrs["axes"])))]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.transpose(x, attrs["axes"])

    def source_index(self, node: Node, index: tuple[Size, ...]) -> tuple[Size, ...]:
        position = {axis: k for k, axis in enumerate(node.attrs["axes"])}
        return tuple(index[position[axis]] for axis in range(len(index)))


@register
class BroadcastTo(Movement):
    """y = x repeated along axes of size 1 and new leading axes;  x̄ = sum_to(ȳ)"""

    attributes: ClassVar[Mapping[str, str]] = {"shape": "shape"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        shape = attrs["shape"]
        if len(shape) < x.ndim or len(broadcast_shapes(x.shape, shape)) != len(shape):
            raise ShapeError(f"{shape_text(x.shape)} does not broadcast to {shape_text(shape)}")
        for have, want in zip(x.shape, shape[len(shape) - x.ndim :], strict=True):
            if have != 1 and not is_equal(have, want, "broadcast_to"):
                raise ShapeError(f"{shape_text(x.shape)} does not broadcast to {shape_text(shape)}")
        return x.with_shape(shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [sum_to(ct, node.inputs[0].shape)]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return np.broadcast_to(x, attrs["shape"])

    def source_index(self, node: Node, index: tuple[Size, ...]) -> tuple[Size, ...]:
        source = node.inputs[0].shape
        aligned = index[len(index) - len(source) :]
        return tuple(0 if size == 1 else i for size, i in zip(source, aligned, strict=True))


def is_at_least_zero(size: Size, axis: int) -> bool:
    """Whether size >= 0; what cannot be decided counts as true and is checked when running."""
    if isinstance(size, int) or is_nonnegative(size):
        return isinstance(size, Dim) or size >= 0
    gain: Size = sum((Dim((t,)) if t[0] else t[1] for t in size.terms if t[1] > 0), start=0)
    loss = gain - size
    # Both are >= 0, so gain >= loss is the same as loss // (gain + 1) == 0.
    return is_equal(floor_div(loss, gain + 1), 0, f"axis {axis} is too short, {size} must be >= 0")


@register
class Slice(Movement):
    """y[i] = x[start + i step], `shape` elements per axis;  x̄ = ȳ put back among zeros.

    `start` and `step` are ints per axis (step may be negative), `shape` the result's sizes.
    """

    attributes: ClassVar[Mapping[str, str]] = {"shape": "shape", "start": "sizes", "step": "ints"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        start, step, shape = attrs["start"], attrs["step"], attrs["shape"]
        if not len(start) == len(step) == len(shape) == x.ndim:
            raise ShapeError(f"slice: {len(start)} starts for {x.ndim} axes")
        for axis, (first, stride, size, have) in enumerate(
            zip(start, step, shape, x.shape, strict=True)
        ):
            if stride == 0:
                raise ShapeError(f"slice: the step of axis {axis} is 0")
            ends = (first, first + (size - 1) * stride)
            ints = [end for end in (*ends, have, size) if isinstance(end, int)]
            if len(ints) == 4 and (size <= 0 or all(0 <= end < have for end in ends)):
                continue
            low, high = ends if stride > 0 else ends[::-1]
            if not all(is_at_least_zero(s, axis) for s in (size, low, have - 1 - high)):
                raise ShapeError(
                    f"slice: axis {axis} runs {ends[0]}..{ends[1]}, outside 0..{have - 1}"
                )
        return x.with_shape(shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        (x,) = node.inputs
        start, step, shape = (node.attrs[k] for k in ("start", "step", "shape"))
        backwards = [axis for axis, stride in enumerate(step) if stride < 0]
        for axis in backwards:
            ct = flip(ct, axis)
        low, high, inside = [], [], []
        for first, stride, size, have in zip(start, step, shape, x.shape, strict=True):
            span = (size - 1) * abs(stride) + 1
            first = first if stride > 0 else first + (size - 1) * stride
            low.append(first)
            high.append(have - first - span)
            inside.append(abs(stride) - 1)
        return [ops.pad(ct, zeros_of(ct), low=tuple(low), high=tuple(high), interior=tuple(inside))]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        start, step, shape = attrs["start"], attrs["step"], attrs["shape"]
        for axis, (first, stride, size) in enumerate(zip(start, step, shape, strict=True)):
            x = np.take(x, first + stride * np.arange(size, dtype=np.int64), axis=axis)
        return x

    def source_index(self, node: Node, index: tuple[Size, ...]) -> tuple[Size, ...]:
        start, step = node.attrs["start"], node.attrs["step"]
        return tuple(f + i * s for f, i, s in zip(start, index, step, strict=True))


def flip(node: Node, axis: int) -> Node:
    """The node with one axis reversed."""
    start = tuple(node.shape[a] - 1 if a == axis else 0 for a in range(node.ndim))
    step = tuple(-1 if a == axis else 1 for a in range(node.ndim))
    return ops.slice(node, start=start, step=step, shape=node.shape)


def zeros_of(node: Node) -> Node:
    """A zero scalar of the node's dtype."""
    return ops.full(shape=(), value=0, dtype=node.dtype)


@register
class Pad(Map):
    """y = x inside a frame of `fill`, with `interior` fills between neighbours.

    Size of an axis: low + (n - 1)(interior + 1) + 1 + high, for n = 0 too, so that it is one
    formula for named dims. `low` and `high` may be negative, which crops. x̄ = the matching slice
    of ȳ; fill̄ = the rest's sum.
    """

    attributes: ClassVar[Mapping[str, str]] = {"high": "sizes", "interior": "ints", "low": "sizes"}
    arity = (2, 2)
    cost = 2

    def infer(self, x: TensorSpec, fill: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        low, high, interior = attrs["low"], attrs["high"], attrs["interior"]
        if not len(low) == len(high) == len(interior) == x.ndim:
            raise ShapeError(f"pad: {len(low)} pairs for {x.ndim} axes")
        if fill.shape != () or fill.dtype != x.dtype:
            raise DTypeError(f"pad: the fill is {fill}; expected a scalar of {x.dtype}")
        shape = []
        for axis, (before, after, between, size) in enumerate(
            zip(low, high, interior, x.shape, strict=True)
        ):
            if between < 0:
                raise ShapeError(f"pad: interior of axis {axis} is {between}; expected at least 0")
            result = before + (size - 1) * (between + 1) + 1 + after
            if not is_at_least_zero(result, axis):
                raise ShapeError(f"pad: axis {axis} of size {size} would get {result} elements")
            shape.append(result)
        return x.with_shape(shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x, _ = node.inputs
        low, interior = node.attrs["low"], node.attrs["interior"]
        inner = crop(ct, low, tuple(b + 1 for b in interior), x.shape)
        axes = tuple(range(ct.ndim))
        rest = ops.sum(ct, axes=axes) - ops.sum(inner, axes=axes) if axes else zeros_like(ct)
        return [inner, rest]

    def reference(self, x: np.ndarray, fill: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        for axis in range(x.ndim):
            x = _pad_axis(x, fill, axis, *(attrs[k][axis] for k in ("low", "high", "interior")))
        return x

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        x, fill = node.inputs
        source, tests = [], []
        for i, low, high, between, size in zip(
            index, *(node.attrs[k] for k in ("low", "high", "interior")), x.shape, strict=True
        ):
            step = between + 1
            position = i - low
            source.append(floor_div(position, step))
            if low != 0:
                tests.append(f"({emit.size(position)} >= 0)")
            if high != 0:
                span = (size - 1) * step + 1
                tests.append(f"({emit.size(position)} < {emit.size(span)})")
            if step != 1:
                tests.append(f"({emit.size(position - floor_div(position, step) * step)} == 0)")
        if not tests:
            return emit.get(x, tuple(source))
        inside = emit.assign(" & ".join(tests), "bool", *map(emit.size, index))
        other = emit.get(fill, ())
        return emit.guarded(inside, lambda: emit.get(x, tuple(source)), other, node.dtype)


def _pad_axis(
    x: np.ndarray, fill: np.ndarray, axis: int, low: int, high: int, interior: int
) -> np.ndarray:
    size = x.shape[axis]
    span = (size - 1) * (interior + 1) + 1
    shape = list(x.shape)
    if size == 0:
        shape[axis] = low + span + high
        return np.full(shape, fill, x.dtype)
    shape[axis] = max(low, 0) + span + max(high, 0)
    out = np.full(shape, fill, x.dtype)
    front = max(low, 0)
    where = [slice(None)] * x.ndim
    where[axis] = slice(front, front + span, interior + 1)
    out[tuple(where)] = x
    where[axis] = slice(max(-low, 0), shape[axis] - max(-high, 0))
    return out[tuple(where)]


def crop(node: Node, low: tuple[Size, ...], step: tuple[int, ...], shape: tuple[Size, ...]) -> Node:
    """node[low + i step], zero where that lies outside: the transpose of a pad."""
    before = tuple(max(-a, 0) if isinstance(a, int) else 0 for a in low)
    ends = [a + (n - 1) * s + 1 for a, n, s in zip(low, shape, step, strict=True)]
    after = tuple(
        max(e - have, 0) if isinstance(e - have, int) else 0
        for e, have in zip(ends, node.shape, strict=True)
    )
    if any(before) or any(after):
        node = ops.pad(node, zeros_of(node), low=before, high=after, interior=(0,) * node.ndim)
    start = tuple(a + b if isinstance(a, int) else a for a, b in zip(low, before, strict=True))
    empty = [isinstance(n, int) and n == 0 for n in shape]
    start = tuple(0 if e else s for s, e in zip(start, empty, strict=True))
    return ops.slice(node, start=start, step=step, shape=shape)


@register
class Concat(Map):
    """y = the inputs one after another along `axis`;  each x̄ is its slice of ȳ"""

    attributes: ClassVar[Mapping[str, str]] = {"axis": "int"}
    arity = (1, 4096)
    cost = 2

    def infer(self, *specs: TensorSpec, **attrs: Any) -> TensorSpec:
        axis, first = attrs["axis"], specs[0]
        total: Size = 0
        for number, spec in enumerate(specs):
            if spec.dtype != first.dtype:
                raise DTypeError(f"concat: input 0 is {first.dtype}, input {number} {spec.dtype}")
            fits = spec.ndim == first.ndim and all(
                k == axis or is_equal(a, b, "concat")
                for k, (a, b) in enumerate(zip(spec.shape, first.shape, strict=True))
            )
            if not fits or not 0 <= axis < first.ndim:
                raise ShapeError(
                    f"concat along axis {axis}: input 0 is {shape_text(first.shape)}, "
                    f"input {number} is {shape_text(spec.shape)}; the other axes must agree"
                )
            total = total + spec.shape[axis]
        return first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        axis, begin, result = node.attrs["axis"], 0, []
        for x in node.inputs:
            start = tuple(begin if a == axis else 0 for a in range(ct.ndim))
            result.append(ops.slice(ct, start=start, step=(1,) * ct.ndim, shape=x.shape))
            begin = begin + x.shape[axis]
        return result

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> np.ndarray:
        return np.concatenate(arrays, axis=attrs["axis"])

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        axis = node.attrs["axis"]
        ends: list[Size] = []
        for x in node.inputs:
            ends.append((ends[-1] if ends else 0) + x.shape[axis])
        position = emit.size(index[axis])
        result = f"{CAST[node.dtype]}(0)"
        for number in reversed(range(len(node.inputs))):
            begin = ends[number - 1] if number else 0
            tests = [f"({position} >= {emit.size(begin)})"] if number else []
            tests += [f"({position} < {emit.size(ends[number])})"]
            inside = emit.assign(" & ".join(tests), "bool", position)
            local = (*index[:axis], index[axis] - begin, *index[axis + 1 :])
            part = partial(emit.get, node.inputs[number], local)
            result = emit.guarded(inside, part, result, node.dtype)
        return result
