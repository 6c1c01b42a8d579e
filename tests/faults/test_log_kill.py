"""Programs are killed while they write to a log: what they leave opens, and holds every record that was acknowledged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

# Told on its first line where to log and how; then forks children that are killed, and looks at what they leave.
PROGRAM = """
import ctypes
import errno
import fcntl  # what a log imports is there before it is counted
import importlib.util
import json
import mmap
import os
import random
import shutil
import signal
import sys
import time

from pecs_np.persistence import disk
from pecs_np.persistence.log.log import DeltaLog

plan = json.loads(sys.stdin.readline())
spec = importlib.util.spec_from_file_location("pecs_log_story", plan["story"])
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
story = module.make_story()
folder, durability = plan["folder"], plan["durability"]
path = folder + "/a.log"
# Numbers of the last record that was acknowledged, of the one that may be there too, whether all is done, and of
# temporary files that were left.
shared = memoryview(mmap.mmap(-1, 32)).cast("Q")


def play():
    world = None if os.path.exists(path) else story.world()
    with DeltaLog.open(path, durability, world=world) as log:
        for changes in story.changes[log.sequence :]:
            shared[1] = log.sequence + 1
            number = log.append(changes)
            shared[0] = number
            if number == 2:
                log.compact()
            if number == 4:
                log.compact(until=3)
    shared[2] = 1


def check():
    if os.path.exists(path):
        found = DeltaLog.restore(path).to_bytes()
        assert found in (story.states[shared[0]], story.states[shared[1]]), (shared[0], shared[1])
    else:
        assert not shared[0]
    left = os.listdir(folder)
    play()
    assert DeltaLog.restore(path).to_bytes() == story.states[-1]
    with DeltaLog.open(path, readonly=True) as log:
        assert [n for n in os.listdir(folder) if n.endswith(".pecs")] == [f"a.log.{log.start}.pecs"]
    shared[3] += sum(name.endswith(".tmp") for name in left)


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
    "unlink": lambda: os.unlink(""),
    "truncate": lambda: os.ftruncate(NONE, 0),
    "flock": lambda: fcntl.flock(NONE, fcntl.LOCK_EX),
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


# In a child, so that the calls of this program itself are few: they are counted too.
def fork(work, then=lambda child: None):
    child = os.fork()
    if not child:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    then(child)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare_and_play(call, at):
    prepare(call, at)
    play()


def empty():
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))


def start(torn):
    empty()
    if torn:
        with DeltaLog.open(path, world=story.world()) as log:
            log.append(story.changes[0])
        with open(path, "ab") as file:
            file.write(b"PREC and so on")


for call in plan["calls"]:
    results[call] = 0
    for at in range(1, plan["counted"]):
        shared[0] = shared[1] = shared[2] = 0
        assert fork(lambda: start(plan["torn"])) == 0
        status = fork(lambda: prepare_and_play(call, at))
        if status == 0:
            break
        assert status == -signal.SIGKILL, status
        shared[0] = max(shared[0], int(plan["torn"]))
        results[call] += 1
        assert fork(check) == 0
    else:
        raise SystemExit(f"{call} is made more often than expected")

random.seed(1)
for _ in range(plan["random"]):
    shared[0] = shared[1] = shared[2] = 0
    start(False)

    def kill(child):
        time.sleep(random.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)

    fork(play, kill)
    results["random"] = results.get("random", 0) + (not shared[2])
    assert fork(check) == 0
results["leftovers"] = shared[3]
print(json.dumps(results), flush=True)
"""

COUNTED = 400
# More than a story makes of each, and than the program itself makes.
TRACED = 500
SYSTEM_CALLS = {
    "open": ("open", "openat"),
    "close": ("close",),
    "write": ("write",),
    "fsync": ("fsync",),
    "rename": ("rename", "renameat", "renameat2"),
    "unlink": ("unlink", "unlinkat"),
    "truncate": ("ftruncate",),
    "flock": ("flock",),
    "read": ("preadv", "preadv2"),
}


def started(start_program, folder, **plan):
    story = Path(__file__).parents[1] / "log_story.py"
    plan = {"folder": str(folder), "story": str(story), "torn": False, "random": 0, "calls": [], **plan}
    process = start_program(PROGRAM)
    process.stdin.write(json.dumps(plan) + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    return process


def answer(process):
    output, _ = process.communicate("\n", timeout=300)
    assert process.returncode == 0
    return json.loads(output)


@pytest.mark.parametrize(
    ("durability", "torn", "calls"), [("power", False, ["before", "halfway"]), ("process", True, ["halfway"])]
)
def test_a_program_killed_at_any_call_leaves_every_record_that_was_acknowledged(
    folder, durability, torn, calls, start_program, tally
):
    process = started(start_program, folder, durability=durability, torn=torn, calls=calls, counted=COUNTED)
    results = answer(process)
    assert all(results[call] > 60 for call in calls)
    assert results["leftovers"] > 4
    tally["kills at a call"] += sum(results[call] for call in calls)


def test_a_program_killed_at_any_system_call_leaves_every_record_that_was_acknowledged(
    folder, start_program, tally
):
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    process = started(
        start_program, folder, durability="power", torn=True, calls=[*SYSTEM_CALLS], counted=TRACED
    )
    names = ",".join(f"?{name}" for group in SYSTEM_CALLS.values() for name in group)
    command = ["strace", "-f", "-o", os.devnull, "-p", str(process.pid)]
    command += ["-e", f"trace={names}", "-e", f"inject={names}:signal=SIGKILL:when={TRACED}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        said = tracer.stderr.readline()
        if "attached" not in said:
            tracer.kill()
            pytest.skip(f"may not trace: {said}")
        results = answer(process)
        tracer.communicate(timeout=60)
    assert results["rename"] == 4
    assert (results["truncate"], results["flock"]) == (1, 1)
    assert results["write"] >= 10
    assert results["fsync"] >= 12
    tally["kills at a system call"] += sum(results[call] for call in SYSTEM_CALLS)


def test_a_program_killed_at_any_time_leaves_every_record_that_was_acknowledged(folder, start_program, tally):
    results = answer(started(start_program, folder, durability="process", random=50, counted=1))
    assert results["random"] > 10
    tally["kills at random times"] += results["random"]
