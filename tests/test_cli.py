"""The commands as a user types them: output, exit codes, one-line errors."""

import numpy as np
import pytest

import graphflow as gf
from graphflow.cli import main


@pytest.fixture
def saved(tmp_path):
    x = gf.placeholder(("batch", 3), name="x")
    path = tmp_path / "double.gflow"
    gf.save(gf.function([x], x * 2.0, name="double"), path)
    return str(path)


def test_inspect(saved, capsys):
    assert main(["inspect", saved]) == 0
    out = capsys.readouterr().out
    assert "double" in out and "x: float32(batch, 3)" in out and "multiply 1" in out


@pytest.mark.parametrize("batch", [[], ["--batch", "2"]])
def test_run(saved, tmp_path, batch):
    source, target = tmp_path / "x.npy", tmp_path / "y.npy"
    data = np.arange(15, dtype="f4").reshape(5, 3)
    np.save(source, data)
    assert main(["run", saved, "--input", f"x={source}", "--output", str(target), *batch]) == 0
    np.testing.assert_array_equal(np.load(target), data * 2)


def test_viz(saved, tmp_path, capsys):
    picture = tmp_path / "g.svg"
    assert main(["viz", saved, "-o", str(picture)]) == 0
    assert picture.read_text().startswith(("<svg", "<?xml"))
    assert main(["viz", saved]) == 0
    assert "multiply" in capsys.readouterr().out


def test_bench(saved, capsys):
    assert main(["bench", saved, "--dims", "batch=1,8", "--seconds", "0.01"]) == 0
    assert capsys.readouterr().out.count("median") == 2


def test_doctor_and_cache(capsys):
    assert main(["doctor"]) == 0
    assert "compile and run" in capsys.readouterr().out
    assert main(["cache", "stats"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["inspect", "absent.gflow"], 1),
        (["run", "m.onnx"], 2),
        (["inspect"], 2),
        (["nothing"], 2),
    ],
)
def test_exit_codes(arguments, code, capsys):
    try:
        got = main(arguments)
    except SystemExit as stop:
        got = stop.code
    assert got == code
    assert "Traceback" not in capsys.readouterr().err


def test_bad_dims_and_truncated_file(saved, tmp_path, capsys):
    assert main(["bench", saved, "--dims", "width=3"]) == 2
    cut = tmp_path / "cut.gflow"
    with open(saved, "rb") as file:
        cut.write_bytes(file.read()[:-5])
    assert main(["run", str(cut)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


def test_demo(tmp_path, capsys):
    assert main(["demo", "-o", str(tmp_path / "demo.gflow")]) == 0
    out = capsys.readouterr().out
    assert "predicts the same" in out and "test accuracy 9" in out
