"""Control-flow op to the names of what enters and leaves its bodies, as the user knows them."""

from __future__ import annotations

from graphflow.compiler.graph import Graph, Node


def operand_name(value: Node) -> str:
    """What a reader knows a value by: its name, its place among several results, or its op."""
    if value.name:
        return value.name
    return result_name(value) if value.op.is_projection else value.op.name


def result_name(projection: Node) -> str:
    """One result of an op that has several: `last h`, `rows 0`, `result 1`."""
    source, index = projection.inputs[0], projection.attrs["index"]
    carries = source.attrs.get("carries")
    if carries is None:
        return "result" if len(source.spec) == 1 else f"result {index}"
    if index < carries:
        return f"last {_carry_name(source, index)}"
    return "rows" if len(source.spec) == carries + 1 else f"rows {index - carries}"


def input_names(node: Node, body: Graph) -> list[tuple[str, str]]:
    """For each input of a body the name of the operand and its part: carry, row or neither."""
    # The operands of a body are the last ones: a cond has its predicate before them.
    operands = node.inputs[len(node.inputs) - len(body.inputs) :]
    carries, sequences = node.attrs.get("carries", 0), node.attrs.get("sequences", 0)
    names = []
    for k, value in enumerate(operands):
        if k < carries:
            names.append((_carry_name(node, k), "carry"))
        else:
            names.append((operand_name(value), "row" if k < carries + sequences else ""))
    return names


def output_names(node: Node, body: Graph) -> list[str]:
    """For each output of a body: `next h` for a carry, `row 0`, or `result 0`."""
    carries, count = node.attrs.get("carries"), len(body.outputs)
    if carries is None:
        return ["result"] if count == 1 else [f"result {k}" for k in range(count)]
    names = [f"next {_carry_name(node, k)}" for k in range(carries)]
    rows = count - carries
    return names + (["row"] if rows == 1 else [f"row {k}" for k in range(rows)])


def _carry_name(node: Node, index: int) -> str:
    """A carry goes by the name of its first value, if it has one."""
    return node.inputs[index].name or f"carry {index}"
