"""What an op is: one class that says all there is to know of it, and the registry of them.

An op gives `infer` (specs in, spec out), `vjp` (its reverse rule), `reference` (NumPy oracle) and
one way to be computed:

- `Elementwise.expr`: the scalar expression; everything else is derived.
- `Map.element`: the output element at an index, from input elements at other indices. Reshape,
  transpose, slice and pad are such index maps, so they cost no copy inside a kernel.
- `Reduction.accumulators/update/result`: how one pass over some axes builds the value.
- `Template.emit`: the loops of a kernel of its own (matmul, convolution, scatter, ...).

Facts that passes need (is it commutative, is it free, may it share storage) are class attributes
here and never lists elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from graphflow.compiler.dims import Dim, Size, evaluate
from graphflow.compiler.errors import DTypeError, GradientError, GraphError, ShapeError
from graphflow.compiler.graph import Node, user_line
from graphflow.compiler.spec import (
    INTEGERS,
    TensorSpec,
    broadcast_shapes,
    collect_checks,
    is_float,
    normalize_axes,
)

if TYPE_CHECKING:
    from graphflow.compiler.codegen.source import KernelDraft
    from graphflow.compiler.codegen.templates import TemplateKernel

#: cast name of each dtype in kernel source
CAST = {
    "bool": "b1", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8",
    "uint16": "u16", "uint32": "u32", "uint64": "u64", "float32": "f32", "float64": "f64",
}  # fmt: skip


class Op:
    """Base of all ops; a subclass is instantiated once, by `register`.

    Attributes:
        name: registry name.
        attributes: name -> kind of each static attribute; see `io.schema` for the kinds.
        arity: (fewest, most) inputs.
        differentiable: False for ops whose result carries no gradient (comparisons, indices).
        stateful: the value is not determined by inputs and attrs alone; never folded or merged.
    """

    name: ClassVar[str] = ""
    attributes: ClassVar[Mapping[str, str]] = {}
    arity: ClassVar[tuple[int, int]] = (1, 1)
    differentiable: ClassVar[bool] = True
    stateful: ClassVar[bool] = False
    commutative: ClassVar[bool] = False
    is_leaf: ClassVar[bool] = False
    #: costs nothing inside a kernel (an index map), so it is repeated rather than stored
    is_free: ClassVar[bool] = False
    #: takes one result of an op with several; its buffer is written by that op
    is_projection: ClassVar[bool] = False
    #: rough cost of one element, in additions
    cost: ClassVar[int] = 1
    #: the kernel may report an index that is out of range
    can_fail: ClassVar[bool] = False

    def infer(self, *specs: TensorSpec, **attrs: Any) -> TensorSpec:
        raise NotImplementedError(f"{type(self).__name__} needs infer")

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        """Cotangents of the inputs, given the cotangent of the output; None for no gradient."""
        raise GradientError(f"graphflow.grad needs {type(self).__name__}.vjp")

    def reference(self, *arrays: np.ndarray, **attrs: Any) -> np.ndarray:
        """The NumPy value; dims among the attrs are already ints."""
        raise NotImplementedError(f"{type(self).__name__} needs reference")

    def canonical_attrs(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Attributes in their one hashable form; the default checks the names."""
        if attrs.keys() != self.attributes.keys():
            raise GraphError(
                f"{self.name}: attributes {sorted(attrs)} given; expected {sorted(self.attributes)}"
            )
        return attrs

    def __call__(self, *inputs: Node, name: str | None = None, **attrs: Any) -> Node:
        low, high = self.arity
        if not low <= len(inputs) <= high:
            raise GraphError(f"{self.name}: {len(inputs)} inputs given; expected {low} to {high}")
        try:
            attrs = self.canonical_attrs(attrs)
            with collect_checks() as checks:
                spec = self.infer(*(node.spec for node in inputs), **attrs)
        except (ShapeError, DTypeError) as error:
            raise _located(error, self, inputs) from None
        return Node(self, inputs, attrs, spec, name, tuple(checks))

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def describe(node: Node) -> str:
    """How an error message speaks of an operand: name or op, spec, line."""
    where = f" [{node.source}]" if node.source else ""
    return f"{node.name or node.op.name} is {node.spec}{where}"


