"""The ways of running a graph: compiled, interpreted, compared with each other, watched for NaN."""

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
from graphflow.compiler.op import describe
from graphflow.compiler.spec import is_float
from graphflow.config import config
from graphflow.errors import GraphError, NaNError, VerificationError, with_line
from graphflow.io.gflow import write_graph
from graphflow.variable import storage_of

if TYPE_CHECKING:
    from graphflow.compiler.pipeline import Compilation
    from graphflow.compiler.program import Launch
    from graphflow.runtime.profile import LaunchRecord

Arrays = list[np.ndarray]
Runner = Callable[[Arrays], Arrays]


def make_runner(graph: Graph, name: str, mode: str) -> Runner:
    """The runner of a mode."""
    if mode == "compiled":
        return CompiledRunner(graph, name)
    if mode == "interpret":
        return InterpretedRunner(graph)
    if mode == "debug":
        return DebugRunner(graph, name)
    return NaNGuardRunner(graph, name)


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
        np.copyto(storage_of(node), value)


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
        if self._show_timings:
            self._show_timings = False
            report.announce_timings(self.compilation.program.name, self.profile(arrays))
        return self.executor(arrays)

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


# ---- debug -----------------------------------------------------------------------------------


class DebugRunner:
    """Compares the graph after each pass, and the compiled code, with the user's graph."""

    def __init__(self, graph: Graph, name: str):
        self.graph = graph
        self.name = name
        self.compiled = CompiledRunner(graph, name)
        self._lock = threading.Lock()

    def __call__(self, arrays: Arrays) -> Arrays:
        with self._lock:
            written = copied_values(self.graph)
            before = {**stored_values(self.graph), **written}
            outputs, updated = evaluate(self.graph, arrays, before)
            for stage, graph in self.compiled.compilation.stages[1:]:
                got, got_updates = evaluate(graph, arrays, before)
                self._compare(f"pass {stage}", outputs, got, updated, got_updates)
            results = self.compiled(arrays)
            stored = {node: storage_of(node) for node in updated}
            try:
                self._compare("the compiled code", outputs, results, updated, stored)
            except VerificationError as error:
                store(written)
                raise VerificationError(f"{error}\n  {self._blame(arrays, written)}") from None
        return results

    def _blame(self, arrays: Arrays, written: Mapping[Node, np.ndarray]) -> str:
        """The first launch whose result is none of the interpreter's; the variables stay."""
        final = self.compiled.final
        expected: dict[tuple[str, str], list[np.ndarray]] = {}

        def remember(node: Node, _: Any, value: Any) -> None:
            for part in value if isinstance(value, tuple) else (value,):
                expected.setdefault((node.label, node.source), []).append(part.copy())

        evaluate(final, arrays, stored_values(final), remember)
        notes = self.compiled.compilation.program.notes
        wrong: list[str] = []

        def observe(launch: Launch, touched: Mapping[int, np.ndarray]) -> None:
            for note in (notes[number] for number in launch.nodes):
                candidates = expected.get((note.name, note.source))
                if wrong or candidates is None or note.buffer is None:
                    continue
                if note.buffer not in touched:
                    continue
                got = touched[note.buffer].ravel()
                if all(mismatch(candidate.ravel(), got) for candidate in candidates):
                    wrong.append(f"launch {launch.label}: {note.name} [{note.source}]")

        try:
            self.compiled.executor.step_through(arrays, observe)
        except GraphError as error:
            return f"the launch was not looked for: {error}"
        finally:
            store(written)
        return f"first wrong in {wrong[0]}" if wrong else "every launch alone agrees"

    def _compare(
        self,
        what: str,
        outputs: Arrays,
        got: Arrays,
        updated: Mapping[Node, np.ndarray],
        got_updates: Mapping[Node, np.ndarray],
    ) -> None:
        for number, (expected, value) in enumerate(zip(outputs, got, strict=True)):
            node = self.graph.outputs[number]
            self._same(what, f"output {number}", node, expected, value)
        values = dict(self.graph.updates)
        for target, expected in updated.items():
            label = f"the update of {target.name or 'a variable'}"
            self._same(what, label, values[target], expected, got_updates[target])

    def _same(self, what: str, label: str, node: Node, expected: Any, value: Any) -> None:
        if difference := mismatch(np.asarray(expected), np.asarray(value)):
            raise VerificationError(
                f"{self.name}: {what} changes {label}: {difference}\n  {describe(node)}\n"
                "  please report this; GRAPHFLOW_PASSES=<pass> leaves a pass out"
            )


