"""Version 1 as it is written: every byte, against the independent writer."""

from __future__ import annotations

import enum
import io
import itertools
import struct
import tracemalloc
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pecs_np import (
    BinaryPlugin,
    ComponentValueError,
    EntityRef,
    PersistenceError,
    World,
    component,
    component_type,
)
from pecs_np.testing import assert_worlds_equal

ISO = BinaryPlugin(version=1)
WE = BinaryPlugin(version=1, checksum="we")
PLUGINS = {"iso": ISO, "we": WE}


class RecordSmall(enum.IntEnum):
    A = 0
    B = 255


class RecordSigned(enum.IntEnum):
    A = -1
    B = 300


class RecordHuge(enum.IntEnum):
    A = 2**63
    B = 0


class RecordInner:
    a: np.uint8
    b: Annotated[np.float32, 2]


class RecordOuter:
    inner: Annotated[RecordInner, 2]
    flag: bool


class RecordLink:
    before: np.uint8
    to: EntityRef


INNER = {"a": "|u1", "b": ("<f4", 2)}
OUTER = {"inner": (INNER, 2), "flag": "|b1"}
OUTERS = [([(1, [2.0, 3.0]), (4, [5.0, 6.0])], True), ([(255, [-0.5, 1e30]), (0, [0.0, 0.0])], False)]
NAT = -(2**63)
FLOATS = [0.0, -0.0, -1.5, float("inf"), 65504.0]
# annotation, kind as the reference has it, values; and what the reference calls them where that differs
ANNOTATIONS = {
    "bool": (bool, "|b1", [True, False]),
    "int": (int, "<i8", [0, -1, 2**63 - 1]),
    "float": (float, "<f8", [*FLOATS, 5e-324]),
    "complex": (complex, "<c16", [1 + 2j, -0.5j]),
    "f2": (np.float16, "<f2", FLOATS),
    "f4": (np.float32, "<f4", FLOATS),
    "c8": (np.complex64, "<c8", [1 + 2j, -0.5j]),
    "text of 3": (Annotated[str, 3], "<U3", ["", "é", "ab\U0001f980"]),
    "bytes of 4": (Annotated[bytes, 4], "|S4", [b"", b"\0\xff", b"wxyz"]),
    "times": (Annotated[np.datetime64, "ms"], "<M8[ms]", np.array([0, 5, -7, NAT], "M8[ms]"), [0, 5, -7, NAT]),
    "years": (Annotated[np.datetime64, "Y"], "<M8[Y]", np.array([30, NAT], "M8[Y]"), [30, NAT]),
    "spans": (Annotated[np.timedelta64, "ns"], "<m8[ns]", np.array([1, NAT], "m8[ns]"), [1, NAT]),
    "small enum": (RecordSmall, "|u1", [0, 255]),
    "signed enum": (RecordSigned, "<i2", [-1, 300]),
    "huge enum": (RecordHuge, "<u8", [2**63, 0]),
    "three": (Annotated[np.int16, 3], ("<i2", 3), [[1, 2, 3], [-1, -2, -3]]),
    "two by two": (Annotated[bool, (2, 2)], ("|b1", 4), [[[True, False], [False, True]]], [[True, False, False, True]]),
    "texts": (Annotated[str, 1, 2], ("<U1", 2), [["a", "é"], ["", "\uffff"]]),
    "enums": (Annotated[RecordSmall, 2], ("|u1", 2), [[0, 255], [255, 255]]),
    "struct": (RecordOuter, OUTER, OUTERS),
    "structs": (Annotated[RecordInner, 2], (INNER, 2), [[(1, [2.0, 3.0]), (9, [0.0, 1.0])]]),
    "str": (str, "str", ["", "é", "a\0b\U0001f980", "\0"]),
    "long bytes": (bytes, "bytes", [b"", b"\0", b"\xff\0" * 70_000]),
    "list of f4": (list[np.float32], ["<f4"], [[], [1.5], [0.0, -0.0, 3.0]]),
    "list of bool": (list[bool], ["|b1"], [[True], [], [False, True]]),
    "list of pairs": (list[Annotated[np.int16, 2]], [("<i2", 2)], [[[1, 2]], [], [[3, 4], [-5, 6]]]),
    "list of enums": (list[RecordSigned], ["<i2"], [[], [300, -1]]),
    "list of texts": (list[Annotated[str, 2]], ["<U2"], [["a", "", "éé"], []]),
    "list of times": (list[Annotated[np.datetime64, "D"]], ["<M8[D]"], [np.array([3, NAT], "M8[D]")], [[3, NAT]]),
    "list of structs": (list[RecordOuter], [OUTER], [OUTERS, [], OUTERS[:1]]),
}  # fmt: skip
for unsigned, width in itertools.product(("", "u"), (1, 2, 4, 8)):
    top = 2 ** (8 * width - (not unsigned))
    low = 0 if unsigned else -top
    kind = f"{'<' if width > 1 else '|'}{unsigned or 'i'}{width}"
    ANNOTATIONS[f"{unsigned}int{8 * width}"] = (
        getattr(np, f"{unsigned}int{8 * width}"),
        kind,
        [low, 0, 1, top - 1],
    )


