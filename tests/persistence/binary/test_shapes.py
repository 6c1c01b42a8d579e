"""A save of a shape that was read before is checked as any other."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, EntityRef, Limits, PecsError, World, component
from pecs_np.persistence.binary import shapes
from pecs_np.testing import assert_worlds_equal


@component(name="shapes.Point")
class Point:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(name="shapes.Link")
class Link:
    to: EntityRef
    on: bool = True
    text: str = ""


@pytest.fixture(autouse=True)
def nothing_known():
    shapes._known.clear()
    yield
    shapes._known.clear()


def world_of(n=5, seed=1):
    world = World(seed=seed, metadata={"seed": seed})
    ids = world.spawn_batch(Point(x=np.random.default_rng(seed).random(n, np.float32), y=seed))
    world.insert(ids[:2], Link(to=ids[-1], text=f"t{seed}"))
    world.resources.insert(Point(seed, 2))
    return world


def failure(data, plugin=None):
    try:
        World.from_bytes(data, plugin)
    except PecsError as error:
        return type(error), str(error)
    return None


def test_what_differs_in_values_only_is_recalled(monkeypatch):
    first, second = world_of(seed=1), world_of(seed=2)
    second.metadata = first.metadata
    assert_worlds_equal(World.from_bytes(first.to_bytes()), first)
    assert len(shapes._known) == 1
    again = World(seed=1, metadata=first.metadata)
    again.restore(first.snapshot(copy=True))
    for point in again.query(Point):
        point.matrix = 7
    recalled = []
    recall = shapes.recall
    monkeypatch.setattr(
        pecs_np.persistence.binary.plugin,
        "recall",
        lambda *args: recalled.append(recall(*args)) or recalled[-1],
    )
    assert_worlds_equal(World.from_bytes(again.to_bytes()), again)
    assert recalled[-1] is not None
    # A seeded world's next ids stand in the schema.
    assert_worlds_equal(World.from_bytes(second.to_bytes()), second)
    assert recalled[-1] is None


def test_every_damaged_byte_is_told_as_it_is_without():
    data = bytearray(world_of().to_bytes())
    for at in range(len(data)):
        data[at] ^= 0x10
        damaged = bytes(data)
        data[at] ^= 0x10
        shapes._known.clear()
        without = failure(damaged)
        assert without is not None, at
        World.from_bytes(data)
        assert len(shapes._known) == 1
        assert failure(damaged) == without, at


def test_compressed_saves_go_the_long_way():
    pytest.importorskip("backports.zstd")
    world = World()
    world.spawn_batch(Point(), count=10_000)
    assert_worlds_equal(World.from_bytes(world.to_bytes(BinaryPlugin(compression="zstd"))), world)
    assert not shapes._known


def test_every_cut_is_told_as_it_is_without():
    data = world_of().to_bytes()
    for length in range(len(data)):
        shapes._known.clear()
        without = failure(data[:length])
        World.from_bytes(data)
        assert failure(data[:length]) == without
    assert failure(data + b"\0") is not None


def test_limits_are_those_of_the_plugin_that_reads():
    data = world_of(1000).to_bytes()
    World.from_bytes(data)
    strict = BinaryPlugin(limits=Limits(types=1))
    assert failure(data, strict) is not None
    assert failure(data) is None


def test_types_defined_anew_are_seen():
    cls = pecs_np.make_component("shapes.Anew", {"x": np.float32})
    world = World()
    world.spawn(cls(1.0))
    data = world.to_bytes()
    assert type(World.from_bytes(data).get(1, "shapes.Anew")) is cls
    pecs_np.unregister("shapes.Anew")
    other = pecs_np.make_component("shapes.Anew", {"x": np.float64})
    with pytest.raises(PecsError, match="as defined here"):
        World.from_bytes(data)
    pecs_np.unregister("shapes.Anew")
    assert other is not type(World.from_bytes(data).get(1, "shapes.Anew"))


def test_worlds_of_one_shape_have_metadata_of_their_own():
    data = world_of().to_bytes()
    first, second = World.from_bytes(data), World.from_bytes(data)
    first.metadata["seed"] = 5
    assert second.metadata == {"seed": 1}


def test_not_more_shapes_are_kept_than_that():
    for n in range(1, 100):
        World.from_bytes(world_of(n + 2).to_bytes())
    assert len(shapes._known) <= 64


def test_files_and_bytes_share_what_is_known(tmp_path):
    world = world_of()
    path = tmp_path / "a.pecs"
    world.save(path)
    for _ in range(2):
        assert_worlds_equal(World.load(path), world)
    assert_worlds_equal(World.from_bytes(world.to_bytes()), world)
    assert len(shapes._known) == 1


def test_threads_read_more_shapes_than_are_kept():
    saves = [world_of(n).to_bytes() for n in range(5, 5 + shapes._MOST + 16)]
    failed = []

    def read(seed):
        rng = np.random.default_rng(seed)
        try:
            for i in rng.integers(len(saves), size=300).tolist():
                assert World.from_bytes(saves[i]).to_bytes() == saves[i]
        except BaseException as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    if failed:
        raise failed[0]
    assert len(shapes._known) == shapes._MOST
