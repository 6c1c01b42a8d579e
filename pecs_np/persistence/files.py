"""Every byte that this library writes to disk passes here: the old file or the new one, nothing in between.

A save is written to a new file beside its target, flushed to the disk, and renamed over it; the
rename is flushed with the directory. Where anything fails, the temporary file is removed and the
target is as it was. A flush that failed is never tried again, because the kernel may have dropped the
very pages that it could not write: the whole file is written anew.

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
from typing import Any, NoReturn, Self

import numpy as np

from pecs_np.errors import PecsError, PersistenceError, PersistenceIOError, is_lasting
from pecs_np.messages import shown

__all__ = [
    "InputFile",
    "PathLike",
    "backup_of",
    "checked_flag",
    "has_suffix",
    "named",
    "printable",
    "read_file",
    "replace_file",
    "reporting",
    "system",
]

Buffer = Any
PathLike = str | os.PathLike[str]

# Linux reads and writes at most 2 GiB - 4 KiB in one call.
_MOST_AT_ONCE = 1 << 30
_WATCHED_AT_ONCE = 4 << 20
_COPIED = _WORTH_ALLOCATING = 1 << 20
_FIRST_PAUSE = 0.1
# What a file system answers that does not know a call.
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


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


def checked_flag(value: Any, name: str) -> bool:
    """Return an option that is on or off as a bool.

    Raises
    ------
    PersistenceError
        If it is anything else: ``"no"`` would be on, and an array has no truth.
    """
    if not isinstance(value, bool | np.bool_):
        raise PersistenceError(f"expected True or False for {name}, found {shown(value)}")
    return bool(value)


def printable(name: str) -> str:
    """Return *name* as text that any terminal or file takes: file names may be any bytes."""
    return name.encode(errors="backslashreplace").decode()


def named(path: Any) -> str:
    """Return what messages call a path, or whatever stands in its place."""
    try:
        return printable(os.fsdecode(path))
    except TypeError:
        return shown(path)


class InputFile:
    """A file open for reading, by any number of threads.

    Attributes
    ----------
    name : str
    size : int or None
        None for what has no size, such as a pipe.
    descriptor : int
    watch : callable or None
        Called with each number of bytes that were read.
    """

    descriptor = -1

    def __init__(self, path: PathLike) -> None:
        self.watch: Callable[[int], object] | None = None
        with reporting("opening", path):
            self.name = printable(os.fsdecode(path))
            self.descriptor = system.open(path, os.O_RDONLY | _FLAGS)
            try:
                status = system.fstat(self.descriptor)
                if stat.S_ISDIR(status.st_mode):
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
            except BaseException:
                self.close()
                raise
        self.size = status.st_size if stat.S_ISREG(status.st_mode) else None

    @classmethod
    def of(cls, file: PathLike | InputFile) -> InputFile:
        """Return *file*, opened if it is a path."""
        return file if isinstance(file, InputFile) else cls(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        # A copy would close the descriptor of another.
        raise PersistenceError(f"an open file cannot be copied: {self.name}", suggestion="open it again")

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
            most = _MOST_AT_ONCE if self.watch is None else _WATCHED_AT_ONCE
            while view:
                count = system.read_at(self.descriptor, view[:most], offset)
                if not count:
                    raise PersistenceIOError(
                        f"expected {self.size} bytes, found the end at byte {offset} of {self.name}",
                        errno=errno.EIO,
                        filename=self.name,
                        suggestion="another program changed the file while it was read",
                    )
                offset += count
                view = view[count:]
                if self.watch is not None:
                    self.watch(count)

    def read(self, size: int) -> bytes:
        """Return up to *size* bytes of a file without a size, none at its end."""
        with reporting("reading", self.name):
            data = system.read(self.descriptor, size)
        if self.watch is not None:
            self.watch(len(data))
        return data

    def read_whole(self) -> bytes | bytearray:
        """Return all that the file holds."""
        if self.size is None:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        data = bytearray(self.size)
        self.read_into(memoryview(data), 0)
        return data


def read_file(path: PathLike) -> bytes | bytearray:
    """Return the content of a file."""
    with InputFile(path) as file:
        return file.read_whole()


def replace_file(
    path: PathLike,
    buffers: Iterable[Buffer] | Callable[[], Iterable[Buffer]],
    *,
    durable: bool = True,
    backup: bool = False,
    retries: int = 0,
) -> None:
    """Make *buffers* the content of the file *path* in one step.

    Parameters
    ----------
    path : path
    buffers : iterable of bytes-like, or what returns one
        Asked for again at each try, so that an iterator, which gives them once, goes with no retries. If it
        has a ``size``, that is the bytes of them all.
    durable : bool
        Flush file and directory to the disk, so that the save also survives a loss of power.
    backup : bool
        Keep the file that was there as ``<path>.bak``.
    retries : int
        How many times in all to try a step again that the system refuses, with growing pauses. A path
        that cannot be, such as one in a folder that is not there, is not tried again.

    Raises
    ------
    PersistenceIOError
        If the system refuses. The old file is untouched, unless it was a step after the new one took its
        place: then the backup may be an older one, or the new file may not survive a loss of power.
    """
    if type(retries) is not int or retries < 0:
        raise PersistenceError(f"expected a number of retries from 0, found {shown(retries)}")
    durable, backup = checked_flag(durable, "durable"), checked_flag(backup, "backup")
    if retries and isinstance(buffers, Iterator):
        raise PersistenceError(
            f"expected buffers that can be asked for again, found {shown(buffers)} with retries={retries}",
            suggestion="pass a function that returns them",
        )
    with reporting("saving to", path):
        name = os.fsdecode(path)
        if os.path.basename(name) in ("", os.curdir, os.pardir):
            raise IsADirectoryError(errno.EISDIR, "it names a folder")
        target = os.path.realpath(name)
        replacement = _Replacement(target)
        make = buffers if callable(buffers) else lambda: buffers

        def save() -> None:
            # Before the write, which may be long and in vain, and after it, when it counts.
            replacement.check(backup=backup)
            replacement.write(make(), durable=durable)
            replacement.check(backup=backup)
            if backup:
                replacement.keep_old()
            replacement.put()
            if backup:
                replacement.back_up()
            if durable:
                _flush_directory(os.path.dirname(target))

        try:
            _attempt(save, retries)
        finally:
            replacement.clean()


def _attempt(save: Callable[[], None], retries: int) -> None:
    """Call *save*, and where the system refuses, again up to *retries* times, with growing pauses."""
    for attempt in range(retries):
        try:
            return save()
        except OSError as error:
            if is_lasting(error.errno):
                raise
            system.sleep(_FIRST_PAUSE * 2**attempt)
    return save()


class _Replacement:
    """The steps by which a new file takes the place of an old one; they may be tried again from the first.

    The old file is given its second name before, and that becomes the backup after: so at any moment
    there is the old file or the new one, and the backup is never all that is left of a sound save.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._directory = os.path.dirname(target)
        self._new = self._old = ""
        # Whether the old file, or that there is none, is kept for the backup; and whether that was made.
        self._kept = self._backed_up = False

    def _temporary(self) -> str:
        """Return a name that no other writer uses, short whatever the target is called."""
        return os.path.join(self._directory, f".pecs-{os.getpid()}-{os.urandom(6).hex()}.tmp")

    def check(self, *, backup: bool) -> None:
        """Raise where something stands in the place of the file, or of its backup, that is no file."""
        for name in (self._target, f"{self._target}.bak") if backup else (self._target,):
            with contextlib.suppress(FileNotFoundError):
                mode = system.stat(name).st_mode
                if stat.S_ISDIR(mode):
                    raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
                if not stat.S_ISREG(mode):
                    raise OSError(errno.EINVAL, "it is no file; open it, and use save_binary_stream")

    def write(self, buffers: Iterable[Buffer], *, durable: bool) -> None:
        """Write the new file, from the start and under a new name."""
        _remove(self._new)
        self._new = self._temporary()
        _write(self._new, buffers, like=self._target, durable=durable)

    def keep_old(self) -> None:
        """Give the old file, if there is one, a second name; but not what an earlier try has put there."""
        if self._kept:
            return
        _remove(self._old)
        self._old = self._temporary()
        try:
            system.link(self._target, self._old)
        except FileNotFoundError:
            self._old = ""
        except OSError:
            # A file system without hard links.
            self._copy_old()
        self._kept = True

    def _copy_old(self) -> None:
        try:
            file = InputFile(self._target)
        except PersistenceIOError as error:
            if error.errno != errno.ENOENT:
                raise
            self._old = ""
            return
        with file:
            size = file.size or 0
            blocks = (_block(file, start, min(_COPIED, size - start)) for start in range(0, size, _COPIED))
            _write(self._old, blocks, like=self._target, durable=True)

    def put(self) -> None:
        """Put the new file in the place of the old one."""
        system.replace(self._new, self._target)
        self._new = ""

    def back_up(self) -> None:
        """Make the old file the backup."""
        if self._old:
            again, self._backed_up = self._backed_up, True
            # A system may say that it failed when it did not.
            with contextlib.suppress(*(FileNotFoundError,) * again):
                system.replace(self._old, f"{self._target}.bak")
            # Renaming one name of a file to another of the same file does nothing.
            _remove(self._old)
            self._old = ""

    def clean(self) -> None:
        """Remove what is left of a replacement that failed."""
        _remove(self._new)
        _remove(self._old)


