"""The examples run as scripts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import graphflow as gf

ROOT = Path(__file__).parents[1]


def run(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_xor_reaches_its_threshold():
    done = run("examples/xor_2_2_1.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agree") == 4


def test_inference_of_a_saved_file(tmp_path):
    x = gf.placeholder(("batch", 5), name="x")
    path = tmp_path / "m.gflow"
    gf.save(gf.function([x], gf.nn.softmax(x)), path)
    done = run("examples/inference.py", str(path))
    assert done.returncode == 0, done.stderr
    assert "[0 0 0 0]" in done.stdout


def test_digits_cnn_learns_and_is_loaded_again():
    done = run("examples/digits_cnn.py", "3")
    assert done.returncode == 0, done.stderr
    assert "accuracy 0.9" in done.stdout and "predicts the same: True" in done.stdout


def test_every_example_is_described():
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    scripts = {p.name for p in (ROOT / "examples").glob("*.py")} - {"mnist_or_digits.py"}
    assert {name for name in scripts if name not in text} == set()


@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "examples").glob("seed_*.py")))
def test_seed_programs(script):
    done = run(f"examples/{script}")
    assert done.returncode == 0, done.stderr
