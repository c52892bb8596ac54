"""ONNX Runtime's side: the network as an ONNX model, channels first, all graph optimisations."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.operations import Operations
from benchmarks.peers.base import Peer
from benchmarks.workload import Inference, Parameter, Session

OPSET = 20  # the first with Gelu

_PROCESS = (
    "import sys, numpy as np, onnxruntime as ort; "
    "s = ort.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']); "
    "s.run(None, {'x': np.zeros((1, 784), 'f4')})"
)


class Value:
    """The name of a tensor in the model that is being built."""

    def __init__(self, builder: OnnxOperations, name: str, shape: tuple[int, ...] | None = None):
        self.builder, self.name, self.shape = builder, name, shape

    def __add__(self, other: Any) -> Value:
        return self.builder.node("Add", self, self.builder.value(other))

    def __mul__(self, other: Any) -> Value:
        return self.builder.node("Mul", self, self.builder.value(other))


class OnnxOperations(Operations):
    """Each call appends nodes."""

    side = "ONNX Runtime"

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._count = 0

    def node(self, kind: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
        from onnx import helper

        names = [f"v{self._count + k}" for k in range(outputs)]
        self._count += outputs
        self.nodes.append(helper.make_node(kind, [i.name for i in inputs], names, **attributes))
        made = [Value(self, name) for name in names]
        return made[0] if outputs == 1 else made

    def constant(self, array: np.ndarray) -> Value:
        from onnx import numpy_helper

        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return Value(self, name, array.shape)

    def value(self, given: Any) -> Value:
        return given if isinstance(given, Value) else self.constant(np.array(given, "f4"))

    def parameter(self, item: Parameter) -> Value:
        order = {"HWIO": (3, 2, 0, 1), "HWC1": (2, 3, 0, 1), "HWCO": (2, 0, 1, 3)}
        array = item.array
        if item.layout in order:
            array = array.transpose(order[item.layout])
        if item.layout == "HWCO":
            array = array.reshape(-1, array.shape[-1])
        return self.constant(array)

    def matmul(self, x: Value, w: Value) -> Value:
        return self.node("MatMul", x, w)

    def bias(self, b: Value) -> Value:
        return self.node("Unsqueeze", b, self.constant(np.array([1, 2])))

    def relu(self, x: Value) -> Value:
        return self.node("Relu", x)

    def silu(self, x: Value) -> Value:
        return x * self.node("Sigmoid", x)

    def gelu(self, x: Value) -> Value:
        return self.node("Gelu", x)

    def softmax(self, x: Value) -> Value:
        return self.node("Softmax", x, axis=-1)

    def layer_norm(self, x: Value, scale: Value, offset: Value) -> Value:
        return self.node("LayerNormalization", x, scale, offset, epsilon=1e-5)

    def conv(self, x: Value, w: Value, stride: int = 1, padding: int = 0, groups: int = 1) -> Value:
        return self.node("Conv", x, w, strides=[stride] * 2, pads=[padding] * 4, group=groups)

    def depthwise(self, x: Value, w: Value, stride: int = 1, padding: int = 1) -> Value:
        assert w.shape is not None
        return self.conv(x, w, stride, padding, w.shape[0])

    def batch_norm(
        self, x: Value, mean: Value, variance: Value, scale: Value, offset: Value
    ) -> Value:
        return self.node("BatchNormalization", x, scale, offset, mean, variance, epsilon=1e-5)

    def max_pool(self, x: Value, size: int, stride: int, padding: int = 0) -> Value:
        return self.node(
            "MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[padding] * 4
        )

    def image_mean(self, x: Value) -> Value:
        return self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)

    def dense_of_image(self, x: Value, w: Value, b: Value) -> Value:
        return self.node("Gemm", self.node("Flatten", x, axis=1), w, b)

    def self_attention(self, qkv: Value, heads: int) -> Value:
        # 0 keeps a size of the input.
        parts = self.node("Reshape", qkv, self.constant(np.array([0, 0, 3 * heads, -1])))
        parts = self.node("Transpose", parts, perm=[0, 2, 1, 3])
        sizes = self.constant(np.array([heads] * 3))
        q, k, v = self.node("Split", parts, sizes, outputs=3, axis=1)
        width = self._width(qkv) // heads
        scores = self.matmul(q, self.node("Transpose", k, perm=[0, 1, 3, 2])) * width**-0.5
        mixed = self.node("Transpose", self.matmul(self.softmax(scores), v), perm=[0, 2, 1, 3])
        return self.node("Reshape", mixed, self.constant(np.array([0, 0, -1])))

    def _width(self, qkv: Value) -> int:
        """Of the dense layer that made it."""
        from onnx import numpy_helper

        made = {node.output[0]: node for node in self.nodes}
        bias = {w.name: w for w in self.weights}[made[qkv.name].input[1]]
        return numpy_helper.to_array(bias).size // 3

    def lstm(self, x: Value, w: Value, u: Value, b: Value) -> Value:
        """ONNX orders the gates i, o, f, g and transposes the matrices."""
        arrays = {weight.name: weight for weight in self.weights}

        def gates(value: Value) -> np.ndarray:
            from onnx import numpy_helper

            i, f, g, o = np.split(numpy_helper.to_array(arrays[value.name]), 4, axis=-1)
            return np.concatenate([i, o, f, g], axis=-1).T[None]

        matrices = [self.constant(gates(value)) for value in (w, u)]
        bias = gates(b)
        both = self.constant(np.concatenate([bias, bias * 0], axis=1))
        hidden = matrices[1].shape[2]  # type: ignore[index]
        _, last, _ = self.node("LSTM", x, *matrices, both, outputs=3, hidden_size=hidden)
        return self.node("Squeeze", last, self.constant(np.array([0])))


def model_of(workload: Inference) -> tuple[bytes, dict[str, np.ndarray]]:
    """The serialized model, and its feeds."""
    from onnx import TensorProto, helper

    parameters, feeds = workload.data()
    ops = OnnxOperations()
    p = {name: ops.parameter(item) for name, item in parameters.items()}
    arrays, inputs = {}, []
    for name, feed in feeds.items():
        array = feed.array.transpose(0, 3, 1, 2) if feed.layout == "NHWC" else feed.array
        arrays[name] = np.array(array, order="C")
        shape: list[Any] = list(array.shape)
        if feed.batch_axis is not None:
            shape[feed.batch_axis] = "batch"
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    result = workload.forward(ops, p, **{name: Value(ops, name) for name in feeds})
    output = helper.make_tensor_value_info(result.name, TensorProto.FLOAT, None)
    used = {name for node in ops.nodes for name in node.input}
    weights = [w for w in ops.weights if w.name in used]
    graph = helper.make_graph(ops.nodes, "network", inputs, [output], weights)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return model.SerializeToString(), arrays


class OnnxRuntime(Peer):
    name = "ONNX Runtime"
    modules = ("onnxruntime", "onnx")
    place = 5

    def inference(self, workload: Inference) -> Session:
        import onnxruntime as ort

        model, feeds = model_of(workload)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

        def call() -> Sequence[np.ndarray]:
            return session.run(None, feeds)

        def outputs() -> list[np.ndarray]:
            (result,) = call()
            return [result.transpose(0, 2, 3, 1) if workload.output_layout == "NHWC" else result]

        call()
        return Session(call=call, outputs=outputs)

    def process(self, workload: Inference, folder: str) -> list[str]:
        path = os.path.join(folder, "network.onnx")
        with open(path, "wb") as file:
            file.write(model_of(workload)[0])
        return [sys.executable, "-c", _PROCESS, path]


PEERS = [OnnxRuntime()]
