"""Turns kernel source into a loaded kernel, by way of object code kept from earlier processes.

The key of a kernel is a hash of everything that its machine code depends on (`key_parts`), so a
change of source, versions, CPU or flags is a miss. `object_store` keeps the files. No failure of
the cache reaches the caller: at worst a kernel is compiled again. A process that finds all of its
kernels never imports Numba.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib.util
import platform
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache as memoize
from pathlib import Path
from weakref import WeakValueDictionary

import llvmlite

from graphflow.runtime import jit
from graphflow.runtime.object_store import ObjectStore, default_root

_lock = threading.RLock()
_counters = {"hits": 0, "misses": 0, "compiled": 0, "errors": 0, "seconds": 0.0}
_stores: dict[Path | None, ObjectStore] = {}


@dataclass(frozen=True, slots=True, weakref_slot=True)
class CompiledKernel:
    """A kernel in memory. `address` is valid as long as this object lives: keep it, not the number.

    Attributes:
        path: the source file. `from_cache` tells if its object code came from the disk.
        seconds: what it took to get the kernel.
    """

    address: int
    symbol: str
    path: str
    source: str
    from_cache: bool
    seconds: float
    code: jit.LoadedObject = field(repr=False, compare=False)


_kernels: WeakValueDictionary[str, CompiledKernel] = WeakValueDictionary()
_objects: WeakValueDictionary[str, jit.LoadedObject] = WeakValueDictionary()


# ---- Keys ----------------------------------------------------------------------------------------


def key_parts(source: str, entry: str) -> tuple[str, ...]:
    """Everything that the object code of a kernel depends on."""
    return (jit.kernel_body(source), entry, *environment())


def cache_key(parts: Iterable[str]) -> str:
    """sha256 over the parts and their lengths, so that no two lists of parts read the same."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()


@memoize
def environment() -> tuple[str, ...]:
    """The parts of a key that are the same for every kernel of this process."""
    return (
        toolchain(),
        installed_version("numba"),
        llvmlite.__version__,
        platform.python_implementation() + sys.version,
        *jit.host(),
        repr(jit.OPTIONS),
    )


