"""The container: one valid safetensors file, written wholly or not at all, canonical."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphflow.compiler.errors import GraphFormatError
from graphflow.io import Limits, atomic_file, container, strict_json
from graphflow.io.arrays import aligned_empty, contents, map_arrays, read_arrays, specs_of
from graphflow.io.atomic_file import remove_orphans, replace_file
from graphflow.io.container import encode_header, open_container, order_tensors, write_container

LIMITS = Limits()
CODES = {"F32": "<f4", "F64": "<f8", "I64": "<i8", "BOOL": "?", "U8": "u1", "I16": "<i2"}


def write(path: Path, arrays: dict[str, np.ndarray], **user: str) -> bytes:
    """A container with these arrays and an arbitrary graph text."""
    codes = {np.dtype(text): code for code, text in CODES.items()}
    entries = order_tensors({n: (codes[a.dtype], a.shape) for n, a in arrays.items()})
    header = encode_header(entries, '{"a":1}', "graphflow 0", {f"user.{k}": user[k] for k in user})
    write_container(path, header, contents(arrays[e.name] for e in entries))
    return path.read_bytes()


def sample_arrays(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "b/scale": rng.normal(size=(3,)),
        "flags": rng.random(5) < 0.5,
        "w": rng.normal(size=(8, 16)).astype("f4"),
        "none": np.zeros((0, 4), "f4"),
        "step": np.array(7, "i8"),
        "bytes": rng.integers(0, 255, size=(3, 1, 3)).astype("u1"),
        "short": rng.integers(-5, 5, size=7).astype("i2"),
    }


# ---- the form --------------------------------------------------------------------------------


def test_round_trip_copied_and_mapped(tmp_path: Path) -> None:
    arrays = sample_arrays()
    write(tmp_path / "c", arrays)
    for read in (read_arrays, map_arrays):
        with open_container(tmp_path / "c", LIMITS) as file:
            got = read(file, None)
        assert got.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(got[name], array)
            assert got[name].dtype == array.dtype and got[name].shape == array.shape
            assert got[name].flags.writeable and got[name].ctypes.data % 64 == 0 or not array.size


def test_is_what_the_safetensors_document_says(tmp_path: Path) -> None:
    """An independent reader of the public format, a few lines, gets the same arrays."""
    arrays = sample_arrays()
    raw = write(tmp_path / "c", arrays, note="hello")
    length = int.from_bytes(raw[:8], "little")
    assert (8 + length) % 64 == 0 and raw[8 : 8 + length].rstrip(b" ").endswith(b"}")
    header = json.loads(raw[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert metadata["user.note"] == "hello" and all(type(v) is str for v in metadata.values())
    data = raw[8 + length :]
    for name, row in header.items():
        begin, end = row["data_offsets"]
        got = np.frombuffer(data[begin:end], CODES[row["dtype"]]).reshape(row["shape"])
        np.testing.assert_array_equal(got, arrays[name])
    ends = sorted(row["data_offsets"] for row in header.values())
    assert [b for b, _ in ends] == [0, *(e for _, e in ends[:-1])] and ends[-1][1] == len(data)


def test_safetensors_itself_reads_it(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = sample_arrays()
    write(tmp_path / "c", arrays)
    for name, array in safetensors.load_file(tmp_path / "c").items():
        np.testing.assert_array_equal(array, arrays[name])


def test_same_content_same_bytes(tmp_path: Path) -> None:
    arrays = sample_arrays()
    first = write(tmp_path / "a", arrays, x="1", y="2")
    shuffled = dict(reversed(arrays.items()))
    assert write(tmp_path / "b", shuffled, y="2", x="1") == first


def test_views_and_strides_are_stored_dense(tmp_path: Path) -> None:
    base = np.arange(24, dtype="f4").reshape(4, 6)
    arrays = {"a": base[::-1, ::2], "b": base.T, "c": np.asfortranarray(base)}
    write(tmp_path / "c", arrays)
    with open_container(tmp_path / "c", LIMITS) as file:
        got = read_arrays(file, None)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)


def test_changing_any_byte_is_noticed(tmp_path: Path) -> None:
    raw = write(tmp_path / "c", sample_arrays(), note="hello")
    rng = random.Random(0)
    for _ in range(300):
        broken = bytearray(raw)
        broken[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        (tmp_path / "c").write_bytes(broken)
        with pytest.raises(GraphFormatError), open_container(tmp_path / "c", LIMITS) as file:
            specs_of(file.header)
            read_arrays(file, None)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    raw = write(tmp_path / "c", sample_arrays())
    for length in [*range(0, len(raw), 37), len(raw) - 1]:
        (tmp_path / "c").write_bytes(raw[:length])
        with pytest.raises(GraphFormatError), open_container(tmp_path / "c", LIMITS) as file:
            read_arrays(file, None)


def test_bool_that_is_no_bool_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(GraphFormatError, match="expected 0 or 1"):
        write(tmp_path / "c", {"b": np.array([0, 2], "u1").view("?")})


def test_aligned_empty_sizes() -> None:
    for shape in [(), (0,), (5,), (3, 0, 2), (2, 3)]:
        array = aligned_empty(shape, np.dtype("f8"))
        assert array.shape == shape and array.flags.c_contiguous


# ---- strict JSON -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":2}', "NaN", "[Infinity]", "-Infinity", "1e400", "9" * 21, "0." + "1" * 30,
     "[1,]", "{'a':1}", "[1", "01", '"\t"', "", " ", "[" * 33 + "]" * 33, "\ufeff1", "nul"],
)  # fmt: skip
def test_json_refused(text: str) -> None:
    with pytest.raises(GraphFormatError) as caught:
        strict_json.parse(text.encode(), LIMITS, "it")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.5, -0.0, 1e-300, 2**63, -(2**63), True, None, "é\u2028", '"\\[{', [], {}, [[[]]],
     {"a": [1, {"b": "]"}], "c": "}{"}],
)  # fmt: skip
def test_json_round_trip(value: Any) -> None:
    text = strict_json.canonical(value)
    got = strict_json.parse(text.encode(), LIMITS, "it")
    assert got == value and strict_json.canonical(got) == text


def test_json_nesting_is_exact() -> None:
    limits = Limits(nesting=5)
    strict_json.parse(b"[" * 5 + b"]" * 5, limits, "it")
    strict_json.parse(b'{"a":[{"b":[{}]}]}', limits, "it")
    with pytest.raises(GraphFormatError, match="nested"):
        strict_json.parse(b'{"a":[{"b":[{"c":[]}]}]}', limits, "it")


def test_json_depth_needs_no_recursion_limit() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        with pytest.raises(GraphFormatError, match="nested"):
            strict_json.parse(b"[" * 10**6 + b"]" * 10**6, LIMITS, "it")
    finally:
        sys.setrecursionlimit(before)


# ---- writing: wholly or not at all -----------------------------------------------------------


class FailingOs:
    """The os module, except that the n-th call of a system function raises."""

    NAMES = ("open", "write", "lseek", "fsync", "fchmod", "replace", "fstat", "lstat", "listdir",
             "close")  # fmt: skip

    def __init__(self, fail_at: int, code: int):
        self.fail_at, self.code, self.count = fail_at, code, 0
        self.failed = ""

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.NAMES:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.fail_at:
                self.failed = name
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EINTR, errno.EROFS])
def test_every_failing_system_call_keeps_a_good_file(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write(tmp_path / "c", sample_arrays(1))
    failures = []
    for fail_at in range(1, 1000):
        fake = FailingOs(fail_at, code)
        monkeypatch.setattr(atomic_file, "os", fake)
        raised = False
        try:
            write(tmp_path / "c", sample_arrays(2))
        except OSError as error:
            assert error.errno == code
            raised = True
        monkeypatch.setattr(atomic_file, "os", os)
        now = (tmp_path / "c").read_bytes()
        with open_container(tmp_path / "c", LIMITS) as file:
            read_arrays(file, None)
        assert os.listdir(tmp_path) == ["c"], fake.failed
        if not fake.failed:
            break
        failures.append(fake.failed)
        # Only what comes after the rename may fail with the new file in place.
        assert not raised or now == old or "replace" in failures[:-1], fake.failed
        replace_file(tmp_path / "c", [old])
    assert {"open", "write", "fsync", "replace"} <= set(failures)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    class ShortOs(FailingOs):
        def __getattr__(self, name: str) -> Any:
            if name == "write":
                return lambda descriptor, content: real(descriptor, content[:7])
            return super().__getattr__(name)

    expected = write(tmp_path / "a", sample_arrays())
    monkeypatch.setattr(atomic_file, "os", ShortOs(0, 0))
    assert write(tmp_path / "b", sample_arrays()) == expected


def test_error_while_producing_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"old")

    def chunks() -> Any:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "c", chunks())
    assert (tmp_path / "c").read_bytes() == b"old" and os.listdir(tmp_path) == ["c"]


def test_order_of_durability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content reaches the disk before the name, and the name before success is reported."""
    calls: list[str] = []

    class LoggingOs(FailingOs):
        def __getattr__(self, name: str) -> Any:
            if name in ("write", "fsync", "replace"):
                calls.append(name)
            return super().__getattr__(name)

    monkeypatch.setattr(atomic_file, "os", LoggingOs(0, 0))
    replace_file(tmp_path / "c", [b"abc"])
    assert calls == ["write", "fsync", "replace", "fsync"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_files_are_replaced(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "c"
    {
        "link": lambda: target.symlink_to("elsewhere"),
        "folder": target.mkdir,
        "pipe": lambda: os.mkfifo(target),
    }[kind]()
    with pytest.raises(GraphFormatError, match=f"is a (symbolic )?{kind}"):
        write(target, sample_arrays())


def test_permissions_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "c", sample_arrays())
    os.chmod(tmp_path / "c", 0o600)
    write(tmp_path / "c", sample_arrays())
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600


def test_names_of_any_length_and_kind(tmp_path: Path) -> None:
    for name in ["a" * 255, "ü" * 127, ".hidden", "with space[*]?", "a.tmp"]:
        write(tmp_path / name, sample_arrays())
        assert (tmp_path / name).exists()
    assert len(os.listdir(tmp_path)) == 5


# ---- orphans ---------------------------------------------------------------------------------


def test_orphans_go_and_others_stay(tmp_path: Path) -> None:
    orphan = tmp_path / f".c.{'0' * 16}.tmp"
    strangers = [".c.tmp", f".d.{'0' * 16}.tmp", f".c.{'g' * 16}.tmp", f"c.{'0' * 16}.tmp"]
    for name in [orphan.name, *strangers]:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f".c.{'1' * 16}.tmp").mkdir()
    assert remove_orphans(tmp_path / "c") == [orphan.name]
    assert not orphan.exists() and all((tmp_path / name).exists() for name in strangers)


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    seen = []

    def chunks() -> Any:
        yield b"first"
        seen.extend(remove_orphans(tmp_path / "c"))
        yield b"second"

    replace_file(tmp_path / "c", chunks())
    assert seen == [] and (tmp_path / "c").read_bytes() == b"firstsecond"


