"""Random tensors: same seed same numbers, right distributions, independent draws, fresh calls."""

from __future__ import annotations

import math

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler import philox
from graphflow.compiler.errors import GraphError
from graphflow.compiler.graph import Graph
from graphflow.compiler.interpreter import evaluate
from graphflow.compiler.op import ops
from graphflow.random import Generator

COUNT = 200_000


def draw(tensor, calls=1, mode="interpret"):
    f = gf.function([], tensor, mode=mode)
    results = [f() for _ in range(calls)]
    return results[0] if calls == 1 else results


@pytest.fixture(autouse=True)
def seeded():
    gf.seed(1234)


# ---- the stream ------------------------------------------------------------------------------


def test_philox_gives_the_published_vectors():
    """Known answers of the authors' Random123, kat_vectors: philox4x32 10."""
    assert [int(w) for w in philox.philox(0, 0, 0, 0, 0)] == [
        0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8,
    ]  # fmt: skip
    ones = 0xFFFFFFFF
    assert [int(w) for w in philox.philox(ones << 32 | ones, ones, ones, ones, ones)] == [
        0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD,
    ]  # fmt: skip


def test_the_same_seed_gives_the_same_numbers():
    first = draw([gf.random.uniform((5,)), gf.random.normal((5,))])
    gf.seed(1234)
    again = draw([gf.random.uniform((5,)), gf.random.normal((5,))])
    gf.seed(1235)
    other = draw([gf.random.uniform((5,)), gf.random.normal((5,))])
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.any(a == c)


def test_reseeding_repeats_what_an_existing_function_gave():
    f = gf.function([], gf.random.uniform((5,)), mode="interpret")
    first = [f(), f()]
    gf.seed(1234)
    np.testing.assert_array_equal(first, [f(), f()])


def test_elements_do_not_depend_on_the_shape():
    state = gf.variable(np.array([5, 9]))
    a, b = draw(
        [
            gf.Tensor(ops.random_uniform(state.node, shape=s, dtype="float32", stream=2))
            for s in ((2, 6), (3, 4))
        ]
    )
    np.testing.assert_array_equal(a.ravel(), b.ravel())


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1, -(2**63), np.int64(7)])
def test_any_integer_is_a_seed(seed):
    values = draw(gf.random.uniform((100,), generator=Generator(seed)))
    assert 0 <= values.min() and values.max() < 1


def test_a_seed_that_is_no_integer_is_refused():
    with pytest.raises(GraphError, match="expected an int"):
        gf.seed(1.5)


# ---- state -----------------------------------------------------------------------------------


def test_each_call_advances_the_counter_by_one_however_many_draws_there_are():
    source = Generator(1)
    tensors = [gf.random.uniform((3,), generator=source) for _ in range(4)]
    first, second = draw(tensors, calls=2)
    np.testing.assert_array_equal(source.state.value, [1, 2])
    assert not np.any(np.array(first) == np.array(second))


def test_functions_share_the_counter():
    f = gf.function([], gf.random.uniform((3,)), mode="interpret")
    gf.seed(1234)
    g = gf.function([], gf.random.uniform((3,)), mode="interpret")
    assert not np.any(f() == g())


def test_an_update_of_the_user_takes_the_place_of_the_automatic_one():
    source = Generator(1)
    state = source.state
    x = gf.random.uniform((3,), generator=source)
    frozen = gf.function([], x, updates=[(state, state)], mode="interpret")
    np.testing.assert_array_equal(frozen(), frozen())
    np.testing.assert_array_equal(state.value, [1, 0])


def test_draws_inside_a_loop_advance_the_counter_too():
    x = gf.placeholder((4, 3))

    def body(carry, row):
        kept = gf.nn.dropout(row, 0.5)
        return carry + kept, kept

    _, rows = gf.scan(body, gf.zeros((3,)), x)
    f = gf.function([x], rows, mode="interpret")
    data = np.ones((4, 3), "f")
    assert len(f.graph.updates) == 1
    # One draw for all passes, another one on the next call.
    calls = np.array([f(data) for _ in range(8)])
    np.testing.assert_array_equal(calls, np.broadcast_to(calls[:, :1], calls.shape))
    assert len(np.unique(calls[:, 0], axis=0)) > 1


