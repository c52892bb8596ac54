"""Graphs to JSON and back: every op, every kind of attribute, every form of a size."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphflow.compiler.dims import Dim, Size, axis, evaluate, floor_div, symbol, symbols
from graphflow.compiler.errors import GraphError, GraphFormatError
from graphflow.compiler.graph import Graph, Node, made_from, name_scope, topological_order
from graphflow.compiler.interpreter import evaluate_node
from graphflow.compiler.op import Op, ops
from graphflow.compiler.ops.creation import Literal
from graphflow.compiler.spec import DTYPES, TensorSpec
from graphflow.io import Limits
from graphflow.io.attributes import KINDS, AttributeReader, References, Registrar
from graphflow.io.labels import Origin
from graphflow.io.schema import (
    CUSTOM,
    Document,
    decode_document,
    encode_document,
    is_builtin,
)
from graphflow.io.sizes import SizeReader, encode_size
from graphflow.io.strict_json import canonical, parse
from graphflow.io.structure import read_structure, write_structure
from tests.io.random_graphs import (
    names_of_ops,
    node_by_gradient,
    random_array,
    random_attribute,
    random_call,
    random_graph,
    random_leaves,
    random_node,
)

LIMITS = Limits()


def round_trip(graph: Graph, **options: Any) -> tuple[Document, str]:
    """The graph that comes back from JSON text, and the text."""
    custom_ops = options.pop("custom_ops", None)
    document, constants, variables = encode_document(
        graph, structure=list(range(len(graph.outputs))), **options
    )
    arrays = {name: literal.array for literal, name in constants.items()}
    specs = {name: TensorSpec(a.dtype.name, a.shape) for name, a in arrays.items()}
    specs |= {name: node.spec for node, name in variables.items()}
    text = canonical(document)
    back = decode_document(
        parse(text.encode(), LIMITS, "graph"),
        specs,
        LIMITS,
        literal=lambda name: Literal(arrays[name]),
        custom_ops=custom_ops,
    )
    return back, text


def assert_same_graph(left: Graph, right: Graph) -> None:
    """Equal node by node: op, attributes, inferred spec, checks, labels and wiring."""
    orders = [
        topological_order([*g.inputs, *g.roots, *(t for t, _ in g.updates)]) for g in (left, right)
    ]
    assert len(orders[0]) == len(orders[1])
    match = dict(zip(*orders, strict=True))
    for a, b in match.items():
        assert (a.op, a.spec, a.checks) == (b.op, b.spec, b.checks)
        assert [match[x] for x in a.inputs] == list(b.inputs)
        assert (a.name or "", a.scope, a.source) == (b.name or "", b.scope, b.source)
        for name in a.attrs.keys() | b.attrs.keys():
            x, y = a.attrs[name], b.attrs[name]
            if isinstance(x, float) and math.isnan(x):
                assert math.isnan(y)
            elif isinstance(x, Graph):
                assert_same_graph(x, y)
            else:
                assert type(x) is type(y) and x == y, (a, name)
    assert [match[n] for n in left.inputs] == list(right.inputs)
    assert [match[n] for n in left.outputs] == list(right.outputs)
    assert [(match[t], match[v]) for t, v in left.updates] == list(right.updates)


# ---- ops and kinds ---------------------------------------------------------------------------


def test_every_attribute_has_a_known_kind() -> None:
    for name in ops.names():
        for attribute, kind in ops.find(name).attributes.items():
            assert kind in KINDS, f"{name}.{attribute}: teach io/attributes.py the kind {kind!r}"


def test_every_registered_op_is_in_the_closed_table() -> None:
    assert all(is_builtin(ops.find(name)) for name in ops.names())


@pytest.mark.parametrize("name", names_of_ops())
def test_every_op_survives(name: str) -> None:
    rng = random.Random(name)
    inputs, variables = random_leaves(rng)
    op = ops.find(name)
    pool = [*inputs, *variables]
    node = random_node(rng, op, pool) or node_by_gradient(rng, op, pool)
    assert node is not None, f"no random node of {name} is legal; help random_graphs.py"
    used = [n for n in topological_order([node]) if n.op.name == "placeholder"]
    known = {dim for n in used for dim in symbols(n.shape)}
    extra = [n for n in inputs if n not in used and set(symbols(n.shape)) - known]
    graph = Graph((*used, *extra), (node,))
    back, _ = round_trip(graph)
    assert_same_graph(graph, back.graph)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_survive(seed: int) -> None:
    graph, _ = random_graph(seed)
    back, text = round_trip(graph)
    assert_same_graph(graph, back.graph)
    again, text_again = round_trip(back.graph)
    assert text_again == text
    assert again.ops == back.ops and sum(back.ops.values()) == len(json.loads(text)["nodes"])


@pytest.mark.parametrize("name", names_of_ops())
def test_what_infer_accepts_the_reference_can_do(name: str) -> None:
    """A file may hold any attributes of the right kinds; inference is what stands behind it."""
    rng = random.Random(f"infer {name}")
    op = ops.find(name)
    inputs, variables = random_leaves(rng)
    for _ in range(300):
        nodes, attrs = random_call(rng, op, inputs + variables, symbolic=rng.random() < 0.2)
        try:
            node = op(*nodes, **attrs)
        except GraphError:
            continue
        env = {"n": 2, "m": 3}
        if any(evaluate(c.left, env) != evaluate(c.right, env) for c in node.checks):
            continue
        arrays = [
            random_array(rng, tuple(evaluate(size, env) for size in value.shape), value.dtype)
            for value in nodes
        ]
        try:
            with np.errstate(all="ignore"):
                evaluate_node(node, arrays, env)  # compares the value with the inferred spec
        except GraphError:
            continue
        except IndexError as error:
            assert "expected" in str(error), (node, node.attrs)  # an index among the data


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 1e-45, 0.1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float_scalars_keep_every_bit(value: float, dtype: str) -> None:
    node = ops.full(shape=(), value=value, dtype=dtype)
    back, text = round_trip(Graph((), (node,)))
    assert "NaN" not in text and "Infinity" not in text
    got = back.graph.outputs[0].attrs["value"]
    assert np.float64(got).tobytes() == np.float64(node.attrs["value"]).tobytes()


@pytest.mark.parametrize("dtype", [d for d in DTYPES if "int" in d])
def test_int_scalars_at_their_limits(dtype: str) -> None:
    for value in (np.iinfo(dtype).min, np.iinfo(dtype).max, 0):
        node = ops.full(shape=(), value=int(value), dtype=dtype)
        back, _ = round_trip(Graph((), (node,)))
        assert back.graph.outputs[0].attrs["value"] == value


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_refuse_what_they_are_not(kind: str) -> None:
    if kind == "graph":
        references = References(lambda name: Literal(np.zeros(1)), [])
    else:
        references = References(_no_literal, [])
    reader = AttributeReader(SizeReader(LIMITS), references)
    bad = [None, {}, {"a": 1}, [[]], [None], "\n", "a b", "é", 1 << 70, [1 << 70], [0.5], [True]]
    for value in bad:
        with pytest.raises(GraphFormatError):
            reader.read(kind, value)


def _no_literal(name: str) -> Literal:
    raise GraphFormatError("no tensor")


def test_kinds_accept_what_they_write() -> None:
    graph = Graph((), (ops.full(shape=(), value=1, dtype="int8"),))
    literal = Literal(np.zeros(2))
    registrar = Registrar(lambda value: "t", lambda value: 0)
    reader = AttributeReader(SizeReader(LIMITS), References(lambda name: literal, [graph]))
    rng = random.Random(0)
    for kind, codec in KINDS.items():
        for _ in range(50):
            value = {"graph": graph, "array": literal}.get(kind)
            if value is None:
                value = random_attribute(rng, kind, symbolic=True)
            if kind == "shape" and any(isinstance(s, int) and s < 0 for s in value):
                continue
            written = codec.write(value, registrar)
            got = reader.read(kind, json.loads(json.dumps(written)))
            assert repr(got) == repr(value), kind


# ---- sizes -----------------------------------------------------------------------------------


def sizes() -> st.SearchStrategy[Size]:
    """Polynomials and quotients of two named dims."""
    leaves = st.one_of(st.integers(-9, 9), st.sampled_from("nm").map(symbol))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
            st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
            st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
            st.tuples(inner, st.integers(1, 5)).map(lambda p: floor_div(p[0], p[1])),
            inner.map(lambda s: floor_div(s, symbol("n"))),
        ),
        max_leaves=8,
    )


@given(sizes())
@settings(max_examples=400, deadline=None)
def test_sizes_survive(size: Size) -> None:
    text = canonical(encode_size(size))
    back = SizeReader(LIMITS).read(json.loads(text))
    assert back == size and type(back) is type(size)
    assert canonical(encode_size(back)) == text


def test_size_forms() -> None:
    n, m = symbol("n"), symbol("m")
    assert encode_size(7) == 7 and encode_size(n) == "n"
    assert encode_size(2 * n * m + 1) == [[2, "m", "n"], [1]]
    assert encode_size(floor_div(n + 1, 2)) == [[1, ["//", [[1, "n"], [1]], 2]]]


def test_loop_variables_have_no_form() -> None:
    with pytest.raises(GraphFormatError, match="loop variable"):
        encode_size(axis("i", 5) + symbol("n"))


def test_expansion_bounds_what_multiplying_out_gives() -> None:
    reader = SizeReader(LIMITS)
    size: Size = symbol("n") + 1
    assert reader.expansion(size) == 2
    square = size * size
    assert isinstance(square, Dim) and reader.cost((size, size)) >= len(square.terms) - 1
    with pytest.raises(GraphFormatError, match="terms of a shape"):
        reader.cost((size,) * 13)


# ---- order, labels, structure ----------------------------------------------------------------


def test_order_does_not_depend_on_the_order_of_making() -> None:
    def build(swap: bool) -> Graph:
        x = ops.placeholder(shape=(3,), dtype="float32", name="x")
        with made_from(Origin(None, "", "")):  # type: ignore[arg-type]
            parts = {}
            for key in ("sin", "cos") if swap else ("cos", "sin"):
                parts[key] = getattr(ops, key)(x)
            y = ops.add(parts["sin"], parts["cos"])
        return Graph((x,), (y,))

    assert (
        round_trip(build(True), provenance=False)[1]
        == round_trip(build(False), provenance=False)[1]
    )


def test_equal_constants_are_stored_once() -> None:
    a, b = (ops.constant(value=np.arange(4.0)) for _ in range(2))
    document, constants, _ = encode_document(Graph((), (ops.add(a, b),)), structure=[0])
    assert len(constants) == 1 and len(document["nodes"]) == 3


def test_labels_survive_and_are_cleaned() -> None:
    with name_scope("layer 1/[0]"):
        x = ops.placeholder(shape=(), dtype="float32", name="x:0 <in>")
    y = ops.exp(x, name="weird\n\x1b[31m\u202e../name")
    back, text = round_trip(Graph((x,), (y,)))
    node = back.graph.inputs[0]
    assert (node.name, node.scope, node.source) == (x.name, "layer 1/[0]", x.source)
    assert back.graph.outputs[0].name == "weird__[31m___/name"
    assert "test_schema.py:" in text
    assert "test_schema.py" not in round_trip(Graph((x,), (y,)), provenance=False)[1]


@pytest.mark.parametrize("name", ["ü", "a\nb", "__class__", "../x", "x" * 257])
@pytest.mark.parametrize("op", ["placeholder", "variable"])
def test_names_that_are_looked_up_must_be_savable(name: str, op: str) -> None:
    node = getattr(ops, op)(shape=(), dtype="float32", name=name)
    graph = Graph((node,) if op == "placeholder" else (), (node,))
    with pytest.raises(GraphFormatError, match="cannot be saved"):
        encode_document(graph)


def test_variables_of_one_name_get_different_tensors() -> None:
    variables = [ops.variable(shape=(2,), dtype="float32", name=n) for n in ("w", "w", None)]
    variables.append(ops.variable(shape=(2,), dtype="float32", name="variable.1"))
    document, _, tensors = encode_document(Graph((), tuple(variables)), structure=[0, 1, 2, 3])
    assert list(tensors.values()) == ["w", "variable.1", "variable.2", "variable.3"]
    assert [row[1] for row in document["variables"]] == list(tensors.values())


def test_variables_that_are_only_written_are_kept() -> None:
    v = ops.variable(shape=(), dtype="float32", name="v")
    one = ops.full(shape=(), value=1.0, dtype="float32")
    graph = Graph((), (), ((v, one),))
    back, _ = round_trip(graph)
    assert_same_graph(graph, back.graph)


@pytest.mark.parametrize(
    "structure",
    [None, 0, [0], (0, 1), {"a": 0, "b": [1, (2, None)]}, [], {}, [[], {}, 0], ({"x": {"y": 0}},)],
)
def test_structures_survive(structure: Any) -> None:
    count = json.dumps(write_structure(structure)).count("0") and _leaves(structure)
    back = read_structure(json.loads(json.dumps(write_structure(structure))), count)
    assert back == structure and repr(back) == repr(structure)


def _leaves(structure: Any) -> int:
    if isinstance(structure, int):
        return 1
    if isinstance(structure, Mapping):
        return sum(map(_leaves, structure.values()))
    return sum(map(_leaves, structure or ()))


def test_structures_that_cannot_be_saved() -> None:
    from collections import namedtuple

    pair = namedtuple("pair", "a b")
    for structure in (pair(0, 1), {1: 0}, {"a\n": 0}, {0}, "x"):
        with pytest.raises(GraphFormatError, match="cannot be saved"):
            write_structure(structure)


# ---- ops of the user, and bodies -------------------------------------------------------------


class Softclip(Op):
    """An op outside the closed table."""

    name = "my::softclip"
    attributes: ClassVar[Mapping[str, str]] = {"low": "float", "mode": "str"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return x


class Apply(Op):
    """An op with a body, of which the value is the body's."""

    name = "apply"
    attributes: ClassVar[Mapping[str, str]] = {"body": "graph"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return attrs["body"].outputs[0].spec


def test_custom_ops_come_from_the_caller() -> None:
    softclip = Softclip()
    x = ops.placeholder(shape=(3,), dtype="float32", name="x")
    graph = Graph((x,), (softclip(x, low=0.5, mode="hard"),))
    back, text = round_trip(graph, custom_ops={"my::softclip": softclip})
    assert_same_graph(graph, back.graph)
    assert f'"{CUSTOM}my::softclip"' in text
    with pytest.raises(GraphFormatError, match="give it with custom_ops"):
        round_trip(graph)
    with pytest.raises(GraphFormatError, match="no plain word"):
        decode_with(text.replace('"hard"', '"x; import os"'), {"my::softclip": softclip})


def test_what_custom_ops_may_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    softclip = Softclip()
    x = ops.placeholder(shape=(3,), dtype="float32", name="x")
    for attrs in (
        {"low": 0.5, "mode": "a b"},
        {"low": "0.5x", "mode": ""},
        {"low": [], "mode": ""},
    ):
        with pytest.raises(GraphFormatError, match=r"my::softclip: attribute (low|mode): "):
            encode_document(Graph((x,), (softclip(x, **attrs),)))
    monkeypatch.setattr(Softclip, "name", "my op\n")
    with pytest.raises(GraphFormatError, match="custom op name"):
        encode_document(Graph((x,), (softclip(x, low=0.5, mode=""),)))
    with pytest.raises(GraphFormatError, match="function name"):
        encode_document(Graph((x,), (x,)), name="a\nb")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (TensorSpec("float16", (3,)), "dtype 'float16' is not supported"),
        (TensorSpec("float32", (-1,)), "inferred size -1 is negative"),
        (TensorSpec("float32", (1,) * 17), "number of axes is 17"),
        (TensorSpec("float32", (1 << 41,)), "an inferred size is"),
        ((TensorSpec("float32", (3,)), TensorSpec("float32", (3,))), "several results"),
    ],
)
def test_inferred_specs_are_checked_too(spec: Any, words: str) -> None:
    class Odd(Softclip):
        def infer(self, x: TensorSpec, **attrs: Any) -> Any:  # type: ignore[override]
            return spec

    odd = Odd()
    x = ops.placeholder(shape=(3,), dtype="float32")
    with pytest.raises(GraphFormatError, match=words):
        round_trip(Graph((x,), (odd(x, low=0.0, mode=""),)), custom_ops={odd.name: odd})


