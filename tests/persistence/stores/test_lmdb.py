"""What is particular to LMDB: its map, the one environment of a process, and damage."""

from __future__ import annotations

import gc
import os
import sys

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    InvalidFormatError,
    LmdbEntityPlugin,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
    World,
    component,
)
from pecs_np.persistence.stores import lmdb_environment
from pecs_np.testing import assert_worlds_equal

lmdb = pytest.importorskip("lmdb")


@component
class MapSpot:
    x: np.int64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "entities.lmdb"


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(MapSpot(x=np.arange(3000)))
    return world


def map_size(store):
    return store._environment._env.info()["map_size"]


@pytest.mark.parametrize("bad", [0, -1, 1000, 1.5, "1 GB", None, True, 1 << 60])
def test_map_sizes_that_are_none(path, bad):
    with pytest.raises(PersistenceError, match="map_size"):
        LmdbEntityPlugin(path, map_size=bad)
    assert not path.exists()


def test_the_map_grows(path):
    world = World()
    world.spawn_batch(MapSpot(x=np.arange(100_000)))
    with LmdbEntityPlugin(path, map_size=1 << 20, durable=False) as store:
        store.save_entities(world, world.entities())
        assert map_size(store) > 1 << 22
        back = World()
        store.load_entities(back, world.stable_ids())
        assert_worlds_equal(world, back)
    # It is no smaller the next time.
    with LmdbEntityPlugin(path, map_size=1 << 20) as store:
        assert len(store) == 100_000
        store.save_entities(world, world.entities())
        store.verify()


def test_a_map_that_may_not_grow(path, world, monkeypatch):
    monkeypatch.setattr(lmdb_environment, "_TRIES", 1)
    with LmdbEntityPlugin(path, map_size=1 << 20) as store:
        store.save_entities(world, world.entities())
        large = World()
        large.spawn_batch(MapSpot(x=1), count=50_000)
        with pytest.raises(PersistenceIOError, match="grow") as raised:
            store.save_entities(large, large.entities())
        assert raised.value.is_recoverable
        assert len(store) == 3000


def test_stores_of_one_file_share_an_environment(path, world):
    one, two = LmdbEntityPlugin(path), LmdbEntityPlugin(os.path.join(path.parent, ".", path.name))
    link = path.with_name("link")
    link.symlink_to(path)
    three = LmdbEntityPlugin(link)
    assert one._environment is two._environment is three._environment
    one.save_entities(world, world.entities())
    one.close()
    assert len(two) == len(three) == 3000
    del two
    gc.collect()
    three.close()
    assert not lmdb_environment._environments
    with LmdbEntityPlugin(path) as store:
        assert len(store) == 3000


def test_a_durable_store_beside_one_that_is_not(path, world):
    with LmdbEntityPlugin(path, durable=False) as quick, LmdbEntityPlugin(path) as durable:
        durable.save_entities(world, world.entities())
        assert len(quick) == 3000


def test_an_environment_that_the_program_opened_itself(path):
    with (
        lmdb.open(str(path), subdir=False),
        pytest.raises(PersistenceIOError, match="already open") as raised,
    ):
        LmdbEntityPlugin(path)
    assert "environment" in raised.value.suggestion


def test_a_file_of_another_kind(path):
    with lmdb.open(str(path), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(b"account", b"owner")
    content = path.read_bytes()
    with pytest.raises(InvalidFormatError, match="account"):
        LmdbEntityPlugin(path)
    assert path.read_bytes() == content
    assert not lmdb_environment._environments


def test_damage_is_found_by_verify(path, world):
    with LmdbEntityPlugin(path) as store:
        store.save_entities(world, world.entities())
    content = path.read_bytes()

    def verify():
        with LmdbEntityPlugin(path) as store:
            store.verify()

    # Of the first two pages, LMDB takes the one that is sound. What names the databases it needs to open the
    # file, and it would not survive that.
    roots = [i for i in range(0, len(content), 4096) if b"entities" in content[i : i + 4096]]
    damaged = sorted(set(range(2 * 4096, len(content), 4096)) - set(roots))
    assert len(damaged) > 10
    for start in damaged:
        path.write_bytes(content[:start] + b"\xff" * 64 + content[start + 64 :])
        with pytest.raises(CorruptedDataError, match=str(path)):
            verify()


def test_a_panic_ends_with_the_next_use(path, world):
    with LmdbEntityPlugin(path) as store:
        store.save_entities(world, world.entities())
        told = store._told(lmdb.PanicError("mdb_txn_begin"), "loading from")
        assert isinstance(told, PersistenceIOError)
        assert len(store) == 3000
        store.save_entities(world, world.entities())


def test_readers_that_left_are_forgotten(path, world):
    with LmdbEntityPlugin(path) as store:
        store.save_entities(world, world.entities())
        for _ in range(3):
            store.load_entities(World(), world.stable_ids())
        assert store._environment._env.info()["num_readers"] <= 2


def test_without_the_package(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(PluginNotFoundError, match=r"pip install 'pecs_np\[lmdb\]'"):
        LmdbEntityPlugin(path)
