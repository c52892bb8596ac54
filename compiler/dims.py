"""Integer algebra over named dims and loop axes: one form for shapes, offsets and loop extents.

A Dim is a polynomial with integer coefficients over atoms. An atom is a `Symbol` (a named dim of
the user, any value >= 0), an `Axis` (a loop variable with a known extent) or a `FloorDiv` of a
Dim. `a % b` is kept as `a - b * (a // b)`, so that splitting an index and joining it again
cancels by itself: `(i // 28) * 28 + i % 28` is `i`. Constant results are plain ints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from numbers import Integral

from graphflow.compiler.errors import GraphError, ShapeError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./:\-]{0,255}\Z")


@dataclass(frozen=True, slots=True)
class Symbol:
    """A dim that is known only when the function is called."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop variable, 0 <= value < extent."""

    name: str
    extent: Size

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class FloorDiv:
    """floor(numerator / denominator), denominator > 0, that no rule could resolve."""

    numerator: Size
    denominator: Size

    def __str__(self) -> str:
        return f"({self.numerator})//({self.denominator})"


Atom = Symbol | Axis | FloorDiv
Monomial = tuple[Atom, ...]


def _of_sizes(method: Callable[[Dim, Size], Size]) -> Callable[[Dim, Size], Size]:
    """An operator that leaves other operands than sizes to them: `x.shape[0] * x` is a tensor."""

    @wraps(method)
    def checked(self: Dim, other: object) -> Size:
        if isinstance(other, Dim) or (isinstance(other, Integral) and not isinstance(other, bool)):
            return method(self, other if isinstance(other, Dim) else int(other))
        return NotImplemented

    return checked


class Dim:
    """An integer polynomial over atoms; immutable, hashable, equal when the polynomials are."""

    __slots__ = ("_hash", "terms")

    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]):
        self.terms = terms
        self._hash = hash(terms)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    @_of_sizes
    def __add__(self, other: Size) -> Size:
        return _sum(self, other)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return _product(self, -1)

    @_of_sizes
    def __sub__(self, other: Size) -> Size:
        return _sum(self, _product(other, -1))

    @_of_sizes
    def __rsub__(self, other: Size) -> Size:
        return _sum(other, _product(self, -1))

    @_of_sizes
    def __mul__(self, other: Size) -> Size:
        return _product(self, other)

    __rmul__ = __mul__

    @_of_sizes
    def __floordiv__(self, other: Size) -> Size:
        return floor_div(self, other)

    @_of_sizes
    def __rfloordiv__(self, other: Size) -> Size:
        return floor_div(other, self)

    @_of_sizes
    def __mod__(self, other: Size) -> Size:
        return self - other * floor_div(self, other)

    @_of_sizes
    def __rmod__(self, other: Size) -> Size:
        return other - self * floor_div(other, self)

    def __bool__(self) -> bool:
        raise GraphError(f"the dim '{self}' is known only when the function runs; it is no bool")

    def __index__(self) -> int:
        raise GraphError(
            f"the dim '{self}' is known only when the function runs; it cannot become an int here"
        )

    def __str__(self) -> str:
        return self.source(str)

    def __repr__(self) -> str:
        return f"Dim({self})"

    def source(self, name: Callable[[Atom], str]) -> str:
        """Python text of the polynomial; `name` gives the text of a Symbol or an Axis."""
        parts: list[str] = []
        for monomial, coefficient in self.terms:
            factors = [_atom_source(atom, name) for atom in monomial]
            if coefficient != 1 or not factors:
                factors.append(str(abs(coefficient)) if factors else str(coefficient))
            text = "*".join(f for f in factors if f != "1") or "1"
            if coefficient < 0 and monomial:
                parts.append(f"- {text}" if parts else f"-{text}")
            elif coefficient < 0:
                parts.append(f"- {-coefficient}" if parts else text)
            else:
                parts.append(f"+ {text}" if parts else text)
        return " ".join(parts)


Size = int | Dim


def _atom_source(atom: Atom, name: Callable[[Atom], str]) -> str:
    if isinstance(atom, FloorDiv):
        return f"(({size_source(atom.numerator, name)}) // ({size_source(atom.denominator, name)}))"
    return name(atom)


def size_source(size: Size, name: Callable[[Atom], str]) -> str:
    """Python text of an int or a Dim."""
    return str(size) if isinstance(size, int) else size.source(name)


