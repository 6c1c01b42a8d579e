r"""The bytes of a log of changes, version 1.

    head              64 B   magic "PECSLOG\0", version u32, flags u32 = 0,
                             sequence u64, previous u64, time f64, base_id u128, head_sum u64
    records
        head          48 B   magic "PREC", type u16, flags u16 = 0, length u64, sequence u64,
                             time f64, previous u64, head_sum u64
        payload              length bytes
        sum            8 B   u64

All integers are little-endian. The head of the log tells where it begins: with the state after record number
*sequence*, which stands in a save beside it whose save_id is *base_id*; base_id 0 is an empty world. *previous*
is the sum of that record, so that a log goes on from the one it was made of. Times are seconds since 1970.

A sum is the CRC-64/WE of the record's head without its head_sum, then of the payload; a head_sum that of all
before it in the head. A sum of 0 is stored as 1: where a system that lost power left zeros for what it had not
yet written, no sum is found. It is not the sum that saves end with, because a save with its own sum has the
same one whatever it holds.

Each record has the sequence number of the one before plus 1, and its sum in *previous*. Types are 1 delta: a
delta file, see the format · 2 nothing: that at this time nothing had changed; no payload · 3 base: the save
with which a stream begins; it repeats *sequence* and *previous* of the head. A type with bit 0x8000 set may
be skipped by a reader that does not know it.

What a writer did not come to the end of is a torn tail: a last record that the file ends in, or whose sum and
all that follows it are zeros. Anything else that breaks a rule is damage.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from pecs_np.errors import CorruptedDataError, InvalidFormatError, UnsupportedVersionError
from pecs_np.persistence.checksum import crc64_we

__all__ = [
    "BASE",
    "DELTA",
    "HEAD_SIZE",
    "NOTHING",
    "RECORD_MAGIC",
    "SKIPPABLE",
    "START_SIZE",
    "SUM_SIZE",
    "LogStart",
    "RecordHead",
    "record_buffers",
    "record_sum",
]

MAGIC, RECORD_MAGIC = b"PECSLOG\0", b"PREC"
VERSION = 1
DELTA, NOTHING, BASE = 1, 2, 3
SKIPPABLE = 0x8000

_START = struct.Struct("<8sIIQQd16s")
_HEAD = struct.Struct("<4sHHQQdQ")
_SUM = struct.Struct("<Q")
SUM_SIZE = _SUM.size
START_SIZE = _START.size + SUM_SIZE
HEAD_SIZE = _HEAD.size + SUM_SIZE
# Up to this, buffers are copied together, so that they go out in one call.
_JOINED = 1 << 15


def _stored(crc: int) -> int:
    return crc or 1


@dataclass(frozen=True, slots=True)
class LogStart:
    """Where a log begins.

    Attributes
    ----------
    sequence : int
        The number of the last record before it.
    previous : int
        The sum of that record.
    time : float
        The time of that record, seconds since 1970.
    base_id : bytes, of length 16
        The save_id of the save with the state after that record; zeros for an empty world.

    Examples
    --------
    >>> start = LogStart(sequence=7, previous=1, time=2.5, base_id=bytes(16))
    >>> LogStart.unpack(start.pack(), "game.log") == start
    True
    """

    sequence: int = 0
    previous: int = 0
    time: float = 0.0
    base_id: bytes = bytes(16)

    @property
    def has_base(self) -> bool:
        """Whether it begins with a save, and not with an empty world."""
        return any(self.base_id)

    def pack(self) -> bytes:
        """Return the head of the log."""
        data = _START.pack(MAGIC, VERSION, 0, self.sequence, self.previous, self.time, self.base_id)
        return data + _SUM.pack(_stored(crc64_we(data)))

    @classmethod
    def unpack(cls, data: Any, name: str) -> Self:
        """Read the head of a log from the first `START_SIZE` bytes of *data*.

        Raises
        ------
        InvalidFormatError, UnsupportedVersionError, CorruptedDataError
        """
        if len(data) < START_SIZE or bytes(data[: len(MAGIC)]) != MAGIC:
            raise InvalidFormatError(
                f"expected a log of changes, found {bytes(data[:8])!r} at byte 0 of {name}",
                suggestion="DeltaLog.open makes one at a path where there is no file",
            )
        _, version, flags, sequence, previous, time, base_id = _START.unpack_from(data)
        (found,) = _SUM.unpack_from(data, _START.size)
        if found != (crc := _stored(crc64_we(data[: _START.size]))):
            raise CorruptedDataError(
                f"expected checksum {crc:#018x} of the head, found {found:#018x} at byte {_START.size} of {name}",
                suggestion="load a backup",
            )
        if version != VERSION:
            raise UnsupportedVersionError(version, VERSION, what=f"the log of changes {name}")
        if flags or not math.isfinite(time):
            raise InvalidFormatError(f"expected no flags and a time in the head of {name}")
        return cls(sequence, previous, time, base_id)


@dataclass(frozen=True, slots=True)
class RecordHead:
    """The head of a record.

    Attributes
    ----------
    kind : int
        `DELTA`, `NOTHING` or `BASE`.
    length : int
        Bytes of the payload.
    sequence : int
    time : float
        Seconds since 1970.
    previous : int
        The sum of the record before.

    Examples
    --------
    >>> head = RecordHead(NOTHING, 0, 8, 2.5, 1)
    >>> RecordHead.unpack(head.pack(), "here") == head
    True
    """

    kind: int
    length: int
    sequence: int
    time: float
    previous: int

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        return HEAD_SIZE + self.length + SUM_SIZE

    def pack(self) -> bytes:
        """Return the bytes of the head."""
        data = self._summed()
        return data + _SUM.pack(_stored(crc64_we(data)))

    def _summed(self) -> bytes:
        return _HEAD.pack(RECORD_MAGIC, self.kind, 0, self.length, self.sequence, self.time, self.previous)

    @classmethod
    def unpack(cls, data: Any, where: str) -> Self | None:
        """Read a head from the first `HEAD_SIZE` bytes of *data*, None where its sum does not match.

        Raises
        ------
        InvalidFormatError
            If its sum matches, but it is none that this version writes.
        """
        (found,) = _SUM.unpack_from(data, _HEAD.size)
        if found != _stored(crc64_we(data[: _HEAD.size])):
            return None
        magic, kind, flags, length, sequence, time, previous = _HEAD.unpack_from(data)
        known = kind in (DELTA, NOTHING, BASE) or kind & SKIPPABLE
        if magic != RECORD_MAGIC or flags or not known or not math.isfinite(time):
            raise InvalidFormatError(
                f"expected a record of a known type without flags, found type {kind}, flags {flags} {where}",
                suggestion="a newer version of this library may read it",
            )
        return cls(kind, length, sequence, time, previous)


def record_sum(head: RecordHead, payload: Iterable[Any]) -> int:
    """Return the sum of a record from its head and the buffers of its payload."""
    crc = crc64_we(head._summed())
    for buffer in payload:
        crc = crc64_we(buffer, crc)
    return _stored(crc)


def record_buffers(head: RecordHead, payload: Iterable[Any]) -> tuple[RecordHead, list[Any], int]:
    """Return a record as few buffers to write in order.

    Parameters
    ----------
    head : RecordHead
        Its length does not count.
    payload : iterable of bytes-like

    Returns
    -------
    head : RecordHead
        With the length of the payload.
    buffers : list of bytes-like
    sum : int
    """
    views = [memoryview(buffer).cast("B") for buffer in payload]
    head = replace(head, length=sum(map(len, views)))
    total = record_sum(head, views)
    buffers: list[Any] = []
    small = bytearray(head.pack())
    for view in (*views, memoryview(_SUM.pack(total))):
        if len(view) > _JOINED:
            buffers += (small, view)
            small = bytearray()
        else:
            small += view
    return head, [*buffers, small], total
