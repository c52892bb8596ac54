"""Array functions against NumPy: one table of calls, each built once and interpreted."""

import math

import numpy as np
import pytest

import graphflow as gf
from graphflow import creation, functions, linalg, manipulation, statistics

RNG = np.random.default_rng(1)
A = RNG.normal(size=(3, 4)).astype("f4")
B = RNG.normal(size=(3, 4)).astype("f4")
POSITIVE = RNG.uniform(0.1, 3, size=(3, 4)).astype("f4")
UNIT = RNG.uniform(-0.9, 0.9, size=(3, 4)).astype("f4")
BOOLS, MORE_BOOLS = A > 0, B > 0
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5, -2.5], "f4")
INTS = np.array([[7, -7, 3, 0], [5, -2, 1, 9], [2, 2, -8, 4]], "i4")
SQUARE = RNG.normal(size=(2, 3, 3)).astype("f4")
erf = np.vectorize(math.erf, otypes=["f4"])

#: name -> (our call, NumPy's, arrays)
ELEMENTWISE = {
    "abs": (gf.abs, np.abs, [A]),
    "acos": (gf.acos, np.arccos, [UNIT]),
    "acosh": (gf.acosh, np.arccosh, [POSITIVE + 1]),
    "asin": (gf.asin, np.arcsin, [UNIT]),
    "asinh": (gf.asinh, np.arcsinh, [A]),
    "atan": (gf.atan, np.arctan, [A]),
    "atanh": (gf.atanh, np.arctanh, [UNIT]),
    "ceil": (gf.ceil, np.ceil, [A]),
    "cos": (gf.cos, np.cos, [A]),
    "cosh": (gf.cosh, np.cosh, [A]),
    "erf": (gf.erf, erf, [A]),
    "exp": (gf.exp, np.exp, [A]),
    "expm1": (gf.expm1, np.expm1, [A]),
    "floor": (gf.floor, np.floor, [A]),
    "isfinite": (gf.isfinite, np.isfinite, [SPECIAL]),
    "isinf": (gf.isinf, np.isinf, [SPECIAL]),
    "isnan": (gf.isnan, np.isnan, [SPECIAL]),
    "log": (gf.log, np.log, [POSITIVE]),
    "log10": (gf.log10, np.log10, [POSITIVE]),
    "log1p": (gf.log1p, np.log1p, [POSITIVE]),
    "log2": (gf.log2, np.log2, [POSITIVE]),
    "logical_not": (gf.logical_not, np.logical_not, [BOOLS]),
    "negative": (gf.negative, np.negative, [A]),
    "positive": (gf.positive, np.positive, [A]),
    "reciprocal": (gf.reciprocal, np.reciprocal, [POSITIVE]),
    "round": (gf.round, np.round, [SPECIAL]),
    "rsqrt": (gf.rsqrt, lambda x: 1 / np.sqrt(x), [POSITIVE]),
    "sign": (gf.sign, np.sign, [A]),
    "sin": (gf.sin, np.sin, [A]),
    "sinh": (gf.sinh, np.sinh, [A]),
    "sqrt": (gf.sqrt, np.sqrt, [POSITIVE]),
    "square": (gf.square, np.square, [A]),
    "tan": (gf.tan, np.tan, [UNIT]),
    "tanh": (gf.tanh, np.tanh, [A]),
    "trunc": (gf.trunc, np.trunc, [A]),
    "add": (gf.add, np.add, [A, B]),
    "atan2": (gf.atan2, np.arctan2, [A, B]),
    "divide": (gf.divide, np.divide, [A, POSITIVE]),
    "equal": (gf.equal, np.equal, [A, A]),
    "floor_divide": (gf.floor_divide, np.floor_divide, [A, POSITIVE]),
    "fmod": (gf.fmod, np.fmod, [A, POSITIVE]),
    "greater": (gf.greater, np.greater, [A, B]),
    "greater_equal": (gf.greater_equal, np.greater_equal, [A, B]),
    "less": (gf.less, np.less, [A, B]),
    "less_equal": (gf.less_equal, np.less_equal, [A, B]),
    "logical_and": (gf.logical_and, np.logical_and, [BOOLS, MORE_BOOLS]),
    "logical_or": (gf.logical_or, np.logical_or, [BOOLS, MORE_BOOLS]),
    "logical_xor": (gf.logical_xor, np.logical_xor, [BOOLS, MORE_BOOLS]),
    "maximum": (gf.maximum, np.maximum, [A, B]),
    "minimum": (gf.minimum, np.minimum, [A, B]),
    "multiply": (gf.multiply, np.multiply, [A, B]),
    "not_equal": (gf.not_equal, np.not_equal, [A, A]),
    "pow": (gf.pow, np.power, [POSITIVE, B]),
    "remainder": (gf.remainder, np.remainder, [A, POSITIVE]),
    "subtract": (gf.subtract, np.subtract, [A, B]),
    "where": (gf.where, np.where, [BOOLS, A, B]),
    "clip": (lambda x: gf.clip(x, -0.5, 0.5), lambda x: np.clip(x, -0.5, 0.5), [A]),
    "astype": (lambda x: gf.astype(x, "int32"), lambda x: x.astype("i4"), [A]),
}

