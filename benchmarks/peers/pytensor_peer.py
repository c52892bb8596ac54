"""PyTensor's side, with its Numba backend."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from benchmarks.operations import Operations
from benchmarks.peers.base import Peer
from benchmarks.workload import (
    BETA1,
    BETA2,
    EPSILON,
    RATE,
    Inference,
    Network,
    Session,
    Training,
    Update,
)

_FLAGS = "floatX=float32,mode=NUMBA"


class PytensorOperations(Operations):
    side = "PyTensor"

    def __init__(self) -> None:
        import pytensor.tensor as pt

        self.pt = pt

    def matmul(self, x: Any, w: Any) -> Any:
        return x @ w

    def relu(self, x: Any) -> Any:
        return self.pt.maximum(x, np.float32(0))

    def silu(self, x: Any) -> Any:
        return x * self.pt.sigmoid(x)

    def softmax(self, x: Any) -> Any:
        return self.pt.special.softmax(x, axis=-1)

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        pt = self.pt
        centred = x - x.mean(-1, keepdims=True, dtype="float32")
        variance = (centred * centred).mean(-1, keepdims=True, dtype="float32")
        return centred / pt.sqrt(variance + np.float32(1e-5)) * scale + offset

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        pt = self.pt
        rows = pt.arange(labels.shape[0])
        return -pt.special.log_softmax(logits, axis=1)[rows, labels].mean(dtype="float32")


def adam(weights: list[Any], gradients: list[Any]) -> tuple[list[Any], list[Any]]:
    """Updates, and the variables of the optimizer."""
    import pytensor
    import pytensor.tensor as pt

    one, count = np.float32(1), pytensor.shared(np.float32(0))
    now = count + one
    rate = np.float32(RATE) * pt.sqrt(one - np.float32(BETA2) ** now)
    rate = rate / (one - np.float32(BETA1) ** now)
    updates, state = [(count, now)], [count]
    for w, g in zip(weights, gradients, strict=True):
        m, v = (pytensor.shared(w.get_value() * 0) for _ in range(2))
        new_m = np.float32(BETA1) * m + np.float32(1 - BETA1) * g
        new_v = np.float32(BETA2) * v + np.float32(1 - BETA2) * g * g
        move = rate * new_m / (pt.sqrt(new_v) + np.float32(EPSILON))
        updates += [(m, new_m), (v, new_v), (w, w - move)]
        state += [m, v]
    return updates, state


def _reset(variables: list[Any]) -> Any:
    first = [variable.get_value() for variable in variables]

    def reset() -> None:
        for variable, value in zip(variables, first, strict=True):
            variable.set_value(value)

    return reset


class Pytensor(Peer):
    name = "PyTensor (Numba)"
    modules = ("pytensor",)
    environment: ClassVar[dict[str, str]] = {"PYTENSOR_FLAGS": _FLAGS}
    caches: ClassVar[dict[str, str]] = {
        "PYTENSOR_FLAGS": _FLAGS + ",base_compiledir={folder}",
        "NUMBA_CACHE_DIR": "{folder}",
    }
    place = 4

    def _graph(self, workload: Network) -> tuple[list[Any], dict[str, Any], list[Any], Any]:
        import pytensor

        parameters, feeds = workload.data()
        inputs = {
            name: pytensor.tensor.tensor(name, dtype=f.array.dtype, shape=(None,) * f.array.ndim)
            for name, f in feeds.items()
        }
        weights = {name: pytensor.shared(p.array) for name, p in parameters.items()}
        result = workload.forward(PytensorOperations(), weights, **inputs)
        return list(inputs.values()), weights, [f.array for f in feeds.values()], result

    def inference(self, workload: Inference) -> Session:
        import pytensor

        inputs, _, arrays, result = self._graph(workload)
        function = pytensor.function(inputs, result, trust_input=True)
        function(*arrays)
        return Session(
            call=lambda: function(*arrays),
            outputs=lambda: [np.asarray(function(*arrays))],
        )

    def training(self, workload: Training) -> Session:
        import pytensor

        inputs, named, arrays, loss = self._graph(workload)
        weights = list(named.values())
        updates, state = adam(weights, pytensor.grad(loss, weights))
        function = pytensor.function(inputs, loss, updates=updates, trust_input=True)
        reset = _reset(weights + state)
        function(*arrays)
        return Session(
            call=lambda: function(*arrays),
            outputs=lambda: [np.array([float(function(*arrays)) for _ in range(workload.steps)])],
            reset=reset,
        )

    def update(self, workload: Update) -> Session:
        import pytensor

        first, gradient = workload.data()
        w, g = pytensor.shared(first), pytensor.tensor.fvector("g")
        updates, state = adam([w], [g])
        function = pytensor.function([g], updates=updates, trust_input=True)
        reset = _reset([w, *state])

        def outputs() -> list[np.ndarray]:
            for _ in range(3):
                function(gradient)
            return [w.get_value()]

        return Session(call=lambda: function(gradient), outputs=outputs, reset=reset)


PEERS = [Pytensor()]
