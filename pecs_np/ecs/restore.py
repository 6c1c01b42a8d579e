"""Bringing a snapshot into a world: exactly, merged as new entities, or over those of the same stable id."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.entities import Entities
from pecs_np.ecs.id_lookup import find_duplicate
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.references import EntityMap, remap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import private_copy
from pecs_np.errors import ComponentDefinitionError, DuplicateEntityError, WorldError
from pecs_np.messages import is_one_of, shown

if TYPE_CHECKING:
    from pecs_np.ecs.storage import Storage
    from pecs_np.ecs.world import World

__all__ = ["Mode", "fill", "restore", "upsert"]

Mode = Literal["exact", "merge", "overwrite"]


def restore(world: World, snapshot: Snapshot, mode: Mode) -> list[IdColumn]:
    """Bring *snapshot* into *world* and return the entities of each table; see ``World.restore``."""
    if not is_one_of(mode, "exact", "merge", "overwrite"):
        raise WorldError(f"expected mode 'exact', 'merge' or 'overwrite', found {shown(mode)}")
    if not isinstance(snapshot, Snapshot):
        raise WorldError(f"expected a Snapshot, found {snapshot!r:.80}", suggestion="call world.snapshot()")
    storage = world._storage
    tables = snapshot.tables
    met: dict[str, ComponentType] = {}
    for table in (*tables, snapshot.resources) if snapshot.resources else tables:
        if table.claim.taken:
            raise WorldError(
                "expected a snapshot whose arrays are its own, found one that a world has taken over",
                suggestion="give each world a snapshot.copy()",
            )
        if not snapshot.sound:
            table.check()
            if table is not snapshot.resources:
                table.check_ids()
        for type_ in table.types if storage.types or not snapshot.sound else ():
            storage.check_known(type_)
            if not met.setdefault(type_.name, type_).agrees_with(type_):
                raise ComponentDefinitionError(f"expected one {met[type_.name]!r}, found {type_!r}")
    if not snapshot.sound and (double := find_duplicate([t.stable_ids for t in tables])) is not None:
        raise DuplicateEntityError(f"expected distinct stable ids, found {double:032x} twice")
    if mode == "exact":
        fill(world, snapshot)
        return [table.entities for table in tables]
    if not snapshot.sound:
        Entities.holding([table.entities for table in tables])  # raises where ids are not distinct
    for table in tables:
        storage.source.avoid(table.stable_ids)
    entities = [_identify(storage, table, mode) for table in tables]
    old_to_new = EntityMap((t.entities, new) for t, new in zip(tables, entities, strict=True))
    with storage.changing():
        for table, new in zip(tables, entities, strict=True):
            _add(storage, table, new.array(), old_to_new)
    if snapshot.resources:
        _add_resources(world, snapshot.resources, old_to_new, replace=mode == "overwrite")
    return entities


def upsert(world: World, snapshot: Snapshot) -> None:
    """Bring *snapshot*, whose entities and references are ids of *world* already, over what is there.

    Entities that the world has take on the snapshot's components, transient ones stay; awaited ones come.
    """
    storage = world._storage
    for table in snapshot.tables:
        table.check()
        table.check_ids()
        for type_ in table.types:
            storage.check_known(type_)
    with storage.changing():
        for table in snapshot.tables:
            storage.source.avoid(table.stable_ids)
            _add(storage, table, table.entities.array(), None)


def fill(world: World, snapshot: Snapshot) -> None:
    """Make *snapshot*, which is known to make sense, the content of an empty *world*, ids and all."""
    storage = world._storage
    if (storage.tables and world.entity_count) or world._resources:
        raise WorldError(
            f"expected an empty world for mode 'exact', found {world.entity_count} entities and"
            f" {len(world.resources)} resources",
            suggestion="use World.from_snapshot, or mode 'merge' or 'overwrite'",
        )
    entities = Entities.holding([table.entities for table in snapshot.tables])
    itself = None if snapshot.sound else EntityMap((t.entities, t.entities) for t in snapshot.tables)
    if storage.tables or storage.index is not None or storage.iterated:
        with storage.changing():
            storage.clear()
            _take_over(storage, snapshot, entities, itself)
    else:
        # Nothing to be seen half changed.
        _take_over(storage, snapshot, entities, itself)
    world.version = snapshot.version
    world.metadata = copy.deepcopy(snapshot.metadata) if snapshot.metadata else {}
    if snapshot.id_source is not None:
        storage.source.high, storage.source.next = snapshot.id_source
        storage.source.seeded = True
    if storage.source.high:
        for table in snapshot.tables:
            storage.source.avoid(table.stable_ids)
    if snapshot.rngs:
        world.rngs.restore(snapshot.rngs)
    if snapshot.resources:
        _add_resources(world, snapshot.resources, itself, replace=True)


def _take_over(storage: Storage, snapshot: Snapshot, entities: Entities, itself: EntityMap | None) -> None:
    """Make the tables of *snapshot* those of an empty world, references sent through *itself*."""
    storage.entities = entities
    storage.awaited = None
    for table in snapshot.tables:
        own = storage.adopt(table, _owned(table))
        if itself is not None:
            for type_ in own.types:
                remap(own.columns[type_.name], type_.fields, itself)
    storage.revision.number += 1


def _owned(table: SnapshotTable) -> dict[str, Array]:
    """Take over the table's arrays, but copy those that a world may be using."""
    owned = {}
    for type_ in table.types:
        column = table.columns[type_.name]
        if column.flags.writeable:
            owned[type_.name] = column
            table.claim.taken = True
        else:
            owned[type_.name] = private_copy(column, type_.fields)
    return owned


