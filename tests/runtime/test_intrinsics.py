"""Each intrinsic's values, with the corner cases, against NumPy."""

import ctypes
import itertools
import math
import struct

import numpy as np
import pytest

from graphflow.compiler import philox as reference
from graphflow.runtime import jit

DTYPES = {
    "b1": np.bool_,
    "i8": np.int8,
    "i16": np.int16,
    "i32": np.int32,
    "i64": np.int64,
    "u8": np.uint8,
    "u16": np.uint16,
    "u32": np.uint32,
    "u64": np.uint64,
    "f32": np.float32,
    "f64": np.float64,
}
INTS = [name for name in DTYPES if name[0] in "iu"]
FLOATS = ["f32", "f64"]
HEAD = "from graphflow.runtime.intrinsics import *\n\n\n@kernel\ndef k(buffers, dims, lo, hi):\n"
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture
def run(tmp_path):
    """Compile a kernel's body and run it over arrays: run(body, arrays, dims=(), extent=1)."""
    kept = []
    serial = itertools.count()

    def run(body, arrays, dims=(), extent=1):
        path = tmp_path / f"k{next(serial)}.py"
        path.write_text(HEAD + body)
        code, symbol = jit.compile_kernel(path, "k")
        kept.append(jit.load_object(code, [symbol]))
        table = np.array([a.ctypes.data for a in arrays] + [0], np.uintp)
        sizes = np.array([*dims, 0], np.int64)
        NATIVE(kept[-1][symbol])(table.ctypes.data, sizes.ctypes.data, 0, extent)

    return run


def elementwise(run, expression, inputs, out_dtypes):
    """Apply `a, b, c -> expressions` to arrays; expressions are separated by `;`."""
    names = "abc"[: len(inputs)]
    kinds = {np.dtype(t).name: name for name, t in DTYPES.items()}
    lines, arrays = [], [np.ascontiguousarray(x) for x in inputs]
    for slot, (name, array) in enumerate(zip(names, arrays, strict=True)):
        lines.append(f"    in_{name} = buffer(buffers, {slot}, {kinds[array.dtype.name]})")
    outputs = [np.empty(arrays[0].shape, t) for t in out_dtypes]
    for slot, output in enumerate(outputs):
        kind = kinds[output.dtype.name]
        lines.append(f"    o{slot} = buffer(buffers, {len(arrays) + slot}, {kind})")
    lines.append("    for i in range(lo, hi):")
    lines += [f"        {name} = in_{name}[i]" for name in names]
    for slot, term in enumerate(expression.split(";")):
        lines.append(f"        o{slot}[i] = {term.strip()}")
    run("\n".join(lines) + "\n", [*arrays, *outputs], extent=arrays[0].size)
    return outputs


def corners(dtype):
    """Values where arithmetic of a dtype turns a corner."""
    if dtype == np.bool_:
        return np.array([False, True])
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        values = {0, 1, 2, 3, 7, 100, info.max, info.max - 1, info.min, info.min + 1}
        if info.min < 0:
            values |= {-1, -2, -7}
        return np.array(sorted(values), dtype)
    tiny = np.finfo(dtype)
    values = [0.0, -0.0, 0.5, 1.0, 1.5, 3.0, -0.5, -1.0, -2.5, 255.9, 256.0, -128.9, -129.0]
    values += [2.0**31, 2.0**31 - 1, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e30]
    values += [math.inf, -math.inf, math.nan, tiny.tiny, tiny.max, tiny.smallest_subnormal]
    return np.array(values, dtype)


def pairs(values):
    """Every value against every value, long enough for the vector loop to run."""
    a, b = (g.ravel() for g in np.meshgrid(values, values, indexing="ij"))
    return np.tile(a, 3), np.tile(b, 3)


def saturated(x, dtype):
    """What a cast of float to int must give, by Python's unbounded ints."""
    info = np.iinfo(dtype)

    def one(v):
        if math.isnan(v):
            return 0
        if math.isinf(v):
            return info.max if v > 0 else info.min
        return min(max(int(v), info.min), info.max)

    return np.array([one(v) for v in x.tolist()], dtype)


