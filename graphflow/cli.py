"""The `graphflow` command: look at saved graphs, run, draw and time them; the demo; the cache.

Exit codes: 0 it worked, 1 it failed (one line says why), 2 the call was wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import graphflow as gf
from graphflow.errors import GraphError


class UsageError(Exception):
    """The call was wrong: exit code 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the console entry point."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except UsageError as error:
        print(f"graphflow: {error}", file=sys.stderr)
        return 2
    except (GraphError, ValueError, IndexError, OSError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"graphflow: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("graphflow: interrupted", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="graphflow", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    demo = command("demo", _demo, "train on real digits, save, reload, time a prediction")
    demo.add_argument("-o", "--output", default="demo.gflow", help="file to save to")
    inspect = command("inspect", _inspect, "inputs, dims, ops, parameters, sizes of a file")
    inspect.add_argument("file")
    run = command("run", _run, "run a saved function on arrays")
    run.add_argument("file")
    run.add_argument("--input", action="append", default=[], metavar="NAME=FILE.npy")
    run.add_argument("--output", action="append", default=[], metavar="FILE.npy")
    run.add_argument("--batch", type=int, help="rows at a time, along axis 0 of every input")
    run.add_argument("--threads", type=int)
    viz = command("viz", _viz, "draw a saved graph: .svg, .html, .dot, .mmd or .txt")
    viz.add_argument("file")
    viz.add_argument("-o", "--output", help="file to write; text on the screen without it")
    viz.add_argument("--detail", choices=("full", "ops", "overview"))
    bench = command("bench", _bench, "time a saved function on random arrays")
    bench.add_argument("file")
    bench.add_argument("--dims", action="append", default=[], metavar="NAME=1,32")
    bench.add_argument("--seconds", type=float, default=1.0)
    bench.add_argument("--threads", type=int)
    cache = command("cache", _cache, "the kernel cache")
    cache.add_argument("action", choices=("stats", "clear"))
    command("doctor", _doctor, "what this machine has, and what is missing")
    return parser


# ---- files -----------------------------------------------------------------------------------


def _load(args: argparse.Namespace) -> Any:
    if getattr(args, "threads", None) is not None:
        if args.threads < 1:
            raise UsageError(f"--threads {args.threads}: expected at least 1")
        os.environ["GRAPHFLOW_NUM_THREADS"] = str(args.threads)
    return gf.load(_checked(args.file))


def _checked(path: str) -> str:
    if path.endswith(".onnx"):
        raise UsageError(f"{path}: ONNX files cannot be read by this version; give a .gflow file")
    return path


def _demo(args: argparse.Namespace) -> int:
    from graphflow import demo

    return demo.run(args.output)


def _inspect(args: argparse.Namespace) -> None:
    from graphflow.io import check

    found = check(_checked(args.file))
    print(
        f"{args.file}: {found.name}, format {found.format}, opset {found.opset}, {found.producer}"
    )
    for name, spec in found.inputs:
        print(f"  input    {name}: {spec}")
    for spec in found.outputs:
        print(f"  output   {spec}")
    print(f"  dims     {', '.join(found.dims) or 'all static'}")
    print(f"  weights  {found.parameters:,} parameters, {found.state:,} other state")
    print(f"  updates  {found.updates}")
    print(f"  size     {found.file_bytes:,} bytes, {found.tensor_bytes:,} of them tensors")
    ops = sorted(found.ops.items(), key=lambda item: (-item[1], item[0]))
    print(f"  ops      {found.nodes}: " + ", ".join(f"{name} {count}" for name, count in ops))
    for key, value in found.metadata.items():
        print(f"  {key}: {value if len(value) <= 80 else value[:77] + '...'}")
    print(f"  sha256   {found.digest}")


def _run(args: argparse.Namespace) -> None:
    function = _load(args)
    arrays = {}
    for text in args.input:
        name, _, path = text.partition("=")
        if not path:
            raise UsageError(f"--input {text}: expected NAME=FILE.npy")
        arrays[name] = np.load(path, allow_pickle=False)
    results = _batched(function, arrays, args.batch)
    if args.output and len(args.output) != len(results):
        raise UsageError(f"{len(args.output)} --output files for {len(results)} outputs")
    for number, value in enumerate(results):
        if args.output:
            np.save(args.output[number], value)
            print(f"{args.output[number]}: {value.dtype}{value.shape}")
        else:
            print(np.array2string(np.asarray(value), threshold=100))


def _batched(function: Any, arrays: dict[str, np.ndarray], batch: int | None) -> list[np.ndarray]:
    """Outputs in order; with `batch`, of slices along axis 0, joined."""
    from graphflow.structure import flatten_structure

    if batch is None:
        return flatten_structure(function(**arrays))
    rows = {len(a) for a in arrays.values() if a.ndim}
    if batch < 1 or len(rows) != 1 or function.graph.updates:
        raise UsageError("--batch needs a positive number, inputs of equal length and no updates")
    (total,) = rows
    parts = []
    for at in range(0, total, batch):
        part = {name: a[at : at + batch] for name, a in arrays.items()}
        parts.append(flatten_structure(function(**part)))
        if sys.stderr.isatty():
            print(f"\r{min(at + batch, total)}/{total}", end="", file=sys.stderr, flush=True)
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _viz(args: argparse.Namespace) -> None:
    function = gf.load(_checked(args.file), mode="interpret")
    if args.output is None:
        print(gf.viz(function, format="text", detail=args.detail))
        return
    gf.viz(function, args.output, detail=args.detail)
    print(f"{args.output}: {Path(args.output).stat().st_size:,} bytes")


def _bench(args: argparse.Namespace) -> None:
    function = _load(args)
    for env in _environments(args.dims, function):
        rng = np.random.default_rng(0)
        arrays = [_random(rng, node.spec, env) for node in function.graph.inputs]
        function(*arrays)
        times: list[float] = []
        begin = time.perf_counter()
        while time.perf_counter() - begin < args.seconds or len(times) < 5:
            at = time.perf_counter()
            function(*arrays)
            times.append(time.perf_counter() - at)
        times.sort()
        dims = ", ".join(f"{name}={value}" for name, value in env.items()) or "static"
        print(
            f"{dims}: median {times[len(times) // 2] * 1e6:.1f} µs, "
            f"min {times[0] * 1e6:.1f} µs, {len(times)} calls"
        )


def _environments(options: Sequence[str], function: Any) -> list[dict[str, int]]:
    from itertools import product

    from graphflow.compiler.dims import symbols

    names = symbols(size for node in function.graph.inputs for size in node.shape)
    choices: dict[str, list[int]] = {name: [1] for name in names}
    for text in options:
        name, _, values = text.partition("=")
        if name not in choices or not all(v.isdigit() for v in values.split(",")):
            raise UsageError(f"--dims {text}: expected one of {', '.join(names)}, as {name}=1,32")
        choices[name] = [int(v) for v in values.split(",")]
    return [dict(zip(choices, row, strict=True)) for row in product(*choices.values())]


def _random(rng: np.random.Generator, spec: Any, env: dict[str, int]) -> np.ndarray:
    shape = spec.concrete_shape(env)
    if spec.dtype.startswith("float"):
        return rng.normal(size=shape).astype(spec.dtype)
    # 0 is in range for any index.
    return np.zeros(shape, spec.dtype)


# ---- machine ---------------------------------------------------------------------------------


def _cache(args: argparse.Namespace) -> None:
    from graphflow.runtime import cache

    if args.action == "clear":
        cache.clear()
        print("the kernel cache is empty")
        return
    for key, value in cache.usage().items():
        print(f"{key}: {value}")


def _doctor(args: argparse.Namespace) -> None:
    import importlib.metadata
    import platform

    from graphflow.runtime import cache, jit, threads

    print(f"graphflow {gf.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for package in ("numpy", "numba", "llvmlite", "networkx"):
        print(f"  {package} {importlib.metadata.version(package)}")
    name, features = jit.host()
    wide = [f for f in ("avx512f", "avx2", "neon", "fma") if f"+{f}" in features.split(",")]
    print(f"  cpu      {name}: {', '.join(wide) or 'no vector unit that graphflow knows'}")
    print(f"  threads  {threads.usable_threads()}")
    for key, value in cache.usage().items():
        print(f"  cache    {key}: {value}")
    x = gf.placeholder(("n",), name="x")
    got = gf.function([x], gf.sum(gf.exp(x)))(np.zeros(8, "f4"))
    print(f"  kernels  {'compile and run' if got == 8 else 'GIVE WRONG RESULTS'}")
    print("  cuda     not built yet in this version")


if __name__ == "__main__":
    sys.exit(main())
