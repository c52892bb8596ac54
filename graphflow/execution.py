"""A graph and a mode in, the callable that runs it out; here are the plain ways of running."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from graphflow import report
from graphflow.compiler.dump import dump
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.interpreter import evaluate
from graphflow.config import config
from graphflow.io.gflow import write_graph
from graphflow.variable import storage_of, write_storage

if TYPE_CHECKING:
    from graphflow.compiler.pipeline import Compilation
    from graphflow.runtime.profile import LaunchRecord

Arrays = list[np.ndarray]
Runner = Callable[[Arrays], Arrays]


def make_runner(graph: Graph, name: str, mode: str) -> Runner:
    """The runner of a mode."""
    if mode == "compiled":
        return CompiledRunner(graph, name)
    if mode == "interpret":
        return InterpretedRunner(graph)
    # Imported late: they are made of what stands below.
    if mode == "debug":
        from graphflow.debugging import DebugRunner

        return DebugRunner(graph, name)
    from graphflow.nanguard import NaNGuardRunner

    return NaNGuardRunner(graph, name)


def run_many(
    runner: Runner, stacks: Arrays, count: int, keep_all: bool, order: np.ndarray | None
) -> Arrays:
    """See `Executor.run_loop`; runners without native code are called many times."""
    if isinstance(runner, CompiledRunner):
        return runner.run_loop(stacks, count, keep_all, order)
    kept: list[Arrays] = []
    for number in range(count):
        rows = number if order is None else order[number]
        results = runner([stack[rows, ...] for stack in stacks])
        if keep_all:
            kept.append(results)
    return [np.stack(column) for column in zip(*kept, strict=True)] if keep_all else results


class InterpretedRunner:
    """Every op by its NumPy reference."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self._lock = threading.Lock()

    def __call__(self, arrays: Arrays) -> Arrays:
        with self._lock:
            outputs, updated = evaluate(self.graph, arrays, stored_values(self.graph))
            # An output may be a view of an input or of a variable that is written below.
            results = [np.array(array, order="C") for array in outputs]
            store(updated)
        return results


def stored_values(graph: Graph) -> dict[Node, np.ndarray]:
    """The present value of every variable of a graph."""
    return {node: storage_of(node) for node in graph.variables}


def copied_values(graph: Graph) -> dict[Node, np.ndarray]:
    """The present values of the variables that a graph writes, to put them back with `store`."""
    return {node: storage_of(node).copy() for node, _ in graph.updates}


def store(updated: Mapping[Node, np.ndarray]) -> None:
    """Write new values into the variables; none is written before all are copied."""
    copies = [(node, np.array(value)) for node, value in updated.items()]
    for node, value in copies:
        write_storage(node, value)


class CompiledRunner:
    """Kernels, walked by the native driver."""

    def __init__(self, graph: Graph, name: str):
        from graphflow.compiler.pipeline import compile_graph
        from graphflow.runtime.executor import Executor

        self.compilation: Compilation = compile_graph(
            graph, name, without=config.passes, check=config.check
        )
        report.announce(self.compilation, config.debug)
        if config.dump:
            values = stored_values(graph)
            dump(self.compilation, config.dump, partial(write_graph, graph=graph, values=values))
        self.final: Graph = self.compilation.stages[-1][1]
        self.executor = Executor(
            self.compilation.program,
            [storage_of(node) for node in self.final.variables],
            threads=config.num_threads or None,
        )
        self._show_timings = config.debug >= 2
        #: the first calls of a function that tells its timings go through `__call__`
        self.direct = None if self._show_timings else self.executor.direct

    @property
    def compiled(self) -> CompiledRunner:
        return self

    def __call__(self, arrays: Arrays) -> Arrays:
        self._tell_timings(arrays)
        return self.executor(arrays)

    def run_loop(
        self, stacks: Arrays, count: int, keep_all: bool, order: np.ndarray | None
    ) -> Arrays:
        """See `Executor.run_loop`."""
        if self._show_timings:
            rows = 0 if order is None else order[0]
            self._tell_timings([stack[rows, ...] for stack in stacks])
        return self.executor.run_loop(stacks, count, keep_all, order)

    def _tell_timings(self, arrays: Arrays) -> None:
        if self._show_timings:
            self._show_timings = False
            report.announce_timings(self.compilation.program.name, self.profile(arrays))

    def profile(self, arrays: Arrays) -> list[LaunchRecord]:
        """Timings by launch, over several runs; the variables are put back afterwards."""
        before = copied_values(self.final)
        try:
            return self.executor.profile(arrays)
        finally:
            store(before)

    def cache_info(self) -> Any:
        """What the kernel cache did for this function."""
        return self.executor.cache_info()
