"""The guide's section "Custom Plugins", block by block."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pecs_np import PersistenceManager, PersistencePlugin, World, component
from pecs_np.persistence.packed import pack, unpack
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


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
