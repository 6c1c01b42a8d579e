"""Old saves brought up to date: components by their own steps, worlds by a chain."""

from __future__ import annotations

import enum
from typing import Annotated

import numpy as np
import pytest

import pecs_np
from pecs_np import (
    ComponentDefinitionError,
    ComponentVersionError,
    EntityRef,
    JsonPlugin,
    Migration,
    MigrationChain,
    MigrationError,
    UnsupportedVersionError,
    World,
)
from pecs_np.ecs.registry import migrations_of
from pecs_np.persistence.migrations import brought_up_to_date

FORMATS = [None, JsonPlugin()]


def step(source, target, change=lambda world: None, **attributes):
    """Return a migration between two versions of the world."""
    methods = {
        "source_version": lambda self: source,
        "target_version": lambda self: target,
        "migrate": lambda self, world: change(world),
    }
    return type(f"From{source}To{target}", (Migration,), methods | attributes)()


@pytest.fixture
def flat(define):
    """A save of version 1 of a component, and the component in version 2."""
    old = define("MovedPlace", {"x": np.float32, "y": np.float32})
    world = World(seed=1)
    world.spawn_batch(old(x=[1, 2, 3], y=[4, 5, 6]))
    data = {plugin: world.to_bytes(plugin) for plugin in FORMATS}
    new = define(
        "MovedPlace",
        {"x": np.float32, "y": np.float32, "z": np.float32},
        version=2,
        defaults={"z": 7.0},
    )
    return data, new


# Steps of a component


@pytest.mark.parametrize("plugin", FORMATS)
def test_an_old_column_becomes_a_new_one_before_the_world_exists(flat, plugin):
    data, new = flat
    seen = []

    @new.migration(1)
    def add_height(old):
        seen.append(old.copy())
        return {"x": old["x"] * 2, "y": old["y"], "z": 0}

    world = World.from_bytes(data[plugin], plugin)
    assert world.column(new).tolist() == [(2, 4, 0), (4, 5, 0), (6, 6, 0)]
    assert world.validate()
    assert seen[0].dtype == np.dtype([("x", "<f4"), ("y", "<f4")])
    assert seen[0].tolist() == [(1, 4), (2, 5), (3, 6)]


@pytest.mark.parametrize("kind", ["array", "component", "mapping", "other order", "default"])
def test_a_step_may_return_an_array_a_component_or_a_mapping(flat, kind):
    data, new = flat

    @new.migration(1)
    def add_height(old):
        if kind == "array":
            rows = np.zeros(len(old), new._type.layout.memory)
            rows["x"], rows["y"], rows["z"] = old["x"], old["y"], 7
            return rows
        if kind == "component":
            return new(x=old["x"], y=old["y"], z=7)
        if kind == "mapping":
            return {"x": old["x"], "y": old["y"], "z": [7, 7, 7]}
        if kind == "other order":
            rows = np.zeros(len(old), [("z", "f8"), ("y", "f4"), ("x", "f4")])
            rows["x"], rows["y"], rows["z"] = old["x"], old["y"], 7
            return rows
        return {"x": old["x"], "y": old["y"]}

    column = World.from_bytes(data[None]).column(new)
    assert column.tolist() == [(1, 4, 7), (2, 5, 7), (3, 6, 7)]


def test_steps_follow_one_another_and_the_last_one_decides_the_dtype(define):
    old = define("MovedTwice", {"x": np.float32})
    world = World()
    world.spawn_batch(old(x=[1, 2]))
    data = world.to_bytes()
    new = define("MovedTwice", {"u": np.float64, "v": np.int16}, version=3)

    @new.migration(1)
    def first(old):
        assert old.dtype.names == ("x",)
        return {"u": old["x"].astype("f8")}

    @new.migration(2)
    def second(old):
        assert old.dtype == np.dtype([("u", "<f8")])
        return {"u": old["u"], "v": np.arange(len(old))}

    assert World.from_bytes(data).column(new).tolist() == [(1.0, 0), (2.0, 1)]


