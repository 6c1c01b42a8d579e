"""`ChangeTracker`: what changed in a world since the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.changes import ChangeSet
from pecs_np.ecs.difference import difference
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot
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
    ) -> None:
        if not isinstance(world, World):
            raise WorldError(f"expected a World, found {shown(world)}")
        self._world = world
        self._filter = filter
        self._clock = clock
        self.checkpoint()

    def checkpoint(self) -> None:
        """Make the world as it is now what later changes are told from."""
        world = self._world
        self._base = world.snapshot(filter=self._filter, copy=True)
        self._stable_ids: EntityMap | None = None

    def changes(self) -> ChangeSet:
        """Return what changed since the last checkpoint; see `ChangeSet`."""
        now = self._world.snapshot(filter=self._filter)
        return difference(self._base, now, timestamp=self._clock(), mapped=(self._before, self._now))

    def take(self) -> ChangeSet:
        """Return what changed since the last checkpoint, and make another one."""
        changes = self.changes()
        self.checkpoint()
        return changes

    @property
    def base(self) -> Snapshot:
        """The world as it was at the last checkpoint; it is not to be changed."""
        return self._base

    def _before(self, references: Array) -> Array:
        if self._stable_ids is None:
            self._stable_ids = EntityMap((t.entities, t.stable_ids) for t in self._base.tables)
        return self._stable_ids(references)

    def _now(self, references: NDArray[np.uint64]) -> Array:
        flat: Array = self._world._storage.stable_ids_of(references.reshape(-1))
        return flat.reshape(references.shape)
