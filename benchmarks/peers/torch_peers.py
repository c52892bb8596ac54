"""PyTorch's two sides: eager and torch.compile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from benchmarks.operations import Operations
from benchmarks.peers.base import Peer
from benchmarks.workload import (
    BETA1,
    BETA2,
    EPSILON,
    RATE,
    Feed,
    Inference,
    Network,
    Parameter,
    Session,
    Training,
    Update,
)


class TorchOperations(Operations):
    side = "PyTorch"

    def __init__(self) -> None:
        import torch

        self.torch, self.nn = torch, torch.nn.functional

    def matmul(self, x: Any, w: Any) -> Any:
        return x @ w

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        return self.torch.addmm(b, x, w) if x.ndim == 2 else self.nn.linear(x, w.t(), b)

    def relu(self, x: Any) -> Any:
        return self.torch.relu(x)

    def silu(self, x: Any) -> Any:
        return self.nn.silu(x)

    def gelu(self, x: Any) -> Any:
        return self.nn.gelu(x)

    def bias(self, b: Any) -> Any:
        return b[:, None, None]

    def softmax(self, x: Any) -> Any:
        return self.torch.softmax(x, -1)

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return self.nn.layer_norm(x, scale.shape, scale, offset, 1e-5)

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
        return self.nn.conv2d(x, w, stride=stride, padding=padding)

    def depthwise(self, x: Any, w: Any, stride: int = 1, padding: int = 1) -> Any:
        return self.nn.conv2d(x, w, stride=stride, padding=padding, groups=w.shape[0])

    def batch_norm(self, x: Any, mean: Any, variance: Any, scale: Any, offset: Any) -> Any:
        return self.nn.batch_norm(x, mean, variance, scale, offset, eps=1e-5)

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        return self.nn.max_pool2d(x, size, stride, padding)

    def image_mean(self, x: Any) -> Any:
        return x.mean((2, 3))

    def dense_of_image(self, x: Any, w: Any, b: Any) -> Any:
        return self.torch.addmm(b, x.flatten(1), w.flatten(0, 2))

    def token_mean(self, x: Any) -> Any:
        return x.mean(1)

    def self_attention(self, qkv: Any, heads: int) -> Any:
        batch, tokens, triple = qkv.shape
        parts = qkv.view(batch, tokens, 3, heads, triple // 3 // heads).permute(2, 0, 3, 1, 4)
        mixed = self.nn.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return mixed.transpose(1, 2).reshape(batch, tokens, triple // 3)

    def lstm(self, x: Any, w: Any, u: Any, b: Any) -> Any:
        zero = self.torch.zeros(1, x.shape[1], u.shape[0])
        # The fused operator behind torch.nn.LSTM; its second bias is zero.
        weights = [w.t(), u.t(), b, self.torch.zeros_like(b)]
        is_training = self.torch.is_grad_enabled()
        _, h, _ = self.torch.lstm(x, (zero, zero), weights, True, 1, 0.0, is_training, False, False)
        return h[0]

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        return self.nn.cross_entropy(logits, labels)


def _tensor(item: Feed | Parameter, channels_last: bool) -> Any:
    import torch

    array = item.array
    order = {"HWIO": (3, 2, 0, 1), "HWC1": (2, 3, 0, 1), "HWCO": (2, 0, 1, 3)}
    if item.layout in order:
        array = array.transpose(order[item.layout])
    if item.layout == "NHWC":
        array = array.transpose(0, 3, 1, 2)
    tensor = torch.from_numpy(np.array(array, order="C"))
    if channels_last and item.layout in ("HWIO", "HWC1", "NHWC"):
        tensor = tensor.to(memory_format=torch.channels_last)
    return tensor


def _array(tensor: Any, layout: str) -> np.ndarray:
    array = tensor.detach().numpy()
    return array.transpose(0, 2, 3, 1) if layout == "NHWC" else array


def _faster(build: Callable[[bool], Session], has_images: bool) -> Session:
    """The session with the faster memory format."""
    if not has_images:
        return build(False)
    sessions = [build(False), build(True)]
    seconds = []
    for session in sessions:
        for _ in range(3):
            session.call()
        begin = time.perf_counter()
        for _ in range(5):
            session.call()
        seconds.append(time.perf_counter() - begin)
        session.reset()
    return sessions[seconds.index(min(seconds))]


class Eager(Peer):
    name = "PyTorch eager"
    modules = ("torch",)
    place = 1

    def start(self) -> None:
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def _built(self, workload: Network, build: Callable[[Any, Any, Any, Any], Session]) -> Session:
        parameters, feeds = workload.data()

        def variant(channels_last: bool) -> Session:
            ops = TorchOperations()
            p = {name: _tensor(item, channels_last) for name, item in parameters.items()}
            given = {name: _tensor(item, channels_last) for name, item in feeds.items()}
            forward = workload.forward
            return build(lambda **x: forward(ops, p, **x), p, given, workload)

        return _faster(variant, any(f.layout == "NHWC" for f in feeds.values()))

    def inference(self, workload: Inference) -> Session:
        return self._built(workload, self._inference)

    def _inference(self, forward: Any, p: Any, given: Any, workload: Inference) -> Session:
        import torch

        run = self.compiled(forward)

        def call() -> Any:
            with torch.inference_mode():
                return run(**given)

        call()
        return Session(call=call, outputs=lambda: [_array(call(), workload.output_layout)])

    def training(self, workload: Training) -> Session:
        return self._built(workload, self._training)

    def _training(self, forward: Any, p: Any, given: Any, workload: Training) -> Session:
        import torch

        weights = [w.requires_grad_() for w in p.values()]
        first = [w.detach().clone() for w in weights]
        optimizer = self.optimizer(weights)
        loss_of = self.compiled(forward)

        def step() -> Any:
            loss = loss_of(**given)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return loss

        def reset() -> None:
            with torch.no_grad():
                for w, value in zip(weights, first, strict=True):
                    w.copy_(value)
            optimizer.forget()

        step()
        return Session(
            call=step,
            outputs=lambda: [np.array([float(step().detach()) for _ in range(workload.steps)])],
            reset=reset,
        )

    def optimizer(self, weights: list[Any]) -> Any:
        return FusedAdam(weights)

    def update(self, workload: Update) -> Session:
        import torch

        start, gradient = workload.data()
        w = torch.from_numpy(start.copy()).requires_grad_()
        w.grad = torch.from_numpy(gradient)
        optimizer = self.optimizer([w])

        def reset() -> None:
            with torch.no_grad():
                w.copy_(torch.from_numpy(start))
            optimizer.forget()

        def outputs() -> list[np.ndarray]:
            for _ in range(3):
                optimizer.step()
            return [w.detach().numpy().copy()]

        optimizer.step()
        return Session(call=optimizer.step, outputs=outputs, reset=reset)


class FusedAdam:
    """PyTorch's own fused Adam: epsilon inside the bias correction, which no output here shows."""

    def __init__(self, weights: list[Any]):
        import torch

        self.inner = torch.optim.Adam(
            weights, lr=RATE, betas=(BETA1, BETA2), eps=EPSILON, fused=True
        )
        self.step, self.zero_grad = self.inner.step, self.inner.zero_grad

    def forget(self) -> None:
        import torch

        with torch.no_grad():
            for state in self.inner.state.values():
                for tensor in state.values():
                    tensor.zero_()


