"""The calls to the operating system that saving, loading and logging make, and how their errors are told.

All of them go through `system`, looked up in this module at each call, so that tests can make any of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from pecs_np.errors import PecsError, PersistenceIOError
from pecs_np.messages import shown

__all__ = [
    "FLAGS",
    "MOST_AT_ONCE",
    "PathLike",
    "System",
    "has_suffix",
    "named",
    "printable",
    "reporting",
    "system",
]

PathLike = str | os.PathLike[str]

# Linux reads and writes at most 2 GiB - 4 KiB in one call.
MOST_AT_ONCE = 1 << 30
# Of every file that is opened.
FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def _fsync(descriptor: int) -> None:
    """Flush a file to the disk; on macOS that takes more than fsync."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined, unused-ignore]
    except (ImportError, AttributeError):
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            raise
        os.fsync(descriptor)


def _nothing(*_: object) -> None:
    """Do nothing, where the system has no such call."""


def _no_links(_source: str, _target: str) -> None:
    raise OSError(errno.ENOTSUP, "this system has no hard links")


_position = threading.Lock()


def _read_at(descriptor: int, view: memoryview, offset: int) -> int:
    """Read some bytes from *offset* into *view* and return how many; any thread may."""
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [view], offset)
    with _position:
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, min(len(view), 1 << 20))
    view[: len(data)] = data
    return len(data)


def _lock(descriptor: int) -> None:
    """Lock a file for this process, or raise where another has; closing it, or ending, unlocks it."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        import msvcrt  # noqa: PLC0415 - only there

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class System:
    """The calls to the operating system that saving, loading and logging make."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    read_at = staticmethod(_read_at)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    allocate = staticmethod(getattr(os, "posix_fallocate", None) or _nothing)
    fsync = staticmethod(_fsync)
    truncate = staticmethod(os.ftruncate)
    lock = staticmethod(_lock)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.stat)
    chmod = staticmethod(getattr(os, "fchmod", None) or _nothing)
    link = staticmethod(getattr(os, "link", None) or _no_links)
    replace = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)
    sleep = staticmethod(time.sleep)


system = System()


@contextlib.contextmanager
def reporting(doing: str, path: PathLike) -> Iterator[None]:
    """Turn an OSError of the block into a `PersistenceIOError` that says what was being done to *path*.

    A path that no system call takes is one too.
    """
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise PersistenceIOError(
            f"{doing} a file failed: expected a path, found {shown(path)}",
            suggestion="pass a str, a pathlib.Path or an open file",
        ) from None
    try:
        if b"\0" in os.fsencode(name):
            raise OSError("a path holds no null character")
        yield
    except PecsError:
        raise
    except (OSError, UnicodeEncodeError) as error:
        raise PersistenceIOError(
            f"{doing} {printable(name)!r} failed: {getattr(error, 'strerror', None) or error}",
            errno=getattr(error, "errno", None),
            filename=name,
        ) from error


def printable(name: str) -> str:
    """Return *name* as text that any terminal or file takes: file names may be any bytes."""
    return name.encode(errors="backslashreplace").decode()


def named(path: Any) -> str:
    """Return what messages call a path, or whatever stands in its place."""
    try:
        return printable(os.fsdecode(path))
    except TypeError:
        return shown(path)


def has_suffix(path: Any, suffix: str) -> bool:
    """Tell whether *path* is a path that ends with *suffix*, in lower case or upper."""
    try:
        return os.fsdecode(path).lower().endswith(suffix)
    except TypeError:
        return False
