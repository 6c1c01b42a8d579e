"""The sections that a save is made of, checked with the independent reader."""

from __future__ import annotations

import enum
import itertools
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    ComponentValueError,
    EntityRef,
    Limits,
    World,
    component,
    component_type,
    make_component,
    unregister,
)
from pecs_np.persistence.binary import column_writer, schema
from pecs_np.testing import assert_worlds_equal


class WriterSmall(enum.IntEnum):
    A = 0
    B = 255


class WriterSigned(enum.IntEnum):
    A = -1
    B = 300


class WriterHuge(enum.IntEnum):
    A = 2**63
    B = 0


class WriterInner:
    a: np.uint8
    b: Annotated[np.float32, 2]
    to: EntityRef


class WriterOuter:
    inner: Annotated[WriterInner, 2]
    flag: bool


def bits(kind, *values):
    """Return floats given by their bits."""
    return np.array(values, f"<u{kind}").tobytes()


INTEGERS = {
    f"<{'u' if unsigned else 'i'}{size}" if size > 1 else f"|{'u' if unsigned else 'i'}1": (
        getattr(np, f"{'u' if unsigned else ''}int{8 * size}"),
        b"".join(n.to_bytes(size, "little") for n in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)),
    )
    for unsigned, size in itertools.product((False, True), (1, 2, 4, 8))
}  # fmt: skip
HALF = bits(2, 0, 0x8000, 1, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0x7D01, 0xFE55)
SINGLE = bits(4, 0, 1 << 31, 1, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7FA00001, 0xFFC12345)
DOUBLE = bits(
    8,
    0,
    1 << 63,
    1,
    0x7FEFFFFFFFFFFFFF,
    0x7FF << 52,
    0xFFF << 52,
    0x7FF8 << 48,
    0x7FF4000000000001,
    0xFFF8000000012345,
)
TIMES = bits(8, 0, 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1)  # the fourth is NaT
TEXT = "\x00\x00\x00abcé\x00\x00\U0010ffff\ud7ff\ue000\x00x\x00".encode("utf-32-le")
# What an annotation is stored as, and rows of every corner of it.
ANNOTATIONS = INTEGERS | {
    "<f2": (np.float16, HALF),
    "<f4": (np.float32, SINGLE),
    "<f8": (float, DOUBLE),
    "<i8 of int": (int, bits(8, 0, 2**63, 2**63 - 1)),
    "|b1": (bool, b"\0\1\1\0"),
    "|b1 of numpy": (np.bool_, b"\0\1"),
    "<c8": (np.complex64, SINGLE[:32]),
    "<c16": (complex, DOUBLE[:64]),
    "<U3": (Annotated[str, 3], TEXT),
    "|S4": (Annotated[bytes, 4], b"\0\0\0\0a\0\0\0\xff\xfe\0\1wxyz"),
    "|u1 of enum": (WriterSmall, b"\0\xff\0"),
    "<i2 of enum": (WriterSigned, np.array([-1, 300], "<i2").tobytes()),
    "<u8 of enum": (WriterHuge, bits(8, 0, 2**63)),
    "<M8[ns] of two": (Annotated[np.datetime64, "ns", 2], TIMES),
    "<f4 of three": (Annotated[np.float32, 3], SINGLE),
    "|b1 of two by two": (Annotated[bool, (2, 2)], b"\0\1\1\0\1\1\1\1"),
    "<U1 of two": (Annotated[str, 1, 2], "aé\0🦀".encode("utf-32-le")),
    "|u1 of enum of two": (Annotated[WriterSmall, 2], b"\0\xff\xff\0"),
}  # fmt: skip
for unit in ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "25s"]:
    ANNOTATIONS[f"<M8[{unit}]"] = (Annotated[np.datetime64, unit], TIMES)
    ANNOTATIONS[f"<m8[{unit}]"] = (Annotated[np.timedelta64, unit], TIMES)


