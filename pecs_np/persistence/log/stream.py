"""A log through a pipe or a socket: its head, the save it begins with as a record, and its records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pecs_np.ecs.world import World
from pecs_np.errors import CorruptedDataError, LimitExceededError
from pecs_np.persistence.binary.sources import StreamSource
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits, within_memory
from pecs_np.persistence.log.base import base_path, decode_base
from pecs_np.persistence.log.compaction import stretch
from pecs_np.persistence.log.framing import (
    BASE,
    HEAD_SIZE,
    START_SIZE,
    SUM_SIZE,
    LogStart,
    RecordHead,
    record_buffers,
    record_sum,
)
from pecs_np.persistence.log.reading import LogFile, Record, check_follows
from pecs_np.persistence.log.records import LoggedChanges, changes_of
from pecs_np.persistence.plugins import _write_whole, world_made_by

__all__ = ["LogStream", "send"]

_BLOCK = 16 << 20


def send(file: LogFile, path: str, writer: Any, since: int | None) -> int:
    """Write the records after number *since* to *writer*, or the log from its beginning; see `DeltaLog.send`."""
    end = file.end
    if since is None:
        since = file.start.sequence
        _write_whole(writer, memoryview(file.start.pack()))
        if file.start.has_base:
            with InputFile(base_path(path, since)) as base:
                payload = base.read_whole()
            start = file.start
            _, buffers, _ = record_buffers(RecordHead(BASE, 0, since, start.time, start.previous), [payload])
            for buffer in buffers:
                _write_whole(writer, memoryview(buffer))
    for block in stretch(file, file.after(since).offset, end.offset):
        _write_whole(writer, memoryview(block))
    return end.sequence


class LogStream:
    """A log that comes through a pipe or a socket, as `DeltaLog.send` writes it: a world, and what happens to it.

    Iterating waits for the next changes, and ends where the stream ends after a whole record.

    Parameters
    ----------
    reader : object with ``readinto`` or ``read``
        Such as ``socket.makefile("rb")``, or an open pipe.
    limits : Limits, optional
        On what may come.

    Attributes
    ----------
    sequence : int
        The number of the last record that came.

    Raises
    ------
    InvalidFormatError, CorruptedDataError, UnsupportedVersionError, LimitExceededError
        If what comes is no log, is damaged, or ends within a record; also from iterating.
    PersistenceIOError
        If the reader fails.
    """

    def __init__(self, reader: Any, *, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._source = _Source(reader, self._limits)
        self._name = self._source.name
        self._start = LogStart.unpack(self._source.next(START_SIZE), self._name)
        self.sequence = self._start.sequence
        self._sum = self._start.previous
        self._base: Record | None = None
        if self._start.has_base:
            self._base = self._next()
            if self._base is None or self._base.head.kind != BASE:
                raise CorruptedDataError(
                    f"expected the save with which the log begins at byte {START_SIZE} of {self._name}, found none",
                    suggestion="send the log from its beginning",
                )

    def world(self) -> World:
        """Return the world with which the stream begins, a new one each time."""
        if self._base is None:
            return world_made_by()()
        with within_memory(self._name):
            snapshot = decode_base(self._base.payload, self._start, self._name, self._limits)
        return world_made_by().from_snapshot(snapshot)

    def __iter__(self) -> Iterator[LoggedChanges]:
        return changes_of(self._records(), self._limits)

    def _records(self) -> Iterator[Record]:
        while (record := self._next()) is not None:
            if record.head.kind == BASE:
                raise CorruptedDataError(f"expected changes, found another save as {record.where}")
            check_follows(record.head, self.sequence, self._sum, record.where)
            self.sequence, self._sum = record.head.sequence, record.sum
            yield record

    def _next(self) -> Record | None:
        """Return the next record, None at the end."""
        source = self._source
        where = f"at byte {source.at} of {self._name}"
        if not (first := source.byte()):
            return None
        head = RecordHead.unpack(first + source.next(HEAD_SIZE - 1), where)
        if head is None:
            raise CorruptedDataError(
                f"expected the head of a record with its checksum, found another {where}",
                suggestion="ask for the log again",
            )
        if head.length > self._limits.total_size:
            raise LimitExceededError(
                f"expected at most {self._limits.total_size} bytes in a record, found {head.length} {where}",
                suggestion="pass larger Limits if you trust where it comes from",
            )
        with within_memory(self._name):
            data = source.next(head.length + SUM_SIZE)
        payload = memoryview(data)[: head.length]
        found = int.from_bytes(data[head.length :], "little")
        if found != (crc := record_sum(head, [payload])):
            raise CorruptedDataError(
                f"expected checksum {crc:#018x} of record {head.sequence}, found {found:#018x} {where}",
                suggestion="ask for the log again",
            )
        return Record(head, payload, found, f"record {head.sequence} {where}")


class _Source(StreamSource):
    """A stream of which it is not known where it ends."""

    @property
    def at(self) -> int:
        """How many bytes have come."""
        return self._at

    def byte(self) -> bytearray:
        """Return the next byte, nothing at the end."""
        data = bytearray(1)
        count = self._some(memoryview(data))
        self._at += count
        return data[:count]

    def next(self, size: int) -> bytearray:
        """Return the next *size* bytes; memory is taken as they come."""
        data = bytearray()
        while size > len(data):
            block = bytearray(min(_BLOCK, size - len(data)))
            self._read_into(memoryview(block), self._at)
            data += block
        return data