def _remove(name: str) -> None:
    """Remove a temporary file, if *name* is one that is there."""
    if name:
        with contextlib.suppress(OSError):
            system.unlink(name)


def _block(file: InputFile, offset: int, size: int) -> bytearray:
    block = bytearray(size)
    file.read_into(memoryview(block), offset)
    return block


def backup_of(path: PathLike) -> str:
    """Return the path of the backup of *path*."""
    with reporting("finding the backup of", path):
        return f"{os.path.realpath(os.fsdecode(path))}.bak"


def has_suffix(path: Any, suffix: str) -> bool:
    """Tell whether *path* is a path that ends with *suffix*, in lower case or upper."""
    try:
        return os.fsdecode(path).lower().endswith(suffix)
    except TypeError:
        return False


def _write(path: str, buffers: Iterable[Buffer], *, like: str, durable: bool) -> None:
    """Write *buffers* whole, however little each call takes, to a new file with the mode of *like*."""
    mode: int | None = None
    with contextlib.suppress(FileNotFoundError, PermissionError):
        mode = stat.S_IMODE(system.stat(like).st_mode)
    # At no moment may others do more with it than with the old file.
    first = 0o666 if mode is None else mode & 0o777 | stat.S_IWUSR
    descriptor = system.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, first)
    try:
        if mode is not None:
            # Where there are no modes, or no rights to set them, the content still counts.
            with contextlib.suppress(OSError):
                system.chmod(descriptor, mode)
        size = getattr(buffers, "size", 0)
        if size >= _WORTH_ALLOCATING:
            _allocate(descriptor, size)
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view:
                count = system.write(descriptor, view[:_MOST_AT_ONCE])
                if not count:
                    raise OSError(errno.EIO, "it takes no more bytes")
                view = view[count:]
        if durable:
            system.fsync(descriptor)
    except BaseException:
        # What went wrong first is what counts.
        with contextlib.suppress(OSError):
            system.close(descriptor)
        raise
    system.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Set aside the space for a file whose size is known: that halves the time of a rename over another."""
    try:
        system.allocate(descriptor, 0, size)
    except OSError as error:
        # Not every file system can.
        if error.errno not in _UNSUPPORTED:
            raise


def _flush_directory(directory: str) -> None:
    if os.name != "posix":
        return
    descriptor = system.open(directory, os.O_RDONLY | _FLAGS)
    try:
        system.fsync(descriptor)
    except OSError as error:
        # Some file systems do not flush directories; they flush renames by themselves.
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        system.close(descriptor)
