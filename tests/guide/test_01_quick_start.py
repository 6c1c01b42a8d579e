"""The guide's section "Quick Start", block by block."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np

from pecs_np import World, component
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


def test_basic_save_and_load():
    """Quick Start, block 1: Basic Save and Load.

    The file is a real one in the binary format, and gives an equal world.
    """
    # Create and populate a world
    world = World()
    entity = world.spawn()
    world.insert(entity, Position(1, 2))

    # Save to binary format (default)
    world.save("game.pecs")

    # Load from file
    loaded_world = World.load("game.pecs")

    assert Path("game.pecs").read_bytes()[:4] == b"PECS"
    assert_worlds_equal(loaded_world, world)
    again = loaded_world.get_entity_id(world.get_stable_id(entity))
    assert loaded_world.get(again, Position) == Position(1, 2)


def test_format_specific_operations():
    """Quick Start, block 2: Format-Specific Operations.

    The binary file is the smaller one, the other is text that can be read.
    """
    world = World()
    world.spawn_batch(Position(x=np.arange(100), y=0.5))

    # Binary format (fast, compact)
    world.save_binary("game.pecs")
    from_binary = World.load_binary("game.pecs")

    # JSON format (readable, larger)
    world.save_json("game.json")
    from_json = World.load_json("game.json")

    assert_worlds_equal(from_binary, world)
    assert_worlds_equal(from_json, world)
    assert Path("game.pecs").stat().st_size < Path("game.json").stat().st_size
    assert '"data":{"x":99.0,"y":0.5}' in Path("game.json").read_text()


def test_streaming_api():
    """Quick Start, block 3: Streaming API.

    Saving to a stream takes a small part of the memory that the world takes, and loading from it little
    more than the world.
    """
    rows = 4_000_000
    world = World()
    world.spawn_batch(Position(x=np.arange(rows), y=0))
    size = rows * 8
    tracemalloc.start()

    # Stream to file
    with open("large-world.pecs", "wb") as file:
        world.save_binary_stream(file)
    saving = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()

    # Stream from file
    with open("large-world.pecs", "rb") as file:
        loaded = World.load_binary_stream(file)

    loading = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert Path("large-world.pecs").stat().st_size > size
    assert saving < 16 << 20 < size
    assert loading < size + (16 << 20)
    assert_worlds_equal(loaded, world)