@memoize
def toolchain() -> str:
    """Hash of the sources that shape machine code: this package's own. It serves as its version."""
    here = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *here.glob("kernels/*.py")]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(here)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def installed_version(package: str) -> str:
    """A package's version without importing the package or the slow importlib.metadata."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return "absent"
    version_file = Path(spec.origin).with_name("_version.py")
    try:
        return version_file.read_text(encoding="utf-8")
    except OSError:
        from importlib.metadata import version

        return version(package)


# ---- Kernels -------------------------------------------------------------------------------------


def get_kernel(name: str, source: str, entry: str) -> CompiledKernel:
    """The kernel `entry` of a source text, from this process, from the disk, or compiled.

    Args:
        name: what the source file is called, e.g. `fused_add_maximum`.
        source: a module's text. Comment lines at its head do not count for the key.
        entry: the function in it that is the kernel.

    Raises:
        numba.core.errors.NumbaError: the source is not a valid kernel.
    """
    return get_kernels([(name, source, entry)])[0]


def get_kernels(requests: Iterable[tuple[str, str, str]]) -> list[CompiledKernel]:
    """Several kernels at once, each (name, source, entry), in order."""
    wanted = [_Request(*request) for request in requests]
    # Kernels that are asked for together are mostly dropped together.
    session = jit.Session()
    with _lock:
        kernels: dict[str, CompiledKernel] = {}
        missing: dict[str, _Request] = {}
        for request in wanted:
            if request.key in kernels or request.key in missing:
                continue
            kernel = _kernels.get(request.key) or _load(request, session)
            if kernel is None:
                missing[request.key] = request
            else:
                kernels[request.key] = kernel
        for request, compiled in zip(missing.values(), _compile_all(missing.values()), strict=True):
            kernels[request.key] = _keep(request, session, *compiled)
        _kernels.update(kernels)
        return [kernels[request.key] for request in wanted]


def get_object(
    name: str, source: str, symbols: Sequence[str], build: Callable[[], bytes]
) -> jit.LoadedObject:
    """Object code that is not a kernel (the driver), cached in the same way.

    Args:
        name: distinguishes this object from others with the same source.
        source: text that the object code depends on, beyond this package's own files.
        symbols: the symbols that `build` defines.
        build: makes the object code on a miss.
    """
    key = cache_key(("object", name, source, *symbols, *environment()))
    with _lock:
        loaded = _objects.get(key)
        if loaded is None:
            start, session = time.perf_counter(), jit.Session()
            body = _store().read(key)
            loaded = _link(body, symbols, session)
            _count(loaded is not None)
            if loaded is None:
                body = build()
                loaded = session.load(body, symbols)
                _counters["compiled"] += 1
                _store().write(key, body)
            _counters["seconds"] += time.perf_counter() - start
            _objects[key] = loaded
        return loaded


def stats() -> dict[str, float]:
    """Counts of this process: hits and misses on the disk, kernels compiled, errors, seconds."""
    errors = sum(store.errors for store in _stores.values())
    return {**_counters, "errors": _counters["errors"] + errors}


def clear() -> None:
    """Forget every kernel, in this process and on the disk; kernels in use stay valid."""
    with _lock:
        _kernels.clear()
        _objects.clear()
        _store().clear()


def usage() -> dict[str, object]:
    """The cache directory (None if the cache is off), its number of entries, and its bytes."""
    store = _store()
    entries, size = store.usage()
    return {"path": store.root, "entries": entries, "bytes": size}


class _Request:
    """One kernel that is asked for."""

    def __init__(self, name: str, source: str, entry: str) -> None:
        self.source, self.entry = source, entry
        self.key = cache_key(key_parts(source, entry))
        self.symbol = jit.symbol_name(source, entry)
        self.file_name = f"{re.sub(r'[^A-Za-z0-9_]', '_', name)[:100]}_{self.symbol[-16:-8]}"
        self.seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time spent inside to what this kernel took."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


def _load(request: _Request, session: jit.Session) -> CompiledKernel | None:
    with request.timed():
        code = _link(_store().read(request.key), [request.symbol], session)
        _count(code is not None)
        if code is None:
            return None
        path = _write_source(request)
    return _kernel(request, code, path, from_cache=True)


def _link(
    body: bytes | None, symbols: Sequence[str], session: jit.Session
) -> jit.LoadedObject | None:
    if body is None:
        return None
    try:
        return session.load(body, symbols)
    except RuntimeError as error:
        _counters["errors"] += 1
        warnings.warn(f"cached object code does not load ({error})", RuntimeWarning, stacklevel=2)
        return None


def _compile_all(requests: Iterable[_Request]) -> list[tuple[bytes, str]]:
    """Object code and source path of each; independent of each other, so a pool could map it."""
    return [_compile(request) for request in requests]


def _compile(request: _Request) -> tuple[bytes, str]:
    with request.timed():
        path = _write_source(request)
        object_code, _ = jit.compile_source(request.source, path, request.entry)
        _counters["compiled"] += 1
    return object_code, path


def _keep(request: _Request, session: jit.Session, object_code: bytes, path: str) -> CompiledKernel:
    with request.timed():
        code = session.load(object_code, [request.symbol])
        _store().write(request.key, object_code)
    return _kernel(request, code, path, from_cache=False)


def _kernel(
    request: _Request, code: jit.LoadedObject, path: str, from_cache: bool
) -> CompiledKernel:
    _counters["seconds"] += request.seconds
    address = code[request.symbol]
    return CompiledKernel(
        address, request.symbol, path, request.source, from_cache, request.seconds, code
    )


def _count(hit: bool) -> None:
    _counters["hits" if hit else "misses"] += 1


def _store() -> ObjectStore:
    """The store of the directory that the environment names now."""
    root = default_root()
    if root not in _stores:
        _stores[root] = ObjectStore(root)
    return _stores[root]


def _write_source(request: _Request) -> str:
    """The path of the source as a real file, in the cache or else in a folder of this process."""
    path = _store().write_source(request.file_name, request.source)
    if path is None:
        path = _scratch() / f"{request.file_name}.py"
        try:
            path.write_text(request.source, encoding="utf-8")
        except OSError:
            _counters["errors"] += 1
    return str(path)


@memoize
def _scratch() -> Path:
    import tempfile

    try:
        folder = Path(tempfile.mkdtemp(prefix="graphflow-"))
    except OSError:
        return Path("graphflow-kernels")  # nowhere to write: a name for tracebacks only
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
