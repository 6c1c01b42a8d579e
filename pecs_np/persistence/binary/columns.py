"""Version 2 of the binary format: a snapshot as sections of whole columns, and back.

A column without references and variable-length fields is written from where it lies in memory, and
read into the array that the world then uses.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import (
    ENTITY_ID,
    MOST_RUNS,
    RUN,
    STABLE_ID,
    IdColumn,
    IdLookup,
    as_int,
    encode_runs,
    expand_runs,
    find_duplicate,
)
from pecs_np.ecs.references import EntityMap, convert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import invalid_value
from pecs_np.errors import (
    ComponentValueError,
    CorruptedDataError,
    DanglingReferenceError,
    InvalidFormatError,
    LimitExceededError,
)
from pecs_np.persistence import variable
from pecs_np.persistence.binary.framing import (
    NOT_APPLICABLE,
    Codec,
    FormatFlags,
    Head,
    Kind,
    Section,
    Source,
    frame,
    read_head,
    registry_of,
)
from pecs_np.persistence.binary.schema import (
    Schema,
    TableSchema,
    read_schema,
    resolve_types,
    types_json,
    write_schema,
)
from pecs_np.persistence.checksum import crc64
from pecs_np.persistence.limits import Limits

__all__ = ["decode", "encode"]

# Below this a copy into bytes is cheaper than a view of the array.
_SMALL = 1 << 15
_GENEROUS = 1 << 30

Entry = tuple[tuple[int, ...], int, Any]
Mapped = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the head of a save needs to know of its types: the same for every save of these archetypes."""

    registry: bytes
    types_json: bytes
    type_count: int
    # For each table of the save, in its order: place in the snapshot, type indices.
    order: tuple[tuple[int, tuple[int, ...]], ...]


@functools.lru_cache(maxsize=64)
def _plan(archetypes: tuple[tuple[ComponentType, ...], ...]) -> _Plan:
    by_name = {t.name: t for types in archetypes for t in types}
    types = [by_name[name] for name in sorted(by_name)]
    index = {t.name: i for i, t in enumerate(types)}
    tables = [(place, tuple([index[t.name] for t in types])) for place, types in enumerate(archetypes)]
    # Resources come last among the archetypes, and so after a state table of the same types.
    order = tuple(sorted(tables, key=lambda table: (table[1], table[0])))
    return _Plan(registry_of(types), types_json(types), len(types), order)


def encode(snapshot: Snapshot) -> list[Any]:
    """Return *snapshot* as the buffers of a save, to be written one after the other.

    Raises
    ------
    ComponentValueError
        If a column holds what no reader would accept.
    """
    tables = snapshot.tables
    if snapshot.resources is not None:
        tables = (*tables, snapshot.resources)
    plan = _plan(tuple([table.types for table in tables]))
    mapped: Mapped | None = None
    announced = []
    entries: list[Entry] = []
    for number, (place, indices) in enumerate(plan.order):
        table = tables[place]
        rows = table.rows
        if table is snapshot.resources:
            announced.append(TableSchema(rows, indices, "resource"))
        else:
            announced.append(TableSchema(rows, indices, "state"))
            entries.append(_id_section(table.stable_ids, number))
        for type_, index in zip(table.types, indices, strict=True):
            column = table.columns[type_.name]
            layout = type_.layout
            if layout.checked:
                _check_values(column, type_)
            if layout.plain:
                entries.append(_column_section(column, number, index, rows))
                continue
            if mapped is None and any(f.has_refs() for f in layout.fields):
                mapped = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
            entries += _mixed_sections(column, type_, number, index, mapped or _unmapped)
    return frame(
        flags=FormatFlags.EXTENDED_METADATA,
        entity_count=snapshot.entity_count,
        type_count=plan.type_count,
        registry=plan.registry,
        schema=write_schema(snapshot, plan.types_json, announced),
        sections=entries,
    )


def _unmapped(references: Array) -> Array:
    return references


def _id_section(ids: IdColumn, table: int) -> Entry:
    runs = encode_runs(ids)
    key = (
        Kind.STABLE_IDS,
        Codec.RAW if runs is None else Codec.RUNS,
        table,
        NOT_APPLICABLE,
        NOT_APPLICABLE,
        ids.size,
    )
    stored = _stored(ids.array()) if runs is None else runs
    return key, ids.size * STABLE_ID.itemsize, stored


def _column_section(column: Array, table: int, type_: int, rows: int) -> Entry:
    stored = _stored(column)
    return (Kind.COLUMN, Codec.RAW, table, type_, NOT_APPLICABLE, rows), len(stored), stored


