"""Version 2 of the binary format, read: sections of whole columns to a snapshot.

Sections are read once, in the order of the file, each into the array that the world will use; what
needs more than its own bytes, such as references, is worked out when all are there.
"""

from __future__ import annotations

import copy
import functools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import (
    ENTITY_ID,
    MOST_RUNS,
    RUN,
    STABLE_ID,
    ColumnLookup,
    IdColumn,
    as_int,
    expand_runs,
    find_duplicate,
)
from pecs_np.ecs.references import convert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import invalid_element, invalid_value
from pecs_np.errors import (
    CorruptedDataError,
    DanglingReferenceError,
    InvalidFormatError,
    LimitExceededError,
)
from pecs_np.persistence import variable
from pecs_np.persistence.binary.framing import (
    ALIGNMENT,
    COLUMN,
    DELTA,
    FOOTER_SIZE,
    KIND_NAMES,
    NOT_APPLICABLE,
    OFFSETS,
    RAW,
    RUNS,
    SKIPPABLE,
    STABLE_IDS,
    VALUES,
    ZEROS,
    Head,
    Section,
    Source,
    aligned,
    read_head,
)
from pecs_np.persistence.binary.schema import Schema, read_schema, resolve_types
from pecs_np.persistence.checksum import combine, crc64
from pecs_np.persistence.limits import Limits

__all__ = ["decode"]

# Raw bytes that are always allowed, however small the file.
_GENEROUS = 1 << 30
# Of ids that stay the few runs they are stored as: they cost nothing until somebody asks for the array.
_GENEROUS_RUNS = 1 << 34

# first u128 as two halves, count
_RUN = struct.Struct("<QQQ")

Mapped = Callable[[Array], Array]


class _Expected(NamedTuple):
    """A section that the schema promises; -1 where the size depends on another section."""

    kind: int
    table: int
    type: int
    field: int
    rows: int
    raw_size: int


# A section that was read: its entry in the directory, its bytes, and its place.
_Part = tuple[Section, Any, int]


def decode(source: Source, limits: Limits) -> Snapshot:
    """Read a whole save, checking every sum and every rule of the format.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.
    """
    try:
        return _decode(source, limits)
    except MemoryError:
        raise LimitExceededError(
            f"expected memory for {source.name}, found too little", suggestion="close other programs"
        ) from None


def _decode(source: Source, limits: Limits) -> Snapshot:
    head = read_head(source, limits)
    if head.flags & DELTA:
        raise InvalidFormatError(
            f"expected a whole save, found a delta in {source.name}",
            suggestion="load the save that it applies to",
        )
    schema = read_schema(head.schema, source.name, limits.itemsize)
    types = resolve_types(schema.types, head.registry, source.name)
    rows, expected = _expected(schema, source.name)
    if rows != head.entity_count:
        raise InvalidFormatError(f"expected {head.entity_count} rows in all, found {rows} in {source.name}")
    _check_directory(source, head, expected, limits)
    parts = iter(_read_sections(source, head))
    reader = _Columns(source)
    tables: list[SnapshotTable] = []
    resources = None
    unfinished: list[tuple[dict[str, Array], int, list[_Part]]] = []
    first = 1
    for table_rows, indices, role in schema.tables:
        own = tuple([types[t] for t in indices])
        columns: dict[str, Array] = {}
        if role == "state":
            stable_ids = reader.stable_ids(next(parts))
            entities = IdColumn(ENTITY_ID, ((first, table_rows),))
            table = SnapshotTable(own, table_rows, entities, stable_ids, columns)
            tables.append(table)
            first += table_rows
        else:
            resources = SnapshotTable(own, 1, IdColumn(ENTITY_ID), IdColumn(STABLE_ID), columns)
        for index, type_ in zip(indices, own, strict=True):
            part = next(parts)
            layout = type_.layout
            if layout.plain and not layout.checked and layout.disk.itemsize:
                columns[type_.name] = np.frombuffer(part[1], layout.disk)
            else:
                more = [next(parts) for _ in range(2 * len(layout.variable))]
                unfinished.append((columns, index, [part, *more]))
    if (double := find_duplicate([table.stable_ids for table in tables])) is not None:
        raise CorruptedDataError(f"expected distinct stable ids, found {double:032x} twice in {source.name}")
    if unfinished:
        mapped = _mapping(tables, source.name)
        for columns, index, read in unfinished:
            described = schema.types[index]
            columns[described.name] = reader.column(types[index], described, read, mapped)
    if len(tables) > 1:
        tables.sort(key=lambda table: [t.name for t in table.types])
    metadata = copy.deepcopy(schema.metadata) if schema.metadata else {}
    return Snapshot(
        tuple(tables), resources, schema.version, metadata, schema.rngs, schema.id_source, sound=True
    )


