"""Single convolutions of ResNet-50, MobileNet and VGG at 224×224, batch 1."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.networks import images, weight
from benchmarks.workload import Group, Inference, Parameters

PLACE = 7
GROUP = Group("conv", "Convolution sweep (image, channels, kernel, stride)", mean_target=0.9)


class Layer(NamedTuple):
    net: str
    size: int
    inputs: int
    outputs: int  # 0: depthwise
    kernel: int
    stride: int = 1
    quick: bool = False


LAYERS = (
    Layer("resnet50", 224, 3, 64, 7, 2, quick=True),
    Layer("resnet50", 56, 64, 64, 1),
    Layer("resnet50", 56, 64, 64, 3, quick=True),
    Layer("resnet50", 56, 64, 256, 1),
    Layer("resnet50", 56, 256, 512, 1, 2),
    Layer("resnet50", 28, 128, 128, 3),
    Layer("resnet50", 28, 512, 128, 1),
    Layer("resnet50", 14, 256, 256, 3),
    Layer("resnet50", 14, 1024, 256, 1, quick=True),
    Layer("resnet50", 7, 512, 512, 3),
    Layer("resnet50", 7, 512, 2048, 1),
    Layer("mobilenet", 224, 3, 32, 3, 2),
    Layer("mobilenet", 112, 32, 0, 3),
    Layer("mobilenet", 56, 128, 0, 3, 2),
    Layer("mobilenet", 14, 512, 0, 3, quick=True),
    Layer("mobilenet", 14, 512, 512, 1),
    Layer("vgg", 224, 3, 64, 3),
    Layer("vgg", 112, 64, 128, 3, quick=True),
    Layer("vgg", 56, 128, 256, 3),
    Layer("vgg", 28, 256, 512, 3),
)


def _name(layer: Layer) -> str:
    kind = "depthwise" if layer.outputs == 0 else f"to{layer.outputs}"
    return (
        f"conv/{layer.net}-{layer.size}-{layer.inputs}-{kind}"
        f"-{layer.kernel}x{layer.kernel}-s{layer.stride}"
    )


def _parameters(layer: Layer) -> Callable[[np.random.Generator], Parameters]:
    kernel = (layer.kernel, layer.kernel, layer.inputs)
    if layer.outputs == 0:
        return lambda rng: {"w": weight(rng, *kernel, 1, layout="HWC1")}
    return lambda rng: {"w": weight(rng, *kernel, layer.outputs, layout="HWIO")}


def _forward(layer: Layer) -> Callable[..., Any]:
    def forward(ops: Any, p: Any, x: Any) -> Any:
        convolve = ops.depthwise if layer.outputs == 0 else ops.conv
        return convolve(x, p["w"], layer.stride, layer.kernel // 2)

    return forward


WORKLOADS = [
    Inference(
        name=_name(layer),
        forward=_forward(layer),
        parameters=_parameters(layer),
        feeds=images(1, layer.size, layer.inputs),
        output_layout="NHWC",
        target=1.3,
        quick=layer.quick,
        # torch.compile calls the same library as eager; PyTensor has no convolution here.
        without=("torch.compile", "PyTensor (Numba)"),
    )
    for layer in LAYERS
]
