"""The derivative harness must notice wrong rules: each op's vjp is broken on purpose, many ways."""

from __future__ import annotations

import pytest

from graphflow.compiler import autodiff
from graphflow.compiler.errors import GraphError
from graphflow.compiler.op import ops
from graphflow.compiler.ops.blocks import full_like, reshape, sum_to
from tests.ops.cases import CASES
from tests.ops.harness import WrongDerivative, build, check_derivatives

# ---- ways to be wrong ------------------------------------------------------------------------
# Each takes (node, cotangent, right parts) and gives wrong ones, or the same where it does not
# apply.


def scaled(node, ct, parts):
    return [p if p is None else p * 1.01 for p in parts]


def flipped(node, ct, parts):
    return [p if p is None else -p for p in parts]


def last_flipped(node, ct, parts):
    return [*parts[:-1], parts[-1] if parts[-1] is None else -parts[-1]]


def first_dropped(node, ct, parts):
    return [None, *parts[1:]]


def last_dropped(node, ct, parts):
    return [*parts[:-1], None]


def swapped(node, ct, parts):
    if len(parts) < 2 or None in parts[:2] or parts[0].spec != parts[1].spec:
        return parts
    return [parts[1], parts[0], *parts[2:]]


def factor_forgotten(node, ct, parts):
    if isinstance(ct, (list, tuple)):
        return parts
    return [ct if p is not None and p.spec == ct.spec else p for p in parts]


def cotangent_forgotten(node, ct, parts):
    """The rule of f(x) for a cotangent of ones."""
    if isinstance(ct, (list, tuple)):
        return parts
    return node.op.vjp.__wrapped__(node, full_like(ct, 1.0))


def cotangent_squared(node, ct, parts):
    if isinstance(ct, (list, tuple)):
        return parts
    return node.op.vjp.__wrapped__(node, ct * ct)


def term_added(node, ct, parts):
    return [p if p is None else p + p * p * 0.01 for p in parts]


def constant_added(node, ct, parts):
    return [p if p is None else p + 0.01 for p in parts]


def derivative_cut(node, ct, parts):
    """Right, but its own derivative is lost."""
    return [p if p is None else ops.stop_gradient(p) for p in parts]


def first_element_lost(node, ct, parts):
    """Zero at position 0 of the first axis."""

    def masked(p):
        if p is None or not p.ndim:
            return p if p is None else p * 0.0
        place = ops.iota(shape=p.shape, axis=0, dtype="int64")
        zero = ops.full(shape=(), value=0, dtype="int64")
        return ops.where(ops.equal(place, zero), full_like(p, 0.0), p)

    return [masked(p) for p in parts]


def invented(node, ct, parts):
    """A gradient where there is none."""
    if isinstance(ct, (list, tuple)) or any(p is not None for p in parts):
        return parts
    return [ct if x.dtype == ct.dtype and x.shape == ct.shape else None for x in node.inputs]


MUTATIONS = (
    scaled,
    flipped,
    last_flipped,
    first_dropped,
    last_dropped,
    swapped,
    factor_forgotten,
    cotangent_forgotten,
    cotangent_squared,
    term_added,
    constant_added,
    derivative_cut,
    first_element_lost,
    invented,
)

#: rows are few here, since there are many mutants: those with a derivative, small first
DIFFERENTIATED = {
    name: [row for row in rows if row.wrt and row.order]
    for name, rows in CASES.items()
    if any(row.wrt for row in rows) and name != "project"
}


def breaks(monkeypatch, name, mutation):
    """Run the harness over an op whose rule is broken: (was the rule changed, was it noticed)."""
    op = ops.find(name)
    right = op.vjp
    changed = []

    def wrong(node, ct):
        parts = right(node, ct)
        result = mutation(node, ct, parts)
        changed.append(any(a is not b for a, b in zip(parts, result, strict=True)))
        return result

    wrong.__wrapped__ = right
    monkeypatch.setitem(op.__dict__, "vjp", wrong)
    caught = False
    for row in DIFFERENTIATED[name]:
        try:
            check_derivatives(build(name, row))
        except (WrongDerivative, GraphError):
            caught = True
            break
    return any(changed), caught


#: mutations that leave a rule right: (op, mutation), with the reason
EQUIVALENT = {
    # The cotangent has the shape of an operand only where the op is the identity.
    *(
        (name, "factor_forgotten")
        for name in ("prod", "max", "min", "concat", "gather_windows", "spread_windows")
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_wrong_rules_are_noticed(monkeypatch, mutation):
    tried, missed = 0, []
    for name in DIFFERENTIATED:
        with monkeypatch.context() as patch:
            changed, caught = breaks(patch, name, mutation)
        if changed and (name, mutation.__name__) not in EQUIVALENT:
            tried += 1
            if not caught:
                missed.append(name)
    assert tried >= 3
    assert not missed, f"{mutation.__name__}: {len(missed)} of {tried} not noticed: {missed}"


def test_there_are_enough_mutants():
    assert len(DIFFERENTIATED) * len(MUTATIONS) >= 500


def _first_of_axis(part, shape):
    """Takes one element of a repeated axis instead of the sum."""
    total = sum_to(part, shape)
    if total is part:
        return part
    kept = tuple(shape)
    lead = part.ndim - len(kept)
    sizes = tuple(
        1 if axis < lead or kept[axis - lead] == 1 else size for axis, size in enumerate(part.shape)
    )
    none = (0,) * part.ndim
    return reshape(ops.slice(part, start=none, step=(1,) * part.ndim, shape=sizes), kept)


@pytest.mark.parametrize("wrong", [lambda part, shape: part, _first_of_axis], ids=["none", "first"])
def test_a_forgotten_sum_over_broadcast_axes_is_noticed(monkeypatch, wrong):
    monkeypatch.setattr(autodiff, "sum_to", wrong)
    for name in ("add", "subtract", "multiply", "divide", "maximum", "atan2", "where", "matmul"):
        with pytest.raises((WrongDerivative, GraphError)):
            for row in DIFFERENTIATED[name]:
                check_derivatives(build(name, row))


def test_the_harness_passes_the_right_rules():
    """What is noticed above is the mutation, not the harness' own error."""
    for name, rows in DIFFERENTIATED.items():
        assert sum(check_derivatives(build(name, row)) for row in rows) > 0, name
