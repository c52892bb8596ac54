"""The sample table: for every op of the registry, rows of inputs and attributes to try it with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.op import ops
from graphflow.compiler.ops.creation import Literal
from tests.ops.samples import (
    Sample,
    array,
    corners,
    float_corners,
    int_corners,
    pairs,
    spread,
)

INT_SAMPLES = ("int8", "int32", "int64", "uint8", "uint64")

# ---- elementwise -------------------------------------------------------------------------------


def unary(
    low: float, high: float, *, extreme: Sequence[float] | None = None, **options: Any
) -> list[Sample]:
    """Rows of a function of one float.

    Args:
        low, high: where it is smooth.
        extreme: corner values instead of the usual ones.
    """
    rows = [
        Sample((spread((7,), low, high),), wrt=(0,)),
        Sample((spread((2, 3), low, high, 1),), wrt=(0,)),
        Sample((np.array((low + 2 * high) / 3),), wrt=(0,)),
        Sample((spread((37,), low, high).astype("f"),)),
        Sample((np.zeros((0,), "f"),)),
        Sample((spread((1, 1), low, high).astype("f"),)),
    ]
    for dtype in ("float32", "float64"):
        values = float_corners(dtype) if extreme is None else np.array(extreme, dtype)
        rows.append(Sample((values,), order=0))
    return [replace(row, symbolic=True, **options) for row in rows]


def binary(
    first: tuple[float, float],
    second: tuple[float, float],
    *,
    wrt: tuple[int, ...] = (0, 1),
    ints: Sequence[str] = (),
    bools: bool = False,
    floats: bool = True,
    **options: Any,
) -> list[Sample]:
    """Rows of a function of two operands, the last of which broadcast."""
    shapes = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (3,)), ((), ())]
    rows: list[Sample] = []
    if floats:
        for a, b in shapes:
            rows.append(Sample((spread(a, *first), spread(b, *second, 2)), wrt=wrt))
        rows += [
            Sample((spread((5, 37), *first).astype("f"), spread((37,), *second, 2).astype("f"))),
            Sample((np.zeros((0, 3), "f"), spread((3,), *second).astype("f"))),
            Sample((spread((1, 1), *first).astype("f"), spread((1,), *second).astype("f"))),
        ]
        rows += [Sample(pairs(*[float_corners(d)] * 2)) for d in ("float32", "float64")]
    rows += [Sample(pairs(*[int_corners(d)] * 2)) for d in ints]
    if bools:
        rows.append(Sample(pairs(*[corners("bool")] * 2)))
    return [replace(row, symbolic=True, **options) for row in rows]


def with_ints(rows: list[Sample], dtypes: Sequence[str] = INT_SAMPLES) -> list[Sample]:
    return rows + [Sample((int_corners(d),), symbolic=True) for d in dtypes]


#: the kernels reduce angles up to 2**44, and give NaN beyond
ANGLES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 3.0, -100.5, 1e4, -3e7, 2.0**43]

REAL, POSITIVE = (-2.0, 2.0), (0.4, 2.6)
#: a divisor and a numerator whose quotient stays away from whole numbers
QUOTIENT = ((2.3, 2.6), (0.8, 0.9))

ELEMENTWISE = {
    "add": binary(REAL, REAL, ints=INT_SAMPLES),
    "subtract": binary(REAL, REAL, ints=INT_SAMPLES),
    "multiply": binary(REAL, REAL, ints=INT_SAMPLES),
    "divide": binary(REAL, POSITIVE),
    "floor_divide": binary(*QUOTIENT, ints=INT_SAMPLES, twice=False),
    "remainder": [
        *binary(*QUOTIENT, ints=INT_SAMPLES, twice=False),
        Sample((array(-2.4, 2.4, -2.4), array(0.85, -0.85, -0.85)), wrt=(0, 1), symbolic=True,
               twice=False),
    ],
    "fmod": [
        *binary(*QUOTIENT, ints=INT_SAMPLES, twice=False),
        Sample((array(-2.4, 2.4, -2.4), array(0.85, -0.85, -0.85)), wrt=(0, 1), symbolic=True,
               twice=False),
    ],
    "power": [
        *binary(POSITIVE, REAL, ints=INT_SAMPLES, rtol=None),
        Sample((array(-1.5, -1.0, 0.0, 2.0, 0.0), array(3.0, 2.0, 3.0, 0.0, 1.0)), wrt=(0,),
               symbolic=True, order=1),
    ],
    "maximum": binary(REAL, REAL, ints=INT_SAMPLES, bools=True),
    "minimum": binary(REAL, REAL, ints=INT_SAMPLES, bools=True),
    "atan2": binary(POSITIVE, REAL),
    "negative": with_ints(unary(*REAL)),
    "abs": with_ints(unary(-2.0, 1.7)),
    "sign": with_ints(unary(-2.0, 1.7)),
    "square": with_ints(unary(*REAL)),
    "reciprocal": unary(*POSITIVE),
    "sqrt": unary(*POSITIVE),
    "rsqrt": unary(*POSITIVE),
    "exp": unary(*REAL),
    "expm1": unary(*REAL),
    "log": unary(*POSITIVE),
    "log1p": unary(-0.7, 2.0),
    "log2": unary(*POSITIVE),
    "log10": unary(*POSITIVE),
    "sigmoid": unary(*REAL),
    "erf": unary(*REAL),
    "erfc": unary(*REAL),
    "sin": unary(*REAL, extreme=ANGLES),
    "cos": unary(*REAL, extreme=ANGLES),
    "tan": unary(-1.2, 1.2, extreme=ANGLES),
    "asin": unary(-0.8, 0.8),
    "acos": unary(-0.8, 0.8),
    "atan": unary(*REAL),
    "sinh": unary(*REAL),
    "cosh": unary(*REAL),
    "tanh": unary(*REAL),
    "asinh": unary(*REAL),
    "acosh": unary(1.3, 3.0),
    "atanh": unary(-0.8, 0.8),
    "floor": unary(-3.0, 3.1),
    "ceil": unary(-3.0, 3.1),
    "round": unary(-2.45, 2.3),
    "trunc": unary(-3.0, 3.1),
    "relu": with_ints(unary(-2.0, 1.7)),
    "clip": [
        replace(row, symbolic=True)
        for row in (
            Sample((spread((2, 3), -2, 2), np.array(-1.1), np.array(0.9)), wrt=(0, 1, 2)),
            Sample((spread((2, 3), -2, 2), spread((3,), -1.5, 0, 1), spread((2, 1), 0.5, 1, 2)),
                   wrt=(0, 1, 2)),
            Sample((array(-2, 0.3, 2), np.array(0.7), np.array(-0.7)), wrt=(0, 1, 2)),
            Sample((spread((0, 2), 0, 1),) * 3),
            Sample(pairs(*[float_corners("float32")[5:]] * 3)),
            Sample(pairs(*[int_corners("int8")] * 3)),
            Sample(pairs(*[int_corners("uint64")] * 3)),
        )
    ],
    **{
        name: binary(REAL, REAL, wrt=(), ints=("int8", "int64", "uint64"), bools=True, rtol=0.0)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    **{
        name: [
            *binary(REAL, REAL, floats=False, bools=True, rtol=0.0),
            Sample((array([True], [False], dtype="bool"), array(True, False, True, dtype="bool")),
                   symbolic=True),
            Sample((np.array(True), np.array(False)), symbolic=True),
            Sample((np.zeros((0, 2), "bool"), np.array(False)), symbolic=True),
        ]
        for name in ("logical_and", "logical_or", "logical_xor")
    },
    "logical_not": [
        Sample((np.array(x),), symbolic=True) for x in (True, [True, False], [[False], [True]])
    ] + [Sample((np.zeros((2, 0), "bool"),), symbolic=True)],
    **{
        name: [
            Sample((float_corners("float32"),), symbolic=True),
            Sample((float_corners("float64"),), symbolic=True),
            Sample((np.array(np.nan),), symbolic=True),
            Sample((np.zeros((0,), "f"),), symbolic=True),
            Sample((np.full((1, 1), np.inf, "f"),), symbolic=True),
        ]
        for name in ("is_nan", "is_inf", "is_finite")
    },
    "where": [
        replace(row, symbolic=True)
        for row in (
            Sample((array(True, False, True, dtype="bool"), spread((2, 3), *REAL),
                    spread((2, 1), *REAL, 1)), wrt=(1, 2)),
            Sample((array([True], [False], dtype="bool"), spread((3,), *REAL),
                    spread((), *REAL, 1)), wrt=(1, 2)),
            Sample((np.array(False), np.array(2.0), np.array(3.0)), wrt=(1, 2)),
            Sample(pairs(corners("bool"), *[float_corners("float32")] * 2), rtol=0.0),
            Sample(pairs(corners("bool"), *[int_corners("uint64")] * 2)),
            Sample(pairs(*[corners("bool")] * 3)),
            Sample((np.zeros((0, 1), "bool"), np.zeros((3,), "f"), np.zeros((1, 3), "f"))),
        )
    ],
    "cast": [
        *(
            Sample((corners(a),), {"dtype": b}, symbolic=True)
            for a, b in itertools.product(
                ("bool", "int8", "int64", "uint64", "float32", "float64"),
                ("bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64"),
            )
        ),
        Sample((array(127.5, -128.9, 255.5, -0.5, 3e9, -3e9, 1e19, 2e19, -1e19),),
               {"dtype": "int8"}, symbolic=True),
        *(
            Sample((array(127.5, -128.9, 255.5, -0.5, 3e9, -3e9, 1e19, 2e19, -1e19),),
                   {"dtype": d}, symbolic=True)
            for d in ("uint8", "int16", "uint16", "uint32", "int64", "uint64")
        ),
        Sample((spread((2, 3), *REAL),), {"dtype": "float64"}, wrt=(0,), symbolic=True),
        Sample((spread((5,), *REAL),), {"dtype": "float32"}, wrt=(0,), symbolic=True,
               slack=1e-4, step=0.25, order=1),
        Sample((np.array(2.75),), {"dtype": "int64"}, symbolic=True),
        Sample((np.zeros((0, 2)),), {"dtype": "int64"}, symbolic=True),
    ],
    "stop_gradient": [
        replace(row, wrt=(), rtol=0.0) for row in with_ints(unary(*REAL), ("int8", "uint64"))
    ],
}  # fmt: skip


# ---- reductions --------------------------------------------------------------------------------


def reduction(
    values: Callable[[tuple[int, ...]], np.ndarray],
    *,
    axes: Sequence[tuple[int, ...]] = ((), (0,), (2,), (0, 2), (0, 1, 2)),
    empty: bool = True,
    wrt: tuple[int, ...] = (0,),
    floats: bool = True,
    dtypes: Sequence[str] = (),
    **options: Any,
) -> list[Sample]:
    rows: list[Sample] = []
    if floats:
        rows += [Sample((values((2, 3, 4)),), {"axes": a}, wrt=wrt) for a in axes]
        wide = values((33, 70)).astype("f")
        rows += [Sample((wide,), {"axes": a}, rtol=2e-5, atol=1e-5) for a in ((0,), (1,))]
        for number in (np.nan, np.inf, -np.inf, -0.0):
            special = values((2, 4)).astype("f")
            special[0, 2] = number
            rows.append(Sample((special,), {"axes": (1,)}, rtol=2e-5))
        if empty:
            rows += [Sample((np.zeros((0, 3), "f"),), {"axes": a}) for a in ((0,), (1,))]
        rows.append(Sample((values((1, 1)).astype("f"),), {"axes": (1,)}))
        if () in axes:
            rows.append(Sample((np.array(1.25),), {"axes": ()}, wrt=wrt))
    for dtype in dtypes:
        data = np.tile(corners(dtype), (3, 1))
        rows += [Sample((data,), {"axes": a}) for a in ((0,), (1,))]
    return [replace(row, symbolic=True, **options) for row in rows]


def real(shape: tuple[int, ...]) -> np.ndarray:
    return spread(shape, *REAL)


ONE_AXIS = {"axes": ((0,), (1,), (2,)), "wrt": (), "rtol": 0.0, "empty": False}

REDUCTIONS = {
    "sum": reduction(real, dtypes=INT_SAMPLES),
    "prod": [
        *reduction(lambda s: spread(s, 0.8, 1.25), dtypes=INT_SAMPLES),
        Sample((array([0.0, 2, 3], [0, 0, 3], [1, 2, 3], [0, 0, 0]),), {"axes": (1,)}, wrt=(0,)),
    ],
    "max": reduction(real, empty=False, dtypes=(*INT_SAMPLES, "bool")),
    "min": reduction(real, empty=False, dtypes=(*INT_SAMPLES, "bool")),
    "any": reduction(real, floats=False, dtypes=("bool",)),
    "all": reduction(real, floats=False, dtypes=("bool",)),
    "argmax": [
        *reduction(real, dtypes=("int8", "uint64"), **ONE_AXIS),
        Sample((array([1, 3, 3], [2, 2, 1], [np.nan, 1, np.nan]),), {"axes": (1,)}),
    ],
    "argmin": [
        *reduction(real, dtypes=("int8", "uint64"), **ONE_AXIS),
        Sample((array([3, 1, 1], [2, 2, 3], [1, np.nan, np.nan]),), {"axes": (1,)}),
    ],
}
for _name in ("any", "all"):
    REDUCTIONS[_name] += [
        Sample((np.array(x, "bool"),), {"axes": a}, symbolic=True)
        for x, a in (([[0, 0], [1, 1]], (0, 1)), ([[0, 0], [0, 0]], (1,)), (True, ()))
    ] + [Sample((np.zeros((0, 2), "bool"),), {"axes": a}, symbolic=True) for a in ((0,), (1,))]


# ---- movement ----------------------------------------------------------------------------------


def move(x: np.ndarray, **attrs: Any) -> Sample:
    return Sample((x,), attrs, wrt=(0,) if x.dtype == np.float64 else (), rtol=0.0)


def padded(x: np.ndarray, fill: float, low: Any, high: Any, interior: Any) -> Sample:
    wrt = (0, 1) if x.dtype == np.float64 else ()
    attrs = {"low": low, "high": high, "interior": interior}
    return Sample((x, np.array(fill, x.dtype)), attrs, wrt=wrt, rtol=0.0)


def window_attrs(size: str, values: Any, strides: Any, dilation: Any) -> dict[str, Any]:
    return {size: values, "strides": strides, "dilation": dilation}


MOVEMENT = {
    "reshape": [
        move(real((2, 3)), shape=(3, 2)),
        move(real((2, 3, 4)), shape=(2, 12)),
        move(real((2, 6)), shape=(2, 3, 2, 1)),
        move(real((1, 1)), shape=()),
        move(np.array(3.0), shape=(1, 1)),
        move(np.zeros((0, 3)), shape=(5, 0)),
        move(int_corners("int8"), shape=(11, 1)),
        move(corners("bool"), shape=(1, 2)),
    ],
    "permute_dims": [
        move(real((2, 3)), axes=(1, 0)),
        move(real((2, 3, 4)), axes=(2, 0, 1)),
        move(real((2, 3, 4)), axes=(0, 2, 1)),
        move(real((40, 33)).astype("f"), axes=(1, 0)),
        move(np.array(3.0), axes=()),
        move(np.zeros((0, 3, 2)), axes=(2, 1, 0)),
        move(real((1, 1)), axes=(1, 0)),
        move(real((3, 3)), axes=(1, 0)),
        move(np.arange(6, dtype="uint64").reshape(2, 3), axes=(1, 0)),
    ],
    "broadcast_to": [
        move(real((3,)), shape=(2, 3)),
        move(real((2, 1)), shape=(2, 3)),
        move(real((1, 3, 1)), shape=(2, 4, 3, 2)),
        move(np.array(2.0), shape=(2, 2)),
        move(np.array(2.0), shape=()),
        move(real((1,)), shape=(0,)),
        move(real((1, 1)), shape=(1, 1)),
        move(int_corners("int8"), shape=(2, 11)),
        move(corners("bool"), shape=(3, 2)),
    ],
    "slice": [
        move(real((5,)), start=(1,), step=(1,), shape=(3,)),
        move(real((5,)), start=(4,), step=(-2,), shape=(3,)),
        move(real((4, 5)), start=(0, 1), step=(3, 2), shape=(2, 2)),
        move(real((4, 5)), start=(3, 4), step=(-1, -1), shape=(4, 5)),
        move(real((4, 5)), start=(0, 0), step=(1, 1), shape=(0, 5)),
        move(real((1, 1)), start=(0, 0), step=(1, 7), shape=(1, 1)),
        move(np.array(2.0), start=(), step=(), shape=()),
        move(int_corners("int8"), start=(10,), step=(-3,), shape=(4,)),
        move(float_corners("float32"), start=(1,), step=(2,), shape=(9,)),
    ],
    "pad": [
        padded(real((3,)), 0.5, (1,), (2,), (0,)),
        padded(real((2, 3)), -1.0, (0, 1), (1, 0), (0, 0)),
        padded(real((3, 2)), 2.0, (1, 0), (0, 2), (2, 1)),
        padded(real((4,)), 2.0, (-1,), (-2,), (0,)),
        padded(real((4,)), 2.0, (-2,), (1,), (1,)),
        padded(real((4,)), 2.0, (2,), (-3,), (2,)),
        padded(real((0,)), 2.0, (2,), (4,), (3,)),
        padded(real((0,)), 2.0, (2,), (1,), (0,)),
        padded(real((1,)), 2.0, (0,), (0,), (3,)),
        padded(np.array(2.0), 1.0, (), (), ()),
        padded(np.array([np.nan, -0.0], "f"), np.inf, (1,), (1,), (1,)),
        padded(int_corners("int8"), -128, (1,), (0,), (0,)),
        padded(corners("bool"), True, (1,), (1,), (0,)),
    ],
    "concat": [
        Sample(tuple(real((n, 2)) for n in sizes), {"axis": 0}, wrt=tuple(range(len(sizes))),
               rtol=0.0)
        for sizes in ((2, 3), (1,), (2, 0, 1), (0, 0), (1, 1, 1, 1))
    ] + [
        Sample((real((2, 3)), real((2, 1))), {"axis": 1}, wrt=(0, 1), rtol=0.0),
        Sample((real((1, 1)), real((1, 1))), {"axis": 1}, wrt=(0, 1), rtol=0.0),
        Sample((int_corners("int8"), int_corners("int8")), {"axis": 0}),
        Sample((float_corners("float32"),) * 3, {"axis": 0}, rtol=0.0),
        Sample((corners("bool"),) * 2, {"axis": 0}),
    ],
    "gather_windows": [
        move(real((2, 5, 2, 3)), **window_attrs("out", (4,), (1,), (1,))),
        move(real((2, 7, 3, 1)), **window_attrs("out", (2,), (2,), (2,))),
        move(real((1, 4, 5, 2, 2, 2)), **window_attrs("out", (2, 2), (2, 2), (1, 2))),
        move(real((0, 4, 2, 2)), **window_attrs("out", (3,), (1,), (1,))),
        move(real((1, 1, 1, 1)), **window_attrs("out", (1,), (1,), (1,))),
        move(np.arange(24, dtype="int32").reshape(1, 4, 2, 3), **window_attrs("out", (3,), (1,), (1,))),
    ],
    "spread_windows": [
        move(real((2, 4, 2, 3)), **window_attrs("size", (5,), (1,), (1,))),
        move(real((2, 2, 3, 1)), **window_attrs("size", (8,), (2,), (2,))),
        move(real((1, 2, 2, 2, 2, 2)), **window_attrs("size", (4, 5), (2, 2), (1, 2))),
        move(real((0, 3, 2, 2)), **window_attrs("size", (4,), (1,), (1,))),
        move(real((1, 1, 1, 1)), **window_attrs("size", (1,), (1,), (1,))),
        move(np.arange(18, dtype="int32").reshape(1, 3, 2, 3), **window_attrs("size", (4,), (1,), (1,))),
    ],
}  # fmt: skip


# ---- products, indices, random numbers, leaves -------------------------------------------------


def product_of(a: Any, b: Any, left: bool = False, right: bool = False) -> Sample:
    wrt = (0, 1) if a.dtype == np.float64 else ()
    attrs = {"transpose_a": left, "transpose_b": right}
    return Sample((a, b), attrs, wrt=wrt, rtol=None if wrt else 2e-5, atol=1e-5 * (not wrt) + 1e-13)


def conv_row(name: str, x: Any, w: Any, **given: Any) -> Sample:
    """A row of conv, or of its derivatives, over the same image x and weights w."""
    spatial = len(x) - 2
    usual = {"dilation": 1, "high": 0, "low": 0, "strides": 1}
    attrs = {**{k: (v,) * spatial for k, v in usual.items()}, "groups": 1, **given}
    image, weights = spread(x, -1, 1), spread(w, -1, 1, 1)
    y = ops.conv.reference(image, weights, **attrs)
    cotangent = spread(y.shape, -1, 1, 2)
    operands, extra = {
        "conv": ((image, weights), {}),
        "conv_input_grad": ((cotangent, weights), {"size": x[1:-1]}),
        "conv_weight_grad": ((image, cotangent), {"kernel": w[:-2]}),
        "conv_weight_grad_parts": ((image, cotangent), {"kernel": w[:-2], "parts": 3}),
    }[name]
    return Sample(operands, {**attrs, **extra}, wrt=(0, 1), rtol=1e-12, atol=1e-13)


def conv_rows(name: str) -> list[Sample]:
    rows = [
        conv_row(name, (2, 5, 3), (2, 3, 4)),
        conv_row(name, (1, 1, 1), (1, 1, 1)),
        conv_row(name, (2, 4, 5, 2), (3, 2, 2, 3)),
        conv_row(name, (1, 7, 6, 2), (3, 3, 2, 3), strides=(2, 3)),
        conv_row(name, (1, 4, 4, 2), (3, 3, 2, 2), low=(1, 2), high=(0, 1), dilation=(1, 2)),
        conv_row(name, (2, 4, 4, 4), (2, 2, 2, 6), groups=2),
    ]
    single = [replace(row, inputs=tuple(x.astype("f") for x in row.inputs), wrt=(), rtol=2e-5,
                      atol=2e-5) for row in rows[2:4]]  # fmt: skip
    return rows + single


def taken(x: np.ndarray, indices: Any, axis: int, dtype: str = "int64") -> Sample:
    wrt = (0,) if x.dtype == np.float64 else ()
    return Sample((x, np.array(indices, dtype)), {"axis": axis}, wrt=wrt, rtol=0.0)


def scattered(x: np.ndarray, indices: Any, axis: int, size: int, dtype: str = "int64") -> Sample:
    wrt = (0,) if x.dtype == np.float64 else ()
    attrs = {"axis": axis, "size": size}
    return Sample((x, np.array(indices, dtype)), attrs, wrt=wrt)


STATES = [array(s, c, dtype="int64") for s, c in ((0, 0), (-5, 7), (2**62, -(2**40)))]


def random_rows(*dtypes: str) -> list[Sample]:
    return [
        Sample((state,), {"dtype": dtype, "shape": shape, "stream": stream}, rtol=0.0)
        for dtype in dtypes
        for state, shape, stream in zip(
            STATES * 2, [(37,), (2, 3), (), (0,), (1, 1), (3, 1, 2)], [0, 1, 7, 0, 2, 1048575],
            strict=True,
        )
    ]  # fmt: skip


INDEXING = {
    "take": [
        taken(real((4, 3)), [0, 3, 0, -1], 0),
        taken(real((4, 3)), [[2, 0], [-3, 1]], 1, "int32"),
        taken(real((4, 3)), 2, 0, "uint8"),
        taken(real((4, 3)), np.zeros((0,)), 0),
        taken(real((0, 3)), np.zeros((0,)), 0),
        taken(real((1,)), [0, 0], 0, "uint64"),
        taken(float_corners("float32"), [0, 13, 1], 0, "int8"),
        taken(int_corners("int8"), [10, 0], 0),
    ],
    "scatter_add": [
        scattered(real((4, 3)), [0, 2, 0, -1], 0, 5),
        scattered(real((2, 2, 2)), [[0, 1], [1, -3]], 1, 3, "int32"),
        scattered(real((3,)), 1, 0, 2),
        scattered(real((0, 3)), np.zeros((0,)), 0, 2),
        scattered(real((2, 3)), [1, 1], 0, 2, "uint8"),
        scattered(array(1, -2, 3, dtype="int8"), [1, 1, 0], 0, 2),
    ],
    "check_range": [
        Sample((np.array(x, dtype),), {"bound": 5})
        for x, dtype in (([0, 4, 2], "int64"), ([[1], [3]], "int32"), (3, "uint8"), ([], "int8"))
    ],
}


# ---- control flow ------------------------------------------------------------------------------


def _leaves(*arrays: np.ndarray) -> tuple[Node, ...]:
    return tuple(ops.placeholder(dtype=a.dtype.name, shape=a.shape) for a in arrays)


def cond_row(pick: bool, result: int) -> Sample:
    a, b = real((2, 3)), spread((3,), *REAL, 1)
    then, other = _leaves(a, b), _leaves(a, b)
    bodies = {
        "then": Graph(then, (then[0] * then[1], ops.tanh(then[1]))),
        "otherwise": Graph(other, (ops.sin(other[0]) + other[1], other[1] * other[1])),
    }
    return Sample(
        (np.array(pick), a, b),
        wrt=(1, 2),
        make=lambda *nodes: ops.project(ops.cond(*nodes, **bodies), index=result),
    )


def scan_row(length: int, result: int, reverse: bool, order: int = 2) -> Sample:
    carry, rows, constant = real((2,)), spread((length, 2), *REAL, 1), np.array(0.7)
    c, x, k = _leaves(carry, np.zeros((2,)), constant)
    new = ops.tanh(c * x + k)
    attrs = {"body": Graph((c, x, k), (new, new * x)), "carries": 1, "sequences": 1,
             "length": length, "reverse": reverse}  # fmt: skip
    return Sample(
        (carry, rows, constant),
        wrt=(0, 1, 2),
        order=order,
        make=lambda *nodes: ops.project(ops.scan(*nodes, **attrs), index=result),
    )


def bounded_loop_row(result: int) -> Sample:
    """No sequences and no constants."""
    (c,) = _leaves(np.array(0.5))
    attrs = {"body": Graph((c,), (ops.sin(c), c)), "carries": 1, "sequences": 0, "length": 4,
             "reverse": False}  # fmt: skip
    return Sample((np.array(0.5),), wrt=(0,),
                  make=lambda *n: ops.project(ops.scan(*n, **attrs), index=result))  # fmt: skip


CONTROL = {
    "cond": [cond_row(pick, result) for pick in (True, False) for result in (0, 1)],
    "scan": [
        *(scan_row(3, result, reverse) for result in (0, 1) for reverse in (False, True)),
        scan_row(1, 1, False),
        scan_row(0, 0, False),
        scan_row(0, 1, False),
        bounded_loop_row(0),
        bounded_loop_row(1),
    ],
    "project": [cond_row(True, 0), scan_row(2, 1, False)],
}


CASES: dict[str, list[Sample]] = {
    **ELEMENTWISE,
    **REDUCTIONS,
    **MOVEMENT,
    **INDEXING,
    **CONTROL,
    "matmul": [
        product_of(real((2, 3)), real((3, 4))),
        product_of(real((3, 2)), real((3, 4)), left=True),
        product_of(real((2, 3)), real((4, 3)), right=True),
        product_of(real((3, 2)), real((4, 3)), left=True, right=True),
        product_of(real((2, 2, 3)), real((3, 2))),
        product_of(real((2, 1, 2, 3)), real((4, 3, 2))),
        product_of(real((2, 3)), real((2, 3, 2))),
        product_of(real((1, 1)), real((1, 1))),
        product_of(real((2, 0)), real((0, 3))),
        product_of(real((0, 2)), real((2, 3))),
        product_of(real((17, 33)).astype("f"), real((33, 50)).astype("f")),
        product_of(np.arange(6, dtype="int32").reshape(2, 3), np.ones((3, 2), "int32")),
    ],
    **{name: conv_rows(name) for name in (
        "conv", "conv_input_grad", "conv_weight_grad", "conv_weight_grad_parts"
    )},
    "random_bits": random_rows("uint32", "uint64"),
    "random_uniform": random_rows("float32", "float64"),
    "random_permutation": [
        Sample((state,), {"size": size, "stream": stream})
        for state, size, stream in zip(STATES * 2, (5, 40, 1, 0, 2, 9), range(6), strict=True)
    ],
    "constant": [
        Sample((), {"value": Literal(x)}, rtol=0.0)
        for x in (real((2, 3)), float_corners("float32"), int_corners("int8"), np.array(True),
                  np.zeros((0, 2)))
    ],
    "full": [
        Sample((), {"dtype": dtype, "shape": shape, "value": value}, rtol=0.0)
        for dtype, shape, value in (
            ("float32", (2, 3), 0.1), ("float64", (), -0.0), ("float32", (2,), np.nan),
            ("float64", (2,), -np.inf), ("int8", (3,), -128), ("uint64", (1,), 2**64 - 1),
            ("bool", (0, 2), True),
        )
    ],
    "iota": [
        Sample((), {"axis": axis, "dtype": dtype, "shape": shape})
        for axis, dtype, shape in ((0, "int64", (5,)), (1, "float32", (2, 3)), (0, "int8", (0,)),
                                   (0, "uint8", (300, 1)), (1, "float64", (1, 1)), (2, "int32", (1, 2, 2)))
    ],
    "placeholder": [
        Sample((x,), rtol=0.0, make=lambda x: x) for x in (real((2, 3)), np.array(True))
    ],
    "variable": [
        Sample((x,), rtol=0.0, leaf="variable", make=lambda x: x)
        for x in (real((2, 3)), int_corners("int8"), np.zeros((0,), "f"))
    ],
}  # fmt: skip
