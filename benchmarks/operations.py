"""The operations that a network may use: a side gives each in its best form, or not at all."""

from __future__ import annotations

from typing import Any

from benchmarks.workload import Unsupported


class Operations:
    """Formulas only; a side overrides what it has. Values also understand + and *.

    Shapes below are graphflow's. A side that keeps channels first does so for all images, and
    converts kernels and `HWCO` matrices when it takes the parameters.
    """

    side = "this side"

    def _lacks(self, operation: str) -> Any:
        raise Unsupported(f"{self.side} has no {operation} here")

    def matmul(self, x: Any, w: Any) -> Any:
        """x w"""
        return self._lacks("matmul")

    def dense(self, x: Any, w: Any, b: Any) -> Any:
        """x w + b"""
        return self.matmul(x, w) + b

    def bias(self, b: Any) -> Any:
        """(channels,), ready to be added to an image"""
        return b

    def relu(self, x: Any) -> Any:
        """max(x, 0)"""
        return self._lacks("relu")

    def silu(self, x: Any) -> Any:
        """x / (1 + e^-x)"""
        return self._lacks("silu")

    def gelu(self, x: Any) -> Any:
        """x Φ(x), by erf"""
        return self._lacks("gelu")

    def softmax(self, x: Any) -> Any:
        """e^x / Σ e^x along the last axis"""
        return self._lacks("softmax")

    def layer_norm(self, x: Any, scale: Any, offset: Any) -> Any:
        """scale (x - mean) / √(variance + 1e-5) + offset along the last axis"""
        return self._lacks("layer normalisation")

    def conv(self, x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
        """(n, h, w, c) with kernel (kh, kw, c, q), zeros around"""
        return self._lacks("convolution")

    def depthwise(self, x: Any, w: Any, stride: int = 1, padding: int = 1) -> Any:
        """(n, h, w, c) with kernel (kh, kw, c, 1): each channel by itself"""
        return self._lacks("depthwise convolution")

    def batch_norm(self, x: Any, mean: Any, variance: Any, scale: Any, offset: Any) -> Any:
        """scale (x - mean) / √(variance + 1e-5) + offset per channel, given statistics"""
        return self._lacks("batch normalisation")

    def max_pool(self, x: Any, size: int, stride: int, padding: int = 0) -> Any:
        """largest value of each window"""
        return self._lacks("max pooling")

    def image_mean(self, x: Any) -> Any:
        """(n, h, w, c) to (n, c)"""
        return self._lacks("mean of an image")

    def dense_of_image(self, x: Any, w: Any, b: Any) -> Any:
        """(n, h, w, c), flattened, times (h, w, c, q), plus b"""
        return self._lacks("flattened image")

    def token_mean(self, x: Any) -> Any:
        """(n, tokens, d) to (n, d)"""
        return self._lacks("mean over tokens")

    def self_attention(self, qkv: Any, heads: int) -> Any:
        """(n, tokens, 3 d): queries, keys, values; softmax(q kᵀ / √(d / heads)) v per head"""
        return self._lacks("attention")

    def lstm(self, x: Any, w: Any, u: Any, b: Any) -> Any:
        """(steps, n, features) to the last h (n, q); gates i, f, g, o in w (features, 4 q)"""
        return self._lacks("LSTM")

    def cross_entropy(self, logits: Any, labels: Any) -> Any:
        """mean of -log softmax(logits)[label]"""
        return self._lacks("cross-entropy")
