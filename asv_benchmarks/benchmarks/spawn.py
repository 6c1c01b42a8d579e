"""Making many entities at once."""

import tracemalloc

from pecs_np import World

from .common import LAYOUTS, SIZES, Position, Sampled, Velocity, columns, scatter


class Batch(Sampled):
    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.columns = columns(n)
        chosen = World(seed=5)
        chosen.spawn_batch(count=n)
        self.stable_ids = chosen.stable_ids()

    def time_columns(self, n):
        World().spawn_batch(*self.columns)

    def time_one_value_for_all(self, n):
        World().spawn_batch(Position(1, 2), Velocity(3, 4), count=n)

    def time_chosen_stable_ids(self, n):
        World().spawn_batch(*self.columns, stable_ids=self.stable_ids)

    def time_many_tables(self, n):
        scatter(World(), *self.columns)

    def peakmem_columns(self, n):
        World().spawn_batch(*self.columns)


class Size:
    """What a world takes in memory."""

    params = (SIZES[:2], tuple(LAYOUTS))
    param_names = ("n", "layout")

    def track_bytes_per_entity(self, n, layout):
        LAYOUTS[layout](1000)  # what is made once and kept counts for the library
        tracemalloc.start()
        try:
            world = LAYOUTS[layout](n)
            return tracemalloc.get_traced_memory()[0] / len(world)
        finally:
            tracemalloc.stop()

    track_bytes_per_entity.unit = "bytes"