@pytest.mark.parametrize("source", DTYPES)
def test_cast_every_pair(run, source):
    x = np.tile(corners(DTYPES[source]), 7)
    targets = list(DTYPES)
    terms = ";".join(f"cast(a, {t})" if k % 2 else f"{t}(a)" for k, t in enumerate(targets))
    results = elementwise(run, terms, [x], [DTYPES[t] for t in targets])
    for name, got in zip(targets, results, strict=True):
        dtype = DTYPES[name]
        with np.errstate(all="ignore"):
            if source in FLOATS and name in INTS:
                want = saturated(x, dtype)
            elif name == "b1":
                want = x != 0
            else:
                want = x.astype(dtype)
        np.testing.assert_array_equal(got, want, err_msg=f"{source} -> {name}")


@pytest.mark.parametrize("name", INTS)
def test_integer_arithmetic_wraps_and_division_never_traps(run, name):
    dtype = DTYPES[name]
    a, b = pairs(corners(dtype))
    terms = "a + b; a - b; a * b; -a; absolute(a); maximum(a, b); minimum(a, b); sign(a)"
    with np.errstate(all="ignore"):
        want = [a + b, a - b, a * b, -a, np.abs(a), np.maximum(a, b), np.minimum(a, b), np.sign(a)]
    got = elementwise(run, terms, [a, b], [dtype] * 8)
    for term, g, w in zip(terms.split(";"), got, want, strict=True):
        np.testing.assert_array_equal(g, w, err_msg=term)
    terms = "floor_divide(a, b); remainder(a, b); a // b; a % b; truncated_divide(a, b); fmod(a, b)"
    with np.errstate(all="ignore"):
        exact = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
        cut = [
            0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1) for x, y in exact
        ]
        cut = (np.array(cut, object) & (2 ** (8 * a.itemsize) - 1)).astype(f"u{a.itemsize}")
        want = [a // b, a % b] * 2 + [cut.view(dtype), np.fmod(a, b)]
    got = elementwise(run, terms, [a, b], [dtype] * 6)
    for term, g, w in zip(terms.split(";"), got, want, strict=True):
        np.testing.assert_array_equal(g, w, err_msg=term)


@pytest.mark.parametrize("name", INTS)
def test_int_power(run, name):
    dtype = DTYPES[name]
    x, n = pairs(corners(dtype))
    modulus = 2 ** (8 * x.itemsize)

    def power(base, exponent):
        if exponent >= 0:
            return pow(base, exponent, modulus)
        sign = 1 if exponent % 2 == 0 else -1
        return {1: 1, -1: sign}.get(base, 0) % modulus

    want = [power(int(b), int(e)) for b, e in zip(x, n, strict=True)]
    want = np.array(want, f"u{x.itemsize}").view(dtype)
    (got,) = elementwise(run, "int_power(a, b)", [x, n], [dtype])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", FLOATS)
def test_float_selection_and_sign(run, name):
    dtype = DTYPES[name]
    a, b = pairs(corners(dtype))
    terms = "maximum(a, b); minimum(a, b); max_fast(a, b); min_fast(a, b); sign(a); absolute(a)"
    got = elementwise(run, terms, [a, b], [dtype] * 6)
    high, low = np.maximum(a, b), np.minimum(a, b)
    for g, w in zip(got, [high, low, high, low, np.sign(a), np.abs(a)], strict=True):
        np.testing.assert_array_equal(g, w)
    terms = "a < b; a <= b; a > b; a >= b; a == b; a != b; not a"
    got = elementwise(run, terms, [a, b], [np.bool_] * 7)
    for g, w in zip(got, [a < b, a <= b, a > b, a >= b, a == b, a != b, a == 0], strict=True):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("name", FLOATS)
def test_float_division_with_remainder_is_exact(run, name):
    dtype = DTYPES[name]
    a, b = pairs(corners(dtype))
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**63, (2, 2000), np.int64)
    random = (words >> (32 if name == "f32" else 0)).astype(f"i{a.itemsize}").view(dtype)
    a, b = np.append(a, random[0]), np.append(b, random[1])
    got = elementwise(run, "fmod(a, b); remainder(a, b); floor_divide(a, b)", [a, b], [dtype] * 3)
    with np.errstate(all="ignore"):
        want = [np.fmod(a, b), np.remainder(a, b), np.floor_divide(a, b)]
    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g, w)
        assert (np.signbit(g) == np.signbit(w))[~np.isnan(w)].all()


