"""Resources, one value a type for the whole world, and named random generators."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    ComponentValueError,
    EntityRef,
    PecsError,
    World,
    WorldError,
    component,
    make_component,
    unregister,
)
from pecs_np.ecs.resources import BIT_GENERATORS


@component(name="resources.Clock")
class Clock:
    tick: int = 0
    speed: float = 1.0


@component(name="resources.Leader")
class Leader:
    who: EntityRef = 0
    heirs: list[EntityRef] = ()


def draws(generator):
    return generator.integers(0, 2**60, 5).tolist()


# Resources


def test_a_resource_is_inserted_read_written_and_removed():
    world = World()
    assert (world.resources.get(Clock), Clock in world.resources, len(world.resources)) == (None, False, 0)
    world.resources.insert(Clock(7))
    world.resources.get(Clock).tick += 1
    world.resources.get("resources.Clock").speed = 2
    assert world.resources.get(Clock) == Clock(8, 2)
    assert (Clock in world.resources, "resources.Clock" in world.resources, len(world.resources)) == (
        True,
        True,
        1,
    )
    assert [type(r) for r in world.resources] == [Clock]
    assert "tick=8" in repr(world.resources)
    world.resources.remove(Clock)
    world.resources.remove("resources.Clock")
    assert world.resources.get(Clock) is None


def test_inserting_again_replaces_and_keeps_no_hold_on_the_value():
    world = World()
    clock = Clock(1)
    world.resources.insert(Clock(5))
    world.resources.insert(clock)
    clock.tick = 9
    assert (world.resources.get(Clock).tick, len(world.resources)) == (1, 1)


def test_a_column_of_one_row_is_one_value_and_longer_ones_are_refused():
    world = World()
    world.resources.insert(Clock([3]))
    assert world.resources.get(Clock).tick == 3
    for wrong in (Clock([1, 2]), Clock(np.zeros((1, 1), int)), Clock):
        with pytest.raises(ComponentValueError):
            world.resources.insert(wrong)
    with pytest.raises(ComponentDefinitionError):
        world.resources.insert(5)
    assert world.resources.get(Clock).tick == 3


def test_another_definition_of_a_resource_is_refused_not_misread():
    unregister("resources.Other")
    old = make_component("resources.Other", {"a": np.float32, "b": np.float32}, defaults={"a": 1, "b": 2})
    unregister("resources.Other")
    new = make_component("resources.Other", {"z": np.float64})
    unregister("resources.Other")
    world = World()
    world.resources.insert(old())
    with pytest.raises(PecsError):
        _ = world.resources.get(new).z
    assert world.resources.get(old) == old()


def test_resources_do_not_count_as_entities_and_survive_clear():
    world = World()
    world.resources.insert(Clock(1))
    world.spawn(Clock(2))
    world.clear()
    assert (len(world), world.resources.get(Clock).tick, world.column(Clock).size) == (0, 1, 0)


def test_a_resource_reaches_snapshots_and_restored_worlds_as_its_own():
    world = World()
    world.resources.insert(Clock(1))
    restored = World.from_snapshot(world.snapshot())
    world.resources.get(Clock).tick = 2
    restored.resources.get(Clock).speed = 3
    assert (world.resources.get(Clock), restored.resources.get(Clock)) == (Clock(2, 1), Clock(1, 3))


def test_references_in_resources_are_remapped_and_dead_ones_cleared():
    source = World()
    a, b = source.spawn(), source.spawn()
    source.resources.insert(Leader(b, [a, b, a]))
    target = World()
    target.spawn_batch(count=3)
    new = target.merge(source.snapshot()).tolist()
    assert target.resources.get(Leader).who == new[1]
    assert target.resources.get(Leader).heirs.tolist() == [new[0], new[1], new[0]]
    source.despawn(b)
    assert not source.validate()
    restored = World.from_snapshot(source.snapshot())
    assert restored.resources.get(Leader).who == 0
    assert restored.resources.get(Leader).heirs.tolist() == [a, 0, a]
    assert restored.validate()
    assert source.resources.get(Leader).who == b


def test_merge_keeps_a_resource_that_is_here_and_overwrite_replaces_it():
    source = World()
    source.resources.insert(Clock(1))
    source.resources.insert(Leader())
    for mode, tick in (("merge", 5), ("overwrite", 1)):
        world = World()
        world.resources.insert(Clock(5))
        world.restore(source.snapshot(), mode=mode)
        assert (world.resources.get(Clock).tick, Leader in world.resources) == (tick, True)


# Generators


def test_a_seeded_world_makes_reproducible_generators_that_differ_by_name():
    def make(seed, name):
        return draws(World(seed=seed).rngs.create(name))

    assert make(1, "dice") == make(1, "dice")
    assert make(1, "dice") != make(1, "cards")
    assert make(1, "dice") != make(2, "dice")
    assert make(None, "dice") != make(None, "dice")
    assert draws(World(seed=1).rngs.create("a", seed=3)) == draws(np.random.default_rng(3))


def test_generators_do_not_depend_on_what_was_spawned_before():
    world = World(seed=1)
    world.spawn_batch(count=10)
    assert draws(world.rngs.create("dice")) == draws(World(seed=1).rngs.create("dice"))


@pytest.mark.parametrize("kind", BIT_GENERATORS)
def test_a_restored_world_continues_every_kind_of_generator(kind):
    world = World()
    world.rngs["g"] = np.random.Generator(getattr(np.random, kind)(5))
    draws(world.rngs["g"])
    world.rngs["g"].random(dtype=np.float32)
    restored = World.from_snapshot(world.snapshot(copy=True))
    assert draws(restored.rngs["g"]) == draws(world.rngs["g"])
    assert restored.rngs["g"] is not world.rngs["g"]


def test_a_snapshot_holds_the_state_of_the_moment():
    world = World()
    world.rngs["g"] = np.random.Generator(np.random.MT19937(1))
    snapshot = world.snapshot()
    first = draws(world.rngs["g"])
    assert draws(World.from_snapshot(snapshot).rngs["g"]) == first
    assert draws(World.from_snapshot(snapshot).rngs["g"]) == first


def test_an_unknown_generator_is_an_error_that_lists_the_known_ones():
    world = World()
    world.rngs.create("dice")
    with pytest.raises(WorldError, match="dice"):
        world.rngs["cards"]


def test_generators_behave_as_a_mapping():
    world = World()
    made = world.rngs.create("dice")
    assert (list(world.rngs), len(world.rngs), "dice" in world.rngs) == (["dice"], 1, True)
    assert world.rngs.get("cards") is None
    assert world.rngs.pop("cards", None) is None
    assert world.rngs.setdefault("cards", np.random.default_rng(1)) is world.rngs["cards"]
    assert world.rngs.pop("dice") is made
    assert list(world.rngs) == ["cards"]


@pytest.mark.parametrize("wrong", [5, np.random.PCG64(1), np.random, None])
def test_what_is_no_generator_is_refused(wrong):
    world = World()
    with pytest.raises(WorldError):
        world.rngs["g"] = wrong
    with pytest.raises(WorldError):
        world.rngs[3] = np.random.default_rng(1)
    assert len(world.rngs) == 0


def test_a_bit_generator_that_a_save_cannot_name_is_refused():
    class Mine(np.random.PCG64):
        pass

    with pytest.raises(WorldError, match="Mine"):
        World().rngs["g"] = np.random.Generator(Mine(1))
