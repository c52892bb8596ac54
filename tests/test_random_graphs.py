"""Random graphs: the passes keep every value, and compiled code agrees with the interpreter."""

from __future__ import annotations

import itertools
from functools import partial

import pytest

from graphflow.compiler import pipeline
from graphflow.compiler.graph import Graph, rebuild
from graphflow.compiler.op import Reduction, ops
from tests.fuzz.__main__ import main
from tests.fuzz.case import shrink
from tests.fuzz.checks import (
    all_passes_differ,
    bad_indices_differ,
    compiled_differs,
    outcome,
    passes_differ,
    report,
)
from tests.fuzz.generator import random_case
from tests.fuzz.productions import BINARY, EXACT_BINARY, EXACT_UNARY, IN_DOMAIN, UNARY

BLOCK = 25

# ---- the generator ---------------------------------------------------------------------------


def test_the_generator_is_deterministic_and_covers_the_ops():
    assert str(random_case(3)) == str(random_case(3))
    found = {node.op.name for seed in range(600) for node in random_case(seed).graph.nodes}
    assert found >= {*UNARY, *BINARY, *EXACT_UNARY, *EXACT_BINARY}
    assert len(found & {*itertools.chain(*IN_DOMAIN.values())}) >= 10
    assert found >= {"matmul", "conv", "scan", "cond", "take", "where", "random_uniform", "pad"}
    assert found >= {"sum", "max", "min", "prod", "slice", "concat", "permute_dims", "reshape"}


def test_the_generator_draws_what_compilers_get_wrong():
    cases = [random_case(seed) for seed in range(100)]
    sizes = [env["n"] for case in cases for env in case.environments]
    assert {0, 1, 7, 33, 100} <= set(sizes)
    assert sum(case.exact for case in cases) >= 20
    leading = sum(map(_has_chained_columns, cases))
    assert leading >= 15
    swapped = sum(value.op.name == "variable" for case in cases for _, value in case.graph.updates)
    assert swapped >= 10


def _has_chained_columns(case) -> bool:
    """Whether a reduction over a leading axis depends on another one."""
    behind: set = set()
    for node in case.graph.nodes:
        columns = isinstance(node.op, Reduction) and 0 in node.attrs["axes"] and node.ndim > 0
        if columns and node.inputs[0] in behind:
            return True
        if columns or any(value in behind for value in node.inputs):
            behind.add(node)
    return False


def test_the_shrinker_finds_the_one_bad_op():
    """A check that objects to the sine of a sum is left with little more than those two."""

    def check(case):
        bad = any(
            node.op.name == "sin" and node.inputs[0].op.name == "sum" for node in case.graph.nodes
        )
        return "sine of a sum" if bad else None

    case = next(case for case in map(random_case, range(500)) if check(case))
    small = shrink(case, lambda smaller: check(smaller) is not None)
    computed = [node for node in small.graph.nodes if node.inputs]
    assert len(computed) <= 2 < len(case.graph.nodes)
    assert len(small.environments) == 1
    assert "= sin(" in report(check, case)


def test_a_broken_pass_is_noticed(monkeypatch):
    def wrong(graph: Graph) -> Graph:
        def replace(node, inputs):
            if node.op.name == "subtract":
                return ops.subtract(*inputs[::-1])
            return rebuild(node, inputs)

        return graph.rewrite(replace)

    monkeypatch.setattr(pipeline, "PASSES", (*pipeline.PASSES, pipeline.Pass(wrong, needed=True)))
    found = [outcome(partial(passes_differ, without=[]), random_case(s)) for s in range(20)]
    assert sum(text is not None for text in found) >= 5


def test_the_campaign_reports_failures(monkeypatch, capsys):
    monkeypatch.setattr("tests.fuzz.__main__.compiled_differs", lambda case, without=(): "bad")
    monkeypatch.setattr("sys.argv", ["fuzz", "--graphs", "1", "--first", "5", "--size", "2"])
    assert main() == 1
    assert "compiled: bad" in capsys.readouterr().out


# ---- what must hold --------------------------------------------------------------------------


@pytest.mark.parametrize("first", range(0, 275, BLOCK))
def test_passes_keep_every_value(first):
    """With all passes, with each one left out, and with none."""
    for seed in range(first, first + BLOCK):
        case = random_case(seed, size=9)
        assert outcome(all_passes_differ, case) is None, report(all_passes_differ, case)


@pytest.mark.parametrize("first", range(0, 150, BLOCK))
def test_compiled_graphs_agree_with_the_interpreter(first):
    for seed in range(first, first + BLOCK):
        case = random_case(seed, size=7)
        assert outcome(compiled_differs, case) is None, report(compiled_differs, case)


@pytest.mark.parametrize("name", [*pipeline.pass_names(), "all"])
def test_compiled_graphs_agree_without_a_pass(name):
    check = partial(compiled_differs, without=[name])
    for seed in range(1000, 1008):
        case = random_case(seed, size=6)
        assert outcome(check, case) is None, report(check, case)


def test_bad_indices_are_reported_and_change_nothing():
    for seed in range(2000, 2012):
        case = random_case(seed, size=6, favourite="take")
        assert outcome(bad_indices_differ, case) is None, report(bad_indices_differ, case)
