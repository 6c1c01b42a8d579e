"""The verbs of a world on one entity and on arrays of them; and that a call which fails changes nothing."""

from __future__ import annotations

import enum
import gc
import weakref
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    ComponentValueError,
    DuplicateEntityError,
    EntityId,
    EntityNotFoundError,
    EntityRef,
    PecsError,
    StableId,
    World,
    WorldError,
    component,
    make_component,
    unregister,
)


@component(name="world.Position")
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(name="world.Velocity")
class Velocity:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(name="world.Tag")
class Tag:
    pass


@component(name="world.Owner")
class Owner:
    of: EntityRef = 0
    friends: list[EntityRef] = ()


@component(name="world.Path")
class Path:
    points: list[Annotated[np.int32, 2]] = ((0, 0),)


@component(name="world.Bag")
class Bag:
    name: str = ""
    items: list[np.int16] = ()
    size: Annotated[np.int32, 2] = 0


def picture(world):
    """Return all that can be seen of a world."""
    tables = [
        (
            [t.name for t in table.types],
            table.entities.array().tolist(),
            table.stable_ids.array().tolist(),
            repr({name: column.tolist() for name, column in table.columns.items()}),
        )
        for table in world.snapshot().tables
    ]
    return tables, sorted(world._storage.types)


def a_world():
    world = World(seed=2)
    ids = world.spawn_batch(Position(x=np.arange(8), y=0))
    world.insert(ids[4:], Velocity(1, 2))
    world.insert(ids[2:6], Bag(name=list("cdef"), items=[[i] * i for i in range(4)]))
    world.despawn(ids[7])
    return world, ids[:7]


# Making a world


def test_a_new_world_is_empty_and_true():
    world = World()
    assert (len(world), world.entity_count, bool(world), world.version, world.metadata) == (0, 0, True, 1, {})
    assert world.entities().shape == world.stable_ids().shape == (0,)
    assert world.validate()


def test_room_made_ahead_changes_nothing_else():
    small, large = World(seed=1), World(100, seed=1)
    for world in (small, large, World.with_capacity(2)):
        assert world.spawn_batch(Position(x=[1, 2, 3], y=0)).tolist() == [1, 2, 3]
        assert world.validate()
    assert picture(small) == picture(large)


