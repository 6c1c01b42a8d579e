"""Formats by name, migrations applied on load, and saves in the background."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    ComponentValueError,
    JsonPlugin,
    Migration,
    MigrationChain,
    MigrationError,
    PersistenceError,
    PersistenceIOError,
    PersistenceManager,
    PersistencePlugin,
    PluginNotFoundError,
    WhitelistFilter,
    World,
    component,
)
from pecs_np.testing import assert_worlds_equal


@component
class ManagedPoint:
    x: np.float32
    y: np.float32 = 0.0


@component
class ManagedName:
    text: str


class OneToTwo(Migration):
    def source_version(self):
        return 1

    def target_version(self):
        return 2

    def migrate(self, world):
        world.metadata["migrated"] = True


class Shelf(PersistencePlugin):
    """Saves snapshots in a dict: no format of bytes."""

    def __init__(self):
        self.saves = {}

    def save_snapshot(self, snapshot, path, **options):
        self.saves[path] = snapshot.copy()
        return 7

    def load_snapshot(self, path, *, progress=None):
        return self.saves[path].copy()

    def format_name(self):
        return "shelf"

    def format_version(self):
        return 1


class Backwards(PersistencePlugin):
    suffixes = (".swp",)

    def encode(self, snapshot):
        return [BinaryPlugin().to_bytes(snapshot)[::-1]]

    def decode(self, data, name):
        return BinaryPlugin().decode(bytes(data)[::-1], name)

    def format_name(self):
        return "backwards"

    def format_version(self):
        return 1


@pytest.fixture
def world():
    world = World(seed=4)
    world.spawn_batch(ManagedPoint(x=[1, 2, 3]), ManagedName("a"))
    return world


@pytest.fixture
def manager():
    with PersistenceManager() as manager:
        yield manager


def test_binary_and_json_are_there_and_binary_is_the_default(manager):
    assert manager.list_plugins()[:2] == ["binary", "json"]
    assert manager.default_plugin == "binary"
    assert isinstance(manager.plugin(), BinaryPlugin)
    assert isinstance(manager.plugin("json"), JsonPlugin)
    assert repr(manager).startswith("<PersistenceManager: binary, json")
    assert manager.has_plugin("json")
    assert not manager.has_plugin("xml")


def test_formats_are_registered_listed_replaced_and_forgotten(manager, world, tmp_path):
    manager.register_plugin("backwards", Backwards())
    assert "backwards" in manager.list_plugins()
    report = manager.save_with(world, tmp_path / "a", "backwards")
    assert (tmp_path / "a").read_bytes() == world.to_bytes()[::-1]
    assert (report.bytes, report.path) == (len(world.to_bytes()), str(tmp_path / "a"))
    assert_worlds_equal(manager.load_with(tmp_path / "a", "backwards"), world)
    smaller = BinaryPlugin(version=1)
    manager.register_plugin("backwards", smaller)
    assert manager.plugin("backwards") is smaller
    manager.unregister_plugin("backwards")
    assert not manager.has_plugin("backwards")
    with pytest.raises(PluginNotFoundError):
        manager.unregister_plugin("backwards")


def test_the_suffix_says_in_which_format_to_save_and_the_content_in_which_to_load(manager, world, tmp_path):
    manager.register_plugin("backwards", Backwards())
    for name in ("a.pecs", "b.json", "c.SWP", "d.whatever", "e"):
        manager.save(world, tmp_path / name)
    assert (tmp_path / "a.pecs").read_bytes() == (tmp_path / "e").read_bytes() == world.to_bytes()
    assert (tmp_path / "d.whatever").read_bytes() == world.to_bytes()
    assert (tmp_path / "b.json").read_bytes() == world.to_bytes(JsonPlugin())
    assert (tmp_path / "c.SWP").read_bytes() == world.to_bytes()[::-1]
    for name in ("a.pecs", "b.json", "c.SWP", "d.whatever", "e"):
        assert_worlds_equal(manager.load(tmp_path / name), world)
    os.rename(tmp_path / "a.pecs", tmp_path / "f.json")
    os.rename(tmp_path / "b.json", tmp_path / "g.pecs")
    for name in ("f.json", "g.pecs"):
        assert_worlds_equal(manager.load(tmp_path / name), world)


def test_the_default_format_is_for_names_that_say_nothing(manager, world, tmp_path):
    manager.set_default_plugin("json")
    assert manager.default_plugin == "json"
    manager.save(world, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == world.to_bytes(JsonPlugin())
    assert_worlds_equal(manager.load(tmp_path / "a"), world)
    with pytest.raises(PersistenceError, match="set_default_plugin first"):
        manager.unregister_plugin("json")


@pytest.mark.parametrize("name", ["xml", "", None, 5, [], b"json"])
def test_unknown_names_list_those_that_are_known(manager, world, tmp_path, name):
    calls = [
        lambda: manager.save_with(world, tmp_path / "a", name),
        lambda: manager.load_with(tmp_path / "a", name),
        lambda: manager.set_default_plugin(name),
        lambda: manager.save_to_writer(world, io.BytesIO(), name),
        lambda: manager.load_from_reader(io.BytesIO(), name),
    ]
    if name is None:  # the default
        calls = calls[2:3] * 0
    for call in calls:
        with pytest.raises(PluginNotFoundError, match="expected one of the formats binary, json"):
            call()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("plugin", [None, BinaryPlugin, "binary", 5])
def test_what_is_no_plugin_is_refused(manager, plugin):
    with pytest.raises(PluginNotFoundError, match="expected a PersistencePlugin"):
        manager.register_plugin("mine", plugin)
    with pytest.raises(PersistenceError, match="expected a name"):
        manager.register_plugin(5, BinaryPlugin())


def test_writers_and_readers_take_a_format_by_name(manager, world):
    for name in (None, "binary", "json"):
        stream = io.BytesIO()
        report = manager.save_to_writer(world, stream, name)
        assert (report.bytes, report.path) == (len(stream.getvalue()), None)
        stream.seek(0)
        assert_worlds_equal(manager.load_from_reader(stream, name), world)
    for call in (lambda: manager.save_to_writer(world, "a"), lambda: manager.load_from_reader("a")):
        with pytest.raises(PersistenceError, match="expected a file object with"):
            call()


def test_options_are_passed_on(manager, world, tmp_path):
    path = tmp_path / "a.pecs"
    manager.save(world, path)
    manager.save(world, path, backup=True, durable=False, retries=1, filter=WhitelistFilter(ManagedName))
    assert [t.name for t in manager.load(path).snapshot().types] == ["ManagedName"]
    path.write_bytes(b"junk")
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert_worlds_equal(manager.load(path, backup=True), world)
    manager.save(world, path)
    only = manager.load(path, filter=WhitelistFilter(ManagedPoint), unknown="refuse")
    assert [t.name for t in only.snapshot().types] == ["ManagedPoint"]


def test_migrations_are_applied_on_every_load(world, tmp_path):
    manager = PersistenceManager(migrations=[OneToTwo()])
    manager.save(world, tmp_path / "a.pecs")
    loads = [
        lambda: manager.load(tmp_path / "a.pecs"),
        lambda: manager.load_with(tmp_path / "a.pecs", "binary"),
        lambda: manager.load_from_reader(io.BytesIO(world.to_bytes())),
    ]
    for load in loads:
        back = load()
        assert (back.version, back.metadata) == (2, {"migrated": True})
    later = PersistenceManager()
    later.register_migration(OneToTwo())
    assert later.load(tmp_path / "a.pecs").version == 2
    with pytest.raises(MigrationError):
        later.register_migration(OneToTwo())
    assert later.migrations.target_version == 2
    assert PersistenceManager(migrations=MigrationChain()).load(tmp_path / "a.pecs").version == 1


def test_a_place_that_is_no_file_is_saved_to_by_any_key(manager, world):
    shelf = Shelf()
    manager.register_plugin("shelf", shelf)
    report = manager.save_with(world, ("slot", 1), "shelf")
    assert (report.bytes, report.entities, report.path) == (7, 3, "('slot', 1)")
    assert_worlds_equal(manager.load_with(("slot", 1), "shelf"), world)
    manager.set_default_plugin("shelf")
    manager.save(world, "slot 2")
    assert set(shelf.saves) == {("slot", 1), "slot 2"}
    assert_worlds_equal(manager.load("slot 2"), world)
    with pytest.raises(PersistenceError, match="'shelf' has no bytes of its own"):
        manager.save_to_writer(world, io.BytesIO(), "shelf")
    with pytest.raises(PersistenceError, match="'shelf' has no bytes of its own"):
        manager.load_from_reader(io.BytesIO(), "shelf")


# In the background


def test_a_background_save_holds_the_world_of_the_moment_of_the_call(manager, tmp_path):
    world = World(seed=5)
    world.spawn_batch(ManagedPoint(x=np.arange(200_000)))
    then = World.from_bytes(world.to_bytes())
    saving = manager.save_in_background(world, tmp_path / "a.pecs", durable=False)
    for chunk in world.query(ManagedPoint):
        chunk.x = -1
    world.spawn_batch(count=10)
    report = saving.result()
    assert (report.entities, report.bytes) == (200_000, os.path.getsize(tmp_path / "a.pecs"))
    assert_worlds_equal(World.load(tmp_path / "a.pecs"), then)


def test_background_saves_of_one_manager_follow_one_another(manager, tmp_path):
    world = World(seed=6)
    futures = []
    for i in range(20):
        world.metadata["number"] = i
        futures.append(manager.save_in_background(world, tmp_path / "a.pecs", durable=False))
    manager.close()
    assert all(future.done() for future in futures)
    assert World.load(tmp_path / "a.pecs").metadata == {"number": 19}
    assert manager.save_in_background(world, tmp_path / "b.pecs").result().entities == 0


def test_the_future_raises_what_failed(manager, world, tmp_path):
    future = manager.save_in_background(world, tmp_path / "no" / "a.pecs")
    with pytest.raises(PersistenceIOError, match="No such file"):
        future.result()
    assert isinstance(future.exception(), PersistenceIOError)
    world.get(world.entities()[0], ManagedName)._array["text"] = 5
    with pytest.raises(ComponentValueError, match="expected str"):
        manager.save_in_background(world, tmp_path / "a.pecs").result()
    with pytest.raises(PluginNotFoundError):
        manager.save_in_background(world, tmp_path / "a.pecs", "xml")
    with pytest.raises(PersistenceError, match="expected a World"):
        manager.save_in_background(5, tmp_path / "a.pecs")


def test_background_saves_take_formats_and_filters(manager, world, tmp_path):
    manager.save_in_background(world, tmp_path / "a.json", filter=WhitelistFilter(ManagedName)).result()
    assert [t.name for t in World.load_json(tmp_path / "a.json").snapshot().types] == ["ManagedName"]
    manager.save_in_background(world, tmp_path / "b", "json").result()
    assert_worlds_equal(World.load_json(tmp_path / "b"), world)


def test_threads_may_share_a_manager(manager, tmp_path):
    failures = []

    def work(number):
        try:
            world = World(seed=number)
            world.spawn_batch(ManagedPoint(x=np.arange(1000) + number))
            for turn in range(5):
                path = tmp_path / f"{number}-{turn}.pecs"
                manager.save_in_background(world, path, durable=False).result()
                assert_worlds_equal(manager.load(path), world)
        except Exception as error:  # noqa: BLE001 - any of them fails the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_program_that_ends_still_finishes_its_saves(tmp_path):
    code = (
        "import sys, numpy as np; from pecs_np import *\n"
        "P = make_component('P', {'x': float})\n"
        "world = World(); ids = world.spawn_batch(P(x=np.arange(300_000)))\n"
        "PersistenceManager().save_in_background(world, sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.pecs")], check=True)
    assert len(World.load(tmp_path / "a.pecs")) == 300_000


@pytest.mark.parametrize("name", [None, 5, [], {}, b"json"])
def test_what_is_no_name_is_that_of_no_format(name):
    assert not PersistenceManager().has_plugin(name)
