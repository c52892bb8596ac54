"""Inference of a saved graph with random weights."""

from functools import partial

from benchmarks import networks
from benchmarks.workload import Group, Inference

PLACE = 3
GROUP = Group("infer", "Inference of a saved graph")

_MLP = networks.mlp_parameters((784, 128, 10))

WORKLOADS = [
    Inference(
        name="infer/mlp-b1",  # 784-128-10
        forward=networks.mlp,
        parameters=_MLP,
        feeds=networks.vectors(1, 784),
        target=0.50,
        quick=True,
    ),
    Inference(
        name="infer/mlp-b256",
        forward=networks.mlp,
        parameters=_MLP,
        feeds=networks.vectors(256, 784),
        target=0.75,
        quick=True,
    ),
    Inference(
        name="infer/cnn-b64",
        forward=networks.cnn,
        parameters=networks.cnn_parameters,
        feeds=networks.images(64, 28, 1),
        target=0.85,
        quick=True,
    ),
    Inference(
        name="infer/resnet18-b1",  # 224×224
        forward=networks.resnet18,
        parameters=networks.resnet18_parameters,
        feeds=networks.images(1, 224, 3),
        target=0.95,
        quick=True,
    ),
    Inference(
        name="infer/mobilenet-b1",  # v1-like, 224×224
        forward=networks.mobilenet,
        parameters=networks.mobilenet_parameters,
        feeds=networks.images(1, 224, 3),
        target=0.90,
        quick=True,
    ),
    Inference(
        name="infer/transformer-b1",  # 4 layers, d 256, 4 heads, 128 tokens
        forward=networks.transformer,
        parameters=partial(networks.transformer_parameters, classes=0),
        feeds=networks.tokens(1),
        target=0.90,
        quick=True,
    ),
    Inference(
        name="infer/lstm-b16",  # 64 to 128, 50 steps
        forward=networks.lstm,
        parameters=partial(networks.lstm_parameters, classes=0),
        feeds=networks.sequences(),
        target=0.80,
        quick=True,
    ),
]
