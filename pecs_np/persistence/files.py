"""Every byte that this library writes to disk passes here: the old file or the new one, nothing in between.

A save is written to a new file beside its target, flushed to the disk, and renamed over it; the
rename is flushed with the directory. Where anything fails, the temporary file is removed and the
target is as it was. A flush that failed is never tried again, because the kernel may have dropped the
very pages that it could not write: the whole file is written anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from pecs_np.errors import PersistenceError, PersistenceIOError, is_lasting
from pecs_np.messages import shown
from pecs_np.persistence import disk
from pecs_np.persistence.disk import FLAGS, MOST_AT_ONCE, PathLike, reporting
from pecs_np.persistence.input_files import InputFile

__all__ = ["backup_of", "checked_flag", "replace_file"]

Buffer = Any
_COPIED = 1 << 20
# Smaller files take one block at most.
_WORTH_ALLOCATING = 1 << 12
_FIRST_PAUSE = 0.1
# What a file system answers that does not know a call.
_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


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
            disk.system.sleep(_FIRST_PAUSE * 2**attempt)
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
                mode = disk.system.stat(name).st_mode
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
            disk.system.link(self._target, self._old)
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
        disk.system.replace(self._new, self._target)
        self._new = ""

    def back_up(self) -> None:
        """Make the old file the backup."""
        if self._old:
            again, self._backed_up = self._backed_up, True
            # A system may say that it failed when it did not.
            with contextlib.suppress(*(FileNotFoundError,) * again):
                disk.system.replace(self._old, f"{self._target}.bak")
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
            disk.system.unlink(name)


def _block(file: InputFile, offset: int, size: int) -> bytearray:
    block = bytearray(size)
    file.read_into(memoryview(block), offset)
    return block


def backup_of(path: PathLike) -> str:
    """Return the path of the backup of *path*."""
    with reporting("finding the backup of", path):
        return f"{os.path.realpath(os.fsdecode(path))}.bak"


def _write(path: str, buffers: Iterable[Buffer], *, like: str, durable: bool) -> None:
    """Write *buffers* whole, however little each call takes, to a new file with the mode of *like*."""
    mode: int | None = None
    with contextlib.suppress(FileNotFoundError, PermissionError):
        mode = stat.S_IMODE(disk.system.stat(like).st_mode)
    # At no moment may others do more with it than with the old file.
    first = 0o666 if mode is None else mode & 0o777 | stat.S_IWUSR
    descriptor = disk.system.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FLAGS, first)
    try:
        if mode is not None:
            # Where there are no modes, or no rights to set them, the content still counts.
            with contextlib.suppress(OSError):
                disk.system.chmod(descriptor, mode)
        size = getattr(buffers, "size", 0)
        if size >= _WORTH_ALLOCATING:
            _allocate(descriptor, size)
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            while view:
                count = disk.system.write(descriptor, view[:MOST_AT_ONCE])
                if not count:
                    raise OSError(errno.EIO, "it takes no more bytes")
                view = view[count:]
        if durable:
            disk.system.fsync(descriptor)
    except BaseException:
        # What went wrong first is what counts.
        with contextlib.suppress(OSError):
            disk.system.close(descriptor)
        raise
    disk.system.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Set aside the space for a file whose size is known: that halves the time of a rename over another."""
    try:
        disk.system.allocate(descriptor, 0, size)
    except OSError as error:
        # Not every file system can.
        if error.errno not in _UNSUPPORTED:
            raise


def _flush_directory(directory: str) -> None:
    if os.name != "posix":
        return
    descriptor = disk.system.open(directory, os.O_RDONLY | FLAGS)
    try:
        disk.system.fsync(descriptor)
    except OSError as error:
        # Some file systems do not flush directories; they flush renames by themselves.
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        disk.system.close(descriptor)
