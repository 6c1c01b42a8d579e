"""Checks of every invariant of a world: what a bug, or a write through a view, could have broken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.entities import EntityId
from pecs_np.ecs.id_lookup import find_duplicate
from pecs_np.ecs.references import concatenated
from pecs_np.ecs.values import invalid_element, invalid_value

if TYPE_CHECKING:
    from pecs_np.ecs.storage import Storage
    from pecs_np.ecs.tables import Table
    from pecs_np.ecs.world import World

__all__ = ["Validation", "validate"]


@dataclass(frozen=True)
class Validation:
    """What ``World.validate`` found: true if nothing is wrong.

    Attributes
    ----------
    problems : tuple of str
        One sentence for each invariant that fails, naming the first place where it does.
    """

    problems: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        return "\n".join(self.problems) or "every invariant holds"


def validate(world: World) -> Validation:
    """Check ids, books, columns, values and references of *world*."""
    storage = world._storage
    storage.place()
    problems: list[str] = []
    for table in storage.tables:
        problems += _table_problems(storage, table)
    problems += _id_problems(storage)
    for table in storage.tables:
        if all(table.columns[t.name].dtype == t.layout.memory for t in table.types):
            for type_ in table.types:
                where = f"{type_.name} of table ({', '.join(table.names)})"
                problems += _value_problems(storage, table.column(type_.name), type_.fields, where)
    for resource in world.resources:
        type_, column = resource._type, np.asarray(resource).reshape(1)
        problems += _value_problems(storage, column, type_.fields, f"resource {type_.name}")
    return Validation(tuple(problems))


def _table_problems(storage: Storage, table: Table) -> Iterator[str]:
    where = f"table ({', '.join(table.names)})"
    for kind, ids in (("entity", table.entities), ("stable", table.stable_ids)):
        if ids.size != table.size:
            yield f"expected {table.size} {kind} ids, found {ids.size} in {where}"
            return
    for type_ in table.types:
        column = table.columns[type_.name]
        if column.dtype != type_.layout.memory or len(column) < table.size:
            yield f"expected {table.size} rows of {type_.layout.memory}, found {len(column)} of {column.dtype} in {where}"
    entities = table.entities.array()
    alive = storage.entities.alive(entities)
    if not alive.all():
        row = int(np.argmin(alive))
        yield f"row {row} of {where} holds {EntityId(int(entities[row]))!r}, which the books call dead or out of range"
        return
    slots = (entities & np.uint64(0xFFFFFFFF)).astype(np.intp)
    right = (storage.entities.tables[slots] == table.number) & (
        storage.entities.rows[slots] == np.arange(table.size)
    )
    if not right.all():
        row = int(np.argmin(right))
        yield f"the books place {EntityId(int(entities[row]))!r} elsewhere than row {row} of {where}"


def _id_problems(storage: Storage) -> Iterator[str]:
    tables = [table for table in storage.tables if table.size == table.entities.size == table.stable_ids.size]
    if not any(table.size for table in tables):
        return
    ids = np.sort(np.concatenate([table.entities.array() for table in tables]) & np.uint64(0xFFFFFFFF))
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        yield f"slot {ids[twice[0]]} is held by two rows"
    if (double := find_duplicate(table.stable_ids for table in tables)) is not None:
        yield f"stable id {double:032x} is held by two rows"
    for table in tables:
        stable = table.stable_ids.array()
        null = np.flatnonzero((stable["lo"] | stable["hi"]) == 0)
        if len(null):
            yield f"row {null[0]} of table ({', '.join(table.names)}) has stable id 0"
        if storage.index is not None:
            found = storage.find_stable(stable)
            if (wrong := np.flatnonzero(found != table.entities.array())).size:
                yield f"the stable-id index misses row {wrong[0]} of table ({', '.join(table.names)})"


def _value_problems(storage: Storage, column: Array, fields: tuple[Field, ...], where: str) -> Iterator[str]:
    if not len(column):
        return
    misfits = [problem for f in fields for problem in _object_problems(column[f.name], f, where)]
    if misfits:
        yield from misfits
        return
    if (bad := invalid_value(column, fields)) is not None:
        yield f"row {bad[0]} of {where} {bad[2]}: field {bad[1]}"
    for f in fields:
        values, ends = column[f.name], None
        if f.variable == "list":
            values, ends = concatenated(values.tolist(), f.element().base)
            if (bad := invalid_element(values, f)) is not None:
                row = np.searchsorted(ends, bad[0], "right")
                yield f"row {row} of {where} {bad[2]}: field {bad[1]}"
        if f.has_refs():
            yield from _reference_problems(storage, values, f, where, ends)


def _object_problems(values: Array, f: Field, where: str) -> Iterator[str]:
    """Yield the first object of a variable-length field that is not of its kind."""
    if not f.variable:
        return
    kind: Any = {"str": str, "bytes": bytes, "list": np.ndarray}[f.variable]
    dtype, ndim = (f.element().base, len(f.shape) + 1) if f.variable == "list" else (None, 0)
    for row, value in enumerate(values.tolist()):
        if type(value) is not kind or (dtype and (value.dtype != dtype or value.ndim != ndim)):
            yield f"row {row} of {where} holds {value!r:.40}, which is no {f.variable} of {f.name}"
            return


def _reference_problems(
    storage: Storage, values: Array, f: Field, where: str, ends: Array | None
) -> Iterator[str]:
    """Yield the first dead reference; *ends* says where the lists of each row end, if they are lists."""
    if f.fields:
        for member in f.fields:
            if member.has_refs():
                yield from _reference_problems(storage, values[member.name], member, where, ends)
        return
    if not len(values):
        return
    flat = values.reshape(-1).astype(np.uint64)
    dead = np.flatnonzero((flat != 0) & ~storage.entities.alive(flat) & ~storage.entities.awaits(flat))
    if len(dead):
        row = dead[0] // (len(flat) // len(values))
        if ends is not None:
            row = np.searchsorted(ends, row, "right")
        yield f"row {row} of {where} refers to {EntityId(int(flat[dead[0]]))!r}, which is not alive: field {f.name}"