def _stored(array: Array) -> Any:
    if array.nbytes < _SMALL:
        return array.tobytes()
    return as_bytes(np.ascontiguousarray(array))


def _mixed_sections(
    column: Array, type_: ComponentType, table: int, index: int, mapped: Mapped
) -> Iterator[Entry]:
    """Yield the sections of a type with references or variable-length fields."""
    layout = type_.layout
    fixed = np.empty(len(column), layout.disk)
    convert(column, fixed, layout.fixed, mapped)
    yield _column_section(fixed, table, index, len(column))
    for place, f in enumerate(type_.fields):
        if not f.variable:
            continue
        offsets, values = variable.encode(column[f.name], f, f"{type_.name}.{f.name}")
        if f.ref:
            values = mapped(values)
        elif f.has_refs():
            converted = np.empty(values.shape, f.element(disk=True).base)
            convert(values, converted, f.fields, mapped)
            values = converted
        count = int(offsets[-1])
        yield (
            (Kind.OFFSETS, Codec.RAW, table, index, place, len(column)),
            offsets.nbytes,
            _stored(offsets),
        )
        yield (Kind.VALUES, Codec.RAW, table, index, place, count), values.nbytes, _stored(values)


def _check_values(column: Array, type_: ComponentType) -> None:
    if (bad := invalid_value(column, type_.fields)) is not None:
        row, field, what = bad
        raise ComponentValueError(
            f"expected values that can be loaded again, found one that {what} in row {row} of"
            f" {type_.name}.{field}",
            suggestion="world.validate() lists such values",
        )


def decode(source: Source, limits: Limits) -> Snapshot:
    """Read a whole save, checking every sum and every rule of the format.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.
    """
    head = read_head(source, limits)
    _check_supported(head, source)
    schema = read_schema(head.schema, source.name, limits.itemsize)
    types = resolve_types(schema.types, head.registry, source.name)
    reader = _Reader(source, head, schema, types, limits)
    snapshot = reader.snapshot()
    head.check_footer(source)
    return snapshot


def _check_supported(head: Head, source: Source) -> None:
    if head.flags & FormatFlags.DELTA:
        raise InvalidFormatError(
            f"expected a whole save, found a delta in {source.name}",
            suggestion="load the save that it applies to",
        )
    for i, section in enumerate(head.sections):
        if section.codec & 0xFF in (Codec.ZSTD, Codec.LZ4):
            codec = Codec(section.codec & 0xFF).name.lower()
            raise InvalidFormatError(
                f"expected sections stored raw or as runs, found {codec} for section {i} of {source.name}",
                suggestion="save it uncompressed",
            )


