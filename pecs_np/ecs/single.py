"""The verbs of a world on one entity, without the detour by way of columns.

A row is copied as the bytes it is. What that cannot do, such as texts and lists, which are objects, columns
of one row given for a value, or types seen for the first time, is left to the general way: the functions
then return None or False, and nothing has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pecs_np.ecs.components import Component, row_of
from pecs_np.ecs.storage import Storage
from pecs_np.ecs.tables import Table

__all__ = ["despawn_one", "get_one", "insert_one", "remove_one", "spawn_one"]


# For so many rows more at least, where entities come one by one.
_ROOM = 32


class Way:
    """Where an entity goes by a verb that was given components, or types, of certain classes.

    Attributes
    ----------
    target : Table
    given : list of str
        The types of the components, in the order given.
    kept : list of str
        The types of the columns that come along from the table the entity is in.
    """

    __slots__ = ("given", "kept", "target")

    def __init__(self, source: Table | None, target: Table, given: Sequence[str]) -> None:
        self.target = target
        self.given = list(given)
        self.kept = [
            name
            for name in (source.rows if source is not None else ())
            if name in target.columns and name not in given
        ]


def get_one(storage: Storage, entity: int, type_: Any) -> Any:
    """Return a component of an entity as a live view, or None where it has none."""
    table, row = storage.find(entity)
    found = storage.ask(table, type_)
    return None if found is None else row_of(*found, row)


def spawn_one(storage: Storage, components: tuple[Any, ...]) -> int | None:
    """Add an entity and return its id."""
    key: Any
    packed: Sequence[bytes]
    try:
        if len(components) == 1:
            (component,) = components
            key, packed = type(component), (component._packed,)
        else:
            key, packed = tuple(map(type, components)), [component._packed for component in components]
    except AttributeError:
        return None
    way = storage.ways.get(key)
    if way is None:
        way = storage.ways[key] = _way_with(storage, None, components)
    if not way or storage.awaited is not None:
        return None
    table = way.target
    row = table.size
    if row >= table.capacity:
        table.reserve(_ROOM)
    entity = storage.entities.allocate_one()
    stable_id = storage.source.take(1)
    storage.begin()
    try:
        rows = table.rows
        for name, value in zip(way.given, packed):  # noqa: B905 - as long, and checking it takes time
            rows[name][row] = value
        table.entities.append_run(entity, 1)
        table.stable_ids.append_run(stable_id, 1)
        table.size = row + 1
        storage.unplaced.add(table)
        if storage.index is not None:
            storage.index.add_one(stable_id, entity)
    finally:
        storage.end()
    return entity


def insert_one(storage: Storage, entity: int, components: tuple[Any, ...]) -> bool:
    """Give an entity components, or replace those it has."""
    table, row = storage.find(entity)
    key: Any
    packed: Sequence[bytes]
    try:
        if len(components) == 1:
            (component,) = components
            key, packed = type(component), (component._packed,)
        else:
            key, packed = tuple(map(type, components)), [component._packed for component in components]
    except AttributeError:
        return False
    way = table.ways.get(key)
    if way is None:
        way = table.ways[key] = _way_with(storage, table, components)
    if not way:
        return False
    if way.target is table:
        rows = table.rows
        for name, value in zip(way.given, packed):  # noqa: B905 - as long, and checking it takes time
            rows[name][row] = value
    else:
        _move(storage, table, row, entity, way, packed)
    return True


def remove_one(storage: Storage, entity: int, types: tuple[Any, ...]) -> bool:
    """Take components of *types* from an entity."""
    table, row = storage.find(entity)
    key = "without", types
    try:
        way = table.ways.get(key)
    except TypeError:  # something that has no hash is no type
        return False
    if way is None:
        way = table.ways[key] = _way_without(storage, table, types)
    if not way:
        return False
    if way.target is not table:
        _move(storage, table, row, entity, way, ())
    return True


def despawn_one(storage: Storage, entity: int) -> bool:
    """Remove an entity."""
    table, row = storage.find(entity)
    if any(type_.layout.variable for type_ in table.types):
        return False
    storage.begin()
    try:
        storage.entities.release_one(int(entity))
        table.remove_one(row)
        if row < table.size:
            storage.entities.row_of[table.entities.one(row) & 0xFFFFFFFF] = row
    finally:
        storage.end()
    return True


def _move(storage: Storage, table: Table, row: int, entity: int, way: Way, packed: Sequence[bytes]) -> None:
    """Move a row to the end of another table."""
    target = way.target
    new = target.size
    if new >= target.capacity:
        target.reserve(_ROOM)
    storage.begin()
    try:
        source = table._cells or table.cells
        cells, rows = target._cells or target.cells, target._rows or target.rows
        for name in way.kept:
            cells[name][new] = source[name][row]
        for name, value in zip(way.given, packed):  # noqa: B905 - as long, and checking it takes time
            rows[name][new] = value
        books, slot = storage.entities, entity & 0xFFFFFFFF
        last = table.size - 1
        if row != last:
            for column in source.values():
                column[row] = column[last]
            books.row_of[table.entities.one(last) & 0xFFFFFFFF] = row
        table.entities.hand_one(row, target.entities)
        table.stable_ids.hand_one(row, target.stable_ids)
        table.size = table.placed = last
        target.size = target.placed = new + 1
        books.table_of[slot] = target.number
        books.row_of[slot] = new
    finally:
        storage.end()


def _way_with(storage: Storage, table: Table | None, components: tuple[Any, ...]) -> Way | Literal[False]:
    """Return the way of an entity that gets *components*, False where the general way has to see to it."""
    given = [component._type for component in components if isinstance(component, Component)]
    names = [type_.name for type_ in given]
    if len(set(names)) < len(components):
        return False
    for type_ in given:
        storage.check_known(type_)
    types = table.with_types(given) if table is not None else tuple(given)
    if any(t.layout.variable for t in types):
        return False
    return Way(table, storage.table(types), names)


def _way_without(storage: Storage, table: Table, types: tuple[Any, ...]) -> Way | Literal[False]:
    names = storage.names(types)
    if any(t.layout.variable for t in table.types):
        return False
    return Way(table, storage.table(table.without_types(names)), ())
