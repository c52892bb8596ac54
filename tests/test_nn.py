"""Neural-network functions: values in float64, slopes at corners, stability at the extremes."""

import math

import numpy as np
import pytest

import graphflow as gf
from graphflow import nn
from graphflow.errors import ShapeError

RNG = np.random.default_rng(3)
X = np.concatenate([RNG.normal(size=11) * 2, [0.0, 50.0, -50.0]]).reshape(2, 7)
erf = np.vectorize(math.erf)


def compute(outputs, feeds):
    inputs = [x for x, _ in feeds]
    return gf.function(inputs, outputs, mode="interpret", on_unused_input="ignore")(
        *(array for _, array in feeds)
    )


def apply(function, *arrays):
    """function(*tensors) for float64 (or int) arrays, with a named first axis."""
    inputs = [
        gf.placeholder(("batch", *a.shape[1:]) if a.ndim else (), a.dtype)
        for a in map(np.asarray, arrays)
    ]
    return compute(function(*inputs), list(zip(inputs, arrays, strict=True)))


def slopes(function, x):
    """The derivative of an elementwise function."""
    tensor = gf.placeholder(x.shape, "float64")
    return compute(gf.grad(gf.sum(function(tensor)), tensor), [(tensor, x)])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# ---- activations -----------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": (nn.relu, lambda x: np.maximum(x, 0)),
    "relu6": (nn.relu6, lambda x: np.clip(x, 0, 6)),
    "sigmoid": (nn.sigmoid, sigmoid),
    "tanh": (nn.tanh, np.tanh),
    "silu": (nn.silu, lambda x: x * sigmoid(x)),
    "gelu": (nn.gelu, lambda x: x * (1 + erf(x / np.sqrt(2))) / 2),
    "gelu of tanh": (
        lambda x: nn.gelu(x, approximate=True),
        lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    ),
    "elu": (lambda x: nn.elu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "selu": (
        nn.selu,
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    ),
    "leaky_relu": (lambda x: nn.leaky_relu(x, 0.1), lambda x: np.where(x >= 0, x, 0.1 * x)),
    "softplus": (nn.softplus, lambda x: np.logaddexp(x, 0)),
    "log_sigmoid": (nn.log_sigmoid, lambda x: -np.logaddexp(-x, 0)),
    "softsign": (nn.softsign, lambda x: x / (1 + np.abs(x))),
    "hard_sigmoid": (nn.hard_sigmoid, lambda x: np.clip(x + 3, 0, 6) / 6),
    "hard_swish": (nn.hard_swish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "softmax": (nn.softmax, softmax),
    "softmax of axis 0": (lambda x: nn.softmax(x, 0), lambda x: softmax(x, 0)),
    "log_softmax": (nn.log_softmax, lambda x: x - np.logaddexp.reduce(x, -1, keepdims=True)),
    "logsumexp": (lambda x: nn.logsumexp(x, -1), lambda x: np.logaddexp.reduce(x, -1)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_values(name):
    ours, theirs = ACTIVATIONS[name]
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(apply(ours, X), theirs(X), rtol=1e-12, atol=1e-14)


SMOOTH = ["sigmoid", "silu", "gelu", "softplus", "log_sigmoid", "softsign", "log_softmax", "elu"]


@pytest.mark.parametrize("name", SMOOTH)
def test_activation_slopes(name):
    ours, theirs = ACTIVATIONS[name]
    x = RNG.normal(size=(2, 5))
    weights = RNG.normal(size=(2, 5))
    got = slopes(lambda t: ours(t) * weights, x)
    for at in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[at] = 1e-6
        expected = np.sum((theirs(x + step) - theirs(x - step)) * weights) / 2e-6
        np.testing.assert_allclose(got[at], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("function", "first", "second"),
    [
        (nn.softplus, 0.5, 0.25),
        (nn.log_sigmoid, 0.5, -0.25),
        (nn.silu, 0.5, 0.5),
        (nn.relu, 0.0, 0.0),
        (lambda x: nn.elu(x, 1.0), 1.0, 1.0),
        (nn.softsign, 1.0, None),
        (nn.leaky_relu, 1.0, 0.0),
    ],
)
def test_slopes_at_zero(function, first, second):
    x = gf.placeholder((), "float64")
    slope = gf.grad(function(x), x)
    got = compute([slope, gf.grad(slope, x)], [(x, 0.0)])
    assert got[0] == first
    assert second is None or got[1] == second


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_activation_makes_nan_far_out(name):
    x = np.array([[1e4, -1e4, 0.0, 1.0, -1.0, 88.0, -104.0]], "f4")
    ours, _ = ACTIVATIONS[name]
    tensor = gf.placeholder(x.shape)
    y = ours(tensor)
    value, slope = compute([y, gf.grad(gf.sum(y), tensor)], [(tensor, x)])
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


# ---- losses ----------------------------------------------------------------------------------

T, Y = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 3))
P, Q = softmax(RNG.normal(size=(4, 3))), softmax(RNG.normal(size=(4, 3)))
HOT = np.eye(3)[[0, 2, 1, 1]]
LABELS = np.array([0, 2, 1, 1])
SIGNS = np.sign(T)
BITS = (T > 0).astype("f8")
SPREAD = 5 * Y

LOSSES = {
    "mse": (nn.mse, T, Y, ((Y - T) ** 2).mean(-1)),
    "mae": (nn.mae, T, Y, np.abs(Y - T).mean(-1)),
    "huber": (
        lambda t, y: nn.huber(t, y, 0.7), T, Y,
        np.where(np.abs(Y - T) <= 0.7, (Y - T) ** 2 / 2, 0.7 * (np.abs(Y - T) - 0.35)).mean(-1),
    ),
    "hinge": (nn.hinge, SIGNS, Y, np.maximum(1 - SIGNS * Y, 0).mean(-1)),
    "hinge of 0 and 1": (nn.hinge, BITS, Y, np.maximum(1 - (2 * BITS - 1) * Y, 0).mean(-1)),
    "kl_divergence": (nn.kl_divergence, P, Q, (P * np.log(P / Q)).sum(-1)),
    "binary": (
        nn.binary_cross_entropy, BITS, P, -(BITS * np.log(P) + (1 - BITS) * np.log(1 - P)).mean(-1),
    ),
    "binary of logits": (
        lambda t, y: nn.binary_cross_entropy(t, y, from_logits=True), BITS, SPREAD,
        (np.logaddexp(SPREAD, 0) - BITS * SPREAD).mean(-1),
    ),
    "binary of a sigmoid": (
        lambda t, y: nn.binary_cross_entropy(t, nn.sigmoid(y)), BITS, SPREAD,
        (np.logaddexp(SPREAD, 0) - BITS * SPREAD).mean(-1),
    ),
    "categorical": (nn.categorical_cross_entropy, HOT, P, -np.log(P[range(4), LABELS])),
    "categorical of proportions": (
        nn.categorical_cross_entropy, HOT, 3 * P, -np.log(P[range(4), LABELS]),
    ),
    "categorical of logits": (
        lambda t, y: nn.categorical_cross_entropy(t, y, from_logits=True), P, Y,
        -(P * np.log(softmax(Y))).sum(-1),
    ),
    "categorical of a softmax": (
        lambda t, y: nn.categorical_cross_entropy(t, nn.softmax(y)), P, Y,
        -(P * np.log(softmax(Y))).sum(-1),
    ),
    "categorical along axis 0": (
        lambda t, y: nn.categorical_cross_entropy(t, y, from_logits=True, axis=0), P, Y,
        -(P * np.log(softmax(Y, 0))).sum(0),
    ),
    "sparse": (nn.sparse_categorical_cross_entropy, LABELS, P, -np.log(P[range(4), LABELS])),
    "sparse column": (
        nn.sparse_categorical_cross_entropy, LABELS[:, None], P, -np.log(P[range(4), LABELS]),
    ),
    "sparse of logits": (
        lambda t, y: nn.sparse_categorical_cross_entropy(t, y, from_logits=True), LABELS, Y,
        -np.log(softmax(Y))[range(4), LABELS],
    ),
    "sparse of a softmax": (
        lambda t, y: nn.sparse_categorical_cross_entropy(t, nn.softmax(y)), LABELS, Y,
        -np.log(softmax(Y))[range(4), LABELS],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_loss_values_and_slopes(name):
    loss, target, output, expected = LOSSES[name]
    np.testing.assert_allclose(apply(loss, target, output), expected, rtol=1e-6)
    t, y = gf.placeholder(target.shape, target.dtype), gf.placeholder(output.shape, "float64")
    total = gf.sum(loss(t, y))
    direction = RNG.normal(size=output.shape)
    values, slope = (
        [compute(total, [(t, target), (y, output + h * direction)]) for h in (1e-6, -1e-6)],
        compute(gf.grad(total, y), [(t, target), (y, output)]),
    )
    expected_slope = (values[0] - values[1]) / 2e-6
    np.testing.assert_allclose(np.sum(slope * direction), expected_slope, rtol=1e-5, atol=1e-7)


def test_a_softmax_in_front_is_seen_through():
    logits = np.array([[200.0, 0.0, -200.0]], "f4")
    got = apply(lambda t, z: nn.sparse_categorical_cross_entropy(t, nn.softmax(z)), [2], logits)
    np.testing.assert_allclose(got, [400.0])
    by_hand = apply(
        lambda t, z: nn.categorical_cross_entropy(
            t, gf.exp(z / 10) / gf.sum(gf.exp(z / 10), -1, keepdims=True)
        ),
        np.array([[0, 0, 1]], "f4"), logits,
    )  # fmt: skip
    np.testing.assert_allclose(by_hand, [-np.log(1e-7)], rtol=1e-4)  # two different exponentials
    z = gf.placeholder((1, 3))
    e = gf.exp(z)
    direct = nn.categorical_cross_entropy([[0, 0, 1]], e / gf.sum(e, -1, keepdims=True))
    np.testing.assert_allclose(compute(direct, [(z, logits / 4)]), [100.0])


def test_saturated_logits_keep_their_gradient():
    z = gf.placeholder((1, 2))
    loss = gf.sum(nn.binary_cross_entropy([[1.0, 0.0]], nn.sigmoid(z)))
    got = compute([loss, gf.grad(loss, z)], [(z, [[-300.0, 300.0]])])
    assert got[0] == 300.0
    np.testing.assert_allclose(got[1], [[-0.5, 0.5]])


def test_labels_out_of_range_are_found_when_running():
    labels, y = gf.placeholder(("n",), "int64"), gf.placeholder(("n", 3))
    f = gf.function([labels, y], nn.sparse_categorical_cross_entropy(labels, y), mode="interpret")
    for bad in (3, -1):
        with pytest.raises(IndexError, match=rf"index {bad} at position 1; expected 0\.\.2"):
            f([0, bad], np.full((2, 3), 1 / 3))


def test_shapes_of_losses_never_broadcast():
    y = gf.placeholder(("batch", 1), name="y")
    t = gf.placeholder(("batch",), name="t")
    with pytest.raises(ShapeError, match=r"mse: the target is \(batch,\), the output \(batch, 1\)"):
        nn.mse(t, y)


# ---- normalisation, attention, lookup --------------------------------------------------------


def test_one_hot():
    labels = np.array([[0, 2], [1, 1]])
    np.testing.assert_array_equal(apply(lambda i: nn.one_hot(i, 3), labels), np.eye(3)[labels])
    first = apply(lambda i: nn.one_hot(i, 3, axis=0, dtype="int32"), labels)
    np.testing.assert_array_equal(first, np.moveaxis(np.eye(3, dtype="i4")[labels], -1, 0))
    with pytest.raises(IndexError, match="index 3"):
        apply(lambda i: nn.one_hot(i, 3), np.array([3]))


def test_embedding():
    table = gf.variable(RNG.normal(size=(5, 2)))
    i = gf.placeholder(("n", 2), "int64")
    rows = nn.embedding(i, table)
    at = np.array([[4, 0], [4, 4]])
    got, slope = compute([rows, gf.grad(gf.sum(rows), table)], [(i, at)])
    np.testing.assert_array_equal(got, table.value[at])
    assert slope[:, 0].tolist() == [1, 0, 0, 0, 3]


def test_batch_norm():
    x = RNG.normal(size=(5, 3, 4))
    scale, offset = RNG.normal(size=4), RNG.normal(size=4)

    def normalised(x, scale, offset):
        mean, variance = nn.moments(x, (0, 1))
        return nn.batch_norm(x, mean, variance, scale, offset, epsilon=1e-3)

    inputs = [gf.placeholder(a.shape, "float64") for a in (x, scale, offset)]
    got = compute(normalised(*inputs), list(zip(inputs, (x, scale, offset), strict=True)))
    expected = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-3) * scale + offset
    np.testing.assert_allclose(got, expected)
    first = apply(lambda t: nn.batch_norm(t, x.mean((0, 2)), x.var((0, 2)), axis=1), x)
    mean, variance = (s((0, 2), keepdims=True) for s in (x.mean, x.var))
    np.testing.assert_allclose(first, (x - mean) / np.sqrt(variance + 1e-3))


def test_layer_norm_and_rms_norm():
    x = RNG.normal(size=(5, 3, 4))
    scale, offset = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4))
    got = apply(lambda t: nn.layer_norm(t, scale, offset, axis=(-2, -1)), x)
    mean, variance = (s((1, 2), keepdims=True) for s in (x.mean, x.var))
    np.testing.assert_allclose(got, (x - mean) / np.sqrt(variance + 1e-5) * scale + offset)
    got = apply(lambda t: nn.rms_norm(t, scale[0]), x)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale[0]
    np.testing.assert_allclose(got, expected)
    with pytest.raises(ShapeError, match=r"layer_norm: a parameter is \(3,\); expected \(4,\)"):
        nn.layer_norm(gf.placeholder((2, 4)), np.ones(3))


