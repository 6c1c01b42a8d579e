"""A log made short: the state after one of its records as a save, and the records after that as a new log.

The save gets a name of its own, with the number of the record, and is on the disk before the new log takes
the place of the old one in one step. The log says with which save it begins; so at every moment there is a
log, and the save that it begins with. Only then is the old save removed, which whoever opens the log next does
too, where this was interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.persistence.binary.plugin import BinaryPlugin
from pecs_np.persistence.files import replace_file
from pecs_np.persistence.log.base import save_base
from pecs_np.persistence.log.framing import LogStart
from pecs_np.persistence.log.reading import End, LogFile

__all__ = ["create", "replace_log", "shorten", "stretch"]

_BLOCK = 1 << 20


def create(path: str, snapshot: Snapshot | None, plugin: BinaryPlugin) -> None:
    """Make a log of no records at *path*, and the save that it begins with, flushed to the disk."""
    start = LogStart()
    if snapshot is not None:
        start = LogStart(base_id=save_base(path, 0, snapshot, plugin))
    replace_file(path, [start.pack()], durable=True)


def shorten(path: str, file: LogFile, sequence: int, snapshot: Snapshot, plugin: BinaryPlugin) -> None:
    """Put a log in the place of *file* that begins with *snapshot*, the state after record *sequence*."""
    after = file.after(sequence)
    base_id = save_base(path, sequence, snapshot, plugin)
    replace_log(path, file, after, base_id)


def replace_log(path: str, file: LogFile, after: End, base_id: bytes) -> None:
    """Write a log to *path* that begins with that save and goes on with the records of *file* after that."""
    start = LogStart(after.sequence, after.sum, after.time, base_id)
    end = file.end.offset

    def buffers() -> Iterator[Any]:
        yield start.pack()
        yield from stretch(file, after.offset, end)

    replace_file(path, buffers, durable=True)


def stretch(file: LogFile, start: int, stop: int) -> Iterator[bytearray]:
    """Give the bytes of a log from *start* to *stop*, block by block."""
    for offset in range(start, stop, _BLOCK):
        yield file.read(offset, min(_BLOCK, stop - offset))
