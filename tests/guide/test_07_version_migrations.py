"""The guide's section "Version Migrations", block by block."""

from __future__ import annotations

import numpy as np
import pytest

import pecs_np
from pecs_np import Migration, MigrationChain, MigrationError, UnsupportedVersionError, World, component


@component
class Position2D:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Position3D:
    x: np.float32 = 0.0
    y: np.float32 = 0.0
    z: np.float32 = 0.0


@component
class Health:
    points: np.float64 = 1.0


@component
class Inventory:
    items: list[np.uint16] = []
    gold: np.uint32 = 0


class PositionMigrationV1ToV2(Migration):
    def source_version(self):
        return 1

    def target_version(self):
        return 2

    def migrate(self, world):
        # Convert 2D positions to 3D
        world.change(Position2D, lambda pos2d: Position3D(x=pos2d.x, y=pos2d.y, z=0.0))


class HealthMigrationV2ToV3(Migration):
    def source_version(self):
        return 2

    def target_version(self):
        return 3

    def migrate(self, world):
        # Per cent, where it was a share
        for health in world.columns(Health):
            health["points"] *= 100


class InventoryMigrationV3ToV4(Migration):
    def source_version(self):
        return 3

    def target_version(self):
        return 4

    def migrate(self, world):
        # Purses became part of the inventory
        world.change("Purse", lambda purse: Inventory(gold=purse.gold))


def old_world(version):
    """A world as a program of that version saved it."""
    Purse = pecs_np.make_component("Purse", {"gold": np.uint32})
    world = World(seed=1, version=version)
    place = Position2D if version < 2 else Position3D
    life = Health(points=0.5 if version < 3 else 50)
    wealth = Purse(gold=7) if version < 4 else Inventory(gold=7)
    world.spawn_batch(place(x=[1, 2], y=[3, 4]), life, wealth)
    world.spawn(life)
    pecs_np.unregister("Purse")
    return world


def test_migration_trait():
    """Version Migrations, block 1: Migration Trait.

    The three methods make a migration, and fewer do not.
    """

    class AddGreeting(Migration):
        def source_version(self):
            """Get the version this migration upgrades from."""
            return 1

        def target_version(self):
            """Get the version this migration upgrades to."""
            return 2

        def migrate(self, world):
            """Perform the migration."""
            world.metadata["greeting"] = "hello"

    World().save("old-save.dat")
    loaded = World.load_with_migrations("old-save.dat", [AddGreeting()])
    assert (loaded.version, loaded.metadata) == (2, {"greeting": "hello"})

    methods = {name: vars(AddGreeting)[name] for name in ("source_version", "target_version", "migrate")}
    assert Migration.__abstractmethods__ == set(methods)
    for name in methods:
        rest = {n: method for n, method in methods.items() if n != name}
        with pytest.raises(TypeError, match=name):
            type("Incomplete", (Migration,), rest)()


def test_example_migration():
    """Version Migrations, block 2: Example Migration.

    Where the guide goes through the entities, here whole columns are converted at once.
    """
    old_world(1).save("old-save.dat")

    world = World.load("old-save.dat", migrations=[PositionMigrationV1ToV2()])

    assert world.version == 2
    assert world.column(Position3D).tolist() == [(1, 3, 0), (2, 4, 0)]
    assert world.snapshot().column("Health")["points"].tolist() == [0.5, 0.5, 0.5]
    assert not any(type_.name == "Position2D" for type_ in world.snapshot().types)
    assert world.stable_ids().tolist() == old_world(1).stable_ids().tolist()
    assert world.validate()


def test_migration_chain():
    """Version Migrations, block 3: Migration Chain.

    From each of the old versions exactly the necessary steps are applied; the file stays as it was.
    """
    migrations = (
        MigrationChain()
        .add(PositionMigrationV1ToV2())
        .add(HealthMigrationV2ToV3())
        .add(InventoryMigrationV3ToV4())
    )

    for version in (1, 2, 3, 4):
        old_world(version).save("old-save.dat")
        with open("old-save.dat", "rb") as file:
            before = file.read()
        with pecs_np.open("old-save.dat") as save:
            assert len(migrations.plan(save).steps) == 4 - version

        # Automatically applies necessary migrations
        world = World.load_with_migrations("old-save.dat", migrations)

        assert world.version == 4
        assert sorted(t.name for t in world.snapshot().types) == ["Health", "Inventory", "Position3D"]
        assert world.column(Position3D).tolist() == [(1, 3, 0), (2, 4, 0)]
        assert world.column(Health)["points"].tolist() == [50, 50, 50]
        assert world.column(Inventory)["gold"].tolist() == [7, 7]
        with open("old-save.dat", "rb") as file:
            assert file.read() == before

    World(version=5).save("old-save.dat")
    with pytest.raises(UnsupportedVersionError) as caught:
        World.load_with_migrations("old-save.dat", migrations)
    assert (caught.value.found, caught.value.expected) == (5, 4)
    with pytest.raises(MigrationError, match="start from version 4"):
        migrations.add(HealthMigrationV2ToV3())
