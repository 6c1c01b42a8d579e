"""One who writes, and records that go out whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import ChangeTracker, DeltaLog, PersistenceIOError, World
from pecs_np.persistence import disk
from pecs_np.persistence.log.writing import WriterLock
from pecs_np.testing import assert_worlds_equal


def test_a_lock_is_held_once_and_let_go_with_its_holder(tmp_path):
    path = str(tmp_path / "a.log")
    first = WriterLock(path)
    with pytest.raises(PersistenceIOError, match="expected to be the only one who writes"):
        WriterLock(path)
    first.close()
    first.close()
    second = WriterLock(path)
    del second
    WriterLock(path).close()
    with pytest.raises(PersistenceIOError, match=r"locking .* failed"):
        WriterLock(str(tmp_path / "none" / "a.log"))


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    path = str(tmp_path / "a.log")
    code = "import os, sys, pecs_np; log = pecs_np.DeltaLog.open(sys.argv[1]); print('open', flush=True); os.read(0, 1)"
    environment = os.environ | {"PYTHONPATH": str(Path(pecs_np.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(PersistenceIOError, match="found it open for writing"):
            DeltaLog.open(path)
        process.kill()
    DeltaLog.open(path).close()


@pytest.mark.parametrize("most", [1, 7, 4096])
def test_however_little_the_system_takes_at_once(tmp_path, monkeypatch, define, most):
    Heat = define("WrittenHeat", {"kelvin": np.float64})
    rows = 40 if most == 1 else 20_000
    world = World(seed=1)
    ids = world.spawn_batch(Heat(kelvin=np.zeros(rows)))
    tracker = ChangeTracker(world)
    with DeltaLog.open(tmp_path / "a.log", "process", world=world) as log:
        world.insert(ids, Heat(kelvin=np.arange(rows, dtype=float)))
        monkeypatch.setattr(
            disk.system, "write", lambda descriptor, view: os.write(descriptor, view[:most]), raising=False
        )
        log.append(tracker.take())
    assert_worlds_equal(DeltaLog.restore(tmp_path / "a.log"), world)


@pytest.mark.parametrize(("call", "goes_on"), [("write", True), ("fsync", False)])
def test_an_append_that_is_interrupted_leaves_the_log_as_it_was(tmp_path, monkeypatch, story, call, goes_on):
    real = getattr(disk.system, call)

    def interrupt(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log:
        log.append(story.changes[0])
        data = (tmp_path / "a.log").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(disk.system, call, interrupt, raising=False)
            with pytest.raises(KeyboardInterrupt):
                log.append(story.changes[1])
        assert (tmp_path / "a.log").read_bytes() == data
        assert log.sequence == 1
        if goes_on:
            assert log.append(story.changes[1]) == 2
        else:
            with pytest.raises(PersistenceIOError, match="a flush failed"):
                log.append(story.changes[1])


def test_half_a_record_that_cannot_be_cut_off_ends_it(tmp_path, monkeypatch, story):
    with DeltaLog.open(tmp_path / "a.log", world=story.world()) as log:

        def refuse(*arguments):
            raise OSError(5, "no")

        def half(descriptor, view):
            os.write(descriptor, view[: len(view) // 2])
            raise OSError(28, "no room")

        with monkeypatch.context() as patch:
            patch.setattr(disk.system, "truncate", refuse, raising=False)
            patch.setattr(disk.system, "write", half, raising=False)
            with pytest.raises(PersistenceIOError, match="no room"):
                log.append(story.changes[0])
        with pytest.raises(PersistenceIOError, match="half a record could not be cut off; close it"):
            log.append(story.changes[0])
    with DeltaLog.open(tmp_path / "a.log") as log:
        assert log.append(story.changes[0]) == 1
        assert log.world().to_bytes() == story.states[1]
