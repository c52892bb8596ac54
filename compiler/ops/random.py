"""Random numbers as functions of (seed, call counter, stream, position): Philox, no hidden state.

The generator's state is an int64 tensor (seed, counter). An element depends on nothing but the
state, the op's `stream` and its own flat position, so it fuses like any other element, is the same
for every number of threads, and may be computed again rather than stored. Two draws differ by
their `stream`; two calls of a function differ by the counter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from graphflow.compiler import philox
from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.dims import Size, linear_offset
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import CAST, Emitter, Map, Op, Template, register
from graphflow.compiler.spec import TensorSpec, is_float

#: streams are the low bits of a counter word, the high half of a position lies above them
STREAM_BITS = 20
MOST_STREAMS = 1 << STREAM_BITS


class RandomOp(Op):
    """An op whose first input is a generator's state, int64 (seed, counter)."""

    differentiable = False

    def check_state(self, state: TensorSpec, stream: int) -> None:
        if state.dtype != "int64" or state.shape != (2,):
            raise DTypeError(
                f"{self.name}: the state is {state}; expected int64(2,): seed, counter"
            )
        if not 0 <= stream < MOST_STREAMS:
            raise ShapeError(f"{self.name}: stream {stream}; expected 0..{MOST_STREAMS - 1}")

    def vjp(self, node: Node, ct: Node) -> list[Node | None]:
        return [None]


def _words(
    state: np.ndarray, position: np.ndarray, stream: int
) -> tuple[int, np.ndarray, np.ndarray, int, int]:
    """Key and counter words of the elements at `position`."""
    counter = int(state[1])
    high = (position >> 32 << STREAM_BITS) ^ stream
    return int(state[0]) & (1 << 64) - 1, position, high, counter & philox.MASK, counter >> 32


def _word_texts(seed: str, counter: str, position: str, stream: int) -> str:
    """The same as arguments in kernel source; all names are int64."""
    return (
        f"u64({seed}), u32({position}), u32((({position} >> 32) << {STREAM_BITS}) ^ {stream}), "
        f"u32({counter}), u32({counter} >> 32)"
    )


class RandomElements(RandomOp, Map):
    """Independent elements of a given shape."""

    attributes: ClassVar[Mapping[str, str]] = {
        "dtype": "dtype", "shape": "shape", "stream": "int",
    }  # fmt: skip
    # Ten rounds of two multiplications each; dear enough that no pass repeats it for nothing.
    cost = 60

    def infer(self, state: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        self.check_state(state, attrs["stream"])
        return TensorSpec(attrs["dtype"], attrs["shape"])

    def bits(self, state: np.ndarray, wide: bool, attrs: Mapping[str, Any]) -> np.ndarray:
        position = np.arange(int(np.prod(attrs["shape"], dtype=np.int64)))
        words = _words(state, position, attrs["stream"])
        drawn = philox.philox64(*words) if wide else philox.philox(*words)[0]
        return drawn.reshape(attrs["shape"])

    def bits_text(self, node: Node, wide: bool, index: tuple[Size, ...], emit: Emitter) -> str:
        (state,) = node.inputs
        seed, counter = emit.get(state, (0,)), emit.get(state, (1,))
        position = emit.size(linear_offset(index, node.shape))
        words = _word_texts(seed, counter, position, node.attrs["stream"])
        function, dtype = ("philox64", "uint64") if wide else ("philox", "uint32")
        return emit.assign(f"{function}({words})", dtype, seed, counter, position)


@register
class RandomBits(RandomElements):
    """y[i] = uniform over all values of uint32 or uint64"""

    def infer(self, state: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        if attrs["dtype"] not in ("uint32", "uint64"):
            raise DTypeError(f"random_bits: dtype {attrs['dtype']}; expected uint32 or uint64")
        return super().infer(state, **attrs)

    def reference(self, state: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        return self.bits(state, attrs["dtype"] == "uint64", attrs)

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        return self.bits_text(node, node.dtype == "uint64", index, emit)


@register
class RandomUniform(RandomElements):
    """y[i] = uniform in [0, 1), a multiple of 2⁻²⁴ (float32) or 2⁻⁵³ (float64)"""

    def infer(self, state: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        if not is_float(attrs["dtype"]):
            raise DTypeError(f"random_uniform: dtype {attrs['dtype']}; expected float32 or float64")
        return super().infer(state, **attrs)

    def reference(self, state: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        wide = attrs["dtype"] == "float64"
        convert = philox.uniform_f64 if wide else philox.uniform_f32
        return convert(self.bits(state, wide, attrs))

    def element(self, node: Node, index: tuple[Size, ...], emit: Emitter) -> str:
        bits = self.bits_text(node, node.dtype == "float64", index, emit)
        return emit.assign(f"uniform_{CAST[node.dtype]}({bits})", node.dtype, bits)


@register
class RandomPermutation(RandomOp, Template):
    """y = 0, 1, ..., size - 1 in random order (Fisher-Yates), each order as likely as any other"""

    attributes: ClassVar[Mapping[str, str]] = {"size": "size", "stream": "int"}

    def infer(self, state: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        self.check_state(state, attrs["stream"])
        return TensorSpec("int64", (attrs["size"],))

    def reference(self, state: np.ndarray, **attrs: Any) -> np.ndarray:  # type: ignore[override]
        size = attrs["size"]
        words = _words(state, np.arange(size), attrs["stream"])
        # The remainder of 64 bits favours no choice by more than size / 2**64.
        chosen = philox.philox64(*words) % np.arange(1, size + 1, dtype=np.uint64)
        order = list(range(size))
        for last in range(size - 1, 0, -1):
            other = int(chosen[last])
            order[last], order[other] = order[other], order[last]
        return np.array(order, np.int64)

    def emit(self, node: Node, kernel: TemplateKernel) -> KernelDraft:
        (state,) = node.inputs
        source, out, size = kernel.buffer(state), kernel.output(node), kernel.size(node.shape[0])
        words = _word_texts("seed", "counter", "k", node.attrs["stream"])
        # Each swap depends on those before it, so one thread does them all.
        with kernel.loop("once", "lo", "hi"):
            kernel.line(f"seed = {source}[0]")
            kernel.line(f"counter = {source}[1]")
            with kernel.loop("k", "0", size):
                kernel.line(f"{out}[k] = i64(k)")
            with kernel.loop("step", "1", size):
                kernel.line(f"k = {size} - step")
                kernel.line(f"other = i64(remainder(philox64({words}), u64(k + 1)))")
                kernel.line(f"kept = {out}[k]")
                kernel.line(f"{out}[k] = {out}[other]")
                kernel.line(f"{out}[other] = kept")
        return kernel.kernel(extent=1, cost=node.shape[0] * 40, parallel=False)