def test_select_and_bool_storage(run):
    rng = np.random.default_rng(0)
    condition = rng.random(133) < 0.5
    a, b = rng.standard_normal((2, 133)).astype(np.float32)
    terms = "select(a, b, c); not a; a & (b > c); a | (b > c); a ^ (b > c); b > c"
    got = elementwise(run, terms, [condition, a, b], [np.float32] + [np.bool_] * 5)
    less = a > b
    want = [np.where(condition, a, b), ~condition, condition & less, condition | less]
    for g, w in zip(got, [*want, condition ^ less, less], strict=True):
        np.testing.assert_array_equal(g, w)
    assert set(got[1].view(np.uint8)) == {0, 1}
    # Any byte but 0 is true.
    odd = np.array([0, 1, 2, 255], np.uint8).view(np.bool_)
    (got,) = elementwise(run, "f32(a)", [odd], [np.float32])
    np.testing.assert_array_equal(got, [0, 1, 1, 1])


def test_literals_take_the_dtype_of_the_other_operand(run):
    x = np.arange(100, dtype=np.int8)
    (got,) = elementwise(run, "(a + 100) * 2 - 1", [x], [np.int64])
    np.testing.assert_array_equal(got, (x + np.int8(100)) * np.int8(2) - np.int8(1))
    (got,) = elementwise(run, "a * 2 + 1", [x.astype(np.float32)], [np.float32])
    np.testing.assert_array_equal(got, x.astype(np.float32) * 2 + 1)


@pytest.mark.parametrize("name", ["f32", "f64", "i32", "i64", "u8"])
def test_reductions(run, name):
    dtype = DTYPES[name]
    rng = np.random.default_rng(1)
    for size in (0, 1, 7, 64, 1001):
        x = (rng.standard_normal(size) * 3 + 5).astype(dtype)
        out = np.zeros(4, dtype)
        run(
            f"""    x = buffer(buffers, 0, {name})
    out = buffer(buffers, 1, {name})
    total = {name}(0)
    product = {name}(1)
    high = {name}(0)
    low = {name}(100)
    for i in range(lo, hi):
        total = add_fast(total, x[i])
        product = mul_fast(product, {name}(2) - x[i] * {name}(0))
        high = max_fast(high, x[i])
        low = min_fast(low, x[i])
    out[0] = total
    out[1] = product
    out[2] = high
    out[3] = low
""",
            [x, out],
            extent=size,
        )
        with np.errstate(all="ignore"):
            twos = np.full(size, 2, dtype)
            want = [x.sum(dtype=dtype), twos.prod(dtype=dtype), max([0, *x]), min([100, *x])]
        np.testing.assert_allclose(
            out, np.array(want, dtype), rtol=1e-5 if name == "f32" else 1e-12
        )


@pytest.mark.parametrize("name", FLOATS)
def test_reductions_keep_nan(run, name):
    dtype = DTYPES[name]
    body = f"""    x = buffer(buffers, 0, {name})
    out = buffer(buffers, 1, {name})
    high = x[0]
    low = x[0]
    for i in range(lo, hi):
        high = max_fast(high, x[i])
        low = min_fast(low, x[i])
    out[0] = high
    out[1] = low
"""
    for place in (0, 1, 63, 64, 199):
        x, out = np.zeros(200, dtype), np.zeros(2, dtype)
        x[place] = np.nan
        run(body, [x, out], extent=200)
        assert np.isnan(out).all(), place


def test_fma_rounds_once(run):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 500)).astype(np.float32)
    c = -(a * b)
    (got,) = elementwise(run, "fma(a, b, c)", [a, b, c], [np.float32])
    exact = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
    np.testing.assert_array_equal(got, exact.astype(np.float32))
    out = np.zeros(1, np.float32)
    run(
        """    x = buffer(buffers, 0, f32)
    y = buffer(buffers, 1, f32)
    out = buffer(buffers, 2, f32)
    total = f32(0.0)
    for i in range(lo, hi):
        total = fma_fast(x[i], y[i], total)
    out[0] = total
""",
        [a, b, out],
        extent=500,
    )
    np.testing.assert_allclose(out[0], a.astype(np.float64) @ b, rtol=1e-5)