def _located(error: GraphError, op: Op, inputs: tuple[Node, ...]) -> GraphError:
    """The same error with op, operands and the user's line, in at most six lines."""
    text = str(error)
    if not text.startswith(f"{op.name}:"):
        text = f"{op.name}: {text}"
    here = user_line()
    if inputs:
        text += "\n  " + "; ".join(describe(node) for node in inputs[:4])
    if here:
        text += f"\n  at {here}"
    return type(error)(text)


OpType = TypeVar("OpType", bound=type[Op])


class Registry:
    """All ops by name; `ops.add(x, y)` builds a node."""

    def __init__(self) -> None:
        self._ops: dict[str, Op] = {}

    def add_op(self, op: Op) -> None:
        if op.name in self._ops:
            raise GraphError(f"an op named {op.name!r} is already registered")
        self._ops[op.name] = op

    def __getattr__(self, name: str) -> Op:
        try:
            return self.__dict__["_ops"][name]
        except KeyError:
            raise AttributeError(f"no op named {name!r} is registered") from None

    def find(self, name: str) -> Op | None:
        return self._ops.get(name)

    def names(self) -> list[str]:
        return sorted(self._ops)


ops: Any = Registry()


def snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def register(cls: OpType) -> OpType:
    """Add an op class to the registry under its snake-case name (or its `name`)."""
    if not cls.name:
        cls.name = snake_case(cls.__name__)
    ops.add_op(cls())
    return cls


def concrete(value: Any, env: Mapping[str, int]) -> Any:
    """An attribute with its dims replaced by ints."""
    if isinstance(value, Dim):
        return evaluate(value, env)
    if isinstance(value, tuple):
        return tuple(concrete(item, env) for item in value)
    return value


# ---- ways of being computed ------------------------------------------------------------------


class Emitter:
    """What `element` and friends may ask of the code generator. Values are names in the source.

    The implementation is `codegen.emitter`; this class is its interface.
    """

    def get(self, node: Node, index: tuple[Size, ...]) -> str:
        """The element of `node` at `index`."""
        raise NotImplementedError

    def assign(self, text: str, dtype: str, *operands: str) -> str:
        """A new name for an expression over names (its `operands`)."""
        raise NotImplementedError

    def size(self, size: Size) -> str:
        """An int64 name or literal for a size or an index."""
        raise NotImplementedError

    def guarded(self, condition: str, value: Callable[[], str], other: str, dtype: str) -> str:
        """`value()` where the condition holds, else `other`; loads inside touch no memory else."""
        raise NotImplementedError

    def index_of(self, name: str, extent: Size) -> Size:
        """A computed int64 name with 0 <= value < extent, as a Size to index with."""
        raise NotImplementedError

    def report(self, node: Node, bad: str, position: Size, value: str, bound: Size) -> None:
        """Where `bad` holds, tell the caller that `value` at flat `position` is out of range."""
        raise NotImplementedError


class Map(Op):
    """Each output element depends on input elements at indices known from its own index."""

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        raise NotImplementedError(f"{type(self).__name__} needs element")


