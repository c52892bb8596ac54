"""Products of matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler.codegen.matmul import emit_matmul
from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.dims import Size, product
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import Template, ops, register
from graphflow.compiler.ops.blocks import reshape
from graphflow.compiler.spec import TensorSpec, broadcast_shapes, is_equal, shape_text


@register
class Matmul(Template):
    """y[.., i, j] = Σ_k a[.., i, k] b[.., k, j];  ā = ȳ bᵀ,  b̄ = aᵀ ȳ

    The leading axes broadcast. With `transpose_a` (`transpose_b`) the last two axes of a (b) are
    read in the other order, so no transpose is ever stored for the sake of a product.
    """

    attributes: ClassVar[Mapping[str, str]] = {"transpose_a": "bool", "transpose_b": "bool"}
    arity = (2, 2)
    takes_epilogue = True

    def infer(self, a: TensorSpec, b: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        both = f"x is {shape_text(a.shape)}, w is {shape_text(b.shape)}"
        if a.dtype != b.dtype or a.dtype == "bool":
            raise DTypeError(
                f"matmul: operands are {a.dtype} and {b.dtype}; expected one integer or float "
                "dtype, use gf.astype to convert"
            )
        if a.ndim < 2 or b.ndim < 2:
            raise ShapeError(f"matmul: {both}; expected at least two axes each")
        rows, inner = _matrix(a.shape, attrs["transpose_a"])
        other, columns = _matrix(b.shape, attrs["transpose_b"])
        if not is_equal(inner, other, "matmul: inner sizes"):
            axis = b.ndim - (1 if attrs["transpose_b"] else 2)
            raise ShapeError(
                f"matmul: inner sizes differ: {both}; expected w.shape[{axis}] == {inner}"
            )
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
        return a.with_shape((*batch, rows, columns))

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        a, b = node.inputs
        left, right = node.attrs["transpose_a"], node.attrs["transpose_b"]
        if left:
            a_part = ops.matmul(b, ct, transpose_a=right, transpose_b=True)
        else:
            a_part = ops.matmul(ct, b, transpose_a=False, transpose_b=not right)
        if not left and product(b.shape[:-2]) == 1:
            # One product over all rows, instead of one for each batch and their sum.
            a = reshape(a, (product(a.shape[:-1]), a.shape[-1]))
            ct = reshape(ct, (product(ct.shape[:-1]), ct.shape[-1]))
        if right:
            b_part = ops.matmul(ct, a, transpose_a=True, transpose_b=left)
        else:
            b_part = ops.matmul(a, ct, transpose_a=not left, transpose_b=False)
        if b_part.ndim < b.ndim:
            b_part = reshape(b_part, b.shape)
        return [a_part, b_part]

    def reference(self, a: np.ndarray, b: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        a = np.swapaxes(a, -1, -2) if attrs["transpose_a"] else a
        b = np.swapaxes(b, -1, -2) if attrs["transpose_b"] else b
        return np.matmul(a, b)

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        return emit_matmul(node, kernel, kernel.target)


def _matrix(shape: tuple[Size, ...], transposed: bool) -> tuple[Size, Size]:
    """(rows, columns) of the last two axes as the product sees them."""
    return (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])
