"""The folder that GRAPHFLOW_DUMP asks for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

import graphflow as gf
from graphflow.compiler.dump import dump
from graphflow.compiler.errors import GraphFormatError

ROOT = Path(__file__).parents[2]


def run_repro(folder):
    command = [sys.executable, str(folder / "repro.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_dump_holds_every_stage_and_kernel(tmp_path):
    x = gf.placeholder(("n", 2), name="x")
    total, rows = gf.scan(lambda c, v: (c + v, c), gf.zeros((2,)), x)
    branch = gf.cond(gf.sum(total) > 0, lambda: total, lambda: -total)
    f = gf.function([x], [branch, rows], name="walk me")
    with gf.config(dump=str(tmp_path)):
        f(np.ones((3, 2), "f4"))
    folder = tmp_path / "walk_me-0"
    names = sorted(p.name for p in folder.iterdir())
    assert names[0] == "000_input.txt"
    assert {"kernels", "memory.txt", "schedule.txt", "004_canonicalize.txt"} <= set(names)
    assert {p.stem for p in (folder / "kernels").iterdir()} == {k.entry for k in f.kernels}
    schedule = (folder / "schedule.txt").read_text()
    assert "loop n times" in schedule and "else" in schedule and "launch" in schedule
    assert "float32(n, 2)" in (folder / "memory.txt").read_text()


def test_the_repro_runs_the_function_again(tmp_path):
    x = gf.placeholder(("rows.in-use", 3), name="x")
    w = gf.variable(np.ones((3, 2), "f4"), name="w")
    step = gf.function([x], gf.sum(x @ w), updates=[(w, w * 0.5)], name="step")
    with gf.config(dump=str(tmp_path)):
        step.compile()
    done = run_repro(tmp_path / "step-0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("compiled and interpreted agree\n")


def test_a_repro_without_a_graph_says_why(tmp_path):
    x = gf.placeholder((2,), name="x")
    compilation = gf.function([x], gf.exp(x), name="f").compilation

    def refuse(path):
        raise GraphFormatError("it holds 'my::op'")

    done = run_repro(dump(compilation, tmp_path, refuse))
    assert done.returncode == 1
    assert "could not be saved: it holds 'my::op'" in done.stderr
    assert "gf.save" in run_repro(dump(compilation, tmp_path)).stderr
