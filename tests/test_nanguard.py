"""mode="nanguard": the op that made a NaN or an Inf is named, also inside control flow."""

import re

import numpy as np
import pytest

import graphflow as gf
from graphflow.errors import NaNError


def guarded(inputs, outputs, **kwargs):
    return gf.function(inputs, outputs, mode="nanguard", name="step", **kwargs)


def complaint(f, *arrays):
    """The message of the error that a call raises; at most six lines."""
    with pytest.raises(NaNError) as caught:
        f(*arrays)
    text = str(caught.value)
    assert text.startswith("step: "), text
    assert len(text.splitlines()) <= 6, text
    return text


def line_of(text):
    """The number of the first line of this file that holds a text."""
    with open(__file__, encoding="utf-8") as file:
        return next(n for n, line in enumerate(file, 1) if text in line)


# ---- what was made ---------------------------------------------------------------------------


def test_the_op_and_its_inputs_are_named():
    x, w = gf.placeholder(("n",), name="x"), gf.variable(np.ones(1, "f4"), name="w")
    y = gf.sum(gf.log(x * 2) * w)  # the log of this test
    f = guarded([x], y, updates=[(w, w + y)])
    assert f([0.5, 0.5]) == 0.0
    text = complaint(f, [1.0, -3.0, -1.0])
    place = line_of("the log of this test")
    assert f"step: log [test_nanguard.py:{place}] made a NaN" in text
    assert "2 of 3 elements, first at (1,)" in text
    assert "-6 to 2" in text
    assert "no variable was changed" in text
    assert w.value.tolist() == [1.0]


def test_the_first_of_several_is_named():
    x = gf.placeholder((2,), name="x")
    f = guarded([x], [gf.sqrt(gf.log(x)) + gf.log(x), gf.acos(x)])
    assert complaint(f, [-2.0, 1.0]).startswith("step: log [")
    assert complaint(f, [2.0, 0.5]).startswith("step: sqrt [")
    assert complaint(f, [2.0, 1.0]).startswith("step: acos [")


def test_what_is_not_chosen_is_ignored():
    x = gf.placeholder(("n",))
    safe = gf.where(x > 0, gf.log(x), 0.0)
    assert "log " in complaint(guarded([x], [safe, gf.log(x) * 0]), [-1.0])
    assert guarded([x], safe)([-1.0, 1.0]).tolist() == [0, 0]


def test_an_inf_that_an_op_made():
    x = gf.placeholder((3,), name="x")
    f = guarded([x], gf.sum(gf.exp(x)))
    assert f([0, 0, 0]) == 3
    text = complaint(f, [0, 0, 1000])
    assert text.startswith("step: exp [test_nanguard.py:")
    assert "made an Inf: 1 of 3 elements, first at (2,)" in text
    assert "0 to 1000" in text


def test_a_nan_that_an_inf_became():
    x = gf.placeholder((2,), name="x")
    big = gf.exp(x)  # the exp of this test
    text = complaint(guarded([x], big / gf.sum(big)), [0, 200])
    assert text.startswith("step: divide [test_nanguard.py:")
    assert "inf" in text
    assert f"the Inf was made by exp [test_nanguard.py:{line_of('the exp of this test')}]" in text


def test_an_inf_that_is_meant_is_no_error():
    x, mask = gf.placeholder((3,), name="x"), gf.placeholder((3,), name="mask")
    masked = gf.where(x > 0, x, -np.inf)
    f = guarded([x, mask], [gf.nn.softmax(masked), masked, x + mask])
    weights, kept, added = f([1.0, -1.0, 1.0], [0, -np.inf, 0])
    np.testing.assert_allclose(weights, [0.5, 0, 0.5])
    assert kept.tolist() == added.tolist() == [1, -np.inf, 1]


# ---- what came in ----------------------------------------------------------------------------


def test_a_nan_that_was_fed():
    x, y = gf.placeholder((2,), name="x"), gf.placeholder((2,), name="y")
    f = guarded([x, y], gf.sqrt(x) + y)
    pattern = r"placeholder y \[test_nanguard.py:\d+\] holds a NaN already: 1 of 2.*first at \(0,\)"
    assert re.search(pattern, complaint(f, [1, 1], [np.nan, 1]))
    assert complaint(f, [-1, 1], [1, 1]).startswith("step: sqrt ")


def test_a_nan_in_a_variable_and_in_a_constant():
    w = gf.variable([1.0, np.nan], name="w")
    assert "variable w [" in complaint(guarded([], gf.sum(w)))
    assert "holds a NaN already" in complaint(guarded([], gf.sum(w)))
    constant = gf.asarray(np.array([np.nan, 1, 2]))
    assert "constant" in complaint(guarded([], constant * 2))


