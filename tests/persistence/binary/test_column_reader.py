"""Saves made by the independent writer: what is read, and what is refused."""

from __future__ import annotations

import io
import itertools
import random
import struct
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    CorruptedDataError,
    DanglingReferenceError,
    InvalidFormatError,
    PecsError,
    World,
    registered,
)
from pecs_np.testing import assert_worlds_equal

F4 = [{"name": "x", "dtype": "<f4"}]
TEXT = [{"name": "text", "variable": "str"}]
REF = [{"name": "to", "ref": True}]


def pack(*ids):
    return b"".join(i.to_bytes(16, "little") for i in ids)


def point_save(reference, ids, **table):
    columns = {"ReadPoint": np.arange(len(ids), dtype="<f4").tobytes()}
    return reference.make([("ReadPoint", 2, F4)], [{"ids": ids, "columns": columns} | table])


def as_ints(stable_ids):
    return [int(hi) << 64 | int(lo) for lo, hi in stable_ids.tolist()]


def load(save):
    return World.from_bytes(save.to_bytes())


def test_a_foreign_save_loads_with_types_of_its_own(reference):
    assert registered("ReadPoint") is None
    world = load(point_save(reference, [5, 2**100, 7]))
    assert as_ints(world.stable_ids()) == [5, 2**100, 7]
    assert world.column("ReadPoint")["x"].tolist() == [0, 1, 2]
    assert world.get(world.get_entity_id(2**100), "ReadPoint").x == 1
    assert world.validate()


@pytest.mark.parametrize("kind", [0x8000, 0x8001, 0x8002, 0xFFFF])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_sections_that_may_be_skipped_are_skipped_wherever_they_stand(reference, kind, place):
    plain = load(point_save(reference, [1, 2])).to_bytes()
    save = point_save(reference, [1, 2])
    save.parts.insert(place, reference.Part(kind, 0x777, 99, 88, 77, 66, 55, b"of a later version"))
    save.parts.insert(place, reference.Part(kind, 0, 0, 0, 0, 0, 0, b""))
    assert load(save).to_bytes() == plain


@pytest.mark.parametrize("kind", [0, 5, 6, 7, 0x7FFF])
def test_other_unknown_sections_are_refused(reference, kind):
    save = point_save(reference, [1, 2])
    save.parts.append(reference.Part(kind, 0, 0, reference.NONE, reference.NONE, 1, 16, pack(9)))
    with pytest.raises(InvalidFormatError):
        load(save)


def test_damage_in_a_section_that_is_skipped_is_found(reference):
    save = point_save(reference, [1, 2])
    save.parts.append(reference.Part(0x8000, 0, 0, 0, 0, 0, 0, b"skipped"))
    data = bytearray(save.to_bytes())
    data[data.index(b"skipped")] ^= 1
    with pytest.raises(CorruptedDataError):
        World.from_bytes(bytes(data))


RUNS = {
    "raw": None,
    "one run": [(10, 6)],
    "split": [(10, 2), (12, 1), (13, 3)],
    "single ids": [(10 + i, 1) for i in range(6)],
}


@pytest.mark.parametrize("form", RUNS)
def test_ids_may_be_stored_raw_or_in_any_runs_and_give_equal_worlds(reference, form):
    ids = list(range(10, 16))
    save = point_save(reference, ids) if RUNS[form] is None else point_save(reference, ids, runs=RUNS[form])
    world = load(save)
    assert as_ints(world.stable_ids()) == ids
    # Equal worlds give equal bytes, in the form that the format prescribes.
    assert world.to_bytes() == load(point_save(reference, ids)).to_bytes()
    assert reference.read(world.to_bytes()).ids(0) == ids


@pytest.mark.parametrize("count", [64, 65, 200])
def test_many_runs_are_read_and_cross_halves(reference, count):
    runs = [(2**64 * (i + 1) - 2, 4) for i in range(count)]
    ids = [first + i for first, n in runs for i in range(n)]
    world = load(point_save(reference, ids, runs=runs))
    assert as_ints(world.stable_ids()) == ids
    assert world.get_entity_id(ids[-1]) == 4 * count
    reference.read(world.to_bytes())


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(
    "runs", [[(0, 2)], [(2**128 - 1, 2)], [(5, 0), (6, 2)], [(5, 1), (6, 2)], [(5, 1)], [(5, 2**64 - 1)], [(5, 2), (9, 2**64 - 2)]]
)  # fmt: skip
def test_runs_that_wrap_or_are_empty_or_miss_the_rows_are_refused(reference, runs, many):
    more = [(1000 + 2 * i, 1) for i in range(100)] if many else []
    save = point_save(reference, list(range(2 + len(more))), runs=[*runs, *more])
    save.schema = save.schema | {"tables": [save.schema["tables"][0] | {"rows": 2 + len(more)}]}
    save.entity_count = 2 + len(more)
    save.parts[0].rows, save.parts[0].raw_size = 2 + len(more), 16 * (2 + len(more))
    save.parts[1].rows = 2 + len(more)
    with pytest.raises(PecsError, match=r"runs|other than 0"):
        load(save)


