"""Imports go one way: graphflow -> compiler, graphflow -> runtime -> the contract."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONTRACT = {"program", "dims", "spec", "errors", "memory_plan"}
FILES = [
    file
    for folder in ("graphflow", "compiler", "runtime")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if not {"compiler", "runtime"} & set(file.relative_to(ROOT / "graphflow").parts[:1]
                                         if folder == "graphflow" else ())
]  # fmt: skip
#: Keras' own public names
ALLOWED_NAMES = {"graphflow/keras/utils.py"}


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ids(file):
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", FILES, ids=ids)
def test_imports_go_one_way(file):
    room = file.relative_to(ROOT).parts[0]
    for name in imported(file):
        parts = name.split(".")
        assert parts[0] not in ("compiler", "runtime"), f"import graphflow.{name} instead"
        if parts[0] != "graphflow" or room == "graphflow" or len(parts) < 2:
            continue
        if room == "compiler":
            assert parts[1] == "compiler", f"{file.name} imports {name}"
        else:
            contract = parts[1] == "compiler" and (len(parts) == 2 or parts[2] in CONTRACT)
            assert parts[1] == "runtime" or contract, f"{file.name} imports {name}"


@pytest.mark.parametrize("file", FILES, ids=ids)
def test_files_stay_readable(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 600
    plain = file.stem not in ("utils", "common", "misc", "helpers")
    assert plain or ids(file) in ALLOWED_NAMES


#: what a test may assert with; `near` is an assert_allclose of its own file
ASSERTING = {"raises", "warns", "fail", "near"}


def asserts(function):
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ASSERTING or name.startswith("assert_"):
                return True
    return False


@pytest.mark.parametrize("file", sorted((ROOT / "tests").rglob("test_*.py")), ids=ids)
def test_every_test_asserts_something(file):
    functions = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    tests = [f for f in functions if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
    assert [test.name for test in tests if not asserts(test)] == []
