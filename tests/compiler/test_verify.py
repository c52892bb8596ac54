"""Graphs and programs broken by hand, one fact each; the verifier notices every one."""

from dataclasses import replace

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.errors import VerificationError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.memory_plan import Layout
from graphflow.compiler.op import Op, ops
from graphflow.compiler.pipeline import compile_graph
from graphflow.compiler.program import Branch, Copy, Launch, Loop
from graphflow.compiler.spec import TensorSpec
from graphflow.compiler.verify import check_graph, check_program
from tests.compiler.listing import N, leaf

X = leaf()
W = ops.variable(shape=(4, 6), dtype="float32", name="w")
TANH = ops.find("tanh")
I = leaf(dtype="int32", name="i")
SCALAR = TensorSpec("float32", ())
FULL = {"dtype": "float32", "shape": (), "value": 1.0}


def node(op, inputs=(X,), attrs=None, spec=X.spec):
    """A node past all checks of the op."""
    return Node(op if isinstance(op, Op) else ops.find(op), tuple(inputs), attrs or {}, spec)


def listed(*nodes):
    """A graph whose order was tampered with."""
    graph = Graph((X,), nodes[-1:])
    graph.__dict__["nodes"] = nodes
    return graph


def scanning(body):
    """A graph that holds a broken body."""
    attrs = {"body": body, "carries": 1, "length": 3, "reverse": False, "sequences": 0}
    return Graph((X,), (ops.project(node("scan", (X,), attrs, (X.spec,)), index=0),))


class Unregistered(Op):
    """An op that nobody knows."""

    name = "tanh"

    def infer(self, x):
        return x


def broken_graphs():
    other, tanh = leaf(name="other"), ops.tanh(X)
    return {
        "shape": Graph((X,), (node(TANH, spec=X.spec.with_shape((9,))),)),
        "dtype": Graph((X,), (node(TANH, spec=X.spec.with_dtype("float64")),)),
        "named dim": Graph((X,), (node(TANH, spec=X.spec.with_shape((4, N))),)),
        "negative size": Graph((X,), (node("full", (), FULL, TensorSpec("float32", (-1,))),)),
        "unknown dtype": Graph((X,), (node(TANH, spec=X.spec.with_dtype("complex64")),)),
        "what inference refuses": Graph((X,), (node("logical_not"),)),
        "mixed dtypes": Graph((X, I), (node("add", (X, I)),)),
        "sizes that do not fit": Graph((X, I), (node("reshape", (X,), {"shape": (5,)}),)),
        "extra attribute": Graph((X,), (node(TANH, attrs={"axis": 1}),)),
        "missing attribute": Graph((X,), (node("sum", spec=TensorSpec("float32", ())),)),
        "unsorted axes": Graph((X,), (node("sum", attrs={"axes": (1, 0)}, spec=SCALAR),)),
        "axes not canonical": Graph((X,), (node("sum", attrs={"axes": [0, 1]}, spec=SCALAR),)),
        "value of another dtype": Graph((), (node("full", (), {**FULL, "value": 1}, SCALAR),)),
        "too many inputs": Graph((X,), (node(TANH, (X, X)),)),
        "too few inputs": Graph((X,), (node("add"),)),
        "unregistered op": Graph((X,), (node(Unregistered()),)),
        "placeholder that is no input": Graph((X,), (ops.tanh(other),)),
        "input that is no placeholder": Graph((W,), (W,)),
        "input twice": Graph((X, X), (tanh,)),
        "update of no variable": Graph((X,), (), ((X, X),)),
        "two updates": Graph((X,), (), ((W, X), (W, tanh))),
        "update of another shape": Graph((X,), (), ((W, ops.sum(X, axes=(0,))),)),
        "update of another dtype": Graph((X,), (), ((W, ops.cast(X, dtype="float64")),)),
        "input after its reader": listed(tanh, X),
        "input not listed": listed(tanh),
        "node twice": listed(X, tanh, tanh),
        "result not listed": replace_nodes(Graph((X,), (tanh,)), (X,)),
        "several values as a result": Graph((X,), (two_results(),)),
        "several values as one": Graph((X,), (node(TANH, (two_results(),)),)),
        "a result that is not there": Graph((X,), (node("project", (two_results(),), {"index": 9}),)),
        "a body with a wrong shape": scanning(
            Graph((X,), (node(TANH, spec=SCALAR),))
        ),
    }  # fmt: skip


