"""The index that finds entities by stable id."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.entities import as_stable_ids
from pecs_np.ecs.id_lookup import IdLookup
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, as_int, as_record

__all__ = ["StableIndex"]


class StableIndex:
    """Finds entities by stable id. Built on first use; then grows by levels, each twice the next.

    Entries of despawned entities stay until their level is merged: whoever asks checks that the
    entity found is alive.

    Parameters
    ----------
    alive : callable, optional
        Tells which of an array of entity ids are alive; without it, merging drops none.
    """

    __slots__ = ("_alive", "_levels", "_recent")

    _MOST_RECENT = 1024

    def __init__(self, alive: Callable[[Array], NDArray[np.bool_]] | None = None) -> None:
        self._alive = alive
        self._levels: list[tuple[IdLookup, Array, Array]] = []
        self._recent: dict[int, int] = {}

    def add_one(self, stable_id: int, entity: int) -> None:
        """Note one entity."""
        self._recent[stable_id] = entity
        if len(self._recent) > self._MOST_RECENT:
            self._settle()

    def add(self, stable_ids: Array, entities: Array) -> None:
        """Note many entities, shape (n,) both; the arrays must not change afterwards."""
        if len(entities) == 1:
            # Level upon level of one entity each would be merged at every call.
            self.add_one(as_int(stable_ids[0]), int(entities[0]))
            return
        self._settle()
        self._add_level(stable_ids, entities)

    def _settle(self) -> None:
        """Make a level of the recent entities."""
        if self._recent:
            ids = as_stable_ids(list(self._recent))
            entities = np.array(list(self._recent.values()), ENTITY_ID)
            self._recent.clear()
            self._add_level(ids, entities)

    def _add_level(self, stable_ids: Array, entities: Array) -> None:
        while self._levels and len(self._levels[-1][1]) < 2 * len(stable_ids):
            _, older_ids, older = self._levels.pop()
            if self._alive is not None:
                alive = np.flatnonzero(self._alive(older))
                older_ids, older = older_ids.take(alive), older.take(alive)
            # Newer entries first: the lookup finds the first of equal ids.
            stable_ids = np.concatenate((stable_ids, older_ids))
            entities = np.concatenate((entities, older))
        self._levels.append((IdLookup(stable_ids), stable_ids, entities))

    def find_one(self, stable_id: int) -> int:
        """Return the entity last noted under *stable_id*, or 0."""
        if (entity := self._recent.get(stable_id)) is not None:
            return entity
        return int(self.find(np.array([as_record(stable_id)], STABLE_ID))[0])

    def find(self, stable_ids: Array) -> Array:
        """Return the entity last noted under each of *stable_ids*, or 0, shape (n,)."""
        found = np.zeros(len(stable_ids), ENTITY_ID)
        if len(stable_ids) == 1 and (entity := self._recent.get(as_int(stable_ids[0]))) is not None:
            found[0] = entity
            return found
        for lookup, _, entities in self._levels:
            position = lookup.find(stable_ids)
            hit = position >= 0
            found[hit] = entities[position[hit]]
        if self._recent:
            if len(stable_ids) <= len(self._recent):
                for i, (low, high) in enumerate(stable_ids.tolist()):
                    found[i] = self._recent.get(high << 64 | low, found[i])
            else:
                lookup = IdLookup(as_stable_ids(list(self._recent)))
                position = lookup.find(stable_ids)
                hit = position >= 0
                found[hit] = np.array(list(self._recent.values()), ENTITY_ID)[position[hit]]
        return found
