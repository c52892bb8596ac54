"""Einstein summation: subscripts parsed once, then sums, transposes and batched matrix products."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphflow.compiler.dims import Size, product
from graphflow.compiler.graph import Node
from graphflow.compiler.op import describe, ops
from graphflow.compiler.ops.blocks import full, permute, reshape, sum_over
from graphflow.compiler.spec import is_equal
from graphflow.creation import iota
from graphflow.errors import GraphError, ShapeError, with_line
from graphflow.tensor import Tensor, promoted

__all__ = ["einsum"]

#: letters that stand for the axes of '...', the last axis first
_DOTS = "ZYXWVUTSRQPO"


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A node and one letter for each of its axes."""

    node: Node
    letters: str

    def arranged(self, order: str) -> Node:
        """The node with its axes in the order of the letters given."""
        if order == self.letters:
            return self.node
        return permute(self.node, [self.letters.index(letter) for letter in order])

    def summed(self, keep: Collection[str]) -> _Labelled:
        """Without the letters that nothing needs any more."""
        axes = [k for k, letter in enumerate(self.letters) if letter not in keep]
        rest = "".join(letter for letter in self.letters if letter in keep)
        return _Labelled(sum_over(self.node, axes), rest)


def einsum(subscripts: str, *operands: Any) -> Tensor:
    """The sum of products that `subscripts` describes, as in NumPy.

    >>> import graphflow as gf
    >>> q, k = (gf.placeholder(("batch", "time", 8)) for _ in range(2))
    >>> einsum("bqd,bkd->bqk", q, k).shape
    (Dim(batch), Dim(time), Dim(time))

    Args:
        subscripts: one letter per axis and operand, comma-separated. Without `->` the result has
            the letters that occur once, in alphabetical order. `...` stands for further axes,
            which broadcast.

    Raises:
        GraphError: the subscripts cannot be read.
        ShapeError: letters and axes do not match, or a letter has two sizes.
    """
    nodes = promoted("einsum", *operands) if operands else []
    terms, result = _parse(subscripts, nodes)
    sizes = _letter_sizes(subscripts, terms, nodes)
    items = [
        _without_ones(_diagonal(_Labelled(node, term)), sizes)
        for node, term in zip(nodes, terms, strict=True)
    ]
    current = items[0]
    for number, item in enumerate(items[1:], start=1):
        later = set(result).union(*(rest.letters for rest in items[number + 1 :]))
        current = _contract(
            current.summed(later | set(item.letters)),
            item.summed(later | set(current.letters)),
            later,
            sizes,
        )
    return Tensor(current.summed(result).arranged(result))


# ---- subscripts ------------------------------------------------------------------------------


