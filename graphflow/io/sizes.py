"""Sizes (ints and polynomials over named dims) to JSON and back, one form for each.

    784 -> 784          batch -> "batch"          2*batch*time + (h - 1)//2 + 1 ->
    [[1, ["//", [[1, "h"], [-1]], 2]], [2, "batch", "time"], [1]]

A list is a sum of terms, a term is its coefficient and its atoms, an atom is a name or a division.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from graphflow.compiler.dims import Axis, Dim, FloorDiv, Size, Symbol, floor_div, symbol
from graphflow.compiler.errors import GraphError, GraphFormatError
from graphflow.io.limits import Limits
from graphflow.io.strict_json import shown

_DIVISION = "//"


def encode_size(size: Size) -> Any:
    """The JSON form of a size."""
    if isinstance(size, int):
        return int(size)
    if len(size.terms) == 1:
        ((monomial, coefficient),) = size.terms
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0].name
    return [[coefficient, *map(_encode_atom, monomial)] for monomial, coefficient in size.terms]


def _encode_atom(atom: Symbol | Axis | FloorDiv) -> Any:
    if isinstance(atom, Symbol):
        return atom.name
    if isinstance(atom, FloorDiv):
        return [_DIVISION, encode_size(atom.numerator), encode_size(atom.denominator)]
    raise GraphFormatError(f"the loop variable {atom} cannot be saved")


class SizeReader:
    """Decodes sizes under limits, and measures how much algebra they can cause.

    Attributes:
        names: the named dims met so far.
        spent: the sum of the costs given to `spend`.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self.names: set[str] = set()
        self.spent = 0
        self._expansions: dict[Dim, int] = {}

    def read(self, value: Any) -> Size:
        """The size of a JSON value.

        Raises:
            GraphFormatError: the value is no size, or not written in its one form.
        """
        if type(value) is int:
            self._check_int(value)
            return value
        if type(value) is str:
            return self._symbol(value)
        if type(value) is not list or not value:
            raise GraphFormatError(f"{shown(value)} is no size")
        self.limits.check("size_terms", len(value), "the number of terms of a size")
        total: Size = 0
        for term in value:
            total = total + self._term(term)
        # Equal sizes must have equal texts, or files with the same meaning would differ.
        if encode_size(total) != value:
            raise GraphFormatError(f"the size {shown(value)} is not in its canonical form")
        self.expansion(total)
        return total

    def _check_int(self, value: int) -> None:
        self.limits.check("size", abs(value), "a size")

    def _symbol(self, name: str) -> Dim:
        try:
            dim = symbol(name)
        except GraphError:
            raise GraphFormatError(f"{shown(name)} is no name of a dim") from None
        self.names.add(name)
        self.limits.check("symbols", len(self.names), "the number of named dims")
        return dim

    def _term(self, term: Any) -> Size:
        if type(term) is not list or not term or type(term[0]) is not int or not term[0]:
            raise GraphFormatError(f"{shown(term)} is no term of a size")
        self._check_int(term[0])
        self.limits.check("rank", len(term) - 1, "the number of factors of a term")
        product: Size = term[0]
        for atom in term[1:]:
            product = product * self._atom(atom)
        return product

    def _atom(self, atom: Any) -> Dim:
        if type(atom) is str:
            return self._symbol(atom)
        if type(atom) is not list or len(atom) != 3 or atom[0] != _DIVISION:
            raise GraphFormatError(f"{shown(atom)} is no factor of a size")
        numerator, denominator = self.read(atom[1]), self.read(atom[2])
        if isinstance(denominator, int) and denominator <= 0:
            raise GraphFormatError(f"a size is divided by {denominator}")
        quotient = floor_div(numerator, denominator)
        # A quotient that simplifies has another form, and products of sums would grow without end.
        if not _is_atom(quotient):
            raise GraphFormatError(f"the size {shown(atom)} is not in its canonical form")
        return quotient

    def expansion(self, size: Size) -> int:
        """How many terms a size has once its divisions are multiplied out: a bound on the work.

        Raises:
            GraphFormatError: more than `limits.size_terms`, or a coefficient above `limits.size`.
        """
        if isinstance(size, int):
            return 1
        known = self._expansions.get(size)
        if known is not None:
            return known
        total = 0
        for monomial, coefficient in size.terms:
            self._check_int(coefficient)
            self.limits.check("rank", len(monomial), "the number of factors of a term")
            product = 1
            for atom in monomial:
                if isinstance(atom, FloorDiv):
                    inside = self.expansion(atom.numerator) * self.expansion(atom.denominator)
                    product *= 1 + inside
            total += product
            self.limits.check("size_terms", total, "the number of terms of a size")
        self._expansions[size] = total
        return total

    def cost(self, shape: tuple[Size, ...]) -> int:
        """The algebra that one use of a shape can cause; 0 for ints and bare names.

        Raises:
            GraphFormatError: more than `limits.size_terms`.
        """
        product = 1
        for size in shape:
            product *= self.expansion(size)
            self.limits.check("size_terms", product, "the number of terms of a shape")
        return product - 1

    def spend(self, cost: int) -> None:
        """Count the cost of one use of a shape.

        Raises:
            GraphFormatError: all uses together exceed `limits.total_terms`.
        """
        self.spent += cost
        self.limits.check("total_terms", self.spent, "the number of terms of all shapes")


def _is_atom(size: Size) -> TypeGuard[Dim]:
    return (
        isinstance(size, Dim)
        and len(size.terms) == 1
        and size.terms[0][1] == 1
        and len(size.terms[0][0]) == 1
    )
