"""Directory, alignment, sums: the frame of a save of version 2, byte for byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    InvalidFormatError,
    PecsError,
    World,
    component,
)


@component(name="Framed.Position", version=4)
class FramedPosition:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@pytest.fixture(scope="module")
def saved():
    world = World(seed=5)
    world.spawn_batch(FramedPosition(x=[1, 2, 3]))
    world.spawn()
    return world.to_bytes()


def test_the_empty_world_is_these_bytes(reference):
    data = World().to_bytes()
    schema = b'{"writer":"pecs_np 0.1.0","world":{"version":1,"metadata":{},"rng":{}},"types":[],"tables":[]}'
    save = reference.read(data)
    assert data[:24] == b"PECS" + struct.pack("<IIQI", 2, 8, 0, 0)
    assert data[24:64] == bytes(40)
    assert data[64:92] == b"PCOL" + struct.pack("<IIIQI", 0, 0, 0, len(data), 0)
    assert data[92:96] == struct.pack("<I", len(schema))
    assert data[112:128] == bytes(16)
    assert data[128 : 128 + len(schema)] == schema
    assert data[-8:] == struct.pack("<Q", reference.crc(data[:-8])) == bytes(8)
    assert save.parts == []
    assert len(data) == 256 + 8


def test_the_directory_is_these_bytes(reference, saved):
    none = 0xFFFFFFFF
    directory = saved[128 : 128 + 3 * 64]
    size = int.from_bytes(saved[64 + 28 : 64 + 32], "little")
    first = -(-(128 + 3 * 64 + size + 8) // 64) * 64
    ids = [i for table in (0, 1) for i in reference.read(saved).ids(table)]
    runs = [
        ids[0].to_bytes(16, "little") + struct.pack("<Q", 1),
        ids[1].to_bytes(16, "little") + struct.pack("<Q", 3),
    ]
    column = struct.pack("<6f", 1, 0, 2, 0, 3, 0)
    crc = reference.crc
    entry = struct.Struct("<HHIIIQQQQQQ").pack
    assert directory[:64] == entry(1, 3, 0, none, none, 1, first, 24, 16, crc(runs[0]), 0)
    assert directory[64:128] == entry(1, 3, 1, none, none, 3, first + 64, 24, 48, crc(runs[1]), 0)
    assert directory[128:] == entry(2, 0, 1, 0, none, 3, first + 128, 24, 24, crc(column), 0)
    assert saved[first : first + 64] == runs[0] + bytes(40)
    assert saved[first + 128 : -8] == column


@pytest.mark.parametrize("length", range(1, 150, 7))
def test_sections_are_aligned_after_registries_of_any_length(reference, length, define):
    type_ = define("L" * length, {"x": np.uint8})
    world = World()
    world.spawn_batch(type_(x=np.arange(length, dtype=np.uint8)))
    save = reference.read(world.to_bytes())
    assert save.fixed(0, "L" * length)["x"] == [bytes([i]) for i in range(length)]


@pytest.mark.parametrize("flags", [0, 4, 12, 16 | 8, 8 | 1 << 31])
def test_unknown_missing_or_delta_flags_are_refused(reference, saved, flags):
    save = reference.read(saved)
    save.flags = flags
    with pytest.raises(InvalidFormatError):
        World.from_bytes(save.to_bytes())


@pytest.mark.parametrize("bit", [0, 1, 7, 31])
def test_unknown_incompatible_features_are_refused_and_others_ignored(reference, saved, bit):
    save = reference.read(saved)
    save.compat = save.ro_compat = 1 << bit
    assert World.from_bytes(save.to_bytes()).to_bytes() == saved
    save.incompat = 1 << bit
    with pytest.raises(PecsError, match="incompatible"):
        World.from_bytes(save.to_bytes())


def test_padding_that_is_not_zero_is_refused_wherever_it_stands(reference, saved):
    paddings = paddings_of(reference.read(saved))
    assert len(paddings) > 80
    for at in paddings:
        changed = bytearray(saved)
        assert changed[at] == 0
        changed[at] = 1
        with pytest.raises(CorruptedDataError, match="zero"):
            World.from_bytes(reference.resigned(saved, bytes(changed)))


def paddings_of(save):
    """Return every byte between the parts of a save with one type of a name of 15 bytes."""
    crc_end = 64 + 64 + 64 * len(save.parts) + len(save.schema_text) + 8
    end = -(-crc_end // 64) * 64
    found = [63, *range(crc_end, end)]
    for part in save.parts:
        start = -(-end // 64) * 64
        found += range(end, start)
        end = start + len(part.data)
    return found


@pytest.mark.parametrize("place", ["head", "section", "footer"])
def test_each_sum_is_checked(saved, place):
    changed = bytearray(saved)
    changed[{"head": 300, "section": -10, "footer": -1}[place]] ^= 0x40
    with pytest.raises(CorruptedDataError, match="checksum"):
        World.from_bytes(bytes(changed))


@pytest.mark.parametrize(("cut", "add"), [(0, b"\0"), (0, bytes(64)), (8, b""), (1, b"")])
def test_bytes_after_the_end_or_missing_ones_are_refused(saved, cut, add):
    with pytest.raises(CorruptedDataError, match="bytes, found"):
        World.from_bytes(saved[: len(saved) - cut] + add)
