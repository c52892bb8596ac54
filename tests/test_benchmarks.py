"""The benchmark harness: ratios, tables, missing and contradicting sides. No time is asserted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import networks, table
from benchmarks.__main__ import chosen
from benchmarks.contest import Contest, Pace, calmest, compare, difference
from benchmarks.counting import count
from benchmarks.crew import Side, SideError, why_missing
from benchmarks.peers import peers
from benchmarks.peers.base import Peer
from benchmarks.probe import Roof
from benchmarks.results import Cell, Row, geometric_mean
from benchmarks.workload import OURS, Group, Inference, Network, Parameter, Unsupported
from benchmarks.workloads import by_name

ROOT = Path(__file__).parent.parent
GEMM = "gemm/33x33x33"
TINY = Pace(rounds=2, round_seconds=1e-4, warm_seconds=1e-4)
PRODUCT = Inference(
    name="gemm/test",
    forward=lambda ops, p, x: ops.matmul(x, p["w"]),
    parameters=lambda rng: {"w": Parameter(np.ones((3, 4), "f4"))},
    feeds=networks.vectors(2, 3),
    target=0.9,
)


class Named(Peer):
    """A side that takes part in inference and is never started."""

    def __init__(self, name: str, modules: tuple[str, ...] = ()):
        self.name, self.modules = name, modules

    def inference(self, workload: Inference) -> None:
        raise AssertionError("a test asked for a real session")


class Scripted:
    """Stands in for a worker: answers are fixed."""

    def __init__(self, name: str, output: float = 1.0, seconds: float = 1.0, fails: str = ""):
        self.name, self.peer = name, Named(name)
        self.output, self.seconds, self.fails = output, seconds, fails
        self.asked: list[str] = []

    def ask(self, limit: float, question: str, *arguments: object) -> object:
        self.asked.append(question)
        if self.fails == question:
            raise Unsupported(f"{self.name} has no {question} here")
        answers = {"build": {"seconds": 0.1}, "outputs": [np.full(3, self.output)]}
        return answers.get(question, self.seconds)


def contest(*sides: Scripted, missing: dict[str, str] | None = None) -> Contest:
    return Contest(list(sides), missing or {}, TINY, {}, [])  # type: ignore[arg-type]


def row_of(**medians: float) -> Row:
    cells = {name: Cell([value] if value else []) for name, value in medians.items()}
    return Row("group/row", cells, target=0.5)


# ---- ratios ----------------------------------------------------------------------------------


def test_ratio_is_ours_over_the_fastest_peer_of_medians():
    row = Row("g/r", {OURS: Cell([1.0, 9.0, 2.0]), "A": Cell([4.0, 4.0, 5.0]), "B": Cell([8.0])})
    assert (row.best_peer, row.ratio) == ("A", 0.5)


def test_quartiles_pair_rounds_that_ran_together():
    row = Row("g/r", {OURS: Cell([1.0, 2.0, 3.0]), "A": Cell([2.0, 4.0, 6.0])})
    assert row.ratio_range == (0.5, 0.5)


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [(1.0, 2.0, "met"), (1.1, 2.0, "missed"), (0.0, 2.0, "missed"), (1.0, 0.0, "no peer")],
)
def test_verdict(ours, peer, verdict):
    assert row_of(graphflow=ours, A=peer).verdict == verdict


def test_limit_in_seconds_needs_no_peer():
    row = Row("g/r", {OURS: Cell([0.3])}, limit=0.25)
    assert row.verdict == "missed"
    row.limit = 0.35
    assert row.verdict == "met"


def test_geometric_mean_leaves_out_rows_without_a_ratio():
    rows = [row_of(graphflow=1.0, A=2.0), row_of(graphflow=2.0, A=1.0), row_of(graphflow=0.0, A=1)]
    assert geometric_mean(rows) == pytest.approx(1.0)
    assert math.isnan(geometric_mean(rows[2:]))


# ---- tables ----------------------------------------------------------------------------------


def test_table_text():
    timed = Row(
        "gemm/a",
        {OURS: Cell([2e-6, 2e-6]), "A": Cell([4e-6, 4e-6]), "B": Cell(problem="not installed (b)")},
        target=0.9,
        flops=2000.0,
        roof=1e-6,
        roof_name="FLOP/s",
    )
    late = Row("gemm/b", target=0.9, not_run="no time was left")
    notes = table.Notes()
    lines = table.group_table(Group("gemm", "Products", mean_target=0.9), [timed, late], notes)
    timed_cells = "2.00 µs ±0 % | **4.00 µs ±0 %**"
    assert lines == [
        "## Products",
        "",
        "| workload | graphflow | A | B | ratio (quartiles) | target |  | roofline |",
        "|---|---|---|---|---|---|---|---|",
        f"| a | {timed_cells} | – [1] | 0.50 (0.50–0.50) | 0.90 | met | 1 GFLOP/s, 50 % |",
        "| b | not run [2] | | | | | | |",
        "| geometric mean |  |  |  | 0.50 | 0.90 | met | |",
        "",
    ]
    assert notes.texts == ["B: not installed (b)", "no time was left"]


def test_json_has_every_round_and_no_nan():
    row = row_of(graphflow=1.0, A=0.0)
    content = table.as_json({}, Roof(), [(Group("group", "G"), [row])], {"A": "not installed (a)"})
    text = json.dumps(content, allow_nan=False)
    (written,) = json.loads(text)["rows"]
    assert (written["ratio"], written["sides"][OURS]["seconds"]) == (None, [1.0])
    assert content["missing"] == {"A": "not installed (a)"}


def test_summary_names_what_is_far_off():
    rows = [row_of(graphflow=3.0, A=1.0), row_of(graphflow=1.0, A=3.0)]
    assert table.summary(rows) == [
        "1 targets met, 1 missed, 0 without a peer, 0 not run.",
        "Far off (ratio above 1.3): group/row 3.00 (A).",
        "",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.00 µs"), (9.9996e-4, "1.00 ms"), (1.5, "1.50 s"), (123e-6, "123 µs")],
)
def test_seconds_have_three_digits(seconds, text):
    assert table.seconds_text(seconds) == text


MACHINE = {
    "processor": "P",
    "vectors": "V",
    "threads": 2,
    "date": "2000-01-02",
    "revision": "abc",
}


def test_short_table_has_what_was_timed_beside_a_peer():
    rows = [row_of(graphflow=1.0, A=2.0), row_of(graphflow=0.0, A=2.0)]
    groups = [(Group("group", "G"), rows), (Group("sweep", "S", mean_target=0.9), rows)]
    text = table.short_table(MACHINE, groups)
    assert text.splitlines() == [
        "P, V, 2 threads, 2000-01-02, revision abc:",
        "",
        "| workload | graphflow | fastest peer | ratio |",
        "|---|---|---|---|",
        "| group/row | 1.00 s | 2.00 s A | 0.50 |",
        "| sweep/, geometric mean of 1 | | | 0.50 |",
    ]


def test_documents_without_a_marker_are_refused():
    with pytest.raises(ValueError, match="no <!-- measured: short --> or full"):
        table.inserted("text", {"short": "a", "full": "b"})


@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_documents_take_the_table(name):
    document = (ROOT / name).read_text()
    changed = table.inserted(document, {"short": "| new |", "full": "| new |"})
    assert "\n| new |\n<!-- end -->" in changed
    assert table.inserted(changed, {"short": "| x |", "full": "| x |"}).count("| new |") == 0


# ---- sides -----------------------------------------------------------------------------------


def test_a_missing_peer_is_named_with_what_is_not_installed():
    absent = Named("Absent", ("a_module_that_nobody_has",))
    reason = why_missing(absent, {})
    assert reason == "not installed (a_module_that_nobody_has)"
    row = contest(Scripted(OURS), Scripted("Absent"), missing={"Absent": reason}).row(PRODUCT)
    assert row.cells["Absent"].problem == reason
    assert row.verdict == "no peer"


def test_a_side_in_another_environment_is_not_missing():
    assert why_missing(Named("A", ("a_module_that_nobody_has",)), {"A": "/other/python"}) == ""


def test_a_peer_that_contradicts_is_named_and_not_timed():
    ours, right, wrong = Scripted(OURS), Scripted("A"), Scripted("B", output=1.5)
    row = contest(ours, right, wrong).row(PRODUCT)
    assert row.cells["B"].problem == "differs from graphflow by 0.33 of the largest value"
    assert "measure" not in wrong.asked
    assert row.best_peer == "A"


def test_ours_is_wrong_when_all_peers_say_so():
    ours = Scripted(OURS, output=2.0)
    row = contest(ours, Scripted("A"), Scripted("B")).row(PRODUCT)
    assert row.ours.problem.startswith("WRONG: differs from A by 1, B by 1")
    assert "measure" not in ours.asked
    assert row.verdict == "missed"


def test_what_we_cannot_build_stays_in_the_table():
    row = contest(Scripted(OURS, fails="build"), Scripted("A")).row(PRODUCT)
    notes = table.Notes()
    lines = table.group_table(Group("gemm", "Products"), [row], notes)
    assert lines[4].startswith("| test | – [1] | **1.00 s ±0 %** | – | 0.90 | missed |")
    assert notes.texts == ["graphflow: graphflow has no build here"]


def test_a_side_that_fails_in_a_round_loses_its_times():
    row = contest(Scripted(OURS), Scripted("A", fails="measure"), Scripted("B")).row(PRODUCT)
    assert (row.cells["A"].seconds, row.best_peer) == ([], "B")
    assert len(row.ours.seconds) == TINY.rounds


@pytest.mark.parametrize(
    "got", [np.ones((2, 1)), np.array([np.nan, 1.0]), np.array([1.0, np.inf])], ids=str
)
def test_other_shapes_and_nan_are_infinitely_different(got):
    assert difference([got], [np.ones(2)]) == math.inf


def test_difference_is_relative_to_the_largest_value():
    assert difference([np.array([10.0, 0.1])], [np.array([10.0, 0.0])]) == pytest.approx(0.01)


def test_nothing_is_compared_without_ours():
    assert compare({"A": [np.ones(1)], "B": [np.zeros(1)]}, 0.1) == {}


def test_the_rounds_that_others_disturbed_least_are_kept():
    assert calmest([0.9, 0.0, 0.3, 0.05], 2) == ([1, 3], 0.05)


# ---- workloads -------------------------------------------------------------------------------


def test_counted_work_of_a_network():
    p, feeds = PRODUCT.data()
    assert count(PRODUCT.forward, p, feeds) == (2.0 * 2 * 3 * 4, 2 * 4)


def test_counted_work_of_a_strided_padded_convolution():
    layer = by_name()["conv/resnet50-224-3-to64-7x7-s2"]
    assert layer.work()[0] == 2.0 * 112 * 112 * 64 * 7 * 7 * 3


@pytest.mark.parametrize("name", [n for n, w in by_name().items() if n.startswith(("tr", "inf"))])
def test_every_network_has_work_and_a_target(name):
    workload = by_name()[name]
    assert isinstance(workload, Network)
    flops, moved = workload.work()
    assert flops > 0
    assert moved > 0
    assert workload.target is not None


def test_patterns_choose_workloads():
    every = list(by_name().values())
    assert [w.name for w in chosen(every, ["train/seed"], quick=True)] == ["train/seed-mlp"]
    assert len(chosen(every, ["gemm/1x*"], quick=False)) == 3
    assert all(w.quick for w in chosen(every, [], quick=True))


# ---- processes -------------------------------------------------------------------------------


@pytest.fixture
def numpy_side():
    side = Side(peers()["NumPy"], {"PYTHONPATH": str(ROOT)})
    yield side
    side.stop()


def test_a_worker_builds_and_answers(numpy_side):
    p, feeds = by_name()[GEMM].data()
    assert numpy_side.ask(60, "build", GEMM)["seconds"] > 0
    (output,) = numpy_side.ask(60, "outputs")
    np.testing.assert_allclose(output, feeds["x"].array @ p["w"].array, rtol=1e-5)


def test_a_worker_says_what_it_has_not(numpy_side):
    with pytest.raises(Unsupported, match="NumPy has no silu here"):
        numpy_side.ask(60, "build", "kernel/silu-100k")


def test_a_worker_reports_its_errors_and_goes_on(numpy_side):
    with pytest.raises(SideError, match="nothing is built"):
        numpy_side.ask(60, "measure", 1)
    assert numpy_side.ask(60, "build", GEMM)["seconds"] > 0


def test_a_worker_that_is_too_slow_is_stopped_and_started_again(numpy_side):
    numpy_side.ask(60, "build", GEMM)
    with pytest.raises(SideError, match="warm: no answer within 0 s"):
        numpy_side.ask(0.01, "warm", 30.0, 10)
    assert numpy_side.ask(60, "build", GEMM)["seconds"] > 0


def test_the_command_writes_a_table_and_json(tmp_path):
    target = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks", "--only", GEMM, "--peers", "NumPy"]
    # Two rounds on one thread: only the shape of the report matters here.
    command += ["--rounds", "2", "--threads", "1", "--quick", "--json", str(target)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "| 33x33x33" in done.stdout
    (row,) = json.loads(target.read_text())["rows"]
    assert set(row["sides"]) == {OURS, "NumPy"}
    assert all(len(side["seconds"]) == 2 for side in row["sides"].values())


def test_an_unknown_side_is_refused():
    command = [sys.executable, "-m", "benchmarks", "--peers", "Nobody", "--only", GEMM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no side is named 'Nobody'; there are graphflow, " in done.stderr