@pytest.mark.parametrize("ids", [[3, 0], [0], [1, 2, 1], [2**127, 5, 2**127]])
def test_ids_that_are_0_or_stand_twice_are_refused(reference, ids):
    with pytest.raises(CorruptedDataError, match="stable ids"):
        load(point_save(reference, ids))


@pytest.mark.parametrize(
    ("first", "second"),
    [({"ids": [1, 2]}, {"ids": [3, 1]}), ({"runs": [(1, 50)]}, {"runs": [(50, 3)]}), ({"runs": [(1, 9)]}, {"ids": [20, 4]})],
)  # fmt: skip
def test_ids_that_stand_in_two_tables_are_refused(reference, first, second):
    rows = len(second.get("ids", [0] * 3))
    columns = {"ReadPoint": bytes(4 * rows)}
    save = reference.make([("ReadPoint", 2, F4)], [first, second | {"columns": columns}])
    with pytest.raises(CorruptedDataError, match="twice"):
        load(save)


@pytest.mark.parametrize(
    ("fields", "fixed", "variable"),
    [
        (REF, pack(77), {}),
        ([{"name": "to", "ref": True, "shape": [2]}], pack(1, 77), {}),
        ([{"name": "s", "fields": REF}], pack(2**64 + 1), {}),
        ([{"name": "l", "variable": "list", "ref": True}], b"", {"l": [pack(1, 77)]}),
        ([{"name": "l", "variable": "list", "fields": REF}], b"", {"l": [pack(1, 0, 77)]}),
        (
            [{"name": "l", "variable": "list", "fields": [{"name": "s", "fields": REF}]}],
            b"",
            {"l": [pack(77)]},
        ),
    ],
)
@pytest.mark.parametrize("resource", [False, True])
def test_references_to_nobody_are_refused_at_all_depths(reference, fields, fixed, variable, resource):
    holder = {"columns": {"ReadRef": (fixed, variable)}} | ({"resource": True} if resource else {"ids": [2]})
    save = reference.make([("ReadRef", 1, fields)], [{"ids": [1]}, holder])
    with pytest.raises(DanglingReferenceError, match=r"found 0{14,}"):
        load(save)


def test_a_reference_may_point_to_any_table_and_to_itself(reference):
    save = reference.make(
        [("ReadRef", 1, REF)], [{"ids": [9, 8]}, {"ids": [4, 2**70], "columns": {"ReadRef": pack(8, 2**70)}}]
    )
    world = load(save)
    assert as_ints(world.get_stable_id(world.column("ReadRef")["to"])) == [8, 2**70]


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ({"dtype": "|b1"}, b"\1", b"\2"),
        ({"dtype": "|b1"}, b"\0", b"\xff"),
        ({"dtype": "|b1", "shape": [3]}, b"\0\1\0", b"\0\1\3"),
        ({"dtype": "|u1", "enum": {"A": 1}}, b"\1", b"\0"),
        ({"dtype": "<i4", "enum": {"A": -1, "B": 5}}, b"\xff" * 4, b"\4\0\0\0"),
        ({"dtype": "<u8", "enum": {"A": 2**64 - 1}}, b"\xff" * 8, b"\xff" * 7 + b"\xfe"),
        ({"dtype": "<U1"}, struct.pack("<I", 0x10FFFF), struct.pack("<I", 0x110000)),
        ({"dtype": "<U1"}, struct.pack("<I", 0xD7FF), struct.pack("<I", 0xD800)),
        ({"dtype": "<U1"}, struct.pack("<I", 0xE000), struct.pack("<I", 0xDFFF)),
        ({"dtype": "<U2"}, struct.pack("<2I", 65, 0), struct.pack("<2I", 65, 2**32 - 1)),
        ({"dtype": "<U1", "shape": [2]}, struct.pack("<2I", 65, 0), struct.pack("<2I", 65, 2**31)),
    ],
)
@pytest.mark.parametrize("where", ["plain", "struct", "list", "list of structs"])
def test_bit_patterns_that_are_no_value_are_refused_wherever_they_stand(reference, field, good, bad, where):
    leaf = {"name": "v"} | field
    struct_of = {"name": "s", "fields": [{"name": "before", "dtype": "|u1"}, leaf]}
    variable = {"variable": "list"}
    fields = {
        "plain": [leaf],
        "struct": [struct_of],
        "list": [leaf | variable],
        "list of structs": [struct_of | variable],
    }
    before = b"" if where in ("plain", "list") else b"\7"

    def save(*values):
        pieces = [before + value for value in values]
        name = fields[where][0]["name"]
        column = (b"", {name: pieces}) if "list" in where else b"".join(pieces)
        return reference.make(
            [("ReadChecked", 1, fields[where])], [{"ids": [1, 2], "columns": {"ReadChecked": column}}]
        )

    world = load(save(good, good))
    assert load(reference.read(world.to_bytes())).to_bytes() == world.to_bytes()
    with pytest.raises(CorruptedDataError, match="row 1"):
        load(save(good, bad))


