"""Convolution and its two derivatives, channels last: bilinear, and closed under differentiation.

    y = conv(x, w)                  x (n, *size, c_in), w (*kernel, c_in / groups, c_out)
    x̄ = conv_input_grad(ȳ, w)
    w̄ = conv_weight_grad(x, ȳ)

Each is linear in both operands, and the rule of each is made of the other two. `lower_conv` turns
padding, `conv_input_grad` and the forms with a cheaper spelling into what the templates take:
`conv`, `conv_weight_grad` and `conv_weight_grad_parts` without padding.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.codegen.conv import emit_conv, emit_conv_weight_grad
from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.dims import Size, floor_div
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import Op, Template, ops, register
from graphflow.compiler.ops.blocks import reshape
from graphflow.compiler.spec import TensorSpec, is_equal, is_float, shape_text

Ints = tuple[int, ...]


def conv_output_size(
    size: Size, kernel: int, stride: int = 1, low: int = 0, high: int = 0, dilation: int = 1
) -> Size:
    """Positions of a window along one axis.

    That is (size + low + high - reach) // stride + 1, with reach = (kernel - 1) dilation + 1.
    """
    reach = (kernel - 1) * dilation + 1
    result = floor_div(size + (low + high - reach), stride) + 1
    return max(result, 0) if isinstance(result, int) else result


def same_padding(size: Size, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """(low, high) that give ceil(size / stride) positions, as Keras and TensorFlow pad.

    low = total // 2 and high = total - low, with total = (ceil(size / stride) - 1) stride + reach
    - size. With stride 1 this does not depend on the size.

    Raises:
        ShapeError: the size is a named dim and the stride is not 1.
    """
    reach = (kernel - 1) * dilation + 1
    if stride == 1:
        total = reach - 1
    elif isinstance(size, int):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    else:
        raise ShapeError(
            f"padding='same' with stride {stride} needs a fixed size, got the dim '{size}'; "
            "give the padding as numbers"
        )
    return total // 2, total - total // 2


class ConvBase(Op):
    """What the three ops share: attributes and their checks."""

    attributes: ClassVar[Mapping[str, str]] = {
        "dilation": "ints", "groups": "int", "high": "ints", "low": "ints", "strides": "ints",
    }  # fmt: skip
    arity = (2, 2)

    def check_attrs(self, spatial: int, attrs: Mapping[str, Any]) -> None:
        for name in ("dilation", "high", "low", "strides"):
            least = 1 if name in ("dilation", "strides") else 0
            values = attrs[name]
            if len(values) != spatial or any(v < least for v in values):
                raise ShapeError(
                    f"{self.name}: {name} is {values}; expected {spatial} ints of at least {least}"
                )

    def check_operands(self, a: TensorSpec, b: TensorSpec) -> None:
        if a.dtype != b.dtype or not is_float(a.dtype):
            raise DTypeError(
                f"{self.name}: operands are {a.dtype} and {b.dtype}; expected one float dtype, "
                "use gf.astype to convert"
            )
        if a.ndim != b.ndim or a.ndim < 3:
            raise ShapeError(
                f"{self.name}: operands are {shape_text(a.shape)} and {shape_text(b.shape)}; "
                "expected (batch, *spatial, channels) and (*kernel, channels_in, channels_out)"
            )

    def check_channels(self, c_in: Size, kernel: tuple[Size, ...], groups: int) -> None:
        """`kernel` is the shape of the weights."""
        if groups < 1 or not all(isinstance(size, int) and size > 0 for size in kernel[:-2]):
            raise ShapeError(
                f"{self.name}: groups is {groups} and the weights are {shape_text(kernel)}; "
                "expected positive ints"
            )
        if not is_equal(c_in, kernel[-2] * groups, f"{self.name}: channels"):
            raise ShapeError(
                f"{self.name}: channels differ: x has {c_in}, the weights "
                f"{shape_text(kernel)} take {kernel[-2]} in each of {groups} groups; "
                f"expected w.shape[-2] == {floor_div(c_in, groups)}"
            )
        whole = floor_div(kernel[-1], groups) * groups
        if not is_equal(kernel[-1], whole, f"{self.name}: outputs that divide into groups"):
            raise ShapeError(
                f"{self.name}: {kernel[-1]} outputs do not divide into {groups} groups"
            )

    def output_size(
        self, size: Sequence[Size], kernel: Sequence[int], attrs: Mapping[str, Any]
    ) -> tuple[Size, ...]:
        """Spatial size of the convolution's result."""
        keys = ("strides", "low", "high", "dilation")
        axes = list(zip(size, kernel, *(attrs[k] for k in keys), strict=True))
        result = tuple(conv_output_size(*axis) for axis in axes)
        if 0 in result:
            have, taps, _, low, high, dilation = axes[result.index(0)]
            raise ShapeError(
                f"{self.name}: axis {result.index(0)} of the image has {have} + {low} + {high} "
                f"elements, fewer than the kernel's {(taps - 1) * dilation + 1}"
            )
        return result

    def check_output(self, ct: TensorSpec, wanted: tuple[Size, ...]) -> None:
        for have, want in zip(ct.shape[1:-1], wanted, strict=True):
            if not is_equal(have, want, f"{self.name}: size of the cotangent"):
                raise ShapeError(
                    f"{self.name}: the cotangent is {shape_text(ct.shape)}; "
                    f"expected spatial sizes {shape_text(wanted)}"
                )


