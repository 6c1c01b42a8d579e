"""Transient types stay out of saves."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import ComponentValueError, EntityRef, World, component
from pecs_np.persistence.filters import without_transient


@component
class KeptHealth:
    points: np.int32


@component
class KeptOwner:
    entity: EntityRef


@component(transient=True)
class PassingSprite:
    number: np.int32


@component(transient=True)
class PassingTarget:
    entity: EntityRef


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(KeptHealth(points=[1, 2]), PassingSprite(number=[10, 20]))
    world.spawn_batch(KeptHealth(points=[3, 4]))
    world.spawn_batch(PassingSprite(number=[30]))
    return world


def test_transient_columns_are_not_in_the_bytes(world, reference):
    save = reference.read(world.to_bytes())
    assert [name for name, _ in save.types] == ["KeptHealth"]


def test_all_entities_are_saved_even_those_with_nothing_else(world):
    back = World.from_bytes(world.to_bytes())
    assert len(back) == 5
    assert sorted(back.stable_ids().tolist()) == sorted(world.stable_ids().tolist())


def test_tables_that_differ_in_transient_types_alone_become_one(world, reference):
    save = reference.read(world.to_bytes())
    assert [(t["rows"], t["types"]) for t in save.schema["tables"]] == [(1, []), (4, [0])]
    by_id = dict(zip(save.ids(1), save.fixed(1, "KeptHealth")["points"], strict=True))
    for entity in world.entities():
        if world.has(entity, KeptHealth):
            points = np.int32(world.get(entity, KeptHealth).points).tobytes()
            assert by_id[world.get_stable_id(entity)] == points


def test_saving_leaves_the_world_its_transient_components(world):
    world.to_bytes()
    assert world.query(PassingSprite).count() == 3
    assert sorted(np.concatenate([c["number"] for c in world.columns(PassingSprite)])) == [10, 20, 30]


def test_changes_after_a_save_are_in_the_next_one(world, reference):
    first = world.to_bytes()
    for chunk in world.query(KeptHealth):
        chunk.points += 100
    second = world.to_bytes()
    assert first != second
    points = reference.read(second).fixed(1, "KeptHealth")["points"]
    assert sorted(int.from_bytes(p, "little") for p in points) == [101, 102, 103, 104]


def test_references_between_joined_tables_still_find_their_targets():
    world = World(seed=2)
    a = world.spawn(KeptHealth(1), PassingSprite(1))
    b = world.spawn(KeptOwner(a), PassingTarget(a))
    world.spawn(KeptOwner(b))
    back = World.from_bytes(world.to_bytes())
    owners = {
        back.get_stable_id(int(e)): back.get_stable_id(back.get(int(e), KeptOwner).entity)
        for e in back.entities()
        if back.has(int(e), KeptOwner)
    }
    assert owners[world.get_stable_id(b)] == world.get_stable_id(a)
    assert len(owners) == 2


def test_transient_resources_are_left_out():
    world = World()
    world.resources.insert(KeptHealth(9))
    world.resources.insert(PassingSprite(8))
    back = World.from_bytes(world.to_bytes())
    assert back.resources.get(KeptHealth).points == 9
    assert PassingSprite not in back.resources


def test_a_world_with_transient_resources_alone_saves_none(reference):
    world = World()
    world.resources.insert(PassingSprite(8))
    save = reference.read(world.to_bytes())
    assert save.types == []
    assert save.schema["tables"] == []


def test_a_snapshot_without_transient_types_is_passed_on_as_it_is():
    world = World()
    world.spawn(KeptHealth(1))
    snapshot = world.snapshot()
    assert without_transient(snapshot) is snapshot


def test_variable_length_values_of_joined_tables_are_kept(define):
    Label = define("KeptLabel", {"text": str, "numbers": list[np.int16]})
    world = World(seed=1)
    world.spawn_batch(Label(text=["a", "bé"], numbers=[[1], []]))
    world.spawn_batch(Label(text=["c"], numbers=[[2, 3]]), PassingSprite(1))
    back = World.from_bytes(world.to_bytes())
    texts = {row["text"]: row["numbers"].tolist() for row in back.column(Label)}
    assert texts == {"a": [1], "bé": [], "c": [2, 3]}


@component
class Cached:
    value: np.float32
    valid: bool = True

    def is_persistent(self):
        return self.valid


@component
class Odd:
    n: int

    def is_persistent(self):
        return self.n


def test_values_that_are_not_persistent_stay_out_and_their_entities_stay():
    world = World(seed=1)
    ids = world.spawn_batch(KeptHealth(points=[1, 2, 3, 4]), Cached([1, 2, 3, 4], [True, False, True, False]))
    lone = world.spawn(Cached(9, False))
    back = World.from_bytes(world.to_bytes())
    assert len(back) == 5
    here = back.get_entity_id(world.get_stable_id(ids))
    assert back.get(here, KeptHealth).points.tolist() == [1, 2, 3, 4]
    assert back.has(here, Cached).tolist() == [True, False, True, False]
    assert back.get(here[[0, 2]], Cached).value.tolist() == [1, 3]
    assert not back.has(back.get_entity_id(world.get_stable_id(lone)), Cached)
    assert back.validate()
    assert world.has(ids, Cached).all()


def test_a_change_of_validity_shows_in_the_next_save():
    world = World(seed=1)
    ids = world.spawn_batch(Cached([1, 2], True))
    assert World.from_bytes(world.to_bytes()).query(Cached).count() == 2
    world.get(ids[0], Cached).valid = False
    assert World.from_bytes(world.to_bytes()).query(Cached).count() == 1


@pytest.mark.parametrize("valid", [True, False])
def test_a_resource_that_is_not_persistent_stays_out(valid):
    world = World(seed=1)
    world.resources.insert(Cached(1, valid))
    world.resources.insert(KeptHealth(5))
    back = World.from_bytes(world.to_bytes())
    assert (Cached in back.resources) is valid
    assert back.resources.get(KeptHealth).points == 5


def test_what_is_no_mask_is_refused():
    world = World(seed=1)
    world.spawn_batch(Odd([1, 2]))
    with pytest.raises(ComponentValueError, match=r"mask of 2 bools from Odd\.is_persistent"):
        world.to_bytes()
