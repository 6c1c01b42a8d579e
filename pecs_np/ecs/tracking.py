"""`ChangeTracker`: what changed in a world since the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.difference import difference
from pecs_np.ecs.ids import ENTITY_ID, IdColumn
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.ecs.storage import as_entity_ids
from pecs_np.ecs.world import World
from pecs_np.errors import WorldError
from pecs_np.messages import shown

__all__ = ["ChangeTracker"]


class ChangeTracker:
    """Finds what changed in a world by comparing it with a copy of what it was at the last checkpoint.

    No write can escape it, whatever view it goes through, and nothing has to be marked. It takes as much
    memory as the columns do. Transient components count: leave them out with *filter*.

    Parameters
    ----------
    world : World
    filter : callable, optional
        Which part of the world to track, as ``world.snapshot(filter=…)`` takes it.
    clock : callable
        Gives the time of changes in seconds since 1970.
    base_id : int, optional
        The ``save_id`` of a save of the world as it is now, to which later deltas shall apply.

    Examples
    --------
    >>> import numpy as np
    >>> from pecs_np import World, make_component
    >>> Heat = make_component("Heat", {"kelvin": np.float64})
    >>> world = World()
    >>> ids = world.spawn_batch(Heat(kelvin=[280, 290, 300]))
    >>> tracker = ChangeTracker(world)
    >>> world.column(Heat)["kelvin"][1] += 1
    >>> changes = tracker.changes()
    >>> len(changes), changes.modified[0].columns["Heat"]["kelvin"]
    (1, array([291.]))
    >>> tracker.checkpoint()
    >>> bool(tracker.changes())
    False
    """

    def __init__(
        self,
        world: World,
        *,
        filter: Any = None,  # noqa: A002 - the word for it
        clock: Callable[[], float] = time.time,
        base_id: int | None = None,
    ) -> None:
        if not isinstance(world, World):
            raise WorldError(f"expected a World, found {shown(world)}")
        self._world = world
        self._filter = filter
        self._clock = clock
        self.checkpoint(base_id)

    def checkpoint(self, base_id: int | None = None) -> None:
        """Make the world as it is now what later changes are told from; hints are forgotten.

        Parameters
        ----------
        base_id : int, optional
            The ``save_id`` of a save, or of a delta, that says how it is now: ``world.save(path).save_id``.
        """
        if base_id is not None and (type(base_id) is not int or not 0 <= base_id < 1 << 128):
            raise WorldError(
                f"expected a save id, an integer of 128 bits, found {shown(base_id)}",
                suggestion="pass report.save_id, of the report that world.save(path) returns",
            )
        self._base = self._world.snapshot(filter=self._filter, copy=True)
        self._base_id = base_id
        self._stable_ids: EntityMap | None = None
        self._places: EntityMap | None = None
        self._hints: list[NDArray[np.uint64]] = []

    def changes(
        self, *, hinted: bool = False, view: Callable[[Snapshot], Snapshot] | None = None
    ) -> ChangeSet:
        """Return what changed since the last checkpoint; see `ChangeSet`.

        Parameters
        ----------
        hinted : bool
            Look only at the entities that `track_created`, `track_modified` and `track_deleted` named, and
            at what the world has beside its entities.
        view : callable, optional
            Gives what of a snapshot to compare, such as what of it is saved.
        """
        if hinted:
            before, now = self._hinted()
        else:
            before, now = self._base, self._world.snapshot(filter=self._filter)
        if view is not None:
            before, now = view(before), view(now)
        # Of a part of the world, references to the rest lead nowhere, as in a save of that part.
        mapped = (self._before, self._world._storage.stable_ids_of) if self._filter is None else None
        return difference(before, now, timestamp=self._clock(), mapped=mapped)

    def take(self, *, hinted: bool = False) -> ChangeSet:
        """Return what changed since the last checkpoint, and make another one."""
        with self.taking(hinted=hinted) as changes:
            return changes

    @contextmanager
    def taking(self, *, hinted: bool = False) -> Iterator[ChangeSet]:
        """Give what changed since the last checkpoint, and make another one after a block without errors.

        The block is for keeping the changes, and is not to change the world.

        Examples
        --------
        >>> from pecs_np import World
        >>> tracker = ChangeTracker(world := World())
        >>> entity = world.spawn()
        >>> with tracker.taking() as changes:
        ...     len(changes)
        1
        >>> len(tracker.changes())
        0
        """
        yield self.changes(hinted=hinted)
        self.checkpoint()

    def track_created(self, entities: Any) -> None:
        """Note that entities, an id or an array of ids, are new: for ``changes(hinted=True)``."""
        self._hint(entities)

    def track_modified(self, entities: Any) -> None:
        """Note that components of entities have other values, are new or are gone: for ``changes(hinted=True)``."""
        self._hint(entities)

    def track_deleted(self, entities: Any) -> None:
        """Note that entities are despawned, or will be: for ``changes(hinted=True)``."""
        self._hint(entities)

    @property
    def base_id(self) -> int | None:
        """The id of the save, or of the delta, that says how the world was at the last checkpoint, if there is one."""
        return self._base_id

    @property
    def world(self) -> World:
        """The world that it tracks."""
        return self._world

    @property
    def base(self) -> Snapshot:
        """The world as it was at the last checkpoint; it is not to be changed."""
        return self._base

    def _hint(self, entities: Any) -> None:
        ids, _ = as_entity_ids(entities)
        self._hints.append(ids.copy())

    def _hinted(self) -> tuple[Snapshot, Snapshot]:
        """Return the entities that were named, as they were and as they are."""
        ids = np.unique(np.concatenate([np.empty(0, ENTITY_ID), *self._hints]))
        base = self._base
        if self._places is None:
            ends = np.cumsum([0, *[table.rows for table in base.tables]]).tolist()
            pairs = zip(base.tables, ends, strict=False)
            self._places = EntityMap((t.entities, IdColumn(ENTITY_ID, ((1 + e, t.rows),))) for t, e in pairs)
        places = self._places(ids).astype(np.intp)
        old: list[SnapshotTable] = []
        start = 1
        for table in base.tables:
            rows = places[(places >= start) & (places < start + table.rows)] - start
            old.append(table.take(np.sort(rows)))
            start += table.rows
        world = self._world
        whole = world.snapshot()
        tables = {table.types: table for table in whole.tables}
        alive = ids[world.is_alive(ids)]
        new = [tables[table.types].take(rows) for table, rows, _ in world._storage.groups(alive)]
        now = whole.with_tables(new)
        return base.with_tables(old), now if self._filter is None else now.filtered(self._filter)

    def _before(self, references: Array) -> Array:
        if self._stable_ids is None:
            self._stable_ids = EntityMap((t.entities, t.stable_ids) for t in self._base.tables)
        return self._stable_ids(references)
