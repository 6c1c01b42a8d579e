"""The verbs by which a world saves and loads itself."""

from __future__ import annotations

import errno
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    ComponentDefinitionError,
    ComponentValueError,
    CorruptedDataError,
    EntityRef,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
    World,
    component,
    unregister,
)
from pecs_np.persistence import disk
from pecs_np.testing import assert_worlds_equal


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


PLUGINS = {
    "raw": BinaryPlugin(),
    "zstd": BinaryPlugin(compression="zstd"),
    "lz4": BinaryPlugin(compression="lz4"),
}
plugins = pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)


@plugins
def test_to_bytes_and_from_bytes_take_a_format(world, plugin):
    data = world.to_bytes(plugin)
    assert type(data) is bytes
    assert_worlds_equal(World.from_bytes(data, plugin), world)
    assert_worlds_equal(World.from_bytes(data), world)
    assert world.to_bytes(plugin=plugin) == data == World.from_bytes(data, plugin=plugin).to_bytes(plugin)
    assert world.to_bytes(None) == world.to_bytes() == world.to_bytes(BinaryPlugin())


def test_equal_worlds_give_equal_bytes_whatever_was_done_to_them_before():
    def grown(*, detour):
        world = World(seed=5)
        world.spawn_batch(SavedPosition(x=[1, 2, 3]))
        if detour:
            world.resources.insert(SavedClock(1))
            world.metadata["a"] = 1
            world.version = 2
            world.to_bytes()
            world.resources.remove(SavedClock)
            del world.metadata["a"]
            world.version = 1
            for position in world.query(SavedPosition):
                position.x += 1
                world.to_bytes()
                position.x -= 1
        return world

    for plugin in (*PLUGINS.values(), BinaryPlugin(version=1)):
        direct, detour = grown(detour=False), grown(detour=True)
        assert_worlds_equal(direct, detour)
        assert direct.to_bytes(plugin) == detour.to_bytes(plugin)


def test_saving_twice_gives_the_same_bytes_and_a_change_gives_others(world):
    for plugin in PLUGINS.values():
        first = world.to_bytes(plugin)
        assert world.to_bytes(plugin) == first
        for position in world.query(SavedPosition):
            position.x += 1
        second = world.to_bytes(plugin)
        assert second != first
        assert_worlds_equal(World.from_bytes(second), world)


@plugins
def test_save_with_and_load_with_take_paths_and_files(world, tmp_path, plugin):
    path = tmp_path / "a.pecs"
    world.save_with(path, plugin, durable=False)
    assert path.read_bytes() == world.to_bytes(plugin)
    for back in (World.load_with(path, plugin), World.load_with(str(path), plugin), World.load(path)):
        assert_worlds_equal(back, world)
    with open(tmp_path / "b", "w+b") as file:
        world.save_with(file, plugin)
        file.seek(0)
        assert_worlds_equal(World.load_with(file, plugin), world)
        file.seek(0)
        assert_worlds_equal(World.load_binary(file), world)


def test_the_name_says_the_format_to_save_in_and_the_content_the_one_to_load(world, tmp_path):
    for name in ("a.json", "A.JSON", b"b.json"):
        path = os.path.join(os.fsencode(tmp_path) if isinstance(name, bytes) else tmp_path, name)
        world.save(path)
        with open(path, "rb") as file:
            assert file.read(11) == b'{"version":'
        assert_worlds_equal(World.load(path), world)
        world.save_binary(path)
        with open(path, "rb") as file:
            assert file.read(4) == b"PECS"
        assert_worlds_equal(World.load(path), world)
    world.save_json(tmp_path / "c.pecs")
    assert_worlds_equal(World.load(tmp_path / "c.pecs"), world)
    assert_worlds_equal(World.load_json(tmp_path / "c.pecs"), world)
    with pytest.raises(InvalidFormatError):
        World.load_binary(tmp_path / "c.pecs")
    with pytest.raises(InvalidFormatError):
        World.load_json(tmp_path / "a.json")


