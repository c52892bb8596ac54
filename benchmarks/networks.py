"""The networks of the workloads, written once over the operations that every side gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.workload import Feed, Feeds, Parameter, Parameters

Rng = np.random.Generator
Forward = Callable[..., Any]


def weight(rng: Rng, *shape: int, layout: str = "", gain: float = 1.0) -> Parameter:
    """Normal numbers of variance gain² / inputs."""
    inputs = int(np.prod(shape[:-1]))
    if layout == "HWC1":
        inputs = shape[0] * shape[1]
    return Parameter((rng.normal(size=shape) * (gain / np.sqrt(inputs))).astype("f4"), layout)


def zeros(*shape: int) -> Parameter:
    return Parameter(np.zeros(shape, "f4"))


def ones(*shape: int) -> Parameter:
    return Parameter(np.ones(shape, "f4"))


def labels(rng: Rng, batch: int) -> Feed:
    return Feed(rng.integers(0, 10, batch), 0)


def vectors(batch: int, size: int, labelled: bool = False) -> Callable[[Rng], Feeds]:
    def feeds(rng: Rng) -> Feeds:
        x = Feed(rng.normal(size=(batch, size)).astype("f4"), 0)
        return {"x": x, "t": labels(rng, batch)} if labelled else {"x": x}

    return feeds


def images(batch: int, size: int, channels: int, labelled: bool = False) -> Callable[[Rng], Feeds]:
    def feeds(rng: Rng) -> Feeds:
        array = rng.normal(size=(batch, size, size, channels)).astype("f4")
        x = Feed(array, 0, "NHWC")
        return {"x": x, "t": labels(rng, batch)} if labelled else {"x": x}

    return feeds


def classified(network: Forward) -> Forward:
    """The loss of a network of which the last layer gives ten logits."""

    def loss(ops: Any, p: Any, x: Any, t: Any) -> Any:
        return ops.cross_entropy(network(ops, p, x), t)

    return loss


# ---- dense layers ----------------------------------------------------------------------------


def mlp_parameters(sizes: Sequence[int]) -> Callable[[Rng], Parameters]:
    def parameters(rng: Rng) -> Parameters:
        p: Parameters = {}
        for k, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            p[f"w{k}"], p[f"b{k}"] = weight(rng, inputs, outputs), zeros(outputs)
        return p

    return parameters


def mlp(ops: Any, p: Any, x: Any) -> Any:
    layers = len(p) // 2
    for k in range(layers):
        x = ops.dense(x, p[f"w{k}"], p[f"b{k}"])
        x = ops.relu(x) if k + 1 < layers else x
    return x


# ---- convolutions ----------------------------------------------------------------------------


def cnn_parameters(rng: Rng) -> Parameters:
    return {
        "w0": weight(rng, 3, 3, 1, 32, layout="HWIO", gain=1.4),
        "b0": zeros(32),
        "w1": weight(rng, 3, 3, 32, 64, layout="HWIO", gain=1.4),
        "b1": zeros(64),
        "w2": weight(rng, 5, 5, 64, 10, layout="HWCO"),
        "b2": zeros(10),
    }


def cnn(ops: Any, p: Any, x: Any) -> Any:
    """28×28: conv 3×3 to 32, pool, conv 3×3 to 64, pool, dense to 10."""
    x = ops.max_pool(ops.relu(ops.conv(x, p["w0"]) + ops.bias(p["b0"])), 2, 2)
    x = ops.max_pool(ops.relu(ops.conv(x, p["w1"]) + ops.bias(p["b1"])), 2, 2)
    return ops.dense_of_image(x, p["w2"], p["b2"])


def _normalised(p: Parameters, rng: Rng, name: str, w: Parameter, channels: int) -> None:
    p[f"{name}.w"] = w
    p[f"{name}.mean"] = Parameter((rng.normal(size=channels) * 0.1).astype("f4"))
    p[f"{name}.variance"] = Parameter(rng.uniform(0.5, 1.5, channels).astype("f4"))
    p[f"{name}.scale"] = Parameter(rng.uniform(0.5, 1.0, channels).astype("f4"))
    p[f"{name}.offset"] = Parameter((rng.normal(size=channels) * 0.1).astype("f4"))


def _norm(ops: Any, p: Any, name: str, x: Any) -> Any:
    return ops.batch_norm(
        x, p[f"{name}.mean"], p[f"{name}.variance"], p[f"{name}.scale"], p[f"{name}.offset"]
    )


RESNET_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


def resnet18_parameters(rng: Rng) -> Parameters:
    p: Parameters = {}

    def layer(name: str, size: int, inputs: int, outputs: int) -> None:
        w = weight(rng, size, size, inputs, outputs, layout="HWIO", gain=1.4)
        _normalised(p, rng, name, w, outputs)

    layer("stem", 7, 3, 64)
    inputs = 64
    for stage, (outputs, stride) in enumerate(RESNET_STAGES):
        for block in range(2):
            name = f"s{stage}b{block}"
            layer(f"{name}.0", 3, inputs, outputs)
            layer(f"{name}.1", 3, outputs, outputs)
            if block == 0 and (stride > 1 or inputs != outputs):
                layer(f"{name}.short", 1, inputs, outputs)
            inputs = outputs
    p["w"], p["b"] = weight(rng, 512, 1000), zeros(1000)
    return p


def resnet18(ops: Any, p: Any, x: Any) -> Any:
    def layer(name: str, x: Any, stride: int, padding: int) -> Any:
        return _norm(ops, p, name, ops.conv(x, p[f"{name}.w"], stride, padding))

    x = ops.max_pool(ops.relu(layer("stem", x, 2, 3)), 3, 2, 1)
    for stage, (_, stride) in enumerate(RESNET_STAGES):
        for block in range(2):
            name, step = f"s{stage}b{block}", stride if block == 0 else 1
            y = ops.relu(layer(f"{name}.0", x, step, 1))
            y = layer(f"{name}.1", y, 1, 1)
            short = layer(f"{name}.short", x, step, 0) if f"{name}.short.w" in p else x
            x = ops.relu(y + short)
    return ops.dense(ops.image_mean(x), p["w"], p["b"])


# Channels and stride of each depthwise-pointwise pair.
MOBILENET_PAIRS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


def mobilenet_parameters(rng: Rng) -> Parameters:
    p: Parameters = {}
    _normalised(p, rng, "stem", weight(rng, 3, 3, 3, 32, layout="HWIO", gain=1.4), 32)
    inputs = 32
    for k, (outputs, _) in enumerate(MOBILENET_PAIRS):
        deep = weight(rng, 3, 3, inputs, 1, layout="HWC1", gain=1.4)
        _normalised(p, rng, f"d{k}", deep, inputs)
        point = weight(rng, 1, 1, inputs, outputs, layout="HWIO", gain=1.4)
        _normalised(p, rng, f"p{k}", point, outputs)
        inputs = outputs
    p["w"], p["b"] = weight(rng, 1024, 1000), zeros(1000)
    return p


def mobilenet(ops: Any, p: Any, x: Any) -> Any:
    x = ops.relu(_norm(ops, p, "stem", ops.conv(x, p["stem.w"], 2, 1)))
    for k, (_, stride) in enumerate(MOBILENET_PAIRS):
        x = ops.relu(_norm(ops, p, f"d{k}", ops.depthwise(x, p[f"d{k}.w"], stride, 1)))
        x = ops.relu(_norm(ops, p, f"p{k}", ops.conv(x, p[f"p{k}.w"])))
    return ops.dense(ops.image_mean(x), p["w"], p["b"])


# ---- sequences -------------------------------------------------------------------------------

LAYERS, WIDTH, HEADS, INNER, TOKENS = 4, 256, 4, 1024, 128


def transformer_parameters(rng: Rng, classes: int = 0) -> Parameters:
    p: Parameters = {}
    for k in range(LAYERS):
        for name, inputs, outputs in (
            ("qkv", WIDTH, 3 * WIDTH),
            ("out", WIDTH, WIDTH),
            ("up", WIDTH, INNER),
            ("down", INNER, WIDTH),
        ):
            p[f"{k}.{name}.w"], p[f"{k}.{name}.b"] = weight(rng, inputs, outputs), zeros(outputs)
        for name in ("first", "second"):
            p[f"{k}.{name}.scale"], p[f"{k}.{name}.offset"] = ones(WIDTH), zeros(WIDTH)
    if classes:
        p["w"], p["b"] = weight(rng, WIDTH, classes), zeros(classes)
    return p


def transformer(ops: Any, p: Any, x: Any) -> Any:
    """Layers of attention and a gelu block, normalised after each residual sum."""

    def dense(name: str, x: Any) -> Any:
        return ops.dense(x, p[f"{name}.w"], p[f"{name}.b"])

    def norm(name: str, x: Any) -> Any:
        return ops.layer_norm(x, p[f"{name}.scale"], p[f"{name}.offset"])

    for k in range(LAYERS):
        attended = ops.self_attention(dense(f"{k}.qkv", x), HEADS)
        x = norm(f"{k}.first", x + dense(f"{k}.out", attended))
        x = norm(f"{k}.second", x + dense(f"{k}.down", ops.gelu(dense(f"{k}.up", x))))
    return x


def transformer_classifier(ops: Any, p: Any, x: Any) -> Any:
    return ops.dense(ops.token_mean(transformer(ops, p, x)), p["w"], p["b"])


def tokens(batch: int, labelled: bool = False) -> Callable[[Rng], Feeds]:
    def feeds(rng: Rng) -> Feeds:
        x = Feed(rng.normal(size=(batch, TOKENS, WIDTH)).astype("f4"), 0)
        return {"x": x, "t": labels(rng, batch)} if labelled else {"x": x}

    return feeds


FEATURES, HIDDEN, STEPS, SEQUENCES = 64, 128, 50, 16


def lstm_parameters(rng: Rng, classes: int = 0) -> Parameters:
    p = {
        "w": weight(rng, FEATURES, 4 * HIDDEN),
        "u": weight(rng, HIDDEN, 4 * HIDDEN),
        "b": zeros(4 * HIDDEN),
    }
    if classes:
        p["w1"], p["b1"] = weight(rng, HIDDEN, classes), zeros(classes)
    return p


def lstm(ops: Any, p: Any, x: Any) -> Any:
    return ops.lstm(x, p["w"], p["u"], p["b"])


def lstm_classifier(ops: Any, p: Any, x: Any) -> Any:
    return ops.dense(lstm(ops, p, x), p["w1"], p["b1"])


def sequences(labelled: bool = False) -> Callable[[Rng], Feeds]:
    def feeds(rng: Rng) -> Feeds:
        x = Feed(rng.normal(size=(STEPS, SEQUENCES, FEATURES)).astype("f4"), 1)
        return {"x": x, "t": labels(rng, SEQUENCES)} if labelled else {"x": x}

    return feeds
