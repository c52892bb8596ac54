"""The executor and the driver under real programs: sizes, errors, threads, forks, interrupts."""

import _thread
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import graphflow as gf
from graphflow.errors import GraphError, ShapeError
from graphflow.runtime import cache
from graphflow.runtime.executor import Executor
from graphflow.runtime.threads import Team
from graphflow.variable import storage_of


def executor_of(function, threads=1):
    compiled = function.compile()
    variables = [storage_of(node) for node in compiled.optimized_graph.variables]
    return Executor(compiled.program, variables, threads=threads)


def mlp(batch="batch"):
    rng = np.random.default_rng(0)
    x = gf.placeholder((batch, 300), name="x")
    w = gf.variable(rng.normal(size=(300, 200)).astype("f4") / 17)
    y = gf.nn.softmax(gf.tanh(x @ w) * 2 + 1)
    return gf.function([x], [y, gf.sum(y * y, axis=0), gf.mean(x)])


def test_a_new_batch_size_compiles_nothing():
    f = mlp()
    f(np.ones((4, 300), "f4"))
    before = cache.stats()["compiled"]
    for batch in (1, 2, 5, 64, 0):
        y, columns, _ = f(np.ones((batch, 300), "f4"))
        assert y.shape == (batch, 200)
        assert columns.shape == (200,)
    assert cache.stats()["compiled"] == before


