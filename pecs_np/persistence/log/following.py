"""Reading on in a log while another program writes to it."""

from __future__ import annotations

import time
from collections.abc import Iterator

from pecs_np.errors import CorruptedDataError
from pecs_np.persistence import disk
from pecs_np.persistence.log.moments import gone
from pecs_np.persistence.log.reading import LogFile, Record

__all__ = ["follow"]


def reopened(path: str, since: int, sum_: int) -> LogFile:
    """Return the log that is at *path* now, known up to record *since*, whose sum is *sum_*.

    Raises
    ------
    PersistenceError
        If the records after that one are not in it any more.
    CorruptedDataError
        If it is another log.
    """
    file = LogFile(path)
    try:
        for _ in file.refresh():
            pass
        if since < file.start.sequence:
            raise gone(since, file.start.sequence, file.name)
        if since > file.end.sequence or file.after(since).sum != sum_:
            raise CorruptedDataError(
                f"expected the log that was followed to record {since}, found another at {file.name}",
                suggestion="restore the world from the log that is there now",
            )
        file.forget(since)
    except BaseException:
        file.close()
        raise
    return file


def follow(file: LogFile, path: str, *, pause: float, timeout: float | None) -> Iterator[Record]:
    """Give the records after those that *file* knows as they are appended, also after compactions.

    It ends where none came for *timeout* seconds, and closes *file*.
    """
    try:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # First asked, then read: what was appended before the log was replaced is read before that.
            current = file.is_at(path)
            found = False
            for record in file.refresh():
                found = True
                yield record
            if found:
                deadline = None if timeout is None else time.monotonic() + timeout
                continue
            if not current:
                end = file.end
                file.close()
                file = reopened(path, end.sequence, end.sum)
                continue
            if deadline is not None and time.monotonic() >= deadline:
                return
            disk.system.sleep(pause)
    finally:
        file.close()
