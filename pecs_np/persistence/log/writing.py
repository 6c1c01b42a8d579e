"""A log of changes that is open for writing, by one program at a time."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from typing import Any

from pecs_np.errors import PersistenceError, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.disk import printable, reporting
from pecs_np.persistence.log.framing import RecordHead, record_buffers
from pecs_np.persistence.log.reading import LogFile

__all__ = ["LogWriter", "WriterLock"]

_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})


class WriterLock:
    """Held by who writes to the log *path*; the system lets go of it when the process ends, however it ends.

    It is a lock on the file ``<path>.lock``, which stays: compaction puts another file in the log's place.

    Raises
    ------
    PersistenceIOError
        If another one holds it.
    """

    _descriptor = -1

    def __init__(self, path: str) -> None:
        name = f"{path}.lock"
        with reporting("locking", name):
            self._descriptor = disk.system.open(name, os.O_RDWR | os.O_CREAT | disk.FLAGS, 0o666)
            try:
                disk.system.lock(self._descriptor)
            except OSError as error:
                self.close()
                if error.errno not in _TAKEN:
                    raise
                raise PersistenceIOError(
                    f"expected to be the only one who writes to {printable(path)}, found it open for writing",
                    errno=error.errno,
                    filename=path,
                    suggestion="close the other one, or pass readonly=True",
                ) from None
            except BaseException:
                self.close()
                raise

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                disk.system.close(descriptor)


class LogWriter:
    """Appends records to a log, whole or not at all.

    Parameters
    ----------
    path : str
    file : LogFile
        Of which all records are known; it takes note of those that are appended.
    durable : bool
        Whether to flush each record to the disk.
    """

    _descriptor = -1

    def __init__(self, path: str, file: LogFile, *, durable: bool) -> None:
        self._path = path
        self.file = file
        self._durable = durable
        self._broken: str | None = None
        self._process = os.getpid()
        with reporting("opening", path):
            self._descriptor = disk.system.open(path, os.O_WRONLY | os.O_APPEND | disk.FLAGS)

    def check(self) -> None:
        """Raise where nothing may be written any more."""
        if self._descriptor < 0:
            raise PersistenceError(
                f"expected an open log, found {self.file.name} closed", suggestion="open it again"
            )
        if self._process != os.getpid():
            raise PersistenceError(
                f"expected the process that opened {self.file.name}, found another",
                suggestion="open the log after the fork",
            )
        if self._broken is not None:
            raise PersistenceIOError(
                f"expected a log that takes more, found {self.file.name} where {self._broken}",
                errno=errno.EIO,
                filename=self._path,
                suggestion="close it and open it again",
            )

    def append(self, kind: int, time: float, payload: Iterable[Any]) -> int:
        """Write a record and return its number.

        Raises
        ------
        PersistenceIOError
            If the system refuses; the log is as it was. After a flush that failed it takes no more, because
            the kernel may have dropped what it could not write.
        """
        self.check()
        end = self.file.end
        head, buffers, total = record_buffers(RecordHead(kind, 0, end.sequence + 1, time, end.sum), payload)
        with reporting("appending to", self._path):
            if self.file.torn:
                disk.system.truncate(self._descriptor, end.offset)
                self.file.torn = False
            try:
                for buffer in buffers:
                    view = memoryview(buffer)
                    while view:
                        count = disk.system.write(self._descriptor, view[: disk.MOST_AT_ONCE])
                        if not count:
                            raise OSError(errno.EIO, "it takes no more bytes")
                        view = view[count:]
                if self._durable:
                    self._flush()
                self.file.learn(head, total)
            except BaseException:
                self.file.forget(end.sequence)
                self._take_back(end.offset)
                raise
        return head.sequence

    def flush(self) -> None:
        """Flush what was appended to the disk."""
        self.check()
        with reporting("flushing", self._path):
            self._flush()

    def _flush(self) -> None:
        try:
            disk.system.fsync(self._descriptor)
        except BaseException:
            self._broken = "a flush failed"
            raise

    def _take_back(self, offset: int) -> None:
        """Cut off what was written of a record; what cannot be cut is a torn tail."""
        before = self._broken
        self._broken = before or "half a record could not be cut off"
        with contextlib.suppress(OSError):
            disk.system.truncate(self._descriptor, offset)
            self._broken = before

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the log for writing; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                disk.system.close(descriptor)