INTEGERS = {
    "ceil of ints": (gf.ceil, lambda x: x, [INTS]),
    "round of ints": (gf.round, lambda x: x, [INTS]),
    "isfinite of ints": (gf.isfinite, np.isfinite, [INTS]),
    "isnan of ints": (gf.isnan, np.isnan, [INTS]),
    "floor_divide": (lambda x: x // 3, lambda x: x // 3, [INTS]),
    "remainder": (lambda x: x % 3, lambda x: x % 3, [INTS]),
    "clip from below": (lambda x: gf.clip(x, min=0), lambda x: np.maximum(x, 0), [INTS]),
    "clip from above": (lambda x: gf.clip(x, max=0), lambda x: np.minimum(x, 0), [INTS]),
    "clip not at all": (gf.clip, lambda x: x, [INTS]),
    "where of ints": (lambda x: gf.where(x > 0, x, 0), lambda x: np.maximum(x, 0), [INTS]),
    "astype bool": (lambda x: gf.astype(x, bool), lambda x: x.astype(bool), [INTS]),
    "sum": (gf.sum, lambda x: np.sum(x, dtype="i8"), [INTS]),
    "prod": (lambda x: gf.prod(x, 1), lambda x: np.prod(x, axis=1, dtype="i8"), [INTS]),
    "sum of bools": (gf.sum, np.sum, [BOOLS]),
    "mean": (gf.mean, lambda x: np.float32(np.mean(x)), [INTS]),
    "mean of bools": (gf.mean, lambda x: np.float32(np.mean(x)), [BOOLS]),
    "max": (lambda x: gf.max(x, 0), lambda x: np.max(x, axis=0), [INTS]),
    "any of ints": (lambda x: gf.any(x, 1), lambda x: np.any(x, axis=1), [INTS]),
    "count_nonzero": (gf.count_nonzero, np.count_nonzero, [INTS]),
    "count_nonzero by axis": (
        lambda x: gf.count_nonzero(x, 0), lambda x: np.count_nonzero(x, axis=0), [INTS],
    ),
}  # fmt: skip


def _logsumexp(x, axis=None, keepdims=False):
    return np.log(np.sum(np.exp(x.astype("f8")), axis=axis, keepdims=keepdims)).astype("f4")


STATISTICS = {
    name: (ours, theirs, [array])
    for name, ours, theirs, array in [
        ("sum", gf.sum, np.sum, A),
        ("prod", gf.prod, np.prod, A),
        ("max", gf.max, np.max, A),
        ("min", gf.min, np.min, A),
        ("mean", gf.mean, np.mean, A),
        ("var", gf.var, np.var, A),
        ("std", gf.std, np.std, A),
        ("any", gf.any, np.any, BOOLS),
        ("all", gf.all, np.all, BOOLS),
        ("argmax", gf.argmax, np.argmax, A),
        ("argmin", gf.argmin, np.argmin, A),
        ("logsumexp", gf.logsumexp, _logsumexp, A),
    ]
}

CREATION = {
    "asarray": (lambda: gf.asarray([[1, 2], [3, 4]]), lambda: np.array([[1, 2], [3, 4]])),
    "asarray of floats": (lambda: gf.asarray([0.5]), lambda: np.array([0.5], "f4")),
    "asarray as": (lambda: gf.asarray([1, 2], "float64"), lambda: np.array([1.0, 2.0])),
    "zeros": (lambda: gf.zeros((2, 3)), lambda: np.zeros((2, 3), "f4")),
    "ones": (lambda: gf.ones(3, "int32"), lambda: np.ones(3, "i4")),
    "empty": (lambda: gf.empty((2,)), lambda: np.zeros(2, "f4")),
    "full": (lambda: gf.full((2, 2), 7), lambda: np.full((2, 2), 7)),
    "full of a tensor": (lambda: gf.full(2, gf.exp(gf.asarray(0.0))), lambda: np.ones(2, "f4")),
    "arange": (lambda: gf.arange(5), lambda: np.arange(5)),
    "arange from to": (lambda: gf.arange(2, 11, 3), lambda: np.arange(2, 11, 3)),
    "arange down": (lambda: gf.arange(5, 0, -2), lambda: np.arange(5, 0, -2)),
    "arange empty": (lambda: gf.arange(3, 1), lambda: np.arange(3, 1)),
    "arange of floats": (
        lambda: gf.arange(0.0, 1.0, 0.25), lambda: np.arange(0, 1, 0.25, dtype="f4"),
    ),
    "arange down in uint8": (
        lambda: gf.arange(3, -1, -1, dtype="uint8"), lambda: np.arange(3, -1, -1).astype("u1"),
    ),
    "linspace": (lambda: gf.linspace(0, 1, 5), lambda: np.linspace(0, 1, 5, dtype="f4")),
    "linspace open": (
        lambda: gf.linspace(0, 1, 4, endpoint=False),
        lambda: np.linspace(0, 1, 4, endpoint=False, dtype="f4"),
    ),
    "eye": (lambda: gf.eye(3), lambda: np.eye(3, dtype="f4")),
    "eye above": (lambda: gf.eye(2, 4, k=1), lambda: np.eye(2, 4, k=1, dtype="f4")),
    "eye below": (lambda: gf.eye(3, k=-1, dtype=bool), lambda: np.eye(3, k=-1, dtype=bool)),
}  # fmt: skip

MANIPULATION = {
    "zeros_like": (gf.zeros_like, np.zeros_like, [A]),
    "ones_like": (gf.ones_like, np.ones_like, [INTS]),
    "full_like": (lambda x: gf.full_like(x, 2), lambda x: np.full_like(x, 2), [A]),
    "empty_like": (gf.empty_like, np.zeros_like, [A]),
    "shape": (gf.shape, lambda x: np.array(x.shape), [SQUARE]),
    "tril": (lambda x: gf.tril(x, -1), lambda x: np.tril(x, -1), [SQUARE]),
    "triu": (lambda x: gf.triu(x, 1), lambda x: np.triu(x, 1), [SQUARE]),
    "reshape": (lambda x: gf.reshape(x, (2, -1)), lambda x: x.reshape(2, -1), [A]),
    "reshape to one axis": (lambda x: gf.reshape(x, -1), lambda x: x.reshape(-1), [A]),
    "permute_dims": (
        lambda x: gf.permute_dims(x, (2, 0, -2)), lambda x: x.transpose(2, 0, 1), [SQUARE],
    ),
    "matrix_transpose": (gf.matrix_transpose, np.matrix_transpose, [SQUARE]),
    "moveaxis": (lambda x: gf.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1), [SQUARE]),
    "moveaxis of two": (
        lambda x: gf.moveaxis(x, (0, 1), (2, 0)), lambda x: np.moveaxis(x, (0, 1), (2, 0)),
        [SQUARE],
    ),
    "swapaxes": (lambda x: gf.swapaxes(x, 0, 2), lambda x: np.swapaxes(x, 0, 2), [SQUARE]),
    "broadcast_to": (
        lambda x: gf.broadcast_to(x, (2, 3, 4)), lambda x: np.broadcast_to(x, (2, 3, 4)), [A],
    ),
    "broadcast_arrays": (
        lambda x, y: gf.broadcast_arrays(x, y)[1], lambda x, y: np.broadcast_arrays(x, y)[1],
        [SQUARE, np.ones((1, 3), "f4")],
    ),
    "expand_dims": (lambda x: gf.expand_dims(x, -1), lambda x: np.expand_dims(x, -1), [A]),
    "expand_dims twice": (
        lambda x: gf.expand_dims(x, (0, 2)), lambda x: np.expand_dims(x, (0, 2)), [A],
    ),
    "squeeze": (gf.squeeze, np.squeeze, [A[None, :, :1]]),
    "squeeze one": (lambda x: gf.squeeze(x, 0), lambda x: np.squeeze(x, 0), [A[None, :, :1]]),
    "flatten": (gf.flatten, np.ravel, [SQUARE]),
    "flatten the rest": (lambda x: gf.flatten(x, 1), lambda x: x.reshape(2, 9), [SQUARE]),
    "concat": (lambda x, y: gf.concat([x, y], 1), lambda x, y: np.concatenate([x, y], 1), [A, B]),
    "concat flat": (
        lambda x, y: gf.concat([x, y], None), lambda x, y: np.concatenate([x, y], None), [A, SQUARE],
    ),
    "concat promotes": (
        lambda x, y: gf.concat([x, y]), lambda x, y: np.concatenate([x, y.astype("f4")]), [A, INTS],
    ),
    "stack": (lambda x, y: gf.stack([x, y], -1), lambda x, y: np.stack([x, y], -1), [A, B]),
    "unstack": (lambda x: gf.unstack(x, 1)[2], lambda x: x[:, 2], [A]),
    "split": (lambda x: gf.split(x, 2, 1)[1], lambda x: np.split(x, 2, 1)[1], [A]),
    "split at": (
        lambda x: gf.split(x, [1, 1, 3], 1), lambda x: np.split(x, [1, 1, 3], 1), [A],
    ),
    "tile": (lambda x: gf.tile(x, (2, 3)), lambda x: np.tile(x, (2, 3)), [A]),
    "tile more axes": (lambda x: gf.tile(x, (2, 1, 1)), lambda x: np.tile(x, (2, 1, 1)), [A]),
    "repeat": (lambda x: gf.repeat(x, 2, 1), lambda x: np.repeat(x, 2, 1), [A]),
    "repeat flat": (lambda x: gf.repeat(x, 2), lambda x: np.repeat(x, 2), [A]),
    "repeat by counts": (
        lambda x: gf.repeat(x, [1, 0, 2], 0), lambda x: np.repeat(x, [1, 0, 2], 0), [A],
    ),
    "flip": (gf.flip, np.flip, [A]),
    "flip one": (lambda x: gf.flip(x, -1), lambda x: np.flip(x, -1), [A]),
    "roll": (lambda x: gf.roll(x, 1, 0), lambda x: np.roll(x, 1, 0), [A]),
    "roll back": (lambda x: gf.roll(x, -5, 1), lambda x: np.roll(x, -5, 1), [A]),
    "roll two": (lambda x: gf.roll(x, (1, 2), (0, 1)), lambda x: np.roll(x, (1, 2), (0, 1)), [A]),
    "roll flat": (lambda x: gf.roll(x, 3), lambda x: np.roll(x, 3), [A]),
    "pad": (
        lambda x: gf.pad(x, ((1, 0), (0, 2)), constant_values=-1),
        lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=-1), [A],
    ),
    "pad edge": (
        lambda x: gf.pad(x, ((2, 1), (0, 3)), "edge"),
        lambda x: np.pad(x, ((2, 1), (0, 3)), "edge"), [A],
    ),
    "pad reflect": (
        lambda x: gf.pad(x, ((2, 1), (0, 3)), "reflect"),
        lambda x: np.pad(x, ((2, 1), (0, 3)), "reflect"), [A],
    ),
    "take": (lambda x: gf.take(x, [2, 0, -1], 1), lambda x: np.take(x, [2, 0, -1], 1), [A]),
    "take of a vector": (lambda x: gf.take(x, [[1], [0]]), lambda x: np.take(x, [[1], [0]]), [A[0]]),
    "take_along_axis": (
        lambda x, i: gf.take_along_axis(x, i, 1), lambda x, i: np.take_along_axis(x, i, 1),
        [A, np.array([[0, 3], [1, -1], [2, 2]])],
    ),
    "take_along_axis 0": (
        lambda x, i: gf.take_along_axis(x, i, 0), lambda x, i: np.take_along_axis(x, i, 0),
        [A, np.array([[0, 2, 1, -1]])],
    ),
}  # fmt: skip