def replace_nodes(graph, nodes):
    graph.__dict__["nodes"] = nodes
    return graph


def two_results():
    inner = leaf()
    body = Graph((inner,), (ops.tanh(inner),))
    return ops.cond(full_true(), X, then=body, otherwise=body)


def full_true():
    return ops.full(shape=(), value=True, dtype="bool")


GRAPHS = broken_graphs()


@pytest.mark.parametrize("name", GRAPHS)
def test_broken_graphs_are_noticed(name):
    with pytest.raises(VerificationError, match="after test"):
        check_graph(GRAPHS[name], "test")


def test_whole_graphs_pass():
    check_graph(Graph((X, I), (ops.tanh(X), X), ((W, X),)), "test")
    check_graph(Graph((X,), (ops.project(two_results(), index=0),)), "test")
    check_graph(Graph((), ()), "test")


# ---- programs --------------------------------------------------------------------------------


def make_program():
    """A program with every kind of step and buffer, and temps that share the arena."""
    x = gf.placeholder(("n", 3), name="x")
    rows = gf.placeholder(("n",), "int64", name="rows")
    w = gf.variable(np.ones((3, 3), "f4"), name="w")
    table = np.arange(12, dtype="f4").reshape(4, 3)
    total, kept = gf.scan(lambda c, v: (gf.tanh(c @ w) + v, c * 2), gf.zeros((1, 3)), x)
    picked = gf.take(gf.asarray(table), rows, axis=0)
    chain = ((picked @ w) @ (w @ w)) @ w
    side = gf.cond(gf.sum(total) > 0, lambda: total @ w, lambda: total)
    function = gf.function(
        [x, rows], [gf.sum(chain, axis=0), kept, side, x], updates=[(w, w + gf.sum(side))]
    )
    return compile_graph(function.graph, "whole").program


PROGRAM = make_program()


def index_of(kind, nth=0):
    """Position in the program of the nth step of a kind."""
    return [k for k, step in enumerate(PROGRAM.steps) if isinstance(step, kind)][nth]


def with_step(kind, **changes):
    """The program with fields of its first step of a kind changed."""
    k = index_of(kind)
    steps = (*PROGRAM.steps[:k], replace(PROGRAM.steps[k], **changes), *PROGRAM.steps[k + 1 :])
    return replace(PROGRAM, steps=steps)


def with_buffer(number, **changes):
    buffers = list(PROGRAM.buffers)
    buffers[number] = replace(buffers[number], **changes)
    return replace(PROGRAM, buffers=tuple(buffers), _layouts={})


def buffer_number(kind, nth=0):
    return [k for k, b in enumerate(PROGRAM.buffers) if b.kind == kind and b.alias is None][nth]


def arena_temps():
    return [
        k for k, b in enumerate(PROGRAM.buffers)
        if b.kind == "temp" and b.alias is None and b.lifetime is not None
    ]  # fmt: skip


def longest_temp():
    return max(arena_temps(), key=lambda k: np.subtract(*PROGRAM.buffers[k].lifetime[::-1]))


def with_offsets(change):
    """The program with another arena for the sizes that the check uses."""
    layout = PROGRAM.layout({"n": 2})
    offsets, size = change(dict(layout.offsets), layout.arena_bytes)
    key = (("n", 2), ("", 0))
    return replace(PROGRAM, _layouts={key: Layout(offsets, size, 0)})


def stacked(offsets, size):
    """All temps at one place."""
    return dict.fromkeys(offsets, 0), size