@pytest.mark.parametrize(
    "arguments",
    [{"capacity": -1}, {"capacity": 1.5}, {"seed": -1}, {"seed": "a"}, {"version": 0}, {"version": 2**32}],
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(WorldError):
        World(**arguments)


def test_repr_tells_entities_and_tables():
    world, _ = a_world()
    assert "7 entities in 4 tables" in repr(world)


# Spawning


def test_spawn_returns_the_id_of_an_entity_with_its_components():
    world = World()
    entity = world.spawn(Position(1, 2), Tag())
    assert isinstance(entity, EntityId)
    assert world.is_alive(entity)
    assert world.get(entity, Position) == Position(1, 2)
    assert (world.has(entity, Tag), world.has(entity, Velocity)) == (True, False)


def test_the_order_of_components_does_not_make_another_table():
    world = World()
    world.spawn(Position(), Velocity())
    world.spawn(Velocity(), Position())
    assert len(world.columns(Position)) == 1


def test_a_bundle_of_components_is_just_several_components():
    bundle = (Position(1, 1), Velocity(2, 2), Tag())
    world = World()
    entity = world.spawn(*bundle)
    world.insert(world.spawn(), *bundle)
    assert world.query(Position, Velocity, Tag).count() == 2
    world.remove(entity, *map(type, bundle))
    assert not world.has(entity, Position)


def test_spawn_batch_broadcasts_single_values_and_columns_of_one_row():
    world = World()
    ids = world.spawn_batch(Position(x=[1, 2, 3], y=5), Velocity(7, 8), Bag(name=["same"]))
    assert (ids.dtype, ids.shape) == (np.uint64, (3,))
    assert np.asarray(world.get(ids, Position)).tolist() == [(1, 5), (2, 5), (3, 5)]
    assert world.get(ids, Velocity).x.tolist() == [7, 7, 7]
    assert world.get(ids, Bag).name.tolist() == ["same"] * 3


def test_spawn_batch_takes_a_count_and_may_have_no_components():
    world = World()
    assert len(world.spawn_batch(count=3)) == 3
    assert len(world.spawn_batch(Position(1, 1), count=np.int64(2))) == 2
    assert len(world.spawn_batch(Position(x=[], y=[]))) == 0
    assert (len(world), world.column(Position).tolist()) == (5, [(1, 1)] * 2)


def test_spawn_batch_takes_stable_ids_in_every_form():
    source = World()
    source.spawn_batch(count=2)
    world = World()
    for given in (source.stable_ids(), [StableId(5), 1 << 100], np.array([7, 8], np.uint64)):
        ids = world.spawn_batch(Position(1, 1), stable_ids=given)
        assert world.get_entity_id(given).tolist() == ids.tolist()
    assert world.get_stable_id(world.get_entity_id(1 << 100)) == 1 << 100
    assert world.validate()


def test_lists_of_one_value_given_to_many_entities_are_their_own():
    world = World()
    ids = world.spawn_batch(Bag(items=[1, 2]), count=3)
    world.get(ids[0], Bag).items[0] = 9
    assert world.get(ids[1], Bag).items.tolist() == [1, 2]


def test_a_list_of_subarrays_may_be_empty():
    world = World()
    ids = [world.spawn(Path([])), *world.spawn_batch(Path([[[1, 2], [3, 4]], []])).tolist()]
    assert [world.get(e, Path).points.shape for e in ids] == [(0, 2), (2, 2), (0, 2)]


def test_the_world_keeps_no_hold_on_the_values_it_was_given():
    world = World()
    column, bag = Position(x=[1, 2], y=0), Bag(items=[1, 2])
    ids = world.spawn_batch(column, bag)
    column.x = 9
    bag.items[0] = 9
    assert world.get(ids, Position).x.tolist() == [1, 2]
    assert world.get(ids[0], Bag).items.tolist() == [1, 2]


# Ids


def test_stable_ids_and_entity_ids_map_to_each_other():
    world, ids = a_world()
    sids = world.get_stable_id(ids)
    assert world.get_entity_id(sids).tolist() == ids.tolist()
    one = world.get_stable_id(ids[3])
    assert isinstance(one, StableId)
    assert (one & (2**64 - 1), one >> 64) == tuple(sids[3].tolist())
    assert world.get_entity_id(one) == ids[3]
    assert isinstance(world.get_entity_id(one), EntityId)


def test_an_element_of_stable_ids_is_a_stable_id():
    world, ids = a_world()
    assert world.get_entity_id(world.get_stable_id(ids)[3]) == ids[3]


def test_ids_of_nothing_are_none_or_zero():
    world, ids = a_world()
    assert world.get_stable_id(999) is world.get_entity_id(12345) is world.get_entity_id(0) is None
    some = world.get_stable_id(np.array([ids[0], 999, 0], np.uint64))
    assert [s != (0, 0) for s in some.tolist()] == [True, False, False]
    assert world.get_entity_id([12345, 0]).tolist() == [0, 0]
    assert world.get_entity_id([]).tolist() == world.get_stable_id([]).tolist() == []


def test_entities_and_stable_ids_list_all_in_the_same_order_as_columns():
    world, ids = a_world()
    assert sorted(world.entities().tolist()) == ids.tolist()
    assert world.get_stable_id(world.entities()).tolist() == world.stable_ids().tolist()
    assert world.get(world.entities(), Position).x.tolist() == world.column(Position)["x"].tolist()
    world.entities()[:] = 0
    assert world.validate()


def test_is_alive_and_has_answer_for_one_and_for_many():
    world, ids = a_world()
    assert (world.is_alive(ids[0]), world.is_alive(8), world.is_alive(0)) == (True, False, False)
    assert world.is_alive([1, 8, 0]).tolist() == [True, False, False]
    assert world.has(ids, Velocity).tolist() == [False] * 4 + [True] * 3
    assert world.has(ids, Velocity, "world.Bag").tolist() == [False] * 4 + [True] * 2 + [False]
    assert world.has(ids[0]) is True
    assert world.has([], Velocity).tolist() == []


def test_ids_of_spawn_and_of_spawn_batch_go_together_in_one_list():
    world = World()
    entity, ids = world.spawn(), world.spawn_batch(count=2)
    assert world.is_alive([entity, ids[0], int(ids[1])]).tolist() == [True] * 3
    world.despawn([entity, ids[1]])
    assert world.entities().tolist() == [ids[0]]


# Reading


def test_get_of_one_is_a_live_view_and_none_where_absent():
    world, ids = a_world()
    world.get(ids[5], Position).x = 50
    world.get(ids[5], "world.Position").y += 3
    assert world.get(ids[5], Position) == Position(50, 3)
    assert world.get(ids[0], Velocity) is None


def test_get_of_many_is_a_copy_in_the_order_asked_repeats_allowed():
    world, ids = a_world()
    got = world.get(ids[[6, 0, 4, 0]], Position)
    assert got.x.tolist() == [6, 0, 4, 0]
    got.x = 99
    assert world.get(ids, Position).x.tolist() == list(range(7))
    assert len(world.get([], Position)) == 0


def test_lists_got_from_many_are_copies_too():
    world, ids = a_world()
    world.get(ids[[5]], Bag).items[0][:] = 99
    assert world.get(ids[5], Bag).items.tolist() == [3, 3, 3]


def test_get_of_many_names_the_one_without_the_component():
    world, ids = a_world()
    with pytest.raises(ComponentValueError, match="EntityId"):
        world.get(ids, Velocity)


def test_column_is_live_in_one_table_and_a_read_only_copy_of_several():
    world, _ = a_world()
    assert not world.column(Position).flags.writeable
    assert sorted(world.column(Position)["x"].tolist()) == list(range(7))
    single = World()
    entity = single.spawn(Position(1, 1))
    single.column("world.Position")["x"] = 4
    assert single.get(entity, Position).x == 4
    assert World().column(Position).shape == (0,)
    assert World().column(Position).dtype == world.column(Position).dtype


def test_columns_are_live_one_for_each_table_with_rows():
    world, ids = a_world()
    for column in world.columns(Velocity):
        column["x"] = 30
    assert len(world.columns(Velocity)) == 2
    assert world.get(ids[4:], Velocity).x.tolist() == [30] * 3
    assert world.columns(Tag) == []


@pytest.mark.parametrize("verb", ["get", "has", "column", "columns", "remove"])
def test_an_unknown_name_is_an_error_that_lists_the_names_there_are(verb):
    world, ids = a_world()
    arguments = (ids[0],) if verb in ("get", "has", "remove") else ()
    with pytest.raises(ComponentDefinitionError, match=r"world\.Velocity"):
        getattr(world, verb)(*arguments, "world.Nothing")


# Changing


def test_insert_adds_and_replaces_and_keeps_the_rest():
    world, ids = a_world()
    world.insert(ids[0], Velocity(3, 3), Position(9, 9))
    assert (world.get(ids[0], Velocity), world.get(ids[0], Position)) == (Velocity(3, 3), Position(9, 9))
    world.insert(ids[::-1], Velocity(x=np.arange(7), y=0), Tag())
    assert world.get(ids, Velocity).x.tolist() == list(range(7))[::-1]
    assert world.get(ids[1:], Position).x.tolist() == list(range(1, 7))
    assert world.get(ids[2:6], Bag).name.tolist() == list("cdef")
    assert world.validate()


def test_remove_takes_components_away_and_passes_over_those_without():
    world, ids = a_world()
    world.remove(ids[::-1], Velocity, "world.Bag")
    assert not world.has(ids, Velocity).any()
    assert world.get(ids, Position).x.tolist() == list(range(7))
    world.remove(ids[0], Velocity)
    world.remove([], Position)
    assert world.query(Position).count() == 7


def test_despawn_removes_one_and_many_and_keeps_the_others_whole():
    world, ids = a_world()
    world.despawn(ids[3])
    world.despawn(ids[[6, 0, 4]])
    left = ids[[1, 2, 5]]
    assert sorted(world.entities().tolist()) == left.tolist()
    assert world.get(left, Position).x.tolist() == [1, 2, 5]
    assert world.get(left[1:], Bag).name.tolist() == ["c", "f"]
    assert world.validate()


def test_references_follow_their_entities_through_every_move():
    world = World()
    ids = world.spawn_batch(Position(x=np.arange(6), y=0))
    world.insert(ids, Owner(of=ids[::-1], friends=[ids[:i] for i in range(6)]))
    world.insert(ids[::2], Tag())
    world.remove(ids[[5, 0, 2]], Position)
    assert world.get(ids, Owner).of.tolist() == ids[::-1].tolist()
    assert [f.tolist() for f in world.get(ids, Owner).friends] == [ids[:i].tolist() for i in range(6)]
    assert world.validate()


def test_clear_leaves_no_entity_and_new_ones_do_not_take_the_ids_of_the_old():
    world, ids = a_world()
    world.resources.insert(Position(1, 1))
    world.clear()
    assert (len(world), world.query(Position).count(), len(world.resources)) == (0, 0, 1)
    new = world.spawn_batch(Position(1, 1), count=20)
    assert not set(new.tolist()) & set(ids.tolist())
    assert world.validate()


# A call that fails changes nothing


def other_position():
    """Return a type of the name of Position with other fields of the same size, and leave the registry as it was."""
    unregister("world.Position")
    try:
        return make_component("world.Position", {"z": np.float64})
    finally:
        unregister("world.Position")
        make_component("world.Position", {"x": np.float32, "y": np.float32})


def with_dead(ids):
    return np.array([ids[0], 8, ids[5], 999], np.uint64)


FAILING = {
    "despawn a dead one among live ones": lambda w, i: w.despawn(with_dead(i)),
    "despawn one twice": lambda w, i: w.despawn(i[[0, 5, 0]]),
    "insert for a dead one": lambda w, i: w.insert(with_dead(i), Tag()),
    "insert for one twice": lambda w, i: w.insert(i[[5, 0, 5]], Tag()),
    "insert a column of another length": lambda w, i: w.insert(i, Tag(), Velocity(x=[1, 2], y=0)),
    "insert a matrix": lambda w, i: w.insert(i[:2], Velocity(x=np.zeros((2, 2)), y=0)),
    "insert two of a type": lambda w, i: w.insert(i, Tag(), Velocity(), Velocity()),
    "insert a class": lambda w, i: w.insert(i, Tag(), Velocity),
    "insert another definition": lambda w, i: w.insert(i[:3], Tag(), other_position()(z=1.0)),
    "insert another definition in place": lambda w, i: w.insert(i[:3], other_position()(z=1.0)),
    "remove from a dead one": lambda w, i: w.remove(with_dead(i), Velocity),
    "remove from one twice": lambda w, i: w.remove(i[[5, 5]], Velocity),
    "remove an unknown type": lambda w, i: w.remove(i, Velocity, "world.Nothing"),
    "spawn a column": lambda w, i: w.spawn(Tag(), Position(x=[1, 2], y=0)),
    "spawn no component": lambda w, i: w.spawn(Tag(), 5),
    "spawn another definition": lambda w, i: w.spawn(Tag(), other_position()(z=1.0)),
    "spawn columns of different lengths": lambda w, i: w.spawn_batch(Position([1, 2]), Velocity([1, 2, 3])),
    "spawn a count that differs": lambda w, i: w.spawn_batch(Position([1, 2]), count=3),
    "spawn a negative count": lambda w, i: w.spawn_batch(Position(), count=-1),
    "spawn without a count": lambda w, i: w.spawn_batch(Position()),
    "spawn under a stable id that is taken": lambda w, i: w.spawn_with_stable_id(w.get_stable_id(i[0])),
    "spawn a column under a stable id of the seed": lambda w, i: w.spawn_with_stable_id(
        w.get_stable_id(i[6]) + 2, Position(x=[1, 2], y=0)
    ),
    "spawn under stable id 0": lambda w, i: w.spawn_with_stable_id(0, Tag()),
    "spawn under no stable id": lambda w, i: w.spawn_with_stable_id("a", Tag()),
    "spawn many under one that is taken": lambda w, i: w.spawn_batch(stable_ids=[9, w.get_stable_id(i[5])]),
    "spawn many under 0": lambda w, i: w.spawn_batch(stable_ids=[9, 0]),
    "spawn many under one twice": lambda w, i: w.spawn_batch(Tag(), stable_ids=[9, 10, 9]),
    "spawn more than the stable ids": lambda w, i: w.spawn_batch(Position([1, 2, 3]), stable_ids=[9, 10]),
    "spawn a count unlike the stable ids": lambda w, i: w.spawn_batch(Tag(), count=5, stable_ids=[9, 10]),
    "get from a dead one": lambda w, i: w.get(with_dead(i), Position),
    "has of a dead one": lambda w, i: w.has(8, Position),
}


@pytest.mark.parametrize("call", FAILING.values(), ids=FAILING.keys())
def test_a_call_that_fails_leaves_the_world_exactly_as_it_was(call):
    world, ids = a_world()
    twin, _ = a_world()
    before = picture(world)
    with pytest.raises(PecsError):
        call(world, ids)
    assert picture(world) == before
    assert world.validate()
    for w in (world, twin):
        w.spawn(Position(1, 1))
        w.spawn_batch(count=3)
    assert picture(world) == picture(twin)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("despawn a dead one among live ones", EntityNotFoundError),
        ("has of a dead one", EntityNotFoundError),
        ("despawn one twice", DuplicateEntityError),
        ("spawn under a stable id that is taken", DuplicateEntityError),
        ("spawn many under one twice", DuplicateEntityError),
        ("insert a column of another length", ComponentValueError),
        ("spawn another definition", ComponentDefinitionError),
        ("insert two of a type", ComponentDefinitionError),
    ],
)
def test_each_kind_of_failure_has_its_error(call, error):
    world, ids = a_world()
    with pytest.raises(error):
        FAILING[call](world, ids)