def objects(values):
    """Return *values* as a column of one object each, as lists of different lengths need it."""
    column = np.empty(len(values), object)
    column[:] = values
    return column


def column_of(cls, **values):
    """Return a column of *cls*, as NumPy makes it of nested lists and tuples."""
    type_ = component_type(cls)
    rows = np.zeros(len(next(iter(values.values()))), type_.layout.memory)
    for field in type_.fields:
        base = field.element().base
        found = values[field.name]
        if field.variable == "list":
            arrays = [np.array(value, base).reshape(len(value), *field.shape) for value in found]
            rows[field.name] = objects(arrays)
        else:
            rows[field.name] = found if field.variable else np.array(found, base)
    return cls.from_array(rows)


@pytest.mark.parametrize("checksum", ["iso", "we"])
@pytest.mark.parametrize("beside", ["alone", "before text"])
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_every_kind_of_field_is_these_bytes_and_comes_back(records, define, name, beside, checksum):
    annotation, kind, values, *expected = ANNOTATIONS[name]
    (expected,) = expected or (values,)
    if checksum == "we" and name == "long bytes":
        values, expected = values[:2], expected[:2]
    count = len(expected)
    kinds, annotations = {"value": kind}, {"value": annotation}
    columns, rows = {"value": values}, [(value,) for value in expected]
    if beside == "before text":
        # An odd byte before it, so that no value is aligned, and a field of variable length before and after.
        kinds = {"text": "str", "odd": "|u1", "value": kind, "more": "bytes"}
        annotations = {"text": str, "odd": np.uint8, "value": annotation, "more": bytes}
        more = [b"x" * (i % 3) for i in range(count)]
        columns |= {"text": ["é"] * count, "odd": [7] * count, "more": more}
        rows = [("é", 7, value, raw) for value, raw in zip(expected, more, strict=True)]
    Value = define("RecordValue", annotations, version=3)
    world = World()
    ids = [5 * i + 2**100 for i in range(count)]
    world.spawn_batch(column_of(Value, **columns), stable_ids=ids)
    data = world.to_bytes(PLUGINS[checksum])
    entities = [(i, [("RecordValue", records.data_of(kinds, row))]) for i, row in zip(ids, rows, strict=True)]
    assert data == records.make({"RecordValue": 3}, entities, checksum).to_bytes()
    back = World.from_bytes(data)
    assert_worlds_equal(back, world)
    assert back.to_bytes(PLUGINS[checksum]) == data
    assert back.to_bytes() == world.to_bytes()


@component
class RecordPoint:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(name="Record.Tag", version=9)
class RecordTag:
    pass


@component
class RecordName:
    name: str


POINT = {"x": "<f4", "y": "<f4"}


def test_the_independent_writer_has_the_sums_of_the_format(records):
    assert records.crc_iso(b"123456789") == 0x46A5A9388A5BEFFE
    assert records.crc_we(b"123456789") == 0x62EC59E3F1A4F00A


