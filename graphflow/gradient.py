"""Derivatives as graphs: grad, vjp, jvp, hvp, and control over what is differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

from graphflow.compiler import autodiff
from graphflow.compiler.graph import Node
from graphflow.compiler.op import Elementwise, Emitter, describe, ops
from graphflow.compiler.ops.blocks import full, full_like, zeros_like
from graphflow.compiler.spec import TensorSpec, is_float
from graphflow.errors import GradientError, GraphError, ShapeError, with_line
from graphflow.structure import fill_structure, flatten_like, flatten_structure
from graphflow.tensor import Tensor, as_tensor

__all__ = ["custom_gradient", "grad", "hvp", "jvp", "stop_gradient", "value_and_grad", "vjp"]


def grad(loss: Any, wrt: Any, disconnected: Literal["zeros", "raise"] = "zeros") -> Any:
    """∂loss/∂wrt, a graph of its own that can be differentiated again.

    Args:
        loss: a float scalar.
        wrt: a tensor, or a list, tuple or dict of them; anything that the loss is computed from.
        disconnected: what a tensor that the loss does not depend on gets: zeros, or an error.

    Returns:
        Gradients in the structure of `wrt`, each of the spec of its tensor.

    Raises:
        GradientError: the loss is no float scalar, a tensor is no float, or (with "raise") the
            loss does not depend on one.

    >>> import graphflow as gf
    >>> x = gf.placeholder((3,), name="x")
    >>> gf.function([x], gf.grad(gf.sum(x ** 2), x), mode="interpret")([1, 2, 3])
    array([2., 4., 6.], dtype=float32)
    """
    tensors = _tensors("grad", wrt)
    top = _one_tensor("grad", loss)
    nodes = [tensor.node for tensor in tensors]
    if disconnected not in ("zeros", "raise"):
        raise GraphError(
            with_line(f"grad: disconnected={disconnected!r}; expected 'zeros' or 'raise'")
        )
    try:
        if disconnected == "raise":
            _check_connected(top.node, nodes)
        parts = autodiff.grad(top.node, nodes)
    except GradientError as error:
        raise GradientError(with_line(str(error))) from None
    return fill_structure(wrt, map(Tensor, parts))


def value_and_grad(loss: Any, wrt: Any) -> tuple[Tensor, Any]:
    """The pair (loss, grad(loss, wrt))."""
    return _one_tensor("value_and_grad", loss), grad(loss, wrt)


def vjp(outputs: Any, wrt: Any, cotangents: Any) -> Any:
    """Σ cotangent · ∂output/∂wrt: the product of a row vector with the Jacobian.

    Args:
        outputs: a tensor or a structure of tensors.
        wrt: a tensor or a structure of tensors.
        cotangents: one per output, of its shape.

    Returns:
        One tensor per entry of `wrt`, in its structure; zeros where no path leads.

    Raises:
        ShapeError: a cotangent has another shape than its output.
        GradientError: a tensor is no float.
    """
    tops, tensors = _tensors("vjp", outputs), _tensors("vjp", wrt)
    seeds = _matching("vjp", "cotangent", outputs, cotangents)
    parts = _pulled_back("vjp", [t.node for t in tops], [t.node for t in tensors], seeds)
    return fill_structure(wrt, map(Tensor, parts))


def jvp(outputs: Any, wrt: Any, tangents: Any) -> Any:
    """Σ ∂output/∂wrt · tangent: the change of the outputs along a direction.

    Args:
        outputs: a tensor or a structure of tensors.
        wrt: a tensor or a structure of tensors.
        tangents: one per entry of `wrt`, of its shape.

    Returns:
        One tensor per output, in the structure of `outputs`.
    """
    tops, tensors = _tensors("jvp", outputs), _tensors("jvp", wrt)
    directions = _matching("jvp", "tangent", wrt, tangents)
    # The vjp is linear in its cotangent, so its own vjp by that cotangent is the jvp; the value of
    # the cotangent does not matter.
    dummies = [full_like(tensor.node, 0) for tensor in tops]
    first = _pulled_back("jvp", [t.node for t in tops], [t.node for t in tensors], dummies)
    second = _pulled_back("jvp", first, dummies, directions)
    return fill_structure(outputs, map(Tensor, second))


def hvp(loss: Any, wrt: Any, vectors: Any) -> Any:
    """The Hessian of a scalar times a vector, without forming the Hessian.

    Args:
        loss: a float scalar.
        wrt: a tensor or a structure of tensors.
        vectors: one per entry of `wrt`, of its shape.
    """
    tensors = _tensors("hvp", wrt)
    directions = _matching("hvp", "vector", wrt, vectors)
    gradients = [tensor.node for tensor in grad(loss, tensors)]
    nodes = [tensor.node for tensor in tensors]
    # The Hessian is symmetric, so a second reverse pass gives the product.
    parts = _pulled_back("hvp", gradients, nodes, directions)
    return fill_structure(wrt, map(Tensor, parts))


def stop_gradient(x: Any) -> Tensor:
    """x itself, through which no gradient flows."""
    return Tensor(ops.stop_gradient(as_tensor(x, name="stop_gradient").node))


# ---- arguments -------------------------------------------------------------------------------


def _one_tensor(name: str, value: Any) -> Tensor:
    if not isinstance(value, (Tensor, Node)):
        raise GradientError(
            with_line(f"{name}: got a {type(value).__name__}; expected a symbolic tensor")
        )
    return value if isinstance(value, Tensor) else Tensor(value)


def _tensors(name: str, structure: Any) -> list[Tensor]:
    tensors = [_one_tensor(name, leaf) for leaf in flatten_structure(structure)]
    for tensor in tensors:
        if not is_float(tensor.dtype):
            raise GradientError(
                with_line(
                    f"{name}: {describe(tensor.node)} is no float, so it has no derivative; cast "
                    "it with gf.astype before the operations to be differentiated"
                )
            )
    return tensors


def _matching(name: str, what: str, structure: Any, values: Any) -> list[Node]:
    """`values` as nodes of the specs of the tensors at the leaves of `structure`."""
    tensors = flatten_structure(structure)
    try:
        leaves = flatten_like(structure, values)
    except ValueError as error:
        raise GradientError(with_line(f"{name}: the {what}s do not match: {error}")) from None
    nodes = []
    for tensor, leaf in zip(tensors, leaves, strict=True):
        node = as_tensor(leaf, tensor.dtype, name).node
        if node.shape != tensor.shape:
            raise ShapeError(
                with_line(
                    f"{name}: a {what} is {node.spec} for {describe(tensor.node)}; expected the "
                    "same shape"
                )
            )
        nodes.append(node)
    return nodes


def _pulled_back(
    name: str, outputs: Sequence[Node], wrt: Sequence[Node], seeds: Sequence[Node]
) -> list[Node]:
    try:
        parts = autodiff.vjp(outputs, wrt, seeds)
    except GradientError as error:
        raise GradientError(with_line(f"{name}: {error}")) from None
    return [
        zeros_like(node) if part is None else part for node, part in zip(wrt, parts, strict=True)
    ]


def _check_connected(top: Node, wrt: Sequence[Node]) -> None:
    seed = full((), 1.0, top.dtype) if is_float(top.dtype) and top.shape == () else None
    if seed is None:
        return
    for node, part in zip(wrt, autodiff.vjp([top], wrt, [seed]), strict=True):
        if part is None:
            raise GradientError(
                f"grad: no differentiable path leads from {describe(node)} to the loss; is it used, "
                "and not behind a comparison, an int or gf.stop_gradient?"
            )


# ---- custom rules ----------------------------------------------------------------------------


class CustomGradient(Elementwise):
    """y = the first input;  x̄ = rule(ȳ) for the others.

    One instance per use: the rule is Python, so nodes of this op exist only until a function is
    built, which replaces them by their first input.
    """

    name = "custom_gradient"
    arity = (1, 4096)
    domain = "any"
    is_free = True
    cost = 0

    def __init__(self, label: str, rule: Callable[[Tensor], Any]):
        self.label = label
        self.rule = rule

    def infer(self, y: TensorSpec, *rest: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return y

    def element(self, node: Node, index: tuple[Any, ...], emit: Emitter) -> str:
        return emit.get(node.inputs[0], index)

    def reference(self, *arrays: Any, **attrs: Any) -> Any:
        return arrays[0]

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        arguments = node.inputs[1:]
        parts = self.rule(Tensor(ct))
        parts = list(parts) if isinstance(parts, (list, tuple)) else [parts]
        if len(parts) != len(arguments):
            raise GradientError(
                f"custom_gradient: the rule of {self.label} gave {len(parts)} cotangents for "
                f"{len(arguments)} arguments; give None where there is none"
            )
        nodes: list[Node | None] = [None]
        for argument, part in zip(arguments, parts, strict=True):
            if part is None or not is_float(argument.dtype):
                nodes.append(None)
                continue
            cotangent = as_tensor(part, argument.dtype).node
            if cotangent.shape != argument.shape:
                raise ShapeError(
                    f"custom_gradient: the rule of {self.label} gave {cotangent.spec} for "
                    f"{describe(argument)}; expected the shape of the argument"
                )
            nodes.append(cotangent)
        return nodes


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """A function of tensors with a derivative of one's own.

    Args:
        function: takes tensors and returns (y, rule): its value, and a function from the
            cotangent of y to the cotangents of the arguments, one each, None for none.

    >>> import graphflow as gf
    >>> @gf.custom_gradient
    ... def clipped(x):  # passes the gradient on as if it did not clip
    ...     return gf.clip(x, -1, 1), lambda ct: ct
    """

    @functools.wraps(function)
    def wrapped(*arguments: Any) -> Tensor:
        tensors = [as_tensor(argument, name=function.__name__) for argument in arguments]
        result = function(*tensors)
        if not isinstance(result, tuple) or len(result) != 2 or not callable(result[1]):
            raise GradientError(
                with_line(
                    f"custom_gradient: {function.__name__} returned {type(result).__name__}; "
                    "expected (tensor, rule), the rule from a cotangent to cotangents"
                )
            )
        value, rule = result
        op = CustomGradient(function.__name__, rule)
        return Tensor(op(as_tensor(value).node, *(tensor.node for tensor in tensors)))

    return wrapped


def without_custom_rules(node: Node, inputs: tuple[Node, ...]) -> Node | None:
    """The value of a CustomGradient node; None for any other op."""
    return inputs[0] if isinstance(node.op, CustomGradient) else None
