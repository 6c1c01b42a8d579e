"""What an opened save holds, column by column, whichever version of the format it is."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.ids import IdColumn
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.persistence.binary.column_reader import open_columns, stable_ids_of
from pecs_np.persistence.binary.columns import Where, rows_of
from pecs_np.persistence.binary.delta_reader import Delta, delta_from, is_delta
from pecs_np.persistence.binary.framing import COLUMN, SKIPPABLE, STABLE_IDS
from pecs_np.persistence.binary.header import Header
from pecs_np.persistence.binary.record_reader import read_records
from pecs_np.persistence.binary.record_reader import where as where_in_records
from pecs_np.persistence.binary.record_writer import COMPONENT_HEAD, is_opaque
from pecs_np.persistence.binary.sections import check_sum, read_section, sweep, where
from pecs_np.persistence.binary.sources import MappedSource, Source
from pecs_np.persistence.limits import Limits

__all__ = ["ColumnContent", "Content", "RecordContent", "TableEntry"]


class TableEntry(NamedTuple):
    """A table as it is announced: how many rows, which of the save's types."""

    rows: int
    types: tuple[int, ...]
    role: str = "state"

    @property
    def is_resources(self) -> bool:
        """Whether it holds the world's resources, and no entities."""
        return self.role == "resource"


# The fixed-size part of a column, offsets and values of its variable-length fields, and what to call them.
_Parts = tuple[Array, Sequence[Any], Where]


class Content(Protocol):
    """What a save holds, whichever version it is."""

    types: tuple[ComponentType, ...]
    tables: list[TableEntry]
    metadata: dict[str, Any]
    world_version: int
    save_id: int | None
    base_id: int | None

    def ids(self, table: int) -> IdColumn:
        """Return the stable ids of a table."""
        ...

    def parts(self, table: int, index: int) -> _Parts:
        """Return a column of a table as the save has it, as arrays of the caller's."""
        ...

    def size(self, index: int) -> int:
        """Return how many bytes a type takes in the file."""
        ...

    def verify(self) -> None:
        """Check all that is neither ids nor columns."""
        ...

    def snapshot(self, tables: tuple[SnapshotTable, ...], resources: SnapshotTable | None) -> Snapshot:
        """Return the snapshot of these tables."""
        ...


class ColumnContent:
    """Version 2: each section is read when it is touched."""

    def __init__(self, source: Source, header: Header, limits: Limits, threads: int) -> None:
        self._source = source
        self._threads = threads
        self._head, self._schema, expected = open_columns(source, header, limits, delta=is_delta(header))
        self._expected = expected
        self.types = self._schema.types
        self.tables = [TableEntry(*table) for table in self._schema.tables]
        self.save_id: int | None = int.from_bytes(self._head.save_id, "little")
        self.base_id: int | None = None
        if is_delta(header):
            self.base_id = int.from_bytes(self._head.base_id, "little")
        self.metadata = self._schema.metadata
        self.world_version = self._schema.version
        # Of the sections that may not be skipped: place and bytes of an item.
        known = [i for i, section in enumerate(self._head.sections) if not section[0] & SKIPPABLE]
        self._known = [(place, wanted.item) for place, wanted in zip(known, expected, strict=True)]
        # Which of them are the ids of a table, and the first of a column.
        self._ids = {wanted.table: i for i, wanted in enumerate(expected) if wanted.kind == STABLE_IDS}
        self._columns = {(w.table, w.type): i for i, w in enumerate(expected) if w.kind == COLUMN}

    def ids(self, table: int) -> IdColumn:
        """Return the stable ids of a table."""
        place, _ = self._known[self._ids[table]]
        section = self._head.sections[place]
        return stable_ids_of(self._source, section, self._read(self._ids[table]), place)

    def parts(self, table: int, index: int) -> _Parts:
        """Return a column of a table as the save has it, as arrays of the caller's."""
        first = self._columns[table, index]
        layout = self.types[index].layout
        rows = rows_of(self._read(first), layout.disk, self.tables[table].rows)
        values = [self._read(first + 1 + i) for i in range(2 * len(layout.variable))]
        if isinstance(self._source, MappedSource):
            # Lists become arrays of their own.
            values = [part.copy() for part in values]
        return rows, values, functools.partial(self._where, first)

    def size(self, index: int) -> int:
        """Return how many bytes a type takes in the file."""
        return sum(section[7] for section in self._head.sections if section[3] == index)

    def verify(self) -> None:
        """Check all that is neither ids nor columns."""
        for place, section in sweep(self._source, self._head):
            check_sum(self._source, section, place)

    def snapshot(self, tables: tuple[SnapshotTable, ...], resources: SnapshotTable | None) -> Snapshot:
        """Return the snapshot of these tables."""
        schema = self._schema
        metadata, rngs = copy.deepcopy((schema.metadata, schema.rngs))
        return Snapshot(tables, resources, schema.version, metadata, rngs, schema.id_source, sound=True)

    def delta(self) -> Delta:
        """Return the delta that it is, checked whole."""
        return delta_from(self._source, self._head, self._schema, self._expected, self._threads)

    def _read(self, number: int) -> Any:
        place, item = self._known[number]
        return read_section(self._source, self._head.sections[place], place, item, self._threads)

    def _where(self, first: int, part: int) -> str:
        place, _ = self._known[first + part]
        return where(self._source, place, self._head.sections[place])


class RecordContent:
    """Version 1: all records are read when the first is touched.

    The file does not describe its types. Those that this program defines in that version, and whose data
    fit, are as it defines them, others are opaque.
    """

    world_version = 1
    save_id: int | None = None
    base_id: int | None = None

    def __init__(self, source: Source, header: Header, limits: Limits) -> None:
        self._name = source.name
        self._tables = read_records(source, header, limits, described=True)
        types = {t.name: t for table in self._tables for t in table.types}
        self.metadata: dict[str, Any] = {}
        self.types = tuple([types[name] for name in sorted(types)])
        places = {t.name: i for i, t in enumerate(self.types)}
        self.tables = [
            TableEntry(t.ids.size, tuple([places[type_.name] for type_ in t.types])) for t in self._tables
        ]

    def ids(self, table: int) -> IdColumn:
        """Return the stable ids of a table."""
        return self._tables[table].ids.frozen(copy=True)

    def parts(self, table: int, index: int) -> _Parts:
        """Return a column of a table as the save has it, as arrays of the caller's."""
        type_ = self.types[index]
        rows, values = self._tables[table].parts[self.tables[table].types.index(index)]
        return (
            rows.copy(),
            [part.copy() for part in values],
            functools.partial(where_in_records, type_, self._name),
        )

    def size(self, index: int) -> int:
        """Return how many bytes a type takes in the file."""
        size = 0
        for table, read in zip(self.tables, self._tables, strict=True):
            if index in table.types:
                rows, values = read.parts[table.types.index(index)]
                lengths = 0 if is_opaque(self.types[index]) else 4 * table.rows * (len(values) // 2)
                size += table.rows * COMPONENT_HEAD + rows.nbytes + lengths + sum(map(len, values[1::2]))
        return size

    def verify(self) -> None:
        """All has been checked when the records were read."""

    def snapshot(self, tables: tuple[SnapshotTable, ...], resources: SnapshotTable | None) -> Snapshot:
        """Return the snapshot of these tables."""
        return Snapshot(tables, resources, sound=True)
