"""Header and type registry, the start of saves of both versions, byte for byte."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    CorruptedDataError,
    FormatFlags,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    UnsupportedVersionError,
    World,
    component,
    make_component,
    unregister,
)
from pecs_np.persistence.binary.header import HEADER, more, read_header, registry_of, type_id
from pecs_np.persistence.binary.sources import BytesSource, StreamSource


@component(name="Headed.Position", version=4)
class HeadedPosition:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@pytest.fixture(scope="module")
def saved():
    world = World(seed=5)
    world.spawn_batch(HeadedPosition(x=[1, 2, 3]))
    world.spawn()
    return world.to_bytes()


def test_header_and_registry_are_these_bytes(reference, saved):
    name = b"Headed.Position"
    assert saved[:24] == b"PECS" + struct.pack("<IIQI", 2, 8, 4, 1)
    entry = reference.type_id("Headed.Position") + struct.pack("<I", len(name)) + name + struct.pack("<I", 4)
    assert saved[24 : 24 + len(entry)] == entry
    assert 24 + len(entry) == 63
    assert saved[63:68] == b"\0PCOL"


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


@pytest.mark.parametrize("version", [0, 3, 2**32 - 1])
def test_other_versions_are_refused_with_both_numbers(reference, saved, version):
    save = reference.read(saved)
    save.version = version
    with pytest.raises(UnsupportedVersionError) as caught:
        World.from_bytes(save.to_bytes())
    assert (caught.value.found, caught.value.expected) == (version, 2)


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


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_begin_alike(reference, version):
    world = World()
    world.spawn_batch(HeadedPosition(x=[1, 2]), stable_ids=[5, 9])
    data = world.to_bytes(BinaryPlugin(version=version))
    assert data[:24] == b"PECS" + struct.pack("<IIQI", version, 8 if version == 2 else 0, 2, 1)
    assert data[24:63] == registry_entry(reference, "Headed.Position", 4)
    header = read_header(BytesSource(data, "here"), Limits())
    assert header[:4] == (version, data[8], 2, (("Headed.Position", 4),))
    assert header.end == 63
    assert header.data[:63] == data[:63]
    for load in (World.from_bytes, lambda data: World.load_binary_stream(io.BytesIO(data))):
        assert load(data).to_bytes(BinaryPlugin(version=version)) == data


def test_registry_entries_are_what_the_types_are_called(reference, define):
    types = [define(name, {}, version=version)._type for name, version in (("A", 1), ("é", 2**32 - 1))]
    assert registry_of(types) == registry_entry(reference, "A") + registry_entry(reference, "é", 2**32 - 1)
    assert registry_of([]) == b""


@pytest.mark.parametrize("version", [1, 2**31, 2**32 - 1])
def test_a_type_may_have_any_version_of_32_bits(reference, version):
    save = reference.make([("HeadedForeign", version, [])], [{"ids": [1], "columns": {"HeadedForeign": b""}}])
    world = World.from_bytes(save.to_bytes())
    assert reference.read(world.to_bytes()).types == [("HeadedForeign", version)]


@pytest.mark.parametrize("length", range(24))
def test_less_than_a_header_is_refused(saved, length):
    # Less than the magic is no save at all; what begins like one was cut short.
    error = InvalidFormatError if length < 4 else CorruptedDataError
    for read in (World.from_bytes, lambda data: World.load_binary_stream(io.BytesIO(data))):
        with pytest.raises(error if read is World.from_bytes else PecsError):
            read(saved[:length])


@pytest.mark.parametrize("start", [b"pecs", b"PECT", b"SCEP", b"\0\0\0\0", b"PK\3\4"])
def test_another_magic_is_no_save(saved, start):
    with pytest.raises(InvalidFormatError, match="begins with b'PECS', found"):
        World.from_bytes(start + saved[4:])


def test_an_older_and_a_newer_version_are_told_apart(saved):
    for version, newer in ((0, False), (3, True)):
        with pytest.raises(UnsupportedVersionError) as caught:
            World.from_bytes(saved[:4] + struct.pack("<I", version) + saved[8:])
        assert ("newer" in str(caught.value)) is newer


@pytest.mark.parametrize("count", [2, 3, 1000, 2**16, 2**16 + 1, 2**32 - 1])
def test_more_types_than_are_there_are_refused(reference, saved, count):
    changed = saved[:20] + struct.pack("<I", count) + saved[24:]
    with pytest.raises(LimitExceededError if count > 2**16 else PecsError, match="expected"):
        World.from_bytes(reference.resigned(saved, changed))


@pytest.mark.parametrize("cut", [1, 20, 38])
def test_a_registry_that_is_cut_short_is_refused(saved, cut):
    header = HEADER.pack(b"PECS", 1, 0, 0, 1)
    with pytest.raises(CorruptedDataError, match="at least"):
        World.from_bytes(header + saved[24 : 63 - cut])


@pytest.mark.parametrize("char", ["\0", "\x1f", "\x7f", "\x80", "\x9f"])
def test_names_with_control_characters_are_refused(reference, char):
    save = reference.make([("A", 1, [])], [{"ids": [1], "columns": {"A": b""}}])
    save.registry = registry_entry(reference, f"a{char}b")
    with pytest.raises(InvalidFormatError, match="control"):
        World.from_bytes(save.to_bytes())


@pytest.mark.parametrize("name", ["a b", "\u2028", "é", "\U0010ffff", "../x", '"', "\xa0"])
def test_other_names_are_names(reference, name):
    save = reference.make([(name, 1, [])], [{"ids": [1], "columns": {name: b""}}])
    world = World.from_bytes(save.to_bytes())
    assert [n for n, _ in reference.read(world.to_bytes()).types] == [name]


def test_limits_on_types_names_and_head_are_exact(saved):
    def load(**limits):
        return BinaryPlugin(limits=Limits(**limits)).decode(saved)

    assert load(types=1, name_length=15).entity_count == 4
    with pytest.raises(LimitExceededError, match="at most 0 types, found 1"):
        load(types=0)
    with pytest.raises(LimitExceededError, match="at most 14 bytes of a type's name, found 15"):
        load(name_length=14)
    with pytest.raises(LimitExceededError, match="at most 62 bytes of head"):
        load(head_size=62)


def test_a_name_that_the_format_forbids_is_an_error_of_the_format_not_of_limits(reference):
    save = reference.make([("A", 1, [])], [{"ids": [1], "columns": {"A": b""}}])
    save.registry = registry_entry(reference, "x" * 1025)
    with pytest.raises(InvalidFormatError, match="1 to 1024 bytes, found 1025"):
        World.from_bytes(save.to_bytes(), BinaryPlugin(limits=Limits(name_length=10)))


@pytest.mark.parametrize("count", [1, 30, 400])
def test_registries_of_any_size_are_read_from_anything(reference, count, tmp_path):
    names = sorted(f"Headed{'é' * (i % 50)}{i}" for i in range(count))
    names.sort(key=str.encode)
    save = reference.make(
        [(name, i + 1, []) for i, name in enumerate(names)],
        [{"ids": [1], "columns": dict.fromkeys(names, b"")}],
    )
    data = save.to_bytes()
    (tmp_path / "a.pecs").write_bytes(data)
    expected = World.from_bytes(data).to_bytes()
    assert reference.read(expected).types == [(name, i + 1) for i, name in enumerate(names)]
    assert World.load(tmp_path / "a.pecs").to_bytes() == expected
    assert World.load_binary_stream(io.BytesIO(data)).to_bytes() == expected


class Counted(io.BytesIO):
    """A stream that knows how many bytes were taken of it."""

    taken = 0

    def readinto(self, view):
        count = super().readinto(view)
        self.taken += count
        return count


def test_the_limit_on_the_head_ends_the_reading_of_a_long_registry(reference):
    names = [f"Headed{i:05d}" for i in range(3000)]
    save = reference.make([(n, 1, []) for n in names], [{"ids": [1], "columns": dict.fromkeys(names, b"")}])
    stream = Counted(save.to_bytes())
    with pytest.raises(LimitExceededError, match="at most 100000 bytes of head"):
        World.load_with(stream, BinaryPlugin(limits=Limits(head_size=100_000)))
    # A type whose name may still come has at least 25 bytes.
    assert stream.taken < 100_000 + 25 * 3000


def test_what_was_read_of_a_head_grows_in_place():
    source = StreamSource(io.BytesIO(bytes(range(200))))
    data = more(source, source.read(0, 10), 50)
    assert more(source, data, 200) is data
    assert data == bytes(range(200))