@functools.lru_cache(maxsize=64)
def _expected(schema: Schema, name: str) -> tuple[int, tuple[_Expected, ...]]:
    """Return the rows in all, and the sections in their order, that a save with this schema has."""
    none = NOT_APPLICABLE
    rows = 0
    expected = []
    for number, table in enumerate(schema.tables):
        if table.role == "state":
            rows += table.rows
            expected.append(_Expected(STABLE_IDS, number, none, none, table.rows, table.rows * 16))
        elif table.role != "resource":
            raise InvalidFormatError(f"expected a table of a whole save, found role {table.role!r} in {name}")
        for index in table.types:
            layout = schema.types[index].layout
            size = table.rows * layout.disk.itemsize
            expected.append(_Expected(COLUMN, number, index, none, table.rows, size))
            for place, f in enumerate(layout.fields):
                if f.variable:
                    size = (table.rows + 1) * 8
                    expected.append(_Expected(OFFSETS, number, index, place, table.rows, size))
                    expected.append(_Expected(VALUES, number, index, place, -1, -1))
    if len({t for table in schema.tables for t in table.types}) != len(schema.types):
        raise InvalidFormatError(f"expected every type of the registry to occur in {name}")
    return rows, tuple(expected)


def _check_directory(source: Source, head: Head, expected: tuple[_Expected, ...], limits: Limits) -> None:
    """Raise unless the sections are the expected ones, fill the file, and unpack into what the limits allow."""
    end = head.size
    total = kept = number = 0
    for place, section in enumerate(head.sections):
        kind, codec, table, type_, field, rows, offset, stored_size, raw_size, _, reserved = section
        if offset != (end + ALIGNMENT - 1) & -ALIGNMENT or reserved:
            raise InvalidFormatError(
                f"expected offset {aligned(end)} and reserved 0, found {offset} and {reserved}:"
                f" {_where(source, place, section)}"
            )
        end = offset + stored_size
        if codec == RUNS and stored_size <= MOST_RUNS * RUN.itemsize:
            kept += raw_size
        else:
            total += raw_size
        if not kind & SKIPPABLE:
            wanted = expected[number] if number < len(expected) else None
            if (kind, table, type_, field, rows, raw_size) != wanted:
                _check_variable(section, wanted, source, place)
            if codec != RAW or stored_size != raw_size:
                _check_codec(section, source, place)
            number += 1
    if end + FOOTER_SIZE != source.size:
        raise InvalidFormatError(
            f"expected sections to end at byte {source.size - FOOTER_SIZE}, found {end} in {source.name}"
        )
    if number < len(expected):
        missing = expected[number]
        raise InvalidFormatError(
            f"expected a section of {KIND_NAMES[missing.kind]} for table {missing.table}, found the end in"
            f" {source.name}"
        )
    ratio = limits.ratio * source.size
    allowed = limits.total_size, max(_GENEROUS, ratio), max(_GENEROUS_RUNS, ratio)
    if total + kept > allowed[0] or total > allowed[1] or kept > allowed[2]:
        raise LimitExceededError(
            f"expected at most {allowed[0]} bytes in all sections, {allowed[1]} ({limits.ratio} times the"
            f" file) unpacked and {allowed[2]} that stay packed, found {total} and {kept} in {source.name}",
            suggestion="pass larger Limits if you trust where it comes from",
        )