class Elementwise(Map):
    """A scalar function over broadcast inputs.

    Attributes:
        expr: scalar text with {0}, {1}, ... for inputs, {T} for the cast to the output dtype, {I}
            for the cast to the (promoted) input dtype, {name} for attributes.
        result: dtype of the output: "promote" (of the inputs), "bool", or "float" (promote, with
            ints and bools becoming float32).
        domain: which dtypes the inputs may have: "any", "number", "float", "integer", "bool",
            "discrete" (integer or bool).
    """

    expr: ClassVar[str] = ""
    result: ClassVar[str] = "promote"
    domain: ClassVar[str] = "number"

    DOMAINS: ClassVar[dict[str, Callable[[str], bool]]] = {
        "any": lambda d: True,
        "number": lambda d: d != "bool",
        "float": is_float,
        "integer": lambda d: d in INTEGERS,
        "discrete": lambda d: d in INTEGERS or d == "bool",
        "bool": lambda d: d == "bool",
    }

    def check_domain(self, *specs: TensorSpec) -> None:
        for spec in specs:
            if not self.DOMAINS[self.domain](spec.dtype):
                raise DTypeError(
                    f"{self.name}: takes {self.domain} dtypes, got {spec.dtype}; "
                    "use gf.astype to convert"
                )

    def infer(self, *specs: TensorSpec, **attrs: Any) -> TensorSpec:
        self.check_domain(*specs)
        dtypes = {spec.dtype for spec in specs}
        if len(dtypes) > 1:
            raise DTypeError(
                f"{self.name}: operands have dtypes {' and '.join(sorted(dtypes))}; "
                "convert one with gf.astype"
            )
        dtype = "bool" if self.result == "bool" else specs[0].dtype
        return TensorSpec(dtype, broadcast_shapes(*(spec.shape for spec in specs)))

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        values = [emit.get(x, broadcast_index(x.shape, index)) for x in node.inputs]
        text = self.scalar_text(node).format(
            *values,
            T=CAST[node.dtype],
            I=CAST[node.inputs[0].dtype],
            **{k: v for k, v in node.attrs.items() if isinstance(v, (int, float, str))},
        )
        return emit.assign(text, node.dtype, *values)

    def scalar_text(self, node: Node) -> str:
        """The expression for this node; override where it depends on dtype or attributes."""
        return self.expr


def broadcast_index(shape: tuple[Size, ...], index: tuple[Size, ...]) -> tuple[Size, ...]:
    """The index into an operand of `shape` for an element `index` of the broadcast result."""
    aligned = index[len(index) - len(shape) :]
    return tuple(0 if size == 1 else i for size, i in zip(shape, aligned, strict=True))


class Reduction(Op):
    """One value for all elements along some axes; the axes leave the shape.

    The attribute `axes` is a sorted tuple of non-negative ints.

    Attributes:
        splits: whether the reduction of the reductions of parts is that of the whole.
    """

    attributes: ClassVar[Mapping[str, str]] = {"axes": "axes"}
    domain: ClassVar[str] = "number"
    splits: ClassVar[bool] = True

    def canonical_attrs(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().canonical_attrs(attrs)
        axes = attrs["axes"]
        return {**attrs, "axes": (axes,) if isinstance(axes, int) else tuple(axes)}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        if not Elementwise.DOMAINS[self.domain](x.dtype):
            raise DTypeError(f"{self.name}: takes {self.domain} dtypes, got {x.dtype}")
        axes = normalize_axes(attrs["axes"], x.ndim)
        if axes != attrs["axes"]:
            raise ShapeError(f"axes {attrs['axes']} are not sorted and non-negative")
        shape = (size for axis, size in enumerate(x.shape) if axis not in axes)
        return TensorSpec(self.result_dtype(x.dtype), tuple(shape))

    def result_dtype(self, dtype: str) -> str:
        return dtype

    def accumulators(self, dtype: str) -> list[tuple[str, str]]:
        """(dtype, initial value text) of each running value; `dtype` is the input's."""
        raise NotImplementedError(f"{type(self).__name__} needs accumulators")

    def update(self, state: list[str], value: str, position: str) -> list[str]:
        """New texts of the running values; `position` is the flat index along the axes."""
        raise NotImplementedError(f"{type(self).__name__} needs update")

    def final(self, state: list[str]) -> str:
        """Text of the result."""
        return state[0]


class Template(Op):
    """An op with a kernel of its own; its inputs are whole buffers.

    With `takes_epilogue`, an elementwise group over the output shape can run on each finished
    tile: the template then hands its elements to `kernel.store`.
    """

    takes_epilogue: ClassVar[bool] = False

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        """Write the loops of `node` into `kernel` and return `kernel.kernel(...)`."""
        raise NotImplementedError(f"{type(self).__name__} needs emit")
