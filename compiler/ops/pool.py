"""Sliding windows as index maps, and pooling over them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.dims import Size, floor_div
from graphflow.compiler.errors import ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Emitter, Map, ops, register
from graphflow.compiler.ops.blocks import broadcast_to, full, permute, reshape, sum_over
from graphflow.compiler.ops.conv import conv_output_size
from graphflow.compiler.ops.movement import Movement, is_at_least_zero
from graphflow.compiler.spec import TensorSpec, is_float, shape_text


def _positions(
    out: Sequence[Size], taps: Sequence[Size], attrs: Mapping[str, Any]
) -> tuple[Size, ...]:
    """Where output position o and tap t meet the image: o * stride + t * dilation."""
    return tuple(
        o * s + t * d
        for o, t, s, d in zip(out, taps, attrs["strides"], attrs["dilation"], strict=True)
    )


def _check_form(op: str, x: TensorSpec, count: int, attrs: Mapping[str, Any]) -> None:
    """x is (batch, *positions, *kernel, channels), with `count` axes of positions."""
    steps = (*attrs["strides"], *attrs["dilation"])
    if x.ndim != 2 * count + 2 or not len(attrs["strides"]) == len(attrs["dilation"]) == count:
        raise ShapeError(
            f"{op}: {shape_text(x.shape)} with {count} axes of positions; "
            "expected (batch, *positions, *kernel, channels)"
        )
    if any(step < 1 for step in steps):
        raise ShapeError(f"{op}: strides and dilation are {steps}; expected ints of at least 1")


@register
class GatherWindows(Movement):
    """y[n, o, t, c] = x[n, o s + t d, t, c], with `out` positions o;  x̄ = spread_windows(ȳ)

    x is (n, *size, *kernel, c): an image for each tap, so that the map has an inverse on its range.
    """

    attributes: ClassVar[Mapping[str, str]] = {
        "dilation": "ints", "out": "shape", "strides": "ints",
    }  # fmt: skip

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        count = len(attrs["out"])
        _check_form("gather_windows", x, count, attrs)
        size, kernel = x.shape[1 : 1 + count], x.shape[1 + count : -1]
        ends = _positions([o - 1 for o in attrs["out"]], [k - 1 for k in kernel], attrs)
        for axis, (end, have) in enumerate(zip(ends, size, strict=True), start=1):
            if not is_at_least_zero(have - 1 - end, axis):
                raise ShapeError(f"gather_windows: the last window ends at {end}, beyond {have}")
        return x.with_shape((x.shape[0], *attrs["out"], *x.shape[1 + count :]))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        attrs = node.attrs
        size = node.inputs[0].shape[1 : 1 + len(attrs["out"])]
        return [
            ops.spread_windows(ct, size=size, strides=attrs["strides"], dilation=attrs["dilation"])
        ]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        out, count = attrs["out"], len(attrs["out"])
        kernel = x.shape[1 + count : -1]
        y = np.empty((x.shape[0], *out, *kernel, x.shape[-1]), x.dtype)
        for tap in np.ndindex(*kernel):
            y[_of_tap(tap, count)] = x[_of_tap(tap, count)][_under(tap, out, attrs)]
        return y

    def source_index(self, node: Node, index: tuple[Size, ...]) -> tuple[Size, ...]:
        count = len(node.attrs["out"])
        out, taps = index[1 : 1 + count], index[1 + count : -1]
        return (index[0], *_positions(out, taps, node.attrs), *taps, index[-1])


@register
class SpreadWindows(Map):
    """y[n, h, t, c] = x[n, (h - t d) / s, t, c] where that is an output position, else 0.

    The transpose of gather_windows; `size` is the image's. x̄ = gather_windows(ȳ)
    """

    attributes: ClassVar[Mapping[str, str]] = {
        "dilation": "ints", "size": "shape", "strides": "ints",
    }  # fmt: skip
    cost = 2

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        count = len(attrs["size"])
        _check_form("spread_windows", x, count, attrs)
        out, kernel = x.shape[1 : 1 + count], x.shape[1 + count : -1]
        ends = _positions([o - 1 for o in out], [k - 1 for k in kernel], attrs)
        for axis, (end, have) in enumerate(zip(ends, attrs["size"], strict=True), start=1):
            if not is_at_least_zero(have - 1 - end, axis):
                raise ShapeError(f"spread_windows: the last window ends at {end}, beyond {have}")
        return x.with_shape((x.shape[0], *attrs["size"], *x.shape[1 + count :]))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        attrs = node.attrs
        out = node.inputs[0].shape[1 : 1 + len(attrs["size"])]
        return [
            ops.gather_windows(ct, out=out, strides=attrs["strides"], dilation=attrs["dilation"])
        ]

    def reference(self, x: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        size, count = attrs["size"], len(attrs["size"])
        out, kernel = x.shape[1 : 1 + count], x.shape[1 + count : -1]
        y = np.zeros((x.shape[0], *size, *kernel, x.shape[-1]), x.dtype)
        for tap in np.ndindex(*kernel):
            y[_of_tap(tap, count)][_under(tap, out, attrs)] = x[_of_tap(tap, count)]
        return y

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        (x,) = node.inputs
        count = len(node.attrs["size"])
        taps = index[1 + count : -1]
        out, tests = [], []
        for h, t, s, d, size in zip(
            index[1 : 1 + count],
            taps,
            node.attrs["strides"],
            node.attrs["dilation"],
            x.shape[1 : 1 + count],
            strict=True,
        ):
            offset = h - t * d
            position = floor_div(offset, s)
            out.append(position)
            tests.append(f"({emit.size(offset)} >= 0)")
            tests.append(f"({emit.size(position)} < {emit.size(size)})")
            if s != 1:
                tests.append(f"({emit.size(offset - position * s)} == 0)")
        at = (index[0], *out, *taps, index[-1])
        if not tests:
            return emit.get(x, at)
        inside = emit.assign(" & ".join(tests), "bool", *map(emit.size, index))
        zero = f"{CAST[node.dtype]}(0)"
        return emit.guarded(inside, lambda: emit.get(x, at), zero, node.dtype)


def _of_tap(tap: tuple[int, ...], count: int) -> tuple[Any, ...]:
    """Index of one tap's image in (n, *positions, *kernel, c)."""
    return (*(slice(None),) * (1 + count), *tap)