def test_running_out_of_memory_is_no_fault_of_the_file() -> None:
    class Hungry(Softclip):
        full = False

        def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
            if self.full:
                raise MemoryError
            return x

    op = Hungry()
    x = ops.placeholder(shape=(3,), dtype="float32")
    _, text = round_trip(Graph((x,), (op(x, low=0.0, mode=""),)), custom_ops={op.name: op})
    Hungry.full = True
    with pytest.raises(MemoryError):
        decode_with(text, {op.name: op})


def test_registered_custom_ops_are_not_in_the_closed_table(monkeypatch: pytest.MonkeyPatch) -> None:
    softclip = Softclip()
    monkeypatch.setitem(ops._ops, softclip.name, softclip)
    x = ops.placeholder(shape=(3,), dtype="float32")
    graph = Graph((x,), (softclip(x, low=0.5, mode="hard"),))
    _, text = round_trip(graph, custom_ops={softclip.name: softclip})
    with pytest.raises(GraphFormatError, match="is unknown"):
        decode_with(text.replace(CUSTOM, ""), {})


def decode_with(text: str, custom_ops: dict[str, Op], limits: Limits = LIMITS) -> Document:
    """A document without tensors."""
    return decode_document(json.loads(text), {}, limits, literal=_no_literal, custom_ops=custom_ops)


