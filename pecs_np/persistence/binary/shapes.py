"""Saves of a shape that was read before: of their head only the sums are new, and nothing is worked out twice.

A simulation saves and loads one world after the other that differ in their values only. Then the heads
are the same but for the save id and the checksums, and so are the places of all sections. Every sum is
checked as ever; where one is wrong the long way is taken, which knows how to say so.
"""

from __future__ import annotations

import struct
import threading
from typing import Any, NamedTuple

from pecs_np.persistence.binary.framing import (
    ALIGNMENT,
    EXTENSION_SIZE,
    RAW,
    RUNS,
    SAVE_ID,
    SECTION_CRC,
    SKIPPABLE,
    ZEROS,
    Head,
    Section,
    aligned,
)
from pecs_np.persistence.binary.header import FOOTER_SIZE, HEADER, Header, Registry
from pecs_np.persistence.binary.schema import Schema
from pecs_np.persistence.binary.sources import Source
from pecs_np.persistence.checksum import combine, crc64
from pecs_np.persistence.limits import Limits

__all__ = ["Part", "Step", "note", "recall"]

# A section that was read: its entry in the directory, its bytes, and its place.
Part = tuple[Section, Any, int]

# A section to read: its entry in a save of this shape, its place, offset and size; the zero bytes before it, where
# they begin, and how many bytes come until the section ends.
Step = tuple[Section, int, int, int, int, int, int]

_MOST = 64
_KEY = HEADER.size + ALIGNMENT


class _Shape(NamedTuple):
    same: struct.Struct
    parts: tuple[bytes, ...]
    sums: struct.Struct
    crc_at: int
    size: int
    limits: Limits
    registry: Registry
    schema: Schema
    steps: tuple[Step, ...]
    end: int


_known: dict[tuple[int, bytes], _Shape] = {}
_noting = threading.Lock()


def recall(source: Source, start: bytes, limits: Limits) -> tuple[Schema, bytes, list[Part]] | None:
    """Return schema, save id and sections of a save that begins with *start*, or None where the shape is not known."""
    shape = _known.get((source.size, start[:_KEY]))
    if shape is None or shape.limits is not limits or len(start) < shape.size:
        return None
    same, parts, sums, crc_at, _, _, registry, schema, steps, end = shape
    if same.unpack_from(start) != parts:
        return None
    save_id, *crcs, head_crc = sums.unpack_from(start)
    if crc64(start[:crc_at]) != head_crc:
        return None
    read: list[Part] = []
    footer = 0
    for (section, place, offset, size, gap, gap_at, following), crc in zip(steps, crcs, strict=True):
        if gap and source.read(gap_at, gap) != ZEROS[:gap]:
            return None
        data, found = source.fresh(offset, size)
        if found != crc:
            return None
        read.append((section, data, place))
        footer = combine(footer, crc, following) if footer else crc
    if int.from_bytes(source.read(end, FOOTER_SIZE), "little") != footer:
        return None
    source.registry = registry
    return schema, save_id, read


def note(source: Source, header: Header, head: Head, schema: Schema, limits: Limits) -> None:
    """Remember the shape of a save that was read and found sound."""
    extension = aligned(header.end)
    directory = extension + EXTENSION_SIZE
    crc_at = directory + ALIGNMENT * len(head.sections) + len(head.schema)
    if len(header.data) < head.size or any(
        s[0] & SKIPPABLE or s[1] not in (RAW, RUNS) for s in head.sections
    ):
        return
    sums = [(extension + SAVE_ID, 16)]
    sums += [(directory + ALIGNMENT * i + SECTION_CRC, 8) for i in range(len(head.sections))]
    sums.append((crc_at, 8))
    same, others, at = ["<"], ["<"], 0
    for offset, size in sums:
        same.append(f"{offset - at}s{size}x")
        others.append(f"{offset - at}x{'16s' if size == 16 else 'Q'}")
        at = offset + size
    same.append(f"{head.size - at}s")
    steps: list[Step] = []
    end = head.size
    for place, section in enumerate(head.sections):
        offset, size = section[6], section[7]
        steps.append((section, place, offset, size, offset - end, end, offset + size - end))
        end = offset + size
    unchanging = struct.Struct("".join(same))
    start = bytes(header.data[: head.size])
    shape = _Shape(
        unchanging,
        unchanging.unpack_from(start),
        struct.Struct("".join(others)),
        crc_at,
        head.size,
        limits,
        head.registry,
        schema,
        tuple(steps),
        end,
    )
    with _noting:
        while len(_known) >= _MOST:
            del _known[next(iter(_known))]
        _known[source.size, start[:_KEY]] = shape
