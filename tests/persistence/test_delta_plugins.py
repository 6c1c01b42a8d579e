"""Places for changes: the contract's own part, and the manager's verbs."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import (
    ChangeTracker,
    DuplicateEntityError,
    PersistenceError,
    PersistenceManager,
    PluginNotFoundError,
    World,
    component,
)
from pecs_np.ecs.applying import concatenated_changes
from pecs_np.persistence import DeltaPersistencePlugin
from pecs_np.testing import assert_worlds_equal


@component
class PluggedSpot:
    x: np.float32 = 0.0


class ListPlugin(DeltaPersistencePlugin):
    """Changes in a list."""

    def __init__(self):
        self.saved = []
        self.closed = 0

    def save_changes(self, changes):
        if changes:
            self.saved.append(changes)

    def load_changes(self, since=0.0):
        return concatenated_changes(changes for changes in self.saved if changes.timestamp > since)

    def current_timestamp(self):
        return self.saved[-1].timestamp if self.saved else 0.0

    def close(self):
        self.closed += 1


class FullPlugin(ListPlugin):
    def save_changes(self, changes):
        raise PersistenceError("no room")


@pytest.fixture
def tracker():
    times = iter(range(1, 100))
    return ChangeTracker(World(seed=1), clock=lambda: float(next(times)))


def test_what_is_saved_comes_into_another_world(tracker):
    world, plugin, manager = tracker.world, ListPlugin(), PersistenceManager()
    manager.register_delta_plugin("list", plugin)
    ids = world.spawn_batch(PluggedSpot(x=[1, 2, 3]))
    manager.save_delta(tracker.take())
    replica = World()
    assert len(manager.load_delta(replica)) == 3
    seen = manager.delta_plugin().current_timestamp()
    assert seen == 1.0
    world.get(ids[0], PluggedSpot).x = 5
    assert len(manager.save_delta(tracker)) == 1
    world.despawn(ids[1])
    assert len(manager.save_delta(tracker)) == 1
    assert not tracker.changes()
    assert len(manager.load_delta(replica, since=seen)) == 2
    assert_worlds_equal(replica, world)
    assert not manager.load_delta(replica, since=plugin.current_timestamp())


def test_a_tracker_goes_on_only_from_what_was_saved(tracker):
    manager = PersistenceManager()
    manager.register_delta_plugin("full", FullPlugin())
    tracker.world.spawn()
    with pytest.raises(PersistenceError, match="no room"):
        manager.save_delta(tracker)
    assert len(tracker.changes()) == 1


def test_a_conflict_is_settled_as_for_worlds(tracker):
    plugin, manager = ListPlugin(), PersistenceManager()
    manager.register_delta_plugin("list", plugin)
    tracker.world.spawn(PluggedSpot(1))
    manager.save_delta(tracker)
    replica = World()
    manager.load_delta(replica)
    with pytest.raises(DuplicateEntityError, match="expected to create"):
        manager.load_delta(replica)
    manager.load_delta(replica, conflict="theirs")
    assert_worlds_equal(replica, tracker.world)


def test_plugins_have_names_and_one_is_the_default():
    manager = PersistenceManager()
    first, second = ListPlugin(), ListPlugin()
    with pytest.raises(PluginNotFoundError, match=r"\(none is registered\)"):
        manager.delta_plugin()
    manager.register_delta_plugin("first", first)
    manager.register_delta_plugin("second", second)
    assert manager.list_delta_plugins() == ["first", "second"]
    assert manager.delta_plugin() is first
    manager.set_default_delta_plugin("second")
    assert manager.delta_plugin() is second
    assert manager.unregister_delta_plugin("second") is second
    assert manager.delta_plugin() is first
    for name in ("second", 5, []):
        with pytest.raises(PluginNotFoundError, match="expected one of the delta plugins first"):
            manager.delta_plugin(name)
    manager.close()
    assert (first.closed, second.closed) == (1, 0)


def test_what_is_none_is_refused():
    manager = PersistenceManager()
    with pytest.raises(PluginNotFoundError, match="expected a DeltaPersistencePlugin"):
        manager.register_delta_plugin("list", ListPlugin)
    for name in ("", None, 5):
        with pytest.raises(PersistenceError, match="expected a name for the delta plugin"):
            manager.register_delta_plugin(name, ListPlugin())
    manager.register_delta_plugin("list", ListPlugin())
    for changes in (None, World(), []):
        with pytest.raises(PersistenceError, match="expected a ChangeSet or a ChangeTracker"):
            manager.save_delta(changes)


def test_a_plugin_closes_itself_in_a_with_block():
    with ListPlugin() as plugin:
        assert plugin.closed == 0
    assert plugin.closed == 1
