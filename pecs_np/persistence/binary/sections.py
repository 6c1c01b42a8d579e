"""The sections of a save of version 2: which there have to be, and their bytes, checked and unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from pecs_np.ecs.arrays import BYTE
from pecs_np.ecs.ids import MOST_RUNS, RUN
from pecs_np.errors import CorruptedDataError, InvalidFormatError, LimitExceededError
from pecs_np.persistence.binary.framing import (
    ALIGNMENT,
    COLUMN,
    DELTA,
    DELTA_FILTER,
    DESPAWNED,
    KIND_NAMES,
    LZ4,
    NOT_APPLICABLE,
    OFFSETS,
    RAW,
    REMOVED,
    RUNS,
    SHUFFLE,
    SKIPPABLE,
    STABLE_IDS,
    VALUES,
    ZEROS,
    ZSTD,
    Head,
    Section,
    aligned,
)
from pecs_np.persistence.binary.header import FOOTER_SIZE
from pecs_np.persistence.binary.schema import Schema
from pecs_np.persistence.binary.sources import Source
from pecs_np.persistence.checksum import combine
from pecs_np.persistence.compression import CHUNK, CompressionType, Filters, unpacked
from pecs_np.persistence.limits import Limits

__all__ = [
    "Expected",
    "check_directory",
    "check_sum",
    "expected_sections",
    "read_section",
    "sweep",
    "where",
]

# How much more than other bytes ids may unpack to that stay the few runs they are stored as: they cost
# nothing until somebody asks for the array.
_FREE_RUNS = 16
_ID_KINDS = (STABLE_IDS, DESPAWNED, REMOVED)
_CODECS = {ZSTD: CompressionType.Zstd, LZ4: CompressionType.Lz4}


class Expected(NamedTuple):
    """A section that the schema promises; the raw size is -1 where another section tells it."""

    kind: int
    table: int
    type: int
    field: int
    rows: int
    raw_size: int
    item: int


def expected_sections(schema: Schema, head: Head, name: str) -> tuple[int, tuple[Expected, ...]]:
    """Return the rows in all, and the sections in their order, that a save with this schema has.

    There have to be no more of them than those in *head*, which is known before they are listed. Of a
    delta, the ids that belong to no table are those that *head* has.
    """
    expected: tuple[int, tuple[Expected, ...]] | None = schema.cache.get("expected")
    if expected is None:
        found = len(head.sections)
        of_type = [1 + 2 * len(type_.layout.variable) for type_ in schema.types]
        count = sum(
            (table.role != "resource") + sum([of_type[i] for i in table.types]) for table in schema.tables
        )
        if count > found:
            raise InvalidFormatError(
                f"expected {count} sections as the schema promises, found {found} in {name}"
            )
        loose = _loose_ids(head, len(schema.types), name) if head.flags & DELTA else ()
        expected = schema.cache["expected"] = _expected_sections(schema, loose, name)
    return expected


def _expected_sections(
    schema: Schema, loose: tuple[Expected, ...], name: str
) -> tuple[int, tuple[Expected, ...]]:
    none = NOT_APPLICABLE
    rows = 0
    expected = []
    for number, table in enumerate(schema.tables):
        if table.role != "resource":
            rows += table.rows
            expected.append(Expected(STABLE_IDS, number, none, none, table.rows, table.rows * 16, 16))
        for index in table.types:
            layout = schema.types[index].layout
            item = layout.disk.itemsize
            expected.append(Expected(COLUMN, number, index, none, table.rows, table.rows * item, item))
            for place, f in enumerate(layout.fields):
                if f.variable:
                    size = (table.rows + 1) * 8
                    expected.append(Expected(OFFSETS, number, index, place, table.rows, size, 8))
                    item = f.element(disk=True).itemsize
                    expected.append(Expected(VALUES, number, index, place, table.rows, -1, item))
    used = {t for table in schema.tables for t in table.types}
    if len(used.union([wanted.type for wanted in loose if wanted.kind == REMOVED])) != len(schema.types):
        raise InvalidFormatError(f"expected every type of the registry to occur in {name}")
    return rows, (*expected, *loose)


def _loose_ids(head: Head, types: int, name: str) -> tuple[Expected, ...]:
    """Return the sections of ids that belong to no table of a delta, in the order in which they have to be."""
    found: list[Expected] = []
    for kind, _, _, type_, _, rows, *_ in head.sections:
        if kind not in (DESPAWNED, REMOVED):
            continue
        wanted = Expected(
            kind,
            NOT_APPLICABLE,
            type_ if kind == REMOVED else NOT_APPLICABLE,
            NOT_APPLICABLE,
            rows,
            rows * 16,
            16,
        )
        if (
            not rows
            or (kind == REMOVED and type_ >= types)
            or (found and (found[-1].kind, found[-1].type) >= (kind, type_) and kind == found[-1].kind)
            or (found and found[-1].kind > kind)
        ):
            raise InvalidFormatError(
                f"expected despawned ids, then ids without one of {types} types, each once and with rows, in"
                f" their order, found {KIND_NAMES[kind]}, type {type_}, {rows} rows in {name}"
            )
        found.append(wanted)
    return tuple(found)


def check_directory(source: Source, head: Head, expected: tuple[Expected, ...], limits: Limits) -> None:
    """Raise unless the sections are the expected ones, fill the file, and unpack into what the limits allow."""
    end = head.size
    total = kept = number = used = 0
    for place, section in enumerate(head.sections):
        kind, codec, table, type_, field, rows, offset, stored_size, raw_size, _, reserved = section
        if offset != (end + ALIGNMENT - 1) & -ALIGNMENT or reserved:
            raise InvalidFormatError(
                f"expected offset {aligned(end)} and reserved 0, found {offset} and {reserved}:"
                f" {where(source, place, section)}"
            )
        end = offset + stored_size
        # Those of a delta become arrays at once.
        if codec == RUNS and stored_size <= MOST_RUNS * RUN.itemsize and not head.flags & DELTA:
            kept += raw_size
        else:
            total += raw_size
        if not kind & SKIPPABLE:
            wanted = expected[number] if number < len(expected) else None
            if wanted is None or (kind, table, type_, field, rows, raw_size) != wanted[:6]:
                _check_variable(section, wanted, source, place)
            if codec != RAW or stored_size != raw_size:
                _check_codec(section, wanted, source, place)
            number += 1
        if codec & 0xFF in _CODECS:
            used |= codec & 0xFF
    if end + FOOTER_SIZE != source.size:
        raise InvalidFormatError(
            f"expected sections to end at byte {source.size - FOOTER_SIZE}, found {end} in {source.name}"
        )
    if used != head.flags & (ZSTD | LZ4):
        raise InvalidFormatError(
            f"expected flags for codecs {used}, found {head.flags & (ZSTD | LZ4)} at byte 8 of {source.name}"
        )
    if number < len(expected):
        missing = expected[number]
        raise InvalidFormatError(
            f"expected a section of {KIND_NAMES[missing.kind]} for table {missing.table}, found the end in"
            f" {source.name}"
        )
    ratio = limits.ratio * source.size
    free = limits.free_size
    allowed = limits.total_size, max(free, ratio), max(_FREE_RUNS * free, ratio)
    if total + kept > allowed[0] or total > allowed[1] or kept > allowed[2]:
        raise LimitExceededError(
            f"expected at most {allowed[0]} bytes in all sections, {allowed[1]} ({limits.ratio} times the"
            f" file) unpacked and {allowed[2]} that stay packed, found {total} and {kept} in {source.name}",
            suggestion="pass larger Limits if you trust where it comes from",
        )


def where(source: Source, place: int, section: Section) -> str:
    """Return what messages call a section."""
    kind, _, table, type_, _, _, offset, *_ = section
    name = KIND_NAMES[kind] if kind < len(KIND_NAMES) else f"kind {kind}"
    of = f" of {source.registry[type_][0]}" if type_ < len(source.registry) else ""
    within = "" if table == NOT_APPLICABLE else f", table {table}"
    return f"section {place} ({name}{of}{within}) at byte {offset} of {source.name}"


def _check_variable(section: Section, wanted: Expected | None, source: Source, place: int) -> None:
    """Raise unless *section* is the one wanted, of a size that only its offsets tell."""
    kind, _, table, type_, field, rows, _, _, raw_size, _, _ = section
    key = kind, table, type_, field
    if wanted is None or key != wanted[:4]:
        raise InvalidFormatError(
            f"expected {wanted[:4] if wanted else 'no more sections'} as the schema promises, found {key}:"
            f" {where(source, place, section)}"
        )
    if wanted.raw_size >= 0:
        raise InvalidFormatError(
            f"expected {wanted.rows} rows in {wanted.raw_size} bytes, found {rows} in {raw_size}:"
            f" {where(source, place, section)}"
        )
    # How many elements; some writers say how many rows have them.
    if raw_size % wanted.item or rows not in (raw_size // wanted.item, wanted.rows):
        raise InvalidFormatError(
            f"expected elements of {wanted.item} bytes, found {rows} in {raw_size} bytes:"
            f" {where(source, place, section)}"
        )


def _check_codec(section: Section, wanted: Expected | None, source: Source, place: int) -> None:
    """Raise unless *section* is stored in a way that its kind allows."""
    kind, codec, _, _, _, _, _, stored_size, raw_size, _, _ = section
    item = wanted.item if wanted else 1
    if codec == RAW:
        raise InvalidFormatError(
            f"expected {raw_size} bytes, found {stored_size} in {where(source, place, section)}"
        )
    if codec == RUNS:
        fits = kind in _ID_KINDS and not stored_size % RUN.itemsize
    else:
        known = codec & 0xFF in _CODECS and not codec & ~(0xFF | SHUFFLE | DELTA_FILTER)
        fits = known and item > 0 and not (codec & DELTA_FILTER and item % 8)
    if fits:
        return
    raise InvalidFormatError(
        f"expected a known codec that fits items of {item} bytes, found {codec:#x} in"
        f" {where(source, place, section)}"
    )


def read_section(source: Source, section: Section, place: int, item: int, threads: int = 1) -> Any:
    """Return the bytes of a section as a new writable buffer, checked and unpacked; runs of ids stay packed.

    Raises
    ------
    CorruptedDataError
        If its sum is wrong.
    PluginNotFoundError
        If its codec is missing here.
    """
    _, codec, _, _, _, _, offset, stored_size, _, crc, _ = section
    if codec in (RAW, RUNS):
        data, found = source.fresh(offset, stored_size)
        if codec == RUNS and stored_size > MOST_RUNS * RUN.itemsize:
            source.unpacks(section[8])
    else:
        data, found = _unpack(source, section, place, item, threads)
    if found != crc:
        raise _wrong_sum(source, section, place, found)
    return data


def _unpack(source: Source, section: Section, place: int, item: int, threads: int) -> tuple[Any, int]:
    """Return a compressed section unpacked, and the sum of its stored bytes."""
    _, codec, _, _, _, _, offset, stored_size, raw_size, _, _ = section
    crc = 0

    def read(size: int) -> Any:
        nonlocal offset, crc
        data, found = source.fresh(offset, size)
        offset += size
        crc = combine(crc, found, size)
        return data

    source.unpacks(raw_size, stored_size)
    target = np.empty(raw_size, BYTE)
    filters = Filters(item, bool(codec & SHUFFLE), bool(codec & DELTA_FILTER))
    here = where(source, place, section)
    try:
        unpacked(_CODECS[codec & 0xFF], read, stored_size, target, filters, here, threads, source.unpacks)
    except (InvalidFormatError, CorruptedDataError):
        if source.ahead:
            # What is wrong with the chunks follows from damage to the section, if it is damaged.
            check_sum(source, section, place)
        raise
    return target, crc


def check_sum(source: Source, section: Section, place: int) -> None:
    """Raise unless a section's stored bytes have the sum that they should have."""
    _, _, _, _, _, _, offset, stored_size, _, crc, _ = section
    found = 0
    for start in range(0, stored_size, CHUNK):
        size = min(CHUNK, stored_size - start)
        found = combine(found, source.fresh(offset + start, size)[1], size)
    if found != crc:
        raise _wrong_sum(source, section, place, found)


def sweep(source: Source, head: Head) -> Iterator[tuple[int, Section]]:
    """Yield each section, whose bytes and sum the caller reads and checks; check all that is between and after."""
    # The sum of the head with its own sum behind it is 0; zero bytes before a section add nothing.
    footer = 0
    end = head.size
    for place, section in enumerate(head.sections):
        offset = section[6]
        if offset > end and source.read(end, offset - end) != ZEROS[: offset - end]:
            raise CorruptedDataError(
                f"expected zero bytes, found others at byte {end} of {source.name}",
                suggestion="load a backup",
            )
        yield place, section
        following = offset + section[7]
        footer = combine(footer, section[9], following - end) if footer else section[9]
        end = following
    found = int.from_bytes(source.read(end, FOOTER_SIZE), "little")
    if found != footer:
        raise CorruptedDataError(
            f"expected footer checksum {footer:#018x}, found {found:#018x} at byte {end} of {source.name}",
            suggestion="load a backup",
        )


def _wrong_sum(source: Source, section: Section, place: int, found: int) -> CorruptedDataError:
    return CorruptedDataError(
        f"expected checksum {section[9]:#018x}, found {found:#018x} in {where(source, place, section)}",
        suggestion="load a backup",
    )