def mismatch(expected: np.ndarray, got: np.ndarray) -> str:
    """How two arrays differ beyond rounding; empty where they do not."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return f"{got.dtype}{got.shape} where the interpreter has {expected.dtype}{expected.shape}"
    if not is_float(expected.dtype.name):
        wrong = expected != got
    else:
        # Sums are taken in another order, so errors scale with the largest element.
        finite = expected[np.isfinite(expected)]
        scale = float(np.abs(finite).max(initial=0.0))
        tolerance = 2e-4 if expected.dtype == np.float32 else 1e-9
        wrong = ~np.isclose(got, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{got[at]!r} where the interpreter has {expected[at]!r}, at {at}, {wrong.sum()} in all"


# ---- nanguard --------------------------------------------------------------------------------


class NaNGuardRunner:
    """Interprets; where a result has a NaN, finds the op that made it and stores nothing."""

    def __init__(self, graph: Graph, name: str):
        self.graph = graph
        self.name = name
        self._lock = threading.Lock()

    def __call__(self, arrays: Arrays) -> Arrays:
        with self._lock:
            variables = stored_values(self.graph)
            outputs, updated = evaluate(self.graph, arrays, variables)
            if any(map(_has_nan, (*outputs, *updated.values()))):
                self._report(arrays, variables)
            results = [np.array(array, order="C") for array in outputs]
            store(updated)
        return results

    def _report(self, arrays: Arrays, variables: Mapping[Node, np.ndarray]) -> None:
        """Run again keeping all values, and walk from the bad result back to where it began."""
        values: dict[Node, Any] = dict(zip(self.graph.inputs, arrays, strict=True))
        values |= variables
        evaluate(self.graph, arrays, variables, lambda node, _, value: values.update({node: value}))
        node = next(root for root in self.graph.roots if _has_nan(values[root]))
        while bad := [value for value in node.inputs if _has_nan(values[value])]:
            node = bad[0]
        raise NaNError(with_line(f"{self.name}: {_nan_text(node, values)}"))


def _has_nan(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_nan, value))
    return value.dtype.kind == "f" and bool(np.isnan(value).any())


def _nan_text(node: Node, values: Mapping[Node, Any]) -> str:
    parts = values[node] if isinstance(values[node], tuple) else (values[node],)
    array = next(part for part in parts if _has_nan(part))
    bad = np.isnan(array)
    at = tuple(int(i) for i in np.argwhere(bad)[0])
    count = f"{int(bad.sum())} of {array.size} elements, first at {at}"
    line = f" [{node.source}]" if node.source else ""
    if node.op.is_leaf:
        return f"{node.op.name} {node.name or ''}{line} holds a NaN already: {count}"
    inputs = "\n".join(
        f"  {describe(value)}, {_range_text(values[value])}" for value in node.inputs[:3]
    )
    return (
        f"{node.label}{line} made a NaN: {count}; no variable was changed. Guard its inputs, for "
        f"example with gf.clip or gf.where\n{inputs}"
    )


def _range_text(value: Any) -> str:
    if isinstance(value, tuple) or not value.size:
        return "empty" if not isinstance(value, tuple) else "several results"
    if value.dtype.kind != "f":
        return f"{value.min()} to {value.max()}"
    return f"{value.min():.4g} to {value.max():.4g}"
