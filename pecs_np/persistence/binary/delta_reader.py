"""Deltas, read: sections of whole columns to a `ChangeSet`; see `delta_writer` for what they hold."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.changes import ChangeSet, ChangeTable, WorldState, no_ids
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.errors import CorruptedDataError, InvalidFormatError
from pecs_np.persistence.binary.column_reader import open_columns, read_parts, stable_ids_of
from pecs_np.persistence.binary.columns import assemble, rows_of
from pecs_np.persistence.binary.delta_rules import check_ids
from pecs_np.persistence.binary.framing import DELTA, DESPAWNED, RUNS, VERSION, Head
from pecs_np.persistence.binary.header import Header, read_header
from pecs_np.persistence.binary.schema import Schema
from pecs_np.persistence.binary.sections import Expected, where
from pecs_np.persistence.binary.shapes import Part
from pecs_np.persistence.binary.sources import BytesSource, Source
from pecs_np.persistence.limits import Limits, within_memory
from pecs_np.persistence.resolving import resolve_types

__all__ = ["Delta", "decode_delta", "delta_from", "is_delta"]


class Delta(NamedTuple):
    """What a delta file holds.

    Attributes
    ----------
    changes : ChangeSet
    base_id : int
        The ``save_id`` of the save, or of the delta before, that it applies to; 0 for none.
    save_id : int
        Its own.
    """

    changes: ChangeSet
    base_id: int
    save_id: int


def decode_delta(
    data: Any, name: str = "<bytes>", limits: Limits | None = None, *, threads: int = 1
) -> Delta:
    """Read a delta, checking every sum and every rule of the format.

    Parameters
    ----------
    data : bytes-like or Source
    name : str
        What messages call it; of a source, the name it has.
    limits : Limits, optional
    threads : int
        How many decompress.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.

    Examples
    --------
    >>> from pecs_np import ChangeSet
    >>> from pecs_np.persistence.binary.delta_writer import encode_delta
    >>> delta = decode_delta(b"".join(encode_delta(ChangeSet(timestamp=1.5), base_id=7)))
    >>> delta.base_id, delta.changes.timestamp, bool(delta.changes)
    (7, 1.5, False)
    """
    limits = limits or Limits()
    source: Source = data if hasattr(data, "fresh") else BytesSource(data, name)
    with within_memory(source.name):
        header = read_header(source, limits)
        if header.version != VERSION:
            raise InvalidFormatError(
                f"expected a delta, found a save of version {header.version} in {source.name}"
            )
        head, schema, expected = open_columns(source, header, limits, delta=True)
        return delta_from(source, head, schema, expected, threads)


def is_delta(header: Header) -> bool:
    """Tell whether a save that begins with *header* says that it is a delta."""
    return header.version == VERSION and bool(header.flags & DELTA)


def delta_from(
    source: Source, head: Head, schema: Schema, expected: tuple[Expected, ...], threads: int = 1
) -> Delta:
    """Return the delta whose head has been read."""
    types = _own_types(schema, source.name)
    parts = iter(read_parts(source, head, expected, threads))
    created: list[ChangeTable] = []
    modified: list[ChangeTable] = []
    resources = None
    for rows, indices, role in schema.tables:
        own = tuple([types[t] for t in indices])
        ids = np.zeros(rows, STABLE_ID) if role == "resource" else _ids(source, next(parts))
        columns = {}
        for index, type_ in zip(indices, own, strict=True):
            described = schema.types[index]
            found = [next(parts) for _ in range(1 + 2 * len(described.layout.variable))]
            columns[type_.name] = _column(source, found, type_, described)
        table = ChangeTable(own, ids, columns)
        if role == "resource":
            resources = table
        else:
            (created if role == "created" else modified).append(table)
    despawned = no_ids()
    removed: dict[str, Array] = {}
    for part in parts:
        section, _, _ = part
        if section[0] == DESPAWNED:
            despawned = _ids(source, part)
        else:
            removed[schema.types[section[3]].name] = _ids(source, part)
    lost = tuple([t for t in types if t.name in removed])
    world = None
    if not schema.as_before:
        world = WorldState(schema.version, schema.metadata, schema.rngs, schema.id_source, resources)
    changes = ChangeSet(
        tuple(created), tuple(modified), removed, despawned, world, schema.timestamp, lost=lost
    )
    check_ids(changes, source.name, CorruptedDataError)
    return Delta(changes, int.from_bytes(head.base_id, "little"), int.from_bytes(head.save_id, "little"))


def _own_types(schema: Schema, name: str) -> tuple[ComponentType, ...]:
    """Return the types to build columns of; those of which the delta has no values are as it describes them."""
    used = {t for table in schema.tables for t in table.types}
    chosen = tuple([t for i, t in enumerate(schema.types) if i in used])
    own = {t.name: t for t in resolve_types(chosen, name)}
    return tuple([own.get(t.name, t) for t in schema.types])


def _ids(source: Source, part: Part) -> Array:
    section, data, place = part
    if section[1] == RUNS:
        source.unpacks(section[8])
    return stable_ids_of(source, section, data, place).array()


def _column(source: Source, found: list[Part], type_: ComponentType, described: ComponentType) -> Array:
    data, *values = [data for _, data, _ in found]
    fixed = rows_of(data, type_.layout.disk, found[0][0][5])
    return assemble(type_, described, fixed, values, None, functools.partial(_where, source, found))


def _where(source: Source, found: list[Part], part: int) -> str:
    section, _, place = found[part]
    return where(source, place, section)
