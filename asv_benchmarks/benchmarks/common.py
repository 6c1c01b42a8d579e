"""The world that most benchmarks use: n entities with a position and a velocity."""

import numpy as np

from pecs_np import EntityRef, World, component

SIZES = (1_000, 100_000, 1_000_000)


@component
class Position:
    """Metres."""

    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Velocity:
    """Metres a second."""

    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component
class Link:
    """One entity in particular, a few more, and what to call them."""

    to: EntityRef
    crew: list[EntityRef] = []
    name: str = ""


def columns(n: int) -> tuple[Position, Velocity]:
    """Return seeded columns of n positions and velocities."""
    values = np.random.default_rng(1).random((4, n), dtype=np.float32)
    return Position(x=values[0], y=values[1]), Velocity(x=values[2], y=values[3])


def populated(n: int) -> World:
    """Return a world of n entities in one table."""
    world = World()
    world.spawn_batch(*columns(n))
    return world


def fragmented(n: int) -> World:
    """Return a world of n entities in two tables, with holes where a tenth of them died."""
    world = World(seed=1)
    ids = world.spawn_batch(*columns(n))
    world.remove(ids[::3], Velocity)
    world.despawn(ids[::10])
    return world


def linked(n: int) -> World:
    """Return a world of n entities in two tables that refer to one another."""
    rng = np.random.default_rng(2)
    world = fragmented(n)
    ids = world.entities()
    some = ids[::10]
    crew = np.empty(len(some), object)
    crew[:] = np.split(rng.choice(ids, 3 * len(some)), len(some))
    world.insert(some, Link(to=rng.choice(ids, len(some)), crew=crew, name="linked"))
    return world
