"""A product with a vector becomes a sum, which reads the matrix once and in order.

    %2 = matmul(%0, %1) : float32(1000, 1)      %0 : float32(1000, 784), %1 : float32(784, 1)
->
    %2 = reshape(%1, (1, 784))
    %3 = multiply(%0, %2)
    %4 = sum(%3, axes=(1,))
    %5 = reshape(%4, (1000, 1))

Such a product moves two numbers for each operation it makes, and the tiles of the matmul kernel have
nothing to keep in registers: 1000 x 1000 x 1 takes 110 us as a product, 48 us as a sum.
"""

from __future__ import annotations

from graphflow.compiler.dims import product, typical
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import reshape
from graphflow.compiler.spec import is_float

#: a row that is summed has at least so many elements: shorter ones leave the vectors half empty
SHORTEST_ROW = 32
#: a matrix that is summed downwards has at least so many: a smaller one stays in the cache
SMALLEST_COLUMNS = 256 * 1024


def lower_vectors(graph: Graph) -> Graph:
    """Write products with one row or one column as sums where that is faster."""

    def lowered(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        if node.op.name != "matmul" or not is_float(node.dtype):
            return node
        a, b = node.inputs
        if node.shape[-1] == 1:
            return _by_vector(node, a, b, along=not node.attrs["transpose_a"])
        if node.shape[-2] == 1:
            return _by_vector(node, b, a, along=node.attrs["transpose_b"])
        return node

    return graph.rewrite(lowered)


def _by_vector(node: Node, matrix: Node, vector: Node, along: bool) -> Node:
    """The sum of `matrix` times `vector`, along its rows or down its columns."""
    if matrix.ndim != 2 or product(vector.shape[:-2]) != 1:
        return node
    rows, columns = matrix.shape
    size = typical(rows * columns)
    if (typical(columns) < SHORTEST_ROW) if along else (size < SMALLEST_COLUMNS):
        return node
    factor = reshape(vector, (1, columns) if along else (rows, 1))
    total = ops.sum(ops.multiply(matrix, factor), axes=(1,) if along else (0,))
    return reshape(total, node.shape)
