"""Object code: self-contained, vectorised, loadable without Numba, and released when dropped."""

import ctypes
import gc
import inspect
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphflow
from graphflow.runtime import jit, loop_hints

REPOSITORY = Path(graphflow.__file__).parents[1]
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
HEAD = "from graphflow.runtime.intrinsics import *\n\n\n"
EXAMPLE = """# add, maximum: in0 float32(batch, 64), in1 float32(64,)
# model.py:12

from graphflow.runtime.intrinsics import *


@kernel
def fused_add_maximum(buffers, dims, lo, hi):
    in0 = buffer(buffers, 0, f32)
    in1 = buffer(buffers, 1, f32)
    out0 = buffer(buffers, 2, f32)
    d0 = dims[0]
    for i0 in range(lo, hi):
        for i1 in range(64):
            t0 = in0[i0 * 64 + i1]
            t1 = in1[i1]
            t2 = t0 + t1
            t3 = maximum(t2, f32(0.0))
            out0[i0 * 64 + i1] = t3
"""
SUM = (
    HEAD
    + """@kernel
def total(buffers, dims, lo, hi):
    x = buffer(buffers, 0, f32)
    out = buffer(buffers, 1, f32)
    n = dims[0]
    for i in range(lo, hi):
        acc = f32(0.0)
        for j in range(n):
            acc = add_fast(acc, x[i * n + j])
        out[i] = acc
"""
)


def call(address, arrays, dims=(), lo=0, hi=1):
    table = np.array([a.ctypes.data for a in arrays], np.uintp)
    sizes = np.array([*dims, 0], np.int64)
    NATIVE(address)(table.ctypes.data, sizes.ctypes.data, lo, hi)


def compile_text(tmp_path, text, entry):
    path = tmp_path / f"{entry}.py"
    path.write_text(text)
    return jit.compile_kernel(path, entry)


def assembly(tmp_path, text, entry):
    """Optimised assembly of a kernel."""
    from graphflow.runtime.numba_target import KERNEL_SIGNATURE

    path = tmp_path / f"{entry}.py"
    path.write_text(text)
    namespace = {"__name__": entry}
    exec(compile(text, str(path), "exec"), namespace)
    module = jit.lower_function(namespace[entry], KERNEL_SIGNATURE, entry)
    jit.optimize(module)
    return str(module), jit._machine().emit_assembly(module)


def vector_lanes():
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx2") else 4


def test_the_example_computes(tmp_path):
    code, symbol = compile_text(tmp_path, EXAMPLE, "fused_add_maximum")
    loaded = jit.load_object(code, [symbol])
    x = np.random.default_rng(0).standard_normal((9, 64)).astype(np.float32)
    bias, out = np.linspace(-1, 1, 64, dtype=np.float32), np.full((9, 64), 7, np.float32)
    call(loaded[symbol], [x, bias, out], dims=[9], lo=2, hi=8)
    want = np.full((9, 64), 7, np.float32)
    want[2:8] = np.maximum(x + bias, 0)[2:8]
    np.testing.assert_array_equal(out, want)


def test_a_fresh_process_runs_it_without_numba(tmp_path):
    code, symbol = compile_text(tmp_path, EXAMPLE, "fused_add_maximum")
    (tmp_path / "object").write_bytes(code)
    program = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
import ctypes
import numpy as np
from graphflow.runtime import jit, loop_hints
loaded = jit.load_object(open({str(tmp_path / "object")!r}, "rb").read(), [{symbol!r}])
x = np.arange(-64, 64, dtype=np.float32)
bias, out = np.ones(64, np.float32), np.zeros(128, np.float32)
table = np.array([a.ctypes.data for a in (x, bias, out)], np.uintp)
native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
native(loaded[{symbol!r}])(table.ctypes.data, np.array([2]).ctypes.data, 0, 2)
assert (out == np.maximum(x + 1, 0)).all()
assert "numba" not in sys.modules
print("right")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.stdout == "right\n", result.stderr


