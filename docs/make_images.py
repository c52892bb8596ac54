"""Draws the pictures of the documentation: `python docs/make_images.py`."""

from pathlib import Path

import numpy as np

import graphflow as gf

FOLDER = Path(__file__).parent / "images"


def main():
    FOLDER.mkdir(exist_ok=True)
    x = gf.placeholder(("batch", 784), name="x")
    t = gf.placeholder(("batch",), "int64", name="t")
    w1, b1 = gf.variable(np.zeros((784, 64), "f4"), "W1"), gf.variable(np.zeros(64, "f4"), "b1")
    w2, b2 = gf.variable(np.zeros((64, 10), "f4"), "W2"), gf.variable(np.zeros(10, "f4"), "b2")
    with gf.name_scope("hidden"):
        h = gf.nn.relu(x @ w1 + b1)
    with gf.name_scope("output"):
        z = h @ w2 + b2
    gf.viz(gf.function([x], gf.nn.softmax(z), name="MLP"), FOLDER / "mlp.svg")
    loss = gf.mean(gf.nn.sparse_categorical_cross_entropy(t, z, from_logits=True))
    params = [w1, b1, w2, b2]
    updates = [(p, p - 0.1 * g) for p, g in zip(params, gf.grad(loss, params), strict=True)]
    step = gf.function([x, t], loss, updates=updates, name="training step")
    gf.viz(step, FOLDER / "training_step.svg", detail="overview")


if __name__ == "__main__":
    main()
