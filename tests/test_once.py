"""What depends on weights alone is computed again only when a variable has changed."""

import ctypes
import threading

import numpy as np
import pytest

import graphflow as gf
from graphflow import keras
from graphflow.io.gflow import load, save
from graphflow.runtime.executor import FUEL
from graphflow.runtime.layout import UNDONE

X = np.linspace(-1, 1, 4 * 300, dtype="f4").reshape(4, 300)


def normalization(batch="batch", updates=None):
    """(x - mean) / sqrt(variance + 1) with a variance that no call changes."""
    x = gf.placeholder((batch, 300), name="x")
    mean, variance = gf.variable(np.zeros(300, "f4")), gf.variable(np.full(300, 3, "f4"))
    f = gf.function([x], (x - mean) * gf.rsqrt(variance + 1), updates=updates)
    return f, mean, variance


def repeated(f, *arrays):
    """Names of the launches that run in further calls."""
    return [record.label for record in f.profile(*arrays) if record.calls]


def test_the_second_call_does_not_compute_it_again():
    f, _, _ = normalization()
    f(X)
    assert [step.label for step in f.program.steps] == ["add_rsqrt", "subtract_multiply"]
    assert f.program.once == 1
    assert repeated(f, X) == ["subtract_multiply"]


def test_the_first_call_computes_it_once():
    f, _, _ = normalization()
    assert [record.calls for record in f.profile(X)] == [1, 20]


def test_another_batch_size_does_not_compute_it_again():
    f, _, _ = normalization()
    f(X)
    np.testing.assert_allclose(f(X[:2]), X[:2] / 2)
    assert repeated(f, X) == ["subtract_multiply"]


def by_value(variance):
    variance.value = np.full(300, 15, "f4")


def by_assign(variance):
    variance.assign(np.full(300, 15, "f4"))


def by_a_function(variance):
    gf.function([], updates=[(variance, variance * 4 + 3)])()


def by_an_interpreted_function(variance):
    gf.function([], updates=[(variance, variance * 4 + 3)], mode="interpret")()


def by_a_debugged_function(variance):
    gf.function([], updates=[(variance, variance * 4 + 3)], mode="debug")()


def by_a_loop(variance):
    gf.function([], updates=[(variance, variance + 4)]).run_many(count=3)


def by_a_function_that_then_fails(variance):
    n = gf.placeholder((3,), "int64", name="n")
    f = gf.function([n], gf.take(gf.arange(3), n), updates=[(variance, variance + 4)])
    with pytest.raises(IndexError, match="by run 3 of the loop"):
        f.run_many(np.array([[0, 1, 2]] * 3 + [[0, 1, 7]]))


@pytest.mark.parametrize(
    "change",
    [
        by_value,
        by_assign,
        by_a_function,
        by_an_interpreted_function,
        by_a_debugged_function,
        by_a_loop,
        by_a_function_that_then_fails,
    ],
)
def test_a_changed_variable_is_seen_by_the_next_call(change):
    f, _, variance = normalization()
    for _ in range(2):
        np.testing.assert_allclose(f(X), X / 2)
    change(variance)
    np.testing.assert_allclose(f(X), X / 4)
    np.testing.assert_allclose(f.run_many(X[None], keep_all=True)[0], X / 4)


def test_profile_puts_variables_back_and_that_is_seen():
    f, _, variance = normalization()
    grow = gf.function([], updates=[(variance, variance + 1)])
    f(X)
    grow.profile()
    np.testing.assert_allclose(f(X), X / 2)


def test_weights_that_keras_sets_are_seen():
    inputs = keras.Input((300,))
    model = keras.Model(inputs, keras.layers.BatchNormalization(epsilon=0.0)(inputs))
    first = model.predict(X)
    gamma, beta, mean, variance = model.get_weights()
    model.set_weights([gamma * 2, beta, mean, variance])
    np.testing.assert_allclose(model.predict(X), 2 * first, rtol=1e-6)


def test_the_storage_cannot_be_written_behind_the_back_of_functions():
    _, _, variance = normalization()
    with pytest.raises(ValueError, match="read-only"):
        variance.storage[...] = 0
    variance.value[...] = 0
    assert variance.value.tolist() == [3] * 300


def test_a_loop_computes_it_once_in_front():
    f, _, variance = normalization(batch=4)
    stacks = np.stack([X, X + 1, X + 2])
    np.testing.assert_allclose(f.run_many(stacks, keep_all=True), stacks / 2)
    variance.value = np.full(300, 15, "f4")
    rows = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    np.testing.assert_allclose(f.run_many(X, order=rows, keep_all=True), X[rows] / 4)
    np.testing.assert_allclose(f(X), X / 4)


def test_what_a_function_updates_itself_leaves_the_rest_right():
    """A frozen layer in a training step."""
    count = gf.variable(np.zeros((), "f4"))
    f, _, variance = normalization(updates=[(count, count + 1)])
    f(X)
    labels = repeated(f, X)
    assert "subtract_multiply" in labels
    assert "add_rsqrt" not in labels
    variance.value = np.full(300, 15, "f4")
    np.testing.assert_allclose(f(X), X / 4)


def test_a_function_that_updates_what_it_reads_has_nothing_to_keep():
    x = gf.placeholder((4, 300), name="x")
    variance = gf.variable(np.full(300, 3, "f4"))
    f = gf.function([x], x * gf.rsqrt(variance + 1), updates=[(variance, variance * 4 + 3)])
    np.testing.assert_allclose(f(X), X / 2)
    np.testing.assert_allclose(f(X), X / 4)
    assert f.program.once == 0


