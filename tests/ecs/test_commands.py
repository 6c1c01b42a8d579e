"""The command buffer: edits recorded now, from any thread, and carried out later."""

from __future__ import annotations

import threading
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    CommandBuffer,
    ComponentDefinitionError,
    ComponentValueError,
    DuplicateEntityError,
    EntityNotFoundError,
    PecsError,
    World,
    WorldError,
    component,
)


@component(name="commands.Number")
class Number:
    n: int = 0


@component(name="commands.Mark")
class Mark:
    pass


@component(name="commands.Bag")
class Bag:
    items: list[np.int32] = ()
    box: Annotated[np.float32, 2] = 0


def numbers(world):
    return world.column(Number)["n"].tolist()


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(Number(np.arange(1, 6)))
    return world


def test_nothing_happens_until_the_buffer_is_applied(world):
    commands = CommandBuffer()
    commands.spawn(Number(9))
    commands.despawn(1)
    commands.insert(2, Mark())
    assert (numbers(world), len(commands)) == ([1, 2, 3, 4, 5], 3)
    commands.apply(world)
    assert sorted(numbers(world)) == [2, 3, 4, 5, 9]
    assert len(commands) == 0


def test_applying_forgets_so_that_applying_again_does_nothing(world):
    commands = CommandBuffer()
    commands.spawn_batch(Number([7, 8]))
    commands.apply(world)
    commands.apply(world)
    assert numbers(world) == [1, 2, 3, 4, 5, 7, 8]


def test_every_verb_can_be_recorded(world):
    commands = world.commands()
    a = commands.spawn(Number(10))
    b = commands.spawn_with_stable_id(77, Number(11))
    commands.spawn_batch(Number(12), count=2)
    commands.spawn_batch(Number([13, 14]), stable_ids=[78, 79])
    commands.insert(1, Mark())
    commands.insert(np.array([2, 3], np.uint64), Number([20, 30]), Mark())
    commands.remove(2, Mark)
    commands.remove(np.array([3, 4], np.uint64), "commands.Mark", Number)
    commands.despawn(np.array([5], np.uint64))
    world.apply_commands()
    assert (world.get(a.id, Number).n, world.get(b.id, Number).n) == (10, 11)
    assert world.get_stable_id(b.id) == 77
    assert world.get(world.get_entity_id([78, 79]), Number).n.tolist() == [13, 14]
    assert world.has([1, 2, 3, 4], Mark).tolist() == [True, False, False, False]
    assert world.has([1, 2, 3, 4], Number).tolist() == [True, True, False, False]
    assert world.get(2, Number).n == 20
    assert not world.is_alive(5)
    assert world.validate()


def test_a_deferred_entity_can_be_named_by_later_commands_of_its_buffer(world):
    commands = CommandBuffer()
    a, b, c = (commands.spawn(Number(n)) for n in (10, 11, 12))
    assert a.id is None
    commands.insert(b, Mark())
    commands.insert(a, Mark(), Number(20))
    commands.remove(a, Mark)
    commands.despawn(c)
    commands.apply(world)
    assert world.is_alive([a.id, b.id, c.id]).tolist() == [True, True, False]
    assert (world.get(a.id, Number).n, world.has(a.id, Mark), world.has(b.id, Mark)) == (20, False, True)


def test_edits_of_one_entity_are_carried_out_in_the_order_recorded(world):
    commands = CommandBuffer()
    for n in range(10):
        commands.insert(1, Number(n))
    commands.insert(2, Mark())
    commands.remove(2, Mark)
    commands.remove(3, Mark)
    commands.insert(3, Mark())
    commands.apply(world)
    assert (world.get(1, Number).n, world.has(2, Mark), world.has(3, Mark)) == (9, False, True)


