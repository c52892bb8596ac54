"""Mistakes: each message says what was done, where, what was expected, what it got, what to do."""

import re

import numpy as np
import pytest

import graphflow as gf
from graphflow import nn
from graphflow.errors import (
    DTypeError,
    GradientError,
    GraphError,
    IndexOutOfRange,
    ShapeError,
)


def x(shape=("batch", 3), dtype="float32", name="x"):
    return gf.placeholder(shape, dtype, name=name)


def run(inputs, outputs=None, *arrays, **options):
    return gf.function(inputs, outputs, mode="interpret", name="step", **options)(*arrays)


def feed(value, dtype="float32", shape=("batch", 3)):
    tensor = x(shape, dtype)
    return run([tensor], tensor * 1, value)


W = np.zeros((2, 3), "f4")

#: what was done -> (call, error, words of the message in order)
MISUSES = {
    # shapes
    "broadcast": (
        lambda: x((2, 3)) + x((2, 4), name="y"), ShapeError,
        ["add", r"\(2, 3\) and \(2, 4\)", "axis -1 is 4 against 3", "x is", "y is"],
    ),
    "broadcast of named dims": (
        lambda: x(("n", 3)) + x((gf.placeholder(("n",)).shape[0] + 1, 3), name="y"), ShapeError,
        ["add", r"n \+ 1 against n"],
    ),
    "inner sizes": (
        lambda: x() @ x((4, 5), name="w"), ShapeError,
        ["matmul", "inner sizes differ: 3 on the left", "4 on the", "x is .*batch", "w is"],
    ),
    "inner sizes, transposed": (
        lambda: x((2, 3)) @ x((5, 3), name="w"), ShapeError, ["matmul", r"\.T\?"],
    ),
    "product with a scalar": (
        lambda: x() @ gf.asarray(2.0), ShapeError, ["matmul", "at least 1 axis", r"use \*"],
    ),
    "reshape product": (
        lambda: gf.reshape(x((2, 3)), (4, 2)), ShapeError,
        ["reshape", r"\(2, 3\) has 6 elements, \(4, 2\) has 8", "x is"],
    ),
    "reshape remainder": (
        lambda: gf.reshape(x((2, 3)), (4, -1)), ShapeError,
        ["reshape", "6 elements", r"\(4, -1\)", "multiple of 4", "x is"],
    ),
    "two unknown sizes": (
        lambda: gf.reshape(x((2, 3)), (-1, -1)), ShapeError, ["reshape", "2 entries -1", "one"],
    ),
    "negative size": (
        lambda: gf.zeros((2, -3)), ShapeError, [r"\(2, -3\)", "size -3 of axis 1 is negative"],
    ),
    "negative placeholder": (
        lambda: gf.placeholder((-1, 3)), ShapeError, ["size -1 of axis 0 is negative"],
    ),
    "a size that is none": (
        lambda: gf.placeholder((2.5,)), ShapeError, ["axis 0 is 2.5", "an int, a dim name"],
    ),
    "a dim name that is none": (
        lambda: gf.placeholder(("2 rows",)), GraphError, ["'2 rows' is not allowed", "letters"],
    ),
    "axis": (
        lambda: gf.sum(x((2, 3)), axis=2), ShapeError,
        ["sum", "axis 2 is out of range for 2 axes", r"-2\.\.1", "x is"],
    ),
    "axis twice": (
        lambda: gf.max(x((2, 3)), axis=(0, -2)), ShapeError, ["max", "names an axis twice", "x is"],
    ),
    "axis of softmax": (
        lambda: nn.softmax(x((2, 3)), axis=5), ShapeError, ["softmax", "axis 5", "x is"],
    ),
    "concat": (
        lambda: gf.concat([x((2, 3)), x((2, 4), name="y")]), ShapeError,
        ["concat along axis 0", r"\(2, 3\)", r"\(2, 4\)", "other axes must agree"],
    ),
    "concat of nothing": (lambda: gf.concat([]), ShapeError, ["concat", "no tensors", "at least"]),
    "stack": (
        lambda: gf.stack([x((2, 3)), x((2,), name="y")]), ShapeError,
        ["stack", r"\(2, 3\)", r"\(2,\)", "one shape"],
    ),
    "split": (
        lambda: gf.split(x((2, 5)), 2, axis=1), ShapeError,
        ["split", "axis 1 of size 5", "2 equal", "x is"],
    ),
    "squeeze": (
        lambda: gf.squeeze(x((2, 3)), 0), ShapeError, ["squeeze", "axis 0 has size 2", "1", "x is"],
    ),
    "permutation": (
        lambda: gf.permute_dims(x((2, 3)), (0, 0)), ShapeError, ["permute_dims", r"\(0, 0\)", "x is"],
    ),
    "transpose of a batch": (
        lambda: x((2, 3, 4)).T, ShapeError, [r"\.T", "x is .*3 axes", r"\.mT"],
    ),
    "maximum of nothing": (
        lambda: gf.max(gf.zeros((0, 3)), axis=0), ShapeError, ["max", "no element along axes"],
    ),
    "reflection": (
        lambda: gf.pad(x((2, 3)), 3, "reflect"), ShapeError,
        ["pad", "reflection of 3 on axis 0 of size 2", "at most 1", "x is"],
    ),
    "pad mode": (
        lambda: gf.pad(x((2, 3)), 1, "wrap"), GraphError, ["pad", "'wrap'", "'reflect'"],
    ),
    "ragged list": (lambda: gf.asarray([[1, 2], [3]]), ShapeError, ["asarray", "differ in length"]),
    "einsum letters": (
        lambda: gf.einsum("ij,jk->ik", x((2, 3)), x((4, 5), name="y")), ShapeError,
        ["einsum", "'j'", "3 and 4", "one size", "x is", "y is"],
    ),
    "einsum text": (
        lambda: gf.einsum("i->i->i", x((2,))), GraphError, ["einsum", "'i->i->i'", "'ij,jk->ik'"],
    ),
    # dtypes
    "float function of ints": (
        lambda: gf.exp(x(dtype="int64")), DTypeError,
        ["exp: takes float", "int64", r"gf\.astype", "x is"],
    ),
    "activation of ints": (
        lambda: nn.softmax(x(dtype="int32")), DTypeError, ["softmax", "int32", r"gf\.astype"],
    ),
    "logic of numbers": (
        lambda: (x() > 0) & x(), DTypeError, ["logical_and", "x is float32", "bool", "x != 0"],
    ),
    "condition": (lambda: gf.where(x(), 1, 2), DTypeError, ["where", "x is", "bool", "x > 0"]),
    "number beyond the dtype": (
        lambda: x(dtype="uint8") + 300, DTypeError, ["add", "300", "uint8", "0 to 255", "cast"],
    ),
    "no common dtype": (
        lambda: x(dtype="uint64") + x(dtype="int8", name="y"), DTypeError,
        ["add", "int8", "cast one"],
    ),
    "unknown dtype": (
        lambda: gf.placeholder((2,), "float16"), DTypeError, ["'float16' is not supported", "float32"],
    ),
    "text": (lambda: gf.add(x(), "one"), DTypeError, ["add", "str", "'?one'?", "a tensor, a"]),
    "float labels": (
        lambda: nn.sparse_categorical_cross_entropy(x(("batch",), name="t"), x()), DTypeError,
        ["sparse_categorical_cross_entropy", "t is float32", "integer", "categorical_cross_entropy"],
    ),
    "one-hot labels to the sparse loss": (
        lambda: nn.sparse_categorical_cross_entropy(x(dtype="int32", name="t"), x()), ShapeError,
        ["sparse_categorical", r"\(batch, 3\)", r"expected \(batch,\)", "t is", "x is"],
    ),
    "sparse labels to the one-hot loss": (
        lambda: nn.categorical_cross_entropy(x(("batch",), "int32", name="t"), x()), ShapeError,
        ["categorical_cross_entropy", r"\(batch,\)", r"\(batch, 3\)", "one shape", "sparse_", "t is"],
    ),
    "float index": (
        lambda: gf.take(x(), x((2,), name="i"), 0), DTypeError,
        ["take", "float32", "integer", r"gf\.astype"],
    ),
    # indexing
    "index": (
        lambda: x((2, 3))[2], IndexOutOfRange, ["index", "2 is out", "axis 0 of size 2", r"-2\.\.1"],
    ),
    "too many indices": (
        lambda: x((2, 3))[0, 0, 0], IndexOutOfRange, ["3 indices for 2 axes", "x is"],
    ),
    "bool mask": (
        lambda: x()[x() > 0], GraphError, ["bool mask", "depends on data", r"gf\.where", "x is"],
    ),
    "index of text": (lambda: x()["a"], GraphError, ["index", "'a'", "an int, a slice", "x is"]),
    "float slice": (lambda: x()[1.5:], GraphError, ["slice", "1.5 is no int", "Dim"]),
    "step 0": (lambda: x()[::0], ShapeError, ["slice", "step 0 of axis 0", "x is"]),
    "cut bound": (
        lambda: x()[:5], GraphError, ["slice", "bound 5", "'batch'", r"gf\.take", "x is"],
    ),
    # values that do not exist yet
    "if": (lambda: bool(x() > 0), GraphError, ["if", "greater is", r"gf\.where", r"gf\.cond"]),
    "len": (lambda: len(x()), GraphError, ["len", "x is", "'batch'", r"x\.shape\[0\]"]),
    "len of a scalar": (lambda: len(x(())), ShapeError, ["len", "x is", "no axis"]),
    "iteration": (lambda: list(x()), GraphError, ["iteration", "'batch'", r"gf\.scan"]),
    "float": (lambda: float(gf.sum(x())), GraphError, ["float", "sum is", r"gf\.astype"]),
    "range": (lambda: range(x((), "int64")), GraphError, ["index", "x is", r"gf\.take"]),
    "asarray": (lambda: np.asarray(x()), GraphError, [r"np\.asarray", "x is", r"gf\.function"]),
    "assignment": (
        lambda: x().__setitem__(0, 1), GraphError, ["assignment", "x is", r"gf\.where"],
    ),
    "size from data": (
        lambda: gf.arange(gf.sum(x((2,), "int64"))), GraphError, ["arange", "depend on", "dims"],
    ),
    "unstack of a named dim": (
        lambda: gf.unstack(x()), GraphError, ["unstack", "'batch' of axis 0", "x is"],
    ),
    # gradients
    "gradient of no scalar": (
        lambda: gf.grad(x((2,)), x((2,))), GradientError, ["grad", "no scalar", r"gf\.mean", r"gf\.vjp"],
    ),
    "gradient by ints": (
        lambda: gf.grad(gf.sum(x()), x(dtype="int64", name="n")), GradientError,
        ["grad", "n is int64", "no float", r"gf\.astype"],
    ),
    "gradient of ints": (
        lambda: gf.grad(gf.sum(x(dtype="int64")), x()), GradientError, ["grad", "int64", "no float"],
    ),
    "gradient of a number": (lambda: gf.grad(3.0, x()), GradientError, ["grad", "float", "symbolic"]),
    "tangent shape": (
        lambda: gf.jvp(gf.exp(x((2,))), x((2,)), np.zeros(3)), ShapeError,
        ["jvp", "tangent is", r"\(3,\)", "same shape"],
    ),
    # building functions
    "unlisted placeholder": (
        lambda: run([], gf.sum(x())), GraphError,
        ["step", "1 placeholder", "not listed", "givens", "x is"],
    ),
    "unused input": (
        lambda: run([x(), x(name="y")], 1), GraphError,
        ["step", "nothing uses", "x is", "on_unused_input='ignore'"],
    ),
    "input that is none": (
        lambda: run([gf.exp(x())], 1), GraphError, ["step", "input 0", "exp is", r"gf\.placeholder"],
    ),
    "variable as input": (
        lambda: run([gf.variable(W, "w")], 1), GraphError, ["step", "input 0", "w is", "not listed"],
    ),
    "one name twice": (
        lambda: run([x((2,)), x((3,))], 1), GraphError, ["step", "two inputs are named 'x'", "differ"],
    ),
    "unknown mode": (
        lambda: gf.function([], 1, mode="fast"), GraphError, ["'fast'", "compiled", "interpret"],
    ),
    "cuda": (
        lambda: gf.function([], 1, device="cuda"), GraphError, ["'cuda'", "not available", "'cpu'"],
    ),
    "unknown choice": (
        lambda: run([], 1, on_unused_input="skip"), GraphError, ["'skip'", "'raise', 'warn'"],
    ),
    "update of a placeholder": (
        lambda: run([], updates=[(x(), x())]), GraphError, ["update target", "x", r"gf\.variable"],
    ),
    "update of another shape": (
        lambda: run([], None, updates=[(gf.variable(W, "w"), gf.zeros((3, 2)))]), ShapeError,
        ["step: the update of", r"w is float32\(2, 3\)", r"float32\(3, 2\)", "same shape"],
    ),
    "update of another dtype": (
        lambda: run([], None, updates={gf.variable(W, "w"): gf.zeros((2, 3), "float64")}), GraphError,
        ["the update of", "w is float32", "float64", r"gf\.astype"],
    ),
    "updates that are no pairs": (
        lambda: run([], None, updates=[gf.variable(W)]), GraphError, ["updates holds", "pairs"],
    ),
    "a dim from nowhere": (
        lambda: run([], gf.zeros(("batch", 2))), ShapeError,
        ["step", "dim 'batch' follows from no input", "full is"],
    ),
    # calling functions
    "missing input": (lambda: run([x(), y := x(name="y")], y, on_unused_input="ignore"), GraphError,
        ["step", "no array given for x, y", "one each for x, y"]),
    "too many inputs": (
        lambda: run([x()], 1, [[1, 2, 3]], 2, on_unused_input="ignore"), GraphError,
        ["step", "2 arrays given; expected 1: x"],
    ),
    "unknown input": (
        lambda: gf.function([a := x()], a, name="step")(z=1), GraphError,
        ["step", "no input is named 'z'; expected x"],
    ),
    "input given twice": (
        lambda: gf.function([a := x()], a, name="step")([[1, 2, 3]], x=1), GraphError,
        ["step", "'x' is given twice", "position and name"],
    ),
    "rank of a feed": (
        lambda: feed([1, 2, 3]), ShapeError,
        ["input 'x'", r"\(3,\)", "2 axes", r"float32\(batch, 3\)", "test_misuse.py"],
    ),
    "size of a feed": (
        lambda: feed(np.ones((2, 4))), ShapeError, ["x: axis 1 is 4", "expected 3", r"\(batch, 3\)"],
    ),
    "kind of a feed": (
        lambda: feed(np.ones((2, 3)), "int32"), DTypeError,
        ["step: input 'x'", "float64", "int32", r"astype\('int32'\)"],
    ),
    "ragged feed": (lambda: feed([[1, 2, 3], [4]]), ShapeError, ["input 'x'", "differ in length"]),
    "symbolic feed": (
        lambda: feed(x()), GraphError, ["input 'x'", "symbolic", "an array", r"\.value"],
    ),
    "label beyond the classes": (
        lambda: run(
            [t := x(("batch",), "int64", "t"), p := x()],
            nn.sparse_categorical_cross_entropy(t, p), [3], [[0.2, 0.3, 0.5]],
        ),
        IndexOutOfRange, ["check_range", "index 3 at position 0", r"0\.\.2"],
    ),
    "wrong value for a variable": (
        lambda: gf.variable(W, "w").assign(np.ones(3)), ShapeError,
        ["variable w", r"\(3,\)", r"\(2, 3\)", "test_misuse.py"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
def test_misuse_is_explained(name):
    call, error, words = MISUSES[name]
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert re.search(".*".join(words), text, re.DOTALL), text
    assert len(text.splitlines()) <= 6
    assert "graphflow/" not in text


@pytest.mark.parametrize("name", MISUSES)
def test_the_message_names_a_line_of_the_user(name):
    call, error, _ = MISUSES[name]
    with pytest.raises(error) as caught:
        call()
    assert "test_misuse.py:" in str(caught.value)
