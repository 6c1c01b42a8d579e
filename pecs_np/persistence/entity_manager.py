"""Entity stores by name: the half of `PersistenceManager` that is about single entities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.entities import EntityId
from pecs_np.ecs.world import World
from pecs_np.persistence.entity_plugins import EntityPersistencePlugin, Missing
from pecs_np.persistence.named import Named

__all__ = ["EntityManager"]


class EntityManager:
    """The entity stores of a program; the first that is registered is the default one."""

    def __init__(self) -> None:
        self._stores: Named[EntityPersistencePlugin] = Named(
            EntityPersistencePlugin,
            "entity store",
            "register_entity_plugin",
            "KeyValueEntityPlugin() or SqliteEntityPlugin(path)",
        )

    def register_entity_plugin(self, name: str, plugin: EntityPersistencePlugin) -> None:
        """Make *plugin* the entity store of that name, in place of another one.

        Raises
        ------
        PluginNotFoundError
            If it is no entity store.
        """
        self._stores.register(name, plugin)

    def unregister_entity_plugin(self, name: str) -> EntityPersistencePlugin:
        """Forget the entity store of that name, and return it; it is not closed.

        Raises
        ------
        PluginNotFoundError
            If there is none.
        """
        return self._stores.unregister(name)

    def list_entity_plugins(self) -> list[str]:
        """Return the names of the entity stores."""
        return list(self._stores.plugins)

    def set_default_entity_plugin(self, name: str) -> None:
        """Make the entity store of that name the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none.
        """
        self._stores.set_default(name)

    def entity_plugin(self, name: str | None = None) -> EntityPersistencePlugin:
        """Return the entity store of that name, by default the default one.

        Raises
        ------
        PluginNotFoundError
            If there is none; the message lists those that there are.
        """
        return self._stores.get(name)

    def save_entity(self, world: World, entity: int) -> None:
        """Save a living entity with its components in the default store."""
        self.entity_plugin().save_entity(world, entity)

    def save_entity_with(self, world: World, entity: Any, name: str) -> None:
        """Save a living entity, or each of an array of them, in the store *name*."""
        if isinstance(entity, list | tuple) or np.ndim(entity):
            self.entity_plugin(name).save_entities(world, entity)
        else:
            self.entity_plugin(name).save_entity(world, entity)

    def save_entities(self, world: World, entities: Any, name: str | None = None) -> None:
        """Save living entities, given as an array of their ids, in the store *name*."""
        self.entity_plugin(name).save_entities(world, entities)

    def load_entity(self, world: World, stable_id: int) -> EntityId:
        """Bring an entity of the default store into *world* and return it."""
        return self.entity_plugin().load_entity(world, stable_id)

    def load_entity_with(self, world: World, stable_id: int, name: str) -> EntityId:
        """Bring an entity of the store *name* into *world* and return it."""
        return self.entity_plugin(name).load_entity(world, stable_id)

    def load_entities(
        self, world: World, stable_ids: Any, name: str | None = None, *, missing: Missing = "error"
    ) -> NDArray[np.uint64]:
        """Bring entities of the store *name* into *world* and return their ids, shape (n,)."""
        return self.entity_plugin(name).load_entities(world, stable_ids, missing=missing)

    def entity_exists(self, stable_id: int, name: str | None = None) -> bool:
        """Tell whether the store *name* has an entity."""
        return self.entity_plugin(name).entity_exists(stable_id)

    def delete_entity(self, stable_id: int, name: str | None = None) -> None:
        """Forget an entity of the store *name*."""
        self.entity_plugin(name).delete_entity(stable_id)

    def delete_entities(self, stable_ids: Any, name: str | None = None) -> None:
        """Forget entities of the store *name*."""
        self.entity_plugin(name).delete_entities(stable_ids)

    def evict(self, world: World, entities: Any, name: str | None = None) -> None:
        """Save living entities in the store *name*, then take them out of *world*; see ``World.unload``.

        Where saving fails they stay.
        """
        self.entity_plugin(name).save_entities(world, entities)
        world.unload(entities)
