"""The algebra of sizes against plain integers, on random expressions."""

import itertools
import random

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.dims import (
    Axis,
    Dim,
    FloorDiv,
    atoms,
    axis,
    coefficient,
    delinearize,
    evaluate,
    floor_div,
    is_nonnegative,
    linear_offset,
    product,
    row_major_strides,
    size_source,
    substitute,
    symbol,
    symbols,
    upper_bound,
)
from graphflow.compiler.errors import GraphError, ShapeError

N, M, K = (symbol(name) for name in "nmk")
EXTENTS = {"i": 5, "j": 28}
I, J = (axis(name, extent) for name, extent in EXTENTS.items())


def random_env(rng):
    """Sizes for the symbols, and positions for the axes."""
    env = {name: rng.choice([1, 2, 3, 7, 64]) for name in "nmk"}
    return env | {name: rng.randrange(extent) for name, extent in EXTENTS.items()}


def random_size(rng, depth, envs):
    """A size, and its value in each environment computed without the algebra."""
    if depth == 0 or rng.random() < 0.15:
        name = rng.choice(["n", "m", "k", "i", "j", None])
        if name is None:
            number = rng.randrange(-6, 30)
            return number, [number] * len(envs)
        leaf = {"n": N, "m": M, "k": K, "i": I, "j": J}[name]
        return leaf, [env[name] for env in envs]
    left, a = random_size(rng, depth - 1, envs)
    kind = rng.choice("++-**//%")
    if kind in "/%":
        right, b = random_divisor(rng, envs)
        size = left // right if kind == "/" else left % right
        values = [x // y if kind == "/" else x % y for x, y in zip(a, b, strict=True)]
        return size, values
    right, b = random_size(rng, depth - 1, envs)
    if kind == "+":
        return left + right, [x + y for x, y in zip(a, b, strict=True)]
    if kind == "-":
        return left - right, [x - y for x, y in zip(a, b, strict=True)]
    return left * right, [x * y for x, y in zip(a, b, strict=True)]


def random_divisor(rng, envs):
    """Something that is at least 1."""
    if rng.random() < 0.6:
        number = rng.choice([1, 2, 3, 4, 7, 28])
        return number, [number] * len(envs)
    name, size = rng.choice([("n", N), ("m", M)])
    factor, offset = rng.choice([(1, 0), (3, 0), (2, 5)])
    return size * factor + offset, [env[name] * factor + offset for env in envs]


def expressions(count, depth=4, seed=0):
    rng = random.Random(seed)
    for _ in range(count):
        envs = [random_env(rng) for _ in range(4)]
        size, values = random_size(rng, depth, envs)
        yield size, envs, values


def test_every_expression_has_the_value_of_its_integers():
    kinds = set()
    for size, envs, values in expressions(4000):
        kinds.add(type(size))
        assert [evaluate(size, env) for env in envs] == values, size
    assert kinds == {int, Dim}


def test_the_text_of_a_size_is_python_for_it():
    for size, envs, values in expressions(1500, seed=1):
        text = size_source(size, str)
        assert [eval(text, {}, env) for env in envs] == values, text


def test_substitution_is_evaluation_in_parts():
    rng = random.Random(2)
    for size, envs, values in expressions(1500, seed=2):
        known = set(rng.sample(sorted(envs[0]), rng.randrange(6)))
        for env, value in zip(envs, values, strict=True):
            partly = substitute(size, {name: env[name] for name in known})
            assert evaluate(partly, env) == value
            assert substitute(size, env) == value


def test_bounds_hold():
    for size, envs, values in expressions(4000, depth=3, seed=3):
        largest = upper_bound(size) if is_nonnegative(size) else None
        for env, value in zip(envs, values, strict=True):
            assert not is_nonnegative(size) or value >= 0, size
            assert largest is None or value <= evaluate(largest, env), size


def test_the_order_of_writing_does_not_matter():
    """One polynomial, one object: equal, of one hash and one text."""
    assert N * M + 2 * N - 3 == -3 + N + M * N + N
    assert hash(N * (M + 1)) == hash(N + M * N)
    assert str((N + 1) * (N - 1)) == str(N * N - 1)
    assert N - N == 0
    assert isinstance((N + 3) - N, int)
    assert N != "n"


def test_coefficients_put_linear_sizes_together_again():
    for size, envs, values in expressions(1500, depth=3, seed=4):
        factor = coefficient(size, I)
        if factor is None:
            continue
        rest = size - factor * I
        for env, value in zip(envs, values, strict=True):
            assert evaluate(factor, env) * env["i"] + evaluate(rest, env) == value
            moved = {**env, "i": (env["i"] + 1) % EXTENTS["i"]}
            assert evaluate(rest, moved) == evaluate(rest, env), size


# ---- division --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (lambda: (N * 6) // 3, N * 2),
        (lambda: (N * M) // N, M),
        (lambda: (N * 28 + J) // 28, N),
        (lambda: (N * 28 + J) % 28, J),
        (lambda: (J // 4) * 4 + J % 4, J),
        (lambda: (N * 4 + 7) // 4, N + 1),
        (lambda: (N // 2) // 3, N // 6),
        (lambda: J // 28, 0),
        (lambda: (N + 3) // 1, N + 3),
        (lambda: 7 // symbol("n"), Dim((((FloorDiv(7, N),), 1),))),
    ],
)
def test_division_splits_what_it_can(got, expected):
    assert got() == expected


def test_an_axis_below_a_named_extent():
    inner = axis("a", M)
    assert (N * M + inner) // M == N
    assert (N * M + inner) % M == inner
    assert axis("one", 1) == 0


def test_division_needs_a_positive_divisor():
    for divisor in (0, -3):
        with pytest.raises(ShapeError, match="must be positive"):
            floor_div(N, divisor)


SHAPES = [
    (3,), (2, 3, 4), (5, 1, 7), (1, 1), (), (N, 3), (N, M), (2, N, 3), (N, 4, M), (N, M, K),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_offsets_and_indices_are_inverse(shape):
    """With loop variables for the index, and with every element of the array."""
    variables = tuple(axis(f"a{k}", size) for k, size in enumerate(shape))
    assert delinearize(linear_offset(variables, shape), shape) == variables
    env = {"n": 3, "m": 2, "k": 4}
    sizes = [evaluate(size, env) for size in shape]
    flat = axis("flat", product(shape))
    index = delinearize(flat, shape)
    for offset, expected in enumerate(itertools.product(*map(range, sizes))):
        here = {**env, "flat": offset}
        assert tuple(evaluate(part, here) for part in index) == expected
        assert evaluate(linear_offset(index, shape), here) == offset


@pytest.mark.parametrize(
    ("shape", "other"), [((6, 4), (2, 12)), ((N, 6), (N * 2, 3)), ((N, M, 4), (N * M, 4))]
)
def test_a_reshape_of_a_reshape_is_the_identity(shape, other):
    index = tuple(axis(f"a{k}", size) for k, size in enumerate(shape))
    there = delinearize(linear_offset(index, shape), other)
    back = delinearize(linear_offset(there, other), shape)
    for n, m in itertools.product((1, 3), (2, 5)):
        env = {"n": n, "m": m}
        for position in itertools.product(*(range(evaluate(size, env)) for size in shape)):
            here = env | {f"a{k}": value for k, value in enumerate(position)}
            assert tuple(evaluate(part, here) for part in back) == position


def test_an_empty_array_has_no_index():
    assert delinearize(N, (3, 0, 4)) == (0, 0, 0)
    assert row_major_strides((2, N, 3)) == (N * 3, 3, 1)


# ---- names -----------------------------------------------------------------------------------


def test_names_are_found_inside_divisions_and_extents():
    inner = axis("a", M + 1)
    assert symbols([(N + inner) // 3, 4]) == ["m", "n"]
    assert Axis("a", M + 1) in atoms(inner * 2)


def test_a_size_is_no_bool_and_no_int():
    with pytest.raises(GraphError, match="it is no bool"):
        bool(N + 1)
    with pytest.raises(GraphError, match="cannot become an int"):
        range(N)


@pytest.mark.parametrize("name", ["", "1n", "a b", "n\n", "x" * 300, "é"])
def test_odd_names_are_refused(name):
    with pytest.raises(GraphError, match="not allowed"):
        symbol(name)


def test_other_operands_than_sizes_are_left_alone():
    for other in (1.5, None, True):
        with pytest.raises(TypeError):
            symbol("n") * other
        with pytest.raises(TypeError):
            other + symbol("n")
    assert symbol("n") * np.int64(3) == 3 * symbol("n")
    x = gf.placeholder(("n", 2), name="x")
    scale = gf.function([x], x.shape[0] * x - x / x.shape[0], mode="interpret")
    np.testing.assert_allclose(scale(np.ones((4, 2), "f4")), np.full((4, 2), 3.75))
