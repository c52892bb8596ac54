"""The elementwise group behind a template, applied to each element of a finished tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphflow.compiler.codegen.emitter import GroupEmitter, NotFusible
from graphflow.compiler.codegen.loops import group_name
from graphflow.compiler.codegen.source import KernelDraft, KernelWriter
from graphflow.compiler.codegen.templates import TemplateKernel
from graphflow.compiler.dims import Size, axis
from graphflow.compiler.graph import Node
from graphflow.compiler.target import Target


class EpilogueWriter:
    """Turns one element of the template's node into the group's outputs."""

    def __init__(self, template: Node, nodes: Sequence[Node], outputs: Sequence[Node]):
        self.template = template
        self.members = {node for node in nodes if node is not template}
        self.outputs = tuple(outputs)
        self.emitter: GroupEmitter | None = None

    def __call__(self, writer: KernelWriter, index: tuple[Size, ...], value: str) -> None:
        emitter = GroupEmitter(writer, self.members)
        name = emitter.define(writer.fresh(), value, 0)
        emitter.known[self.template] = (index, name, 0)
        for node in self.outputs:
            emitter.store(node, index)
        emitter.blocks[0].write(writer)
        self.emitter = emitter


def check_epilogue(template: Node, nodes: Sequence[Node], outputs: Sequence[Node]) -> None:
    """Raise NotFusible where the group cannot run element by element behind the template."""
    if any(node.shape != template.shape for node in outputs):
        raise NotFusible("an output has another shape than the template")
    index = tuple(axis(f"i{a}", size) for a, size in enumerate(template.shape))
    EpilogueWriter(template, nodes, outputs)(KernelWriter(), index, "value")


def emit_template(
    template: Node,
    nodes: Sequence[Node],
    outputs: Sequence[Node],
    target: Target,
    wanted: Mapping[Node, Node],
) -> KernelDraft:
    """The kernel of a template with the rest of its group as epilogue."""
    if tuple(outputs) == (template,) and len(nodes) == 1:
        alone = TemplateKernel(template, target=target)
        return template.op.emit(template, alone)  # type: ignore[attr-defined]
    writer = EpilogueWriter(template, nodes, outputs)
    kernel = TemplateKernel(template, writer, group_name(nodes), target=target)
    draft = template.op.emit(template, kernel)  # type: ignore[attr-defined]
    assert writer.emitter is not None
    inputs = set(template.inputs)
    pairs = [p for p in writer.emitter.in_place_pairs(wanted) if p[1] not in inputs]
    return kernel.draft(
        draft.name,
        draft.extent,
        draft.cost,
        grain=draft.grain,
        parallel=draft.parallel,
        in_place=pairs,
    )
