"""Turns a kernel source file into object code, and object code into callable addresses."""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite.binding.newpassmanagers import NewPassManager
from llvmlite.binding.orcjit import JITLibraryBuilder, create_lljit_compiler

OPTIONS = {
    "speed_level": 3,
    "loop_vectorization": True,
    "loop_interleaving": True,
    "loop_unrolling": False,
    "slp_vectorization": False,
    "reloc": "pic",
    "codemodel": "small",
}

_lock = threading.RLock()
_state: dict[str, Any] = {}


def kernel_body(source: str) -> str:
    """Source text without the comment lines at its head, which do not change the kernel."""
    lines = source.splitlines(keepends=True)
    start = next((k for k, line in enumerate(lines) if line.strip() and line[0] != "#"), len(lines))
    return "".join(lines[start:])


def symbol_name(source: str, entry: str) -> str:
    """The symbol of a kernel: readable, unique and the same in every process."""
    digest = hashlib.sha256(f"{entry}\0{kernel_body(source)}".encode()).hexdigest()
    return f"gf_{re.sub(r'[^A-Za-z0-9_]', '_', entry)}_{digest[:16]}"


def host() -> tuple[str, str]:
    """CPU name and feature string that code is compiled for."""
    if "host" not in _state:
        features = llvm.get_host_cpu_features()
        text = features.flatten()
        # LLVM keeps to 256 bits on CPUs whose clock once fell with 512. Measured here: 512 bits
        # are 1.2 to 1.4 times as fast for silu(x * y + 0.5), and equal where memory is the limit.
        if features.get("avx512f"):
            text += ",-prefer-256-bit"
        _state["host"] = llvm.get_host_cpu_name(), text
    return _state["host"]


def _machine() -> Any:
    if "machine" not in _state:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        name, features = host()
        _state["machine"] = llvm.Target.from_default_triple().create_target_machine(
            cpu=name,
            features=features,
            opt=OPTIONS["speed_level"],
            reloc=OPTIONS["reloc"],
            codemodel=OPTIONS["codemodel"],
        )
    return _state["machine"]


def compile_kernel(path: str | Path, entry: str) -> tuple[bytes, str]:
    """Object code and symbol of the kernel `entry` in the source file at `path`."""
    return compile_source(Path(path).read_text(encoding="utf-8"), path, entry)


def compile_source(source: str, path: str | Path, entry: str) -> tuple[bytes, str]:
    """`compile_kernel` for text in memory; `path` is where tracebacks and profilers look for it."""
    from graphflow.runtime.numba_target import KERNEL_SIGNATURE

    symbol = symbol_name(source, entry)
    namespace: dict[str, Any] = {"__name__": Path(path).stem, "__file__": str(path)}
    # The text comes from graphflow's own compiler; cached or saved files are never run this way.
    exec(compile(source, str(path), "exec"), namespace)  # noqa: S102
    return compile_function(namespace[entry], KERNEL_SIGNATURE, symbol), symbol


def compile_function(function: Callable, numba_signature: Any, symbol: str) -> bytes:
    """Object code of a Python function under the C calling convention.

    Args:
        function: plain function; it may call intrinsics and other jitted functions.
        numba_signature: types of the arguments and of the result, e.g. `int64(uintp, int64)`.
        symbol: the name under which the object code exports it.
    """
    return compile_module(lower_function(function, numba_signature, symbol))


def lower_function(function: Callable, numba_signature: Any, symbol: str) -> Any:
    """The LLVM module of a function, with what it calls linked in, not yet optimised."""
    from graphflow.runtime.numba_target import lower_to_text

    text, *callees = lower_to_text(function, numba_signature, symbol)
    module = llvm.parse_assembly(text)
    for callee in callees:
        module.link_in(llvm.parse_assembly(callee))
    for linked in module.functions:
        if not linked.is_declaration and linked.name != symbol:
            linked.linkage = llvm.Linkage.internal
    return module


def optimize(module: Any) -> None:
    """LLVM's -O3 pipeline for this CPU."""
    machine = _machine()
    options = llvm.create_pipeline_tuning_options(speed_level=OPTIONS["speed_level"])
    options.loop_vectorization = OPTIONS["loop_vectorization"]
    options.loop_interleaving = OPTIONS["loop_interleaving"]
    options.loop_unrolling = OPTIONS["loop_unrolling"]
    options.slp_vectorization = OPTIONS["slp_vectorization"]
    builder = llvm.create_pass_builder(machine, options)
    manager = builder.getModulePassManager()
    manager.run(module, builder)
    # llvmlite's class finds ObjectRef's empty _dispose first, and would leak 73 kB for each kernel.
    NewPassManager._dispose(manager)
    manager.detach()


def compile_module(module: Any) -> bytes:
    with _lock:
        optimize(module)
        return _machine().emit_object(module)


class Session:
    """A linker for objects that are used together; its memory goes when the last one is dropped.

    A session takes about 150 kB and an object 20 kB. One session for all objects would keep 9 kB
    of each object for ever: ORC never forgets a library's name.
    """

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        # JITLink places code and constants side by side, as the small code model needs.
        self._linker = create_lljit_compiler(
            machine, use_jit_link=sys.platform != "win32", suppress_errors=True
        )
        self._serial = itertools.count()

    def load(self, object_code: bytes, symbols: Iterable[str]) -> LoadedObject:
        """Link one object; see `load_object`."""
        builder, names = JITLibraryBuilder().add_object_img(object_code), tuple(symbols)
        for name in names:
            builder.export_symbol(name)
        with _lock:
            # A library of its own for each object: names cannot clash, and it can be unloaded.
            tracker = builder.link(self._linker, f"object{next(self._serial)}")
            return LoadedObject({name: tracker[name] for name in names}, tracker, self)


class LoadedObject:
    """Object code in memory: `loaded[symbol]` is an address, valid until `close` or collection."""

    def __init__(self, addresses: dict[str, int], tracker: Any, session: Session) -> None:
        # The tracker comes first, so that it also goes first.
        self._tracker, self._session = tracker, session
        self.addresses = addresses

    def __getitem__(self, symbol: str) -> int:
        return self.addresses[symbol]

    def close(self) -> None:
        """Unload the code now; nothing may call it any more."""
        with _lock:
            self.addresses = {}
            self._tracker.close()


def load_object(object_code: bytes, symbols: Iterable[str]) -> LoadedObject:
    """Link object code into the process without importing Numba.

    Args:
        object_code: a self-contained object as `compile_kernel` returns it. An undefined symbol
            raises RuntimeError.
        symbols: the symbols whose addresses are wanted.

    Returns:
        A handle that maps each symbol to its address and keeps the code alive.
    """
    return Session().load(object_code, symbols)
