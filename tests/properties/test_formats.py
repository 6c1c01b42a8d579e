"""Any world goes through any format, by bytes, files and streams, to an equal world that goes on alike."""

from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pecs_np
from pecs_np import BinaryPlugin, JsonPlugin, World, make_component, unregister
from pecs_np.ecs.resources import BIT_GENERATORS
from pecs_np.testing import assert_worlds_equal

FORMATS = {
    "binary": BinaryPlugin(),
    "zstd": BinaryPlugin(compression="zstd", threads=1),
    "zstd, not shuffled": BinaryPlugin(compression="zstd", shuffle=False),
    "lz4": BinaryPlugin(compression="lz4", threads=1),
    "json": JsonPlugin(),
    "pretty json": JsonPlugin.pretty(),
}


@pytest.fixture(scope="module")
def worlds():
    """The module whose strategies make worlds."""
    name = "pecs_test_round_trip"
    if name not in sys.modules:
        path = Path(__file__).with_name("test_round_trip.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


def anything(worlds, data):
    """Return a world of any components, with generators, metadata and a version."""
    drawn = data.draw(st.lists(worlds.schemas, max_size=3))
    names = worlds.TYPE_NAMES[: len(drawn)]
    classes = [
        make_component(name, s, version=i + 1) for i, (name, s) in enumerate(zip(names, drawn, strict=True))
    ]
    world = worlds.build(data, classes)
    world.metadata = data.draw(st.dictionaries(st.text(), worlds.json_values, max_size=3))
    world.version = data.draw(st.integers(1, 2**32 - 1))
    kinds = st.dictionaries(st.sampled_from("ab"), st.sampled_from(BIT_GENERATORS))
    for name, kind in data.draw(kinds).items():
        generator = np.random.Generator(getattr(np.random, kind)(data.draw(st.integers(0, 2**64))))
        # Half of a draw of 64 bits may be kept for the next one.
        generator.integers(2**32, size=data.draw(st.integers(0, 5)), dtype=np.uint32)
        world.rngs[name] = generator
    return world


def copies(world, plugin, path):
    """Return what each way of saving *world* and loading it again gives."""
    data = world.to_bytes(plugin)
    yield World.from_bytes(data, plugin)
    world.save_with(path, plugin, durable=False)
    assert path.read_bytes() == data
    yield World.load_with(path, plugin)
    yield World.load(path)
    stream = io.BytesIO()
    world.save_with(stream, plugin)
    assert stream.getvalue() == data
    stream.seek(0)
    yield World.load_with(stream, plugin)
    if isinstance(plugin, BinaryPlugin):
        with pecs_np.open(path) as save:
            yield World.from_snapshot(save.snapshot())


def goes_on(world):
    """Return what a world does next: numbers that it draws, and with a seed, stable ids that it gives."""
    drawn = {
        name: (rng.random(3).tolist(), rng.integers(2**32, size=3, dtype=np.uint32).tolist(), rng.normal())
        for name, rng in sorted(world.rngs.items())
    }
    new = world.get_stable_id(world.spawn_batch(count=3)).tolist()
    assert world.validate()
    return drawn, new if world._storage.source.seeded else None


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_world_comes_back_from_any_format_and_goes_on_alike(worlds, folder, name, data):
    plugin, path = FORMATS[name], folder / "a.save"
    try:
        world = anything(worlds, data)
        saved = world.to_bytes()
        for back in copies(world, plugin, path):
            assert back.validate()
            assert_worlds_equal(back, world)
            assert back.to_bytes() == saved
            assert goes_on(back) == goes_on(World.from_bytes(saved))
        assert world.to_bytes() == saved
    finally:
        for type_name in worlds.TYPE_NAMES:
            unregister(type_name)
    # Now of types that the process does not know.
    text = World.load(path).to_bytes(plugin)
    assert text == path.read_bytes()
    assert World.load(path).to_bytes() == saved


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data(), order=st.permutations(list(FORMATS)))
def test_a_world_that_went_through_all_formats_is_the_same(worlds, folder, data, order):
    try:
        world = anything(worlds, data)
        saved = world.to_bytes()
        for name in order:
            world.save_with(folder / "a.save", FORMATS[name], durable=False)
            world = World.load(folder / "a.save")
        assert world.to_bytes() == saved
    finally:
        for type_name in worlds.TYPE_NAMES:
            unregister(type_name)
