"""`x[key]` into slice, take and reshape nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim, Size, floor_div
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import reshape
from graphflow.errors import GraphError, IndexOutOfRange, ShapeError, with_line
from graphflow.tensor import Tensor, as_tensor


@dataclass(slots=True)
class _Range:
    """Elements start, start + step, ... of one axis; `keep` is False for an int index."""

    start: Size
    step: int
    count: Size
    keep: bool = True


def getitem(x: Tensor, key: Any) -> Tensor:
    """x[key] for ints, slices, None, Ellipsis, and one integer tensor or array.

    On a named dim a bound counts from its own end (`x[1:]`, `x[:-1]`, `x[-3:]`, `x[::2]`,
    `x[::-1]`); it is checked when the function runs that the axis is long enough.

    Raises:
        IndexOutOfRange: an int lies outside a known size.
        GraphError: the index cannot be expressed in a static graph.
    """
    entries = _expanded(x.node, key if isinstance(key, tuple) else (key,))
    ranges: list[_Range] = []
    lookup: tuple[int, Node] | None = None
    for entry in entries:
        axis = len(ranges)
        if entry is None:
            continue
        if isinstance(entry, Tensor):
            lookup = (axis, entry.node)
            ranges.append(_Range(0, 1, x.shape[axis]))
        else:
            ranges.append(_range(x.node, axis, entry))
    node = _sliced(x.node, ranges)
    shape = _result_shape(entries, ranges)
    if lookup is not None:
        axis, indices = lookup
        node = ops.take(node, indices, axis=axis)
    return Tensor(reshape(node, shape))


def _result_shape(entries: list[Any], ranges: list[_Range]) -> list[Size]:
    shape: list[Size] = []
    sizes = iter(ranges)
    for entry in entries:
        if entry is None:
            shape.append(1)
            continue
        piece = next(sizes)
        if isinstance(entry, Tensor):
            shape += entry.shape
        elif piece.keep:
            shape.append(piece.count)
    return shape


def _expanded(node: Node, key: tuple[Any, ...]) -> list[Any]:
    """One entry per axis (int, slice or integer Tensor) and None for each new axis."""
    key = tuple(_as_entry(node, part) for part in key)
    used = sum(1 for part in key if part is not None and part is not Ellipsis)
    dots = sum(1 for part in key if part is Ellipsis)
    if used > node.ndim or dots > 1:
        problem = "more than one '...'" if dots > 1 else f"{used} indices for {node.ndim} axes"
        raise IndexOutOfRange(with_line(f"index: {problem}\n  {describe(node)}"))
    if not dots:
        key = (*key, Ellipsis)
    at = next(k for k, part in enumerate(key) if part is Ellipsis)
    entries = [*key[:at], *[slice(None)] * (node.ndim - used), *key[at + 1 :]]
    _check_lookups(node, entries)
    return entries


def _as_entry(node: Node, part: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, (slice, Dim)):
        return part
    if isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        return int(part)
    if isinstance(part, (Tensor, Node, np.ndarray, list)):
        indices = as_tensor(part if not isinstance(part, Node) else Tensor(part), name="index")
        if indices.dtype == "bool":
            raise GraphError(
                with_line(
                    "index: a bool mask gives a shape that depends on data; use gf.where(mask, x, "
                    f"0) and reduce\n  {describe(node)}"
                )
            )
        return indices
    raise GraphError(
        with_line(
            f"index: got {part!r}; expected an int, a slice, None, ... or an integer tensor\n"
            f"  {describe(node)}"
        )
    )


def _check_lookups(node: Node, entries: list[Any]) -> None:
    places = [k for k, entry in enumerate(entries) if isinstance(entry, Tensor)]
    if len(places) > 1:
        raise GraphError(
            with_line(
                f"index: {len(places)} integer tensors given; expected at most one. Use gf.take "
                f"per axis, or one index into gf.flatten(x)\n  {describe(node)}"
            )
        )
    # NumPy moves the looked-up axes to the front when an int stands apart from the tensor.
    ints = [k for k, entry in enumerate(entries) if isinstance(entry, int)]
    if places and any(abs(k - places[0]) != 1 for k in ints):
        raise GraphError(
            with_line(
                "index: an int apart from an integer tensor is ambiguous; index in two steps, "
                f"x[...] then gf.take\n  {describe(node)}"
            )
        )


def _range(node: Node, axis: int, entry: int | Dim | slice) -> _Range:
    size = node.shape[axis]
    if isinstance(entry, slice):
        return _slice_range(node, axis, entry)
    if isinstance(entry, int) and isinstance(size, int) and not -size <= entry < size:
        expected = f"{-size}..{size - 1}" if size else "no index, since the axis is empty"
        raise IndexOutOfRange(
            with_line(
                f"index: {entry} is out of range for axis {axis} of size {size}; expected "
                f"{expected}\n  {describe(node)}"
            )
        )
    start = size + entry if isinstance(entry, int) and entry < 0 else entry
    return _Range(start, 1, 1, keep=False)


def _bound(value: Any) -> int | Dim | None:
    if value is None or isinstance(value, Dim):
        return value
    try:
        return value.__index__()
    except AttributeError:
        raise GraphError(
            with_line(f"slice: the bound {value!r} is no int; expected an int, a Dim or nothing")
        ) from None


def _slice_range(node: Node, axis: int, entry: slice) -> _Range:
    size = node.shape[axis]
    start, stop, step = (_bound(b) for b in (entry.start, entry.stop, entry.step))
    if not isinstance(step, (int, type(None))) or step == 0:
        raise ShapeError(
            with_line(f"slice: the step {step} of axis {axis} is not allowed\n  {describe(node)}")
        )
    step = 1 if step is None else step
    if isinstance(size, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        known = range(*slice(start, stop, step).indices(size))
        return _Range(known.start, step, len(known)) if known else _Range(0, 1, 0)
    backwards = step < 0
    first = _from_end(node, axis, start, size - 1 if backwards else 0, backwards)
    last = _from_end(node, axis, stop, -1 if backwards else size, not backwards)
    span = first - last if backwards else last - first
    if isinstance(span, int) and span <= 0:
        return _Range(0, 1, 0)
    return _Range(first, step, floor_div(span + abs(step) - 1, abs(step)))


def _from_end(node: Node, axis: int, bound: int | Dim | None, default: Size, clamped: bool) -> Size:
    """A slice bound on a named dim; `clamped` for bounds that NumPy would cut at the far end."""
    size = node.shape[axis]
    if bound is None:
        return default
    if isinstance(bound, Dim):
        return bound
    if bound < 0:
        return size + bound
    if clamped:
        raise GraphError(
            with_line(
                f"slice: the bound {bound} of axis {axis} would be cut to the size '{size}', which "
                f"is known only when the function runs; count from the end, or use gf.take(x, "
                f"gf.arange({bound}), axis={axis}), which checks it\n  {describe(node)}"
            )
        )
    return bound


def _sliced(node: Node, ranges: list[_Range]) -> Node:
    shape = tuple(r.count for r in ranges)
    start, step = tuple(r.start for r in ranges), tuple(r.step for r in ranges)
    if shape == node.shape and all(s == 1 for s in step):
        return node
    return ops.slice(node, start=start, step=step, shape=shape)