def test_an_enum_may_gain_members_while_the_world_lives():
    def run_cell(**members):
        return make_component("world.Mood", {"mood": enum.IntEnum("Mood", members)})

    old = run_cell(CALM=0)
    world = World()
    first = world.spawn(old(0))
    world.resources.insert(old(0))
    (before,) = world.query("world.Mood")
    new = run_cell(CALM=0, WILD=1)
    try:
        world.get(first, new)
        (now,) = world.query("world.Mood")
        assert (type(before), type(now)) == (old, new)
        world.spawn(new(1))
        world.get(first, new).mood = 1
        world.resources.get(new).mood = 1
        assert world.validate()
        back = World.from_bytes(world.to_bytes())
        assert back.column(new)["mood"].tolist() == [1, 1]
        assert back.resources.get(new).mood == 1
        assert world.query(old).count() == 2
    finally:
        unregister("world.Mood")


def test_components_of_one_entity_are_live_views_by_type_name():
    world = World()
    entity = world.spawn(Velocity(3, 4), Position(1, 2), Tag())
    other, bare = world.spawn(Position(5, 6)), world.spawn()
    position, tag, velocity = world.components(entity)
    assert (type(position), type(tag), type(velocity)) == (Position, Tag, Velocity)
    assert (velocity.x, velocity.y) == (3, 4)
    position.x = 9
    assert world.get(entity, Position).x == 9
    assert [component.x for component in world.components(other)] == [5]
    assert world.components(bare) == ()


