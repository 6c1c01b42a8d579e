"""Stores in files and the processes that use them: many at once, killed, without rights, without room."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pecs_np import LmdbEntityPlugin, SqliteEntityPlugin, World, component
from pecs_np.testing import assert_worlds_equal

BATCH = 50_000
KILLS = 20


@component
class ProcessSpot:
    x: np.int64
    y: np.int64


KINDS = {"sqlite": SqliteEntityPlugin, "lmdb": LmdbEntityPlugin}
COMMON = """
import os, resource, signal, sqlite3, sys, time
import numpy as np
from pecs_np import *

@component
class ProcessSpot:
    x: np.int64
    y: np.int64

def opened(**options):
    return {"sqlite": SqliteEntityPlugin, "lmdb": LmdbEntityPlugin}[sys.argv[1]](sys.argv[2], **options)

def filled(value, count):
    world = World()
    world.spawn_batch(ProcessSpot(x=np.full(count, value), y=np.arange(count)))
    return world

def values(store):
    world = World()
    store.load_entities(world, store.list_entities())
    return world.column(ProcessSpot)["x"] if len(world) else np.zeros(0, int)

def say(*what):
    print(*what, flush=True)
"""


@pytest.fixture(params=list(KINDS))
def kind(request):
    if request.param == "lmdb":
        pytest.importorskip("lmdb")
    return request.param


@pytest.fixture
def path(kind, folder):
    return folder / f"entities.{kind}"


@pytest.fixture
def program(start_program, kind, path):
    """A function that starts a program that has `COMMON`."""
    return lambda code, *arguments: start_program(COMMON + code, kind, path, *arguments)


def lines(process):
    """Return the words of each line that a program said, which ended well."""
    said = process.communicate(timeout=300)[0].splitlines()
    assert process.returncode == 0, said
    return [line.split() for line in said]


TOGETHER = """
number = int(sys.argv[3])
options = {"map_size": 1 << 20} if sys.argv[1] == "lmdb" else {"timeout": 60}
own, shared, stable = World(seed=number), World(), np.arange(1, 401)
for i in stable.tolist():
    shared.spawn_with_stable_id(i, ProcessSpot(x=number, y=i))
say("ready")
sys.stdin.readline()
with opened(durable=False, **options) as store:
    for turn in range(8):
        ids = own.spawn_batch(ProcessSpot(x=np.full(700, turn), y=number))
        store.save_entities(own, ids)
        for (spot,) in shared.query(ProcessSpot):
            spot.x = 100 * number + turn
        store.save_entities(shared, shared.entities())
        back = World()
        store.load_entities(back, stable.tolist())
        seen = set(back.column(ProcessSpot)["x"].tolist())
        assert len(seen) == 1, f"a batch was seen in part: {seen}"
        mine = World()
        store.load_entities(mine, own.stable_ids())
        assert len(mine) == 700 * (turn + 1)
        say("saw", *seen)
