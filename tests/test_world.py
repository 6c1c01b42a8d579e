"""The verbs by which a world saves and loads itself."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    ComponentValueError,
    CorruptedDataError,
    EntityRef,
    InvalidFormatError,
    PersistenceError,
    PersistenceIOError,
    World,
    component,
)


@component
class SavedPosition:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class SavedNote:
    text: str
    about: EntityRef = 0


@component
class SavedClock:
    tick: int = 0


@pytest.fixture
def world():
    world = World(seed=7, version=3, metadata={"name": "Île", "levels": [1, 2.5, None, True, {"deep": []}]})
    ids = world.spawn_batch(SavedPosition(x=[1, 2, 3], y=[4, 5, 6]))
    world.spawn(SavedNote("héllo\0", ids[1]), SavedPosition(9, 9))
    world.resources.insert(SavedClock(41))
    world.rngs.create("dice")
    return world


def test_save_and_load_give_an_equal_world_of_the_users_class(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    back = World.load(tmp_path / "a.pecs")
    assert type(back) is pecs_np.World
    assert back.to_bytes() == world.to_bytes() == (tmp_path / "a.pecs").read_bytes()
    assert back.validate()


def test_loading_into_a_subclass_gives_that_subclass(world, tmp_path):
    class Game(World):
        pass

    world.save(tmp_path / "a.pecs")
    assert type(Game.load(tmp_path / "a.pecs")) is Game
    assert type(Game.from_bytes(world.to_bytes())) is Game


@pytest.mark.parametrize("as_path", [str, Path])
def test_paths_are_texts_or_path_objects(world, tmp_path, as_path):
    path = as_path(tmp_path / "a.pecs")
    world.save(path)
    world.save_binary(path)
    assert len(World.load(path)) == len(World.load_binary(path)) == 4


def test_any_suffix_holds_the_binary_format_if_asked_for(world, tmp_path):
    world.save_binary(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes()[:4] == b"PECS"
    assert len(World.load(tmp_path / "a.json")) == 4


def test_file_objects_are_written_and_read_where_they_stand(world):
    file = io.BytesIO()
    file.write(b"before")
    world.save_binary(file)
    file.seek(6)
    assert World.load_binary(file).to_bytes() == world.to_bytes()


def test_bytes_come_in_any_kind_of_buffer(world):
    data = world.to_bytes()
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        assert World.from_bytes(buffer).to_bytes() == data


def test_a_loaded_world_does_not_share_memory_with_its_bytes(world):
    data = bytearray(world.to_bytes())
    back = World.from_bytes(data)
    before = back.to_bytes()
    data[:] = bytes(len(data))
    assert back.to_bytes() == before
    for position in back.query(SavedPosition):
        position.x += 1
    assert back.to_bytes() != before


def test_one_file_loads_into_worlds_that_do_not_share_anything(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    first, second = World.load(tmp_path / "a.pecs"), World.load(tmp_path / "a.pecs")
    for position in first.query(SavedPosition):
        position.x += 1
    first.metadata["levels"].append("more")
    first.resources.get(SavedClock).tick += 1
    first.rngs["dice"].random()
    assert second.to_bytes() == world.to_bytes()


def test_version_and_metadata_come_back(world):
    back = World.from_bytes(world.to_bytes())
    assert back.version == 3
    assert back.metadata == world.metadata


@pytest.mark.parametrize("metadata", [[1, 2], "text", 3])
def test_metadata_other_than_an_object_is_refused_or_comes_back(metadata):
    try:
        data = World(metadata=metadata).to_bytes()
    except pecs_np.PecsError:
        return
    assert World.from_bytes(data).metadata == metadata


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 2**70, (1, 2), {1: 2}, b"bytes", "\ud800", np.float32(1), {"a", "b"}],
)
def test_metadata_that_json_would_change_is_refused_and_the_old_file_stays(tmp_path, value):
    World(seed=1).save(tmp_path / "a.pecs")
    before = (tmp_path / "a.pecs").read_bytes()
    with pytest.raises(PersistenceError):
        World(metadata={"list": [value]}).save(tmp_path / "a.pecs")
    assert (tmp_path / "a.pecs").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pecs"]


def test_a_value_that_cannot_be_saved_leaves_the_old_file(world, tmp_path):
    path = tmp_path / "a.pecs"
    world.save(path)
    before = path.read_bytes()
    world.spawn(SavedNote("\ud800"))
    with pytest.raises(ComponentValueError, match="SavedNote"):
        world.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.pecs"]


def test_backup_keeps_the_save_before(world, tmp_path):
    path = tmp_path / "a.pecs"
    world.save(path)
    first = path.read_bytes()
    world.spawn()
    world.save(path, backup=True, durable=False)
    assert Path(f"{path}.bak").read_bytes() == first
    assert len(World.load(path)) == len(World.load(f"{path}.bak")) + 1


def test_generators_go_on_as_if_nothing_had_happened(world):
    kinds = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
    for kind in kinds:
        world.rngs[kind] = np.random.Generator(getattr(np.random, kind)(5))
        world.rngs[kind].integers(10, dtype=np.uint32, size=3)
    back = World.from_bytes(world.to_bytes())
    for name in (*kinds, "dice"):
        assert type(back.rngs[name].bit_generator) is type(world.rngs[name].bit_generator)
        drawn = back.rngs[name].integers(2**32, dtype=np.uint32, size=700).tolist()
        assert drawn == world.rngs[name].integers(2**32, dtype=np.uint32, size=700).tolist()
        assert back.rngs[name].normal() == world.rngs[name].normal()


def test_new_generators_and_stable_ids_of_a_seeded_world_go_on(world):
    back = World.from_bytes(world.to_bytes())
    assert back.rngs.create("new").random() == world.rngs.create("new").random()
    ours, theirs = world.spawn_batch(count=5), back.spawn_batch(count=5)
    assert world.get_stable_id(ours).tolist() == back.get_stable_id(theirs).tolist()
    assert back.validate()


@pytest.mark.parametrize("name", ["pecs.stable_ids", "\ud800", "", "ünï"])
def test_a_generator_of_any_name_is_refused_or_comes_back(name):
    world = World()
    try:
        world.rngs[name] = np.random.Generator(np.random.PCG64(1))
        data = world.to_bytes()
    except pecs_np.PecsError:
        return
    assert World.from_bytes(data).rngs[name].random() == world.rngs[name].random()


def test_new_entities_of_a_loaded_unseeded_world_have_new_stable_ids():
    world = World()
    world.spawn_batch(count=10)
    back = World.from_bytes(world.to_bytes())
    back.spawn_batch(count=10)
    assert back.validate()
    assert len(World.from_bytes(back.to_bytes())) == 20


def test_stable_ids_chosen_just_ahead_of_the_source_are_not_given_twice():
    world = World(seed=1)
    ahead = world.get_stable_id(world.spawn()) + 1
    world.spawn_with_stable_id(ahead)
    world.spawn()
    assert world.validate()
    assert len(World.from_bytes(world.to_bytes())) == 3


def test_resources_come_back_and_refer_to_entities():
    world = World()
    target = world.spawn(SavedPosition(1, 2))
    world.despawn(world.spawn_batch(count=3))
    world.resources.insert(SavedNote("camera", target))
    world.resources.insert(SavedClock(-5))
    back = World.from_bytes(world.to_bytes())
    note = back.resources.get(SavedNote)
    assert note.text == "camera"
    assert back.get_stable_id(note.about) == world.get_stable_id(target)
    assert back.resources.get(SavedClock).tick == -5
    assert len(back) == 1


def test_resources_without_any_entity_come_back():
    world = World()
    world.resources.insert(SavedNote("alone", 99))
    back = World.from_bytes(world.to_bytes())
    assert back.resources.get(SavedNote).text == "alone"
    assert back.resources.get(SavedNote).about == 0
    assert len(back) == 0


def test_a_save_may_go_through_a_file_while_the_world_goes_on(world, tmp_path):
    path = tmp_path / "a.pecs"
    for step in range(5):
        world.spawn(SavedPosition(step, step))
        world.despawn(int(world.entities()[0]))
        world.save(path, durable=False)
        assert World.load(path).to_bytes() == world.to_bytes()


def test_loading_what_is_not_there_is_an_error_of_the_library(tmp_path):
    for path in (tmp_path / "missing.pecs", tmp_path):
        with pytest.raises(PersistenceIOError) as caught:
            World.load(path)
        assert caught.value.filename == str(path)


def test_loading_what_is_no_save_is_an_error_that_names_the_file(tmp_path):
    for content in (b"", b"P", b"PK\x03\x04 something else", b"{}"):
        (tmp_path / "a.pecs").write_bytes(content)
        with pytest.raises(InvalidFormatError, match=r"a\.pecs"):
            World.load(tmp_path / "a.pecs")


def test_loading_a_damaged_file_names_file_and_place(world, tmp_path):
    data = bytearray(world.to_bytes())
    data[-20] ^= 1
    (tmp_path / "a.pecs").write_bytes(data)
    with pytest.raises(CorruptedDataError, match=r"at byte \d+ of .*a\.pecs") as caught:
        World.load(tmp_path / "a.pecs")
    assert "backup" in caught.value.suggestion


@pytest.mark.parametrize("data", [None, 5, "PECS", ["PECS"], object()])
def test_from_bytes_of_something_else_is_refused(data):
    with pytest.raises(pecs_np.PecsError):
        World.from_bytes(data)


def test_an_empty_world_comes_back_empty():
    back = World.from_bytes(World().to_bytes())
    assert len(back) == 0
    assert back.metadata == {}
    assert back.version == 1
