"""Text for people: what a function consists of, what compiling it did, what memory it takes."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphflow.compiler.dims import Size, symbols
from graphflow.compiler.dims import evaluate as size_at
from graphflow.compiler.graph import Graph
from graphflow.compiler.op import describe
from graphflow.errors import GraphError, with_line

if TYPE_CHECKING:
    from graphflow.compiler.pipeline import Compilation
    from graphflow.compiler.program import Program
    from graphflow.function import Function
    from graphflow.runtime.profile import LaunchRecord


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that a function takes for given dims.

    Attributes:
        inputs, outputs: arrays of the caller.
        variables: state between calls.
        constants: fixed arrays.
        kept: results of weights, from call to call.
        arena: the block in which all temporary values lie.
        peak_live: the largest sum of temporaries alive at once, which no plan can go below.
    """

    inputs: int
    outputs: int
    variables: int
    constants: int
    kept: int
    arena: int
    peak_live: int

    @property
    def total(self) -> int:
        given = self.inputs + self.outputs + self.variables + self.constants
        return given + self.kept + self.arena

    def __str__(self) -> str:
        rows = [(name, getattr(self, name)) for name in self.__slots__] + [("total", self.total)]
        return "\n".join(f"{name:<10}{bytes_text(value):>12}" for name, value in rows)


def memory(name: str, program: Program, graph: Graph, dims: Mapping[str, Any]) -> Memory:
    """Evaluate the memory plan of a program for sizes of its named dims."""
    expected = symbols(size for node in graph.inputs for size in node.shape)
    wrong = [d for d in dims if d not in expected] + [d for d in expected if d not in dims]
    if wrong:
        raise GraphError(
            with_line(
                f"{name}: memory({', '.join(dims)}); expected a size for each of "
                f"{', '.join(expected) or 'no dims'}"
            )
        )
    for dim, size in dims.items():
        if not isinstance(size, int) or size < 0:
            raise GraphError(with_line(f"{name}: {dim}={size!r}; expected a non-negative int"))
    env = {dim: int(size) for dim, size in dims.items()}
    layout = program.layout(env)

    def total(specs: Any) -> int:
        return sum(size_at(spec.nbytes, env) for spec in specs)

    return Memory(
        inputs=total(argument.spec for argument in program.inputs),
        outputs=total(program.outputs),
        variables=total(argument.spec for argument in program.variables),
        constants=sum(array.nbytes for array in program.constants),
        kept=sum(program.kept.values()),
        arena=layout.arena_bytes,
        peak_live=layout.peak_live_bytes,
    )


def explanation(function: Function) -> str:
    """What `Function.explain` prints."""
    graph = function.graph
    lines = [repr(function)]
    lines += [f"  input     {describe(node)}" for node in graph.inputs]
    lines += [f"  output    {describe(node)}" for node in graph.outputs]
    lines += [f"  update    {describe(node)}" for node, _ in graph.updates]
    counts = Counter(node.op.name for node in graph.nodes if not node.op.is_leaf)
    parts = ", ".join(f"{count} {name}" for name, count in counts.most_common(8))
    lines.append(f"  graph     {len(graph.nodes)} nodes: {parts}")
    if function.mode not in ("compiled", "debug"):
        return "\n".join([*lines, f"  mode      {function.mode}: nothing is compiled"])
    lines += compilation_lines(function.compilation)
    cache = function.cache_info()
    lines.append(
        f"  cache     {cache['hits']:.0f} found, {cache['compiled']:.0f} compiled, "
        f"{cache['seconds']:.2f} s"
    )
    return "\n".join(lines)


def compilation_lines(compilation: Compilation) -> list[str]:
    """Passes, kernels, work and memory of a compilation."""
    program = compilation.program
    lines = [
        f"  pass      {record.name:<16} {record.before:>5} -> {record.after:<5} "
        f"{record.seconds * 1e3:7.2f} ms{'' if record.changed else '  (unchanged)'}"
        for record in compilation.records
    ]
    lines += [f"  kernel    {kernel.name}" for kernel in program.kernels]
    constants = sum(array.nbytes for array in program.constants)
    variables = _sum(argument.spec.nbytes for argument in program.variables)
    lines += [
        f"  launches  {len(program.steps)}{_once_text(program)}",
        f"  work      {_readable(program.flops)} FLOP, {_readable(program.traffic)} bytes moved",
        f"  state     {_readable(variables)} bytes of variables, {constants} of constants",
        f"  arena     {_arena_text(program)}",
        f"  compiled  in {compilation.seconds * 1e3:.1f} ms (graph to kernel source)",
    ]
    return lines


def _once_text(program: Program) -> str:
    if not program.once:
        return ""
    kept = bytes_text(sum(program.kept.values()))
    return f", {program.once} of them only when a variable has changed ({kept} kept)"


def _arena_text(program: Program) -> str:
    dims = symbols(size for argument in program.inputs for size in argument.spec.shape)
    if not dims:
        return bytes_text(program.layout({}).arena_bytes)
    sizes = [(n, program.layout(dict.fromkeys(dims, n)).arena_bytes) for n in (1, 32)]
    return ", ".join(
        f"{bytes_text(size)} for {', '.join(f'{dim}={n}' for dim in dims)}" for n, size in sizes
    )


def _sum(sizes: Any) -> Size:
    total: Size = 0
    for size in sizes:
        total = total + size
    return total


def _readable(size: Size) -> str:
    return f"{size:,}" if isinstance(size, int) else str(size)


def bytes_text(count: int) -> str:
    """`1.5 MiB`"""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def announce(compilation: Compilation, level: int) -> None:
    """What `GRAPHFLOW_DEBUG` asks for, on stderr."""
    program = compilation.program
    if level >= 1:
        print(
            f"graphflow: {program.name}: {len(program.kernels)} kernels, {len(program.steps)} "
            f"launches, {compilation.seconds * 1e3:.1f} ms",
            file=sys.stderr,
        )
    if level >= 3:
        print("\n".join(compilation_lines(compilation)), file=sys.stderr)
    if level >= 5:
        from graphflow.compiler.printer import graph_text

        for name, graph in compilation.stages:
            print(f"# after {name}\n{graph_text(graph)}", file=sys.stderr)
    if level >= 4:
        for kernel in program.kernels:
            print(f"{kernel.header}\n{kernel.source}", file=sys.stderr)


def announce_timings(name: str, records: Sequence[LaunchRecord]) -> None:
    """Time of each launch, on stderr."""
    print(f"graphflow: {name}: launches", file=sys.stderr)
    for record in records:
        print(
            f"{record.seconds * 1e6:10.1f} us {record.share:6.1%}  {record.label}", file=sys.stderr
        )