def test_the_result_is_that_of_the_same_calls_made_one_by_one():
    worlds = World(seed=4), World(seed=4)
    commands = CommandBuffer()
    for target in (*worlds[:1], commands):
        first = [target.spawn(Number(n), Bag(items=[n] * n)) for n in range(6)]
        for i in (4, 1, 5):
            target.insert(first[i], Mark())
        for i in (1, 4):
            target.remove(first[i], Number)
        target.despawn(first[0])
        target.spawn(Number(50))
    commands.apply(worlds[1])
    a, b = worlds
    assert a.stable_ids().tolist() == b.stable_ids().tolist()
    for sid in a.stable_ids().tolist():
        sid = sid[1] << 64 | sid[0]
        mine, others = a.get_entity_id(sid), b.get_entity_id(sid)
        assert a.has(mine, Mark) == b.has(others, Mark)
        assert a.get(mine, Number) == b.get(others, Number)
        assert a.get(mine, Bag) == b.get(others, Bag)
    assert b.validate()


def test_values_are_copied_when_they_are_recorded(world):
    values, items = np.array([1, 2]), np.array([1, 2], np.int32)
    column, bag = Number(values), Bag(items=items)
    commands = CommandBuffer()
    commands.spawn_batch(column)
    kept = commands.spawn(bag)
    column.n = 99
    bag.items[:] = 99
    commands.apply(world)
    assert numbers(world)[-2:] == [1, 2]
    assert world.get(kept.id, Bag).items.tolist() == [1, 2]


def test_entity_ids_are_copied_when_they_are_recorded(world):
    ids, sids = np.array([1, 2], np.uint64), [7, 8]
    commands = CommandBuffer()
    commands.despawn(ids)
    commands.spawn_batch(stable_ids=sids)
    ids[:] = [3, 4]
    sids[:] = [9, 10]
    commands.apply(world)
    assert world.is_alive([1, 2, 3, 4]).tolist() == [False, False, True, True]
    assert world.get_entity_id([7, 8]).all()


def test_ids_of_a_chunk_still_mean_the_same_entities_when_the_buffer_is_applied(world):
    for ids, _ in world.query(Number).entities():
        world.commands().insert(ids[:1], Mark())
        world.commands().insert(ids[:1], Bag())
    world.apply_commands()
    assert world.has([1, 2, 3, 4, 5], Mark).tolist() == [True, False, False, False, False]
    assert world.has([1, 2, 3, 4, 5], Bag).tolist() == [True, False, False, False, False]


def test_commands_recorded_in_a_query_are_applied_after_it(world):
    for ids, number in world.query(Number).entities():
        for entity in ids[number.n % 2 == 0]:
            world.commands().despawn(entity)
    world.apply_commands()
    assert sorted(numbers(world)) == [1, 3, 5]


def test_despawning_twice_or_what_is_dead_by_then_is_passed_over(world):
    commands = CommandBuffer()
    commands.despawn(1)
    commands.despawn([1, 2])
    commands.insert(3, Mark())
    commands.despawn(1)
    commands.apply(world)
    assert sorted(numbers(world)) == [3, 4, 5]


def test_despawns_of_ids_of_any_kind_and_generation_are_exact(world):
    world.despawn(3)
    world._storage.entities.generations[3] = 2**22
    world.despawn(world.spawn())
    late = world.spawn()
    assert (late.index, late.generation) == (3, 2**22 + 1)
    commands = CommandBuffer()
    commands.despawn(np.uint64(late))
    commands.despawn(2)
    commands.despawn([])
    commands.apply(world)
    assert world.is_alive(np.array([late, 1, 2, 4, 5], np.uint64)).tolist() == [
        False,
        True,
        False,
        True,
        True,
    ]


def test_clear_forgets_what_was_recorded(world):
    commands = world.commands()
    commands.despawn(1)
    commands.clear()
    world.apply_commands()
    assert len(world) == 5


# Failing edits