class _Reader:
    """Turns the sections of one save into tables."""

    def __init__(
        self,
        source: Source,
        head: Head,
        schema: Schema,
        types: tuple[ComponentType, ...],
        limits: Limits,
    ) -> None:
        self.source = source
        self.head = head
        self.schema = schema
        self.types = types
        self.limits = limits
        self.total = 0
        self.sections: dict[tuple[int, int, int, int], tuple[int, Section]] = {}
        for place, section in enumerate(head.sections):
            key = section.kind, section.table, section.type, section.field
            if key in self.sections:
                raise InvalidFormatError(f"expected one section, found a second: {self.where(place)}")
            self.sections[key] = place, section

    def snapshot(self) -> Snapshot:
        count = sum([table.rows for table in self.schema.tables if table.role == "state"])
        if count != self.head.entity_count:
            raise InvalidFormatError(
                f"expected {self.head.entity_count} rows in all, found {count} in {self.source.name}"
            )
        if len(self.types) and len(used := {t for table in self.schema.tables for t in table.types}) < len(
            self.types
        ):
            unused = next(i for i in range(len(self.types)) if i not in used)
            raise InvalidFormatError(
                f"expected every type to occur, found {self.types[unused].name!r} unused in {self.source.name}"
            )
        self.check_sizes()
        tables, resources = [], None
        first = 1
        pending = []
        for number, table in enumerate(self.schema.tables):
            types = tuple([self.types[t] for t in table.types])
            columns: dict[str, Array] = {}
            if table.role == "resource":
                made = SnapshotTable(types, 1, IdColumn(ENTITY_ID), IdColumn(STABLE_ID), columns)
                resources = made
            elif table.role == "state":
                stable_ids = self.stable_ids(number, table.rows)
                entities = IdColumn(ENTITY_ID, [(first, table.rows)])
                made = SnapshotTable(types, table.rows, entities, stable_ids, columns)
                tables.append(made)
                first += table.rows
            else:
                raise InvalidFormatError(
                    f"expected a table of a whole save, found role {table.role!r} in {self.source.name}"
                )
            pending.append((number, table, made))
        if (double := find_duplicate([table.stable_ids for table in tables])) is not None:
            raise CorruptedDataError(
                f"expected distinct stable ids, found {double:032x} twice in {self.source.name}"
            )
        mapped = self.mapping(tables)
        for number, announced, made in pending:
            for index in announced.types:
                made.columns[self.types[index].name] = self.column(number, index, announced.rows, mapped)
        for place, section in self.sections.values():
            if not section.kind & 0x8000:
                raise InvalidFormatError(f"expected no other section, found {self.where(place)}")
            self.stored(place, section)
        tables.sort(key=lambda table: [t.name for t in table.types])
        return Snapshot(
            tuple(tables),
            resources,
            self.schema.version,
            self.schema.metadata,
            self.schema.rngs,
            self.schema.id_source,
            sound=True,
        )

    def where(self, place: int) -> str:
        section = self.head.sections[place]
        try:
            kind = Kind(section.kind).name.lower().replace("_", " ")
        except ValueError:
            kind = f"kind {section.kind}"
        if section.type < len(self.types):
            kind += f" of {self.types[section.type].name!r}"
        return (
            f"section {place} ({kind}, table {section.table}) at byte {section.offset} of {self.source.name}"
        )

    def check_sizes(self) -> None:
        """Raise if the sections would unpack into more than the limits allow."""
        total = 0
        for place, section in enumerate(self.head.sections):
            total += section.raw_size
            if section.codec == Codec.RAW and section.raw_size != section.stored_size:
                raise InvalidFormatError(
                    f"expected {section.raw_size} bytes, found {section.stored_size} in {self.where(place)}"
                )
        allowed = min(self.limits.total_size, max(_GENEROUS, self.limits.ratio * self.source.size))
        if total > allowed:
            raise LimitExceededError(
                f"expected at most {allowed} bytes in all sections, found {total} in {self.source.name}",
                suggestion="pass larger Limits if you trust where it comes from",
            )

    def take(self, key: tuple[int, int, int, int], rows: int | None, size: int | None) -> Any:
        """Return (place, section) of *key*, once, if it has the *rows* and the raw *size*."""
        found = self.sections.pop(key, None)
        if found is None:
            kind, table, type_, _ = key
            name = "" if type_ == NOT_APPLICABLE else f" of {self.types[type_].name!r}"
            raise InvalidFormatError(
                f"expected a section of {Kind(kind).name.lower()}{name} for table {table}, found none in"
                f" {self.source.name}"
            )
        place, section = found
        if rows is not None and section.rows != rows:
            raise InvalidFormatError(f"expected {rows} rows, found {section.rows} in {self.where(place)}")
        if size is not None and section.raw_size != size:
            raise InvalidFormatError(
                f"expected {size} bytes, found {section.raw_size} in {self.where(place)}"
            )
        return found

    def stored(self, place: int, section: Section) -> Array:
        """Return the stored bytes of a section, checked against its sum."""
        data = self.source.array(section.offset, section.stored_size)
        crc = crc64(data)
        if crc != section.crc:
            raise CorruptedDataError(
                f"expected checksum {section.crc:#018x}, found {crc:#018x} in {self.where(place)}",
                suggestion="load a backup",
            )
        return data

    def raw(self, place: int, section: Section) -> Array:
        if section.codec != Codec.RAW:
            raise InvalidFormatError(f"expected codec 0, found {section.codec:#x} in {self.where(place)}")
        return self.stored(place, section)

    def stable_ids(self, table: int, rows: int) -> IdColumn:
        key = (Kind.STABLE_IDS, table, NOT_APPLICABLE, NOT_APPLICABLE)
        place, section = self.take(key, rows, rows * STABLE_ID.itemsize)
        if section.codec == Codec.RUNS:
            ids = self.runs(place, section)
        else:
            ids = IdColumn(STABLE_ID, array=self.raw(place, section).view(STABLE_ID))
        if ids.runs is None:
            array = ids.array()
            null = bool(((array["lo"] | array["hi"]) == 0).any())
        else:
            null = any(first == 0 for first, _ in ids.runs)
        if null:
            raise CorruptedDataError(f"expected stable ids other than 0, found 0 in {self.where(place)}")
        return ids

    def runs(self, place: int, section: Section) -> IdColumn:
        if section.stored_size % RUN.itemsize:
            raise InvalidFormatError(
                f"expected runs of {RUN.itemsize} bytes, found {section.stored_size} bytes in {self.where(place)}"
            )
        runs = self.stored(place, section).view(RUN)
        counts = runs["count"].tolist()
        firsts = [as_int(first) for first in runs["first"]] if len(runs) <= MOST_RUNS else None
        # A run that wraps ends below its first id.
        wraps = (
            any(first + count > 1 << 128 for first, count in zip(firsts, counts, strict=True))
            if firsts is not None
            else any(h == (1 << 64) - 1 and low + n > 1 << 64 for (low, h), n in runs.tolist())
        )
        if sum(counts) != section.rows or 0 in counts or wraps:
            raise InvalidFormatError(
                f"expected runs of {section.rows} ids that do not wrap, found {sum(counts)} in {self.where(place)}"
            )
        if firsts is None:
            return IdColumn(STABLE_ID, array=expand_runs(runs))
        return IdColumn(STABLE_ID, list(zip(firsts, counts, strict=True)))

    def mapping(self, tables: list[SnapshotTable]) -> Mapped:
        """Return the function that turns stable ids into entity ids, ready if any type needs it."""
        if not any(f.has_refs() for t in self.types for f in t.fields):
            return _unmapped
        lookup = IdLookup(np.concatenate([np.empty(0, STABLE_ID), *(t.stable_ids.array() for t in tables)]))
        name = self.source.name

        def mapped(references: Array) -> Array:
            flat = references.reshape(-1)
            # Entities are numbered from 1 in table order.
            found = lookup.find(flat) + 1
            if not found.all():
                unknown = flat[(found == 0) & ((flat["lo"] | flat["hi"]) != 0)]
                if len(unknown):
                    raise DanglingReferenceError(
                        f"expected references to entities of the save, found {as_int(unknown[0]):032x} in {name}"
                    )
            return found.astype(ENTITY_ID).reshape(references.shape)

        return mapped

    def column(self, table: int, index: int, rows: int, mapped: Mapped) -> Array:
        type_ = self.types[index]
        layout = type_.layout
        place, section = self.take(
            (Kind.COLUMN, table, index, NOT_APPLICABLE), rows, rows * layout.disk.itemsize
        )
        data = self.raw(place, section)
        fixed = data.view(layout.disk) if layout.disk.itemsize else np.empty(rows, layout.disk)
        # What is no value must not reach NumPy's conversions.
        self.check_values(fixed, tuple([f for f in self.schema.types[index].fields if not f.variable]), place)
        if layout.plain:
            return fixed
        column = np.empty(rows, layout.memory)
        convert(fixed, column, layout.fixed, mapped)
        for number, f in enumerate(type_.fields):
            if f.variable:
                column[f.name] = self.variable(table, index, number, f, rows, mapped)
        return column

    def check_values(self, array: Array, fields: tuple[Field, ...], place: int) -> None:
        if (bad := invalid_value(array, fields)) is not None:
            row, field, what = bad
            raise CorruptedDataError(
                f"expected valid values, found one that {what} in row {row} of {field!r} in {self.where(place)}"
            )

    def variable(
        self, table: int, index: int, number: int, f: Field, rows: int, mapped: Mapped
    ) -> Array:
        place, section = self.take((Kind.OFFSETS, table, index, number), rows, (rows + 1) * 8)
        offsets = self.raw(place, section).view("<u8")
        if offsets[0] != 0 or not (offsets[1:] >= offsets[:-1]).all():
            raise CorruptedDataError(f"expected offsets from 0 that never decrease in {self.where(place)}")
        element = f.element(disk=True)
        count = int(offsets[-1])
        place, section = self.take((Kind.VALUES, table, index, number), None, count * element.itemsize)
        if section.rows not in (count, rows):
            raise InvalidFormatError(f"expected {count} rows, found {section.rows} in {self.where(place)}")
        values = self.raw(place, section)
        where = f"{f.name!r} in {self.where(place)}"
        if f.variable == "list":
            values = values.view(element.base).reshape(count, *f.shape)
            stored = self.schema.types[index].fields[number]
            rows_ = np.empty(count, np.dtype([(f.name, element)]))
            rows_[f.name] = values
            self.check_values(rows_, (Field(f.name, f.dtype, f.ref, f.fields, f.shape, stored.enum),), place)
            if f.ref:
                values = mapped(values)
            elif f.has_refs():
                memory = np.empty(values.shape, f.element().base)
                convert(values, memory, f.fields, mapped)
                values = memory
        return variable.decode(offsets, values, f, where)
