"""The world: entities in tables, every verb on one entity or on an array of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, read_only
from pecs_np.ecs.bundles import Bundle
from pecs_np.ecs.commands import CommandBuffer
from pecs_np.ecs.components import new_component, row_of, set_at
from pecs_np.ecs.entities import EntityId, StableId, as_stable_ids
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int, as_record
from pecs_np.ecs.queries import Query
from pecs_np.ecs.resources import Generators, Resources
from pecs_np.ecs.restore import Mode, restore
from pecs_np.ecs.single import despawn_one, get_one, insert_one, remove_one, spawn_one
from pecs_np.ecs.snapshot import Snapshot, TableFilter
from pecs_np.ecs.storage import SCALARS, Storage, as_entity_ids
from pecs_np.ecs.validation import Validation, validate
from pecs_np.ecs.values import private_copy
from pecs_np.errors import (
    ComponentValueError,
    DuplicateEntityError,
    WorldError,
)
from pecs_np.messages import shown

__all__ = ["World"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")

_FIRST_COMMANDS = threading.Lock()


class World:
    """Entities and their components, held as columns.

    Parameters
    ----------
    capacity : int
        How many entities to make room for.
    seed : int, optional
        Makes stable ids, and generators made by ``rngs.create``, reproducible.
    version : int
        Of the world's meaning, for migrations; saved with it.
    metadata : dict, optional
        Anything JSON can hold; saved with the world.

    Examples
    --------
    >>> import numpy as np
    >>> from pecs_np import World, component
    >>> @component
    ... class Position:
    ...     x: np.float32 = 0.0
    ...     y: np.float32 = 0.0
    >>> @component
    ... class Velocity:
    ...     x: np.float32 = 0.0
    ...     y: np.float32 = 0.0
    >>> world = World()
    >>> ids = world.spawn_batch(Position(x=[0, 10, 20], y=0), Velocity(1, 2))
    >>> for pos, vel in world.query(Position, Velocity):
    ...     pos.matrix += vel.matrix * 0.5
    >>> world.get(ids[1], Position)
    Position(x=10.5, y=1.0)
    """

    def __init__(
        self,
        capacity: int = 0,
        *,
        seed: int | None = None,
        version: int = 1,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if type(capacity) is not int or not 0 <= capacity < 1 << 32:
            raise WorldError(f"expected a capacity from 0 to {2**32 - 1}, found {capacity!r}")
        if type(version) is not int or not 0 < version < 1 << 32:
            raise WorldError(f"expected a version from 1 to {2**32 - 1}, found {version!r}")
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise WorldError(f"expected a seed of 0 or more, found {seed!r}")
        self.version = version
        self.metadata = {} if metadata is None else metadata
        self._storage = Storage(capacity, None if seed is None else int(seed))
        # Made when first asked for: most worlds that are loaded only to be looked at never are.
        self._resources: Resources | None = None
        self._rngs: Generators | None = None
        self._commands: CommandBuffer | None = None

    def __del__(self) -> None:
        # Of many large worlds, one after the other, each is to be gone before the collector runs.
        if (storage := getattr(self, "_storage", None)) is not None:  # else it could not be made
            storage.let_go()

    @classmethod
    def with_capacity(cls, capacity: int) -> Self:
        """Return an empty world with room for *capacity* entities."""
        return cls(capacity)

    def __len__(self) -> int:
        return self.entity_count

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        tables = [table for table in self._storage.sorted_tables() if table.size]
        shown = "; ".join(f"{', '.join(t.names) or 'no components'}: {t.size}" for t in tables[:8])
        return f"<World of {len(self)} entities in {len(tables)} tables ({shown})>"

    @property
    def entity_count(self) -> int:
        """How many entities are alive."""
        return sum([table.size for table in self._storage.tables])

    @property
    def resources(self) -> Resources:
        """One value for each resource type, for the whole world."""
        if self._resources is None:
            self._resources = Resources(self._storage)
        return self._resources

    @property
    def rngs(self) -> Generators:
        """Named random generators, saved with the world."""
        if self._rngs is None:
            self._rngs = Generators(self._storage.source)
        return self._rngs

    # Making and removing entities

    def spawn(self, *components: Any) -> EntityId:
        """Add one entity with the given components, one value each, and return its id."""
        entity = spawn_one(self._storage, components)
        if entity is None:
            return self._spawn_one(self._storage.source.take, components)
        return EntityId(entity)

    def spawn_with_stable_id(self, stable_id: int, *components: Any) -> EntityId:
        """Add one entity under a stable id of the caller's choice.

        Raises
        ------
        DuplicateEntityError
            If the world has an entity of that stable id.
        """
        stable_id = StableId(stable_id)
        self._storage.check_free(np.array([as_record(stable_id)], STABLE_ID))
        entity = self._spawn_one(lambda _: stable_id, components, stable_id)
        self._storage.source.avoid(IdColumn(STABLE_ID, [(stable_id, 1)]))
        return entity

    def spawn_batch(
        self, *components: Any, count: int | None = None, stable_ids: Any = None
    ) -> NDArray[np.uint64]:
        """Add many entities at once and return their ids.

        Parameters
        ----------
        *components : component
            Columns of shape (n,), or single values that every entity gets.
        count : int, optional
            How many; needed where no column tells.
        stable_ids : array of STABLE_ID or sequence of int, optional
            Shape (n,), in place of new ones.

        Returns
        -------
        ndarray of uint64, shape (n,)

        Raises
        ------
        ComponentValueError
            If the columns differ in length.
        """
        bundle = Bundle(components, self._storage)
        given = None if stable_ids is None else as_stable_ids(stable_ids)
        if given is not None and count is None:
            count = len(given)
        count = bundle.length(count)
        if given is not None:
            if count != len(given):
                raise ComponentValueError(f"expected {count} stable ids, found {len(given)}")
            if (double := IdLookup(given).duplicate()) is not None:
                raise DuplicateEntityError(f"expected distinct stable ids, found {StableId(double)!r} twice")
            self._storage.check_free(given)
        table = self._storage.table(bundle.types)
        values = bundle.owned(count)
        table.reserve(count)
        if given is None or self._storage.awaited is None:
            entities = self._storage.entities.allocate(count)
        else:
            entities = self._storage.allocate_for(given)
        if given is None:
            stable = IdColumn(STABLE_ID, [(self._storage.source.take(count), count)] if count else ())
        else:
            stable = IdColumn(STABLE_ID, array=given)
            self._storage.source.avoid(stable)
        self._storage.append(table, entities, stable, values)
        # The table may hold on to the array behind `entities`, so the caller gets one of their own.
        ids = entities.array()
        return ids.copy() if entities.runs is None else ids

    def despawn(self, entity: Any) -> None:
        """Remove an entity, or each of an array of them, with all their components.

        Raises
        ------
        EntityNotFoundError
            If one is not alive; nothing is removed then.
        DuplicateEntityError
            If one is named twice.
        """
        if type(entity) in SCALARS and despawn_one(self._storage, entity):
            return
        ids, _ = as_entity_ids(entity)
        groups = self._storage.groups(ids)
        if not groups:
            return
        with self._storage.changing():
            for table, rows, _ in groups:
                self._storage.entities.release(table.entities.array().take(rows))
                self._storage.remove_rows(table, rows)

    def unload(self, entity: Any) -> None:
        """Remove an entity, or each of an array of them, that an entity store has and may give back.

        Unlike those of one that is despawned its id is not given to another: references to it stay, are
        not alive, and `get_stable_id` tells of them what to load. It comes again under the same id.

        Raises
        ------
        EntityNotFoundError
            If one is not alive; nothing is removed then.
        """
        ids, _ = as_entity_ids(entity)
        self._storage.set_aside(ids)

    def clear(self) -> None:
        """Remove all entities; resources, generators and metadata stay."""
        self._storage.place()
        with self._storage.changing():
            for table in self._storage.tables:
                if table.size:
                    self._storage.entities.release(table.entities.array())
                    self._storage.remove_rows(table, np.arange(table.size))
            if self._storage.awaited is None:  # else it alone knows who is to come under which id
                self._storage.index = None

    # Adding and removing components

    def insert(self, entity: Any, *components: Any) -> None:
        """Give an entity, or each of an array of n, the components; those it has are replaced.

        Parameters
        ----------
        entity : int or array of int, shape (n,)
        *components : component
            Of shape (), or (n,) in the order of the entities.
        """
        if type(entity) in SCALARS and insert_one(self._storage, entity, components):
            return
        ids, _ = as_entity_ids(entity)
        bundle = Bundle(components, self._storage)
        bundle.length(len(ids))
        if (table := self._storage.whole(ids)) is not None:
            target = self._storage.table(table.with_types(bundle.types))
            self._storage.set_all(table, target, bundle.owned(len(ids)))
            return
        groups = self._storage.groups(ids)
        values = bundle.owned(len(ids))
        for table, rows, order in groups:
            chosen = {n: v.take(order) if v.ndim and len(v) > 1 else v for n, v in values.items()}
            self._storage.set_rows(table, rows, self._storage.table(table.with_types(bundle.types)), chosen)

    def remove(self, entity: Any, *types: Any) -> None:
        """Take the components of *types* from an entity, or from each of an array; those without stay as they are."""
        if type(entity) in SCALARS and remove_one(self._storage, entity, types):
            return
        ids, _ = as_entity_ids(entity)
        names = self._storage.names(types)
        if (table := self._storage.whole(ids)) is not None:
            self._storage.set_all(table, self._storage.table(table.without_types(names)), {})
            return
        for table, rows, _ in self._storage.groups(ids):
            self._storage.set_rows(table, rows, self._storage.table(table.without_types(names)), {})

    # Looking at entities

    def is_alive(self, entity: Any) -> Any:
        """Tell whether an entity is alive: a bool, or a mask for an array."""
        if isinstance(entity, int):
            return entity > 0 and self._storage.entities.is_alive(entity)
        ids, scalar = as_entity_ids(entity)
        alive = self._storage.entities.alive(ids)
        return bool(alive[0]) if scalar else alive

    def has(self, entity: Any, *types: Any) -> Any:
        """Tell whether an entity has all of *types*: a bool, or a mask for an array."""
        if type(entity) in SCALARS:
            table, _ = self._storage.find(entity)
            return all(self._storage.ask(table, t) is not None for t in types)
        ids, scalar = as_entity_ids(entity)
        names = self._storage.names(types)
        tables, _ = self._storage.locate(ids)
        having = np.array([all(n in t.columns for n in names) for t in self._storage.tables], bool)
        has = having[tables]
        return bool(has[0]) if scalar else has

    @overload
    def get(self, entity: Any, type_: type[A]) -> A | None: ...
    @overload
    def get(self, entity: Any, type_: str) -> Any: ...
    def get(self, entity: Any, type_: Any) -> Any:
        """Return a component of an entity as a live view, or None where it has none.

        For an array of n entities: a copy of their n rows, all of which must have the component.
        """
        if type(entity) in SCALARS:
            # The verb that is called most: what `Storage.find` and `row_of` do stands here without the calls.
            storage = self._storage
            if storage.unplaced:
                storage.place()
            books = storage.entities
            slot = entity & 0xFFFFFFFF
            try:
                number = books.table_of[slot]
                if number >= 0 and books.generation_of[slot] == entity >> 32 and 0 < slot < books.end:
                    cls, column, views = storage.tables[number].asked[type_]
                    view = new_component(cls)
                    set_at(view, (views, books.row_of[slot], column))
                    return view
            except (IndexError, KeyError, TypeError):
                pass  # not asked for before, or wrong
            return get_one(storage, entity, type_)
        name, cls = self._storage.resolve(type_)
        ids, scalar = as_entity_ids(entity)
        if scalar:
            return self.get(int(ids[0]), type_)
        if not (has := self.has(ids, type_)).all():
            lacking = EntityId(int(ids[np.argmin(has)]))
            raise ComponentValueError(
                f"expected {name} on every entity, found {lacking!r} without",
                suggestion=f"select with world.has(ids, {name}) first",
            )
        rows = np.empty(len(ids), cls._type.layout.memory)
        for table, at, order in self._storage.groups(ids, distinct=False):
            rows[order] = table.columns[name].take(at)
        if cls._type.layout.lists:
            rows = private_copy(rows, cls._type.fields)
        return cls._wrap(rows)

    def components(self, entity: int) -> tuple[Any, ...]:
        """Return all components of one entity as live views, by type name.

        Raises
        ------
        EntityNotFoundError
            If it is not alive.
        """
        ids, scalar = as_entity_ids(entity)
        if not scalar:
            raise WorldError(
                f"expected one entity, found {shown(entity)}",
                suggestion="get(ids, type) returns a component of many",
            )
        table, row = self._storage.find(int(ids[0]))
        return tuple([row_of(t.cls, table.columns[t.name], {}, row) for t in table.types])

    def column(self, type_: Any) -> Array:
        """Return all values of a type as one structured array, in table order.

        It is a live view where one table holds them all, else a read-only copy.
        """
        parts = self.columns(type_)
        if len(parts) == 1:
            return parts[0]
        _, cls = self._storage.resolve(type_)
        joined = np.concatenate(parts) if parts else np.empty(0, cls._type.layout.memory)
        return read_only(joined)

    def columns(self, type_: Any) -> list[Array]:
        """Return the values of a type as live structured arrays, one for each table that has rows."""
        name, _ = self._storage.resolve(type_)
        return [t.column(name) for t in self._storage.sorted_tables() if t.size and name in t.columns]

    def entities(self) -> NDArray[np.uint64]:
        """Return the ids of all entities, in table order."""
        parts = [table.entities.array() for table in self._storage.sorted_tables()]
        return np.concatenate([np.empty(0, ENTITY_ID), *parts])

    def stable_ids(self) -> Array:
        """Return the stable ids of all entities, of dtype ``[("lo", "<u8"), ("hi", "<u8")]``, in table order."""
        parts = [table.stable_ids.array() for table in self._storage.sorted_tables()]
        return np.concatenate([np.empty(0, STABLE_ID), *parts])

    def get_stable_id(self, entity: Any) -> Any:
        """Return the stable id of an entity, None if there is none; for an array, an array with 0 there.

        A reference to an entity of a store that is not loaded has one too.
        """
        ids, scalar = as_entity_ids(entity)
        found = self._storage.stable_ids_of(ids)
        if not scalar:
            return found
        stable_id = as_int(found[0])
        return StableId(stable_id) if stable_id else None

    def get_entity_id(self, stable_id: Any) -> Any:
        """Return the entity of a stable id, None if there is none; for an array, an array with 0 there."""
        if isinstance(stable_id, int | np.integer | np.void):
            entity = self._storage.stable_index().find_one(StableId(stable_id))
            return EntityId(entity) if entity and self._storage.entities.is_alive(entity) else None
        return self._storage.find_stable(as_stable_ids(stable_id))

    # Queries and deferred edits

    @overload
    def query(self, a: type[A], /) -> Query[A]: ...
    @overload
    def query(self, a: type[A], b: type[B], /) -> Query[tuple[A, B]]: ...
    @overload
    def query(self, a: type[A], b: type[B], c: type[C], /) -> Query[tuple[A, B, C]]: ...
    @overload
    def query(self, a: type[A], b: type[B], c: type[C], d: type[D], /) -> Query[tuple[A, B, C, D]]: ...
    @overload
    def query(self, *types: Any) -> Query[Any]: ...
    def query(self, *types: Any) -> Query[Any]:
        """Return a query for the live columns of *types*: iterate it for one chunk a table. See `Query`."""
        try:
            return self._storage.queries[types]
        except (KeyError, TypeError):  # not asked yet, or no types at all
            self._storage.names(types)
        query: Query[Any] = Query(self._storage, (types, (), (), (), False))
        self._storage.queries[types] = query
        return query

    def commands(self) -> CommandBuffer:
        """Return the world's buffer of deferred edits, which any thread may record into."""
        if self._commands is None:
            with _FIRST_COMMANDS:  # two threads may ask at once
                self._commands = self._commands or CommandBuffer()
        return self._commands

    def apply_commands(self, commands: CommandBuffer | None = None) -> None:
        """Carry out the deferred edits of the world's buffer, or of another one, in the order recorded."""
        if commands is not None and not isinstance(commands, CommandBuffer):
            raise WorldError(f"expected a CommandBuffer, found {shown(commands)}")
        (commands or self.commands()).apply(self)

    # Snapshots

    def snapshot(
        self,
        *,
        filter: TableFilter | None = None,  # noqa: A002 - the word for it
        copy: bool = False,
    ) -> Snapshot:
        """Return the world as plain data.

        Parameters
        ----------
        filter : callable, optional
            Takes a `SnapshotTable` and returns what to keep of it, or None.
        copy : bool
            Copy the columns; otherwise they are read-only views that show the world's later changes
            and are outdated by its next structural change.
        """
        snapshot = self._snapshot()
        if filter is not None:
            snapshot = snapshot.filtered(filter)
        return snapshot.copy() if copy else snapshot

    def _snapshot(self) -> Snapshot:
        storage, source = self._storage, self._storage.source
        plain = not (source.seeded or self._resources or self._rngs)
        shares = storage.revision, storage.revision.number
        last = storage.snapshot
        if (
            plain
            and last is not None
            and last.metadata is self.metadata
            and last.version == self.version
            and last.shares == shares
        ):
            return last
        snapshot = Snapshot(
            storage.freeze(),
            None if plain else self.resources.frozen(),
            self.version,
            self.metadata,
            {} if plain else self.rngs.states(),
            (source.high, source.next) if source.seeded else None,
            shares=shares,
        )
        if plain:
            storage.snapshot = snapshot
        return snapshot

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, *, mode: Mode = "exact") -> Self:
        """Return a new world from *snapshot*. Arrays that the snapshot owns are taken over without copying."""
        world = cls()
        restore(world, snapshot, mode)
        return world

    def restore(self, snapshot: Snapshot, *, mode: Mode = "exact") -> NDArray[np.uint64]:
        """Bring the entities of *snapshot* into this world and return their ids, in the snapshot's order.

        Parameters
        ----------
        snapshot : Snapshot
        mode : {"exact", "merge", "overwrite"}
            *exact*: into an empty world, ids and all. *merge*: as new entities, which keep their
            stable ids where those are free; references are remapped. *overwrite*: an entity whose
            stable id is here takes on the snapshot's components (transient ones stay); others are new.
        """
        return _joined(restore(self, snapshot, mode))

    def merge(self, snapshot: Snapshot) -> NDArray[np.uint64]:
        """Add the entities of *snapshot* as new ones and return their ids: ``restore`` in mode "merge"."""
        return _joined(restore(self, snapshot, "merge"))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a world of its own with the same entities, resources and generators; no commands."""
        return self.from_snapshot(self.snapshot(copy=True))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_snapshot, (self.snapshot(copy=True),)

    def validate(self) -> Validation:
        """Check every invariant of the world; the result is true if all hold, and lists what does not."""
        return validate(self)

    # Inside

    def _spawn_one(self, take: Any, components: Sequence[Any], chosen: StableId | None = None) -> EntityId:
        bundle = Bundle(components, self._storage)
        bundle.length(1)
        table = self._storage.table(bundle.types)
        values = bundle.owned(1)
        table.reserve(1)
        if chosen is None or self._storage.awaited is None:
            entity = self._storage.entities.allocate_one()
        else:
            given = np.array([as_record(chosen)], STABLE_ID)
            entity = int(self._storage.allocate_for(given).array()[0])
        stable_id = take(1)
        self._storage.append(
            table, IdColumn(ENTITY_ID, [(entity, 1)]), IdColumn(STABLE_ID, [(stable_id, 1)]), values
        )
        return EntityId(entity)


def _joined(columns: list[IdColumn]) -> NDArray[np.uint64]:
    return np.concatenate([np.empty(0, ENTITY_ID), *[column.array() for column in columns]])