def test_a_function_without_draws_leaves_the_generator_alone():
    x = gf.placeholder((2,))
    assert gf.function([x], x + 1).graph.updates == ()


def test_the_counter_wraps():
    source = Generator(1)
    source.state.value = [1, 2**63 - 1]
    with np.errstate(over="ignore"):
        draw(gf.random.uniform((3,), generator=source))
    np.testing.assert_array_equal(source.state.value, [1, -(2**63)])


def test_a_saved_function_goes_on_where_it_stopped(tmp_path):
    from graphflow.io import load, save

    f = gf.function([], gf.random.uniform((4,), generator=Generator(3)), mode="interpret")
    f()
    save(f, tmp_path / "f.gflow")
    loaded = load(tmp_path / "f.gflow")
    loaded.mode = "interpret"
    for _ in range(3):
        np.testing.assert_array_equal(loaded(), f())


# ---- distributions ---------------------------------------------------------------------------


def moments(values):
    z = (values - values.mean()) / values.std()
    return values.mean(), values.std(), (z**3).mean(), (z**4).mean()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make, expected",
    [
        (gf.random.uniform, (0.5, math.sqrt(1 / 12), 0, 1.8)),
        (gf.random.normal, (0, 1, 0, 3)),
        (gf.random.truncated_normal, (0, 0.8796, 0, 2.366)),
    ],
)
def test_moments(make, expected, dtype):
    values = draw(make((COUNT,), dtype=dtype))
    assert values.dtype == dtype
    got = moments(values.astype(np.float64))
    np.testing.assert_allclose(got, expected, atol=5 * 5 / math.sqrt(COUNT))


def kolmogorov_distance(values, cumulative):
    values = np.sort(values)
    return np.abs(cumulative(values) - (np.arange(values.size) + 0.5) / values.size).max()


def test_distribution_functions():
    phi = np.vectorize(lambda z: 0.5 * (1 + math.erf(z / math.sqrt(2))))
    low, high = phi(-2.0), phi(2.0)
    cases = [
        (gf.random.uniform((20_000,)), lambda v: v),
        (gf.random.normal((20_000,)), phi),
        (gf.random.truncated_normal((20_000,)), lambda v: (phi(v) - low) / (high - low)),
    ]
    for tensor, cumulative in cases:
        # 1.95 / √n is passed by chance once in a thousand seeds.
        assert kolmogorov_distance(draw(tensor), cumulative) < 1.95 / math.sqrt(20_000)


def test_ranges_and_parameters():
    u, z, t = draw(
        [
            gf.random.uniform((COUNT,), -2, 3),
            gf.random.normal((COUNT, 2), mean=np.array([1, -1], "f"), stddev=2.0),
            gf.random.truncated_normal((COUNT,), mean=10, stddev=0.5),
        ]
    )
    assert -2 <= u.min() < -1.99 and 2.99 < u.max() <= 3
    np.testing.assert_allclose(z.mean(0), [1, -1], atol=0.03)
    np.testing.assert_allclose(z.std(0), 2, atol=0.03)
    assert 9 <= t.min() < 9.01 and 10.99 < t.max() <= 11


def test_normal_is_finite_where_the_uniform_is_zero(monkeypatch):
    op = type(ops.random_uniform)
    monkeypatch.setattr(op, "reference", lambda self, s, **a: np.zeros(a["shape"], a["dtype"]))
    assert np.isfinite(draw(gf.random.normal((3,)))).all()
    assert np.isfinite(draw(gf.random.truncated_normal((3,)))).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64"])
