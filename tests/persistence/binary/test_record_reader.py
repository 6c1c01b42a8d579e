"""Version 1 as it is read: records in any order, types of nobody's, every way to load, everything that is refused."""

from __future__ import annotations

import enum
import io
import itertools
import mmap
import os
import random
import struct
import tracemalloc
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pecs_np
from pecs_np import (
    BinaryPlugin,
    ComponentDefinitionError,
    CorruptedDataError,
    DanglingReferenceError,
    EntityRef,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
    World,
    component,
    registered,
)
from pecs_np.testing import assert_worlds_equal

ISO = BinaryPlugin(version=1)
WE = BinaryPlugin(version=1, checksum="we")
PLUGINS = {"iso": ISO, "we": WE}
OPAQUE = "opaque bytes"


class ParsedState(enum.IntEnum):
    IDLE = 0
    RUN = 300


class ParsedLink:
    before: np.uint8
    to: EntityRef


@component
class ParsedPoint:
    x: np.float32
    y: np.float32


@component
class ParsedTag:
    pass


@component
class ParsedName:
    n: np.uint8
    name: str


@component
class ParsedMany:
    cells: list[np.uint16]
    raw: bytes


@component
class ParsedRefs:
    to: EntityRef
    links: Annotated[ParsedLink, 2]
    crew: list[EntityRef]
    ropes: list[ParsedLink]


@component
class ParsedChecked:
    on: bool
    state: ParsedState
    code: Annotated[str, 1]
    flags: list[bool]
    states: list[ParsedState]


LINK = {"before": "|u1", "to": "ref"}
KINDS = {
    "ParsedPoint": {"x": "<f4", "y": "<f4"},
    "ParsedTag": {},
    "ParsedName": {"n": "|u1", "name": "str"},
    "ParsedMany": {"cells": ["<u2"], "raw": "bytes"},
    "ParsedRefs": {"to": "ref", "links": (LINK, 2), "crew": ["ref"], "ropes": [LINK]},
    "ParsedChecked": {"on": "|b1", "state": "<u2", "code": "<U1", "flags": ["|b1"], "states": ["<u2"]},
}
VERSIONS = dict.fromkeys(KINDS, 1)


def as_ints(stable_ids):
    return [int(hi) << 64 | int(lo) for lo, hi in stable_ids.tolist()]


def as_name(data):
    return int(data[0]), data[5:].decode()


def test_the_classes_are_as_the_independent_writer_describes_them():
    for name, kinds in KINDS.items():
        assert [f.name for f in registered(name)._type.fields] == list(kinds)


# What the original Rust crate writes: ids only, no types, CRC-64/WE


@pytest.mark.parametrize("ids", [[], [1], [1, 2**64 + 5, 2**128 - 1], list(range(700, 900)), [5, 4, 3]])
def test_what_the_rust_crate_writes_is_read_and_written_again(records, ids):
    data = b"PECS" + struct.pack("<IIQI", 1, 0, len(ids), 0)
    data += b"".join(i.to_bytes(16, "little") + bytes(4) for i in ids)
    data += struct.pack("<Q", records.crc_we(data))
    world = World.from_bytes(data)
    assert as_ints(world.stable_ids()) == ids
    assert world.to_bytes(WE) == data
    assert records.parse(world.to_bytes(ISO)).entities == [(i, []) for i in ids]
    expected = World()
    expected.spawn_batch(count=len(ids), stable_ids=ids)
    assert_worlds_equal(world, expected)


def test_ids_of_the_rust_crate_may_have_types_added(records):
    world = World.from_bytes(records.make({}, [(3, []), (9, [])], "we").to_bytes())
    world.insert(world.get_entity_id(9), ParsedName(1, "é"))
    new = world.spawn(ParsedTag())
    assert world.get_stable_id(new) not in (0, 3, 9)
    found = records.read(world.to_bytes(WE))
    assert found.entities[:2] == [(3, []), (9, [("ParsedName", b"\1\2\0\0\0\xc3\xa9")])]


# Records in any order


def data_for(records, name, n):
    """Return the data of the *n*-th record of a type, lengths varying with n."""
    values = {
        "ParsedPoint": (n, -n),
        "ParsedTag": (),
        "ParsedName": (n % 256, "é" * (n % 3) + "n" * (n % 2)),
        "ParsedMany": (range(n % 4), bytes([n % 256]) * (n % 5)),
    }
    if name in values:
        return records.data_of(KINDS[name], values[name])
    # Types without a class: of one size, of two, empty.
    return {"Parsed.A": struct.pack("<I", n), "Parsed.B": bytes([n % 256]) * (n % 2), "Parsed.C": b""}[name]


UNKNOWN = {"Parsed.A": 7, "Parsed.B": 1, "Parsed.C": 2**32 - 1}
# Those of one size first.
ARCHETYPES = [
    ("ParsedPoint",),
    (),
    ("ParsedTag",),
    ("ParsedTag", "ParsedPoint"),
    ("Parsed.A", "Parsed.C", "ParsedPoint"),
    ("ParsedName",),
    ("ParsedMany", "ParsedName", "Parsed.B"),
    ("Parsed.B",),
    ("ParsedPoint", "ParsedName", "ParsedTag"),
]


def file_of(records, archetypes, order=lambda components, n: components, first_id=1):
    """Return a file with one record for each of *archetypes*, numbers of `ARCHETYPES`."""
    entities = []
    for n, archetype in enumerate(archetypes):
        components = [(name, data_for(records, name, n)) for name in ARCHETYPES[archetype]]
        entities.append((first_id + n, order(components, n)))
    return records.make(VERSIONS | UNKNOWN, entities)


def check(file):
    """Load *file* and check that the world holds its records, those of an archetype in their order."""
    world = World.from_bytes(file.to_bytes())
    canonical = file.canonical()
    assert world.to_bytes(ISO)[:-8] == canonical.content()
    assert as_ints(world.stable_ids()) == [stable_id for stable_id, _ in canonical.entities]
    return world


def spawned(file):
    """Return the world that a program would make which knows what *file* says."""
    world = World()
    makers = {
        "ParsedPoint": lambda data: ParsedPoint(*struct.unpack("<ff", data)),
        "ParsedTag": lambda data: ParsedTag(),
        "ParsedName": lambda data: ParsedName(*as_name(data)),
    }
    for stable_id, components in file.entities:
        world.spawn_with_stable_id(stable_id, *[makers[name](data) for name, data in components])
    return world


def reversed_if_odd(components, n):
    return components[::-1] if n % 2 else components


def rotated(components, n):
    return components[n % 3 :] + components[: n % 3]


ORDERS = {"as given": lambda components, n: components, "reversed": reversed_if_odd, "rotated": rotated}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [2, 31, 1500])
def test_interleaved_archetypes_are_sorted_out(records, count, order):
    file = file_of(records, [(n * n) % len(ARCHETYPES) for n in range(count)], ORDERS[order])
    check(file)
    check(file_of(records, [n % len(ARCHETYPES) for n in range(count)], ORDERS[order]))


