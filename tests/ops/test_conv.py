"""Convolution, its derivatives and pooling: values, derivatives, lowering, and kernels alone."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest

from graphflow.compiler.codegen.conv import emit_conv, emit_conv_weight_grad
from graphflow.compiler.dims import symbol
from graphflow.compiler.errors import DTypeError, ShapeError
from graphflow.compiler.graph import Graph, topological_order
from graphflow.compiler.op import ops
from graphflow.compiler.ops import pool
from graphflow.compiler.ops.conv import conv_output_size, same_padding
from graphflow.compiler.passes.lower_conv import lower_conv
from graphflow.compiler.target import Target
from tests.ops.evaluation import check_vjp, evaluate_node
from tests.ops.template_runner import TemplateRunner, undefined_symbols


def placeholder(shape, dtype="float64"):
    return ops.placeholder(shape=tuple(shape), dtype=dtype)


def attributes(spatial, **given):
    """All attributes of a convolution, the usual ones by default."""
    usual = {"strides": 1, "low": 0, "high": 0, "dilation": 1}
    attrs = {name: (value,) * spatial for name, value in usual.items()}
    return {**attrs, "groups": 1, **given}


def slow_conv(x, w, strides, low, high, dilation, groups):
    """y[n, o, q] by loops over every index but the channels."""
    count = len(strides)
    x = np.pad(x, [(0, 0), *zip(low, high, strict=True), (0, 0)])
    kernel, (c, q) = w.shape[:-2], w.shape[-2:]
    out = [
        (x.shape[1 + a] - (kernel[a] - 1) * dilation[a] - 1) // strides[a] + 1 for a in range(count)
    ]
    y = np.zeros((x.shape[0], *out, q), x.dtype)
    for o, t in itertools.product(np.ndindex(*out), np.ndindex(*kernel)):
        at = tuple(o[a] * strides[a] + t[a] * dilation[a] for a in range(count))
        pixel = x[(slice(None), *at)]
        for g in range(groups):
            mine = slice(g * q // groups, (g + 1) * q // groups)
            part = pixel[:, g * c : (g + 1) * c] @ w[t][:, mine]
            y[(slice(None), *o, mine)] += part
    return y


# name: (x shape, w shape, attributes)
CASES = {
    "plain": ((2, 5, 6, 3), (3, 2, 3, 4), attributes(2)),
    "strided": ((2, 7, 6, 2), (3, 3, 2, 3), attributes(2, strides=(2, 3))),
    "padded": ((1, 4, 5, 2), (3, 3, 2, 2), attributes(2, low=(1, 2), high=(1, 0))),
    "dilated": ((1, 7, 8, 2), (3, 2, 2, 3), attributes(2, dilation=(2, 3))),
    "grouped": ((2, 5, 5, 6), (2, 2, 2, 9), attributes(2, groups=3)),
    "depthwise": ((2, 5, 5, 3), (3, 2, 1, 3), attributes(2, groups=3, low=(1, 0), high=(0, 1))),
    "multiplier": ((2, 5, 5, 3), (3, 2, 1, 6), attributes(2, groups=3, strides=(2, 1))),
    "one_tap": ((2, 5, 4, 3), (1, 1, 3, 4), attributes(2)),
    "one_tap_strided": ((2, 5, 4, 3), (1, 1, 3, 4), attributes(2, strides=(2, 3), low=(1, 0))),
    "remainder": ((1, 8, 7, 2), (3, 3, 2, 2), attributes(2, strides=(3, 2), low=(1, 1))),
    "line": ((2, 9, 3), (4, 3, 2), attributes(1, strides=(2,), low=(3,), dilation=(2,))),
    "volume": ((1, 3, 4, 5, 2), (2, 3, 2, 2, 3), attributes(3, strides=(1, 1, 2))),
    "all": (
        (2, 8, 9, 4), (3, 2, 2, 6),
        attributes(2, strides=(2, 3), low=(2, 1), high=(0, 3), dilation=(2, 1), groups=2),
    ),
}  # fmt: skip


def case(name, dtype="float64"):
    """(x, w, their arrays, attributes) of a case."""
    x_shape, w_shape, attrs = CASES[name]
    rng = np.random.default_rng(3)
    x, w = placeholder(x_shape, dtype), placeholder(w_shape, dtype)
    values = {node: rng.uniform(-1, 1, node.shape).astype(dtype) for node in (x, w)}
    return x, w, values, attrs


# ---- shapes --------------------------------------------------------------------------------------


def test_output_size():
    batch = symbol("batch")
    assert conv_output_size(28, 3) == 26
    assert conv_output_size(28, 3, 2, 1, 1) == 14
    assert conv_output_size(9, 3, 1, 0, 0, 4) == 1
    assert conv_output_size(batch, 3, 1, 1, 1) == batch


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "wanted"),
    [(28, 3, 1, 1, (1, 1)), (28, 3, 2, 1, (0, 1)), (27, 3, 2, 1, (1, 1)), (10, 4, 1, 1, (1, 2)),
     (10, 3, 1, 2, (2, 2)), (10, 2, 3, 1, (0, 1)), (9, 2, 3, 1, (0, 0)), (1, 1, 2, 1, (0, 0))],
)  # fmt: skip
def test_same_padding_is_that_of_keras(size, kernel, stride, dilation, wanted):
    low, high = same_padding(size, kernel, stride, dilation)
    assert (low, high) == wanted
    assert conv_output_size(size, kernel, stride, low, high, dilation) == -(-size // stride)


def test_same_padding_of_a_named_dim_needs_stride_one():
    assert same_padding(symbol("height"), 3, 1) == (1, 1)
    with pytest.raises(ShapeError, match="stride 2 needs a fixed size"):
        same_padding(symbol("height"), 3, 2)


def test_infer_keeps_names():
    batch, width = symbol("batch"), symbol("width")
    node = ops.conv(placeholder((batch, 8, width, 3)), placeholder((3, 3, 3, 16)), **attributes(2))
    assert node.shape == (batch, 6, width - 2, 16)


@pytest.mark.parametrize(
    ("shapes", "given", "message"),
    [
        (
            ((1, 5, 5, 3), (3, 3, 4, 2)),
            {},
            r"channels differ: x has 3.*expected w.shape\[-2\] == 3",
        ),
        (
            ((1, 2, 5, 3), (3, 3, 3, 2)),
            {},
            "axis 0 of the image has 2 .* fewer than the kernel's 3",
        ),
        (((1, 5, 5, 3), (3, 3, 3)), {}, r"expected \(batch, \*spatial, channels\)"),
        (((1, 5, 5, 3), (3, 3, 3, 2)), {"strides": (0, 1)}, "at least 1"),
        (((1, 5, 5, 4), (3, 3, 2, 3)), {"groups": 2}, "do not divide"),
    ],
)
def test_bad_shapes(shapes, given, message):
    with pytest.raises(ShapeError, match=message):
        ops.conv(*map(placeholder, shapes), **attributes(2, **given))


def test_bad_dtypes():
    with pytest.raises(DTypeError, match="one float dtype"):
        ops.conv(
            placeholder((1, 5, 5, 3), "int32"), placeholder((3, 3, 3, 2), "int32"), **attributes(2)
        )


# ---- values and derivatives ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_reference(name):
    x, w, values, attrs = case(name)
    got = evaluate_node(ops.conv(x, w, **attrs), values)
    np.testing.assert_allclose(got, slow_conv(values[x], values[w], **attrs), atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_derivatives_to_second_order(name):
    x, w, values, attrs = case(name)
    node = ops.conv(x, w, **attrs)
    # Two operands, and by each of them the rule's three: the operands and the cotangent.
    assert check_vjp(node, values, order=2) == 8
    rng = np.random.default_rng(5)
    ct = placeholder(node.shape)
    values[ct] = rng.uniform(-1, 1, node.shape)
    part = {k: v for k, v in values.items() if k is not x}
    assert check_vjp(ops.conv_input_grad(ct, w, size=x.shape[1:-1], **attrs), part, order=2) == 8
    part = {k: v for k, v in values.items() if k is not w}
    by_weights = ops.conv_weight_grad(x, ct, kernel=w.shape[:-2], **attrs)
    assert check_vjp(by_weights, part, order=2) == 8


# ---- lowering ------------------------------------------------------------------------------------


def lowered(node):
    """The node after the pass, in the same placeholders."""
    leaves = tuple(n for n in topological_order([node]) if n.op.name == "placeholder")
    return lower_conv(Graph(leaves, (node,), ())).outputs[0]


@pytest.mark.parametrize("name", CASES)
def test_lowering_keeps_values_and_leaves_no_padding(name):
    x, w, values, attrs = case(name)
    forward = ops.conv(x, w, **attrs)
    ct = placeholder(forward.shape)
    values[ct] = np.random.default_rng(5).uniform(-1, 1, ct.shape)
    for node in (
        forward,
        ops.conv_input_grad(ct, w, size=x.shape[1:-1], **attrs),
        ops.conv_weight_grad(x, ct, kernel=w.shape[:-2], **attrs),
    ):
        result = lowered(node)
        assert result.spec == node.spec
        np.testing.assert_allclose(
            evaluate_node(result, values), evaluate_node(node, values), atol=1e-12
        )
        for inner in topological_order([result]):
            assert inner.op.name != "conv_input_grad"
            if inner.op.name in ("conv", "conv_weight_grad"):
                assert not any(inner.attrs["low"]) and not any(inner.attrs["high"])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("one_tap", "matmul"), ("plain", "conv"), ("padded", "conv"), ("depthwise", "sum")],
)
def test_lowered_form(name, wanted):
    x, w, _, attrs = case(name)
    assert lowered(ops.conv(x, w, **attrs)).op.name == wanted


def test_lowering_of_a_graph_without_convolutions_is_the_graph():
    x = placeholder((2, 2))
    graph = Graph((x,), (x + x,), ())
    assert lower_conv(graph) is graph


# ---- kernels -------------------------------------------------------------------------------------

# Forms without padding, larger than a tile: (x shape, w shape, attributes)
KERNELS = {
    "vgg": ((2, 9, 17, 20), (3, 3, 20, 33), attributes(2)),
    "first_layer": ((3, 28, 28, 1), (3, 3, 1, 32), attributes(2)),
    "narrow": ((2, 4, 4, 40), (3, 3, 40, 10), attributes(2)),
    "strided": ((2, 15, 15, 5), (3, 3, 5, 16), attributes(2, strides=(2, 2))),
    "dilated": ((1, 12, 13, 5), (3, 3, 5, 18), attributes(2, dilation=(2, 3))),
    "grouped": ((2, 6, 9, 12), (3, 2, 4, 21), attributes(2, groups=3)),
    "line": ((3, 150, 7), (5, 7, 12), attributes(1)),
    "line_dilated": ((3, 50, 7), (5, 7, 12), attributes(1, dilation=(3,), strides=(2,))),
    "volume": ((1, 4, 5, 9, 6), (2, 3, 2, 6, 17), attributes(3)),
    "large": ((2, 5, 6, 130), (3, 2, 130, 70), attributes(2)),
}
TARGETS = [Target(512, 32), Target(256, 16, cache_bytes=16 * 1024), Target(128, 16)]


def kernel_case(name, dtype):
    """Placeholders whose batch is a named dim, and arrays for three images."""
    x_shape, w_shape, attrs = KERNELS[name]
    rng = np.random.default_rng(7)
    x = placeholder((symbol("n"), *x_shape[1:]), dtype)
    w = placeholder(w_shape, dtype)
    arrays = [rng.uniform(-1, 1, s).astype(dtype) for s in (x_shape, w_shape)]
    return x, w, *arrays, attrs


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.vector_bits))
@pytest.mark.parametrize("name", KERNELS)
def test_conv_kernel(name, target):
    dtype = "float64" if name == "strided" else "float32"
    x, w, x_value, w_value, attrs = kernel_case(name, dtype)
    node = ops.conv(x, w, **attrs)
    want = slow_conv(x_value.astype("float64"), w_value.astype("float64"), **attrs)
    run = TemplateRunner(node, emit=partial(emit_conv, target=target))
    assert undefined_symbols(run.object_code) == []
    count = len(x_value)
    got = run({x: x_value, w: w_value}, {"n": count})
    np.testing.assert_allclose(got, want, atol=1e-3 if name == "large" else 1e-4)
    again = run({x: x_value, w: w_value}, {"n": count}, shares=3)
    assert again.tobytes() == got.tobytes()
    assert run({x: x_value[:0], w: w_value}, {"n": 0}).size == 0


@pytest.mark.parametrize("name", KERNELS)
def test_conv_kernel_with_epilogue(name):
    x, w, x_value, w_value, attrs = kernel_case(name, "float32")
    node = ops.conv(x, w, **attrs)
    bias, skip = placeholder((node.shape[-1],), "float32"), placeholder(node.shape, "float32")
    small = Target(512, 32, cache_bytes=32 * 1024)
    run = TemplateRunner(node, ops.relu(node + bias) + skip, partial(emit_conv, target=small))
    plain = slow_conv(x_value, w_value, **attrs)
    offset = np.linspace(-1, 1, node.shape[-1]).astype("float32")
    other = np.random.default_rng(8).uniform(-1, 1, plain.shape).astype("float32")
    values = {x: x_value, w: w_value, bias: offset, skip: other}
    got = run(values, {"n": len(x_value)}, shares=2)
    np.testing.assert_allclose(got, np.maximum(plain + offset, 0) + other, atol=1e-4)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: str(t.vector_bits))
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("parts", [None, 3])
def test_weight_grad_kernel(parts, name, target, monkeypatch):
    monkeypatch.setattr("graphflow.compiler.codegen.conv.SLICE_BYTES", 4096)
    x, w, x_value, _, attrs = kernel_case(name, "float32")
    forward = ops.conv(x, w, **attrs)
    ct = placeholder(forward.shape, "float32")
    ct_value = np.random.default_rng(9).uniform(-1, 1, (len(x_value), *forward.shape[1:]))
    attrs = {**attrs, "kernel": w.shape[:-2]}
    node = ops.conv_weight_grad(x, ct, **attrs)
    if parts is not None:
        node = ops.conv_weight_grad_parts(x, ct, parts=parts, **attrs)
    run = TemplateRunner(node, emit=partial(emit_conv_weight_grad, target=target))
    assert undefined_symbols(run.object_code) == []
    want = node.op.reference(x_value.astype("float64"), ct_value, **node.attrs)
    values = {x: x_value, ct: ct_value.astype("float32")}
    got = run(values, {"n": len(x_value)})
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert run(values, {"n": len(x_value)}, shares=3).tobytes() == got.tobytes()
    empty = {x: x_value[:0], ct: values[ct][:0]}
    assert not run(empty, {"n": 0}).any()


def test_images_of_named_sizes():
    """Height and width known only when it runs, through lowering and in the kernels."""
    height, width = symbol("height"), symbol("width")
    x, w = placeholder((2, height, width, 3)), placeholder((3, 3, 3, 5))
    attrs = attributes(2, strides=(1, 2), low=(1, 1), high=(1, 1))
    forward = ops.conv(x, w, **attrs)
    ct = placeholder(forward.shape)
    nodes = [
        forward,
        ops.conv_input_grad(ct, w, size=x.shape[1:-1], **attrs),
        ops.conv_weight_grad(x, ct, kernel=(3, 3), **attrs),
        pool.max_pool(x, (3, 3), (2, 2), (1, 1), (1, 1)),
        pool.max_pool(x, (2, 3), (2, 3), (0, 0), (0, 0)),
    ]
    rng = np.random.default_rng(4)
    for h, v in ((6, 9), (5, 8)):
        env = {"height": h, "width": v}
        values = {x: rng.uniform(-1, 1, (2, h, v, 3)), w: rng.uniform(-1, 1, w.shape)}
        values[ct] = rng.uniform(-1, 1, (2, h, (v - 1) // 2 + 1, 5))
        for node in nodes:
            got = evaluate_node(lowered(node), values, env)
            np.testing.assert_allclose(got, evaluate_node(node, values, env), atol=1e-12)
    plain = attributes(2)
    conv = ops.conv(x, w, **plain)
    ct = placeholder(conv.shape)
    for node in (conv, ops.conv_weight_grad(x, ct, kernel=(3, 3), **plain)):
        run = TemplateRunner(node)
        for h, v in ((6, 9), (3, 30)):
            values = {x: rng.uniform(-1, 1, (2, h, v, 3)), w: rng.uniform(-1, 1, w.shape)}
            values[ct] = rng.uniform(-1, 1, (2, h - 2, v - 2, 5))
            got = run(values, {"height": h, "width": v}, shares=2)
            np.testing.assert_allclose(got, evaluate_node(node, values), atol=1e-12)


# ---- windows and pooling -------------------------------------------------------------------------

POOLS = {
    "touching": ((2, 6, 4, 3), (2, 2), (2, 2), (0, 0), (0, 0), (1, 1)),
    "cut": ((2, 7, 5, 3), (2, 3), (2, 3), (0, 0), (0, 0), (1, 1)),
    "overlapping": ((1, 7, 6, 2), (3, 2), (2, 1), (0, 0), (0, 0), (1, 1)),
    "padded": ((1, 5, 6, 2), (3, 3), (2, 2), (1, 0), (1, 1), (1, 1)),
    "dilated": ((1, 7, 8, 2), (3, 2), (1, 2), (0, 1), (0, 0), (2, 3)),
    "line": ((2, 9, 3), (3,), (3,), (1,), (0,), (1,)),
}


def slow_windows(x, kernel, strides, low, high, dilation, fill):
    x = np.pad(x, [(0, 0), *zip(low, high, strict=True), (0, 0)], constant_values=fill)
    out = [
        (h - (k - 1) * d - 1) // s + 1
        for h, k, s, d in zip(x.shape[1:-1], kernel, strides, dilation, strict=True)
    ]
    y = np.empty((x.shape[0], *out, *kernel, x.shape[-1]), x.dtype)
    for o, t in itertools.product(np.ndindex(*out), np.ndindex(*kernel)):
        at = (i * s + j * d for i, s, j, d in zip(o, strides, t, dilation, strict=True))
        y[(slice(None), *o, *t)] = x[(slice(None), *at)]
    return y


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name):
    shape, kernel, strides, low, high, dilation = POOLS[name]
    x = placeholder(shape)
    value = np.random.default_rng(2).permutation(np.arange(np.prod(shape))).reshape(shape) * 0.01
    axes = tuple(range(len(shape) - 1, len(shape) - 1 + len(kernel)))
    taken = partial(slow_windows, value, kernel, strides, low, high, dilation)

    largest = pool.max_pool(x, kernel, strides, low, high, dilation)
    np.testing.assert_array_equal(evaluate_node(largest, {x: value}), taken(-np.inf).max(axes))
    mean = pool.avg_pool(x, kernel, strides, low, high, dilation)
    np.testing.assert_allclose(evaluate_node(mean, {x: value}), np.nanmean(taken(np.nan), axes))
    mean = pool.avg_pool(x, kernel, strides, low, high, dilation, count_padding=True)
    np.testing.assert_allclose(evaluate_node(mean, {x: value}), taken(0).mean(axes))
    check_vjp(largest, {x: value})
    check_vjp(mean, {x: value}, order=2)


def test_windows_that_touch_are_only_reshaped():
    x = placeholder((symbol("n"), 28, 28, 3))
    names = {n.op.name for n in topological_order([pool.windows(x, (2, 2), (2, 2), (1, 1))])}
    assert names == {"placeholder", "reshape", "permute_dims"}


def test_max_pool_of_integers_ignores_padding():
    x = placeholder((1, 2, 2, 1), "int8")
    value = np.array([-3, -1, -2, -4], "int8").reshape(1, 2, 2, 1)
    node = pool.max_pool(x, (2, 2), (2, 2), (1, 1), (1, 1))
    assert evaluate_node(node, {x: value}).ravel().tolist() == [-3, -1, -2, -4]
