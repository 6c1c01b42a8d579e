"""The contract of a store of single entities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.entities import EntityId, StableId, as_stable_ids
from pecs_np.ecs.ids import ENTITY_ID, as_int
from pecs_np.ecs.storage import as_entity_ids
from pecs_np.ecs.world import World
from pecs_np.errors import EntityNotFoundError, PersistenceError
from pecs_np.messages import is_one_of, shown

__all__ = ["EntityPersistencePlugin", "Missing"]

Missing = Literal["error", "skip"]


class EntityPersistencePlugin(ABC):
    """A place where single entities are saved under their stable ids, such as a database.

    Six methods are to be written; those for many entities then work one by one, until they are written
    too. `EntityStore` writes them all for whatever holds bytes under keys, in batches.
    `pecs_np.testing.EntityStoreContract` is the test suite that every store passes.

    Use it in a ``with`` block, or `close` it.
    """

    @abstractmethod
    def save_entity(self, world: World, entity: int) -> None:
        """Save a living entity of *world* with its components, in place of what was saved of it before.

        Raises
        ------
        EntityNotFoundError
            If it is not alive.
        """

    @abstractmethod
    def load_entity(self, world: World, stable_id: int) -> EntityId:
        """Bring a saved entity into *world*, over the one of that stable id if it is there, and return it.

        Raises
        ------
        EntityNotFoundError
            If it was not saved; the world is unchanged.
        """

    @abstractmethod
    def delete_entity(self, stable_id: int) -> None:
        """Forget a saved entity.

        Raises
        ------
        EntityNotFoundError
            If it was not saved.
        """

    @abstractmethod
    def entity_exists(self, stable_id: int) -> bool:
        """Tell whether an entity was saved."""

    @abstractmethod
    def backend_name(self) -> str:
        """Return the name of the kind of store, such as ``"sqlite"``."""

    def backend_version(self) -> int:
        """Return the version of how it saves."""
        return 1

    def save_entities(self, world: World, entities: Any) -> None:
        """Save living entities of *world*, given as an array of their ids."""
        ids, _ = as_entity_ids(entities)
        for entity in ids.tolist():
            self.save_entity(world, entity)

    def load_entities(
        self, world: World, stable_ids: Any, *, missing: Missing = "error"
    ) -> NDArray[np.uint64]:
        """Bring saved entities into *world* and return their ids, shape (n,).

        Parameters
        ----------
        world : World
        stable_ids : array of STABLE_ID or sequence of int, shape (n,)
        missing : {"error", "skip"}
            What becomes of those that were not saved: an error, or 0 in what is returned.
        """
        check_missing(missing)
        found = np.zeros(len(ids := as_stable_ids(stable_ids)), ENTITY_ID)
        for i, record in enumerate(ids):
            stable_id = StableId(as_int(record))
            if missing == "error" or self.entity_exists(stable_id):
                found[i] = self.load_entity(world, stable_id)
        return found

    def delete_entities(self, stable_ids: Any) -> None:
        """Forget saved entities."""
        for stable_id in dict.fromkeys(map(as_int, as_stable_ids(stable_ids))):
            self.delete_entity(StableId(stable_id))

    def list_entities(self) -> Array:
        """Return the stable ids of all saved entities, shape (n,), in rising order."""
        raise PersistenceError(f"the store {self.backend_name()!r} does not list its entities")

    def iter_stable_ids(self) -> Iterator[StableId]:
        """Give the stable ids of all saved entities one by one."""
        return (StableId(as_int(record)) for record in self.list_entities())

    def __len__(self) -> int:
        return len(self.list_entities())

    def __bool__(self) -> bool:
        return True

    def clear(self) -> None:
        """Forget all saved entities."""
        self.delete_entities(self.list_entities())

    def close(self) -> None:  # noqa: B027 - a store without files has nothing to let go of
        """Let go of files and connections; a second time does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _name(self) -> str:
        """Return what messages call the store."""
        return f"the store {self.backend_name()!r}"

    def _not_saved(self, stable_id: int, others: int = 1) -> EntityNotFoundError:
        more = f" and {others - 1} more" if others > 1 else ""
        return EntityNotFoundError(
            f"expected a saved entity, found none under {StableId(stable_id)!r}{more} in {self._name()}",
            suggestion='save it first, or pass missing="skip" to load those that are there',
        )


def check_missing(missing: Any) -> None:
    """Raise unless *missing* is one of the words for it."""
    if not is_one_of(missing, "error", "skip"):
        raise PersistenceError(f"expected missing 'error' or 'skip', found {shown(missing)}")