def body(node_of: Any, shape: tuple[Size, ...] = (3,)) -> Graph:
    x = ops.placeholder(shape=shape, dtype="float32")
    return Graph((x,), (node_of(x),))


def test_bodies_survive_once_each() -> None:
    apply = Apply()
    inner = body(ops.exp)
    outer = body(lambda x: apply(apply(x, body=inner), body=inner))
    x = ops.placeholder(shape=(3,), dtype="float32")
    graph = Graph((x,), (apply(apply(x, body=outer), body=inner),))
    back, text = round_trip(graph, custom_ops={"apply": apply})
    assert_same_graph(graph, back.graph)
    document = json.loads(text)
    assert len(document["bodies"]) == 2
    assert back.ops["exp"] == 1
    # A body may refer to earlier bodies only, so none can contain itself.
    for number, wrong in ((1, 1), (0, 0), (1, 2), (0, -1)):
        broken = json.loads(text)
        row = next((r for r in broken["bodies"][number]["nodes"] if "body" in r[2]), None)
        if row is None:
            row = broken["bodies"][number]["nodes"][1] = [f"{CUSTOM}apply", [0], {}]
        row[2]["body"] = wrong
        with pytest.raises(GraphFormatError, match="earlier bodies"):
            decode_with(json.dumps(broken), {"apply": apply})


