"""Every byte that this library writes to disk passes here: the old file or the new one, nothing in between.

A save is written to a new file beside its target, flushed to the disk, and renamed over it; the
rename is flushed with the directory. Where anything fails, the temporary file is removed and the
target is as it was. A failed flush is an error and never retried: the kernel may have dropped the
very pages that it could not write. A save that failed as a whole may be tried again, from the start.

All calls to the operating system go through `system`, so that tests can make any of them fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from pecs_np.errors import PecsError, PersistenceError, PersistenceIOError
from pecs_np.messages import shown

__all__ = [
    "InputFile",
    "PathLike",
    "backup_of",
    "read_file",
    "replace_file",
    "reporting",
    "retrying",
    "system",
]

Buffer = Any
PathLike = str | os.PathLike[str]

# Linux reads and writes at most 2 GiB - 4 KiB in one call.
_MOST_AT_ONCE = 1 << 30
_FIRST_PAUSE = 0.1
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# What trying again does not change.
_LASTING = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS, errno.ELOOP, errno.EINVAL}
)


def _fsync(descriptor: int) -> None:
    """Flush a file to the disk; on macOS that takes more than fsync."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined, unused-ignore]
    except (ImportError, AttributeError, OSError):
        os.fsync(descriptor)


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


class System:
    """The calls to the operating system that saving and loading files make."""

    open = staticmethod(os.open)
    close = staticmethod(os.close)
    read_at = staticmethod(_read_at)
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    fsync = staticmethod(_fsync)
    fstat = staticmethod(os.fstat)
    stat = staticmethod(os.stat)
    chmod = staticmethod(getattr(os, "fchmod", lambda _descriptor, _mode: None))
    link = staticmethod(getattr(os, "link", None) or _no_links)
    replace = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)
    sleep = staticmethod(time.sleep)


system = System()


@contextlib.contextmanager
def reporting(doing: str, path: PathLike) -> Iterator[None]:
    """Turn an OSError of the block into a `PersistenceIOError` that says what was being done to *path*."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise PersistenceIOError(
            f"{doing} a file failed: expected a path, found {shown(path)}",
            suggestion="pass a str, a pathlib.Path or an open file",
        ) from None
    try:
        yield
    except PecsError:
        raise
    except (OSError, ValueError) as error:
        raise PersistenceIOError(
            f"{doing} {name!r} failed: {getattr(error, 'strerror', None) or error}",
            errno=getattr(error, "errno", None),
            filename=name,
        ) from error


class InputFile:
    """A file open for reading, by any number of threads.

    Attributes
    ----------
    name : str
    size : int or None
        None for what has no size, such as a pipe.
    descriptor : int
    """

    def __init__(self, path: PathLike) -> None:
        with reporting("opening", path):
            self.name = os.fsdecode(path)
            self.descriptor = system.open(path, os.O_RDONLY | _FLAGS)
            try:
                status = system.fstat(self.descriptor)
                if stat.S_ISDIR(status.st_mode):
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
            except BaseException:
                self.close()
                raise
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                system.close(descriptor)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill *view* with the bytes from *offset* on, which are there.

        Raises
        ------
        PersistenceIOError
            If the system refuses, or the file has become shorter.
        """
        with reporting("reading", self.name):
            while view:
                count = system.read_at(self.descriptor, view[:_MOST_AT_ONCE], offset)
                if not count:
                    raise PersistenceIOError(
                        f"expected {self.size} bytes, found the end at byte {offset} of {self.name}",
                        filename=self.name,
                        suggestion="another program changed the file while it was read",
                    )
                offset += count
                view = view[count:]

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes of a file without a size, none at its end."""
        with reporting("reading", self.name):
            return system.read(self.descriptor, size)


def read_file(path: PathLike) -> bytes | bytearray:
    """Return the content of a file."""
    with InputFile(path) as file:
        if file.size is None:
            return b"".join(iter(lambda: file.read(1 << 20), b""))
        data = bytearray(file.size)
        file.read_into(memoryview(data), 0)
        return data


def retrying(save: Callable[[], None], retries: int) -> None:
    """Call *save*, and where the system refuses, again up to *retries* times, with growing pauses.

    A path that cannot be, such as one in a folder that is not there, is not tried again.
    """
    if type(retries) is not int or retries < 0:
        raise PersistenceError(f"expected a number of retries from 0, found {shown(retries)}")
    for attempt in range(retries):
        try:
            return save()
        except PersistenceIOError as error:
            if error.errno in _LASTING:
                raise
            system.sleep(_FIRST_PAUSE * 2**attempt)
    return save()


def replace_file(
    path: PathLike, buffers: Iterable[Buffer], *, durable: bool = True, backup: bool = False
) -> None:
    """Make *buffers* the content of the file *path* in one step.

    Parameters
    ----------
    path : path
    buffers : iterable of bytes-like
    durable : bool
        Flush file and directory to the disk, so that the save also survives a loss of power.
    backup : bool
        Keep the file that was there as ``<path>.bak``.

    Raises
    ------
    PersistenceIOError
        If the system refuses. The old file is untouched, unless it was the last step that failed, the
        flush of the folder: then the new one is there, but may not survive a loss of power.
    """
    with reporting("saving to", path):
        name = os.fsdecode(path)
        if name.endswith(os.sep) or not name:
            raise IsADirectoryError(errno.EISDIR, "it names a folder")
        target = os.path.realpath(name)
        directory = os.path.dirname(target)
        temporary = _temporary(directory)
        try:
            _write_new(temporary, buffers, like=target, durable=durable)
            if backup:
                _back_up(target)
            system.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                system.unlink(temporary)
            raise
        if durable:
            _flush_directory(directory)


def backup_of(path: PathLike) -> str:
    """Return the path of the backup of *path*."""
    return f"{os.path.realpath(os.fsdecode(path))}.bak"


def _temporary(directory: str) -> str:
    """Return a name that no other writer uses, short whatever the target is called."""
    return os.path.join(directory, f".pecs-{os.getpid()}-{os.urandom(6).hex()}.tmp")


def _write_new(path: str, buffers: Iterable[Buffer], *, like: str, durable: bool) -> None:
    """Write *buffers* whole to a new file, however little each call takes, with the mode of *like*."""
    descriptor = system.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
    try:
        # Without modes, or rights to set them, the content still counts.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            system.chmod(descriptor, stat.S_IMODE(system.stat(like).st_mode))
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view:
                count = system.write(descriptor, view[:_MOST_AT_ONCE])
                if not count:
                    raise OSError(errno.EIO, "it takes no more bytes")
                view = view[count:]
        if durable:
            system.fsync(descriptor)
    finally:
        system.close(descriptor)


def _back_up(target: str) -> None:
    """Give the file a second name, ``.bak``, in place of an older backup."""
    link = _temporary(os.path.dirname(target))
    try:
        try:
            system.link(target, link)
        except FileNotFoundError:
            return
        except OSError:
            # A file system without hard links.
            _write_new(link, [read_file(target)], like=target, durable=True)
        system.replace(link, backup_of(target))
    finally:
        # Renaming one name of a file to another of the same file does nothing.
        with contextlib.suppress(OSError):
            system.unlink(link)


def _flush_directory(directory: str) -> None:
    if os.name != "posix":
        return
    descriptor = system.open(directory, os.O_RDONLY | _FLAGS)
    try:
        system.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not flush directories; they flush renames by themselves.
        if error.errno != errno.EINVAL:
            raise
    finally:
        system.close(descriptor)