@pytest.mark.parametrize("stored_as", ANNOTATIONS)
def test_every_annotation_is_stored_to_the_last_bit_and_comes_back(reference, define, stored_as):
    annotation, raw = ANNOTATIONS[stored_as]
    # A byte before it, so that no value is aligned.
    Value = define("WriterValue", {"before": np.uint8, "value": annotation, "rest": list[np.uint8]})
    Plain = define("WriterPlain", {"value": annotation})
    column = np.frombuffer(raw, component_type(Plain).layout.memory)
    rows = np.zeros(len(column), component_type(Value).layout.memory)
    rows["value"] = column["value"]
    rows["rest"] = [np.zeros(0, "u1")] * len(rows)
    assert len(column) > 0
    world = World(seed=1)
    world.spawn_batch(Plain.from_array(column.copy()), Value.from_array(rows))
    data = world.to_bytes()
    save = reference.read(data)
    field = save.schema["types"][0]["fields"][0]
    assert field["dtype"] == stored_as.split(" ")[0]
    assert b"".join(save.fixed(0, "WriterPlain")["value"]) == raw
    assert b"".join(save.fixed(0, "WriterValue")["value"]) == raw
    back = World.from_bytes(data)
    assert back.column(Plain)["value"].tobytes() == raw
    assert back.column(Value)["value"].tobytes() == raw
    assert back.to_bytes() == data


@component
class WriterPoint:
    x: np.float64 = 0.0


@component
class WriterTag:
    pass


@component
class WriterRef:
    before: np.uint8
    to: EntityRef
    three: Annotated[EntityRef, 3]
    outer: WriterOuter
    many: list[EntityRef]
    pairs: list[Annotated[EntityRef, 2]]
    structs: list[WriterOuter]


def test_references_are_stable_ids_at_all_depths_and_null_where_the_target_is_dead(reference):
    world = World(seed=1)
    dead, a, b = (int(e) for e in world.spawn_batch(count=3))
    world.despawn(dead)
    reborn = world.spawn()  # in the slot of the dead one
    inner = np.array([(1, (2, 3), a), (4, (5, 6), dead)], [("a", "u1"), ("b", "<f4", 2), ("to", "<u8")])
    outer = np.zeros((), [("inner", inner.dtype, 2), ("flag", "?")])
    outer["inner"] = inner
    other = outer.copy()
    other["inner"]["to"] = [reborn, 2**63]
    structs = np.array([outer, other])
    me = world.spawn(WriterRef(7, dead, [a, b, 0], outer, [b, dead, a], [[a, dead], [0, b]], structs))
    world.get(me, WriterRef).to = me
    data = world.to_bytes()
    save = reference.read(data)
    tables = [name for name in (0, 1) if save.schema["tables"][name]["types"]]
    sid = {e: world.get_stable_id(e).to_bytes(16, "little") for e in (a, b, me, reborn)}
    null = bytes(16)
    fixed = save.fixed(tables[0], "WriterRef")
    one, four = b"\1" + np.array([2, 3], "<f4").tobytes(), b"\4" + np.array([5, 6], "<f4").tobytes()
    assert fixed["to"] == [sid[me]]
    assert fixed["three"] == [sid[a] + sid[b] + null]
    assert fixed["outer"] == [one + sid[a] + four + null + b"\0"]
    assert save.pieces(tables[0], "WriterRef", "many") == [sid[b] + null + sid[a]]
    assert save.pieces(tables[0], "WriterRef", "pairs") == [sid[a] + null + null + sid[b]]
    expected = one + sid[a] + four + null + b"\0" + one + sid[reborn] + four + null + b"\0"
    assert save.pieces(tables[0], "WriterRef", "structs") == [expected]
    back = World.from_bytes(data)
    row = back.column(WriterRef)[0]
    assert back.get_stable_id(row["three"]).tolist() == world.get_stable_id(np.array([a, b, 0])).tolist()
    found = back.get_stable_id(row["structs"]["inner"]["to"].reshape(-1))
    assert [int(hi) << 64 | int(lo) for lo, hi in found.tolist()] == [
        int.from_bytes(s, "little") for s in (sid[a], null, sid[reborn], null)
    ]
    assert back.to_bytes() == data