def test_orphans_without_locks_go_by_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_file, "_lock", lambda descriptor: None)
    orphan = tmp_path / f".c.{'0' * 16}.tmp"
    orphan.write_bytes(b"x")
    assert remove_orphans(tmp_path / "c") == []
    long_ago = time.time() - atomic_file.ORPHAN_AGE - 10
    os.utime(orphan, (long_ago, long_ago))
    assert remove_orphans(tmp_path / "c") == [orphan.name]


def test_a_pipe_named_like_an_orphan_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f".c.{'0' * 16}.tmp")
    assert remove_orphans(tmp_path / "c") == []


def test_a_temporary_that_is_always_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_file, "_lock", lambda descriptor: False)
    with pytest.raises(OSError, match="removed as soon"):
        replace_file(tmp_path / "c", [b""])


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_file, "fcntl", None)
    replace_file(tmp_path / "c", [b"a"])
    replace_file(tmp_path / "c", [b"b"])
    assert (tmp_path / "c").read_bytes() == b"b" and os.listdir(tmp_path) == ["c"]


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        def flock(self, descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic_file, "fcntl", NoLocks())
    replace_file(tmp_path / "c", [b"a"])
    assert (tmp_path / "c").read_bytes() == b"a"


def test_many_writers_one_path(tmp_path: Path) -> None:
    """Writers and cleaners race; the file is always one of theirs, and nothing is left."""
    contents_of = [bytes([k]) * 100_000 for k in range(6)]

    def work(content: bytes) -> None:
        for _ in range(20):
            replace_file(tmp_path / "c", [content])
            assert (tmp_path / "c").read_bytes() in contents_of

    with ThreadPoolExecutor(len(contents_of)) as pool:
        list(pool.map(work, contents_of))
    assert os.listdir(tmp_path) == ["c"]