def _identify(storage: Storage, table: SnapshotTable, mode: Mode) -> IdColumn:
    """Return the entity id in this world of each row: new, or in mode "overwrite" the one that is here."""
    if mode == "merge":
        if storage.awaited is None:
            return storage.entities.allocate(table.rows)
        return storage.allocate_for(table.stable_ids.array())
    stable_ids = table.stable_ids.array()
    here = storage.find_stable(stable_ids)
    new = np.flatnonzero(here == 0)
    here[new] = storage.allocate_for(stable_ids.take(new)).array()
    return IdColumn(ENTITY_ID, array=here)


def _add(
    storage: Storage, table: SnapshotTable, ids: NDArray[np.uint64], mapped: Callable[[Array], Array] | None
) -> None:
    """Add the rows of *table* under *ids*; rows whose entity is here already replace its components.

    References are sent through *mapped*. Without it they are those of this world, as are *ids*, which the
    stable-id index has.
    """
    values = {}
    for type_ in table.types:
        column = table.columns[type_.name]
        if mapped is not None and (type_.layout.refers or type_.layout.variable):
            column = private_copy(column, type_.fields)
            remap(column, type_.fields, mapped)
        values[type_.name] = column
    stable_ids = table.stable_ids.array()
    here = storage.find_stable(stable_ids)
    old = np.flatnonzero(here == ids)
    if len(old):
        for group, rows, order in storage.groups(ids[old]):
            chosen = {name: column.take(old[order]) for name, column in values.items()}
            target = storage.table(_replaced(group.types, table.types))
            storage.set_rows(group, rows, target, chosen)
    new = np.flatnonzero(here != ids)
    if not len(new):
        return
    stable_ids = stable_ids.take(new)
    if len(taken := np.flatnonzero(here[new])):
        fresh = IdColumn(STABLE_ID, [(storage.source.take(len(taken)), len(taken))])
        stable_ids[taken] = fresh.array()
    stable = IdColumn(STABLE_ID, array=stable_ids)
    entities = IdColumn(ENTITY_ID, array=ids.take(new))
    rows_of = {n: c if len(new) == len(c) else c.take(new) for n, c in values.items()}
    storage.append(storage.table(table.types), entities, stable, rows_of, known=mapped is None)


def _replaced(old: tuple[ComponentType, ...], new: tuple[ComponentType, ...]) -> tuple[ComponentType, ...]:
    names = {t.name for t in new}
    return (*new, *(t for t in old if t.transient and t.name not in names))


def _add_resources(
    world: World, resources: SnapshotTable, mapped: EntityMap | None, *, replace: bool
) -> None:
    for type_ in resources.types:
        if replace or type_.name not in world.resources:
            value = private_copy(resources.columns[type_.name], type_.fields)
            if mapped is not None:
                remap(value, type_.fields, mapped)
            world.resources._put(type_, value)
