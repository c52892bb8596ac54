"""The kernel cache can slow a program, never break it: damage, races, permissions, full disks."""

import ctypes
import gc
import os
import random
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphflow
from graphflow.runtime import cache, jit, object_store

IMPORT_ROOT = str(Path(graphflow.__file__).parents[1])
NATIVE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
SOURCE = """# a header, which does not count
from graphflow.runtime.intrinsics import *


@kernel
def scale(buffers, dims, lo, hi):
    x = buffer(buffers, 0, f32)
    out = buffer(buffers, 1, f32)
    for i in range(lo, hi):
        out[i] = x[i] * f32({factor}.0)
"""
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
import ctypes
import numpy as np
from graphflow.runtime import cache
kernel = cache.get_kernel("scale", {source!r}, "scale")
x, out = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
table = np.array([x.ctypes.data, out.ctypes.data], np.uintp)
native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
native(kernel.address)(table.ctypes.data, 0, 0, 100)
print((out == x * {factor}).all(), kernel.from_cache, "numba" in sys.modules)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache directory of the test's own, and a process that seems fresh."""
    path = tmp_path / "cache"
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", str(path))
    fresh()
    yield path
    fresh()


def fresh():
    """Forget what this process knows, as a new process would."""
    gc.collect()
    cache._kernels.clear()
    cache._objects.clear()
    cache._stores.clear()


def get(factor=3):
    return cache.get_kernel("scale", SOURCE.format(factor=factor), "scale")


def check(kernel, factor=3):
    x, out = np.arange(100, dtype=np.float32), np.zeros(100, np.float32)
    table = np.array([x.ctypes.data, out.ctypes.data], np.uintp)
    NATIVE(kernel.address)(table.ctypes.data, 0, 0, 100)
    np.testing.assert_array_equal(out, x * factor)


def get_and_check(*factors):
    """Get and run several kernels; the last one is returned."""
    for factor in factors:
        kernel = get(factor)
        check(kernel, factor)
    return kernel


