"""Every known way to attack a reader of saved graphs is refused in one line, fast and in little memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from graphflow.cli import main
from graphflow.compiler.errors import GraphFormatError
from graphflow.io import Limits, check, container, load, read_graph
from tests.security.attack_kit import changed, header_text, of_nodes, placeholder, seal
from tests.security.attack_zoo import ATTACKS, GOOD

MEGABYTE = 1 << 20


def refusal(path: Path) -> str:
    """The message with which each way in refuses the file."""
    messages = set()
    for entrance in (check, read_graph, load):
        with pytest.raises(GraphFormatError) as caught:
            entrance(path)
        messages.add(str(caught.value))
    assert len(messages) == 1, messages
    return messages.pop()


def assert_one_line(message: str) -> None:
    """Short, printable, and with the file's name in front."""
    assert message.isascii() and message.isprintable(), message
    assert len(message) <= 400, message
    assert message.startswith("attack.gflow: "), message


def test_the_zoo_is_large_and_its_pattern_is_sound(tmp_path: Path) -> None:
    assert len(ATTACKS) >= 60
    path = tmp_path / "attack.gflow"
    path.write_bytes(GOOD)
    assert check(path).nodes == 7
    assert read_graph(path).structure == {"y": 0, "total": [1]}


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_is_refused(name: str, tmp_path: Path) -> None:
    make, words = ATTACKS[name]
    content = make()
    path = tmp_path / "attack.gflow"
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(GraphFormatError):
        check(path)
    seconds = time.process_time() - start
    # 0.1 s for small files; those of megabytes, within the limits, take what their size takes.
    assert seconds < 0.5 + 2 * len(content) / MEGABYTE
    message = refusal(path)
    assert_one_line(message)
    assert words in message


@pytest.mark.parametrize("command", ["run", "inspect"])
def test_the_command_line_refuses_in_one_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "attack.gflow"
    for name, (make, words) in ATTACKS.items():
        path.write_bytes(make())
        assert main([command, str(path)]) == 1, name
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("graphflow: attack.gflow: "), line
        assert " ".join(words.split()) in line