VECTOR = RNG.normal(size=4).astype("f4")
MATRIX = RNG.normal(size=(4, 2)).astype("f4")
BATCH = RNG.normal(size=(2, 3, 4)).astype("f4")
OTHER = RNG.normal(size=(2, 4, 5)).astype("f4")


def _einsum(subscripts):
    return (lambda *x: gf.einsum(subscripts, *x)), (lambda *x: np.einsum(subscripts, *x))


PRODUCTS = {
    "matmul": (gf.matmul, np.matmul, [A, MATRIX]),
    "matmul @": (lambda x, y: x @ y, np.matmul, [A, MATRIX]),
    "matrix vector": (gf.matmul, np.matmul, [A, VECTOR]),
    "vector matrix": (gf.matmul, np.matmul, [VECTOR, MATRIX]),
    "vector vector": (gf.matmul, np.matmul, [VECTOR, VECTOR]),
    "batch matrix": (gf.matmul, np.matmul, [BATCH, MATRIX]),
    "matrix batch": (gf.matmul, np.matmul, [A, OTHER]),
    "batch batch": (gf.matmul, np.matmul, [BATCH, OTHER]),
    "batch vector": (gf.matmul, np.matmul, [BATCH, VECTOR]),
    "vector batch": (gf.matmul, np.matmul, [VECTOR, OTHER]),
    "vecdot": (gf.vecdot, np.vecdot, [A, B]),
    "vecdot broadcast": (gf.vecdot, np.vecdot, [BATCH, VECTOR]),
    "vecdot axis": (
        lambda x, y: gf.vecdot(x, y, axis=0), lambda x, y: np.vecdot(x, y, axis=0), [A, B],
    ),
    "outer": (gf.outer, np.outer, [VECTOR, A]),
    "tensordot": (
        lambda x, y: gf.tensordot(x, y, 1), lambda x, y: np.tensordot(x, y, 1), [BATCH, MATRIX],
    ),
    "tensordot 0": (
        lambda x, y: gf.tensordot(x, y, 0), lambda x, y: np.tensordot(x, y, 0), [A, VECTOR],
    ),
    "tensordot pairs": (
        lambda x, y: gf.tensordot(x, y, ((0, 2), (0, 1))),
        lambda x, y: np.tensordot(x, y, ((0, 2), (0, 1))), [BATCH, OTHER],
    ),
    "norm": (gf.linalg.norm, np.linalg.norm, [A]),
    "norm by axis": (
        lambda x: gf.linalg.norm(x, 1, keepdims=True),
        lambda x: np.linalg.norm(x, axis=1, keepdims=True), [A],
    ),
    "norm 1": (
        lambda x: gf.linalg.norm(x, 0, order=1), lambda x: np.linalg.norm(x, 1, axis=0), [A],
    ),
    "norm inf": (
        lambda x: gf.linalg.norm(x, 0, order=np.inf), lambda x: np.linalg.norm(x, np.inf, axis=0),
        [A],
    ),
    "trace": (*_einsum("ii"), [SQUARE[0]]),
    "diagonal": (*_einsum("bii->bi"), [SQUARE]),
    "transpose": (*_einsum("ij->ji"), [A]),
    "implicit": (*_einsum("ij,jk"), [A, MATRIX]),
    "implicit order": (*_einsum("ba"), [A]),
    "rows": (*_einsum("ij->i"), [A]),
    "everything": (*_einsum("ij,ij->"), [A, B]),
    "attention": (*_einsum("bqd,bkd->bqk"), [BATCH, BATCH]),
    "batch and outer": (*_einsum("bi,bj->bij"), [A, B]),
    "ellipsis": (*_einsum("...ij,jk->...ik"), [BATCH, MATRIX]),
    "two ellipses": (*_einsum("...ij,...jk"), [BATCH, OTHER]),
    "broadcast ellipsis": (*_einsum("...i,...i->..."), [BATCH, A]),
    "three operands": (*_einsum("ij,jk,i->k"), [A, MATRIX, A[:, 0]]),
    "ones broadcast": (*_einsum("ij,ij->ij"), [A, A[:, :1]]),
    "summed alone": (*_einsum("ij,k->i"), [A, VECTOR]),
}  # fmt: skip

