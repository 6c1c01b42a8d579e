"""Changes brought into a world, and changes that follow one another made one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.changes import ChangeSet, ChangeTable, joined_tables, no_ids
from pecs_np.ecs.comparison import changed_rows, grouped_by_set
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.difference import portable_column
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int
from pecs_np.ecs.references import translated
from pecs_np.ecs.restore import upsert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import private_copy
from pecs_np.ecs.world import World
from pecs_np.errors import DuplicateEntityError, EntityNotFoundError, WorldError
from pecs_np.messages import is_one_of, shown

__all__ = ["Conflict", "apply", "apply_to_snapshot", "concatenated_changes"]

Conflict = Literal["error", "theirs", "ours"]


def apply(world: World, changes: ChangeSet, *, conflict: Conflict = "error") -> None:
    """Bring *changes* into *world*; all is checked before it is touched.

    A conflict is an entity to be created that is there, or one to be changed or despawned that is not, or,
    where the values from before are known, a component that has another value than before.

    Parameters
    ----------
    world : World
    changes : ChangeSet
    conflict : {"error", "theirs", "ours"}
        Whether a conflict is an error, or the changes win, or what the world has stays.

    Raises
    ------
    DuplicateEntityError, EntityNotFoundError, WorldError
        If there is a conflict and *conflict* is "error".
    """
    if not is_one_of(conflict, "error", "theirs", "ours"):
        raise WorldError(f"expected conflict 'error', 'theirs' or 'ours', found {shown(conflict)}")
    if not isinstance(changes, ChangeSet):
        raise WorldError(f"expected a ChangeSet, found {shown(changes)}", suggestion="call tracker.changes()")
    storage = world._storage
    for type_ in changes.types:
        storage.check_known(type_)
    if conflict != "theirs":
        changes = _without_conflicts(world, changes, raising=conflict == "error")
    with storage.changing():
        _carry_out(world, changes)


def _carry_out(world: World, changes: ChangeSet) -> None:
    storage = world._storage
    gone = storage.find_stable(changes.despawned)
    if (gone := gone[gone != 0]).size:
        world.despawn(gone)
    for name, ids in changes.removed.items():
        entities = storage.find_stable(ids)
        entities = entities[entities != 0]
        if name in storage.types and len(entities):
            world.remove(np.unique(entities), name)
    upsert(world, Snapshot(tuple(_snapshot_table(world, table) for table in changes.created)))
    for table in changes.modified:
        here = storage.find_stable(table.stable_ids) != 0
        if not here.all():
            lacking = _snapshot_table(world, table.take(np.flatnonzero(~here)))
            upsert(world, Snapshot((lacking,)))
        known = table if here.all() else table.take(np.flatnonzero(here))
        if len(known):
            columns = [t.cls._wrap(_memory_column(world, known.columns[t.name], t)) for t in known.types]
            world.insert(storage.find_stable(known.stable_ids), *columns)
    if changes.world is not None:
        _set_state(world, changes)


def apply_to_snapshot(snapshot: Snapshot, changes: ChangeSet, *, conflict: Conflict = "error") -> Snapshot:
    """Return *snapshot*, which stays as it is, with *changes*; see `apply`."""
    world = World.from_snapshot(snapshot.copy())
    apply(world, changes, conflict=conflict)
    return world.snapshot(copy=True)


def _memory_column(world: World, column: Array, type_: ComponentType) -> Array:
    """Return a column of a change set with references as ids of *world*."""
    if not type_.layout.refers:
        return column
    return translated(column, type_.fields, type_.layout.memory, world._storage.identify, portable=False)


def _snapshot_table(world: World, table: ChangeTable) -> SnapshotTable:
    """Return a table of entities that are new in *world*."""
    columns = {
        t.name: private_copy(_memory_column(world, table.columns[t.name], t), t.fields) for t in table.types
    }
    entities = IdColumn(ENTITY_ID, array=world._storage.identify(table.stable_ids))
    return SnapshotTable(
        table.types, len(table), entities, IdColumn(STABLE_ID, array=table.stable_ids.copy()), columns
    )


def _set_state(world: World, changes: ChangeSet) -> None:
    state = changes.world
    if state is None:
        return
    world.version = state.version
    world.metadata = copy.deepcopy(dict(state.metadata))
    world.rngs.clear()
    world.rngs.restore(state.rngs)
    source = world._storage.source
    if state.id_source is not None:
        source.high, source.next = state.id_source
        source.seeded = True
    for resource in list(world.resources):
        world.resources.remove(type(resource))
    if state.resources is not None:
        for type_ in state.resources.types:
            column = _memory_column(world, state.resources.columns[type_.name], type_)
            world.resources._put(type_, private_copy(column, type_.fields))


# Conflicts


def _without_conflicts(world: World, changes: ChangeSet, *, raising: bool) -> ChangeSet:
    """Return *changes* without those that do not fit what *world* has, or raise at the first."""
    storage = world._storage
    going = IdLookup(changes.despawned)
    created = []
    for table in changes.created:
        taken = (storage.find_stable(table.stable_ids) != 0) & (going.find(table.stable_ids) < 0)
        if raising and taken.any():
            raise DuplicateEntityError(
                f"expected to create {_hex(table.stable_ids[taken.argmax()])}, found it in the world",
                suggestion='pass conflict="theirs" or conflict="ours"',
            )
        created.append(table.take(np.flatnonzero(~taken)))

    def present(ids: Array) -> NDArray[np.intp]:
        here = storage.find_stable(ids) != 0
        if raising and not here.all():
            raise EntityNotFoundError(
                f"expected {_hex(ids[int(here.argmin())])} in the world, found no such entity to change",
                suggestion='pass conflict="theirs" or conflict="ours"',
            )
        return np.flatnonzero(here)

    removed = {name: ids[present(ids)] for name, ids in changes.removed.items()}
    despawned = changes.despawned[present(changes.despawned)]
    modified = [table.take(present(table.stable_ids)) for table in changes.modified]
    if changes.inverse is not None:
        before = {
            name: (table.stable_ids, table.columns[name])
            for name, table in _by_type(changes.inverse.modified).items()
        }
        modified = [_unchanged_rows(world, table, before, raising=raising) for table in modified]
    return replace(
        changes,
        created=tuple(t for t in created if len(t)),
        modified=tuple(t for t in modified if len(t)),
        removed=removed,
        despawned=despawned,
    )


def _unchanged_rows(
    world: World, table: ChangeTable, before: dict[str, tuple[Array, Array]], *, raising: bool
) -> ChangeTable:
    """Return the rows of *table* whose components have in *world* the value from before, or the new one."""
    fits = np.ones(len(table), bool)
    ids = world._storage.find_stable(table.stable_ids)
    for type_ in table.types:
        if type_.name not in before:
            continue
        old_ids, old = before[type_.name]
        at = IdLookup(old_ids).find(table.stable_ids)
        rows = np.flatnonzero((at >= 0) & world.has(ids, type_.name))
        if not len(rows):
            continue
        now = portable_column(
            np.asarray(world.get(ids[rows], type_.name)), type_, world._storage.stable_ids_of
        )
        differ = changed_rows(now, old.take(at[rows]), type_.layout)
        new = table.columns[type_.name].take(rows[differ])
        differ = differ[changed_rows(now.take(differ), new, type_.layout)]
        if raising and len(differ):
            raise WorldError(
                f"expected {type_.name} of {_hex(table.stable_ids[rows[differ[0]]])} as it was before the"
                " changes, found another value",
                suggestion='pass conflict="theirs" or conflict="ours"',
            )
        fits[rows[differ]] = False
    return table if fits.all() else table.take(np.flatnonzero(fits))


def _hex(record: Any) -> str:
    return f"{as_int(record):032x}"


# One after the other


def concatenated_changes(sets: Iterable[ChangeSet]) -> ChangeSet:
    """Return change sets that follow one another as one."""
    parts = list(sets)
    if not parts:
        return ChangeSet()
    whole = parts[0]
    for following in parts[1:]:
        whole = _followed(whole, following)
    return whole


def _followed(first: ChangeSet, second: ChangeSet) -> ChangeSet:
    inverse = None
    if first.inverse is not None and second.inverse is not None:
        inverse = _forward(second.inverse, first.inverse)
    return replace(_forward(first, second), inverse=inverse)


def _forward(first: ChangeSet, second: ChangeSet) -> ChangeSet:
    """Return *first*, then *second*, without their inverses."""
    came = _all_ids(first.created)
    gone = second.despawned
    created = np.concatenate((came[~_within(came, gone)], _all_ids(second.created)))
    despawned = np.concatenate(
        (first.despawned, gone[~_within(gone, came) & ~_within(gone, first.despawned)])
    )
    values: dict[str, ChangeTable] = {}
    ours, theirs = _by_type((*first.created, *first.modified)), _by_type((*second.created, *second.modified))
    for name in sorted({*ours, *theirs}):
        parts = []
        if name in ours:
            table = ours[name]
            lost = _within(table.stable_ids, gone) | _within(
                table.stable_ids, second.removed.get(name, no_ids())
            )
            if name in theirs:
                lost |= _within(table.stable_ids, theirs[name].stable_ids)
            parts.append(table.take(np.flatnonzero(~lost)))
        if name in theirs:
            parts.append(theirs[name])
        values[name] = _stacked(parts)
    removed = {}
    for name in sorted({*first.removed, *second.removed}):
        before = first.removed.get(name, no_ids())
        kept = before[~_within(before, gone)]
        if name in theirs:
            kept = kept[~_within(kept, theirs[name].stable_ids)]
        later = second.removed.get(name, no_ids())
        later = later[~_within(later, came) & ~_within(later, kept)]
        if len(kept) + len(later):
            removed[name] = np.concatenate((kept, later))
    new, changed = _regrouped(values, created)
    world = second.world if second.world is not None else first.world
    known = {t.name: t for t in (*first.lost, *second.lost) if t.name in removed}
    types = tuple([known[name] for name in sorted(known)])
    return ChangeSet(new, changed, removed, despawned, world, second.timestamp, lost=types)


def _all_ids(tables: Sequence[ChangeTable]) -> Array:
    return np.concatenate([no_ids(), *[table.stable_ids for table in tables]])


def _within(ids: Array, others: Array) -> NDArray[np.bool_]:
    """Tell which of *ids* are among *others*."""
    if not len(ids) or not len(others):
        return np.zeros(len(ids), bool)
    found: NDArray[np.bool_] = IdLookup(others).find(ids) >= 0
    return found


def _by_type(tables: Sequence[ChangeTable]) -> dict[str, ChangeTable]:
    """Return the values of each component as a table of its own."""
    found: dict[str, list[ChangeTable]] = {}
    for table in tables:
        for name in table.names:
            found.setdefault(name, []).append(table.keep([name]))
    return {name: _stacked(parts) for name, parts in found.items()}


def _stacked(parts: Sequence[ChangeTable]) -> ChangeTable:
    if len(parts) == 1:
        return parts[0]
    ids = np.concatenate([part.stable_ids for part in parts])
    columns = {n: np.concatenate([part.columns[n] for part in parts]) for n in parts[0].names}
    return ChangeTable(parts[-1].types, ids, columns)


def _regrouped(
    values: dict[str, ChangeTable], created: Array
) -> tuple[tuple[ChangeTable, ...], tuple[ChangeTable, ...]]:
    """Return tables of the entities *created*, and of the others, from the values of each component."""
    everyone = np.concatenate([created, *[table.stable_ids for table in values.values()]])
    if not len(everyone):
        return (), ()
    ids = np.unique(everyone.view("V16")).view(STABLE_ID)
    lookup = IdLookup(ids)
    new = np.zeros(len(ids), bool)
    new[lookup.find(created)] = True
    names = [name for name, table in values.items() if len(table)]
    places = {name: np.full(len(ids), -1, np.intp) for name in names}
    members = {}
    for name in names:
        members[name] = lookup.find(values[name].stable_ids)
        places[name][members[name]] = np.arange(len(members[name]))
    made: dict[bool, list[ChangeTable]] = {True: [], False: []}
    for chosen, here in grouped_by_set(members, len(ids), rest=True):
        types = tuple(values[name].types[0] for name in chosen)
        for kind in (True, False):
            rows = here[new[here] == kind]
            if len(rows):
                columns = {n: values[n].columns[n].take(places[n][rows]) for n in chosen}
                made[kind].append(ChangeTable(types, ids[rows], columns))
    return joined_tables(made[True]), joined_tables(made[False])
