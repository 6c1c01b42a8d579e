"""A snapshot as a JSON document and flat buffers, and back: all that most formats and stores have to hold.

The document is the schema document of the binary format: the world's version, metadata and generators, the
component types with their fields, and the tables. The buffers are the columns, raw and little-endian: for
each table its stable ids (16 bytes each; not of resources), then for each of its types the rows of the
fixed-size fields, packed in order of declaration, then for each variable-length field the offsets (u64, one
more than there are rows; in elements, of texts in bytes) and the values. A reference is the stable id of its
target, 0 for none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import orjson

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import check_name
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, compact
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import CorruptedDataError, InvalidFormatError
from pecs_np.messages import shown
from pecs_np.persistence.binary.blocks import check_rows, noticing_changes
from pecs_np.persistence.binary.columns import (
    Mapped,
    assemble,
    check_distinct,
    check_entity_count,
    check_values,
    fixed_part,
    holds_null,
    mapping,
    rows_of,
    variable_part,
)
from pecs_np.persistence.binary.schema import TableSchema, read_schema, types_json, write_schema
from pecs_np.persistence.consistency import check_current, check_snapshot
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.resolving import resolve_types

__all__ = ["pack", "unpack"]


def pack(snapshot: Snapshot) -> tuple[dict[str, Any], list[memoryview]]:
    """Return *snapshot*, which has no transient types, as a document and buffers.

    Equal worlds give equal documents and buffers. Buffers of large columns are views of the world's memory.

    Raises
    ------
    ComponentValueError
        If a column holds what could not be loaded again.
    PersistenceError
        If the metadata are not JSON, or the world changes meanwhile.

    Examples
    --------
    >>> from pecs_np import World, make_component
    >>> Mass = make_component("Mass", {"kg": float}, register=False)
    >>> world = World()
    >>> ids = world.spawn_batch(Mass(kg=[1, 2]), stable_ids=[7, 8])
    >>> document, (stable_ids, masses) = pack(world.snapshot())
    >>> document["tables"]
    [{'rows': 2, 'types': [0], 'role': 'state'}]
    >>> stable_ids.nbytes, bytes(masses).hex()
    (32, '000000000000f03f0000000000000040')
    >>> unpack(document, [stable_ids, masses], "the example").entity_count
    2
    """
    check_snapshot(snapshot)
    types = snapshot.types
    place = {t.name: i for i, t in enumerate(types)}
    tables = [*snapshot.tables, *((snapshot.resources,) if snapshot.resources is not None else ())]
    indices = [tuple(place[t.name] for t in table.types) for table in tables]
    order = sorted(range(len(tables)), key=lambda i: (indices[i], i))
    mapped = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
    announced: list[TableSchema] = []
    buffers: list[memoryview] = []
    check_rows(snapshot)
    with noticing_changes():
        for i in order:
            table = tables[i]
            state = table is not snapshot.resources
            announced.append(TableSchema(table.rows, indices[i], "state" if state else "resource"))
            parts = [table.stable_ids.array()] if state else []
            for type_ in table.types:
                parts += _parts(table.columns[type_.name], type_, mapped)
            buffers += [as_bytes(part).data for part in parts]
    document = orjson.loads(write_schema(snapshot, types_json(types), tuple(announced)))
    check_current(snapshot)
    return document, buffers


def _parts(column: Array, type_: ComponentType, mapped: Mapped) -> Iterator[Array]:
    check_values(column, type_)
    yield fixed_part(column, type_, mapped)
    for f in type_.layout.variable:
        yield from variable_part(column, f, type_, mapped, 0)


def unpack(document: Any, buffers: Sequence[Any], name: str, limits: Limits | None = None) -> Snapshot:
    """Return the snapshot that `pack` made *document* and *buffers* of, every rule checked.

    Parameters
    ----------
    document : dict
    buffers : sequence of bytes-like
        They are copied.
    name : str
        What messages call the save.
    limits : Limits, optional

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the document and the buffers are.
    """
    limits = Limits.of(limits)
    try:
        text = orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise InvalidFormatError(f"expected a document that JSON can hold: {error} in {name}") from None
    schema = read_schema(text, name, limits.itemsize)
    for type_ in schema.types:
        check_name(type_.name, f"the types of {name}", InvalidFormatError)
        if not 0 < type_.version < 1 << 32:
            raise InvalidFormatError(
                f"expected a version from 1, found {type_.version} of {type_.name!r} in {name}"
            )
    for a, b in pairwise(schema.types):
        if a.name >= b.name:
            raise InvalidFormatError(f"expected types in order, found {a.name!r} before {b.name!r} in {name}")
    own = resolve_types(schema.types, name)
    given = _Buffers(buffers, name)
    tables: list[SnapshotTable] = []
    resources = None
    found: list[tuple[SnapshotTable, int, list[bytearray]]] = []
    first = 1
    for rows, indices, role in schema.tables:
        types = tuple(own[i] for i in indices)
        if role == "state":
            ids = compact(rows_of(given.take(16 * rows), STABLE_ID, rows))
            table = SnapshotTable(types, rows, IdColumn(ENTITY_ID, ((first, rows),)), ids, {})
            tables.append(table)
            first += rows
        elif role == "resource":
            table = resources = SnapshotTable(types, 1, IdColumn(ENTITY_ID), IdColumn(STABLE_ID), {})
        else:
            raise InvalidFormatError(f"expected a whole save, found tables that are {role} in {name}")
        for i, type_ in zip(indices, types, strict=True):
            parts = [given.take(rows * type_.layout.disk.itemsize)]
            for _ in type_.layout.variable:
                parts += [given.take(8 * (rows + 1)), given.take(None)]
            found.append((table, i, parts))
    given.expect_end()
    check_entity_count(first - 1, name)
    stable = [table.stable_ids for table in tables]
    if any(map(holds_null, stable)):
        raise CorruptedDataError(f"expected stable ids other than 0, found 0 in {name}")
    check_distinct(stable, name)
    mapped = mapping(stable, name)
    for table, i, (fixed, *values) in found:

        def where(part: int, i: int = i) -> str:
            return f"part {part} of {own[i].name} in {name}"

        rows_ = rows_of(fixed, own[i].layout.disk, table.rows)
        columns: Any = table.columns
        columns[own[i].name] = assemble(own[i], schema.types[i], rows_, values, mapped, where)
    tables.sort(key=lambda table: [t.name for t in table.types])
    return Snapshot(
        tuple(tables),
        resources,
        schema.version,
        copy.deepcopy(schema.metadata),
        copy.deepcopy(schema.rngs),
        schema.id_source,
        sound=True,
    )


class _Buffers:
    """The buffers in turns, each of the size that it should have."""

    def __init__(self, buffers: Sequence[Any], name: str) -> None:
        if not isinstance(buffers, Sequence):
            raise InvalidFormatError(f"expected a list of buffers, found {shown(buffers)} in {name}")
        self._buffers = buffers
        self._name = name
        self._next = 0

    def take(self, size: int | None) -> bytearray:
        """Return a copy of the next buffer, of *size* bytes unless that is None."""
        if self._next == len(self._buffers):
            raise InvalidFormatError(f"expected more than {self._next} buffers in {self._name}")
        try:
            data = memoryview(self._buffers[self._next]).cast("B")
        except TypeError:
            raise InvalidFormatError(
                f"expected bytes, found {shown(self._buffers[self._next])} as buffer {self._next} of {self._name}"
            ) from None
        if size is not None and len(data) != size:
            raise CorruptedDataError(
                f"expected {size} bytes, found {len(data)} in buffer {self._next} of {self._name}"
            )
        self._next += 1
        return bytearray(data)

    def expect_end(self) -> None:
        """Raise unless all buffers have been taken."""
        if self._next != len(self._buffers):
            raise InvalidFormatError(
                f"expected {self._next} buffers, found {len(self._buffers)} in {self._name}"
            )