def test_bodies_hold_no_variables() -> None:
    apply = Apply()
    v = ops.variable(shape=(3,), dtype="float32", name="v")
    x = ops.placeholder(shape=(3,), dtype="float32")
    graph = Graph((x,), (apply(x, body=body(lambda y: ops.add(y, v))),))
    with pytest.raises(GraphFormatError, match="body 0: a body cannot hold variables"):
        round_trip(graph, custom_ops={"apply": apply})


def test_bodies_have_a_depth() -> None:
    apply = Apply()
    graph = body(ops.exp)
    for _ in range(8):
        graph = body(lambda x, inner=graph: apply(x, body=inner))
    _, text = round_trip(graph, custom_ops={"apply": apply})
    with pytest.raises(GraphFormatError, match="depth of bodies is 8"):
        decode_with(text, {"apply": apply}, Limits(body_depth=7))


def test_dims_inside_bodies_follow_from_the_inputs() -> None:
    apply = Apply()
    graph = body(lambda x: apply(x, body=body(ops.exp, (symbol("n"),))), (symbol("m"),))
    with pytest.raises(GraphFormatError, match="the dim n follows from no input"):
        round_trip(graph, custom_ops={"apply": apply})


def test_rules_that_fail_in_their_own_way_are_refusals() -> None:
    class Broken(Softclip):
        error: type[Exception] = KeyError

        def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
            if attrs["low"]:
                raise self.error("two\nlines \u202e")
            return x

    op = Broken()
    x = ops.placeholder(shape=(3,), dtype="float32")
    _, text = round_trip(Graph((x,), (op(x, low=0.0, mode=""),)), custom_ops={op.name: op})
    for error in (KeyError, ZeroDivisionError, RecursionError, AttributeError, AssertionError):
        op.error = error
        with pytest.raises(GraphFormatError, match=error.__name__) as caught:
            decode_with(text.replace('"low":0.0', '"low":1.0'), {op.name: op})
        assert str(caught.value).isprintable() and str(caught.value).isascii()


# ---- size ------------------------------------------------------------------------------------


def chain(length: int) -> Graph:
    x = ops.placeholder(shape=(3,), dtype="float32")
    node: Node = x
    for _ in range(length):
        node = ops.exp(node)
    return Graph((x,), (node,))


def test_long_chains_need_no_recursion() -> None:
    graph = chain(20_000)
    back, _ = round_trip(graph)
    assert len(back.graph.nodes) == 20_001
