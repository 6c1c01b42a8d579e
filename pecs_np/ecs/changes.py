"""`ChangeSet`: what happened between two states of a world, as arrays keyed by stable id.

References in it are the stable ids of their targets, so that it means the same in any world.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.components import ComponentType, type_name
from pecs_np.ecs.entities import StableId, as_stable_ids
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import STABLE_ID, as_int
from pecs_np.errors import WorldError

__all__ = [
    "ChangeSet",
    "ChangeTable",
    "ComponentData",
    "Created",
    "Deleted",
    "EntityChange",
    "Modified",
    "WorldState",
    "joined_tables",
    "no_ids",
]


def no_ids() -> Array:
    """Return an array without stable ids."""
    return np.empty(0, STABLE_ID)


@dataclass(slots=True, eq=False)
class ChangeTable:
    """Components of some entities.

    Attributes
    ----------
    types : tuple of ComponentType
        Sorted by name.
    stable_ids : array of STABLE_ID, shape (n,)
    columns : mapping of str to structured array, shape (n,)
        By type name; references are stable ids.
    """

    types: tuple[ComponentType, ...]
    stable_ids: Array
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.stable_ids)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the types."""
        return tuple([t.name for t in self.types])

    def take(self, rows: Any) -> ChangeTable:
        """Return the given rows."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return ChangeTable(self.types, self.stable_ids[rows], columns)

    def keep(self, names: Iterable[str]) -> ChangeTable:
        """Return the table with only the components of these names."""
        kept = set(names)
        types = tuple(t for t in self.types if t.name in kept)
        return ChangeTable(types, self.stable_ids, {t.name: self.columns[t.name] for t in types})


def joined_tables(tables: Iterable[ChangeTable]) -> tuple[ChangeTable, ...]:
    """Return *tables* with those of the same types as one, in the order of their names."""
    by_names: dict[tuple[str, ...], list[ChangeTable]] = {}
    for table in tables:
        if len(table):
            by_names.setdefault(table.names, []).append(table)
    joined = []
    for names in sorted(by_names):
        parts = by_names[names]
        first = parts[0]
        if len(parts) > 1:
            columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in names}
            first = ChangeTable(first.types, np.concatenate([part.stable_ids for part in parts]), columns)
        joined.append(first)
    return tuple(joined)


@dataclass(slots=True, eq=False)
class WorldState:
    """What a world has beside its entities.

    Attributes
    ----------
    version : int
    metadata : dict
    rngs : dict of str to dict
    id_source : (int, int) or None
    resources : ChangeTable or None
        One row; its stable id is 0.
    """

    version: int = 1
    metadata: Mapping[str, Any] = field(default_factory=dict)
    rngs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    id_source: tuple[int, int] | None = None
    resources: ChangeTable | None = None


@dataclass(slots=True, eq=False)
class ComponentData:
    """A component of one entity, as a change tells of it.

    Attributes
    ----------
    type_name : str
    type_version : int
    value : structured array, shape ()
        References are stable ids.
    """

    type_name: str
    type_version: int
    value: Array


@dataclass(slots=True, eq=False)
class EntityChange:
    """What happened to one entity: `Created`, `Modified` or `Deleted`.

    Attributes
    ----------
    entity : StableId
    timestamp : float
        Seconds since 1970, of when it was noticed.
    """

    entity: StableId
    timestamp: float


@dataclass(slots=True, eq=False)
class Created(EntityChange):
    """An entity that is new, with its components."""

    components: tuple[ComponentData, ...] = ()


@dataclass(slots=True, eq=False)
class Modified(EntityChange):
    """An entity of which components have other values, are new or are gone (by name)."""

    components: tuple[ComponentData, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Deleted(EntityChange):
    """An entity that is gone."""


@dataclass(slots=True, eq=False)
class ChangeSet:
    """What happened between two states of a world.

    Attributes
    ----------
    created : tuple of ChangeTable
        New entities with all their components.
    modified : tuple of ChangeTable
        Of entities that were there, components that have another value or are new.
    removed : mapping of str to array of STABLE_ID
        By component name, entities that were there and lost it.
    despawned : array of STABLE_ID
    world : WorldState or None
        Version, metadata, generators and resources as they are now, None where they are as before.
    timestamp : float
        Seconds since 1970, of when the changes were noticed.
    inverse : ChangeSet or None
        What undoes it; None where only the new values are known, as in a delta file.
    lost : tuple of ComponentType
        The types of `removed`, as far as they are known.
    """

    created: tuple[ChangeTable, ...] = ()
    modified: tuple[ChangeTable, ...] = ()
    removed: Mapping[str, Array] = field(default_factory=dict)
    despawned: Array = field(default_factory=no_ids)
    world: WorldState | None = None
    timestamp: float = 0.0
    inverse: ChangeSet | None = None
    lost: tuple[ComponentType, ...] = ()

    def __len__(self) -> int:
        """Return how many entities changed."""
        touched = [t.stable_ids for t in self.modified] + list(self.removed.values())
        modified = len(np.unique(np.concatenate(touched).view("V16"))) if touched else 0
        return sum(map(len, self.created)) + modified + len(self.despawned)

    def __bool__(self) -> bool:
        return bool(
            self.created
            or self.modified
            or any(map(len, self.removed.values()))
            or len(self.despawned)
            or self.world is not None
        )

    def __repr__(self) -> str:
        at = datetime.fromtimestamp(self.timestamp, UTC).isoformat(timespec="milliseconds")
        rows = sum(map(len, self.modified))
        lost = sum(map(len, self.removed.values()))
        return (
            f"<ChangeSet of {at}: {sum(map(len, self.created))} created, {rows} modified, {lost} components removed,"
            f" {len(self.despawned)} despawned{', the world itself' if self.world is not None else ''}>"
        )

    @property
    def types(self) -> tuple[ComponentType, ...]:
        """The component types whose values it holds, sorted by name."""
        tables = [*self.created, *self.modified]
        if self.world is not None and self.world.resources is not None:
            tables.append(self.world.resources)
        types = {t.name: t for table in tables for t in table.types}
        return tuple([types[name] for name in sorted(types)])

    def __iter__(self) -> Iterator[EntityChange]:
        """Give what happened to each entity: those created, modified, deleted. One object an entity."""
        for table in self.created:
            for row, stable_id in enumerate(table.stable_ids):
                yield Created(StableId(as_int(stable_id)), self.timestamp, _components(table, row))
        lost: dict[int, list[str]] = {}
        for name, ids in self.removed.items():
            for stable_id in ids:
                lost.setdefault(as_int(stable_id), []).append(name)
        for table in self.modified:
            for row, record in enumerate(table.stable_ids):
                stable_id = as_int(record)
                removed = tuple(lost.pop(stable_id, ()))
                yield Modified(StableId(stable_id), self.timestamp, _components(table, row), removed)
        for stable_id, names in lost.items():
            yield Modified(StableId(stable_id), self.timestamp, (), tuple(names))
        for record in self.despawned:
            yield Deleted(StableId(as_int(record)), self.timestamp)

    def filtered(self, *, types: Any = None, entities: Any = None, world: bool = True) -> ChangeSet:
        """Return only some of the changes.

        Parameters
        ----------
        types : iterable of names or classes, or one of them, optional
            Components to keep; an entity that was created still is. Of the world's resources all are kept.
        entities : array of STABLE_ID or list of int, optional
            Stable ids of entities to keep.
        world : bool
            Whether to keep what the world has beside its entities.

        Examples
        --------
        >>> from pecs_np import ChangeTracker, World
        >>> tracker = ChangeTracker(world := World())
        >>> ids = world.spawn_batch(count=3)
        >>> len(tracker.changes().filtered(entities=world.stable_ids()[:2]))
        2
        """
        names = None
        if types is not None:
            several = [types] if isinstance(types, str | type) else list(types)
            names = set(map(type_name, several))
        wanted = None if entities is None else IdLookup(as_stable_ids(entities))

        def kept(ids: Array) -> Array:
            return ids if wanted is None else ids[wanted.find(ids) >= 0]

        def part(table: ChangeTable) -> ChangeTable:
            if wanted is not None:
                table = table.take(np.flatnonzero(wanted.find(table.stable_ids) >= 0))
            return table if names is None else table.keep(names)

        removed = {n: ids for n, ids in self.removed.items() if names is None or n in names}
        removed = {n: some for n, ids in removed.items() if len(some := kept(ids))}
        inverse = self.inverse
        return replace(
            self,
            created=joined_tables(map(part, self.created)),
            modified=joined_tables(t for t in map(part, self.modified) if t.types),
            removed=removed,
            despawned=kept(self.despawned),
            world=self.world if world else None,
            inverse=inverse and inverse.filtered(types=types, entities=entities, world=world),
            lost=tuple([t for t in self.lost if t.name in removed]),
        )

    def invert(self) -> ChangeSet:
        """Return the changes that undo these.

        Raises
        ------
        WorldError
            If the old values are not known, as those of a delta file are not.
        """
        if self.inverse is None:
            raise WorldError(
                "expected changes with the values from before, found changes that only tell the new ones",
                suggestion="keep those that a ChangeTracker gives",
            )
        return replace(self.inverse, inverse=replace(self, inverse=None))


def _components(table: ChangeTable, row: int) -> tuple[ComponentData, ...]:
    return tuple(
        [
            ComponentData(t.name, t.version, table.columns[t.name][row : row + 1].reshape(()))
            for t in table.types
        ]
    )