def test_randint_reaches_every_number_alike(dtype):
    low = -3 if dtype[0] == "i" else 2
    values = draw(gf.random.randint((70_000,), low, low + 7, dtype=dtype))
    assert values.dtype == dtype
    numbers, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(numbers.astype(int), np.arange(low, low + 7))
    np.testing.assert_allclose(counts, 10_000, atol=500)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64"])
def test_randint_over_a_whole_dtype(dtype):
    limits = np.iinfo(dtype)
    values = draw(gf.random.randint((5000,), limits.min, limits.max + 1, dtype=dtype))
    middle = (limits.min + limits.max) / 2
    assert abs((values > middle).mean() - 0.5) < 0.03


@pytest.mark.parametrize("low, high", [(3, 3), (4, 3), (0.5, 3), (0, 300)])
def test_randint_refuses_what_it_cannot_draw(low, high):
    with pytest.raises(GraphError, match="randint"):
        gf.random.randint((3,), low, high, dtype="int8")


def test_bernoulli():
    a, b, none, every = draw(
        [gf.random.bernoulli((COUNT,), p) for p in (0.3, np.array([0.7], "f"), 0.0, 1.0)]
    )
    assert a.dtype == bool
    assert abs(a.mean() - 0.3) < 0.005 and abs(b.mean() - 0.7) < 0.005
    assert not none.any() and every.all()
    with pytest.raises(GraphError, match="0..1"):
        gf.random.bernoulli((3,), 1.5)


def test_permutation_of_a_size():
    orders = np.array(draw(gf.random.permutation(4), calls=2400))
    np.testing.assert_array_equal(np.sort(orders, 1), np.tile(np.arange(4), (2400, 1)))
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert counts.size == 24
    # 23 degrees of freedom; 49.7 is passed once in a thousand seeds.
    assert np.sum((counts - 100) ** 2 / 100) < 49.7


def test_permutation_of_rows():
    x = gf.placeholder(("n", 2))
    rows = np.arange(20, dtype="f").reshape(10, 2)
    f = gf.function([x], gf.random.permutation(x), mode="interpret")
    got = f(rows)
    assert not np.array_equal(got, rows)
    np.testing.assert_array_equal(got[np.argsort(got[:, 0])], rows)
    for size in (0, 1):
        np.testing.assert_array_equal(draw(gf.random.permutation(size)), np.arange(size))


# ---- independence ----------------------------------------------------------------------------


def test_draws_calls_and_seeds_are_uncorrelated():
    tensors = [gf.random.uniform((20_000,)) for _ in range(3)]
    first, second = draw(tensors, calls=2)
    gf.seed(1235)
    rows = np.array([*first, *second, *draw(tensors)])
    # Neighbours in one stream as well.
    rows = np.concatenate([rows[:, :-1], rows[:1, 1:]])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 4.5 / math.sqrt(20_000)


def test_equal_draws_stay_apart_in_one_graph():
    a, b = gf.random.uniform((1000,)), gf.random.uniform((1000,))
    assert abs(draw(a - b)).mean() > 0.3


# ---- gradients and dropout -------------------------------------------------------------------


def test_gradients_pass_by_the_random_numbers():
    w = gf.variable(np.ones(3, "f"))
    noise = gf.random.normal((3,))
    gradient, values = draw([gf.grad(gf.sum(w * noise), w), noise])
    np.testing.assert_array_equal(gradient, values)


def test_dropout_keeps_the_mean_and_its_gradient_uses_the_same_coins():
    x = gf.placeholder(("n",))
    y = gf.nn.dropout(x, 0.25)
    f = gf.function([x], [y, gf.grad(gf.sum(y), x)], mode="interpret")
    value, slope = f(np.full(COUNT, 3, "f"))
    np.testing.assert_array_equal(np.unique(value), np.array([0, 4], "f"))
    assert abs((value == 0).mean() - 0.25) < 0.005
    np.testing.assert_allclose(value.mean(), 3, atol=0.02)
    np.testing.assert_allclose(slope * 3, value)