@pytest.mark.parametrize(
    "stops", [(1, 2, 3), (0, 3, 2), (0, 2**64 - 1, 3), (0, 0, 2), (0, 0, 4), (0, 0, 2**63)]
)
def test_offsets_that_decrease_or_miss_the_values_are_refused(reference, stops):
    save = reference.make(
        [("ReadText", 1, TEXT)], [{"ids": [1, 2], "columns": {"ReadText": (b"", {"text": [b"a", b"bc"]})}}]
    )
    assert load(save).column("ReadText")["text"].tolist() == ["a", "bc"]
    save.part(3, 0, "ReadText", "text").data = struct.pack("<3Q", *stops)
    with pytest.raises(PecsError):
        load(save)


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"\xc3"])
def test_text_that_is_not_utf8_is_refused(reference, raw):
    save = reference.make(
        [("ReadText", 1, TEXT)], [{"ids": [1, 2], "columns": {"ReadText": (b"", {"text": [raw, b"\xa9"]})}}]
    )
    with pytest.raises(CorruptedDataError):
        load(save)


@pytest.mark.parametrize("member", ["kind", "codec", "table", "type", "field", "rows", "offset", "stored_size", "raw_size", "crc", "reserved"])  # fmt: skip
@pytest.mark.parametrize("value", [0, 1, 2, 63, 64, 2**31, 2**60, 2**64 - 1])
def test_every_member_of_the_directory_counts(reference, member, value):
    save = point_save(reference, [1, 5, 9])
    data = save.to_bytes()
    column = reference.ENTRY.unpack_from(data, data.index(b"PCOL") + 128)
    value &= {"kind": 2**16 - 1, "codec": 2**16 - 1, "table": 2**32 - 1, "type": 2**32 - 1}.get(
        member, 2**64 - 1
    )
    save.entries = {1: {member: value & 2**32 - 1 if member == "field" else value}}
    if save.entries[1][member] == column[reference.ENTRY_NAMES.index(member)]:
        assert save.to_bytes() == data
        assert len(load(save)) == 3
    else:
        with pytest.raises(PecsError):
            load(save)


def test_sections_missing_twice_or_in_another_order_are_refused(reference):
    for change in ([1], [0], [1, 0], [0, 1, 1], [0, 0, 1], []):
        save = point_save(reference, [1, 2])
        save.parts = [save.parts[i] for i in change]
        with pytest.raises(InvalidFormatError):
            load(save)


@pytest.mark.parametrize(
    "tables",
    [
        [{"rows": 2, "types": [0], "role": "created"}],
        [{"rows": 2, "types": [0], "role": "modified"}],
        [{"rows": 2, "types": [0], "role": "other"}],
        [{"rows": 2, "types": [0]}],
        [{"rows": 2, "types": [0, 0], "role": "state"}],
        [{"rows": 2, "types": [1], "role": "state"}],
        [{"rows": 2, "types": [-1], "role": "state"}],
        [{"rows": 2, "types": [0.0], "role": "state"}],
        [{"rows": 2, "types": [False], "role": "state"}],
        [{"rows": 2.0, "types": [0], "role": "state"}],
        [{"rows": True, "types": [0], "role": "state"}],
        [{"rows": 0, "types": [0], "role": "state"}],
        [{"rows": -2, "types": [0], "role": "state"}],
        [{"rows": 2**64, "types": [0], "role": "state"}],
        [{"rows": 2, "types": [], "role": "state"}],
        [{"rows": 2, "types": [0], "role": "resource"}],
        [{"rows": 1, "types": [0], "role": "state"}] * 2,
        [None],
        [],
    ],
)
def test_tables_that_the_schema_announces_wrongly_are_refused(reference, tables):
    save = point_save(reference, [1, 2])
    save.schema = save.schema | {"tables": tables}
    with pytest.raises(PecsError):
        load(save)