def _parse(subscripts: str, nodes: Sequence[Node]) -> tuple[list[str], str]:
    """Letters of each operand and of the result, with '...' spelled out."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    letters = text.replace("->", "").replace("...", "").replace(",", "")
    readable = all(c.isascii() and c.isalpha() and c not in _DOTS for c in letters)
    if not readable or len(parts) != len(nodes) or "," in right or "->" in right:
        raise GraphError(
            with_line(
                f"einsum: {subscripts!r} for {len(nodes)} operands; expected one group of letters "
                f"(not {_DOTS[-1]} to {_DOTS[0]}) for each, as in 'ij,jk->ik'"
            )
        )
    extra = [node.ndim - len(p.replace("...", "")) for p, node in zip(parts, nodes, strict=True)]
    for number, (part, count) in enumerate(zip(parts, extra, strict=True)):
        if count < 0 or count > len(_DOTS) or (count and "..." not in part):
            raise ShapeError(
                with_line(
                    f"einsum: '{part}' for operand {number} with {nodes[number].ndim} axes; "
                    f"expected a letter for each\n  {describe(nodes[number])}"
                )
            )
    terms = [p.replace("...", _DOTS[:n][::-1]) for p, n in zip(parts, extra, strict=True)]
    every = "".join(terms)
    dots = _DOTS[: max(extra)][::-1]
    if arrow:
        result = right.replace("...", dots)
    else:
        result = dots + "".join(c for c in sorted(every) if every.count(c) == 1 and c not in dots)
    if len(set(result)) != len(result) or not set(result) <= set(every):
        raise GraphError(
            with_line(
                f"einsum: the result '{right}' of {subscripts!r}; expected letters of the operands, "
                "each at most once"
            )
        )
    return terms, result


def _letter_sizes(
    subscripts: str, terms: Sequence[str], nodes: Sequence[Node]
) -> Mapping[str, Size]:
    sizes: dict[str, Size] = {}
    for term, node in zip(terms, nodes, strict=True):
        for letter, size in zip(term, node.shape, strict=True):
            known = sizes.setdefault(letter, size)
            if known == 1:
                sizes[letter] = size
            elif size != 1 and not is_equal(known, size, "einsum"):
                raise ShapeError(
                    with_line(
                        f"einsum: '{letter}' in {subscripts!r} is {known} and {size}; expected one "
                        "size\n  " + "; ".join(describe(n) for n in nodes[:4])
                    )
                )
    return sizes


# ---- operands --------------------------------------------------------------------------------


def _diagonal(item: _Labelled) -> _Labelled:
    """An operand that names a letter twice, reduced to the elements where the axes agree."""
    node, letters = item.node, item.letters
    for letter in dict.fromkeys(letters):
        while letters.count(letter) > 1:
            first, second = letters.index(letter), letters.rindex(letter)
            index = [iota((node.shape[k],), 0) for k in (first, second)]
            column, row = (
                reshape(i, [s if a == k else 1 for a, s in enumerate(node.shape)])
                for i, k in zip(index, (first, second), strict=True)
            )
            zero = full((), 0, node.dtype)
            node = sum_over(ops.where(ops.equal(column, row), node, zero), [second])
            letters = letters[:second] + letters[second + 1 :]
    return _Labelled(node, letters)


def _without_ones(item: _Labelled, sizes: Mapping[str, Size]) -> _Labelled:
    """Without axes of size 1 that broadcast against a longer one elsewhere."""
    kept = [
        (letter, size)
        for letter, size in zip(item.letters, item.node.shape, strict=True)
        if size != 1 or sizes[letter] == 1
    ]
    return _Labelled(
        reshape(item.node, [size for _, size in kept]), "".join(letter for letter, _ in kept)
    )


def _contract(
    left: _Labelled, right: _Labelled, later: Collection[str], sizes: Mapping[str, Size]
) -> _Labelled:
    """The product of two operands, summed over shared letters that nothing later needs."""
    shared = [letter for letter in left.letters if letter in right.letters]
    batch = "".join(letter for letter in shared if letter in later)
    inner = "".join(letter for letter in shared if letter not in later)
    rows = "".join(letter for letter in left.letters if letter not in shared)
    columns = "".join(letter for letter in right.letters if letter not in shared)
    letters = batch + rows + columns
    shape = [sizes[letter] for letter in letters]
    if inner and (rows or columns):
        lead = [sizes[letter] for letter in batch]
        m, k, n = (product(sizes[letter] for letter in part) for part in (rows, inner, columns))
        a = reshape(left.arranged(batch + rows + inner), (*lead, m, k))
        b = reshape(right.arranged(batch + inner + columns), (*lead, k, n))
        return _Labelled(
            reshape(ops.matmul(a, b, transpose_a=False, transpose_b=False), shape), letters
        )
    # No axis is left on either side, or nothing is summed: an elementwise product.
    order = letters + inner
    a, b = (
        reshape(
            item.arranged("".join(c for c in order if c in item.letters)),
            [sizes[c] if c in item.letters else 1 for c in order],
        )
        for item in (left, right)
    )
    return _Labelled(sum_over(ops.multiply(a, b), range(len(letters), len(order))), letters)
