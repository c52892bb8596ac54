"""`graphflow demo`: a small CNN learns real handwriting, is saved, and predicts in a new process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import graphflow as gf
from graphflow.keras.datasets import digits

BATCH, EPOCHS, RATE = 32, 12, 1e-3
SHADES = " .:-=+*#%@"

_CHILD = """\
import sys, time
import numpy as np, graphflow as gf
f = gf.load(sys.argv[1])
x = np.load(sys.argv[2])
y = f(x)
np.save(sys.argv[3], y)
one = x[:1]
times = []
for _ in range(300):
    begin = time.perf_counter(); f(one); times.append(time.perf_counter() - begin)
print(f"{sorted(times)[150] * 1e6:.1f}")
"""


def build(rng: np.random.Generator) -> tuple[Any, Any, Any, list[Any]]:
    """Images, labels, logits and weights: conv 16, pool, conv 32, pool, dense 10."""

    def weight(*shape: int) -> Any:
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        return gf.variable((rng.normal(size=shape) * scale).astype("f4"))

    x = gf.placeholder(("batch", 8, 8, 1), name="image")
    t = gf.placeholder(("batch",), "int64", name="label")
    weights: list[Any] = []
    h: Any = x
    for number, (inputs, outputs) in enumerate(((1, 16), (16, 32))):
        with gf.name_scope(f"conv{number + 1}"):
            kernel, bias = weight(3, 3, inputs, outputs), gf.variable(np.zeros(outputs, "f4"))
            h = gf.nn.relu(gf.nn.conv2d(h, kernel, padding="same") + bias)
            h = gf.nn.max_pool(h, 2)
            weights += [kernel, bias]
    with gf.name_scope("dense"):
        matrix, bias = weight(128, 10), gf.variable(np.zeros(10, "f4"))
        z = gf.reshape(h, (h.shape[0], 128)) @ matrix + bias
    return x, t, z, [*weights, matrix, bias]


def training_step(x: Any, t: Any, z: Any, weights: list[Any]) -> Any:
    """One step of Adam on the cross-entropy, as a function of a batch."""
    loss = gf.mean(gf.nn.sparse_categorical_cross_entropy(t, z, from_logits=True))
    count = gf.variable(np.float32(0), name="step")
    now = count + 1
    rate = RATE * gf.sqrt(1 - 0.999**now) / (1 - 0.9**now)
    updates = [(count, now)]
    for w, g in zip(weights, gf.grad(loss, weights), strict=True):
        m, v = (gf.variable(np.zeros(w.shape, "f4")) for _ in range(2))
        new_m, new_v = m + 0.1 * (g - m), v + 0.001 * (gf.square(g) - v)
        updates += [(m, new_m), (v, new_v), (w, w - rate * new_m / (gf.sqrt(new_v) + 1e-7))]
    return gf.function([x, t], loss, updates=updates, name="train")


def run(path: str = "demo.gflow") -> int:
    """Train, report, save to `path`, and compare with a fresh process; 0 if all went well."""
    (x_train, y_train), (x_test, y_test) = digits.load_data()
    images, tests = (a[..., None].astype("f4") / 16 for a in (x_train, x_test))
    labels = y_train.astype("i8")
    print(f"digits: {len(images)} to learn from, {len(tests)} to test on (8x8, UCI, CC BY 4.0)")
    rng = np.random.default_rng(0)
    x, t, z, weights = build(rng)
    train = training_step(x, t, z, weights)
    predict = gf.function([x], gf.nn.softmax(z), name="predict")
    begin = time.perf_counter()
    train.compile()
    predict.compile()
    print(f"compiled {len(train.kernels)} + {len(predict.kernels)} kernels "
          f"in {time.perf_counter() - begin:.1f} s")  # fmt: skip
    _fit(train, images, labels, rng)
    got = predict(tests)
    accuracy = float((got.argmax(1) == y_test).mean())
    print(f"test accuracy {accuracy:.1%}")
    _show(x_test[:6], got[:6].argmax(1))
    gf.save(predict, path)
    print(f"saved {path}, {Path(path).stat().st_size:,} bytes")
    same, micros = _in_new_process(path, tests, got)
    print(f"a new process predicts {'the same' if same else 'SOMETHING ELSE'}")
    print(f"one prediction takes {micros} µs there (median, Python call included)")
    return 0 if same and accuracy >= 0.97 else 1


def _fit(train: Any, images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> None:
    steps = len(images) // BATCH
    for epoch in range(EPOCHS):
        order, begin, total = rng.permutation(len(images)), time.perf_counter(), 0.0
        for step in range(steps):
            rows = order[step * BATCH : (step + 1) * BATCH]
            total += float(train(images[rows], labels[rows]))
            if sys.stdout.isatty() and step % 8 == 0:
                done = "━" * (step * 24 // steps)
                print(f"\repoch {epoch + 1:2}/{EPOCHS} {done:<24}", end="", flush=True)
        lead = "\r" if sys.stdout.isatty() else ""
        seconds = time.perf_counter() - begin
        print(f"{lead}epoch {epoch + 1:2}/{EPOCHS} {'━' * 24} loss {total / steps:.4f}  "
              f"{seconds * 1e6 / steps:.0f} µs a step")  # fmt: skip


def _show(images: np.ndarray, labels: np.ndarray) -> None:
    """Some digits as text, with what the network says they are."""
    for row in range(8):
        line = ("".join(SHADES[min(int(p) * 10 // 17, 9)] * 2 for p in i[row]) for i in images)
        print("  " + "  ".join(line))
    print("  " + "  ".join(f"{f'-> {label}':^16}" for label in labels))


def _in_new_process(path: str, tests: np.ndarray, expected: np.ndarray) -> tuple[bool, str]:
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = Path(folder, "x.npy"), Path(folder, "y.npy")
        np.save(inputs, tests)
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, path, str(inputs), str(outputs)],
            capture_output=True,
            text=True,
            check=True,
        )
        return bool(np.array_equal(np.load(outputs), expected)), done.stdout.strip()
