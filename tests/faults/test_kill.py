"""Programs are killed while they save: what they leave loads, and is the old world or the new one.

Importing takes longer than hundreds of saves, so one prepared program forks the children that are killed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from pecs_np import World

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

TEMPORARY = re.compile(r"\.pecs-.*\.tmp")

# Told on its first line what to save and where; then forks one child for each folder, in which it saves and
# is killed at the call number *at* of the system calls *call*, until one reaches the end.
PROGRAM = """
import ctypes
import errno
import fcntl  # what a save imports is there before it is counted
import json
import os
import signal
import sys

import pecs_np
from pecs_np.persistence import disk

plan = json.loads(sys.stdin.readline())
plugin = pecs_np.BinaryPlugin(**plan["plugin"])
world = pecs_np.World.load(plan["world"])
world.to_bytes(plugin)
if not plan["links"]:
    def no_links(source, target):
        raise OSError(errno.ENOTSUP, "no links")
    disk.system.link = no_links


class Killing(disk.System):
    def __init__(self, at, halfway):
        self.calls = 0
        for kind in vars(disk.System):
            if not kind.startswith("_"):
                setattr(self, kind, self.counted(kind, getattr(disk.system, kind), at, halfway))

    def counted(self, kind, real, at, halfway):
        def call(*arguments):
            self.calls += 1
            if self.calls == at:
                try:
                    if halfway and kind == "write":
                        real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    elif halfway:
                        real(*arguments)
                finally:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        return call


NONE = 9999
# Calls that fail, so that the one to be killed at is always the same of its kind.
fail = {
    "open": lambda: os.open("", 0),
    "close": lambda: os.close(NONE),
    "write": lambda: os.write(NONE, b""),
    "fsync": lambda: os.fsync(NONE),
    "rename": lambda: os.rename("", ""),
    "link": lambda: os.link("", ""),
    "unlink": lambda: os.unlink(""),
    "chmod": lambda: os.fchmod(NONE, 0),
    "read": lambda: os.preadv(NONE, [bytearray(1)], 0),
}


def prepare(call, at):
    if call in {"before", "halfway"}:
        disk.system = Killing(at, call == "halfway")
        return
    for _ in range(plan["counted"] - at):
        try:
            fail[call]()
        except OSError:
            pass


# Only root may trace a program that is not its child, unless the program allows it.
PR_SET_PTRACER, ANY = 0x59616D61, ctypes.c_ulong(-1)
try:
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY, 0, 0, 0)
except (OSError, AttributeError):
    pass
print("ready", flush=True)
sys.stdin.readline()
results = {}
for call, folders in plan["folders"].items():
    results[call] = []
    for at, folder in enumerate(folders, 1):
        child = os.fork()
        if not child:
            status = 1
            try:
                prepare(call, at)
                world.save_with(f"{folder}/game.pecs", plugin, **plan["options"])
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        results[call].append(status)
        if status != -signal.SIGKILL:
            break
