"""A step of a simulation: a query, and a few NumPy expressions on its columns."""

from .common import SIZES, Position, Velocity, populated


class Step:
    params = (20, *SIZES)
    param_names = ("n",)

    def setup(self, n):
        self.world = populated(n)

    def time_matrix(self, n):
        for position, velocity in self.world.query(Position, Velocity):
            position.matrix += velocity.matrix * 0.1

    def time_fields(self, n):
        for position, velocity in self.world.query(Position, Velocity):
            position.x += velocity.x * 0.1
            position.y += velocity.y * 0.1

    def peakmem_matrix(self, n):
        self.time_matrix(n)
