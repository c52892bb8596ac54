"""One value for all elements along some axes."""

from __future__ import annotations

from typing import Any as AnyType

import numpy as np

from graphflow.compiler.dims import floor_div, product
from graphflow.compiler.errors import ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Reduction, ops, register
from graphflow.compiler.ops.blocks import (
    as_dtype,
    expand_reduced,
    full_like,
    where,
    zeros_like,
)
from graphflow.compiler.spec import TensorSpec, is_equal, is_float


def _expanded(node: Node, value: Node) -> Node:
    """`value`, shaped like the reduction `node`, broadcast to the reduction's input."""
    return expand_reduced(value, node.inputs[0].shape, node.attrs["axes"])


@register
class Sum(Reduction):
    """y = Σ x;  x̄ = ȳ broadcast. bool and small ints are summed as they are: cast first."""

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [(dtype, f"{CAST[dtype]}(0)")]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        return [f"add_fast({state[0]}, {value})"]

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [_expanded(node, ct)]

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.sum(x, axis=attrs["axes"], dtype=x.dtype)


@register
class Prod(Reduction):
    """y = Π x;  x̄ = ȳ times the product of the others"""

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [(dtype, f"{CAST[dtype]}(1)")]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        return [f"mul_fast({state[0]}, {value})"]

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        # The product of the others, without dividing by a zero: y / x where there is none. `lost`
        # holds the zeros as values, so that the derivative of this rule is right as well.
        (x,) = node.inputs
        axes = node.attrs["axes"]
        zero = ops.equal(x, zeros_like(x))
        safe = where(zero, 1.0, x)
        rest = _expanded(node, ops.prod(safe, axes=axes))
        lost = _expanded(node, ops.sum(where(zero, x, 0.0), axes=axes))
        count = _expanded(node, ops.sum(as_dtype(zero, x.dtype), axes=axes))
        none, one, two = (ops.equal(count, full_like(count, k)) for k in (0.0, 1.0, 2.0))
        with_one = where(zero, rest, lost * rest / safe)
        with_two = where(ops.logical_and(zero, two), (lost - x) * rest, 0.0)
        return [_expanded(node, ct) * where(none, rest / safe, where(one, with_one, with_two))]

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.prod(x, axis=attrs["axes"], dtype=x.dtype)


def _check_not_empty(name: str, x: TensorSpec, axes: tuple[int, ...]) -> None:
    """There is an element along the axes; for named dims this is checked when running."""
    size = product(x.shape[a] for a in axes if a < x.ndim)
    # 1 // (size + 1) is 1 for a size of 0, and 0 for any other.
    if not is_equal(floor_div(1, size + 1), 0, f"{name} needs an element along axes {axes}"):
        raise ShapeError(f"{name}: there is no element along axes {axes} of {x}")


class Extremum(Reduction):
    """The largest or smallest element; the cotangent is shared by all that are equal to it."""

    domain = "any"

    def infer(self, x: TensorSpec, **attrs: AnyType) -> TensorSpec:  # type: ignore[override]
        _check_not_empty(self.name, x, attrs["axes"])
        return super().infer(x, **attrs)

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        (x,) = node.inputs
        hit = as_dtype(ops.equal(x, _expanded(node, node)), x.dtype)
        share = ct / ops.sum(hit, axes=node.attrs["axes"])
        return [hit * _expanded(node, share)]


def _limit(dtype: str, largest: bool) -> str:
    """Text of the least (or greatest) value of a dtype."""
    if dtype == "bool":
        return f"b1({int(largest)})"
    if is_float(dtype):
        return f"{CAST[dtype]}({'inf' if largest else '-inf'})"
    limits = np.iinfo(dtype)
    return f"{CAST[dtype]}({limits.max if largest else limits.min})"


@register
class Max(Extremum):
    """y = max x, NaN if there is one;  ȳ is shared by the elements equal to y"""

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [(dtype, _limit(dtype, largest=False))]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        return [f"max_fast({state[0]}, {value})"]

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.max(x, axis=attrs["axes"])


@register
class Min(Extremum):
    """y = min x, NaN if there is one;  ȳ is shared by the elements equal to y"""

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [(dtype, _limit(dtype, largest=True))]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        return [f"min_fast({state[0]}, {value})"]

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.min(x, axis=attrs["axes"])


class Logical(Reduction):
    """A bool over bools."""

    domain = "bool"
    differentiable = False

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]


@register
class Any(Logical):
    """y = some x is true"""

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [("bool", "b1(0)")]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        return [f"{state[0]} | {value}"]

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.any(x, axis=attrs["axes"])


@register
class All(Logical):
    """y = every x is true"""

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [("bool", "b1(1)")]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        return [f"{state[0]} & {value}"]

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.all(x, axis=attrs["axes"])


class ArgExtremum(Reduction):
    """Position of the extreme element along one axis, the first where several are equal."""

    differentiable = False
    splits = False
    #: text of "value {0} comes before the best so far, {1}"
    better = ""
    largest = False

    def infer(self, x: TensorSpec, **attrs: AnyType) -> TensorSpec:  # type: ignore[override]
        if len(attrs["axes"]) != 1:
            raise ShapeError(f"{self.name}: axes {attrs['axes']}; expected exactly one axis")
        _check_not_empty(self.name, x, attrs["axes"])
        return super().infer(x, **attrs)

    def result_dtype(self, dtype: str) -> str:
        return "int64"

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        return [(dtype, _limit(dtype, self.largest)), ("int64", "i64(-1)")]

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        best, at = state
        # The first element always wins; a NaN beats numbers and keeps its place, as in NumPy.
        test = (
            f"({at} < 0) | {self.better.format(value, best)} | "
            f"(({value} != {value}) & ({best} == {best}))"
        )
        return [f"select({test}, {value}, {best})", f"select({test}, i64({position}), {at})"]

    def final(self, state: list[str]) -> str:
        return state[1]

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]


@register
class Argmax(ArgExtremum):
    """y = position of the first largest element"""

    better = "({0} > {1})"

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.argmax(x, axis=attrs["axes"][0]).astype(np.int64)


@register
class Argmin(ArgExtremum):
    """y = position of the first smallest element"""

    better = "({0} < {1})"
    largest = True

    def reference(self, x: np.ndarray, **attrs: AnyType) -> np.ndarray:  # type: ignore[override]
        return np.argmin(x, axis=attrs["axes"][0]).astype(np.int64)