print(json.dumps(results), flush=True)
"""

# More than a save makes of each, and than the program itself makes.
COUNTED = 48
SYSTEM_CALLS = {
    "open": ("open", "openat"),
    "close": ("close",),
    "write": ("write",),
    "fsync": ("fsync",),
    "rename": ("rename", "renameat", "renameat2"),
    "link": ("link", "linkat"),
    "unlink": ("unlink", "unlinkat"),
    "chmod": ("fchmod",),
    "read": ("preadv", "preadv2"),
}


@dataclass(frozen=True)
class Setting:
    """A way to save."""

    name: str
    start: str
    durable: bool = True
    backup: bool = True
    links: bool = True


SETTINGS = [
    Setting("raw", "new"),
    Setting("raw", "first", durable=False, backup=False),
    Setting("raw", "later"),
    Setting("raw", "later", links=False),
    Setting("zstd", "first"),
    Setting("version 1", "later", durable=False),
]


@pytest.fixture(params=SETTINGS, ids=lambda setting: "-".join(map(str, vars(setting).values())))
def setting(request):
    return request.param


class Victims:
    """The folders that children save into, and what may be in them afterwards."""

    def __init__(self, folder, setting, contents):
        self.folder, self.setting = folder, setting
        self.plugin, self.world, self.ancient, self.old, self.new = contents(setting.name)
        self.before = None if setting.start == "new" else self.old
        self.backup_before = self.ancient if setting.start == "later" else None

    def prepare(self, calls):
        """Return what to tell the program."""
        world = self.folder / "new.pecs"
        self.world.save(world)
        folders = {}
        for call in calls:
            folders[call] = []
            for at in range(1, COUNTED):
                path = self.folder / f"{call}-{at}"
                path.mkdir()
                if self.before is not None:
                    (path / "game.pecs").write_bytes(self.before)
                if self.backup_before is not None:
                    (path / "game.pecs.bak").write_bytes(self.backup_before)
                folders[call].append(str(path))
        packing = self.plugin.packing
        return {
            "world": str(world),
            "plugin": {
                "version": self.plugin.version,
                "compression": packing and str(packing.codec),
                "threads": 1,
            },
            "links": self.setting.links,
            "options": {"durable": self.setting.durable, "backup": self.setting.backup},
            "folders": folders,
            "counted": COUNTED,
        }

    def check(self, results, tally):
        """Assert that each folder holds what it may, and return which of the two worlds were found."""
        found = set()
        for call, statuses in results.items():
            *killed, last = statuses
            assert last == 0, f"{call}: {statuses}"
            assert set(killed) <= {-9}, f"{call}: {statuses}"
            for at in range(1, len(statuses) + 1):
                what = f"killed at {call} number {at}"
                folder = self.folder / f"{call}-{at}"
                content = self.check_one(folder, what, killed=at < len(statuses))
                if at < len(statuses):
                    found.add(content)
                    tally["kills at a call"] += 1
        return found

    @staticmethod
    def content(path):
        return path.read_bytes() if path.exists() else None

    def check_one(self, folder, what, *, killed):
        """Assert that a folder holds what it may, and that it can be saved to; return what the path held."""
        path, backup = folder / "game.pecs", folder / "game.pecs.bak"
        content, kept = self.content(path), self.content(backup)
        after = self.before if self.setting.backup and self.before else self.backup_before
        if killed:
            assert content in {self.before, self.new}, what
            assert kept in {self.backup_before, after}, what
        else:
            assert content == self.new, what
            assert kept == after, what
        leftovers = set(os.listdir(folder)) - {path.name, backup.name}
        assert all(TEMPORARY.fullmatch(name) for name in leftovers), what
        assert killed or not leftovers, what
        for file, expected in ((path, content), (backup, kept)):
            if expected is not None:
                assert World.load(file).to_bytes(self.plugin) == expected, what
        # What is left over is no hindrance.
        for _ in range(2):
            self.world.save_with(path, self.plugin, backup=True, durable=False)
            assert path.read_bytes() == self.new, what
        assert backup.read_bytes() == self.new, what
        assert set(os.listdir(folder)) - {path.name, backup.name} == leftovers, what
        return content


def answer(process):
    output, _ = process.communicate("\n", timeout=120)
    assert process.returncode == 0
    return json.loads(output)


def test_a_program_killed_at_any_call_of_a_save_leaves_the_old_world_or_the_new_one(
    folder, setting, contents, start_program, tally
):
    victims = Victims(folder, setting, contents)
    process = start_program(PROGRAM)
    process.stdin.write(json.dumps(victims.prepare(["before", "halfway"])) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    results = answer(process)
    assert len(results["before"]) == len(results["halfway"]) > 8
    assert victims.check(results, tally) == {victims.before, victims.new}


def test_a_program_killed_at_any_system_call_of_a_save_leaves_the_old_world_or_the_new_one(
    folder, setting, contents, start_program, tally
):
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    victims = Victims(folder, setting, contents)
    process = start_program(PROGRAM)
    process.stdin.write(json.dumps(victims.prepare(SYSTEM_CALLS)) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    names = ",".join(f"?{name}" for group in SYSTEM_CALLS.values() for name in group)
    command = ["strace", "-f", "-o", os.devnull, "-p", str(process.pid)]
    command += ["-e", f"trace={names}", "-e", f"inject={names}:signal=SIGKILL:when={COUNTED}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        said = tracer.stderr.readline()
        if "attached" not in said:
            tracer.kill()
            pytest.skip(f"may not trace: {said}")
        results = answer(process)
        tracer.communicate(timeout=60)
    found = victims.check(results, tally)
    # After the rename, not every save has more to do.
    assert found - {victims.new} == {victims.before}
    assert victims.new in found or not setting.durable
    times = {call: len(statuses) - 1 for call, statuses in results.items()}
    assert times["write"] > 3
    assert times["rename"] == (2 if setting.backup and setting.start != "new" else 1)
    assert times["link"] == (setting.backup and setting.links)
    assert times["fsync"] == 2 * setting.durable + (not setting.links)


RANDOM_KILLS = """
import hashlib
import json
import mmap
import os
import random
import signal
import sys
import time