def test_references_texts_lists_enums_and_shapes_pass_through_versions_between(define):
    class State(enum.IntEnum):
        OFF = 0
        ON = 3

    fields = {
        "to": EntityRef,
        "crew": list[EntityRef],
        "name": str,
        "state": State,
        "cells": Annotated[np.int16, 2],
    }
    old = define("MovedAll", fields)
    world = World(seed=3)
    a = world.spawn()
    b = world.spawn(old(to=a, crew=[a, 0], name="b", state=State.ON, cells=[1, 2]))
    ids = world.get_stable_id([a, b])
    data = world.to_bytes()
    new = define("MovedAll", fields | {"more": np.int8}, version=3, defaults={"more": 1})

    @new.migration(1)
    def same(old):
        return {name: old[name] for name in old.dtype.names}

    @new.migration(2)
    def again(old):
        return {name: old[name] for name in old.dtype.names}

    back = World.from_bytes(data)
    a, b = back.get_entity_id(ids)
    value = back.get(b, new)
    assert (value.to, value.crew.tolist(), value.name, value.state) == (a, [a, 0], "b", State.ON)
    assert (value.cells.tolist(), value.more) == ([1, 2], 1)


def test_a_resource_is_brought_up_to_date_too(define):
    old = define("MovedClock", {"ticks": np.int32})
    world = World()
    world.resources.insert(old(ticks=60))
    data = world.to_bytes()
    new = define("MovedClock", {"seconds": np.float64}, version=2)
    new.migration(1)(lambda old: {"seconds": old["ticks"] / 60})
    assert World.from_bytes(data).resources.get(new).seconds == 1.0


def test_every_table_that_has_the_component_is_migrated_on_its_own(define):
    old, other = define("MovedSize", {"m": np.float32}), define("MovedOther", {"n": np.int8})
    world = World()
    world.spawn_batch(old(m=[1, 2]))
    world.spawn_batch(old(m=[3]), other(n=1))
    data = world.to_bytes()
    new = define("MovedSize", {"mm": np.int64}, version=2)
    lengths = []

    @new.migration(1)
    def millimetres(old):
        lengths.append(len(old))
        return {"mm": (old["m"] * 1000).astype("i8")}

    back = World.from_bytes(data)
    assert sorted(lengths) == [1, 2]
    assert sorted(back.column(new)["mm"].tolist()) == [1000, 2000, 3000]


def test_the_file_is_never_changed(flat, tmp_path):
    data, new = flat
    path = tmp_path / "old.pecs"
    path.write_bytes(data[None])

    @new.migration(1)
    def add_height(old):
        old["x"] = -1
        return {"x": old["x"], "y": old["y"]}

    assert World.load(path).column(new)["x"].tolist() == [-1, -1, -1]
    assert path.read_bytes() == data[None]
    assert World.from_bytes(data[None]).column(new)["x"].tolist() == [-1, -1, -1]
    assert path.read_bytes() == data[None]


def test_two_worlds_of_one_migration_share_nothing(flat):
    data, new = flat
    whole = np.zeros(3, new._type.layout.memory)
    new.migration(1)(lambda old: whole[: len(old)])
    first, second = World.from_bytes(data[None]), World.from_bytes(data[None])
    first.column(new)["x"] = 9
    assert second.column(new)["x"].tolist() == [0, 0, 0]


def test_without_any_step_the_message_says_which_to_write(flat):
    data, _ = flat
    with pytest.raises(ComponentVersionError, match=r"@MovedPlace\.migration\(1\)") as caught:
        World.from_bytes(data[None])
    assert (caught.value.found, caught.value.expected) == (1, 2)


def test_a_gap_is_an_error_that_names_the_missing_step(define):
    old = define("MovedGap", {"x": np.int8})
    data = World()
    data.spawn(old(1))
    data = data.to_bytes()
    new = define("MovedGap", {"x": np.int8}, version=4)
    new.migration(2)(lambda old: old)
    new.migration(3)(lambda old: old)
    with pytest.raises(MigrationError, match=r"MovedGap from each of the versions 1 to 3, found none from 1"):
        World.from_bytes(data)