def test_dropout_corner_cases():
    x = gf.placeholder(("n", 4, 3))
    data = np.ones((5, 4, 3), "f")
    off, none, every, rows = gf.function(
        [x],
        [
            gf.nn.dropout(x, 0.5, training=False),
            gf.nn.dropout(x, 0.0),
            gf.nn.dropout(x, 1.0),
            gf.nn.dropout(x, 0.5, noise_shape=(x.shape[0], 1, 3)),
        ],
        mode="interpret",
    )(data)
    np.testing.assert_array_equal(off, data)
    np.testing.assert_array_equal(none, data)
    np.testing.assert_array_equal(every, 0 * data)
    np.testing.assert_array_equal(rows, np.broadcast_to(rows[:, :1], rows.shape))
    with pytest.raises(GraphError, match="rate"):
        gf.nn.dropout(x, 1.5)
    with pytest.raises(GraphError, match="noise_shape"):
        gf.nn.dropout(x, 0.5, noise_shape=(2, 5, 4, 3))


# ---- compiled --------------------------------------------------------------------------------


def test_compiled_bits_equal_interpreted_bits():
    x = gf.placeholder(("n", 7), name="x")
    source = Generator(-12345678901234567)
    arguments = {"generator": source}
    exact = [
        gf.random.uniform(x.shape, **arguments),
        gf.random.uniform(x.shape, dtype="float64", **arguments),
        gf.random.bernoulli(x.shape, 0.3, **arguments),
        gf.random.randint((1000,), -3, 4, dtype="int8", **arguments),
        gf.random.permutation(x.shape[0], **arguments),
        gf.nn.dropout(x, 0.5, **arguments),
        gf.permute_dims(gf.random.uniform(x.shape, **arguments), (1, 0)),
    ]
    close = [
        gf.random.normal(x.shape, **arguments),
        gf.random.truncated_normal((100,), dtype="float64", **arguments),
    ]
    f = gf.function([x], [*exact, *close])
    data = np.ones((97, 7), "f")
    state = f.graph.variables[0]
    for counter in (0, 5 << 32 | 7):
        source.state.value = np.array([source.state.value[0], counter])
        expected, updated = evaluate(f.graph, [data], {state: source.state.value})
        got = f(data)
        for a, b in zip(got[: len(exact)], expected, strict=False):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(got[len(exact) :], expected[len(exact) :], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(source.state.value, updated[state])


def test_the_ops_check_what_they_are_given():
    state = ops.variable(shape=(2,), dtype="int64")
    plain = ops.variable(shape=(2,), dtype="float32")
    bad = [
        lambda: ops.random_uniform(plain, shape=(3,), dtype="float32", stream=0),
        lambda: ops.random_uniform(state, shape=(3,), dtype="int32", stream=0),
        lambda: ops.random_uniform(state, shape=(3,), dtype="float32", stream=-1),
        lambda: ops.random_uniform(state, shape=(3,), dtype="float32", stream=1 << 20),
        lambda: ops.random_bits(state, shape=(3,), dtype="int64", stream=0),
        lambda: ops.random_permutation(plain, size=3, stream=0),
    ]
    for make in bad:
        with pytest.raises(GraphError, match="random_"):
            make()


def test_positions_beyond_32_bits_and_streams_do_not_meet():
    from graphflow.compiler.ops.random import STREAM_BITS, _words

    positions = np.array([1, 1 + (1 << 32), 1 + (1 << 40)])
    words = {
        (int(low) & philox.MASK, int(high))
        for stream in (0, 1, (1 << STREAM_BITS) - 1)
        for low, high in zip(*_words(np.zeros(2, np.int64), positions, stream)[1:3], strict=True)
    }
    assert len(words) == 9


def test_a_graph_of_random_ops_alone_needs_no_placeholder():
    state = ops.variable(shape=(2,), dtype="int64")
    node = ops.random_bits(state, shape=(4,), dtype="uint32", stream=0)
    (value,), _ = evaluate(Graph((), (node,)), [], {state: np.array([0, 0])})
    assert value[0] == 0x6627E8D5
