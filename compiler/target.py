"""What the code generator must know of the machine that kernels are for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from graphflow.compiler.spec import ITEMSIZE

#: where the system does not tell the size of the cache
CACHE_BYTES = 512 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """Facts that tile sizes follow from; they reach kernel text as literals.

    Attributes:
        vector_bits: width of a vector register.
        registers: number of vector registers.
        cache_bytes: what one core keeps near: an operand of this size may be read again and again;
            half of its second-level cache.
    """

    vector_bits: int
    registers: int
    cache_bytes: int = CACHE_BYTES

    def lanes(self, dtype: str) -> int:
        """Elements of `dtype` in one vector."""
        return self.vector_bits // (8 * ITEMSIZE[dtype])


@cache
def host_target() -> Target:
    """The machine that this process runs on."""
    # Imported late: building graphs needs no LLVM.
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    cache = _cache_of_a_core() // 2 or CACHE_BYTES
    if features.get("avx512f"):
        return Target(vector_bits=512, registers=32, cache_bytes=cache)
    if features.get("avx2"):
        return Target(vector_bits=256, registers=16, cache_bytes=cache)
    arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))
    return Target(vector_bits=128, registers=32 if arm else 16, cache_bytes=cache)


def _cache_of_a_core() -> int:
    """Bytes of the second-level cache, 0 where the system does not say."""
    path = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text[:-1]) * 1024 if text.endswith("K") and text[:-1].isdigit() else 0
