"""A compilation in, a folder to read out: IR after each pass, schedule, memory, kernels, repro."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from graphflow.compiler.dims import symbols
from graphflow.compiler.errors import GraphFormatError
from graphflow.compiler.printer import graph_text
from graphflow.compiler.program import Branch, Copy, Launch, Loop, Program, Step

if TYPE_CHECKING:
    from graphflow.compiler.pipeline import Compilation


#: runs the saved graph again; `{...}` are filled in by `repro_text`
REPRO = '''\
"""Runs the dumped function again, compiled and by the interpreter, and compares."""

import sys
from pathlib import Path

import numpy as np

import graphflow as gf

SAVED = Path(__file__).with_name("graph.gflow")
DIMS = {dims}

if not SAVED.exists():
    sys.exit({missing})


def run(mode):
    """Outputs, then the new values of the variables."""
    function = gf.load(SAVED, mode=mode)
    rng = np.random.default_rng(0)
    # Numbers below 1: integers become 0, which is an index that every axis has.
    feeds = [rng.random(x.spec.concrete_shape(DIMS)).astype(x.dtype) for x in function.inputs]
    results = function(*feeds) or []
    print(f"{{mode}}: {{results}}")
    return [*results, *(v.value for v in function.variables)]


for got, expected in zip(run("compiled"), run("interpret"), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
print("compiled and interpreted agree")
'''


def dump(
    compilation: Compilation,
    folder: str | os.PathLike[str],
    save: Callable[[Path], None] | None = None,
) -> Path:
    """Write `<folder>/<function>-<number>/`; earlier dumps stay.

    Files: 000_input.txt, 001_<pass>.txt, ... (IR), schedule.txt, memory.txt, kernels/<entry>.py,
    and repro.py, which runs graph.gflow.

    Args:
        save: writes the user's graph to a path (the compiler knows no file format). If it refuses
            the graph, repro.py says why instead.

    Returns:
        The new folder.
    """
    program = compilation.program
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", program.name)
    number = 0
    while (target := Path(folder, f"{safe}-{number}")).exists():
        number += 1
    (target / "kernels").mkdir(parents=True)
    for position, (name, graph) in enumerate(compilation.stages):
        (target / f"{position:03}_{name}.txt").write_text(graph_text(graph), encoding="utf-8")
    (target / "schedule.txt").write_text(schedule_text(program), encoding="utf-8")
    (target / "memory.txt").write_text(memory_text(program), encoding="utf-8")
    for kernel in program.kernels:
        text = kernel.header + kernel.source
        (target / "kernels" / f"{kernel.entry}.py").write_text(text, encoding="utf-8")
    missing = "graph.gflow is not here; write it with gf.save(function, path)"
    if save is not None:
        try:
            save(target / "graph.gflow")
        except GraphFormatError as error:
            missing = f"the graph could not be saved: {error}"
    (target / "repro.py").write_text(repro_text(program, missing), encoding="utf-8")
    return target


def repro_text(program: Program, missing: str) -> str:
    """A script that runs the saved graph with small sizes, or exits with the text `missing`."""
    arguments = (*program.inputs, *program.variables)
    names = symbols(size for argument in arguments for size in argument.spec.shape)
    dims = {name: size for size, name in enumerate(names, 2)}
    return REPRO.format(dims=repr(dims), missing=repr(missing))


def schedule_text(program: Program) -> str:
    """One line per step, bodies of loops and branches indented."""
    lines = _step_lines(program, program.steps[program.once :], "")
    if program.once:
        once = _step_lines(program, program.steps[: program.once], "    ")
        lines = ["if a variable has changed", *once, *lines]
    return "\n".join(lines) + "\n"


def _step_lines(program: Program, steps: tuple[Step, ...], indent: str) -> list[str]:
    lines = []
    for step in steps:
        if isinstance(step, Launch):
            entry = program.kernels[step.kernel].entry
            buffers = ", ".join(f"b{number}" for number in step.buffers)
            lines.append(f"{indent}launch {entry}({buffers}) over {step.extent}, cost {step.cost}")
        elif isinstance(step, Copy):
            lines.append(f"{indent}copy b{step.source} -> b{step.target}")
        elif isinstance(step, Loop):
            rows = ", ".join(f"b{s.buffer} = row of b{s.base}" for s in step.sliced)
            lines.append(f"{indent}loop {step.count} times: {rows}")
            lines += _step_lines(program, step.body, indent + "    ")
        elif isinstance(step, Branch):
            lines.append(f"{indent}if b{step.predicate}")
            lines += _step_lines(program, step.then, indent + "    ")
            lines.append(f"{indent}else")
            lines += _step_lines(program, step.otherwise, indent + "    ")
    return lines


def memory_text(program: Program) -> str:
    """One line per buffer: kind, spec, first and last step."""
    lines = []
    for number, buffer in enumerate(program.buffers):
        life = f" alive {buffer.lifetime[0]}..{buffer.lifetime[1]}" if buffer.lifetime else ""
        alias = f" is b{buffer.alias}" if buffer.alias is not None else ""
        lines.append(f"b{number}: {buffer.kind} {buffer.slot} {buffer.spec}{alias}{life}")
    return "\n".join(lines) + "\n"