def test_load_if_does_not_touch_memory(run):
    x, out = np.arange(10, dtype=np.float32), np.zeros(40, np.float32)
    run(
        """    x = buffer(buffers, 0, f32)
    out = buffer(buffers, 1, f32)
    far = i64(1) << 60
    for i in range(lo, hi):
        inside = (i >= 15) & (i < 25)
        out[i] = load_if(inside, x, select(inside, i - 15, far), f32(-1.0))
""",
        [x, out],
        extent=40,
    )
    want = np.full(40, -1, np.float32)
    want[15:25] = x
    np.testing.assert_array_equal(out, want)


def test_stack_arrays_and_addresses(run):
    out = np.zeros(66, np.float64)
    places = np.zeros(4, np.uint64)
    run(
        """    out = buffer(buffers, 0, f64)
    places = buffer(buffers, 1, u64)
    a = stack(33, f64, 0)
    b = stack(33, f64, 1)
    for i in range(33):
        a[i] = f64(i)
        b[i] = f64(100 + i)
    for i in range(33):
        out[i] = a[i]
        out[33 + i] = b[32 - i]
    places[0] = address(a, 0)
    places[1] = address(b, 0)
    places[2] = address(out, 0)
    places[3] = address(out, 5)
""",
        [out, places],
    )
    np.testing.assert_array_equal(out[:33], np.arange(33))
    np.testing.assert_array_equal(out[33:], 132 - np.arange(33))
    assert places[0] % 64 == 0 and places[1] % 64 == 0 and places[0] != places[1]
    assert places[2] == out.ctypes.data and places[3] == out.ctypes.data + 40


@pytest.mark.parametrize("shape", ["flat", "rows", "two outputs", "running"])
def test_shared_scope_in_place_and_apart(run, shape):
    """A result may lie exactly over an input, or elsewhere; both give the same."""
    body = """    x = buffer(buffers, 0, f32)
    y = buffer(buffers, 1, f32)
    out = buffer(buffers, 2, f32, 0)
    other = buffer(buffers, 3, f32, 1)
"""
    body += {
        "flat": """    for i in range(lo * 10, hi * 10):
        out[i] = x[i] * y[i] + x[i]
        other[i] = f32(0.0)
""",
        "rows": """    for i in range(lo, hi):
        for j in range(10):
            out[i * 10 + j] = x[i * 10 + j] * y[i * 10 + j] + x[i * 10 + j]
        for j in range(10):
            other[i * 10 + j] = f32(0.0)
""",
        "two outputs": """    for i in range(lo * 10, hi * 10):
        a = x[i]
        b = y[i]
        out[i] = a * b + a
        other[i] = b - b
""",
        "running": """    last = f32(0.0)
    for i in range(lo * 10, hi * 10):
        a = x[i]
        out[i] = last * y[i] + a * y[i] + a
        last = out[i] * f32(0.0)
        other[i] = f32(0.0)
""",
    }[shape]
    for in_place in (False, True):
        x, y = np.random.default_rng(4).standard_normal((2, 400)).astype(np.float32)
        want = x * y + x
        out, other = (x, y) if in_place else np.ones((2, 400), np.float32)
        run(body, [x, y, out, other], extent=40)
        np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
        assert not other.any()


def test_ranges(run):
    out = np.full(12, -1, np.int64)
    run(
        """    out = buffer(buffers, 0, i64)
    n = 0
    for i in range(hi, lo, -3):
        out[n] = i
        n += 1
    for i in range(2, 11, 4):
        out[n] = i
        n += 1
    for i in range(5, 2):
        out[11] = i
    for i in range(3):
        if i == 1:
            continue
        out[n] = i
        n += 1
""",
        [out],
        extent=10,
    )
    assert out.tolist() == [10, 7, 4, 1, 2, 6, 10, 0, 2, -1, -1, -1]


