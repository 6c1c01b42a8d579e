"""Delta files: what changed since a save, chains of them, and worlds that come back from them."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BlacklistFilter,
    ChangeTracker,
    ComponentVersionError,
    CorruptedDataError,
    MigrationError,
    PersistenceError,
    PersistenceIOError,
    World,
    component,
    make_component,
    unregister,
)
from pecs_np.persistence import DeltaBase, read_delta
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.persistence.deltas import state_after
from pecs_np.testing import assert_worlds_equal


@component
class ChainedSpot:
    x: np.float32 = 0.0


@component(transient=True)
class ChainedCache:
    x: np.float32 = 0.0


@component
class ChainedFlag:
    """Saved only while it is set."""

    on: bool = False

    def is_persistent(self):
        return self.on


def saved(world):
    """Return the world as a save of it comes back."""
    return World.from_bytes(world.to_bytes())


def written(changes, path, **options):
    encoded = encode_delta(changes, **options)
    path.write_bytes(b"".join(encoded))
    return encoded.save_id


@pytest.fixture
def chain(tmp_path):
    """Save, three deltas, and the worlds after each of them."""
    world = World(seed=1)
    ids = world.spawn_batch(ChainedSpot(x=np.arange(5)))
    paths = [tmp_path / f"{n}.pecs" for n in range(4)]
    tracker = ChangeTracker(world, base_id=world.save(paths[0]).save_id)
    states = [saved(world)]
    for n, path in enumerate(paths[1:]):
        world.get(ids[n], ChainedSpot).x += 10
        world.spawn(ChainedSpot(x=n))
        world.despawn(ids[4 - n])
        world.save_delta(path, since=tracker)
        states.append(saved(world))
    return paths, states


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("since", ["tracker", "paths", "base", "snapshot", "open"])
def test_a_world_comes_back_from_its_save_and_its_deltas(tmp_path, deltas, seed, since):
    rng = np.random.default_rng(seed)
    world = World(seed=1) if seed % 2 else World()
    deltas.happen(world, rng, 12)
    base = tmp_path / "base.pecs"
    report = world.save(base)
    tracker = ChangeTracker(world, base_id=report.save_id)
    copied = world.snapshot(copy=True)
    paths = []
    for n in range(4):
        deltas.happen(world, rng, 3)
        path = tmp_path / f"{n}.pecs"
        if since == "tracker":
            found = world.save_delta(path, since=tracker, compression="zstd")
            assert tracker.base_id == found.save_id
        elif since == "paths":
            found = world.save_delta(path, since=[base, *paths])
        elif since == "base":
            paths.clear()  # all that happened since the save, each time
            found = world.save_delta(path, since=base)
        elif since == "snapshot":
            paths.clear()
            found = world.save_delta(path, since=DeltaBase(copied, report.save_id))
        else:
            paths.clear()
            with pecs_np.open(base) as save:
                found = world.save_delta(path, since=save)
        assert (found.bytes, found.path) == (path.stat().st_size, str(path))
        paths.append(path)
        loaded = World.load(base, deltas=paths)
        assert_worlds_equal(loaded, saved(world))
        assert type(loaded) is World
    assert_worlds_equal(World.load(base), World.from_snapshot(copied))


def test_a_report_tells_the_id_that_the_delta_tells(chain, tmp_path):
    paths, states = chain
    report = states[0].save(tmp_path / "again")
    assert report.save_id == state_after(paths[0], [], world_type=World)[1]
    assert states[0].save_json(tmp_path / "a.json").save_id is None
    with (tmp_path / "stream").open("wb") as file:
        assert states[0].save_binary(file).save_id == report.save_id


def test_any_part_of_a_chain_from_its_beginning_loads(chain):
    paths, states = chain
    for n in range(4):
        assert_worlds_equal(World.load(paths[0], deltas=iter(paths[1 : n + 1])), states[n])
    assert_worlds_equal(World.load(paths[0], deltas=paths[1]), states[1])


def ids_of(path):
    delta = read_delta(path)
    return f"{delta.base_id:032x}", f"{delta.save_id:032x}"


def test_a_wrong_order_is_an_error_that_names_both_ids(chain):
    paths, _ = chain
    wanted = f"{read_delta(paths[1]).base_id:032x}"
    with pytest.raises(PersistenceError, match="expected a delta to") as found:
        World.load(paths[0], deltas=[paths[2], paths[1]])
    assert wanted in str(found.value)
    assert ids_of(paths[2])[0] in str(found.value)
    assert f"order in which they were written: {paths[1]} comes before" in found.value.suggestion


def test_a_missing_link_is_an_error_that_names_both_ids(chain):
    paths, _ = chain
    with pytest.raises(PersistenceError) as found:
        World.load(paths[0], deltas=[paths[1], paths[3]])
    for part in (ids_of(paths[1])[1], ids_of(paths[3])[0], str(paths[1]), str(paths[3])):
        assert part in str(found.value)
    assert f"{ids_of(paths[2])[1]}, which comes between, is missing" in found.value.suggestion


def test_a_delta_of_another_save_is_refused(chain, tmp_path):
    paths, _ = chain
    other = World()
    other.save(tmp_path / "other")
    with pytest.raises(PersistenceError, match="expected a delta to"):
        World.load(tmp_path / "other", deltas=paths[1:])
    with pytest.raises(PersistenceError, match="expected a delta to"):
        other.save_delta(tmp_path / "new", since=[tmp_path / "other", paths[1]])
    assert not (tmp_path / "new").exists()


def test_a_save_among_the_deltas_or_a_delta_as_the_save_is_told_as_such(chain):
    paths, _ = chain
    with pytest.raises(PersistenceError, match="expected a delta, found a whole save"):
        World.load(paths[0], deltas=[paths[0]])
    for call in (World.load, World.load_binary, lambda p: World().save_delta(paths[3], since=p)):
        with pytest.raises(PersistenceError, match=r"found a delta, which applies to the save [0-9a-f]{32}"):
            call(paths[1])


def test_a_save_without_an_id_has_no_deltas(tmp_path):
    World().save(tmp_path / "base.json")
    World().save_with(tmp_path / "base.v1", pecs_np.BinaryPlugin(version=1))
    with pecs_np.open(tmp_path / "base.v1") as save:
        for since in (tmp_path / "base.json", tmp_path / "base.v1", save):
            with pytest.raises(PersistenceError, match="expected a save with an id"):
                World().save_delta(tmp_path / "delta", since=since)
    with pytest.raises(PersistenceError, match="expected a save with an id"):
        World.load(tmp_path / "base.json", deltas=[tmp_path / "delta"])
    assert sorted(os.listdir(tmp_path)) == ["base.json", "base.v1"]


def test_what_nothing_can_be_told_from_is_refused(tmp_path):
    world = World()
    base = world.save(tmp_path / "base")
    cases = {
        "expected what the delta is told from": [None, 5, [], world, world.snapshot()],
        "expected a tracker whose last checkpoint was saved": [ChangeTracker(world)],
        "expected a tracker of this world": [ChangeTracker(World(), base_id=base.save_id)],
        "expected a Snapshot in a DeltaBase": [DeltaBase(world, base.save_id)],
        "expected a save with an id": [DeltaBase(world.snapshot(), None)],
        "failed|no such": [tmp_path / "nowhere"],
    }
    for message, values in cases.items():
        for since in values:
            with pytest.raises(PersistenceError, match=f"(?i){message}"):
                world.save_delta(tmp_path / "delta", since=since)
    with pytest.raises(PersistenceError, match="expected no filter with a tracker"):
        world.save_delta(tmp_path / "delta", since=ChangeTracker(world), filter=BlacklistFilter())
    with pytest.raises(PersistenceError, match="a level only with compression"):
        world.save_delta(tmp_path / "delta", since=tmp_path / "base", level=3)
    with pytest.raises(PersistenceError, match="expected the paths of deltas"):
        World.load(tmp_path / "base", deltas=5)
    with pytest.raises(PersistenceIOError):
        World.load(tmp_path / "base", deltas=[tmp_path / "nowhere"])
    assert os.listdir(tmp_path) == ["base"]


def test_a_tracker_goes_on_only_from_what_was_saved(tmp_path):
    world = World()
    tracker = ChangeTracker(world, base_id=world.save(tmp_path / "base").save_id)
    world.spawn()
    with pytest.raises(PersistenceIOError):
        world.save_delta(tmp_path / "no" / "delta", since=tracker)
    assert len(tracker.changes()) == 1
    world.save_delta(tmp_path / "delta", since=tracker)
    assert not tracker.changes()
    tracker.checkpoint()
    with pytest.raises(PersistenceError, match="knows of no save"):
        world.save_delta(tmp_path / "more", since=tracker)


@pytest.mark.parametrize("since", ["tracker", "path", "snapshot"])
def test_transient_components_stay_out(tmp_path, since):
    world = World(seed=1)
    ids = world.spawn_batch(ChainedSpot(), ChainedCache(), ChainedFlag(on=[True, False, True, False]))
    base = world.save(tmp_path / "base")
    known = {
        "tracker": ChangeTracker(world, base_id=base.save_id),
        "path": tmp_path / "base",
        "snapshot": DeltaBase(world.snapshot(copy=True), base.save_id),
    }
    for cache in world.query(ChainedCache):
        cache.x += 1
    world.get(ids[0], ChainedFlag).on = False
    world.get(ids[1], ChainedFlag).on = True
    world.save_delta(tmp_path / "delta", since=known[since])
    changes = read_delta(tmp_path / "delta").changes
    assert [t.name for t in changes.types] == ["ChainedFlag"]
    assert list(changes.removed) == ["ChainedFlag"]
    assert_worlds_equal(World.load(tmp_path / "base", deltas=[tmp_path / "delta"]), saved(world))


def test_a_part_of_the_world_is_saved_by_the_same_filter(tmp_path, deltas):
    world = World(seed=1)
    rng = np.random.default_rng(3)
    deltas.happen(world, rng, 30)
    keep = BlacklistFilter(deltas.DeltaSpot)
    world.save(tmp_path / "base", filter=keep)
    deltas.happen(world, rng, 10)
    world.save_delta(tmp_path / "delta", since=tmp_path / "base", filter=keep)
    world.save(tmp_path / "whole", filter=keep)
    assert_worlds_equal(
        World.load(tmp_path / "base", deltas=[tmp_path / "delta"]), World.load(tmp_path / "whole")
    )
    less = BlacklistFilter(deltas.DeltaHome)
    loaded = World.load(tmp_path / "base", deltas=[tmp_path / "delta"], filter=less)
    assert "DeltaHome" not in [t.name for t in loaded.snapshot().types]
    assert len(loaded) == len(world)


def test_changes_that_do_not_fit_their_save_are_corruption(chain, tmp_path):
    paths, _ = chain
    delta = read_delta(paths[1])
    base_id = delta.base_id
    gone = replace(delta.changes, despawned=delta.changes.created[0].stable_ids.copy(), created=())
    written(gone, tmp_path / "bad", base_id=base_id)
    with pytest.raises(CorruptedDataError, match="expected changes that fit what they apply to"):
        World.load(paths[0], deltas=[tmp_path / "bad"])
    # Two entities of one id.
    written(delta.changes, tmp_path / "bad", base_id=delta.save_id)
    with pytest.raises(CorruptedDataError, match="expected to create"):
        World.load(paths[0], deltas=[paths[1], tmp_path / "bad"])


def test_components_of_an_older_program_come_up_to_date(tmp_path):
    old = make_component("ChainedOld", {"x": np.float32})
    try:
        world = World(seed=1)
        ids = world.spawn_batch(old(x=[1, 2, 3]))
        world.save(tmp_path / "base")
        world.get(ids[1], old).x = 20
        world.spawn(old(x=4))
        world.save_delta(tmp_path / "delta", since=tmp_path / "base")
        unregister("ChainedOld")
        new = make_component("ChainedOld", {"metres": np.float64}, version=2)

        @new.migration(1)
        def migrate(rows):
            return {"metres": rows["x"] * 2.0}

        files = tmp_path / "base", [tmp_path / "delta"]
        world = World.load(files[0], deltas=files[1])
        assert sorted(world.column(new)["metres"]) == [2, 6, 8, 40]
        # What changed since is told in the new version, all of it.
        world.save_delta(tmp_path / "newer", since=[files[0], *files[1]])
        assert len(read_delta(tmp_path / "newer").changes) == 4
        again = World.load(files[0], deltas=[*files[1], tmp_path / "newer"])
        assert_worlds_equal(again, world)
        # Some of it does not do.
        changes = read_delta(tmp_path / "newer")
        part = changes.changes.filtered(entities=world.stable_ids()[:2])
        written(part, tmp_path / "part", base_id=changes.base_id)
        with pytest.raises(MigrationError, match="expected all values of ChainedOld in their other version"):
            World.load(files[0], deltas=[*files[1], tmp_path / "part"])
        unregister("ChainedOld")
        make_component("ChainedOld", {"x": np.float32})
        with pytest.raises(ComponentVersionError):
            World.load(files[0], deltas=[*files[1], tmp_path / "newer"])
    finally:
        unregister("ChainedOld")


def test_progress_and_options_of_saves_are_there(chain, tmp_path):
    paths, states = chain
    told = []
    world = World.load(paths[0], deltas=paths[1:])
    for _ in range(2):
        report = world.save_delta(
            tmp_path / "new",
            since=paths[0],
            durable=False,
            backup=True,
            retries=1,
            progress=lambda *done: told.append(done),
        )
    assert told[-1] == (report.bytes, report.bytes)
    assert (tmp_path / "new.bak").exists()
    assert_worlds_equal(World.load(paths[0], deltas=[tmp_path / "new"]), states[-1])


def test_the_backup_of_the_save_takes_deltas_too(chain):
    paths, states = chain
    os.replace(paths[0], f"{paths[0]}.bak")
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert_worlds_equal(World.load(paths[0], deltas=paths[1:], backup=True), states[-1])
