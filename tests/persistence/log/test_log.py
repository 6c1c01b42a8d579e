"""`DeltaLog` as users hold it."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    ChangeSet,
    ChangeTracker,
    DeltaLog,
    InvalidFormatError,
    LoggedChanges,
    PersistenceError,
    PersistenceIOError,
    World,
    WorldError,
)
from pecs_np.testing import assert_worlds_equal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.log"


@pytest.fixture
def log(path, story):
    """A log of the whole story, open for writing."""
    with DeltaLog.open(path, world=story.world()) as log:
        for changes in story.changes:
            log.append(changes)
        yield log


def test_what_was_appended_comes_back(log, story):
    assert (log.start, log.sequence, log.durability, log.readonly) == (0, 5, "power", False)
    found = list(log.replay())
    assert [changes.sequence for changes in found] == [1, 2, 3, 4, 5]
    assert all(isinstance(changes, LoggedChanges) for changes in found)
    world = story.world()
    for ours, theirs in zip(found, story.changes, strict=True):
        assert ours.timestamp == theirs.timestamp
        assert repr(ours) == repr(theirs).replace("ChangeSet", "LoggedChanges") or repr(ours) == repr(theirs)
        world.apply(ours)
        assert world.to_bytes() == story.states[ours.sequence]
    with pytest.raises(WorldError, match="only tell the new ones"):
        found[0].invert()


def test_replays_are_bounded_by_numbers_and_times(log, story):
    def numbers(*bounds, **named):
        return [changes.sequence for changes in log.replay(*bounds, **named)]

    assert numbers(2) == [3, 4, 5]
    assert numbers(2, 4) == [3, 4]
    assert numbers(until=2) == [1, 2]
    assert numbers(4, 2) == []
    assert numbers(5) == []
    assert numbers(np.int64(3)) == [4, 5]
    # The story's clock: 1000, 1001, …
    assert numbers(1001.5) == [3, 4, 5]
    assert numbers(1001.0, 1003.0) == [3, 4]
    assert numbers(until=datetime.fromtimestamp(1001, UTC)) == [1, 2]
    assert numbers(since=0.0) == [1, 2, 3, 4, 5]
    assert numbers(until=1e12) == [1, 2, 3, 4, 5]
    for bad in (6, -1, np.uint64(99)):
        for name in ("since", "until"):
            with pytest.raises(
                PersistenceError, match=r"expected (a record up to 5|the records after number -1)"
            ):
                log.replay(**{name: bad})
    for bad in ("1", True, float("nan"), float("inf"), [1], 1j):
        with pytest.raises(PersistenceError, match="expected the number of a record, or a time"):
            log.replay(bad)


def test_the_world_at_any_moment(log, path, story):
    for number, state in enumerate(story.states):
        assert log.world(number).to_bytes() == state
        assert DeltaLog.restore(path, number).to_bytes() == state
        assert DeltaLog.restore(path, until=999.5 + number).to_bytes() == state
    assert log.world().to_bytes() == story.states[-1]
    with pytest.raises(PersistenceError, match="expected a record up to 5 for until, found 6"):
        log.world(6)
    assert type(log.world()) is pecs_np.World


def test_a_clock_that_goes_back_hides_nothing(path):
    with DeltaLog.open(path) as log:
        for time in (10.0, 30.0, 20.0, 40.0):
            log.append(ChangeSet(timestamp=time))
        assert [changes.timestamp for changes in log.replay()] == [10, 30, 20, 40]
        # In between, the latest time so far counts.
        assert [changes.sequence for changes in log.replay(until=25.0)] == [1]
        assert [changes.sequence for changes in log.replay(since=25.0)] == [2, 3, 4]
        assert [changes.sequence for changes in log.replay(until=35.0)] == [1, 2, 3]
        assert log.current_timestamp() == 40
    for bad in (float("nan"), float("inf"), "now", None):
        with DeltaLog.open(path) as log, pytest.raises(WorldError, match="a time in seconds since 1970"):
            log.append(ChangeSet(timestamp=bad))


def test_one_writes_and_any_number_read(log, path, story):
    for _ in range(2):
        with pytest.raises(PersistenceIOError, match="found it open for writing; close the other one"):
            DeltaLog.open(path)
    with DeltaLog.open(path, readonly=True) as one, DeltaLog.open(path, readonly=True) as two:
        assert one.world().to_bytes() == two.world().to_bytes() == story.states[-1]
        for call in (lambda: one.append(ChangeSet()), one.flush, one.compact):
            with pytest.raises(PersistenceError, match=r"found .* open for reading"):
                call()
        log.append(ChangeSet(timestamp=5000.0))
        assert one.sequence == 5
        assert len(list(one.replay())) == 6
        assert one.current_timestamp() == 5000
        assert one.sequence == 6
    log.close()
    log.close()
    with DeltaLog.open(path) as other:
        assert other.sequence == 6
        with pytest.raises(PersistenceError, match=r"found .*a\.log closed; open it again"):
            log.append(ChangeSet())
    with pytest.raises(PersistenceIOError):
        list(log.replay())


def test_a_log_that_is_forgotten_is_closed(path):
    DeltaLog.open(path).append(ChangeSet())
    with DeltaLog.open(path) as log:
        assert log.sequence == 1


def fails_to_append(log, results):
    try:
        log.append(ChangeSet())
    except PersistenceError as error:
        results.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_forked_does_not_write(path):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    with DeltaLog.open(path) as log:
        child = context.Process(target=fails_to_append, args=(log, results))
        child.start()
        child.join()
        assert "open the log after the fork" in results.get()
        assert log.append(ChangeSet()) == 1


def test_threads_append_one_after_the_other(path, story):
    with DeltaLog.open(path, "process") as log:

        def work():
            for _ in range(50):
                log.append(story.changes[-2])

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [changes.sequence for changes in log.replay()] == list(range(1, 201))


def test_a_log_begins_with_a_world_once(log, path, story):
    log.close()
    for world in (story.world(), World()):
        with pytest.raises(PersistenceError, match="expected no log where one is to begin with a world"):
            DeltaLog.open(path, world=world)
    with DeltaLog.open(path) as again:
        assert again.sequence == 5
    for options in ({"world": 5}, {"world": World(), "readonly": True}):
        with pytest.raises(PersistenceError, match="expected a World for a log that is written"):
            DeltaLog.open(path, **options)
    with pytest.raises(PersistenceError, match="expected durability 'power' or 'process', found 'disk'"):
        DeltaLog.open(path, "disk")
    with pytest.raises(PersistenceError, match="expected True or False for readonly"):
        DeltaLog.open(path, readonly="no")
    with pytest.raises(PersistenceError, match=r"call DeltaLog\.open"):
        DeltaLog()
    with pytest.raises(InvalidFormatError):
        DeltaLog.open(f"{path}.0.pecs")


def test_a_log_without_a_world_begins_with_an_empty_one(path, story):
    world = World(seed=5)
    tracker = ChangeTracker(world)
    with DeltaLog.open(path) as log:
        world.spawn_batch(count=3)
        log.append(tracker.take())
        assert len(log.world()) == 3
    assert os.listdir(path.parent) in (["a.log", "a.log.lock"], ["a.log.lock", "a.log"])


def test_only_changes_are_appended(log):
    for bad in (None, [], ChangeTracker(World()), "changes"):
        with pytest.raises(WorldError, match="expected a ChangeSet, found"):
            log.append(bad)
        with pytest.raises(WorldError, match="expected a ChangeSet, found"):
            log.save_changes(bad)
    assert log.sequence == 5


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_records_may_be_compressed(path, compression, define):
    Heat = define("CompressedHeat", {"kelvin": np.float64})
    world = World(seed=1)
    ids = world.spawn_batch(Heat(kelvin=np.zeros(5000)))
    sizes = {}
    for name in (None, compression):
        tracker = ChangeTracker(world)
        with DeltaLog.open(f"{path}{name}", world=world, compression=name) as log:
            world.insert(ids, Heat(kelvin=1.0 + len(sizes)))
            log.append(tracker.take())
            assert_worlds_equal(log.world(), world)
            sizes[name] = os.path.getsize(f"{path}{name}") + os.path.getsize(f"{path}{name}.0.pecs")
    assert sizes[compression] < sizes[None] / 10


def test_compaction_forgets_what_was(log, path, story):
    log.compact(until=1002.5)
    assert (log.start, log.sequence) == (3, 5)
    assert sorted(os.listdir(path.parent)) == ["a.log", "a.log.3.pecs", "a.log.lock"]
    for number in (3, 4, 5):
        assert log.world(number).to_bytes() == story.states[number]
    for call in (log.world, log.replay):
        with pytest.raises(
            PersistenceError,
            match="expected the records after number 2, found a log that begins after number 3",
        ):
            call(2)
        with pytest.raises(PersistenceError, match="expected a time from 1970-01-01T00:16:42"):
            call(1000.0)
    log.compact(until=3)
    log.compact()
    log.compact()
    assert (log.start, log.sequence) == (5, 5)
    assert log.world().to_bytes() == story.states[5]
    assert log.append(ChangeSet(timestamp=9999.0)) == 6
    assert sorted(os.listdir(path.parent)) == ["a.log", "a.log.5.pecs", "a.log.lock"]
    with pytest.raises(PersistenceError, match="expected a world, or until, found both"):
        log.compact(World(), until=5)
    log.close()
    with DeltaLog.open(path) as again:
        assert (again.start, again.sequence, again.current_timestamp()) == (5, 6, 9999.0)


def test_compaction_takes_the_world_that_is_given(path, story):
    """Which spares the making of it, and keeps its rows in their order."""
    world = story.world()
    with DeltaLog.open(path, world=world) as log:
        for changes in story.changes:
            world.apply(changes)
            log.append(changes)
        log.compact(world)
        assert log.world().to_bytes() == world.to_bytes()


def test_other_files_are_left_alone(log, path):
    names = ["a.log.x.pecs", "a.log.1.pecs.bak", "b.log.1.pecs", "a.log.1.json", "1.pecs"]
    for name in [*names, "a.log.77.pecs"]:
        (path.parent / name).write_bytes(b"mine")
    log.compact()
    assert set(os.listdir(path.parent)) == {*names, "a.log", "a.log.lock", "a.log.5.pecs"}


def test_it_is_a_delta_plugin(path, story):
    with pecs_np.PersistenceManager() as manager:
        log = DeltaLog.open(path, world=story.world())
        manager.register_delta_plugin("log", log)
        assert log.current_timestamp() == 0
        for changes in story.changes:
            manager.save_delta(changes)
        assert log.sequence == 4  # the step in which nothing happened is not saved
        assert log.current_timestamp() == story.changes[-1].timestamp
        world = story.world()
        manager.load_delta(world, 0.0, conflict="theirs")
        assert_worlds_equal(world, World.from_bytes(story.states[-1]))
        assert not log.load_changes(log.current_timestamp())
        assert len(log.load_changes(1001.0)) > 0
        log.close()


def test_it_shows_what_it_is_and_is_not_copied(log, path):
    assert repr(log) == f"<DeltaLog {path}: records 1 to 5, {path.stat().st_size} bytes>"
    with pytest.raises(PersistenceError, match="an open log cannot be copied"):
        pickle.dumps(log)


def test_a_log_that_lost_its_save_says_which(log, path):
    (path.parent / "a.log.0.pecs").unlink()
    assert len(list(log.replay())) == 5
    for call in (log.world, log.compact, lambda: log.send(io.BytesIO()), lambda: DeltaLog.restore(path)):
        with pytest.raises(PersistenceIOError, match=r"a\.log\.0\.pecs"):
            call()