# Random123 1.14, tests/kat_vectors, philox4x32 with 10 rounds: counter, key, result.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        0xFFFFFFFFFFFFFFFF,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize("counter, key, words", KNOWN_ANSWERS)
def test_philox_known_answers(run, counter, key, words):
    assert tuple(int(w) for w in reference.philox(key, *counter)) == words
    counters = np.array(counter, np.uint32)
    first, both = np.zeros(1, np.uint32), np.zeros(1, np.uint64)
    run(
        """    key = buffer(buffers, 0, u64)
    c = buffer(buffers, 1, u32)
    first = buffer(buffers, 2, u32)
    both = buffer(buffers, 3, u64)
    first[0] = philox(key[0], c[0], c[1], c[2], c[3])
    both[0] = philox64(key[0], c[0], c[1], c[2], c[3])
""",
        [np.array([key], np.uint64), counters, first, both],
    )
    assert first[0] == words[0]
    assert both[0] == words[0] | words[1] << 32


def test_uniform_stream_equals_the_numpy_reference(run):
    key, size = 0x0123456789ABCDEF, 1000
    single, double = np.zeros(size, np.float32), np.zeros(size, np.float64)
    run(
        """    key = buffer(buffers, 0, u64)
    single = buffer(buffers, 1, f32)
    double = buffer(buffers, 2, f64)
    k = key[0]
    for i in range(lo, hi):
        single[i] = uniform_f32(philox(k, u32(i), u32(i >> 32), u32(3), u32(4)))
        double[i] = uniform_f64(philox64(k, u32(i), u32(i >> 32), u32(3), u32(4)))
""",
        [np.array([key], np.uint64), single, double],
        extent=size,
    )
    i = np.arange(size)
    words, long = reference.philox(key, i, 0, 3, 4), reference.philox64(key, i, 0, 3, 4)
    np.testing.assert_array_equal(single, reference.uniform_f32(words[0]))
    np.testing.assert_array_equal(double, reference.uniform_f64(long))
    assert 0 <= single.min() and single.max() < 1 and abs(single.mean() - 0.5) < 0.03
    ends = np.array([0, 2**32 - 1], np.uint32)
    assert reference.uniform_f32(ends).tolist() == [0.0, 1 - 2.0**-24]


def test_report_keeps_the_first_error(run):
    body = """    status = buffer(buffers, 0, i64)
    x = buffer(buffers, 1, i64)
    n = dims[0]
    for i in range(lo, hi):
        if (x[i] < 0) | (x[i] >= n):
            report(status, 7, i, x[i], n)
"""
    status, x = np.zeros(4, np.int64), np.array([0, 3, -1, 9, 2])
    run(body, [status, x], dims=[4], extent=5)
    assert status.tolist() == [7, 2, -1, 4]
    x[:] = 100
    run(body, [status, x], dims=[4], extent=5)
    assert status.tolist() == [7, 2, -1, 4]


def test_vector_math_is_part_of_the_language(run):
    x = np.linspace(0.1, 0.9, 77, dtype=np.float32)
    got = elementwise(run, "exp(a); log(a); tanh(a); power(a, a)", [x], [np.float32] * 4)
    for g, w in zip(got, [np.exp(x), np.log(x), np.tanh(x), x**x], strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-6)


def test_every_exported_name_exists():
    from graphflow.runtime import intrinsics

    assert all(hasattr(intrinsics, name) for name in intrinsics.__all__)
    assert len(set(intrinsics.__all__)) == len(intrinsics.__all__)


def test_errors_name_the_line_of_the_source_file(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(HEAD + "    x = buffer(buffers, 0, f32)\n    x[0] = missing(x[0])\n")
    with pytest.raises(Exception, match="missing"):
        jit.compile_kernel(path, "k")
    path = tmp_path / "wrong_types.py"
    path.write_text(HEAD + "    x = buffer(buffers, 0, f32)\n    x[0] = x[0] + x\n")
    with pytest.raises(Exception) as error:
        jit.compile_kernel(path, "k")
    assert "wrong_types.py" in str(error.value) and "x[0] = x[0] + x" in str(error.value)


def test_float_bits_survive(run):
    x = np.array([struct.unpack("f", struct.pack("I", b))[0] for b in (0x7FC12345, 1)], np.float32)
    (got,) = elementwise(run, "a", [x], [np.float32])
    assert got.tobytes() == x.tobytes()
