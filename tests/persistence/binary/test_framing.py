"""Header, registry, alignment, sums: the frame of a save, byte for byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    FormatFlags,
    InvalidFormatError,
    PecsError,
    UnsupportedVersionError,
    World,
    component,
    make_component,
    unregister,
)
from pecs_np.persistence.binary.header import type_id


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


def test_header_and_registry_are_these_bytes(reference, saved):
    name = b"Framed.Position"
    assert saved[:24] == b"PECS" + struct.pack("<IIQI", 2, 8, 4, 1)
    entry = reference.type_id("Framed.Position") + struct.pack("<I", len(name)) + name + struct.pack("<I", 4)
    assert saved[24 : 24 + len(entry)] == entry
    assert 24 + len(entry) == 63
    assert saved[63:68] == b"\0PCOL"


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


def test_type_ids_are_blake2b_of_the_name(reference):
    for name in ("Position", "é", "x" * 1024):
        assert type_id(name) == reference.type_id(name)
    assert type_id("Position").hex() == "8b3a2ef148ecca3dc467442335f6f781"


def test_the_registry_is_in_bytewise_order_whatever_the_order_of_definition(reference):
    names = ["zz", "Zz", "é", "字", "a", "aa", "\U0001f980", "\uffee"]
    types = [make_component(name, {"x": np.int8}) for name in names]
    world = World()
    for type_ in types:
        world.spawn(type_(1))
    data = world.to_bytes()
    try:
        assert [n for n, _ in reference.read(data).types] == sorted(names, key=lambda n: n.encode())
        assert World.from_bytes(data).to_bytes() == data
    finally:
        for name in names:
            unregister(name)


@pytest.mark.parametrize("length", range(1, 150, 7))
def test_sections_are_aligned_after_registries_of_any_length(reference, length, define):
    type_ = define("L" * length, {"x": np.uint8})
    world = World()
    world.spawn_batch(type_(x=np.arange(length, dtype=np.uint8)))
    save = reference.read(world.to_bytes())
    assert save.fixed(0, "L" * length)["x"] == [bytes([i]) for i in range(length)]


def test_a_name_of_1024_bytes_is_the_longest(reference, define):
    world = World()
    world.spawn(define("é" * 512, {"x": np.uint8})(1))
    data = world.to_bytes()
    assert World.from_bytes(data).to_bytes() == data
    save = reference.read(data)
    save.types = [("é" * 512 + "x", 1)]
    save.schema = save.schema | {"types": [save.schema["types"][0] | {"name": "é" * 512 + "x"}]}
    with pytest.raises(InvalidFormatError, match="1024"):
        World.from_bytes(save.to_bytes())


def test_flags_have_the_values_of_the_format():
    assert [int(f) for f in FormatFlags] == [1, 2, 4, 8]
    assert FormatFlags.EXTENDED_METADATA == 8
    assert FormatFlags.NONE == 0


@pytest.mark.parametrize("flags", [0, 4, 12, 16 | 8, 8 | 1 << 31])
def test_unknown_missing_or_delta_flags_are_refused(reference, saved, flags):
    save = reference.read(saved)
    save.flags = flags
    with pytest.raises(InvalidFormatError):
        World.from_bytes(save.to_bytes())


@pytest.mark.parametrize("version", [0, 3, 2**32 - 1])
def test_other_versions_are_refused_with_both_numbers(reference, saved, version):
    save = reference.read(saved)
    save.version = version
    with pytest.raises(UnsupportedVersionError) as caught:
        World.from_bytes(save.to_bytes())
    assert (caught.value.found, caught.value.expected) == (version, 2)


@pytest.mark.parametrize("bit", [0, 1, 7, 31])
def test_unknown_incompatible_features_are_refused_and_others_ignored(reference, saved, bit):
    save = reference.read(saved)
    save.compat = save.ro_compat = 1 << bit
    assert World.from_bytes(save.to_bytes()).to_bytes() == saved
    save.incompat = 1 << bit
    with pytest.raises(PecsError, match="incompatible"):
        World.from_bytes(save.to_bytes())


def registry_entry(reference, name, version=1, size=None, id_of=None):
    raw = name if isinstance(name, bytes) else name.encode()
    type_id = reference.type_id(id_of or raw.decode(errors="replace"))
    return type_id + struct.pack("<I", len(raw) if size is None else size) + raw + struct.pack("<I", version)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "A", "id_of": "B"}, "type id"),
        ({"name": ""}, "name of 1 to"),
        ({"name": b"\xff"}, "UTF-8"),
        ({"name": "a\nb"}, "control"),
        ({"name": "a\x7fb"}, "control"),
        ({"name": "A", "size": 2**32 - 1}, "expected"),
        ({"name": "A", "size": 1025}, "expected"),
        ({"name": "Other"}, "those of the registry"),
        ({"name": "A", "version": 2}, "those of the registry"),
    ],
)
def test_registry_entries_that_break_a_rule_are_refused(reference, entry, message):
    save = reference.make([("A", 1, [])], [{"ids": [1], "columns": {"A": b""}}])
    assert len(World.from_bytes(save.to_bytes())) == 1
    save.registry = registry_entry(reference, **entry)
    with pytest.raises(PecsError, match=message):
        World.from_bytes(save.to_bytes())


@pytest.mark.parametrize("names", [("B", "A"), ("A", "A")])
def test_registries_out_of_order_or_with_a_name_twice_are_refused(reference, names):
    save = reference.make([(n, 1, []) for n in names], [{"ids": [1]}])
    save.schema = save.schema | {"tables": [{"rows": 1, "types": [0, 1], "role": "state"}]}
    save.parts += [reference.Part(2, 0, 0, i, 0xFFFFFFFF, 1, 0, b"") for i in (0, 1)]
    with pytest.raises(InvalidFormatError, match="in order"):
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