def test_a_nan_that_is_not_read_is_no_error():
    x = gf.placeholder((3,), name="x")
    assert guarded([x], x[1:] * 2)([np.nan, 1, 2]).tolist() == [2, 4]


# ---- updates ---------------------------------------------------------------------------------


def test_an_update_alone_is_guarded():
    w, n = gf.variable(np.array([4.0, 1.0]), name="w"), gf.variable(0, name="n")
    f = guarded([], [n], updates=[(n, n + 1), (w, gf.sqrt(w - 1.0))])
    f()
    text = complaint(f)
    assert "sqrt [" in text
    assert "1 of 2 elements, first at (1,)" in text
    np.testing.assert_allclose(w.value, [np.sqrt(3), 0])
    assert n.value == 1


def test_a_step_of_training_that_diverges():
    x = gf.placeholder((4,), name="x")
    w = gf.variable(np.float32(3), name="w")
    loss = gf.sum((x * w) ** 4)
    f = guarded([x], loss, updates=[(w, w - gf.grad(loss, w))])
    before = None
    with pytest.raises(NaNError, match=r"made an Inf|made a NaN"):
        for _ in range(20):
            before = w.value
            f([1, 2, 3, 4])
    assert np.isfinite(before)
    assert w.value == before


# ---- control flow ----------------------------------------------------------------------------


@pytest.mark.parametrize(("reverse", "number"), [(False, 3), (True, 2)])
def test_the_pass_of_a_loop_is_named(reverse, number):
    x = gf.placeholder(("n",), name="x")
    total, rows = gf.scan(
        lambda c, v: (c + gf.log(v), c),  # the log of the loop
        gf.asarray(0.0),
        x,
        reverse=reverse,
    )
    text = complaint(guarded([x], [total, rows]), [1.0, 2.0, -1.0, 3.0])
    assert f"step: log [test_nanguard.py:{line_of('the log of the loop')}] made a NaN" in text
    assert re.search(rf"in scan \[test_nanguard\.py:\d+\] pass {number} of 4\n", text)
    assert "-1 to -1" in text


def test_a_loop_passes_on_a_nan_that_was_fed():
    x, first = gf.placeholder((3,), name="x"), gf.placeholder((), name="first")
    total, _ = gf.scan(lambda c, v: (c * v, c), first, x)
    f = guarded([x, first], total)
    assert "placeholder first [" in complaint(f, [1, 2, 3], np.nan)
    assert "placeholder x [" in complaint(f, [1, np.nan, 3], 1)
    assert f([1, 2, 3], 1) == 6


def test_an_overflow_that_grows_in_a_loop():
    power, _ = gf.scan(lambda c, _: (c * c, None), gf.asarray(10.0), length=8)
    text = complaint(guarded([], power))
    assert re.search(r"made an Inf: 1 of 1 .*, in scan \[.*\] pass 6 of 8", text)


def test_the_branch_that_was_taken():
    x = gf.placeholder((2,), name="x")
    y = gf.cond(gf.sum(x) > 0, lambda: gf.sqrt(x), lambda: x * 2)
    f = guarded([x], gf.sum(y))
    assert f([-1, -1]) == -4
    assert re.search(
        r"sqrt \[.*\] made a NaN.*, in cond \[test_nanguard\.py", complaint(f, [5, -1])
    )


def test_a_branch_in_a_loop_in_a_loop():
    x = gf.placeholder((3,), name="x")

    def inner(c, v):
        return gf.cond(v > 1, lambda: c + gf.log(v - 2), lambda: c), None

    def outer(c, v):
        return gf.scan(inner, c, gf.stack([v, v - 1]))[0], None

    total, _ = gf.scan(outer, gf.asarray(0.0), x)
    text = complaint(guarded([x], total), [3.5, 0, 2.5])
    assert re.search(r"log \[.*, in scan \[.* pass 3 of 3, in scan \[.* pass 2 of 2, in cond", text)


def test_the_gradient_of_a_loop():
    x = gf.placeholder(("n",), name="x")
    total, _ = gf.scan(lambda c, v: (c + gf.sqrt(v), None), gf.asarray(0.0), x)
    f = guarded([x], gf.grad(total, x))
    np.testing.assert_allclose(f([1, 4]), [0.5, 0.25])
    text = complaint(f, [1, 0])
    assert "made an Inf" in text
    assert re.search(r"in scan \[test_nanguard\.py:\d+\] pass 1 of 2", text)
