"""The store in memory, and the least that a store can be, keep the contract that users' own stores are held to."""

import numpy as np
import pytest

from pecs_np import EntityId, EntityNotFoundError, EntityPersistencePlugin, KeyValueEntityPlugin, World
from pecs_np.testing import EntityStoreContract


class TestMemory(EntityStoreContract):
    persistent = shared = "a dict of the object's own"

    def make_store(self, tmp_path, **options):
        return KeyValueEntityPlugin(**options)


class OneByOne(EntityPersistencePlugin):
    """The methods that a store must have, and nothing else."""

    def __init__(self):
        self.inner = KeyValueEntityPlugin()

    def save_entity(self, world, entity):
        self.inner.save_entity(world, entity)

    def load_entity(self, world, stable_id):
        return self.inner.load_entity(world, stable_id)

    def delete_entity(self, stable_id):
        self.inner.delete_entity(stable_id)

    def entity_exists(self, stable_id):
        return self.inner.entity_exists(stable_id)

    def backend_name(self):
        return "one by one"


class TestOneByOne(EntityStoreContract):
    persistent = shared = "a dict of the object's own"
    atomic = "batches are saved one by one"
    lists_entities = False
    many = 500

    def make_store(self, tmp_path):
        return OneByOne()


class WorldsOfOne(EntityPersistencePlugin):
    """Each entity as a save of a world that has only that one."""

    def __init__(self):
        self.saves = {}

    def save_entity(self, world, entity):
        if not isinstance(world, World) or not world.is_alive(entity):
            raise EntityNotFoundError(f"expected a living entity, found {entity!r}")

        def only(table):
            return table.take(np.flatnonzero(table.entities.array() == entity))

        self.saves[world.get_stable_id(entity)] = World.from_snapshot(world.snapshot(filter=only)).to_bytes()

    def load_entity(self, world, stable_id):
        if not self.entity_exists(stable_id) or not isinstance(world, World):
            raise self._not_saved(stable_id)
        (entity,) = world.restore(World.from_bytes(self.saves[stable_id]).snapshot(), mode="overwrite")
        return EntityId(entity)

    def delete_entity(self, stable_id):
        if self.saves.pop(stable_id, None) is None:
            raise self._not_saved(stable_id)

    def entity_exists(self, stable_id):
        return stable_id in self.saves

    def backend_name(self):
        return "worlds of one"


class TestWorldsOfOne(EntityStoreContract):
    persistent = shared = "a dict of the object's own"
    keeps_references = "a save of one entity has no others to refer to"
    atomic = lists_entities = False
    many = 200

    def make_store(self, tmp_path):
        return WorldsOfOne()


def test_what_the_contract_is_for_must_be_said(tmp_path):
    with pytest.raises(NotImplementedError, match="make_store"):
        EntityStoreContract().make_store(tmp_path)
