"""Convolution and pooling over images and sequences, channels last or first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphflow import statistics
from graphflow.activations import float_tensor
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops import pool
from graphflow.compiler.ops.blocks import reshape
from graphflow.compiler.ops.conv import same_padding
from graphflow.composite import composite
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.manipulation import moveaxis
from graphflow.tensor import Tensor, as_tensor, promoted

__all__ = [
    "avg_pool",
    "conv1d",
    "conv2d",
    "depthwise_conv",
    "global_avg_pool",
    "global_max_pool",
    "max_pool",
]

Ints = int | Sequence[int]
Padding = str | int | Sequence[Any]

CHANNELS_LAST = ("NHWC", "NWC", "channels_last")
CHANNELS_FIRST = ("NCHW", "NCW", "channels_first")


def _is_channels_first(name: str, data_format: str) -> bool:
    if data_format in CHANNELS_FIRST:
        return True
    if data_format in CHANNELS_LAST:
        return False
    raise GraphError(
        with_line(f"{name}: data_format {data_format!r} is unknown; expected 'NHWC' or 'NCHW'")
    )


def _last(x: Tensor, first: bool) -> Tensor:
    """Channels last."""
    return moveaxis(x, 1, -1) if first else x


def _back(node: Node, first: bool) -> Tensor:
    """Channels where the caller has them."""
    return moveaxis(Tensor(node), -1, 1) if first else Tensor(node)


def _per_axis(name: str, what: str, value: Ints, count: int) -> tuple[int, ...]:
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) != count or any(not isinstance(v, int) or v < 1 for v in values):
        raise ShapeError(
            with_line(
                f"{name}: {what} is {value}; expected a positive int, or {count} of them, one for "
                "each spatial axis"
            )
        )
    return values


def _padding(
    name: str,
    padding: Padding,
    node: Node,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(low, high) of each spatial axis."""
    size = node.shape[1:-1]
    if padding == "valid":
        pairs: list[Any] = [(0, 0)] * len(size)
    elif padding == "same":
        try:
            axes = zip(size, kernel, strides, dilation, strict=True)
            pairs = [same_padding(*axis) for axis in axes]
        except ShapeError as error:
            raise ShapeError(with_line(f"{name}: {error}\n  {describe(node)}")) from None
    elif isinstance(padding, str):
        raise GraphError(
            with_line(
                f"{name}: padding {padding!r} is unknown; expected 'same', 'valid' or numbers"
            )
        )
    elif isinstance(padding, int):
        pairs = [(padding, padding)] * len(size)
    else:
        pairs = [(part, part) if isinstance(part, int) else tuple(part) for part in padding]
    wrong = len(pairs) != len(size) or any(
        len(pair) != 2 or any(not isinstance(p, int) or p < 0 for p in pair) for pair in pairs
    )
    if wrong:
        raise ShapeError(
            with_line(
                f"{name}: padding is {padding}; expected non-negative ints, one or a pair "
                f"(before, after) for each of {len(size)} spatial axes"
            )
        )
    return tuple(low for low, _ in pairs), tuple(high for _, high in pairs)


def _convolved(
    name: str,
    spatial: int,
    x: Any,
    w: Any,
    strides: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    data_format: str,
) -> Tensor:
    first = _is_channels_first(name, data_format)
    image, weights = promoted(name, float_tensor(name, x), as_tensor(w, name=name))
    if image.ndim != spatial + 2 or weights.ndim != spatial + 2:
        raise ShapeError(
            with_line(
                f"{name}: {describe(image)}; {describe(weights)}; expected {spatial + 2} axes each, "
                f"{data_format} and (*kernel, channels in, channels out)"
            )
        )
    image = _last(Tensor(image), first).node
    steps = _per_axis(name, "strides", strides, spatial)
    spread = _per_axis(name, "dilation", dilation, spatial)
    kernel = weights.shape[:-2]
    low, high = _padding(name, padding, image, kernel, steps, spread)
    result = ops.conv(
        image, weights, strides=steps, low=low, high=high, dilation=spread, groups=groups
    )
    return _back(result, first)


def conv1d(
    x: Any,
    w: Any,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    data_format: str = "NWC",
) -> Tensor:
    """y[n, o, q] = Σ_{t, c} x[n, o s + t d, c] w[t, c, q]

    Args:
        x: (batch, length, channels), or (batch, channels, length) with "NCW".
        w: (kernel, channels / groups, outputs)
        strides, padding, dilation, groups: see `conv2d`.
    """
    return _convolved("conv1d", 1, x, w, strides, padding, dilation, groups, data_format)


