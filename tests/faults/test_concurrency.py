"""Many save to one path while others load it: every load sees one whole world."""

from __future__ import annotations

import json
import os
import re
import sys
import threading

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, EntityRef, PecsError, World

TEMPORARY = re.compile(r"\.pecs-.*\.tmp")

# What all of them know: the worlds and the formats that they are saved in.
WORLDS = """
import itertools
import json
import os
import sys

import numpy as np
import pecs_np
from pecs_np import BinaryPlugin, World, make_component

Spot = make_component("ConcurrentSpot", {"x": np.float64})
Note = make_component("ConcurrentNote", {"text": str})
plugins = [BinaryPlugin(), BinaryPlugin(version=1), BinaryPlugin(threads=1, **json.loads(sys.argv[2]))]
worlds = []
for seed in range(1, 6):
    world = World(seed=seed)
    # Some are written in one call, some in many; sizes differ.
    world.spawn_batch(Spot(x=np.arange(3000.0 * seed) + seed))
    world.spawn_batch(Note(text=["note"] * (seed + 1)))
    worlds.append(world)
saves = {}
for world, plugin in itertools.product(worlds, plugins):
    save = world.to_bytes(plugin)
    saves[save] = World.from_bytes(save).to_bytes()
assert len({len(save) for save in saves}) >= 2 * len(worlds)
path = sys.argv[1]
with open(path, "rb") as file:
    saves[file.read()] = World.load(path).to_bytes()
whole = set(saves.values())
"""

SAVING = (
    WORLDS
    + """
first = int(sys.argv[3])
options = json.loads(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()
for i in range(first, first + 120):
    worlds[i % len(worlds)].save_with(path, plugins[i % len(plugins)], durable=not i % 10, **options)
print(json.dumps({"saves by processes": 120}))
"""
)

LOADING = (
    WORLDS
    + """
import threading

done = threading.Event()
print("ready", flush=True)
sys.stdin.readline()
# The next line says that all saves are made.
threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
counts = {"loads by processes": 0, "loads of backups by processes": 0}


def look(name):
    found = World.load(name).to_bytes()
    assert found in whole, name


last = False
while not last:
    last = done.is_set()
    look(path)
    counts["loads by processes"] += 1
    with pecs_np.open(path) as save:
        save.verify()
        opened = World.from_snapshot(save.snapshot()).to_bytes()
        assert opened in whole
    with open(path, "rb") as file:
        assert file.read() in saves
    if os.path.exists(path + ".bak"):
        look(path + ".bak")
        counts["loads of backups by processes"] += 1
print(json.dumps(counts))
"""
)


@pytest.fixture
def packing(contents):
    """The options of a plugin that compresses, where that can be."""
    try:
        contents("zstd")
    except pytest.skip.Exception:
        return "{}"
    return json.dumps({"compression": "zstd"})


@pytest.mark.parametrize("backup", [False, True])
def test_processes_that_load_while_others_save_see_whole_worlds(
    folder, start_program, packing, tally, backup
):
    path = folder / "game.pecs"
    World(seed=9).save(path)
    options = json.dumps({"backup": backup})
    savers = [start_program(SAVING, path, packing, 7 * i, options) for i in range(3)]
    loaders = [start_program(LOADING, path, packing) for _ in range(2)]
    for process in savers + loaders:
        assert process.stdout.readline() == "ready\n"
    for process in loaders + savers:
        process.stdin.write("\n")
        process.stdin.flush()
    # A further line tells the loaders that all is saved.
    for process in savers + loaders:
        output, _ = process.communicate("\n", timeout=120)
        assert process.returncode == 0
        counts = json.loads(output)
        assert counts.get("saves by processes", 120) == 120
        assert counts.get("loads by processes", 1) >= 1
        assert counts.get("loads of backups by processes", 1) >= backup
        for name, count in counts.items():
            tally[name] += count
    assert sorted(os.listdir(folder)) == ["game.pecs", "game.pecs.bak"][: 1 + backup]


def make_worlds(define):
    spot = define("ConcurrentPlace", {"x": np.float64})
    worlds = []
    for seed in range(4):
        world = World(seed=seed)
        world.spawn_batch(spot(x=np.arange(2000.0 * (seed + 1))))
        worlds.append(world)
    return worlds