def test_interleaved_records_are_the_world_that_would_be_spawned(records):
    chosen = [0, 1, 2, 3, 5, 8]
    file = file_of(records, [chosen[n % 5 + n % 2] for n in range(200)], rotated)
    world = check(file)
    assert_worlds_equal(world, spawned(file))
    assert world.validate()


@pytest.mark.parametrize("count", [1, 15, 16, 17, 8191, 8192, 8193, 16_400])
def test_runs_of_any_length_in_one_archetype(records, count):
    assert len(check(file_of(records, [3] * count))) == count


@pytest.mark.parametrize("run", [14, 15, 16, 17, 31, 32, 33, 100])
@pytest.mark.parametrize("odd", [1, 2, 16])
def test_runs_broken_by_odd_records_in_a_regular_pattern(records, run, odd):
    rounds = 1 + 2500 // (run + odd)
    check(file_of(records, ([0] * run + [3] * odd) * rounds))
    check(file_of(records, ([1] * run + [6] * odd) * 5))


@pytest.mark.parametrize(
    "lengths",
    [
        (8192, 1, 8192),
        (8200, 1, 20, 1, 8191),
        (1, 8193, 1),
        (15, 1025, 1, 1023, 16),
        (1023, 1, 1, 1024, 1, 2048),
        (16, 15, 16, 15, 3000),
        (5000, 1, 1, 1, 1, 1, 5000),
    ],
)
@pytest.mark.parametrize("kinds", [(1, 2), (2, 7)])
def test_long_runs_broken_by_odd_records(records, lengths, kinds):
    archetypes = [
        kind for kind, length in zip(itertools.cycle(kinds), lengths, strict=False) for _ in range(length)
    ]
    check(file_of(records, archetypes))


def test_one_archetype_whose_lengths_and_orders_vary(records):
    rng = random.Random(1)

    def shuffled(components, _):
        return rng.sample(components, len(components))

    check(file_of(records, [6] * 3000, shuffled))
    check(file_of(records, [8] * 40 + [6] * 40 + [8] * 40, shuffled))


def test_a_run_whose_components_change_their_order_is_one_table(records):
    file = file_of(records, [3] * 400, lambda components, n: components[:: 1 if n < 200 else -1])
    assert len(check(file).snapshot().tables) == 1
    assert_worlds_equal(World.from_bytes(file.to_bytes()), spawned(file))


def test_many_short_runs_go_on_for_long(records):
    # Long enough for every step by which more records are walked at a time.
    check(file_of(records, [1, 2] * 34_000 + [1] * 20))


def peak_of_loading(data):
    tracemalloc.start()
    try:
        World.from_bytes(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [16, 256, 4096, 8192])
