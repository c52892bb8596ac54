"""Compiles the kernel of one template node, without the rest of the pipeline, and runs it."""

from __future__ import annotations

import ctypes
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from graphflow.compiler.codegen.epilogue import EpilogueWriter
from graphflow.compiler.codegen.source import KernelDraft
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.dims import Size, evaluate
from graphflow.compiler.graph import Node, topological_order
from graphflow.compiler.schedule import IMPORTS
from graphflow.compiler.target import host_target
from graphflow.runtime import jit

Emit = Callable[[Node, TemplateKernel], KernelDraft]
GUARD = 64


class TemplateRunner:
    """The kernel of `template` with the elementwise nodes up to `output` as its epilogue.

    Args:
        emit: writes the kernel; the op's own `emit` by default.
    """

    def __init__(self, template: Node, output: Node | None = None, emit: Emit | None = None):
        self.output = template if output is None else output
        epilogue = None
        if output is not None:
            leaves = [n for n in topological_order([output]) if n.op.is_leaf]
            nodes = topological_order([output], within=self._behind(template, output))
            epilogue = EpilogueWriter(template, [n for n in nodes if n not in leaves], [output])
        kernel = TemplateKernel(template, epilogue, "template", target=host_target())
        self.draft = (emit or template.op.emit)(template, kernel)
        self.source = f"{IMPORTS}\n\n@kernel\ndef entry(buffers, dims, lo, hi):\n{self.draft.body}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "template.py"
            path.write_text(self.source, encoding="utf-8")
            self.object_code, symbol = jit.compile_kernel(path, "entry")
        self.loaded = jit.load_object(self.object_code, [symbol])
        kind = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
        )
        self.entry = kind(self.loaded[symbol])

    @staticmethod
    def _behind(template: Node, output: Node) -> set[Node]:
        """Nodes that need the template's value, and what is computed beside it."""
        return {n for n in topological_order([output]) if n not in topological_order([template])}

    def __call__(
        self, values: Mapping[Node, np.ndarray], env: Mapping[str, int], shares: int = 1
    ) -> np.ndarray:
        """The output; memory around it is checked to be untouched.

        Args:
            values: arrays of the leaves.
            env: sizes of named dims.
            shares: how many pieces the outermost axis is cut into, run last to first.
        """
        shape = tuple(evaluate(size, env) for size in self.output.shape)
        count = int(np.prod(shape))
        memory = np.full(count + 2 * GUARD, 77, self.output.dtype)
        out = memory[GUARD : GUARD + count].reshape(shape)
        arrays = {n: np.ascontiguousarray(a) for n, a in values.items()} | {self.output: out}
        pointers = np.array([arrays[n].ctypes.data for n in self.draft.buffers], np.uintp)
        dims = np.array([evaluate(_size(s), env) for s in self.draft.dims] + [0], np.int64)
        extent = evaluate(self.draft.extent, env)
        cuts = [extent * k // shares for k in range(shares + 1)]
        for begin, end in reversed(list(itertools.pairwise(cuts))):
            self.entry(pointers.ctypes.data, dims.ctypes.data, begin, end)
        assert (memory[:GUARD] == 77).all() and (memory[GUARD + count :] == 77).all()
        return out


def _size(entry: object) -> Size:
    assert isinstance(entry, int) or hasattr(entry, "terms")
    return entry  # type: ignore[return-value]


def undefined_symbols(object_code: bytes) -> list[str]:
    """Names that an ELF64 object leaves to the linker."""
    header = np.frombuffer(object_code[40:48], "<u8")[0]
    size, count = np.frombuffer(object_code[58:62], "<u2")
    names: list[str] = []
    sections: Sequence[tuple[int, int, int, int]] = [
        tuple(  # type: ignore[misc]
            int(np.frombuffer(object_code[at + o : at + o + w], f"<u{w}")[0])
            for o, w in ((4, 4), (24, 8), (32, 8), (40, 4))
        )
        for at in range(int(header), int(header) + int(size) * int(count), int(size))
    ]
    for kind, offset, length, link in sections:
        if kind != 2:
            continue
        strings = sections[link][1]
        for at in range(offset, offset + length, 24):
            name = int(np.frombuffer(object_code[at : at + 4], "<u4")[0])
            section = int(np.frombuffer(object_code[at + 6 : at + 8], "<u2")[0])
            if name and section == 0:
                end = object_code.index(b"\0", strings + name)
                names.append(object_code[strings + name : end].decode())
    return names