def attention(q, k, v, allowed=None):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    return softmax(scores) @ v


def test_attention():
    q, k, v = (RNG.normal(size=(2, 3, n, d)) for n, d in ((4, 8), (5, 8), (5, 6)))
    names = [("batch", 3, "targets", 8), ("batch", 3, "sources", 8), ("batch", 3, "sources", 6)]
    inputs = [gf.placeholder(shape, "float64") for shape in names]
    feeds = list(zip(inputs, (q, k, v), strict=True))
    mask = RNG.uniform(size=(4, 5)) > 0.3
    mask[:, 0] = True
    outputs = [
        nn.scaled_dot_product_attention(*inputs),
        nn.scaled_dot_product_attention(*inputs, mask=mask),
        nn.scaled_dot_product_attention(*inputs, is_causal=True),
        nn.scaled_dot_product_attention(*inputs, mask=np.where(mask, 0.0, -1e9)),
    ]
    plain, masked, causal, biased = compute(outputs, feeds)
    np.testing.assert_allclose(plain, attention(q, k, v))
    np.testing.assert_allclose(masked, attention(q, k, v, mask))
    np.testing.assert_allclose(causal, attention(q, k, v, np.tri(4, 5, dtype=bool)))
    np.testing.assert_allclose(biased, masked)


