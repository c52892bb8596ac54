"""Functions that move elements: reshape, join, split, repeat, pad, look up."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphflow.compiler.dims import Dim, Size, floor_div, product
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops import blocks
from graphflow.compiler.ops.movement import flip as flip_axis
from graphflow.compiler.spec import (
    broadcast_shapes,
    is_integer,
    normalize_axes,
    normalize_axis,
    shape_text,
)
from graphflow.creation import iota, size_value
from graphflow.errors import DTypeError, GraphError, ShapeError, with_line
from graphflow.tensor import Tensor, as_tensor, promoted, user_shape

__all__ = [
    "broadcast_arrays",
    "broadcast_to",
    "concat",
    "expand_dims",
    "flatten",
    "flip",
    "matrix_transpose",
    "moveaxis",
    "pad",
    "permute_dims",
    "repeat",
    "reshape",
    "roll",
    "split",
    "squeeze",
    "stack",
    "swapaxes",
    "take",
    "take_along_axis",
    "tile",
    "unstack",
]

Axes = int | Sequence[int]


def _node(name: str, x: Any) -> Node:
    return as_tensor(x, name=name).node


def checked_axis(name: str, node: Node, axis: int, ndim: int | None = None) -> int:
    """A non-negative axis of `node` (or of `ndim` axes), or an error that names the operation."""
    try:
        return normalize_axis(axis, node.ndim if ndim is None else ndim)
    except ShapeError as error:
        raise ShapeError(with_line(f"{name}: {error}\n  {describe(node)}")) from None


def checked_axes(name: str, node: Node, axis: Axes | None) -> tuple[int, ...]:
    """Sorted non-negative axes, all for None, or an error that names the operation."""
    try:
        return normalize_axes(axis, node.ndim)
    except ShapeError as error:
        raise ShapeError(with_line(f"{name}: {error}\n  {describe(node)}")) from None


# ---- shape -----------------------------------------------------------------------------------


def reshape(x: Any, shape: Any) -> Tensor:
    """x with another shape, the same elements in row-major order.

    Args:
        shape: ints, dims, or names of dims; one entry may be -1, which takes what is left.

    Raises:
        ShapeError: the shapes cannot have the same number of elements.
    """
    node = _node("reshape", x)
    sizes = list(shape) if isinstance(shape, (list, tuple)) else [shape]
    unknown = [
        k for k, size in enumerate(sizes) if isinstance(size, (int, np.integer)) and size == -1
    ]
    if len(unknown) > 1:
        raise ShapeError(
            with_line(f"reshape: shape {tuple(sizes)} has {len(unknown)} entries -1; expected one")
        )
    known = user_shape("reshape", [1 if k in unknown else size for k, size in enumerate(sizes)])
    if unknown:
        rest = _left_over(node, product(known), sizes)
        known = (*known[: unknown[0]], rest, *known[unknown[0] + 1 :])
    return Tensor(blocks.reshape(node, known))


def _left_over(node: Node, known: Size, sizes: Sequence[Any]) -> Size:
    """What -1 stands for; where division is not known to be exact, reshape checks it later."""
    total = node.spec.size
    if isinstance(known, int) and known == 0:
        raise ShapeError(
            with_line(f"reshape: -1 in {tuple(sizes)} is undetermined beside a size 0")
        )
    rest = floor_div(total, known)
    if isinstance(total, int) and rest * known != total:
        raise ShapeError(
            with_line(
                f"reshape: {total} elements do not divide into shape "
                f"({', '.join(map(str, sizes))}); expected a multiple of {known}\n"
                f"  {describe(node)}"
            )
        )
    return rest


def permute_dims(x: Any, axes: Sequence[int]) -> Tensor:
    """x with its axes in another order: axis k of the result is axis axes[k] of x."""
    node = _node("permute_dims", x)
    order = tuple(checked_axis("permute_dims", node, axis) for axis in axes)
    return Tensor(ops.permute_dims(node, axes=order))


def matrix_transpose(x: Any) -> Tensor:
    """x (..., rows, columns) with the last two axes swapped."""
    node = _node("matrix_transpose", x)
    if node.ndim < 2:
        raise ShapeError(with_line(f"matrix_transpose: {describe(node)}; expected at least 2 axes"))
    return Tensor(blocks.swap_last(node))


def moveaxis(x: Any, source: Axes, destination: Axes) -> Tensor:
    """x with the axes `source` moved to the places `destination`; the others keep their order."""
    node = _node("moveaxis", x)
    sources, targets = (
        [
            checked_axis("moveaxis", node, a)
            for a in (axes if isinstance(axes, Sequence) else [axes])
        ]
        for axes in (source, destination)
    )
    if len(sources) != len(targets) or len(set(sources)) != len(sources):
        raise ShapeError(
            with_line(f"moveaxis: source {source} and destination {destination} do not pair up")
        )
    order = [axis for axis in range(node.ndim) if axis not in sources]
    for target, axis in sorted(zip(targets, sources, strict=True)):
        order.insert(target, axis)
    return Tensor(blocks.permute(node, order))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """x with two axes exchanged."""
    node = _node("swapaxes", x)
    order = list(range(node.ndim))
    first, second = (checked_axis("swapaxes", node, axis) for axis in (axis1, axis2))
    order[first], order[second] = second, first
    return Tensor(blocks.permute(node, order))


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """x repeated along axes of size 1 and along new axes in front."""
    return Tensor(blocks.broadcast_to(_node("broadcast_to", x), user_shape("broadcast_to", shape)))


def broadcast_arrays(*tensors: Any) -> list[Tensor]:
    """The tensors broadcast to their common shape."""
    nodes = [_node("broadcast_arrays", x) for x in tensors]
    try:
        shape = broadcast_shapes(*(node.shape for node in nodes)) if nodes else ()
    except ShapeError as error:
        raise ShapeError(with_line(f"broadcast_arrays: {error}")) from None
    return [Tensor(blocks.broadcast_to(node, shape)) for node in nodes]


def expand_dims(x: Any, axis: Axes = 0) -> Tensor:
    """x with axes of size 1 inserted; `axis` counts in the result."""
    node = _node("expand_dims", x)
    axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
    ndim = node.ndim + len(axes)
    places = {checked_axis("expand_dims", node, a, ndim) for a in axes}
    if len(places) != len(axes):
        raise ShapeError(with_line(f"expand_dims: axis {tuple(axes)} names an axis twice"))
    return Tensor(blocks.restore_axes(node, sorted(places)))


def squeeze(x: Any, axis: Axes | None = None) -> Tensor:
    """x without axes of size 1: those given, or all of them.

    Raises:
        ShapeError: an axis given has another size.
    """
    node = _node("squeeze", x)
    if axis is None:
        axes = tuple(k for k, size in enumerate(node.shape) if size == 1)
    else:
        axes = checked_axes("squeeze", node, axis)
    for k in axes:
        if node.shape[k] != 1:
            raise ShapeError(
                with_line(
                    f"squeeze: axis {k} has size {node.shape[k]}; expected 1\n  {describe(node)}"
                )
            )
    return Tensor(
        blocks.reshape(node, [size for k, size in enumerate(node.shape) if k not in axes])
    )


def flatten(x: Any, start_axis: int = 0) -> Tensor:
    """x with the axes from `start_axis` on joined into one, last axis fastest."""
    node = _node("flatten", x)
    if start_axis in (0, node.ndim):
        start = start_axis
    else:
        start = checked_axis("flatten", node, start_axis)
    return Tensor(blocks.reshape(node, (*node.shape[:start], product(node.shape[start:]))))


# ---- joining and splitting -------------------------------------------------------------------


def concat(tensors: Sequence[Any], axis: int | None = 0) -> Tensor:
    """The tensors one after another along an axis; None joins the flattened ones.

    Raises:
        ShapeError: other axes differ, or there is nothing to join.
    """
    nodes = promoted("concat", *tensors) if len(tensors) else []
    if not nodes:
        raise ShapeError(with_line("concat: no tensors given; expected at least one"))
    if axis is None:
        nodes, axis = [flatten(node).node for node in nodes], 0
    place = checked_axis("concat", nodes[0], axis)
    return Tensor(nodes[0] if len(nodes) == 1 else ops.concat(*nodes, axis=place))


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    nodes = promoted("stack", *tensors) if len(tensors) else []
    if not nodes:
        raise ShapeError(with_line("stack: no tensors given; expected at least one"))
    for number, node in enumerate(nodes):
        if node.ndim != nodes[0].ndim:
            raise ShapeError(
                with_line(
                    f"stack: tensor 0 is {shape_text(nodes[0].shape)}, tensor {number} is "
                    f"{shape_text(node.shape)}; expected one shape\n  {describe(node)}"
                )
            )
    place = checked_axis("stack", nodes[0], axis, nodes[0].ndim + 1)
    return concat([expand_dims(node, place) for node in nodes], place)


def unstack(x: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis of known size, without that axis."""
    node = _node("unstack", x)
    place = checked_axis("unstack", node, axis)
    count = _known_size("unstack", node, place)
    key = (slice(None),) * place
    return tuple(Tensor(node)[(*key, number)] for number in range(count))


