"""The workloads of ecs_bench_suite do what their definitions say."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from pecs_np import World
from pecs_np.testing import assert_worlds_equal

FOLDER = str(Path(__file__).parents[1] / "asv_benchmarks")
ADD_REMOVE = ("bulk", "commands", "each")


@pytest.fixture(scope="module")
def suite():
    sys.path.insert(0, FOLDER)
    try:
        yield importlib.import_module("benchmarks.ecs_bench_suite")
    finally:
        sys.path.remove(FOLDER)


def ready(cls):
    benchmark = cls()
    benchmark.setup()
    return benchmark


def tables(world):
    """Return the columns of each table by the last letter of the type's name, copied: {"ABC": {"A": …}}."""
    return {
        "".join(name[-1] for name in table.columns): {
            name[-1]: column["value"].copy() for name, column in table.columns.items()
        }
        for table in world.snapshot().tables
    }


def test_simple_insert(suite):
    transform, *vectors = suite.values(10_000)
    world = suite.simple_insert_step(suite.columns(10_000))
    (table,) = world.snapshot().tables
    assert len(world) == len(np.unique(world.stable_ids())) == 10_000
    assert tuple(table.columns) == ("bench.Position", "bench.Rotation", "bench.Transform", "bench.Velocity")
    assert sum(column.nbytes for column in table.columns.values()) == 10_000 * (16 + 3 * 3) * 4
    for column in world.query(suite.Transform):
        assert np.array_equal(column.value, transform)
    for kind, vector in zip((suite.Position, suite.Rotation, suite.Velocity), vectors, strict=True):
        for column in world.query(kind):
            assert np.array_equal(column.matrix, vector)


def test_simple_insert_of_the_same_values(suite):
    world = suite.simple_insert_broadcast_step()
    assert len(world) == 10_000
    for transform, position in world.query(suite.Transform, suite.Position):
        assert (transform.value == np.eye(4)).all()
        assert (position.matrix == [1, 0, 0]).all()


def test_simple_insert_beside_the_same_bytes(suite):
    benchmark = ready(suite.SimpleInsert)
    assert sum(array.nbytes for array in benchmark.arrays) == sum(
        np.asarray(column).nbytes for column in benchmark.columns
    )


def test_simple_iter(suite):
    world = suite.simple_insert_world()
    _, position, rotation, velocity = suite.values(10_000)
    suite.simple_iter_step(world)
    for chunk in world.query(suite.Position, suite.Rotation, suite.Velocity):
        expected = position + velocity, rotation, velocity
        for column, vector in zip(chunk, expected, strict=True):
            assert np.array_equal(column.matrix, vector)


def test_simple_iter_beside_bare_arrays(suite):
    benchmark = ready(suite.SimpleIter)
    benchmark.step()
    benchmark.bare()
    for position in benchmark.world.query(suite.Position):
        assert np.array_equal(position.matrix, benchmark.position)


def test_fragmented_iter(suite):
    world = suite.fragmented_iter_world()
    assert len(world) == 26 * 20
    assert [len(column) for column in world.columns(suite.Data)] == [20] * 26
    for kind in suite.LETTERS:
        assert len(world.column(kind)) == 20
    suite.fragmented_iter_step(world)
    assert (world.column(suite.Data)["value"] == 2).all()
    assert not any(world.column(kind)["value"].any() for kind in suite.LETTERS)
    suite.fragmented_iter_step(world, 0.5)
    assert (world.column(suite.Data)["value"] == 1).all()


def test_fragmented_iter_stays_finite(suite):
    benchmark = ready(suite.FragmentedIter)
    assert benchmark.number == 1
    benchmark.time_100_steps()
    benchmark.time_100_bare()
    data = benchmark.world.column(suite.Data)["value"]
    assert (data == 2.0**100).all()
    assert np.array_equal(data, np.concatenate(benchmark.arrays))
    suite.fragmented_iter_step(world := suite.fragmented_iter_world(), 2.0**127)  # as the docstring says
    assert np.isfinite(world.column(suite.Data)["value"]).all()


