"""The workloads of ecs_bench_suite, with which entity-component systems are compared, as NumPy users write them.

Sizes and steps are those of https://github.com/rust-gamedev/ecs_bench_suite; values are seeded, where
the original has the same one everywhere. Each workload is a function that builds its world and one
that does the work, so that others can measure them too; what is called bare does the same on arrays
without a world. The original runs schedule and heavy_compute on all cores, this on one.
"""

import io
import string
from typing import Annotated

import numpy as np
import orjson

from pecs_np import JsonPlugin, World, component, make_component

JSON = JsonPlugin()


@component(name="bench.Transform")
class Transform:
    """From an entity's space to the world's."""

    value: Annotated[np.float32, (4, 4)]


@component(name="bench.Position")
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0
    z: np.float32 = 0.0


@component(name="bench.Rotation")
class Rotation:
    x: np.float32 = 0.0
    y: np.float32 = 0.0
    z: np.float32 = 0.0


@component(name="bench.Velocity")
class Velocity:
    x: np.float32 = 0.0
    y: np.float32 = 0.0
    z: np.float32 = 0.0


@component(name="bench.Data")
class Data:
    value: np.float32 = 1.0


LETTERS = tuple(
    make_component(f"bench.{letter}", {"value": np.float32}, defaults={"value": 0.0})
    for letter in string.ascii_uppercase
)
A, B, C, D, E = LETTERS[:5]
SWAPS = (A, B), (C, D), (C, E)
NAMES = "transform", "position", "rotation", "velocity"


def values(n):
    """Return seeded float32 arrays: n rotations about the x axis (n, 4, 4), and three of n vectors (n, 3)."""
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, n)
    transform = np.tile(np.eye(4, dtype=np.float32), (n, 1, 1))
    transform[:, 1, 1] = transform[:, 2, 2] = np.cos(angle)
    transform[:, 2, 1] = np.sin(angle)
    transform[:, 1, 2] = -transform[:, 2, 1]
    return transform, *rng.random((3, n, 3), dtype=np.float32)


def columns(n):
    """Return seeded columns of n transforms, positions, rotations and velocities."""
    transform, *vectors = values(n)
    kinds = Position, Rotation, Velocity
    return Transform(transform), *[kind(*vector.T) for kind, vector in zip(kinds, vectors, strict=True)]


def simple_insert_step(given):
    """Return a new world of the entities of ready columns."""
    world = World()
    world.spawn_batch(*given)
    return world


def simple_insert_broadcast_step(n=10_000):
    """Return a new world of n entities that get the same values, made here."""
    world = World()
    world.spawn_batch(Transform(np.eye(4)), Position(1, 0, 0), Rotation(1, 0, 0), Velocity(1, 0, 0), count=n)
    return world


def simple_insert_world(n=10_000):
    """Return a world of n entities with a transform, a position, a rotation and a velocity."""
    return simple_insert_step(columns(n))


def simple_iter_step(world):
    """Add its velocity to the position of every entity."""
    for position, velocity in world.query(Position, Velocity):
        position.matrix += velocity.matrix


def fragmented_iter_world(each=20):
    """Return a world of 26 tables of *each* entities: data of 1, and one of the components A to Z."""
    world = World()
    for kind in LETTERS:
        world.spawn_batch(kind(), Data(), count=each)
    return world


def fragmented_iter_step(world, factor=2):
    """Double all data. From 1 that is finite 127 times; *factor* 0.5 goes back."""
    for data in world.query(Data):
        data.value *= factor


def schedule_world(n=10_000):
    """Return a world of n entities each with AB, ABC, ABCD and ABCE."""
    world, rng = World(), np.random.default_rng(2)
    for kinds in ((A, B), (A, B, C), (A, B, C, D), (A, B, C, E)):
        world.spawn_batch(
            *[kind(column) for kind, column in zip(kinds, rng.random((len(kinds), n)), strict=True)]
        )
    return world


def swap(world, first, second):
    """Swap the values of two components, wherever an entity has both."""
    for left, right in world.query(first, second):
        held = left.value.copy()
        left.value = right.value
        right.value = held


def schedule_step(world):
    """Run three systems, each of which swaps two components; a second time undoes it."""
    for pair in SWAPS:
        swap(world, *pair)


def heavy_compute_world(n=1_000):
    """Return a world of n entities as simple_insert has them; their transforms are rotations."""
    return simple_insert_world(n)


def heavy_compute_step(world, times=100):
    """Invert every transform *times* times, and transform the position by what comes out."""
    for transform, position in world.query(Transform, Position):
        inverse = transform.value
        for _ in range(times):
            inverse = np.linalg.inv(inverse)
        transform.value = inverse
        position.matrix = np.einsum("nij,nj->ni", inverse[:, :3, :3], position.matrix)


def add_remove_world(n=10_000):
    """Return a world of n entities with an A, and their ids."""
    world = World()
    return world, world.spawn_batch(A(np.random.default_rng(3).random(n)))


