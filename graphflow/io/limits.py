"""How much a saved graph may ask for, in one table; only the caller of save and load raises it."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.errors import GraphFormatError

#: no caller can allow a longer header: readers of safetensors refuse one too
LONGEST_HEADER = 100_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds that a reader checks before it allocates what they bound.

    Attributes:
        header: bytes of the JSON header, at most 100 MB.
        nesting: depth of brackets in JSON.
        values: JSON values in the header, and again in the graph.
        tensors: arrays in the file.
        rank: axes of a tensor.
        size: elements along one axis, and any int among the attributes.
        nodes: nodes of the graph and its bodies together.
        edges: inputs of all nodes together.
        list_length: items of one attribute.
        body_depth: bodies of control flow inside one another.
        symbols: names of dims.
        size_terms: terms that the product of one shape's sizes can grow to.
        total_terms: the same, over all uses of shapes in the graph; bare names are free.
        memory: bytes of all arrays and of the live intermediate values, every named dim taken
            as 1.
    """

    header: int = 16 << 20
    nesting: int = 32
    values: int = 2_000_000
    tensors: int = 100_000
    rank: int = 16
    size: int = 1 << 40
    nodes: int = 100_000
    edges: int = 1_000_000
    list_length: int = 4096
    body_depth: int = 8
    symbols: int = 1024
    size_terms: int = 4096
    total_terms: int = 1_000_000
    memory: int = 4 << 30

    def check(self, name: str, amount: int, what: str) -> None:
        """Refuse `amount` above the limit `name`; `what` says whose amount it is.

        Raises:
            GraphFormatError: names the amount, the limit and how to raise it.
        """
        allowed = getattr(self, name)
        if amount > allowed:
            raise GraphFormatError(
                f"{what} is {amount}; at most {allowed} allowed, raise it with "
                f"limits=Limits({name}=...) if you trust the file"
            )


DEFAULT_LIMITS = Limits()
