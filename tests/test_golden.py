"""Saves that were written once, and must load for ever: one for each version and codec of the format.

They were written by version 0.1.0 from `golden_world`, or for version 1 from `plain_part` of it; deltas to
``v2_raw.pecs`` from what `golden_changes` does to that world. No test writes them: a change that cannot
read them, or reads something else, is a break of the format.
"""

from __future__ import annotations

import enum
import hashlib
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, EntityRef, StableId, World, component, unregister
from pecs_np.ecs.registry import register
from pecs_np.persistence import read_delta
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.testing import assert_worlds_equal

DATA = Path(__file__).parent / "data"
DIGESTS = {
    "v1_iso.pecs": "a5b1376f9d6a0a3b7c30d2159a4e70bc4a6976dce0dc4e98b5a9ba63566cd3c9",
    "v1_we.pecs": "2bc9164ebcf319f66505fd6442a820c21fb9d9377b595cca2a3067a2e3017aaa",
    "v2_raw.pecs": "6f19391993adde41554b98def1e0ca3a4da939b718fa65fa616937fc696fc76a",
    "v2_zstd.pecs": "788835f9bc24253c78d42c2718893bcaa8ef559f772c3c05775acf1ce1619f68",
    "v2_lz4.pecs": "1f09e98bb649d2776d19a6f5d5e832da50074ad1d55583a42d2a10eb82c8035e",
    "v2_zstd_plain.pecs": "639ee3f7d31f97728dcc36bb1ef4b8e6ee7a65ce9e7e566697399566f09925f4",
    "deltas/1_raw.pecs": "ce81d26da8316383f7baa93c3830e359353bfb261562def749db1014b79a7e9c",
    "deltas/2_zstd.pecs": "743b8f8ce732d8ce7b8fd8897012a364e21b386d023aed552514c180b9a55db9",
}


class GoldenMood(enum.IntEnum):
    CALM = 0
    WILD = 7


@component(name="Golden.Place", version=3)
class GoldenPlace:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(name="Golden.Being")
class GoldenBeing:
    home: GoldenPlace
    mood: GoldenMood = GoldenMood.CALM
    awake: bool = False
    cells: Annotated[np.uint16, (2, 2)] = 0
    label: Annotated[str, 4] = ""
    born: Annotated[np.datetime64, "s"] = np.datetime64(0, "s")
    friend: EntityRef = None


@component(name="Golden.Story")
class GoldenStory:
    title: str = ""
    seal: bytes = b""
    path: list[np.float64] = []
    crew: list[EntityRef] = []


@component(name="Golden.Mark")
class GoldenMark:
    pass


@component(name="Golden.Clock")
class GoldenClock:
    tick: int = 0


def plain_part():
    """A world of entities and components only."""
    world = World()
    ids = [world.spawn_with_stable_id(StableId((1 << 64) + i)) for i in range(200)]
    steps = np.arange(200)
    world.insert(np.array(ids), GoldenPlace(x=steps * 0.5, y=-steps))
    some = np.array(ids[::3])
    world.insert(
        some,
        GoldenBeing(
            home=GoldenPlace(1, 2),
            mood=[GoldenMood.WILD if i % 2 else GoldenMood.CALM for i in range(len(some))],
            awake=np.arange(len(some)) % 3 == 0,
            cells=np.arange(4 * len(some)).reshape(-1, 2, 2),
            label=[("", "é", "wxyz")[i % 3] for i in range(len(some))],
            born=np.datetime64("2001-02-03T04:05:06"),
            friend=some[::-1],
        ),
    )
    for i in range(5):
        friends = [ids[i], ids[2 * i]] if i else []
        story = GoldenStory(title="naïve " * i, seal=bytes(range(i)), path=[0.1] * i, crew=friends)
        world.insert(ids[10 * i + 1], story)
    world.spawn_with_stable_id(StableId(7), GoldenMark())
    world.spawn_with_stable_id(StableId((1 << 128) - 1))
    return world


def golden_world():
    """The same with all else that a world can hold."""
    world = plain_part()
    world.metadata = {"name": "golden", "list": [1, 2.5, None, True, {"deep": "é"}]}
    world.version = 9
    world.resources.insert(GoldenClock(tick=-5))
    world.rngs.restore({"dice": np.random.PCG64(42).state})
    return world


FILES = {
    "v1_iso.pecs": plain_part,
    "v1_we.pecs": plain_part,
    "v2_raw.pecs": golden_world,
    "v2_zstd.pecs": golden_world,
    "v2_lz4.pecs": golden_world,
    "v2_zstd_plain.pecs": golden_world,
}


# One after the other, each to the one before.
DELTAS = ("deltas/1_raw.pecs", "deltas/2_zstd.pecs")


