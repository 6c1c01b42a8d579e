"""What is particular to SQLite: its modes, locks, limits and damage."""

from __future__ import annotations

import pickle
import sqlite3
import sys

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
    SqliteEntityPlugin,
    World,
    component,
)
from pecs_np.persistence.stores import sqlite
from pecs_np.testing import assert_worlds_equal


@component
class RowSpot:
    x: np.int64


@component
class RowText:
    text: str


@pytest.fixture
def path(tmp_path):
    return tmp_path / "entities.db"


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(RowSpot(x=np.arange(3000)))
    return world


@pytest.fixture
def other(path):
    """Another program's connection."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    yield connection
    connection.close()


def pragma(store, name):
    return store._connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_modes(path):
    for durable, synchronous in ((True, 2), (False, 1)):
        with SqliteEntityPlugin(path, durable=durable) as store:
            assert pragma(store, "journal_mode") == b"wal"
            assert pragma(store, "synchronous") == synchronous
            assert pragma(store, "page_size") == 16384


@pytest.mark.parametrize("bad", [-1, "5", None, float("nan"), float("inf"), True])
def test_timeouts_that_are_none(path, bad):
    with pytest.raises(PersistenceError, match="timeout"):
        SqliteEntityPlugin(path, timeout=bad)


def test_in_memory(world):
    with SqliteEntityPlugin(":memory:") as store:
        assert store.path == ":memory:"
        store.save_entities(world, world.entities())
        assert len(store) == 3000
        with SqliteEntityPlugin(":memory:") as another:
            assert len(another) == 0
        with pytest.raises(PersistenceError, match="in memory"):
            pickle.dumps(store)


def test_another_program_that_writes(path, world, other):
    with SqliteEntityPlugin(path, timeout=0) as store:
        store.save_entities(world, world.entities())
        other.execute("BEGIN IMMEDIATE")
        ids = world.spawn_batch(RowSpot(x=1), count=2)
        with pytest.raises(PersistenceIOError, match="locked") as raised:
            store.save_entities(world, ids)
        assert raised.value.is_recoverable
        assert raised.value.filename == str(path)
        assert "timeout" in raised.value.suggestion
        assert len(store) == 3000
        other.execute("COMMIT")
        store.save_entities(world, ids)
        assert len(store) == 3002


def test_another_program_that_has_a_new_database(path, world, other):
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(PersistenceIOError, match="locked"):
        SqliteEntityPlugin(path, timeout=0.05)
    other.execute("ROLLBACK")
    SqliteEntityPlugin(path, timeout=0).close()


def test_a_database_of_another_kind(path, other):
    other.execute("CREATE TABLE accounts (id, owner)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(InvalidFormatError, match="accounts"):
        SqliteEntityPlugin(path)
    assert path.read_bytes() == content


def test_tables_that_are_gone(path, world, other):
    with SqliteEntityPlugin(path) as store:
        store.save_entities(world, world.entities())
        other.execute("DROP TABLE entities")
        for call in (lambda: len(store), lambda: store.save_entities(world, world.entities())):
            with pytest.raises(PersistenceIOError, match="no such table"):
                call()


def test_values_that_are_no_records(path, world, other):
    with SqliteEntityPlugin(path) as store:
        store.save_entities(world, world.entities())
        for value in (5, 1.5, "text", b"", b"short"):
            other.execute("UPDATE entities SET record = ?", (value,))
            with pytest.raises(CorruptedDataError, match=r"entities\.db"):
                store.load_entities(World(), world.stable_ids())
        other.execute("INSERT INTO entities VALUES ('key', x'00')")
        with pytest.raises(CorruptedDataError, match="keys of 16 bytes"):
            store.list_entities()
        for value in (5, "text", b"{}"):
            store.save_entities(world, world.entities())
            other.execute("UPDATE layouts SET document = ?", (value,))
            with SqliteEntityPlugin(path) as again, pytest.raises(CorruptedDataError):
                again.load_entities(World(), world.stable_ids())


def test_damaged_pages(path, world):
    with SqliteEntityPlugin(path) as store:
        store.save_entities(world, world.entities())
    content = path.read_bytes()
    pages = range(0, len(content), 16384)
    told = 0
    for start in pages:
        path.write_bytes(content[:start] + b"\xff" * 4000 + content[start + 4000 :])
        with (
            pytest.raises((CorruptedDataError, InvalidFormatError), match=r"entities\.db"),
            SqliteEntityPlugin(path) as store,
        ):
            store.verify()
        told += 1
        back = World()
        try:
            with SqliteEntityPlugin(path) as store:
                store.load_entities(back, world.stable_ids())
        except PersistenceError:
            assert len(back) == 0
    assert told == len(pages) > 5


def test_a_record_larger_than_the_limit(path, world):
    world.spawn(RowText("x" * 5000))
    with SqliteEntityPlugin(path) as store:
        store._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4000)
        with pytest.raises(LimitExceededError):
            store.save_entities(world, world.entities()[-1:])
        assert len(store) == 0


def test_batches_cross_in_parts(path, world, monkeypatch):
    world.spawn_batch(RowText([f"text {i}" * (i % 9) for i in range(500)]))
    ids = world.stable_ids()
    for most_bytes, most_keys in ((100, 1000), (1, 1000), (1 << 20, 7)):
        monkeypatch.setattr(sqlite, "_MOST_BYTES", most_bytes)
        monkeypatch.setattr(sqlite, "_MOST_KEYS", most_keys)
        with SqliteEntityPlugin(":memory:") as store:
            store.save_entities(world, world.entities())
            back = World()
            store.load_entities(back, ids)
            assert_worlds_equal(world, back)
            store.delete_entities(ids[:2000])
            assert len(store) == 1500


def test_an_interrupt_leaves_nothing_open(path, world):
    with SqliteEntityPlugin(path) as store:

        def interrupt():
            raise KeyboardInterrupt

        store._connection.set_progress_handler(interrupt, 2000)
        # What a handler raises is told as an interruption.
        with pytest.raises(PersistenceIOError, match="interrupted"):
            store.save_entities(world, world.entities())
        store._connection.set_progress_handler(None, 0)
        assert not store._connection.in_transaction
        assert len(store) == 0
        store.save_entities(world, world.entities())
        assert len(store) == 3000


def test_a_python_without_sqlite(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    with pytest.raises(PluginNotFoundError, match="sqlite3"):
        SqliteEntityPlugin(path)