def test_schedule(suite):
    world = suite.schedule_world()
    before = tables(world)
    assert {name: len(columns["A"]) for name, columns in before.items()} == dict.fromkeys(
        ("AB", "ABC", "ABCD", "ABCE"), 10_000
    )
    suite.schedule_step(world)
    after = tables(world)
    come_from = {"AB": "BA", "ABC": "BAC", "ABCD": "BADC", "ABCE": "BAEC"}
    for name, sources in come_from.items():
        for kind, source in zip(name, sources, strict=True):
            assert np.array_equal(after[name][kind], before[name][source]), (name, kind)
    suite.schedule_step(world)
    again = tables(world)
    for name, columns in before.items():
        for kind, column in columns.items():
            assert np.array_equal(again[name][kind], column)


def test_schedule_beside_bare_arrays(suite):
    benchmark = ready(suite.Schedule)
    benchmark.step()
    benchmark.bare()
    chunks = [chunk for pair in suite.SWAPS for chunk in benchmark.world.query(*pair)]
    assert len(chunks) == 4 + 1 + 1
    for chunk, pair in zip(chunks, benchmark.pairs, strict=True):
        for column, array in zip(chunk, pair, strict=True):
            assert np.array_equal(column.value, array)


def test_heavy_compute(suite):
    world = suite.heavy_compute_world()
    before, position, *_ = suite.values(1_000)
    suite.heavy_compute_step(world)
    for transform, moved in world.query(suite.Transform, suite.Position):
        assert transform.value.shape == (1_000, 4, 4)
        np.testing.assert_allclose(transform.value, before, atol=1e-4)
        expected = [matrix[:3, :3] @ vector for matrix, vector in zip(before, position, strict=True)]
        np.testing.assert_allclose(moved.matrix, expected, atol=1e-4)


def test_heavy_compute_an_odd_number_of_times(suite):
    world = suite.heavy_compute_world(10)
    before, *_ = suite.values(10)
    suite.heavy_compute_step(world, times=1)
    for transform in world.query(suite.Transform):
        np.testing.assert_allclose(transform.value, before.transpose(0, 2, 1), atol=1e-6)


def test_heavy_compute_beside_bare_arrays(suite):
    benchmark = ready(suite.HeavyCompute)
    benchmark.time_step()
    benchmark.time_bare()
    for transform, position in benchmark.world.query(suite.Transform, suite.Position):
        assert np.array_equal(transform.value, benchmark.transform)
        assert np.array_equal(position.matrix, benchmark.position)


@pytest.mark.parametrize("way", ADD_REMOVE)
def test_add_remove(suite, way):
    world, ids = suite.add_remove_world(1_000)
    before = world.get(ids, suite.A)
    getattr(suite, f"add_remove_{way}_step")(world, ids)
    assert tables(world).keys() == {"A"}
    assert len(world) == 1_000
    assert (world.get(ids, suite.A) == before).all()
    assert not world.has(ids, suite.B).any()
    assert world.validate()


class Watched(World):
    """Notes how many of its entities have a component when it is first asked to take it away."""

    found = None

    def remove(self, entity, *types):
        if self.found is None:
            self.found = len(self.column(*types))
        super().remove(entity, *types)


@pytest.mark.parametrize("way", ADD_REMOVE)
def test_add_remove_gives_a_b_to_all_before_it_takes_one_away(suite, way):
    world = Watched()
    ids = world.spawn_batch(suite.A(), count=100)
    getattr(suite, f"add_remove_{way}_step")(world, ids)
    assert world.found == 100


def test_add_remove_of_ten_thousand(suite):
    benchmark = ready(suite.AddRemove)
    benchmark.step()
    assert tables(benchmark.world).keys() == {"A"}
    assert len(benchmark.world) == 10_000
    assert sum(array.nbytes for array in benchmark.moved) == 10_000 * (8 + 16 + 4)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_serialize(suite, form):
    world = suite.serialize_world()
    assert len(world) == 1_000
    loaded = getattr(suite, f"serialize_{form}_step")(world)
    assert loaded is not world
    assert_worlds_equal(loaded, world)


def test_serialize_takes_the_form_that_it_says(suite):
    world = suite.serialize_world(10)
    assert world.to_bytes(suite.JSON).startswith(b"{")
    assert ready(suite.SerializeText).track_bytes() > ready(suite.SerializeBinary).track_bytes() > 100_000


def test_serialize_binary_beside_numpy(suite):
    benchmark = ready(suite.SerializeBinary)
    loaded = benchmark.savez()
    assert loaded.keys() == benchmark.arrays.keys()
    for name, array in benchmark.arrays.items():
        assert np.array_equal(loaded[name], array)