def _shared(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that all three ops have."""
    return {name: attrs[name] for name in ConvBase.attributes}


@register
class Conv(ConvBase, Template):
    """y[n, o, q] = Σ_{t, c} x[n, o s + t d - low, c] w[t, c, q], zeros outside x.

    x̄ = conv_input_grad(ȳ, w),  w̄ = conv_weight_grad(x, ȳ)
    """

    takes_epilogue = True

    def infer(self, x: TensorSpec, w: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        self.check_operands(x, w)
        self.check_attrs(x.ndim - 2, attrs)
        self.check_channels(x.shape[-1], w.shape, attrs["groups"])
        size = self.output_size(x.shape[1:-1], w.shape[:-2], attrs)  # type: ignore[arg-type]
        return x.with_shape((x.shape[0], *size, w.shape[-1]))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x, w = node.inputs
        shared = _shared(node.attrs)
        return [
            ops.conv_input_grad(ct, w, size=x.shape[1:-1], **shared),
            ops.conv_weight_grad(x, ct, kernel=w.shape[:-2], **shared),
        ]

    def reference(self, x: np.ndarray, w: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        windows = _windows(x, w.shape[:-2], attrs)
        x_axes, w_axes, y_axes = _subscripts(x.ndim - 2)
        windows = _grouped(windows, -1, attrs["groups"])
        weights = _grouped(w, -1, attrs["groups"])
        out = np.einsum(f"{x_axes},{w_axes}->{y_axes}", windows, weights, optimize=True)
        return out.reshape(*out.shape[:-2], w.shape[-1]).astype(x.dtype)

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        return emit_conv(node, kernel, kernel.target)


@register
class ConvInputGrad(ConvBase):
    """x̄ of y = conv(x, w) from ȳ and w: ȳ spread by the strides and convolved with flipped w.

    ȳ̄ = conv(x̄̄, w),  w̄ = conv_weight_grad(x̄̄, ȳ). `size` is the spatial size of x.
    """

    attributes: ClassVar[Mapping[str, str]] = {**ConvBase.attributes, "size": "shape"}

    def infer(self, ct: TensorSpec, w: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        self.check_operands(ct, w)
        self.check_attrs(ct.ndim - 2, attrs)
        c_in = w.shape[-2] * attrs["groups"]
        self.check_channels(c_in, w.shape, attrs["groups"])
        self.check_output(ct, self.output_size(attrs["size"], w.shape[:-2], attrs))  # type: ignore[arg-type]
        if not is_equal(ct.shape[-1], w.shape[-1], f"{self.name}: channels"):
            raise ShapeError(
                f"{self.name}: the cotangent has {ct.shape[-1]} channels, the weights "
                f"{shape_text(w.shape)}; expected {w.shape[-1]}"
            )
        return ct.with_shape((ct.shape[0], *attrs["size"], c_in))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        y, w = node.inputs
        shared = _shared(node.attrs)
        return [
            ops.conv(ct, w, **shared),
            ops.conv_weight_grad(ct, y, kernel=w.shape[:-2], **shared),
        ]

    def reference(self, ct: np.ndarray, w: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        groups, size = attrs["groups"], attrs["size"]
        x_axes, w_axes, y_axes = _subscripts(ct.ndim - 2)
        spread = np.einsum(
            f"{y_axes},{w_axes}->{x_axes}",
            _grouped(ct, -1, groups),
            _grouped(w, -1, groups),
            optimize=True,
        )
        padded = [h + lo + hi for h, lo, hi in zip(size, attrs["low"], attrs["high"], strict=True)]
        out = np.zeros((ct.shape[0], *padded, groups, w.shape[-2]), ct.dtype)
        for tap in np.ndindex(*w.shape[:-2]):
            # The taps' axes stand behind the output positions.
            part = spread[(slice(None),) * (1 + len(size)) + tap]
            out[(slice(None), *_positions(tap, part.shape[1:-2], attrs))] += part
        inner = tuple(slice(lo, lo + h) for h, lo in zip(size, attrs["low"], strict=True))
        return out[(slice(None), *inner)].reshape(ct.shape[0], *size, groups * w.shape[-2])


@register
class ConvWeightGrad(ConvBase, Template):
    """w̄ of y = conv(x, w): w̄[t, c, q] = Σ_{n, o} x[n, o s + t d - low, c] ȳ[n, o, q].

    x̄ = conv_input_grad(ȳ, w̄̄),  ȳ̄ = conv(x, w̄̄). `kernel` is the spatial size of w.
    """

    attributes: ClassVar[Mapping[str, str]] = {**ConvBase.attributes, "kernel": "ints"}

    def infer(self, x: TensorSpec, ct: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        self.check_operands(x, ct)
        self.check_attrs(x.ndim - 2, attrs)
        shape = (*attrs["kernel"], floor_div(x.shape[-1], attrs["groups"]), ct.shape[-1])
        self.check_channels(x.shape[-1], shape, attrs["groups"])
        self.check_output(ct, self.output_size(x.shape[1:-1], attrs["kernel"], attrs))
        if not is_equal(x.shape[0], ct.shape[0], f"{self.name}: batch"):
            raise ShapeError(f"{self.name}: {x.shape[0]} inputs, but {ct.shape[0]} cotangents")
        return x.with_shape(shape)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x, y = node.inputs
        shared = _shared(node.attrs)
        return [
            ops.conv_input_grad(y, ct, size=x.shape[1:-1], **shared),
            ops.conv(x, ct, **shared),
        ]

    def reference(self, x: np.ndarray, ct: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        groups = attrs["groups"]
        windows = _grouped(_windows(x, attrs["kernel"], attrs), -1, groups)
        x_axes, w_axes, y_axes = _subscripts(x.ndim - 2)
        out = np.einsum(
            f"{x_axes},{y_axes}->{w_axes}", windows, _grouped(ct, -1, groups), optimize=True
        )
        return out.reshape(*out.shape[:-2], ct.shape[-1]).astype(x.dtype)

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        return emit_conv_weight_grad(node, kernel, kernel.target)


@register
class ConvWeightGradParts(ConvBase, Template):
    """conv_weight_grad of each of `parts` ranges of images, by themselves: w̄ is the sum of all.

    Range p has the images n p // parts to n (p + 1) // parts. Threads share the ranges, so that
    each reads its images once; lower_conv makes it. The rule is that of conv_weight_grad, range by
    range.
    """

    attributes: ClassVar[Mapping[str, str]] = {**ConvWeightGrad.attributes, "parts": "int"}

    def infer(self, x: TensorSpec, ct: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        parts = attrs.pop("parts")
        if parts < 1:
            raise ShapeError(f"{self.name}: parts is {parts}, expected at least 1")
        whole = ops.conv_weight_grad.infer(x, ct, **attrs)
        return x.with_shape((parts, *whole.shape))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        parts = node.attrs["parts"]
        shared, grads = _shared(node.attrs), []
        for part in range(parts):
            w = reshape(_rows(ct, part, parts), ct.shape[1:])
            x, y = (_rows(value, part, parts) for value in node.inputs)
            x_bar = ops.conv_input_grad(y, w, size=x.shape[1:-1], **shared)
            grads.append((x_bar, ops.conv(x, w, **shared)))
        return [ops.concat(*of_one, axis=0) for of_one in zip(*grads, strict=True)]

    def reference(self, x: np.ndarray, ct: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        parts = attrs.pop("parts")
        cuts = [len(x) * p // parts for p in range(parts + 1)]
        ranges = [slice(*pair) for pair in pairwise(cuts)]
        whole = ops.conv_weight_grad.reference
        return np.stack([whole(x[part], ct[part], **attrs) for part in ranges])

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        return emit_conv_weight_grad(node, kernel, kernel.target)


def _rows(node: Node, part: int, parts: int) -> Node:
    """The `part`-th of `parts` ranges of the first axis."""
    rows, *rest = node.shape
    start, end = (floor_div(rows * p, parts) for p in (part, part + 1))
    return ops.slice(
        node, start=(start, *[0] * len(rest)), step=(1,) * node.ndim, shape=(end - start, *rest)
    )


# ---- references ----------------------------------------------------------------------------------


def _subscripts(spatial: int) -> tuple[str, str, str]:
    """einsum subscripts of the windows (n, *o, *t, g, c), the weights (*t, c, g, q), and y."""
    out, taps = string.ascii_uppercase[:spatial], string.ascii_uppercase[spatial : 2 * spatial]
    return f"n{out}{taps}gc", f"{taps}cgq", f"n{out}gq"


def _grouped(x: np.ndarray, axis: int, groups: int) -> np.ndarray:
    """The axis split into (groups, rest)."""
    axis %= x.ndim
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def _positions(tap: Ints, out: Ints, attrs: Mapping[str, Any]) -> tuple[slice, ...]:
    """Where one tap meets the padded input, for all output positions."""
    return tuple(
        slice(t * d, t * d + (o - 1) * s + 1 if o else t * d, s)
        for t, o, s, d in zip(tap, out, attrs["strides"], attrs["dilation"], strict=True)
    )


def _windows(x: np.ndarray, kernel: Sequence[int], attrs: Mapping[str, Any]) -> np.ndarray:
    """(n, *out, *kernel, c): the padded input under each position of the kernel."""
    frame = [(0, 0), *zip(attrs["low"], attrs["high"], strict=True), (0, 0)]
    x = np.pad(x, frame)
    axes = zip(x.shape[1:-1], kernel, attrs["strides"], attrs["dilation"], strict=True)
    out = tuple((size - (k - 1) * d - 1) // s + 1 for size, k, s, d in axes)
    every = slice(None)
    taps = [x[(every, *_positions(tap, out, attrs))] for tap in np.ndindex(*kernel)]
    stacked = np.stack(taps, axis=-2)
    return stacked.reshape(*stacked.shape[:-2], *kernel, x.shape[-1])
