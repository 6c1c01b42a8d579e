"""Version 2 of the binary format, read: sections of whole columns to a snapshot.

Sections are read once, in the order of the file, each into the array that the world will use; what
needs more than its own bytes, such as references, is worked out when all are there.
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.ids import ENTITY_ID, MOST_RUNS, RUN, STABLE_ID, IdColumn, expand_runs
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import CorruptedDataError, InvalidFormatError
from pecs_np.persistence.binary.columns import (
    assemble,
    check_distinct,
    check_entity_count,
    holds_null,
    mapping,
    rows_of,
    unmapped,
)
from pecs_np.persistence.binary.framing import DELTA, RUNS, SKIPPABLE, Head, Section, read_head
from pecs_np.persistence.binary.header import Header
from pecs_np.persistence.binary.schema import Schema, read_schema
from pecs_np.persistence.binary.sections import (
    Expected,
    check_directory,
    check_sum,
    expected_sections,
    read_section,
    sweep,
    where,
)
from pecs_np.persistence.binary.shapes import Part, note
from pecs_np.persistence.binary.sources import Source
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.resolving import mark_current

__all__ = ["assembled", "decode", "open_columns", "read_parts", "stable_ids_of"]

# first u128 as two halves, count
_RUN = struct.Struct("<QQQ")


def open_columns(
    source: Source, header: Header, limits: Limits, *, delta: bool = False
) -> tuple[Head, Schema, tuple[Expected, ...]]:
    """Return all that stands before the sections, and what the sections are, checked.

    It has to be a whole save, or with *delta* a delta.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.
    """
    head = read_head(source, header, limits)
    if delta != bool(head.flags & DELTA):
        raise _other_kind(head, source.name)
    schema = read_schema(head.schema, source.name, limits.itemsize, delta=delta)
    if tuple([t.signature for t in schema.types]) != head.registry:
        raise InvalidFormatError(f"expected the schema's types to be those of the registry in {source.name}")
    rows, expected = expected_sections(schema, head, source.name)
    if rows != head.entity_count:
        raise InvalidFormatError(f"expected {head.entity_count} rows in all, found {rows} in {source.name}")
    check_entity_count(rows, source.name)
    check_directory(source, head, expected, limits)
    return head, schema, expected


def _other_kind(head: Head, name: str) -> InvalidFormatError:
    if head.flags & DELTA:
        base = int.from_bytes(head.base_id, "little")
        return InvalidFormatError(
            f"expected a whole save, found a delta, which applies to the save {base:032x}, in {name}",
            suggestion="pass it to the save that it applies to: World.load(base, deltas=[path])",
        )
    return InvalidFormatError(
        f"expected a delta, found a whole save in {name}", suggestion="World.load(path) loads it"
    )


def decode(source: Source, header: Header, limits: Limits, threads: int = 1) -> Snapshot:
    """Read a whole save, checking every sum and every rule of the format.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.
    """
    head, schema, expected = open_columns(source, header, limits)
    schema.resolved(source.name)  # raises before the columns are read
    found = read_parts(source, head, expected, threads)
    if source.ahead:
        note(source, header, head, schema, limits)
    return assembled(source, schema, head.save_id, found)


def assembled(source: Source, schema: Schema, save_id: bytes, found: Iterable[Part]) -> Snapshot:
    """Return the snapshot that the sections of a whole save make, which were read and checked."""
    types = schema.resolved(source.name)
    parts = iter(found)
    tables: list[SnapshotTable] = []
    resources = None
    unfinished: list[tuple[dict[str, Array], int, list[Part]]] = []
    first = 1
    for rows, indices, role in schema.tables:
        own = tuple([types[t] for t in indices])
        columns: dict[str, Array] = {}
        if role == "state":
            section, data, place = next(parts)
            stable_ids = stable_ids_of(source, section, data, place)
            entities = IdColumn(ENTITY_ID, ((first, rows),))
            tables.append(SnapshotTable(own, rows, entities, stable_ids, columns))
            first += rows
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
    ids = [table.stable_ids for table in tables]
    if len(ids) != 1 or len(ids[0].runs or ()) != 1:
        check_distinct(ids, source.name)
    mapped = mapping(ids, source.name) if unfinished else unmapped
    for columns, index, own_parts in unfinished:

        def here(part: int, own_parts: list[Part] = own_parts) -> str:
            section, _, place = own_parts[part]
            return where(source, place, section)

        described = schema.types[index]
        data, *values = [data for _, data, _ in own_parts]
        fixed = rows_of(data, types[index].layout.disk, own_parts[0][0][5])
        columns[described.name] = assemble(types[index], described, fixed, values, mapped, here)
        own_parts.clear()
    if len(tables) > 1:
        tables.sort(key=lambda table: [t.name for t in table.types])
    metadata = copy.deepcopy(schema.metadata) if schema.metadata else {}
    rngs = copy.deepcopy(schema.rngs) if schema.rngs else {}
    snapshot = Snapshot(
        tuple(tables), resources, schema.version, metadata, rngs, schema.id_source, sound=True
    )
    snapshot.cache["save_id"] = save_id
    if schema.is_current:
        mark_current(snapshot)
    return snapshot


def read_parts(source: Source, head: Head, expected: tuple[Expected, ...], threads: int) -> list[Part]:
    """Return all sections but those to skip, read and unpacked, every sum of the save checked."""
    read: list[Part] = []
    for place, section in sweep(source, head):
        if section[0] & SKIPPABLE:
            check_sum(source, section, place)
        else:
            item = expected[len(read)].item
            read.append((section, read_section(source, section, place, item, threads), place))
    return read


def stable_ids_of(source: Source, section: Section, data: Any, place: int) -> IdColumn:
    """Return a section of stable ids that was read as a column; none of them is 0."""
    if section[1] == RUNS:
        ids = _runs(data, section[5])
        if ids is None:
            raise InvalidFormatError(
                f"expected runs of {section[5]} ids that do not wrap, found others in"
                f" {where(source, place, section)}"
            )
    else:
        ids = IdColumn(STABLE_ID, array=np.frombuffer(data, STABLE_ID))
    if holds_null(ids):
        raise CorruptedDataError(
            f"expected stable ids other than 0, found 0 in {where(source, place, section)}"
        )
    return ids


def _runs(data: Any, rows: int) -> IdColumn | None:
    """Return the column of *rows* ids that *data* stands for, or None."""
    if len(data) == RUN.itemsize:
        # As of entities that were spawned together and all live.
        low, high, count = _RUN.unpack(data)
        first = high << 64 | low
        return IdColumn(STABLE_ID, ((first, count),)) if count == rows and first + count <= 1 << 128 else None
    if len(data) <= MOST_RUNS * RUN.itemsize:
        found = IdColumn(STABLE_ID)
        wraps = False
        for low, high, count in _RUN.iter_unpack(data):
            first = high << 64 | low
            found.append_run(first, count)
            wraps = wraps or not count or first + count > 1 << 128
        return found if found.size == rows and not wraps else None
    table = np.frombuffer(data, RUN)
    counts = table["count"].tolist()
    if sum(counts) != rows or 0 in counts:
        return None
    expanded = expand_runs(table)
    last = expanded.take(np.cumsum(table["count"].astype(np.intp)) - 1)
    first = table["first"]
    # A run that wraps ends below its first id.
    wraps = (last["hi"] < first["hi"]) | ((last["hi"] == first["hi"]) & (last["lo"] < first["lo"]))
    return None if wraps.any() else IdColumn(STABLE_ID, array=expanded)