def _known_size(name: str, node: Node, axis: int) -> int:
    size = node.shape[axis]
    if not isinstance(size, int):
        raise GraphError(
            with_line(
                f"{name}: the size '{size}' of axis {axis} is known only when the function runs; "
                f"expected an int\n  {describe(node)}"
            )
        )
    return size


def split(x: Any, indices_or_sections: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """x cut along an axis: into equal sections, or at the positions given.

    Raises:
        ShapeError: the axis does not divide into equal sections.
    """
    node = _node("split", x)
    place = checked_axis("split", node, axis)
    size = node.shape[place]
    if isinstance(indices_or_sections, (int, np.integer)):
        count = int(indices_or_sections)
        width = floor_div(size, count) if count > 0 else 0
        if count <= 0 or width * count != size:
            raise ShapeError(
                with_line(
                    f"split: axis {place} of size {size} does not divide into {count} equal "
                    f"sections\n  {describe(node)}"
                )
            )
        cuts: list[Size] = [width * k for k in range(count + 1)]
    else:
        known = _known_size("split", node, place)
        cuts = [0, *(slice(cut).indices(known)[1] for cut in indices_or_sections), known]
    return [
        Tensor(_axis_slice(node, place, begin, _length(begin, end)))
        for begin, end in pairwise(cuts)
    ]


def _length(begin: Size, end: Size) -> Size:
    length = end - begin
    return max(length, 0) if isinstance(length, int) else length


def _axis_slice(node: Node, axis: int, start: Size, count: Size, step: int = 1) -> Node:
    """`count` elements of one axis."""
    if start == 0 and step == 1 and count == node.shape[axis]:
        return node
    return ops.slice(
        node,
        start=tuple(start if k == axis and count != 0 else 0 for k in range(node.ndim)),
        step=tuple(step if k == axis else 1 for k in range(node.ndim)),
        shape=tuple(count if k == axis else size for k, size in enumerate(node.shape)),
    )


# ---- repeating and reordering ----------------------------------------------------------------


def tile(x: Any, repetitions: int | Sequence[int]) -> Tensor:
    """x repeated as a whole, `repetitions` times per axis."""
    node = _node("tile", x)
    counts = [repetitions] if isinstance(repetitions, (int, np.integer)) else list(repetitions)
    ndim = max(node.ndim, len(counts))
    shape = (*(1,) * (ndim - node.ndim), *node.shape)
    counts = [1] * (ndim - len(counts)) + counts
    # (n,) -> (1, n) -> (count, n) -> (count * n,) for every axis at once.
    split_shape = [part for size in shape for part in (1, size)]
    wide = [part for count, size in zip(counts, shape, strict=True) for part in (count, size)]
    result = [count * size for count, size in zip(counts, shape, strict=True)]
    tiled = blocks.broadcast_to(blocks.reshape(node, split_shape), user_shape("tile", wide))
    return Tensor(blocks.reshape(tiled, result))


def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Tensor:
    """Each element along an axis repeated in place; without an axis x is flattened first.

    Args:
        repeats: one count for all, or one per element of an axis of known size.
    """
    node = _node("repeat", x)
    if axis is None:
        node, axis = flatten(node).node, 0
    place = checked_axis("repeat", node, axis)
    if not isinstance(repeats, (int, np.integer)):
        counts = np.asarray(repeats)
        size = _known_size("repeat", node, place)
        if counts.shape not in ((size,), (1,)) or counts.dtype.kind not in "iu":
            raise ShapeError(with_line(f"repeat: {counts.size} counts for an axis of size {size}"))
        return take(node, np.repeat(np.arange(size), counts), place)
    before, after = node.shape[: place + 1], node.shape[place + 1 :]
    wide = blocks.broadcast_to(
        blocks.reshape(node, (*before, 1, *after)), user_shape("repeat", (*before, repeats, *after))
    )
    return Tensor(blocks.reshape(wide, (*before[:-1], before[-1] * int(repeats), *after)))


def flip(x: Any, axis: Axes | None = None) -> Tensor:
    """x with the given axes (all by default) reversed."""
    node = _node("flip", x)
    for place in checked_axes("flip", node, axis):
        node = flip_axis(node, place)
    return Tensor(node)


def roll(x: Any, shift: int | Sequence[int], axis: Axes | None = None) -> Tensor:
    """x moved along axes, with what leaves at one end entering at the other.

    Without an axis x is rolled as if flattened. A named dim must be at least as long as the shift.
    """
    node = _node("roll", x)
    if axis is None:
        if not isinstance(shift, (int, np.integer)):
            raise ShapeError(with_line("roll: several shifts need as many axes"))
        return reshape(roll(flatten(node), shift, 0), node.shape)
    axes = [axis] if isinstance(axis, (int, np.integer)) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, (int, np.integer)) else list(shift)
    if len(axes) != len(shifts):
        raise ShapeError(with_line(f"roll: {len(shifts)} shifts for {len(axes)} axes"))
    for steps, place in zip(shifts, axes, strict=True):
        node = _rolled(node, int(steps), checked_axis("roll", node, place))
    return Tensor(node)


