"""Bringing snapshots into worlds: exactly, merged as new entities, or over those of the same stable id."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    EntityId,
    EntityRef,
    World,
    WorldError,
    component,
    make_component,
    unregister,
)

MODES = ("exact", "merge", "overwrite")


@component(name="restore.Number")
class Number:
    n: int = 0


@component(name="restore.Name")
class Name:
    text: str = ""


@component(name="restore.Hidden", transient=True)
class Hidden:
    n: int = 0


class Pair:
    a: EntityRef = 0
    weight: np.float32 = 0
    b: Annotated[EntityRef, 2] = 0


class Deep:
    pair: Pair
    tag: np.int8 = 0


@component(name="restore.Links")
class Links:
    one: EntityRef = 0
    many: Annotated[EntityRef, (2, 2)] = 0
    nested: Pair = (0, 0, 0)
    deep: Annotated[Deep, 2] = ((0, 0, 0), 0)
    listed: list[EntityRef] = ()
    grid: list[Annotated[EntityRef, 2]] = ((0, 0),)
    structs: list[Pair] = ((0, 0, (0, 0)),)


def links(a, b, c):
    """Return a value that refers to three entities, or null, at every depth."""
    return Links(
        one=a,
        many=[[a, b], [c, 0]],
        nested=(a, 1, [b, c]),
        deep=[((c, 2, [0, a]), 3), ((b, 4, [a, b]), 5)],
        listed=[a, b, 0, c],
        grid=[[a, b], [c, c]],
        structs=[(a, 1, [b, 0]), (c, 2, [c, a])],
    )


def same(left, right):
    return repr(np.asarray(left).tolist()) == repr(np.asarray(right).tolist())


def linked_world(**options):
    """Return a world of three entities in three tables, each of which refers to all three at every depth."""
    world = World(**options)
    ids = [world.spawn(Number(n)) for n in range(3)]
    world.insert(ids[1], Name("one"))
    world.insert(ids[2], Hidden(2))
    for k in range(3):
        world.insert(ids[k], links(*(ids[k:] + ids[:k])))
    return world, ids


def numbers(world, ids):
    return world.get(np.asarray(ids, np.uint64), Number).n.tolist()


# All modes


@pytest.mark.parametrize("mode", MODES)
def test_references_are_right_at_every_depth(mode):
    source, ids = linked_world()
    target = World()
    if mode != "exact":
        target.despawn(target.spawn_batch(count=5)[1:3])
    restored = target.restore(source.snapshot(), mode=mode)
    of = dict(zip(source.entities().tolist(), restored.tolist(), strict=True))
    new = [EntityId(of[e]) for e in ids]
    assert (new == ids) == (mode == "exact")
    for k in range(3):
        assert same(target.get(new[k], Links), links(*(new[k:] + new[:k])))
        assert same(source.get(ids[k], Links), links(*(ids[k:] + ids[:k])))
    assert numbers(target, new) == [0, 1, 2]
    assert target.get(new[1], Name).text == "one"
    assert target.validate()


@pytest.mark.parametrize("mode", MODES)
def test_references_to_the_dead_become_null_at_every_depth(mode):
    source, ids = linked_world()
    dead = ids.pop(1)
    source.despawn(dead)
    target = World()
    if mode != "exact":
        target.spawn_batch(count=7)
    restored = target.restore(source.snapshot(), mode=mode)
    of = dict(zip(source.entities().tolist(), restored.tolist(), strict=True))
    a, c = (EntityId(of[e]) for e in ids)
    assert same(target.get(a, Links), links(a, 0, c))
    assert same(target.get(c, Links), links(c, a, 0))
    assert target.validate()


def test_a_slot_reused_after_the_restore_is_not_what_a_stale_reference_meant():
    source = World()
    ids = source.spawn_batch(Number([0, 1, 2]))
    source.insert(ids, Links(one=ids[1], listed=[[1, 2]] * 3))
    source.despawn(ids[1])
    restored = World.from_snapshot(source.snapshot())
    reborn = restored.spawn_batch(count=3)
    assert reborn.min() == ids[1]
    assert restored.get(ids[[0, 2]], Links).one.tolist() == [0, 0]
    assert [a.tolist() for a in restored.get(ids[[0, 2]], Links).listed] == [[1, 0]] * 2


@pytest.mark.parametrize("mode", MODES)
def test_the_returned_ids_are_in_the_order_of_the_snapshot(mode):
    source, _ = linked_world()
    snapshot = source.snapshot()
    target = World()
    restored = target.restore(snapshot, mode=mode)
    assert target.get(restored, Number).n.tolist() == snapshot.column("restore.Number")["n"].tolist()
    assert target.get_stable_id(restored).tolist() == source.stable_ids().tolist()


@pytest.mark.parametrize("mode", MODES)
def test_a_type_that_the_world_defines_otherwise_is_refused_and_the_world_unchanged(mode):
    source, _ = linked_world()
    unregister("restore.Number")
    other = make_component("restore.Number", {"z": np.float32})
    unregister("restore.Number")
    world = World()
    entity = world.spawn(other(5))
    world.despawn(entity) if mode == "exact" else None
    with pytest.raises(ComponentDefinitionError):
        world.restore(source.snapshot(), mode=mode)
    assert len(world) == (mode != "exact")
    assert world.query(Links).count() == 0
    assert world.validate()


def test_an_unknown_mode_and_what_is_no_snapshot_are_refused():
    world, _ = linked_world()
    with pytest.raises(WorldError, match="overwrite"):
        world.restore(world.snapshot(), mode="replace")
    with pytest.raises(WorldError):
        world.merge(world)
    assert len(world) == 3


# Exact


def test_exact_keeps_ids_stable_ids_generations_order_version_and_metadata():
    source = World(version=4, metadata={"a": {"b": [1]}})
    ids = source.spawn_batch(Number(np.arange(9)))
    source.despawn(ids[[1, 4]])
    late = source.spawn_batch(Number([20, 21, 22]))
    source.insert(late[1], Name("x"))
    source.despawn(ids[6])
    restored = World.from_snapshot(source.snapshot())
    assert restored.entities().tolist() == source.entities().tolist()
    assert restored.stable_ids().tolist() == source.stable_ids().tolist()
    assert restored.column(Number).tolist() == source.column(Number).tolist()
    assert (restored.version, restored.metadata) == (4, {"a": {"b": [1]}})
    restored.metadata["a"]["b"].append(2)
    assert source.metadata == {"a": {"b": [1]}}
    assert not restored.is_alive(ids[[1, 4, 6]]).any()
    assert restored.validate()


def test_exact_fills_the_gaps_and_never_an_id_that_is_alive():
    source = World()
    ids = source.spawn_batch(count=8)
    source.despawn(ids[[1, 2, 5]])
    restored = World.from_snapshot(source.snapshot())
    new = restored.spawn_batch(count=5)
    assert sorted(new & np.uint64(0xFFFFFFFF)) == [2, 3, 6, 9, 10]
    assert restored.validate()


def test_exact_wants_an_empty_world_but_one_that_was_emptied_will_do():
    source, ids = linked_world()
    world = World()
    old = world.spawn(Number(5), Name("old"))
    with pytest.raises(WorldError, match="merge"):
        world.restore(source.snapshot())
    assert world.get(old, Number).n == 5
    world.clear()
    world.resources.insert(Number(1))
    with pytest.raises(WorldError):
        world.restore(source.snapshot())
    world.resources.remove(Number)
    query = world.query(Number)
    assert query.count() == 0
    assert world.restore(source.snapshot()).tolist() == source.entities().tolist()
    assert sorted(n for chunk in query for n in chunk.n) == [0, 1, 2]
    assert numbers(world, ids) == [0, 1, 2]
    assert world.validate()


def test_a_seeded_world_that_is_restored_continues_its_stable_ids():
    source = World(seed=6)
    source.spawn_batch(count=3)
    restored = World.from_snapshot(source.snapshot())
    expected = source.get_stable_id(source.spawn())
    assert restored.get_stable_id(restored.spawn()) == expected


def test_a_seeded_world_restored_from_an_unseeded_one_makes_no_stable_id_twice():
    source = World(seed=6)
    source.spawn_batch(count=3)
    between = World()
    between.merge(source.snapshot())
    world = World(seed=6)
    world.restore(between.snapshot())
    world.spawn_batch(count=3)
    assert world.validate()


def test_a_snapshot_whose_seed_state_lags_behind_its_ids_makes_no_stable_id_twice():
    source = World(seed=6)
    source.spawn_batch(count=3)
    snapshot = source.snapshot()
    world = World.from_snapshot(replace(snapshot, id_source=(snapshot.id_source[0], 1)))
    world.spawn_batch(count=3)
    assert world.validate()


def test_a_world_restored_and_restored_again_is_the_same():
    source, ids = linked_world()
    source.spawn_batch(Number([7, 8]))
    source.despawn(ids[0])
    once = World.from_snapshot(source.snapshot())
    twice = World.from_snapshot(once.snapshot())
    for table, other in zip(once.snapshot().tables, twice.snapshot().tables, strict=True):
        assert table.entities.array().tolist() == other.entities.array().tolist()
        assert repr(table.columns) == repr(other.columns)
    assert twice.validate()


# Merge


def test_merge_gives_new_ids_and_keeps_stable_ids_that_are_free():
    source, _ = linked_world()
    world = World()
    here = world.spawn_with_stable_id(source.get_stable_id(source.entities())[1].item()[0] or 1)
    before = world.get_stable_id(here)
    restored = world.merge(source.snapshot())
    assert here not in restored.tolist()
    assert world.get_stable_id(here) == before
    assert world.get_stable_id(restored).tolist() == source.stable_ids().tolist()
    assert len(world) == 4


def test_merging_a_world_into_itself_doubles_it_under_fresh_stable_ids():
    world, ids = linked_world(seed=1)
    sids = world.stable_ids().tolist()
    restored = world.merge(world.snapshot())
    assert len(world) == 6
    assert not set(restored.tolist()) & set(ids)
    assert not set(world.get_stable_id(restored).tolist()) & set(sids)
    assert sorted(numbers(world, restored)) == [0, 1, 2]
    assert world.get(restored, Links).one.tolist() == restored.tolist()
    assert same(world.get(ids[0], Links), links(*ids))
    assert world.validate()


@pytest.mark.parametrize("tables", [1, 2])
def test_worlds_of_one_seed_merge_without_making_a_stable_id_twice(tables):
    worlds = World(seed=1), World(seed=1)
    for count, world in zip((1, 3), worlds, strict=True):
        ids = world.spawn_batch(Number(0), count=count)
        world.insert(ids[1 : tables + 1] if tables == 2 else [], Name("a"))
    world, other = worlds
    kept = world.get_stable_id(1)
    world.merge(other.snapshot())
    world.spawn()
    assert (len(world), world.get_stable_id(1)) == (5, kept)
    assert world.validate()
    assert len(set(world.stable_ids().tolist())) == 5


def test_merging_twice_adds_twice():
    source, _ = linked_world()
    world = World()
    for _ in range(2):
        world.merge(source.snapshot(copy=True))
    assert sorted(world.column(Number)["n"].tolist()) == [0, 0, 1, 1, 2, 2]
    assert world.validate()


def test_merge_leaves_version_and_metadata_of_the_world_alone():
    world = World(version=2, metadata={"here": 1})
    world.merge(World(version=5, metadata={"there": 1}).snapshot())
    assert (world.version, world.metadata) == (2, {"here": 1})


def test_merging_returns_to_life_what_was_despawned():
    world = World()
    assert world.get_entity_id(1) is None
    ids = [world.spawn(Number(n)) for n in range(4)]
    sids = world.get_stable_id(ids)
    snapshot = world.snapshot(copy=True)
    world.despawn(ids)
    restored = world.merge(snapshot)
    assert world.get_entity_id(sids).tolist() == restored.tolist()
    assert not set(restored.tolist()) & set(ids)
    assert world.validate()


# Overwrite


def test_overwrite_turns_the_world_back_and_keeps_entity_ids():
    world, ids = linked_world()
    snapshot = world.snapshot(copy=True)
    world.insert(ids, Number([10, 11, 12]), Name("new"))
    world.remove(ids[0], Links)
    later = world.spawn(Number(50))
    restored = world.restore(snapshot, mode="overwrite")
    assert sorted(restored.tolist()) == ids
    assert numbers(world, [*ids, later]) == [0, 1, 2, 50]
    assert world.has([*ids, later], Name).tolist() == [False, True, False, False]
    for k in range(3):
        assert same(world.get(ids[k], Links), links(*(ids[k:] + ids[:k])))
    assert world.validate()


def test_overwrite_makes_new_what_is_gone_under_its_old_stable_id():
    world, ids = linked_world()
    sids = world.get_stable_id(ids)
    snapshot = world.snapshot(copy=True)
    world.despawn(ids[1])
    world.spawn()
    world.restore(snapshot, mode="overwrite")
    new = world.get_entity_id(sids)
    assert [int(new[0]), int(new[2])] == [ids[0], ids[2]]
    assert new[1] != ids[1]
    assert same(world.get(int(new[1]), Links), links(*(EntityId(int(new[k])) for k in (1, 2, 0))))
    assert world.validate()


def test_overwrite_keeps_transient_components_that_the_snapshot_lacks():
    world = World()
    ids = world.spawn_batch(Number(np.arange(4)))
    world.insert(ids[2], Hidden(2))
    snapshot = world.snapshot(filter=lambda t: t.keep(["restore.Number"])).copy()
    world.insert(ids, Name("later"), Number(9))
    world.insert(ids[3], Hidden(3))
    world.restore(snapshot, mode="overwrite")
    assert numbers(world, ids) == [0, 1, 2, 3]
    assert not world.has(ids, Name).any()
    assert [world.has(e, Hidden) for e in ids] == [False, False, True, True]
    assert world.get(ids[2:], Hidden).n.tolist() == [2, 3]
    assert world.validate()


def test_overwrite_takes_transient_components_that_the_snapshot_has():
    world = World()
    entity = world.spawn(Hidden(1))
    snapshot = world.snapshot(copy=True)
    world.insert(entity, Hidden(5))
    world.restore(snapshot, mode="overwrite")
    assert world.get(entity, Hidden).n == 1


def test_overwriting_with_its_own_live_snapshot_changes_nothing():
    world, ids = linked_world()
    world.restore(world.snapshot(), mode="overwrite")
    world.restore(world.snapshot(filter=lambda t: t.keep(["restore.Number"])), mode="overwrite")
    assert numbers(world, ids) == [0, 1, 2]
    assert world.has(ids, Links).tolist() == [False] * 3
    assert world.validate()


def test_a_world_looked_at_while_it_was_empty_shows_what_was_restored():
    source = World()
    source.spawn_batch(count=3)
    world = World()
    assert (world.snapshot().entity_count, world.entities().size) == (0, 0)
    world.restore(source.snapshot())
    assert (world.snapshot().entity_count, world.entities().size) == (3, 3)
    assert len(World.from_bytes(world.to_bytes())) == 3
