"""What the code generator must know of the machine that kernels are for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from graphflow.compiler.spec import ITEMSIZE


@dataclass(frozen=True, slots=True)
class Target:
    """Facts that tile sizes follow from; they reach kernel text as literals.

    Attributes:
        vector_bits: width of a vector register.
        registers: number of vector registers.
        cache_bytes: what one core keeps near: an operand of this size may be read again and again.
    """

    vector_bits: int
    registers: int
    cache_bytes: int = 512 * 1024

    def lanes(self, dtype: str) -> int:
        """Elements of `dtype` in one vector."""
        return self.vector_bits // (8 * ITEMSIZE[dtype])


@cache
def host_target() -> Target:
    """The machine that this process runs on."""
    # Imported late: building graphs needs no LLVM.
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return Target(vector_bits=512, registers=32)
    if features.get("avx2"):
        return Target(vector_bits=256, registers=16)
    arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))
    return Target(vector_bits=128, registers=32 if arm else 16)