def golden_changes(world, step):
    """Change the world in every way that a delta tells of."""
    ids = world.entities()
    world.spawn_with_stable_id(
        StableId(1000 + step),
        GoldenStory(title="né" * step, path=[0.5] * step, crew=[ids[0], 0]),
        GoldenMark(),
    )
    world.despawn(world.get_entity_id(StableId((1 << 64) + 10 * step)))
    world.despawn(world.get_entity_id(StableId((1 << 64) + 50 + step)))
    chosen = [world.get_entity_id(StableId((1 << 64) + 30 + i + step)) for i in range(6)]
    world.insert(np.array(chosen), GoldenPlace(x=np.arange(6) + step, y=0.25), GoldenMark())
    world.remove(np.array(chosen[:1]), GoldenPlace)
    friend = world.get_entity_id(StableId((1 << 64) + 60))
    world.get(friend, GoldenBeing).friend = chosen[3]
    world.get(friend, GoldenBeing).mood = GoldenMood.WILD
    if step == 1:
        world.resources.insert(GoldenClock(tick=77))
        world.metadata = {"step": step}


def test_there_is_a_test_for_each_file():
    assert sorted(DELTAS) == sorted(str(path.relative_to(DATA)) for path in DATA.glob("*/*.pecs"))
    assert sorted((*FILES, *DELTAS)) == sorted(DIGESTS)
    assert sorted(FILES) == sorted(path.name for path in DATA.glob("*.pecs"))


@pytest.mark.parametrize("name", DIGESTS)
def test_a_golden_file_is_as_it_was_written(name):
    assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("name", FILES)
def test_a_golden_file_loads_as_the_world_it_was(name):
    assert_worlds_equal(World.load(DATA / name), FILES[name]())
    with pecs_np.open(DATA / name) as save:
        save.verify()
        assert_worlds_equal(World.from_snapshot(save.snapshot()), FILES[name]())


@pytest.mark.parametrize("count", [0, 1, 2])
def test_golden_deltas_load_as_the_world_it_became(count):
    world = golden_world()
    for step in range(1, count + 1):
        golden_changes(world, step)
    assert_worlds_equal(World.load(DATA / "v2_raw.pecs", deltas=[DATA / d for d in DELTAS[:count]]), world)


def test_golden_deltas_follow_one_another_and_say_when():
    first, second = (read_delta(DATA / name) for name in DELTAS)
    with pecs_np.open(DATA / "v2_raw.pecs") as save:
        assert first.base_id == save.save_id
    assert second.base_id == first.save_id
    assert (first.changes.timestamp, second.changes.timestamp) == (1_700_000_000.25, 1_700_000_001.25)
    assert (first.changes.world is None, second.changes.world is None) == (False, True)


def test_deltas_are_still_written_so():
    data = (DATA / DELTAS[0]).read_bytes()
    delta = read_delta(DATA / DELTAS[0])
    written = b"".join(encode_delta(delta.changes, base_id=delta.base_id))
    # All sections; the head names the version that wrote it.
    start = (data.index(b"\0\0\0\0", data.index(b'"tables":')) + 63) // 64 * 64
    assert written[start:-8] == data[start:-8]


@pytest.mark.parametrize(("name", "checksum"), [("v1_iso.pecs", "iso"), ("v1_we.pecs", "we")])
def test_version_1_is_still_written_so(name, checksum):
    plugin = BinaryPlugin(version=1, checksum=checksum)
    assert World.load(DATA / name).to_bytes(plugin) == (DATA / name).read_bytes()


def test_version_2_is_still_written_so():
    data = (DATA / "v2_raw.pecs").read_bytes()
    written = World.load(DATA / "v2_raw.pecs").to_bytes()
    # All sections; the head names the version that wrote it.
    start = data.index(b"\0\0\0\0", data.index(b'"tables":')) // 64 * 64
    assert written[start:-8] == data[start:-8]


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("v2")])
def test_golden_files_open_without_the_classes(name):
    classes = {
        cls._type.name: cls for cls in (GoldenPlace, GoldenBeing, GoldenStory, GoldenMark, GoldenClock)
    }
    for known in classes:
        unregister(known)
    try:
        with pecs_np.open(DATA / name) as save:
            assert [t.name for t in save.types] == sorted(classes)
            assert sorted(save["Golden.Place"]["x"])[3] == 1.5
            friends = save.column("Golden.Being", "friend")
            assert (np.sort(friends) == np.sort(save.entities("Golden.Being"))).all()
            assert sorted(save.column("Golden.Story", "title"))[1] == "naïve "
            assert save.resources["Golden.Clock"]["tick"] == -5
        assert len(World.load(DATA / name)) == 202
    finally:
        for cls in classes.values():
            register(cls._type.name, cls)
