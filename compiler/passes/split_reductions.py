"""Cut a long reduction with few results into two, so that threads can share the first.

So is one down the columns of a matrix that is larger than a cache: threads that share columns use a
part of the sets of their caches only (1024 x 1024: 124 us by columns, 64 us by rows).

    %1 = sum(%0, axes=(0, 1, 2)) : float32(32,)         %0 : float32(batch, 28, 28, 32)
->
    %1 = sum(%0, axes=(1, 2)) : float32(batch, 32)
    %2 = sum(%1, axes=(0,)) : float32(32,)

The cut depends on shapes alone, so results are the same for any number of threads.
"""

from __future__ import annotations

from graphflow.compiler.dims import product, typical
from graphflow.compiler.graph import Graph, Node, rebuild
from graphflow.compiler.op import Reduction
from graphflow.compiler.ops.blocks import reshape

#: fewer elements are reduced sooner than two launches can be made
FEWEST_ELEMENTS = 64 * 1024
#: with so many results, counted in rows or in blocks of neighbouring columns, threads share those
FEWEST_SHARES, SHARE_COLUMNS = 8, 32
#: a matrix whose columns are summed is larger than a cache with so many elements
LARGE_ELEMENTS = 512 * 1024
#: the axis that stays in the first step has at least so many elements, and so has what it reduces
FEWEST_PARTS = 4
#: in how many parts one axis alone is cut, the best first
PARTS = (32, 16, 24, 8, 64, 10, 12, 7, 5, 4)


def split_reductions(graph: Graph) -> Graph:
    """Reduce in two steps where the results are too few to be shared."""

    def split(node: Node, inputs: tuple[Node, ...]) -> Node:
        node = rebuild(node, inputs)
        if not isinstance(node.op, Reduction) or not node.op.splits or not _is_narrow(node):
            return node
        return _along_axis(node) or _within_axis(node) or node

    return graph.rewrite(split)


def _is_narrow(node: Node) -> bool:
    """Whether there is much to reduce, and too little besides that threads could share."""
    (x,), axes = node.inputs, node.attrs["axes"]
    if not axes or typical(x.spec.size) < FEWEST_ELEMENTS:
        return False
    side_by_side = bool(node.shape) and axes[-1] < x.ndim - 1
    if side_by_side and node.ndim == 1:
        if typical(x.spec.size) >= LARGE_ELEMENTS:
            return True
        return typical(node.shape[0]) // SHARE_COLUMNS < FEWEST_SHARES
    return typical(product(node.shape[:-1] if side_by_side else node.shape)) < FEWEST_SHARES


def _along_axis(node: Node) -> Node | None:
    """All axes but one first: the outermost one that is long enough."""
    (x,), axes = node.inputs, node.attrs["axes"]
    for axis in axes:
        others = tuple(a for a in axes if a != axis)
        rest = typical(product(x.shape[a] for a in others))
        if min(typical(x.shape[axis]), rest) >= FEWEST_PARTS:
            partial = node.op(x, axes=others)
            return node.op(partial, axes=(axis - sum(a < axis for a in others),))
    return None


def _within_axis(node: Node) -> Node | None:
    """The longest axis in parts; named dims cannot be cut."""
    (x,), axes = node.inputs, node.attrs["axes"]
    sizes = {axis: size for axis in axes if isinstance(size := x.shape[axis], int)}
    if not sizes or len(sizes) < len(axes):
        return None
    axis = max(sizes, key=sizes.__getitem__)
    parts = next((p for p in PARTS if sizes[axis] % p == 0 and sizes[axis] > p), None)
    if parts is None:
        return None
    cut = reshape(x, (*x.shape[:axis], parts, sizes[axis] // parts, *x.shape[axis + 1 :]))
    moved = tuple(a + (a >= axis) for a in axes)
    partial = node.op(cut, axes=moved)
    return node.op(partial, axes=(axis - sum(a < axis for a in axes),))
