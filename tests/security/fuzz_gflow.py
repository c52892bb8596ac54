"""Mutates saved graphs and reads them: nothing but GraphFormatError may come out.

    python tests/security/fuzz_gflow.py --seconds 60 [--seed 0] [--keep folder]

An audit hook sees every file opened, module imported, code compiled, process or connection made
while a mutant is read, and only reading the mutant itself is allowed. A mutant that is accepted is
also written again, read again, and computed by the interpreter.
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import numpy as np

from graphflow.compiler.errors import GraphError, GraphFormatError
from graphflow.compiler.interpreter import evaluate
from graphflow.io import Limits, check, read_graph, write_graph
from tests.io.random_graphs import random_graph
from tests.security.attack_kit import DATA, DOCUMENT, TABLE, header_text, seal
from tests.security.attack_zoo import ATTACKS

#: small, so that what is accepted is also quick to compute
LIMITS = Limits(memory=1 << 22, nodes=2000, edges=20_000, total_terms=20_000, size_terms=256)
#: seconds that one mutant may take
PATIENCE = 5.0
#: events that reading may cause; `open` is looked at more closely
ALLOWED_EVENTS = {"open", "mmap.__new__", "sys._getframe", "object.__getattr__"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

VALUES: list[Any] = [
    0, 1, -1, 2, 3, 7, 16, 17, 255, 256, 4096, 4097, 1 << 31, -(1 << 31), (1 << 40), (1 << 40) + 1,
    1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -(1 << 63), True, False, None, 0.0, -0.0,
    1.0, 0.5, 1e300, 1e-320, 3.4028235e38, "", "n", "m", "x", "w", "nan", "inf", "-inf", "float32",
    "float64", "int8", "int64", "uint64", "bool", "object", "constant.0", "add", "placeholder",
    "variable", "constant", "custom:x", "__class__", "../x", "a\nb", "\u202e", "{0}", "%s", "//",
    [], {}, [[]], [0], [1], [-1], [0, 1], [1, 0], ["n"], [[1, "n"], [1]], [[2, "n", "n"]],
    [[1, ["//", "n", 2]]], [[1, ["//", [[1, "n"], [-1]], "n"]]], {"axes": [0]}, {"axis": 0},
    {"value": "constant.0"}, {"dtype": "float32", "shape": ["n", 3]}, {"shape": [3]},
]  # fmt: skip


class Watch:
    """The audit hook; armed only while a mutant is read."""

    def __init__(self) -> None:
        self.armed = False
        self.path = ""
        self.violations: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event == "open":
            path, mode, flags = args
            writes = (flags or 0) & WRITING or set(mode or "r") & set("wax+")
            if not writes and os.fspath(path) == self.path:
                return
        elif event in ALLOWED_EVENTS:
            return
        # Noted as well as raised: the code under test may turn the exception into a refusal.
        self.violations.append(f"{event}{args!r}"[:200])
        raise RuntimeError(f"forbidden while reading: {event}")


# ---- mutants ---------------------------------------------------------------------------------


def corpus(folder: Path, seeds: int = 12) -> list[tuple[str, Any, bytes]]:
    """(graph text, table, data) of right files: by hand, and of random graphs."""
    files = [(json.dumps(DOCUMENT), copy.deepcopy(TABLE), DATA)]
    for seed in range(seeds):
        graph, values = random_graph(seed, size=10 + seed)
        path = folder / "seed.gflow"
        write_graph(path, graph, values)
        files.append(taken_apart(path.read_bytes()))
    return files


def taken_apart(content: bytes) -> tuple[str, Any, bytes]:
    """Graph text, tensor table and data of a right file."""
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    graph = table.pop("__metadata__")["graphflow.graph"]
    return graph, table, content[8 + length :]


def places(value: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Every (container, key) of nested lists and dicts."""
    found = [] if found is None else found
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], (list, dict)):
            places(value[key], found)
    return found


