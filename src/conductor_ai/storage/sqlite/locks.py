"""Rights that die with the process: POSIX record locks on one file, one byte per name.

POSIX drops every lock a process holds on a file as soon as the process closes *any* descriptor of it, and never makes
two holders in one process exclude each other. So all stores of a process share one descriptor per file, and a table
of what this process holds stands before the system's own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from conductor_ai.errors import StoreUnavailable

# `struct flock` of 64-bit Linux: type, whence, start, length, pid. Elsewhere the holder stays unnamed.
_FLOCK = "hhqqi4x" if sys.platform == "linux" and sys.maxsize > 2**32 else None

SETUP = "setup"  # no session has this id


@dataclass(slots=True)
class _LockFile:
    path: str
    fd: int
    pid: int
    users: int = 0
    held: set[int] = field(default_factory=set)


_files: dict[str, _LockFile] = {}
_guard = threading.Lock()


class FileLocks:
    """Locks on the file at `path`, which is created with mode 0600. Raises: OSError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self._mine: set[int] = set()
        self._closed = False
        with _guard:
            self._file = _shared(os.path.realpath(path))
            self._file.users += 1

    def try_lock(self, name: str) -> bool:
        """Take the lock called `name`; False where anybody holds it, this object included.

        Raises: StoreUnavailable after `close`, OSError where the system gives no locks on this file.
        """
        offset = _offset(name)
        with _guard:
            self._require_open()
            if self._file.pid != os.getpid():
                raise RuntimeError("a store does not survive fork: open another in the child")
            if offset in self._file.held:
                return False
            try:
                fcntl.lockf(self._file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
            except (BlockingIOError, PermissionError):  # POSIX allows EAGAIN and EACCES
                return False
            self._file.held.add(offset)
            self._mine.add(offset)
            return True

    def holder(self, name: str) -> int | None:
        """The process that holds the lock called `name`; None where nobody does, or the system does not say who.

        True of the moment of the call: the lock may change hands before the caller reads the answer. Another host's
        process, or one outside this container, holds the lock but has no number here: None.
        Raises: as `try_lock`.
        """
        offset = _offset(name)
        with _guard:
            self._require_open()
            if offset in self._file.held:
                return os.getpid()
            if _FLOCK is None:
                return None
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(self._file.fd, fcntl.F_GETLK, asked))
            return None if kind == fcntl.F_UNLCK or pid <= 0 else int(pid)

    def unlock(self, name: str) -> None:
        """Give the lock back; nothing happens where this object does not hold it."""
        offset = _offset(name)
        with _guard:
            if offset in self._mine:
                self._release(offset)

    def close(self) -> None:
        """Give back what this object holds, and nothing that others do."""
        with _guard:
            if self._closed:
                return
            self._closed = True
            for offset in tuple(self._mine):
                self._release(offset)
            self._file.users -= 1
            if self._file.users == 0:
                os.close(self._file.fd)
                if _files.get(self._file.path) is self._file:
                    del _files[self._file.path]

    def _require_open(self) -> None:
        if self._closed:  # the descriptor's number may be another file's by now
            raise StoreUnavailable(f"{self._file.path} was closed")

    def _release(self, offset: int) -> None:
        fcntl.lockf(self._file.fd, fcntl.LOCK_UN, 1, offset)
        self._mine.discard(offset)
        self._file.held.discard(offset)


def _shared(path: str) -> _LockFile:
    file = _files.get(path)
    if file is None or file.pid != os.getpid():  # a forked child inherits the table, but none of the locks
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = _files[path] = _LockFile(path, fd, os.getpid())
    return file


def _offset(name: str) -> int:
    """62 bits of the name's hash: two names meet once in 4e18, and then one waits for the other."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]) >> 2
