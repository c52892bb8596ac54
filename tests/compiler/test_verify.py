"""Graphs and programs broken by hand, one fact each; the verifier notices every one."""

from dataclasses import replace

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler import pipeline
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


def scanning(body, first=X):
    """A graph that holds a broken body."""
    attrs = {"body": body, "carries": 1, "length": 3, "reverse": False, "sequences": 0}
    return Graph((X,), (ops.project(node("scan", (first,), attrs, (X.spec,)), index=0),))


def choosing(pick, then, otherwise):
    """A graph that holds two bodies which do not fit."""
    attrs = {"otherwise": otherwise, "then": then}
    return Graph((X,), (ops.project(node("cond", (pick, X), attrs, (X.spec,)), index=0),))


class Unregistered(Op):
    """An op that nobody knows."""

    name = "tanh"

    def infer(self, x):
        return x


def replace_nodes(graph, nodes):
    graph.__dict__["nodes"] = nodes
    return graph


def two_results():
    inner = leaf()
    body = Graph((inner,), (ops.tanh(inner),))
    return ops.cond(full_true(), X, then=body, otherwise=body)


def full_true():
    return ops.full(shape=(), value=True, dtype="bool")


other, tanh, inner = leaf(name="other"), ops.tanh(X), leaf(name="inner")
plain = Graph((inner,), (ops.tanh(inner),))
summed = Graph((inner,), (ops.sum(inner, axes=(0,)),))
wide = leaf(dtype="float64", name="wide")
scalar = leaf(shape=(), dtype="float32", name="scalar")
#: name -> (graph, what the message says of the thing that is wrong).
GRAPHS = {
    "shape": (
        Graph((X,), (node(TANH, spec=X.spec.with_shape((9,))),)),
        r"<tanh float32\(9,\)> .*inference gives, float32\(4, 6\)",
    ),
    "dtype": (
        Graph((X,), (node(TANH, spec=X.spec.with_dtype("float64")),)),
        r"<tanh float64\(4, 6\)> .*inference gives, float32\(4, 6\)",
    ),
    "named dim": (
        Graph((X,), (node(TANH, spec=X.spec.with_shape((4, N))),)),
        r"<tanh float32\(4, n\)> .*inference gives, float32\(4, 6\)",
    ),
    "rank": (
        Graph((X,), (node("sum", attrs={"axes": (0,)}, spec=SCALAR),)),
        r"<sum float32\(\)> .*inference gives, float32\(6,\)",
    ),
    "negative size": (
        Graph((X,), (node("full", (), FULL, TensorSpec("float32", (-1,))),)),
        r"<full float32\(-1,\)> .*impossible spec float32\(-1,\)",
    ),
    "unknown dtype": (
        Graph((X,), (node(TANH, spec=X.spec.with_dtype("complex64")),)),
        r"<tanh .*impossible spec complex64",
    ),
    "what inference refuses": (
        Graph((X,), (node("logical_not"),)),
        r"<logical_not .*refused by inference: logical_not: takes bool dtypes, got float32",
    ),
    "mixed dtypes": (
        Graph((X, I), (node("add", (X, I)),)),
        r"<add .*operands have dtypes float32 and int32",
    ),
    "sizes that do not fit": (
        Graph((X, I), (node("reshape", (X,), {"shape": (5,)}),)),
        r"<reshape .*\(4, 6\) has 24 elements, \(5,\) has 5",
    ),
    "inner sizes of a product": (
        Graph((X,), (node("matmul", (X, X), {"transpose_a": False, "transpose_b": False}),)),
        r"<matmul .*refused by inference: .*6.*4",
    ),
    "axis out of range": (
        Graph((X,), (node("sum", attrs={"axes": (7,)}, spec=SCALAR),)),
        r"<sum .*refused by inference: .*7",
    ),
    "extra attribute": (
        Graph((X,), (node(TANH, attrs={"axis": 1}),)),
        r"<tanh .*attributes \['axis'\]; expected \[\]",
    ),
    "missing attribute": (
        Graph((X,), (node("sum", spec=SCALAR),)),
        r"<sum .*attributes \[\]; expected \['axes'\]",
    ),
    "unsorted axes": (
        Graph((X,), (node("sum", attrs={"axes": (1, 0)}, spec=SCALAR),)),
        r"<sum .*axes \(1, 0\) are not sorted",
    ),
    "axes that cannot be hashed": (
        Graph((X,), (node("sum", attrs={"axes": [0, 1]}, spec=SCALAR),)),
        r"<sum .*axes=\[0, 1\], which is not hashable",
    ),
    "one axis as a number": (
        Graph((X,), (node("sum", attrs={"axes": 0}, spec=TensorSpec("float32", (6,))),)),
        r"<sum .*'axes': 0.*canonical form is \{'axes': \(0,\)\}",
    ),
    "value of another dtype": (
        Graph((), (node("full", (), {**FULL, "value": 1}, SCALAR),)),
        r"<full .*'value': 1\}; the canonical form is .*'value': 1\.0",
    ),
    "too many inputs": (
        Graph((X,), (node(TANH, (X, X)),)), r"<tanh .*has 2 inputs; expected 1 to 1",
    ),
    "too few inputs": (
        Graph((X,), (node("add"),)), r"<add .*has 1 inputs; expected 2 to 2",
    ),
    "unregistered op": (
        Graph((X,), (node(Unregistered()),)), r"<tanh .*op that is not registered",
    ),
    "placeholder that is no input": (
        Graph((X,), (ops.tanh(other),)),
        r"<other .*\[listing.py:\d+\] is a placeholder and no input",
    ),
    "input that is no placeholder": (
        Graph((W,), (W,)), r"<w .*\[test_verify.py:\d+\] is an input and no placeholder",
    ),
    "input twice": (Graph((X, X), (tanh,)), r"<x .*listed as an input twice"),
    "update of no variable": (
        Graph((X,), (), ((X, X),)), r"<x .*is updated and no variable",
    ),
    "two updates": (Graph((X,), (), ((W, X), (W, tanh))), r"<w .*is updated twice"),
    "update of another shape": (
        Graph((X,), (), ((W, ops.sum(X, axes=(0,))),)),
        r"<w .*cannot be updated with <sum float32\(6,\)>",
    ),
    "update of another dtype": (
        Graph((X,), (), ((W, ops.cast(X, dtype="float64")),)),
        r"<w .*cannot be updated with <cast float64\(4, 6\)>",
    ),
    "input after its reader": (listed(tanh, X), r"<tanh .*comes before its input <x "),
    "input not listed": (listed(tanh), r"<tanh .*comes before its input <x "),
    "node twice": (listed(X, tanh, tanh), r"<tanh .*is listed twice"),
    "result not listed": (
        replace_nodes(Graph((X,), (tanh,)), (X,)), r"<tanh .*is a result and not among",
    ),
    "several values as a result": (
        Graph((X,), (two_results(),)), r"<cond .*is several values",
    ),
    "several values as one": (
        Graph((X,), (node(TANH, (two_results(),)),)), r"<tanh .*several values as one, <cond",
    ),
    "one value as several": (
        Graph((X,), (node("project", (X,), {"index": 0}),)),
        r"<project .*reads a single value, <x",
    ),
    "a result that is not there": (
        Graph((X,), (node("project", (two_results(),), {"index": 9}),)),
        r"<project .*there is no result 9",
    ),
    "a body with a wrong shape": (
        scanning(Graph((X,), (node(TANH, spec=SCALAR),))),
        r"in body of scan: <tanh float32\(\)> .*inference gives, float32\(4, 6\)",
    ),
    "a body that reads what is outside": (
        scanning(Graph((inner,), (ops.tanh(other),))),
        r"in body of scan: <other .*is a placeholder and no input",
    ),
    "a body that holds a variable": (
        scanning(Graph((inner,), (ops.add(inner, W),))),
        r"<scan .*the body holds variables",
    ),
    "a carry that changes its shape": (
        scanning(summed), r"<scan .*new carry 0 is \(6,\), expected \(4, 6\)",
    ),
    "a carry of another dtype than its operand": (
        scanning(Graph((wide,), (wide,))), r"<scan .*operand 0 of the body is float32",
    ),
    "a choice by a number": (
        choosing(scalar, plain, plain), r"<cond .*predicate is float32\(\)",
    ),
    "branches of different shapes": (
        choosing(full_true(), plain, summed), r"<cond .*value 0 of otherwise is \(6,\)",
    ),
    "a broken branch": (
        choosing(full_true(), plain, Graph((inner,), (node(TANH, (inner,), spec=SCALAR),))),
        r"in otherwise of cond: <tanh float32\(\)>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_broken_graphs_are_noticed(name):
    graph, expected = GRAPHS[name]
    with pytest.raises(VerificationError, match=f"^after test.*{expected}"):
        check_graph(graph, "test")


def complaint(check, *args):
    """What a check says, or None."""
    try:
        return check(*args)
    except VerificationError as error:
        return str(error)


def test_whole_graphs_pass():
    whole = Graph((X, I), (ops.tanh(X), X), ((W, X),))
    with_bodies = Graph((X,), (ops.project(two_results(), index=0),))
    for graph in (whole, with_bodies, Graph((), ())):
        assert complaint(check_graph, graph, "test") is None


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


def reading(kind, **changes):
    """A launch of a kernel that takes one buffer, on a buffer of a kind."""
    kernel, buffers = next(
        (s.kernel, s.buffers) for s in every_step(PROGRAM.steps)
        if isinstance(s, Launch) and not s.dims and not s.can_fail
    )  # fmt: skip
    held = tuple(buffer_number(kind) for _ in buffers)
    return replace(Launch(kernel, held, (), 1, 1), **changes)


def launched_temp():
    """A temp of fixed size that launches alone touch."""
    copied = {step.target for step in every_step(PROGRAM.steps) if isinstance(step, Copy)}
    return next(
        n for n in arena_temps()
        if n not in copied and isinstance(PROGRAM.buffers[n].spec.nbytes, int)
    )  # fmt: skip


def failing():
    return next(step for step in PROGRAM.steps if isinstance(step, Launch) and step.can_fail)


def every_step(steps):
    for step in steps:
        yield step
        for inner in ("body", "then", "otherwise"):
            yield from every_step(getattr(step, inner, ()))


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


launch, loop = PROGRAM.steps[index_of(Launch)], PROGRAM.steps[index_of(Loop)]
copy, row = PROGRAM.steps[index_of(Copy)], loop.sliced[0]
temp, output = longest_temp(), buffer_number("output")
status, constant = buffer_number("status"), buffer_number("constant")
first, last = PROGRAM.buffers[temp].lifetime
stray = gf.placeholder(("stray",)).shape[0]
kernel = PROGRAM.kernels[0]


def row_with(**changes):
    return with_step(Loop, sliced=(replace(row, **changes), *loop.sliced[1:]))


#: name -> (program, what the message says of the thing that is wrong).
PROGRAMS = {
    "kernel out of range": (with_step(Launch, kernel=99), "take: there is no kernel 99"),
    "negative kernel": (with_step(Launch, kernel=-1), "take: there is no kernel -1"),
    "buffer out of range": (
        with_step(Launch, buffers=(*launch.buffers[:-1], 999)), "take: there is no b999",
    ),
    "negative buffer": (
        with_step(Launch, buffers=(*launch.buffers[:-1], -1)), "take: there is no b-1",
    ),
    "a buffer too few": (
        with_step(Launch, buffers=launch.buffers[:-1]), "take: .* 4 buffers, 3 are given",
    ),
    "a buffer too many": (
        with_step(Launch, buffers=(*launch.buffers, 0)), "take: .* 4 buffers, 5 are given",
    ),
    "a dim too many": (
        with_step(Launch, dims=(*launch.dims, 5)), "take: .* 1 dims, 2 are given",
    ),
    "a dim too few": (with_step(Launch, dims=()), "take: .* 1 dims, 0 are given"),
    "an extent of a dim of no input": (
        with_step(Launch, extent=stray), "take: stray .* is no dim of an input",
    ),
    "a cost of a dim of no input": (
        with_step(Launch, cost=stray + 1), "take: stray in stray .* is no dim of an input",
    ),
    "negative extent": (with_step(Launch, extent=-1), "take: an extent of -1"),
    "no grain": (with_step(Launch, grain=0), "take: a grain of 0"),
    "failure not announced": (
        with_step(Launch, can_fail=not launch.can_fail), "take: can_fail is False",
    ),
    "note out of range": (with_step(Launch, nodes=(999,)), "take: there is no note 999"),
    "kernel without its entry": (
        replace(PROGRAM, kernels=(replace(kernel, entry="f"), *PROGRAM.kernels[1:])),
        f"the kernel {kernel.name} does not define f",
    ),
    "copy from nowhere": (with_step(Copy, source=-2), "copy: there is no b-2"),
    "copy to nowhere": (with_step(Copy, target=999), "copy: there is no b999"),
    "copy of another size": (
        with_step(Copy, target=buffer_number("variable")), r"copy: b0 is .*, b\d+ is float32\(3",
    ),
    "copy into an input": (
        with_step(Copy, target=copy.source), "copy: b0 may not be written, input 0",
    ),
    "copy into a constant": (
        with_step(Copy, source=constant, target=constant),
        f"copy: b{constant} may not be written, constant 0",
    ),
    "loop over a stray dim": (with_step(Loop, count=stray), "loop: stray .* no dim of an input"),
    "loop of fewer than no passes": (with_step(Loop, count=-1), "loop: -1 passes"),
    "loop past the end": (with_step(Loop, count=N + 100), "n [+] 100 rows .* leave b0"),
    "row of a stray size": (row_with(row_bytes=stray), "loop: stray .* no dim of an input"),
    "row of another base": (
        row_with(base=temp), f"b{row.buffer} is a row of b{temp}, its alias is {row.base}",
    ),
    "row of another size": (row_with(row_bytes=4), f"b{row.buffer} is .* a row of 4 bytes"),
    "row of another dtype": (
        with_buffer(row.buffer, spec=TensorSpec("int32", (3,))), f"b{row.buffer} is int32",
    ),
    "row that is no buffer": (row_with(buffer=999), "loop: there is no b999"),
    "broken step in a body": (
        with_step(Loop, body=(*loop.body, Copy(0, 999))), "copy: there is no b999",
    ),
    "predicate of another dtype": (
        with_step(Branch, predicate=buffer_number("input")), "the predicate b0 is float32",
    ),
    "predicate out of range": (with_step(Branch, predicate=999), "branch: there is no b999"),
    "broken step in a branch": (
        with_step(Branch, then=(Copy(998, 0),)), "copy: there is no b998",
    ),
    "broken step in the other branch": (
        with_step(Branch, otherwise=(Copy(999, 0),)), "copy: there is no b999",
    ),
    "alias out of range": (
        with_buffer(row.buffer, alias=999), f"b{row.buffer} shares the storage of b999",
    ),
    "alias of itself": (
        with_buffer(row.buffer, alias=row.buffer),
        f"b{row.buffer} shares the storage of b{row.buffer}, which is none before it",
    ),
    "kind of no owner": (with_buffer(temp, kind="heap"), f"b{temp} is of kind 'heap'"),
    "slot of no input": (
        with_buffer(buffer_number("input"), slot=7), "b0 is no input 7 of its spec",
    ),
    "input of another spec": (
        with_buffer(buffer_number("input"), spec=SCALAR), "b0 is no input 0 of its spec",
    ),
    "variable of another spec": (
        with_buffer(buffer_number("variable"), spec=SCALAR), r"b\d+ is no variable 0 of its",
    ),
    "constant of another dtype": (
        with_buffer(constant, spec=SCALAR), f"b{constant} is no constant 0 of its spec",
    ),
    "output of another spec": (
        replace(PROGRAM, outputs=(*PROGRAM.outputs[:-1], SCALAR)),
        r"b\d+ is no output 3 of its spec",
    ),
    "output without a buffer": (
        with_buffer(output, kind="temp", lifetime=(0, 99)), r"output \d has no buffer",
    ),
    "status of another size": (
        with_buffer(status, spec=TensorSpec("int64", (2,))), f"b{status} holds the status",
    ),
    "written variable that is not there": (
        replace(PROGRAM, written=frozenset({5})), "variable 5 is written and has no buffer",
    ),
    "more done once than there is": (
        replace(PROGRAM, once=999), "999 of .* steps are done once",
    ),
    "done once from an input": (
        replace(PROGRAM, once=1, steps=(reading("input"), *PROGRAM.steps)),
        "is done once and uses b",
    ),
    "done once from a variable that is written": (
        replace(PROGRAM, once=1, steps=(reading("variable"), *PROGRAM.steps)),
        "is done once and uses b",
    ),
    "done once and may fail": (
        replace(PROGRAM, once=1, steps=(failing(), *PROGRAM.steps)),
        "expected a launch that cannot fail",
    ),
    "done once with sizes of the call": (
        replace(PROGRAM, once=1, steps=(reading("constant", extent=N), *PROGRAM.steps)),
        "is done once, and its sizes have names",
    ),
    "done once into what is used again": (
        replace(PROGRAM, once=1, steps=(reading("temp"), *PROGRAM.steps)),
        r"b\d+ is filled once and not kept",
    ),
    "kept and not filled": (
        with_buffer(launched_temp(), kind="kept"), r"b\d+ is kept and not filled once",
    ),
    "kept and of a size of the call": (
        with_buffer(temp, kind="kept", spec=TensorSpec("float32", (N,))),
        f"b{temp} is kept and its size has names",
    ),
    "used and without lifetime": (
        with_buffer(temp, lifetime=None), f"b{temp} is used and has no lifetime",
    ),
    "lifetime begins late": (
        with_buffer(temp, lifetime=(first + 1, last)),
        f"b{temp} is used in {first}..{last} and alive in {first + 1}..{last}",
    ),
    "lifetime ends early": (
        with_buffer(temp, lifetime=(first, last - 1)),
        f"b{temp} is used in {first}..{last} and alive in {first}..{last - 1}",
    ),
    "note of no buffer": (
        replace(PROGRAM, notes=(*PROGRAM.notes[:-1], replace(PROGRAM.notes[-1], buffer=999))),
        f"the note of {PROGRAM.notes[-1].name} speaks of b999",
    ),
    "temps on each other": (with_offsets(stacked), r"b\d+ and b\d+ overlap while both are alive"),
    "temp without a place": (
        with_offsets(lambda offsets, size: ({}, size)), r"b\d+ has no place in the arena",
    ),
    "arena too small": (
        with_offsets(lambda offsets, size: (offsets, size - 64)), r"b\d+ lies at \d+, \d+ bytes",
    ),
    "offset below the arena": (
        with_offsets(lambda offsets, size: ({k: v - 64 for k, v in offsets.items()}, size)),
        r"b\d+ lies at -64",
    ),
    "offset not aligned": (
        with_offsets(lambda offsets, size: ({k: v + 4 for k, v in offsets.items()}, size + 64)),
        r"b\d+ lies at 4,",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_broken_programs_are_noticed(name):
    program, expected = PROGRAMS[name]
    with pytest.raises(VerificationError, match=f"^program whole: .*{expected}"):
        check_program(program)


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
    assert min(len(GRAPHS), len(PROGRAMS)) >= 30


def test_a_program_is_checked_as_soon_as_it_is_made(monkeypatch):
    checked = []
    monkeypatch.setattr(pipeline, "check_program", checked.append)
    monkeypatch.setenv("GRAPHFLOW_CHECK", "1")
    graph = Graph((X,), (ops.tanh(X),))
    for check, expected in ((False, 0), (True, 1), (None, 1)):
        checked.clear()
        program = compile_graph(graph, check=check).program
        assert checked == [program] * expected
    monkeypatch.setenv("GRAPHFLOW_CHECK", "0")
    checked.clear()
    compile_graph(graph)
    assert checked == []


def test_a_broken_schedule_does_not_leave_the_compiler(monkeypatch):
    schedule = pipeline.schedule

    def broken(fused, name, target):
        program, origins = schedule(fused, name, target)
        return replace(program, steps=(replace(program.steps[0], kernel=7),)), origins

    monkeypatch.setattr(pipeline, "schedule", broken)
    with pytest.raises(VerificationError, match="program f: tanh: there is no kernel 7"):
        compile_graph(Graph((X,), (ops.tanh(X),)), "f", check=True)


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
    program = compile_graph(graph, without=without, check=False).program
    assert any(isinstance(step, Loop) for step in program.steps)
    assert complaint(check_program, program) is None
