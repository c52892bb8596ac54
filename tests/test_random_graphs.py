"""Random graphs: the passes keep every value, and compiled code agrees with the interpreter."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest

from graphflow.compiler import pipeline
from graphflow.compiler.graph import Graph, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.pipeline import compile_graph, optimize, pass_names
from graphflow.compiler.spec import is_float
from graphflow.runtime.executor import Executor
from tests.graph_fuzz import (
    BINARY,
    ENVIRONMENTS,
    IN_DOMAIN,
    UNARY,
    Case,
    merge,
    random_case,
    shrink,
)

SEEDS = range(600)
BLOCK = 50
#: products are computed in other forms, sums in another order
TOLERANCE = {"float32": 2e-3, "float64": 1e-9}


def differs(got, expected, tolerance=TOLERANCE):
    """Where two lists of arrays differ, as text; None where they agree."""
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"root {number}: {a.dtype}{a.shape}, expected {b.dtype}{b.shape}"
        if not is_float(b.dtype.name):
            if not np.array_equal(a, b):
                return f"root {number}: {a!r}, expected {b!r}"
            continue
        limit = tolerance[b.dtype.name]
        with np.errstate(invalid="ignore"):
            near = np.isclose(a, b, rtol=limit, atol=limit, equal_nan=True)
        if not near.all():
            return f"root {number}: {a!r}, expected {b!r}"
    return None


EXACT = {"float32": 0.0, "float64": 0.0}


def without_passes(case: Case, without: list[str]) -> str | None:
    """What the passes that are left change; bits must stay where no products are."""
    stages, _ = optimize(case.graph, without=without, check=True)
    rewritten = stages[-1][1]
    # NumPy's power of 2 is not always the product, depending on where the array lies.
    inexact = ("conv", "matmul", "power")
    products = any(node.op.name.startswith(inexact) for node in case.graph.nodes)
    for number in range(len(ENVIRONMENTS)):
        expected = case.run(case.graph, number)
        found = differs(case.run(rewritten, number), expected, TOLERANCE if products else EXACT)
        if found:
            return f"without {without}, sizes {ENVIRONMENTS[number]}: {found}"
    return None


def compiled_differs(case: Case, without: list[str] = ()) -> str | None:
    """Where one compiled program, run at all sizes, differs from the interpreter."""
    program = compile_graph(case.graph, "fuzz", without=without, check=True).program
    variables = [case.leaves[node][0].copy(order="C") for node in case.graph.variables]
    run = Executor(program, variables)
    places = {node: k for k, node in enumerate(case.graph.variables)}
    for number, env in enumerate(ENVIRONMENTS):
        for node, place in places.items():
            np.copyto(variables[place], case.leaves[node][number])
        expected = case.run(case.graph, number)
        outputs = run([case.leaves[node][number] for node in case.graph.inputs])
        stored = [variables[places[target]] for target, _ in case.graph.updates]
        found = differs([*outputs, *stored], expected)
        if found:
            return f"sizes {env}: {found}"
    return None


def outcome(check, case: Case) -> str | None:
    """What a check finds; an exception is a finding too."""
    try:
        return check(case)
    except Exception as error:  # noqa: BLE001 - whatever a pass or the compiler raises
        return f"{type(error).__name__}: {error}"


def report(check, case: Case) -> str:
    """The minimal failing graph and what is wrong with it."""
    small = shrink(case, lambda smaller: outcome(check, smaller) is not None)
    return f"{outcome(check, small)}\n{small}"


# ---- the generator ---------------------------------------------------------------------------


def test_the_generator_is_deterministic_and_covers_the_ops():
    assert str(random_case(3)) == str(random_case(3))
    found = {node.op.name for seed in range(200) for node in random_case(seed).graph.nodes}
    assert found >= {*UNARY, *BINARY, *itertools.chain(*IN_DOMAIN.values())}
    assert found >= {"matmul", "conv", "scan", "cond", "take", "where", "random_uniform", "pad"}
    assert found >= {"sum", "max", "min", "prod", "slice", "concat", "permute_dims", "reshape"}


def test_the_shrinker_finds_the_one_bad_op():
    """A check that objects to tanh of a sum is left with little more than those two."""

    def check(case):
        bad = any(
            node.op.name == "tanh" and node.inputs[0].op.name == "sum" for node in case.graph.nodes
        )
        return "tanh of a sum" if bad else None

    for seed in range(2000):
        case = random_case(seed)
        if check(case):
            small = shrink(case, lambda smaller: check(smaller) is not None)
            computed = [node for node in small.graph.nodes if node.inputs]
            assert len(computed) <= 2 < len(case.graph.nodes)
            assert "tanh" in report(check, case)
            return
    raise AssertionError("no seed has a tanh of a sum")


def test_a_broken_pass_is_noticed(monkeypatch):
    def wrong(graph: Graph) -> Graph:
        def replace(node, inputs):
            if node.op.name == "subtract":
                return ops.subtract(*inputs[::-1])
            return rebuild(node, inputs)

        return graph.rewrite(replace)

    monkeypatch.setattr(pipeline, "PASSES", (*pipeline.PASSES, pipeline.Pass(wrong, needed=True)))
    found = [outcome(partial(without_passes, without=[]), random_case(s)) for s in range(40)]
    assert sum(text is not None for text in found) >= 3


# ---- passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, len(SEEDS), BLOCK))
def test_passes_keep_every_value(first):
    """With all passes, with each one left out, and with none."""
    for seed in SEEDS[first : first + BLOCK]:
        case = random_case(seed)
        rewrites = [name for name in pass_names() if name != "fuse"]
        for without in ([], *([name] for name in rewrites), rewrites):
            check = partial(without_passes, without=without)
            assert outcome(check, case) is None, report(check, case)


# ---- compiled code ---------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_compiled_graphs_agree_with_the_interpreter(first):
    cases = [random_case(seed) for seed in range(first, first + 10)]
    found = outcome(compiled_differs, merge(cases))
    if found is not None:
        for case in cases:
            assert outcome(compiled_differs, case) is None, report(compiled_differs, case)
        raise AssertionError(f"each case is right alone, but together: {found}")


@pytest.mark.parametrize("first", (100, 110))
def test_unfused_and_unoptimised_code_agrees_too(first):
    case = merge(random_case(seed, size=8) for seed in range(first, first + 5))
    assert compiled_differs(case, without=["all"]) is None
