"""Where a world's entities are: its tables, the books that say who stands where, and what is cached between changes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, read_only, strictly_increasing
from pecs_np.ecs.awaited import Awaited
from pecs_np.ecs.components import Component, ComponentType, component_type
from pecs_np.ecs.entities import Entities, EntityId, StableId, StableIdSource
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int
from pecs_np.ecs.registry import registered
from pecs_np.ecs.snapshot import Revision, Snapshot, SnapshotTable
from pecs_np.ecs.stable_index import StableIndex
from pecs_np.ecs.tables import Asked, Table
from pecs_np.errors import (
    ComponentDefinitionError,
    DuplicateEntityError,
    EntityNotFoundError,
    WorldError,
)

if TYPE_CHECKING:
    from pecs_np.ecs.queries import Query

__all__ = ["SCALARS", "Storage", "as_entity_ids"]

# The types of one entity id; others are looked at by `as_entity_ids`.
SCALARS = frozenset({int, EntityId, np.uint64, np.int64})

_SLOT = np.uint64((1 << 32) - 1)
_FIRST = np.zeros(1, np.intp)
_NONE_FROZEN = -1, ()


class Storage:
    """The insides of a world, shared by its verbs, queries, restoring and validation.

    Attributes
    ----------
    tables : list of Table
        By number.
    types : dict of str to ComponentType
        Every type the world has met.
    awaited : Awaited or None
        Entities that are referred to but not here.
    unplaced : set of Table
        Those with rows that the books do not know yet; `place` notes them when somebody asks.
    revision : Revision
        Counts structural changes; what is cached between two of them goes with each.
    matches, queries
        Tables by the key of a query, and the queries by their key, or the types asked for.
    iterated : list of Query
        Those that know the columns as they are until the next structural change.
    ways : dict
        Where a new entity goes: a cache of `single`, as each table has one.
    frozen : (int, tuple of SnapshotTable)
        After how many changes, and the tables as snapshots show them.
    snapshot : Snapshot or None
        That of a world with nothing else to save.
    """

    def __init__(self, capacity: int, seed: int | None) -> None:
        self.entities = Entities(capacity)
        self.source = StableIdSource(seed)
        self.index: StableIndex | None = None
        self.awaited: Awaited | None = None
        self._set_aside: list[NDArray[np.uint64]] | None = None
        self.tables: list[Table] = []
        self.types: dict[str, ComponentType] = {}
        self.by_names: dict[tuple[str, ...], Table] = {}
        self.by_types: dict[tuple[ComponentType, ...], Table] = {}
        self.unplaced: set[Table] = set()
        self.revision = Revision()
        # Held while rows move or their places are noted, which a mere look at an entity may do.
        self._lock = threading.RLock()
        self.matches: dict[Any, list[Table]] = {}
        self.queries: dict[tuple[Any, ...], Query[Any]] = {}
        self.iterated: list[Query[Any]] = []
        self.ways: dict[Any, Any] = {}
        self.frozen: tuple[int, tuple[SnapshotTable, ...]] = _NONE_FROZEN
        self.snapshot: Snapshot | None = None

    def changing(self) -> Self:
        """Return a context for a ``with`` block that makes a structural change; they nest.

        Of what another thread reads meanwhile, a save tells that it changed.
        """
        return self

    def unchanged(self) -> contextlib.AbstractContextManager[bool]:
        """Return a context for a ``with`` block during which no other thread makes a structural change."""
        return self._lock

    def begin(self) -> None:
        """Begin a structural change; it has to `end`."""
        self._lock.acquire()
        self.revision.under_way += 1

    def end(self) -> None:
        """End a structural change: what was cached is gone."""
        revision = self.revision
        revision.number += 1
        self.frozen = _NONE_FROZEN
        self.snapshot = None
        if self.iterated:
            self._forget_chunks()
        revision.under_way -= 1
        self._lock.release()

    __enter__ = begin

    def __exit__(self, *_: object) -> None:
        self.end()

    def resolve(self, type_: Any) -> tuple[str, type[Component]]:
        """Return the name and the class of a type given as a class or a name."""
        if isinstance(type_, str):
            known = self.types.get(type_)
            cls = known.cls if known else registered(type_)
            if cls is None:
                raise ComponentDefinitionError(
                    f"expected the name of a component type, found {type_!r}",
                    suggestion=f"this world has {', '.join(sorted(self.types)) or 'none'}",
                )
            return type_, cls
        asked = component_type(type_)
        if not isinstance(type_, type):
            raise ComponentDefinitionError(f"expected a component class, found {type_!r:.80}")
        self.check_known(asked)
        return asked.name, asked.cls

    def ask(self, table: Table, type_: Any) -> Asked | None:
        """Return what there is of a type, given as a class or a name, in *table*, None where it has none."""
        try:
            return table.asked[type_]
        except (KeyError, TypeError):  # not asked yet, or no type at all
            name, cls = self.resolve(type_)
        column = table.columns.get(name)
        if column is None:
            return None
        asked: Asked = cls, column, {}
        table.asked[type_] = asked
        return asked

    def names(self, types: Iterable[Any]) -> tuple[str, ...]:
        """Return the names of types given as classes or names."""
        return tuple([self.resolve(t)[0] for t in types])

    def check_known(self, type_: ComponentType) -> None:
        """Raise if the world has a type of that name with other fields; an enum may have gained members."""
        known = self.types.get(type_.name)
        if known is None or known.agrees_with(type_):
            return
        if type_.agrees_with(known):
            self._widen(type_)
        else:
            raise ComponentDefinitionError(
                f"expected {known!r} as this world has it, found {type_!r}",
                suggestion="use one definition of a component throughout",
            )

    def _widen(self, type_: ComponentType) -> None:
        """Take on a definition whose enums have more members than the one known so far."""
        self.types[type_.name] = type_
        for table in self.tables:
            table.types = tuple([type_ if t.name == type_.name else t for t in table.types])
            table.asked.clear()
        self.frozen, self.snapshot = _NONE_FROZEN, None
        self._forget_chunks()

    def table(self, types: tuple[ComponentType, ...]) -> Table:
        """Return the table of exactly *types*, made now if there is none."""
        try:
            return self.by_types[types]
        except KeyError:
            pass
        for type_ in types:
            self.check_known(type_)
        for type_ in types:
            self.types.setdefault(type_.name, type_)
        names = tuple(sorted([t.name for t in types]))
        table = self.by_names.get(names)
        if table is None:
            table = Table.empty(len(self.tables), tuple([self.types[name] for name in names]))
            self._enter(table)
        self.by_types[types] = table
        return table

    def adopt(self, table: SnapshotTable, columns: dict[str, Array]) -> Table:
        """Make a table of an empty world from one of a snapshot, with *columns* as its own."""
        for type_ in table.types:
            self.types.setdefault(type_.name, type_)
        own = Table(len(self.tables), table.types, columns, table.entities.taken(), table.stable_ids.taken())
        self._enter(own)
        self.unplaced.add(own)
        return own

    def clear(self) -> None:
        """Forget all tables of a world without entities."""
        self._forget_chunks()
        self.let_go()
        self.tables, self.by_names, self.by_types = [], {}, {}
        self.index = self.awaited = None
        self.unplaced.clear()

    def let_go(self) -> None:
        """Forget the caches that refer to what has them, in a circle: all columns would wait for the collector."""
        self.iterated.clear()  # but an iteration under way goes on: nobody is left to change the world
        self.queries.clear()
        self.matches.clear()
        self.ways.clear()
        for table in self.tables:
            table.ways.clear()
        if self.awaited is None:  # else it alone knows who is to come under which id
            self.index = None

    def _forget_chunks(self) -> None:
        for query in self.iterated:
            query.forget()
        self.iterated.clear()

    def _enter(self, table: Table) -> None:
        self.tables.append(table)
        self.by_names[table.names] = table
        self.by_types[table.types] = table
        self.matches.clear()
        self.queries.clear()

    def sorted_tables(self) -> Iterator[Table]:
        """Yield the tables in the order of their type names, the order of saves."""
        return (self.by_names[key] for key in sorted(self.by_names))

    def append(
        self,
        table: Table,
        entities: IdColumn,
        stable_ids: IdColumn,
        values: dict[str, Array],
        *,
        known: bool = False,
    ) -> None:
        """Add rows to *table*; *known* entities are ones that the stable-id index has already."""
        with self.changing():
            rows = table.extend(entities.size)
            table.fill(rows, values)
            table.entities.extend(entities)
            table.stable_ids.extend(stable_ids)
            self.unplaced.add(table)
            if self.awaited is not None:
                ids = entities.array()
                self.entities.bring(ids[self.entities.awaits(ids)])
            if self.index is not None and not known:
                if entities.size == 1:
                    self.index.add_one(as_int(stable_ids.array()[0]), int(entities.array()[0]))
                elif entities.size:
                    self.index.add(stable_ids.array().copy(), entities.array().copy())

    def freeze(self) -> tuple[SnapshotTable, ...]:
        """Return the tables that have rows as read-only views; made once between structural changes."""
        number = self.revision.number
        of, tables = self.frozen
        if of != number:
            tables = tuple(
                SnapshotTable(
                    table.types,
                    table.size,
                    table.entities.frozen(),
                    table.stable_ids.frozen(),
                    MappingProxyType({name: read_only(table.column(name)) for name in table.names}),
                )
                for table in self.sorted_tables()
                if table.size
            )
            # With its number, because another thread may have changed the world meanwhile.
            self.frozen = number, tables
        return tables

    def remove_rows(self, table: Table, rows: NDArray[np.intp]) -> None:
        """Take sorted, distinct, placed *rows* out of *table*."""
        with self.changing():
            refilled = table.swap_remove(rows)
            if len(refilled):
                slots = (table.entities.array().take(refilled) & _SLOT).astype(np.intp)
                self.entities.rows[slots] = refilled

    def place(self) -> None:
        """Note the rows that are new since the last time in the books."""
        if not self.unplaced:
            return
        with self.unchanged():
            for table in self.unplaced:
                self.entities.place(table.entities, table.number, table.placed)
                table.placed = table.size
            self.unplaced.clear()

    def find(self, entity: int) -> tuple[Table, int]:
        """Return the table and row of one entity, of a type in `SCALARS`."""
        if self.unplaced:
            self.place()
        books = self.entities
        slot = entity & 0xFFFFFFFF
        try:
            number = books.table_of[slot]
            if number >= 0 and books.generation_of[slot] == entity >> 32 and 0 < slot < books.end:
                return self.tables[number], books.row_of[slot]
        except IndexError:  # a slot beyond the books holds no entity that has a place
            pass
        as_entity_ids(entity)
        raise _not_alive(entity)

    def locate(self, ids: NDArray[np.uint64]) -> tuple[Array, Array]:
        """Return the table number and the row of each of *ids*, shape (n,)."""
        alive = self.entities.alive(ids)
        if not alive.all():
            raise _not_alive(int(ids[np.argmin(alive)]), len(ids) - int(np.count_nonzero(alive)))
        self.place()
        slots = (ids & _SLOT).astype(np.intp)
        return self.entities.tables[slots], self.entities.rows[slots]

    def groups(
        self, ids: NDArray[np.uint64], *, distinct: bool = True
    ) -> list[tuple[Table, NDArray[np.intp], NDArray[np.intp]]]:
        """Return (table, rows, where in *ids*) for each table that holds some of *ids*, by type names.

        With *distinct*, rows are sorted and an entity named twice is an error.
        """
        if len(ids) == 1:
            table, row = self.find(int(ids[0]))
            return [(table, np.array([row]), _FIRST)]
        if not len(ids):
            return []
        tables, rows = self.locate(ids)
        if (tables == tables[0]).all():
            parts = [(self.tables[tables[0]], np.arange(len(ids)))]
        else:
            numbers = np.unique(tables)
            parts = [(self.tables[n], np.flatnonzero(tables == n)) for n in numbers]
            parts.sort(key=lambda part: part[0].names)
        groups = []
        for table, found in parts:
            where, at = found, rows[found]
            if distinct and not strictly_increasing(at):
                order = np.argsort(at, kind="stable")
                where, at = found[order], at[order]
                if (again := np.flatnonzero(at[1:] == at[:-1])).size:
                    raise DuplicateEntityError(
                        f"expected distinct entities, found {EntityId(int(ids[where[again[0]]]))!r} twice",
                        suggestion="pass numpy.unique(ids)",
                    )
            groups.append((table, at, where))
        return groups

    def stable_index(self) -> StableIndex:
        """Return the index of stable ids, built now if this is its first use."""
        if (found := self.index) is not None:
            return found
        with self.unchanged():
            if self.index is None:
                index = StableIndex(self._known)
                tables = [table for table in self.tables if table.size]
                if tables:
                    index.add(
                        np.concatenate([table.stable_ids.array() for table in tables]),
                        np.concatenate([table.entities.array() for table in tables]),
                    )
                self.index = index
            return self.index

    def _known(self, ids: Array) -> NDArray[np.bool_]:
        # Not bound to the books of today: an exact restore begins new ones.
        return self.entities.alive(ids) | self.entities.awaits(ids)

    def find_stable(self, stable_ids: Array) -> NDArray[np.uint64]:
        """Return the live entity of each of *stable_ids*, shape (n,), or 0."""
        found = self.stable_index().find(stable_ids)
        found[~self.entities.alive(found)] = 0
        return found

    def identify(self, stable_ids: Array, *, distinct: bool = False) -> NDArray[np.uint64]:
        """Return the entity of each of *stable_ids*, of any shape, 0 for 0.

        Where it is not in the world an id is set aside, under which it will come. With *distinct*, none
        stands twice.
        """
        flat = np.ascontiguousarray(stable_ids).reshape(-1)
        found = self.stable_index().find(flat)
        found[~self._known(found)] = 0
        lacking = np.flatnonzero((found == 0) & ((flat["lo"] | flat["hi"]) != 0))
        if len(lacking):
            asked = flat.take(lacking)
            which: Any = slice(None)
            if not distinct:
                # As bytes: NumPy sorts records field by field.
                unique, which = np.unique(asked.view("V16"), return_inverse=True)
                asked = unique.view(STABLE_ID)
            fresh = self.entities.allocate(len(asked)).array()
            self._await(asked, fresh)
            self.stable_index().add(asked, fresh)
            if self._set_aside is not None:
                self._set_aside.append(fresh)
            found[lacking] = fresh[which]
        return found.reshape(stable_ids.shape)

    @contextlib.contextmanager
    def undoing(self) -> Iterator[None]:
        """Give back the ids that `identify` sets aside in the block where that fails."""
        self._set_aside = []
        try:
            yield
        except BaseException:
            for ids in self._set_aside:
                self.entities.release(ids)
            raise
        finally:
            self._set_aside = None

    def allocate_for(self, stable_ids: Array) -> IdColumn:
        """Return new entity ids for the free *stable_ids*, shape (n,); those set aside for awaited ones."""
        if self.awaited is None:
            return self.entities.allocate(len(stable_ids))
        ids = self.stable_index().find(stable_ids)
        waiting = self.entities.awaits(ids)
        ids[~waiting] = self.entities.allocate(int(np.count_nonzero(~waiting))).array()
        return IdColumn(ENTITY_ID, array=ids)

    def set_aside(self, ids: NDArray[np.uint64]) -> None:
        """Take live, distinct entities out of the world, and keep their ids for when they come again."""
        self.stable_index()
        groups = self.groups(ids)
        with self.changing():
            for table, rows, _ in groups:
                self._await(table.stable_ids.array().take(rows), table.entities.array().take(rows))
                self.remove_rows(table, rows)

    def _await(self, stable_ids: Array, entities: NDArray[np.uint64]) -> None:
        if self.awaited is None:
            self.awaited = Awaited(self.entities)
        self.awaited.add(stable_ids, entities)

    def stable_ids_of(self, ids: NDArray[np.uint64]) -> Array:
        """Return the stable id of each of *ids*, of any shape, of awaited entities too; 0 where there is none."""
        flat = ids.reshape(-1)
        found = np.zeros(len(flat), STABLE_ID)
        alive = self.entities.alive(flat)
        living = np.flatnonzero(alive)
        for table, rows, order in self.groups(flat[living], distinct=False):
            found[living[order]] = table.stable_ids.array().take(rows)
        if self.awaited is not None and len(living) < len(flat):
            others = np.flatnonzero(~alive)
            found[others] = self.awaited.stable_ids_of(flat[others])
        return found.reshape(ids.shape)

    def check_free(self, stable_ids: Array) -> None:
        """Raise if one of *stable_ids* is 0 or stands for a live entity."""
        if ((stable_ids["lo"] | stable_ids["hi"]) == 0).any():
            raise WorldError("expected stable ids other than 0, which means 'no entity', found 0")
        taken = self.find_stable(stable_ids)
        if taken.any():
            which = StableId(as_int(stable_ids[np.flatnonzero(taken)[0]]))
            raise DuplicateEntityError(
                f"expected a stable id that is free, found {which!r} of a live entity",
                suggestion="use restore(…, mode='overwrite') to replace entities",
            )

    def set_rows(self, table: Table, rows: NDArray[np.intp], target: Table, values: dict[str, Array]) -> None:
        """Move sorted *rows* of *table* to *target*, if that is another table, and write *values* there."""
        if target is table:
            table.put(rows, values)
            return
        shared = {
            n: table.columns[n].take(rows) for n in target.names if n in table.columns and n not in values
        }
        if len(rows) == table.size:
            entities, stable = table.entities.frozen(), table.stable_ids.frozen()
        else:
            entities = IdColumn(ENTITY_ID, array=table.entities.array().take(rows))
            stable = IdColumn(STABLE_ID, array=table.stable_ids.array().take(rows))
        target.reserve(len(rows))
        with self.changing():
            self.remove_rows(table, rows)
            self.append(target, entities, stable, shared | values, known=True)

    def whole(self, ids: NDArray[np.uint64]) -> Table | None:
        """Return the table whose entities *ids* are, all of them and in its order, or None."""
        if not len(ids) or not self.entities.is_alive(first := int(ids[0])):
            return None
        table, row = self.find(first)
        if row or table.size != len(ids) or not (ids == table.entities.array()).all():
            return None
        return table

    def set_all(self, table: Table, target: Table, values: dict[str, Array]) -> None:
        """Move all rows of *table* to *target*, if that is another table, and write *values* there.

        Where *target* has no rows it takes over the columns, and *table*'s number with them, so that the
        books stay as they are.
        """
        if target is table:
            table.fill(slice(0, table.size), values)
        elif target.size:
            self.set_rows(table, np.arange(table.size), target, values)
        else:
            with self.changing():
                table.hand_over(target)
                target.fill(slice(0, target.size), values)
                table.number, target.number = target.number, table.number
                self.tables[table.number], self.tables[target.number] = table, target
                self.unplaced.discard(table)


def as_entity_ids(entity: Any) -> tuple[NDArray[np.uint64], bool]:
    """Return entity ids as an array of shape (n,), and whether one scalar was given."""
    if isinstance(entity, int | np.integer) and not isinstance(entity, bool | np.bool_):
        if not 0 <= int(entity) < 1 << 64:
            raise EntityNotFoundError(
                f"expected an entity id of 64 bits, found {int(entity)}",
                suggestion="world.get_entity_id() turns a stable id into an entity id",
            )
        return np.array([int(entity)], ENTITY_ID), True
    if isinstance(entity, list | tuple):
        # NumPy would make floats of a list that mixes u64 and Python integers.
        whole = all(
            isinstance(e, int | np.integer) and not isinstance(e, bool) and 0 <= e < 1 << 64 for e in entity
        )
        entity = np.array(entity, ENTITY_ID) if whole else entity
    ids = np.asarray(entity, object) if isinstance(entity, list | tuple) else np.asarray(entity)
    if ids.size == 0 and ids.ndim == 1:
        return np.empty(0, ENTITY_ID), False
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise WorldError(
            f"expected an entity id or a one-dimensional array of them, found {entity!r:.80}",
            suggestion="select ids with a mask: ids[mask]",
        )
    return ids.astype(ENTITY_ID, copy=False), False


def _not_alive(entity: int, others: int = 1) -> EntityNotFoundError:
    more = f" and {others - 1} more" if others > 1 else ""
    return EntityNotFoundError(
        f"expected a live entity, found {EntityId(entity)!r}{more}",
        suggestion="select live ones with world.is_alive(ids)",
    )
