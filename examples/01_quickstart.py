"""A world of particles: define, spawn, step, save, load."""

import tempfile
from pathlib import Path

import numpy as np

from pecs_np import World, component


@component
class Position:
    """Where a particle is, in metres."""

    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Velocity:
    """How fast it moves, in metres a second."""

    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Name:
    """What to call it."""

    text: str = ""


def main() -> None:
    rng = np.random.default_rng(7)
    world = World(seed=7)

    # A hundred thousand entities at once, and one with a name.
    ids = world.spawn_batch(
        Position(x=rng.normal(size=100_000), y=rng.normal(size=100_000)), Velocity(x=1.0, y=0.5)
    )
    probe = world.spawn(Position(0, 0), Velocity(0, 1), Name("probe"))

    # A system is a loop over the tables that have the components; each chunk is whole columns.
    for _ in range(100):
        for position, velocity in world.query(Position, Velocity):
            position.matrix += velocity.matrix * 0.01

    # Adding and removing components works on one entity or on an array of them.
    far = ids[world.get(ids, Position).x > 3]
    world.remove(far, Velocity)
    print(world)
    print("probe:", world.get(probe, Position), world.get(probe, Name))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "particles.pecs")
        world.save(path)
        loaded = World.load(path)
        print(f"saved {path.stat().st_size / 1e6:.2f} MB")

    # Stable ids name an entity in every world that holds it.
    again = loaded.get_entity_id(world.get_stable_id(probe))
    assert loaded.get(again, Position) == world.get(probe, Position)
    assert loaded.to_bytes() == world.to_bytes()
    print("the loaded world is the same:", loaded)


if __name__ == "__main__":
    main()