WRITER = """
import sys
import numpy as np
from graphflow.io.container import encode_header, order_tensors, write_container
step = 0
while True:
    step += 1
    array = np.full(500_000, step)
    header = encode_header(order_tensors({"w": ("I64", array.shape)}), "{}", "graphflow 0", {})
    write_container(sys.argv[1], header, [memoryview(array.view(np.uint8))])
    if step == 1:
        print("go", flush=True)
"""


def test_kill_9_while_saving(tmp_path: Path) -> None:
    """A writer killed at 30 random moments never leaves an unreadable or torn file."""
    rng = random.Random(0)
    path = tmp_path / "c"
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None and process.stdout.readline() == b"go\n"
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.wait()
        process.stdout.close()
        with open_container(path, LIMITS) as file:
            array = read_arrays(file, None)["w"]
        assert array.size == 500_000 and (array == array[0]).all()
    replace_file(path, [b""])
    assert os.listdir(tmp_path) == ["c"]


def test_full_disk_for_real(tmp_path: Path) -> None:
    """The system's own limit on file size, in a child."""
    old = write(tmp_path / "c", {"w": np.zeros(10)})
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import numpy as np\n"
        "from graphflow.io.atomic_file import replace_file\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try:\n"
        "    replace_file(sys.argv[1], [bytes(20000)])\n"
        "except OSError as error:\n"
        "    print(error.errno)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c")],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert result.stdout.strip() == str(errno.EFBIG), result.stderr
    assert (tmp_path / "c").read_bytes() == old and os.listdir(tmp_path) == ["c"]


def test_header_that_no_reader_would_take_is_measured() -> None:
    with pytest.raises(GraphFormatError, match="the number of values"):
        strict_json.parse(b"[" + b"0," * 100 + b"0]", Limits(values=50), "it")
    assert container.is_name("dense/kernel:0") and not container.is_name("a/../b")
