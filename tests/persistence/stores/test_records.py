"""Entities as records, to the byte, and records that do not follow their layout."""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import Annotated

import numpy as np
import orjson
import pytest

from pecs_np import (
    CorruptedDataError,
    EntityNotFoundError,
    EntityRef,
    InvalidFormatError,
    KeyValueEntityPlugin,
    LimitExceededError,
    Limits,
    PecsError,
    World,
    component,
)
from pecs_np.ecs.entities import as_stable_ids
from pecs_np.persistence.stores.records import key_of, keys_of, layout_of, read_layout, stable_ids_of


@component(version=3)
class KeptPlace:
    x: np.float32
    cells: Annotated[np.int16, 2]


@component
class KeptNote:
    text: str
    flag: bool
    about: EntityRef
    crew: list[EntityRef]


@component
class KeptTag:
    pass


@pytest.fixture
def store():
    return KeyValueEntityPlugin()


def saved(store, *components, stable_id=7):
    world = World()
    entity = world.spawn_with_stable_id(stable_id, *components)
    store.save_entity(world, entity)
    return store.read([key_of(stable_id)])[0]


def test_a_record_is_the_layout_the_fixed_fields_and_the_values(store):
    world = World()
    other = world.spawn_with_stable_id(5 << 64 | 3)
    entity = world.spawn_with_stable_id(
        9,
        KeptNote(text="hé", flag=True, about=other, crew=[other, 0]),
        KeptPlace(x=1.5, cells=[1, -1]),
        KeptTag(),
    )
    store.save_entity(world, entity)
    types = tuple(t._type for t in (KeptNote, KeptPlace, KeptTag))
    document = orjson.dumps(
        {
            "types": [
                {
                    "name": "KeptNote",
                    "version": 1,
                    "fields": [
                        {"name": "text", "variable": "str"},
                        {"name": "flag", "dtype": "|b1"},
                        {"name": "about", "ref": True},
                        {"name": "crew", "variable": "list", "ref": True},
                    ],
                },
                {
                    "name": "KeptPlace",
                    "version": 3,
                    "fields": [
                        {"name": "x", "dtype": "<f4"},
                        {"name": "cells", "dtype": "<i2", "shape": [2]},
                    ],
                },
                {"name": "KeptTag", "version": 1, "fields": []},
            ]
        }
    )
    layout_id = blake2b(document, digest_size=8).digest()
    assert layout_of(types).document == document
    assert layout_of(types).id == layout_id
    assert store.read_layouts({layout_id}) == {layout_id: document}
    target = struct.pack("<QQ", 3, 5)
    expected = layout_id + b"\1" + target + struct.pack("<fhh", 1.5, 1, -1)
    expected += struct.pack("<I", 3) + "hé".encode() + struct.pack("<I", 32) + target + bytes(16)
    assert store.read([(9).to_bytes(16, "big")]) == [expected]


def test_an_entity_without_components_is_its_layout_alone(store):
    record = saved(store)
    assert record == blake2b(b'{"types":[]}', digest_size=8).digest()
    world = World()
    assert world.has(store.load_entity(world, 7))


def test_keys_sort_as_the_ids_do():
    ids = [1, 255, 256, 1 << 64, (1 << 128) - 1]
    assert keys_of(as_stable_ids(ids)) == sorted(keys_of(as_stable_ids(ids))) == [key_of(i) for i in ids]
    assert stable_ids_of(keys_of(as_stable_ids(ids))).tolist() == as_stable_ids(ids).tolist()
    assert len(stable_ids_of([])) == 0


