"""graphflow's side, written with its public API as a user would."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any, ClassVar

import numpy as np

from benchmarks.operations import Operations
from benchmarks.peers.base import Peer
from benchmarks.workload import (
    BETA1,
    BETA2,
    EPSILON,
    OURS,
    RATE,
    Inference,
    KerasProgram,
    Network,
    Session,
    Training,
    Update,
)

_PROCESS = (
    "import sys, numpy as np, graphflow as gf; gf.load(sys.argv[1])(np.zeros((1, 784), 'f4'))"
)


class GraphflowOperations(Operations):
    side = OURS

    def __init__(self) -> None:
        import graphflow as gf

        self.gf = gf

    def matmul(self, x: Any, w: Any) -> Any:
        return x @ w

    def relu(self, x: Any) -> Any:
        return self.gf.nn.relu(x)

    def silu(self, x: Any) -> Any:
        return self.gf.nn.silu(x)

    def gelu(self, x: Any) -> Any:
        return self.gf.nn.gelu(x)

    def softmax(self, x: Any) -> Any:
        return self.gf.nn.softmax(x)

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return self.gf.nn.layer_norm(x, scale, offset)

    def image_mean(self, x: Any) -> Any:
        return self.gf.nn.global_avg_pool(x)

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
        return self.gf.nn.conv2d(x, w, strides=stride, padding=padding)

    def depthwise(self, x: Any, w: Any, stride: int = 1, padding: int = 1) -> Any:
        return self.gf.nn.depthwise_conv(x, w, strides=stride, padding=padding)

    def batch_norm(self, x: Any, mean: Any, variance: Any, scale: Any, offset: Any) -> Any:
        return self.gf.nn.batch_norm(x, mean, variance, scale, offset, epsilon=1e-5)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        return self.gf.nn.max_pool(x, size, stride, padding)

    def dense_of_image(self, x: Any, w: Any, b: Any) -> Any:
        gf = self.gf
        return gf.flatten(x, 1) @ gf.reshape(w, (-1, w.shape[-1])) + b

    def token_mean(self, x: Any) -> Any:
        return self.gf.mean(x, axis=1)

    def self_attention(self, qkv: Any, heads: int) -> Any:
        gf = self.gf
        batch, tokens, triple = qkv.shape
        parts = gf.reshape(qkv, (batch, tokens, 3, heads, triple // 3 // heads))
        q, k, v = gf.unstack(gf.permute_dims(parts, (2, 0, 3, 1, 4)), axis=0)
        mixed = gf.nn.scaled_dot_product_attention(q, k, v)
        return gf.reshape(gf.permute_dims(mixed, (0, 2, 1, 3)), (batch, tokens, triple // 3))

    def lstm(self, x: Any, w: Any, u: Any, b: Any) -> Any:
        gf = self.gf
        hidden = u.shape[0]
        zero = gf.zeros((x.shape[1], hidden))

        def step(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = gf.split(row + h @ u, 4, axis=1)
            c = gf.nn.sigmoid(f) * c + gf.nn.sigmoid(i) * gf.nn.tanh(g)
            h = gf.nn.sigmoid(o) * gf.nn.tanh(c)
            return (h, c), ()

        # The products with the inputs need no state: one large product before the loop.
        (h, _), _ = gf.scan(step, (zero, zero), x @ w + b)
        return h

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        gf = self.gf
        return gf.mean(gf.nn.sparse_categorical_cross_entropy(labels, logits, from_logits=True))


def adam(gf: Any, weights: list[Any], gradients: list[Any]) -> tuple[list[Any], list[Any]]:
    """Updates of the weights and their averages, and the variables of the optimizer."""
    count = gf.variable(np.float32(0))
    now = count + 1
    rate = RATE * gf.sqrt(1 - BETA2**now) / (1 - BETA1**now)
    updates, state = [(count, now)], [count]
    for w, g in zip(weights, gradients, strict=True):
        m, v = gf.variable(np.zeros(w.shape, "f4")), gf.variable(np.zeros(w.shape, "f4"))
        new_m, new_v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * gf.square(g)
        updates += [(m, new_m), (v, new_v), (w, w - rate * new_m / (gf.sqrt(new_v) + EPSILON))]
        state += [m, v]
    return updates, state


def _reset(variables: list[Any]) -> Any:
    first = [np.array(variable.value) for variable in variables]

    def reset() -> None:
        for variable, value in zip(variables, first, strict=True):
            variable.value = value

    return reset


class Graphflow(Peer):
    name = OURS
    modules = ("graphflow",)
    caches: ClassVar[dict[str, str]] = {"GRAPHFLOW_CACHE_DIR": "{folder}"}
    place = 0

    def _graph(self, workload: Network) -> tuple[Any, list[Any], list[Any], Any, dict[str, int]]:
        """Placeholders, variables, arrays, the result, and sizes of the symbolic dims."""
        import graphflow as gf

        parameters, feeds = workload.data()
        inputs, dims = {}, {}
        for name, feed in feeds.items():
            shape: list[Any] = list(feed.array.shape)
            if feed.batch_axis is not None:
                dims["batch"] = shape[feed.batch_axis]
                shape[feed.batch_axis] = "batch"
            inputs[name] = gf.placeholder(shape, str(feed.array.dtype), name=name)
        variables = {name: gf.variable(p.array, name) for name, p in parameters.items()}
        result = workload.forward(GraphflowOperations(), variables, **inputs)
        arrays = [feed.array for feed in feeds.values()]
        return list(inputs.values()), list(variables.values()), arrays, result, dims

    def inference(self, workload: Inference) -> Session:
        import graphflow as gf

        inputs, _, arrays, result, dims = self._graph(workload)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "network.gflow")
            gf.save(gf.function(inputs, result), path)
            function = gf.load(path)
        function(*arrays)
        return Session(
            call=lambda: function(*arrays),
            outputs=lambda: [np.asarray(function(*arrays))],
            facts={"temporary bytes": function.memory(**dims).arena},
        )

    def training(self, workload: Training) -> Session:
        import graphflow as gf

        inputs, weights, arrays, loss, dims = self._graph(workload)
        updates, state = adam(gf, weights, gf.grad(loss, weights))
        function = gf.function(inputs, loss, updates=updates)
        reset = _reset(weights + state)
        function(*arrays)
        return Session(
            call=lambda: function(*arrays),
            outputs=lambda: [np.array([function(*arrays) for _ in range(workload.steps)])],
            reset=reset,
            facts={"temporary bytes": function.memory(**dims).arena},
        )

    def update(self, workload: Update) -> Session:
        import graphflow as gf

        first, gradient = workload.data()
        w, g = gf.variable(first), gf.placeholder((workload.size,), name="g")
        updates, state = adam(gf, [w], [g])
        function = gf.function([g], updates=updates)
        reset = _reset([w, *state])

        def outputs() -> list[np.ndarray]:
            for _ in range(3):
                function(gradient)
            return [np.array(w.value)]

        return Session(call=lambda: function(gradient), outputs=outputs, reset=reset)

    def keras_program(self, workload: KerasProgram) -> Session:
        from graphflow import keras

        return workload.program(keras)

    def process(self, workload: Inference, folder: str) -> list[str]:
        import graphflow as gf

        inputs, _, arrays, result, _ = self._graph(workload)
        path = os.path.join(folder, "network.gflow")
        function = gf.function(inputs, result)
        function(*arrays)
        gf.save(function, path)
        return [sys.executable, "-c", _PROCESS, path]


PEERS = [Graphflow()]
