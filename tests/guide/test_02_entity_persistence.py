"""The guide's section "Entity-Specific Persistence", block by block."""

from __future__ import annotations

import contextlib
import inspect
import time

import numpy as np
import pytest

from pecs_np import (
    EntityId,
    EntityNotFoundError,
    EntityPersistencePlugin,
    EntityRef,
    KeyValueEntityPlugin,
    PersistenceIOError,
    PersistenceManager,
    PluginNotFoundError,
    RedisEntityPlugin,
    SqliteEntityPlugin,
    StableId,
    World,
    component,
)
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Velocity:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


class Item:
    kind: np.uint16
    count: np.uint16


@component
class PlayerInventory:
    items: list[Item]
    gold: np.uint32


@component
class WorldChunk:
    x: np.int32
    z: np.int32
    entities: list[EntityRef]


def manager_of(**plugins):
    """Return a manager of entity stores; the first is the default one."""
    manager = PersistenceManager()
    for name, plugin in plugins.items():
        manager.register_entity_plugin(name, plugin)
    return manager


def test_quick_start():
    """Entity-Specific Persistence, block 1: Quick Start."""
    # Create a world and persistence manager
    world = World()
    manager = PersistenceManager()

    # Register an entity persistence plugin
    manager.register_entity_plugin("kv", KeyValueEntityPlugin())

    # Spawn an entity
    entity = world.spawn(Position(x=1.0, y=2.0), Velocity(x=0.5, y=0.0))

    # Save the specific entity
    manager.save_entity(world, entity)

    # Get the stable ID for later retrieval
    stable_id = world.get_stable_id(entity)

    # Load the entity back (even in a different world)
    new_world = World()
    new_world.spawn_batch(Position(x=[7, 8]))
    loaded_entity = manager.load_entity(new_world, stable_id)

    assert loaded_entity != entity
    assert new_world.get_stable_id(loaded_entity) == stable_id
    assert new_world.get(loaded_entity, Position) == Position(1, 2)
    assert new_world.get(loaded_entity, Velocity) == Velocity(0.5, 0)
    assert len(new_world) == 3
    assert len(manager.entity_plugin("kv")) == 1


def test_entity_persistence_plugin_trait():
    """Entity-Specific Persistence, block 2: EntityPersistencePlugin Trait.

    The guide's methods, of which those for batches and the version have a default.
    """
    guide = {
        # Save a specific entity to persistent storage
        "save_entity": ["world", "entity"],
        # Load a specific entity from persistent storage
        "load_entity": ["world", "stable_id"],
        # Delete a specific entity from persistent storage
        "delete_entity": ["stable_id"],
        # Check if an entity exists in persistent storage
        "entity_exists": ["stable_id"],
        # Save multiple entities in a batch operation
        "save_entities": ["world", "entities"],
        # Load multiple entities in a batch operation
        "load_entities": ["world", "stable_ids"],
        # Get the name of this entity persistence backend
        "backend_name": [],
        # Get the version of this backend implementation
        "backend_version": [],
    }
    defaults = {"save_entities", "load_entities", "backend_version"}
    assert EntityPersistencePlugin.__abstractmethods__ == set(guide) - defaults
    for name, wanted in guide.items():
        parameters = inspect.signature(getattr(EntityPersistencePlugin, name)).parameters.values()
        assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:] == wanted
    with pytest.raises(TypeError, match="abstract"):
        EntityPersistencePlugin()
    plugin = KeyValueEntityPlugin()
    assert isinstance(plugin, EntityPersistencePlugin)
    assert (plugin.backend_name(), plugin.backend_version()) == ("memory", 1)


