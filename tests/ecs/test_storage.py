"""The books behind a world: ids and generations, the stable-id index, and moves between tables."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from pecs_np import (
    DuplicateEntityError,
    EntityId,
    EntityNotFoundError,
    StableId,
    World,
    WorldError,
    component,
)
from pecs_np.ecs.entities import Entities, StableIdSource, as_stable_ids
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.stable_index import StableIndex


@component(name="storage.Number")
class Number:
    n: int = 0


@component(name="storage.Name")
class Name:
    text: str = ""


@component(name="storage.Mark")
class Mark:
    pass


def table_rows(world):
    return [
        (tuple(t.name for t in table.types), table.columns["storage.Number"]["n"].tolist())
        for table in world.snapshot().tables
    ]


def mixed_world(count=24):
    """Return a world of four tables and its ids; the number of an entity is its place among the ids."""
    world = World(seed=5)
    ids = world.spawn_batch(Number(np.arange(count)))
    world.insert(ids[::2], Name([f"t{i}" for i in range(0, count, 2)]))
    world.insert(ids[::3], Mark())
    return world, ids


# Ids and generations


def test_ids_start_at_slot_one_of_generation_zero():
    world = World()
    assert [(e.index, e.generation) for e in (world.spawn(), world.spawn())] == [(1, 0), (2, 0)]


def test_a_recycled_slot_gets_the_next_generation_and_the_old_id_stays_dead():
    world = World()
    old = [world.spawn()]
    for generation in range(1, 5):
        world.despawn(old[-1])
        old.append(world.spawn())
        assert (old[-1].index, old[-1].generation) == (1, generation)
    assert world.is_alive(np.array(old)).tolist() == [False] * 4 + [True]


def test_a_batch_takes_recycled_slots_first_and_then_fresh_ones():
    world = World()
    ids = world.spawn_batch(count=4)
    world.despawn(ids[[1, 2]])
    new = [EntityId(e) for e in world.spawn_batch(count=3).tolist()]
    assert sorted((e.index, e.generation) for e in new) == [(2, 1), (3, 1), (5, 0)]
    assert world.validate()


def test_a_slot_whose_generations_are_used_up_is_retired():
    world = World()
    world.despawn(world.spawn())
    world._storage.entities.generations[1] = 2**32 - 1
    last = world.spawn()
    assert last == EntityId((2**32 - 1) << 32 | 1)
    world.despawn(last)
    assert world.spawn().index == 2
    assert not world.is_alive(last)


def test_no_id_of_another_world_or_of_no_world_is_alive():
    world = World(capacity=10)
    world.spawn_batch(count=3)
    dead = np.array([0, 4, 9, 2**32 - 1, 2**32, 1 << 32 | 1, 2**64 - 1], np.uint64)
    assert not world.is_alive(dead).any()
    assert not any(world.is_alive(int(e)) for e in dead)


def test_books_that_hold_given_ids_recycle_only_the_gaps():
    books = Entities.holding([IdColumn(ENTITY_ID, array=np.array([7 << 32 | 2, 5], np.uint64))])
    assert books.is_alive(7 << 32 | 2)
    assert not books.is_alive(2)
    assert sorted(books.allocate(4).array().tolist()) == [1, 3, 4, 6]


def test_books_refuse_two_ids_of_one_slot():
    with pytest.raises(DuplicateEntityError):
        Entities.holding([IdColumn(ENTITY_ID, array=np.array([1 << 32 | 2, 2], np.uint64))])


def test_a_world_that_was_given_no_entities_by_a_batch_of_none_still_works():
    world = World()
    assert world.spawn_batch(Number(1), count=0).shape == (0,)
    assert world.validate()
    assert world.get(world.spawn(Number(2)), Number).n == 2


# Stable ids


def test_a_seed_makes_stable_ids_reproducible_and_another_seed_makes_others():
    def first_ids(seed):
        world = World(seed=seed)
        world.spawn()
        world.spawn_batch(count=3)
        return world.stable_ids().tolist()

    assert first_ids(4) == first_ids(4)
    assert not set(first_ids(4)) & set(first_ids(5))
    assert not set(first_ids(None)) & set(first_ids(None))


def test_a_source_counts_its_low_half_and_never_repeats_an_id_it_must_avoid():
    source = StableIdSource(seed=1)
    first = source.take(3)
    source.avoid(IdColumn(STABLE_ID, [(first + 7, 2)]))
    assert source.take(1) == first + 9


@pytest.mark.parametrize("batch", [False, True])
def test_a_seeded_world_never_makes_a_stable_id_that_was_given_to_it(batch):
    twin = World(seed=1)
    given = twin.get_stable_id(twin.spawn())
    world = World(seed=1)
    if batch:
        world.spawn_batch(stable_ids=[given])
    else:
        world.spawn_with_stable_id(given)
    assert world.get_stable_id(world.spawn()) != given
    assert world.validate()


def test_an_index_finds_the_entity_last_noted_however_it_was_noted():
    index = StableIndex()
    index.add_one(7, 1)
    index.add(as_stable_ids([7, 8]), np.array([2, 3], ENTITY_ID))
    assert [index.find_one(s) for s in (7, 8, 9)] == [2, 3, 0]
    index.add_one(8, 4)
    assert index.find(as_stable_ids([7, 8, 9])).tolist() == [2, 4, 0]


def test_a_stable_id_reused_in_a_batch_after_a_despawn_finds_the_new_entity():
    world = World()
    assert world.get_entity_id(7) is None
    world.despawn(world.spawn_with_stable_id(7))
    ids = world.spawn_batch(stable_ids=[7, 8])
    assert world.get_entity_id(7) == ids[0]
    with pytest.raises(DuplicateEntityError):
        world.spawn_with_stable_id(7)


@pytest.mark.parametrize("sparse", [False, True])
def test_look_ups_stay_right_while_spawns_and_despawns_make_many_levels(sparse):
    rng = np.random.default_rng(8)
    world = World()
    expected: dict[int, int] = {}
    gone: list[int] = []
    highest = 2**127 if sparse else 5000
    for step in range(40):
        count = int(rng.integers(1, 200))
        if step % 3 == 0:
            ids = [world.spawn() for _ in range(count)]
            sids = [world.get_stable_id(e) for e in ids]
        else:
            wanted = {int.from_bytes(rng.bytes(16), "little") % highest + 1 for _ in range(count)}
            sids = [s for s in wanted if s not in expected] + [s for s in gone[:5] if s not in wanted]
            ids = world.spawn_batch(stable_ids=sids).tolist()
        expected |= dict(zip(sids, ids, strict=True))
        gone = rng.permutation(np.array(list(expected), object))[: len(expected) // 4].tolist()
        world.despawn(np.array([expected.pop(s) for s in gone], np.uint64))
        assert world.get_entity_id(list(expected)).tolist() == list(expected.values())
        assert not world.get_entity_id(gone).any()
        assert all(world.get_entity_id(s) == e for s, e in list(expected.items())[:20])
    assert world.validate()


def test_more_single_spawns_than_the_index_keeps_apart_are_all_found():
    world = World()
    assert world.get_entity_id(5) is None
    ids = [world.spawn() for _ in range(2500)]
    assert world.get_entity_id(world.get_stable_id(ids)).tolist() == ids
    assert all(world.get_entity_id(world.get_stable_id(e)) == e for e in ids[::97])


def test_the_world_keeps_no_hold_on_arrays_that_it_gave_or_was_given():
    given = as_stable_ids([1 << 100, 5, 3 << 70, 9])
    world = World()
    assert world.get_entity_id(1) is None
    ids = world.spawn_batch(stable_ids=given)
    expected = dict(zip([1 << 100, 5, 3 << 70, 9], ids.tolist(), strict=True))
    given[:] = as_stable_ids([11, 12, 13, 14])
    ids[:] = ids[::-1].copy()
    assert {s: world.get_entity_id(s) for s in expected} == expected


def test_shuffling_the_ids_of_a_batch_leaves_the_world_alone():
    world = World(seed=3)
    assert world.get_entity_id(1) is None
    ids = world.spawn_batch(count=10)
    ids[:] = ids[::-1].copy()
    assert world.validate()


# Moves between tables


@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_moves_of_entities_of_several_tables_keep_values_and_ids(order):
    world, ids = mixed_world()
    sids = world.get_stable_id(ids)
    chosen = {"forward": ids[3:20], "backward": ids[3:20][::-1]}.get(order)
    if chosen is None:
        chosen = np.random.default_rng(1).permutation(ids[3:20])
    world.remove(chosen, Name)
    world.insert(chosen, Mark())
    assert world.get(ids, Number).n.tolist() == list(range(24))
    assert (world.get_stable_id(ids) == sids).all()
    assert world.get_entity_id(sids).tolist() == ids.tolist()
    assert world.has(chosen, Mark).all()
    assert not world.has(chosen, Name).any()
    assert world.get(ids[20], Name).text == "t20"
    assert world.validate()


@pytest.mark.parametrize("verb", ["insert", "remove", "despawn"])
def test_row_order_does_not_depend_on_the_order_of_the_ids_given(verb):
    seen = []
    for seed in range(5):
        world, ids = mixed_world()
        some = np.random.default_rng(seed).permutation(ids[2:17])
        if verb == "insert":
            world.insert(some, Mark(), Name("same"))
        elif verb == "remove":
            world.remove(some, Mark, Name)
        else:
            world.despawn(some)
        spawned = world.spawn_batch(Number(np.arange(100, 110))).tolist()
        seen.append((table_rows(world), world.entities().tolist(), spawned))
    assert all(other == seen[0] for other in seen)


def test_values_given_in_the_order_of_the_ids_reach_their_entities():
    world, ids = mixed_world()
    some = np.random.default_rng(2).permutation(ids)[:15]
    world.insert(some, Number(np.arange(15) + 100), Name([f"n{i}" for i in range(15)]))
    assert world.get(some, Number).n.tolist() == list(range(100, 115))
    assert world.get(some, Name).text.tolist() == [f"n{i}" for i in range(15)]
    rest = np.setdiff1d(ids, some)
    assert world.get(rest, Number).n.tolist() == (rest - 1).tolist()


def test_an_entity_can_be_given_its_own_live_component_while_it_moves():
    world = World()
    ids = world.spawn_batch(Number([1, 2, 3]))
    world.insert(ids[0], world.get(ids[0], Number), Mark())
    world.insert(ids[1:], world.get(ids[1], Number), Mark())
    assert world.get(ids, Number).n.tolist() == [1, 2, 2]


def test_a_live_column_can_be_given_to_entities_of_several_tables():
    world = World()
    a, b = world.spawn_batch(Number([1, 2, 3])), world.spawn_batch(Number([4, 5, 6]), Mark())
    (column,) = world.query(Number).with_(Mark)
    world.insert([b[0], a[0], b[1]], column)
    assert world.get([*a, *b], Number).n.tolist() == [5, 2, 3, 4, 6, 6]


def test_an_entity_named_twice_in_any_order_is_an_error_that_names_it():
    world, ids = mixed_world()
    before = table_rows(world)
    for twice in (ids[[1, 5, 1]], ids[[5, 1, 2, 3, 5]]):
        for call in (world.despawn, lambda e: world.insert(e, Mark()), lambda e: world.remove(e, Number)):
            with pytest.raises(DuplicateEntityError, match="EntityId"):
                call(twice)
    assert table_rows(world) == before


@pytest.mark.parametrize("wrong", ["text", 1.5, [[1, 2]], True, None])
def test_what_is_no_id_is_refused(wrong):
    world, _ = mixed_world()
    with pytest.raises(WorldError):
        world.despawn(wrong)
    assert len(world) == 24


@pytest.mark.parametrize("wrong", [0, 99, -1, 1 << 64, 1 << 32 | 1])
def test_ids_that_are_not_alive_are_not_found(wrong):
    world, _ = mixed_world()
    with pytest.raises(EntityNotFoundError):
        world.despawn(wrong)
    assert len(world) == 24


def test_stable_ids_are_checked_as_scalars_and_in_bulk():
    assert as_stable_ids([1 << 64 | 5]).tolist() == [(5, 1)]
    for wrong in ([-1], [1 << 128], np.array([1.5]), ["a"]):
        with pytest.raises(WorldError):
            as_stable_ids(wrong)
    with pytest.raises(WorldError):
        StableId(1 << 128)


def test_what_was_frozen_while_another_thread_changed_the_world_is_not_kept(monkeypatch):
    world, ids = mixed_world()
    frozen, changed = IdColumn.frozen, []

    def despawning(column, *args, **kwargs):
        if not changed:
            changed.append(True)
            world.despawn(ids[0])
        return frozen(column, *args, **kwargs)

    monkeypatch.setattr(IdColumn, "frozen", despawning)
    assert world.snapshot().outdated
    monkeypatch.undo()
    assert world.snapshot().entity_count == len(world) == 23
    assert not world.snapshot().outdated
    assert world.snapshot().tables is world.snapshot().tables


def test_several_threads_may_look_at_a_world_that_nobody_changes():
    threads, rows, started = 4, 300, sys.getswitchinterval()
    wrong = []

    def look(world, barrier):
        try:
            barrier.wait()
            for i in range(0, rows, 50):
                entity = world.get_entity_id(i + 1)
                assert world.get(entity, Number).n == i
                assert world.get_stable_id(entity) == i + 1
                assert world.has(entity, Number)
            assert [int(e) for e in world.get_stable_id(world.entities())["lo"]] == list(range(1, rows + 1))
            assert World.from_bytes(world.to_bytes()).entity_count == rows
        except BaseException as error:
            wrong.append(error)
            raise

    sys.setswitchinterval(1e-6)
    try:
        for _ in range(60):
            world = World()
            for first in range(0, rows, 100):
                stable_ids = list(range(first + 1, first + 101))
                world.spawn_batch(Number(np.arange(first, first + 100)), stable_ids=stable_ids)
            barrier = threading.Barrier(threads)
            looking = [threading.Thread(target=look, args=[world, barrier]) for _ in range(threads)]
            for thread in looking:
                thread.start()
            for thread in looking:
                thread.join()
            assert not wrong
            assert world.validate()
    finally:
        sys.setswitchinterval(started)