def test_components_make_an_entity_of_another_world():
    world, copy = World(), World()
    entity = world.spawn(Bag("a", [1, 2], [3, 4]), Path([[1, 2]]))
    twin = copy.spawn(*world.components(entity))
    world.get(entity, Bag).name = "b"
    bag = copy.get(twin, Bag)
    assert (bag.name, list(bag.items), bag.size.tolist()) == ("a", [1, 2], [3, 4])


@pytest.mark.parametrize("wrong", [[1], np.array([1, 2], np.uint64), "text", None, 1.5])
def test_components_are_of_one_entity(wrong):
    world = World()
    world.spawn_batch(count=2)
    with pytest.raises(WorldError):
        world.components(wrong)
    with pytest.raises(EntityNotFoundError):
        world.components(77)


# A world that nobody has any more


def queried(world, ids):
    for position in world.query(Position).without(Velocity):
        position.x += 1


def moved(world, ids):
    world.insert(ids[0], Velocity())
    world.remove(ids[0], Velocity)
    world.insert(ids[1], Position(1, 2))


def looked_up(world, ids):
    assert world.get_entity_id(world.get_stable_id(ids[2])) == ids[2]


def restored(world, ids):
    world.despawn(ids[3:])
    moved(world, ids)
    world.despawn(ids[:3])
    world.restore(a_world()[0].snapshot(copy=True))
    queried(world, ids)


@pytest.mark.parametrize("use", [queried, moved, looked_up, restored])
def test_the_memory_of_a_world_is_free_as_soon_as_it_is_gone(use):
    world = World()
    ids = world.spawn_batch(Position(x=np.arange(5), y=0))
    columns = [weakref.ref(column) for column in world._storage.tables[0].columns.values()]
    gc.disable()
    try:
        use(world, ids)
        columns += [weakref.ref(c) for table in world._storage.tables for c in table.columns.values()]
        del world
        assert [column() for column in columns] == [None] * len(columns)
    finally:
        gc.enable()


def test_a_query_holds_on_to_what_it_is_about():
    assert [position.x.tolist() for position in a_world()[0].query(Position).with_(Velocity)] == [[4, 5], [6]]
    query = a_world()[0].query(Position)
    assert query.count() == 7
    assert sum(len(position) for position in query) == 7
