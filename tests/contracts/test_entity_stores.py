"""The store in memory, and the least that a store can be, keep the contract that users' own stores are held to."""

import pytest

from pecs_np import EntityPersistencePlugin, KeyValueEntityPlugin
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


def test_what_the_contract_is_for_must_be_said(tmp_path):
    with pytest.raises(NotImplementedError, match="make_store"):
        EntityStoreContract().make_store(tmp_path)
