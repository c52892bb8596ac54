"""Keras on JAX: the backend that is fastest for the seed's programs."""

from __future__ import annotations

from typing import ClassVar

from benchmarks.peers.base import Peer
from benchmarks.workload import KerasProgram, Session


class KerasJax(Peer):
    name = "Keras-JAX"
    modules = ("keras", "jax")
    environment: ClassVar[dict[str, str]] = {"KERAS_BACKEND": "jax"}
    place = 7

    def keras_program(self, workload: KerasProgram) -> Session:
        import keras

        return workload.program(keras)


PEERS = [KerasJax()]