CASES = {
    f"{family}: {name}": case
    for family, table in [
        ("elementwise", ELEMENTWISE),
        ("integers", INTEGERS),
        ("manipulation", MANIPULATION),
        ("products", PRODUCTS),
    ]
    for name, case in table.items()
}


def assert_same(got, expected):
    if isinstance(expected, (list, tuple)):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same(one, other)
        return
    expected = np.asarray(expected)
    assert np.asarray(got).dtype == expected.dtype
    assert np.shape(got) == expected.shape
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, expected)


def run(ours, arrays, shapes=None):
    shapes = shapes or [np.shape(array) for array in arrays]
    inputs = [
        gf.placeholder(shape, array.dtype) for shape, array in zip(shapes, arrays, strict=True)
    ]
    outputs = ours(*inputs)
    function = gf.function(inputs, outputs, mode="interpret", on_unused_input="ignore")
    return function(*arrays)


@pytest.mark.parametrize("name", CASES)
def test_function_agrees_with_numpy(name):
    ours, theirs, arrays = CASES[name]
    with np.errstate(all="ignore"):
        assert_same(run(ours, arrays), theirs(*arrays))


@pytest.mark.parametrize("name", CASES)
def test_constants_give_the_same(name):
    ours, theirs, arrays = CASES[name]
    result = ours(*(gf.asarray(array) for array in arrays))
    got = [np.asarray(part) for part in result] if isinstance(result, list) else np.asarray(result)
    with np.errstate(all="ignore"):
        assert_same(got, theirs(*arrays))