def test_no_undefined_symbol_and_no_static_data(tmp_path):
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    # Fill and copy loops, which LLVM likes to turn into calls of memset and memcpy; fmod; rounding.
    body = """@kernel
def many(buffers, dims, lo, hi):
    x = buffer(buffers, 0, f32)
    y = buffer(buffers, 1, f64)
    z = buffer(buffers, 2, i8)
    a = stack(512, f32, 0)
    for i in range(512):
        a[i] = f32(0.0)
    for i in range(lo, hi):
        z[i] = i8(0)
    for i in range(lo, hi):
        x[i] = a[i]
    for i in range(lo, hi):
        y[i] = fmod(y[i], f64(x[i])) + floor(y[i]) + round_half_even(y[i]) + sin(y[i])
        x[i] = power(x[i], x[i]) + erf(x[i]) + fma(x[i], x[i], x[i])
        z[i] = int_power(z[i], z[i]) + i8(x[i]) + floor_divide(z[i], i8(3))
"""
    for text, entry in ((EXAMPLE, "fused_add_maximum"), (SUM, "total"), (HEAD + body, "many")):
        code, symbol = compile_text(tmp_path, text, entry)
        path = tmp_path / f"{entry}.o"
        path.write_bytes(code)
        names = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True)
        symbols = [line.split() for line in names.stdout.splitlines()]
        assert [s for s in symbols if s[-2] == "U"] == []
        assert [s[-1] for s in symbols if s[-2].isupper()] == [symbol]
        jit.load_object(code, [symbol]).close()


def test_undefined_symbols_are_refused():
    module = llvm.parse_assembly(
        "declare void @nowhere()\ndefine void @f() { call void @nowhere() ret void }"
    )
    code = jit.compile_module(module)
    with pytest.raises(RuntimeError, match="materialize"):
        jit.load_object(code, ["f"])


@pytest.mark.parametrize("text, entry", [(EXAMPLE, "fused_add_maximum"), (SUM, "total")])
def test_loops_use_the_widest_vectors_without_alias_checks(tmp_path, text, entry):
    ir, asm = assembly(tmp_path, text, entry)
    lanes = vector_lanes()
    assert f"fadd <{lanes} x float>" in re.sub(r"fadd [a-z ]*<", "fadd <", ir)
    assert "vector.memcheck" not in ir
    if lanes == 16:
        assert re.search(r"vaddps\s.*%zmm", asm)


def test_short_literal_loops_are_unrolled_and_long_ones_are_not(tmp_path):
    body = """@kernel
def pool(buffers, dims, lo, hi):
    x = buffer(buffers, 0, f32)
    out = buffer(buffers, 1, f32)
    for i in range(lo, hi):
        best = x[i]
        for k in range(1, {passes}):
            best = maximum(best, x[i + k * {stride}])
        out[i] = best
"""
    text = HEAD + body.format(passes=4, stride=1000)
    ir, _ = assembly(tmp_path, text, "pool")
    assert f"<{vector_lanes()} x float> @llvm.maximum" in ir
    ir, _ = assembly(tmp_path, HEAD + body.format(passes=100, stride=1), "pool")
    assert len(ir.splitlines()) < 150


IN_PLACE = (
    HEAD
    + """@kernel
def update(buffers, dims, lo, hi):
    x = buffer(buffers, 0, f32)
    y = buffer(buffers, 1, f32)
    out = buffer(buffers, 2, f32, 0)
    n = dims[0]
    for i in range(lo, hi):
        for j in range(n):
            out[i * n + j] = x[i * n + j] * y[j]
"""
)


def test_a_result_over_its_input_is_vectorised_without_alias_checks(tmp_path):
    ir, _ = assembly(tmp_path, IN_PLACE, "update")
    assert f"fmul <{vector_lanes()} x float>" in ir and "vector.memcheck" not in ir
    # A loop that reads back what it wrote is not declared parallel.
    ir, _ = assembly(tmp_path, IN_PLACE.replace("* y[j]", "+ out[i * n + j - 1]"), "update")
    assert "llvm.access.group" not in ir


def test_hints_reach_loops_with_long_bodies(tmp_path):
    """Their jumps are so far that Python's bytecode puts a prefix before the loop's head."""
    lines = "".join(f"            t = f32(t * y[j]) + f32({k})\n" for k in range(40))
    body = "            t = x[i * n + j]\n" + lines + "            out[i * n + j] = t\n"
    text = IN_PLACE.replace("            out[i * n + j] = x[i * n + j] * y[j]\n", body)
    assert text != IN_PLACE
    ir, _ = assembly(tmp_path, text, "update")
    assert f"<{vector_lanes()} x float>" in ir and "llvm.access.group" in ir


def test_nested_small_loops_are_unrolled_within_bounds(tmp_path):
    """All six of them would be 2,160 copies of the line, and take 17 s to compile."""
    text = HEAD + "@kernel\ndef spread(buffers, dims, lo, hi):\n"
    text += "    x = buffer(buffers, 0, f32)\n    out = buffer(buffers, 1, f32)\n"
    text += "    for i0 in range(lo, hi):\n"
    for depth, passes in enumerate((5, 2, 4, 3, 6, 3), 1):
        text += "    " * (depth + 1) + f"for i{depth} in range({passes}):\n"
    at = "i0*2160 + i1*432 + i2*216 + i3*54 + i4*18 + i5*3 + i6"
    text += "    " * 8 + f"out[{at}] = x[{at}] * x[i6]\n"
    ir, _ = assembly(tmp_path, text, "spread")
    assert 18 <= len(re.findall("fmul", ir)) <= loop_hints.MOST_COPIES