@pytest.mark.parametrize("rows", [1, 7, 8, 15, 16, 17, 64, 700])
def test_runs_are_used_exactly_where_the_rule_says(reference, rows):
    # `read` holds the codec to the rule; here are worlds on both sides of it.
    used = set()
    for runs in {1, 2, max(1, rows // 8 - 1), max(1, rows // 8), rows // 8 + 1, rows}:
        if not 0 < runs <= rows:
            continue
        base, extra = divmod(rows, runs)
        counts = [base + (i < extra) for i in range(runs)]
        ids = [(i + 1) * 10_000 + n for i, count in enumerate(counts) for n in range(count)]
        for one_by_one in (False, True):
            world = World()
            for sid in ids if one_by_one else ():
                world.spawn_with_stable_id(sid)
            if not one_by_one:
                world.spawn_batch(count=rows, stable_ids=ids)
            save = reference.read(world.to_bytes())
            assert save.ids(0) == ids
            assert save.parts[0].codec == (reference.RUNS if runs <= max(1, rows // 8) else reference.RAW)
            used.add(save.parts[0].codec)
            assert World.from_bytes(world.to_bytes()).to_bytes() == world.to_bytes()
    assert len(used) == (1 if rows == 1 else 2)


@pytest.mark.parametrize("first", [2**64 - 5, 2**128 - 10, 1, 2**127])
def test_runs_cross_the_middle_of_an_id_and_reach_the_last_one(reference, first):
    ids = list(range(first, first + 10))
    world = World()
    world.spawn_batch(count=10, stable_ids=ids)
    save = reference.read(world.to_bytes())
    assert save.ids(0) == ids
    assert save.parts[0].codec == reference.RUNS
    back = World.from_bytes(world.to_bytes())
    assert [int(hi) << 64 | int(lo) for lo, hi in back.stable_ids().tolist()] == ids


def test_tables_are_in_the_order_of_their_types_whatever_was_first(reference):
    for order in itertools.permutations(
        ((), (WriterPoint(1),), (WriterTag(),), (WriterPoint(2), WriterTag()))
    ):
        world = World()
        for sid, components in enumerate(order, 1):
            world.spawn_with_stable_id(sid, *components)
        world.resources.insert(WriterPoint(5))
        schema = reference.read(world.to_bytes()).schema
        assert [t["types"] for t in schema["tables"] if t["role"] == "state"] == [[], [0], [0, 1], [1]]


def test_tables_without_rows_are_left_out_and_their_types_with_them(reference):
    world = World()
    gone = world.spawn(WriterTag())
    world.spawn(WriterPoint(1))
    world.despawn(gone)
    save = reference.read(world.to_bytes())
    assert [name for name, _ in save.types] == ["WriterPoint"]
    assert save.entity_count == 1


def test_equal_worlds_give_equal_bytes_however_they_came_about():
    def first():
        world = World(metadata={"b": 1, "a": 2})
        world.spawn_batch(WriterPoint(x=[1, 2, 3]), stable_ids=[1, 2, 3])
        return world

    def second():
        world = World(capacity=100, metadata={"a": 2, "b": 1})
        for sid, x in ((1, 1), (2, 2), (3, 3), (4, 9)):
            world.spawn_with_stable_id(sid, WriterTag())
            world.insert(world.get_entity_id(sid), WriterPoint(x))
        world.despawn(world.get_entity_id(4))
        world.remove(world.entities(), WriterTag)
        return world

    assert first().to_bytes() == second().to_bytes() == World.from_bytes(second().to_bytes()).to_bytes()


def test_a_second_save_shows_changes_made_in_place(reference):
    world = World(seed=1)
    world.spawn_batch(WriterPoint(x=np.arange(10_000.0)))
    before = world.to_bytes()
    assert world.to_bytes() == before
    for points in world.query(WriterPoint):
        points.x[5] = -1
    world.metadata["now"] = 1
    save = reference.read(world.to_bytes())
    assert np.frombuffer(save.part(2, 0, "WriterPoint").data)[5] == -1
    assert save.schema["world"]["metadata"] == {"now": 1}
    world.metadata.clear()
    world.version = 2
    assert reference.read(world.to_bytes()).schema["world"] == reference.read(before).schema["world"] | {
        "version": 2
    }


@pytest.mark.parametrize(("annotation", "raw"), [(bool, b"\2"), (Annotated[str, 1], b"\0\xd8\0\0"), (Annotated[str, 1], b"\0\0\x11\0"), (WriterSmall, b"\7")])  # fmt: skip
def test_bit_patterns_that_no_reader_would_accept_are_not_written(define, annotation, raw):
    Bad = define("WriterBad", {"value": annotation})
    world = World()
    fine = np.zeros(3, component_type(Bad).layout.memory)
    world.spawn_batch(Bad.from_array(fine))
    world.column(Bad)[1:2] = np.frombuffer(raw, fine.dtype)
    with pytest.raises(ComponentValueError, match=r"row 1 of WriterBad\.value"):
        world.to_bytes()


# Compression

CODECS = {"zstd": (None, -5, 1, 12), "lz4": (None, -3, 3, 12)}


COMPRESSIONS = [
    pytest.param({"compression": codec, "level": level, "shuffle": shuffle}, id=f"{codec} {level} {shuffle}")
    for codec, levels in CODECS.items()
    for level in levels
    for shuffle in (True, False)
]


def fragmented():
    """Return a world of 64 tables of a few rows, whose ids lie scattered."""
    world = World(seed=1)
    types = [
        make_component(f"WriterBit{i}", {"x": np.uint32, "to": EntityRef, "l": list[np.uint16]})
        for i in range(6)
    ]
    rng = np.random.default_rng(3)
    ids = [int(i) << 90 | 3 for i in rng.permutation(64 * 20) + 1]
    try:
        for number in range(64):
            chosen = [t for i, t in enumerate(types) if number >> i & 1]
            here = [ids.pop() for _ in range(int(rng.integers(1, 20)))]
            columns = [t(x=np.arange(len(here)), to=0, l=[[number] * 3] * len(here)) for t in chosen]
            world.spawn_batch(*columns, count=len(here), stable_ids=here)
        targets = world.entities()
        for t in types:
            for rows in world.query(t):
                rows.to[:] = rng.choice(targets, len(rows.to))
    finally:
        for t in types:
            unregister(t._type.name)
    return world


@pytest.fixture(scope="module")
def worlds(reference):
    resources = World(version=3, metadata={"a": "é" * 1000})
    for number in range(5):
        resources.spawn_with_stable_id(number * 7 + 1)
    resources.resources.insert(WriterPoint(5))
    return {
        "every kind of field": World.from_bytes(reference.sample(50).to_bytes()),
        "large ids": World.from_bytes(reference.sample(400, seed=2).to_bytes()),
        "fragmented": fragmented(),
        "resources": resources,
        "empty": World(),
    }


@pytest.mark.parametrize("options", COMPRESSIONS)
def test_compressed_saves_are_the_uncompressed_ones_section_by_section(reference, worlds, options):
    for name in ("every kind of field", "resources", "empty"):
        check_compressed(reference, worlds, name, options)


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_saves_of_fragmented_worlds_are_the_uncompressed_ones(reference, worlds, codec):
    check_compressed(reference, worlds, "fragmented", {"compression": codec, "level": None, "shuffle": True})


def check_compressed(reference, worlds, name, options):
    world = worlds[name]
    plain = world.to_bytes()
    data = {world.to_bytes(BinaryPlugin(**options, threads=threads)) for threads in (1, 2, 4)}
    assert len(data) == 1
    (data,) = data
    save = reference.read(data)
    # Registry, schema, kinds, rows and raw sections: all but codecs and stored bytes.
    assert save.plain().to_bytes() == plain
    back = World.from_bytes(data)
    assert_worlds_equal(back, world)
    assert back.to_bytes() == plain
    codec = reference.CODECS[options["compression"]]
    packed = [part for part in save.parts if part.codec not in (reference.RAW, reference.RUNS)]
    assert int.from_bytes(data[8:12], "little") == (8 | codec if packed else 8)
    assert len(packed) > 20 or name in ("resources", "empty")
    for part in packed:
        assert part.codec & 0xFF == codec
        assert len(part.data) < part.raw_size
        if not options["shuffle"]:
            assert part.codec == codec


@pytest.mark.parametrize("codec", CODECS)
def test_ids_and_offsets_are_stored_as_differences_and_numbers_shuffled(reference, worlds, codec):
    save = reference.read(worlds["large ids"].to_bytes(BinaryPlugin(compression=codec)))
    found = {}
    for part in save.parts:
        if part.codec not in (reference.RAW, reference.RUNS):
            item = save.item(part)
            found.setdefault((part.kind, item > 1), set()).add(part.codec & 0xFF00)
    both = reference.SHUFFLE | reference.DELTA
    assert found[reference.OFFSETS, True] == {both}
    assert found[reference.COLUMN, True] == {reference.SHUFFLE}
    assert found[reference.VALUES, True] == {reference.SHUFFLE}
    assert found[reference.VALUES, False] == {0}
    assert found.get((reference.IDS, True), {both}) == {both}


@pytest.mark.parametrize("options", COMPRESSIONS)
def test_runs_are_used_where_the_rule_says_compressed_or_not(reference, options):
    for rows, runs in ((1, 1), (7, 1), (7, 2), (80, 10), (80, 11), (8000, 1000), (8000, 1001)):
        starts = [0, *sorted(np.random.default_rng(rows).permutation(rows - 1)[: runs - 1] + 1)]
        ids = [n + 10 * sum(n >= s for s in starts) for n in range(rows)] if rows < 100 else []
        if not ids:
            steps = np.ones(rows, np.int64)
            steps[starts[1:]] = 11
            ids = np.cumsum(steps).tolist()
        world = World()
        world.spawn_batch(count=rows, stable_ids=ids)
        part = reference.read(world.to_bytes(BinaryPlugin(**options))).parts[0]
        assert (part.codec == reference.RUNS) is (runs <= max(1, rows // 8))


@pytest.mark.parametrize("codec", CODECS)
def test_sections_that_do_not_get_smaller_stay_raw(reference, codec):
    world = World(seed=1)
    noise = np.frombuffer(np.random.default_rng(1).bytes(8 * 5000), "<u8")
    zeros = np.zeros(5000)
    for chosen in (noise.view("<f8"), zeros):
        world = World(seed=1)
        world.spawn_batch(WriterPoint(x=chosen))
        for shuffle in (True, False):
            data = world.to_bytes(BinaryPlugin(compression=codec, shuffle=shuffle))
            save = reference.read(data)
            assert save.flags == (8 if chosen is not zeros else 8 | reference.CODECS[codec])
            if chosen is not zeros:
                assert data == world.to_bytes()
            else:
                assert save.parts[1].codec == reference.CODECS[codec] | reference.SHUFFLE * shuffle
    small = World(seed=1)
    small.spawn(WriterPoint(0.0))
    assert small.to_bytes(BinaryPlugin(compression=codec)) == small.to_bytes()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("item", [1, 3, 7, 8, 24, 1000, (1 << 20) - 1, 1 << 20, (1 << 20) + 8, 3 << 20])
def test_chunks_are_whole_items_wherever_a_mebibyte_ends(reference, define, codec, item):
    Wide = define("WriterWide", {"x": Annotated[np.uint8, item]})
    limit = max(item, (1 << 20) - (1 << 20) % item)
    whole = limit // item
    # Compressible, but by less than what makes the chunks small.
    pattern = np.random.default_rng(item).integers(0, 256, 20_000, dtype=np.uint8)
    for rows in {1, whole - 1, whole, whole + 1, 2 * whole + 1} - {0}:
        raw = np.resize(pattern, rows * item)
        raw[::997] += np.arange(len(raw[::997]), dtype=np.uint8)
        column = raw.view(component_type(Wide).layout.memory)
        world = World(seed=1)
        world.spawn_batch(Wide.from_array(column))
        world.spawn_batch(WriterTag(), count=2)
        data = world.to_bytes(BinaryPlugin(compression=codec))
        assert_worlds_equal(World.from_bytes(data), world)
        # Without the sums, which take their time.
        part = next(
            p for p in parts_without_sums(reference, data) if p.kind == reference.COLUMN and p.raw_size
        )
        if part.codec != reference.RAW:
            size, chunks = reference.chunks_of(part.data)
            assert size == limit
            assert len(chunks) == -(-rows // whole)
            assert reference.unpack(part.data, part.raw_size, item, part.codec) == raw.tobytes()
        else:
            assert part.data == raw.tobytes()


def parts_without_sums(reference, data):
    """Return the sections of a save."""
    at = data.index(b"PCOL")
    count = int.from_bytes(data[at + 24 : at + 28], "little")
    entries = reference.ENTRY.iter_unpack(data[at + 64 : at + 64 + 64 * count])
    return [reference.Part(*e[:6], e[8], data[e[6] : e[6] + e[7]]) for e in entries]


# As a reader with the default limits takes files of more than a gibibyte: the ratio counts.
RATIO = BinaryPlugin(limits=Limits(free_size=1 << 20))


@pytest.mark.parametrize("codec", CODECS)
def test_64_mebibytes_of_zeros_load_again(reference, codec):
    world = World(seed=1)
    world.spawn_batch(WriterPoint(x=np.zeros(8 << 20)))
    data = world.to_bytes(BinaryPlugin(compression=codec))
    assert len(data) < 1 << 20
    for limits in (Limits(), Limits(free_size=32 << 20)):
        back = World.from_bytes(data, BinaryPlugin(limits=limits))
        assert back.column(WriterPoint)["x"].tobytes() == bytes(64 << 20)
    part = next(p for p in parts_without_sums(reference, data) if p.kind == reference.COLUMN)
    assert reference.unpack(part.data, 64 << 20, 8, part.codec) == bytes(64 << 20)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("item", [64, 4095, 1 << 14, (1 << 14) + 1, 1 << 16, 1 << 20])
def test_what_packs_well_is_not_refused_for_it_whatever_the_items(define, codec, shuffle, item):
    # The largest are images: a gibibyte of empty ones is soon together.
    Image = define("WriterImage", {"pixels": Annotated[np.uint8, item]})
    world = World(seed=1)
    rows = (12 << 20) // item
    world.spawn_batch(Image.from_array(np.zeros(rows, component_type(Image).layout.memory)))
    data = world.to_bytes(BinaryPlugin(compression=codec, shuffle=shuffle))
    assert_worlds_equal(World.from_bytes(data, RATIO), world)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", ["text", "list", "refs", "ids"])
def test_other_sections_that_pack_well_are_not_refused_for_it(define, codec, kind):
    annotation = {"text": str, "list": list[np.float64], "refs": EntityRef, "ids": np.uint8}[kind]
    Type = define("WriterRepeated", {"value": annotation})
    value = {"text": "a" * 300, "list": np.zeros(40), "refs": 0, "ids": 0}[kind]
    rows = {"refs": 400_000, "ids": 400_000}.get(kind, 20_000)
    world = World()
    ids = [3 * i + 1 for i in range(rows)]
    column = Type(value=[value] * rows) if kind in ("text", "list") else Type(value)
    world.spawn_batch(column, count=rows, stable_ids=ids)
    data = world.to_bytes(BinaryPlugin(compression=codec))
    assert len(data) < len(world.to_bytes()) / 50
    assert_worlds_equal(World.from_bytes(data, RATIO), world)


def test_a_compressed_save_is_not_remembered_for_an_uncompressed_one(reference):
    world = World(seed=1)
    world.spawn_batch(WriterPoint(x=np.arange(10_000.0)))
    snapshot = world.snapshot()

    def saved(**options):
        return b"".join(bytes(b) for b in BinaryPlugin(**options).encode(snapshot))

    plain = saved()
    packed = saved(compression="zstd")
    assert saved() == plain == world.to_bytes()
    assert saved(compression="lz4") != packed == saved(compression="zstd")
    assert reference.read(packed).plain().to_bytes() == plain
    for points in world.query(WriterPoint):
        points.x[7] = -5
    assert saved(compression="zstd") == world.to_bytes(BinaryPlugin(compression="zstd")) != packed
    assert saved() == world.to_bytes() != plain


def test_what_many_tables_make_large_is_not_kept(define):
    names = [f"Kept{i:02d}" for i in range(10)]
    tags = [define(name, {}) for name in names]
    world = World(seed=1)
    for number in range(1, 400):
        world.spawn(*[tag() for i, tag in enumerate(tags) if number >> i & 1])
    caches = column_writer._plan, schema._document
    before = [cache.cache_info().currsize for cache in caches]
    for _ in range(3):
        world.spawn()
        assert len(World.from_bytes(world.to_bytes())) == len(world)
    assert [cache.cache_info().currsize for cache in caches] == before