def test_steps_are_checked_when_they_are_registered(define):
    new = define("MovedSteps", {"x": np.int8}, version=5)

    @new.migration(1)
    def one(old):
        return old

    with pytest.raises(MigrationError, match="from version 2 of MovedSteps next"):
        new.migration(3)(lambda old: old)
    with pytest.raises(MigrationError, match="expected one migration from version 1 of MovedSteps, found"):
        new.migration(1)(lambda old: old)
    for version in (0, 5, 6, -1, "1", 1.0, True, None):
        with pytest.raises(MigrationError, match="from 1 to 4"):
            new.migration(version)
    assert list(migrations_of("MovedSteps")) == [1]

    @new.migration(2)
    def two(old):
        return old

    assert sorted(migrations_of("MovedSteps")) == [1, 2]


def test_a_cell_of_a_notebook_may_run_again(define):
    new = define("MovedCell", {"x": np.int8}, version=2)

    def cell(value):
        @new.migration(1)
        def up(old):
            return value

        return up

    cell(1)
    second = cell(2)
    assert migrations_of("MovedCell")[1] is second


def test_a_component_of_version_one_has_no_migrations(define):
    with pytest.raises(MigrationError, match="raise the version"):
        define("MovedFirst", {"x": np.int8}).migration(1)


def test_a_save_newer_than_the_program_is_refused_naming_both_versions(define):
    new = define("MovedBack", {"x": np.int8}, version=3)
    world = World()
    world.spawn(new(1))
    for plugin in FORMATS:
        data = world.to_bytes(plugin)
        pecs_np.unregister("MovedBack")
        define("MovedBack", {"x": np.int8}, version=2)
        with pytest.raises(
            ComponentVersionError, match=r"expected version 2 of component .*MovedBack.*found version 3"
        ):
            World.from_bytes(data, plugin)
        pecs_np.unregister("MovedBack")
        new = define("MovedBack", {"x": np.int8}, version=3)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda old: None, "expected a structured array, a component or a mapping"),
        (lambda old: old["x"], "expected a structured array"),
        (lambda old: {"x": old["x"]}, "expected a value for y"),
        (lambda old: {"x": 1, "y": 2, "w": 3}, "expected a field of MovedPlace, found 'w'"),
        (lambda old: {"x": old["x"][1:], "y": 1}, "expected 3 rows"),
        (lambda old: {"x": "a", "y": 1}, "MovedPlace.x"),
        (lambda old: old[:1], "expected 3 rows"),
        (lambda old: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
)
def test_what_is_no_column_is_an_error_that_names_the_step(flat, answer, message):
    data, new = flat
    answer.__qualname__ = "answer"
    new.migration(1)(answer)
    with pytest.raises(MigrationError, match=message) as caught:
        World.from_bytes(data[None])
    assert "the migration answer from version 1 of MovedPlace in <bytes>" in str(caught.value)


def test_bit_patterns_that_are_no_value_do_not_get_into_a_world(define):
    old = define("MovedFlag", {"on": np.uint8})
    world = World()
    world.spawn_batch(old(on=[0, 2]))
    data = world.to_bytes()
    new = define("MovedFlag", {"on": bool}, version=2)
    new.migration(1)(lambda old: old.view(new._type.layout.memory))
    with pytest.raises(MigrationError, match="is not a bool in row 1"):
        World.from_bytes(data)


# The world's chain


def test_a_chain_applies_what_is_necessary_and_sets_the_version(define, tmp_path):
    flat = define("ChainFlat", {"x": np.float32, "y": np.float32})
    life = define("ChainLife", {"points": np.int32})
    world = World(version=1)
    world.spawn_batch(flat(x=[1, 2], y=3), life(points=5))
    world.spawn_batch(life(points=[6]))
    world.save(tmp_path / "one.pecs")
    world.version = 2
    world.save(tmp_path / "two.pecs")
    solid = define("ChainSolid", {"x": np.float32, "y": np.float32, "z": np.float32})

    def to_solid(world):
        world.change("ChainFlat", lambda old: solid(x=old.x, y=old.y, z=0))

    def healthier(world):
        for column in world.columns("ChainLife"):
            column["points"] *= 10

    chain = MigrationChain().add(step(1, 2, to_solid)).add(step(2, 3, healthier))
    assert chain.target_version == 3
    assert len(chain) == 2
    back = World.load_with_migrations(tmp_path / "one.pecs", chain)
    assert back.version == 3
    assert back.column(solid).tolist() == [(1, 3, 0), (2, 3, 0)]
    assert sorted(back.snapshot().column("ChainLife")["points"]) == [50, 50, 60]
    assert back.validate()
    second = World.load(tmp_path / "two.pecs", migrations=chain)
    assert (second.version, len(second.column(flat))) == (3, 2)
    third = World.from_bytes(back.to_bytes(), migrations=chain)
    assert (third.version, sorted(third.snapshot().column("ChainLife")["points"])) == (3, [50, 50, 60])