def silent_get(factor=3):
    """`get`, where any warning is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return get(factor)


def in_new_process(factor=3, **environment):
    program = PROGRAM.format(root=IMPORT_ROOT, source=SOURCE.format(factor=factor), factor=factor)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def entry(folder):
    (path,) = (folder / "objects").iterdir()
    return path


def test_second_process_loads_without_numba(folder):
    for want in ("True False True\n", "True True False\n"):
        process = in_new_process()
        output, errors = process.communicate()
        assert (output, process.returncode) == (want, 0), errors


def test_hit_miss_memo_and_counters(folder):
    before = cache.stats()
    first = silent_get()
    assert not first.from_cache and first.seconds > 0
    assert silent_get() is first
    fresh()
    del first
    again = silent_get()
    assert again.from_cache
    check(again)
    after = cache.stats()
    change = {name: after[name] - before[name] for name in ("hits", "misses", "compiled", "errors")}
    assert change == {"hits": 1, "misses": 1, "compiled": 1, "errors": 0}
    assert Path(again.path).read_text() == SOURCE.format(factor=3) == again.source
    assert Path(again.path).parent == folder / "kernels"
    used = cache.usage()
    assert used["path"] == folder and used["entries"] == 1 and used["bytes"] > 500
    cache.clear()
    assert cache.usage()["entries"] == 0
    check(again)


def test_several_kernels_at_once(folder):
    requests = [("scale", SOURCE.format(factor=n), "scale") for n in (2, 3, 2, 4)]
    kernels = cache.get_kernels(requests)
    for kernel, factor in zip(kernels, (2, 3, 2, 4), strict=True):
        check(kernel, factor)
    assert kernels[0] is kernels[2]
    assert len({kernel.symbol for kernel in kernels}) == 3
    assert cache.get_kernels([]) == []


def test_header_is_not_part_of_the_key(folder):
    kernel = get()
    other = cache.get_kernel("scale", "# other words\n" + SOURCE.format(factor=3), "scale")
    assert other is kernel


def test_each_part_changes_the_key():
    parts = cache.key_parts(SOURCE.format(factor=3), "scale")
    assert len(parts) == 9
    keys = {cache.cache_key(parts)}
    for position in range(len(parts)):
        changed = list(parts)
        changed[position] += "x"
        keys.add(cache.cache_key(changed))
    assert len(keys) == 1 + len(parts)
    # The bounds between parts count, too.
    assert cache.cache_key(["ab", "c"]) != cache.cache_key(["a", "bc"])
    assert cache.key_parts(SOURCE.format(factor=4), "scale") != parts
    assert cache.key_parts(SOURCE.format(factor=3), "other") != parts


def test_the_environment_names_versions_cpu_and_flags(monkeypatch):
    import llvmlite
    import numba

    text = "\n".join(cache.environment())
    assert numba.__version__ in text and llvmlite.__version__ in text and sys.version in text
    assert all(part in cache.environment() for part in jit.host())
    seen = {cache.environment.__wrapped__()}
    monkeypatch.setitem(jit.OPTIONS, "speed_level", 2)
    seen.add(cache.environment.__wrapped__())
    monkeypatch.setitem(jit._state, "host", ("another-cpu", "+none"))
    seen.add(cache.environment.__wrapped__())
    monkeypatch.setattr(cache, "installed_version", lambda package: "0")
    seen.add(cache.environment.__wrapped__())
    monkeypatch.setattr(cache, "toolchain", lambda: "0")
    seen.add(cache.environment.__wrapped__())
    assert len(seen) == 5


def test_damaged_entries_are_replaced(folder):
    kernel = get()
    path = entry(folder)
    whole = path.read_bytes()
    rng = random.Random(0)
    damaged = [whole[:n] for n in (0, 1, 7, 8, 9, 39, 40, 41, 60, len(whole) // 2, len(whole) - 1)]
    damaged += [whole + b"x", b"GFKC0001" * 50, b"\0" * len(whole)]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        fresh()
        del kernel
        with pytest.warns(RuntimeWarning, match="damaged") as caught:
            kernel = get()
        assert len(caught) == 1 and not kernel.from_cache
        check(kernel)
        assert path.read_bytes() == whole
    fresh()
    del kernel
    assert silent_get().from_cache


def test_an_entry_of_another_key_is_a_miss(folder):
    kernels = [get(3)]
    path = entry(folder)
    content = path.read_bytes()
    kernels.append(get(4))
    (other,) = set((folder / "objects").iterdir()) - {path}
    other.write_bytes(content)
    fresh()
    with pytest.warns(RuntimeWarning, match="damaged"):
        check(get(4), 4)


def test_an_entry_that_is_not_a_file_is_replaced(folder, tmp_path):
    get()
    path = entry(folder)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(foreign)
    fresh()
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        check(get())
    assert not path.is_symlink()


def test_files_are_private(folder):
    old = os.umask(0)
    try:
        check(get())
    finally:
        os.umask(old)
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_every_created_level_is_private(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", str(tmp_path / "a" / "b" / "c"))
    fresh()
    old = os.umask(0)
    try:
        check(get())
    finally:
        os.umask(old)
    for level in ("a", "a/b", "a/b/c", "a/b/c/objects"):
        assert stat.S_IMODE((tmp_path / level).stat().st_mode) == 0o700


def unsafe_mode(path):
    path.mkdir(mode=0o700)
    path.chmod(0o777)


def unsafe_group(path):
    path.mkdir(mode=0o700)
    path.chmod(0o770)


def unsafe_link(path):
    real = path.with_name("real")
    real.mkdir(mode=0o700)
    path.symlink_to(real)


def unsafe_file(path):
    path.write_text("")


def unsafe_inside(path):
    path.mkdir(mode=0o700)
    (path / "objects").mkdir(mode=0o700)
    (path / "objects").chmod(0o777)


def unsafe_above(path):
    path.parent.chmod(0o777)


def unsafe_owner(path):
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)


UNSAFE = [
    unsafe_mode,
    unsafe_group,
    unsafe_link,
    unsafe_file,
    unsafe_inside,
    unsafe_above,
    unsafe_owner,
]


@pytest.mark.parametrize("make", UNSAFE)
def test_a_directory_that_others_can_write_is_not_used(tmp_path, monkeypatch, make):
    if make is unsafe_owner and os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    path = tmp_path / "deep" / "cache"
    path.parent.mkdir(mode=0o700)
    make(path)
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", str(path))
    fresh()
    with pytest.warns(RuntimeWarning, match="is off") as caught:
        kept = get_and_check(3, 5)
    assert len(caught) == 1
    assert cache.usage() == {"path": None, "entries": 0, "bytes": 0}
    assert Path(kept.path).read_text() == SOURCE.format(factor=5)
    assert not str(kept.path).startswith(str(path))
    fresh()


def test_off(monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", "off")
    fresh()
    kernel = silent_get()
    check(kernel)
    assert cache.usage()["path"] is None and Path(kernel.path).exists()
    assert stat.S_IMODE(Path(kernel.path).parent.stat().st_mode) == 0o700
    fresh()


def test_where_the_cache_lives(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", "~/here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert object_store.default_root() == tmp_path / "here"
    monkeypatch.delenv("GRAPHFLOW_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert object_store.default_root() == tmp_path / "xdg" / "graphflow"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert object_store.default_root() == tmp_path / ".cache" / "graphflow"
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert object_store.default_root() is None


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS", "EACCES", "EDQUOT", "EIO"])
@pytest.mark.parametrize("call", ["open", "replace"])
def test_a_disk_that_refuses(folder, monkeypatch, error, call):
    import errno

    real = getattr(os, call)

    def fail(path, *args, **kwargs):
        if str(path).startswith(str(folder)):
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)), str(path))
        return real(path, *args, **kwargs)

    silent_get(7)
    fresh()
    monkeypatch.setattr(os, call, fail)
    with pytest.warns(RuntimeWarning) as caught:
        get_and_check(3, 5)
    assert len([w for w in caught if "written" in str(w.message)]) == 1
    monkeypatch.undo()
    assert not list(folder.rglob("*.tmp"))


def test_a_full_disk_for_real(tmp_path):
    """RLIMIT_FSIZE cuts every write of the child short."""
    program = PROGRAM.format(root=IMPORT_ROOT, source=SOURCE.format(factor=3), factor=3)
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    result = subprocess.run(
        [sys.executable, "-c", limit + program],
        env={**os.environ, "GRAPHFLOW_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "True False True\n", result.stderr
    assert not list((tmp_path / "cache" / "objects").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_directory(folder):
    get()
    for path in (folder, folder / "objects", folder / "kernels"):
        path.chmod(0o500)
    fresh()
    assert silent_get().from_cache
    with pytest.warns(RuntimeWarning, match="written"):
        check(get(5), 5)
    for path in (folder, folder / "objects", folder / "kernels"):
        path.chmod(0o700)


def test_processes_race_on_an_empty_cache(folder):
    for round_number in range(2):
        processes = [in_new_process(factor) for factor in (3, 4, 3)]
        for process in processes:
            output, errors = process.communicate()
            assert process.returncode == 0 and output.startswith("True"), errors
    assert len(list((folder / "objects").iterdir())) == 2
    assert not list(folder.rglob("*.tmp"))
    assert silent_get().from_cache and silent_get(4).from_cache


def test_kill_in_the_middle_of_a_write(folder, monkeypatch):
    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        get()
    monkeypatch.undo()
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", str(folder))
    assert not list(folder.rglob("*.tmp"))
    check(silent_get())


def test_orphans_and_the_size_limit(folder, monkeypatch):
    kernels = [get(n) for n in range(3, 9)]
    objects = folder / "objects"
    old, new = objects / ".dead.1.tmp", objects / ".alive.2.tmp"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    ages = {}
    for age, kernel in enumerate(kernels):
        (path,) = [p for p in objects.iterdir() if p.stem == _key(3 + age)]
        ages[path] = age
        os.utime(path, (1e9 + age,) * 2)
        os.utime(kernel.path, (2e9,) * 2)
    store = cache._store()
    store.trim()
    assert not old.exists() and new.exists() and all(path.exists() for path in ages)
    total = store.usage()[1]
    monkeypatch.setattr(object_store, "SIZE_LIMIT", total - 10)
    store.trim()
    kept = sorted(age for path, age in ages.items() if path.exists())
    assert kept and kept == list(range(6 - len(kept), 6)), "the oldest go first"
    assert store.usage()[1] < total - 10


def _key(factor):
    return cache.cache_key(cache.key_parts(SOURCE.format(factor=factor), "scale"))


def test_a_hit_renews_the_entry(folder):
    get()
    path = entry(folder)
    os.utime(path, (1e9, 1e9))
    fresh()
    check(silent_get())
    assert path.stat().st_mtime > time.time() - 100


def test_objects_that_are_not_kernels(folder):
    built = []

    def build():
        built.append(1)
        return jit.compile_kernel(get(3).path, "scale")[0]

    symbol = get(3).symbol
    first = cache.get_object("driver", "v1", [symbol], build)
    assert cache.get_object("driver", "v1", [symbol], build) is first
    address = first[symbol]
    assert address and len(built) == 1
    del first
    fresh()
    assert cache.get_object("driver", "v1", [symbol], build)[symbol] and len(built) == 1
    assert cache.get_object("driver", "v2", [symbol], build)[symbol] and len(built) == 2


def test_a_dropped_kernel_leaves_the_process(folder):
    kernel = get()
    assert len(cache._kernels) == 1
    del kernel
    gc.collect()
    assert len(cache._kernels) == 0


def test_compile_errors_reach_the_caller(folder):
    with pytest.raises(Exception, match="missing"):
        cache.get_kernel("bad", SOURCE.replace("f32({factor}.0)", "missing"), "scale")
    check(silent_get())
