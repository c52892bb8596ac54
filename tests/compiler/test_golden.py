"""The text that the compiler makes of each family of kernels is the one that was reviewed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphflow.compiler import pipeline
from graphflow.compiler.target import Target
from tests.compiler.golden_cases import CASES, TARGET, all_texts, compiled_text

GOLDEN = Path(__file__).with_name("golden")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", CASES)
def test_the_text_is_the_reviewed_one(name, request):
    path, text = GOLDEN / f"{name}.txt", compiled_text(name)
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == known, f"run pytest --update-golden {Path(__file__).name} and review the diff"


def test_every_golden_file_belongs_to_a_case():
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def test_two_compilations_give_the_same_text():
    assert all_texts() == all_texts()


def test_the_text_does_not_depend_on_the_seed_of_hashes():
    code = "import json; from tests.compiler.golden_cases import all_texts; "
    code += "print(json.dumps(all_texts()))"
    found = []
    for seed in "01":
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
            timeout=120,
        )
        found.append(json.loads(done.stdout))
    assert found[0] == found[1] == all_texts()


def test_the_text_does_not_depend_on_this_machine(monkeypatch):
    def nobody_asks():
        raise AssertionError("the host was asked for, with a target given")

    monkeypatch.setattr(pipeline, "host_target", nobody_asks)
    assert set(all_texts()) == set(CASES)


@pytest.mark.parametrize("name", ["matmul", "conv", "conv_gradients"])
def test_templates_are_written_for_the_target(name):
    wide, narrow = Target(512, 32), Target(128, 16)
    assert len({compiled_text(name, target) for target in (wide, TARGET, narrow)}) == 3


def test_loop_nests_are_the_same_for_every_target():
    for name in ("map", "rows", "columns", "gather_scatter"):
        assert compiled_text(name, Target(512, 32)) == compiled_text(name)
