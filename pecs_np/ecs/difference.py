"""What changed between two snapshots, found by comparison, column by column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.changes import ChangeSet, ChangeTable, WorldState, joined_tables, no_ids
from pecs_np.ecs.comparison import changed_rows, grouped_by_set
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.id_lookup import ColumnLookup
from pecs_np.ecs.ids import STABLE_ID, IdColumn
from pecs_np.ecs.references import EntityMap, translated
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.values import private_copy

__all__ = ["difference", "plain_states", "portable_column", "world_state"]

Mapped = Callable[[Array], Array]
# Rows of a table: all, or those of these numbers.
Rows = NDArray[np.intp] | None


@dataclass(slots=True)
class _Pair:
    """Rows that stand for the same entities before and after, in the same order."""

    before: SnapshotTable
    before_rows: Rows
    after: SnapshotTable
    after_rows: Rows


class _Parts:
    """Collects the change tables of one direction."""

    def __init__(self, mapped: Mapped) -> None:
        self.mapped = mapped
        self.created: list[ChangeTable] = []
        self.modified: list[ChangeTable] = []
        self.removed: dict[str, list[Array]] = {}
        self.lost: dict[str, ComponentType] = {}
        self.despawned: list[Array] = []

    def add(self, into: list[ChangeTable], table: SnapshotTable, rows: Rows, names: Sequence[str]) -> None:
        """Add components *names* of the given rows of a table."""
        types = tuple(t for t in table.types if t.name in names)
        columns = {
            t.name: portable_column(_own(table.columns[t.name], rows, t), t, self.mapped) for t in types
        }
        into.append(ChangeTable(types, _ids(table, rows), columns))

    def remove(self, type_: ComponentType, ids: Array) -> None:
        """Add entities that have no component of a type any more."""
        self.removed.setdefault(type_.name, []).append(ids)
        self.lost[type_.name] = type_

    def changes(self, world: WorldState | None, timestamp: float) -> ChangeSet:
        removed = {name: np.concatenate(parts) for name, parts in sorted(self.removed.items())}
        despawned = np.concatenate(self.despawned) if self.despawned else no_ids()
        created, modified = joined_tables(self.created), joined_tables(self.modified)
        lost = tuple([self.lost[name] for name in removed])
        return ChangeSet(created, modified, removed, despawned, world, timestamp, lost=lost)


def difference(
    before: Snapshot,
    after: Snapshot,
    *,
    timestamp: float = 0.0,
    mapped: tuple[Mapped, Mapped] | None = None,
) -> ChangeSet:
    """Return what changed between two snapshots; it is empty exactly when they hold the same.

    Parameters
    ----------
    before, after : Snapshot
    timestamp : float
        Seconds since 1970, for the result.
    mapped : pair of callables, optional
        Turn entity ids into stable ids, before and after. It says that the snapshots are of one world, in
        which an id is the same entity in both.
    """
    if mapped is None:
        maps = [EntityMap((t.entities, t.stable_ids) for t in s.tables) for s in (before, after)]
        before, after = (_portable(s, m) for s, m in zip((before, after), maps, strict=True))
        mapped = (_as_it_is, _as_it_is)
    backward, forward = _Parts(mapped[0]), _Parts(mapped[1])
    pairs, gone, new = _paired(before.tables, after.tables)
    for table, rows in new:
        forward.add(forward.created, table, rows, [t.name for t in table.types])
        backward.despawned.append(_ids(table, rows))
    for table, rows in gone:
        backward.add(backward.created, table, rows, [t.name for t in table.types])
        forward.despawned.append(_ids(table, rows))
    for pair in pairs:
        # Who refers to an entity that is gone refers to nobody now, though the id in memory is the same.
        _compare(pair, backward, forward, by_target=bool(gone))
    ours, theirs = world_state(before, mapped[0]), world_state(after, mapped[1])
    same = _same_state(ours, theirs)
    changes = forward.changes(None if same else theirs, timestamp)
    inverse = backward.changes(None if same else ours, timestamp)
    return replace(changes, inverse=inverse)


def _as_it_is(references: Array) -> Array:
    return references


def portable_column(column: Array, type_: ComponentType, mapped: Mapped) -> Array:
    """Return *column* with references as stable ids; without any, it is *column* itself."""
    if not type_.layout.refers or column.dtype == type_.layout.portable != type_.layout.memory:
        return column
    return translated(column, type_.fields, type_.layout.portable, mapped, portable=True)


def _portable(snapshot: Snapshot, mapped: Mapped) -> Snapshot:
    """Return *snapshot* with references as stable ids: to be compared, not to be a world."""

    def converted(table: SnapshotTable) -> SnapshotTable:
        if not any(t.layout.refers for t in table.types):
            return table
        return replace(
            table, columns={t.name: portable_column(table.columns[t.name], t, mapped) for t in table.types}
        )

    resources = None if snapshot.resources is None else converted(snapshot.resources)
    return replace(snapshot, tables=tuple(map(converted, snapshot.tables)), resources=resources)


def _paired(
    before: Sequence[SnapshotTable], after: Sequence[SnapshotTable]
) -> tuple[list[_Pair], list[tuple[SnapshotTable, Rows]], list[tuple[SnapshotTable, Rows]]]:
    """Return the rows of the same entities, those only before, and those only after."""
    pairs: list[_Pair] = []
    old: list[tuple[SnapshotTable, Rows]] = []
    new: list[tuple[SnapshotTable, Rows]] = []
    by_types = {tuple([t.name for t in table.types]): table for table in before}
    for theirs in after:
        ours = by_types.pop(tuple([t.name for t in theirs.types]), None)
        if ours is None:
            new.append((theirs, None))
            continue
        if ours.stable_ids.runs is not None and ours.stable_ids.runs == theirs.stable_ids.runs:
            pairs.append(_Pair(ours, None, theirs, None))
            continue
        # Rows stay where they are but for those that filled holes.
        count = min(ours.rows, theirs.rows)
        a, b = ours.stable_ids.array()[:count], theirs.stable_ids.array()[:count]
        same = (a["lo"] == b["lo"]) & (a["hi"] == b["hi"])
        if same.all():
            rows = None if ours.rows == theirs.rows else np.arange(count)
            pairs.append(_Pair(ours, rows, theirs, rows))
            others = np.empty(0, np.intp)
        else:
            rows = np.flatnonzero(same)
            pairs.append(_Pair(ours, rows, theirs, rows))
            others = np.flatnonzero(~same)
        for table, into in ((ours, old), (theirs, new)):
            rest = np.concatenate((others, np.arange(count, table.rows)))
            if len(rest):
                into.append((table, rest))
    old += [(table, None) for table in by_types.values()]
    gone, come = _matched(old, new, pairs)
    return pairs, gone, come


def _matched(
    old: list[tuple[SnapshotTable, Rows]], new: list[tuple[SnapshotTable, Rows]], pairs: list[_Pair]
) -> tuple[list[tuple[SnapshotTable, Rows]], list[tuple[SnapshotTable, Rows]]]:
    """Pair the rows of *old* and *new* by stable id, and return those of each that are in one only."""
    if not old or not new:
        return old, new
    lookup = ColumnLookup([IdColumn(STABLE_ID, array=_ids(table, rows)) for table, rows in old])
    sizes = [table.rows if rows is None else len(rows) for table, rows in old]
    ends = np.cumsum(sizes)
    met = np.zeros(int(ends[-1]), bool)
    come: list[tuple[SnapshotTable, Rows]] = []
    for table, rows in new:
        numbers = np.arange(table.rows) if rows is None else rows
        found = lookup.find(_ids(table, rows))
        if len(fresh := np.flatnonzero(found < 0)):
            come.append((table, numbers[fresh]))
        known = np.flatnonzero(found >= 0)
        met[found[known]] = True
        which = np.searchsorted(ends, found[known], "right")
        for number in np.unique(which).tolist():
            chosen = known[which == number]
            other, other_rows = old[number]
            at = found[chosen] - (int(ends[number]) - sizes[number])
            pairs.append(_Pair(other, at if other_rows is None else other_rows[at], table, numbers[chosen]))
    gone: list[tuple[SnapshotTable, Rows]] = []
    for (table, rows), stop, size in zip(old, ends.tolist(), sizes, strict=True):
        lost = np.flatnonzero(~met[stop - size : stop])
        if len(lost):
            gone.append((table, lost if rows is None else rows[lost]))
    return gone, come


def _compare(pair: _Pair, backward: _Parts, forward: _Parts, *, by_target: bool) -> None:
    """Add what differs between the rows of a pair; references by target, or by the id in memory."""
    before = {t.name: t for t in pair.before.types}
    after = {t.name: t for t in pair.after.types}
    common = [name for name in after if name in before and after[name].agrees_with(before[name])]
    came = [name for name in after if name not in common]
    lost = [name for name in before if name not in common]
    count = pair.after.rows if pair.after_rows is None else len(pair.after_rows)
    if not count:
        return
    for name in lost:
        # One of another version came in its place: then the name is still there.
        if name not in after:
            forward.remove(before[name], _ids(pair.after, pair.after_rows))
    for name in came:
        if name not in before:
            backward.remove(after[name], _ids(pair.before, pair.before_rows))
    changed = {}
    for name in common:
        ours = _taken(pair.before.columns[name], pair.before_rows)
        theirs = _taken(pair.after.columns[name], pair.after_rows)
        if by_target:
            ours = portable_column(ours, before[name], backward.mapped)
            theirs = portable_column(theirs, after[name], forward.mapped)
        changed[name] = changed_rows(ours, theirs, after[name].layout)
    for names, rows in _grouped(changed, came, count):
        forward.add(forward.modified, pair.after, _of(pair.after_rows, rows), names)
    for names, rows in _grouped(changed, lost, count):
        backward.add(backward.modified, pair.before, _of(pair.before_rows, rows), names)


def _grouped(
    changed: dict[str, NDArray[np.intp]], always: list[str], count: int
) -> Iterator[tuple[list[str], NDArray[np.intp]]]:
    """Yield sets of names, and the rows of which exactly these are to be told: *changed*, and *always* all."""
    names = [name for name, rows in changed.items() if len(rows)]
    if not names:
        if always:
            yield always, np.arange(count)
        return
    if len(names) == 1 and not always:
        yield names, changed[names[0]]
        return
    members = {name: changed[name] for name in names}
    for chosen, rows in grouped_by_set(members, count, rest=bool(always)):
        yield [*chosen, *always], rows


def _of(rows: Rows, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
    return chosen if rows is None else rows[chosen]


def _taken(column: Array, rows: Rows) -> Array:
    return column if rows is None else column.take(rows)


def _own(column: Array, rows: Rows, type_: ComponentType) -> Array:
    """Return rows of a column that neither the world nor another snapshot shares."""
    if rows is None:
        return private_copy(column, type_.fields)
    column = column.take(rows)
    return private_copy(column, type_.fields) if type_.layout.lists else column


def _ids(table: SnapshotTable, rows: Rows) -> Array:
    ids = table.stable_ids.array()
    return ids.copy() if rows is None else ids.take(rows)


def world_state(snapshot: Snapshot, mapped: Mapped) -> WorldState:
    """Return what *snapshot* has beside its entities; *mapped* turns entity ids into stable ids."""
    resources = None
    if (table := snapshot.resources) is not None:
        columns = {t.name: portable_column(table.columns[t.name], t, mapped) for t in table.types}
        resources = ChangeTable(table.types, np.zeros(1, STABLE_ID), columns)
    return WorldState(snapshot.version, snapshot.metadata, snapshot.rngs, snapshot.id_source, resources)


def _same_state(ours: WorldState, theirs: WorldState) -> bool:
    if (ours.version, ours.metadata, ours.id_source) != (theirs.version, theirs.metadata, theirs.id_source):
        return False
    if plain_states(ours.rngs) != plain_states(theirs.rngs):
        return False
    a, b = ours.resources, theirs.resources
    if a is None or b is None:
        return a is b
    return a.names == b.names and all(
        x.agrees_with(y) and not len(changed_rows(a.columns[x.name], b.columns[x.name], x.layout))
        for x, y in zip(a.types, b.types, strict=True)
    )


def plain_states(value: Any) -> Any:
    """Return the states of generators with arrays as lists."""
    if isinstance(value, Mapping):
        return {key: plain_states(member) for key, member in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value