def test_the_empty_world_is_header_and_sum(records):
    header = b"PECS" + struct.pack("<IIQI", 1, 0, 0, 0)
    assert World().to_bytes(ISO) == header + struct.pack("<Q", records.crc_iso(header))
    assert World().to_bytes(WE) == header + struct.pack("<Q", records.crc_we(header))


def test_one_entity_is_these_bytes(records):
    world = World()
    world.spawn_with_stable_id(2**64 + 5, RecordTag(), RecordName("é"), RecordPoint(1, 2))
    names = ["Record.Tag", "RecordName", "RecordPoint"]
    head = b"PECS" + struct.pack("<IIQI", 1, 0, 1, 3)
    for name, version in zip(names, (9, 1, 1), strict=True):
        head += (
            records.type_id(name) + struct.pack("<I", len(name)) + name.encode() + struct.pack("<I", version)
        )
    body = struct.pack("<QQI", 5, 1, 3)
    body += records.type_id(names[0]) + struct.pack("<I", 0)
    body += records.type_id(names[1]) + struct.pack("<II", 6, 2) + b"\xc3\xa9"
    body += records.type_id(names[2]) + struct.pack("<Iff", 8, 1, 2)
    assert world.to_bytes(ISO) == head + body + struct.pack("<Q", records.crc_iso(head + body))


def test_the_sum_is_all_that_the_choice_of_checksum_changes(records):
    world = World(seed=1)
    world.spawn_batch(RecordPoint(x=np.arange(9), y=1), RecordName(name=[str(i) for i in range(9)]))
    iso, we = world.to_bytes(ISO), world.to_bytes(WE)
    assert iso[:-8] == we[:-8]
    assert iso[-8:] == struct.pack("<Q", records.crc_iso(iso[:-8]))
    assert we[-8:] == struct.pack("<Q", records.crc_we(iso[:-8]))
    assert (records.read(iso).checksum, records.read(we).checksum) == ("iso", "we")


def test_the_plugin_says_what_it_writes():
    assert (ISO.format_name(), ISO.format_version()) == ("binary", 1)
    assert all(plugin.can_load_version(version) for plugin in (ISO, WE) for version in (1, 2))
    with pytest.raises(PersistenceError, match="'iso' or 'we'"):
        BinaryPlugin(version=1, checksum="crc32")
    with pytest.raises(PersistenceError, match="version 1 with checksum 'we'"):
        BinaryPlugin(checksum="we")
    with pytest.raises(PersistenceError, match="no compression with version 1"):
        BinaryPlugin(version=1, compression="zstd")


@pytest.mark.parametrize("raw", [0x7FF8 << 48, 0x7FF4000000000001, 0xFFF8000000012345])
def test_nan_keeps_its_bits(records, define, raw):
    Value = define("RecordNan", {"value": np.float64})
    world = World()
    column = np.array([raw], "<u8").view(component_type(Value).layout.memory)
    world.spawn_batch(Value.from_array(column), stable_ids=[1])
    data = world.to_bytes(ISO)
    assert records.read(data).column("RecordNan") == [struct.pack("<Q", raw)]
    assert World.from_bytes(data).to_bytes(ISO) == data


@component
class RecordRefs:
    one: EntityRef
    link: Annotated[RecordLink, 2]
    three: Annotated[EntityRef, 3]
    many: list[EntityRef]
    pairs: list[Annotated[EntityRef, 2]]
    links: list[RecordLink]


LINK = {"before": "|u1", "to": "ref"}
REFS = {
    "one": "ref",
    "link": (LINK, 2),
    "three": ("ref", 3),
    "many": ["ref"],
    "pairs": [("ref", 2)],
    "links": [LINK],
}


