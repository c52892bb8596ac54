"""Convolutions of every kind in, the few forms that kernels are written for out.

    %1 = conv_input_grad(%0, %w, strides=(1, 1), low=(1, 1), ...)
 ->
    %1 = pad(%0, 0, low=(0, 1, 1, 0), high=(0, 1, 1, 0), ...)
    %2 = permute_dims(slice(%w, step=(-1, -1, 1, 1)), axes=(0, 1, 3, 2))      flipped, transposed
    %3 = conv(%1, %2, strides=(1, 1), low=(0, 0), high=(0, 0), ...)

With strides s the pixels of one remainder modulo s have taps of their own: the convolution makes
s x s pixels as channels, which an index map then puts side by side.

After the pass there is no conv_input_grad, no padding inside a convolution, kernels of one tap are
matmuls, and convolutions of single channels (depthwise) are sums over windows. Each rewrite keeps
the value: padding adds zeros to a sum, and the rest is another order of the same products.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.dims import Size, floor_div, product, typical
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import full, permute, reshape, sum_over
from graphflow.compiler.ops.movement import flip
from graphflow.compiler.ops.pool import pad_spatial, windows

#: ranges of images that threads share for a weight gradient, and the largest gradient for that
PARTS, PART_BYTES = 8, 256 * 1024

Sizes = tuple[Size, ...]
Ints = tuple[int, ...]


def lower_conv(graph: Graph) -> Graph:
    """Rewrite the convolutions of a graph."""

    def replace(node: Node, inputs: tuple[Node, ...]) -> Node:
        rule = _RULES.get(node.op.name)
        return rebuild(node, inputs) if rule is None else rule(node, *inputs)

    return graph.rewrite(replace)


def _lower_conv(node: Node, x: Node, w: Node) -> Node:
    attrs = node.attrs
    return _conv(
        x, w, attrs["strides"], attrs["low"], attrs["high"], attrs["dilation"], attrs["groups"]
    )


def _conv(
    x: Node, w: Node, strides: Ints, low: Sizes, high: Sizes, dilation: Ints, groups: int
) -> Node:
    """A convolution in a form that has a kernel; low and high may be negative, which crops."""
    kernel, (c_in, c_out) = w.shape[:-2], w.shape[-2:]
    x = pad_spatial(x, low, high, 0)
    if groups == 1 and product(kernel) == 1:
        return ops.matmul(
            _strided(x, strides), reshape(w, (c_in, c_out)), transpose_a=False, transpose_b=False
        )
    if groups > 1 and c_in == 1:
        taken = windows(x, kernel, strides, dilation)
        axes = tuple(range(1 + len(kernel), 1 + 2 * len(kernel)))
        if c_out == groups:
            return sum_over(taken * reshape(w, (*kernel, c_out)), axes)
        taken = reshape(taken, (*taken.shape, 1))
        total = sum_over(taken * reshape(w, (*kernel, groups, c_out // groups)), axes)
        return reshape(total, (*total.shape[:-2], c_out))
    none = (0,) * len(kernel)
    return ops.conv(x, w, strides=strides, low=none, high=none, dilation=dilation, groups=groups)


def _strided(x: Node, strides: Ints) -> Node:
    """Every stride-th pixel."""
    if all(s == 1 for s in strides):
        return x
    size = tuple((h - 1) // s + 1 for h, s in zip(x.shape[1:-1], strides, strict=True))
    shape = (x.shape[0], *size, x.shape[-1])
    return ops.slice(x, start=(0,) * x.ndim, step=(1, *strides, 1), shape=shape)


def _lower_input_grad(node: Node, ct: Node, w: Node) -> Node:
    attrs = node.attrs
    strides, low, size = attrs["strides"], attrs["low"], attrs["size"]
    if attrs["groups"] == 1 and product(w.shape[:-2]) == 1:
        ct = ops.matmul(ct, reshape(w, w.shape[-2:]), transpose_a=False, transpose_b=True)
        out = ct.shape[1:-1]
        high = tuple(
            h + b - (o - 1) * s - 1 for h, b, o, s in zip(size, low, out, strides, strict=True)
        )
        return _spread(ct, tuple(-b for b in low), high, strides)
    return _by_phases(ct, w, attrs)


@dataclass(frozen=True)
class _Phase:
    """One axis of an input gradient: pixel h of x met tap t at output o if h + low = o s + t d.

    With d = 1 and t = j s + r, that is o = (h + low) // s - j, where r = (h + low) % s: each
    remainder r has `taps` taps of its own, and they meet whole pixels of the cotangent. With
    s > 1 and d > 1 the cotangent gets zeros between its pixels instead, which makes s = 1.

    Attributes:
        count, taps: remainders, and taps of each.
        dilation, between: of the taps; zeros between pixels of the cotangent.
        low, high: padding of the cotangent.
        start: the first wanted pixel of the result.
    """

    count: int
    taps: int
    dilation: int
    between: int
    low: Size
    high: Size
    start: int


def _phase(size: Size, out: Size, taps: int, stride: int, dilation: int, low: int) -> _Phase:
    between = 0
    if stride > 1 and dilation > 1:
        between, out, stride = stride - 1, (out - 1) * stride + 1, 1
    own = -(-taps // stride)
    first, last = low // stride, floor_div(size - 1 + low, stride)
    return _Phase(
        count=stride,
        taps=own,
        dilation=dilation,
        between=between,
        low=(own - 1) * dilation - first,
        high=last + 1 - out,
        start=low - first * stride,
    )


def _by_phases(ct: Node, w: Node, attrs: Mapping[str, Any]) -> Node:
    """conv_input_grad as one convolution, whose result holds s x s pixels in its channels."""
    kernel, (c_in, c_out), groups = w.shape[:-2], w.shape[-2:], attrs["groups"]
    size, spatial = attrs["size"], range(len(kernel))
    phases = [
        _phase(*axis)
        for axis in zip(
            size,
            ct.shape[1:-1],
            kernel,
            *(attrs[k] for k in ("strides", "dilation", "low")),
            strict=True,
        )
    ]
    between = tuple(p.between + 1 for p in phases)
    ct = _spread(ct, tuple(p.low for p in phases), tuple(p.high for p in phases), between)
    # (*kernel, c_in, c_out) becomes (*taps, c_out of a group, group * phases * c_in), flipped.
    rest = tuple(p.count * p.taps - k for p, k in zip(phases, kernel, strict=True))
    if any(rest):
        none = (0,) * w.ndim
        w = ops.pad(w, full((), 0, w.dtype), low=none, high=(*rest, 0, 0), interior=none)
    split = [part for p in phases for part in (p.taps, p.count)]
    w = reshape(w, (*split, c_in, groups, c_out // groups))
    for axis in spatial:
        w = flip(w, 2 * axis) if phases[axis].taps > 1 else w
    taps, counts = (tuple(2 * a + b for a in spatial) for b in (0, 1))
    w = permute(w, (*taps, w.ndim - 1, w.ndim - 2, *counts, w.ndim - 3))
    own = tuple(p.taps for p in phases)
    count = tuple(p.count for p in phases)
    w = reshape(w, (*own, c_out // groups, groups * product(count) * c_in))
    one, none = (1,) * len(kernel), (0,) * len(kernel)
    y = _conv(ct, w, one, none, none, tuple(p.dilation for p in phases), groups)
    if product(count) == 1:
        return y
    batch, *rough = y.shape[:-1]
    y = reshape(y, (batch, *rough, groups, *count, c_in))
    at = len(rough) + 1
    y = permute(y, (0, *(k for a in spatial for k in (1 + a, at + 1 + a)), at, y.ndim - 1))
    fine = tuple(h * p.count for h, p in zip(rough, phases, strict=True))
    y = reshape(y, (batch, *fine, groups * c_in))
    start = (0, *(p.start for p in phases), 0)
    shape = (batch, *size, groups * c_in)
    return ops.slice(y, start=start, step=(1,) * y.ndim, shape=shape)


def _spread(ct: Node, low: Sizes, high: Sizes, strides: Ints) -> Node:
    """Images padded (or cropped), with stride - 1 zeros between pixels."""
    between = tuple(s - 1 for s in strides)
    if not any(p != 0 for p in (*low, *high, *between)):
        return ct
    zero = full((), 0, ct.dtype)
    return ops.pad(ct, zero, low=(0, *low, 0), high=(0, *high, 0), interior=(0, *between, 0))


def _lower_weight_grad(node: Node, x: Node, ct: Node) -> Node:
    attrs = node.attrs
    kernel, strides, groups = attrs["kernel"], attrs["strides"], attrs["groups"]
    c_in, c_out = node.shape[-2:]
    x = pad_spatial(x, attrs["low"], attrs["high"], 0)
    if groups == 1 and product(kernel) == 1:
        x = _strided(x, strides)
        pixels = product(ct.shape[:-1])
        x, ct = reshape(x, (pixels, c_in)), reshape(ct, (pixels, c_out))
        total = ops.matmul(x, ct, transpose_a=True, transpose_b=False)
        return reshape(total, node.shape)
    if groups > 1 and c_in == 1:
        taken = windows(x, kernel, strides, attrs["dilation"])
        outer = tuple(range(1 + len(kernel)))
        out = ct.shape[:-1]
        if c_out == groups:
            ct = reshape(ct, (*out, *[1] * len(kernel), c_out))
        else:
            taken = reshape(taken, (*taken.shape, 1))
            ct = reshape(ct, (*out, *[1] * len(kernel), groups, c_out // groups))
        return reshape(sum_over(taken * ct, outer), node.shape)
    none = (0,) * len(kernel)
    attrs = {**attrs, "low": none, "high": none}
    if typical(node.spec.nbytes) <= PART_BYTES and typical(ct.shape[0]) >= PARTS:
        return sum_over(ops.conv_weight_grad_parts(x, ct, parts=PARTS, **attrs), (0,))
    return ops.conv_weight_grad(x, ct, **attrs)


def _lower_weight_grad_parts(node: Node, x: Node, ct: Node) -> Node:
    attrs, none = node.attrs, (0,) * len(node.attrs["kernel"])
    x = pad_spatial(x, attrs["low"], attrs["high"], 0)
    return ops.conv_weight_grad_parts(x, ct, **{**attrs, "low": none, "high": none})


_RULES: dict[str, Callable[..., Node]] = {
    "conv": _lower_conv,
    "conv_input_grad": _lower_input_grad,
    "conv_weight_grad": _lower_weight_grad,
    "conv_weight_grad_parts": _lower_weight_grad_parts,
}
