"""A save of last year, loaded by the program of today.

Since then ships count in metres instead of kilometres and have a height (a migration of that component),
cargo and fuel became one hold, and officers were captains (migrations of the world). The plan says what
will be done before anything is. The old file stays as it is.
"""

import tempfile
from pathlib import Path

import numpy as np

import pecs_np
from pecs_np import EntityRef, Migration, MigrationChain, World, component, make_component
from pecs_np.testing import assert_worlds_equal


def save_as_last_year(path: Path) -> None:
    """Save a small fleet as version 1 of the program did."""
    # Not registered: today's program has other classes of these names.
    ship = make_component("Ship", {"x": np.float32, "y": np.float32}, register=False)
    cargo = make_component("Cargo", {"tons": np.float32}, register=False)
    fuel = make_component("Fuel", {"litres": np.float32}, register=False)
    captain = make_component("Captain", {"called": str, "vessel": EntityRef}, register=False)
    debug = make_component("DebugLabel", {"text": str}, register=False)
    world = World(seed=1, version=1)
    ships = world.spawn_batch(
        ship(x=np.arange(1000), y=2.5), cargo(tons=np.arange(1000) % 7), fuel(litres=500), debug("ship")
    )
    world.spawn_batch(captain(called=["Ahab", "Nemo"], vessel=ships[:2]))
    world.save(path)


@component(version=3)
class Ship:
    """Where a ship is, in metres, and where it heads, in degrees."""

    x: np.float64
    y: np.float64
    height: np.float64 = 0.0
    heading: np.float32 = 90.0


@Ship.migration(1)
def kilometres_to_metres(old):
    """Return the columns of version 2, which no class defines any more."""
    return {"x": old["x"].astype("f8") * 1000, "y": old["y"].astype("f8") * 1000}


@Ship.migration(2)
def add_height_and_heading(old):
    """Return the columns of version 3; the new fields take their defaults."""
    return {"x": old["x"], "y": old["y"]}


@component
class Hold:
    """What a ship carries, in kilograms."""

    cargo: np.float64 = 0.0
    fuel: np.float64 = 0.0


@component
class Officer:
    """Who commands which ship."""

    name: str
    ship: EntityRef = None


class CargoAndFuelBecomeHold(Migration):
    """Version 2 of the world: two components are one."""

    def source_version(self):
        return 1

    def target_version(self):
        return 2

    def migrate(self, world):
        def merge(cargo, fuel):
            return Hold(cargo=cargo.tons * 1000.0, fuel=fuel.litres * 0.85)

        world.change(("Cargo", "Fuel"), merge)


class CaptainsBecomeOfficers(Migration):
    """Version 3 of the world: other names, and labels are gone."""

    def source_version(self):
        return 2

    def target_version(self):
        return 3

    def migrate(self, world):
        world.rename("Captain", "Officer")
        world.rename_field("Officer", "called", "name")
        world.rename_field("Officer", "vessel", "ship")
        world.drop("DebugLabel")


def main() -> None:
    """Save as last year, look at the plan, load, and save as today."""
    chain = MigrationChain([CargoAndFuelBecomeHold(), CaptainsBecomeOfficers()])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fleet.pecs")
        save_as_last_year(path)
        before = path.read_bytes()

        with pecs_np.open(path) as save:
            print(save)
            print(f"\nloading takes {len(chain.plan(save).steps)} steps:")
            print(chain.plan(save))

        world = World.load_with_migrations(path, chain)
        print(f"\nnow at version {world.version}: {world}")
        assert path.read_bytes() == before

        world.save(path, backup=True)
        with pecs_np.open(path) as save:
            print("loading it again:", chain.plan(save))
        again = World.load(path)

    ids = world.entities()
    ship = world.get(ids[world.has(ids, Ship)], Ship)
    assert (ship.x[7], ship.y[7], ship.height[7], ship.heading[7]) == (7000, 2500, 0, 90)
    assert world.column(Hold)["cargo"].sum() == 1000 * np.sum(np.arange(1000) % 7)
    for _, officer in world.query(Officer).entities():
        where = [world.get(int(target), Ship).x for target in officer.ship]
        print(dict(zip(officer.name.tolist(), where, strict=True)))
    assert_worlds_equal(again, world)
    print("saved as today and loaded, the world is the same")


if __name__ == "__main__":
    main()