def test_references_are_stable_ids_at_all_depths_and_0_where_the_target_is_dead(records):
    world = World()
    stable = [7, 2**64 + 1, 2**127, 3]
    dead, a, b, c = (int(e) for e in world.spawn_batch(count=4, stable_ids=stable))
    world.despawn(dead)
    world.spawn_with_stable_id(99)  # in the slot of the dead one
    means = {0: 0, dead: 0, 2**63: 0, a: stable[1], b: stable[2], c: stable[3]}
    rows = [
        (a, [(1, b), (2, dead)], [0, c, a], [a, b, c], [[a, dead]], [(9, c)]),
        (dead, [(3, 2**63), (4, 0)], [dead, b, b], [], [[0, c], [b, b]], []),
    ]
    names = [f.name for f in component_type(RecordRefs).fields]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    batch = world.spawn_batch(column_of(RecordRefs, **columns), stable_ids=[20, 10])
    first, second = (int(e) for e in batch)
    world.get(second, RecordRefs).one = second
    world.get(first, RecordRefs).three = [second, first, a]
    means |= {first: 20, second: 10}
    rows[1] = (second, *rows[1][1:])
    rows[0] = (*rows[0][:2], [second, first, a], *rows[0][3:])

    def mapped(row):
        one, link, three, many, pairs, links = row
        return (
            means[one],
            [(n, means[e]) for n, e in link],
            [means[e] for e in three],
            [means[e] for e in many],
            [[means[e] for e in pair] for pair in pairs],
            [(n, means[e]) for n, e in links],
        )

    # A table keeps its rows packed: the last of those without components took the place of the dead one.
    data = world.to_bytes(ISO)
    entities = [(int(hi) << 64 | int(lo), []) for lo, hi in world.stable_ids()[:4].tolist()]
    entities += [
        (i, [("RecordRefs", records.data_of(REFS, mapped(row)))])
        for i, row in zip((20, 10), rows, strict=True)
    ]
    assert {i for i, _ in entities[:4]} == {99, *stable[1:]}
    assert data == records.make({"RecordRefs": 1}, entities).to_bytes()
    back = World.from_bytes(data)
    assert_worlds_equal(back, World.from_bytes(world.to_bytes()))
    assert back.to_bytes(ISO) == data


def test_archetypes_and_components_stand_in_the_order_of_the_registry(records, define):
    names = ["Record.b", "Record.B", "Record.é", "Record.\U0001f980", "Record.\uffff", "Record", "Record.10"]
    ordered = sorted(names, key=str.encode)
    types = {name: define(name, {"n": np.uint16}, version=i + 1) for i, name in enumerate(names)}
    sets = [[], *([name] for name in names), names, names[2:5], names[::-2], names[:2]]
    world, entities, stable_id = World(), [], 1
    for _ in range(2):
        for chosen in sets:
            components = [types[name](stable_id) for name in chosen]
            world.spawn_with_stable_id(stable_id, *components)
            entities.append((stable_id, [(name, struct.pack("<H", stable_id)) for name in chosen]))
            stable_id += 1
    file = records.make({name: i + 1 for i, name in enumerate(names)}, entities)
    data = world.to_bytes(ISO)
    assert data == file.canonical().to_bytes()
    assert [name for name, _ in records.read(data).types] == ordered
    assert_worlds_equal(World.from_bytes(data), world)


def test_only_types_that_entities_have_are_in_the_registry(records, define):
    define("RecordUnused", {"x": float})
    Gone = define("RecordGone", {"x": float})
    Hidden = define("RecordHidden", {"x": float}, transient=True)
    world = World(seed=1)
    world.despawn(world.spawn(Gone(1)))
    world.spawn(Hidden(1), RecordPoint(1, 2))
    world.resources.insert(Hidden(2))
    found = records.read(world.to_bytes(ISO))
    assert found.types == [("RecordPoint", 1)]
    assert found.column("RecordPoint") == [struct.pack("<ff", 1, 2)]


def test_values_that_are_not_persistent_are_left_out(records):
    @component(name="RecordChosen")
    class Chosen:
        n: np.uint8

        def is_persistent(self):
            return self.n > 1

    world = World()
    world.spawn_batch(Chosen(n=[1, 2, 3]), stable_ids=[10, 20, 30])
    expected = [(10, []), (20, [("RecordChosen", b"\2")]), (30, [("RecordChosen", b"\3")])]
    assert world.to_bytes(ISO) == records.make({"RecordChosen": 1}, expected).to_bytes()