def _rolled(node: Node, steps: int, axis: int) -> Node:
    size = node.shape[axis]
    if isinstance(size, int):
        steps = steps % size if size else 0
    if steps == 0:
        return node
    tail = steps if steps > 0 else size + steps
    parts = [
        _axis_slice(node, axis, size - tail, tail),
        _axis_slice(node, axis, 0, size - tail),
    ]
    return ops.concat(*parts, axis=axis)


def pad(
    x: Any,
    pad_width: int | Sequence[Any],
    mode: str = "constant",
    constant_values: Any = 0,
) -> Tensor:
    """x inside a frame.

    Args:
        pad_width: one int, one (before, after) pair for all axes, or a pair per axis.
        mode: "constant" (of `constant_values`), "edge" (the border repeated), or "reflect"
            (mirrored without repeating the border).

    Raises:
        ShapeError: a reflection is wider than the axis, or the widths do not match the axes.
    """
    node = _node("pad", x)
    widths = _pad_pairs(node, pad_width)
    if mode == "constant":
        fill = as_tensor(constant_values, node.dtype, "pad").node
        low, high = (tuple(pair[side] for pair in widths) for side in (0, 1))
        return Tensor(ops.pad(node, fill, low=low, high=high, interior=(0,) * node.ndim))
    if mode not in ("edge", "reflect"):
        raise GraphError(
            with_line(f"pad: mode {mode!r} is unknown; expected 'constant', 'edge' or 'reflect'")
        )
    for axis, (before, after) in enumerate(widths):
        node = _pad_axis(node, axis, before, after, mode)
    return Tensor(node)


