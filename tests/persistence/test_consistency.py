"""A save of a world that changes meanwhile is refused, however it is made, and leaves what was there before."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    JsonPlugin,
    MigrationChain,
    PersistenceError,
    PersistenceManager,
    PersistencePlugin,
    StructuralChangeError,
    World,
    WorldDraft,
    component,
)
from pecs_np.ecs.ids import IdColumn
from pecs_np.ecs.tables import Table
from pecs_np.persistence.consistency import changed, check_current, check_snapshot
from pecs_np.persistence.packed import pack

CHANGED = "expected a world that stays as it is while it is saved"
PLUGINS = {
    "binary": BinaryPlugin(),
    "records": BinaryPlugin(version=1),
    "json": JsonPlugin(),
}


@component
class Steady:
    x: np.int64 = 0


@component
class SteadyOther:
    x: np.int64 = 0


def make_world(rows=100):
    world = World()
    ids = world.spawn_batch(Steady(x=np.arange(rows)), stable_ids=np.arange(1, rows + 1).tolist())
    return world, ids


STRUCTURAL = {
    "spawn": lambda world, ids: world.spawn(Steady()),
    "spawn_batch": lambda world, ids: world.spawn_batch(Steady(), count=2),
    "despawn": lambda world, ids: world.despawn(ids[3]),
    "insert": lambda world, ids: world.insert(ids[:2], SteadyOther()),
    "remove": lambda world, ids: world.remove(ids[3], Steady),
    "unload": lambda world, ids: world.unload(ids[3]),
    "clear": lambda world, ids: world.clear(),
    "merge": lambda world, ids: world.merge(make_world(3)[0].snapshot()),
    "overwrite": lambda world, ids: world.restore(make_world(101)[0].snapshot(), mode="overwrite"),
}
NOT_STRUCTURAL = {
    "a look": lambda world, ids: world.get(ids[3], Steady),
    "an index": lambda world, ids: world.get_entity_id(4),
    "a value": lambda world, ids: setattr(world.get(ids[3], Steady), "x", 7),
    "components replaced": lambda world, ids: world.insert(ids[:2], Steady(x=7)),
    "nobody despawned": lambda world, ids: world.despawn(ids[:0]),
}


@pytest.mark.parametrize("change", STRUCTURAL.values(), ids=STRUCTURAL)
def test_a_structural_change_outdates_the_snapshots_that_share_the_worlds_memory(change):
    world, ids = make_world()
    snapshot, copy = world.snapshot(), world.snapshot(copy=True)
    part = world.snapshot(filter=lambda table: np.arange(table.rows) < 50)
    assert [s.outdated for s in (snapshot, copy, part)] == [False, False, False]
    check_current(snapshot)
    change(world, ids)
    assert [s.outdated for s in (snapshot, copy, part)] == [True, False, True]
    assert not world.snapshot().outdated
    for outdated in (snapshot, part):
        with pytest.raises(PersistenceError, match=CHANGED) as caught:
            check_current(outdated)
        assert str(caught.value) == str(changed())
        with pytest.raises(StructuralChangeError, match="until its snapshot is copied"):
            outdated.copy()
        with pytest.raises(PersistenceError, match=CHANGED):
            pack(outdated)
        for plugin in PLUGINS.values():
            with pytest.raises(PersistenceError, match=CHANGED):
                plugin.to_bytes(outdated)
    check_current(copy)
    assert World.from_snapshot(copy).entity_count == 100


@pytest.mark.parametrize("change", NOT_STRUCTURAL.values(), ids=NOT_STRUCTURAL)
def test_what_moves_no_rows_does_not(change):
    world, ids = make_world()
    snapshot = world.snapshot()
    change(world, ids)
    assert not snapshot.outdated


class Changing(io.BytesIO):
    """A writer during whose first write another thread adds an entity."""

    def __init__(self, world):
        super().__init__()
        self.world = world

    def write(self, data):
        if not self.tell():
            thread = threading.Thread(target=self.world.spawn, args=[Steady()])
            thread.start()
            thread.join()
        return super().write(data)


@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
def test_a_stream_of_a_world_that_changes_ends_with_an_error(plugin):
    world, _ = make_world()
    with pytest.raises(PersistenceError, match=CHANGED):
        world.save_with(Changing(world), plugin)
    with pytest.raises(PersistenceError, match=CHANGED):
        plugin.save(world, Changing(world))


@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
def test_a_file_of_a_world_that_changes_does_not_take_the_place_of_the_old_one(plugin, tmp_path):
    world, _ = make_world()
    path = tmp_path / "a"
    world.save_with(path, plugin)
    before = path.read_bytes()
    with pytest.raises(PersistenceError, match=CHANGED):
        world.save_with(path, plugin, progress=lambda done, total: world.spawn(Steady()), backup=True)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)
def test_a_filter_that_changes_the_world_is_told(plugin, tmp_path):
    world, ids = make_world()

    def careless(table):
        world.despawn(ids[0])
        return True

    with pytest.raises(PersistenceError, match=CHANGED):
        world.to_bytes(plugin, filter=careless)
    assert len(world) == 99
    with pytest.raises(PersistenceError, match=CHANGED):
        world.save_with(tmp_path / "a", plugin, filter=lambda table: world.spawn() is not None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "step", "change", "left"),
    [
        (Table, "swap_remove", lambda world, ids: world.despawn(ids[3:4]), 99),
        (Table, "swap_remove", lambda world, ids: world.insert(ids[3:4], SteadyOther()), 100),
        (Table, "remove_one", lambda world, ids: world.despawn(ids[3]), 99),
        (IdColumn, "hand_one", lambda world, ids: world.insert(ids[3], SteadyOther()), 100),
    ],
    ids=["despawn", "insert", "despawn one", "insert for one"],
)
def test_a_save_in_the_midst_of_a_change_is_refused(monkeypatch, owner, step, change, left):
    world, ids = make_world()
    take_out, told = getattr(owner, step), []

    def save_then_go_on(*given):
        refilled = take_out(*given)
        for call in (world.to_bytes, lambda: world.snapshot(copy=True)):
            with pytest.raises((PersistenceError, StructuralChangeError)) as caught:
                call()
            told.append(str(caught.value))
        with PersistenceManager() as manager, pytest.raises(StructuralChangeError):
            manager.save_in_background(world, "never.pecs")
        return refilled

    monkeypatch.setattr(owner, step, save_then_go_on)
    change(world, ids)
    monkeypatch.undo()
    assert len(told) >= 2
    assert len(World.from_bytes(world.to_bytes())) == left
    assert world.validate()


def test_a_change_that_fails_leaves_a_world_that_can_be_saved(monkeypatch):
    world, _ = make_world()

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Table, "fill", fail)
    with pytest.raises(MemoryError):
        world.spawn_batch(Steady(x=[1, 2]))
    monkeypatch.undo()
    assert not world._storage.revision.under_way


def test_saves_beside_a_thread_that_adds_and_removes_hold_no_value_under_anothers_id():
    world = World()
    stable = np.arange(1, 2001)
    ids = world.spawn_batch(Steady(x=stable), stable_ids=stable.tolist())
    stop = threading.Event()

    def churn():
        rng = np.random.default_rng(0)
        while not stop.is_set():
            gone = rng.choice(len(ids), 50, replace=False)
            values = world.get(ids[gone], Steady).x.copy()
            world.despawn(ids[gone])
            ids[gone] = world.spawn_batch(Steady(x=values), stable_ids=values.tolist())

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(400):
            try:
                data = world.to_bytes()
            except PersistenceError as error:
                if CHANGED not in str(error):
                    raise
                continue
            (table,) = World.from_bytes(data).snapshot().tables
            assert (table.columns["Steady"]["x"] == table.stable_ids.array()["lo"]).all()
    finally:
        stop.set()
        thread.join()
    assert len(World.from_bytes(world.to_bytes())) == 2000


def test_saves_beside_a_thread_that_sets_values_can_be_loaded():
    world = World()
    world.spawn_batch(Steady(x=np.arange(300_000)))
    stop = threading.Event()

    def count():
        while not stop.is_set():
            for steady in world.query(Steady):
                steady.x += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(40):
            assert len(World.from_bytes(world.to_bytes())) == 300_000
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("wrong", [None, 5, "text", [], object(), World])
def test_what_is_no_snapshot_is_refused_by_whatever_takes_one(wrong, tmp_path):
    calls = [check_snapshot, check_current, pack, WorldDraft, MigrationChain().apply]
    for plugin in (*PLUGINS.values(), PlainPlugin()):
        calls += [plugin.encode, plugin.encode_stream, plugin.to_bytes]
        calls.append(lambda value, plugin=plugin: plugin.save_snapshot(value, tmp_path / "a"))
    for call in calls:
        with pytest.raises(PersistenceError, match="expected a Snapshot"):
            call(wrong)
    assert list(tmp_path.iterdir()) == []


class PlainPlugin(PersistencePlugin):
    def save(self, world, writer):
        writer.write(world.to_bytes())

    def load(self, reader):
        return World.load_binary_stream(reader)

    def format_name(self):
        return "plain"

    def format_version(self):
        return 1
