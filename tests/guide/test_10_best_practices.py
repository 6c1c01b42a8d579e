"""The guide's section "Best Practices", block by block."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import PersistenceError, PersistenceIOError, World, component, component_type
from pecs_np.persistence import disk
from pecs_np.testing import assert_worlds_equal


@component
class Position:
    """Position component (v1).

    Persistence:

    - Format: Binary (8 bytes: 2x float32)
    - Version: 1
    - Transient: No
    """

    x: np.float32 = 0.0
    y: np.float32 = 0.0


def small_world():
    world = World()
    world.spawn_batch(Position(x=[1, 2, 3], y=0))
    return world


class FullDisk(disk.System):
    """A disk that is full for the first writes."""

    def __init__(self, refusals):
        self.refusals, self.asked, self.pauses = refusals, 0, []
        self.sleep = self.pauses.append

    def write(self, descriptor, data):
        self.asked += 1
        if self.asked <= self.refusals:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)


def test_choose_the_right_format():
    """Best Practices, block 1: 1. Choose the Right Format."""
    world, level = small_world(), small_world()
    Path("levels").mkdir()

    # Production: Use binary
    world.save_binary("game.pecs")

    # Development: Use JSON for debugging
    world.save_json("debug.json")

    # Configuration: Use JSON for level data
    level.save_json("levels/level1.json")

    assert Path("game.pecs").read_bytes()[:4] == b"PECS"
    assert Path("debug.json").read_text().startswith('{"version":1,')
    for path, saved in (("game.pecs", world), ("debug.json", world), ("levels/level1.json", level)):
        assert_worlds_equal(World.load(path), saved)


def test_implement_backups():
    """Best Practices, block 2: 2. Implement Backups.

    ``backup=True`` does it without a moment in which there is no sound save.
    """
    world = small_world()
    world.save("game.pecs")
    first = Path("game.pecs").read_bytes()
    world.spawn()

    # Create backup before saving
    if Path("game.pecs").exists():
        shutil.copy("game.pecs", "game.pecs.backup")

    world.save("game.pecs")

    assert Path("game.pecs.backup").read_bytes() == first
    assert (len(World.load("game.pecs.backup")), len(World.load("game.pecs"))) == (3, 4)

    world.spawn()
    world.save("game.pecs", backup=True)
    assert (len(World.load("game.pecs.bak")), len(World.load("game.pecs"))) == (4, 5)
    Path("game.pecs").write_bytes(b"")
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert len(World.load("game.pecs", backup=True)) == 4


def test_version_your_saves():
    """Best Practices, block 3: 3. Version Your Saves."""
    world = small_world()

    # Include version in filename
    version = pecs_np.__version__
    filename = f"game-v{version}.pecs"
    world.save(filename)

    assert os.listdir() == [f"game-v{pecs_np.__version__}.pecs"]
    assert_worlds_equal(World.load(filename), world)


def test_handle_errors_gracefully(monkeypatch, capsys):
    """Best Practices, block 4: 4. Handle Errors Gracefully.

    Each attempt really reaches the disk, which refuses; ``retries=`` does the same without the function.
    """

    def save_with_retry(world, path, retries):
        for attempt in range(retries):
            try:
                return world.save(path)
            except PersistenceError as error:
                if attempt == retries - 1:
                    raise
                print(f"Save failed (attempt {attempt + 1}): {error}", file=sys.stderr)
                time.sleep(0.1)
        return None

    world = small_world()
    for refusals in (0, 2):
        full = FullDisk(refusals)
        monkeypatch.setattr(disk, "system", full)
        save_with_retry(world, "game.pecs", 3)
        told = capsys.readouterr().err.splitlines()
        assert [line.split(":")[0] for line in told] == [
            f"Save failed (attempt {i + 1})" for i in range(refusals)
        ]
        assert full.asked > refusals
        assert_worlds_equal(World.load("game.pecs"), world)

    before = Path("game.pecs").read_bytes()
    world.spawn()
    monkeypatch.setattr(disk, "system", FullDisk(3))
    with pytest.raises(PersistenceIOError) as caught:
        save_with_retry(world, "game.pecs", 3)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.is_recoverable
    assert Path("game.pecs").read_bytes() == before
    assert os.listdir() == ["game.pecs"]

    full = FullDisk(2)
    monkeypatch.setattr(disk, "system", full)
    world.save("game.pecs", retries=3)
    assert full.pauses == [0.1, 0.2]
    assert len(World.load("game.pecs")) == 4
    # What cannot change is not tried again.
    monkeypatch.setattr(disk, "system", full := FullDisk(0))
    with pytest.raises(PersistenceIOError) as caught:
        world.save("missing/game.pecs", retries=3)
    assert not full.pauses
    assert not caught.value.is_recoverable


def test_save_load_roundtrip():
    """Best Practices, block 5: 5. Test Persistence."""
    world = World()
    entity = world.spawn()
    world.insert(entity, Position(x=1.0, y=2.0))

    # Save
    world.save("test.pecs")

    # Load
    loaded = World.load("test.pecs")

    # Verify
    assert world.entity_count == loaded.entity_count
    assert_worlds_equal(loaded, world)

    # Cleanup
    os.remove("test.pecs")
    assert os.listdir() == []


def test_document_your_schema():
    """Best Practices, block 6: 6. Document Your Schema.

    What the docstring of `Position` says is what a save says of itself, without the class.
    """
    type_ = component_type(Position)
    assert (type_.version, type_.transient, np.asarray(Position()).itemsize) == (1, False, 8)
    assert "Version: 1" in Position.__doc__

    small_world().save("game.pecs")
    pecs_np.unregister("Position")
    with pecs_np.open("game.pecs") as save:
        (described,) = save.types
        assert (described.name, described.version, described.names) == ("Position", 1, ("x", "y"))
        assert save["Position"].dtype == np.dtype([("x", "<f4"), ("y", "<f4")])
        assert save["Position"].itemsize == 8


def test_monitor_performance(capsys):
    """Best Practices, block 7: 7. Monitor Performance.

    Every save measures itself: its report says what took how long.
    """
    world = small_world()

    start = time.perf_counter()
    report = world.save("game.pecs")
    duration = time.perf_counter() - start

    if duration > 0.1:
        print(f"Warning: Save took {duration:.3f} s", file=sys.stderr)

    assert 0 < report.seconds <= duration
    assert (report.bytes, report.entities) == (Path("game.pecs").stat().st_size, 3)
    assert report.path == "game.pecs"
    assert str(report).startswith(f"3 entities, {report.bytes} bytes in ")
    assert ("Warning" in capsys.readouterr().err) == (duration > 0.1)
