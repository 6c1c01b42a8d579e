"""One entity at a time: the quick way does what the general one does, and leaves to that what it cannot do."""

from __future__ import annotations

import enum
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    EntityNotFoundError,
    EntityRef,
    PecsError,
    StructuralChangeError,
    World,
    component,
    make_component,
    unregister,
)
from pecs_np.ecs import single


class Kind(enum.IntEnum):
    A = 1
    B = 2


@component(name="single.Number")
class Number:
    n: int = 0
    f: np.float32 = 0.0


@component(name="single.Vector")
class Vector:
    v: Annotated[np.float64, 3] = 0.0


@component(name="single.Link")
class Link:
    to: EntityRef
    kind: Kind = Kind.A


@component(name="single.Mark")
class Mark:
    pass


@component(name="single.Text")
class Text:
    text: str = ""


TYPES = (Number, Vector, Link, Mark, Text)


def value(rng, type_):
    if type_ is Number:
        return Number(int(rng.integers(-5, 5)), float(rng.random()))
    if type_ is Vector:
        return Vector(rng.random(3))
    if type_ is Link:
        return Link(None, Kind.B)
    return Text(str(rng.integers(99))) if type_ is Text else Mark()


def chosen(rng, types):
    return [t for t in types if rng.random() < 0.4]


@pytest.mark.parametrize("types", [TYPES[:4], TYPES], ids=["bytes", "objects too"])
@pytest.mark.parametrize("seed", range(20))
def test_scalars_and_arrays_of_one_do_the_same(seed, types):
    """The one world gets ids, the other arrays of one id; both are looked at after every step."""
    rng = np.random.default_rng(seed)
    quick, general = World(seed=seed), World(seed=seed)
    if seed % 2:
        for world in (quick, general):
            world.spawn_batch(Number(np.arange(20)), Mark())
    for step in range(60):
        ids = quick.entities()
        verb = rng.choice(["spawn", "insert", "remove", "despawn"]) if len(ids) else "spawn"
        given = [value(rng, t) for t in chosen(rng, types)]
        if verb == "spawn":
            one = quick.spawn(*given)
            (other,) = general.spawn_batch(*given, count=1)
            assert int(one) == int(other)
        else:
            e = int(rng.choice(ids))
            removed = chosen(rng, types)
            for world, which in ((quick, e), (general, np.array([e], np.uint64))):
                if verb == "insert":
                    world.insert(which, *given)
                elif verb == "remove":
                    world.remove(which, *removed)
                else:
                    world.despawn(which)
        if step % 3 == 0:  # otherwise several steps pass before anybody asks where the rows are
            assert quick.to_bytes() == general.to_bytes()
            assert quick.validate(), str(quick.validate())
    assert quick.to_bytes() == general.to_bytes()
    np.testing.assert_array_equal(quick.entities(), general.entities())


@pytest.mark.parametrize("types", [TYPES[:4], TYPES], ids=["bytes", "objects too"])
@pytest.mark.parametrize("seed", range(10))
def test_whole_tables_move_as_single_entities_do(seed, types):
    rng = np.random.default_rng(seed)
    whole, each = World(seed=seed), World(seed=seed)
    for world in (whole, each):
        world.spawn_batch(Number(np.arange(12)))
        world.spawn_batch(Text([f"{i}" for i in range(5)]), Mark())
    for _ in range(30):
        tables = whole.snapshot().tables
        table = tables[rng.integers(len(tables))]
        ids = table.entities.array().copy()
        given = [value(rng, t) for t in chosen(rng, types)]
        removed = chosen(rng, types)
        if rng.random() < 0.5:
            whole.insert(ids, *given)
            for e in ids:
                each.insert(e, *given)
        else:
            whole.remove(ids, *removed)
            for e in ids:
                each.remove(e, *removed)
        assert whole.validate(), str(whole.validate())
        assert {int(e): repr(whole.components(e)) for e in whole.entities()} == {
            int(e): repr(each.components(e)) for e in each.entities()
        }


def test_a_table_that_moves_whole_is_not_copied():
    world = World()
    ids = world.spawn_batch(Number(np.arange(1000)))
    before = world.column(Number)
    world.insert(ids, Mark())
    assert np.shares_memory(before, world.column(Number))
    world.remove(ids, Mark)
    assert np.shares_memory(before, world.column(Number))
    assert world.validate()
    later = world.spawn(Number(7))
    assert world.get(later, Number).n == 7
    assert world.validate()


def test_ids_in_another_order_are_another_matter():
    world = World()
    ids = world.spawn_batch(Number(np.arange(100)))
    world.insert(ids[::-1], Vector(np.arange(300).reshape(100, 3)))
    assert world.get(ids[0], Vector).v.tolist() == [297, 298, 299]
    assert world.validate()


def test_a_snapshot_of_the_table_that_moved_is_outdated():
    world = World()
    ids = world.spawn_batch(Number(np.arange(10)))
    snapshot = world.snapshot()
    world.insert(ids, Mark())
    with pytest.raises(StructuralChangeError):
        snapshot.copy()