def test_one_and_two_threads_give_the_same_bits():
    f = mlp()
    x = np.random.default_rng(1).normal(size=(257, 300)).astype("f4")
    one, two = executor_of(f, 1), executor_of(f, 2)
    for _ in range(20):
        for a, b in zip(one([x]), two([x]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_many_python_threads_share_a_function():
    f = mlp()
    rng = np.random.default_rng(2)
    inputs = [rng.normal(size=(n, 300)).astype("f4") for n in (3, 16, 40, 64)]
    expected = [f(x)[0] for x in inputs]
    wrong = []

    def call(number):
        for k in range(50):
            at = (number + k) % 4
            if not np.array_equal(f(inputs[at])[0], expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_outputs_are_fresh_arrays():
    f = mlp()
    x = np.ones((2, 300), "f4")
    first = f(x)[0]
    kept = first.copy()
    f(x * 3)
    np.testing.assert_array_equal(first, kept)


def test_dims_that_disagree_are_named():
    x, y = gf.placeholder(("n", 2), name="x"), gf.placeholder(("n",), name="y")
    f = gf.function([x, y], gf.sum(x) + gf.sum(y))
    with pytest.raises(ShapeError, match=r"y.*n"):
        f(np.ones((3, 2), "f4"), np.ones(4, "f4"))
    with pytest.raises(ShapeError, match="expected"):
        f(np.ones((3, 5), "f4"), np.ones(3, "f4"))


def test_an_index_error_changes_no_variable():
    table = gf.variable(np.zeros((4, 2), "f4"), name="table")
    rows = gf.placeholder(("n",), "int64", name="rows")
    picked = gf.take(table, rows, axis=0)
    f = gf.function([rows], gf.sum(picked), updates=[(table, table + 1.0)])
    f([0, 3, -1])
    with pytest.raises(IndexError, match=r"take.*7.*position 2.*-4\.\.3"):
        f([0, 1, 7])
    np.testing.assert_array_equal(table.value, np.ones((4, 2)))
    assert f([1]) == 2.0


def test_updates_read_old_values():
    a, b = gf.variable(np.float32(1), name="a"), gf.variable(np.float32(2), name="b")
    f = gf.function(
        [],
        [a, a + b],
        updates=[
            (a, b),
            (b, a),
        ],
    )
    old, total = f()
    assert (old, total, a.value, b.value) == (1, 3, 2, 1)


def running_sum():
    """total += the sum of x + shift over rows; the outputs are the old total and x."""
    x, shift = gf.placeholder((4, 3), name="x"), gf.placeholder((), name="shift")
    total = gf.variable(np.zeros(3, "f4"), name="total")
    f = gf.function([x, shift], [gf.sum(total), x], [(total, total + gf.sum(x + shift, axis=0))])
    return f, total


def test_run_loop_is_the_same_as_calls():
    f, total = running_sum()
    rng = np.random.default_rng(3)
    data, shifts = rng.normal(size=(10, 4, 3)).astype("f4"), rng.normal(size=10).astype("f4")
    executor = executor_of(f)
    expected = [executor([data[k], shifts[k, ...]]) for k in range(10)]
    stepped = total.value
    for keep_all in (False, True):
        total.value = np.zeros(3)
        looped = executor.run_loop([data, shifts], 10, keep_all)
        np.testing.assert_array_equal(stepped, total.value)
        for slot, got in enumerate(looped):
            wanted = [outputs[slot] for outputs in expected]
            np.testing.assert_array_equal(got, np.stack(wanted) if keep_all else wanted[-1])


def test_run_loop_takes_stacks_with_any_step_between_entries():
    f, total = running_sum()
    data = np.random.default_rng(4).normal(size=(6, 3, 4)).astype("f4")
    shift = np.broadcast_to(np.float32(2), 3)
    executor = executor_of(f)
    stacks = (
        data.reshape(6, 4, 3)[::-2],
        data.swapaxes(1, 2)[:3],
        np.broadcast_to(data[0].T, (3, 4, 3)),
    )
    for stack in stacks:
        total.value = np.zeros(3)
        executor.run_loop([stack, shift], 3)
        looped = total.value
        total.value = np.zeros(3)
        for row in stack:
            executor([row, shift[0, ...]])
        np.testing.assert_array_equal(looped, total.value)


def test_run_loop_refuses_stacks_of_other_lengths():
    f, total = running_sum()
    executor = executor_of(f)
    with pytest.raises(GraphError, match=r"3 runs over stacks of \[3, 2\]"):
        executor.run_loop([np.zeros((3, 4, 3), "f4"), np.zeros(2, "f4")], 3)
    with pytest.raises(GraphError, match="0 runs"):
        executor.run_loop([np.zeros((0, 4, 3), "f4"), np.zeros(0, "f4")], 0)
    np.testing.assert_array_equal(total.value, np.zeros(3))


def test_run_loop_gathers_rows_in_an_order():
    x = gf.placeholder(("n", 5), name="x")
    k = gf.placeholder(("n",), "uint8", name="k")
    total = gf.variable(np.zeros(5, "f4"))
    f = gf.function([x, k], [x, k], updates=[(total, total * 2 + gf.sum(x, axis=0))])
    rng = np.random.default_rng(5)
    data, labels = rng.normal(size=(40, 5)).astype("f4"), np.arange(40, dtype="u1")
    order = rng.integers(0, 40, (7, 3))
    executor = executor_of(f)
    rows, picked = executor.run_loop([data, labels], 7, keep_all=True, order=order)
    np.testing.assert_array_equal(rows, data[order])
    np.testing.assert_array_equal(picked, labels[order])
    looped, total.value = total.value, np.zeros(5)
    for numbers in order:
        executor([data[numbers], labels[numbers]])
    np.testing.assert_array_equal(looped, total.value)
    for bad in (order + 38, order - 40):
        with pytest.raises(IndexError, match=r"row numbers in 0\.\.39"):
            executor.run_loop([data, labels], 7, order=bad)
    with pytest.raises(GraphError, match=r"expected \(runs, rows\)"):
        executor.run_loop([data, labels], 7, order=order[0])
    np.testing.assert_array_equal(looped, total.value)


def test_an_index_error_in_a_loop_names_the_run():
    table = gf.variable(np.zeros((4, 2), "f4"), name="table")
    rows = gf.placeholder(("n",), "int64", name="rows")
    picked = gf.take(table, rows, axis=0)
    f = gf.function([rows], gf.sum(picked), updates=[(table, table + 1.0)])
    executor = executor_of(f)
    with pytest.raises(IndexError, match=r"position 1.*by run 2 of the loop"):
        executor.run_loop([np.array([[0, 1], [2, 3], [0, 9], [1, 1]])], 4)
    np.testing.assert_array_equal(table.value, np.full((4, 2), 2.0))
    assert executor([np.array([1])])[0] == 4.0


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_loop_between_two_runs():
    # Shapes differ, so that each variable has a launch of its own.
    counts = [gf.variable(np.zeros(200_000 + k, "f4")) for k in range(6)]
    f = gf.function([], [], updates=[(c, c + 1 + 0 * gf.sin(c)) for c in counts])
    executor = executor_of(f)
    executor.run_loop([], 2)
    for _ in range(3):
        before = float(counts[0].value[0])
        threading.Timer(0.2, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            executor.run_loop([], 1_000_000)
        after = {float(value) for c in counts for value in (c.value.min(), c.value.max())}
        assert len(after) == 1
        assert before < after.pop() < 1_000_000
    before = float(counts[0].value[0])
    executor.run_loop([], 2)
    assert counts[5].value[0] == before + 2


def test_idle_threads_use_no_cpu():
    f = mlp()
    executor_of(f, 2)([np.ones((300, 300), "f4")])
    time.sleep(0.05)
    begin = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - begin < 0.05


def test_a_team_serves_one_caller_at_a_time():
    team = Team(2)
    assert team.enter()
    assert not team.enter()
    team.leave()
    assert team.enter()
    team.leave()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes():
    code = (
        "import os, numpy as np, graphflow as gf\n"
        "x = gf.placeholder(('n', 400)); f = gf.function([x], gf.sum(gf.tanh(x), axis=1))\n"
        "data = np.ones((400, 400), 'f4'); want = f(data)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if np.array_equal(f(data), want) else 3)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "0", done.stderr


def test_interrupt_arrives_within_a_long_loop():
    code = (
        "import os, signal, threading, time, numpy as np, graphflow as gf\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "c, _ = gf.scan(lambda c, _: (gf.sin(c) + 1, None), gf.zeros((100000,)), length=200000)\n"
        "f = gf.function([], gf.sum(c)).compile()\n"
        "print('ready', flush=True)\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "begin = time.perf_counter()\n"
        "try:\n"
        "    f()\n"
        "except KeyboardInterrupt:\n"
        "    print(time.perf_counter() - begin)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    assert float(done.stdout.split()[1]) < 3.0, done.stderr


def test_profile_and_memory():
    f = mlp()
    records = f.profile(np.ones((16, 300), "f4"))
    assert len(records) == len(f.program.steps)
    assert abs(sum(record.share for record in records) - 1) < 1e-6
    memory = executor_of(f).memory({"batch": 16})
    assert memory["arena"] >= memory["peak_live"] > 0


def test_only_arrays_that_fit_as_they_are_take_the_direct_way():
    x = gf.placeholder(("batch", 3), name="x")
    executor = executor_of(gf.function([x], x * 2))
    rows = np.arange(12, dtype="f4").reshape(4, 3)
    assert executor.direct([rows]) is None, "no sizes are known yet"
    executor([rows])
    (doubled,) = executor.direct([rows])
    np.testing.assert_array_equal(doubled, rows * 2)

    class Special(np.ndarray):
        pass

    unfit = {
        "another batch": rows[:2],
        "another rank": rows[0],
        "another dtype": rows.astype("f8"),
        "integers of the same size": rows.view("i4"),
        "byte order": rows.astype(">f4"),
        "not contiguous": np.zeros((4, 6), "f4")[:, ::2],
        "columns first": np.asfortranarray(rows),
        "not aligned": np.zeros(49, "u1")[1:].view("f4").reshape(4, 3),
        "a subclass": rows.view(Special),
        "a list": rows.tolist(),
        "nothing": None,
        "a number": 3,
    }
    assert [why for why, value in unfit.items() if executor.direct([value]) is not None] == []
    assert executor.direct([]) is None
    assert executor.direct([rows, rows]) is None
    executor([rows[:2]])
    assert executor.direct([rows]) is None
    np.testing.assert_array_equal(executor.direct([rows[2:]])[0], rows[2:] * 2)


def test_an_array_with_a_dtype_object_of_its_own_is_taken():
    x = gf.placeholder(("batch", 3), name="x")
    double = gf.function([x], x * 2)
    rows = np.ones((2, 3), np.dtype("f4", metadata={"unit": "m"}))
    for _ in range(2):
        np.testing.assert_array_equal(double(rows), np.full((2, 3), 2, "f4"))


def test_subnormal_numbers_are_zero_inside_and_the_callers_thread_is_as_before():
    x = gf.placeholder(("n",), name="x")
    f = gf.function([x], [x * 0.5, x + 0.0])
    tiny = np.full(70_000, 1.5e-38, "f4")
    for threads in (1, 2):
        executor = executor_of(f, threads)
        half, same = executor([tiny])
        np.testing.assert_array_equal(half, 0)
        np.testing.assert_array_equal(same, tiny)
        np.testing.assert_array_equal(executor([tiny * np.float32(0.5)])[1], 0)
    assert np.all(tiny * np.float32(0.5) > 0), "NumPy's own arithmetic keeps them"
