"""`EntityStore`: an entity store on whatever holds bytes under keys."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.entities import EntityId, StableId, as_stable_ids
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int
from pecs_np.ecs.restore import upsert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable, TableFilter
from pecs_np.ecs.storage import as_entity_ids
from pecs_np.ecs.world import World
from pecs_np.errors import (
    ComponentDefinitionError,
    CorruptedDataError,
    PersistenceError,
    UnsupportedVersionError,
)
from pecs_np.messages import shown
from pecs_np.persistence.binary.blocks import check_rows, noticing_changes
from pecs_np.persistence.consistency import check_current
from pecs_np.persistence.entity_plugins import EntityPersistencePlugin, Missing, check_missing
from pecs_np.persistence.filters import PersistenceFilter, filtered, without_transient
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.migrations import brought_up_to_date
from pecs_np.persistence.resolving import Unknown, check_unknown
from pecs_np.persistence.stores.records import (
    RecordLayout,
    Records,
    decode,
    encode,
    key_of,
    keys_of,
    read_layout,
    stable_ids_of,
)

__all__ = ["SCHEMA_VERSION", "EntityStore"]

# Of keys, records and layouts, as every store holds them.
SCHEMA_VERSION = 1


class EntityStore(EntityPersistencePlugin):
    """A store of entities as records, made and read in batches; see `records` for what a record is.

    A subclass says how bytes are held under keys of 16 bytes, each batch all or nothing: `write`, `read`,
    `remove`, `keys`, `count` and `read_layouts`. Transient components are not saved.

    Parameters
    ----------
    filter : PersistenceFilter, optional
        What of the entities is saved.
    unknown : {"keep", "refuse", "drop"}
        What becomes of components that this program does not define, when they are loaded.
    limits : Limits, optional
        On what a record may ask for when it is read.
    """

    def __init__(
        self,
        *,
        filter: PersistenceFilter | TableFilter | None = None,  # noqa: A002 - the word for it
        unknown: Unknown = "keep",
        limits: Limits | None = None,
    ) -> None:
        check_unknown(unknown)
        self.filter = filter
        self.unknown = unknown
        self.limits = Limits.of(limits)
        self._lock = threading.RLock()
        self._layouts: dict[bytes, RecordLayout] = {}

    # What a subclass says

    @abstractmethod
    def write(self, batch: Sequence[Records]) -> None:
        """Hold the records of *batch* under their keys, and their layouts, all or nothing."""

    @abstractmethod
    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""

    def holds(self, keys: list[bytes]) -> Sequence[bool]:
        """Tell of each of *keys* whether there is a record; write it where that is cheaper than to read them."""
        return [record is not None for record in self.read(keys)]

    @abstractmethod
    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, all or nothing, and return how many there were."""

    @abstractmethod
    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys, in batches."""

    @abstractmethod
    def count(self) -> int:
        """Return how many records there are."""

    @abstractmethod
    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of those of the layouts *ids* that are held."""

    # What follows from it

    def backend_version(self) -> int:
        """Return the version of how records are held."""
        return SCHEMA_VERSION

    def save_entity(self, world: World, entity: int) -> None:
        """Save a living entity with its components, in place of what was saved of it before."""
        self.save_entities(world, [entity])

    def save_entities(self, world: World, entities: Any) -> None:
        """Save living entities, given as an array of their ids, all or none.

        Of entities that the filter does not keep nothing is saved, and nothing is forgotten.

        Raises
        ------
        EntityNotFoundError
            If one is not alive.
        ComponentValueError
            If a column holds what could not be loaded again.
        PersistenceError
            If another thread changes the world meanwhile.
        """
        if not isinstance(world, World):
            raise PersistenceError(f"expected a World, found {shown(world)}")
        ids, _ = as_entity_ids(entities)
        chosen = _chosen(world, ids)
        kept = filtered(without_transient(chosen), self.filter)

        with noticing_changes():
            batch = [encode(table, world._storage.stable_ids_of) for table in kept.tables]
        check_current(chosen)
        if batch:
            with self._lock:
                self.write(batch)
                self._layouts.update({records.layout.id: records.layout for records in batch})

    def load_entity(self, world: World, stable_id: int) -> EntityId:
        """Bring a saved entity into *world*, over the one of that stable id if it is there, and return it."""
        return EntityId(int(self.load_entities(world, [stable_id])[0]))

    def load_entities(
        self, world: World, stable_ids: Any, *, missing: Missing = "error"
    ) -> NDArray[np.uint64]:
        """Bring saved entities into *world* and return their ids, shape (n,).

        All is read, checked and brought up to date before the world is touched. An entity that is there
        takes on what was saved; its transient components stay. References to entities that are not
        loaded wait for them; see ``World.unload``.

        Parameters
        ----------
        world : World
        stable_ids : array of STABLE_ID or sequence of int, shape (n,)
        missing : {"error", "skip"}
            What becomes of those that were not saved: an error, or 0 in what is returned.

        Raises
        ------
        EntityNotFoundError
            If one was not saved.
        CorruptedDataError
            If a record is damaged.
        """
        if not isinstance(world, World):
            raise PersistenceError(f"expected a World, found {shown(world)}")
        check_missing(missing)
        asked = as_stable_ids(stable_ids)
        distinct = _distinct(asked)
        with self._lock:
            found = self.read(keys_of(distinct))
        lacking = [i for i, value in enumerate(found) if value is None] if None in found else []
        if lacking and missing == "error":
            raise self._not_saved(as_int(distinct[lacking[0]]), len(lacking))
        if lacking:
            distinct = np.delete(distinct, lacking)
            found = [value for value in found if value is not None]
        with world._storage.undoing():
            snapshot = self._snapshot(world, distinct, found)  # type: ignore[arg-type]
            upsert(world, snapshot)
        if len(snapshot.tables) == 1 and len(distinct) == len(asked):
            return snapshot.tables[0].entities.array()
        ids: NDArray[np.uint64] = world._storage.find_stable(asked)
        if lacking:
            # An entity that is here but was never saved was not loaded.
            ids[IdLookup(distinct).find(asked) < 0] = 0
        return ids

    def delete_entity(self, stable_id: int) -> None:
        """Forget a saved entity."""
        self.delete_entities([stable_id])

    def delete_entities(self, stable_ids: Any) -> None:
        """Forget saved entities, all or none.

        Raises
        ------
        EntityNotFoundError
            If one was not saved.
        """
        distinct = _distinct(as_stable_ids(stable_ids))
        keys = keys_of(distinct)
        with self._lock:
            if not all(held := self.holds(keys)):
                lacking = [i for i, there in enumerate(held) if not there]
                raise self._not_saved(as_int(distinct[lacking[0]]), len(lacking))
            if keys:
                self.remove(keys)

    def entity_exists(self, stable_id: int) -> bool:
        """Tell whether an entity was saved."""
        with self._lock:
            return bool(self.holds([key_of(StableId(stable_id))])[0])

    def list_entities(self) -> Array:
        """Return the stable ids of all saved entities, shape (n,), in rising order."""
        with self._lock:
            parts = [stable_ids_of(batch) for batch in self.keys() if len(batch)]
        ids = np.concatenate([np.empty(0, STABLE_ID), *parts])
        return ids[np.lexsort((ids["lo"], ids["hi"]))]

    def __len__(self) -> int:
        with self._lock:
            return self.count()

    def clear(self) -> None:
        """Forget all saved entities."""
        with self._lock:
            for batch in list(self.keys()):
                self.remove(list(batch))

    def _snapshot(self, world: World, stable_ids: Array, values: Sequence[bytes]) -> Snapshot:
        """Return records as tables whose entities and references are ids of *world*."""
        name = self._name()
        groups = decode(stable_ids, values, self._layouts_of, name)
        storage = world._storage

        tables: list[SnapshotTable] = []
        met: dict[str, ComponentType] = {}
        for group in groups:
            columns = {type_.name: group.column(i, storage.identify) for i, type_ in enumerate(group.types)}
            entities = IdColumn(ENTITY_ID, array=storage.identify(group.stable_ids, distinct=True))
            ids = IdColumn(STABLE_ID, array=group.stable_ids)
            table = SnapshotTable(group.types, len(group.stable_ids), entities, ids, columns)
            # One by one: records of several versions may be of the same components.
            tables += brought_up_to_date(Snapshot((table,)), name, unknown=self.unknown).tables
        for type_ in (type_ for table in tables for type_ in table.types):
            if not met.setdefault(type_.name, type_).agrees_with(type_):
                raise ComponentDefinitionError(
                    f"expected one {met[type_.name]!r}, found {type_!r} too in {name}",
                    suggestion="define the component, and write migrations to the version that it has now",
                )
        return Snapshot(()).with_tables(tables)

    def _layouts_of(self, ids: set[bytes]) -> Mapping[bytes, RecordLayout]:
        """Return the layouts of *ids*, read from the store where this object has not met them yet."""
        with self._lock:
            unread = ids - self._layouts.keys()
            if unread:
                documents = self.read_layouts(unread)
                for layout_id in unread:
                    if layout_id not in documents:
                        raise CorruptedDataError(
                            f"expected the layout {layout_id.hex()} of a record, found none in {self._name()}"
                        )
                    self._layouts[layout_id] = read_layout(
                        layout_id, documents[layout_id], self.limits, self._name()
                    )
            return {layout_id: self._layouts[layout_id] for layout_id in ids}

    def _check_schema(self, version: int) -> None:
        """Raise unless the store was written by a program that holds records as this one does."""
        if version != SCHEMA_VERSION:
            raise UnsupportedVersionError(
                version,
                SCHEMA_VERSION,
                what=f"the schema of {self._name()}",
                suggestion="update the program, or use another store",
            )


def _chosen(world: World, ids: NDArray[np.uint64]) -> Snapshot:
    """Return the entities *ids* of *world* as a snapshot."""
    storage = world._storage
    snapshot = world.snapshot()
    check_rows(snapshot)
    frozen = {tuple([t.name for t in table.types]): table for table in snapshot.tables}
    tables = []
    groups = storage.groups(ids)
    check_current(snapshot)
    for table, rows, _ in groups:
        whole = frozen[table.names]
        tables.append(whole if len(rows) == whole.rows else whole.take(rows))
    return Snapshot(tuple(tables), shares=snapshot.shares)


def _distinct(stable_ids: Array) -> Array:
    """Return *stable_ids* without repetitions, in the order of their first occurrence."""
    if IdLookup(stable_ids).duplicate() is None:
        return stable_ids
    seen = dict.fromkeys(stable_ids.tolist())
    return np.array(list(seen), STABLE_ID)
