"""matmul: shapes and errors, NumPy values, derivatives, and its kernel on its own."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest

from graphflow.compiler.autodiff import vjp
from graphflow.compiler.codegen.matmul import emit_matmul
from graphflow.compiler.dims import evaluate, symbol
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Node
from graphflow.compiler.op import ops
from graphflow.compiler.target import Target
from tests.ops.evaluation import check_vjp, evaluate_node
from tests.ops.template_runner import TemplateRunner, undefined_symbols

FLAGS = list(itertools.product((False, True), repeat=2))


def placeholder(shape, dtype="float32"):
    return ops.placeholder(shape=tuple(shape), dtype=dtype)


def matmul(a: Node, b: Node, transpose_a=False, transpose_b=False) -> Node:
    return ops.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


def swapped(shape, flag):
    return (*shape[:-2], shape[-1], shape[-2]) if flag else tuple(shape)


def operands(shape_a, shape_b, dtype, flags, seed=0):
    """Arrays for an (m, k) by (k, n) product, stored as the flags say."""
    rng = np.random.default_rng(seed)
    arrays = []
    for shape, flag in zip((shape_a, shape_b), flags, strict=True):
        shape = swapped(shape, flag)
        if np.dtype(dtype).kind == "f":
            arrays.append(rng.uniform(-1, 1, shape).astype(dtype))
        else:
            arrays.append(rng.integers(-9, 9, shape).astype(dtype))
    return arrays


def expected(a, b, flags):
    a = np.swapaxes(a, -1, -2) if flags[0] else a
    b = np.swapaxes(b, -1, -2) if flags[1] else b
    wide = np.float64 if a.dtype.kind == "f" else a.dtype
    return np.matmul(a.astype(wide), b.astype(wide)).astype(a.dtype)


def tolerance(dtype, inner):
    return (1e-6 if dtype == "float32" else 1e-14) * max(1, inner)


# ---- shapes --------------------------------------------------------------------------------------


def test_infer_broadcasts_batches_and_keeps_names():
    batch = symbol("batch")
    node = matmul(placeholder((batch, 5, 3)), placeholder((4, 3)), transpose_b=True)
    assert node.spec == placeholder((batch, 5, 4)).spec
    node = matmul(placeholder((7, 1, 3, 5)), placeholder((2, 3, 4)), transpose_a=True)
    assert node.shape == (7, 2, 5, 4)


def test_inner_sizes_that_differ_are_named():
    batch = symbol("batch")
    with pytest.raises(ShapeError) as error:
        matmul(placeholder((batch, 3)), placeholder((4, 5)))
    first = str(error.value).splitlines()[0]
    assert first == (
        "matmul: inner sizes differ: x is (batch, 3), w is (4, 5); expected w.shape[0] == 3"
    )
    assert len(str(error.value).splitlines()) <= 6


@pytest.mark.parametrize(("left", "right"), [(("float32", (3,)), ("float32", (3, 2)))])
def test_vectors_are_refused(left, right):
    with pytest.raises(ShapeError, match="at least two axes"):
        matmul(placeholder(left[1], left[0]), placeholder(right[1], right[0]))


@pytest.mark.parametrize(("left", "right"), [("float32", "float64"), ("bool", "bool")])
def test_dtypes_are_checked(left, right):
    with pytest.raises(DTypeError, match="matmul"):
        matmul(placeholder((2, 2), left), placeholder((2, 2), right))


# ---- values and derivatives ----------------------------------------------------------------------

BATCHES = [((), ()), ((4,), ()), ((), (4,)), ((4,), (4,)), ((3, 1), (2,)), ((4,), (1,))]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("batches", BATCHES, ids=str)
def test_reference_and_vjp(flags, batches):
    arrays = operands((*batches[0], 2, 3), (*batches[1], 3, 4), "float64", flags)
    nodes = [placeholder(a.shape, "float64") for a in arrays]
    node = matmul(*nodes, *flags)
    got = evaluate_node(node, dict(zip(nodes, arrays, strict=True)))
    np.testing.assert_allclose(got, expected(*arrays, flags), atol=1e-13)
    check_vjp(node, dict(zip(nodes, arrays, strict=True)))


def test_weight_gradient_of_a_batched_layer_is_one_product():
    batch = symbol("batch")
    x, w = placeholder((batch, 7, 3)), placeholder((3, 4))
    node = matmul(x, w)
    ct = placeholder(node.shape)
    (part,) = vjp([node], [w], [ct])
    assert part.op.name == "matmul"
    assert part.inputs[0].shape == (7 * batch, 3)
    assert part.attrs == {"transpose_a": True, "transpose_b": False}


# ---- kernels -------------------------------------------------------------------------------------

TARGETS = [Target(512, 32), Target(256, 16), Target(128, 16)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("flags", FLAGS)
def test_kernel_of_any_size(flags, dtype):
    """One kernel, whose sizes are all known only when it runs, over many sizes."""
    m, n, k = symbol("m"), symbol("n"), symbol("k")
    a, b = (
        placeholder(swapped((m, k), flags[0]), dtype),
        placeholder(swapped((k, n), flags[1]), dtype),
    )
    run = TemplateRunner(matmul(a, b, *flags))
    assert undefined_symbols(run.object_code) == []
    for rows, columns, inner in itertools.product(
        (0, 1, 7, 8, 33), (0, 1, 10, 48, 65), (0, 1, 16, 70)
    ):
        arrays = operands((rows, inner), (inner, columns), dtype, flags)
        got = run({a: arrays[0], b: arrays[1]}, {"m": rows, "n": columns, "k": inner}, shares=3)
        want = expected(*arrays, flags)
        np.testing.assert_allclose(got, want, atol=tolerance(dtype, inner))


STATIC = [
    ((32, 784), (784, 64)), ((784, 33), (33, 64)), ((1, 300), (300, 128)), ((5, 64), (64, 10)),
    ((37, 20), (20, 1)), ((1, 20), (20, 37)), ((23, 5), (5, 301)), ((3, 0), (0, 4)), ((13, 1), (1, 13)),
]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("shapes", STATIC, ids=str)
def test_kernel_of_fixed_sizes(shapes, flags):
    arrays = operands(*shapes, "float32", flags)
    a, b = (placeholder(x.shape) for x in arrays)
    run = TemplateRunner(matmul(a, b, *flags))
    want = expected(*arrays, flags)
    got = run({a: arrays[0], b: arrays[1]}, {})
    np.testing.assert_allclose(got, want, atol=tolerance("float32", shapes[0][1]))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.vector_bits))
@pytest.mark.parametrize("flags", FLAGS)
def test_large_operand_is_packed_or_streamed(target, flags):
    """B does not fit near the core; rows are few (streamed), or many (packed)."""
    m, k, n = symbol("m"), 530, 275
    target = Target(target.vector_bits, target.registers, cache_bytes=64 * 1024)
    a = placeholder(swapped((m, k), flags[0]))
    b = placeholder(swapped((k, n), flags[1]))
    run = TemplateRunner(matmul(a, b, *flags), emit=partial(emit_matmul, target=target))
    assert "panel" in run.source
    for rows in (0, 1, 3, 39, 40, 300):
        arrays = operands((rows, k), (k, n), "float32", flags)
        values = dict(zip((a, b), arrays, strict=True))
        got = run(values, {"m": rows})
        np.testing.assert_allclose(got, expected(*arrays, flags), atol=1e-4)
        assert run(values, {"m": rows}, shares=4).tobytes() == got.tobytes()


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.vector_bits))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_epilogue_runs_on_each_tile(target, dtype):
    for m, k, n in ((symbol("batch"), 20, 37), (70, 5, 300), (symbol("batch"), 64, 64)):
        for transpose_b in (False, True):
            a = placeholder((m, k), dtype)
            b, bias = placeholder(swapped((k, n), transpose_b), dtype), placeholder((n,), dtype)
            node = matmul(a, b, transpose_b=transpose_b)
            output = ops.relu(node + bias)
            run = TemplateRunner(node, output, partial(emit_matmul, target=target))
            assert undefined_symbols(run.object_code) == []
            rows = m if isinstance(m, int) else 19
            arrays = operands((rows, k), (k, n), dtype, (False, transpose_b))
            offset = np.linspace(-1, 1, n).astype(dtype)
            values = {a: arrays[0], b: arrays[1], bias: offset}
            got = run(values, {"batch": rows}, shares=2)
            want = np.maximum(expected(*arrays, (False, transpose_b)) + offset, 0)
            np.testing.assert_allclose(got, want, atol=tolerance(dtype, k))


def test_epilogue_of_packed_blocks_waits_for_the_whole_sum():
    m, k, n = symbol("m"), 1100, 150
    a, b, bias = placeholder((m, k)), placeholder((n, k)), placeholder((n,))
    node = matmul(a, b, transpose_b=True)
    run = TemplateRunner(node, ops.relu(node + bias))
    for rows in (1, 20, 300):
        arrays = operands((rows, k), (k, n), "float32", (False, True))
        offset = np.linspace(-1, 1, n).astype("float32")
        got = run({a: arrays[0], b: arrays[1], bias: offset}, {"m": rows}, shares=3)
        want = np.maximum(expected(*arrays, (False, True)) + offset, 0)
        np.testing.assert_allclose(got, want, atol=1e-4)


INTEGER_BATCHES = [((), (), "int32"), ((3, 1), (2,), "uint8")]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    "batches", [(*pair, "float32") for pair in BATCHES] + INTEGER_BATCHES, ids=str
)
def test_kernel_of_batches(batches, flags):
    *batches, dtype = batches
    heads = symbol("heads")
    shape_a, shape_b = (*batches[0], 11, 6), (*batches[1], 6, 20)
    arrays = operands(shape_a, shape_b, dtype, flags)
    named = [placeholder([heads if size == 4 else size for size in x.shape], dtype) for x in arrays]
    node = matmul(*named, *flags)
    run = TemplateRunner(node, node + node)
    assert undefined_symbols(run.object_code) == []
    got = run(dict(zip(named, arrays, strict=True)), {"heads": 4}, shares=2)
    want = expected(*arrays, flags)
    np.testing.assert_allclose(got, want + want, atol=1e-5)


def test_shares_of_the_common_layers_balance():
    """At least two equal shares for two threads."""
    batch = symbol("batch")
    for m, n in ((32, 64), (batch, 64), (1, 128)):
        run = TemplateRunner(matmul(placeholder((m, 784)), placeholder((784, n))))
        count = evaluate(run.draft.extent, {"batch": 32})
        assert count >= 2 and count % 2 == 0