def test_world_steps_see_components_as_the_file_has_them_or_as_they_ask_for(define):
    old = define("ChainUnit", {"m": np.float32})
    world = World()
    world.spawn_batch(old(m=[1]))
    data = world.to_bytes()
    new = define("ChainUnit", {"mm": np.float32}, version=3)

    @new.migration(1)
    def centimetres(old):
        return {"cm": old["m"] * 100}

    @new.migration(2)
    def millimetres(old):
        return {"mm": old["cm"] * 10}

    seen = []

    def look(world):
        seen.append((world.types["ChainUnit"].version, world.columns("ChainUnit")[0].dtype.names))

    for components, expected in (
        ({}, (1, ("m",))),
        ({"ChainUnit": 2}, (2, ("cm",))),
        ({"ChainUnit": 3}, (3, ("mm",))),
    ):
        chain = MigrationChain([step(1, 2, look, components=components)])
        back = World.from_bytes(data, migrations=chain)
        assert seen.pop() == expected
        assert back.column(new)["mm"].tolist() == [1000]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step(2, 2)], "to a later one, found 2"),
        ([step(3, 2)], "to a later one, found 2"),
        ([step(1, 2), step(3, 4)], "start from version 2, found From3To4 from version 3"),
        ([step(1, 2), step(1, 3)], "From1To3 from version 1, from which From1To2 leads already"),
        ([step(1, 2), step(2, 3), step(2, 4)], "from which From2To3 leads already"),
        ([step(1, 2), step(2, 3), step(1, 2)], "from which From1To2 leads already"),
        ([step(0, 1)], "expected a version from 1"),
        ([step("1", 2)], "expected a version from 1"),
        ([5], "expected a Migration, found 5"),
        ([Migration], "pass an instance"),
    ],
)
def test_gaps_loops_and_two_heads_are_refused_when_they_are_added(steps, message):
    with pytest.raises(MigrationError, match=message):
        MigrationChain(steps)


def test_versions_may_be_plain_attributes():
    class OneToTwo(Migration):
        source_version = 1
        target_version = 2

        def migrate(self, world):
            world.metadata["seen"] = True

    back = World.from_bytes(World().to_bytes(), migrations=[OneToTwo()])
    assert (back.version, back.metadata) == (2, {"seen": True})


def test_a_migration_without_its_methods_is_no_migration():
    class Half(Migration):
        def migrate(self, world):
            pass

    with pytest.raises(TypeError, match="abstract"):
        Half()


def test_a_world_newer_or_older_than_the_chain_is_refused():
    chain = MigrationChain([step(2, 3)])
    with pytest.raises(
        UnsupportedVersionError, match="expected version 3 of the world in <bytes>, found version 4"
    ) as caught:
        World.from_bytes(World(version=4).to_bytes(), migrations=chain)
    assert (caught.value.found, caught.value.expected) == (4, 3)
    with pytest.raises(MigrationError, match="expected a migration from version 1 of the world"):
        World.from_bytes(World(version=1).to_bytes(), migrations=chain)
    assert World.from_bytes(World(version=3).to_bytes(), migrations=chain).version == 3
    assert World.from_bytes(World(version=4).to_bytes(), migrations=MigrationChain()).version == 4


