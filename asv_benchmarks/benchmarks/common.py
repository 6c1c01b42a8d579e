"""The worlds that the benchmarks use, in several layouts, and how often each benchmark is measured.

asv measures each benchmark with each of its parameters in two processes of their own, some seconds apart, and
calls ``setup`` before every sample.
"""

import functools
import itertools

import numpy as np

from pecs_np import EntityRef, World, component, make_component

SIZES = (1_000, 100_000, 1_000_000)
TABLES = 200


class Sampled:
    """For what leaves its world as it was: up to 300 samples of one call in 0.3 seconds, at least three."""

    number = 1
    warmup_time = 0.1
    repeat = (3, 300, 0.3)


class Changing:
    """For what changes its world, which ``setup`` makes anew: one call a sample, none of them to warm up."""

    number = 1
    warmup_time = 0
    repeat = (4, 100, 0.5)


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


TAGS = [make_component(f"Tag{i}", {}) for i in range(8)]


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
    """Return a world of n entities in four tables, of which a tenth refer to others."""
    rng = np.random.default_rng(2)
    world = fragmented(n)
    ids = world.entities()
    some = ids[::10]
    crew = np.empty(len(some), object)
    crew[:] = np.split(rng.choice(ids, 3 * len(some)), len(some))
    world.insert(some, Link(to=rng.choice(ids, len(some)), crew=crew, name="linked"))
    return world


def scattered(n: int) -> World:
    """Return a world of n entities in 200 tables, which differ in their tags."""
    world = World(seed=3)
    scatter(world, *columns(n))
    return world


def scatter(world: World, position: Position, velocity: Velocity) -> None:
    """Spawn entities of these columns, with other tags for each 200th of them."""
    bounds = [len(position) * i // TABLES for i in range(TABLES + 1)]
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        tags = [tag() for bit, tag in enumerate(TAGS) if number >> bit & 1]
        world.spawn_batch(position[start:stop], velocity[start:stop], *tags)


LAYOUTS = {"one table": populated, "fragmented": fragmented, "linked": linked, "many tables": scattered}


@functools.cache
def kept(layout: str, n: int) -> World:
    """Return a world that is built once in a process, for what does not change it."""
    return LAYOUTS[layout](n)
