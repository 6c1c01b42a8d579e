"""Steps of a simulation, and what finding the columns for them takes."""

import numpy as np

from .common import LAYOUTS, SIZES, TAGS, Changing, Position, Sampled, Velocity, kept, populated

COUNT = 100_000


def step_matrices(world):
    for position, velocity in world.query(Position, Velocity):
        position.matrix += velocity.matrix * 0.1


def step_fields(world):
    for position, velocity in world.query(Position, Velocity):
        position.x += velocity.x * 0.1
        position.y += velocity.y * 0.1


def exhaust(query):
    for _ in query:
        pass


class Step(Sampled):
    params = (SIZES, ("one table", "fragmented", "many tables"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)

    def time_matrices(self, n, layout):
        step_matrices(self.world)

    def time_fields(self, n, layout):
        step_fields(self.world)


class Peak:
    """The highest memory of a process that steps a world."""

    params = SIZES[-1:]
    param_names = ("n",)

    def setup(self, n):
        self.world = populated(n)

    def peakmem_matrices(self, n):
        step_matrices(self.world)

    def peakmem_fields(self, n):
        step_fields(self.world)


class Small(Sampled):
    """A thousand times, with 20 entities."""

    def setup(self):
        self.world = kept("one table", 20)

    def time_1000_of_matrices(self):
        for _ in range(1000):
            step_matrices(self.world)

    def time_1000_of_fields(self):
        for _ in range(1000):
            step_fields(self.world)

    def time_1000_columns(self):
        for _ in range(1000):
            self.world.column(Position)


class Iteration(Sampled):
    """A hundred times over the chunks of the tables that match, without a look at them."""

    params = ("one table", "many tables")
    param_names = ("layout",)

    def setup(self, layout):
        self.world = kept(layout, COUNT)

    def time_100_of_columns(self, layout):
        for _ in range(100):
            exhaust(self.world.query(Position, Velocity))

    def time_100_of_entities(self, layout):
        for _ in range(100):
            exhaust(self.world.query(Position).entities())

    def time_100_with(self, layout):
        for _ in range(100):
            exhaust(self.world.query(Position).with_(Velocity))

    def time_100_without(self, layout):
        for _ in range(100):
            exhaust(self.world.query(Position).without(TAGS[0]))

    def time_100_optional(self, layout):
        for _ in range(100):
            exhaust(self.world.query(Position).optional(TAGS[0]))

    def time_100_counts(self, layout):
        for _ in range(100):
            self.world.query(Position, Velocity).count()


class FirstUse(Changing):
    """In a world that is new, or in which an entity was added since."""

    params = (("one table", "many tables"), ("new world", "one more entity"))
    param_names = ("layout", "when")

    def setup(self, layout, when):
        self.world = LAYOUTS[layout](COUNT)
        if when == "one more entity":
            exhaust(self.world.query(Position, Velocity))
            self.world.spawn(Position(1, 2), Velocity(3, 4))

    def time_columns(self, layout, when):
        exhaust(self.world.query(Position, Velocity))


class Whole(Sampled):
    """Arrays of all entities, gathered from several tables."""

    params = (SIZES, ("fragmented", "many tables"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)

    def time_column(self, n, layout):
        self.world.column(Position)

    def time_ids(self, n, layout):
        self.world.entities()
        self.world.stable_ids()


class LookUp(Sampled):
    """Of half the entities, in no order, at once."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.world = kept("fragmented", n)
        ids = self.world.entities()
        self.ids = np.random.default_rng(6).permutation(ids)[: len(ids) // 2]
        self.stable_ids = self.world.get_stable_id(self.ids)

    def time_get(self, n):
        self.world.get(self.ids, Position)

    def time_has(self, n):
        self.world.has(self.ids, Velocity)

    def time_is_alive(self, n):
        self.world.is_alive(self.ids)

    def time_get_stable_id(self, n):
        self.world.get_stable_id(self.ids)

    def time_get_entity_id(self, n):
        self.world.get_entity_id(self.stable_ids)
