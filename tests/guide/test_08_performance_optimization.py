"""The guide's section "Performance Optimization", block by block."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from pecs_np import BinaryPlugin, CompressionType, FormatFlags, WhitelistFilter, World, component
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Health:
    points: np.float64 = 1.0


@component
class Trail:
    """Where it has been."""

    points: list[np.float32] = []


def test_pre_allocation():
    """Performance Optimization, block 1: Pre-allocation.

    With capacity, spawning that many entities allocates nothing anew for their ids.
    """
    # Pre-allocate world capacity
    world = World.with_capacity(10000)

    # Reduces reallocations during load
    slots = world._storage.entities.generations
    assert len(slots) > 10000
    ids = [world.spawn() for _ in range(100)]
    world.spawn_batch(count=9900)
    assert world.is_alive(ids[99])
    assert world._storage.entities.generations is slots
    assert len(world) == 10000
    assert len(World()._storage.entities.generations) < 10000


def test_streaming_for_large_worlds():
    """Performance Optimization, block 2: Streaming for Large Worlds.

    Python's ``open`` gives a buffered writer by itself, unless it is told not to.
    """
    world = World()
    world.spawn_batch(Position(x=np.arange(100_000), y=1))

    # Use buffered writer for better I/O performance
    with open("large-world.pecs", "wb", buffering=0) as file:
        writer = io.BufferedWriter(file)
        world.save_binary_stream(writer)
        writer.flush()

    assert Path("large-world.pecs").read_bytes() == world.to_bytes()
    assert_worlds_equal(World.load("large-world.pecs"), world)


def test_selective_persistence():
    """Performance Optimization, block 3: Selective Persistence.

    All entities are saved, with the allowed components only.
    """
    world = World()
    world.spawn_batch(Position(x=[1, 2], y=0), Health(), Trail(points=[1, 2, 3]))
    world.spawn(Trail())

    # Only save essential components
    filter = WhitelistFilter(Position, Health)

    world.save_filtered("minimal.pecs", filter)

    loaded = World.load("minimal.pecs")
    assert [type_.name for type_ in loaded.snapshot().types] == ["Health", "Position"]
    assert len(loaded) == len(world) == 3
    assert loaded.column(Position).tolist() == [(1, 0), (2, 0)]
    world.save("all.pecs")
    assert Path("minimal.pecs").stat().st_size < Path("all.pecs").stat().st_size
    # What is left out stays in the live world.
    assert len(world.snapshot().column("Trail")) == 3


def test_compression():
    """Performance Optimization, block 4: Compression (Future).

    What the guide plans is there, for zstd and lz4.
    """
    world = World()
    world.spawn_batch(Position(x=np.arange(100_000) // 100, y=1))

    # Compression support
    plugin = BinaryPlugin.with_compression(CompressionType.Zstd)
    world.save_with("game.pecs.zst", plugin)

    data = Path("game.pecs.zst").read_bytes()
    assert FormatFlags.COMPRESSED_ZSTD in FormatFlags(int.from_bytes(data[8:12], "little"))
    assert len(data) * 20 < len(world.to_bytes())
    assert_worlds_equal(World.load_with("game.pecs.zst", plugin), world)
    assert_worlds_equal(World.load("game.pecs.zst"), world)
    lz4 = world.to_bytes(BinaryPlugin.with_compression(CompressionType.Lz4))
    assert_worlds_equal(World.from_bytes(lz4), world)