def test_built_in_plugin():
    """Entity-Specific Persistence, block 3: Built-in Plugin: KeyValueEntityPlugin."""
    manager = PersistenceManager()

    # Create the plugin
    plugin = KeyValueEntityPlugin()
    assert len(plugin) == 0

    # Or with pre-allocated capacity
    plugin = KeyValueEntityPlugin.with_capacity(1000)

    # Use with PersistenceManager
    manager.register_entity_plugin("memory", plugin)

    world = World()
    ids = world.spawn_batch(Position(x=np.arange(2000), y=0))
    manager.save_entities(world, ids)
    assert len(plugin) == 2000
    back = World()
    manager.load_entities(back, plugin.list_entities())
    assert_worlds_equal(world, back)


def test_using_with_persistence_manager(capsys, redis_server):
    """Entity-Specific Persistence, block 4: Using with PersistenceManager."""
    kv, database = KeyValueEntityPlugin(), SqliteEntityPlugin("game.db")
    redis = RedisEntityPlugin(redis_server.address, prefix="guide")
    manager = manager_of(kv=kv, database=database, redis=redis)
    manager.set_default_entity_plugin("database")
    world = World()
    entity = world.spawn(Position(1, 2))
    stable_id = world.get_stable_id(entity)

    # Save a single entity
    manager.save_entity(world, entity)

    # Save with a specific plugin
    manager.save_entity_with(world, entity, "redis")

    # Load an entity
    world.get(entity, Position).x = 9
    entity_id = manager.load_entity(world, stable_id)
    assert entity_id == entity
    assert world.get(entity, Position) == Position(1, 2)

    # Load with a specific plugin
    elsewhere = World()
    entity_id = manager.load_entity_with(elsewhere, stable_id, "database")
    assert elsewhere.get(entity_id, Position) == Position(1, 2)

    # Check if entity exists
    if manager.entity_exists(stable_id):
        print("Entity exists in storage")
    assert capsys.readouterr().out == "Entity exists in storage\n"

    # Delete an entity
    manager.delete_entity(stable_id)

    assert not manager.entity_exists(stable_id)
    assert manager.entity_exists(stable_id, "redis")
    assert not manager.entity_exists(stable_id, "kv")
    with pytest.raises(EntityNotFoundError, match=r"in the store '.*game\.db'"):
        manager.load_entity(world, stable_id)
    with pytest.raises(PluginNotFoundError, match="kv, database, redis, found 'dynamo'"):
        manager.save_entity_with(world, entity, "dynamo")
    redis.clear()
    for store in (database, redis):
        store.close()


def test_batch_operations():
    """Entity-Specific Persistence, block 5: Batch Operations."""
    manager = manager_of(kv=KeyValueEntityPlugin(), database=SqliteEntityPlugin("game.db"))
    world = World()
    entity1, entity2, entity3 = world.spawn_batch(Position(x=[1, 2, 3]))
    world.insert(entity2, Velocity(x=5))

    # Save multiple entities at once
    entities = [entity1, entity2, entity3]
    manager.save_entity_with(world, entities, "database")

    id1, id2, id3 = (world.get_stable_id(entity) for entity in entities)

    # Load multiple entities
    other = World()
    stable_ids = [id1, id2, id3]
    loaded_entities = manager.load_entities(other, stable_ids, "database")

    assert other.get(loaded_entities, Position).x.tolist() == [1, 2, 3]
    assert other.has(loaded_entities, Velocity).tolist() == [False, True, False]
    assert_worlds_equal(world, other)
    assert len(manager.entity_plugin("kv")) == 0
    manager.entity_plugin("database").close()


