"""What is sound of a damaged log, saved to another."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

from pecs_np.errors import CorruptedDataError, InvalidFormatError, PersistenceError
from pecs_np.persistence.disk import PathLike, named, reporting
from pecs_np.persistence.files import replace_file
from pecs_np.persistence.input_files import InputFile
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.log.base import base_path, load_base
from pecs_np.persistence.log.compaction import replace_log
from pecs_np.persistence.log.framing import HEAD_SIZE, RECORD_MAGIC, SUM_SIZE, RecordHead, record_sum
from pecs_np.persistence.log.reading import LogFile

__all__ = ["SalvageReport", "salvage"]

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class SalvageReport:
    """What was saved of a damaged log.

    Attributes
    ----------
    first, last : int
        The numbers of the records that were kept: those after *first* up to *last*.
    damage : str or None
        What is wrong, and where; None where nothing is.
    beyond : tuple of (int, int)
        Sound records after the damage, from number to number: they tell of changes to a state that is not
        known any more, so they were not kept.
    lost : int
        Bytes that were not kept.
    """

    first: int
    last: int
    damage: str | None
    beyond: tuple[tuple[int, int], ...]
    lost: int

    def __str__(self) -> str:
        kept = f"{self.last - self.first} records kept, up to number {self.last}; {self.lost} bytes lost"
        beyond = ", ".join(f"{a} to {b}" for a, b in self.beyond)
        return (
            kept + (f"; {self.damage}" if self.damage else "") + (f"; beyond it: {beyond}" if beyond else "")
        )


def salvage(path: PathLike, into: PathLike, limits: Limits) -> SalvageReport:
    """Copy the log *path*, up to the first damage, with the save it begins with; see `DeltaLog.salvage`."""
    with reporting("salvaging", path), reporting("salvaging to", into):
        source, target = (os.path.realpath(os.fsdecode(name)) for name in (path, into))
    if os.path.exists(target):
        raise PersistenceError(
            f"expected a path where nothing is, found {named(into)}", suggestion="salvage to a new file"
        )
    with LogFile(source) as file:
        damage = None
        try:
            for _ in file.refresh():
                pass
        except (CorruptedDataError, InvalidFormatError) as error:
            damage = str(error.args[0])
        start, end = file.start, file.end
        size = file.size()
        beyond = tuple(_runs(_beyond(file, end.offset, size)))
        if start.has_base:
            load_base(source, start, limits)
            with InputFile(base_path(source, start.sequence)) as base:
                replace_file(base_path(target, start.sequence), [base.read_whole()], durable=True)
        replace_log(target, file, file.after(start.sequence), start.base_id)
    return SalvageReport(start.sequence, end.sequence, damage, beyond, size - end.offset)


def _beyond(file: LogFile, offset: int, size: int) -> Iterator[int]:
    """Give the numbers of the sound records from *offset* on, wherever they begin."""
    for start in range(offset, size, _BLOCK):
        data = bytes(file.read(start, min(_BLOCK + HEAD_SIZE, size - start)))
        at = data.find(RECORD_MAGIC, max(offset - start, 0))
        while 0 <= at < _BLOCK:
            number, length = _record_at(file, data[at : at + HEAD_SIZE], start + at, size)
            if number is not None:
                yield number
                offset = start + at + length
            at = data.find(RECORD_MAGIC, at + length)


def _record_at(file: LogFile, data: bytes, offset: int, size: int) -> tuple[int | None, int]:
    """Return the number of the sound record at *offset* and its size in bytes; None and 1 where there is none."""
    head = None
    if len(data) == HEAD_SIZE:
        with contextlib.suppress(InvalidFormatError):
            head = RecordHead.unpack(data, "")
    if head is None or offset + head.size > size:
        return None, 1
    stored = file.read(offset + HEAD_SIZE, head.length + SUM_SIZE)
    found = int.from_bytes(stored[head.length :], "little")
    if found != record_sum(head, [memoryview(stored)[: head.length]]):
        return None, 1
    return head.sequence, head.size


def _runs(numbers: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Give numbers as runs, from and to."""
    run: tuple[int, int] | None = None
    for number in numbers:
        if run is not None and number == run[1] + 1:
            run = run[0], number
            continue
        if run is not None:
            yield run
        run = number, number
    if run is not None:
        yield run
