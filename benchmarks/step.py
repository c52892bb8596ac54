"""`python -m benchmarks.step`: one training step of the seed's MLP, beside the peers.

784-64-64-10, relu, cross-entropy, Adam, batch 32, float32, two threads. All sides start from the
same weights; their losses must agree over five steps before anything is timed. Then they run in
turns, round by round, so that a noisy machine is noisy for all; ratios come from the medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

THREADS = 2
SIZES = (784, 64, 64, 10)
BATCH, RATE, BETA1, BETA2, EPSILON = 32, 1e-3, 0.9, 0.999, 1e-7

Step = Callable[[np.ndarray, np.ndarray], float]


def first_weights() -> list[np.ndarray]:
    """The same start for every side: matrix, bias, matrix, bias, ..."""
    rng = np.random.default_rng(0)
    weights = []
    for inputs, outputs in itertools.pairwise(SIZES):
        weights.append((rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)).astype("f4"))
        weights.append(np.zeros(outputs, "f4"))
    return weights


def build_graphflow() -> Step:
    import graphflow as gf

    x = gf.placeholder(("batch", 784), name="x")
    t = gf.placeholder(("batch",), "int64", name="t")
    weights = [gf.variable(w) for w in first_weights()]
    h = x
    for k in range(0, len(weights), 2):
        h = h @ weights[k] + weights[k + 1]
        h = gf.nn.relu(h) if k + 2 < len(weights) else h
    loss = gf.mean(gf.nn.sparse_categorical_cross_entropy(t, h, from_logits=True))
    count = gf.variable(np.float32(0))
    now = count + 1
    rate = RATE * gf.sqrt(1 - BETA2**now) / (1 - BETA1**now)
    updates = [(count, now)]
    for w, g in zip(weights, gf.grad(loss, weights), strict=True):
        m, v = gf.variable(np.zeros(w.shape, "f4")), gf.variable(np.zeros(w.shape, "f4"))
        new_m, new_v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * gf.square(g)
        updates += [(m, new_m), (v, new_v), (w, w - rate * new_m / (gf.sqrt(new_v) + EPSILON))]
    return gf.function([x, t], loss, updates=updates)


def build_torch(compiled: bool) -> Step:
    import torch

    torch.set_num_threads(THREADS)
    weights = [torch.tensor(w, requires_grad=True) for w in first_weights()]
    # Adam as Keras writes it: epsilon outside the bias correction.
    m, v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    count = torch.zeros(())

    def forward(x, t):  # type: ignore[no-untyped-def]
        h = x
        for k in range(0, len(weights), 2):
            h = torch.addmm(weights[k + 1], h, weights[k])
            h = torch.relu(h) if k + 2 < len(weights) else h
        return torch.nn.functional.cross_entropy(h, t)

    def step(x, t):  # type: ignore[no-untyped-def]
        loss = forward(x, t)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            count.add_(1)
            rate = RATE * torch.sqrt(1 - BETA2**count) / (1 - BETA1**count)
            torch._foreach_lerp_(m, gradients, 1 - BETA1)
            torch._foreach_mul_(v, BETA2)
            torch._foreach_addcmul_(v, gradients, gradients, 1 - BETA2)
            bottom = torch._foreach_sqrt(v)
            torch._foreach_add_(bottom, EPSILON)
            move = torch._foreach_div(m, bottom)
            torch._foreach_mul_(move, rate)
            torch._foreach_sub_(weights, move)
        return loss

    run = torch.compile(step) if compiled else step
    return lambda x, t: float(run(torch.from_numpy(x), torch.from_numpy(t)).detach())


def build_jax() -> Step:
    import jax
    import jax.numpy as jnp

    def loss_of(weights, x, t):  # type: ignore[no-untyped-def]
        h = x
        for k in range(0, len(weights), 2):
            h = h @ weights[k] + weights[k + 1]
            h = jax.nn.relu(h) if k + 2 < len(weights) else h
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), t[:, None], axis=1))

    def step(state, x, t):  # type: ignore[no-untyped-def]
        weights, m, v, count = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, t)
        count = count + 1
        rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        m = [BETA1 * a + (1 - BETA1) * g for a, g in zip(m, gradients, strict=True)]
        v = [BETA2 * a + (1 - BETA2) * g * g for a, g in zip(v, gradients, strict=True)]
        weights = [
            w - rate * a / (jnp.sqrt(b) + EPSILON) for w, a, b in zip(weights, m, v, strict=True)
        ]
        return (weights, m, v, count), loss

    jitted = jax.jit(step, donate_argnums=0)
    weights = [jnp.asarray(w) for w in first_weights()]
    state = (weights, [w * 0 for w in weights], [w * 0 for w in weights], jnp.float32(0))

    def run(x: np.ndarray, t: np.ndarray) -> float:
        nonlocal state
        state, loss = jitted(state, x, t)
        return float(loss)

    return run


def build_pytensor() -> Step:
    import pytensor
    import pytensor.tensor as pt

    pytensor.config.floatX = "float32"
    x, t = pt.fmatrix("x"), pt.lvector("t")
    weights = [pytensor.shared(w) for w in first_weights()]
    h = x
    for k in range(0, len(weights), 2):
        h = h @ weights[k] + weights[k + 1]
        h = pt.maximum(h, np.float32(0)) if k + 2 < len(weights) else h
    picked = pt.special.log_softmax(h, axis=1)[pt.arange(t.shape[0]), t]
    loss = -picked.mean(dtype="float32")
    count = pytensor.shared(np.float32(0))
    now = count + np.float32(1)
    one = np.float32(1)
    rate = np.float32(RATE) * pt.sqrt(one - np.float32(BETA2) ** now)
    rate = rate / (one - np.float32(BETA1) ** now)
    updates = [(count, now)]
    for w, g in zip(weights, pytensor.grad(loss, weights), strict=True):
        m, v = (pytensor.shared(w.get_value() * 0) for _ in range(2))
        new_m = np.float32(BETA1) * m + np.float32(1 - BETA1) * g
        new_v = np.float32(BETA2) * v + np.float32(1 - BETA2) * g * g
        move = rate * new_m / (pt.sqrt(new_v) + np.float32(EPSILON))
        updates += [(m, new_m), (v, new_v), (w, w - move)]
    function = pytensor.function([x, t], loss, updates=updates, mode="NUMBA")
    return lambda x, t: float(function(x, t))


SIDES: dict[str, Callable[[], Step]] = {
    "graphflow": build_graphflow,
    "PyTensor (Numba)": build_pytensor,
    "JAX jit": build_jax,
    "PyTorch eager": lambda: build_torch(False),
    "torch.compile": lambda: build_torch(True),
}


def build_all(only: list[str]) -> tuple[dict[str, Step], dict[str, str]]:
    """The sides that are installed, and why the others are not here."""
    built, missing = {}, {}
    for name, build in SIDES.items():
        if only and name not in only:
            continue
        try:
            built[name] = build()
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
    return built, missing


def check_losses(steps: dict[str, Step], x: np.ndarray, t: np.ndarray) -> None:
    """Five steps on every side from the same weights."""
    losses = {name: [float(step(x, t)) for _ in range(5)] for name, step in steps.items()}
    expected = losses["graphflow"]
    for name, values in losses.items():
        np.testing.assert_allclose(values, expected, rtol=2e-4, err_msg=name)


def measure(
    steps: dict[str, Step], x: np.ndarray, t: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Seconds a step, one number per round and side."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(50):
            step(x, t)
    for _ in range(rounds):
        for name, step in steps.items():
            for _ in range(5):
                step(x, t)
            begin = time.perf_counter()
            for _ in range(100):
                step(x, t)
            times[name].append((time.perf_counter() - begin) / 100)
    return times


_FIRST_CALL = """\
import time
import numpy as np
from benchmarks.step import BATCH, build_graphflow
begin = time.perf_counter()
build_graphflow()(np.zeros((BATCH, 784), "f4"), np.zeros(BATCH, "i8"))
print(time.perf_counter() - begin)
"""

_SAVE = """\
import sys
import numpy as np, graphflow as gf
from benchmarks.step import first_weights
x = gf.placeholder(("batch", 784), name="x")
a, b, c, d, e, f = map(gf.variable, first_weights())
h = gf.nn.relu(gf.nn.relu(x @ a + b) @ c + d) @ e + f
predict = gf.function([x], gf.nn.softmax(h))
predict(np.zeros((1, 784), "f4"))
gf.save(predict, sys.argv[1])
"""

_PREDICT = (
    "import sys, numpy as np, graphflow as gf; gf.load(sys.argv[1])(np.zeros((1, 784), 'f4'))"
)


def starts() -> dict[str, float]:
    """Seconds of the first call with an empty cache, and of a warm process that predicts once."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GRAPHFLOW_CACHE_DIR": folder}

        def python(code: str, *arguments: str) -> str:
            command = [sys.executable, "-c", code, *arguments]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=True
            ).stdout

        first = float(python(_FIRST_CALL))
        path = str(Path(folder, "mlp.gflow"))
        python(_SAVE, path)
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            python(_PREDICT, path)
            times.append(time.perf_counter() - begin)
    return {"first call, empty cache": first, "warm process": statistics.median(times)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", action="append", default=[], choices=list(SIDES))
    parser.add_argument("--json", help="also write the numbers to this file")
    arguments = parser.parse_args()
    os.environ.setdefault("GRAPHFLOW_NUM_THREADS", str(THREADS))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(BATCH, 784)).astype("f4")
    t = rng.integers(0, 10, BATCH)
    steps, missing = build_all(arguments.only)
    check_losses(steps, x, t)
    times = measure(steps, x, t, arguments.rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    peers = {name: value for name, value in medians.items() if name != "graphflow"}
    best = min(peers.values(), default=float("nan"))
    print("| training step | median | min | max | of the best peer |\n|---|---|---|---|---|")
    for name, value in medians.items():
        low, high = min(times[name]) * 1e6, max(times[name]) * 1e6
        print(f"| {name} | {value * 1e6:.1f} µs | {low:.1f} | {high:.1f} | {value / best:.2f} |")
    for name, why in missing.items():
        print(f"| {name} | {why} | | | |")
    others = starts()
    for name, seconds in others.items():
        print(f"{name}: {seconds:.2f} s")
    if arguments.json:
        Path(arguments.json).write_text(
            json.dumps({"step": times, "missing": missing, **others}, indent=1)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
