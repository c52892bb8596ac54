"""The folder that GRAPHFLOW_DUMP asks for."""

import numpy as np

import graphflow as gf


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
    assert {"kernels", "memory.txt", "schedule.txt", "001_canonicalize.txt"} <= set(names)
    assert {p.stem for p in (folder / "kernels").iterdir()} == {k.entry for k in f.kernels}
    schedule = (folder / "schedule.txt").read_text()
    assert "loop n times" in schedule and "else" in schedule and "launch" in schedule
    assert "float32(n, 2)" in (folder / "memory.txt").read_text()