@pytest.mark.parametrize("value", [Number, 5, "commands.Number"])
def test_what_is_no_component_value_is_refused_when_recorded(value):
    commands = CommandBuffer()
    with pytest.raises(ComponentDefinitionError):
        commands.insert(1, value)
    with pytest.raises(ComponentDefinitionError):
        commands.spawn(value)
    assert len(commands) == 0


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (lambda c: c.insert(99, Mark()), EntityNotFoundError),
        (lambda c: c.remove(99, Mark), EntityNotFoundError),
        (lambda c: c.insert(2, Number([1, 2])), ComponentValueError),
        (lambda c: c.insert([2, 2], Mark()), DuplicateEntityError),
        (lambda c: c.spawn(Number([1, 2])), ComponentValueError),
        (lambda c: c.spawn_with_stable_id(0), WorldError),
        (lambda c: c.spawn_batch(stable_ids=[7, 7]), DuplicateEntityError),
        (lambda c: c.despawn("nothing"), WorldError),
        (lambda c: c.despawn(CommandBuffer().spawn()), WorldError),
        (lambda c: c.insert(CommandBuffer().spawn(), Mark()), WorldError),
    ],
)
def test_edits_before_a_failing_one_are_done_it_is_dropped_and_the_rest_stays(world, record, error):
    commands = CommandBuffer()
    commands.despawn(1)
    commands.insert(2, Mark())
    record(commands)
    commands.insert(3, Mark())
    commands.despawn(4)
    with pytest.raises(error) as caught:
        commands.apply(world)
    assert "command 3 of 5" in caught.value.__notes__[0]
    assert world.has([2, 3], Mark).tolist() == [True, False]
    assert world.is_alive([1, 4]).tolist() == [False, True]
    assert len(commands) == 2
    commands.apply(world)
    assert (world.has(3, Mark), world.is_alive(4)) == (True, False)
    assert world.validate()


@pytest.mark.parametrize("kind", ["insert", "remove", "despawn"])
def test_a_failing_edit_among_neighbours_of_its_kind_fails_alone(world, kind):
    world.insert([2, 4], Mark()) if kind == "remove" else None
    stranger = CommandBuffer().spawn()
    arguments = {"insert": (Mark(),), "remove": (Mark,), "despawn": ()}[kind]
    commands = CommandBuffer()
    for entity in (1, 2, stranger, 4):
        getattr(commands, kind)(entity, *arguments)
    with pytest.raises(PecsError) as caught:
        commands.apply(world)
    assert "command 3 of 4" in caught.value.__notes__[0]
    assert len(commands) == 1

    def done():
        return (~world.is_alive([2, 4]) if kind == "despawn" else world.has([2, 4], Mark)).tolist()

    assert done() == ([False, True] if kind == "remove" else [True, False])
    commands.apply(world)
    assert done() == ([False, False] if kind == "remove" else [True, True])


def test_a_spawn_that_fails_among_spawns_leaves_its_deferred_entity_without_an_id(world):
    commands = CommandBuffer()
    first = commands.spawn(Number(6))
    wrong = commands.spawn(Number([1, 2]))
    last = commands.spawn(Number(7))
    with pytest.raises(ComponentValueError):
        commands.apply(world)
    commands.insert(wrong, Mark())
    with pytest.raises(WorldError):
        commands.apply(world)
    assert (first.id is None, wrong.id, last.id is None) == (False, None, False)


# Threads


def test_threads_record_into_one_buffer_and_nothing_is_lost(world):
    commands = world.commands()
    start = threading.Barrier(8)
    spawned: dict[int, list] = {}

    def work(k):
        start.wait()
        mine = []
        for i in range(200):
            mine.append(commands.spawn(Number(1000 * k + i)))
            commands.insert(mine[-1], Mark())
            if i % 4 == 0:
                commands.despawn(mine[-1])
        spawned[k] = mine

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(commands) == 8 * 450
    world.apply_commands()
    assert len(world) == 5 + 8 * 150
    for k, mine in spawned.items():
        assert world.get([e.id for e in mine if world.is_alive(e.id)], Number).n.tolist() == [
            1000 * k + i for i in range(200) if i % 4
        ]
    assert world.query(Mark).count() == 8 * 150
    assert world.validate()


def test_threads_may_record_while_the_buffer_is_applied_again_and_again(world):
    commands = world.commands()

    def work():
        for i in range(500):
            commands.spawn(Number(i))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        world.apply_commands()
    world.apply_commands()
    assert len(world) == 5 + 4 * 500
    assert world.validate()
