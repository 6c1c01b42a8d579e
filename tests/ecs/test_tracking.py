"""Trackers: checkpoints that know their save, hints, and parts of what they tell."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import ChangeTracker, World, WorldError
from pecs_np.testing import assert_worlds_equal


def copied(world):
    return World.from_snapshot(world.snapshot(copy=True))


@pytest.mark.parametrize("seed", range(40))
def test_hints_for_all_that_changed_find_all_that_changed(deltas, seed):
    rng = np.random.default_rng(seed)
    world = World(seed=1)
    deltas.happen(world, rng, 12)
    for _ in range(4):
        tracker = ChangeTracker(world, clock=lambda: 5.0)
        before = copied(world)
        ids = world.entities().copy()
        deltas.happen(world, rng)
        whole = tracker.changes()
        tracker.track_deleted(ids)
        tracker.track_created(world.entities())
        tracker.track_modified(world.entities()[:1])  # again
        hinted = tracker.changes(hinted=True)
        assert len(hinted) == len(whole)
        replica = copied(before)
        replica.apply(hinted)
        assert_worlds_equal(replica, world)
        replica.apply(hinted.invert())
        assert_worlds_equal(replica, before)


def test_only_entities_that_were_named_are_looked_at(deltas):
    spot, mark = deltas.DeltaSpot, deltas.DeltaMark
    world = World()
    ids = world.spawn_batch(spot(x=np.arange(6)))
    tracker = ChangeTracker(world)
    for row in world.query(spot):
        row.x += 1
    world.remove(ids[2], spot)
    world.insert(ids[3], mark())
    world.despawn(ids[4:6])
    new = world.spawn_batch(count=2)
    assert not tracker.changes(hinted=True)
    tracker.track_modified(ids[1])
    tracker.track_modified([int(ids[2]), int(ids[3])])
    tracker.track_deleted(ids[4])
    tracker.track_created(new[0])
    hinted = tracker.changes(hinted=True)
    stable = [int(change.entity) for change in hinted]
    wanted = {int(s) for s in (world.get_stable_id(i) for i in (ids[1], ids[2], ids[3], new[0]))}
    assert set(stable) > wanted
    assert len(hinted) == len(stable) == 5
    assert len(hinted.despawned) == 1
    assert len(tracker.changes()) == 8
    tracker.take(hinted=True)
    assert not tracker.changes()
    assert not tracker.changes(hinted=True)


def test_hints_of_entities_that_never_were_tell_nothing(deltas):
    world = World()
    tracker = ChangeTracker(world)
    tracker.track_modified([7, 1 << 40])
    born = world.spawn()
    world.despawn(born)
    tracker.track_deleted(born)
    assert not tracker.changes(hinted=True)
    with pytest.raises(WorldError):
        tracker.track_modified(np.zeros(2))


def test_hints_keep_the_filter_and_tell_what_the_world_has_beside_entities(deltas):
    world = World()
    ids = world.spawn_batch(deltas.DeltaSpot(), deltas.DeltaMark(), count=2)
    tracker = ChangeTracker(world, filter=lambda table: table.keep(deltas.DeltaMark))
    world.remove(ids[0], deltas.DeltaMark)
    world.get(ids[1], deltas.DeltaSpot).x = 3
    world.version = 7
    tracker.track_modified(ids)
    hinted = tracker.changes(hinted=True)
    assert (list(hinted.removed), hinted.modified, hinted.world.version) == (["DeltaMark"], (), 7)


def test_a_checkpoint_knows_its_save(tmp_path):
    world = World()
    report = world.save(tmp_path / "base")
    tracker = ChangeTracker(world, base_id=report.save_id)
    assert tracker.base_id == report.save_id
    assert tracker.world is world
    tracker.take()
    assert tracker.base_id is None
    tracker.checkpoint(5)
    assert tracker.base_id == 5
    for base_id in (-1, 1 << 128, "5", True, report):
        with pytest.raises(WorldError, match="expected a save id"):
            tracker.checkpoint(base_id)
    assert tracker.base_id == 5


def test_what_was_taken_is_still_to_come_where_it_could_not_be_kept():
    world = World()
    tracker = ChangeTracker(world)
    world.spawn()

    def keep(changes):
        raise OSError(f"no room for {len(changes)}")

    with pytest.raises(OSError, match="no room for 1"), tracker.taking() as changes:
        keep(changes)
    assert len(tracker.changes()) == 1


def test_references_out_of_the_tracked_part_lead_nowhere_as_in_a_save_of_it(deltas):
    world = World()
    spot = world.spawn(deltas.DeltaSpot())
    story = world.spawn(deltas.DeltaHome(deltas.DeltaSpot(), owner=None))
    tracker = ChangeTracker(world, filter=lambda table: "DeltaHome" in table.columns)
    world.get(story, deltas.DeltaHome).owner = spot
    assert not tracker.changes()