def run_together(*functions):
    """Run functions in threads of their own and raise what the first of them raised."""
    failures = []

    def guarded(function):
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("backup", [False, True])
def test_threads_that_load_while_others_save_see_whole_worlds(
    folder, define, open_descriptors, tally, backup
):
    path = folder / "game.pecs"
    worlds = make_worlds(define)
    plugins = [BinaryPlugin(), BinaryPlugin(version=1)]
    whole = {World.from_bytes(world.to_bytes(plugin)).to_bytes() for world in worlds for plugin in plugins}
    assert len(whole) >= len(worlds)
    worlds[0].save(path)
    descriptors = open_descriptors()
    saving = threading.Semaphore(0)
    savers = 4

    def save(number):
        try:
            for i in range(40):
                # The same world is saved by two threads at a time.
                world = worlds[(number // 2 + i) % len(worlds)]
                world.save_with(path, plugins[i % 2], backup=backup, durable=not i % 10)
                tally["saves by threads"] += 1
        finally:
            saving.release()

    def load():
        last = False
        while not last:
            last = finished.is_set()
            assert World.load(path).to_bytes() in whole
            assert World.load(path, backup=backup).to_bytes() in whole
            if os.path.exists(f"{path}.bak"):
                assert World.load(f"{path}.bak").to_bytes() in whole
            tally["loads by threads"] += 1

    finished = threading.Event()

    def wait():
        for _ in range(savers):
            saving.acquire()
        finished.set()

    run_together(*(lambda number=number: save(number) for number in range(savers)), load, load, wait)
    assert sorted(os.listdir(folder)) == ["game.pecs", "game.pecs.bak"][: 1 + backup]
    assert open_descriptors() == descriptors


@pytest.mark.parametrize("mmap", [False, True])
def test_an_opened_save_stays_what_it_was_while_others_save_to_its_path(folder, define, tally, mmap):
    path = folder / "game.pecs"
    worlds = make_worlds(define)
    worlds[1].save(path)
    expected = worlds[1].to_bytes()
    with pecs_np.open(path, mmap=mmap) as opened:

        def save(number):
            for i in range(20):
                worlds[(number + i) % 4].save(path, backup=True, durable=False)

        def touch():
            for _ in range(20):
                assert opened["ConcurrentPlace"]["x"].tolist() == list(range(4000))
                opened.verify()
                assert World.from_snapshot(opened.snapshot()).to_bytes() == expected
                tally["touches by threads"] += 1

        run_together(lambda: save(0), lambda: save(2), touch, touch)


def test_threads_may_save_one_world_to_many_paths(folder, define, tally):
    world = make_worlds(define)[2]
    expected = world.to_bytes()

    def save(number):
        for i in range(20):
            path = folder / f"{number}-{i}"
            world.save(path, durable=False)
            assert path.read_bytes() == expected
            tally["saves by threads"] += 1

    run_together(*(lambda number=number: save(number) for number in range(4)))
    assert not [name for name in os.listdir(folder) if TEMPORARY.fullmatch(name)]


@pytest.fixture
def frequent_switches():
    """Threads take turns every few microseconds."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("options", [{}, {"version": 1}, {"compression": "lz4", "threads": 1}])
def test_a_save_amid_structural_changes_is_refused_or_can_be_loaded(
    define, frequent_switches, options, tally
):
    if "compression" in options:
        pytest.importorskip("lz4")
    plugin = BinaryPlugin(**options)
    spot = define("AmidPlace", {"x": np.float64})
    note = define("AmidNote", {"text": str})
    link = define("AmidLink", {"to": EntityRef})
    world = World()
    world.spawn_batch(spot(x=np.zeros(2000)))
    finished = threading.Event()

    def change():
        turn = 0
        while not finished.is_set():
            turn += 1
            more = [note(text="abc")] * (turn % 3 > 0) + [link(to=0)] * (turn % 5 == 0)
            entity = world.spawn(spot(x=1), *more)
            if turn % 50 > 1:
                world.despawn(entity)

    def save():
        try:
            for _ in range(60):
                try:
                    data = world.to_bytes(plugin)
                except PecsError:
                    tally["saves refused amid changes"] += 1
                else:
                    World.from_bytes(data).validate()
                    tally["saves made amid changes"] += 1
        finally:
            finished.set()

    run_together(change, save)
    world.spawn(spot(x=2))
    assert World.from_bytes(world.to_bytes(plugin)).entity_count == len(world)