def mutate_tree(rng: random.Random, tree: Any) -> None:
    """Change one place of a JSON value."""
    everywhere = places(tree)
    if not everywhere:
        return
    container, key = rng.choice(everywhere)
    other, other_key = rng.choice(everywhere)
    choice = rng.randrange(7)
    if choice == 0:
        del container[key]
    elif choice == 1:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    elif choice == 2:
        container[key] = copy.deepcopy(other[other_key])
    elif choice == 3 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif choice == 4 and isinstance(container[key], int):
        container[key] += rng.choice([-1, 1, 2, -2, 1 << rng.randrange(70)])
    elif choice == 5 and isinstance(container, dict):
        container[rng.choice(["axes", "shape", "__class__", "x", str(key)])] = container.pop(key)
    else:
        # Copies: a value swapped with one inside it would contain itself.
        mine, yours = copy.deepcopy(container[key]), copy.deepcopy(other[other_key])
        container[key], other[other_key] = yours, mine


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """Change some bytes: flip, set, insert, cut, repeat."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 8])):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(6)
        if choice == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif choice == 1 and at < len(data):
            data[at] = rng.choice(b'"\\[]{},:0-9eEn\x00\xff')
        elif choice == 2:
            data[at:at] = rng.choice([b'"', b"[", b"]", b"{}", b",", b"9" * 30, b"\\ud800", b"NaN"])
        elif choice == 3:
            del data[at : at + rng.choice([1, 2, 8, 64])]
        elif choice == 4:
            data[at:at] = data[at : at + rng.choice([1, 4, 16])] * rng.choice([1, 2, 50])
        else:
            del data[at:]
    return bytes(data)


def mutant(rng: random.Random, seeds: list[tuple[str, Any, bytes]], zoo: list[bytes]) -> bytes:
    """One changed file; the digest is right in most, so that it hides nothing behind it."""
    graph, table, data = copy.deepcopy(rng.choice(seeds))
    kind = rng.randrange(10)
    if kind < 5:
        document = json.loads(graph)
        for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
            mutate_tree(rng, document)
        return seal(header_text(json.dumps(document), table), data)
    if kind == 5:
        changed = {"__metadata__": json.loads(header_text(graph, {}))["__metadata__"], **table}
        for _ in range(rng.choice([1, 1, 2, 3])):
            mutate_tree(rng, changed)
        return seal(json.dumps(changed), mutate_bytes(rng, data) if rng.random() < 0.3 else data)
    if kind == 6:
        text = mutate_bytes(rng, graph.encode()).decode("utf-8", "replace")
        return seal(header_text(text, table), data)
    if kind == 7:
        return seal(mutate_bytes(rng, header_text(graph, table).encode()), data)
    if kind == 8:
        return mutate_bytes(rng, seal(header_text(graph, table), data))
    return mutate_bytes(rng, rng.choice(zoo))


# ---- the run ---------------------------------------------------------------------------------


class Fuzzer:
    """Reads mutants until the time is over or one of them does what it must not."""

    def __init__(self, seed: int, folder: Path):
        self.rng = random.Random(seed)
        self.path = folder / "mutant.gflow"
        self.copy = folder / "copy.gflow"
        self.seeds = corpus(folder)
        made = (make() for make, _ in ATTACKS.values())
        self.zoo = [content for content in made if len(content) < 20_000]
        self.refusals: collections.Counter[str] = collections.Counter()
        self.accepted = self.count = 0
        self.slowest = 0.0
        self.watch = Watch()
        self.watch.path = str(self.path)
        for text, table, data in self.seeds:  # also imports all that reading needs
            self.path.write_bytes(seal(header_text(text, table), data))
            check(self.path, limits=LIMITS)
            read_graph(self.path, limits=LIMITS, mmap=True)
            read_graph(self.path, limits=LIMITS)

    def run(self, seconds: float) -> str:
        """What went wrong; empty if nothing did."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.path.write_bytes(mutant(self.rng, self.seeds, self.zoo))
            self.count += 1
            problem = self.read()
            if problem:
                return problem
        return ""

    def read(self) -> str:
        """Read the mutant that lies at `path`."""
        start = time.monotonic()
        entrance = self.rng.randrange(3)
        saved = None
        self.watch.armed = True
        try:
            if entrance == 0:
                check(self.path, limits=LIMITS)
            else:
                saved = read_graph(self.path, limits=LIMITS, mmap=entrance == 2)
            self.accepted += 1
        except GraphFormatError as error:
            message = str(error)
            if not (message.isascii() and message.isprintable() and len(message) < 500):
                return f"a message of more than one line: {message!r}"
            self.refusals[re.sub(r"[0-9]+|'[^']*'", "#", message)[:60]] += 1
        except BaseException as error:  # noqa: BLE001 the point of the exercise
            return f"{type(error).__name__}: {error}"
        finally:
            self.watch.armed = False
        self.slowest = max(self.slowest, time.monotonic() - start)
        if self.watch.violations:
            return f"forbidden: {self.watch.violations[0]}"
        if self.slowest > PATIENCE:
            return f"reading took {self.slowest:.1f} s"
        return self.use(saved) if saved is not None else ""

    def use(self, saved: Any) -> str:
        """An accepted graph can be written, read again, and computed or refused in order."""
        try:
            options = {"structure": saved.structure, "name": saved.name, "limits": LIMITS}
            write_graph(self.copy, saved.graph, saved.values, **options)
            again = read_graph(self.copy, limits=LIMITS)
            first = self.copy.read_bytes()
            write_graph(self.copy, again.graph, again.values, **options)
            if self.copy.read_bytes() != first:
                return "writing what was read gives other bytes"
            inputs = [
                np.zeros([s if isinstance(s, int) else 1 for s in node.shape], node.dtype)
                for node in saved.graph.inputs
            ]
            evaluate(saved.graph, inputs, dict(saved.values))
        except (GraphError, IndexError, ZeroDivisionError, MemoryError):
            return ""  # sizes and indices that no input can satisfy
        except Exception as error:  # noqa: BLE001 the point of the exercise
            return f"accepted, then {type(error).__name__}: {error}"
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for a mutant that is a finding")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(options.seed, Path(folder))
        problem = fuzzer.run(options.seconds)
        print(
            f"{fuzzer.count} mutants, {fuzzer.count / options.seconds:.0f}/s, {fuzzer.accepted} "
            f"accepted, {len(fuzzer.refusals)} different refusals, slowest {fuzzer.slowest:.3f} s"
        )
        if problem:
            content = fuzzer.path.read_bytes()
            print(f"FOUND: {problem}")
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{options.seed}-{fuzzer.count}.gflow").write_bytes(content)
            else:
                print(repr(content[:6000]))
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