def test_random_numbers_are_drawn_in_every_call():
    x = gf.placeholder((4, 300), name="x")
    f = gf.function([x], x + gf.random.normal((300,)))
    assert not np.array_equal(f(X), f(X))


def test_a_result_of_weights_alone_is_a_new_array():
    _, _, variance = normalization()
    f = gf.function([], gf.sqrt(variance + 1))
    first = f()
    first[...] = 0
    np.testing.assert_allclose(f(), np.full(300, 2))


def test_threads_have_their_own_copies():
    f, _, variance = normalization()
    f(X)
    wrong = []

    def call():
        for _ in range(300):
            y = f(X)
            if not any(np.allclose(y, X / k) for k in (2, 4)):
                wrong.append(y)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for k in range(200):
        variance.value = np.full(300, 15 if k % 2 else 3, "f4")
    for thread in threads:
        thread.join()
    assert not wrong
    for _ in range(4):
        np.testing.assert_allclose(f(X), X / 4)


def test_an_interrupt_while_it_is_computed_leaves_nothing_half_done():
    f, _, variance = normalization()
    f(X)
    executor = f._runner.executor
    run, fuel = executor._run, 10

    def interrupted(address):
        word = ctypes.c_int64.from_address(address + fuel * 8)
        word.value = -1
        # Without fuel, the driver returns in front of the first launch.
        assert run(address) == UNDONE
        word.value = FUEL
        raise KeyboardInterrupt

    variance.value = np.full(300, 15, "f4")
    executor._run = interrupted
    with pytest.raises(KeyboardInterrupt):
        f(X)
    executor._run = run
    np.testing.assert_allclose(f(X), X / 4)


def test_a_saved_function_keeps_and_sees_changes(tmp_path):
    f, _, _ = normalization()
    save(f, tmp_path / "f.gflow")
    g = load(tmp_path / "f.gflow")
    np.testing.assert_allclose(g(X), X / 2)
    (variance,) = (v for v in g.variables if v.value[0] == 3)
    variance.value = np.full(300, 15, "f4")
    np.testing.assert_allclose(g(X), X / 4)
    np.testing.assert_allclose(f(X), X / 2)
    assert repeated(g, X) == ["subtract_multiply"]


def test_a_loop_reads_what_was_computed_once():
    x = gf.placeholder((5, 64), name="x")
    w = gf.variable(np.eye(64, dtype="f4"))
    carry, _ = gf.scan(lambda c, row: (c @ (w * 2 + w) + row, None), gf.zeros((1, 64)), x)
    f = gf.function([x], carry)
    data = np.ones((5, 64), "f4")
    np.testing.assert_allclose(f(data), np.full((1, 64), 121))
    w.value = 2 * np.eye(64, dtype="f4")
    np.testing.assert_allclose(f(data), np.full((1, 64), sum(6**k for k in range(5))))


def test_memory_and_explain_tell_what_is_kept():
    f, _, _ = normalization()
    assert f.memory(batch=4).kept == 1200
    assert "2, 1 of them only when a variable has changed (1.2 KiB kept)" in f.explain()


def test_it_can_be_switched_off():
    f, _, _ = normalization()
    with gf.config(passes=("once",)):
        f.compile()
    assert f.program.once == 0
    np.testing.assert_allclose(f(X), X / 2)


def once_labels(f):
    return [step.label for step in f.program.steps[: f.program.once]]


def test_a_value_that_a_product_and_a_sum_read_is_computed_once():
    x, w = gf.placeholder((64, 64), name="x"), gf.variable(np.ones((64, 64), "f4"))
    half = w * 0.5
    f = gf.function([x], [x @ half, gf.tanh(x - half)])
    product, other = f(np.eye(64))
    np.testing.assert_allclose(product, np.full((64, 64), 0.5))
    np.testing.assert_allclose(other, np.tanh(np.eye(64) - 0.5), rtol=1e-6)
    assert once_labels(f) == ["multiply"]


def test_a_value_that_two_kernels_read_is_computed_once():
    x, w = gf.placeholder((500, 64), name="x"), gf.variable(np.ones((500, 64), "f4"))
    half = w * 0.5
    f = gf.function([x], [gf.sum(x * half, axis=0), x - half])
    total, rest = f(np.ones((500, 64)))
    np.testing.assert_allclose(total, np.full(64, 250))
    np.testing.assert_allclose(rest, np.full((500, 64), 0.5))
    assert once_labels(f) == ["multiply"]


def test_only_what_is_read_in_every_call_is_kept():
    x, w = gf.placeholder((64, 64), name="x"), gf.variable(2 * np.eye(64, dtype="f4"))
    f = gf.function([x], x @ (w @ w @ w))
    np.testing.assert_allclose(f(np.eye(64)), 8 * np.eye(64))
    assert once_labels(f) == ["matmul", "matmul"]
    assert f.memory().kept == 64 * 64 * 4


def test_results_and_updates_are_made_in_each_call():
    """Also where they are a reshape, and where something else reads them."""
    x, w = gf.placeholder((64, 64), name="x"), gf.variable(np.ones((64, 64), "f4"))
    copy = gf.variable(np.zeros((64, 64), "f4"))
    root = gf.exp(w)
    f = gf.function([x], [gf.reshape(root, (4096,)), x @ root], updates=[(copy, root * 2)])
    for _ in range(2):
        flat, product = f(np.eye(64))
        np.testing.assert_allclose(flat, np.full(4096, np.e), rtol=1e-6)
        np.testing.assert_allclose(product, np.full((64, 64), np.e), rtol=1e-6)
        np.testing.assert_allclose(copy.value, np.full((64, 64), 2 * np.e), rtol=1e-6)
        flat[...], copy.value = 0, np.zeros((64, 64), "f4")
