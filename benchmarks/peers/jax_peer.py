"""JAX's side: everything under one jit, with donated state."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.operations import Operations
from benchmarks.peers.base import Peer
from benchmarks.workload import (
    BETA1,
    BETA2,
    EPSILON,
    RATE,
    Inference,
    Session,
    Training,
    Update,
)


class JaxOperations(Operations):
    side = "JAX"

    def __init__(self) -> None:
        import jax
        import jax.numpy as jnp

        self.jax, self.jnp = jax, jnp

    def matmul(self, x: Any, w: Any) -> Any:
        return x @ w

    def relu(self, x: Any) -> Any:
        return self.jax.nn.relu(x)

    def silu(self, x: Any) -> Any:
        return self.jax.nn.silu(x)

    def softmax(self, x: Any) -> Any:
        return self.jax.nn.softmax(x)

    def gelu(self, x: Any) -> Any:
        return self.jax.nn.gelu(x, approximate=False)

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * self.jax.lax.rsqrt(variance + 1e-5) * scale + offset

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0, groups: int = 1) -> Any:
        return self.jax.lax.conv_general_dilated(
            x,
            w,
            (stride, stride),
            ((padding, padding),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def depthwise(self, x: Any, w: Any, stride: int = 1, padding: int = 1) -> Any:
        return self.conv(x, w.transpose(0, 1, 3, 2), stride, padding, w.shape[2])

    def batch_norm(self, x: Any, mean: Any, variance: Any, scale: Any, offset: Any) -> Any:
        factor = scale * self.jax.lax.rsqrt(variance + 1e-5)
        return x * factor + (offset - mean * factor)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        return self.jax.lax.reduce_window(
            x,
            -self.jnp.inf,
            self.jax.lax.max,
            (1, size, size, 1),
            (1, stride, stride, 1),
            ((0, 0), (padding, padding), (padding, padding), (0, 0)),
        )

    def image_mean(self, x: Any) -> Any:
        return x.mean((1, 2))

    def dense_of_image(self, x: Any, w: Any, b: Any) -> Any:
        return x.reshape(x.shape[0], -1) @ w.reshape(-1, w.shape[-1]) + b

    def token_mean(self, x: Any) -> Any:
        return x.mean(1)

    def self_attention(self, qkv: Any, heads: int) -> Any:
        batch, tokens, triple = qkv.shape
        parts = qkv.reshape(batch, tokens, 3, heads, triple // 3 // heads)
        mixed = self.jax.nn.dot_product_attention(parts[:, :, 0], parts[:, :, 1], parts[:, :, 2])
        return mixed.reshape(batch, tokens, triple // 3)

    def lstm(self, x: Any, w: Any, u: Any, b: Any) -> Any:
        jax, jnp = self.jax, self.jnp
        zero = jnp.zeros((x.shape[1], u.shape[0]), "float32")

        def step(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ u, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        (h, _), _ = jax.lax.scan(step, (zero, zero), x @ w + b)
        return h

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        chosen = self.jnp.take_along_axis(self.jax.nn.log_softmax(logits), labels[:, None], 1)
        return -chosen.mean()


def adam(jnp: Any, state: Any, gradients: Any) -> Any:
    weights, m, v, count = state
    count = count + 1
    rate = RATE * jnp.sqrt(1 - BETA2**count) / (1 - BETA1**count)
    m = [BETA1 * a + (1 - BETA1) * g for a, g in zip(m, gradients, strict=True)]
    v = [BETA2 * a + (1 - BETA2) * g * g for a, g in zip(v, gradients, strict=True)]
    weights = [
        w - rate * a / (jnp.sqrt(b) + EPSILON) for w, a, b in zip(weights, m, v, strict=True)
    ]
    return weights, m, v, count


def _first_state(jnp: Any, arrays: list[np.ndarray]) -> Any:
    # Copies: what is donated must not be NumPy's memory.
    weights = [jnp.array(array) for array in arrays]
    return weights, [w * 0 for w in weights], [w * 0 for w in weights], jnp.float32(0)


class Jax(Peer):
    name = "JAX jit"
    modules = ("jax",)
    place = 3

    def inference(self, workload: Inference) -> Session:
        import jax
        import jax.numpy as jnp

        parameters, feeds = workload.data()
        weights = {name: jnp.asarray(p.array) for name, p in parameters.items()}
        given = {name: jnp.asarray(feed.array) for name, feed in feeds.items()}
        ops = JaxOperations()
        function = jax.jit(lambda p, given: workload.forward(ops, p, **given))
        compiled = function.lower(weights, given).compile()

        def call() -> Any:
            return compiled(weights, given).block_until_ready()

        call()
        return Session(
            call=call,
            outputs=lambda: [np.asarray(call())],
            facts={"temporary bytes": compiled.memory_analysis().temp_size_in_bytes},
        )

    def training(self, workload: Training) -> Session:
        import jax
        import jax.numpy as jnp

        parameters, feeds = workload.data()
        names = list(parameters)
        given = {name: jnp.asarray(feed.array) for name, feed in feeds.items()}
        ops = JaxOperations()

        def loss_of(weights: Any, given: Any) -> Any:
            return workload.forward(ops, dict(zip(names, weights, strict=True)), **given)

        def step(state: Any, given: Any) -> Any:
            loss, gradients = jax.value_and_grad(loss_of)(state[0], given)
            return adam(jnp, state, gradients), loss

        arrays = [p.array for p in parameters.values()]
        state = _first_state(jnp, arrays)
        compiled = jax.jit(step, donate_argnums=0).lower(state, given).compile()

        def call() -> Any:
            nonlocal state
            state, loss = compiled(state, given)
            return loss.block_until_ready()

        def reset() -> None:
            nonlocal state
            state = _first_state(jnp, arrays)

        call()
        return Session(
            call=call,
            outputs=lambda: [np.array([float(call()) for _ in range(workload.steps)])],
            reset=reset,
            facts={"temporary bytes": compiled.memory_analysis().temp_size_in_bytes},
        )

    def update(self, workload: Update) -> Session:
        import jax
        import jax.numpy as jnp

        first, gradient = workload.data()
        given = [jnp.asarray(gradient)]
        state = _first_state(jnp, [first])
        run = jax.jit(lambda state, given: adam(jnp, state, given), donate_argnums=0)

        def call() -> None:
            nonlocal state
            state = run(state, given)
            jax.block_until_ready(state)

        def reset() -> None:
            nonlocal state
            state = _first_state(jnp, [first])

        def outputs() -> list[np.ndarray]:
            for _ in range(3):
                call()
            return [np.asarray(state[0][0])]

        call()
        return Session(call=call, outputs=outputs, reset=reset)


PEERS = [Jax()]