def test_components_without_fields_and_entities_without_components(records):
    world = World()
    world.spawn_batch(count=3, stable_ids=[9, 8, 7])
    world.spawn_batch(RecordTag(), count=2, stable_ids=[6, 2**128 - 1])
    entities = [(9, []), (8, []), (7, []), (6, [("Record.Tag", b"")]), (2**128 - 1, [("Record.Tag", b"")])]
    data = world.to_bytes(ISO)
    assert data == records.make({"Record.Tag": 9}, entities).to_bytes()
    assert_worlds_equal(World.from_bytes(data), world)


# Half a MiB of records of 48 bytes is one block.
BLOCK_ROWS = (1 << 19) // 48


@pytest.mark.parametrize("rows", [1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 2 * BLOCK_ROWS + 5])
@pytest.mark.parametrize("ids", ["run", "random", "wrapping"])
def test_tables_below_and_above_a_block(records, rows, ids):
    rng = np.random.default_rng(rows)
    stable = {
        "run": [17 + i for i in range(rows)],
        # 2**64 - 5 stands beside its successor in one record, and 100 ids beyond.
        "wrapping": [(3 << 64) - rows // 2 + i for i in range(rows)],
        "random": [int.from_bytes(rng.bytes(16), "little") | 1 for _ in range(rows)],
    }[ids]
    world = World()
    x, y = rng.integers(-1000, 1000, (2, rows))
    world.spawn_batch(RecordPoint(x=x, y=y), stable_ids=stable)
    expected = records.make(
        {"RecordPoint": 1},
        [
            (i, [("RecordPoint", struct.pack("<ff", a, b))])
            for i, a, b in zip(stable, x.tolist(), y.tolist(), strict=True)
        ],
    )
    data = world.to_bytes(ISO)
    assert data[:-8] == expected.content()
    if ids == "run":
        assert data == expected.to_bytes()
    assert_worlds_equal(World.from_bytes(data), world)


@pytest.mark.parametrize("size", [104_000, 600_000])
def test_rows_that_fill_a_block_alone(records, define, size):
    Big = define("RecordBig", {"cells": Annotated[np.uint8, size], "n": np.uint16})
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 256, (6 if size < 200_000 else 2, size), np.uint8)
    world = World()
    world.spawn_batch(Big(cells=cells, n=5), RecordTag(), stable_ids=list(range(1, len(cells) + 1)))
    entities = [
        (i + 1, [("Record.Tag", b""), ("RecordBig", row.tobytes() + b"\5\0")]) for i, row in enumerate(cells)
    ]
    data = world.to_bytes(ISO)
    assert data == records.make({"RecordBig": 1, "Record.Tag": 9}, entities).to_bytes()
    assert_worlds_equal(World.from_bytes(data), world)


@component
class RecordLists:
    a: np.uint8
    values: list[np.int32]
    text: str
    b: np.uint16
    raw: bytes


LISTS = {"a": "|u1", "values": ["<i4"], "text": "str", "b": "<u2", "raw": "bytes"}
TEXTS = ["", "a", "é", "abcdef", "\U0001f980" * 5]