"""


def test_several_processes_write_and_read_at_once(kind, path, program):
    processes = [program(TOGETHER, number) for number in range(1, 5)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    # All of them find no file, and make one.
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    seen = [int(value) for process in processes for _, value in lines(process)]
    assert len(seen) == 4 * 8
    with KINDS[kind](path) as store:
        assert len(store) == 400 + 4 * 8 * 700
        store.verify()


KILLED = """
with opened(durable=False) as store:
    world = filled(0, int(sys.argv[3]))
    ids, stable = world.entities(), world.stable_ids()
    store.save_entities(world, ids[: len(ids) // 2])
began = time.perf_counter()
if os.fork() == 0:
    with opened(durable=False) as store:
        store.save_entities(world, ids[: len(ids) // 2])
    os._exit(0)
os.wait()
took = time.perf_counter() - began
for turn in range(1, int(sys.argv[4]) + 1):
    for (spot,) in world.query(ProcessSpot):
        spot.x = turn
    with opened() as store:
        before = values(store)
        assert len(set(before.tolist())) == 1
    child = os.fork()
    if child == 0:
        with opened(durable=False) as store:
            store.save_entities(world, ids)
        time.sleep(60)
    time.sleep(2 * took * turn / int(sys.argv[4]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with opened() as store:
        after = values(store)
        store.verify()
        saved = len(after) == len(ids) and (after == turn).all()
        kept = len(after) == len(before) and (after == before[0]).all()
        say("whole" if saved else "nothing" if kept else "part")
"""


def test_a_batch_of_a_killed_process_is_there_whole_or_not_at_all(kind, program, tally):
    said = [word for (word,) in lines(program(KILLED, BATCH, KILLS))]
    assert len(said) == KILLS
    assert set(said) <= {"whole", "nothing"}
    for word in said:
        tally[f"batches of {BATCH:,} by a process killed at some time, {kind}: {word}"] += 1


HALFWAY = {
    # SQLite tells of every so many steps of its machine.
    "sqlite": """
store._connection.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), 1 + int(share * 20 * len(ids)))
store.save_entities(world, ids)
""",
    # LMDB takes each entity when it needs it.
    "lmdb": """
from pecs_np.persistence.stores.records import Records

class Deadly(Records):
    def values(self):
        values = super().values()
        for i, value in enumerate(values):
            if i == int(share * len(values)):
                os.kill(os.getpid(), signal.SIGKILL)
            yield value

whole, write = [], store.write
store.write = whole.extend
store.save_entities(world, ids)
store.write = write
store.write([Deadly(r.layout, r.stable_ids, r.data, r.ends) for r in whole])
""",
}


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9])
def test_nothing_is_left_of_a_batch_whose_process_is_killed_within(kind, path, program, share, tally):
    world = World()
    world.spawn_batch(ProcessSpot(x=np.arange(100), y=7))
    with KINDS[kind](path) as store:
        store.save_entities(world, world.entities())
    process = program(
        f"store, world, share = opened(), filled(5, {BATCH}), {share}\nids = world.entities()\n"
        + HALFWAY[kind]
    )
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    with KINDS[kind](path) as store:
        store.verify()
        assert len(store) == 100
        back = World()
        store.load_entities(back, world.stable_ids())
        assert_worlds_equal(world, back)
        store.save_entities(world, world.entities())
    tally[f"batches of {BATCH:,} by a process killed within, {kind}: nothing"] += 1


def test_a_killed_writer_holds_nobody_up(kind, path, program):
    hold = """
store = opened()
if sys.argv[1] == "sqlite":
    store._connection.execute("BEGIN IMMEDIATE")
else:
    transaction = store._environment._env.begin(write=True)
say("holds")
sys.stdin.readline()
"""
    options = {"timeout": 60} if kind == "sqlite" else {}
    world = World()
    ids = world.spawn_batch(ProcessSpot(x=1, y=2), count=3)
    with KINDS[kind](path, **options) as store:
        process = program(hold)
        assert process.stdout.readline() == "holds\n"
        assert len(store) == 0
        thread = threading.Thread(target=store.save_entities, args=(world, ids), daemon=True)
        thread.start()
        process.kill()
        thread.join(60)
        assert len(store) == 3


FORKED = """
world = filled(1, 10)
store = opened()
store.save_entities(world, world.entities())
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for _ in range(5):
            assert len(store) >= 10
            store.save_entity(other := World(), other.spawn(ProcessSpot(x=2, y=number)))
        store.close()
        os._exit(0)
    children.append(child)
for _ in range(5):
    store.save_entity(other := World(), other.spawn(ProcessSpot(x=3, y=3)))
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
say(len(store), *sorted(values(store).tolist()))
store.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_process_opens_the_file_anew(program):
    ((count, *found),) = lines(program(FORKED))
    assert int(count) == 30
    assert [int(value) for value in found] == [1] * 10 + [2] * 15 + [3] * 5


FULL = """
world = filled(1, 100)
store = opened(durable=False)
store.save_entities(world, world.entities())
large = filled(2, 50_000)
if sys.argv[3] == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        store.save_entities(large, large.entities())
    except PersistenceIOError as error:
        assert sys.argv[2] in str(error), error
        say("refused", error.errno, error.is_recoverable)
    else:
        say("saved")
    say(len(store), *set(values(store).tolist()))
store.save_entity(other := World(), other.spawn(ProcessSpot(x=1, y=3)))
say(len(store))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.close()
with opened() as store:
    store.verify()
    say(len(store), *set(values(store).tolist()))
"""


def check_full(said):
    first, kept, second, again, saved, whole = said
    for refused in (first, second):
        assert refused[0] == "refused"
        assert refused[2] == "True"
    assert kept == again == ["100", "1"]
    assert saved == ["101"]
    assert whole == ["101", "1"]


def test_a_file_that_may_not_grow(program):
    pytest.importorskip("resource")
    check_full(lines(program(FULL, "limit")))


def test_a_full_disk(kind, start_program):
    with tempfile.TemporaryDirectory() as place:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no right to make a small disk")
        try:
            check_full(lines(start_program(COMMON + FULL, kind, Path(place, "entities"), "disk")))
        finally:
            subprocess.run(["umount", place], check=True)


READ_ONLY = """
import lmdb
store = opened()
store.close()
os.chmod(sys.argv[2], 0o444)
for name in os.listdir(os.path.dirname(sys.argv[2])):
    if name.endswith("-lock"):
        os.chmod(os.path.join(os.path.dirname(sys.argv[2]), name), 0o666)
os.chmod(os.path.dirname(sys.argv[2]), 0o777)
if os.getuid() == 0:
    os.setuid(65534)
world = filled(2, 5)
with opened() as store:
    say(len(store), *set(values(store).tolist()))
    for call in (lambda: store.save_entities(world, world.entities()), store.clear):
        try:
            call()
        except PersistenceIOError as error:
            assert sys.argv[2] in str(error) and "only be loaded" in str(error), error
            say("refused")
    say(len(store))
"""


def test_a_file_that_may_only_be_read(kind, path, program):
    world = World()
    with KINDS[kind](path) as store:
        store.save_entities(world, world.spawn_batch(ProcessSpot(x=4, y=2), count=3))
    assert lines(program(READ_ONLY)) == [["3", "4"], ["refused"], ["refused"], ["3"]]


def test_many_threads_of_many_objects(kind, path):
    def work(number):
        world = World(seed=number)
        with KINDS[kind](path, durable=False) as store:
            for _ in range(5):
                ids = world.spawn_batch(ProcessSpot(x=number, y=np.arange(2000)))
                store.save_entities(world, ids)
                back = World()
                store.load_entities(back, world.stable_ids())
                assert_worlds_equal(world, back)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with KINDS[kind](path) as store:
        assert len(store) == 6 * 5 * 2000
