"""Deltas as bytes, checked with the independent reader."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pecs_np import (
    ChangeSet,
    ChangeTable,
    ChangeTracker,
    ComponentDefinitionError,
    ComponentValueError,
    PersistenceError,
    World,
    WorldState,
    component_type,
)
from pecs_np.ecs.applying import concatenated_changes
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.persistence.compression import Packing


def data_of(changes, **options):
    return b"".join(encode_delta(changes, **options))


def ids_of(*values):
    return np.array([(value, 0) for value in values], STABLE_ID)


@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
def test_the_independent_reader_finds_everything_in_its_place(reference, deltas, codec):
    changes, _, world = deltas.everything()
    packing = codec and Packing.of(codec, None, True, 1)
    encoded = encode_delta(changes, base_id=(7 << 100) + 9, packing=packing)
    data = b"".join(encoded)
    delta = reference.read(data, delta=True)
    assert encoded.size == len(data)
    assert int.from_bytes(delta.base_id, "little") == (7 << 100) + 9
    assert bool(delta.flags & 3) == bool(codec)
    roles = [t["role"] for t in delta.schema["tables"]]
    assert roles.count("created") == len(changes.created) >= 3
    assert roles.count("modified") == len(changes.modified) >= 3
    assert roles[-1] == "resource"
    assert delta.schema["timestamp"] == 1234.5
    assert delta.schema["world"]["metadata"] == {"now": [1, "é"]}
    names = [t.name for t in changes.types]
    for number, table in enumerate((*changes.created, *changes.modified)):
        assert reference.pack_ids(delta.ids(number)) == table.stable_ids.tobytes()
        assert [names[i] for i in delta.schema["tables"][number]["types"]] == list(table.names)
    loose = delta.loose_ids()
    assert reference.pack_ids(loose.pop(None)) == changes.despawned.tobytes()
    assert {name: reference.pack_ids(ids) for name, ids in loose.items()} == {
        name: ids.tobytes() for name, ids in changes.removed.items()
    }
    assert set(loose) == {"DeltaHome", "DeltaMark", "DeltaSpot"}
    # References are stable ids.
    number = roles.index("resource")
    (leader,) = delta.fixed(number, "DeltaClock")["leader"]
    assert int.from_bytes(leader, "little") == world.get_stable_id(
        world.resources.get(deltas.DeltaClock).leader
    )


def test_a_list_of_references_is_written_as_stable_ids(reference, deltas):
    world = World(seed=1)
    tracker = ChangeTracker(world, clock=lambda: 0.0)
    first, second = world.spawn_batch(count=2)
    world.spawn(deltas.DeltaStory(crew=[second, 0, first], title="a"))
    delta = reference.read(data_of(tracker.changes()), delta=True)
    (crew,) = delta.pieces(1, "DeltaStory", "crew")
    assert reference.unpack_ids(crew) == [world.get_stable_id(second), 0, world.get_stable_id(first)]
    assert "timestamp" not in delta.schema


@pytest.mark.parametrize("seed", range(30))
def test_every_delta_keeps_every_rule(reference, deltas, seed):
    for changes, _, _ in deltas.changing(seed):
        for told in (changes, changes.invert()):
            reference.read(data_of(told, base_id=seed), delta=True)
    whole = concatenated_changes(changes for changes, _, _ in deltas.changing(seed))
    reference.read(data_of(whole), delta=True)


def test_equal_changes_give_equal_bytes_and_ids(deltas):
    (changes, _, _), (again, _, _) = deltas.everything(), deltas.everything()
    first, second = encode_delta(changes), encode_delta(again)
    assert b"".join(first) == b"".join(second)
    assert first.save_id == second.save_id != encode_delta(replace(changes, timestamp=2.0)).save_id


def test_what_did_not_change_is_not_there(reference):
    delta = reference.read(data_of(ChangeSet()), delta=True)
    assert (delta.schema["world"], delta.schema["tables"], delta.parts) == ({}, [], [])
    delta = reference.read(data_of(ChangeSet(world=WorldState(version=3))), delta=True)
    assert delta.schema["world"] == {"version": 3, "metadata": {}, "rng": {}}


def test_ids_that_follow_one_another_are_runs(reference):
    changes = ChangeSet(despawned=ids_of(*range(1, 1000)), removed={"DeltaGone": ids_of(*range(2000, 3000))})
    delta = reference.read(data_of(changes), delta=True)
    assert [(part.codec, len(part.data)) for part in delta.parts] == [(reference.RUNS, 24)] * 2
    # Of a type of which nothing else is known, the name is.
    assert delta.schema["types"] == [{"name": "DeltaGone", "version": 1, "fields": []}]


def test_a_component_that_was_only_lost_is_described_as_it_was(reference, deltas):
    world = World()
    ids = world.spawn_batch(deltas.DeltaStory(title=["a", "b"]))
    tracker = ChangeTracker(world)
    world.remove(ids[0], deltas.DeltaStory)
    changes = tracker.changes()
    for told in (changes, replace(changes, lost=())):  # as the program defines it
        delta = reference.read(data_of(told), delta=True)
        assert delta.types == [("DeltaStory", 4)]
        assert [f["name"] for f in delta.schema["types"][0]["fields"]][:2] == ["title", "seal"]


def test_tables_of_the_same_components_are_one_and_empty_ones_none(reference, deltas):
    type_ = component_type(deltas.DeltaMark)
    column = np.zeros(1, type_.layout.portable)
    tables = [ChangeTable((type_,), ids_of(n), {"DeltaMark": column}) for n in (5, 3)]
    empty = ChangeTable((type_,), ids_of(), {"DeltaMark": column[:0]})
    changes = ChangeSet(created=(*tables, empty), modified=(empty,), removed={"DeltaMark": ids_of()})
    delta = reference.read(data_of(changes), delta=True)
    assert delta.schema["tables"] == [{"rows": 2, "types": [0], "role": "created"}]
    assert delta.ids(0) == [5, 3]


def table(deltas, *ids, **changed):
    type_ = component_type(deltas.DeltaSpot)
    columns = {"DeltaSpot": np.zeros(len(ids), type_.layout.portable)}
    return replace(ChangeTable((type_,), ids_of(*ids), columns), **changed)


def test_what_no_reader_would_take_is_not_written(deltas):
    spot = deltas.DeltaSpot
    bad = {
        "expected a ChangeSet": (None, PersistenceError),
        "seconds since 1970": (ChangeSet(timestamp=float("nan")), PersistenceError),
        "the time of changes, found 1e": (ChangeSet(timestamp=1e300), PersistenceError),
        "0 among those despawned": (ChangeSet(despawned=ids_of(0)), PersistenceError),
        "twice among those created or modified": (
            ChangeSet((table(deltas, 1),), (table(deltas, 1),)),
            PersistenceError,
        ),
        "both modified and despawned": (
            ChangeSet((), (table(deltas, 1),), despawned=ids_of(1)),
            PersistenceError,
        ),
        "expected 1 rows": (
            ChangeSet(
                (table(deltas, 1, columns={"DeltaSpot": np.zeros(2, component_type(spot).layout.memory)}),)
            ),
            ComponentValueError,
        ),
        "expected a column for each": (ChangeSet((table(deltas, 1, columns={}),)), PersistenceError),
        "for stable ids": (ChangeSet((table(deltas, 1, stable_ids=np.array([1])),)), ComponentValueError),
        "metadata that|text keys": (ChangeSet(world=WorldState(metadata={1: 2})), PersistenceError),
    }
    for message, (changes, error) in bad.items():
        with pytest.raises(error, match=message):
            encode_delta(changes)
    for base_id in (-1, 1 << 128, "a", None, True):
        with pytest.raises(PersistenceError, match="expected the save id of the base"):
            encode_delta(ChangeSet(), base_id=base_id)


def test_two_definitions_of_one_component_do_not_go_into_one_delta(deltas, define):
    one = component_type(deltas.DeltaSpot)
    other = component_type(define("DeltaOther", {"z": np.int8}))
    other = replace(other, name="DeltaSpot")
    mixed = ChangeTable((other,), ids_of(2), {"DeltaSpot": np.zeros(1, other.layout.portable)})
    assert one.name == other.name
    with pytest.raises(ComponentDefinitionError, match="expected one definition of DeltaSpot"):
        encode_delta(ChangeSet((table(deltas, 1),), (mixed,)))


def test_values_that_are_none_are_refused(deltas):
    changes, _, _ = deltas.everything()
    homes = next(t for t in changes.created if "DeltaHome" in t.columns)
    homes.columns["DeltaHome"].view("u1")[-1] = 7  # awake
    with pytest.raises(ComponentValueError, match=r"is not a bool in row [0-9]+ of DeltaHome"):
        encode_delta(changes)