def _under(tap: tuple[int, ...], out: Sequence[int], attrs: Mapping[str, Any]) -> tuple[slice, ...]:
    """Where one tap meets an image (n, *size, c), for all output positions."""
    begins = _positions((0,) * len(out), tap, attrs)
    spatial = (
        slice(b, b + max(0, (o - 1) * s + 1) if o else b, s)
        for b, o, s in zip(begins, out, attrs["strides"], strict=True)
    )
    return (slice(None), *spatial)


# ---- builders ------------------------------------------------------------------------------------


def windows(
    x: Node, kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> Node:
    """(n, *size, c) as (n, *out, *kernel, c): what lies under each position of a kernel; no copy.

    Windows that touch but do not overlap are a reshape, whose derivative costs nothing.
    """
    count = len(kernel)
    size = x.shape[1:-1]
    axes = zip(size, kernel, strides, dilation, strict=True)
    out = tuple(conv_output_size(h, k, s, dilation=d) for h, k, s, d in axes)
    if tuple(kernel) == tuple(strides) and all(d == 1 or k == 1 for d, k in zip(dilation, kernel)):
        used = tuple(o * k for o, k in zip(out, kernel, strict=True))
        if used != size:
            none = (0,) * x.ndim
            x = ops.slice(x, start=none, step=(1,) * x.ndim, shape=(x.shape[0], *used, x.shape[-1]))
        split = [part for o, k in zip(out, kernel, strict=True) for part in (o, k)]
        x = reshape(x, (x.shape[0], *split, x.shape[-1]))
        order = [*range(1, 2 * count, 2), *range(2, 2 * count + 1, 2)]
        return permute(x, (0, *order, 2 * count + 1))
    x = reshape(x, (x.shape[0], *size, *[1] * count, x.shape[-1]))
    x = broadcast_to(x, (x.shape[0], *size, *kernel, x.shape[-1]))
    return ops.gather_windows(x, out=out, strides=tuple(strides), dilation=tuple(dilation))


def pad_spatial(x: Node, low: Sequence[Size], high: Sequence[Size], value: float) -> Node:
    """(n, *size, c) with a frame of `value` around each image; itself where there is none."""
    if not any(p != 0 for p in (*low, *high)):
        return x
    fill = full((), value, x.dtype)
    return ops.pad(x, fill, low=(0, *low, 0), high=(0, *high, 0), interior=(0,) * x.ndim)


def _window_axes(kernel: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(1 + len(kernel), 1 + 2 * len(kernel)))


def max_pool(
    x: Node,
    kernel: Sequence[int],
    strides: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int] | None = None,
) -> Node:
    """The largest element of each window, (n, *size, c) -> (n, *out, c); padding never wins."""
    least = float("-inf") if is_float(x.dtype) else np.iinfo(x.dtype).min
    x = pad_spatial(x, low, high, least)
    taken = windows(x, kernel, strides, dilation or (1,) * len(kernel))
    return ops.max(taken, axes=_window_axes(kernel))


def avg_pool(
    x: Node,
    kernel: Sequence[int],
    strides: Sequence[int],
    low: Sequence[int],
    high: Sequence[int],
    dilation: Sequence[int] | None = None,
    count_padding: bool = False,
) -> Node:
    """The mean of each window, (n, *size, c) -> (n, *out, c).

    Args:
        count_padding: whether padding counts as zeros; else the mean is over the elements of x.
    """
    dilation = dilation or (1,) * len(kernel)
    axes = _window_axes(kernel)

    def total(node: Node) -> Node:
        return sum_over(windows(pad_spatial(node, low, high, 0), kernel, strides, dilation), axes)

    if count_padding or not any((*low, *high)):
        return total(x) * (1.0 / math.prod(kernel))
    return total(x) / total(full((1, *x.shape[1:-1], 1), 1, x.dtype))