def test_attention_without_any_source_is_finite():
    x = gf.placeholder((2, 4))
    y = nn.scaled_dot_product_attention(x, x, x, mask=np.zeros((2, 2), bool))
    value, slope = compute([y, gf.grad(gf.sum(y), x)], [(x, np.ones((2, 4)))])
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


def test_dropout_by_a_tensor():
    x, training = gf.placeholder((200,)), gf.placeholder((), "bool")
    f = gf.function([x, training], nn.dropout(x, 0.5, training), mode="interpret")
    assert set(f(np.ones(200), False)) == {1.0}
    assert set(f(np.ones(200), True)) == {0.0, 2.0}
    with pytest.raises(gf.errors.GraphError, match="dropout: training is .*float32.*bool scalar"):
        nn.dropout(x, 0.5, x)


# ---- convolution and pooling -----------------------------------------------------------------


def windows(x, kernel, strides, low, high, fill, dilation=1):
    """(n, out_h, out_w, kh, kw, c) of a padded NHWC image, by plain loops."""
    frame = [(0, 0), (low[0], high[0]), (low[1], high[1]), (0, 0)]
    x = np.pad(x, frame, constant_values=fill)
    reach = [(k - 1) * dilation + 1 for k in kernel]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:3], reach, strides, strict=True)]
    result = np.empty((x.shape[0], *out, *kernel, x.shape[3]))
    for i, j in np.ndindex(*out):
        top, left = i * strides[0], j * strides[1]
        rows = slice(top, top + reach[0], dilation)
        result[:, i, j] = x[:, rows, left : left + reach[1] : dilation]
    return result


