"""Training steps: forward, backward and Adam."""

from functools import partial

from benchmarks import networks
from benchmarks.workload import Group, Training

PLACE = 1
GROUP = Group("train", "One training step (forward, backward, Adam)")
WORKLOADS = [
    Training(
        name="train/seed-mlp",  # 784-64-64-10, batch 32
        forward=networks.classified(networks.mlp),
        parameters=networks.mlp_parameters((784, 64, 64, 10)),
        feeds=networks.vectors(32, 784, labelled=True),
        target=0.40,
        quick=True,
    ),
    Training(
        name="train/mlp-1024",  # 1024-1024-1024-1024-10, batch 256
        forward=networks.classified(networks.mlp),
        parameters=networks.mlp_parameters((1024, 1024, 1024, 1024, 10)),
        feeds=networks.vectors(256, 1024, labelled=True),
        target=0.85,
        quick=True,
    ),
    Training(
        name="train/cnn",  # 28×28, batch 64
        forward=networks.classified(networks.cnn),
        parameters=networks.cnn_parameters,
        feeds=networks.images(64, 28, 1, labelled=True),
        target=0.60,
        quick=True,
    ),
    Training(
        name="train/transformer",  # 4 layers, d 256, 4 heads, 128 tokens, batch 8
        forward=networks.classified(networks.transformer_classifier),
        parameters=partial(networks.transformer_parameters, classes=10),
        feeds=networks.tokens(8, labelled=True),
        target=0.80,
        quick=True,
    ),
    Training(
        name="train/lstm",  # 64 to 128, 50 steps, batch 16
        forward=networks.classified(networks.lstm_classifier),
        parameters=partial(networks.lstm_parameters, classes=10),
        feeds=networks.sequences(labelled=True),
        target=0.60,
        quick=True,
    ),
]