def _read_sections(source: Source, head: Head) -> list[_Part]:
    """Return the sections that may not be skipped; all sums are checked, the footer's too."""
    # The sum of the head with its own sum behind it is 0; zero bytes before a section add nothing.
    footer = 0
    end = head.size
    parts: list[_Part] = []
    for place, section in enumerate(head.sections):
        kind, _, _, _, _, _, offset, stored_size, _, crc, _ = section
        if offset > end and source.read(end, offset - end) != ZEROS[: offset - end]:
            raise CorruptedDataError(
                f"expected zero bytes, found others at byte {end} of {source.name}",
                suggestion="load a backup",
            )
        data = source.fresh(offset, stored_size)
        if (found := crc64(data)) != crc:
            raise CorruptedDataError(
                f"expected checksum {crc:#018x}, found {found:#018x} in {_where(source, place, section)}",
                suggestion="load a backup",
            )
        following = offset + stored_size
        footer = combine(footer, crc, following - end) if footer else crc
        end = following
        if not kind & SKIPPABLE:
            parts.append((section, data, place))
    found = int.from_bytes(source.read(end, FOOTER_SIZE), "little")
    if found != footer:
        raise CorruptedDataError(
            f"expected footer checksum {footer:#018x}, found {found:#018x} at byte {end} of {source.name}",
            suggestion="load a backup",
        )
    return parts


def _where(source: Source, place: int, section: Section) -> str:
    kind, _, table, _, _, _, offset, *_ = section
    name = KIND_NAMES[kind] if kind < len(KIND_NAMES) else f"kind {kind}"
    return f"section {place} ({name}, table {table}) at byte {offset} of {source.name}"


def _check_variable(section: Section, wanted: _Expected | None, source: Source, place: int) -> None:
    """Raise unless *section* is the one wanted, of a size that only its offsets tell."""
    kind, _, table, type_, field, rows, _, _, raw_size, _, _ = section
    key = kind, table, type_, field
    if wanted is None or key != wanted[:4]:
        raise InvalidFormatError(
            f"expected {wanted[:4] if wanted else 'no more sections'} as the schema promises, found {key}:"
            f" {_where(source, place, section)}"
        )
    if wanted.raw_size >= 0:
        raise InvalidFormatError(
            f"expected {wanted.rows} rows in {wanted.raw_size} bytes, found {rows} in {raw_size}:"
            f" {_where(source, place, section)}"
        )


def _check_codec(section: Section, source: Source, place: int) -> None:
    """Raise unless *section* is stored as runs."""
    kind, codec, _, _, _, _, _, stored_size, raw_size, _, _ = section
    if codec == RAW:
        raise InvalidFormatError(
            f"expected {raw_size} bytes, found {stored_size} in {_where(source, place, section)}"
        )
    if codec != RUNS or kind != STABLE_IDS or stored_size % RUN.itemsize:
        raise InvalidFormatError(
            f"expected codec raw, or runs of stable ids, found {codec:#x} in"
            f" {_where(source, place, section)}",
            suggestion="save it uncompressed",
        )