def conv2d(
    x: Any,
    w: Any,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    data_format: str = "NHWC",
) -> Tensor:
    """The sum of products of a kernel with each window of an image.

    Args:
        x: (batch, height, width, channels), or (batch, channels, height, width) with "NCHW".
        w: (kernel height, kernel width, channels / groups, outputs), in both formats.
        strides: distance of neighbouring windows, one int or one per axis.
        padding: "valid" (none), "same" (size / strides, rounded up), an int, or for each axis an
            int or a pair (before, after).
        dilation: distance of neighbouring taps of the kernel.
        groups: the channels are split into so many groups that do not mix.

    Raises:
        ShapeError: channels do not match, or the kernel is larger than the padded image.
    """
    return _convolved("conv2d", 2, x, w, strides, padding, dilation, groups, data_format)


def depthwise_conv(
    x: Any,
    w: Any,
    strides: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    data_format: str = "NHWC",
) -> Tensor:
    """A convolution of each channel by itself, for one or two spatial axes.

    Args:
        w: (*kernel, channels, multiplier); output channel c · multiplier + m comes from channel c.
    """
    weights = as_tensor(w, name="depthwise_conv").node
    if weights.ndim not in (3, 4):
        raise ShapeError(
            with_line(f"depthwise_conv: {describe(weights)}; expected 3 or 4 axes, see the help")
        )
    channels, multiplier = weights.shape[-2:]
    weights = reshape(weights, (*weights.shape[:-2], 1, channels * multiplier))
    spatial = weights.ndim - 2
    return _convolved(
        "depthwise_conv", spatial, x, weights, strides, padding, dilation, channels, data_format
    )


def _pooled(
    name: str,
    x: Any,
    kernel: Ints,
    strides: Ints | None,
    padding: Padding,
    data_format: str,
    **options: Any,
) -> Tensor:
    first = _is_channels_first(name, data_format)
    tensor = as_tensor(x, name=name) if name == "max_pool" else float_tensor(name, x)
    spatial = tensor.ndim - 2
    if spatial < 1:
        raise ShapeError(
            with_line(f"{name}: {describe(tensor.node)}; expected at least 3 axes, {data_format}")
        )
    image = _last(tensor, first).node
    sizes = _per_axis(name, "the kernel", kernel, spatial)
    steps = sizes if strides is None else _per_axis(name, "strides", strides, spatial)
    low, high = _padding(name, padding, image, sizes, steps, (1,) * spatial)
    for axis, (size, window, before, after) in enumerate(
        zip(image.shape[1:-1], sizes, low, high, strict=True)
    ):
        if isinstance(size, int) and size + before + after < window:
            raise ShapeError(
                with_line(
                    f"{name}: spatial axis {axis} has {size} + {before} + {after} elements, fewer "
                    f"than the window's {window}\n  {describe(tensor.node)}"
                )
            )
    result = getattr(pool, name)(image, sizes, steps, low, high, **options)
    return _back(result, first)


@composite
def max_pool(
    x: Any,
    kernel: Ints,
    strides: Ints | None = None,
    padding: Padding = "valid",
    data_format: str = "NHWC",
) -> Tensor:
    """The largest element of each window; padding never wins. Equal ones share the gradient.

    Args:
        x: (batch, *spatial, channels), or channels first with "NCHW".
        kernel: the window, one int or one per spatial axis.
        strides: distance of neighbouring windows, the kernel by default.
        padding: "valid", "same", an int, or ints or pairs per axis.
    """
    return _pooled("max_pool", x, kernel, strides, padding, data_format)


@composite
def avg_pool(
    x: Any,
    kernel: Ints,
    strides: Ints | None = None,
    padding: Padding = "valid",
    data_format: str = "NHWC",
    count_padding: bool = False,
) -> Tensor:
    """The mean of each window; see `max_pool`.

    Args:
        count_padding: count padding as zeros; by default the mean is over the elements of x.
    """
    options = {"count_padding": count_padding}
    return _pooled("avg_pool", x, kernel, strides, padding, data_format, **options)


def _spatial_axes(name: str, x: Any, data_format: str) -> tuple[Tensor, tuple[int, ...]]:
    tensor = as_tensor(x, name=name)
    if tensor.ndim < 3:
        raise ShapeError(with_line(f"{name}: {describe(tensor.node)}; expected at least 3 axes"))
    begin = 2 if _is_channels_first(name, data_format) else 1
    return tensor, tuple(range(begin, begin + tensor.ndim - 2))


@composite
def global_avg_pool(x: Any, data_format: str = "NHWC", keepdims: bool = False) -> Tensor:
    """The mean over all spatial axes: (batch, channels)."""
    tensor, axes = _spatial_axes("global_avg_pool", x, data_format)
    return statistics.mean(tensor, axes, keepdims)


@composite
def global_max_pool(x: Any, data_format: str = "NHWC", keepdims: bool = False) -> Tensor:
    """The largest element over all spatial axes: (batch, channels)."""
    tensor, axes = _spatial_axes("global_max_pool", x, data_format)
    return statistics.max(tensor, axes, keepdims)