@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 9000])
def test_tables_of_texts_and_lists_below_and_above_a_block(records, rows):
    values = [list(range(i % 4)) for i in range(rows)]
    texts = [TEXTS[i % 5] for i in range(rows)]
    raws = [bytes([i % 256]) * (i % 3) for i in range(rows)]
    world = World()
    world.spawn_batch(
        RecordLists(a=np.arange(rows) % 256, values=objects(values), text=texts, b=np.arange(rows), raw=raws),
        RecordPoint(x=np.arange(rows), y=-1),
        stable_ids=[2**64 - rows // 2 + i for i in range(rows)],
    )
    entities = [
        (
            2**64 - rows // 2 + i,
            [
                ("RecordLists", records.data_of(LISTS, (i % 256, values[i], texts[i], i, raws[i]))),
                ("RecordPoint", struct.pack("<ff", i, -1)),
            ],
        )
        for i in range(rows)
    ]
    data = world.to_bytes(ISO)
    assert data[:-8] == records.make({"RecordLists": 1, "RecordPoint": 1}, entities).content()
    assert_worlds_equal(World.from_bytes(data), world)


def test_rows_from_nothing_to_a_mebibyte_beside_each_other(records):
    # The rows of a block are as many as those before them were short.
    sizes = [0] * 4096 + [1 << 20, 0, 300_000, 1 << 19] + [3] * 50
    texts = ["é" * (n // 2) + "a" * (n % 2) for n in sizes]
    world = World()
    world.spawn_batch(RecordName(name=texts), stable_ids=list(range(5, 5 + len(sizes))))
    data = world.to_bytes(ISO)
    expected = [
        (5 + i, [("RecordName", struct.pack("<I", n) + text.encode())])
        for i, (n, text) in enumerate(zip(sizes, texts, strict=True))
    ]
    assert data[:-8] == records.make({"RecordName": 1}, expected).content()
    assert_worlds_equal(World.from_bytes(data), world)


def mixed_world():
    world = World(seed=4)
    targets = world.spawn_batch(count=3)
    world.spawn_batch(RecordPoint(x=np.arange(30_000), y=1), RecordTag())
    world.spawn_batch(RecordName(name=[f"é{i}" for i in range(5000)]), RecordPoint(1, 2))
    a, b, c = targets
    refs = {"one": [b], "link": [[(1, a), (2, 0)]], "three": [[0, c, 0]]}
    refs |= {"many": [targets], "pairs": [[[0, a]]], "links": [[(1, b)]]}
    world.spawn_batch(column_of(RecordRefs, **refs))
    return world


@pytest.mark.parametrize("checksum", ["iso", "we"])
def test_files_file_objects_and_streams_get_the_same_bytes(tmp_path, checksum):
    plugin, world = PLUGINS[checksum], mixed_world()
    data = world.to_bytes(plugin)
    world.save_with(tmp_path / "a.pecs", plugin)
    assert (tmp_path / "a.pecs").read_bytes() == data
    world.save_with(tmp_path / "a.pecs", plugin, durable=False, backup=True)
    assert (tmp_path / "a.pecs").read_bytes() == (tmp_path / "a.pecs.bak").read_bytes() == data
    with open(tmp_path / "b.pecs", "wb") as file:
        world.save_with(file, plugin)
    assert (tmp_path / "b.pecs").read_bytes() == data
    with open(tmp_path / "c.pecs", "wb", buffering=0) as file:
        plugin.save(world, file)
    assert (tmp_path / "c.pecs").read_bytes() == data
    assert b"".join(bytes(buffer) for buffer in plugin.encode(world.snapshot())) == data
    assert b"".join(bytes(buffer) for buffer in plugin.encode_stream(world.snapshot())) == data


def test_more_text_than_a_stream_keeps_is_made_again_and_is_the_same():
    world = World(seed=1)
    world.spawn_batch(RecordName(name=["x" * 1000 + str(i) for i in range(12_000)]))
    world.spawn_batch(RecordName(name=["y" * (i % 7) for i in range(5000)]), RecordTag())
    stream = io.BytesIO()
    ISO.save(world, stream)
    assert stream.getvalue() == world.to_bytes(ISO)
    assert len(stream.getvalue()) > 12_000_000
    assert_worlds_equal(World.from_bytes(stream.getvalue()), World.from_bytes(world.to_bytes()))


def test_equal_worlds_with_different_pasts_give_equal_bytes():
    ids = [3, 2**70, 1, 9]
    first, second = World(), World()
    first.spawn_batch(RecordPoint(x=[1, 2, 3, 4], y=0), stable_ids=ids)
    for i, stable_id in enumerate(ids):
        second.despawn(second.spawn(RecordName("gone")))
        second.spawn_with_stable_id(stable_id, RecordPoint(i + 1, 5))
    second.insert(second.entities(), RecordTag())
    second.remove(second.entities(), RecordTag)
    for points in second.query(RecordPoint):
        points.y = 0
    assert first.to_bytes(ISO) == second.to_bytes(ISO)


def test_a_part_of_a_world_is_written_as_what_it_is(records):
    world = World()
    world.spawn_batch(RecordPoint(x=[1, 2], y=0), RecordTag(), stable_ids=[5, 6])
    world.spawn_batch(RecordPoint(x=[3], y=0), RecordName("left out"), stable_ids=[2])
    kept = World.from_snapshot(world.snapshot(filter=lambda table: table.keep(RecordPoint)))
    rows = [
        (stable_id, [("RecordPoint", struct.pack("<ff", x, 0))]) for stable_id, x in ((5, 1), (6, 2), (2, 3))
    ]
    assert kept.to_bytes(ISO) == records.make({"RecordPoint": 1}, rows).to_bytes()


def with_resource(world):
    world.resources.insert(RecordPoint(1, 2))


def with_metadata(world):
    world.metadata["author"] = "é"


def with_generator(world):
    world.rngs.create("weather")


def with_version(world):
    world.version = 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (with_resource, r"resources \(.*RecordPoint"),
        (with_metadata, r"metadata \(.*author"),
        (with_generator, r"random generators \(.*weather"),
        (with_version, r"a world version \(.*2"),
    ],
)
def test_what_version_1_cannot_hold_is_refused_and_nothing_is_written(tmp_path, change, what):
    world, target, stream = World(seed=1), tmp_path / "a.pecs", io.BytesIO()
    world.spawn_batch(RecordPoint(x=[1, 2], y=0))
    world.save_with(target, ISO)
    before = target.read_bytes()
    change(world)
    for save in (
        lambda: world.save_with(target, ISO),
        lambda: world.save_with(stream, ISO),
        lambda: world.to_bytes(WE),
        lambda: ISO.encode(world.snapshot()),
    ):
        with pytest.raises(PersistenceError, match=what + r".*version 1.*cannot hold; save version 2"):
            save()
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pecs"]
    assert stream.getvalue() == b""
    assert_worlds_equal(World.from_bytes(world.to_bytes()), world)


@pytest.mark.parametrize("metadata", [None, 5, [], ["note"], "note"])
def test_metadata_of_another_kind_are_refused(metadata):
    world = World()
    world.metadata = metadata
    with pytest.raises(PersistenceError, match="metadata"):
        world.to_bytes(ISO)


@pytest.mark.parametrize("rows", [1, 100])
def test_long_values_take_not_many_times_their_size(rows):
    size = (1 << 21) // rows
    world = World()
    world.spawn_batch(RecordName(name=[chr(97 + i % 26) * size for i in range(rows)]))
    stream = io.BytesIO(bytes(1 << 22))
    tracemalloc.start()
    try:
        ISO.save(world, stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 21
    assert_worlds_equal(World.from_bytes(stream.getvalue()[: stream.tell()]), world)


def test_a_seeded_world_can_be_saved_and_so_can_one_without_its_extras_again(define):
    Hidden = define("RecordClock", {"t": float}, transient=True)
    world = World(seed=1, metadata={})
    world.spawn_batch(RecordPoint(x=[1, 2], y=0))
    world.resources.insert(RecordPoint(1, 2))
    world.resources.remove(RecordPoint)
    world.resources.insert(Hidden(1.0))
    back = World.from_bytes(world.to_bytes(ISO))
    plain = World()
    plain.spawn_batch(RecordPoint(x=[1, 2], y=0), stable_ids=world.stable_ids())
    assert_worlds_equal(back, plain)


@pytest.mark.parametrize("plugin", [ISO, WE])
def test_values_that_no_reader_accepts_are_refused_before_a_byte_is_written(define, tmp_path, plugin):
    Flags = define("RecordFlags", {"on": bool})
    Kinds = define("RecordKinds", {"kind": RecordSmall})
    Listed = define("RecordListed", {"flags": list[bool]})

    def bad_bool(world):
        column = np.array([0, 1, 2], "u1").view([("on", "?")])
        world.spawn_batch(Flags.from_array(column))

    def bad_enum(world):
        column = np.array([0, 255, 7], "u1").view([("kind", "u1")])
        world.spawn_batch(Kinds.from_array(column))

    def bad_object(world):
        world.spawn_batch(RecordName(name=["a", "b", "c"]))
        world.column(RecordName)["name"][2] = 5

    def bad_text(world):
        world.spawn_batch(RecordName(name=["a", "b", "c"]))
        world.column(RecordName)["name"][2] = "\ud800"

    def bad_element(world):
        world.spawn_batch(Listed(flags=objects([[True], [], [False, True]])))
        world.column(Listed)["flags"][2].view("u1")[1] = 9

    for change in (bad_bool, bad_enum, bad_object, bad_text, bad_element):
        world, stream = World(seed=1), io.BytesIO()
        world.spawn_batch(RecordPoint(x=np.arange(100), y=0))
        change(world)
        with pytest.raises(ComponentValueError, match="row 2 of Record"):
            plugin.save(world, stream)
        assert stream.getvalue() == b""
        with pytest.raises(ComponentValueError, match="row 2 of Record"):
            world.save_with(tmp_path / "a.pecs", plugin)
        assert list(tmp_path.iterdir()) == []


def test_a_world_that_changed_after_it_was_saved_is_saved_as_it_is_now(records):
    world = World()
    world.spawn_batch(RecordPoint(x=[1, 2], y=0), stable_ids=[1, 2])
    world.to_bytes(ISO)
    world.column(RecordPoint)["y"] = 7
    assert records.read(world.to_bytes(ISO)).column("RecordPoint") == [
        struct.pack("<ff", 1, 7),
        struct.pack("<ff", 2, 7),
    ]
    world.spawn_with_stable_id(3, RecordTag())
    assert [i for i, _ in records.read(world.to_bytes(ISO)).entities] == [3, 1, 2]


stable_ids = st.integers(1, 20) | st.integers(2**64 - 3, 2**64 + 3) | st.integers(1, 2**128 - 1)
rows = st.tuples(
    st.integers(0, 255),
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    st.text(max_size=4),
    st.integers(0, 2**16 - 1),
    st.binary(max_size=5),
)
points = st.tuples(st.floats(width=32, allow_nan=False), st.floats(width=32, allow_nan=False))


@given(
    entities=st.lists(
        st.tuples(stable_ids, st.none() | points, st.none() | rows, st.booleans()),
        max_size=12,
        unique_by=lambda entity: entity[0],
    ),
    checksum=st.sampled_from(["iso", "we"]),
)
def test_any_world_is_the_bytes_that_the_independent_writer_makes(records, entities, checksum):
    world, expected = World(), []
    for stable_id, point, row, tagged in entities:
        components, described = [], []
        if point is not None:
            components.append(RecordPoint(*point))
            described.append(("RecordPoint", records.data_of(POINT, point)))
        if row is not None:
            a, values, text, b, raw = row
            components.append(RecordLists(a=a, values=values, text=text, b=b, raw=raw))
            described.append(("RecordLists", records.data_of(LISTS, row)))
        if tagged:
            components.append(RecordTag())
            described.append(("Record.Tag", b""))
        world.spawn_with_stable_id(stable_id, *components)
        expected.append((stable_id, described))
    versions = {"Record.Tag": 9, "RecordLists": 1, "RecordPoint": 1}
    file = records.make(versions, expected, checksum)
    data = world.to_bytes(PLUGINS[checksum])
    assert data == file.canonical().to_bytes()
    assert records.read(data).entities == file.canonical().entities
    for shuffled in (data, file.to_bytes()):
        back = World.from_bytes(shuffled)
        assert_worlds_equal(back, world)
        assert back.to_bytes(PLUGINS[checksum]) == data