import numpy as np
import pecs_np
from pecs_np import BinaryPlugin, World, make_component

path, rounds = sys.argv[1], int(sys.argv[2])
Step = make_component("KilledStep", {"x": np.float64})
Note = make_component("KilledNote", {"text": str})
plugins = [BinaryPlugin(), BinaryPlugin(version=1), BinaryPlugin(threads=2, **json.loads(sys.argv[3])), BinaryPlugin()]
worlds = []
for seed in range(7):
    world = World(seed=seed)
    world.spawn_batch(Step(x=np.arange(10_000.0) + seed))
    world.spawn_batch(Note(text=["text" * seed, "é"]))
    worlds.append(world)
# What the save number i holds.
period = len(worlds) * len(plugins)
saves = [worlds[i % len(worlds)].to_bytes(plugins[i % len(plugins)]) for i in range(period)]
loaded = [World.from_bytes(save).to_bytes() for save in saves]
assert all(saves[i] != saves[i - 1] for i in range(period))

random.seed(int(sys.argv[4]))
# Number of the save that is under way, of the last whole one, and of the one before.
shared = memoryview(mmap.mmap(-1, 24)).cast("Q")
under_way, whole, earlier = range(3)


def content(name):
    with open(name, "rb") as file:
        return file.read()


def save_on(number):
    while True:
        number += 1
        shared[under_way] = number
        worlds[number % len(worlds)].save_with(
            path, plugins[number % len(plugins)], backup=True, durable=bool(number % 2)
        )
        shared[earlier], shared[whole] = shared[whole], number


for number in range(2):
    worlds[number].save_with(path, plugins[number], backup=True)
shared[under_way], shared[whole], shared[earlier] = 1, 1, 0
counts = {"kills at random times": 0, "saves between them": 0, "leftovers of them": 0}
for _ in range(rounds):
    first = shared[under_way]
    child = os.fork()
    if not child:
        try:
            save_on(first)
        finally:
            os._exit(1)
    time.sleep(random.uniform(0, 0.008))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    counts["kills at random times"] += 1
    counts["saves between them"] += shared[under_way] - first
    found = World.load(path).to_bytes()
    allowed = [shared[whole], shared[under_way]]
    names = [number for number in allowed if content(path) == saves[number % period]]
    assert names, f"expected one of {allowed}"
    assert found == loaded[names[0] % period]
    kept = [n for n in (shared[earlier], shared[whole]) if content(path + ".bak") == saves[n % period]]
    assert kept, f"expected one of {[shared[earlier], shared[whole]]} in the backup"
    assert World.load(path + ".bak").to_bytes() == loaded[kept[0] % period]
    # From here the next child goes on.
    shared[earlier], shared[whole] = kept[0], names[0]
    left = set(os.listdir(os.path.dirname(path))) - {"game.pecs", "game.pecs.bak"}
    assert all(name.startswith(".pecs-") and name.endswith(".tmp") for name in left), left
    counts["leftovers of them"] += len(left)
    for name in left:
        if random.random() < 0.5:
            os.unlink(os.path.join(os.path.dirname(path), name))
print(json.dumps(counts))
"""


def test_a_program_killed_at_any_time_in_a_loop_of_saves_leaves_one_of_its_worlds(
    folder, contents, start_program, tally
):
    try:
        contents("zstd")
        packing = {"compression": "zstd"}
    except pytest.skip.Exception:
        packing = {}
    processes = [
        start_program(RANDOM_KILLS, Path(folder, name, "game.pecs"), 150, json.dumps(packing), seed)
        for seed, name in enumerate("ab")
        if not (folder / name).mkdir()
    ]
    for process in processes:
        counts = json.loads(process.communicate(timeout=120)[0])
        assert process.returncode == 0
        assert counts["kills at random times"] == 150
        for name, count in counts.items():
            tally[name] += count
