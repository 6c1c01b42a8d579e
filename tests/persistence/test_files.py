"""Files are replaced whole or not at all, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, CorruptedDataError, PersistenceError, PersistenceIOError, World
from pecs_np.persistence import disk
from pecs_np.persistence.files import replace_file
from pecs_np.persistence.input_files import read_file
from pecs_np.testing import assert_worlds_equal

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


def test_a_backup_that_is_the_same_file_is_replaced_too(old):
    # As after a kill between the backup and the save.
    os.link(old, f"{old}.bak")
    replace_file(old, [b"new"], backup=True)
    assert old.read_bytes() == b"new"
    assert Path(f"{old}.bak").read_bytes() == b"old"
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


def test_what_goes_wrong_while_buffers_are_made_passes_through_and_leaves_the_old_file_and_no_other(old):
    def buffers():
        yield b"x"
        raise KeyError("made no more")

    with pytest.raises(KeyError, match="made no more"):
        replace_file(old, buffers(), backup=True)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["game.pecs"]


@pytest.mark.parametrize("buffers", [[b"x", object()], [b"x", "text"]])
def test_a_buffer_that_is_none_leaves_the_old_file_and_no_other(old, buffers):
    with pytest.raises(TypeError):
        replace_file(old, buffers)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["game.pecs"]


def test_what_an_encoder_raises_is_not_told_as_an_error_of_the_system(old):
    def failing():
        yield b"x"
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug") as caught:
        replace_file(old, failing())
    assert not isinstance(caught.value, PersistenceError)
    assert old.read_bytes() == b"old"
    assert names(old.parent) == ["game.pecs"]


@pytest.mark.parametrize("value", [np.array([1, 2]), np.array([]), "no", 1, None, []])
@pytest.mark.parametrize("flag", ["durable", "backup"])
def test_flags_are_true_or_false(old, flag, value):
    with pytest.raises(PersistenceError, match=f"expected True or False for {flag}, found"):
        replace_file(old, [b"new"], **{flag: value})
    assert old.read_bytes() == b"old"
    replace_file(old, [b"new"], **{flag: np.bool_(False)})
    assert old.read_bytes() == b"new"


def test_an_iterator_which_gives_its_buffers_once_is_not_tried_again(old):
    with pytest.raises(PersistenceError, match="buffers that can be asked for again"):
        replace_file(old, iter([b"new"]), retries=1)
    assert old.read_bytes() == b"old"
    replace_file(old, iter([b"new"]))
    assert old.read_bytes() == b"new"
    replace_file(old, lambda: iter([b"newer"]), retries=1)
    assert old.read_bytes() == b"newer"


@pytest.mark.parametrize("place", ["game.pecs", "game.pecs.bak"])
def test_what_is_no_file_is_noticed_before_anything_is_written(tmp_path, place):
    (tmp_path / place).mkdir()
    asked = []

    def make():
        asked.append(1)
        return [b"new"]

    with pytest.raises(PersistenceIOError, match="a folder of that name"):
        replace_file(tmp_path / "game.pecs", make, backup=True)
    assert not asked
    assert names(tmp_path) == [place]


def test_what_takes_the_place_of_the_file_while_it_is_written_is_noticed(tmp_path):
    path = tmp_path / "game.pecs"

    def make():
        path.mkdir()
        yield b"new"

    with pytest.raises(PersistenceIOError, match="a folder of that name"):
        replace_file(path, make())
    assert names(tmp_path) == ["game.pecs"]


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
@pytest.mark.parametrize("options", [{}, {"compression": "zstd", "threads": 1}, {"version": 1}])
@pytest.mark.parametrize("links", [True, False])
def test_a_disk_that_fills_up_at_any_byte_is_an_error_and_the_old_file_stays(tmp_path, options, links):
    # Here a full disk is a limit on the size of files: another error, at the same place.
    code = """
import errno, os, resource, sys
import numpy as np
import pecs_np
from pecs_np.persistence import disk

path = sys.argv[1]
plugin = pecs_np.BinaryPlugin(**eval(sys.argv[2]))
if sys.argv[3] == "False":
    def no_links(source, target):
        raise OSError(errno.ENOTSUP, "no links")
    disk.system.link = no_links
disk.system.fsync = lambda descriptor: None
Filling = pecs_np.make_component("Filling", {"x": np.float64})
world = pecs_np.World(seed=1)
world.spawn_batch(Filling(x=np.arange(200.0)))
with open(path, "rb") as file:
    old = file.read()
