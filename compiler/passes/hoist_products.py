"""Products in a loop that no pass of the loop waits for are made once, for all its passes.

    for t:  ... x[t] @ w ...                ->      z = x @ w                  before the loop
    for t:  y[t] = v[t] @ w                 ->      y = v @ w                  after the loop
    for t:  total = total + x[t]ᵀ d[t]      ->      total = total + (all rows of x)ᵀ (all rows of d)

The reverse of a recurrent layer has the last kind for each weight, and sums of the same rows for
each bias.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphflow.compiler.dims import Size
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import reshape
from graphflow.compiler.ops.control import results


def hoist_products(graph: Graph) -> Graph:
    """Move products, and sums over the rows of a pass, out of the scans of a graph."""
    moved: dict[Node, list[Node]] = {}

    def replace(node: Node, inputs: tuple[Node, ...]) -> Node:
        if node.op.name == "scan":
            before = _hoist_before(rebuild(node, inputs))
            loop = _Loop(before)
            if loop.products or loop.totals:
                moved[node] = loop.hoist()
            return before
        if node.op.is_projection and node.inputs[0] in moved:
            return moved[node.inputs[0]][node.attrs["index"]]
        return rebuild(node, inputs)

    return graph.rewrite(replace)


def _is_product(node: Node) -> bool:
    """A product of matrices whose rows are the rows of the left one."""
    return (
        node.op.name == "matmul"
        and all(x.ndim == 2 for x in node.inputs)
        and not node.attrs["transpose_a"]
    )


def _hoist_before(scan: Node) -> Node:
    """Products of a sequence and a constant become sequences."""
    body, count = scan.attrs["body"], scan.attrs["carries"]
    split = count + scan.attrs["sequences"]
    outer = dict(zip(body.inputs, scan.inputs, strict=True))
    rows, constants = body.inputs[count:split], body.inputs[split:]
    found = [
        node
        for node in body.nodes
        if _is_product(node) and node.inputs[0] in rows and node.inputs[1] in constants
    ]
    if not found:
        return scan
    stand_ins = {node: ops.placeholder(dtype=node.dtype, shape=node.shape) for node in found}
    made = [ops.matmul(*(outer[x] for x in node.inputs), **node.attrs) for node in found]
    after = body.rewrite(lambda node, inputs: stand_ins.get(node) or rebuild(node, inputs))
    inputs = (*body.inputs[:split], *stand_ins.values(), *constants)
    attrs = {**scan.attrs, "sequences": split - count + len(found)}
    attrs["body"] = Graph(inputs, after.outputs)
    return ops.scan(*scan.inputs[:split], *made, *scan.inputs[split:], **attrs)


class _Loop:
    """A scan, and what can be made after it.

    Attributes:
        totals: for a carry that is only added to, by position: what each pass adds.
        products: for a row that is a product with a constant, by position: the product.
    """

    def __init__(self, scan: Node):
        self.scan = scan
        self.body: Graph = scan.attrs["body"]
        self.length: Size = scan.attrs["length"]
        self.carries: int = scan.attrs["carries"]
        self.split = self.carries + scan.attrs["sequences"]
        self.outer = dict(zip(self.body.inputs, scan.inputs, strict=True))
        self.constants = set(self.body.inputs[self.split :])
        outputs = self.body.outputs
        self.products = {
            k: row
            for k, row in enumerate(outputs)
            if k >= self.carries and _is_product(row) and row.inputs[1] in self.constants
            if not self.body.users[row] and row.inputs[0] not in self.constants
        }
        self.totals: dict[int, list[Node]] = {}
        for k in range(self.carries):
            addends = self._addends(self.body.inputs[k], outputs[k])
            if addends and all(self._is_sum_of_rows(x) for x in addends):
                self.totals[k] = addends

    def _addends(self, total: Node, after: Node) -> list[Node]:
        """What a pass adds to a carry; nothing if the carry is used in any other way."""
        users, outputs = self.body.users, self.body.outputs
        if len(users.get(total, ())) != 1 or total in outputs or outputs.count(after) > 1:
            return []
        found, pending, seen = [], [(after, 0)], False
        while pending:
            node, uses = pending.pop()
            inside = node.op.name == "add" and len(users[node]) == uses
            if node is total:
                seen = True
            elif inside and all(x.shape == node.shape for x in node.inputs):
                pending += [(x, 1) for x in node.inputs]
            else:
                found.append(node)
        return found if seen else []

    def _is_sum_of_rows(self, node: Node) -> bool:
        """Whether the sum of this value over all passes is one product, or one sum, of all rows."""
        if len(self.body.users[node]) != 1 or node in self.body.outputs:
            return False
        if any(x in self.constants or x.op.is_leaf and x not in self.outer for x in node.inputs):
            return False
        if node.op.name == "sum":
            return True
        return (
            node.op.name == "matmul"
            and all(x.ndim == 2 for x in node.inputs)
            and node.attrs["transpose_a"]
            and not node.attrs["transpose_b"]
        )

    # ---- making ------------------------------------------------------------------------------

    def hoist(self) -> list[Node]:
        """The results of the scan, as nodes over a smaller one."""
        body, outputs = self.body, self.body.outputs
        kept = [k for k in range(len(outputs)) if k not in self.totals and k not in self.products]
        rows = self._needed_rows()
        carries = [k for k in kept if k < self.carries]
        stacked = [k for k in kept if k >= self.carries]
        inputs = [x for k, x in enumerate(body.inputs) if k not in self.totals]
        attrs = {**self.scan.attrs, "carries": len(carries)}
        attrs["body"] = Graph(tuple(inputs), (*(outputs[k] for k in carries + stacked), *rows))
        made = results(ops.scan(*(self.outer[x] for x in inputs), **attrs))
        found = dict(zip(carries + stacked, made, strict=False))
        all_rows = dict(zip(rows, made[len(kept) :], strict=True))
        sequences = body.inputs[self.carries : self.split]
        all_rows |= {x: self.outer[x] for x in sequences}
        for k, row in self.products.items():
            left, right = row.inputs
            found[k] = ops.matmul(all_rows[left], self.outer[right], **row.attrs)
        for k, addends in self.totals.items():
            found[k] = self.outer[body.inputs[k]]
            for node in addends:
                found[k] = found[k] + self._over_all(node, [all_rows[x] for x in node.inputs])
        return [found[k] for k in range(len(outputs))]

    def _needed_rows(self) -> list[Node]:
        """Values of a pass that must be kept for what is made after the loop."""
        needed: Iterable[Node] = (
            *(row.inputs[0] for row in self.products.values()),
            *(x for addends in self.totals.values() for node in addends for x in node.inputs),
        )
        sequences = self.body.inputs[self.carries : self.split]
        return [x for x in dict.fromkeys(needed) if x not in sequences]

    def _over_all(self, node: Node, operands: list[Node]) -> Node:
        """The sum over all passes of a value that each pass made of a row of each operand."""
        if node.op.name == "sum":
            axes = (0, *(axis + 1 for axis in node.attrs["axes"]))
            return ops.sum(operands[0], axes=axes)
        flat = [reshape(x, (x.shape[0] * x.shape[1], x.shape[2])) for x in operands]
        return ops.matmul(*flat, **node.attrs)
