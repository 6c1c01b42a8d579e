"""Formats told by path and by content."""

from __future__ import annotations

import os
import threading

import pytest

from pecs_np import BinaryPlugin, InvalidFormatError, JsonPlugin, PersistencePlugin, World
from pecs_np.persistence.formats import BINARY, JSON, AnyFormat, for_path
from pecs_np.testing import assert_worlds_equal


class Zero(PersistencePlugin):
    """The number of entities in unary."""

    suffixes = (".zero", ".nought")

    def encode(self, snapshot):
        return [b"0" * snapshot.entity_count]

    def decode(self, data, name):
        world = World()
        world.spawn_batch(count=len(data))
        return world.snapshot(copy=True)

    def format_name(self):
        return "zero"

    def format_version(self):
        return 1


@pytest.fixture
def world():
    world = World(seed=1)
    world.spawn_batch(count=3)
    return world


@pytest.mark.parametrize("path", ["a.json", "A.JSON", b"x/a.Json", os.path.join("x.pecs", "a.json")])
def test_json_is_for_paths_that_end_so(path):
    assert for_path(path) is JSON


@pytest.mark.parametrize("path", ["a", "a.pecs", "json", "a.json/b", "a.json.gz", None, 5])
def test_binary_is_for_all_others(path):
    assert for_path(path) is BINARY


def test_the_content_tells_the_format_then_the_suffix_then_the_first_is_taken(world, tmp_path):
    formats = AnyFormat([BinaryPlugin(), JsonPlugin(), Zero()])
    for plugin in (BinaryPlugin(), BinaryPlugin(version=1), JsonPlugin(), JsonPlugin.pretty()):
        data = (
            world.to_bytes(plugin) if plugin.format_version() != 1 or plugin.format_name() == "json" else None
        )
        if data is None:
            plain = World.from_snapshot(world.snapshot())
            plain._storage.source.seeded = False
            data = plain.to_bytes(plugin)
        path = tmp_path / "a.zero"
        path.write_bytes(data)
        assert len(World.load_with(path, formats)) == 3
        assert len(World.from_bytes(data, formats)) == 3
    for name in ("a.zero", "b.NOUGHT"):
        (tmp_path / name).write_bytes(b"0000")
        assert len(World.load_with(tmp_path / name, formats)) == 4
    (tmp_path / "c").write_bytes(b"0000")
    with pytest.raises(InvalidFormatError, match="begins with b'PECS'"):
        World.load_with(tmp_path / "c", formats)
    (tmp_path / "d").write_bytes(b"")
    with pytest.raises(InvalidFormatError):
        World.load_with(tmp_path / "d", formats)
    assert (formats.format_name(), formats.format_version()) == ("any", 2)


def test_json_is_recognised_behind_white_space_and_a_mark(world, tmp_path):
    data = world.to_bytes(JsonPlugin())
    for before in (b"", b" \n\t\r ", b"\xef\xbb\xbf", b"\xef\xbb\xbf \n"):
        (tmp_path / "a").write_bytes(before + data)
        assert_worlds_equal(World.load(tmp_path / "a"), world)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_of_a_pipe_only_the_name_tells(world, tmp_path):
    for name, data in (("a.json", world.to_bytes(JsonPlugin())), ("a.pecs", world.to_bytes())):
        os.mkfifo(tmp_path / name)
        writer = threading.Thread(target=(tmp_path / name).write_bytes, args=(data,))
        writer.start()
        back = World.load(tmp_path / name)
        writer.join()
        assert_worlds_equal(back, world)