def test_views_of_rows_are_live_and_know_their_fields():
    world = World()
    e = world.spawn(Number(3, 1.5), Vector([1, 2, 3]), Link(None, Kind.B), Text("a"))
    number = world.get(e, Number)
    number.n = 9
    number.f += 1
    assert (number.n, number.f, type(number.f)) == (9, 2.5, np.float32)
    assert np.asarray(number).tolist() == (9, 2.5)
    number.n = 10  # now that it has an array
    assert world.get(e, Number).n == 10
    vector = world.get(e, Vector)
    vector.v += 1
    vector.v[0] = 0
    assert world.get(e, Vector).v.tolist() == [0, 3, 4]
    assert world.get(e, Link).kind is Kind.B
    assert world.get(e, Link).to == 0
    world.get(e, Link).to = e
    assert world.get(e, Link).to == e
    world.get(e, Text).text = "b"
    assert world.get(e, Text).text == "b"
    assert world.validate()


@pytest.mark.parametrize(
    ("field", "given"),
    [("n", 1 << 63), ("n", 1.5), ("n", "a"), ("n", [1, 2]), ("f", "a"), ("f", None)],
)
def test_what_does_not_fit_a_row_is_told(field, given):
    world = World()
    e = world.spawn(Number(3, 1.5))
    number = world.get(e, Number)
    with pytest.raises(PecsError, match=f"single.Number.{field}"):
        setattr(number, field, given)
    assert world.get(e, Number) == Number(3, 1.5)


def test_large_floats_become_infinite_without_a_warning():
    world = World()
    e = world.spawn(Number(0, 1e300))
    assert world.get(e, Number).f == np.inf
    world.get(e, Number).f = -1e300
    assert world.get(e, Number).f == -np.inf
    world.get(e, Number).f = np.nan
    assert np.isnan(world.get(e, Number).f)


def test_a_value_changed_after_it_was_made_is_spawned_as_it_is():
    world = World()
    number = Number(1, 2.0)
    first = world.spawn(number)
    number.n = 5
    second = world.spawn(number)
    assert [world.get(e, Number).n for e in (first, second)] == [1, 5]
    number.n = 6
    assert world.get(second, Number).n == 5


def test_a_row_of_the_world_can_be_given_to_another_entity():
    world = World()
    first = world.spawn(Number(1, 2.0), Mark())
    second = world.spawn(Number(3, 4.0))
    world.insert(second, world.get(first, Number))
    third = world.spawn(world.get(first, Number))
    assert world.get(second, Number) == world.get(third, Number) == Number(1, 2.0)
    world.get(first, Number).n = 8
    assert world.get(second, Number).n == world.get(third, Number).n == 1


def test_columns_of_one_row_count_as_a_value():
    world = World()
    e = world.spawn(Number(n=[4], f=[2]))
    world.insert(e, Vector(np.ones((1, 3))))
    assert world.get(e, Number) == Number(4, 2)


@pytest.mark.parametrize("e", [0, -1, 99, 1 << 40, 1 << 64, -(1 << 32) + 1, np.uint64(77), np.int64(-1)])
def test_entities_that_are_none_are_told(e):
    world = World(capacity=100)
    world.spawn(Number(1, 1.0))
    before = world.to_bytes()
    for call in (
        lambda: world.get(e, Number),
        lambda: world.has(e, Number),
        lambda: world.insert(e, Mark()),
        lambda: world.remove(e, Number),
        lambda: world.despawn(e),
    ):
        with pytest.raises(EntityNotFoundError):
            call()
    assert world.to_bytes() == before


@pytest.mark.parametrize("given", [True, 1.0, "1", None, [[1]], np.array(1.5)])
def test_what_is_no_entity_is_told(given):
    world = World()
    world.spawn(Number(1, 1.0))
    for call in (
        lambda: world.get(given, Number),
        lambda: world.insert(given, Mark()),
        lambda: world.despawn(given),
    ):
        with pytest.raises(PecsError):
            call()
    assert len(world) == 1


@pytest.mark.parametrize("types", [([],), ({},), (Number(1),), (5,), (int,), ("nothing",)])
def test_what_is_no_type_is_told(types):
    world = World()
    e = world.spawn(Number(1, 1.0))
    for call in (lambda: world.get(e, *types), lambda: world.remove(e, *types), lambda: world.has(e, *types)):
        with pytest.raises(ComponentDefinitionError):
            call()
    assert world.has(e, Number)


def test_slots_used_up_are_retired():
    world = World()
    e = world.spawn(Number(1, 1.0))
    world.entities()
    assert world.has(e, Number)
    world._storage.entities.generation_of[1] = 0xFFFFFFFF
    world.despawn(0xFFFFFFFF << 32 | 1)
    assert world.spawn(Number(1, 1.0)) == 2


def test_a_type_defined_anew_is_checked_anew():
    old = make_component("single.Again", {"x": np.float32})
    world = World()
    e = world.spawn(old(1.0))
    assert world.get(e, old).x == 1
    unregister("single.Again")
    same = make_component("single.Again", {"x": np.float32})
    assert type(world.get(e, same)) is same
    world.insert(e, same(2.0))
    assert world.get(e, "single.Again").x == 2
    unregister("single.Again")
    other = make_component("single.Again", {"x": np.float64})
    for call in (
        lambda: world.get(e, other),
        lambda: world.insert(e, other(1.0)),
        lambda: world.spawn(other(1.0)),
    ):
        with pytest.raises(ComponentDefinitionError):
            call()
    unregister("single.Again")


def test_objects_take_the_general_way():
    world = World()
    e = world.spawn(Text("a"))
    assert not single.insert_one(world._storage, e, (Mark(),))
    assert not single.remove_one(world._storage, e, (Text,))
    assert not single.despawn_one(world._storage, e)
    assert single.spawn_one(world._storage, (Text("b"),)) is None
    assert len(world) == 1