def test_attacks_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "attack.gflow"
    for name, (make, _) in ATTACKS.items():
        content = make()
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(GraphFormatError):
            check(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 64 * MEGABYTE + 20 * len(content), name


def test_bombs_are_refused_where_memory_is_short(tmp_path: Path) -> None:
    """In a process that may take 256 MB more than it has, as a hard limit of the system."""
    paths = []
    for name in ("fill", "fill_then_sum", "constant_fold", "doubling", "fan_out", "outer_product"):
        paths.append(tmp_path / f"{name}.gflow")
        paths[-1].write_bytes(ATTACKS[f"resources-{name}"][0]())
    paths.append(tmp_path / "sparse.gflow")
    with open(paths[-1], "wb") as file:
        file.write(_sparse(1 << 35))
        file.truncate(len(_sparse(1 << 35)) + (1 << 35))
    script = (
        "import resource, sys\n"
        "from graphflow.io import GraphFormatError, read_graph\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        read_graph(path)\n"
        "    except GraphFormatError as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == len(paths), result.stdout


def _sparse(length: int) -> bytes:
    """A header for a file of zeros that takes no room on the disk."""
    table = {"w": {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}}
    return seal(header_text(table=table), b"")


# ---- what the path may be --------------------------------------------------------------------


def refused_path(path: Path) -> str:
    with pytest.raises(GraphFormatError) as caught:
        check(path)
    return str(caught.value)


def test_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real.gflow").write_bytes(GOOD)
    (tmp_path / "link.gflow").symlink_to(tmp_path / "real.gflow")
    assert "symbolic link" in refused_path(tmp_path / "link.gflow")


def test_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gflow")
    assert "a pipe" in refused_path(tmp_path / "pipe.gflow")


def test_device() -> None:
    assert "a device" in refused_path(Path("/dev/zero"))


def test_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "socket" in refused_path(tmp_path / "s")


def test_folder(tmp_path: Path) -> None:
    assert "a folder" in refused_path(tmp_path)


def test_name_with_control_characters(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1b[31m\u202e.gflow"
    path.write_bytes(b"")
    assert refused_path(path).isprintable()


def test_missing_file_is_no_format_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check(tmp_path / "none.gflow")


def test_refusals_leave_no_open_file(tmp_path: Path) -> None:
    path = tmp_path / "attack.gflow"
    before = len(os.listdir("/proc/self/fd"))
    for name in ("envelope-empty", "metadata-format_2", "form-op_unknown", "metadata-data_flipped"):
        path.write_bytes(ATTACKS[name][0]())
        refusal(path)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- a file that changes while it is read ----------------------------------------------------


@pytest.mark.parametrize("change", ["shorter", "other bytes"])
def test_file_changes_after_the_header(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "attack.gflow"
    path.write_bytes(GOOD)
    verified = container.ContainerFile.verified_data

    def tampering(self: container.ContainerFile, pin: str | None = None):  # type: ignore[no-untyped-def]
        with open(path, "r+b") as file:
            if change == "shorter":
                file.truncate(len(GOOD) - 8)
            else:
                file.seek(len(GOOD) - 4)
                file.write(b"evil")
        return verified(self, pin)

    monkeypatch.setattr(container.ContainerFile, "verified_data", tampering)
    with pytest.raises(GraphFormatError, match="shorter|checksum"):
        read_graph(path)


def test_pin(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "attack.gflow"
    path.write_bytes(GOOD)
    right = hashlib.sha256(GOOD).hexdigest()
    for entrance in (check, read_graph):
        entrance(path, sha256=right)
        entrance(path, sha256=right.upper())
        with pytest.raises(GraphFormatError, match="sha256 is"):
            entrance(path, sha256="0" * 64)
    read_graph(path, sha256=right, mmap=True)
    with pytest.raises(GraphFormatError, match="sha256 is"):
        read_graph(path, sha256="0" * 64, mmap=True)


# ---- what the caller decides -----------------------------------------------------------------


def test_allowed_ops_come_before_shapes(tmp_path: Path) -> None:
    path = tmp_path / "attack.gflow"
    path.write_bytes(of_nodes([placeholder(3), ["reshape", [0], {"shape": [-7]}]]))
    with pytest.raises(GraphFormatError, match="'reshape' is not among the allowed ops"):
        check(path, allowed_ops={"placeholder"})
    path.write_bytes(GOOD)
    names = set(check(path).ops)
    check(path, allowed_ops=names)
    for name in names:
        with pytest.raises(GraphFormatError, match=f"'{name}' is not among"):
            check(path, allowed_ops=names - {name})


def test_only_the_caller_raises_limits(tmp_path: Path) -> None:
    path = tmp_path / "attack.gflow"
    path.write_bytes(of_nodes([placeholder(1 << 40)]))
    with pytest.raises(GraphFormatError, match="raise it with limits"):
        check(path)
    assert check(path, limits=Limits(memory=1 << 50)).memory == 4 << 40
    with pytest.raises(GraphFormatError, match="the header's length"):
        check(path, limits=Limits(header=100))


def test_no_limit_allows_a_header_of_100_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "attack.gflow"
    with open(path, "wb") as file:
        file.write((100_000_056).to_bytes(8, "little") + b"{")
        file.truncate(200_000_000)
    with pytest.raises(GraphFormatError, match="impossible"):
        check(path, limits=Limits(header=1 << 40))


def test_strings_reach_no_kernel_source(tmp_path: Path) -> None:
    """Names that a file may hold stay out of the code that is generated for it."""
    from graphflow.compiler.pipeline import compile_graph

    canary = "canary.0-7/x:y"

    def rename(document: dict) -> None:  # type: ignore[type-arg]
        document["strings"] = [canary + "a", canary + "b", "canary.py:3", canary + "c"]
        document["name"] = canary

    path = tmp_path / "attack.gflow"
    path.write_bytes(changed(rename))
    program = compile_graph(read_graph(path).graph, "f").program
    for kernel in program.kernels:
        code = [line for line in kernel.source.splitlines() if not line.lstrip().startswith("#")]
        assert "canary" not in "\n".join(code)


def test_mapped_arrays_are_private(tmp_path: Path) -> None:
    path = tmp_path / "attack.gflow"
    path.write_bytes(GOOD)
    saved = read_graph(path, mmap=True)
    for array in saved.values.values():
        array += 1
    assert path.read_bytes() == GOOD
    np.testing.assert_array_equal(next(iter(read_graph(path).values.values())), np.zeros(3))
