"""`BinaryPlugin`: from bytes, from files, under limits."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    BinaryPlugin,
    CompressionType,
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
    World,
    WorldError,
    component,
)
from pecs_np.testing import assert_worlds_equal


@component
class BinaryPoint:
    x: np.float64 = 0.0


@component
class BinaryName:
    name: str


@pytest.fixture
def world():
    world = World(seed=3)
    world.spawn_batch(BinaryPoint(x=np.arange(5000.0)))
    world.spawn_batch(BinaryName(name=["a", "é"]), BinaryPoint(1))
    return world


def joined(buffers):
    return b"".join(bytes(buffer) for buffer in buffers)


def test_it_says_what_it_is():
    assert BinaryPlugin().format_name() == "binary"
    assert BinaryPlugin().format_version() == 2
    assert not BinaryPlugin().can_load_version(3)


def test_what_it_encodes_is_what_worlds_save(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    data = (tmp_path / "a.pecs").read_bytes()
    assert joined(BinaryPlugin().encode(world.snapshot())) == data == world.to_bytes()


def test_bytes_and_files_give_equal_snapshots(world, tmp_path):
    path = tmp_path / "a.pecs"
    world.save(path)
    plugin = BinaryPlugin()
    for snapshot in (
        plugin.decode(path.read_bytes()),
        plugin.decode_file(path),
        plugin.decode_file(str(path)),
    ):
        assert len(snapshot) == 5002
        assert joined(plugin.encode(snapshot)) == path.read_bytes()


def test_columns_that_were_read_can_be_written_to(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    for snapshot in (
        BinaryPlugin().decode(world.to_bytes()),
        BinaryPlugin().decode_file(tmp_path / "a.pecs"),
    ):
        back = World.from_snapshot(snapshot)
        for points in back.query(BinaryPoint):
            points.x += 1
        assert back.column(BinaryPoint)["x"].sum() == world.column(BinaryPoint)["x"].sum() + 5002


def test_one_snapshot_makes_one_world_and_copies_make_more(world):
    snapshot = BinaryPlugin().decode(world.to_bytes())
    second, first = World.from_snapshot(snapshot.copy()), World.from_snapshot(snapshot)
    with pytest.raises(WorldError, match=r"snapshot\.copy"):
        World.from_snapshot(snapshot)
    for points in first.query(BinaryPoint):
        points.x = -1
    assert second.to_bytes() == world.to_bytes()


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b""), b"PEC", np.zeros(0, np.uint8)])
def test_too_few_bytes_are_no_save(data):
    with pytest.raises(InvalidFormatError):
        BinaryPlugin().decode(data)


def test_a_strided_view_is_read_as_its_bytes(world):
    data = world.to_bytes()
    doubled = bytes(byte for byte in data for _ in range(2))
    snapshot = BinaryPlugin().decode(memoryview(doubled)[::2])
    assert World.from_snapshot(snapshot).to_bytes() == data


def test_the_name_given_stands_in_messages():
    with pytest.raises(InvalidFormatError, match="attachment 5"):
        BinaryPlugin().decode(b"nothing", "attachment 5")


def test_limits_hold_for_files_and_readers_too(world, tmp_path):
    world.save(tmp_path / "a.pecs")
    plugin = BinaryPlugin(limits=Limits(total_size=1000))
    with pytest.raises(LimitExceededError, match=r"a\.pecs"):
        plugin.decode_file(tmp_path / "a.pecs")
    with pytest.raises(LimitExceededError):
        plugin.load(io.BytesIO(world.to_bytes()))
    with pytest.raises(LimitExceededError):
        World.load_with(tmp_path / "a.pecs", plugin)


def test_a_file_is_closed_again_whether_it_loads_or_not(world, tmp_path):
    world.save(tmp_path / "good.pecs")
    (tmp_path / "bad.pecs").write_bytes(world.to_bytes()[:-1])
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        World.load(tmp_path / "good.pecs")
        with pytest.raises(PecsError):
            World.load(tmp_path / "bad.pecs")
    assert len(os.listdir("/dev/fd")) == before


def test_opening_what_is_no_file_is_an_error_of_the_library(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PersistenceIOError):
            BinaryPlugin().decode_file(path)


def test_large_heads_are_read_from_files_in_pieces(define, tmp_path):
    world = World(metadata={"text": "é" * 300_000})
    for i in range(200):
        world.spawn(define(f"BinaryMany{i}", {"x": np.int16})(i))
    world.save(tmp_path / "a.pecs")
    assert (
        World.load(tmp_path / "a.pecs").to_bytes() == world.to_bytes() == (tmp_path / "a.pecs").read_bytes()
    )


PLUGINS = {
    "raw": BinaryPlugin(),
    "zstd": BinaryPlugin(compression="zstd"),
    "zstd hard": BinaryPlugin(compression="zstd", level=19, threads=1),
    "zstd fast": BinaryPlugin(compression="zstd", level=-5, shuffle=False),
    "lz4": BinaryPlugin(compression="lz4"),
    "lz4 hard": BinaryPlugin(compression="lz4", level=9, threads=3),
    "version 1": BinaryPlugin(version=1),
    "version 1 we": BinaryPlugin(version=1, checksum="we"),
}
plugins = pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)


@plugins
@pytest.mark.parametrize(
    "reading", [BinaryPlugin(), BinaryPlugin(version=1), BinaryPlugin(compression="lz4")]
)
def test_every_form_is_read_whatever_options_are_set(world, tmp_path, plugin, reading):
    data = world.to_bytes(plugin)
    path = tmp_path / "a.pecs"
    path.write_bytes(data)
    for snapshot in (
        reading.decode(data),
        reading.decode_file(path),
        reading.decode_stream(io.BytesIO(data)),
        reading.load(io.BytesIO(data)).snapshot(),
        World.load(path).snapshot(),
        World.load_with(path, reading).snapshot(),
        World.from_bytes(data).snapshot(),
        World.from_bytes(data, reading).snapshot(),
        World.load_binary_stream(io.BytesIO(data)).snapshot(),
    ):
        back = World.from_snapshot(snapshot.copy())
        assert_worlds_equal(back, world)
        assert back.to_bytes(plugin) == data


@plugins
def test_the_same_bytes_go_to_files_and_streams_and_come_as_bytes(world, tmp_path, plugin):
    data = world.to_bytes(plugin)
    world.save_with(tmp_path / "a", plugin)
    stream = io.BytesIO()
    plugin.save(world, stream)
    assert data == (tmp_path / "a").read_bytes() == stream.getvalue() == world.to_bytes(plugin)
    assert joined(plugin.encode(world.snapshot())) == joined(plugin.encode_stream(world.snapshot())) == data


def test_what_a_form_looks_like(world):
    starts = {
        name: (int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little"))
        for name, data in ((name, world.to_bytes(plugin)) for name, plugin in PLUGINS.items())
    }
    assert starts == {
        "raw": (2, 8),
        "zstd": (2, 9),
        "zstd hard": (2, 9),
        "zstd fast": (2, 9),
        "lz4": (2, 10),
        "lz4 hard": (2, 10),
        "version 1": (1, 0),
        "version 1 we": (1, 0),
    }
    one, other = world.to_bytes(PLUGINS["version 1"]), world.to_bytes(PLUGINS["version 1 we"])
    assert one[:-8] == other[:-8]
    assert one[-8:] != other[-8:]
    assert (
        len(world.to_bytes(PLUGINS["zstd hard"]))
        < len(world.to_bytes(PLUGINS["zstd"]))
        < len(world.to_bytes())
    )


def test_what_a_plugin_says_of_itself():
    assert repr(PLUGINS["raw"]) == "BinaryPlugin(version=2)"
    assert repr(PLUGINS["version 1"]) == "BinaryPlugin(version=1)"
    assert repr(PLUGINS["lz4"]) == "BinaryPlugin(version=2, compression='lz4')"
    assert PLUGINS["version 1"].format_version() == 1
    assert {plugin.format_name() for plugin in PLUGINS.values()} == {"binary"}


@plugins
def test_the_versions_that_can_be_loaded_do_not_depend_on_the_one_that_is_written(plugin):
    assert [version for version in (-1, 0, 1, 2, 3, 10**9) if plugin.can_load_version(version)] == [1, 2]
    for version in ("2", None, 1.5, b"1"):
        assert not plugin.can_load_version(version)


@pytest.mark.parametrize("version", [0, 3, 2**32 - 1])
def test_a_save_of_a_version_that_cannot_be_loaded_is_refused_by_its_number(world, tmp_path, version):
    data = bytearray(world.to_bytes())
    data[4:8] = version.to_bytes(4, "little")
    (tmp_path / "a").write_bytes(data)
    for load in (
        lambda: BinaryPlugin().decode(data),
        lambda: BinaryPlugin().load(io.BytesIO(data)),
        lambda: World.load(tmp_path / "a"),
    ):
        with pytest.raises(UnsupportedVersionError, match=f"found version {version}") as caught:
            load()
        assert (caught.value.found, caught.value.expected) == (version, 2)


@pytest.mark.parametrize("codec", ["zstd", "lz4", CompressionType.Zstd, CompressionType.Lz4])
def test_with_compression_is_short_for_the_option(world, codec):
    plugin = BinaryPlugin.with_compression(codec)
    assert plugin.packing == BinaryPlugin(compression=codec).packing
    assert plugin.packing.codec == codec
    assert world.to_bytes(plugin) == world.to_bytes(BinaryPlugin(compression=codec))

    class Mine(BinaryPlugin):
        pass

    assert type(Mine.with_compression(codec)) is Mine


OPTIONS = {
    "version 0": ({"version": 0}, "expected version 1 or 2"),
    "version 3": ({"version": 3}, "expected version 1 or 2"),
    "version as text": ({"version": "2"}, "expected version 1 or 2"),
    "version None": ({"version": None}, "expected version 1 or 2"),
    "version True": ({"version": True}, "expected version 1 or 2"),
    "version 2.0": ({"version": 2.0}, "expected version 1 or 2"),
    "version an array": ({"version": np.array([1, 2])}, "expected version 1 or 2"),
    "another checksum": ({"version": 1, "checksum": "crc32"}, "expected checksum 'iso' or 'we'"),
    "checksum None": ({"version": 1, "checksum": None}, "expected checksum 'iso' or 'we'"),
    "checksum an array": (
        {"version": 1, "checksum": np.array(["iso", "we"])},
        "expected checksum 'iso' or 'we'",
    ),
    "checksum we for columns": ({"checksum": "we"}, "expected version 1 with checksum 'we'.*pass version=1"),
    "compressed records": ({"version": 1, "compression": "zstd"}, "expected no compression with version 1"),
    "another codec": ({"compression": "gzip"}, "expected compression 'zstd' or 'lz4', found 'gzip'"),
    "a codec in capitals": ({"compression": "ZSTD"}, "expected compression 'zstd' or 'lz4'"),
    "a codec without a name": ({"compression": ""}, "expected compression 'zstd' or 'lz4'"),
    "a codec in a list": ({"compression": ["zstd"]}, "expected compression 'zstd' or 'lz4'"),
    "a codec as bytes": ({"compression": b"zstd"}, "expected compression 'zstd' or 'lz4'"),
    "compression True": ({"compression": True}, "expected compression 'zstd' or 'lz4'"),
    "a level alone": ({"level": 3}, "expected a level only with compression"),
    "level 0 alone": ({"level": 0}, "expected a level only with compression"),
    "level 23": ({"compression": "zstd", "level": 23}, "expected a level of zstd from .* to 22, found 23"),
    "lz4 level 17": ({"compression": "lz4", "level": 17}, "expected a level of lz4 from .* to 16, found 17"),
    "a level too low": ({"compression": "lz4", "level": -(10**6)}, "expected a level of lz4"),
    "level as text": ({"compression": "zstd", "level": "3"}, "expected a level of zstd"),
    "level 3.0": ({"compression": "zstd", "level": 3.0}, "expected a level of zstd"),
    "level True": ({"compression": "zstd", "level": True}, "expected a level of zstd"),
    "no thread": ({"threads": 0}, "expected a number of threads from 1, found 0"),
    "less than no thread": ({"compression": "zstd", "threads": -1}, "expected a number of threads from 1"),
    "threads as text": ({"threads": "2"}, "expected a number of threads from 1"),
    "threads 1.5": ({"compression": "lz4", "threads": 1.5}, "expected a number of threads from 1"),
    "threads True": ({"threads": True}, "expected a number of threads from 1"),
    "limits as a number": ({"limits": 5}, "expected Limits, found 5"),
    "limits as a dict": ({"limits": {}}, "expected Limits, found {}"),
    "limits as a class": ({"limits": Limits}, "expected Limits"),
    "limits False": ({"limits": False}, "expected Limits"),
}


@pytest.mark.parametrize("options", OPTIONS)
def test_options_that_do_not_go_together_are_refused(options):
    given, message = OPTIONS[options]
    with pytest.raises(PersistenceError, match=message):
        BinaryPlugin(**given)


def test_options_have_to_be_named():
    with pytest.raises(TypeError):
        BinaryPlugin(2)
    with pytest.raises(TypeError):
        BinaryPlugin(depth=3)


@pytest.mark.parametrize("level", [-131072, -1, 0, 1, 22])
def test_every_level_of_zstd_gives_the_world_back(world, level):
    plugin = BinaryPlugin(compression="zstd", level=level)
    assert_worlds_equal(World.from_bytes(world.to_bytes(plugin)), world)


@pytest.mark.parametrize("level", [-65536, -1, 0, 3, 16])
def test_every_level_of_lz4_gives_the_world_back(world, level):
    plugin = BinaryPlugin(compression="lz4", level=level)
    assert_worlds_equal(World.from_bytes(world.to_bytes(plugin)), world)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_the_number_of_threads_changes_nothing_in_the_bytes(codec):
    world = World(seed=1)
    world.spawn_batch(BinaryPoint(x=np.sqrt(np.arange(400_000))))
    one, *more = (world.to_bytes(BinaryPlugin(compression=codec, threads=n)) for n in (1, 2, 5))
    assert more == [one, one]
    for threads in (1, 2, 5):
        assert_worlds_equal(World.from_bytes(one, BinaryPlugin(threads=threads)), world)


@plugins
@pytest.mark.parametrize("data", [None, 5, "PECS", ["PECS"], object(), 1.5, {}])
def test_what_is_no_bytes_is_refused(plugin, data):
    for decode in (plugin.decode, lambda d: World.from_bytes(d, plugin)):
        with pytest.raises(InvalidFormatError, match=r"expected the bytes of a save.*use load\(path\)"):
            decode(data)


@plugins
def test_bytes_come_in_any_kind_of_buffer(world, plugin):
    data = world.to_bytes(plugin)
    doubled = np.frombuffer(data, np.uint8).repeat(2)
    for buffer in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), doubled[::2]):
        assert World.from_bytes(buffer, plugin).to_bytes(plugin) == data


@plugins
def test_a_loaded_world_does_not_share_memory_with_its_bytes(world, plugin):
    data = bytearray(world.to_bytes(plugin))
    back = World.from_bytes(data, plugin)
    data[:] = bytes(len(data))
    assert_worlds_equal(back, world)


@plugins
def test_a_decoded_snapshot_belongs_to_the_subclass_that_loads_it(world, plugin, tmp_path):
    class BinaryGame(World):
        pass

    data = world.to_bytes(plugin)
    (tmp_path / "a").write_bytes(data)
    for back in (
        BinaryGame.from_bytes(data, plugin),
        BinaryGame.load(tmp_path / "a"),
        BinaryGame.load_with(tmp_path / "a", plugin),
        BinaryGame.load_with(io.BytesIO(data), plugin),
        BinaryGame.load_binary_stream(io.BytesIO(data)),
    ):
        assert type(back) is BinaryGame
    assert type(plugin.load(io.BytesIO(data))) is World


@plugins
def test_a_file_cut_at_any_length_is_an_error_of_the_library(plugin, tmp_path):
    world = World(seed=1)
    world.spawn_batch(BinaryName(name=["a", "é"]), BinaryPoint(1))
    data = world.to_bytes(plugin)
    path = tmp_path / "a.pecs"
    path.write_bytes(data)
    for length in range(len(data) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises((CorruptedDataError, InvalidFormatError), match=r"a\.pecs"):
            plugin.decode_file(path)


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error_of_reading(world, tmp_path):
    """As when another program writes to it."""
    path = tmp_path / "a.pecs"
    world.save(path)
    with pecs_np.open(path) as save:
        os.truncate(path, 2000)
        with pytest.raises(PersistenceIOError, match="another program changed the file"):
            save["BinaryPoint"]


def test_one_plugin_serves_many_threads(world):
    plugin = BinaryPlugin(compression="zstd", threads=2)
    data = world.to_bytes(plugin)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: world.to_bytes(plugin), range(8))) == {data}
        for back in pool.map(lambda _: World.from_bytes(data, plugin), range(8)):
            assert_worlds_equal(back, world)


@pytest.mark.parametrize("shuffle", ["no", 1, None, np.array([True, False])])
@pytest.mark.parametrize("compression", [None, "lz4"])
def test_shuffle_is_true_or_false(shuffle, compression):
    with pytest.raises(PersistenceError, match="expected True or False for shuffle"):
        BinaryPlugin(compression=compression, shuffle=shuffle)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("what", [None, 5, "x", [], World()])
def test_what_is_no_snapshot_is_not_encoded(version, what):
    plugin = BinaryPlugin(version=version)
    for encode in (plugin.encode, plugin.encode_stream, plugin.to_bytes):
        with pytest.raises(PersistenceError, match=r"expected a Snapshot, found .*; pass world.snapshot"):
            encode(what)