class _Columns:
    """Turns sections that were read into columns; knows where they are, for messages."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def where(self, part: _Part) -> str:
        section, _, place = part
        return _where(self.source, place, section)

    def stable_ids(self, part: _Part) -> IdColumn:
        (_, codec, _, _, _, rows, *_), data, _ = part
        if codec == RUNS:
            ids = self._runs(part, rows, data)
        else:
            ids = IdColumn(STABLE_ID, array=np.frombuffer(data, STABLE_ID))
        if ids.runs is not None:
            null = 0 in [first for first, _ in ids.runs]
        else:
            array = ids.array()
            null = bool(((array["lo"] | array["hi"]) == 0).any())
        if null:
            raise CorruptedDataError(f"expected stable ids other than 0, found 0 in {self.where(part)}")
        return ids

    def _runs(self, part: _Part, rows: int, data: Any) -> IdColumn:
        ids = None
        if len(data) <= MOST_RUNS * RUN.itemsize:
            found = IdColumn(STABLE_ID)
            wraps = False
            for low, high, count in _RUN.iter_unpack(data):
                first = high << 64 | low
                found.append_run(first, count)
                wraps = wraps or not count or first + count > 1 << 128
            total = found.size
            if total == rows and not wraps:
                ids = found
        else:
            table = np.frombuffer(data, RUN)
            counts = table["count"].tolist()
            total = sum(counts)
            if total == rows and 0 not in counts:
                expanded = expand_runs(table)
                last = expanded.take(np.cumsum(table["count"].astype(np.intp)) - 1)
                first = table["first"]
                # A run that wraps ends below its first id.
                equal = last["hi"] == first["hi"]
                if not ((last["hi"] < first["hi"]) | (equal & (last["lo"] < first["lo"]))).any():
                    ids = IdColumn(STABLE_ID, array=expanded)
        if ids is None:
            raise InvalidFormatError(
                f"expected runs of {rows} ids that do not wrap, found {total} in {self.where(part)}"
            )
        return ids

    def rows(self, part: _Part, dtype: np.dtype[Any]) -> Array:
        """Return the bytes of a column as rows of *dtype*."""
        section, data, _ = part
        return np.frombuffer(data, dtype) if section[7] else np.empty(section[5], dtype)

    def column(
        self, type_: ComponentType, described: ComponentType, parts: list[_Part], mapped: Mapped
    ) -> Array:
        """Return the column of *type_* from its sections; *described* is the type as the file has it."""
        layout = type_.layout
        fixed = self.rows(parts[0], layout.disk)
        if layout.checked:
            # Before NumPy converts anything: it trips over code points that are none.
            self._check(invalid_value(fixed, described.layout.fixed), parts[0])
        if layout.plain:
            return fixed
        column = np.empty(len(fixed), layout.memory)
        convert(fixed, column, layout.fixed, mapped)
        for i, f in enumerate(layout.variable):
            offsets, values = parts[1 + 2 * i], parts[2 + 2 * i]
            column[f.name] = self._variable(f, described.layout.variable[i], offsets, values, mapped)
        return column

    def _check(self, bad: tuple[int, str, str] | None, part: _Part) -> None:
        if bad is not None:
            row, field, what = bad
            raise CorruptedDataError(
                f"expected valid values, found one that {what} in row {row} of {field!r} in"
                f" {self.where(part)}"
            )

    def _variable(self, f: Field, described: Field, first: _Part, second: _Part, mapped: Mapped) -> Array:
        """Return the object column of a variable-length field from its offsets and its values."""
        offsets = np.frombuffer(first[1], "<u8")
        if offsets[0] != 0 or not (offsets[1:] >= offsets[:-1]).all():
            raise CorruptedDataError(f"expected offsets from 0 that never decrease in {self.where(first)}")
        (_, _, _, _, _, rows, _, _, raw_size, _, _), values, _ = second
        element = f.element(disk=True)
        count = int(offsets[-1])
        if raw_size != count * element.itemsize or rows not in (count, len(offsets) - 1):
            raise InvalidFormatError(
                f"expected {count} elements of {element.itemsize} bytes, found {rows} in {raw_size} bytes"
                f" in {self.where(second)}"
            )
        if f.variable == "list":
            values = _frombuffer(values, element.base).reshape(count, *f.shape)
            if (bad := invalid_element(values, described)) is not None:
                row = int(np.searchsorted(offsets, bad[0], "right")) - 1
                self._check((row, *bad[1:]), second)
            if f.ref:
                values = mapped(values)
            elif f.has_refs():
                memory = np.empty(values.shape, f.element().base)
                convert(values, memory, f.fields, mapped)
                values = memory
        else:
            values = _frombuffer(values, BYTE)
        return variable.decode(offsets, values, f, f"{f.name!r} in {self.where(second)}")


def _frombuffer(data: Any, dtype: np.dtype[Any]) -> Array:
    """Return a buffer, which may be empty, as an array."""
    return np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)


def _mapping(tables: list[SnapshotTable], name: str) -> Mapped:
    """Return the function that turns stable ids into entity ids, made ready when first called."""
    lookup: ColumnLookup | None = None

    def mapped(references: Array) -> Array:
        nonlocal lookup
        if lookup is None:
            lookup = ColumnLookup([table.stable_ids for table in tables])
        flat = references.reshape(-1)
        # Entities are numbered from 1 in the order of the file.
        found = lookup.find(flat) + 1
        if not found.all():
            unknown = flat[(found == 0) & ((flat["lo"] | flat["hi"]) != 0)]
            if len(unknown):
                raise DanglingReferenceError(
                    f"expected references to entities of the save, found {as_int(unknown[0]):032x} in {name}"
                )
        return found.astype(ENTITY_ID).reshape(references.shape)

    return mapped
