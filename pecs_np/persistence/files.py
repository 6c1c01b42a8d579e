"""Every byte that this library writes to disk passes here: the old file or the new one, nothing in between.

A save is written to a new file beside its target, flushed to the disk, and renamed over it; the
rename is flushed with the directory. Where anything fails, the temporary file is removed and the
target is as it was. A failed flush is an error and never retried: the kernel may have dropped the
very pages that it could not write.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from typing import Any

from pecs_np.errors import PecsError, PersistenceIOError
from pecs_np.messages import shown

__all__ = ["MOST_AT_ONCE", "PathLike", "read_file", "replace_file", "reporting", "write_all"]

Buffer = Any
PathLike = str | os.PathLike[str]

# Linux writes at most 2 GiB - 4 KiB in one call.
MOST_AT_ONCE = 1 << 30


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


def read_file(path: PathLike) -> bytes:
    """Return the content of a file."""
    with reporting("reading", path), open(path, "rb") as file:
        return file.read()


def write_all(descriptor: int, buffers: Sequence[Buffer]) -> None:
    """Write *buffers* whole, however little each call takes."""
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        while view:
            view = view[os.write(descriptor, view[:MOST_AT_ONCE]) :]


def replace_file(
    path: PathLike, buffers: Sequence[Buffer], *, durable: bool = True, backup: bool = False
) -> None:
    """Make *buffers* the content of the file *path* in one step.

    Parameters
    ----------
    path : path
    buffers : sequence of bytes-like
    durable : bool
        Flush file and directory to the disk, so that the save also survives a loss of power.
    backup : bool
        Keep the file that was there as ``<path>.bak``.

    Raises
    ------
    PersistenceIOError
        If the system refuses; the old file is untouched.
    """
    with reporting("saving to", path):
        name = os.fsdecode(path)
        if name.endswith(os.sep) or not name:
            raise IsADirectoryError(errno.EISDIR, "it names a folder")
        target = os.path.realpath(name)
        directory = os.path.dirname(target)
        temporary = _temporary(directory)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _binary(), 0o666)
        try:
            try:
                with contextlib.suppress(FileNotFoundError):
                    _keep_mode(descriptor, os.stat(target).st_mode)
                write_all(descriptor, buffers)
                if durable:
                    _flush(descriptor)
            finally:
                os.close(descriptor)
            if backup:
                _back_up(target)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if durable:
            _flush_directory(directory)


def _temporary(directory: str) -> str:
    """Return a name that no other writer uses, short whatever the target is called."""
    return os.path.join(directory, f".pecs-{os.getpid()}-{os.urandom(6).hex()}.tmp")


def _binary() -> int:
    return getattr(os, "O_BINARY", 0)


def _keep_mode(descriptor: int, mode: int) -> None:
    if hasattr(os, "fchmod"):
        # Some file systems have no modes; the content matters more.
        with contextlib.suppress(PermissionError):
            os.fchmod(descriptor, mode & 0o7777)


def _flush(descriptor: int) -> None:
    """Flush a file to the disk; on macOS that takes more than fsync."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined, unused-ignore]
    except (ImportError, AttributeError, OSError):
        os.fsync(descriptor)


def _back_up(target: str) -> None:
    """Give the file a second name, ``.bak``, in place of an older backup."""
    link = _temporary(os.path.dirname(target))
    try:
        os.link(target, link)
    except FileNotFoundError:
        return
    except OSError:
        # A file system without hard links.
        import shutil  # noqa: PLC0415 - slow to import, and seldom needed

        shutil.copy2(target, link)
    try:
        os.replace(link, f"{target}.bak")
    finally:
        # Renaming one name of a file to another of the same file does nothing.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)


def _flush_directory(directory: str) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems do not flush directories; they flush renames by themselves.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)
