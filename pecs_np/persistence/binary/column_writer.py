"""Version 2 of the binary format, written: a snapshot as sections of whole columns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.persistence.binary.blocks import SMALL, Budget, check_rows, noticing_changes
from pecs_np.persistence.binary.columns import Mapped
from pecs_np.persistence.binary.framing import Frame
from pecs_np.persistence.binary.header import registry_of
from pecs_np.persistence.binary.schema import TableSchema, types_json, write_schema
from pecs_np.persistence.binary.section_writer import Entry, SectionWriter, stored
from pecs_np.persistence.compression import Packing

__all__ = ["encode", "to_bytes"]

_MOST_KEPT = 1 << 8


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
    frame, stored = _framed(snapshot, packing, budget)
    return frame.filled(stored)


def to_bytes(snapshot: Snapshot, packing: Packing | None = None) -> bytes:
    """Return *snapshot* as a save in one piece; see `encode`."""
    frame, stored = _framed(snapshot, packing, None)
    return frame.joined(stored)


def _framed(snapshot: Snapshot, packing: Packing | None, budget: Budget | None) -> tuple[Frame, list[Any]]:
    """Return the frame of a save and the content of its sections."""
    if packing is None and (prepared := snapshot.cache.get("binary")) is not None and not snapshot.metadata:
        of, frame, parts = prepared
        if of == _identity(snapshot):
            return frame, [part() for part in parts]
    check_rows(snapshot)
    with noticing_changes():
        return _encode(snapshot, packing, budget or Budget())


def _encode(snapshot: Snapshot, packing: Packing | None, budget: Budget) -> tuple[Frame, list[Any]]:
    tables = snapshot.tables
    if snapshot.resources is not None:
        tables = (*tables, snapshot.resources)
    # Of many tables it is not kept.
    plan_of = _plan if len(tables) <= _MOST_KEPT else _plan.__wrapped__
    plan = plan_of(tuple([table.types for table in tables]))
    sections = SectionWriter(packing, budget)
    mapped = _stable_ids_of(snapshot)
    announced = []
    for number, (place, indices) in enumerate(plan.order):
        table = tables[place]
        if table is snapshot.resources:
            announced.append(TableSchema(table.rows, indices, "resource"))
        else:
            announced.append(TableSchema(table.rows, indices, "state"))
            sections.add_ids(table.stable_ids, number)
        for type_, index in zip(table.types, indices, strict=True):
            sections.add_column(table.columns[type_.name], type_, number, index, mapped)
    entries = sections.entries
    schema = write_schema(snapshot, plan.types_json, tuple(announced))
    make = _frame if len(schema) <= SMALL else _frame.__wrapped__
    keys = tuple([key for key, _ in entries])
    frame = make(plan, schema, keys, snapshot.entity_count, sections.flags)
    if packing is None:
        _prepare(snapshot, [tables[place] for place, _ in plan.order], frame, entries)
    return frame, [content for _, content in entries]


def _stable_ids_of(snapshot: Snapshot) -> Mapped:
    """Return the function that turns entity ids into stable ids, made ready when first called."""
    known: EntityMap | None = None

    def mapped(references: Array) -> Array:
        nonlocal known
        if known is None:
            known = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
        return known(references)

    return mapped


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
            parts.append(column.tobytes if column.nbytes < SMALL else functools.partial(stored, column))
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


def _itself(data: Any) -> Any:
    return data
