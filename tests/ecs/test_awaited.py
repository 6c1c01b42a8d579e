"""References to entities that are not here: they keep their ids, and the entities come under them."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import EntityNotFoundError, EntityRef, World, component
from pecs_np.ecs.entities import as_stable_ids
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.restore import upsert
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable


@component
class AwaitedLink:
    to: EntityRef


@component
class AwaitedTag:
    number: np.int32 = 0


def arriving(world, stable_ids, component):
    """Return a snapshot of entities that are identified in *world* and have one component."""
    stable = as_stable_ids(stable_ids)
    ids = world._storage.identify(stable)
    type_ = component._type
    column = np.asarray(component).reshape(-1)
    table = SnapshotTable(
        (type_,),
        len(ids),
        IdColumn(ENTITY_ID, array=ids),
        IdColumn(STABLE_ID, array=stable),
        {type_.name: column},
    )
    return Snapshot((table,))


def test_an_unloaded_entity_is_gone_but_its_id_stays_its_own():
    world = World(seed=1)
    a, b = world.spawn(AwaitedTag(1)), world.spawn(AwaitedTag(2))
    world.spawn(AwaitedLink(a))
    stable = world.get_stable_id(a)
    world.unload(a)
    assert not world.is_alive(a)
    assert world.is_alive(b)
    assert len(world) == 2
    assert world.get_entity_id(stable) is None
    assert world.get_stable_id(a) == stable
    assert world.column(AwaitedLink)["to"].tolist() == [a]
    assert world.validate()
    others = world.spawn_batch(AwaitedTag(3), count=5)
    assert a not in others.tolist()
    with pytest.raises(EntityNotFoundError):
        world.get(a, AwaitedTag)
    with pytest.raises(EntityNotFoundError):
        world.unload([b, a])
    assert world.is_alive(b)


@pytest.mark.parametrize("way", ["one", "batch", "merge", "overwrite", "upsert"])
def test_an_entity_comes_again_under_its_id_whatever_brings_it(way):
    world = World(seed=1)
    a = world.spawn(AwaitedTag(1))
    keep = world.spawn(AwaitedLink(a))
    stable = world.get_stable_id(a)
    other = World()
    other.spawn_with_stable_id(stable, AwaitedTag(7))
    other.spawn(AwaitedTag(8))
    world.unload(a)
    if way == "one":
        assert world.spawn_with_stable_id(stable, AwaitedTag(7)) == a
    elif way == "batch":
        assert world.spawn_batch(AwaitedTag(7), stable_ids=[5, stable])[1] == a
    elif way in ("merge", "overwrite"):
        assert a in world.restore(other.snapshot(), mode=way).tolist()
    else:
        upsert(world, arriving(world, [stable], AwaitedTag(number=[7])))
    assert world.is_alive(a)
    assert world.get(a, AwaitedTag).number == 7
    assert world.get(world.get(keep, AwaitedLink).to, AwaitedTag).number == 7
    assert world.get_entity_id(stable) == a
    assert world.get_stable_id(a) == stable
    assert world.validate()
    world.despawn(a)
    assert world.get_stable_id(a) is None
    assert world.get_entity_id(stable) is None


def test_references_to_entities_never_seen_resolve_when_they_come():
    world = World(seed=1)
    wanted = as_stable_ids([10, 11, 10, 12])
    targets = world._storage.identify(wanted)
    assert targets[0] == targets[2]
    assert len(set(targets.tolist())) == 3
    world.spawn_batch(AwaitedLink(to=targets))
    assert world.get_stable_id(targets).tolist() == wanted.tolist()
    assert not world.is_alive(targets).any()
    assert world.validate()
    assert world._storage.identify(wanted).tolist() == targets.tolist()
    upsert(world, arriving(world, [11, 12], AwaitedTag(number=[1, 2])))
    assert world.is_alive(targets).tolist() == [False, True, False, True]
    assert world.get(targets[[1, 3]], AwaitedTag)["number"].tolist() == [1, 2]
    assert world.get_stable_id(targets).tolist() == wanted.tolist()
    assert world._storage.identify(as_stable_ids([0, 12])).tolist() == [0, targets[3]]


def test_an_upsert_replaces_the_components_of_who_is_here():
    world = World(seed=1)
    a, b = world.spawn_with_stable_id(1, AwaitedTag(1), AwaitedLink(0)), world.spawn_with_stable_id(2)
    upsert(world, arriving(world, [2, 1, 3], AwaitedTag(number=[20, 10, 30])))
    assert len(world) == 3
    assert (world.get(a, AwaitedTag).number, world.get(b, AwaitedTag).number) == (10, 20)
    assert not world.has(a, AwaitedLink)
    assert world.validate()


def test_a_save_has_null_for_who_is_not_here():
    world = World(seed=1)
    world.spawn_batch(AwaitedLink(to=world._storage.identify(as_stable_ids([99]))))
    back = World.from_bytes(world.to_bytes())
    assert back.column(AwaitedLink)["to"].tolist() == [0]


def test_many_come_and_go():
    world = World(seed=2)
    ids = world.spawn_batch(AwaitedTag(number=np.arange(5000)))
    stable = world.get_stable_id(ids)
    rng = np.random.default_rng(3)
    here = np.ones(5000, bool)
    for _ in range(60):
        chosen = rng.permutation(5000)[: rng.integers(1, 700)]
        going, coming = chosen[here[chosen]], chosen[~here[chosen]]
        if len(going):
            world.unload(ids[going])
        if len(coming):
            arrived = world.spawn_batch(AwaitedTag(number=coming), stable_ids=stable[coming])
            assert arrived.tolist() == ids[coming].tolist()
        here[going], here[coming] = False, True
        assert world.is_alive(ids).tolist() == here.tolist()
        assert world.get_stable_id(ids).tolist() == stable.tolist()
    assert world.validate()
    assert world.get(ids[here], AwaitedTag)["number"].tolist() == np.flatnonzero(here).tolist()
    assert len(world._storage.awaited.pairs()[0]) == np.count_nonzero(~here)


def test_an_exact_restore_begins_without_them():
    world = World(seed=1)
    a = world.spawn(AwaitedTag(1))
    world.unload(a)
    other = World()
    other.spawn_batch(count=3)
    world.restore(other.snapshot())
    assert len(world) == 3
    assert world._storage.awaited is None
    assert world.validate()


def test_who_is_awaited_outlives_all_others():
    world = World()
    target, other = world.spawn(AwaitedTag(1)), world.spawn(AwaitedTag(2))
    stable = world.get_stable_id(target)
    world.resources.insert(AwaitedLink(target))
    world.unload(target)
    world.clear()
    assert not world.is_alive(other)
    assert world.spawn_with_stable_id(stable, AwaitedTag(1)) == target
    assert world.get(world.resources.get(AwaitedLink).to, AwaitedTag).number == 1
    assert world.validate()