def test_custom_entity_persistence_plugin(redis_server):
    """Entity-Specific Persistence, block 6: Custom Entity Persistence Plugin.

    The package's own `RedisEntityPlugin` saves batches all or nothing; this one shows what a store must have.
    """
    from redis import Redis, RedisError

    class RedisEntityPlugin(EntityPersistencePlugin):
        def __init__(self, client):
            self.client = client

        def save_entity(self, world, entity):
            # Get stable ID
            stable_id = world.get_stable_id(entity)
            if stable_id is None or not world.is_alive(entity):
                raise EntityNotFoundError(f"expected a living entity, found {entity!r}")

            # Serialize entity and components
            def only(table):
                return table.take(np.flatnonzero(table.entities.array() == entity))

            serialized_data = World.from_snapshot(world.snapshot(filter=only)).to_bytes()

            # Store in Redis
            key = f"entity:{stable_id}"
            with self.reached():
                self.client.set(key, serialized_data)

        def load_entity(self, world, stable_id):
            # Fetch from Redis
            key = f"entity:{StableId(stable_id)}"
            with self.reached():
                data = self.client.get(key)
            if data is None:
                raise EntityNotFoundError(f"expected a saved entity, found none under {key}")

            # Deserialize and restore entity
            (entity_id,) = world.restore(World.from_bytes(data).snapshot(), mode="overwrite")

            return EntityId(entity_id)

        def delete_entity(self, stable_id):
            key = f"entity:{StableId(stable_id)}"
            with self.reached():
                if not self.client.delete(key):
                    raise EntityNotFoundError(f"expected a saved entity, found none under {key}")

        def entity_exists(self, stable_id):
            key = f"entity:{StableId(stable_id)}"
            with self.reached():
                return bool(self.client.exists(key))

        def backend_name(self):
            return "redis"

        @contextlib.contextmanager
        def reached(self):
            try:
                yield
            except RedisError as error:
                raise PersistenceIOError(f"Redis refused: {error}", suggestion="start the server") from error

    client = Redis.from_url(redis_server.address)
    manager = manager_of(redis=RedisEntityPlugin(client))
    world = World()
    ids = world.spawn_batch(Position(x=[1, 2, 3]), Velocity(x=5))
    world.insert(ids[1], PlayerInventory(items=[(1, 2)], gold=3))
    stable_ids = [StableId(i) for i in world.get_stable_id(ids)]
    manager.save_entities(world, ids)
    assert client.get(f"entity:{stable_ids[0]}").startswith(b"PECS")

    other = World()
    loaded = manager.load_entities(other, stable_ids[::-1])
    assert other.get(loaded, Position).x.tolist() == [3, 2, 1]
    assert_worlds_equal(world, other)
    world.get(ids[0], Position).y = 7
    manager.save_entity(world, ids[0])
    assert manager.load_entity(other, stable_ids[0]) == loaded[2]
    assert other.get(loaded[2], Position) == Position(1, 7)

    manager.delete_entities(stable_ids[:2])
    assert [manager.entity_exists(i) for i in stable_ids] == [False, False, True]
    for call in (manager.delete_entity, lambda i: manager.load_entity(other, i)):
        with pytest.raises(EntityNotFoundError, match="found none under entity:"):
            call(stable_ids[0])
    with pytest.raises(EntityNotFoundError, match="expected a living entity"):
        manager.save_entity(world, 99)
    manager.delete_entity(stable_ids[2])
    away = RedisEntityPlugin(Redis(port=1))
    with pytest.raises(PersistenceIOError, match="start the server"):
        away.save_entity(world, ids[0])


def test_player_inventory_system():
    """Entity-Specific Persistence, block 7: Example 1: Player Inventory System.

    `examples/08_player_inventory.py` has it with logins, logouts and trades.
    """

    # Save player inventory when it changes
    def save_player_inventory(world, manager, player_entity):
        manager.save_entity(world, player_entity)

    # Load player inventory on login
    def load_player_inventory(world, manager, player_id):
        return manager.load_entity(world, player_id)

    manager, world = manager_of(kv=KeyValueEntityPlugin()), World()
    player = world.spawn(PlayerInventory(items=[(1, 5)], gold=10))
    save_player_inventory(world, manager, player)
    inventory = world.get(player, PlayerInventory)
    inventory.items = [*inventory.items.tolist(), (2, 1)]
    inventory.gold -= 3
    save_player_inventory(world, manager, player)
    inventory.gold = 0

    server = World()
    there = load_player_inventory(server, manager, world.get_stable_id(player))
    loaded = server.get(there, PlayerInventory)
    assert loaded.items.tolist() == [(1, 5), (2, 1)]
    assert loaded.gold == 7
    with pytest.raises(EntityNotFoundError, match=f"{12345:032x}"):
        load_player_inventory(server, manager, StableId(12345))