def symbol(name: str) -> Dim:
    """The named dim `name`; the same name is the same dim everywhere in one function."""
    if not _NAME.match(name):
        raise GraphError(
            f"dim name {name!r} is not allowed; use letters, digits and _ . / : - "
            "(at most 256), starting with a letter"
        )
    return Dim((((Symbol(name),), 1),))


def axis(name: str, extent: Size) -> Size:
    """A loop variable; one with a single value is that value."""
    return 0 if extent == 1 else Dim((((Axis(name, extent),), 1),))


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(size, Dim):
        return size.terms
    return (((), size),) if size else ()


def _build(terms: dict[Monomial, int]) -> Size:
    kept = {m: c for m, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    # Constants last; a stable order makes equal polynomials equal tuples and equal text.
    return Dim(tuple(sorted(kept.items(), key=lambda item: (not item[0], *map(str, item[0])))))


@lru_cache(maxsize=65536)
def _sum(a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    terms = dict(_terms(a))
    for monomial, coefficient in _terms(b):
        terms[monomial] = terms.get(monomial, 0) + coefficient
    return _build(terms)


@lru_cache(maxsize=65536)
def _product(a: Size, b: Size) -> Size:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    terms: dict[Monomial, int] = {}
    for left, x in _terms(a):
        for right, y in _terms(b):
            monomial = tuple(sorted(left + right, key=str))
            terms[monomial] = terms.get(monomial, 0) + x * y
    return _build(terms)


@lru_cache(maxsize=65536)
def floor_div(numerator: Size, denominator: Size) -> Size:
    """numerator // denominator (denominator > 0), split into the exact part and the rest.

    Terms that the denominator divides leave the quotient at once; a rest that is known to lie
    in [0, denominator) vanishes. What remains becomes a FloorDiv atom.
    """
    if isinstance(denominator, int):
        if denominator == 1:
            return numerator
        if denominator <= 0:
            raise ShapeError(f"division of a dim by {denominator}; the divisor must be positive")
        if isinstance(numerator, int):
            return numerator // denominator
    exact: Size = 0
    rest: Size = 0
    for monomial, coefficient in _terms(numerator):
        quotient = _divide_term(monomial, coefficient, denominator)
        if quotient is None:
            rest = rest + Dim(((monomial, coefficient),)) if monomial else rest + coefficient
        else:
            exact = exact + quotient
    if isinstance(rest, int) and isinstance(denominator, int):
        return exact + rest // denominator
    if rest == 0 or _is_below(rest, denominator):
        return exact
    nested = _nested_division(rest, denominator)
    if nested is not None:
        return exact + nested
    return exact + Dim((((FloorDiv(rest, denominator),), 1),))


def _divide_term(monomial: Monomial, coefficient: int, denominator: Size) -> Size | None:
    """The exact quotient of one term, or None."""
    if isinstance(denominator, int):
        if coefficient % denominator == 0 and monomial:
            return _build({monomial: coefficient // denominator})
        return None
    if len(denominator.terms) != 1:
        return None
    (factors, scale) = denominator.terms[0]
    rest = list(monomial)
    for factor in factors:
        if factor not in rest:
            return None
        rest.remove(factor)
    return _build({tuple(rest): coefficient // scale}) if coefficient % scale == 0 else None


def _nested_division(numerator: Size, denominator: Size) -> Size | None:
    """(x // a) // b is x // (a * b)."""
    if isinstance(numerator, Dim) and len(numerator.terms) == 1:
        (monomial, coefficient) = numerator.terms[0]
        if coefficient == 1 and len(monomial) == 1 and isinstance(monomial[0], FloorDiv):
            return floor_div(monomial[0].numerator, monomial[0].denominator * denominator)
    return None


def _is_below(size: Size, bound: Size) -> bool:
    """Whether 0 <= size < bound is certain."""
    if not is_nonnegative(size):
        return False
    upper = upper_bound(size)
    return upper is not None and is_nonnegative(bound - 1 - upper)


def upper_bound(size: Size) -> Size | None:
    """The largest value that a sum of non-negative terms over Axis atoms can take, or None."""
    total: Size = 0
    for monomial, coefficient in _terms(size):
        if coefficient < 0:
            continue
        largest: Size = coefficient
        for atom in monomial:
            bound = _atom_bound(atom)
            if bound is None:
                return None
            largest = largest * bound
        total = total + largest
    return total


def _atom_bound(atom: Atom) -> Size | None:
    if isinstance(atom, Axis):
        return atom.extent - 1
    if isinstance(atom, FloorDiv):
        top = upper_bound(atom.numerator)
        return None if top is None else floor_div(top, atom.denominator)
    return Dim((((atom,), 1),))


def is_nonnegative(size: Size) -> bool:
    """Whether size >= 0 is certain (symbols and axes are >= 0)."""
    if isinstance(size, int):
        return size >= 0
    for monomial, coefficient in size.terms:
        if coefficient < 0:
            return False
        for atom in monomial:
            if isinstance(atom, FloorDiv) and not is_nonnegative(atom.numerator):
                return False
    return True


def atoms(size: Size) -> set[Symbol | Axis]:
    """All symbols and axes of a size, those inside divisions included."""
    found: set[Symbol | Axis] = set()
    for monomial, _ in _terms(size):
        for atom in monomial:
            if isinstance(atom, FloorDiv):
                found |= atoms(atom.numerator) | atoms(atom.denominator)
            else:
                found.add(atom)
                if isinstance(atom, Axis):
                    found |= {a for a in atoms(atom.extent) if isinstance(a, Symbol)}
    return found


def symbols(sizes: Iterable[Size]) -> list[str]:
    """Names of the symbols in `sizes`, sorted."""
    return sorted({a.name for s in sizes for a in atoms(s) if isinstance(a, Symbol)})


def coefficient(size: Size, axis_dim: Size) -> Size | None:
    """The factor of an axis in a size that is linear in it; None where it is not linear."""
    if isinstance(axis_dim, int):
        return 0
    wanted = axis_dim.terms[0][0][0]
    total: Size = 0
    for monomial, factor in _terms(size):
        count = sum(1 for atom in monomial if atom == wanted)
        if count > 1 or any(isinstance(a, FloorDiv) and wanted in atoms_of(a) for a in monomial):
            return None
        if count == 1:
            rest = list(monomial)
            rest.remove(wanted)
            total = total + _build({tuple(rest): factor})
    return total


def atoms_of(division: FloorDiv) -> set[Symbol | Axis]:
    """The atoms inside one division."""
    return atoms(division.numerator) | atoms(division.denominator)


def evaluate(size: Size, env: Mapping[str, int]) -> int:
    """The value of a size, given the values of its names."""
    if isinstance(size, int):
        return size
    total = 0
    for monomial, factor in size.terms:
        for atom in monomial:
            if isinstance(atom, FloorDiv):
                factor *= evaluate(atom.numerator, env) // evaluate(atom.denominator, env)
            else:
                factor *= env[atom.name]
        total += factor
    return total


def substitute(size: Size, values: Mapping[str, Size]) -> Size:
    """The size with names replaced by other sizes."""
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, factor in size.terms:
        product: Size = factor
        for atom in monomial:
            if isinstance(atom, FloorDiv):
                value = floor_div(
                    substitute(atom.numerator, values), substitute(atom.denominator, values)
                )
            else:
                value = values.get(atom.name, Dim((((atom,), 1),)))
            product = product * value
        total = total + product
    return total


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def row_major_strides(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """Element strides of a dense array, last axis fastest."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * size
    return tuple(reversed(strides))


def linear_offset(index: tuple[Size, ...], shape: tuple[Size, ...]) -> Size:
    """Element offset of `index` in a dense array of `shape`."""
    offset: Size = 0
    for position, stride in zip(index, row_major_strides(shape), strict=True):
        offset = offset + position * stride
    return offset


def delinearize(offset: Size, shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """The index of element `offset` in a dense array of `shape`; the inverse of linear_offset."""
    if any(isinstance(size, int) and size == 0 for size in shape):
        # There is no element; loops over the array run zero times.
        return (0,) * len(shape)
    index: list[Size] = []
    for stride in row_major_strides(shape):
        step = floor_div(offset, stride)
        index.append(step)
        offset = offset - step * stride
    return tuple(index)


#: what a named dim is taken for where only a guess is needed: a batch
TYPICAL = 32


def typical(size: Size) -> int:
    """The value of a size if its named dims were batches of usual size."""
    return evaluate(size, {a.name: TYPICAL for a in atoms(size)})  # type: ignore[union-attr]