@pytest.mark.parametrize("name", CREATION)
def test_creation(name):
    ours, theirs = CREATION[name]
    assert_same(np.asarray(ours()), theirs())


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics(name, axis, keepdims):
    ours, theirs, arrays = STATISTICS[name]
    got = run(lambda x: ours(x, axis=axis, keepdims=keepdims), arrays, [("rows", 4)])
    assert_same(got, theirs(*arrays, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("name", ["sum", "max", "mean", "var", "logsumexp"])
def test_statistics_over_several_axes(name):
    ours, theirs, _ = STATISTICS[name]
    assert_same(run(lambda x: ours(x, axis=(0, -1)), [SQUARE]), theirs(SQUARE, axis=(0, 2)))
    assert_same(run(lambda x: ours(x, axis=()), [SQUARE]),
                np.zeros_like(SQUARE) if name == "var" else SQUARE)  # fmt: skip


def test_correction():
    for correction in (0, 1, 0.5):
        got = run(lambda x, c=correction: [gf.var(x, 0, c), gf.std(x, 0, c)], [A], [("n", 4)])
        expected = np.sum((A - A.mean(0)) ** 2, 0) / (3 - correction)
        assert_same(got, [expected, np.sqrt(expected)])


def test_logsumexp_does_not_overflow():
    x = np.array([[1000, 1000], [-np.inf, -np.inf], [np.inf, 0], [-1000, -1001]], "f4")
    got = run(lambda a: gf.logsumexp(a, axis=1), [x])
    expected = [1000 + np.log(2), -np.inf, np.inf, -1000 + np.log1p(np.exp(-1))]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


# ---- named dims ------------------------------------------------------------------------------

SYMBOLIC = {
    "reshape exact": (lambda x: gf.reshape(x, (-1,)), lambda a: a.reshape(-1)),
    "reshape by a dim": (lambda x: gf.reshape(x, (x.shape[0], -1, 2)), lambda a: a.reshape(-1, 2, 2)),
    "reshape by a name": (lambda x: gf.reshape(x, ("n", 2, 2)), lambda a: a.reshape(-1, 2, 2)),
    "flatten": (gf.flatten, np.ravel),
    "tile": (lambda x: gf.tile(x, (2, 1)), lambda a: np.tile(a, (2, 1))),
    "repeat": (lambda x: gf.repeat(x, 3, 0), lambda a: np.repeat(a, 3, 0)),
    "roll": (lambda x: gf.roll(x, 2, 0), lambda a: np.roll(a, 2, 0)),
    "roll flat": (lambda x: gf.roll(x, 1), lambda a: np.roll(a, 1)),
    "flip": (lambda x: gf.flip(x, 0), lambda a: np.flip(a, 0)),
    "pad": (lambda x: gf.pad(x, 1), lambda a: np.pad(a, 1)),
    "pad edge": (lambda x: gf.pad(x, 1, "edge"), lambda a: np.pad(a, 1, "edge")),
    "pad reflect": (lambda x: gf.pad(x, 2, "reflect"), lambda a: np.pad(a, 2, "reflect")),
    "concat": (lambda x: gf.concat([x, x, x[1:]]), lambda a: np.concatenate([a, a, a[1:]])),
    "arange": (lambda x: gf.arange(x.shape[0]), lambda a: np.arange(a.shape[0])),
    "arange from": (lambda x: gf.arange(1, x.shape[0], 2), lambda a: np.arange(1, a.shape[0], 2)),
    "arange between": (
        lambda x: gf.arange(x.shape[0], 2 * x.shape[0]),
        lambda a: np.arange(a.shape[0], 2 * a.shape[0]),
    ),
    "tril": (gf.tril, np.tril),
    "eye": (lambda x: gf.eye(x.shape[0], 4), lambda a: np.eye(a.shape[0], 4, dtype="f4")),
    "take_along_axis": (
        lambda x: gf.take_along_axis(x, gf.argmax(x, 0, keepdims=True), 0),
        lambda a: a.max(0, keepdims=True),
    ),
    "mean": (lambda x: gf.mean(x[1:], 0), lambda a: a[1:].mean(0)),
    "half": (lambda x: gf.mean(x[::2]), lambda a: a[::2].mean()),
}  # fmt: skip


@pytest.mark.parametrize("rows", [3, 6])
@pytest.mark.parametrize("name", SYMBOLIC)
def test_functions_of_named_dims(name, rows):
    ours, theirs = SYMBOLIC[name]
    a = RNG.normal(size=(rows, 4)).astype("f4")
    assert_same(run(ours, [a], [("n", 4)]), theirs(a))


def test_a_reshape_that_may_not_divide_is_checked_when_running():
    x = gf.placeholder(("n",), name="x")
    pairs = gf.function([x], gf.reshape(x, (-1, 2)), mode="interpret")
    assert pairs(np.arange(6, dtype="f4")).shape == (3, 2)
    with pytest.raises(gf.errors.ShapeError, match=r"reshape.*n=5"):
        pairs(np.arange(5, dtype="f4"))


def test_einsum_over_named_dims():
    q, k = gf.placeholder(("b", "t", 2)), gf.placeholder(("b", "s", 2))
    a, b = RNG.normal(size=(2, 3, 2)).astype("f4"), RNG.normal(size=(2, 5, 2)).astype("f4")
    function = gf.function([q, k], gf.einsum("btd,bsd->bts", q, k), mode="interpret")
    np.testing.assert_allclose(function(a, b), np.einsum("btd,bsd->bts", a, b), rtol=1e-5)


def test_matmul_over_a_batch_is_one_product():
    x, w = gf.placeholder(("batch", "time", 4)), gf.variable(MATRIX)
    graph = gf.function([x], x @ w).graph
    products = [node for node in graph.nodes if node.op.name == "matmul"]
    assert [str(node.spec) for node in products] == ["float32(batch*time, 2)"]


# ---- compiled --------------------------------------------------------------------------------

#: composites whose parts meet in one kernel; the ops by themselves are tested in tests/ops
COMPILED = {
    "softmax": lambda x: gf.nn.softmax(x, -1),
    "layer norm": gf.nn.layer_norm,
    "reflection": lambda x: gf.pad(x, 2, "reflect") * 2,
    "shifted product": lambda x: x[1:, ::-1] * x[:-1],
    "roll": lambda x: gf.roll(x, 1, 0) + gf.roll(x, -1, 1),
    "take_along_axis": lambda x: gf.take_along_axis(x, gf.argmax(x, 1, keepdims=True), 1),
    "triangle": lambda x: gf.einsum("ij,kj->ik", x, gf.tril(x)),
    "size as a value": lambda x: gf.mean(x[::2]) / x.shape[0],
}


def compiled_and_expected(build):
    """What the compiled function gives, and what the interpreter does."""
    x = gf.placeholder(("n", 4))
    array = RNG.normal(size=(6, 4)).astype("f4")
    expected = gf.function([x], build(x), mode="interpret")(array)
    return gf.function([x], build(x))(array), expected


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_composites(name):
    got, expected = compiled_and_expected(COMPILED[name])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: gf.var(x, 0),
        lambda x: gf.std(x, 0),
        lambda x: gf.logsumexp(x, 0),
        lambda x: gf.nn.moments(x, 0)[1],
        lambda x: gf.nn.batch_norm(x, *gf.nn.moments(x, 0)),
    ],
)
def test_compiled_reductions_of_columns(build):
    got, expected = compiled_and_expected(build)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


# ---- the list of names -----------------------------------------------------------------------


def test_every_public_function_is_documented_and_exported():
    for module in (creation, functions, linalg, manipulation, statistics):
        for name in module.__all__:
            function = getattr(module, name)
            assert function.__doc__, name
            if module is not linalg:
                assert getattr(gf, name) is function, name


def test_array_api_names():
    expected = """
        abs acos acosh add all any arange argmax argmin asarray asin asinh astype atan atan2 atanh
        broadcast_arrays broadcast_to ceil clip concat cos cosh count_nonzero divide empty
        empty_like equal exp expand_dims expm1 eye flip floor floor_divide full full_like greater
        greater_equal isfinite isinf isnan less less_equal linspace log log10 log1p log2 logical_and
        logical_not logical_or logical_xor matmul matrix_transpose max maximum mean min minimum
        moveaxis multiply negative not_equal ones ones_like permute_dims positive pow prod
        reciprocal remainder repeat reshape roll round sign sin sinh sqrt square squeeze stack std
        subtract sum take take_along_axis tan tanh tensordot tile tril triu trunc unstack var vecdot
        where zeros zeros_like
    """
    assert [name for name in expected.split() if not callable(getattr(gf, name, None))] == []