def add_remove_bulk_step(world, ids):
    """Give all entities a B at once, and take it away again."""
    world.insert(ids, B())
    world.remove(ids, B)


def add_remove_commands_step(world, ids):
    """Give the entities a B by a command for each, then take it away so."""
    commands = world.commands()
    for entity in ids:
        commands.insert(entity, B())
    world.apply_commands()
    for entity in ids:
        commands.remove(entity, B)
    world.apply_commands()


def add_remove_each_step(world, ids):
    """Give the entities a B one by one, then take it away one by one."""
    for entity in ids:
        world.insert(entity, B())
    for entity in ids:
        world.remove(entity, B)


def serialize_world(n=1_000):
    """Return a world of n entities as simple_insert has them."""
    return simple_insert_world(n)


def serialize_text_step(world):
    """Return the world after a way through JSON."""
    return World.from_bytes(world.to_bytes(JSON), JSON)


def serialize_binary_step(world):
    """Return the world after a way through the binary format."""
    return World.from_bytes(world.to_bytes())


def hundred(work):
    """Do *work* a hundred times."""
    for _ in range(100):
        work()


class _Short:
    """Work of microseconds, done a hundred times in a row.

    asv sets up anew before each call that it times, and the first call after that finds nothing in the
    caches, neither the processor's nor those of queries.
    """

    def time_100_steps(self):
        hundred(self.step)

    def time_100_bare(self):
        hundred(self.bare)


class SimpleInsert(_Short):
    def setup(self):
        self.columns = columns(10_000)
        self.arrays = values(10_000)

    def step(self):
        simple_insert_step(self.columns)

    def bare(self):
        [array.copy() for array in self.arrays]

    def time_100_broadcast(self):
        hundred(simple_insert_broadcast_step)

    def peakmem_step(self):
        self.step()


class SimpleIter(_Short):
    def setup(self):
        self.world = simple_insert_world()
        _, self.position, _, self.velocity = values(10_000)

    def step(self):
        simple_iter_step(self.world)

    def bare(self):
        self.position += self.velocity


class FragmentedIter(_Short):
    number = 1  # After 127 steps the doubled values overflow.

    def setup(self):
        self.world = fragmented_iter_world()
        self.arrays = [np.ones(20, np.float32) for _ in LETTERS]

    def step(self):
        fragmented_iter_step(self.world)

    def bare(self):
        for array in self.arrays:
            array *= 2


class Schedule(_Short):
    def setup(self):
        self.world = schedule_world()
        self.pairs = [
            (left.value.copy(), right.value.copy())
            for pair in SWAPS
            for left, right in self.world.query(*pair)
        ]

    def step(self):
        schedule_step(self.world)

    def bare(self):
        for left, right in self.pairs:
            held = left.copy()
            left[:] = right
            right[:] = held


class HeavyCompute:
    number = 1

    def setup(self):
        self.world = heavy_compute_world()
        self.transform, self.position, *_ = values(1_000)

    def time_step(self):
        heavy_compute_step(self.world)

    def time_bare(self):
        inverse = self.transform
        for _ in range(100):
            inverse = np.linalg.inv(inverse)
        self.transform[:] = inverse
        self.position[:] = np.einsum("nij,nj->ni", inverse[:, :3, :3], self.position)


class AddRemove(_Short):
    """In bulk, which takes microseconds, and for each of the 10,000 entities."""

    def setup(self):
        self.world, self.ids = add_remove_world()
        self.moved = [self.ids, self.world.stable_ids(), self.world.column(A).copy()]
        self.added = np.zeros_like(self.moved[-1])

    def step(self):
        add_remove_bulk_step(self.world, self.ids)

    def bare(self):
        there = [array.copy() for array in (*self.moved, self.added)]
        [array.copy() for array in there[:-1]]

    def time_commands(self):
        add_remove_commands_step(self.world, self.ids)

    def time_one_by_one(self):
        add_remove_each_step(self.world, self.ids)


class SerializeText:
    def setup(self):
        self.world = serialize_world()
        self.arrays = dict(zip(NAMES, values(1_000), strict=True))

    def time_step(self):
        serialize_text_step(self.world)

    def time_bare(self):
        orjson.loads(orjson.dumps(self.arrays, option=orjson.OPT_SERIALIZE_NUMPY))

    def track_bytes(self):
        return len(self.world.to_bytes(JSON))

    track_bytes.unit = "bytes"


class SerializeBinary(_Short):
    def setup(self):
        self.world = serialize_world()
        self.arrays = dict(zip(NAMES, values(1_000), strict=True))

    def step(self):
        serialize_binary_step(self.world)

    def bare(self):
        for array in self.arrays.values():
            np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape).copy()

    def savez(self):
        file = io.BytesIO()
        np.savez(file, **self.arrays)
        file.seek(0)
        with np.load(file) as arrays:
            return {name: arrays[name] for name in arrays}

    def time_100_savez(self):
        hundred(self.savez)

    def track_bytes(self):
        return len(self.world.to_bytes())

    track_bytes.unit = "bytes"
