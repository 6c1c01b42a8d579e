"""What all verbs that load have in common: backups, and nothing before all is sound."""

from __future__ import annotations

import io

import numpy as np
import pytest

from pecs_np import (
    ComponentVersionError,
    CorruptedDataError,
    JsonPlugin,
    KeyValueEntityPlugin,
    MigrationError,
    PersistenceError,
    PersistenceManager,
    PersistencePlugin,
    WhitelistFilter,
    World,
    WorldError,
)
from pecs_np.persistence.loading import load_snapshot, prepared
from pecs_np.testing import assert_worlds_equal


class Fails(PersistencePlugin):
    def __init__(self, error):
        self.error = error

    def decode(self, data, name):
        raise self.error

    def format_name(self):
        return "fails"

    def format_version(self):
        return 1


@pytest.fixture
def backed_up(tmp_path):
    path = tmp_path / "game.json"
    old, new = World(seed=1), World(seed=2)
    old.spawn_batch(count=2)
    new.spawn_batch(count=5)
    old.save(path)
    new.save(path, backup=True)
    return old, new, path


def test_a_backup_is_loaded_in_the_format_that_it_shows(backed_up):
    old, new, path = backed_up
    assert_worlds_equal(World.load(path, backup=True), new)
    path.write_bytes(new.to_bytes()[:-1])
    with pytest.warns(UserWarning, match="loaded the backup") as caught:
        assert_worlds_equal(World.load(path, backup=True), old)
    assert caught[0].filename == __file__
    path.unlink()
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert_worlds_equal(World.load_json(path, backup=True), old)


def test_what_is_wrong_with_the_program_loads_no_backup(backed_up, define):
    _, _, path = backed_up
    newer = define("LoadedPart", {"x": np.int8}, version=2)
    world = World()
    world.spawn(newer(1))
    world.save(path, backup=True)
    import pecs_np

    pecs_np.unregister("LoadedPart")
    define("LoadedPart", {"x": np.int8}, version=1)
    with pytest.raises(ComponentVersionError):
        World.load(path, backup=True)
    pecs_np.unregister("LoadedPart")
    part = define("LoadedPart", {"x": np.int8}, version=3)
    part.migration(2)(lambda old: 1 / 0)
    with pytest.raises(MigrationError, match="ZeroDivisionError"):
        World.load(path, backup=True)


def test_both_errors_are_told_where_the_backup_is_no_better(backed_up):
    _, _, path = backed_up
    path.write_bytes(b"junk")
    path.with_name("game.json.bak").write_bytes(b"more junk")
    with pytest.raises(PersistenceError, match=r"game\.json") as caught:
        World.load(path, backup=True)
    assert "the backup does not help" in caught.value.__notes__[0]


def test_a_plugin_that_runs_out_of_memory_is_an_error_of_the_library(backed_up):
    _, _, path = backed_up
    for load in (
        lambda: World.load_with(path, Fails(MemoryError())),
        lambda: World.load_with(io.BytesIO(), Fails(MemoryError())),
    ):
        with pytest.raises(PersistenceError, match="memory"):
            load()


def test_a_snapshot_is_brought_up_to_date_before_it_is_filtered(define):
    old = define("LoadedOld", {"x": np.int8})
    world = World()
    world.spawn_batch(old(x=[1, 2, 3]))
    snapshot = world.snapshot(copy=True)
    new = define("LoadedOld", {"y": np.int16}, version=2)
    new.migration(1)(lambda old: {"y": old["x"].astype("i2") * 100})
    kept = prepared(snapshot, "a save", filter=lambda table: table.get(new).y > 100, unknown="refuse")
    assert kept.column("LoadedOld")["y"].tolist() == [200, 300]


def test_readers_and_paths_give_the_same(backed_up):
    _, new, path = backed_up
    by_path = load_snapshot(path, JsonPlugin(), filter=WhitelistFilter())
    with open(path, "rb") as file:
        by_file = load_snapshot(file, JsonPlugin(), filter=WhitelistFilter())
    for snapshot in (by_path, by_file):
        assert_worlds_equal(World.from_snapshot(snapshot), new)
    with pytest.raises(CorruptedDataError):
        load_snapshot(path, Fails(CorruptedDataError("damaged")))


@pytest.mark.parametrize("wrong", [None, 5, "never", ["keep"], np.array(["keep", "drop"]), np.array([1, 2])])
def test_an_option_that_is_none_of_its_words_is_refused(tmp_path, wrong):
    World().save(tmp_path / "a")
    with pytest.raises(PersistenceError, match="expected 'keep', 'refuse' or 'drop' for unknown"):
        World.load(tmp_path / "a", unknown=wrong)
    with pytest.raises(PersistenceError, match="expected 'keep', 'refuse' or 'drop' for unknown"):
        KeyValueEntityPlugin(unknown=wrong)
    with pytest.raises(PersistenceError, match="expected missing 'error' or 'skip'"):
        KeyValueEntityPlugin().load_entities(World(), [], missing=wrong)
    with pytest.raises(WorldError, match="expected mode 'exact', 'merge' or 'overwrite'"):
        World().restore(tmp_path / "a", mode=wrong)


@pytest.mark.parametrize("wrong", [5, True, object(), len])
def test_what_is_no_list_of_migrations_is_refused(tmp_path, wrong):
    World().save(tmp_path / "a")
    for call in (
        lambda: World.load(tmp_path / "a", migrations=wrong),
        lambda: World.load_with_migrations(tmp_path / "a", wrong),
        lambda: PersistenceManager(migrations=wrong),
    ):
        with pytest.raises(MigrationError, match="expected migrations"):
            call()
