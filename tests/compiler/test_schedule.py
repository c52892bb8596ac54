"""Order and storage: what a kernel writes in place must have been read by then."""

import numpy as np
import pytest

import graphflow as gf


@pytest.fixture(params=["compiled", "interpret"])
def mode(request):
    return request.param


def numbers(rng, *shape):
    return rng.integers(-4, 5, shape).astype("f4")


def test_a_variable_that_copies_another_gets_its_old_value(mode):
    """The target takes what the online weights were, though these are updated in the same step."""
    online, target = gf.variable(np.ones(3, "f4")), gf.variable(np.zeros((3, 1), "f4"))
    updates = [(online, online + 1), (target, gf.reshape(online, (3, 1)))]
    step = gf.function([], online, updates=updates, mode=mode)
    assert step().tolist() == [1, 1, 1]
    assert online.value.tolist() == [2, 2, 2]
    assert target.value.tolist() == [[1], [1], [1]]


def test_a_result_in_place_is_stored_after_the_last_load(mode, rng):
    """relu(x) may lie where the sum was, but the sum is read by a later line of the same kernel."""
    x, y = gf.placeholder((5, 4), name="x"), gf.placeholder((1, 5, 2, 4), name="y")
    h = gf.nn.relu(x)
    twice = x + x
    total = gf.reshape(gf.sum(y, axis=2), (5, 4))
    outputs = [twice, gf.where(h > 0, total, 0.0) + twice, gf.tile(h, (2, 1))]
    a, b = numbers(rng, 5, 4), numbers(rng, 1, 5, 2, 4)
    got = gf.function([x, y], outputs, mode=mode)(a, b)
    np.testing.assert_array_equal(got[0], 2 * a)
    np.testing.assert_array_equal(got[1], np.where(a > 0, b.sum(2)[0], 0) + 2 * a)
    np.testing.assert_array_equal(got[2], np.tile(np.maximum(a, 0), (2, 1)))


def test_a_product_does_not_overwrite_the_operand_that_its_epilogue_adds(mode, rng):
    """The product reads all of h as another shape for each row that it stores."""
    x = gf.placeholder((128, 512), name="x")
    w = gf.variable(numbers(rng, 256, 256))
    h = gf.reshape(gf.sum(gf.stack([x, x, x]), axis=0), (256, 256))
    run = gf.function([x], (w @ h + h) @ w, mode=mode)
    a = numbers(rng, 128, 512)
    sums = 3 * a.reshape(256, 256)
    np.testing.assert_array_equal(run(a), (w.value @ sums + sums) @ w.value)


def test_an_optimizer_writes_all_its_variables_in_place():
    g = gf.placeholder((1000,), name="g")
    w, m, v = (gf.variable(np.zeros(1000, "f4")) for _ in range(3))
    new_m, new_v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * gf.square(g)
    updates = [(m, new_m), (v, new_v), (w, w - 0.1 * new_m / (gf.sqrt(new_v) + 1e-7))]
    program = gf.function([g], [], updates=updates).compile().program
    assert [type(step).__name__ for step in program.steps] == ["Launch"]


def test_costly_values_are_computed_once_for_all_passes_over_a_row():
    x = gf.placeholder(("n", 64), name="x")
    (kernel,) = gf.function([x], gf.nn.softmax(x)).compile().kernels
    assert kernel.source.count("exp(") == 1
    y = gf.placeholder(("n", "long"), name="y")
    (kernel,) = gf.function([y], gf.nn.softmax(y)).compile().kernels
    assert kernel.source.count("exp(") == 2, "a row of unknown length has no place on the stack"