IMAGE = RNG.normal(size=(2, 6, 7, 4))

CONVOLUTIONS = {
    "valid": ({}, (1, 1), (0, 0), (0, 0), 1),
    "same": ({"padding": "same"}, (1, 1), (1, 0), (1, 1), 1),
    "same, strides": ({"padding": "same", "strides": 2}, (2, 2), (0, 0), (1, 1), 1),
    "numbers": ({"padding": 1, "strides": (2, 1)}, (2, 1), (1, 1), (1, 1), 1),
    "pairs": ({"padding": ((0, 2), 1)}, (1, 1), (0, 1), (2, 1), 1),
    "dilation": ({"dilation": 2}, (1, 1), (0, 0), (0, 0), 2),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv2d(name):
    options, strides, low, high, dilation = CONVOLUTIONS[name]
    w = RNG.normal(size=(3, 2, 4, 5))
    expected = np.einsum(
        "nhwyxc,yxcq->nhwq", windows(IMAGE, (3, 2), strides, low, high, 0, dilation), w
    )
    got = apply(lambda x: nn.conv2d(x, w, **options), IMAGE)
    np.testing.assert_allclose(got, expected)
    first = apply(
        lambda x: nn.conv2d(x, w, data_format="NCHW", **options), np.moveaxis(IMAGE, -1, 1)
    )
    np.testing.assert_allclose(first, np.moveaxis(expected, -1, 1))


def test_groups_and_depthwise():
    w = RNG.normal(size=(3, 3, 2, 6))
    halves = [
        apply(lambda x: nn.conv2d(x, w[..., :3]), IMAGE[..., :2]),
        apply(lambda x: nn.conv2d(x, w[..., 3:]), IMAGE[..., 2:]),
    ]
    got = apply(lambda x: nn.conv2d(x, w, groups=2), IMAGE)
    np.testing.assert_allclose(got, np.concatenate(halves, -1))
    w = RNG.normal(size=(3, 3, 4, 2))
    taken = windows(IMAGE, (3, 3), (1, 1), (0, 0), (0, 0), 0)
    expected = np.einsum("nhwyxc,yxcm->nhwcm", taken, w).reshape(2, 4, 5, 8)
    np.testing.assert_allclose(apply(lambda x: nn.depthwise_conv(x, w), IMAGE), expected)


def test_conv1d():
    x, w = RNG.normal(size=(2, 9, 3)), RNG.normal(size=(4, 3, 5))
    expected = np.stack([np.einsum("ntc,tcq->nq", x[:, o : o + 4], w) for o in range(0, 6, 2)], 1)
    np.testing.assert_allclose(apply(lambda t: nn.conv1d(t, w, strides=2), x), expected)
    first = apply(lambda t: nn.conv1d(t, w, strides=2, data_format="NCW"), np.moveaxis(x, -1, 1))
    np.testing.assert_allclose(first, np.moveaxis(expected, -1, 1))


POOLS = {
    "two": (2, {}, (2, 2), (0, 0), (0, 0)),
    "overlapping": (3, {"strides": 2}, (2, 2), (0, 0), (0, 0)),
    "same": (3, {"strides": 2, "padding": "same"}, (2, 2), (0, 1), (1, 1)),
    "uneven": ((2, 3), {"strides": (1, 2)}, (1, 2), (0, 0), (0, 0)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name):
    kernel, options, strides, low, high = POOLS[name]
    sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
    taken = windows(IMAGE, sizes, strides, low, high, np.nan)
    got = apply(lambda x: nn.max_pool(x, kernel, **options), IMAGE)
    np.testing.assert_allclose(got, np.nanmax(taken, (3, 4)))
    got = apply(lambda x: nn.avg_pool(x, kernel, **options), IMAGE)
    np.testing.assert_allclose(got, np.nanmean(taken, (3, 4)))
    got = apply(lambda x: nn.avg_pool(x, kernel, count_padding=True, **options), IMAGE)
    np.testing.assert_allclose(got, np.nansum(taken, (3, 4)) / np.prod(sizes))


def test_global_pools():
    np.testing.assert_allclose(apply(nn.global_avg_pool, IMAGE), IMAGE.mean((1, 2)))
    np.testing.assert_allclose(apply(nn.global_max_pool, IMAGE), IMAGE.max((1, 2)))
    first = apply(lambda x: nn.global_avg_pool(x, "NCHW", keepdims=True), IMAGE)
    np.testing.assert_allclose(first, IMAGE.mean((2, 3), keepdims=True))


@pytest.mark.parametrize(
    "build",
    [
        lambda x, w: nn.conv2d(x, w, strides=2, padding="same"),
        lambda x, w: nn.max_pool(nn.conv2d(x, w), 2),
        lambda x, w: nn.avg_pool(nn.conv2d(x, w, padding=1), 3, 2, "same"),
    ],
)
def test_gradients_of_convolution(build):
    w = RNG.normal(size=(3, 2, 4, 2))
    tensors = [gf.placeholder(IMAGE.shape, "float64"), gf.placeholder(w.shape, "float64")]
    loss = gf.sum(gf.sin(build(*tensors)))
    step = gf.function(tensors, [loss, *gf.grad(loss, tensors)], mode="interpret")
    directions = [RNG.normal(size=IMAGE.shape), RNG.normal(size=w.shape)]
    _, x_slope, w_slope = step(IMAGE, w)
    ahead, behind = (
        step(IMAGE + h * directions[0], w + h * directions[1])[0] for h in (1e-6, -1e-6)
    )
    got = np.sum(x_slope * directions[0]) + np.sum(w_slope * directions[1])
    np.testing.assert_allclose(got, (ahead - behind) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nn.conv2d(x, np.ones((3, 3, 5, 2), "f4")), "conv: channels differ: x has 4"),
        (lambda x: nn.conv2d(x, np.ones((9, 3, 4, 2), "f4")), "axis 0 of the image has 6"),
        (lambda x: nn.conv2d(x, np.ones((3, 4, 2), "f4")), "conv2d: .*expected 4 axes each"),
        (lambda x: nn.conv2d(x, np.ones((3, 3, 4, 2), "f4"), strides=0), "strides is 0; expected"),
        (lambda x: nn.conv2d(x, np.ones((3, 3, 4, 2), "f4"), padding="half"), "padding 'half'"),
        (lambda x: nn.conv2d(x, np.ones((3, 3, 4, 2), "f4"), padding=(1, 2, 3)), "2 spatial axes"),
        (lambda x: nn.max_pool(x, 8), "max_pool: spatial axis 0 has 6"),
        (lambda x: nn.max_pool(x, 2, data_format="HWNC"), "data_format 'HWNC' is unknown"),
        (lambda x: nn.avg_pool(x[0, 0], 2), "avg_pool: .*expected at least 3 axes"),
    ],
)
def test_misuse_of_convolution(call, message):
    with pytest.raises(gf.errors.GraphError, match=message) as caught:
        call(gf.placeholder((2, 6, 7, 4), name="x"))
    assert "at test_nn.py:" in str(caught.value)
