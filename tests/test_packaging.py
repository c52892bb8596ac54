"""The list of packages is complete, and importing graphflow stays light."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk():
    found = set()
    for folder, name in (("graphflow", "graphflow"), ("compiler", "graphflow.compiler"),
                         ("runtime", "graphflow.runtime")):  # fmt: skip
        base = ROOT / folder
        for file in base.rglob("__init__.py"):
            parts = file.parent.relative_to(base).parts
            if folder != "graphflow" or not {"compiler", "runtime"} & set(parts[:1]):
                found.add(".".join((name, *parts)))
    return found


def test_every_package_is_listed():
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_data_files_are_listed():
    data = PROJECT["tool"]["setuptools"]["package-data"]
    listed = {
        file
        for package, patterns in data.items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    kinds = {".css", ".js", ".npz", ".typed", ".md"}
    present = {
        file for file in (ROOT / "graphflow").rglob("*") if file.suffix in kinds
        or file.name == "py.typed"
    }  # fmt: skip
    assert present == listed


def test_the_checkout_reaches_compiler_and_runtime_through_links():
    for name in ("compiler", "runtime"):
        assert (ROOT / "graphflow" / name).resolve() == ROOT / name


def test_importing_graphflow_loads_no_compiler_toolchain():
    code = (
        "import sys, graphflow\n"
        "heavy = {'numba', 'networkx', 'scipy', 'llvmlite'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
