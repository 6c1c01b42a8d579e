"""Reading on in a log while another program writes to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pecs_np
from pecs_np import ChangeSet, CorruptedDataError, DeltaLog, PersistenceError, PersistenceIOError, World
from pecs_np.persistence import disk


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.log"


@pytest.fixture
def log(path, story):
    with DeltaLog.open(path, "process", world=story.world()) as log:
        yield log


@pytest.fixture
def reader(log, path):
    with DeltaLog.open(path, readonly=True) as reader:
        yield reader


def numbers(changes):
    return [found.sequence for found in changes]


def test_a_reader_goes_on_from_the_world_it_was_given(log, reader, story):
    log.append(story.changes[0])
    world = reader.world()
    assert reader.sequence == 1
    for changes in story.changes[1:]:
        log.append(changes)
        for found in reader.follow(world_at := reader.sequence, timeout=0):
            assert found.sequence == world_at + 1
            world.apply(found)
        assert reader.follow(timeout=0) is not None
        list(reader.replay())  # which takes note of what came
        assert world.to_bytes() == story.states[reader.sequence]
    assert numbers(reader.follow(0, timeout=0)) == [1, 2, 3, 4, 5]
    assert numbers(reader.follow(2, timeout=0)) == [3, 4, 5]
    assert numbers(reader.follow(1000.5, timeout=0)) == [2, 3, 4, 5]
    assert numbers(log.follow(3, timeout=0)) == [4, 5]
    with pytest.raises(PersistenceError, match="expected a record up to 5"):
        reader.follow(6)


def test_it_waits_for_what_is_to_come(log, reader, story, monkeypatch):
    coming = iter(story.changes)
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if (changes := next(coming, None)) is not None:
            log.append(changes)

    monkeypatch.setattr(disk.system, "sleep", sleep, raising=False)
    found = []
    for changes in reader.follow(pause=0.5):
        found.append(changes.sequence)
        if len(found) == 5:
            break
    assert found == [1, 2, 3, 4, 5]
    assert pauses == [0.5] * 5


def test_it_goes_on_over_a_compaction_and_a_torn_tail(log, reader, path, story):
    following = reader.follow(timeout=0)
    log.append(story.changes[0])
    assert next(following).sequence == 1
    log.append(story.changes[1])
    log.compact()
    log.append(story.changes[2])
    assert numbers(following) == [2, 3]
    assert numbers(reader.follow(0, timeout=0)) == [1, 2, 3]  # of the log as it was
    assert numbers(log.follow(2, timeout=0)) == [3]
    end = path.stat().st_size
    with open(path, "ab") as file:
        file.write(b"PREC half of a record")
    assert numbers(reader.follow(3, timeout=0)) == []
    os.truncate(path, end)
    log.append(story.changes[3])
    assert numbers(reader.follow(3, timeout=0)) == [4]


def test_what_was_compacted_away_before_it_was_read_is_missed(log, reader, story):
    for changes in story.changes:
        log.append(changes)
        log.compact()
    with pytest.raises(
        PersistenceError, match="expected the records after number 1, found a log that begins after number 5"
    ):
        list(reader.follow(timeout=0))
    assert len(DeltaLog.restore(log.path)) == len(reader.world())


def test_another_log_in_its_place_is_told_from_it(log, reader, path, story, tmp_path):
    for changes in story.changes:
        log.append(changes)
    with DeltaLog.open(tmp_path / "b.log", "process", world=story.world()) as other:
        for _ in range(3):
            other.append(ChangeSet(timestamp=1.0))
    following = reader.follow(timeout=0)
    assert next(following).sequence == 1
    shutil.copy(tmp_path / "b.log", tmp_path / "c.log")
    os.replace(tmp_path / "c.log", path)
    with pytest.raises(
        CorruptedDataError, match="expected the log that was followed to record 5, found another"
    ):
        list(following)
    with DeltaLog.open(path, readonly=True) as again:
        assert numbers(again.follow(0, timeout=0)) == [1, 2, 3]
    os.unlink(path)
    with pytest.raises(PersistenceIOError, match="No such file"):
        list(reader.follow(timeout=0))


WRITER = """
import sys
import numpy as np
from pecs_np import ChangeTracker, DeltaLog, World, make_component

path, count = sys.argv[1], int(sys.argv[2])
Count = make_component("FollowedCount", {"n": np.int64})
world = World(seed=1)
ids = world.spawn_batch(Count(n=np.zeros(100, np.int64)))
with DeltaLog.open(path, "process", world=world) as log:
    print("ready", flush=True)
    sys.stdin.readline()
    tracker = ChangeTracker(world)
    for number in range(1, count + 1):
        world.column(Count)["n"] = number
        log.append(tracker.take())
        if number % 40 == 0:
            log.compact()
    sys.stdin.readline()
"""


@pytest.fixture
def start(path):
    """A function that starts a program which writes so many records once it is told to, and ends when told again."""
    running = []

    def start(count):
        environment = os.environ | {"PYTHONPATH": str(Path(pecs_np.__file__).parents[1])}
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        running.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_world_is_kept_up_to_date_with_another_process(path, start):
    process = start(400)
    with DeltaLog.open(path, readonly=True) as reader:
        world = reader.world()
        sequence = reader.sequence
        go(process)
        while sequence < 400:
            try:
                for changes in reader.follow(timeout=5, pause=0.001):
                    assert changes.sequence == sequence + 1
                    sequence = changes.sequence
                    world.apply(changes)
                    assert (world.column("FollowedCount")["n"] == sequence).all()
                    if sequence == 400:
                        break
            except PersistenceError:
                # It was compacted twice between two looks.
                world = reader.world()
                sequence = reader.sequence
    go(process)
    assert process.wait(60) == 0


def test_worlds_are_restored_while_another_process_writes_and_compacts(path, start):
    process = start(300)
    go(process)
    last = 0
    while last < 300:
        with DeltaLog.open(path, readonly=True) as reader:
            world = reader.world()
            assert last <= reader.sequence
            last = reader.sequence
            assert (world.column("FollowedCount")["n"] == last).all()
    go(process)
    assert process.wait(60) == 0
    assert isinstance(DeltaLog.restore(path), World)
