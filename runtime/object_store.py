"""Turns keys into checksummed files in a directory that only this user can write.

    <root>/objects/<key>.gfk   GFKC0001 | sha256(key + body) | body
    <root>/kernels/<name>.py   source text, for editors, tracebacks and profilers

The bodies are machine code that this process will run. So the directory must belong to this user,
be writable by no one else and be no symbolic link; and an entry counts only if its checksum covers
exactly the key that is asked for. Any doubt is a miss. No method raises because of the file
system: what cannot be stored is not stored, with one warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

MAGIC = b"GFKC0001"
HEADER_BYTES = len(MAGIC) + 32
SIZE_LIMIT = 2 << 30
ORPHAN_SECONDS = 3600.0
# A hit renews the entry's time for the eviction order, at most this often.
RENEW_SECONDS = 86400.0
WRITES_BETWEEN_TRIMS = 64


def default_root() -> Path | None:
    """Where the cache lives: $GRAPHFLOW_CACHE_DIR, or graphflow in the user's cache folder.

    None if the variable says `off` or if this user has no folder to keep a cache in.
    """
    chosen = os.environ.get("GRAPHFLOW_CACHE_DIR", "")
    if chosen == "off":
        return None
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    # The XDG rules say that a relative path is to be ignored.
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(base):
            return Path(base) / "graphflow"
    return None


def make_private(path: Path) -> None:
    """Create a directory and its missing parents, each with mode 0700, and check the last.

    Raises:
        OSError: it cannot be made, or someone else could write in it.
    """
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = path.parent
    target = missing[0] if missing else path
    for level in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.mkdir(level, 0o700)
    found = os.stat(target, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{target} is not a directory, or is a symbolic link")
    if not hasattr(os, "geteuid"):
        return
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{target} belongs to another user")
    if found.st_mode & 0o022:
        raise PermissionError(f"{target} can be written by other users")
    for ancestor in target.resolve().parents:
        mode = os.stat(ancestor).st_mode
        # Whoever can rename a directory above can put another one in its place.
        if mode & 0o002 and not mode & stat.S_ISVTX:
            raise PermissionError(f"{ancestor}, above {target}, can be written by everyone")


class ObjectStore:
    """The files of one cache directory. `root` None, or a directory not private, stores nothing."""

    def __init__(self, root: Path | None) -> None:
        self.root = root
        self.errors = 0
        self._writes = 0
        self._warned: set[str] = set()
        if root is None:
            return
        try:
            for directory in (root, root / "objects", root / "kernels"):
                make_private(directory)
        except OSError as error:
            self.root = None
            self._warn(f"kernel cache {root} is off: {error}")

    def read(self, key: str) -> bytes | None:
        """The body stored under a key, or None. A damaged entry warns, and the next write heals."""
        if self.root is None:
            return None
        path = self._entry(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
            with os.fdopen(descriptor, "rb") as file:
                content, written = file.read(), os.fstat(descriptor).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(f"kernel cache entry {path.name} cannot be read ({error}); compiling")
            return None
        body = content[HEADER_BYTES:]
        if content[:HEADER_BYTES] != MAGIC + _checksum(key, body):
            self._warn(f"kernel cache entry {path.name} is damaged; compiling it again")
            return None
        if time.time() - written > RENEW_SECONDS:
            self._quietly(os.utime, path)
        return body

    def write(self, key: str, body: bytes) -> None:
        """Store a body; readers see the old entry, none, or all of the new one."""
        if self.root is None:
            return
        self._write_file(self._entry(key), MAGIC + _checksum(key, body) + body)
        if self._writes % WRITES_BETWEEN_TRIMS == 0:
            self.trim()
        self._writes += 1

    def write_source(self, name: str, text: str) -> Path | None:
        """Store source text as kernels/<name>.py and give its path; None if that is not possible."""
        if self.root is None:
            return None
        path, encoded = self.root / "kernels" / f"{name}.py", text.encode()
        # Unreadable is as good as absent: it is written anew.
        with contextlib.suppress(OSError):
            if not path.is_symlink() and path.read_bytes() == encoded:
                return path
        return path if self._write_file(path, encoded) else None

    def trim(self) -> None:
        """Remove temporary files of dead processes, and the least recently used beyond the limit."""
        now, files = time.time(), []
        for path, found in self._files():
            if path.suffix != ".tmp":
                files.append((found.st_mtime, found.st_size, path))
            elif now - found.st_mtime > ORPHAN_SECONDS:
                self._quietly(os.unlink, path)
        excess = sum(size for _, size, _ in files) - SIZE_LIMIT
        if excess <= 0:
            return
        # Some room to spare, so that the next write does not trim again.
        excess += SIZE_LIMIT // 10
        for _, size, path in sorted(files):
            if excess <= 0:
                return
            self._quietly(os.unlink, path)
            excess -= size

    def clear(self) -> None:
        """Remove every entry and every source file."""
        for path, _ in self._files():
            self._quietly(os.unlink, path)

    def usage(self) -> tuple[int, int]:
        """Number of entries, and bytes in all files."""
        files = list(self._files())
        entries = sum(path.suffix == ".gfk" for path, _ in files)
        return entries, sum(found.st_size for _, found in files)

    def _entry(self, key: str) -> Path:
        assert self.root is not None
        return self.root / "objects" / f"{key}.gfk"

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        root = self.root
        for folder in [root / "objects", root / "kernels"] if root is not None else []:
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                            yield Path(entry.path), entry.stat(follow_symlinks=False)
            except OSError as error:
                self._warn(f"kernel cache {folder} cannot be listed ({error})")

    def _write_file(self, path: Path, content: bytes) -> bool:
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.{uuid.uuid4().hex[:12]}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                os.replace(temporary, path)
            except BaseException:
                self._quietly(os.unlink, temporary)
                raise
        except OSError as error:
            self._warn(f"kernel cache {self.root} cannot be written ({error})", once="write")
            return False
        return True

    def _quietly(self, function: object, path: Path) -> None:
        """A file operation whose failure changes nothing that matters, such as losing a race."""
        try:
            function(path)  # type: ignore[operator]
        except OSError:
            self.errors += 1

    def _warn(self, message: str, once: str | None = None) -> None:
        self.errors += 1
        if (once or message) not in self._warned:
            self._warned.add(once or message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)


_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def _checksum(key: str, body: bytes) -> bytes:
    return hashlib.sha256(key.encode() + body).digest()
