"""Files to read: a part at a time, by any number of threads."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import NoReturn, Self

from pecs_np.errors import PersistenceError, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.disk import FLAGS, MOST_AT_ONCE, PathLike, printable, reporting

__all__ = ["InputFile", "read_file"]

_WATCHED_AT_ONCE = 4 << 20


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
            self.descriptor = disk.system.open(path, os.O_RDONLY | FLAGS)
            try:
                status = disk.system.fstat(self.descriptor)
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
                disk.system.close(descriptor)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill *view* with the bytes from *offset* on, which are there.

        Raises
        ------
        PersistenceIOError
            If the system refuses, or the file has become shorter.
        """
        with reporting("reading", self.name):
            most = MOST_AT_ONCE if self.watch is None else _WATCHED_AT_ONCE
            while view:
                count = disk.system.read_at(self.descriptor, view[:most], offset)
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
            data = disk.system.read(self.descriptor, size)
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
