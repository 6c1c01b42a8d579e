"""What a save says of the world as a whole: version, metadata and generators."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from pecs_np import BinaryPlugin, InvalidFormatError, JsonPlugin, PersistenceError, World
from pecs_np.persistence.world_document import WorldDocument, check_json, read_world, world_json


def document_of(world):
    return orjson.loads(world_json(world.snapshot()))


def test_an_empty_world_says_little():
    assert world_json(World().snapshot()) == b'{"version":1,"metadata":{},"rng":{}}'
    assert read_world({}, "a save") == WorldDocument(1, {}, {}, None)


def test_all_that_is_written_is_read_again():
    world = World(seed=5, version=7, metadata={"b": [1, 2.5, None, True], "a": {"é": "x"}})
    world.spawn()
    dice = world.rngs.create("dice")
    dice.random(3)
    found = read_world(document_of(world), "a save")
    assert (found.version, found.metadata) == (7, world.metadata)
    assert found.rngs["dice"]["state"] == dice.bit_generator.state["state"]
    assert found.id_source == (world._storage.source.high, 1)
    assert list(document_of(world)["metadata"]) == ["a", "b"]


@pytest.mark.parametrize(
    "world",
    [
        None,
        [],
        {"version": 0},
        {"version": True},
        {"version": 1 << 32},
        {"metadata": []},
        {"rng": []},
        {"rng": {"dice": {}}},
        {"rng": {"dice": {"bit_generator": "Numbers"}}},
        {"rng": {"\x00": {"bit_generator": "PCG64"}}},
        {"rng": {"dice": {"bit_generator": "PCG64"}}},
        {"rng": {"pecs.stable_ids": {"bit_generator": "PCG64"}}},
    ],
)
def test_what_world_json_does_not_write_is_refused_with_its_place(world):
    with pytest.raises(InvalidFormatError, match="a save"):
        read_world(world, "a save")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: 2}, "text keys, found 1 at metadata"),
        ({"a": [1, {"b": float("nan")}]}, r"a finite number, found nan at metadata\['a'\]\[1\]\['b'\]"),
        ({"a": (1, 2)}, r"found \(1, 2\) at metadata\['a'\]"),
        ({"a": np.float64(1)}, "at metadata"),
        ({"a": object()}, "at metadata"),
    ],
)
def test_what_json_would_not_give_back_unchanged_is_refused(value, message):
    with pytest.raises(PersistenceError, match=message):
        check_json(value, "metadata")
    world = World(metadata=value)
    with pytest.raises(PersistenceError, match=message):
        world_json(world.snapshot())


def test_metadata_of_any_depth_end_in_an_error_not_in_a_crash():
    deep = {}
    for _ in range(100_000):
        deep = {"a": deep}
    with pytest.raises(PersistenceError, match="at most 100 levels"):
        check_json(deep, "metadata")
    while deep:  # taken apart by hand: to do it by itself would overflow the stack of some interpreters
        deep = deep.pop("a")


@pytest.mark.parametrize("version", [0, -1, 1 << 32, 1.0, True, None, "1"])
def test_a_version_that_is_none_is_refused(version):
    world = World()
    world.version = version
    with pytest.raises(PersistenceError, match="a world version from 1"):
        world_json(world.snapshot())


def test_generators_are_stored_with_every_integer_as_a_decimal_string(reference):
    world = World(seed=1)
    for kind in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"):
        world.rngs[kind] = np.random.Generator(getattr(np.random, kind)(7))
    rng = reference.read(world.to_bytes()).schema["world"]["rng"]
    state = world.rngs["PCG64"].bit_generator.state["state"]
    assert rng["PCG64"]["state"] == {name: str(value) for name, value in state.items()}
    assert int(rng["PCG64"]["state"]["inc"]) > 2**64
    key = world.rngs["MT19937"].bit_generator.state["state"]["key"]
    assert rng["MT19937"]["state"]["key"] == [str(value) for value in key]
    for name, value in rng.items():
        assert value.pop("bit_generator") in (name, "Philox")
        assert_only_decimals(value)


def assert_only_decimals(value):
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            assert_only_decimals(member)
    else:
        assert isinstance(value, str)
        assert str(int(value)) == value


@pytest.mark.parametrize("wrong", [None, 5, [], "text", np.array([1, 2]), np.array([])])
@pytest.mark.parametrize("plugin", [BinaryPlugin(), BinaryPlugin(version=1), JsonPlugin()])
def test_metadata_that_are_no_dict_are_refused_also_after_a_save(plugin, wrong):
    world = World()
    world.spawn()
    world.to_bytes(plugin)
    world.metadata = wrong
    with pytest.raises(PersistenceError, match="expected a dict as metadata"):
        world.to_bytes(plugin)
