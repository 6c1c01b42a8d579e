"""Queries: which tables they yield, in what form, and what ends an iteration."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    ComponentValueError,
    Query,
    StructuralChangeError,
    World,
    component,
    make_component,
    unregister,
)


@component(name="queries.Position")
class Position:
    x: float = 0.0
    y: float = 0.0


@component(name="queries.Velocity")
class Velocity:
    x: float = 0.0
    y: float = 0.0


@component(name="queries.Frozen")
class Frozen:
    pass


@component(name="queries.Bag")
class Bag:
    items: list[int] = ()


@component(name="queries.Unused")
class Unused:
    n: int = 0


def a_world():
    """Return a world of entities 1-3 with Position, 4-5 with Velocity too, 6 also Frozen, and 7 with Velocity alone."""
    world = World()
    world.spawn_batch(Position(x=[1, 2, 3], y=0))
    world.spawn_batch(Position(x=[4, 5], y=0), Velocity(1, 1))
    world.spawn(Position(6, 0), Velocity(2, 2), Frozen())
    world.spawn(Velocity(3, 3))
    return world


# Selecting


def test_a_query_yields_the_tables_that_have_all_its_types():
    world = a_world()
    chunks = list(world.query(Position, Velocity))
    assert sorted(p.x.tolist() for p, _ in chunks) == [[4, 5], [6]]
    assert sorted(v.x.tolist() for _, v in chunks) == [[1, 1], [2]]


@pytest.mark.parametrize("by_name", [False, True])
def test_with_without_and_entities_select_by_class_and_by_name(by_name):
    def t(cls):
        return cls._type.name if by_name else cls

    world = a_world()
    position = world.query(t(Position))
    found = [
        [ids.tolist() for ids, _ in position.with_(t(Velocity)).without(t(Frozen)).entities()],
        sorted(ids.tolist() for ids, _ in position.with_(t(Velocity)).entities()),
        [ids.tolist() for ids, _ in position.without(t(Velocity)).entities()],
        [ids.tolist() for ids, _ in world.query(t(Velocity)).without(t(Position), t(Frozen)).entities()],
        [ids.tolist() for ids, _ in position.with_(t(Velocity), t(Frozen)).entities()],
    ]
    assert found == [[[4, 5]], [[4, 5], [6]], [[1, 2, 3]], [[7]], [[6]]]


def test_refinements_add_up_and_leave_the_query_they_start_from_alone():
    world = a_world()
    base = world.query(Position)
    twice = base.without(Frozen).without(Velocity)
    assert (base.count(), base.without(Frozen).count(), twice.count()) == (6, 5, 3)
    assert base.with_(Velocity).with_(Frozen).count() == 1


def test_optional_columns_come_last_and_are_none_where_a_table_lacks_them():
    found = {
        int(p.x[0]): None if v is None else v.x.tolist()
        for p, v in a_world().query(Position).optional(Velocity)
    }
    assert found == {1: None, 4: [1, 1], 6: [2]}


def test_entities_puts_the_ids_first_and_keeps_the_rest_in_order():
    for ids, position, velocity, frozen in (
        a_world().query(Position, Velocity).optional("queries.Frozen").entities()
    ):
        assert position.x.tolist() == ids.tolist()
        assert isinstance(velocity, Velocity)
        assert (frozen is None) == (6 not in ids)


def test_the_ids_of_a_chunk_are_read_only():
    for ids, _ in a_world().query(Position).entities():
        with pytest.raises(ValueError):
            ids[0] = 9


def test_a_query_for_no_types_with_entities_yields_every_table():
    world = a_world()
    world.spawn()
    assert sorted(e for ids in world.query().entities() for e in ids.tolist()) == list(range(1, 9))


def test_tables_come_in_the_order_of_their_type_names_not_of_their_making():
    world = World()
    world.spawn(Velocity(), Position(2, 0))
    world.spawn(Position(3, 0), Frozen())
    world.spawn(Position(1, 0))
    assert [p.x[0] for p in world.query(Position)] == [3, 1, 2]


def test_empty_tables_are_not_yielded_and_come_back_with_their_rows():
    world = a_world()
    query = world.query(Position, Frozen)
    world.despawn(6)
    assert (list(query), query.count()) == ([], 0)
    world.spawn(Position(8, 0), Velocity(), Frozen())
    assert [p.x.tolist() for p, _ in query] == [[8]]


def test_a_query_kept_for_later_sees_tables_that_were_made_since():
    world = World()
    query = world.query(Position)
    assert list(query) == []
    world.spawn(Position(1, 0))
    assert query.count() == 1
    world.spawn(Position(2, 0), Velocity())
    assert [p.x.tolist() for p in query] == [[1], [2]]


def test_a_query_of_an_empty_world_sees_what_that_world_is_filled_with():
    world = World()
    query = world.query(Position)
    assert not list(query)
    world.restore(a_world().snapshot(), mode="exact")
    assert sum(map(len, query)) == 6


def test_a_type_that_no_entity_has_matches_nothing():
    world = a_world()
    assert list(world.query(Unused)) == []
    assert world.query(Position).without(Unused).count() == 6
    assert world.query(Position).with_("queries.Unused").count() == 0
    assert all(u is None for _, u in world.query(Position).optional(Unused))


@pytest.mark.parametrize("wrong", ["queries.Nothing", int, 5])
def test_what_is_no_component_is_refused(wrong):
    world = a_world()
    for ask in (
        lambda: list(world.query(wrong)),
        lambda: world.query(Position).with_(wrong),
        lambda: world.query(Position).without(wrong),
        lambda: world.query(Position).optional(wrong),
    ):
        with pytest.raises(ComponentDefinitionError):
            ask()


def test_another_definition_of_a_type_is_refused_not_misread():
    world = a_world()
    unregister("queries.Position")
    try:
        other = make_component("queries.Position", {"z": np.int16})
        with pytest.raises(ComponentDefinitionError, match="as this world has it"):
            list(world.query(other))
    finally:
        unregister("queries.Position")
        component(name="queries.Position")(
            type("Position", (), {"__annotations__": {"x": float, "y": float}})
        )


def test_repr_tells_the_query_and_how_many_match():
    shown = repr(a_world().query(Position).without(Frozen).entities())
    assert "queries.Position" in shown
    assert "without(queries.Frozen)" in shown
    assert "5 entities" in shown


# Chunks


def test_a_single_type_yields_the_column_itself_which_also_unpacks():
    world = a_world()
    plain = list(world.query(Position))
    unpacked = [position for (position,) in world.query(Position)]
    assert all(isinstance(p, Position) for p in plain + unpacked)
    assert [p.x.tolist() for p in plain] == [p.x.tolist() for p in unpacked]


def test_chunks_are_live_in_both_directions():
    world = a_world()
    for position, velocity in world.query(Position, Velocity):
        position.x += velocity.x * 10
        position.matrix[:, 1] = 7
        world.get(3 + len(position), Position).x += 100
        assert position.x[-1] > 100 or len(position) == 1
    assert world.get(np.arange(1, 7), Position).x.tolist() == [1, 2, 3, 14 + 100, 15 + 100, 26]
    assert world.get(4, Position).y == 7


def test_writing_in_one_iteration_shows_in_the_next():
    world = a_world()
    for p in world.query(Position).without(Velocity):
        p.x[:] = [30, 10, 20]
        p.y = p.x
    assert [p.y.tolist() for p in world.query(Position).without(Velocity)] == [[30, 10, 20]]


@pytest.mark.parametrize("way", ["field", "rows"])
def test_one_list_written_to_a_whole_chunk_is_each_entitys_own(way):
    world = World()
    ids = world.spawn_batch(Bag(), count=2)
    given = np.array([5, 6])
    for bag in world.query(Bag):
        if way == "field":
            bag.items = given
        else:
            bag[:] = Bag(given)
    world.get(ids[0], Bag).items[0] = 9
    assert [items.tolist() for items in world.get(ids, Bag).items] == [[9, 6], [5, 6]]
    assert given.tolist() == [5, 6]


def test_chunks_share_memory_with_the_columns_of_the_world():
    world = a_world()
    for position, column in zip(world.query(Position), world.columns(Position), strict=True):
        assert np.shares_memory(np.asarray(position), column)


def test_a_column_of_the_wrong_length_is_refused_and_changes_nothing():
    world = a_world()
    (position,) = world.query(Position).without(Velocity)
    with pytest.raises(ComponentValueError):
        position.x = [1, 2]
    assert world.get([1, 2, 3], Position).x.tolist() == [1, 2, 3]


# Changing the structure meanwhile


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.spawn(),
        lambda w: w.spawn_batch(count=2),
        lambda w: w.spawn_with_stable_id(9),
        lambda w: w.despawn(7),
        lambda w: w.insert(1, Velocity()),
        lambda w: w.remove(4, Velocity),
        lambda w: w.clear(),
        lambda w: w.merge(a_world().snapshot()),
        lambda w: (w.commands().spawn(), w.apply_commands()),
    ],
    ids=["spawn", "batch", "stable id", "despawn", "insert", "remove", "clear", "merge", "commands"],
)
def test_a_structural_change_while_iterating_raises(change):
    world = a_world()
    chunks = iter(world.query(Position))
    next(chunks)
    change(world)
    with pytest.raises(StructuralChangeError, match="commands"):
        next(chunks)
    assert world.validate()


def test_writes_and_edits_that_move_nothing_are_fine_while_iterating():
    world = a_world()
    seen = 0
    for position in world.query(Position):
        world.insert(1, Position(50, 50))
        world.remove(1, Velocity)
        world.commands().spawn()
        world.snapshot(copy=True)
        position.y += 1
        seen += len(position)
    assert seen == 6


def test_leaving_the_loop_after_a_change_is_fine_and_the_next_iteration_is_new():
    world = a_world()
    for _ in world.query(Position):
        world.despawn(1)
        break
    assert sorted(x for p in world.query(Position) for x in p.x) == [2, 3, 4, 5, 6]


def test_nested_iterations_are_independent():
    world = a_world()
    pairs = [(a.x[0], b.x[0]) for a in world.query(Position) for b in world.query(Velocity)]
    assert len(pairs) == 9


def test_an_iteration_goes_on_when_its_world_is_let_go():
    world = a_world()
    chunks = iter(world.query(Position))
    seen = len(next(chunks))
    del world
    assert seen + sum(map(len, chunks)) == 6


def test_a_query_that_is_new_waits_for_the_change_that_another_thread_makes():
    world, seen = a_world(), []
    thread = threading.Thread(target=lambda: seen.extend(x for p in world.query(Position) for x in p.x))
    with world._storage.changing():
        thread.start()
        thread.join(0.2)
        assert not seen
        world.despawn(1)
    thread.join()
    assert sorted(seen) == [2, 3, 4, 5, 6]


def test_two_threads_may_begin_one_query(monkeypatch):
    """They have the same chunks: that the second one collects is no change to the first."""
    counts, both_begun = [], threading.Barrier(2, timeout=60)
    query, chunk = a_world().query(Position), Query._chunk

    def count():
        chunks = iter(query)
        first = len(next(chunks))
        both_begun.wait()
        counts.append(first + sum(map(len, chunks)))

    other = threading.Thread(target=count)

    def as_another_begins(self, table):
        if other.ident is None:
            other.start()
            other.join(0.2)
        return chunk(self, table)

    monkeypatch.setattr(Query, "_chunk", as_another_begins)
    count()
    other.join()
    assert counts == [6, 6]