def test_symbols_follow_the_content_and_nothing_else(tmp_path):
    first = compile_text(tmp_path, EXAMPLE, "fused_add_maximum")
    again = compile_text(tmp_path, EXAMPLE, "fused_add_maximum")
    assert first == again
    headless = EXAMPLE[EXAMPLE.index("from ") :]
    assert compile_text(tmp_path, headless, "fused_add_maximum") == first
    changed = compile_text(tmp_path, EXAMPLE.replace("f32(0.0)", "f32(1.0)"), "fused_add_maximum")
    assert changed[1] != first[1]
    assert re.fullmatch(r"gf_fused_add_maximum_[0-9a-f]{16}", first[1])


def test_source_stays_readable(tmp_path):
    path = tmp_path / "k.py"
    path.write_text(EXAMPLE)
    namespace = {"__name__": "k"}
    exec(compile(EXAMPLE, str(path), "exec"), namespace)
    assert "t3 = maximum" in inspect.getsource(namespace["fused_add_maximum"])


def test_compile_function_with_another_signature():
    from numba import njit, types

    @njit
    def square(x):
        return x * x

    def is_odd(i):
        return i % 2 == 1

    def sum_of_squares(table, n, flag):
        total = 0
        i = 0
        while i < n:
            if flag and is_odd(i):
                i += 1
                continue
            total += square(table[i])
            i += 1
        return total

    signature = types.int64(types.CPointer(types.int64), types.int64, types.boolean)
    code = jit.compile_function(sum_of_squares, signature, "sum_of_squares")
    assert b"square.0" not in code
    loaded = jit.load_object(code, ["sum_of_squares"])
    native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_bool)
    function = native(loaded["sum_of_squares"])
    x = np.arange(10)
    assert function(x.ctypes.data, 10, False) == (x**2).sum()
    assert function(x.ctypes.data, 10, True) == (x[::2] ** 2).sum()


def test_exceptions_are_refused(tmp_path):
    body = "@kernel\ndef k(buffers, dims, lo, hi):\n    if lo > hi:\n        raise ValueError\n"
    with pytest.raises(Exception, match="raise"):
        compile_text(tmp_path, HEAD + body, "k")


def test_dropped_objects_give_their_memory_back(tmp_path):
    code, symbol = compile_text(tmp_path, SUM, "total")

    def resident():
        gc.collect()
        return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    for _ in range(300):
        jit.load_object(code, [symbol])
    before = resident()
    for _ in range(1000):
        jit.load_object(code, [symbol])
    assert resident() - before < 4000  # kB; Numba keeps 830 kB of each kernel


def test_compiling_does_not_leak(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")

    def compile_some(start, count):
        for number in range(start, start + count):
            compile_text(tmp_path, SUM.replace("f32(0.0)", f"f32({number}.0)"), "total")
        gc.collect()
        return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    before = compile_some(0, 40)
    assert (compile_some(40, 60) - before) / 60 < 40  # kB per kernel


def test_many_objects_may_share_a_symbol(tmp_path):
    code, symbol = compile_text(tmp_path, SUM, "total")
    first, second = jit.load_object(code, [symbol]), jit.load_object(code, [symbol])
    assert first[symbol] != second[symbol]
    first.close()
    x, out = np.ones((3, 5), np.float32), np.zeros(3, np.float32)
    call(second[symbol], [x, out], dims=[5], hi=3)
    assert out.tolist() == [5, 5, 5]


def test_threads_compile_and_load_at_once(tmp_path):
    failures = []

    def work(number):
        try:
            text = SUM.replace("acc = f32(0.0)", f"acc = f32({number}.0)").replace(
                "total", f"total{number}"
            )
            code, symbol = compile_text(tmp_path, text, f"total{number}")
            loaded = jit.load_object(code, [symbol])
            x, out = np.ones((3, 5), np.float32), np.zeros(3, np.float32)
            call(loaded[symbol], [x, out], dims=[5], hi=3)
            assert out.tolist() == [5 + number] * 3
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_no_features_that_the_host_lacks():
    name, features = jit.host()
    assert name and features
    assert "-prefer-256-bit" in features or not llvm.get_host_cpu_features().get("avx512f")