def _pad_pairs(node: Node, pad_width: Any) -> list[tuple[int, int]]:
    try:
        pairs = np.broadcast_to(np.asarray(pad_width), (node.ndim, 2)).tolist()
    except ValueError:
        pairs = None
    if pairs is None or any(not isinstance(w, int) or w < 0 for pair in pairs for w in pair):
        raise ShapeError(
            with_line(
                f"pad: pad_width is {pad_width}; expected non-negative ints, one pair for each of "
                f"{node.ndim} axes\n  {describe(node)}"
            )
        )
    return [(before, after) for before, after in pairs]


def _pad_axis(node: Node, axis: int, before: int, after: int, mode: str) -> Node:
    size = node.shape[axis]
    longest = size - 1 if mode == "reflect" else size
    if isinstance(longest, int) and (before or after):
        if mode == "edge" and longest < 1:
            raise ShapeError(with_line(f"pad: axis {axis} is empty, so it has no edge to repeat"))
        if mode == "reflect" and max(before, after) > longest:
            raise ShapeError(
                with_line(
                    f"pad: a reflection of {max(before, after)} on axis {axis} of size {size}; "
                    f"expected at most {longest}\n  {describe(node)}"
                )
            )
    parts = [node]
    if before:
        front = _axis_slice(node, axis, before, before, -1) if mode == "reflect" else None
        parts.insert(0, _edge(node, axis, 0, before) if front is None else front)
    if after:
        back = _axis_slice(node, axis, size - 2, after, -1) if mode == "reflect" else None
        parts.append(_edge(node, axis, size - 1, after) if back is None else back)
    return ops.concat(*parts, axis=axis) if len(parts) > 1 else node


