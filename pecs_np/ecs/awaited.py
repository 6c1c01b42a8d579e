"""Entities that are referred to but not here: their ids are set aside until they come.

A component loaded from an entity store may refer to an entity that is not loaded. The reference then
holds an id that no living entity has; when the target comes, it takes that very id, so that nothing
that refers to it needs a second look.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, resized
from pecs_np.ecs.entities import Entities
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID

__all__ = ["Awaited"]


class Awaited:
    """The stable ids of the entities that are awaited."""

    __slots__ = ("_books", "_count", "_entities", "_stable_ids")

    def __init__(self, books: Entities) -> None:
        self._books = books
        self._count = 0
        self._entities = np.empty(0, ENTITY_ID)
        self._stable_ids = np.empty(0, STABLE_ID)

    def add(self, stable_ids: Array, entities: NDArray[np.uint64]) -> None:
        """Note that *entities*, shape (n,), whose slots are taken, are to come."""
        self._books.set_aside(entities)
        stop = self._count + len(entities)
        if stop > len(self._entities):
            self._drop_arrived()
            stop = self._count + len(entities)
            if stop > len(self._entities):
                self._entities = resized(self._entities, self._count, stop + stop // 2)
                self._stable_ids = resized(self._stable_ids, self._count, stop + stop // 2)
        self._entities[self._count : stop] = entities
        self._stable_ids[self._count : stop] = stable_ids
        self._count = stop

    def pairs(self) -> tuple[NDArray[np.uint64], Array]:
        """Return entity ids and stable ids of those still to come, shape (n,) both."""
        self._drop_arrived()
        return self._entities[: self._count], self._stable_ids[: self._count]

    def stable_ids_of(self, ids: NDArray[np.uint64]) -> Array:
        """Return the stable id of each of *ids*, shape (n,), 0 where it is not awaited."""
        found = np.zeros(len(ids), STABLE_ID)
        at = np.flatnonzero(self._books.awaits(ids))
        if len(at):
            entities, stable_ids = self.pairs()
            order: Any = np.argsort(entities)
            found[at] = stable_ids[order[np.searchsorted(entities[order], ids[at])]]
        return found

    def _drop_arrived(self) -> None:
        waiting = np.flatnonzero(self._books.awaits(self._entities[: self._count]))
        if len(waiting) < self._count:
            self._count = len(waiting)
            self._entities[: self._count] = self._entities[waiting]
            self._stable_ids[: self._count] = self._stable_ids[waiting]
