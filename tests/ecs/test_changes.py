"""Changes: found by comparison, applied, undone, and made one."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    DuplicateEntityError,
    EntityNotFoundError,
    EntityRef,
    World,
    WorldError,
    component,
)
from pecs_np.ecs.applying import apply, apply_to_snapshot, concatenated_changes
from pecs_np.ecs.changes import ChangeSet, Created, Deleted, Modified
from pecs_np.ecs.difference import difference
from pecs_np.ecs.tracking import ChangeTracker
from pecs_np.testing import assert_worlds_equal


@component
class ChangedPlace:
    x: np.float32
    y: np.float32 = 0.0


@component
class ChangedTag:
    pass


@component
class ChangedOdd:
    cells: Annotated[np.uint8, 3]
    flag: bool = False


@component
class ChangedLink:
    to: EntityRef = 0
    crew: list[EntityRef] = ()
    name: str = ""


@component
class ChangedClock:
    tick: int
    leader: EntityRef = 0


TYPES = (ChangedPlace, ChangedTag, ChangedOdd, ChangedLink)


def value(rng, type_, ids):
    if type_ is ChangedPlace:
        return ChangedPlace(x=rng.integers(5), y=rng.choice([0.0, -0.0, np.nan, 1.5]))
    if type_ is ChangedOdd:
        return ChangedOdd(cells=rng.integers(0, 3, 3, np.uint8), flag=bool(rng.integers(2)))
    if type_ is ChangedLink:
        chosen = rng.choice(ids, rng.integers(3)) if len(ids) else []
        target = int(rng.choice(ids)) if len(ids) else 0
        return ChangedLink(
            to=target, crew=[int(i) for i in chosen], name=str(rng.integers(3)) * rng.integers(3)
        )
    return ChangedTag()


def mess_up(world, rng, times=6):
    """Change the world in some of the ways there are."""
    for _ in range(times):
        ids = world.entities()
        kind = rng.integers(8)
        types = [t for t in TYPES if rng.integers(2)]
        if kind == 0 or not len(ids):
            world.spawn_batch(*[value(rng, t, ids) for t in types], count=int(rng.integers(1, 6)))
        elif kind == 1:
            world.despawn(rng.choice(ids, min(len(ids), 2), replace=False))
        elif kind == 2:
            world.insert(
                rng.choice(ids, min(len(ids), 3), replace=False), *[value(rng, t, ids) for t in types]
            )
        elif kind == 3:
            world.remove(rng.choice(ids, min(len(ids), 3), replace=False), *types)
        elif kind == 4:
            for place in world.query(ChangedPlace):
                place.x[rng.integers(len(place))] += 1
        elif kind == 5:
            for link in world.query(ChangedLink):
                row = rng.integers(len(link))
                link._array["name"][row] += "!"
                link._array["to"][row] = int(rng.choice(ids))
        elif kind == 6:
            world.resources.insert(ChangedClock(int(rng.integers(9)), int(rng.choice(ids))))
            world.metadata["note"] = int(rng.integers(3))
        else:
            world.rngs.create("dice", int(rng.integers(3))).random(int(rng.integers(3)))


def is_sound(world):
    """Tell whether nothing is wrong but references to entities that were despawned."""
    return all("is not alive" in problem for problem in world.validate().problems)


def copy_of(world):
    return World.from_snapshot(world.snapshot(copy=True))


@pytest.mark.parametrize("seed", range(60))
def test_changes_lead_from_one_state_to_the_other_and_back(seed):
    rng = np.random.default_rng(seed)
    world = World(seed=1)
    mess_up(world, rng, 12)
    tracker = ChangeTracker(world)
    sets, states = [], [copy_of(world)]
    for _ in range(5):
        mess_up(world, rng)
        changes = tracker.take()
        sets.append(changes)
        states.append(copy_of(world))
        assert not tracker.changes()
        # By the world itself, between any two snapshots, and by another world that follows.
        other = difference(states[-2].snapshot(), states[-1].snapshot())
        for found in (changes, other):
            replica = copy_of(states[-2])
            apply(replica, found)
            assert_worlds_equal(replica, states[-1])
            assert is_sound(replica)
            apply(replica, found.invert())
            assert_worlds_equal(replica, states[-2])
            assert is_sound(replica)
        again = changes.invert().invert()
        replica = copy_of(states[-2])
        apply(replica, again)
        assert_worlds_equal(replica, states[-1])
    whole = concatenated_changes(sets)
    replica = copy_of(states[0])
    apply(replica, whole, conflict="theirs")
    assert_worlds_equal(replica, states[-1])
    apply(replica, whole.invert(), conflict="theirs")
    assert_worlds_equal(replica, states[0])
    assert apply_to_snapshot(states[0].snapshot(), whole, conflict="theirs").entity_count == len(states[-1])
    assert not concatenated_changes([])


def test_nothing_is_found_where_nothing_changed():
    world = World(seed=1)
    mess_up(world, np.random.default_rng(0), 20)
    world.spawn_batch(ChangedPlace(x=[np.nan, -0.0]))
    changes = ChangeTracker(world).changes()
    assert not changes
    assert (len(changes), list(changes), changes.types) == (0, [], ())
    assert not changes.invert()
    assert not difference(world.snapshot(), copy_of(world).snapshot())


def test_the_bits_decide():
    world = World()
    world.spawn_batch(ChangedPlace(x=[0.0, np.nan, 1.0]))
    tracker = ChangeTracker(world)
    world.column(ChangedPlace)["x"][:2] = [-0.0, np.nan]
    changes = tracker.changes()
    assert changes.modified[0].columns["ChangedPlace"]["x"].tolist() == [0.0]
    assert np.signbit(changes.modified[0].columns["ChangedPlace"]["x"])


def test_what_happened_is_told_entity_by_entity():
    world = World()
    a, b, c = (world.spawn_with_stable_id(i, ChangedPlace(i), ChangedTag()) for i in (1, 2, 3))
    tracker = ChangeTracker(world, clock=lambda: 1000.5)
    world.get(a, ChangedPlace).x = 10
    world.remove(a, ChangedTag)
    world.remove(b, ChangedTag)
    world.despawn(c)
    world.spawn_with_stable_id(4, ChangedLink(to=a, name="new"))
    found = list(tracker.changes())
    assert [type(change) for change in found] == [Created, Modified, Modified, Deleted]
    assert [int(change.entity) for change in found] == [4, 1, 2, 3]
    assert {change.timestamp for change in found} == {1000.5}
    created, first, second, _ = found
    assert [(data.type_name, data.type_version) for data in created.components] == [("ChangedLink", 1)]
    assert created.components[0].value["to"].tolist() == (1, 0)
    assert created.components[0].value["name"] == "new"
    assert (first.components[0].value["x"], first.removed) == (10, ("ChangedTag",))
    assert (second.components, second.removed) == ((), ("ChangedTag",))
    changes = tracker.changes()
    assert len(changes) == 4
    assert repr(changes) == (
        "<ChangeSet of 1970-01-01T00:16:40.500+00:00: 1 created, 1 modified, 2 components removed, 1 despawned>"
    )


def test_a_change_set_shares_nothing_with_the_world():
    world = World()
    ids = world.spawn_batch(ChangedLink(crew=[[0], [0]]), ChangedPlace(x=[1, 2]))
    tracker = ChangeTracker(world)
    world.despawn(ids[:1])
    world.spawn_batch(ChangedPlace(x=[5, 6]))
    changes = tracker.changes()
    before = [t.columns["ChangedPlace"]["x"].tolist() for t in changes.created]
    for place in world.query(ChangedPlace):
        place.x = -1
    tracker.checkpoint()
    assert [t.columns["ChangedPlace"]["x"].tolist() for t in changes.created] == before == [[5, 6]]
    assert changes.inverse.created[0].columns["ChangedPlace"]["x"].tolist() == [1]


CONFLICTS = {
    "created": (
        lambda w: w.spawn_with_stable_id(9, ChangedPlace(9)),
        lambda w: w.spawn_with_stable_id(9),
        DuplicateEntityError,
    ),
    "modified": (
        lambda w: setattr(w.get(w.get_entity_id(1), ChangedPlace), "x", 5),
        lambda w: w.despawn(w.get_entity_id(1)),
        EntityNotFoundError,
    ),
    "value": (
        lambda w: setattr(w.get(w.get_entity_id(1), ChangedPlace), "x", 5),
        lambda w: setattr(w.get(w.get_entity_id(1), ChangedPlace), "x", 6),
        WorldError,
    ),
    "removed": (
        lambda w: w.remove(w.get_entity_id(1), ChangedPlace),
        lambda w: w.despawn(w.get_entity_id(1)),
        EntityNotFoundError,
    ),
    "despawned": (
        lambda w: w.despawn(w.get_entity_id(1)),
        lambda w: w.despawn(w.get_entity_id(1)),
        EntityNotFoundError,
    ),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicts_are_errors_or_one_side_wins(name):
    change, interfere, error = CONFLICTS[name]
    world = World()
    world.spawn_with_stable_id(1, ChangedPlace(1))
    world.spawn_with_stable_id(2, ChangedPlace(2))
    base = copy_of(world)
    tracker = ChangeTracker(world)
    change(world)
    for place in world.query(ChangedPlace):
        place.y[-1] = 7  # of one that nobody else touches
    changes = tracker.changes()
    other = copy_of(base)
    interfere(other)
    before = other.to_bytes()
    with pytest.raises(error):
        apply(other, changes)
    assert other.to_bytes() == before
    theirs, ours = copy_of(other), copy_of(other)
    apply(theirs, changes, conflict="theirs")
    if name == "removed":
        assert theirs.get_entity_id(1) is None  # there was nothing left to say of it
    else:
        assert_worlds_equal(theirs, world)
    apply(ours, changes, conflict="ours")
    assert ours.validate()
    assert (1 if name in ("modified", "removed", "despawned") else 0) == (ours.get_entity_id(1) is None)
    if name == "value":
        assert ours.get(ours.get_entity_id(1), ChangedPlace).x == 6
    if name == "created":
        assert not ours.has(ours.get_entity_id(9), ChangedPlace)


def test_what_does_not_fit_is_refused_before_anything_is_touched(define):
    world = World()
    world.spawn_batch(ChangedPlace(x=[1, 2]))
    changes = difference(World().snapshot(), world.snapshot())
    assert len(changes) == 2
    other = World()
    apply(other, changes)
    assert_worlds_equal(other, world)
    with pytest.raises(WorldError, match="'error', 'theirs' or 'ours'"):
        apply(other, changes, conflict="mine")
    with pytest.raises(WorldError, match="expected a ChangeSet"):
        apply(other, [changes])
    with pytest.raises(WorldError, match="the values from before"):
        ChangeSet().invert()
    import pecs_np

    first = define("ChangedTwice", {"x": np.int8})
    one = World()
    one.spawn(first(1))
    pecs_np.unregister("ChangedTwice")
    second = define("ChangedTwice", {"x": np.int16})
    two = World()
    two.spawn(second(1))
    with pytest.raises(ComponentDefinitionError):
        apply(one, difference(World().snapshot(), two.snapshot()))
    assert len(one) == 1


def test_components_that_are_filtered_out_are_not_tracked():
    world = World()
    ids = world.spawn_batch(ChangedPlace(x=[1, 2]), ChangedTag())
    tracker = ChangeTracker(world, filter=lambda table: table.keep(ChangedPlace))
    world.remove(ids, ChangedTag)
    assert not tracker.changes()
    world.column(ChangedPlace)["x"] += 1
    assert len(tracker.changes()) == 2
    for bad in (None, 5, world.snapshot()):
        with pytest.raises(WorldError, match="expected a World"):
            ChangeTracker(bad)


def test_references_to_the_dead_and_the_awaited_are_told_as_saves_tell_them():
    world = World(seed=1)
    a, b = world.spawn(ChangedTag()), world.spawn(ChangedLink())
    tracker = ChangeTracker(world)
    world.get(b, ChangedLink).to = a
    world.despawn(a)
    changes = tracker.changes()
    assert (len(changes.modified), len(changes.despawned)) == (0, 1)  # it referred to nobody, and does again
    c = world.spawn(ChangedTag())
    stable = world.get_stable_id(c)
    tracker.checkpoint()
    world.unload(c)
    world.get(b, ChangedLink).to = c
    changes = tracker.changes()
    assert changes.modified[0].columns["ChangedLink"]["to"][0].item() == (
        int(stable) & (1 << 64) - 1,
        int(stable) >> 64,
    )


def test_changes_are_filtered_by_component_by_entity_and_to_entities_alone():
    world = World()
    ids = world.spawn_batch(ChangedPlace(x=[1, 2, 3]), ChangedTag())
    tracker = ChangeTracker(world)
    for place in world.query(ChangedPlace):
        place.x += 1
    world.remove(ids[:2], ChangedTag)
    world.despawn(ids[2])
    new = world.spawn(ChangedPlace(x=9), ChangedTag())
    world.metadata = {"a": 1}
    changes = tracker.changes()
    stable = world.stable_ids()

    places = changes.filtered(types=ChangedPlace)
    assert [t.names for t in (*places.created, *places.modified)] == [("ChangedPlace",)] * 2
    assert (places.removed, places.lost, len(places.despawned)) == ({}, (), 1)
    assert places.world is changes.world
    tags = changes.filtered(types=["ChangedTag"], world=False)
    assert (tags.modified, list(tags.removed), tags.world) == ((), ["ChangedTag"], None)
    assert [t.name for t in tags.lost] == ["ChangedTag"]
    none = changes.filtered(types=[], entities=stable[:0], world=False)
    assert not none
    assert not none.inverse
    # An entity stays new when none of its components are told.
    assert [t.names for t in changes.filtered(types=()).created] == [()]

    one = changes.filtered(entities=[world.get_stable_id(ids[0])])
    assert len(one) == 1
    assert (one.created, len(one.despawned), len(one.removed["ChangedTag"])) == ((), 0, 1)
    assert len(changes.filtered(entities=[world.get_stable_id(new)]).created) == 1

    # What is filtered is undone as such.
    before = copy_of(world)
    apply(world, one.invert())
    assert world.get(ids[0], ChangedPlace).x == 1
    assert world.has(ids[0], ChangedTag)
    apply(world, one)
    assert_worlds_equal(world, before)