def test_a_step_that_raises_is_named(define):
    def fail(world):
        raise KeyError("nothing")

    with pytest.raises(
        MigrationError, match="From1To2, from version 1 of the world in <bytes>, failed"
    ) as caught:
        World.from_bytes(World().to_bytes(), migrations=[step(1, 2, fail)])
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_step_that_leaves_a_component_with_other_fields_than_defined_here_is_refused(define):
    old = define("LeftOld", {"called": str})
    world = World()
    world.spawn(old("a"))
    define("LeftNew", {"name": str})

    def rename(world):
        world.rename("LeftOld", "LeftNew")

    with pytest.raises(
        MigrationError, match=r"expected <component LeftNew v1 \(name: str\)> after the migrations"
    ):
        World.from_bytes(world.to_bytes(), migrations=[step(1, 2, rename)])

    def rename_both(world):
        rename(world)
        world.rename_field("LeftNew", "called", "name")

    back = World.from_bytes(world.to_bytes(), migrations=[step(1, 2, rename_both)])
    assert back.column("LeftNew")["name"].tolist() == ["a"]


def test_a_plan_says_what_would_run_and_nothing_does(define, tmp_path):
    old = define("PlannedPlace", {"x": np.int8})
    world = World(version=2)
    world.spawn(old(1))
    world.save(tmp_path / "a.pecs")
    new = define("PlannedPlace", {"x": np.int8}, version=3)

    def never(_):
        raise AssertionError

    new.migration(1)(never)
    new.migration(2)(lambda old: old)
    chain = MigrationChain([step(1, 2, never), step(2, 3, never), step(3, 4, never)])
    with pecs_np.open(tmp_path / "a.pecs") as save:
        plan = chain.plan(save)
    assert (plan.version, plan.target_version) == (2, 4)
    assert [line.split(":")[0] for line in plan.steps] == [
        "world 2 → 3",
        "world 3 → 4",
        "PlannedPlace 1 → 2",
        "PlannedPlace 2 → 3",
    ]
    assert str(plan).splitlines() == list(plan.steps)
    assert plan
    assert not MigrationChain().plan(World().snapshot())
    assert str(MigrationChain().plan(World().snapshot())) == "nothing to do"


def test_a_plan_raises_where_loading_would(define, tmp_path):
    old = define("PlannedLost", {"x": np.int8})
    world = World(version=9)
    world.spawn(old(1))
    snapshot = world.snapshot()
    with pytest.raises(UnsupportedVersionError):
        MigrationChain([step(1, 2)]).plan(snapshot)
    define("PlannedLost", {"x": np.int8}, version=2)
    with pytest.raises(ComponentVersionError):
        MigrationChain().plan(snapshot)
    with pytest.raises(MigrationError, match=r"pecs_np\.open"):
        MigrationChain().plan("a.pecs")


# Unknown components


@pytest.mark.parametrize("plugin", FORMATS)
def test_unknown_components_are_kept_refused_or_dropped(define, plugin):
    known, strange = define("HereKnown", {"x": np.int8}), define("HereStrange", {"x": np.int8})
    world = World()
    world.spawn_batch(known(x=[1]), strange(x=2))
    world.spawn_batch(strange(x=[3, 4]))
    world.resources.insert(strange(x=5))
    data = world.to_bytes(plugin)
    pecs_np.unregister("HereStrange")
    assert len(World.from_bytes(data, plugin).column("HereStrange")) == 3
    assert len(World.from_bytes(data, plugin, unknown="keep").column("HereStrange")) == 3
    with pytest.raises(ComponentDefinitionError, match="found HereStrange in <bytes>"):
        World.from_bytes(data, plugin, unknown="refuse")
    with pytest.warns(
        UserWarning, match="dropped components that are not defined here, HereStrange"
    ) as caught:
        back = World.from_bytes(data, plugin, unknown="drop")
    assert caught[0].filename == __file__
    assert (len(back), [t.name for t in back.snapshot().types]) == (3, ["HereKnown"])
    with pytest.raises(pecs_np.PersistenceError, match="'keep', 'refuse' or 'drop'"):
        World.from_bytes(data, plugin, unknown="forget")


def test_what_is_up_to_date_is_left_as_it_is(define):
    here = define("HereNow", {"x": np.int8})
    world = World()
    world.spawn_batch(here(x=[1, 2]))
    snapshot = world.snapshot(copy=True)
    assert brought_up_to_date(snapshot) is snapshot
    assert brought_up_to_date(snapshot, unknown="refuse", migrations=[]) is snapshot