class CompiledAdam:
    """Adam's formula on lists of tensors, for torch.compile to fuse."""

    def __init__(self, weights: list[Any]):
        import torch

        self.weights = weights
        self.m, self.v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
        self.count = torch.zeros(())
        self._run = torch.compile(self._formula)

    def _formula(self, weights: Any, gradients: Any, m: Any, v: Any, count: Any) -> None:
        import torch

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

    def step(self) -> None:
        import torch

        with torch.no_grad():
            gradients = [w.grad for w in self.weights]
            self._run(self.weights, gradients, self.m, self.v, self.count)

    def zero_grad(self, set_to_none: bool) -> None:
        for w in self.weights:
            w.grad = None

    def forget(self) -> None:
        for tensor in (*self.m, *self.v, self.count):
            tensor.zero_()


class CompiledOperations(TorchOperations):
    """Inductor cannot take the fused LSTM of the processor, so it stays outside."""

    def lstm(self, x: Any, w: Any, u: Any, b: Any) -> Any:
        return self.torch.compiler.disable(super().lstm)(x, w, u, b)


class Compiled(Eager):
    name = "torch.compile"
    caches: ClassVar[dict[str, str]] = {"TORCHINDUCTOR_CACHE_DIR": "{folder}"}
    place = 2

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        torch.compiler.reset()
        return torch.compile(function)

    def optimizer(self, weights: list[Any]) -> Any:
        return CompiledAdam(weights)

    def _built(self, workload: Network, build: Callable[[Any, Any, Any, Any], Session]) -> Session:
        """One memory format: the compiler chooses its own."""
        parameters, feeds = workload.data()
        ops = CompiledOperations()
        p = {name: _tensor(item, False) for name, item in parameters.items()}
        given = {name: _tensor(item, False) for name, item in feeds.items()}
        return build(lambda **x: workload.forward(ops, p, **x), p, given, workload)


PEERS = [Eager(), Compiled()]
