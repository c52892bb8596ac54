"""Bytes to a file that is wholly there or not at all: temporary file, fsync, rename, fsync(folder).

A writer holds a lock on its temporary file. A killed writer leaves the file behind without the
lock, so the next writer to the same path knows it for an orphan and removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from graphflow.compiler.errors import GraphFormatError

try:
    import fcntl
except ImportError:  # Windows: orphans are then told by their age alone
    fcntl = None  # type: ignore[assignment]

Buffer = bytes | bytearray | memoryview

#: seconds after which a temporary file that cannot be locked counts as an orphan
ORPHAN_AGE = 3600
#: bytes of a file name; the usual limit of file systems
_LONGEST_NAME = 255
_CHUNK = 1 << 22
_ATTEMPTS = 8


def replace_file(
    path: str | os.PathLike[str],
    chunks: Iterable[Buffer],
    finish: Callable[[], tuple[int, bytes]] | None = None,
) -> None:
    """Write `chunks` to `path`, replacing a file there; on any error the old file stays.

    Args:
        chunks: the content, in order.
        finish: called after the last chunk; gives (offset, bytes) to write over what is there,
            for a checksum that stands before the data.

    Raises:
        GraphFormatError: `path` is a link, a device or a folder.
        OSError: the file cannot be written.
    """
    target = os.path.abspath(os.fspath(path))
    folder, name = os.path.split(target)
    mode = _mode_of(target)
    remove_orphans(target)
    with _temporary(folder, name) as (descriptor, temporary):
        if mode is not None and fcntl is not None:
            os.fchmod(descriptor, mode)  # whoever could not read the old file cannot read this
        for chunk in chunks:
            _write_all(descriptor, memoryview(chunk).cast("B"))
        if finish is not None:
            offset, content = finish()
            os.lseek(descriptor, offset, os.SEEK_SET)
            _write_all(descriptor, memoryview(content))
        os.fsync(descriptor)
        if fcntl is None:  # Windows renames closed files only
            os.close(descriptor)
            os.replace(temporary, target)
        else:
            os.replace(temporary, target)
            os.close(descriptor)
    _sync_folder(folder)


def remove_orphans(path: str | os.PathLike[str]) -> list[str]:
    """Remove temporary files that killed writers of `path` left; the names of those removed."""
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    pattern = re.compile(re.escape(_stem(name)) + r"\.[0-9a-f]{16}\.tmp")
    removed = []
    try:
        entries = sorted(e for e in os.listdir(folder) if pattern.fullmatch(e))
    except OSError:
        return []  # an unreadable folder shows no orphans; writing may still be allowed
    for entry in entries:
        # Another process may remove it first, or own it: then it is not ours to remove.
        with contextlib.suppress(OSError):
            if _remove_if_orphan(os.path.join(folder, entry)):
                removed.append(entry)
    return removed


def _remove_if_orphan(path: str) -> bool:
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return False
        locked = _lock(descriptor)
        old = time.time() - status.st_mtime >= ORPHAN_AGE
        if locked is False or (locked is None and not old):
            return False
        os.unlink(path)
        return True
    finally:
        os.close(descriptor)


def _stem(name: str) -> str:
    """Begin of the temporary names of `name`; long names are cut so that the suffix fits."""
    encoded = os.fsencode(name)[: _LONGEST_NAME - len(".") - len(".0123456789abcdef.tmp")]
    return "." + os.fsdecode(encoded)


@contextlib.contextmanager
def _temporary(folder: str, name: str) -> Iterator[tuple[int, str]]:
    """A new locked file as (descriptor, path), which the block closes; removed if it fails."""
    path = ""
    descriptor = -1
    try:
        for _ in range(_ATTEMPTS):
            path = os.path.join(folder, f"{_stem(name)}.{os.urandom(8).hex()}.tmp")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
            # A cleaner may have come between open and lock: the file is then its to remove.
            if _lock(descriptor) is not False and os.fstat(descriptor).st_nlink:
                break
            os.close(descriptor)
            descriptor = -1
        else:
            raise OSError(f"{folder}: temporary files are removed as soon as they are made")
        yield descriptor, path
    except BaseException:
        # The first error is the one to report, and the file may be gone already.
        for clean in (lambda: os.close(descriptor), lambda: os.unlink(path)):
            with contextlib.suppress(OSError):
                clean()
        raise


def _lock(descriptor: int) -> bool | None:
    """Take the lock of an open file; False where another holds it, None without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None  # some network file systems
    return True


def _write_all(descriptor: int, content: memoryview) -> None:
    for begin in range(0, len(content), _CHUNK):
        rest = content[begin : begin + _CHUNK]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _mode_of(path: str) -> int | None:
    """Permissions of the file that is to be replaced; None where there is none."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise GraphFormatError(
            f"{os.path.basename(path)} exists and is {kind_of(mode)}, not a file"
        )
    return stat.S_IMODE(mode) & 0o777


def kind_of(mode: int) -> str:
    """What a path is, for messages."""
    kinds: list[tuple[Callable[[int], bool], str]] = [
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ]
    return next((text for test, text in kinds if test(mode)), "a device")


def _sync_folder(folder: str) -> None:
    """Make the rename itself durable."""
    if os.name == "nt":
        return  # Windows gives no descriptor of a folder
    descriptor: Any = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
