"""Stores in a file: places, ends, copies, and what is refused before a library sees it."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    InvalidFormatError,
    LmdbEntityPlugin,
    PersistenceError,
    PersistenceIOError,
    SqliteEntityPlugin,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence.stores import store as base


@component
class FiledSpot:
    x: np.float32
    y: np.float32


@pytest.fixture(params=[SqliteEntityPlugin, LmdbEntityPlugin])
def kind(request):
    if request.param is LmdbEntityPlugin:
        pytest.importorskip("lmdb")
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "entities"


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(FiledSpot(x=np.arange(5000), y=1))
    return world


@pytest.fixture
def saved(kind, path, world):
    """The path of a store that holds *world*."""
    with kind(path) as store:
        store.save_entities(world, world.entities())
    return path


def test_names_and_options(kind, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with kind("entities", durable=False) as store:
        assert store.path == str(path)
        assert store.durable is False
        assert repr(store) == f"{kind.__name__}({str(path)!r})"
    assert repr(store).endswith(", closed)")
    with kind(os.fsencode(path)) as store:
        assert store.durable is True
        assert len(store) == 0


@pytest.mark.parametrize("bad", [None, 5, "", "a\0b", ["x"]])
def test_what_is_no_path(kind, bad):
    with pytest.raises(PersistenceIOError):
        kind(bad)


def test_options_that_are_none(kind, path):
    for options in ({"durable": "no"}, {"unknown": "x"}, {"limits": 5}):
        with pytest.raises(PersistenceError):
            kind(path, **options)
    assert not path.exists()


def test_places_that_cannot_be(kind, tmp_path):
    for bad in (tmp_path, tmp_path / "no" / "entities"):
        with pytest.raises(PersistenceIOError, match=str(bad)) as raised:
            kind(bad)
        assert raised.value.errno is not None
        assert not raised.value.is_recoverable


def test_a_closed_store(kind, saved, world):
    store = kind(saved)
    store.close()
    store.close()
    for call in (
        lambda: store.save_entities(world, world.entities()),
        lambda: store.load_entities(World(), world.stable_ids()),
        lambda: store.entity_exists(1),
        lambda: len(store),
        store.list_entities,
        store.clear,
        store.verify,
        store.__enter__,
        lambda: pickle.dumps(store),
    ):
        with pytest.raises(PersistenceError, match="closed"):
            call()


def test_copies_open_the_same_file(kind, path, world):
    with kind(path, durable=False, unknown="drop") as store:
        store.save_entities(world, world.entities())
        with pickle.loads(pickle.dumps(store)) as other, copy.copy(store) as third:
            assert (other.path, other.durable, other.unknown) == (store.path, False, "drop")
            third.delete_entities(world.stable_ids()[:10])
            assert len(other) == len(third) == len(store) == 4990


def test_a_file_that_went_away(kind, saved, world):
    store = kind(saved)
    moved = saved.with_name("moved")
    saved.rename(moved)
    for call in (lambda: len(store), lambda: store.save_entities(world, world.entities())):
        with pytest.raises(PersistenceIOError, match="entities"):
            call()
    moved.rename(saved)
    assert len(store) == 5000
    saved.rename(moved)
    saved.write_bytes(moved.read_bytes())
    with pytest.raises(PersistenceIOError, match="another one") as raised:
        store.load_entities(World(), world.stable_ids())
    assert "open it again" in raised.value.suggestion
    store.close()


def test_a_file_of_another_kind_is_refused_and_left_alone(kind, path):
    for content in (b"x", b"text\n" * 5000, os.urandom(40000)):
        path.write_bytes(content)
        with pytest.raises(InvalidFormatError, match=str(path)):
            kind(path)
        assert path.read_bytes() == content


def test_an_empty_file_becomes_a_store(kind, path, world):
    path.write_bytes(b"")
    with kind(path) as store:
        store.save_entities(world, world.entities())
        assert len(store) == 5000


def test_another_version_of_the_schema_is_refused(kind, saved, monkeypatch):
    for module in ("sqlite", "lmdb"):
        monkeypatch.setattr(f"pecs_np.persistence.stores.{module}.SCHEMA_VERSION", 7)
    monkeypatch.setattr(base, "SCHEMA_VERSION", 7)
    content = saved.read_bytes()
    with pytest.raises(UnsupportedVersionError, match="version 7 of the schema") as raised:
        kind(saved)
    assert (raised.value.found, raised.value.expected) == (1, 7)
    assert saved.read_bytes() == content


def test_a_file_that_was_cut_off(kind, saved, world):
    def load():
        with kind(saved) as store:
            store.load_entities(World(), world.stable_ids())

    content = saved.read_bytes()
    for share in (0.3, 0.6, 0.9):
        saved.write_bytes(content[: int(len(content) * share)])
        with pytest.raises((CorruptedDataError, InvalidFormatError), match=str(saved)):
            load()


def test_verify_of_what_is_sound(kind, saved):
    with kind(saved) as store:
        store.verify()
        store.delete_entities(store.list_entities()[::2])
        store.verify()


def test_records_of_every_size(kind, path, define):
    text = define("FiledText", {"text": str, "raw": bytes})
    world = World()
    sizes = [0, 1, 5, 4000, 17000, 300_000, 3, 9_000_000]
    world.spawn_batch(text(text=["é" * n for n in sizes], raw=[bytes(n) for n in sizes]))
    with kind(path, durable=False) as store:
        for _ in range(2):
            store.save_entities(world, world.entities())
        back = World()
        store.load_entities(back, world.stable_ids()[::-1])
        store.verify()
    assert sorted(map(len, back.column(text)["text"].tolist())) == sorted(sizes)
    assert sorted(map(len, back.column(text)["raw"].tolist())) == sorted(sizes)


def test_no_file_stays_open(kind, saved):
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("the system does not tell which files are open")
    before = len(os.listdir(folder))
    for _ in range(3):
        kind(saved).close()
        # Nor where the object is just dropped.
        kind(saved)
    assert len(os.listdir(folder)) == before
