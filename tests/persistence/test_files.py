"""Files are replaced whole or not at all, whatever happens."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import PersistenceIOError, World
from pecs_np.persistence.files import read_file, replace_file

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files and signals")
ROOT = Path(pecs_np.__file__).parents[1]


def child(code, *arguments, **options):
    """Start a Python program that can import the package."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)


def finished(process):
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output.strip()


def names(folder):
    return sorted(os.listdir(folder))


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "game.pecs"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_made_or_replaced_and_nothing_else_stays(tmp_path, durable):
    path = tmp_path / "a"
    replace_file(path, [b"one", b"", b"two"], durable=durable)
    assert path.read_bytes() == b"onetwo"
    replace_file(path, [b"3"], durable=durable)
    assert path.read_bytes() == b"3"
    assert names(tmp_path) == ["a"]


def test_buffers_of_any_kind_are_written_as_their_bytes(tmp_path):
    array = np.arange(1000, dtype="<u4")
    replace_file(tmp_path / "a", [bytearray(b"x"), memoryview(b"yz"), array])
    assert read_file(tmp_path / "a") == b"xyz" + array.tobytes()


def test_a_file_keeps_its_permissions_when_it_is_replaced(old):
    for mode in (0o600, 0o640, 0o444):
        old.chmod(mode)
        replace_file(old, [b"new"])
        assert stat.S_IMODE(old.stat().st_mode) == mode


@posix
def test_a_new_file_has_the_permissions_that_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        replace_file(tmp_path / "a", [b""])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "game.pecs", tmp_path / "link.pecs"
    target.write_bytes(b"old")
    link.symlink_to(target)
    replace_file(link, [b"new"], backup=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert names(tmp_path / "real") == ["game.pecs", "game.pecs.bak"]


def test_a_symbolic_link_to_nothing_makes_its_target(tmp_path):
    link = tmp_path / "link.pecs"
    link.symlink_to("later.pecs")
    replace_file(link, [b"new"])
    assert link.is_symlink()
    assert (tmp_path / "later.pecs").read_bytes() == b"new"


def test_other_names_of_the_old_file_keep_the_old_content(old, tmp_path):
    os.link(old, tmp_path / "other")
    replace_file(old, [b"new"])
    assert (tmp_path / "other").read_bytes() == b"old"


def test_a_backup_holds_the_file_before_the_last_save(old):
    for content in (b"second", b"third"):
        replace_file(old, [content], backup=True)
    assert old.read_bytes() == b"third"
    assert Path(f"{old}.bak").read_bytes() == b"second"
    assert names(old.parent) == ["game.pecs", "game.pecs.bak"]


def test_a_first_save_with_backup_makes_none(tmp_path):
    replace_file(tmp_path / "a", [b"1"], backup=True)
    assert names(tmp_path) == ["a"]


def test_a_backup_that_cannot_be_made_fails_the_save_and_leaves_the_old_file(old):
    Path(f"{old}.bak").mkdir()
    Path(f"{old}.bak", "inside").write_bytes(b"")
    with pytest.raises(PersistenceIOError):
        replace_file(old, [b"new"], backup=True)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["game.pecs", "game.pecs.bak"]


@pytest.mark.parametrize("buffers", [[b"x", object()], [b"x", "text"]])
def test_a_buffer_that_is_none_leaves_the_old_file_and_no_other(old, buffers):
    with pytest.raises(TypeError):
        replace_file(old, buffers)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["game.pecs"]


def test_a_missing_directory_is_an_error_that_names_the_path(tmp_path):
    path = tmp_path / "nowhere" / "game.pecs"
    with pytest.raises(PersistenceIOError, match="nowhere") as caught:
        replace_file(path, [b"new"])
    assert caught.value.errno == 2
    assert caught.value.filename == str(path)
    assert isinstance(caught.value, OSError)


def test_a_directory_in_the_place_of_the_file_is_an_error(tmp_path):
    (tmp_path / "game.pecs").mkdir()
    with pytest.raises(PersistenceIOError):
        replace_file(tmp_path / "game.pecs", [b"new"])
    assert names(tmp_path) == ["game.pecs"]


@pytest.mark.parametrize(("letter", "count"), [("a", 250), ("é", 125), ("字", 83)])
def test_a_name_as_long_as_the_system_allows_can_be_saved(tmp_path, letter, count):
    name = letter * count + ".pecs"
    (tmp_path / name).write_bytes(b"the system takes it")
    replace_file(tmp_path / name, [b"new"])
    assert (tmp_path / name).read_bytes() == b"new"
    assert names(tmp_path) == [name]


def test_reading_what_is_not_there_is_an_error_of_the_library(tmp_path):
    with pytest.raises(PersistenceIOError) as caught:
        read_file(tmp_path / "missing")
    assert caught.value.errno == 2


@posix
def test_a_directory_that_may_not_be_written_is_an_error_and_the_old_file_stays():
    code = """
import os, sys
import pecs_np
if os.getuid() == 0:
    os.setuid(65534)
try:
    pecs_np.World().save(sys.argv[1])
except pecs_np.PersistenceIOError as error:
    print(error.errno)
"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "game.pecs")
        path.write_bytes(b"old")
        os.chmod(folder, 0o555)
        errno = finished(child(code, path))
        os.chmod(folder, 0o755)
        assert errno == "13"
        assert path.read_bytes() == b"old"
        assert names(folder) == ["game.pecs"]


@posix
@pytest.mark.parametrize("rows", [10, 100_000])
def test_a_disk_that_fills_up_is_an_error_and_the_old_file_stays(tmp_path, rows):
    code = """
import resource, sys
import numpy as np
import pecs_np
Filling = pecs_np.make_component("Filling", {"x": np.float64})
world = pecs_np.World()
world.spawn_batch(Filling(x=np.arange(float(sys.argv[2]))))
resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
try:
    world.save(sys.argv[1], backup=True)
except pecs_np.PersistenceIOError as error:
    print(error.errno)
"""
    path = tmp_path / "game.pecs"
    World(seed=1).save(path)
    before = path.read_bytes()
    assert len(before) > 300
    assert finished(child(code, path, rows)) == "27"
    assert path.read_bytes() == before
    assert names(tmp_path) == ["game.pecs"]


@posix
def test_a_killed_program_leaves_the_old_file_or_the_new_one(tmp_path):
    code = """
import sys
import pecs_np
worlds = [pecs_np.World(metadata={"fill": "x" * 500_000}) for _ in range(2)]
for world, count in zip(worlds, (1000, 2000)):
    world.spawn_batch(count=count)
worlds[0].save(sys.argv[1])
while True:
    for world in worlds:
        print("saving", flush=True)
        world.save(sys.argv[1], durable=False)
"""
    path = tmp_path / "game.pecs"
    for lines in (1, 6, 15):
        process = child(code, path)
        for _ in range(lines):
            assert process.stdout.readline() == "saving\n"
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
        assert process.wait(60) == -signal.SIGKILL
        assert len(World.load(path)) in (1000, 2000)
    leftover = [name for name in names(tmp_path) if name != "game.pecs"]
    assert all(name.startswith(".") and name.endswith(".tmp") for name in leftover)