def test_chunk_based_world_loading():
    """Entity-Specific Persistence, block 8: Example 2: Chunk-Based World Loading.

    `examples/09_chunks_around_a_player.py` loads them in batches, and saves and unloads what is far away.
    """
    manager, whole, chunks = manager_of(kv=KeyValueEntityPlugin()), World(), {}
    for x in range(6):
        for z in range(6):
            entities = whole.spawn_batch(Position(x=[x, x + 0.5], y=z))
            chunk = whole.spawn(WorldChunk(x=x, z=z, entities=entities))
            chunks[x, z] = [StableId(i) for i in whole.get_stable_id([chunk, *entities])]
    manager.save_entities(whole, whole.entities())

    def get_chunk_entities(x, z):
        return chunks.get((x, z), [])

    # Load only visible chunks
    def load_visible_chunks(world, manager, player_pos, view_distance):
        px, pz = player_pos

        for x in range(px - view_distance, px + view_distance + 1):
            for z in range(pz - view_distance, pz + view_distance + 1):
                # Load chunk entities
                chunk_entities = get_chunk_entities(x, z)
                for stable_id in chunk_entities:
                    if not manager.entity_exists(stable_id):
                        continue
                    manager.load_entity(world, stable_id)

    middle, gone, _ = get_chunk_entities(2, 2)
    manager.delete_entity(gone)
    world = World()
    load_visible_chunks(world, manager, (1, 1), 1)
    assert len(world) == 9 * 3 - 1
    assert sorted(set(world.column(Position)["y"].tolist())) == [0, 1, 2]
    chunk = world.get(world.get_entity_id(middle), WorldChunk)
    assert world.is_alive(chunk.entities).tolist() == [False, True]
    assert world.get_stable_id(int(chunk.entities[0])) == gone
    # At the edge there are fewer; those that are here already are not there twice.
    load_visible_chunks(world, manager, (0, 0), 1)
    assert len(world) == 9 * 3 - 1
    assert world.validate()


def test_auto_save_system():
    """Entity-Specific Persistence, block 9: Example 3: Auto-Save System.

    `examples/10_auto_save.py` has it for systems that mark whole arrays.
    """

    class AutoSaveSystem:
        def __init__(self, save_interval_secs):
            self.last_save = time.monotonic()
            self.save_interval = save_interval_secs
            self.dirty_entities = {}

        def mark_dirty(self, entity):
            self.dirty_entities[entity] = True

        def update(self, world, manager):
            if time.monotonic() - self.last_save >= self.save_interval:
                # Save all dirty entities
                manager.save_entities(world, list(self.dirty_entities))

                self.dirty_entities.clear()
                self.last_save = time.monotonic()

    store = KeyValueEntityPlugin()
    manager, world = manager_of(kv=store), World()
    ids = world.spawn_batch(Position(x=[1, 2, 3]))
    stable_ids = [StableId(i) for i in world.get_stable_id(ids)]

    hourly, always = AutoSaveSystem(3600), AutoSaveSystem(0)
    for auto_save in (hourly, always):
        for entity in (ids[0], ids[2], ids[0]):
            auto_save.mark_dirty(entity)
    hourly.update(world, manager)
    assert len(store) == 0
    assert len(hourly.dirty_entities) == 2
    always.update(world, manager)
    assert [store.entity_exists(i) for i in stable_ids] == [True, False, True]
    assert not always.dirty_entities

    # What changes afterwards, and is not marked, is not saved.
    world.get(ids[0], Position).x = 100
    world.get(ids[2], Position).x = 300
    always.mark_dirty(ids[2])
    always.update(world, manager)
    back = World()
    loaded = store.load_entities(back, stable_ids[::2])
    assert back.get(loaded, Position).x.tolist() == [1, 300]
