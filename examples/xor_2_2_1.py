"""The 2-2-1 network, trained until its error reaches a preset threshold.

    a1 = s(W11 x1 + W12 x2 + b1),  a2 = s(W21 x1 + W22 x2 + b2),  y = s(W31 a1 + W32 a2 + b3)

The formulas of back-propagation are written out by hand and checked against the graph's gradients
before training starts.
"""

import argparse

import numpy as np

import graphflow as gf

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4")
T = np.array([[0], [1], [1], [0]], "f4")


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def gradients_by_hand(w1, b1, w2, b2):
    """dL/dW and dL/db of L = mean((y - t)²), from the chain rule."""
    a = sigmoid(X @ w1 + b1)
    y = sigmoid(a @ w2 + b2)
    d_out = 2 * (y - T) / T.size * y * (1 - y)
    d_hidden = d_out @ w2.T * a * (1 - a)
    return X.T @ d_hidden, d_hidden.sum(0), a.T @ d_out, d_out.sum(0)


def main(threshold, most_steps, seed):
    x, t = gf.placeholder(("batch", 2), name="x"), gf.placeholder(("batch", 1), name="t")
    rng = np.random.default_rng(seed)
    w1, b1 = (
        gf.variable(rng.normal(size=(2, 2)).astype("f4"), "W1"),
        gf.variable(np.zeros(2, "f4"), "b1"),
    )
    w2, b2 = (
        gf.variable(rng.normal(size=(2, 1)).astype("f4"), "W2"),
        gf.variable(np.zeros(1, "f4"), "b2"),
    )
    params = [w1, b1, w2, b2]
    y = gf.nn.sigmoid(gf.nn.sigmoid(x @ w1 + b1) @ w2 + b2)
    loss = gf.mean((y - t) ** 2)
    slopes = gf.grad(loss, params)

    check = gf.function([x, t], slopes)
    for name, got, want in zip(
        ["W1", "b1", "W2", "b2"],
        check(X, T),
        gradients_by_hand(*(p.value for p in params)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-7)
        print(f"dL/d{name}: graph and formula agree")

    train = gf.function(
        [x, t], loss, updates=[(p, p - 5.0 * g) for p, g in zip(params, slopes, strict=True)]
    )
    for step in range(most_steps):
        error = train(X, T)
        if error < threshold:
            break
    predict = gf.function([x], y)
    print(f"step {step}: error {error:.5f}, threshold {threshold}")
    print("x1 x2 -> y")
    for row, value in zip(X, predict(X).ravel(), strict=True):
        print(f" {row[0]:.0f}  {row[1]:.0f} -> {value:.3f}")
    return 0 if error < threshold else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threshold", type=float, default=1e-2)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    raise SystemExit(main(arguments.threshold, arguments.steps, arguments.seed))