def test_a_file_is_loaded_whole_before_a_live_world_is_touched(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    live = World(seed=77)
    live.spawn_batch(count=3)
    before = live.to_bytes()
    data = (tmp_path / "a.pecs").read_bytes()
    for damaged in (data[:-1], data[:-9] + b"?" + data[-8:], b"junk", data[: len(data) // 2]):
        (tmp_path / "b.pecs").write_bytes(damaged)
        for mode in ("merge", "overwrite", "exact"):
            with pytest.raises(PersistenceError):
                live.restore(tmp_path / "b.pecs", mode=mode)
        with pytest.raises(PersistenceError):
            live.merge(tmp_path / "b.pecs")
        assert live.to_bytes() == before
    ids = live.merge(tmp_path / "a.pecs")
    assert len(live) == 3 + len(world)
    assert len(ids) == len(world)
    assert live.validate()
    live.restore(tmp_path / "a.pecs", mode="overwrite")
    assert len(live) == 3 + len(world)
    empty = World()
    empty.restore(str(tmp_path / "a.pecs"))
    assert_worlds_equal(empty, world)
    with pytest.raises(PersistenceError, match="expected filter with a path"):
        empty.restore(world.snapshot(), mode="merge", filter=None)


@pytest.mark.parametrize("path", [None, 5, 1.5, [], object(), "a\0b", "", b"\0"])
def test_what_is_no_path_is_an_error_of_the_library(world, path):
    for call in (
        lambda: world.save(path),
        lambda: world.save_binary(path),
        lambda: world.save(path, backup=True, retries=0),
        lambda: World.load(path),
        lambda: World.load_binary(path),
        lambda: World.load_with(path, BinaryPlugin()),
    ):
        with pytest.raises(PersistenceIOError):
            call()


def test_what_is_no_path_has_no_backup():
    for path in ("", None, 5, 1.5, [], object(), "a\0b", b"\0"):
        for load in LOADS.values():
            with pytest.raises(PersistenceIOError):
                load(path, backup=True)


# Backups.


@pytest.fixture
def backed_up(world, tmp_path):
    """A world saved twice, the first of them kept, and the path."""
    path = tmp_path / "game.pecs"
    world.save(path, backup=True)
    assert os.listdir(tmp_path) == ["game.pecs"]
    first = World.load(path)
    world.spawn(SavedPosition(5, 5))
    world.save(path, backup=True)
    assert sorted(os.listdir(tmp_path)) == ["game.pecs", "game.pecs.bak"]
    return first, world, path


def damaged(path, how):
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(
            {
                "empty": b"",
                "cut short": data[:-9],
                "cut in the head": data[:100],
                "junk": b"junk",
                "added to": data + b"\0",
                "damaged head": data[:30] + bytes([data[30] ^ 1]) + data[31:],
                "damaged column": data[:-20] + bytes([data[-20] ^ 1]) + data[-19:],
                "zeros": bytes(len(data)),
            }[how]
        )


DAMAGES = [
    "missing", "a folder", "empty", "cut short", "cut in the head", "junk", "added to", "damaged head",
    "damaged column", "zeros",
]  # fmt: skip
LOADS = {
    "load": World.load,
    "load_binary": World.load_binary,
    "load_with": lambda path, **options: World.load_with(path, BinaryPlugin(), **options),
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_gives_its_backup_with_a_warning_if_asked_for(backed_up, how, load):
    first, _, path = backed_up
    damaged(path, how)
    with pytest.raises(PersistenceError) as refused:
        LOADS[load](path)
    with pytest.warns(UserWarning, match=r"loaded the backup .*game\.pecs\.bak: expected|.*failed") as caught:
        back = LOADS[load](path, backup=True)
    assert len(caught) == 1
    assert str(refused.value) in str(caught[0].message)
    assert_worlds_equal(back, first)
    assert back.validate()
    assert type(back) is World


@pytest.mark.parametrize("form", ["raw", "zstd", "version 1"])
def test_whichever_bit_of_a_file_is_damaged_its_backup_is_loaded(tmp_path, form):
    """Where a bit turned over makes a save look newer than the program, or larger than its limits, too."""
    world = World(seed=1)
    world.spawn_batch(SavedPosition(x=np.zeros(3 if form == "version 1" else 40)))
    path = tmp_path / "game.pecs"
    plugin = BinaryPlugin(version=1) if form == "version 1" else PLUGINS[form]
    for _ in range(2):
        world.save_with(path, plugin, backup=True, durable=False)
    data = path.read_bytes()
    # All bits of header, registry, directory and columns; of the text of the schema one in each byte.
    schema = range(data.find(b'{"writer"'), data.rfind(b"}]}")) if form != "version 1" else ()
    bits = [(at, bit) for at in range(len(data)) for bit in range(8) if at not in schema or bit == at % 8]
    refused = []
    with warnings.catch_warnings(record=True) as warned, open(path, "r+b", buffering=0) as file:
        warnings.simplefilter("always")
        for at, bit in bits:
            file.seek(at)
            file.write(bytes([data[at] ^ 1 << bit]))
            try:
                assert len(World.load(path, backup=True)) == len(world)
            except PersistenceError as error:
                refused.append((at, bit, str(error)))
            file.seek(at)
            file.write(data[at : at + 1])
    assert refused == []
    assert len(warned) == len(bits)


@pytest.mark.parametrize("load", [World.load, World.load_binary])
def test_the_warning_of_a_backup_points_to_who_loaded(backed_up, load):
    _, _, path = backed_up
    damaged(path, "junk")
    with pytest.warns(UserWarning, match="loaded the backup") as caught:
        load(path, backup=True)
    assert caught[0].filename == __file__


def test_the_warning_of_a_backup_points_to_who_loaded_with_a_format(backed_up):
    _, _, path = backed_up
    damaged(path, "junk")
    with pytest.warns(UserWarning, match="loaded the backup") as caught:
        World.load_with(path, BinaryPlugin(), backup=True)
    assert caught[0].filename == __file__


def test_a_sound_file_is_loaded_without_a_look_at_its_backup(backed_up):
    _, world, path = backed_up
    Path(f"{path}.bak").write_bytes(b"junk")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_worlds_equal(World.load(path, backup=True), world)
        Path(f"{path}.bak").unlink()
        assert_worlds_equal(World.load(path, backup=True), world)


@pytest.mark.parametrize("second", ["missing", "empty", "cut short", "damaged column"])
@pytest.mark.parametrize("how", ["missing", "junk", "cut short", "damaged head", "damaged column"])
def test_where_both_are_damaged_the_first_error_is_raised_with_a_note_on_the_second(backed_up, how, second):
    _, _, path = backed_up
    damaged(path, how)
    backup = Path(f"{path}.bak")
    damaged(backup, second)
    with pytest.raises(PersistenceError) as plain:
        World.load(path)
    with pytest.raises(PersistenceError) as of_backup:
        World.load(backup)
    with pytest.raises(type(plain.value)) as caught:
        World.load(path, backup=True)
    assert str(caught.value) == str(plain.value)
    assert caught.value.__notes__ == [f"the backup does not help: {of_backup.value}"]
    assert not hasattr(plain.value, "__notes__")


def test_without_a_backup_the_note_says_that_there_is_none(world, tmp_path):
    with pytest.raises(PersistenceIOError, match="No such file") as caught:
        World.load(tmp_path / "game.pecs", backup=True)
    assert caught.value.filename == str(tmp_path / "game.pecs")
    (note,) = caught.value.__notes__
    assert "game.pecs.bak" in note


def test_a_backup_is_no_help_against_a_program_that_does_not_fit(define, tmp_path):
    path = tmp_path / "a.pecs"
    cls = define("SavedShifting", {"x": np.float32})
    world = World()
    world.spawn(cls(1))
    for _ in range(2):
        world.save(path, backup=True)
    unregister("SavedShifting")
    later = define("SavedShifting", {"x": np.float32}, version=2)
    for load in LOADS.values():
        with pytest.raises(UnsupportedVersionError) as caught:
            load(path, backup=True)
        assert not hasattr(caught.value, "__notes__")
    unregister(later.__name__)
    define("SavedShifting", {"x": np.float64})
    with pytest.raises(ComponentDefinitionError):
        World.load(path, backup=True)


def test_a_backup_is_no_help_against_limits(backed_up):
    _, _, path = backed_up
    with pytest.raises(LimitExceededError) as caught:
        World.load_with(path, BinaryPlugin(limits=Limits(types=0)), backup=True)
    assert "the backup does not help" in caught.value.__notes__[0]


def test_backups_go_through_links_to_the_file_itself(world, tmp_path):
    (tmp_path / "real").mkdir()
    path, link = tmp_path / "real" / "game.pecs", tmp_path / "link.pecs"
    world.save(path)
    link.symlink_to(path)
    first = World.load(link)
    world.spawn()
    world.save(link, backup=True)
    assert link.is_symlink()
    assert sorted(os.listdir(path.parent)) == ["game.pecs", "game.pecs.bak"]
    damaged(path, "junk")
    with pytest.warns(UserWarning, match="loaded the backup"):
        assert_worlds_equal(World.load(link, backup=True), first)


def test_only_the_last_save_is_kept_as_a_backup(world, tmp_path):
    path = tmp_path / "game.pecs"
    counts = []
    for _ in range(4):
        world.spawn()
        world.save(path, backup=True, durable=False)
        counts.append(len(world))
    assert len(World.load(path)) == counts[-1]
    assert len(World.load(f"{path}.bak")) == counts[-2]
    world.save(path, durable=False)
    assert len(World.load(f"{path}.bak")) == counts[-2]
    assert sorted(os.listdir(tmp_path)) == ["game.pecs", "game.pecs.bak"]


def test_a_save_that_fails_leaves_file_and_backup(backed_up):
    first, _, path = backed_up
    before = path.read_bytes(), Path(f"{path}.bak").read_bytes()
    bad = World()
    bad.spawn(SavedNote("\ud800"))
    with pytest.raises(ComponentValueError):
        bad.save(path, backup=True)
    assert (path.read_bytes(), Path(f"{path}.bak").read_bytes()) == before
    assert sorted(os.listdir(path.parent)) == ["game.pecs", "game.pecs.bak"]
    assert_worlds_equal(World.load(f"{path}.bak"), first)


# Retries.


@pytest.fixture
def pauses(monkeypatch):
    """The pauses that saving made, none of which takes time."""
    made = []
    monkeypatch.setattr(disk.system, "sleep", made.append)
    return made


def failing(monkeypatch, call, times, number):
    """Let a system call fail so many times, and count how often it was made."""
    real = getattr(disk.system, call)
    made = []

    def fails(*arguments):
        made.append(arguments)
        if len(made) <= times:
            raise OSError(number, os.strerror(number))
        return real(*arguments)

    monkeypatch.setattr(disk.system, call, fails)
    return made


SAVES = {
    "save": lambda world, path, **options: world.save(path, **options),
    "save_binary": lambda world, path, **options: world.save_binary(path, **options),
    "save_with": lambda world, path, **options: world.save_with(
        path, BinaryPlugin(compression="lz4"), **options
    ),
}


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_save_is_tried_again_as_often_as_was_asked_for(world, tmp_path, monkeypatch, pauses, save, call):
    path = tmp_path / "a.pecs"
    made = failing(monkeypatch, call, 3, errno.EIO)
    SAVES[save](world, path, retries=3)
    assert pauses == [0.1, 0.2, 0.4]
    assert len(made) > 3
    assert_worlds_equal(World.load(path), world)
    assert os.listdir(tmp_path) == ["a.pecs"]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_save_that_fails_more_often_raises_and_leaves_the_old_file(
    world, tmp_path, monkeypatch, pauses, retries
):
    path = tmp_path / "a.pecs"
    path.write_bytes(b"old")
    made = failing(monkeypatch, "replace", 10, errno.EACCES)
    with pytest.raises(PersistenceIOError, match="Permission denied") as caught:
        world.save(path, retries=retries)
    assert caught.value.errno == errno.EACCES
    assert len(made) == retries + 1
    assert pauses == [0.1, 0.2][:retries]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.pecs"]


def test_what_will_not_change_is_not_tried_again(world, tmp_path, pauses):
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "no" / "a", tmp_path / "file" / "a", tmp_path, tmp_path / ("x" * 300) / "a"):
        with pytest.raises(PersistenceIOError):
            world.save(path, retries=5)
    assert pauses == []


def test_what_the_world_holds_is_not_tried_again(tmp_path, pauses):
    world = World()
    world.spawn(SavedNote("\ud800"))
    with pytest.raises(ComponentValueError):
        world.save(tmp_path / "a", retries=5)
    assert pauses == []


@pytest.mark.parametrize("retries", [-1, 1.5, "3", None, True, [1]])
def test_retries_are_a_number_from_0(world, tmp_path, retries):
    for save in SAVES.values():
        with pytest.raises(PersistenceError, match="expected a number of retries from 0, found"):
            save(world, tmp_path / "a", retries=retries)
    assert os.listdir(tmp_path) == []


def test_the_world_may_change_between_two_tries(world, tmp_path, monkeypatch):
    """What is saved is the world of the moment of saving, or an error; never a file that does not load."""
    path = tmp_path / "a.pecs"
    failing(monkeypatch, "replace", 1, errno.EIO)
    monkeypatch.setattr(disk.system, "sleep", lambda _: world.despawn(world.entities()))
    try:
        world.save(path, retries=1)
    except PersistenceError:
        return
    assert World.load(path).validate()


def test_saves_through_a_stream_are_not_tried_again(world, pauses):
    class Refusing:
        calls = 0

        def write(self, data):
            self.calls += 1
            raise OSError(errno.EIO, "Input/output error")

    writer = Refusing()
    with pytest.raises(PersistenceIOError):
        world.save_binary(writer, retries=3)
    assert writer.calls == 1
    assert pauses == []


def test_a_save_that_need_not_be_durable_is_not_flushed(world, tmp_path, monkeypatch):
    flushed = failing(monkeypatch, "fsync", 0, errno.EIO)
    world.save(tmp_path / "a.pecs", durable=False)
    assert flushed == []
    world.save(tmp_path / "a.pecs")
    assert len(flushed) == (2 if os.name == "posix" else 1)


# Streams, in short; the long of it is with the sources and the plugins.


def test_streams_carry_all_of_a_world(world):
    stream = io.BytesIO()
    report = world.save_binary_stream(stream)
    assert (report.bytes, report.entities, report.path) == (len(stream.getvalue()), 4, None)
    assert stream.getvalue() == world.to_bytes()
    stream.write(b"after")
    stream.seek(0)
    back = World.load_binary_stream(stream)
    assert stream.read() == b"after"
    assert_worlds_equal(back, world)
    assert back.to_bytes() == world.to_bytes()