size = len(world.to_bytes(plugin))
assert size > len(old) > 300
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
refused = 0
for limit in [*range(0, size, 61), size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        world.save_with(path, plugin, backup=True)
    except pecs_np.PersistenceIOError as error:
        assert error.errno == errno.EFBIG
        refused += 1
    with open(path, "rb") as file:
        assert file.read() == old
    assert os.listdir(os.path.dirname(path)) == ["game.pecs"]
resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
world.save_with(path, plugin, backup=True)
with open(path, "rb") as file, open(path + ".bak", "rb") as backup:
    assert file.read() == world.to_bytes(plugin)
    assert backup.read() == old
print(refused)
"""
    try:
        BinaryPlugin(**options)
    except PersistenceError:
        pytest.skip("no zstd here")
    path = tmp_path / "game.pecs"
    World(seed=1).save(path)
    assert int(finished(child(code, path, options, links))) > 10
    assert names(tmp_path) == ["game.pecs", "game.pecs.bak"]


@posix
def test_a_program_that_may_open_no_more_files_gets_an_error_and_the_old_file_stays(tmp_path):
    code = """
import errno, os, resource, sys
import pecs_np

path = sys.argv[1]
old, new = pecs_np.World(seed=1), pecs_np.World(seed=2)
new.spawn_batch(count=3)
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
first = os.open(os.devnull, os.O_RDONLY)
os.close(first)
for make in (lambda: new.save(path, backup=True), lambda: pecs_np.World.load(path), lambda: pecs_np.open(path)):
    resource.setrlimit(resource.RLIMIT_NOFILE, (first, most))
    try:
        make()
    except pecs_np.PersistenceIOError as error:
        print(error.errno == errno.EMFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    assert len(pecs_np.World.load(path)) == 0
    assert os.listdir(os.path.dirname(path)) == ["game.pecs"]
resource.setrlimit(resource.RLIMIT_NOFILE, (first + 1, most))
new.save(path, backup=True)
assert len(pecs_np.World.load(path)) == 3
"""
    path = tmp_path / "game.pecs"
    World(seed=1).save(path)
    assert finished(child(code, path)).split() == ["True"] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory")
def test_a_file_that_cannot_be_mapped_is_an_error_of_the_library(tmp_path):
    code = """
import resource, sys
import pecs_np

resource.setrlimit(resource.RLIMIT_AS, (1 << 37, 1 << 37))
try:
    pecs_np.open(sys.argv[1], mmap=True)
except pecs_np.PersistenceIOError as error:
    print(error.errno, error.filename == sys.argv[1])
"""
    path = tmp_path / "game.pecs"
    World().save(path)
    os.truncate(path, 1 << 40)
    assert finished(child(code, path)) == f"{errno.ENOMEM} True"


@posix
def test_a_file_in_a_shared_folder_that_belongs_to_another_is_not_replaced():
    if os.getuid() != 0:
        pytest.skip("needs two users")
    code = """
import os, sys
import pecs_np

os.setuid(65534)
world = pecs_np.World()
try:
    world.save(sys.argv[1], backup=sys.argv[2] == "True")
except pecs_np.PersistenceIOError as error:
    print(error.errno)
world.save(sys.argv[1] + ".mine")
"""
    for backup in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "game.pecs")
            World(seed=1).save(path)
            before = path.read_bytes()
            os.chmod(folder, 0o1777)
            assert finished(child(code, path, backup)) == str(errno.EPERM)
            assert path.read_bytes() == before
            kept = {"game.pecs.bak"} if backup and Path(f"{path}.bak").exists() else set()
            assert set(names(folder)) == {"game.pecs", "game.pecs.mine"} | kept
            for name in kept:
                assert Path(folder, name).read_bytes() == before


@posix
def test_a_file_that_may_not_be_read_is_an_error():
    code = """
import os, sys
import pecs_np

if os.getuid() == 0:
    os.setuid(65534)
for read in (pecs_np.World.load, pecs_np.open):
    try:
        read(sys.argv[1])
    except pecs_np.PersistenceIOError as error:
        print(error.errno)
"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "game.pecs")
        World().save(path)
        path.chmod(0)
        os.chmod(folder, 0o755)
        assert finished(child(code, path)).split() == [str(errno.EACCES)] * 2


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


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(count=5)
    return world


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that would have been made."""
    found = []

    class Restless(disk.System):
        sleep = staticmethod(found.append)

    monkeypatch.setattr(disk, "system", Restless())
    return found


class NoPath:
    """It says that it is a path, and names none."""

    def __fspath__(self):
        return 7


@pytest.mark.parametrize(
    "path",
    [123456, None, NoPath(), ["game.pecs"], "nul\0.pecs", "half\ud800.pecs"],
    ids=["int", "None", "no path", "list", "nul", "surrogate"],
)
@pytest.mark.parametrize("backup", [False, True])
def test_what_can_be_no_path_is_an_error_of_the_library(world, pauses, path, backup):
    for make in (
        lambda: world.save(path, backup=backup),
        lambda: World.load(path, backup=backup),
        lambda: pecs_np.open(path),
    ):
        with pytest.raises(PersistenceIOError):
            make()


@pytest.mark.parametrize("retries", [-1, 1.0, True, None, "1"])
def test_retries_that_are_no_count_are_refused_and_nothing_is_written(world, tmp_path, retries):
    with pytest.raises(PersistenceError, match="expected a number of retries from 0"):
        world.save(tmp_path / "game.pecs", retries=retries)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "/", "folder", "folder/", "folder/.", "link", "link/", "file/", "file/.", "file/x"],
)
@pytest.mark.parametrize("backup", [False, True])
def test_what_names_no_file_is_an_error_that_is_not_tried_again(
    world, tmp_path, monkeypatch, pauses, name, backup
):
    inner = tmp_path / "inner"
    (inner / "folder").mkdir(parents=True)
    (inner / "link").symlink_to("folder")
    (inner / "file").write_bytes(b"old")
    monkeypatch.chdir(inner)
    for make in (lambda: world.save(name, backup=backup, retries=2), lambda: World.load(name, backup=backup)):
        with pytest.raises(PersistenceIOError) as caught:
            make()
        assert caught.value.errno in {errno.EISDIR, errno.ENOTDIR, errno.ENOENT}
    assert pauses == []
    assert names(inner) == ["file", "folder", "link"]
    assert names(inner / "folder") == []
    assert names(tmp_path) == ["inner"]
    assert (inner / "file").read_bytes() == b"old"


def test_a_path_may_be_relative(world, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for path in ("game.pecs", Path("folder", "game.pecs"), "folder/../other.pecs", b"bytes.pecs"):
        world.save(path)
        world.save(path, backup=True)
        assert_worlds_equal(World.load(path), world)
        os.unlink(path)
        with pytest.warns(UserWarning, match="loaded the backup"):
            assert_worlds_equal(World.load(path, backup=True), world)
        assert names(tmp_path / "folder") in ([], ["game.pecs.bak"])
    assert names(tmp_path) == ["bytes.pecs.bak", "folder", "game.pecs.bak", "other.pecs.bak"]


@posix
def test_a_relative_path_in_a_folder_that_was_removed_is_an_error(world, tmp_path, monkeypatch, pauses):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for make in (
        lambda: world.save("game.pecs", backup=True, retries=2),
        lambda: World.load("game.pecs"),
        lambda: pecs_np.open("game.pecs"),
        lambda: World.load("game.pecs", backup=True),
    ):
        with pytest.raises(PersistenceIOError) as caught:
            make()
        assert caught.value.errno == errno.ENOENT
    assert pauses == []


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
@pytest.mark.parametrize("as_bytes", [True, False])
def test_a_name_that_is_no_text_can_be_saved_loaded_and_opened(world, tmp_path, as_bytes):
    raw = os.fsencode(tmp_path) + b"/\xff\n\xc3.pecs"
    path = raw if as_bytes else os.fsdecode(raw)
    for _ in range(2):
        world.save(path, backup=True)
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"\xff\n\xc3.pecs", b"\xff\n\xc3.pecs.bak"]
    assert_worlds_equal(World.load(path), world)
    with pecs_np.open(path) as save:
        assert save.entity_count == 5
    os.truncate(raw, 200)
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert_worlds_equal(World.load(path, backup=True), world)
    os.unlink(raw)
    with pytest.raises(PersistenceIOError) as caught:
        World.load(path)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == os.fsdecode(raw)
    # Names of files are quoted, so that every message can be written anywhere.
    assert "\\udcff" in str(caught.value)


@posix
@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 there")
def test_messages_about_a_file_whose_name_is_no_text_can_be_written(world, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff.pecs"
    world.save(path)
    size = os.stat(path).st_size
    for length in (size - 1, size // 2, 10):
        os.truncate(path, length)
        with pytest.raises(PersistenceError) as caught:
            World.load(path)
        assert str(caught.value).encode()


def test_a_chain_of_symbolic_links_stays_and_its_end_is_replaced(world, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "first").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "first" / "game.pecs").symlink_to("../second.pecs")
    (tmp_path / "second.pecs").symlink_to("folder/third.pecs")
    path = tmp_path / "first" / "game.pecs"
    World().save(path)
    world.save(path, backup=True)
    assert names(tmp_path / "real") == ["third.pecs", "third.pecs.bak"]
    assert names(tmp_path / "first") == ["game.pecs"]
    assert path.is_symlink()
    assert (tmp_path / "second.pecs").is_symlink()
    assert_worlds_equal(World.load(tmp_path / "real" / "third.pecs"), world)
    # The backup is found where the links lead.
    (tmp_path / "real" / "third.pecs").unlink()
    with pytest.warns(UserWarning, match=r"third\.pecs\.bak"):
        assert len(World.load(path, backup=True)) == 0


def test_symbolic_links_that_lead_nowhere_are_errors_and_stay(world, tmp_path, pauses):
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "lost").symlink_to("missing/game.pecs")
    for name, code in (("one", errno.ELOOP), ("lost", errno.ENOENT)):
        for backup in (False, True):
            with pytest.raises(PersistenceIOError) as caught:
                world.save(tmp_path / name, backup=backup, retries=2)
            assert caught.value.errno == code
            with pytest.raises(PersistenceIOError) as caught:
                World.load(tmp_path / name, backup=backup)
            assert caught.value.errno == code
        assert (tmp_path / name).is_symlink()
    assert pauses == []
    assert names(tmp_path) == ["lost", "one", "two"]


def test_a_name_too_long_for_a_backup_can_be_saved_without_one(world, tmp_path, pauses):
    path = tmp_path / ("a" * 250 + ".pecs")
    path.write_bytes(b"old")
    with pytest.raises(PersistenceIOError) as caught:
        world.save(path, backup=True, retries=2)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == [path.name]
    world.save(path)
    assert_worlds_equal(World.load(path), world)
    assert pauses == []


@pytest.mark.parametrize("name", ["a" * 251 + ".pecs", "folder/" * 1000 + "game.pecs"])
def test_a_name_too_long_for_the_system_is_an_error_and_nothing_is_written(world, tmp_path, pauses, name):
    for make in (
        lambda: world.save(tmp_path / name, retries=2),
        lambda: world.save(tmp_path / name, backup=True, retries=2),
        lambda: World.load(tmp_path / name, backup=True),
        lambda: pecs_np.open(tmp_path / name),
    ):
        with pytest.raises(PersistenceIOError) as caught:
            make()
        assert caught.value.errno in {errno.ENAMETOOLONG, errno.ENOENT}
    assert pauses == []
    assert names(tmp_path) == []


def feed(path, data, size):
    """Write to a pipe from another thread, so many bytes at a time, as long as somebody reads."""

    def write():
        with contextlib.suppress(BrokenPipeError), open(path, "wb", buffering=0) as pipe:
            pipe.writelines(data[start : start + size] for start in range(0, len(data), size))

    thread = threading.Thread(target=write)
    thread.start()
    return thread


@posix
@pytest.mark.parametrize("version", [1, 2])
def test_a_world_can_be_loaded_from_the_path_of_a_pipe(world, tmp_path, version):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    data = world.to_bytes(BinaryPlugin(version=version))
    for size in (7, len(data)):
        thread = feed(path, data, size)
        assert len(World.load(path)) == 5
        thread.join()
    for damaged in (data[:-9], data + b"x", b""):
        thread = feed(path, damaged, 100)
        with pytest.raises(PersistenceError):
            World.load(path)
        thread.join()
    thread = feed(path, data, 100)
    with pytest.raises(PersistenceError, match="expected a file, found a stream"):
        pecs_np.open(path)
    thread.join()


@posix
@pytest.mark.parametrize("backup", [False, True])
@pytest.mark.parametrize("durable", [False, True])
def test_what_is_no_regular_file_is_not_replaced(world, tmp_path, monkeypatch, pauses, backup, durable):
    # As root, a save to /dev/null would else take it from all programs.
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, kind in (("pipe", stat.S_ISFIFO), ("socket", stat.S_ISSOCK)):
            with pytest.raises(PersistenceIOError, match=name):
                world.save(name, backup=backup, durable=durable, retries=2)
            assert kind(os.stat(name).st_mode)
    assert names(tmp_path) == ["pipe", "socket"]
    assert pauses == []


@posix
def test_a_device_that_holds_nothing_is_no_save():
    with pytest.raises(CorruptedDataError, match=os.devnull):
        World.load(os.devnull)
