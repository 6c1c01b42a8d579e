"""Stores of entities: what follows for every one of them from how records are made."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    ComponentDefinitionError,
    ComponentVersionError,
    EntityNotFoundError,
    EntityRef,
    KeyValueEntityPlugin,
    PecsError,
    PersistenceError,
    PersistenceManager,
    PluginNotFoundError,
    WhitelistFilter,
    World,
    component,
)
from pecs_np.persistence import EntityPersistencePlugin
from pecs_np.testing import assert_worlds_equal


@component
class StoredGold:
    coins: np.uint32


@component
class StoredName:
    text: str


@component
class StoredFriend:
    of: EntityRef


@component(transient=True)
class StoredCache:
    value: int


@component
class StoredScore:
    points: np.int32

    def is_persistent(self):
        return self.points > 0


@pytest.fixture
def store():
    return KeyValueEntityPlugin()


@pytest.fixture
def world():
    world = World(seed=3)
    world.spawn_batch(StoredGold(coins=[1, 2, 3]), StoredName(text=["a", "b", "c"]))
    return world


def test_loading_brings_back_what_was_saved(store, world):
    ids = world.entities()
    store.save_entities(world, ids)
    other = World()
    loaded = store.load_entities(other, world.stable_ids())
    assert len(loaded) == 3
    for ours, theirs in zip(ids, loaded, strict=True):
        assert other.get(int(theirs), StoredGold) == world.get(int(ours), StoredGold)
    one = World()
    assert one.get(store.load_entity(one, world.get_stable_id(int(ids[1]))), StoredName).text == "b"


def test_saving_again_replaces_and_loading_again_updates(store, world):
    entity = int(world.entities()[0])
    stable = world.get_stable_id(entity)
    store.save_entity(world, entity)
    other = World()
    there = store.load_entity(other, stable)
    other.insert(there, StoredCache(5))
    world.get(entity, StoredGold).coins = 100
    world.remove(entity, StoredName)
    store.save_entity(world, entity)
    assert len(store) == 1
    assert store.load_entity(other, stable) == there
    assert other.get(there, StoredGold).coins == 100
    assert not other.has(there, StoredName)
    assert other.get(there, StoredCache).value == 5
    assert other.validate()


def test_references_wait_for_their_targets(store):
    world = World(seed=4)
    a = world.spawn(StoredName("a"))
    b = world.spawn(StoredFriend(a), StoredName("b"))
    world.get(a, StoredName)
    world.insert(a, StoredFriend(b))
    stable = world.get_stable_id([a, b])
    store.save_entities(world, [a, b])
    other = World()
    (there,) = store.load_entities(other, stable[1:])
    friend = other.get(int(there), StoredFriend).of
    assert not other.is_alive(friend)
    assert other.get_stable_id(friend) == world.get_stable_id(a)
    # Saved again, it still refers to who is not here.
    store.save_entity(other, int(there))
    store.load_entity(other, other.get_stable_id(friend))
    assert other.get(friend, StoredName).text == "a"
    assert other.get(friend, StoredFriend).of == there
    third = World()
    store.load_entities(third, stable)
    assert_worlds_equal(third, other)


def test_an_evicted_entity_is_saved_and_comes_back_to_who_refers_to_it(store):
    manager = PersistenceManager()
    manager.register_entity_plugin("memory", store)
    world = World(seed=5)
    a = world.spawn(StoredName("a"))
    b = world.spawn(StoredFriend(a))
    world.get(a, StoredName).text = "changed"
    manager.evict(world, [a])
    assert len(world) == 1
    assert not world.is_alive(a)
    friend = world.get(b, StoredFriend).of
    assert manager.load_entity(world, world.get_stable_id(friend)) == a
    assert world.get(friend, StoredName).text == "changed"
    with pytest.raises(EntityNotFoundError):
        manager.evict(world, [a, 99])
    assert world.is_alive(a)


def test_transient_components_and_what_filters_refuse_stay_out(world):
    store = KeyValueEntityPlugin(filter=WhitelistFilter(StoredGold, StoredScore))
    ids = world.entities()
    world.insert(ids, StoredCache(1), StoredScore(points=[0, 1, 2]))
    store.save_entities(world, ids)
    other = World()
    loaded = store.load_entities(other, world.stable_ids())
    assert {t.name for t in other.snapshot().types} == {"StoredGold", "StoredScore"}
    assert other.has(loaded, StoredScore).tolist() == [False, True, True]
    some = KeyValueEntityPlugin(filter=lambda table: table.get(StoredGold).coins > 1)
    some.save_entities(world, ids)
    assert len(some) == 2


def test_components_not_defined_here_are_used_by_name_and_saved_again(define):
    store = KeyValueEntityPlugin()
    strange = define("StoredStrange", {"x": np.int8})
    world = World()
    entity = world.spawn(strange(5))
    store.save_entity(world, entity)
    record = store.read(next(store.keys()))
    pecs_np.unregister("StoredStrange")
    other = World()
    there = store.load_entity(other, world.get_stable_id(entity))
    assert other.get(there, "StoredStrange").x == 5
    store.save_entity(other, there)
    assert store.read(next(store.keys())) == record
    for unknown, error in (
        ("refuse", pytest.raises(ComponentDefinitionError)),
        ("drop", pytest.warns(UserWarning, match="dropped")),
    ):
        picky = KeyValueEntityPlugin(unknown=unknown)
        picky._records, picky._documents = store._records, store._documents
        with error:
            picky.load_entity(World(), world.get_stable_id(entity))


def test_old_records_are_migrated(define):
    store = KeyValueEntityPlugin()
    old = define("StoredMoved", {"m": np.float32})
    world = World()
    ids = world.spawn_batch(old(m=[1, 2]))
    store.save_entities(world, ids)
    new = define("StoredMoved", {"mm": np.int32, "label": str}, version=2, defaults={"label": "-"})
    newer = World()
    newer.spawn_with_stable_id(77, new(mm=5, label="new"))
    store.save_entities(newer, newer.entities())
    with pytest.raises(ComponentVersionError):
        store.load_entities(World(), world.stable_ids())
    new.migration(1)(lambda old: {"mm": (old["m"] * 1000).astype("i4")})
    other = World()
    loaded = store.load_entities(other, [77, *map(int, (pecs_np.StableId(s) for s in world.stable_ids()))])
    assert other.get(loaded, new)["mm"].tolist() == [5, 1000, 2000]
    assert other.get(loaded, new)["label"].tolist() == ["new", "-", "-"]
    assert len(other.snapshot().tables) == 1


def test_what_was_not_saved_is_an_error_or_left_out(store, world):
    ids = world.entities()
    store.save_entities(world, ids[:2])
    other = World()
    with pytest.raises(EntityNotFoundError, match=r"found none under .* and 1 more in the store 'memory'"):
        store.load_entities(other, [*map(pecs_np.StableId, world.stable_ids()), 12345])
    assert len(other) == 0
    loaded = store.load_entities(other, [5, *map(pecs_np.StableId, world.stable_ids())], missing="skip")
    assert (loaded != 0).tolist() == [False, True, True, False]
    assert len(other) == 2
    here = other.spawn_with_stable_id(5)
    assert other.is_alive(here)
    assert store.load_entities(other, [5], missing="skip").tolist() == [0]
    with pytest.raises(EntityNotFoundError):
        store.delete_entities([world.stable_ids()[0], 5])
    assert len(store) == 2
    with pytest.raises(PersistenceError, match="'error' or 'skip'"):
        store.load_entities(other, [5], missing="ignore")


def test_nothing_is_saved_where_one_cannot_be(store, world):
    ids = world.entities().tolist()
    for bad in ([*ids, 999], [ids[0], ids[0]], [1.5], "abc"):
        with pytest.raises(pecs_np.PecsError):
            store.save_entities(world, bad)
    world.get(ids[2], StoredName)._array["text"] = 5
    with pytest.raises(pecs_np.ComponentValueError):
        store.save_entities(world, ids)
    assert len(store) == 0
    for bad in (None, 5, world.snapshot()):
        with pytest.raises(PersistenceError, match="expected a World"):
            store.save_entities(bad, ids)
        with pytest.raises(PersistenceError, match="expected a World"):
            store.load_entities(bad, [1])


def test_entities_are_listed_counted_deleted_and_cleared(store, world):
    assert len(store) == 0
    assert store
    assert len(store.list_entities()) == 0
    store.save_entities(world, world.entities())
    ids = sorted(int(pecs_np.StableId(s)) for s in world.stable_ids())
    assert [int(s) for s in store.iter_stable_ids()] == ids
    assert len(store) == 3
    assert store.entity_exists(ids[0])
    store.delete_entity(ids[0])
    assert not store.entity_exists(ids[0])
    store.delete_entities(ids[1:2])
    assert len(store) == 1
    store.clear()
    assert len(store) == 0
    store.save_entities(world, [])
    assert store.load_entities(World(), []).tolist() == []


def test_the_same_entity_asked_for_twice_is_loaded_once(store, world):
    store.save_entities(world, world.entities())
    other = World()
    first, second = world.stable_ids()[:2]
    ids = store.load_entities(other, np.array([first, second, first], world.stable_ids().dtype))
    assert ids[0] == ids[2] != ids[1]
    assert len(other) == 2


def test_options_and_capacities_are_checked():
    assert len(KeyValueEntityPlugin.with_capacity(1000)) == 0
    for make in (
        lambda: KeyValueEntityPlugin.with_capacity(-1),
        lambda: KeyValueEntityPlugin(unknown="forget"),
        lambda: KeyValueEntityPlugin(limits=5),
    ):
        with pytest.raises(PersistenceError, match="expected"):
            make()


class OneByOne(EntityPersistencePlugin):
    """The six methods of the contract and nothing else."""

    def __init__(self):
        self.inner = KeyValueEntityPlugin()

    def save_entity(self, world, entity):
        self.inner.save_entity(world, entity)

    def load_entity(self, world, stable_id):
        return self.inner.load_entity(world, stable_id)

    def delete_entity(self, stable_id):
        self.inner.delete_entity(stable_id)

    def entity_exists(self, stable_id):
        return self.inner.entity_exists(stable_id)

    def backend_name(self):
        return "one by one"


def test_six_methods_are_a_store(world):
    with OneByOne() as store:
        store.save_entities(world, world.entities())
        other = World()
        loaded = store.load_entities(other, [9, *map(pecs_np.StableId, world.stable_ids())], missing="skip")
        assert (loaded != 0).tolist() == [False, True, True, True]
        assert store.backend_version() == 1
        store.delete_entities(world.stable_ids()[[0, 0]])
        with pytest.raises(EntityNotFoundError):
            store.load_entities(other, world.stable_ids())
        with pytest.raises(PersistenceError, match="does not list"):
            store.list_entities()


def test_the_manager_routes_by_name(store, world):
    manager = PersistenceManager()
    with pytest.raises(PluginNotFoundError, match="none is registered"):
        manager.save_entity(world, 1)
    manager.register_entity_plugin("kv", store)
    other_store = KeyValueEntityPlugin()
    manager.register_entity_plugin("second", other_store)
    assert manager.list_entity_plugins() == ["kv", "second"]
    ids = world.entities()
    stable = [pecs_np.StableId(s) for s in world.stable_ids()]
    manager.save_entity(world, int(ids[0]))
    manager.save_entity_with(world, int(ids[1]), "second")
    manager.save_entity_with(world, ids[1:], "second")
    manager.save_entities(world, ids[:1])
    manager.save_entities(world, ids[2:], "second")
    assert (len(store), len(other_store)) == (1, 2)
    other = World()
    a = manager.load_entity(other, stable[0])
    b = manager.load_entity_with(other, stable[1], "second")
    assert other.is_alive([a, b]).all()
    assert len(manager.load_entities(other, stable[1:], "second")) == 2
    assert manager.load_entities(other, stable[1:], missing="skip").tolist() == [0, 0]
    assert manager.entity_exists(stable[0])
    assert not manager.entity_exists(stable[1])
    assert manager.entity_exists(stable[1], "second")
    manager.delete_entity(stable[0])
    manager.delete_entities(stable[1:], "second")
    assert (len(store), len(other_store)) == (0, 0)
    manager.set_default_entity_plugin("second")
    manager.save_entity(world, int(ids[0]))
    assert len(other_store) == 1
    assert manager.unregister_entity_plugin("second") is other_store
    assert manager.entity_plugin() is store
    for call in (
        lambda: manager.save_entity_with(world, 1, "redis"),
        lambda: manager.load_entities(world, [1], "redis"),
        lambda: manager.set_default_entity_plugin("redis"),
    ):
        with pytest.raises(PluginNotFoundError, match="expected one of the entity stores kv, found 'redis'"):
            call()
    with pytest.raises(PluginNotFoundError, match="expected an EntityPersistencePlugin"):
        manager.register_entity_plugin("x", pecs_np.BinaryPlugin())


def test_records_that_contradict_one_another_are_refused_before_the_world_is_touched(define):
    store = KeyValueEntityPlugin()
    for number, fields in enumerate(({"x": np.int8}, {"x": np.int16}), 1):
        world = World()
        world.spawn_with_stable_id(number, define("StoredTwice", fields)(1))
        store.save_entities(world, world.entities())
        pecs_np.unregister("StoredTwice")
    other = World()
    with pytest.raises(ComponentDefinitionError, match="StoredTwice"):
        store.load_entities(other, [1, 2])
    assert len(other) == 0
    assert other.get(store.load_entity(other, 1), "StoredTwice").x == 1
    with pytest.raises(ComponentDefinitionError):
        store.load_entity(other, 2)
    assert len(other) == 1
    assert other.validate()


def test_deleting_and_asking_do_not_read_records(store, world, monkeypatch):
    store.save_entities(world, world.entities())
    asked = []
    holds = store.holds
    monkeypatch.setattr(store, "holds", lambda keys: asked.append(len(keys)) or holds(keys))
    assert store.entity_exists(pecs_np.StableId(world.stable_ids()[0]))
    assert not store.entity_exists(5)
    store.delete_entities(world.stable_ids())
    assert asked == [1, 1, 3]
    assert store.holds([b"0" * 16]) == [False]


def test_entities_of_a_world_that_changes_meanwhile_are_not_saved():
    world, store = World(), KeyValueEntityPlugin()
    ids = world.spawn_batch(StoredGold(coins=np.arange(100)), stable_ids=list(range(1, 101)))
    store.filter = lambda table: world.despawn(ids[0]) is None
    with pytest.raises(PersistenceError, match="stays as it is while it is saved"):
        store.save_entities(world, ids)
    assert len(store) == 0


def test_saves_beside_a_thread_that_adds_and_removes_hold_no_value_under_anothers_id():
    world, store = World(), KeyValueEntityPlugin()
    kept = world.spawn_batch(StoredGold(coins=np.arange(1, 501)), stable_ids=list(range(1, 501)))
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            others = world.spawn_batch(StoredGold(0), count=200)
            world.insert(others[:50], StoredName("x"))
            world.despawn(others)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            try:
                store.save_entities(world, kept)
            except PecsError:
                continue
            other = World()
            loaded = store.load_entities(other, list(range(1, 501)))
            assert other.get(loaded, StoredGold).coins.tolist() == list(range(1, 501))
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("wrong", [[[1, 2], [3]], [StoredGold(1)], [[1]], np.array([[1]]), {1}, object()])
def test_what_are_no_ids_is_refused(wrong):
    world, manager = World(), PersistenceManager()
    manager.register_entity_plugin("memory", KeyValueEntityPlugin())
    world.spawn()
    for call in (
        lambda: manager.load_entities(world, wrong),
        lambda: manager.delete_entities(wrong),
        lambda: manager.save_entities(world, wrong),
        lambda: manager.save_entity_with(world, wrong, "memory"),
    ):
        with pytest.raises(PecsError):
            call()
