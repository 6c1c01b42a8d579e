"""A snapshot as a document and buffers: the same for equal worlds, and whatever comes back is checked."""

import copy
import json
import math

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    CorruptedDataError,
    DanglingReferenceError,
    EntityRef,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    World,
)
from pecs_np.persistence.packed import pack, unpack
from pecs_np.testing import assert_worlds_equal
from pecs_np.testing.samples import KINDS, Samples


@pytest.fixture
def samples():
    made = Samples()
    yield made
    made.forget()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_field_comes_back(samples, kind):
    world = samples.world_of(kind)
    document, buffers = pack(world.snapshot())
    assert json.loads(json.dumps(document)) == document
    assert all(isinstance(buffer, memoryview) and buffer.format == "B" for buffer in buffers)
    back = World.from_snapshot(unpack(document, [bytes(b) for b in buffers], "a"))
    assert_worlds_equal(world, back)
    assert back.validate()
    again = pack(back.snapshot())
    assert (again[0], list(map(bytes, again[1]))) == (document, list(map(bytes, buffers)))


def test_the_world_as_a_whole_comes_back(samples):
    world = samples.rich()
    document, buffers = pack(world.snapshot())
    roles = [table["role"] for table in document["tables"]]
    assert roles.count("resource") == 1
    back = World.from_snapshot(unpack(document, buffers, "a"))
    assert_worlds_equal(world, back)
    world.spawn()
    back.spawn()
    assert_worlds_equal(world, back)
    assert pack(World().snapshot())[1] == []


def test_buffers_are_columns_as_they_lie_in_memory(define):
    Mass = define("packed.Mass", {"kg": np.float32})
    world = World()
    world.spawn_batch(Mass(kg=np.arange(100)))
    document, (ids, masses) = pack(world.snapshot())
    assert np.shares_memory(np.asarray(masses), np.asarray(world.columns(Mass)[0]).view("u1"))
    assert len(ids) == 1600
    assert [f["dtype"] for f in document["types"][0]["fields"]] == ["<f4"]
    back = World.from_snapshot(unpack(document, [ids, masses], "a"))
    back.column(Mass)["kg"] = 0
    assert world.column(Mass)["kg"].sum() == 4950


@pytest.fixture
def packed(define):
    Link = define("packed.Link", {"to": EntityRef, "text": str})
    world = World(metadata={"a": 1})
    a = world.spawn_with_stable_id(7)
    world.spawn_with_stable_id(8, Link(to=a, text="ab"))
    document, buffers = pack(world.snapshot())
    return document, [bytes(b) for b in buffers]


def damaged(document, change):
    document = copy.deepcopy(document)
    change(document)
    return document


DOCUMENTS = [
    lambda d: d.clear(),
    lambda d: d.pop("world"),
    lambda d: d.pop("types"),
    lambda d: d.pop("tables"),
    lambda d: d.update(types=[]),
    lambda d: d.update(types=d["types"] * 2),
    lambda d: d["types"].append({"name": "packed.A", "version": 1, "fields": []}),
    lambda d: d["types"][0].update(version=0),
    lambda d: d["types"][0].update(version=1 << 32),
    lambda d: d["types"][0].update(name=""),
    lambda d: d["types"][0].update(fields=[{"name": "x", "dtype": "O"}]),
    lambda d: d["types"][0]["fields"].reverse(),
    lambda d: d["tables"][0].update(rows=2),
    lambda d: d["tables"][0].update(rows=2**62),
    lambda d: d["tables"][0].update(rows=0),
    lambda d: d["tables"][0].update(role="created"),
    lambda d: d["tables"][0].update(role="resource"),
    lambda d: d["tables"][1].update(types=[1]),
    lambda d: d["tables"].pop(),
    lambda d: d["tables"].reverse(),
    lambda d: d["world"].update(version="1"),
    lambda d: d["world"].update(metadata=b"no JSON"),
    lambda d: d["world"].update(metadata={"x": math.nan}) or d["world"].update(rng={"x": math.nan}),
]


@pytest.mark.parametrize("change", DOCUMENTS)
def test_documents_that_break_a_rule_are_refused(packed, change):
    document, buffers = packed
    with pytest.raises(PecsError):
        unpack(damaged(document, change), buffers, "a")


@pytest.mark.parametrize("document", [None, [], 3, "text", object(), {1: 2}])
def test_what_is_no_document_is_refused(document):
    with pytest.raises(InvalidFormatError):
        unpack(document, [], "a")


def test_buffers_that_break_a_rule_are_refused(packed):
    document, buffers = packed
    ids, linked, fixed, offsets, text = buffers
    assert (linked, fixed, text) == ((8).to_bytes(16, "little"), (7).to_bytes(16, "little"), b"ab")
    cases = [
        (buffers[:-1], InvalidFormatError, "more than 4 buffers"),
        ([*buffers, b""], InvalidFormatError, "expected 5 buffers, found 6"),
        (["text", *buffers[1:]], InvalidFormatError, "expected bytes"),
        ([ids[:-1], *buffers[1:]], CorruptedDataError, "expected 16 bytes, found 15 in buffer 0 of a"),
        ([bytes(16), *buffers[1:]], CorruptedDataError, "other than 0"),
        ([ids, ids, *buffers[2:]], CorruptedDataError, "distinct stable ids"),
        ([ids, linked, b"\x09" + bytes(15), offsets, text], DanglingReferenceError, "packed|a"),
        ([ids, linked, fixed, offsets[8:] * 2, text], CorruptedDataError, "offsets"),
        ([ids, linked, fixed, offsets, b"\xff\xff"], CorruptedDataError, "UTF-8"),
        ([ids, linked, fixed, offsets, b"abc"], PecsError, "found 3 bytes"),
    ]
    for found, kind, message in cases:
        with pytest.raises(kind, match=message):
            unpack(document, found, "a")


def test_types_defined_otherwise_and_limits(packed, define):
    document, buffers = packed
    with pytest.raises(LimitExceededError):
        unpack(document, buffers, "a", Limits(itemsize=8))
    fields = document["types"][0]["fields"]
    document["types"][0]["fields"] = [{"name": "to", "dtype": "<u8"}, fields[1]]
    with pytest.raises(ComponentDefinitionError):
        unpack(document, buffers, "a")


@pytest.mark.parametrize("wrong", [None, 5, {0: b""}, {b"a"}, iter([b"a"]), object(), World()])
def test_buffers_that_are_no_list_are_refused(wrong):
    document, _ = pack(World().snapshot())
    with pytest.raises(InvalidFormatError, match="expected a list of buffers"):
        unpack(document, wrong, "a save")