def _edge(node: Node, axis: int, at: Size, count: int) -> Node:
    border = _axis_slice(node, axis, at, 1)
    shape = [count if k == axis else size for k, size in enumerate(node.shape)]
    return blocks.broadcast_to(border, shape)


# ---- looking up ------------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements of x at `indices` along an axis, which the axes of `indices` replace.

    Negative indices count from the end; others outside the axis raise IndexError when the
    function runs. Several equal indices add up their gradients.

    Raises:
        DTypeError: the indices are no integers.
    """
    node, index = _node("take", x), _integer_node("take", indices)
    if axis is None:
        if node.ndim != 1:
            raise ShapeError(
                with_line(
                    f"take: no axis given for {node.ndim} axes; say which, for example axis=0"
                )
            )
        axis = 0
    return Tensor(ops.take(node, index, axis=checked_axis("take", node, axis)))


def _integer_node(name: str, indices: Any) -> Node:
    node = _node(name, indices)
    if not is_integer(node.dtype):
        raise DTypeError(
            with_line(
                f"{name}: the indices are {node.spec}; expected an integer dtype, for example "
                "gf.astype(i, 'int64')"
            )
        )
    return node


def take_along_axis(x: Any, indices: Any, axis: int = -1) -> Tensor:
    """y[.., j, ..] = x[.., i[.., j, ..], ..]: one lookup along `axis` per row.

    Args:
        indices: integers with as many axes as x; the other axes broadcast against those of x.
    """
    node, index = _node("take_along_axis", x), _integer_node("take_along_axis", indices)
    if index.ndim != node.ndim:
        raise ShapeError(
            with_line(
                f"take_along_axis: {index.ndim} axes of indices for {node.ndim} axes; expected as "
                f"many\n  {describe(node)}; {describe(index)}"
            )
        )
    place = checked_axis("take_along_axis", node, axis)
    count, length = node.shape[place], index.shape[place]
    index = index if index.dtype == "int64" else ops.cast(index, dtype="int64")
    node, index = (moveaxis(n, place, -1).node for n in (node, index))
    rows = broadcast_shapes(node.shape[:-1], index.shape[:-1])
    node = blocks.broadcast_to(node, (*rows, count))
    index = blocks.broadcast_to(index, (*rows, length))
    ends = size_value(count)
    negative = ops.less(index, blocks.full((), 0, "int64"))
    index = ops.check_range(ops.where(negative, index + ends, index), bound=count)
    # Row r of the flattened x begins at element r * count.
    total = product(rows) * count
    begins = (
        _axis_slice(blocks.reshape(iota((total,), 0), (*rows, count)), len(rows), 0, 1)
        if not _is_zero(count)
        else blocks.full((*rows, 1), 0, "int64")
    )
    found = ops.take(blocks.reshape(node, (total,)), begins + index, axis=0)
    return moveaxis(found, -1, place)


def _is_zero(size: Size) -> bool:
    return not isinstance(size, Dim) and size == 0