@pytest.mark.parametrize("count", [0, 1, 3, 2**64 - 1])
def test_an_entity_count_other_than_the_rows_is_refused(reference, count):
    save = point_save(reference, [1, 2])
    save.entity_count = count
    with pytest.raises(InvalidFormatError, match="rows in all"):
        load(save)


def test_two_tables_of_resources_are_refused_or_all_of_them_kept(reference):
    types = [("ReadFirst", 1, F4), ("ReadSecond", 1, F4)]
    tables = [{"resource": True, "columns": {name: struct.pack("<f", 5)}} for name, _, _ in types]
    try:
        world = load(reference.make(types, tables))
    except PecsError:
        return
    assert world.resources.get("ReadFirst").x == 5
    assert world.resources.get("ReadSecond").x == 5


def test_tables_in_any_order_give_the_same_world(reference):
    types = [("ReadFirst", 1, F4), ("ReadSecond", 1, F4)]
    tables = [
        {"ids": [1]},
        {"ids": [2], "columns": {"ReadFirst": bytes(4)}},
        {"ids": [3], "columns": {"ReadSecond": bytes(4)}},
    ]
    assert (
        load(reference.make(types, tables)).to_bytes() == load(reference.make(types, tables[::-1])).to_bytes()
    )


# Compressed by the independent writer