@pytest.mark.parametrize("known", [False, True])
def test_records_that_do_not_stand_in_runs_take_no_more_memory_than_others(records, define, size, known):
    if known:
        define("Parsed.Cells", {"cells": Annotated[np.uint8, size]})
    rows = 3 + (1 << 17) // (size + 36)
    components = [("Parsed.Cells", bytes(size))]
    entities = [(n + 1, components if n % 3 else []) for n in range(rows * 3 // 2)]
    file = records.make({"Parsed.Cells": 1}, entities)
    data = file.to_bytes()
    peak_of_loading(data)
    # Places and sizes of short records take more than the records themselves, but not beyond all bounds.
    size, usual = len(data), peak_of_loading(file.canonical().to_bytes())
    peak = peak_of_loading(data)
    assert peak < usual + 8 * size


def test_as_many_archetypes_as_records(records):
    names = [f"Parsed.{i:02}" for i in range(12)]
    entities = []
    for n in range(1, 700):
        chosen = [name for i, name in enumerate(names) if n >> i & 1]
        entities.append((n, [(name, bytes([n % 256])) for name in (chosen if n % 2 else chosen[::-1])]))
    check(records.make(dict.fromkeys(names, 1), entities))


segments = st.lists(
    st.tuples(
        st.integers(0, len(ARCHETYPES) - 1),
        st.integers(1, 3) | st.integers(14, 18) | st.sampled_from([31, 32, 33, 64, 130]),
        st.sampled_from(sorted(ORDERS)),
    ),
    max_size=10,
)


@given(segments=segments, first_id=st.sampled_from([1, 2**64 - 40, 2**128 - 1400]), we=st.booleans())
def test_runs_and_odd_records_in_any_order(records, segments, first_id, we):
    entities, versions = [], VERSIONS | UNKNOWN
    for archetype, count, order in segments:
        for _ in range(count):
            n = len(entities)
            components = [(name, data_for(records, name, n)) for name in ARCHETYPES[archetype]]
            entities.append((first_id + n, ORDERS[order](components, n)))
    check(records.make(versions, entities, "we" if we and len(entities) < 50 else "iso"))


@given(data=st.data())
def test_any_records_of_any_data_in_any_order(records, data):
    names = ["Parsed.a", "Parsed.é", "Parsed.\U0001f980", "ParsedPoint"]
    sizes = {name: data.draw(st.sampled_from([None, 0, 1, 5])) for name in names} | {"ParsedPoint": 8}
    ids = data.draw(st.lists(st.integers(1, 2**128 - 1) | st.integers(1, 50), unique=True, max_size=60))
    entities = []
    for stable_id in ids:
        components = []
        for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
            size = sizes[name]
            bounds = (0, 4) if size is None else (size, size)
            components.append((name, data.draw(st.binary(min_size=bounds[0], max_size=bounds[1]))))
        entities.append((stable_id, components))
    check(records.make(dict.fromkeys(names, 1), entities))


# Ids and rows


@pytest.mark.parametrize("pattern", ["grouped", "interleaved"])
@pytest.mark.parametrize(
    "ids",
    [
        [5 + i for i in range(300)],
        [(7 << 64) - 150 + i for i in range(300)],
        [2**128 - 300 + i for i in range(300)],
        [1 + 3 * i for i in range(300)],
        [300 - i for i in range(300)],
        [(i % 10 << 64) + 1 + i // 10 for i in range(300)],
        [1 + i + (i // 20 << 70) for i in range(300)],
        [random.Random(i).getrandbits(128) for i in range(300)],
        [i % 2 << 64 | 2**64 - 1 - i for i in range(300)],
    ],
)
def test_stable_ids_keep_their_order_within_an_archetype(records, ids, pattern):
    kinds = [n * 2 // 300 if pattern == "grouped" else n % 3 % 2 for n in range(300)]
    entities = [(i, [("ParsedTag", b"")] if kind else []) for i, kind in zip(ids, kinds, strict=True)]
    world = check(records.make(VERSIONS, entities))
    expected = World()
    for kind, parts in ((0, ()), (1, (ParsedTag(),))):
        chosen = [i for i, k in zip(ids, kinds, strict=True) if k == kind]
        expected.spawn_batch(*parts, count=len(chosen), stable_ids=chosen)
    assert_worlds_equal(world, expected)
    assert world.validate()
    assert [world.get_stable_id(world.get_entity_id(i)) for i in ids] == ids
    assert world.to_bytes() == World.from_bytes(world.to_bytes()).to_bytes()


def test_rows_of_a_column_stand_in_the_order_of_the_file(records):
    file = file_of(records, [0, 3, 0, 5, 5, 0, 3, 0])
    world = World.from_bytes(file.to_bytes())
    assert [column["x"].tolist() for column in world.columns(ParsedPoint)] == [[0, 2, 5, 7], [1, 6]]
    assert [column["n"].tolist() for column in world.columns(ParsedName)] == [[3, 4]]
    assert as_ints(world.stable_ids()) == [4, 5, 1, 3, 6, 8, 2, 7]


@pytest.mark.parametrize("count", [16, 40, 9000])
def test_ids_that_wrap_around_to_0_are_refused(records, count):
    # As differences of 128 bits they are all 1.
    ids = [(2**128 - count // 2 + i) % 2**128 for i in range(count)]
    with pytest.raises(CorruptedDataError, match="other than 0"):
        World.from_bytes(records.make({}, [(i, []) for i in ids]).to_bytes())


@pytest.mark.parametrize("place", [0, 1, 7, 19, 20])
@pytest.mark.parametrize("bad", ["0", "twice"])
@pytest.mark.parametrize("kinds", [(0, 0), (0, 1)])
def test_ids_that_are_0_or_stand_twice_are_refused(records, place, bad, kinds):
    ids = list(range(10, 31))
    ids[place] = 0 if bad == "0" else ids[(place + 10) % 21]
    entities = [(i, [("ParsedTag", b"")] if kinds[n % 2] else []) for n, i in enumerate(ids)]
    file = records.make(VERSIONS, entities)
    with pytest.raises(records.Broken):
        records.parse(file.to_bytes())
    with pytest.raises(CorruptedDataError, match="other than 0" if bad == "0" else "distinct stable ids"):
        World.from_bytes(file.to_bytes())


# References


def refs(records, to, links=(0, 0), crew=(), ropes=()):
    values = to, [(1, links[0]), (2, links[1])], crew, [(3, rope) for rope in ropes]
    return "ParsedRefs", records.data_of(KINDS["ParsedRefs"], values)


def test_references_find_their_targets_wherever_they_stand(records):
    far = 2**127 + 5
    entities = [
        (10, [refs(records, 12, (10, far), [11, 0, 10], [far])]),  # later ones, itself, another archetype
        (far, []),
        (11, [refs(records, 0, (0, 10), [], [0, 12])]),
        (12, [("ParsedTag", b""), refs(records, far, (far, far), [far] * 3)]),
    ]
    file = records.make(VERSIONS, entities)
    world = check(file)
    of = {i: world.get_entity_id(i) for i in (10, 11, 12, far)} | {0: 0}
    first = world.get(of[10], ParsedRefs)
    assert first.to == of[12]
    assert first["links"]["to"].tolist() == [of[10], of[far]]
    assert first.crew.tolist() == [of[11], 0, of[10]]
    assert first.ropes["to"].tolist() == [of[far]]
    assert world.get(of[11], ParsedRefs).ropes["to"].tolist() == [0, of[12]]
    assert world.get(of[12], ParsedRefs).crew.tolist() == [of[far]] * 3
    assert_worlds_equal(World.from_bytes(world.to_bytes()), world)


@pytest.mark.parametrize("where", ["to", "links", "crew", "ropes"])
@pytest.mark.parametrize("target", [9, 2**64 + 10, 2**128 - 1])
def test_references_to_nobody_are_refused(records, where, target):
    values = {"to": 10, "links": (10, 11), "crew": [10, 0, 11], "ropes": [11]}
    good = records.make(VERSIONS, [(10, [refs(records, **values)]), (11, [])])
    assert len(World.from_bytes(good.to_bytes())) == 2
    values[where] = target if where == "to" else [*values[where][:1], target]
    bad = records.make(VERSIONS, [(10, [refs(records, **values)]), (11, [])])
    with pytest.raises(DanglingReferenceError, match=f"{target:032x}"):
        World.from_bytes(bad.to_bytes())


# Types without a class


def opaque_file(records, checksum="iso"):
    rng = random.Random(2)
    entities = []
    for n in range(60):
        components = [("Fixed", rng.randbytes(11))]
        if n % 7 == 0:
            components.append(("Large", rng.randbytes(4097 if n % 2 else 5000)))
        if n % 3:
            components.append(("Varying", rng.randbytes(n % 7)))
        if n % 5 == 0:
            components.append(("Empty", b""))
        if n % 8 == 0:
            components.append(("Largest fixed", rng.randbytes(4096)))
        if n % 12 == 0:
            components.append(("Same but large", rng.randbytes(9000)))
        entities.append((2**70 + 3 * n, components if n % 10 else []))
    names = {
        "Fixed": 3,
        "Large": 1,
        "Varying": 0,
        "Empty": 9,
        "Largest fixed": 1,
        "Same but large": 2**32 - 1,
    }
    return records.make(names, entities[: 9 if checksum == "we" else None], checksum)


@pytest.mark.parametrize("checksum", ["iso", "we"])
def test_types_without_a_class_are_saved_back_byte_for_byte(records, tmp_path, checksum):
    file, plugin = opaque_file(records, checksum), PLUGINS[checksum]
    canonical = file.canonical().to_bytes()
    world = World.from_bytes(file.to_bytes())
    assert world.to_bytes(plugin) == canonical
    assert World.from_bytes(canonical).to_bytes(plugin) == canonical
    # Through version 2, packed and not, and through a copy.
    world.save(tmp_path / "two.pecs")
    assert World.load(tmp_path / "two.pecs").to_bytes(plugin) == canonical
    with pecs_np.open(tmp_path / "two.pecs") as save:
        assert World.from_snapshot(save.snapshot()).to_bytes(plugin) == canonical
    assert World.from_snapshot(world.snapshot(copy=True)).to_bytes(plugin) == canonical
    assert_worlds_equal(World.from_bytes(canonical), World.from_bytes(world.to_bytes()))
    # Through version 2 and back twice.
    again = World.from_bytes(World.from_bytes(world.to_bytes()).to_bytes(plugin))
    assert again.to_bytes() == world.to_bytes()


def test_types_without_a_class_survive_a_compressed_save(records):
    file = opaque_file(records)
    world = World.from_bytes(file.to_bytes())
    for codec in ("zstd", "lz4"):
        packed = World.from_bytes(world.to_bytes(BinaryPlugin(compression=codec)))
        assert packed.to_bytes(ISO) == file.canonical().to_bytes()


def test_opaque_data_are_columns_of_bytes_or_bytes(records):
    world = World.from_bytes(opaque_file(records).to_bytes())
    fixed = world.column("Fixed")
    assert fixed.dtype == np.dtype([(OPAQUE, "u1", (11,))])
    assert world.column("Largest fixed").dtype == np.dtype([(OPAQUE, "u1", (4096,))])
    assert world.column("Empty").dtype == np.dtype([])
    for name in ("Varying", "Large", "Same but large"):
        assert world.column(name).dtype == np.dtype([(OPAQUE, object)])
        assert {type(value) for value in world.column(name)[OPAQUE]} == {bytes}
    file = opaque_file(records).canonical()
    for name in ("Fixed", "Varying", "Large", "Largest fixed", "Same but large"):
        rows = world.column(name)[OPAQUE]
        assert [row if isinstance(row, bytes) else row.tobytes() for row in rows] == file.column(name)
    assert [(t.name, t.version) for t in world.snapshot().types] == file.types
    assert world.validate()


@pytest.mark.parametrize("sizes", [(3, 3), (3, 4), (0, 0), (0, 1), (4096, 4096), (4097, 4097), (4096, 4097)])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("count", [1, 40])
def test_what_opaque_data_become_depends_on_all_records_of_the_file(records, sizes, apart, count):
    entities = []
    for n in range(2 * count):
        second = n >= count
        more = [("ParsedTag", b"")] if apart and second else []
        entities.append((n + 1, [("Parsed.A", bytes([n]) * sizes[second]), *more]))
    world = check(records.make(VERSIONS | {"Parsed.A": 1}, entities))
    dtype = world.snapshot().column("Parsed.A").dtype
    if sizes[0] == sizes[1] == 0:
        assert dtype == np.dtype([])
    elif sizes[0] == sizes[1] <= 4096:
        assert dtype == np.dtype([(OPAQUE, "u1", (sizes[0],))])
    else:
        assert dtype == np.dtype([(OPAQUE, object)])
    assert World.from_bytes(world.to_bytes()).to_bytes(ISO) == world.to_bytes(ISO)


def test_opaque_components_can_be_used_by_name(records):
    file = records.make(
        {"Fixed": 3, "Varying": 1},
        [(1, [("Fixed", b"abc"), ("Varying", b"x")]), (2, [("Fixed", b"def")]), (3, [("Varying", b"")])],
    )
    world = World.from_bytes(file.to_bytes())
    one, two, three = (world.get_entity_id(i) for i in (1, 2, 3))
    world.get(two, "Fixed")[OPAQUE] = np.frombuffer(b"DEF", np.uint8)
    world.get(three, "Varying")[OPAQUE] = b"longer"
    world.insert(three, world.get(one, "Fixed"))
    world.remove(one, "Varying")
    expected = [(2, b"DEF"), (1, b"abc")]
    found = records.read(world.to_bytes(ISO)).entities
    assert sorted(found[:2]) == sorted((i, [("Fixed", data)]) for i, data in expected)
    assert found[2:] == [(3, [("Fixed", b"abc"), ("Varying", b"longer")])]


def test_a_class_takes_the_place_of_opaque_data(records, define):
    data = records.make({"Parsed.Late": 2}, [(1, [("Parsed.Late", struct.pack("<if", 5, 0.5))])]).to_bytes()
    opaque = World.from_bytes(data)
    stored = opaque.to_bytes()
    Late = define("Parsed.Late", {"n": np.int32, "x": np.float32}, version=2)
    world = World.from_bytes(data)
    assert world.get(world.get_entity_id(1), Late).n == 5
    assert world.to_bytes(ISO) == opaque.to_bytes(ISO) == data
    # In version 2 the fields are named, and they are not those of the class.
    with pytest.raises(ComponentDefinitionError, match="opaque bytes"):
        World.from_bytes(stored)


def test_types_with_a_class_pass_through_version_2(records):
    file = file_of(records, [n % len(ARCHETYPES) for n in range(100)], rotated)
    world = World.from_bytes(file.to_bytes())
    assert World.from_bytes(world.to_bytes()).to_bytes(ISO) == file.canonical().to_bytes()


def test_a_transient_class_does_not_stop_a_file_that_has_the_type(records, define):
    Hidden = define("Parsed.Hidden", {"n": np.uint8}, transient=True)
    world = World.from_bytes(records.make({"Parsed.Hidden": 1}, [(4, [("Parsed.Hidden", b"\7")])]).to_bytes())
    assert world.get(world.get_entity_id(4), Hidden).n == 7
    assert world.to_bytes(ISO) == records.make({}, [(4, [])]).to_bytes()


# Types that differ from their class


@pytest.mark.parametrize("version", [0, 1, 3, 2**32 - 1])
@pytest.mark.parametrize("count", [1, 50])
def test_another_version_of_a_type_is_refused(records, define, version, count):
    define("Parsed.Versioned", {"n": np.uint8}, version=2)
    entities = [(i + 1, [("Parsed.Versioned", b"\7")]) for i in range(count)]
    assert len(World.from_bytes(records.make({"Parsed.Versioned": 2}, entities).to_bytes())) == count
    with pytest.raises(UnsupportedVersionError, match=r"Parsed\.Versioned.*found version") as error:
        World.from_bytes(records.make({"Parsed.Versioned": version}, entities).to_bytes())
    assert (error.value.found, error.value.expected) == (version, 2)


def test_a_type_that_no_record_has_does_not_matter(records, define):
    define("Parsed.Versioned", {"n": np.uint8}, version=2)
    types = {"Parsed.Versioned": 1, "ParsedTag": 1}
    world = World.from_bytes(records.make(types, [(1, [("ParsedTag", b"")])]).to_bytes())
    assert records.read(world.to_bytes(ISO)).types == [("ParsedTag", 1)]
    assert len(World.from_bytes(records.make(types, []).to_bytes())) == 0


@pytest.mark.parametrize("size", [0, 7, 9, 16, 1000])
@pytest.mark.parametrize("place", [0, 20, 39, None])
def test_data_of_another_size_than_the_class_has_are_refused(records, size, place):
    entities = [(i + 1, [("ParsedPoint", bytes(size if place in (i, None) else 8))]) for i in range(40)]
    with pytest.raises(
        ComponentDefinitionError, match=rf"expected 8 bytes as <component ParsedPoint v1.*found {size}\b"
    ):
        World.from_bytes(records.make(VERSIONS, entities).to_bytes())


def test_data_where_the_class_has_no_fields_are_refused(records):
    with pytest.raises(ComponentDefinitionError, match="expected 0 bytes as <component ParsedTag"):
        World.from_bytes(records.make(VERSIONS, [(1, [("ParsedTag", b"x")])]).to_bytes())


def test_an_older_backup_does_not_take_the_place_of_a_save_whose_class_has_changed(records, define, tmp_path):
    path = tmp_path / "game.pecs"
    define("Parsed.Grown", {"n": np.uint8})
    for stable_id in (1, 2):
        save = records.make({"Parsed.Grown": 1}, [(stable_id, [("Parsed.Grown", bytes(stable_id))])])
        (path if stable_id == 2 else tmp_path / "game.pecs.bak").write_bytes(save.to_bytes())
    with pytest.raises(ComponentDefinitionError, match=r"expected 1 bytes as <component Parsed\.Grown"):
        World.load(path, backup=True)


@pytest.mark.parametrize("wrong", ["Parsed.Grown", "Parsed.Longer", "Parsed.Newer"])
def test_an_opened_save_shows_as_bytes_what_a_class_here_does_not_fit(records, define, tmp_path, wrong):
    types = {"Parsed.Grown": 1, "Parsed.Longer": 1, "Parsed.Newer": 1}
    data = {"Parsed.Grown": b"\7", "Parsed.Longer": b"\2\0\0\0ab", "Parsed.Newer": b"\5\0"}
    save = records.make(types, [(i + 1, list(data.items())) for i in range(40)])
    (tmp_path / "a").write_bytes(save.to_bytes())
    define("Parsed.Grown", {"n": np.uint16 if wrong == "Parsed.Grown" else np.uint8})
    define("Parsed.Longer", {"n": list[np.uint32] if wrong == "Parsed.Longer" else str})
    define("Parsed.Newer", {"n": np.int16}, version=1 + (wrong == "Parsed.Newer"))
    good = {"Parsed.Grown": [7] * 40, "Parsed.Longer": ["ab"] * 40, "Parsed.Newer": [5] * 40}
    with pecs_np.open(tmp_path / "a") as opened:
        opened.verify()
        assert [t.name for t in opened.types] == sorted(types)
        for name in types:
            if name == wrong:
                found = opened[name][OPAQUE]
                assert found.shape == (40, len(data[name]))
                assert bytes(found[3]) == data[name]
                assert opened.column(name, OPAQUE).shape == found.shape
            else:
                assert opened[name]["n"].tolist() == good[name]
                assert len(World.from_snapshot(opened.snapshot(types=[name]))) == 40
        if wrong == "Parsed.Newer":
            # What migrations start from.
            assert [t.version for t in opened.snapshot().types] == [1, 1, 1]
        else:
            with pytest.raises(ComponentDefinitionError, match=wrong):
                opened.snapshot()
    with pytest.raises((ComponentDefinitionError, UnsupportedVersionError), match=wrong):
        World.load(tmp_path / "a")


def test_limits_on_a_row_hold_for_what_a_class_does_not_fit(records, define, tmp_path):
    define("Parsed.Grown", {"n": np.uint8})
    save = records.make({"Parsed.Grown": 1}, [(1, [("Parsed.Grown", bytes(900))])])
    (tmp_path / "a").write_bytes(save.to_bytes())
    opened = pecs_np.open(tmp_path / "a", limits=Limits(itemsize=899))
    with opened, pytest.raises(LimitExceededError, match="at most 899 bytes a row"):
        opened["Parsed.Grown"]


def test_records_that_do_not_fit_their_class_are_refused_before_columns_are_made(records, define):
    define("Parsed.Grown", {"n": Annotated[np.uint8, 1 << 22]})
    save = records.make({"Parsed.Grown": 1}, [(i + 1, [("Parsed.Grown", b"\7")]) for i in range(50)])
    tracemalloc.start()
    try:
        with pytest.raises(ComponentDefinitionError, match="found 1 in its records"):
            World.from_bytes(save.to_bytes())
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


LENGTH = struct.Struct("<I").pack
BAD_VARIABLE = {
    "nothing": ("ParsedName", b""),
    "less than what is fixed": ("ParsedRefs", bytes(49)),
    "no length": ("ParsedName", b"\1"),
    "half a length": ("ParsedName", b"\1\0\0\0"),
    "a length beyond the data": ("ParsedName", b"\1" + LENGTH(3) + b"ab"),
    "a length of 4 GiB": ("ParsedName", b"\1" + LENGTH(2**32 - 1) + b"ab"),
    "a length of 2 GiB": ("ParsedName", b"\1" + LENGTH(2**31) + b"ab"),
    "bytes left over": ("ParsedName", b"\1" + LENGTH(2) + b"abc"),
    "no second length": ("ParsedMany", LENGTH(2) + b"ab"),
    "half a second length": ("ParsedMany", LENGTH(2) + b"ab" + b"\0\0\0"),
    "a first length that takes the second": ("ParsedMany", LENGTH(6) + b"ab" + LENGTH(0)),
    "a second length beyond the data": ("ParsedMany", LENGTH(2) + b"ab" + LENGTH(4) + b"cde"),
    "half an element": ("ParsedMany", LENGTH(3) + b"abc" + LENGTH(0)),
    "half a reference": ("ParsedRefs", bytes(50) + LENGTH(8) + bytes(8) + LENGTH(0)),
    "half a struct": ("ParsedRefs", bytes(50) + LENGTH(0) + LENGTH(16) + bytes(16)),
}


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("what", BAD_VARIABLE)
def test_variable_lengths_that_do_not_add_up_are_refused(records, what, count):
    name, bad = BAD_VARIABLE[what]
    good = {
        "ParsedName": b"\1" + LENGTH(2) + b"ab",
        "ParsedMany": LENGTH(2) + b"ab" + LENGTH(1) + b"c",
        "ParsedRefs": bytes(50) + LENGTH(0) + LENGTH(0),
    }[name]
    entities = [(i + 1, [(name, good)]) for i in range(count)]
    assert len(World.from_bytes(records.make(VERSIONS, entities).to_bytes())) == count
    for place in {0, count // 2, count - 1}:
        damaged = list(entities)
        damaged[place] = (place + 1, [(name, bad)])
        wanted = rf"as <component {name} v1 .*in its records in <bytes>"
        with pytest.raises(ComponentDefinitionError, match=wanted):
            World.from_bytes(records.make(VERSIONS, damaged).to_bytes())


GOOD_CHECKED = (True, 300, "a", [True, False], [0, 300])
BAD_CHECKED = {
    "on": (0, b"\2"),
    "state": (1, b"\1\0"),
    "code": (3, struct.pack("<I", 0x110000)),
    "a surrogate": (3, struct.pack("<I", 0xD800)),
    "flags": (7 + 4, b"\3"),
    "states": (7 + 4 + 2 + 4, b"\x2d\1"),
}


@pytest.mark.parametrize("place", [0, 17])
@pytest.mark.parametrize("what", BAD_CHECKED)
def test_bit_patterns_that_are_no_value_are_refused(records, what, place):
    good = records.data_of(KINDS["ParsedChecked"], GOOD_CHECKED)
    at, raw = BAD_CHECKED[what]
    entities = [(i + 1, [("ParsedChecked", good)]) for i in range(20)]
    world = check(records.make(VERSIONS, entities))
    assert world.get(world.get_entity_id(1), ParsedChecked).states.tolist() == [0, 300]
    entities[place] = (place + 1, [("ParsedChecked", good[:at] + raw + good[at + len(raw) :])])
    with pytest.raises(CorruptedDataError, match=f"row {place}"):
        World.from_bytes(records.make(VERSIONS, entities).to_bytes())


@pytest.mark.parametrize("texts", [(b"\xff",), (b"\xed\xa0\x80",), (b"\xc3", b"\xa9"), (b"a", b"\xf0\x9f")])
def test_texts_that_are_not_utf8_are_refused(records, texts):
    entities = [(i + 1, [("ParsedName", b"\0" + LENGTH(len(raw)) + raw)]) for i, raw in enumerate(texts)]
    with pytest.raises(CorruptedDataError, match="in the records of 'ParsedName'"):
        World.from_bytes(records.make(VERSIONS, entities).to_bytes())


# Structural damage under a right sum


def damaged(records, count, change):
    """Return the content of a file of *count* entities, and with *change* made to it, signed."""
    entities = [
        (i + 1, [("ParsedPoint", struct.pack("<ff", i, 0)), ("Parsed.A", b"abc")]) for i in range(count)
    ]
    file = records.make({"Parsed.A": 1, "ParsedPoint": 1}, entities)
    content = bytearray(file.content())
    body = len(content) - count * 71
    change(content, body)
    return records.signed(bytes(content))


def put(offset, form, *values):
    def change(content, body):
        struct.pack_into("<" + form, content, offset(content, body), *values)

    return change


def header(at):
    return lambda content, body: at


def first_record(at):
    return lambda content, body: body + at


def last_record(at):
    return lambda content, body: len(content) - 71 + at


def cut(count):
    def change(content, body):
        del content[-count:]

    return change


def grow(data):
    def change(content, body):
        content.extend(data)

    return change


def same_type_twice(content, body):
    content[-71 + 48 : -71 + 64] = content[-71 + 20 : -71 + 36]


# What is changed, and the error where the file has 1 entity and where it has 40.
DAMAGE = {
    "magic": (put(header(0), "4s", b"PECX"), InvalidFormatError, "begins with"),
    "version 0": (put(header(4), "I", 0), UnsupportedVersionError, "version 0"),
    "version 3": (put(header(4), "I", 3), UnsupportedVersionError, "version 3"),
    "flag 1": (put(header(8), "I", 1), InvalidFormatError, "expected flags 0"),
    "flag 8": (put(header(8), "I", 8), InvalidFormatError, "expected flags 0"),
    "flag 31": (put(header(8), "I", 1 << 31), InvalidFormatError, "expected flags 0"),
    "no entities": (put(header(12), "Q", 0), InvalidFormatError, "before it"),
    "2**32 entities": (put(header(12), "Q", 2**32), CorruptedDataError, "entities"),
    "2**63 entities": (put(header(12), "Q", 2**63), CorruptedDataError, "entities"),
    "2**64 - 1 entities": (put(header(12), "Q", 2**64 - 1), CorruptedDataError, "entities"),
    "no types": (put(header(20), "I", 0), PersistenceError, None),
    "one type less": (put(header(20), "I", 1), PersistenceError, None),
    "one type more": (put(header(20), "I", 3), PersistenceError, None),
    "2**32 - 1 types": (put(header(20), "I", 2**32 - 1), LimitExceededError, "types"),
    "type id in the registry": (put(header(24), "Q", 1), InvalidFormatError, "expected type id"),
    "length of a name": (put(header(40), "I", 2**32 - 1), PersistenceError, None),
    "no components": (put(first_record(16), "I", 0), PersistenceError, None),
    "one component less": (put(first_record(16), "I", 1), PersistenceError, None),
    "one component more": (put(last_record(16), "I", 3), PersistenceError, None),
    "2**31 components": (put(last_record(16), "I", 2**31), PersistenceError, None),
    "2**32 - 1 components": (put(first_record(16), "I", 2**32 - 1), PersistenceError, None),
    "unknown type id first": (put(first_record(20), "QQ", 1, 2), InvalidFormatError, "a type id of the registry"),
    "unknown type id last": (put(last_record(48), "QQ", 1, 2), InvalidFormatError, "a type id of the registry"),
    "a type twice": (same_type_twice, InvalidFormatError, "each type once"),
    "data one shorter": (put(first_record(36), "I", 2), PersistenceError, None),
    "data one longer": (put(first_record(36), "I", 4), PersistenceError, None),
    "data to the end": (put(last_record(64), "I", 8), CorruptedDataError, "beyond the end"),
    "data beyond the end": (put(last_record(64), "I", 2**31 - 1), CorruptedDataError, "beyond the end"),
    "data of 4 GiB": (put(first_record(36), "I", 2**32 - 1), CorruptedDataError, "beyond the end"),
    "one byte cut off": (cut(1), CorruptedDataError, "beyond the end"),
    "a component cut off": (cut(71 - 43), CorruptedDataError, "beyond the end"),
    "all but a head cut off": (cut(71 - 20), CorruptedDataError, "beyond the end"),
    "half a head left": (cut(71 - 10), CorruptedDataError, None),
    "a record cut off": (cut(71), CorruptedDataError, None),
    "one byte more": (grow(b"\0"), InvalidFormatError, "found 1 bytes before it"),
    "another sum": (grow(bytes(8)), InvalidFormatError, "found 8 bytes before it"),
    "an entity more": (grow(struct.pack("<QQI", 999, 0, 0)), InvalidFormatError, "found 20 bytes before it"),
    "stable id 0": (put(last_record(0), "QQ", 0, 0), CorruptedDataError, "other than 0"),
}  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("what", DAMAGE)
def test_damage_under_a_right_sum_is_refused(records, tmp_path, what, count):
    change, error, message = DAMAGE[what]
    assert len(World.from_bytes(damaged(records, count, lambda *_: None))) == count
    data = damaged(records, count, change)
    with pytest.raises(error, match=message):
        World.from_bytes(data)
    (tmp_path / "bad.pecs").write_bytes(data)
    with pytest.raises(error, match=r"bad\.pecs"):
        World.load(tmp_path / "bad.pecs")
    with pytest.raises(error, match=message):
        ISO.load(io.BytesIO(data))

    def touch():
        with pecs_np.open(tmp_path / "bad.pecs") as save:
            save.verify()

    with pytest.raises(error, match=message):
        touch()


def test_every_byte_counts(records):
    file = file_of(records, [0, 6, 3, 6, 5])
    data = file.to_bytes()
    for at in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[at] ^= bit
            with pytest.raises(PecsError):
                World.from_bytes(changed)
    for at in range(len(data)):
        with pytest.raises(PecsError):
            World.from_bytes(data[:at])
        with pytest.raises(PecsError):
            World.from_bytes(data + data[:at] + b"\0")
    start = len(data) - 8 - len(b"".join(records.record(*entity) for entity in file.entities))
    for at in range(start, len(data)):
        changed = bytearray(data)
        changed[at] ^= 4
        with pytest.raises(CorruptedDataError, match="footer checksum"):
            World.from_bytes(changed)


def test_a_wrong_sum_says_what_was_expected(records):
    data = bytearray(file_of(records, [0, 6]).to_bytes())
    expected, wrong = int.from_bytes(data[-8:], "little"), int.from_bytes(data[-8:], "little") ^ 1
    data[-8] ^= 1
    with pytest.raises(
        CorruptedDataError, match=f"expected footer checksum {expected:#018x}, found {wrong:#018x}"
    ):
        World.from_bytes(data)


@given(data=st.data())
def test_what_is_read_is_what_the_independent_reader_reads(records, data):
    """Of types without a class anything goes that keeps the rules of the format, and nothing else."""
    names = ["Parsed.A", "Parsed.B", "Parsed.é"]
    count = data.draw(st.sampled_from([1, 2, 3, 20]))
    entities = []
    for n in range(count):
        chosen = data.draw(st.lists(st.sampled_from(names), unique=True)) if n < 3 else names[:2]
        entities.append((n + 1, [(name, bytes([n]) * (n % 3)) for name in chosen]))
    content = bytearray(records.make(dict.fromkeys(names, 1), entities).content())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(st.sampled_from(["byte", "word", "copy", "remove", "insert"]))
        other = data.draw(st.integers(0, len(content) - 1))
        if change == "byte":
            content[at] = data.draw(st.sampled_from([0, 1, 2, 3, 127, 128, 255]) | st.integers(0, 255))
        elif change == "word":
            content[at : at + 4] = data.draw(st.sampled_from([0, 1, 2, 20, 2**31, 2**32 - 1])).to_bytes(
                4, "little"
            )
        elif change == "copy":
            length = data.draw(st.sampled_from([16, 20]))
            content[at : at + length] = content[other : other + length]
        elif change == "remove":
            del content[at : at + data.draw(st.sampled_from([1, 20]))]
        else:
            content[at:at] = content[other : other + data.draw(st.sampled_from([1, 20, 21]))]
        if not content:
            break
    signed = records.signed(bytes(content))
    try:
        expected = records.parse(signed)
    except records.Broken:
        with pytest.raises(PecsError):
            World.from_bytes(signed)
    else:
        assert World.from_bytes(signed).to_bytes(ISO) == expected.canonical().to_bytes()


# The ways to load


class Trickle(io.RawIOBase):
    """A stream that gives few bytes at a time, and counts them."""

    def __init__(self, data, most=7):
        self.rest = memoryview(data)
        self.most = most

    def readable(self):
        return True

    def readinto(self, buffer):
        count = min(len(buffer), self.most, len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


class OnlyRead:
    """An object that has nothing but ``read``."""

    def __init__(self, data, most):
        self.file = Trickle(data, most)

    def read(self, size=-1):
        return self.file.read(size)


@pytest.fixture
def file(records):
    return file_of(records, [n % len(ARCHETYPES) for n in range(50)] + [3] * 50, rotated)


@pytest.mark.parametrize("checksum", ["iso", "we"])
def test_every_way_to_load_gives_the_same_world(file, tmp_path, checksum):
    file.checksum = checksum
    data = file.to_bytes()
    path = tmp_path / "a.pecs"
    path.write_bytes(data)
    expected = file.canonical().to_bytes()
    with open(path, "rb") as handle, open(path, "rb", buffering=0) as raw, open(path, "rb") as third:
        mapped = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        worlds = [
            World.load(path),
            World.load(str(path)),
            World.load_binary(path),
            World.load_with(path, BinaryPlugin()),
            World.load_binary(handle),
            BinaryPlugin(compression="zstd").load(third),
            World.load_with(raw, ISO),
            World.load_binary_stream(io.BytesIO(data)),
            World.load_binary_stream(Trickle(data)),
            World.load_binary(Trickle(data, 1)),
            World.load_with(OnlyRead(data, 13), WE),
            World.load_with(OnlyRead(data, 1), ISO),
            World.from_bytes(data),
            World.from_bytes(bytearray(data), WE),
            World.from_bytes(memoryview(b"x" + data)[1:]),
            World.from_bytes(np.frombuffer(data, np.uint8)),
            World.from_bytes(mapped),
            World.from_snapshot(ISO.decode(data)),
            World.from_snapshot(ISO.decode_file(path)),
        ]
        for save_path, use_map in itertools.product((path, str(path)), (False, True)):
            with pecs_np.open(save_path, mmap=use_map) as save:
                worlds.append(World.from_snapshot(save.snapshot()))
    for world in worlds:
        assert world.to_bytes(PLUGINS[checksum]) == expected
        assert_worlds_equal(world, worlds[0])


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="no names for open files")
def test_a_pipe_is_read_by_its_name(file):
    reader, writer = os.pipe()
    try:
        os.write(writer, file.to_bytes())
        os.close(writer)
        assert World.load(f"/dev/fd/{reader}").to_bytes(ISO) == file.canonical().to_bytes()
    finally:
        os.close(reader)


def test_the_world_does_not_share_memory_with_the_bytes(file):
    data = bytearray(file.to_bytes())
    world = World.from_bytes(data)
    data[:] = bytes(len(data))
    assert world.to_bytes(ISO) == file.canonical().to_bytes()


def test_columns_that_were_read_can_be_written_to(file):
    world = World.from_bytes(file.to_bytes())
    before = world.snapshot(copy=True).column("ParsedPoint")["x"]
    for points in world.query(ParsedPoint):
        points.x += 1
    assert world.snapshot().column("ParsedPoint")["x"].tolist() == (before + 1).tolist()
    world.spawn_batch(ParsedPoint(x=[1, 2, 3], y=0))
    assert len(world) == 103
    assert world.validate()


def test_a_stream_is_read_to_its_end_and_nothing_may_follow(file):
    data = file.to_bytes()
    for load in (World.load_binary_stream, World.load_binary, ISO.load):
        stream = Trickle(data, 100)
        load(stream)
        assert len(stream.rest) == 0
        for more in (b"\0", b"\1", data):
            with pytest.raises(PersistenceError):
                load(io.BytesIO(data + more))
        for at in (0, 3, 10, 24, 40, len(data) // 2, len(data) - 8, len(data) - 1):
            with pytest.raises(PersistenceError):
                load(Trickle(data[:at], 100))


def test_a_stream_that_fails_or_has_nothing_yet_is_an_error_of_the_library(file):
    class Failing(Trickle):
        def readinto(self, buffer):
            if len(self.rest) < 100:
                raise OSError(5, "the cable is out")
            return super().readinto(buffer)

    class Waiting(Trickle):
        def readinto(self, buffer):
            return None if len(self.rest) < 100 else super().readinto(buffer)

    with pytest.raises(PersistenceIOError, match="the cable is out"):
        World.load_binary(Failing(file.to_bytes()))
    with pytest.raises(PersistenceIOError, match="nothing is there yet"):
        World.load_binary(Waiting(file.to_bytes()))
    with pytest.raises(InvalidFormatError, match="'rb'"):
        World.load_binary(io.StringIO("PECS"))


def test_an_older_save_is_kept_as_backup_and_found(file, tmp_path):
    path = tmp_path / "a.pecs"
    path.write_bytes(file.to_bytes())
    World().save_with(path, ISO, backup=True)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptedDataError):
        World.load(path)
    with pytest.warns(UserWarning, match="loaded the backup"):
        world = World.load(path, backup=True)
    assert world.to_bytes(ISO) == file.canonical().to_bytes()


# Limits


LIMITED = {"ParsedName": 1, "ParsedPoint": 1, "ParsedTag": 1}


@pytest.mark.parametrize(
    ("limit", "enough"),
    [
        ("types", 3),
        ("name_length", 11),
        ("head_size", 24 + 3 * 24 + 30),
        ("sections", 1 + 2 + 3),
        ("itemsize", 8),
    ],
)
def test_limits_hold_for_version_1(records, tmp_path, limit, enough):
    entities = [
        (1, []),
        (2, [("ParsedTag", b"")]),
        (3, [("ParsedPoint", bytes(8)), ("ParsedName", b"\0" + LENGTH(1) + b"a")]),
        (4, [("ParsedTag", b"")]),
    ]
    data = records.make(LIMITED, entities).to_bytes()
    (tmp_path / "a.pecs").write_bytes(data)
    loose, tight = (BinaryPlugin(limits=Limits(**{limit: n})) for n in (enough, enough - 1))
    assert len(World.from_bytes(data, loose)) == 4
    for load in (
        lambda: World.from_bytes(data, tight),
        lambda: World.load_with(tmp_path / "a.pecs", tight),
        lambda: tight.load(Trickle(data)),
        lambda: pecs_np.open(tmp_path / "a.pecs", limits=tight.limits).verify(),
    ):
        with pytest.raises(LimitExceededError, match=f"expected at most {enough - 1}"):
            load()


def test_the_limit_on_the_whole_size_holds(records, tmp_path):
    data = file_of(records, [3] * 30).to_bytes()
    (tmp_path / "a.pecs").write_bytes(data)
    loose, tight = (BinaryPlugin(limits=Limits(total_size=n)) for n in (len(data), 100))
    assert len(World.from_bytes(data, loose)) == 30
    for load in (
        lambda: World.from_bytes(data, tight),
        lambda: World.load_with(tmp_path / "a.pecs", tight),
        lambda: tight.load(Trickle(data)),
    ):
        with pytest.raises(LimitExceededError, match="expected at most 100 bytes"):
            load()


def test_of_a_stream_without_end_no_more_is_taken_than_the_limit_allows(records):
    class Endless(io.RawIOBase):
        taken = 0
        start = file_of(records, [1]).content()

        def readable(self):
            return True

        def readinto(self, buffer):
            if self.taken > 1 << 26:
                return 0  # so that this test ends where the limit does not hold
            data = self.start[self.taken : self.taken + len(buffer)] or bytes(len(buffer))
            buffer[: len(data)] = data
            self.taken += len(data)
            return len(data)

    stream = Endless()
    with pytest.raises(LimitExceededError, match="expected at most 5000 bytes"):
        BinaryPlugin(limits=Limits(total_size=5000)).load(stream)
    assert stream.taken <= 1 << 22


# Opened saves


def opened(tmp_path, file, **options):
    path = tmp_path / "opened.pecs"
    path.write_bytes(file.to_bytes())
    return pecs_np.open(path, **options)


@pytest.mark.parametrize("mmap", [False, True])
def test_an_opened_save_shows_what_the_file_has(records, file, tmp_path, mmap):
    canonical = file.canonical()
    with opened(tmp_path, file, mmap=mmap) as save:
        assert (save.format_version, save.entity_count, save.world_version, save.metadata) == (1, 100, 1, {})
        assert [(t.name, t.version) for t in save.types] == canonical.types
        assert list(save) == [name for name, _ in canonical.types]
        assert save.resources == {}
        assert "ParsedPoint" in save
        assert ParsedRefs not in save
        assert as_ints(save.entities()) == [i for i, _ in canonical.entities]
        assert save["ParsedPoint"].tobytes() == b"".join(canonical.column("ParsedPoint"))
        assert save["Parsed.A"][OPAQUE].tobytes() == b"".join(canonical.column("Parsed.A"))
        assert save["Parsed.B"][OPAQUE].tolist() == canonical.column("Parsed.B")
        names = [as_name(raw) for raw in canonical.column("ParsedName")]
        assert save["ParsedName"].tolist() == names
        assert save.column("ParsedName", "name").tolist() == [name for _, name in names]
        having = [i for i, parts in canonical.entities if any(name == "ParsedName" for name, _ in parts)]
        assert as_ints(save.entities("ParsedName")) == having
        assert [table.rows for table in save.tables] == [
            len(list(group))
            for _, group in itertools.groupby(canonical.entities, lambda e: [n for n, _ in e[1]])
        ]
        save.verify()
        part = World.from_snapshot(save.snapshot(["ParsedTag"]))
        assert len(part) == 100
        assert [t.name for t in part.snapshot().types] == ["ParsedTag"]


def test_references_of_an_opened_save_are_stable_ids(records, tmp_path):
    file = records.make(VERSIONS, [(2**90, []), (7, [refs(records, 2**90, (7, 0), [7], [2**90])])])
    with opened(tmp_path, file) as save:
        rows = save[ParsedRefs]
        assert as_ints(rows["to"]) == [2**90]
        assert as_ints(rows["links"]["to"].reshape(-1)) == [7, 0]
        assert as_ints(rows["crew"][0]) == [7]
        assert as_ints(rows["ropes"][0]["to"]) == [2**90]
        save.verify()
        assert World.from_snapshot(save.snapshot()).to_bytes(ISO) == file.canonical().to_bytes()


def test_an_opened_save_with_dangling_references_is_found_out(records, tmp_path):
    with opened(tmp_path, records.make(VERSIONS, [(7, [refs(records, 8)])])) as save:
        assert as_ints(save[ParsedRefs]["to"]) == [8]
        with pytest.raises(DanglingReferenceError):
            save.verify()
        with pytest.raises(DanglingReferenceError):
            save.snapshot()


@pytest.mark.parametrize("mmap", [False, True])
def test_each_column_of_an_opened_save_is_a_new_one(file, tmp_path, mmap):
    with opened(tmp_path, file, mmap=mmap) as save:
        for name, field in (("ParsedPoint", "x"), ("Parsed.A", OPAQUE), ("ParsedName", "n")):
            first = save[name]
            first[field] = 9
            assert (save[name][field] != 9).any()
        for table in save.tables:
            if "ParsedMany" in table:
                for cells in table["ParsedMany"]["cells"]:
                    cells[...] = 999
        for cells in save["ParsedMany"]["cells"]:
            cells[...] = 999
        ids = save.entities()
        ids[...] = 0
        world = World.from_snapshot(save.snapshot())
        assert world.to_bytes(ISO) == file.canonical().to_bytes()
        for column in world.columns(ParsedMany):
            for cells in column["cells"]:
                cells[...] = 999
        assert World.from_snapshot(save.snapshot()).to_bytes(ISO) == file.canonical().to_bytes()


def test_an_opened_save_tells_how_many_bytes_each_type_takes(file, tmp_path):
    with opened(tmp_path, file) as save:
        assert "not read yet" in repr(save)
        save.verify()
        for name in ("ParsedMany", "ParsedName", "ParsedPoint", "ParsedTag", "Parsed.A", "Parsed.B"):
            data = file.column(name)
            line = next(line for line in repr(save).splitlines() if f"<component {name} " in line)
            assert line.endswith(f": {len(data)} rows, {20 * len(data) + sum(map(len, data)):,} bytes")


def test_opening_reads_no_more_than_the_head(records, tmp_path):
    data = bytearray(file_of(records, [3] * 30).to_bytes())
    data[-1] ^= 1
    (tmp_path / "bad.pecs").write_bytes(data)
    with pecs_np.open(tmp_path / "bad.pecs") as save:
        assert (save.format_version, save.entity_count) == (1, 30)
        assert "ParsedPoint v1" in repr(save)
        with pytest.raises(CorruptedDataError, match="footer checksum"):
            _ = save.types
