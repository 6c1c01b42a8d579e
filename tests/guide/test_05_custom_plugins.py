"""The guide's section "Custom Plugins", block by block."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import psycopg
import pytest

from pecs_np import PersistenceManager, PersistencePlugin, StableId, World, component
from pecs_np.persistence import pack, unpack
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Health:
    points: np.float64 = 1.0


def small_world():
    world = World(seed=4, metadata={"level": 3})
    world.spawn_batch(Position(x=[1, np.nan, np.pi], y=0))
    world.spawn_batch(count=2)
    return world


def test_plugin_trait():
    """Custom Plugins, block 1: Plugin Trait.

    The guide's methods make a plugin, which every verb takes; those that it must have are abstract.
    """

    class TextPlugin(PersistencePlugin):
        def save(self, world, writer):
            """Serialize a world to the given writer."""
            writer.write(world.to_bytes().hex().encode())

        def load(self, reader):
            """Deserialize a world from the given reader."""
            return World.from_bytes(bytes.fromhex(reader.read().decode()))

        def format_name(self):
            """Get the name of this format."""
            return "text"

        def format_version(self):
            """Get the version of this format."""
            return 1

    plugin = TextPlugin()
    # Check if this plugin can handle the given version
    assert plugin.can_load_version(plugin.format_version())
    assert not plugin.can_load_version(2)

    world = small_world()
    world.save_with("game.txt", plugin)
    with open("game.txt") as file:
        assert file.read(8) == b"PECS".hex()
    assert_worlds_equal(World.load_with("game.txt", plugin), world)
    assert_worlds_equal(World.from_bytes(world.to_bytes(plugin), plugin), world)
    manager = PersistenceManager()
    manager.register_plugin("text", plugin)
    manager.save_with(world, "game.txt", "text", backup=True)
    assert_worlds_equal(manager.load_with("game.txt", "text"), world)

    assert {"format_name", "format_version"} == PersistencePlugin.__abstractmethods__
    with pytest.raises(TypeError, match="format_version"):
        type("Nameless", (PersistencePlugin,), {"format_name": TextPlugin.format_name})()


def test_messagepack_plugin():
    """Custom Plugins, block 2: Example: MessagePack Plugin.

    The package brings no serde; `pack` makes a document and whole columns of a world, which any format holds.
    """

    class MessagePackPlugin(PersistencePlugin):
        def save(self, world, writer):
            # Serialize using MessagePack
            data = msgspec.msgpack.encode(pack(world.snapshot()))
            writer.write(data)

        def load(self, reader):
            # Deserialize using MessagePack
            data = reader.read()
            document, buffers = msgspec.msgpack.decode(data)
            return World.from_snapshot(unpack(document, buffers, "the MessagePack file"))

        def format_name(self):
            return "messagepack"

        def format_version(self):
            return 1

    world = small_world()
    world.save_with("game.msgpack", MessagePackPlugin())
    loaded = World.load_with("game.msgpack", MessagePackPlugin())

    assert_worlds_equal(loaded, world)
    with open("game.msgpack", "rb") as file:
        document, buffers = msgspec.msgpack.decode(file.read())
    assert document["world"]["metadata"] == {"level": 3}
    assert [table["rows"] for table in document["tables"]] == [2, 3]
    assert buffers[2] == np.array([[1, 0], [np.nan, 0], [np.pi, 0]], "<f4").tobytes()


def test_database_plugin(postgres):
    """Custom Plugins, block 3: Example: Database Plugin.

    Entity by entity into a real server, all in one transaction; the example script does so by whole columns,
    with several saves by name.
    """
    COMPONENTS = {"Position": Position, "Health": Health}

    class PostgresPlugin(PersistencePlugin):
        def __init__(self, connection_string):
            self.connection_string = connection_string

        def save(self, world, _writer):
            # Begin transaction, which the end of the block commits
            with psycopg.connect(self.connection_string) as conn:
                conn.execute("DELETE FROM entities")

                # Save entities
                for entity in world.entities().tolist():
                    stable_id = world.get_stable_id(entity).hex
                    conn.execute("INSERT INTO entities (stable_id) VALUES (%s)", [stable_id])

                    # Save components
                    for name, cls in COMPONENTS.items():
                        if world.has(entity, cls):
                            data = np.asarray(world.get(entity, cls)).tobytes()
                            conn.execute(
                                "INSERT INTO components VALUES (%s, %s, %s)", [stable_id, name, data]
                            )

        def load(self, _reader):
            world = World()
            with psycopg.connect(self.connection_string) as conn:
                # Load entities
                for (stable_id,) in conn.execute("SELECT stable_id FROM entities ORDER BY number").fetchall():
                    entity = world.spawn_with_stable_id(StableId.from_hex(stable_id))

                    # Load components for this entity
                    rows = conn.execute("SELECT name, data FROM components WHERE stable_id = %s", [stable_id])
                    for name, data in rows.fetchall():
                        cls = COMPONENTS[name]
                        value = np.frombuffer(data, np.asarray(cls()).dtype)
                        world.insert(entity, cls.from_array(value.reshape(())))
            return world

        def format_name(self):
            return "postgres"

        def format_version(self):
            return 1

    with psycopg.connect(postgres.address) as conn:
        conn.execute("""
            CREATE SCHEMA guide;
            CREATE TABLE guide.entities (stable_id text PRIMARY KEY, number serial);
            CREATE TABLE guide.components (
                stable_id text REFERENCES guide.entities ON DELETE CASCADE, name text, data bytea,
                CHECK (name <> 'Health' OR data <> '\\x0000000000002a40'))""")
    plugin = PostgresPlugin(f"{postgres.address} options='-c search_path=guide'")
    world = World()
    world.spawn_batch(Position(x=[1, np.nan, np.pi], y=0))
    world.spawn_batch(Position(4, 5), Health(points=[7, 8]))
    world.spawn()

    plugin.save(world, io.BytesIO())
    assert_worlds_equal(plugin.load(io.BytesIO()), world)
    with psycopg.connect(postgres.address) as conn:
        counts = conn.execute("SELECT count(*), (SELECT count(*) FROM guide.components) FROM guide.entities")
        assert counts.fetchone() == (6, 7)
    world.save_with("any name", plugin)
    assert_worlds_equal(World.load_with("any name", plugin), world)

    # The database refuses one component, so the older save is still there whole.
    unlucky = World()
    unlucky.spawn_batch(Health(points=[1, 13]))
    with pytest.raises(psycopg.errors.CheckViolation):
        plugin.save(unlucky, io.BytesIO())
    assert_worlds_equal(plugin.load(io.BytesIO()), world)