def chunk_for(rng, item, raw_size):
    """Return a chunk size of one item, an odd number of items, about half of all, all, or more than all."""
    items = max(1, raw_size // item)
    fewest = -(-items // 200)
    counts = [fewest, 2 * rng.randrange(fewest, fewest + 20) + 1, items // 2 + 1, items, items + 1, 3 * items]
    return item * rng.choice(counts)


def mixed_up(reference, save, seed, codecs):
    """Store the sections of *save* in all ways that fit in turns, and return the ways."""
    rng = random.Random(seed)
    filters = 0, reference.SHUFFLE, reference.DELTA, reference.SHUFFLE | reference.DELTA
    ways = set()
    turns = Counter()
    for part in save.parts:
        item = save.item(part)
        if not item:
            continue
        lanes = item % 8 == 0
        fitting = [way for way in itertools.product(codecs, filters[: 4 if lanes else 2]) if any(way)]
        codec, chosen = fitting[(seed + turns[part.kind, lanes]) % len(fitting)]
        turns[part.kind, lanes] += 1
        if codec != reference.RAW:
            chunk = chunk_for(rng, item, part.raw_size)
            save.pack(part, codec | chosen, chunk, rng.choice([None, 1, 9]))
            ways.add((part.kind, codec, chosen, chunk >= part.raw_size))
    return ways


@pytest.fixture(scope="module")
def every_kind(reference):
    """A save of every kind of field, and the world in it."""
    save = reference.sample(40)
    return save, load(save)


@pytest.mark.parametrize("seed", range(12))
def test_sections_packed_in_any_legal_way_load_to_an_equal_world(reference, every_kind, seed, tmp_path):
    save, world = every_kind
    packed = replace(save, parts=[replace(part) for part in save.parts])
    codecs = [reference.RAW, reference.ZSTD, reference.LZ4]
    ways = mixed_up(reference, packed, seed, codecs)
    assert len(ways) > 12
    assert packed.flags == 8 | reference.ZSTD | reference.LZ4
    data = packed.to_bytes()
    # What the reference wrote, the reference reads: but ids in runs where a writer would use them.
    assert [packed.raw(part) for part in packed.parts] == [save.raw(part) for part in save.parts]
    path = tmp_path / "a.pecs"
    path.write_bytes(data)
    for back in (
        World.from_bytes(data),
        World.from_bytes(data, BinaryPlugin(threads=1)),
        World.from_bytes(data, BinaryPlugin(threads=3)),
        World.load(path),
        World.load_binary_stream(io.BytesIO(data)),
    ):
        assert_worlds_equal(back, world)
    assert back.validate()
    assert back.to_bytes() == world.to_bytes()
    for mmap in (False, True):
        with pecs_np.open(path, mmap=mmap) as opened:
            opened.verify()
            assert_worlds_equal(World.from_snapshot(opened.snapshot()), world)


def test_the_mixes_of_these_tests_have_every_way(reference, every_kind):
    found = set()
    for seed in range(12):
        save = replace(every_kind[0], parts=[replace(part) for part in every_kind[0].parts])
        found |= mixed_up(reference, save, seed, [reference.RAW, reference.ZSTD, reference.LZ4])
    kinds = reference.IDS, reference.COLUMN, reference.OFFSETS, reference.VALUES
    codecs = reference.ZSTD, reference.LZ4
    assert {way[:3] for way in found} == set(itertools.product(kinds, codecs, (0, 0x100, 0x200, 0x300)))
    assert {(way[0], way[3]) for way in found} == set(itertools.product(kinds, (False, True)))


@pytest.mark.parametrize("seed", range(4))
def test_sections_all_of_one_codec_need_its_flag_alone(reference, every_kind, seed):
    save = replace(every_kind[0], parts=[replace(part) for part in every_kind[0].parts])
    codec = [reference.ZSTD, reference.LZ4][seed % 2]
    mixed_up(reference, save, seed, [codec])
    assert save.flags == 8 | codec
    assert_worlds_equal(load(save), every_kind[1])


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_items_larger_than_a_mebibyte_are_read_in_chunks_of_one_or_more(reference, codec):
    size = 1 << 20
    fields = [{"name": "x", "dtype": "<u2", "shape": [size // 2 + 4]}]
    raw = np.resize(np.arange(999, dtype="<u2"), 3 * (size // 2 + 4)).tobytes()
    expected = np.frombuffer(raw, "<u2").reshape(3, -1)
    for items in (1, 2, 5):
        save = reference.make([("ReadWide", 1, fields)], [{"ids": [1, 2, 9], "columns": {"ReadWide": raw}}])
        part = save.part(reference.COLUMN, 0, "ReadWide")
        filters = reference.SHUFFLE | reference.DELTA
        save.pack(part, reference.CODECS[codec] | filters, items * (size + 8))
        assert np.array_equal(load(save).column("ReadWide")["x"], expected)


def test_references_into_compressed_ids_are_found(reference):
    ids = [(7 * i + 1) << 60 for i in range(5000)]
    refs = pack(*ids[::-1])
    save = reference.make([("ReadRef", 1, REF)], [{"ids": ids, "columns": {"ReadRef": refs}}])
    plain = load(save).to_bytes()
    save.pack(save.parts[0], reference.ZSTD | reference.SHUFFLE | reference.DELTA, 16 * 333)
    save.pack(save.parts[1], reference.LZ4 | reference.DELTA, 16 * 4999)
    world = load(save)
    assert as_ints(world.get_stable_id(world.column("ReadRef")["to"])) == ids[::-1]
    assert world.to_bytes() == plain


@pytest.mark.parametrize("ids", [[3, 0], [1, 2, 1], [2**127, 5, 2**127]])
@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_ids_that_are_0_or_stand_twice_are_refused(reference, codec, ids):
    save = point_save(reference, ids)
    save.pack(save.parts[0], reference.CODECS[codec] | reference.DELTA, 16)
    with pytest.raises(CorruptedDataError, match="stable ids"):
        load(save)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_values_that_are_none_are_found_in_compressed_sections_too(reference, codec):
    fields = [{"name": "ok", "dtype": "|b1"}, {"name": "l", "variable": "list", "dtype": "|b1"}]
    for column, flags, good in (
        (b"\0\1\1", [b"", b"\1\0", b"\1"], True),
        (b"\0\2\1", [b"", b"\1\0", b"\1"], False),
        (b"\0\1\1", [b"", b"\1\7", b"\1"], False),
    ):
        save = reference.make(
            [("ReadChecked", 1, fields)],
            [{"ids": [1, 2, 3], "columns": {"ReadChecked": (column, {"l": flags})}}],
        )
        for part in save.parts[1:]:
            save.pack(part, reference.CODECS[codec], 2 * save.item(part))
        if good:
            assert load(save).column("ReadChecked")["ok"].tolist() == [False, True, True]
        else:
            with pytest.raises(CorruptedDataError, match="row 1 of"):
                load(save)
