"""Deltas, written: a `ChangeSet` as sections of whole columns, framed as a save of version 2 with flag 4.

Beyond what a whole save has::

    tables      role "created", then "modified", then "resource", each by their types
    after them  kind 5: the despawned ids; kind 6, by type: the ids that lost a component. Neither has a
                table, and they are there only where there are such ids.
    world       {} where version, metadata, generators and resources are as before
    timestamp   beside it: seconds since 1970, left out if 0
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.changes import ChangeSet, ChangeTable, joined_tables
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.ecs.ids import STABLE_ID, IdColumn
from pecs_np.ecs.registry import registered
from pecs_np.errors import ComponentDefinitionError, ComponentValueError, PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.binary.blocks import Budget, Expanded
from pecs_np.persistence.binary.columns import unmapped
from pecs_np.persistence.binary.delta_rules import check_ids
from pecs_np.persistence.binary.framing import DELTA, DESPAWNED, NOT_APPLICABLE, REMOVED, Frame, save_id_in
from pecs_np.persistence.binary.header import registry_of
from pecs_np.persistence.binary.schema import TableSchema, types_json, write_schema
from pecs_np.persistence.binary.section_writer import SectionWriter
from pecs_np.persistence.compression import Packing

__all__ = ["encode_delta"]


def encode_delta(changes: ChangeSet, *, base_id: int = 0, packing: Packing | None = None) -> Expanded:
    """Return *changes* as the buffers of a delta, to write one after the other.

    ``.size`` is their bytes, ``.save_id`` the id of the delta. What undoes the changes is not written.

    Parameters
    ----------
    changes : ChangeSet
    base_id : int
        Which save, or which delta before, it applies to: its ``save_id``, a u128; 0 for none.
    packing : Packing, optional
        How to compress the columns.

    Raises
    ------
    ComponentValueError
        If a column holds what no reader would accept.
    PersistenceError
        If the changes do not fit together, or hold what JSON cannot.

    Examples
    --------
    >>> from pecs_np import ChangeSet
    >>> encode_delta(ChangeSet()).size
    264
    """
    if not isinstance(changes, ChangeSet):
        raise PersistenceError(
            f"expected a ChangeSet, found {shown(changes)}", suggestion="call tracker.changes()"
        )
    if type(base_id) is not int or not 0 <= base_id < 1 << 128:
        raise PersistenceError(f"expected the save id of the base, an integer of 128 bits, found {base_id!r}")
    created, modified = joined_tables(changes.created), joined_tables(changes.modified)
    removed = {name: ids for name, ids in sorted(changes.removed.items()) if len(ids)}
    types = _types_of(changes, removed)
    for table in _tables(changes):
        _check_table(table)
    check_ids(replace(changes, removed=removed, inverse=None), "the changes", PersistenceError)
    index = {t.name: i for i, t in enumerate(types)}
    sections = SectionWriter(packing, Budget())
    announced = []
    parts = [("created", t) for t in created] + [("modified", t) for t in modified]
    if changes.world is not None and changes.world.resources is not None:
        parts.append(("resource", changes.world.resources))
    for number, (role, table) in enumerate(parts):
        announced.append(TableSchema(len(table), tuple([index[t.name] for t in table.types]), role))
        if role != "resource":
            sections.add_ids(IdColumn(STABLE_ID, array=table.stable_ids), number)
        for t in table.types:
            sections.add_column(table.columns[t.name], _portable(t), number, index[t.name], unmapped)
    if len(changes.despawned):
        ids = IdColumn(STABLE_ID, array=changes.despawned)
        sections.add_ids(ids, NOT_APPLICABLE, kind=DESPAWNED)
    for name, lost in removed.items():
        ids = IdColumn(STABLE_ID, array=lost)
        sections.add_ids(ids, NOT_APPLICABLE, kind=REMOVED, type_=index[name])
    registry, described = _described(types)
    frame = Frame(
        flags=sections.flags | DELTA,
        entity_count=sum(map(len, (*created, *modified))),
        type_count=len(types),
        registry=registry,
        schema=write_schema(changes.world, described, tuple(announced), changes.timestamp),
        sections=tuple([key for key, _ in sections.entries]),
        base_id=base_id.to_bytes(16, "little"),
    )
    buffers = frame.filled([content for _, content in sections.entries])
    return Expanded(buffers, save_id_in(buffers[0]))


@functools.lru_cache(maxsize=64)
def _described(types: tuple[ComponentType, ...]) -> tuple[bytes, bytes]:
    """Return the registry and the schema's list of *types*."""
    return registry_of(types), types_json(types)


@functools.lru_cache(maxsize=256)
def _portable(type_: ComponentType) -> ComponentType:
    """Return a type whose references are stable ids already, and so columns like any other."""
    if not type_.layout.refers:
        return type_
    return replace(type_, layout=Layout(tuple(map(_portable_field, type_.layout.fields))))


def _portable_field(f: Field) -> Field:
    if f.ref:
        return replace(f, ref=False, dtype=STABLE_ID)
    return replace(f, fields=tuple(map(_portable_field, f.fields)))


def _tables(changes: ChangeSet) -> Iterator[ChangeTable]:
    yield from changes.created
    yield from changes.modified
    if changes.world is not None and changes.world.resources is not None:
        yield changes.world.resources


def _types_of(changes: ChangeSet, removed: dict[str, Array]) -> tuple[ComponentType, ...]:
    """Return the types that occur, sorted by name; those of which only the name is known have no fields."""
    found: dict[str, ComponentType] = {}
    for table in _tables(changes):
        for t in table.types:
            known = found.setdefault(t.name, t)
            if known is not t and not known.agrees_with(t):
                raise ComponentDefinitionError(
                    f"expected one definition of {t.name}, found {known!r} and {t!r}"
                )
    lost = {t.name: t for t in changes.lost}
    for name in removed:
        if name not in found:
            cls = registered(name)
            found[name] = lost.get(name) or (ComponentType(name, 1, Layout(())) if cls is None else cls._type)
    return tuple([found[name] for name in sorted(found)])


def _check_table(table: ChangeTable) -> None:
    """Raise unless the columns of *table* are what its types say."""
    if list(table.names) != sorted(table.columns):
        raise PersistenceError(
            f"expected a column for each of {list(table.names)}, sorted by name, found {list(table.columns)}"
        )
    _check_column(table.stable_ids, STABLE_ID, len(table), "stable ids")
    for t in table.types:
        _check_column(table.columns[t.name], t.layout.portable, len(table), t.name)


def _check_column(column: Array, dtype: object, rows: int, what: str) -> None:
    if column.dtype != dtype or column.shape != (rows,):
        raise ComponentValueError(
            f"expected {rows} rows of {dtype}, found shape {column.shape} of {column.dtype} for {what}"
        )
