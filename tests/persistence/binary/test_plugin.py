"""`BinaryPlugin`: from bytes, from files, under limits."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    PersistenceIOError,
    World,
    WorldError,
    component,
)


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
