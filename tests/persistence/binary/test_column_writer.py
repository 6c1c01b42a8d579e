"""The sections that a save is made of, checked with the independent reader."""

from __future__ import annotations

import enum
import itertools
from typing import Annotated

import numpy as np
import pytest

from pecs_np import ComponentValueError, EntityRef, World, component, component_type


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
