"""A template's kernel: an op that writes its own loops, with a fused epilogue on each tile.

A template op builds a `TemplateKernel` and opens its own loops. Where a tile of the result is
ready, it calls `store(index, value)`: without an epilogue that stores the element, with one it
computes the group's outputs from it.
"""

from __future__ import annotations

from collections.abc import Callable

from graphflow.compiler.codegen.source import KernelDraft, KernelWriter
from graphflow.compiler.dims import Size, axis, linear_offset
from graphflow.compiler.graph import Node
from graphflow.compiler.target import Target

#: writes the statements that consume one element: (writer, index into the node, its text)
Epilogue = Callable[[KernelWriter, tuple[Size, ...], str], None]


class TemplateKernel(KernelWriter):
    """The writer of one template node.

    Attributes:
        node: the template's node.
        target: the machine that the kernel is for.
        epilogue: consumes finished elements; None when the node itself is the only output.
    """

    def __init__(
        self,
        node: Node,
        epilogue: Epilogue | None = None,
        name: str | None = None,
        *,
        target: Target,
    ):
        super().__init__()
        self.node = node
        self.target = target
        self.epilogue = epilogue
        self.name = name or node.op.name

    def index(self, name: str, extent: Size) -> Size:
        """A loop variable that the template opened (0 <= name < extent), as a size to index with."""
        return axis(name, extent)

    def store(self, index: tuple[Size, ...], value: str) -> None:
        """Hand the finished element `index` of the node, whose text is `value`, on."""
        if self.epilogue is not None:
            self.epilogue(self, index, value)
            return
        offset = self.size(linear_offset(index, self.node.shape))
        self.line(f"{self.output(self.node)}[{offset}] = {value}")

    def kernel(
        self, extent: Size, cost: Size, *, grain: int = 1, parallel: bool = True
    ) -> KernelDraft:
        """The finished kernel; see program.Launch for extent, cost and grain."""
        return self.draft(self.name, extent, cost, grain=grain, parallel=parallel)
