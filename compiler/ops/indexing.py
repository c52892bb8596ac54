"""Indices that are data: take, its scatter-add gradient, and the check of labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.dims import Size, linear_offset, product
from graphflow.compiler.errors import DTypeError, IndexOutOfRange, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Emitter, Map, Template, ops, register
from graphflow.compiler.spec import TensorSpec, is_integer, shape_text


def _check_indices(op: str, indices: TensorSpec) -> None:
    if not is_integer(indices.dtype):
        raise DTypeError(f"{op}: the indices are {indices.dtype}; expected an integer dtype")


def _check_axis(op: str, axis: int, ndim: int) -> None:
    if not 0 <= axis < ndim:
        raise ShapeError(f"{op}: axis {axis} is none of the {ndim} axes")


def _raise_out_of_range(op: str, indices: np.ndarray, low: int, bound: int) -> None:
    bad = (indices < low) | (indices >= bound)
    if bad.any():
        position = int(np.flatnonzero(bad)[0])
        value = int(indices.reshape(-1)[position])
        raise IndexOutOfRange(
            f"{op}: index {value} at position {position}; expected {low}..{bound - 1}"
        )


def checked_index(
    node: Node, indices: Node, at: tuple[Size, ...], bound: Size, emit: Emitter
) -> Size:
    """The index element at `at`, negative ones counted from the end, checked against `bound`."""
    raw = emit.get(indices, at)
    size = emit.size(bound)
    wide = emit.assign(f"i64({raw})", "int64", raw)
    wrapped = emit.assign(f"select({wide} < 0, {wide} + {size}, {wide})", "int64", wide, size)
    bad = emit.assign(f"({wrapped} < 0) | ({wrapped} >= {size})", "bool", wrapped, size)
    emit.report(node, bad, linear_offset(at, indices.shape), wide, bound)
    safe = emit.assign(f"select({bad}, i64(0), {wrapped})", "int64", bad, wrapped)
    return emit.index_of(safe, bound)


@register
class Take(Map):
    """y = x with `axis` replaced by the axes of the indices: y[.., j.., ..] = x[.., i[j..], ..].

    Negative indices count from the end; others outside 0..n-1 raise IndexError while running.
    x̄ = scatter_add(ȳ at i).
    """

    attributes: ClassVar[Mapping[str, str]] = {"axis": "int"}
    arity = (2, 2)
    cost = 4
    can_fail = True

    def infer(self, x: TensorSpec, indices: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        _check_indices("take", indices)
        axis = attrs["axis"]
        _check_axis("take", axis, x.ndim)
        return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        x, indices = node.inputs
        axis = node.attrs["axis"]
        return [ops.scatter_add(ct, indices, axis=axis, size=x.shape[axis]), None]

    def reference(self, x: np.ndarray, indices: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        size = x.shape[attrs["axis"]]
        _raise_out_of_range("take", indices, -size, size)
        if size == 0:
            return np.take(x, indices.astype(np.int64), axis=attrs["axis"], mode="wrap")
        return np.take(x, indices.astype(np.int64), axis=attrs["axis"])

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        x, indices = node.inputs
        axis = node.attrs["axis"]
        at = index[axis : axis + indices.ndim]
        chosen = checked_index(node, indices, at, x.shape[axis], emit)
        return emit.get(x, (*index[:axis], chosen, *index[axis + indices.ndim :]))


@register
class CheckRange(Map):
    """y = i, after checking that 0 <= i < bound; raises IndexError while running where not."""

    attributes: ClassVar[Mapping[str, str]] = {"bound": "size"}
    differentiable = False
    can_fail = True

    def infer(self, indices: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        _check_indices("check_range", indices)
        return indices

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]

    def reference(self, indices: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        _raise_out_of_range("check_range", indices, 0, attrs["bound"])
        return indices

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        (indices,) = node.inputs
        value, size = emit.get(indices, index), emit.size(node.attrs["bound"])
        wide = emit.assign(f"i64({value})", "int64", value)
        bad = emit.assign(f"({wide} < 0) | ({wide} >= {size})", "bool", wide, size)
        position = linear_offset(index, indices.shape)
        emit.report(node, bad, position, wide, node.attrs["bound"])
        return emit.assign(f"select({bad}, {CAST[node.dtype]}(0), {value})", node.dtype, bad, value)


@register
class ScatterAdd(Template):
    """y = zeros with y[.., i[j..], ..] += x[.., j.., ..] along `axis` of `size`;  x̄ = take(ȳ, i)"""

    attributes: ClassVar[Mapping[str, str]] = {"axis": "int", "size": "size"}
    arity = (2, 2)
    can_fail = True

    def infer(self, x: TensorSpec, indices: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        _check_indices("scatter_add", indices)
        axis, count = attrs["axis"], indices.ndim
        _check_axis("scatter_add", axis, x.ndim + (count == 0))
        if x.shape[axis : axis + count] != indices.shape:
            raise ShapeError(
                f"scatter_add: axes {axis}..{axis + count - 1} of {shape_text(x.shape)} "
                f"are not the indices' {shape_text(indices.shape)}"
            )
        return x.with_shape((*x.shape[:axis], attrs["size"], *x.shape[axis + count :]))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [ops.take(ct, node.inputs[1], axis=node.attrs["axis"]), None]

    def reference(self, x: np.ndarray, indices: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        axis, size, count = attrs["axis"], attrs["size"], indices.ndim
        _raise_out_of_range("scatter_add", indices, -size, size)
        out = np.zeros((*x.shape[:axis], size, *x.shape[axis + count :]), x.dtype)
        flat = x.reshape(*x.shape[:axis], indices.size, *x.shape[axis + count :])
        np.add.at(
            np.moveaxis(out, axis, 0),
            indices.reshape(-1).astype(np.int64),
            np.moveaxis(flat, axis, 0),
        )
        return out

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        x, indices = node.inputs
        axis = node.attrs["axis"]
        outer, inner = product(x.shape[:axis]), product(x.shape[axis + indices.ndim :])
        source, where, out = kernel.buffer(x), kernel.buffer(indices), kernel.output(node)
        count, width, rows = (
            kernel.size(s) for s in (indices.spec.size, inner, node.attrs["size"])
        )
        cast = CAST[node.dtype]
        # Outer slices are independent; inside one, rows are added in order, so the result does
        # not depend on the number of threads.
        with kernel.loop("i", "lo", "hi"):
            with kernel.loop("k", "0", f"{rows} * {width}"):
                kernel.line(f"{out}[i * ({rows} * {width}) + k] = {cast}(0)")
            with kernel.loop("j", "0", count):
                kernel.line(f"given = i64({where}[j])")
                kernel.line(f"row = select(given < 0, given + {rows}, given)")
                with kernel.block(f"if (row < 0) | (row >= {rows})"):
                    kernel.report(node, "j", "given", rows)
                with kernel.block("else"), kernel.loop("k", "0", width):
                    at = f"(i * {rows} + row) * {width} + k"
                    value = f"{source}[(i * {count} + j) * {width} + k]"
                    kernel.line(f"{out}[{at}] = {cast}({out}[{at}] + {value})")
        return kernel.kernel(extent=outer, cost=indices.spec.size * inner * 2)
