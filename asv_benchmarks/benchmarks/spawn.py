"""Making and removing entities."""

from pecs_np import World

from .common import SIZES, Velocity, columns, populated


class Batch:
    """Many at once."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.columns = columns(n)

    def time_spawn_batch(self, n):
        World().spawn_batch(*self.columns)

    def peakmem_spawn_batch(self, n):
        World().spawn_batch(*self.columns)


class Structural:
    """Moving every second entity between tables, and out of the world."""

    params = SIZES
    param_names = ("n",)
    number = 1
    repeat = (3, 20, 10.0)

    def setup(self, n):
        self.world = populated(n)
        self.half = self.world.entities()[::2]

    def time_remove_component(self, n):
        self.world.remove(self.half, Velocity)

    def time_despawn(self, n):
        self.world.despawn(self.half)

    def time_overwrite_component(self, n):
        self.world.insert(self.half, Velocity(1, 1))


class One:
    """One entity at a time."""

    def setup(self):
        self.position, self.velocity = (column[0] for column in columns(1))

    def time_spawn_1000(self):
        world = World()
        for _ in range(1000):
            world.spawn(self.position, self.velocity)