def test_batches_of_many_layouts_come_back_in_the_order_asked_for(store):
    world = World(seed=1)
    ids = np.concatenate(
        [
            world.spawn_batch(KeptPlace(x=np.arange(50), cells=0)),
            world.spawn_batch(KeptTag(), KeptPlace(x=np.arange(50, 80), cells=0)),
            world.spawn_batch(count=20),
            world.spawn_batch(KeptNote(text=[f"n{i}" * i for i in range(40)], flag=False, about=0, crew=[])),
        ]
    )
    notes = ids[-40:]
    for chunk in world.query(KeptNote):
        chunk.about = ids[:40]
        chunk._array["crew"] = [ids[: i % 5].copy() for i in range(40)] + []
    order = np.random.default_rng(1).permutation(len(ids))
    store.save_entities(world, ids[order])
    assert len(store) == len(ids)
    other = World()
    other.spawn_batch(count=7)
    stable = world.get_stable_id(ids[order])
    loaded = store.load_entities(other, stable)
    assert other.get_stable_id(loaded).tolist() == stable.tolist()
    assert other.validate()
    back = other.get_entity_id(world.get_stable_id(notes))
    texts = [other.get(int(e), KeptNote).text for e in back]
    assert texts == [f"n{i}" * i for i in range(40)]
    about = other.get(back, KeptNote)["about"]
    assert other.get_stable_id(about).tolist() == world.get_stable_id(ids[:40]).tolist()


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_record_that_is_cut_or_longer_is_damage(store, cut):
    record = saved(store, KeptNote(text="hello", flag=True, about=0, crew=[0]), KeptPlace(x=1, cells=0))
    if cut >= len(record):
        return
    world = World()
    for damaged in (record[:-cut], record + bytes(cut)):
        store._records[key_of(7)] = damaged
        with pytest.raises(CorruptedDataError, match="store 'memory'"):
            store.load_entity(world, 7)
        assert len(world) == 0
        assert world.validate()


def test_any_flipped_bit_loads_or_is_an_error_of_the_library(store):
    record = saved(store, KeptNote(text="hello", flag=True, about=0, crew=[0]), KeptPlace(x=1, cells=0))
    refused = 0
    for bit in range(8 * len(record)):
        damaged = bytearray(record)
        damaged[bit // 8] ^= 1 << bit % 8
        store._records[key_of(7)] = bytes(damaged)
        world = World()
        try:
            store.load_entity(world, 7)
        except PecsError:
            refused += 1
            assert len(world) == 0
            if world._storage.awaited is not None:  # what was set aside for it is given back
                assert len(world._storage.awaited.pairs()[0]) == 0
        else:
            assert len(world) == 1
        assert world.validate()
    assert refused > 64 + 7


def test_layouts_are_checked_before_they_are_used():
    layout = layout_of((KeptPlace._type,))
    limits = Limits()
    again = read_layout(layout.id, layout.document, limits, "a store")
    assert again.head == layout.head
    assert [t.fields for t in again.types] == [KeptPlace._type.fields]
    with pytest.raises(CorruptedDataError, match="another document"):
        read_layout(layout.id, layout.document + b" ", limits, "a store")

    def read(document, limits=limits):
        data = document if isinstance(document, bytes) else orjson.dumps(document)
        return read_layout(blake2b(data, digest_size=8).digest(), data, limits, "a store")

    entry = {"name": "A", "version": 1, "fields": []}
    bad = [
        b"{",
        {},
        {"types": 5},
        {"types": [5]},
        {"types": [{"name": "A"}]},
        {"types": [entry | {"name": 5}]},
        {"types": [entry | {"version": 0}]},
        {"types": [entry | {"version": True}]},
        {"types": [entry | {"fields": [{"name": "x", "dtype": "O"}]}]},
        {"types": [entry, entry]},
        {"types": [entry | {"name": "B"}, entry]},
    ]
    for document in bad:
        with pytest.raises(InvalidFormatError, match="a store"):
            read(document)
    assert read({"types": [entry]}).types[0].name == "A"
    with pytest.raises(LimitExceededError):
        read({"types": [entry]}, Limits(schema_size=10))
    wide = {"name": "x", "dtype": "<f8", "shape": [1000]}
    with pytest.raises(LimitExceededError):
        read({"types": [entry | {"fields": [wide]}]}, Limits(itemsize=100))


def test_a_record_whose_layout_is_gone_is_damage(store):
    saved(store, KeptPlace(x=1, cells=0))
    store._documents.clear()
    fresh = KeyValueEntityPlugin()
    fresh._records = store._records
    with pytest.raises(CorruptedDataError, match="found none in the store 'memory'"):
        fresh.load_entity(World(), 7)
    with pytest.raises(EntityNotFoundError):
        fresh.load_entity(World(), 8)
