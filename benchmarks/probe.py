"""What this machine can do at most: multiply-adds in registers, bytes at several working sets."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

# Independent sums hide the latency of a multiply-add: 4 cycles, two a cycle, with some to spare.
CHAINS = 12
MEGABYTE = 1 << 20
# Two arrays read and one written together take so many bytes, over all threads.
WORKING_SETS = {"L2": 1 * MEGABYTE, "cache": 24 * MEGABYTE, "memory": 384 * MEGABYTE}


@dataclass
class Roof:
    """Rates of the machine, per second.

    Attributes:
        flops: floating-point operations, float32.
        bandwidth: bytes, by working set.
    """

    flops: float = 0.0
    bandwidth: dict[str, float] = field(default_factory=dict)

    def bound(self, flops: float, moved: float) -> tuple[float, str]:
        """Seconds that no program can go below, and what bounds it: "FLOP/s" or a working set."""
        if not flops or not self.flops:
            return 0.0, ""
        fits = [n for n, size in WORKING_SETS.items() if moved <= size] or ["memory"]
        limits = {"FLOP/s": flops / self.flops, fits[0]: moved / self.bandwidth[fits[0]]}
        name = max(limits, key=lambda key: limits[key])
        return limits[name], name


def best(first: Roof, second: Roof) -> Roof:
    """The higher rate of each: a probe that was disturbed measures too little."""
    bandwidth = {n: max(r, second.bandwidth[n]) for n, r in first.bandwidth.items()}
    return Roof(max(first.flops, second.flops), bandwidth)


def _multiply_add_text(lanes: int) -> str:
    """LLVM IR: `CHAINS` vectors x = x a + b, n times; the sum keeps them alive."""
    kind = f"<{lanes} x float>"
    phis = [f"  %x{k} = phi {kind} [ %s, %entry ], [ %y{k}, %loop ]" for k in range(CHAINS)]
    steps = [
        f"  %y{k} = call {kind} @llvm.fma.v{lanes}f32({kind} %x{k}, {kind} %s, {kind} %c{k})"
        for k in range(CHAINS)
    ]
    # Constants differ, so that no two chains are one.
    spread = [
        f"  %c{k} = fadd {kind} %s, <{', '.join([f'float {float(k + 1)}'] * lanes)}>"
        for k in range(CHAINS)
    ]
    total = ["  %t0 = fadd <L> %y0, %y1".replace("<L>", kind)]
    total += [f"  %t{k - 1} = fadd {kind} %t{k - 2}, %y{k}" for k in range(2, CHAINS)]
    return "\n".join(
        [
            f"declare {kind} @llvm.fma.v{lanes}f32({kind}, {kind}, {kind})",
            "define void @multiply_add(i64 %n, ptr %scale) {",
            "entry:",
            f"  %s = load {kind}, ptr %scale, align 4",
            *spread,
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %entry ], [ %j, %loop ]",
            *phis,
            *steps,
            "  %j = add i64 %i, 1",
            "  %more = icmp ult i64 %j, %n",
            "  br i1 %more, label %loop, label %done",
            "done:",
            *total,
            f"  store {kind} %t{CHAINS - 2}, ptr %scale, align 4",
            "  ret void",
            "}",
        ]
    )


def _sum_text(lanes: int) -> str:
    """LLVM IR: a = b + c over n vectors, four at a time, several times over."""
    kind = f"<{lanes} x float>"
    body = []
    for k in range(4):
        body += [
            f"  %i{k} = add i64 %i, {k}",
            f"  %pb{k} = getelementptr {kind}, ptr %b, i64 %i{k}",
            f"  %pc{k} = getelementptr {kind}, ptr %c, i64 %i{k}",
            f"  %pa{k} = getelementptr {kind}, ptr %a, i64 %i{k}",
            f"  %vb{k} = load {kind}, ptr %pb{k}, align 4",
            f"  %vc{k} = load {kind}, ptr %pc{k}, align 4",
            f"  %v{k} = fadd {kind} %vb{k}, %vc{k}",
            f"  store {kind} %v{k}, ptr %pa{k}, align 4",
        ]
    return "\n".join(
        [
            "define void @sum_arrays(i64 %n, i64 %passes, ptr %a, ptr %b, ptr %c) {",
            "entry:",
            "  br label %pass",
            "pass:",
            "  %p = phi i64 [ 0, %entry ], [ %q, %next ]",
            "  br label %loop",
            "loop:",
            "  %i = phi i64 [ 0, %pass ], [ %j, %loop ]",
            *body,
            "  %j = add i64 %i, 4",
            "  %more = icmp ult i64 %j, %n",
            "  br i1 %more, label %loop, label %next",
            "next:",
            "  %q = add i64 %p, 1",
            "  %again = icmp ult i64 %q, %passes",
            "  br i1 %again, label %pass, label %done",
            "done:",
            "  ret void",
            "}",
        ]
    )


class _Compiled:
    """The two loops as machine code for this processor."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features()
        self.lanes = 16 if features.get("avx512f") else 8 if features.get("avx2") else 4
        machine = llvm.Target.from_default_triple().create_target_machine(
            # Without this LLVM halves the vectors on many processors.
            cpu=llvm.get_host_cpu_name(),
            features=features.flatten() + ("" if self.lanes < 16 else ",-prefer-256-bit"),
            opt=2,
        )
        text = _multiply_add_text(self.lanes) + "\n" + _sum_text(self.lanes)
        # The engine owns the code: it lives as long as this object.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
        self._engine.finalize_object()
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.multiply_add = ctypes.CFUNCTYPE(None, number, pointer)(
            self._engine.get_function_address("multiply_add")
        )
        self.sum_arrays = ctypes.CFUNCTYPE(None, number, number, pointer, pointer, pointer)(
            self._engine.get_function_address("sum_arrays")
        )


def _together(threads: int, work: Callable[[int], None]) -> float:
    """Seconds until `work(k)` has run in every thread; foreign calls let the others run."""
    barrier = threading.Barrier(threads + 1)

    def body(k: int) -> None:
        barrier.wait()
        work(k)

    team = [threading.Thread(target=body, args=(k,)) for k in range(threads)]
    for thread in team:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in team:
        thread.join()
    return time.perf_counter() - begin


def measure(threads: int, repetitions: int = 7) -> Roof:
    """The best of several short runs of each loop, on all threads at once."""
    code = _Compiled()
    roof = Roof()
    count = 4_000_000
    scales = [np.full(code.lanes, 0.5, "f4") for _ in range(threads)]
    for _ in range(repetitions):
        seconds = _together(threads, lambda k: code.multiply_add(count, scales[k].ctypes.data))
        roof.flops = max(roof.flops, 2 * CHAINS * code.lanes * count * threads / seconds)
        for scale in scales:
            scale[:] = 0.5
    for name, size in WORKING_SETS.items():
        roof.bandwidth[name] = _bandwidth(code, threads, size, repetitions)
    return roof


def _bandwidth(code: _Compiled, threads: int, size: int, repetitions: int) -> float:
    # A whole number of the loop's strides.
    floats = size // 4 // 3 // threads // (4 * code.lanes) * (4 * code.lanes)
    arrays = [[np.ones(floats, "f4") for _ in range(3)] for _ in range(threads)]
    passes = max(1, 64 * MEGABYTE // size * 4)

    def work(k: int) -> None:
        a, b, c = (array.ctypes.data for array in arrays[k])
        code.sum_arrays(floats // code.lanes, passes, a, b, c)

    best = min(_together(threads, work) for _ in range(repetitions))
    return 3 * 4 * floats * threads * passes / best
