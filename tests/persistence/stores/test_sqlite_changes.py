"""The log of changes in an SQLite database, beside the entities."""

from __future__ import annotations

import math
import pickle
import sqlite3
from dataclasses import replace

import pytest

from pecs_np import (
    ChangeSet,
    PersistenceError,
    PersistenceManager,
    SqliteEntityPlugin,
    World,
    WorldError,
)
from pecs_np.testing import assert_worlds_equal


@pytest.fixture
def store(tmp_path):
    with SqliteEntityPlugin(tmp_path / "game.db", audit=True) as store:
        yield store


def test_what_changed_since_any_time_comes_back_as_one(store, story):
    assert store.current_timestamp() == 0
    assert not store.load_changes()
    for changes in story.changes:
        store.save_changes(changes)
    assert store.current_timestamp() == story.changes[-1].timestamp == 1004
    for number in range(6):
        world = World.from_bytes(story.states[number])
        store.apply_changes(world, store.load_changes(999.5 + number), conflict="theirs")
        assert_worlds_equal(world, World.from_bytes(story.states[-1]))
    world = story.world()
    store.apply_changes(world, store.load_changes(), conflict="theirs")
    assert_worlds_equal(world, World.from_bytes(story.states[-1]))
    assert not store.load_changes(1004.0)


def test_it_stands_beside_the_entities_and_lasts(store, tmp_path, story):
    world = story.world()
    ids = world.entities()
    store.save_entities(world, ids)
    store.save_changes(story.changes[0])
    store.close()
    with SqliteEntityPlugin(tmp_path / "game.db") as plain:
        assert len(plain) == len(ids)
        for call in (
            plain.load_changes,
            plain.current_timestamp,
            lambda: plain.save_changes(ChangeSet()),
        ):
            with pytest.raises(PersistenceError, match=r"game\.db.* opened without; pass audit=True"):
                call()
    with SqliteEntityPlugin(tmp_path / "game.db", audit=True) as again:
        assert len(again.load_changes()) == len(story.changes[0])
        again.clear()
        assert again.current_timestamp() == 1000
        with pickle.loads(pickle.dumps(again)) as copy:
            assert copy.current_timestamp() == 1000


def test_a_clock_that_goes_back_leaves_nothing_out(store, story):
    world = story.world()
    for changes, time in zip(story.changes, (10.0, 30.0, 20.0, 0.0, 40.0), strict=True):
        store.save_changes(replace(changes, timestamp=time))
    world.apply(story.changes[0])
    store.apply_changes(world, store.load_changes(25.0), conflict="theirs")
    assert_worlds_equal(world, World.from_bytes(story.states[-1]))
    assert store.current_timestamp() == 40


def test_what_is_no_change_and_no_time_is_told(store):
    for bad in (None, 5, []):
        with pytest.raises(WorldError, match="expected a ChangeSet"):
            store.save_changes(bad)
    for bad in (math.nan, math.inf, "now"):
        with pytest.raises(WorldError, match="a time in seconds since 1970"):
            store.save_changes(ChangeSet(timestamp=bad))
    for bad in (math.nan, "now", None):
        with pytest.raises(PersistenceError, match="a time in seconds since 1970"):
            store.load_changes(bad)
    with pytest.raises(PersistenceError, match="expected True or False for audit"):
        SqliteEntityPlugin(":memory:", audit="yes")


def test_damage_is_told_with_the_number_of_the_change(store, tmp_path, story):
    store.save_changes(story.changes[0])
    store.save_changes(story.changes[1])
    for value, message in ((b"nonsense" * 9, "change 2 of"), (5, "expected bytes, found 5 as change 2 of")):
        with sqlite3.connect(tmp_path / "game.db", isolation_level=None) as other:
            other.execute("UPDATE changes SET delta = ? WHERE number = 2", (value,))
        other.close()
        with pytest.raises(PersistenceError, match=message) as caught:
            store.load_changes()
        assert caught.value.is_corruption
        assert len(store.load_changes(story.changes[-1].timestamp)) == 0


def test_a_manager_takes_it_as_a_place_for_changes(store, story):
    with PersistenceManager() as manager:
        manager.register_delta_plugin("audit", store)
        for changes in story.changes:
            manager.save_delta(changes)
        world = story.world()
        manager.load_delta(world, conflict="theirs")
        assert_worlds_equal(world, World.from_bytes(story.states[-1]))
