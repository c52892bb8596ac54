"""The order of the compiler: a graph in, a Program out, each stage with the reason for its place."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from graphflow.compiler.errors import GraphError
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.passes.canonicalize import canonicalize
from graphflow.compiler.passes.cse import cse
from graphflow.compiler.passes.fold_affine import fold_affine
from graphflow.compiler.passes.fold_constants import fold_constants
from graphflow.compiler.passes.fuse import FusedGraph, fuse
from graphflow.compiler.passes.hoist_products import hoist_products
from graphflow.compiler.passes.lower_conv import lower_conv
from graphflow.compiler.passes.lower_vectors import lower_vectors
from graphflow.compiler.passes.merge_scans import merge_scans
from graphflow.compiler.passes.simplify import simplify
from graphflow.compiler.passes.split_reductions import split_reductions
from graphflow.compiler.program import Launch, Program
from graphflow.compiler.schedule import Origin, schedule
from graphflow.compiler.target import Target, host_target
from graphflow.compiler.verify import check_graph, check_program


@dataclass(frozen=True)
class Pass:
    """A named Graph -> Graph function; `needed` ones cannot be switched off."""

    run: Callable[[Graph], Graph]
    needed: bool = False

    @property
    def name(self) -> str:
        return self.run.__name__


def optimize_bodies(graph: Graph) -> Graph:
    """Run the passes on the bodies of control flow, the innermost ones first."""

    def replace_bodies(node: Node, inputs: tuple[Node, ...]) -> Node:
        bodies = {k: v for k, v in node.attrs.items() if isinstance(v, Graph)}
        if not bodies:
            return rebuild(node, inputs)
        # In a body, what depends on weights alone is not done once.
        better = {
            name: optimize(body, without=("fold_affine",))[0][-1][1]
            for name, body in bodies.items()
        }
        if inputs == node.inputs and all(better[name] is bodies[name] for name in bodies):
            return node
        return node.op(*inputs, name=node.name, **{**node.attrs, **better})

    return graph.rewrite(replace_bodies)


PASSES: tuple[Pass, ...] = (
    # First, so that loops that compute alike look alike, and products in them stand by themselves.
    Pass(optimize_bodies, needed=True),
    # Before hoist_products, which needs the rows that a replay keeps only where they are used.
    Pass(merge_scans),
    # Before the others, which then see what came out of the loops.
    Pass(hoist_products),
    # One form for each meaning, so that the passes after it match fewer patterns.
    Pass(canonicalize),
    # Behind canonicalize, before fold_constants: of constants, the new weights are one as well. Before
    # lower_conv, which makes a product or a sum of some convolutions.
    Pass(fold_affine),
    # Before simplify: folded subgraphs show it the zeros and ones.
    Pass(fold_constants),
    Pass(simplify),
    # Templates know a few forms of convolution; the padding it adds can be merged below.
    Pass(lower_conv, needed=True),
    Pass(canonicalize),
    # Before split_reductions, which cuts the sums that this pass makes.
    Pass(lower_vectors),
    # After simplify, which knows whole reductions; before cse, since neighbours share first steps.
    Pass(split_reductions),
    # Last, since every rewrite above makes equal nodes.
    Pass(cse),
)

#: a pass may not make a graph larger than this many times its size plus a constant
MOST_GROWTH, GROWTH_ALLOWANCE = 8, 1000


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: seconds, and the number of nodes before and after."""

    name: str
    seconds: float
    before: int
    after: int
    changed: bool


@dataclass(frozen=True)
class Compilation:
    """A Program with the graphs that it came from.

    Attributes:
        stages: (pass name, graph after it), beginning with ("input", the user's graph).
        fused: the partition into kernels.
        origins: the nodes that each launch computes.
    """

    program: Program
    stages: tuple[tuple[str, Graph], ...]
    fused: FusedGraph
    origins: Mapping[Launch, Origin]
    records: tuple[PassRecord, ...]
    seconds: float


def pass_names() -> list[str]:
    """The passes that can be switched off, with `fuse` and `once` behind them."""
    return [*dict.fromkeys(p.name for p in PASSES if not p.needed), "fuse", "once"]


def optimize(
    graph: Graph, without: Collection[str] = (), check: bool = False
) -> tuple[list[tuple[str, Graph]], list[PassRecord]]:
    """Run the passes; see Compilation.stages.

    Args:
        without: names of passes to leave out ("all" for every one that can be).
        check: verify the graph after each pass.
    """
    unknown = set(without) - set(pass_names()) - {"all"}
    if unknown:
        raise GraphError(
            f"no pass is named {', '.join(sorted(unknown))}; there are {', '.join(pass_names())}"
        )
    stages, records = [("input", graph)], []
    for item in PASSES:
        if not item.needed and (item.name in without or "all" in without):
            continue
        begin, before = time.perf_counter(), len(graph.nodes)
        result = item.run(graph)
        seconds, after = time.perf_counter() - begin, len(result.nodes)
        records.append(PassRecord(item.name, seconds, before, after, result is not graph))
        if after > before * MOST_GROWTH + GROWTH_ALLOWANCE and not item.needed:
            # Growth of this kind is a bug of the pass; its input is still right.
            records[-1] = replace(records[-1], changed=False, after=before)
            continue
        if check:
            check_graph(result, item.name)
        graph = result
        stages.append((item.name, graph))
    return stages, records


def compile_graph(
    graph: Graph,
    name: str = "function",
    without: Collection[str] = (),
    check: bool | None = None,
    target: Target | None = None,
) -> Compilation:
    """Compile `graph` down to kernel source and a launch schedule.

    Args:
        without: passes to leave out, for bisecting; see `optimize`.
        check: verify after each pass, and the program; by default if the environment says
            GRAPHFLOW_CHECK=1.
        target: the machine to compile for, by default this one.
    """
    begin = time.perf_counter()
    check = os.environ.get("GRAPHFLOW_CHECK", "0") == "1" if check is None else check
    if check:
        check_graph(graph, "input")
    stages, records = optimize(graph, without, check)
    final = stages[-1][1]
    at = time.perf_counter()
    left_out = pass_names() if "all" in without else without
    fused = fuse(final, enabled="fuse" not in left_out, once="once" not in left_out)
    records.append(
        PassRecord("fuse", time.perf_counter() - at, len(final.nodes), len(fused.groups), True)
    )
    at = time.perf_counter()
    program, origins = schedule(fused, name, target or host_target())
    records.append(
        PassRecord(
            "schedule", time.perf_counter() - at, len(fused.groups), len(program.steps), True
        )
    )
    program = replace(program, checks=graph.checks)
    if check:
        check_program(program)
    seconds = time.perf_counter() - begin
    return Compilation(program, tuple(stages), fused, origins, tuple(records), seconds)
