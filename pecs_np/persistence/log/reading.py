"""A log of changes read from a file: record by record, each checked, up to the end or a torn tail."""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pecs_np.errors import CorruptedDataError, PersistenceError, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.disk import PathLike, reporting
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.log.framing import (
    HEAD_SIZE,
    START_SIZE,
    SUM_SIZE,
    LogStart,
    RecordHead,
    record_sum,
)

__all__ = ["End", "LogFile", "Record", "check_follows"]

_BLOCK = 1 << 20


class Record(NamedTuple):
    """A record that was read and is sound.

    Attributes
    ----------
    head : RecordHead
    payload : memoryview
    sum : int
    where : str
        For messages.
    """

    head: RecordHead
    payload: memoryview
    sum: int
    where: str


class End(NamedTuple):
    """The place after a record.

    Attributes
    ----------
    offset : int
        In the file.
    sequence, sum : int
        Of that record.
    time : float
        The latest of all records up to there.
    """

    offset: int
    sequence: int
    sum: int
    time: float


@dataclass(slots=True)
class _Index:
    """Where the records are: byte offsets after each, their sums, and the latest time up to each."""

    offsets: array[int]
    sums: array[int]
    times: array[float]


class LogFile:
    """A log of changes that is open for reading, whoever writes to it meanwhile.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    name : str
    start : LogStart
    torn : bool
        Whether something stands after the last whole record, as far as was read.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self.file = InputFile(path)
        try:
            if self.file.size is None:
                raise PersistenceError(
                    f"expected a file, found a stream at {self.file.name}",
                    suggestion="read it with LogStream",
                )
            self.name = self.file.name
            data = bytearray(min(START_SIZE, self.file.size))
            self.file.read_into(memoryview(data), 0)
            self.start = LogStart.unpack(data, self.name)
        except BaseException:
            self.file.close()
            raise
        self.torn = False
        start = self.start
        self._index = _Index(array("Q", [START_SIZE]), array("Q", [start.previous]), array("d", [start.time]))

    def again(self, sequence: int) -> Self:
        """Return this very file opened again, known up to that record, whatever takes its place meanwhile."""
        other = type(self).__new__(type(self))
        other.path, other.name, other.start, other.torn = self.path, self.name, self.start, False
        other.file = InputFile.__new__(InputFile)
        other.file.name, other.file.size, other.file.watch = self.name, self.file.size, None
        with reporting("opening", self.path):
            other.file.descriptor = os.dup(self.file.descriptor)
        index, count = self._index, sequence - self.start.sequence + 1
        other._index = _Index(index.offsets[:count], index.sums[:count], index.times[:count])
        return other

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self.file.close()

    # Where the records are

    @property
    def end(self) -> End:
        """The place after the last record that is known."""
        return self.after(self.start.sequence + len(self._index.offsets) - 1)

    def after(self, sequence: int) -> End:
        """Return the place after that record, which is known."""
        i = sequence - self.start.sequence
        index = self._index
        return End(index.offsets[i], sequence, index.sums[i], index.times[i])

    def before(self, time: float) -> int:
        """Return the number of the last record, or of the start, up to that time; the start where none is."""
        found = bisect_right(self._index.times, time) - 1
        return self.start.sequence + max(found, 0)

    def learn(self, head: RecordHead, sum_: int) -> None:
        """Take note of a record after the last."""
        end = self.end
        index = self._index
        index.offsets.append(end.offset + head.size)
        index.sums.append(sum_)
        index.times.append(max(end.time, head.time))

    def forget(self, sequence: int) -> None:
        """Forget the records after that number."""
        count = sequence - self.start.sequence + 1
        index = self._index
        del index.offsets[count:], index.sums[count:], index.times[count:]

    def refresh(self) -> Iterator[Record]:
        """Give the records after the last that is known, and take note of them."""
        self.torn = False
        for record in self._records(self.end):
            self.learn(record.head, record.sum)
            yield record

    def records(self, since: int, until: int) -> Iterator[Record]:
        """Give the known records after number *since* up to number *until*."""
        yield from self._records(self.after(since), self.after(until).offset)

    # Reading

    def size(self) -> int:
        """Return how many bytes the file has now."""
        with reporting("reading", self.name):
            return disk.system.fstat(self.file.descriptor).st_size

    def is_at(self, path: PathLike) -> bool:
        """Tell whether the file at *path* is this one, and not one that took its place."""
        with reporting("reading", path):
            there = disk.system.stat(path)
            here = disk.system.fstat(self.file.descriptor)
        return stat.S_ISREG(there.st_mode) and (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _records(self, end: End, stop: int | None = None) -> Iterator[Record]:
        size = self.size() if stop is None else stop
        while end.offset < size:
            try:
                record = self._record(end, size)
            except (CorruptedDataError, PersistenceIOError) as error:
                # A writer may have cut a torn tail, and written on, between two reads; once.
                now = self.size()
                if stop is not None or (isinstance(error, PersistenceIOError) and now >= size):
                    raise
                if now <= end.offset:
                    return
                size = now
                record = self._record(end, size)
            if record is None and stop is not None:
                raise _damage(
                    f"record {end.sequence + 1}", "half of it", f"at byte {end.offset} of {self.name}"
                )
            if record is None:
                self.torn = True
                return
            yield record
            end = End(end.offset + record.head.size, record.head.sequence, record.sum, end.time)

    def _record(self, end: End, size: int) -> Record | None:
        """Return the record that begins where *end* is, None for a torn tail."""
        left = size - end.offset
        where = f"at byte {end.offset} of {self.name}"
        if left < HEAD_SIZE:
            return None
        data = self.read(end.offset, HEAD_SIZE)
        head = RecordHead.unpack(data, where)
        if head is None:
            if self._is_zero(end.offset + HEAD_SIZE - SUM_SIZE, size):
                return None
            raise _damage(f"the head of record {end.sequence + 1} with its checksum", "another", where)
        check_follows(head, end.sequence, end.sum, where)
        if left < head.size:
            return None
        data = self.read(end.offset + HEAD_SIZE, head.length + SUM_SIZE)
        payload = memoryview(data)[: head.length]
        found = int.from_bytes(data[head.length :], "little")
        if found != (crc := record_sum(head, [payload])):
            if self._is_zero(end.offset + head.size - SUM_SIZE, size):
                return None
            raise _damage(f"checksum {crc:#018x} of record {head.sequence}", f"{found:#018x}", where)
        return Record(head, payload, found, f"record {head.sequence} {where}")

    def read(self, offset: int, size: int) -> bytearray:
        """Return *size* bytes that are there."""
        data = bytearray(size)
        self.file.read_into(memoryview(data), offset)
        return data

    def _is_zero(self, offset: int, size: int) -> bool:
        return not any(any(self.read(at, min(_BLOCK, size - at))) for at in range(offset, size, _BLOCK))


def check_follows(head: RecordHead, sequence: int, sum_: int, where: str) -> None:
    """Raise unless *head* is of the record after that with number *sequence* and this sum."""
    if head.sequence != sequence + 1:
        raise _damage(f"record {sequence + 1}", f"record {head.sequence}", where)
    if head.previous != sum_:
        raise _damage(
            f"a record after that with checksum {sum_:#018x}", f"one after {head.previous:#018x}", where
        )


def _damage(expected: str, found: Any, where: str) -> CorruptedDataError:
    return CorruptedDataError(
        f"expected {expected}, found {found} {where}",
        suggestion="DeltaLog.salvage(path, into) keeps the records before it",
    )
