"""The guide's section "Binary Format", block by block."""

from __future__ import annotations

import struct
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    CorruptedDataError,
    FormatFlags,
    InvalidFormatError,
    PersistenceError,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence.binary.header import MAGIC, VERSIONS
from pecs_np.persistence.checksum import crc64
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(version=3)
class Velocity:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


def small_world():
    world = World(seed=3)
    world.spawn_batch(Position(x=[1, 2, 3], y=[4, 5, 6]))
    world.spawn_batch(Position(7, 8), Velocity(x=[0.5, 1.5], y=-1))
    return world


class Pieces:
    """Bytes taken from the start, one piece after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        piece = self.data[self.at : self.at + size]
        assert len(piece) == size
        self.at += size
        return piece

    def number(self, size):
        return int.from_bytes(self.take(size), "little")


def test_format_structure():
    """Binary Format, block 1: Format Structure.

    The diagram, line by line, against the bytes of a save of version 1.
    """
    world = small_world()
    data = world.to_bytes(BinaryPlugin(version=1))
    file = Pieces(data)

    # Header (24 bytes)
    assert file.take(4) == b"PECS"  # Magic: "PECS" (4 bytes)
    assert file.number(4) == 1  # Version: u32 (4 bytes)
    assert file.number(4) == 0  # Flags: u32 (4 bytes)
    entity_count = file.number(8)  # Entity count: u64 (8 bytes)
    type_count = file.number(4)  # Type count: u32 (4 bytes)
    assert (file.at, entity_count, type_count) == (24, 5, 2)

    # Type Registry. For each component type:
    types = {}
    for _ in range(type_count):
        type_id = file.number(16)  # Type ID: u128 (16 bytes)
        name_length = file.number(4)  # Name length: u32 (4 bytes)
        name = file.take(name_length).decode("utf-8")  # Name: UTF-8 string
        types[type_id] = name, file.number(4)  # Version: u32 (4 bytes)
        assert type_id == int.from_bytes(blake2b(name.encode(), digest_size=16).digest(), "little")
    assert list(types.values()) == [("Position", 1), ("Velocity", 3)]

    # Entity Data. For each entity:
    entities = {}
    for _ in range(entity_count):
        stable_id = file.number(16)  # Stable ID: u128 (16 bytes)
        component_count = file.number(4)  # Component count: u32 (4 bytes)
        held = entities[stable_id] = {}
        for _ in range(component_count):  # Components:
            name, _ = types[file.number(16)]  # Type ID: u128 (16 bytes)
            data_length = file.number(4)  # Data length: u32 (4 bytes)
            held[name] = struct.unpack("<2f", file.take(data_length))  # Data: [bytes]
    ids = [int(hi) << 64 | int(lo) for lo, hi in world.stable_ids().tolist()]
    assert entities == {
        ids[0]: {"Position": (1, 4)},
        ids[1]: {"Position": (2, 5)},
        ids[2]: {"Position": (3, 6)},
        ids[3]: {"Position": (7, 8), "Velocity": (0.5, -1)},
        ids[4]: {"Position": (7, 8), "Velocity": (1.5, -1)},
    }

    # Footer (8 bytes)
    before = file.at
    assert file.number(8) == crc64(data[:before])  # Checksum: u64 (CRC64)
    assert file.at == len(data)


def test_magic_bytes():
    """Binary Format, block 2: Magic Bytes."""
    MAGIC_BYTES = b"PECS"

    assert MAGIC_BYTES == MAGIC
    assert int.from_bytes(MAGIC_BYTES, "big") == 0x50454353
    for plugin in (BinaryPlugin(), BinaryPlugin(compression="zstd"), BinaryPlugin(version=1)):
        data = small_world().to_bytes(plugin)
        assert data[:4] == MAGIC_BYTES
        with pytest.raises(InvalidFormatError, match="begins with b'PECS', found b'PEKS' at byte 0"):
            World.from_bytes(b"PEKS" + data[4:])


def test_version_number():
    """Binary Format, block 3: Version Number.

    The guide's format is version 1; version 2 came after it, and both are read.
    """
    MIN_SUPPORTED_VERSION, FORMAT_VERSION = VERSIONS

    assert (MIN_SUPPORTED_VERSION, FORMAT_VERSION) == (1, BinaryPlugin().format_version())
    world = small_world()
    for version in range(MIN_SUPPORTED_VERSION, FORMAT_VERSION + 1):
        data = world.to_bytes(BinaryPlugin(version=version))
        assert int.from_bytes(data[4:8], "little") == version
        assert BinaryPlugin().can_load_version(version)
        assert_worlds_equal(World.from_bytes(data), World.from_bytes(world.to_bytes(BinaryPlugin(version=1))))
    for version in (MIN_SUPPORTED_VERSION - 1, FORMAT_VERSION + 1):
        assert not BinaryPlugin().can_load_version(version)
        with pytest.raises(UnsupportedVersionError) as caught:
            World.from_bytes(data[:4] + version.to_bytes(4, "little") + data[8:])
        assert (caught.value.found, caught.value.expected) == (version, FORMAT_VERSION)


def test_format_flags():
    """Binary Format, block 4: Format Flags.

    They are in the headers of real saves, and a flag that nobody knows is refused.
    """
    assert FormatFlags.NONE == 0
    assert FormatFlags.COMPRESSED_ZSTD == 1 << 0
    assert FormatFlags.COMPRESSED_LZ4 == 1 << 1
    assert FormatFlags.DELTA == 1 << 2
    assert FormatFlags.EXTENDED_METADATA == 1 << 3

    world = World()
    world.spawn_batch(Position(x=np.arange(5000), y=0))
    for plugin, flags in (
        (BinaryPlugin(version=1), FormatFlags.NONE),
        (BinaryPlugin(), FormatFlags.EXTENDED_METADATA),
        (BinaryPlugin(compression="zstd"), FormatFlags.EXTENDED_METADATA | FormatFlags.COMPRESSED_ZSTD),
        (BinaryPlugin(compression="lz4"), FormatFlags.EXTENDED_METADATA | FormatFlags.COMPRESSED_LZ4),
    ):
        data = world.to_bytes(plugin)
        assert FormatFlags(int.from_bytes(data[8:12], "little")) == flags
        assert_worlds_equal(World.from_bytes(data), world)

    data = bytearray(world.to_bytes(BinaryPlugin(version=1)))
    data[8] = 1 << 4
    data[-8:] = crc64(data[:-8]).to_bytes(8, "little")
    with pytest.raises(InvalidFormatError, match="flags"):
        World.from_bytes(data)


def test_data_integrity():
    """Binary Format, block 5: Data Integrity.

    One flipped bit anywhere is noticed, in both versions: where it makes no other header, as damage.
    """
    calculate_checksum = crc64
    for version in (1, 2):
        small_world().save_with("game.pecs", BinaryPlugin(version=version))
        content = Path("game.pecs").read_bytes()
        data, expected_checksum = content[:-8], int.from_bytes(content[-8:], "little")

        # Checksum is calculated over all data
        checksum = calculate_checksum(data)

        assert checksum == expected_checksum
        # Verified on load
        for byte in range(len(content)):
            damaged = bytearray(content)
            damaged[byte] ^= 1 << byte % 8
            Path("game.pecs").write_bytes(damaged)
            assert calculate_checksum(damaged[:-8]) != int.from_bytes(damaged[-8:], "little")
            with pytest.raises(PersistenceError) as caught:
                World.load("game.pecs")
            if byte >= len(content) - 50:
                assert isinstance(caught.value, CorruptedDataError)


def test_binary_format_usage():
    """Binary Format, block 6: Binary Format Usage.

    The section's times for 1,000 entities are measured in the benchmarks.
    """
    world = small_world()

    # Use default binary plugin
    plugin = BinaryPlugin()
    world.save_with("game.pecs", plugin)

    # Load with binary plugin
    loaded = World.load_with("game.pecs", plugin)

    assert_worlds_equal(loaded, world)
    assert Path("game.pecs").read_bytes() == world.to_bytes()