def broken_programs():
    launch, loop = PROGRAM.steps[index_of(Launch)], PROGRAM.steps[index_of(Loop)]
    copy, row = PROGRAM.steps[index_of(Copy)], loop.sliced[0]
    temp, output = longest_temp(), buffer_number("output")
    first, last = PROGRAM.buffers[temp].lifetime
    stray = gf.placeholder(("stray",)).shape[0]
    return {
        "kernel out of range": with_step(Launch, kernel=99),
        "negative kernel": with_step(Launch, kernel=-1),
        "buffer out of range": with_step(Launch, buffers=(*launch.buffers[:-1], 999)),
        "negative buffer": with_step(Launch, buffers=(*launch.buffers[:-1], -1)),
        "a buffer too few": with_step(Launch, buffers=launch.buffers[:-1]),
        "a buffer too many": with_step(Launch, buffers=(*launch.buffers, 0)),
        "a dim too many": with_step(Launch, dims=(*launch.dims, 5)),
        "a dim of no input": with_step(Launch, extent=stray),
        "negative extent": with_step(Launch, extent=-1),
        "no grain": with_step(Launch, grain=0),
        "failure not announced": with_step(Launch, can_fail=not launch.can_fail),
        "note out of range": with_step(Launch, nodes=(999,)),
        "copy out of range": with_step(Copy, target=999),
        "copy of another size": with_step(Copy, target=buffer_number("variable")),
        "copy into an input": with_step(Copy, target=copy.source),
        "loop over a stray dim": with_step(Loop, count=stray),
        "loop past the end": with_step(Loop, count=N + 100),
        "row of another base": with_step(Loop, sliced=(replace(row, base=temp), *loop.sliced[1:])),
        "row of another size": with_step(Loop, sliced=(replace(row, row_bytes=4), *loop.sliced[1:])),
        "broken step in a body": with_step(Loop, body=(*loop.body, Copy(0, 999))),
        "predicate of another dtype": with_step(Branch, predicate=buffer_number("input")),
        "predicate out of range": with_step(Branch, predicate=999),
        "broken step in a branch": with_step(Branch, otherwise=(Copy(999, 0),)),
        "alias out of range": with_buffer(row.buffer, alias=999),
        "kind of no owner": with_buffer(temp, kind="heap"),
        "slot of no input": with_buffer(buffer_number("input"), slot=7),
        "input of another spec": with_buffer(buffer_number("input"), spec=SCALAR),
        "constant of another dtype": with_buffer(buffer_number("constant"), spec=SCALAR),
        "output without a buffer": with_buffer(output, kind="temp", lifetime=(0, 99)),
        "written variable that is not there": replace(PROGRAM, written=frozenset({5})),
        "used and without lifetime": with_buffer(temp, lifetime=None),
        "lifetime begins late": with_buffer(temp, lifetime=(first + 1, last)),
        "lifetime ends early": with_buffer(temp, lifetime=(first, last - 1)),
        "note of no buffer": replace(PROGRAM, notes=(replace(PROGRAM.notes[0], buffer=999),)),
        "temps on each other": with_offsets(stacked),
        "temp without a place": with_offsets(lambda offsets, size: ({}, size)),
        "arena too small": with_offsets(lambda offsets, size: (offsets, size - 64)),
        "offset not aligned": with_offsets(
            lambda offsets, size: ({k: v + 4 for k, v in offsets.items()}, size + 64)
        ),
    }  # fmt: skip


PROGRAMS = broken_programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_broken_programs_are_noticed(name):
    with pytest.raises(VerificationError, match="program whole"):
        check_program(PROGRAMS[name])


def test_the_program_is_whole_and_holds_what_the_mutants_need():
    check_program(PROGRAM)
    for size in (0, 1, 1000):
        check_program(PROGRAM, {"n": size})
    assert {type(step) for step in PROGRAM.steps} == {Launch, Copy, Loop, Branch}
    assert {b.kind for b in PROGRAM.buffers} >= {
        "input",
        "variable",
        "constant",
        "output",
        "status",
    }
    assert len(GRAPHS) + len(PROGRAMS) >= 60


def test_moving_any_temp_onto_one_alive_with_it_is_noticed():
    layout, noticed = PROGRAM.layout({"n": 2}), 0
    lives = {k: PROGRAM.buffers[k].lifetime for k in arena_temps()}
    for one, (first, last) in lives.items():
        for other, (begin, end) in lives.items():
            if one == other or begin > last or first > end:
                continue
            moved = {**layout.offsets, one: layout.offsets[other]}
            key = (("n", 2), ("", 0))
            arena = layout.arena_bytes + 4096
            with pytest.raises(VerificationError, match="overlap"):
                check_program(replace(PROGRAM, _layouts={key: Layout(moved, arena, 0)}))
            noticed += 1
    assert noticed > 10


@pytest.mark.parametrize("fused", [True, False])
def test_programs_of_control_flow_and_updates_are_whole(fused):
    x = gf.placeholder(("n", 4), name="x")
    v = gf.variable(np.ones((4, 4), "f4"), name="v")
    total, rows = gf.scan(lambda c, r: (gf.tanh(c * r), c + 1), gf.ones((4,)), x)
    loss = gf.sum(total) + gf.sum(rows @ v)
    (slope,) = gf.grad(loss, [v])
    graph = gf.function([x], [loss, rows], updates=[(v, v - slope)]).graph
    without = () if fused else ("all",)
    check_program(compile_graph(graph, without=without).program)
