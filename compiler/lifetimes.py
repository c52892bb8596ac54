"""Steps in, the first and last of them that touch each buffer out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from graphflow.compiler.program import Branch, Buffer, Copy, Launch, Loop, Step


@dataclass
class Storage:
    """A buffer being planned."""

    buffer: Buffer
    first: int | None = None
    last: int | None = None


class Lifetimes:
    """Numbers the steps as they are written, and notes the first and last use of each buffer."""

    def __init__(self, storages: list[Storage]):
        self.storages = storages
        self.at = 0

    def touch(self, *numbers: int) -> None:
        for number in numbers:
            storage = self.storages[number]
            storage.first = self.at if storage.first is None else storage.first
            storage.last = self.at

    def walk(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Launch):
                self.touch(*step.buffers)
            elif isinstance(step, Copy):
                self.touch(step.source, step.target)
            elif isinstance(step, Branch):
                self.touch(step.predicate)
                self.at += 1
                self.walk(step.then)
                self.walk(step.otherwise)
            else:
                self._loop(step)
            self.at += 1

    def _loop(self, step: Loop) -> None:
        begin = self.at
        bases = [item.base for item in step.sliced]
        self.touch(*bases)
        self.at += 1
        self.walk(step.body)
        self.touch(*bases)
        # What came from before is read again in the next pass.
        for storage in self.storages:
            if storage.first is not None and storage.first <= begin <= storage.last:  # type: ignore[operator]
                storage.last = self.at
