"""What depends on variables alone is computed once, and again when one of them has changed."""

import threading

import numpy as np
import pytest

import graphflow as gf


def scaled():
    """A function with a part that depends on a variable alone, and what it should give."""
    w = gf.variable(np.linspace(0.5, 2.0, 8, dtype="f4"), "w")
    x = gf.placeholder(("n", 50, 8), name="x")
    run = gf.function([x], gf.nn.relu(x * gf.rsqrt(w + 1.0)))
    return w, run, lambda value: np.maximum(value / np.sqrt(w.value + 1), 0)


def array(n=3):
    return np.random.default_rng(n).standard_normal((n, 50, 8), "f4")


def agrees(run, expected, n=3):
    value = array(n)
    return np.allclose(run(value), expected(value), rtol=1e-5)


def calls(run, value):
    """How often each launch runs in five calls."""
    return [record.calls for record in run._runner.executor.profile([value], 5)]


def test_the_part_runs_in_the_first_call_only():
    _, run, _ = scaled()
    value = array()
    run(value)
    program = run.program
    assert program.once == 1 and len(program.steps) == 2
    assert calls(run, value) == [0, 5]


def test_a_costly_value_is_not_computed_for_each_element():
    _, run, _ = scaled()
    first, second = (run.program.kernels[s.kernel].source for s in run.program.steps)
    assert "sqrt" in first and "sqrt" not in second


def test_nor_is_it_where_it_changes_in_each_call():
    x, v = gf.placeholder(("n", 500, 8), name="x"), gf.placeholder((8,), name="v")
    run = gf.function([x, v], x * gf.rsqrt(v + 1.0))
    assert run.program.once == 0
    first, second = (run.program.kernels[s.kernel].source for s in run.program.steps)
    assert "sqrt" in first and "sqrt" not in second


def by_value(w):
    w.value = w.value + 1


def by_assign(w):
    w.assign(np.ones(8, "f4"))


def by_function(w):
    gf.function([], updates=[(w, w * 3)])()


def by_interpreter(w):
    gf.function([], updates=[(w, w * 3)], mode="interpret")()


def by_storage(w):
    w.storage[...] = 7


@pytest.mark.parametrize("change", [by_value, by_assign, by_function, by_interpreter, by_storage])
def test_a_change_is_seen_by_the_next_call(change):
    w, run, expected = scaled()
    for _ in range(3):
        assert agrees(run, expected)
    for _ in range(2):
        change(w)
        assert agrees(run, expected)
        assert agrees(run, expected)


def test_storage_that_was_handed_out_may_change_at_any_time():
    w, run, expected = scaled()
    storage = w.storage
    for k in range(3):
        assert agrees(run, expected)
        storage[k] += 1
        assert agrees(run, expected)


def test_other_sizes_and_back():
    _, run, expected = scaled()
    for n in (3, 5, 3, 1, 3):
        assert agrees(run, expected, n)


def test_a_program_that_writes_other_variables_keeps_its_part():
    frozen, v = gf.variable(np.full(8, 3.0, "f4")), gf.variable(np.zeros(8, "f4"))
    x = gf.placeholder((8,), name="x")
    run = gf.function([x], updates=[(v, v + x * gf.exp(frozen * 0.1))])
    ones = np.ones(8, "f4")
    for k in range(1, 4):
        run(ones)
        np.testing.assert_allclose(v.value, k * np.exp(np.float32(0.3)), rtol=1e-5)
    assert run.program.once == 1
    assert calls(run, ones) == [0, 5]
    frozen.value = np.zeros(8, "f4")
    before = v.value
    run(ones)
    np.testing.assert_allclose(v.value - before, 1.0, rtol=1e-5)


def test_results_and_updates_are_made_in_each_call():
    w = gf.variable(np.ones(8, "f4"))
    copy = gf.variable(np.zeros(8, "f4"))
    run = gf.function([], gf.exp(w), updates=[(copy, gf.exp(w) * 2)])
    first, second = run(), run()
    assert first is not second
    np.testing.assert_allclose(first, second)
    copy.value = np.zeros(8, "f4")
    run()
    np.testing.assert_allclose(copy.value, 2 * np.exp(np.float32(1)), rtol=1e-6)


def test_two_threads_have_it_each():
    w, run, expected = scaled()
    failures = []

    def work(n):
        failures.extend(n for _ in range(50) if not agrees(run, expected, n))

    for k in range(3):
        w.value = w.value + k
        threads = [threading.Thread(target=work, args=(n,)) for n in (2, 3, 4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_a_saved_function_and_a_scan(tmp_path):
    w, run, expected = scaled()
    gf.save(run, tmp_path / "f.gflow")
    loaded = gf.load(tmp_path / "f.gflow")
    assert agrees(loaded, expected)
    (copy,) = loaded.variables
    copy.value = w.value = np.full(8, 2.0, "f4")
    assert agrees(loaded, expected)
    x = gf.placeholder((4, 8), name="x")
    root = gf.sqrt(w)
    _, rows = gf.scan(lambda state, row: (state + row * root, state * root), gf.zeros((8,)), x)
    run = gf.function([x], rows)
    value = array(1)[0, :4]
    for value_of_w in (2.0, 5.0):
        w.value = np.full(8, value_of_w, "f4")
        states = np.cumsum(value, 0) - value
        np.testing.assert_allclose(run(value), states * value_of_w, rtol=1e-4, atol=1e-5)


def test_a_native_loop_computes_it_in_front():
    frozen, v = gf.variable(np.full(8, 3.0, "f4")), gf.variable(np.zeros(8, "f4"))
    x = gf.placeholder((8,), name="x")
    run = gf.function([x], v + x, updates=[(v, v + x * gf.exp(frozen * 0.1))])
    rows = np.arange(40, dtype="f4").reshape(5, 8)
    run(rows[0] * 0)
    executor = run._runner.executor
    for value in (3.0, -2.0):
        frozen.value, v.value = np.full(8, value, "f4"), np.zeros(8, "f4")
        (last,) = executor.run_loop([rows], 5)
        factor = np.exp(np.float32(value * 0.1))
        np.testing.assert_allclose(v.value, rows.sum(0) * factor, rtol=1e-5)
        np.testing.assert_allclose(last, rows[:4].sum(0) * factor + rows[4], rtol=1e-5)
