"""Graphs to draw: small, deep, wide, with scopes, with bodies, and two training steps."""

from __future__ import annotations

import random

import numpy as np

import graphflow as gf


def five_nodes():
    a, b = gf.placeholder((3,), name="a"), gf.placeholder((3,), name="b")
    return a * b + gf.exp(a)


def mlp(scoped=True):
    """Input, labels, logits and variables of 784-64-64-10."""
    x, t = gf.placeholder(("batch", 784), name="x"), gf.placeholder(("batch",), "int64", name="t")
    weights, h = [], x
    for number, (rows, columns) in enumerate(((784, 64), (64, 64), (64, 10)), 1):
        w = gf.variable(np.zeros((rows, columns), "f4"), f"W{number}")
        b = gf.variable(np.zeros(columns, "f4"), f"b{number}")
        weights += [w, b]
        with gf.name_scope(f"layer{number}" if scoped else ""):
            h = h @ w + b
            h = gf.nn.relu(h) if number < 3 else h
    return x, t, h, weights


def forward():
    x, _, z, _ = mlp()
    return gf.function([x], gf.nn.softmax(z), name="MLP", mode="interpret")


def adam_step(scoped=True):
    """Slots m and v for each variable, and one step count that all updates read."""
    x, t, z, weights = mlp(scoped)
    loss = gf.mean(gf.nn.sparse_categorical_cross_entropy(t, z, from_logits=True))
    step = gf.variable(np.float32(0), "step")
    now = step + 1
    rate = 1e-3 * gf.sqrt(1 - 0.999**now) / (1 - 0.9**now)
    updates = [(step, now)]
    for w, g in zip(weights, gf.grad(loss, weights), strict=True):
        m, v = (gf.variable(np.zeros(w.shape, "f4"), f"{k}_{w.name}") for k in "mv")
        new_m, new_v = m + 0.1 * (g - m), v + 0.001 * (gf.square(g) - v)
        updates += [(m, new_m), (v, new_v), (w, w - rate * new_m / (gf.sqrt(new_v) + 1e-7))]
    return gf.function([x, t], loss, updates=updates, name="step", mode="interpret")


def control():
    xs, flip = gf.placeholder(("time", 8), name="xs"), gf.placeholder((), "bool", name="flip")
    w, h0 = gf.variable(np.zeros((8, 8), "f4"), "W"), gf.variable(np.zeros(8, "f4"), "h0")

    def cell(h, x):
        h = gf.tanh(x @ w + h * 0.5)
        return h, h * h

    last, rows = gf.scan(cell, h0, xs)
    y = gf.cond(flip, lambda: gf.sum(rows), lambda: gf.sum(last * 2))
    return gf.function([xs, flip], [y, rows], name="control", mode="interpret")


def random_graph(count, scopes=0, seed=0):
    """`count` ops, each of one or two earlier values; all that none reads are outputs."""
    chance = random.Random(seed)
    values = [gf.placeholder((4,), name=f"x{k}") for k in range(3)]
    read = set()
    for _ in range(count):
        with gf.name_scope(f"s{chance.randrange(scopes)}" if scopes else ""):
            a, b = (values[-1 - min(len(values) - 1, int(chance.expovariate(0.15)))] for _ in "ab")
            inputs = [a] if chance.random() < 0.4 else [a, b]
            read.update(value.node for value in inputs)
            values.append(gf.tanh(a) if len(inputs) == 1 else gf.maximum(a, b))
    return [value for value in values if value.node not in read]
