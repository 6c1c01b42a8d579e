"""Version 2 of the binary format, written: a snapshot as sections of whole columns.

A column without references and variable-length fields is written from where it lies in memory; others
are converted block by block, and compressed ones packed chunk by chunk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import IdColumn, encode_runs
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.persistence.binary.blocks import (
    SMALL,
    Blocks,
    Budget,
    Whole,
    check_rows,
    noticing_changes,
    rechunked,
)
from pecs_np.persistence.binary.columns import (
    Mapped,
    check_values,
    fixed_part,
    row_ranges,
    unmapped,
    variable_offsets,
    variable_part,
)
from pecs_np.persistence.binary.framing import (
    COLUMN,
    DELTA_FILTER,
    EXTENDED_METADATA,
    LZ4,
    NOT_APPLICABLE,
    OFFSETS,
    RAW,
    RUNS,
    SHUFFLE,
    STABLE_IDS,
    VALUES,
    ZSTD,
    Frame,
)
from pecs_np.persistence.binary.header import registry_of
from pecs_np.persistence.binary.id_runs import IDS_AT_ONCE, run_blocks, runs_pay
from pecs_np.persistence.binary.schema import TableSchema, types_json, write_schema
from pecs_np.persistence.compression import (
    CHUNK,
    CompressionType,
    Filters,
    Packing,
    chunk_sizes,
    chunk_table,
    compressed,
)

__all__ = ["encode"]

# kind, table, type, field, rows
Key = tuple[int, int, int, int, int]
# kind, codec, table, type, field, rows, raw size, stored size; and what is stored: a buffer or Blocks
Entry = tuple[tuple[int, ...], Any]
# Bytes-like blocks, the same each time.
Make = Callable[[], Iterable[Any]]

# As rows of a section: as many as there are items.
_ELEMENTS = -1
# What packs better is packed in smaller chunks, or not at all where items are too large for that: readers
# refuse what unpacks to 1000 times the file.
_BEST_RATIO, _MOST_RATIO = 500, 1000
_OFFSET = 8
_MOST_KEPT = 1 << 8
# Bytes of a table of chunks and a frame.
_WORTH_PACKING = 32
_CODEC = {CompressionType.Zstd: ZSTD, CompressionType.Lz4: LZ4}


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


def encode(snapshot: Snapshot, packing: Packing | None = None, budget: Budget | None = None) -> list[Any]:
    """Return *snapshot* as the parts of a save, to be `Expanded` or `joined` (`blocks`).

    Parameters
    ----------
    snapshot : Snapshot
    packing : Packing, optional
        How to compress the columns.
    budget : Budget, optional
        How much of what is converted and compressed may stay in memory until it is written. Without
        one all may; what may not is worked out twice.

    Raises
    ------
    ComponentValueError
        If a column holds what no reader would accept.
    PersistenceError
        If another thread changes the world meanwhile, as far as that is noticed.
    """
    if packing is None and not snapshot.metadata and (prepared := snapshot.cache.get("binary")) is not None:
        frame: Frame
        of, frame, parts = prepared
        if of == _identity(snapshot):
            return frame.filled([part() for part in parts])
    check_rows(snapshot)
    with noticing_changes():
        return _encode(snapshot, packing, budget or Budget())


def _encode(snapshot: Snapshot, packing: Packing | None, budget: Budget) -> list[Any]:
    tables = snapshot.tables
    if snapshot.resources is not None:
        tables = (*tables, snapshot.resources)
    # Of many tables it is not kept.
    plan_of = _plan if len(tables) <= _MOST_KEPT else _plan.__wrapped__
    plan = plan_of(tuple([table.types for table in tables]))
    sections = _Sections(packing, budget)
    mapped: Mapped | None = None
    announced = []
    for number, (place, indices) in enumerate(plan.order):
        table = tables[place]
        rows = table.rows
        if table is snapshot.resources:
            announced.append(TableSchema(rows, indices, "resource"))
        else:
            announced.append(TableSchema(rows, indices, "state"))
            sections.add_ids(table.stable_ids, number)
        for type_, index in zip(table.types, indices, strict=True):
            column = table.columns[type_.name]
            layout = type_.layout
            if layout.checked:
                check_values(column, type_)
            if layout.plain:
                key = COLUMN, number, index, NOT_APPLICABLE, rows
                sections.add(key, _stored(column), layout.disk.itemsize)
                continue
            if mapped is None and layout.refers:
                mapped = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
            sections.add_mixed(column, type_, number, index, mapped or unmapped)
    entries = sections.entries
    schema = write_schema(snapshot, plan.types_json, tuple(announced))
    make = _frame if len(schema) <= SMALL else _frame.__wrapped__
    keys = tuple([key for key, _ in entries])
    frame = make(plan, schema, keys, snapshot.entity_count, sections.flags)
    if packing is None:
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
    snapshot.cache["binary"] = _identity(snapshot), frame.settled(settled), parts


def _identity(snapshot: Snapshot) -> tuple[Any, ...]:
    """Return what a prepared snapshot is known by: one made from it with other parts has its cache too."""
    return (
        snapshot.tables,
        snapshot.resources is None and not snapshot.rngs and snapshot.id_source is None,
        snapshot.version,
    )


@functools.lru_cache(maxsize=64)
def _frame(
    plan: _Plan, schema: bytes, sections: tuple[tuple[int, ...], ...], count: int, flags: int
) -> Frame:
    return Frame(
        flags=flags,
        entity_count=count,
        type_count=plan.type_count,
        registry=plan.registry,
        schema=schema,
        sections=sections,
    )


class _Sections:
    """The sections of a save, collected in the order of the file.

    Attributes
    ----------
    entries : list of Entry
    flags : int
        Those of the header.
    """

    def __init__(self, packing: Packing | None, budget: Budget) -> None:
        self.entries: list[Entry] = []
        self.flags = EXTENDED_METADATA
        self._packing = packing
        self._budget = budget

    def add(self, key: Key, content: Any, item: int, *, delta: bool = False) -> None:
        """Add a section of items of so many bytes; *content* is a buffer, or makes blocks."""
        small = not callable(content) and len(content) < _WORTH_PACKING
        if (
            self._packing is not None
            and item
            and not small
            and self._add_packed(key, content, item, delta=delta)
        ):
            return
        if callable(content):
            content = Blocks(content, self._budget)
            if content.size < SMALL and content.whole is not None:
                small_content = bytes(content.whole)
                content.discard()
                content = small_content
        self._append(key, RAW, item, len(content), content)

    def add_ids(self, ids: IdColumn, table: int) -> None:
        """Add the stable ids of a table."""
        key = STABLE_IDS, table, NOT_APPLICABLE, NOT_APPLICABLE, ids.size
        runs: Any
        if ids.runs is not None or ids.size <= IDS_AT_ONCE:
            runs = encode_runs(ids)
        else:
            # Not all at once, as that takes.
            array = ids.array()
            runs = Blocks(functools.partial(run_blocks, array), self._budget) if runs_pay(array) else None
        if runs is None:
            self.add(key, _stored(ids.array()), 16, delta=True)
        else:
            self._append(key, RUNS, 16, ids.size * 16, runs)

    def add_mixed(self, column: Array, type_: ComponentType, table: int, index: int, mapped: Mapped) -> None:
        """Add the sections of a type with references or variable-length fields."""
        layout = type_.layout
        rows = len(column)
        item = layout.disk.itemsize
        content = functools.partial(_converted, column, type_, mapped) if item else b""
        self.add((COLUMN, table, index, NOT_APPLICABLE, rows), content, item)
        for place, f in enumerate(type_.fields):
            if not f.variable:
                continue
            make: Callable[[], Iterable[tuple[Array, Array]]]
            measure: Callable[[], Iterable[Array]]
            bounded = self._budget.left is not None
            make = functools.partial(_encoded, column, f, type_, mapped, bounded)
            if not bounded:
                made = list(make())
                make = functools.partial(_itself, made)
                measure = functools.partial(_itself, [offsets for offsets, _ in made])
            else:
                measure = functools.partial(_measured, column, f, type_)
            self.add((OFFSETS, table, index, place, rows), functools.partial(_ends, measure), 8, delta=True)
            values = functools.partial(_values, make)
            self.add((VALUES, table, index, place, _ELEMENTS), values, f.element(disk=True).itemsize)

    def _add_packed(self, key: Key, content: Any, item: int, *, delta: bool) -> bool:
        """Add the section compressed, where that pays."""
        packing = self._packing
        assert packing is not None  # noqa: S101 - for the type checker
        filters = Filters(item, packing.shuffle and item > 1, packing.shuffle and delta)
        stored: Blocks | None = None
        for size in chunk_sizes(item):
            raw_size = 0

            def chunks(size: int = size) -> Iterator[bytes]:
                def counted() -> Iterator[Any]:
                    nonlocal raw_size
                    for block in _in_chunks(content, size):
                        raw_size += len(block)
                        yield block

                return compressed(counted(), filters, packing, size)

            if stored is not None:
                stored.discard()
            stored = Blocks(chunks, self._budget)
            stored.lead(chunk_table(size, stored.lengths))
            if raw_size <= _BEST_RATIO * stored.size or size == item:
                break
        assert stored is not None  # noqa: S101 - for the type checker: there are sizes
        if stored.size >= raw_size or raw_size > _MOST_RATIO * stored.size:
            stored.discard()
            return False
        codec = _CODEC[packing.codec]
        self.flags |= codec
        codec |= SHUFFLE * filters.shuffle | DELTA_FILTER * filters.delta
        self._append(key, codec, item, raw_size, stored)
        return True

    def _append(self, key: Key, codec: int, item: int, raw_size: int, stored: Any) -> None:
        kind, table, type_, field, rows = key
        if rows == _ELEMENTS:
            rows = raw_size // item
        self.entries.append(((kind, codec, table, type_, field, rows, raw_size, len(stored)), stored))


def _itself(data: Any) -> Any:
    return data


def _stored(array: Array) -> Any:
    if array.nbytes < SMALL:
        return array.tobytes()
    return Whole(as_bytes(np.ascontiguousarray(array)))


def _in_chunks(content: Any, size: int) -> Iterable[Any]:
    if callable(content):
        return rechunked(content(), size)
    view = memoryview(content.view if type(content) is Whole else content)
    return (view[start : start + size] for start in range(0, len(view), size))


def _converted(column: Array, type_: ComponentType, mapped: Mapped) -> Iterator[Any]:
    """Yield the fixed-size part of a column as it is on disk."""
    rows = max(1, CHUNK // type_.layout.disk.itemsize)
    for start in range(0, len(column), rows):
        yield as_bytes(fixed_part(column[start : start + rows], type_, mapped))


def _encoded(
    column: Array, f: Field, type_: ComponentType, mapped: Mapped, bounded: bool
) -> Iterator[tuple[Array, Array]]:
    """Yield offsets, from 0 each time, and values of some rows of a variable-length field after others."""
    for start, stop in row_ranges([(column, [f])], len(column), _OFFSET, bounded=bounded):
        yield variable_part(column[start:stop], f, type_, mapped, start)


def _measured(column: Array, f: Field, type_: ComponentType) -> Iterator[Array]:
    """Yield the same offsets without the values."""
    for start, stop in row_ranges([], len(column), _OFFSET, bounded=False):
        yield variable_offsets(column[start:stop], f, type_, start)


def _ends(make: Callable[[], Iterable[Array]]) -> Iterator[Any]:
    """Yield the offsets of all rows."""
    base = np.uint64(0)
    skip = 0
    for offsets in make():
        ends = offsets + base
        yield as_bytes(ends[skip:])
        base, skip = ends[-1], 1


def _values(make: Callable[[], Iterable[tuple[Array, Array]]]) -> Iterator[Any]:
    return (as_bytes(values) for _, values in make())
