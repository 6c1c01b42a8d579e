"""Version 2 of the binary format, written: a snapshot as sections of whole columns.

A column without references and variable-length fields is written from where it lies in memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.ids import IdColumn, encode_runs
from pecs_np.ecs.references import EntityMap, convert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import invalid_element, invalid_value
from pecs_np.errors import ComponentValueError
from pecs_np.persistence import variable
from pecs_np.persistence.binary.framing import (
    COLUMN,
    EXTENDED_METADATA,
    NOT_APPLICABLE,
    OFFSETS,
    RAW,
    RUNS,
    SMALL,
    STABLE_IDS,
    VALUES,
    Frame,
    registry_of,
)
from pecs_np.persistence.binary.schema import TableSchema, types_json, write_schema

__all__ = ["encode"]

# kind, codec, table, type, field, rows, raw size, stored size; and what is stored
Entry = tuple[tuple[int, ...], Any]
Mapped = Callable[[Array], Array]


@dataclass(frozen=True, slots=True, eq=False)
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
    if not snapshot.metadata and (prepared := snapshot.cache.get("binary")) is not None:
        frame: Frame
        frame, parts = prepared
        return frame.filled([part() for part in parts])
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
            if layout.checked and (bad := invalid_value(column, layout.fixed)) is not None:
                raise _refuse(bad, type_)
            if layout.plain:
                entries.append(_column_section(column, number, index, rows))
                continue
            if mapped is None and any(f.has_refs() for f in layout.fields):
                mapped = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
            entries += _mixed_sections(column, type_, number, index, mapped or _unmapped)
    schema = write_schema(snapshot, plan.types_json, tuple(announced))
    make = _frame if len(schema) <= SMALL else _frame.__wrapped__
    frame = make(plan, schema, tuple([key for key, _ in entries]), snapshot.entity_count)
    _prepare(snapshot, [tables[place] for place, _ in plan.order], frame, entries)
    return frame.filled([stored for _, stored in entries])


def _prepare(snapshot: Snapshot, tables: list[SnapshotTable], frame: Frame, entries: list[Entry]) -> None:
    """Remember the frame of a snapshot whose sections are its columns as they lie in memory."""
    if snapshot.metadata or snapshot.rngs or snapshot.resources or snapshot.id_source:
        return
    parts: list[Callable[[], Any]] = []
    settled: list[Any] = []
    for table in tables:
        _, ids = entries[len(parts)]
        parts.append(functools.partial(_itself, ids))
        settled.append(ids)
        for type_ in table.types:
            if not type_.layout.plain or type_.layout.checked:
                return
            column = table.columns[type_.name]
            parts.append(column.tobytes if column.nbytes < SMALL else functools.partial(_stored, column))
            settled.append(None)
    snapshot.cache["binary"] = frame.settled(settled), parts


@functools.lru_cache(maxsize=64)
def _frame(plan: _Plan, schema: bytes, sections: tuple[tuple[int, ...], ...], count: int) -> Frame:
    return Frame(
        flags=EXTENDED_METADATA,
        entity_count=count,
        type_count=plan.type_count,
        registry=plan.registry,
        schema=schema,
        sections=sections,
    )


def _unmapped(references: Array) -> Array:
    return references


def _id_section(ids: IdColumn, table: int) -> Entry:
    runs = encode_runs(ids)
    stored = _stored(ids.array()) if runs is None else runs
    codec = RAW if runs is None else RUNS
    key = (STABLE_IDS, codec, table, NOT_APPLICABLE, NOT_APPLICABLE, ids.size)
    return (*key, ids.size * 16, len(stored)), stored


def _column_section(column: Array, table: int, type_: int, rows: int) -> Entry:
    stored = _stored(column)
    size = len(stored)
    return (COLUMN, RAW, table, type_, NOT_APPLICABLE, rows, size, size), stored


def _itself(data: Any) -> Any:
    return data


def _stored(array: Array) -> Any:
    if array.nbytes < SMALL:
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
        if (bad := invalid_element(values, f)) is not None:
            element, path, what = bad
            row = int(np.searchsorted(offsets, element, "right")) - 1
            raise _refuse((row, path, what), type_)
        if f.ref:
            values = mapped(values)
        elif f.has_refs():
            converted = np.empty(values.shape, f.element(disk=True).base)
            convert(values, converted, f.fields, mapped)
            values = converted
        sizes = offsets.nbytes, offsets.nbytes
        yield (OFFSETS, RAW, table, index, place, len(column), *sizes), _stored(offsets)
        sizes = values.nbytes, values.nbytes
        yield (VALUES, RAW, table, index, place, int(offsets[-1]), *sizes), _stored(values)


def _refuse(bad: tuple[int, str, str], type_: ComponentType) -> ComponentValueError:
    row, field, what = bad
    return ComponentValueError(
        f"expected values that can be loaded again, found one that {what} in row {row} of"
        f" {type_.name}.{field}",
        suggestion="world.validate() lists such values",
    )
