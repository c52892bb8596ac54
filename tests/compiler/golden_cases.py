"""One small function for each family of kernels, and all that the compiler makes of it as text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import graphflow as gf
from graphflow.compiler.dump import memory_text, schedule_text
from graphflow.compiler.pipeline import compile_graph
from graphflow.compiler.printer import graph_text
from graphflow.compiler.target import Target

#: kernel text must not depend on the machine that the tests run on
TARGET = Target(vector_bits=256, registers=16)


def ramp(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype="f4").reshape(shape)


def map_() -> gf.Function:
    x, y = gf.placeholder(("n", "m"), name="x"), gf.placeholder(("n", "m"), name="y")
    scale = gf.placeholder(("m",), name="scale")
    z = gf.exp(x - y) * scale
    return gf.function([x, y, scale], [z, gf.swapaxes(z, 0, 1)[1:, ::2]])


def rows() -> gf.Function:
    x = gf.placeholder(("batch", 10), name="x")
    return gf.function([x], [gf.nn.softmax(x), gf.argmax(x, axis=1)])


def columns() -> gf.Function:
    x = gf.placeholder(("batch", 64), name="x")
    mean = gf.mean(x, axis=0)
    return gf.function([x], [mean, gf.mean(x * x, axis=0) - mean * mean])


def matmul() -> gf.Function:
    x = gf.placeholder(("batch", 96), name="x")
    w, b = gf.variable(ramp(96, 40), name="w"), gf.variable(ramp(40), name="b")
    return gf.function([x], gf.nn.relu(x @ w + b))


def conv() -> gf.Function:
    x = gf.placeholder(("batch", 14, 14, 8), name="x")
    w, b = gf.variable(ramp(3, 3, 8, 16), name="w"), gf.variable(ramp(16), name="b")
    return gf.function([x], gf.nn.relu(gf.nn.conv2d(x, w, padding="same") + b))


def conv_gradients() -> gf.Function:
    x = gf.placeholder(("batch", 14, 14, 8), name="x")
    w = gf.variable(ramp(3, 3, 8, 16), name="w")
    y = gf.nn.conv2d(x, w, padding="same")
    return gf.function([x], gf.grad(gf.sum(y * y), [x, w]))


def pool() -> gf.Function:
    x = gf.placeholder(("batch", 8, 8, 4), name="x")
    y = gf.nn.max_pool(x, 2)
    return gf.function([x], [y, gf.grad(gf.sum(y * y), x)])


def scan() -> gf.Function:
    x = gf.placeholder(("time", 4), name="x")
    w = gf.variable(ramp(4, 4), name="w")

    def cell(h: gf.Tensor, row: gf.Tensor) -> tuple[gf.Tensor, gf.Tensor]:
        h = gf.tanh(h @ w + row)
        return h, gf.sum(h)

    last, sums = gf.scan(cell, gf.zeros((1, 4)), x)
    return gf.function([x], [last, sums])


def cond() -> gf.Function:
    x = gf.placeholder((6,), name="x")
    y = gf.cond(gf.sum(x) > 0, lambda: gf.sqrt(x), lambda: x * x)
    return gf.function([x], y * 2)


def random() -> gf.Function:
    gf.random.seed(1)
    x = gf.placeholder(("n",), name="x")
    mask = gf.random.uniform((x.shape[0],)) > 0.5
    return gf.function([x], [gf.where(mask, x * 2, 0), gf.random.permutation(8)])


def gather_scatter() -> gf.Function:
    table = gf.variable(ramp(10, 4), name="table")
    rows = gf.placeholder(("n",), "int64", name="rows")
    picked = gf.take(table, rows, axis=0)
    slope = gf.grad(gf.sum(picked * picked), table)
    return gf.function([rows], picked, updates=[(table, table - slope * 0.1)])


def training_step() -> gf.Function:
    x, y = gf.placeholder(("batch", 12), name="x"), gf.placeholder(("batch", 3), name="y")
    w = gf.variable(ramp(12, 3), name="w")
    speed = gf.variable(np.zeros((12, 3), "f4"), name="speed")
    loss = gf.mean(gf.square(x @ w - y))
    faster = speed * 0.9 + gf.grad(loss, w)
    return gf.function([x, y], loss, updates=[(speed, faster), (w, w - faster * 0.1)])


CASES: dict[str, Callable[[], gf.Function]] = {
    "map": map_,
    **{
        case.__name__: case
        for case in (
            rows, columns, matmul, conv, conv_gradients, pool, scan, cond, random, gather_scatter,
            training_step,
        )
    },
}  # fmt: skip


def compiled_text(name: str, target: Target = TARGET) -> str:
    """The final graph, schedule, buffers and kernels of a case."""
    compilation = compile_graph(CASES[name]().graph, name, check=True, target=target)
    program = compilation.program
    parts = {
        "graph": graph_text(compilation.stages[-1][1], sources=False),
        "schedule": schedule_text(program),
        "buffers": memory_text(program),
        **{kernel.entry: kernel.source for kernel in program.kernels},
    }
    return "\n".join(f"---- {title} ----\n{text.strip()}\n" for title, text in parts.items())


def all_texts() -> dict[str, str]:
    return {name: compiled_text(name) for name in CASES}
