"""Version 1 of the format: a record for each entity."""

import numpy as np

import pecs_np
from pecs_np import BinaryPlugin, World

from .common import SIZES, Sampled, columns, kept

PLUGIN = BinaryPlugin(version=1)


def alternating(n):
    """Return a save of version 1 whose records alternate between two archetypes, and one where they do not."""
    world = World()
    position, velocity = columns(n)
    world.spawn_batch(position[: n // 2])
    world.spawn_batch(position[n // 2 :], velocity[n // 2 :])
    data = world.to_bytes(PLUGIN)
    one, two = 20 + 28, 20 + 2 * 28
    start = len(data) - 8 - (n // 2) * one - (n - n // 2) * two
    first = np.frombuffer(data, np.uint8, (n // 2) * one, start).reshape(-1, one)
    second = np.frombuffer(data, np.uint8, (n - n // 2) * two, start + first.size).reshape(-1, two)
    body = data[:start] + np.hstack((first, second)).tobytes()
    return body + pecs_np.persistence.checksum.crc64(body).to_bytes(8, "little"), data


class Records(Sampled):
    params = (SIZES, ("one table", "linked"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)
        self.data = self.world.to_bytes(PLUGIN)

    def time_to_bytes(self, n, layout):
        self.world.to_bytes(PLUGIN)

    def time_from_bytes(self, n, layout):
        World.from_bytes(self.data)

    def track_bytes_per_entity(self, n, layout):
        return len(self.data) / len(self.world)

    track_bytes_per_entity.unit = "bytes"


class Peak:
    """The highest memory of a process that holds a world and its bytes, and makes one of the other."""

    params = (SIZES[-1:], ("one table", "linked"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)
        self.data = self.world.to_bytes(PLUGIN)

    def peakmem_to_bytes(self, n, layout):
        self.world.to_bytes(PLUGIN)

    def peakmem_from_bytes(self, n, layout):
        World.from_bytes(self.data)


class Alternating(Sampled):
    """Records of two archetypes in turns, as another program may write them, and grouped as this one does."""

    params = (SIZES, ("alternating", "grouped"))
    param_names = ("n", "order")

    def setup(self, n, order):
        mixed, grouped = alternating(n)
        self.data = mixed if order == "alternating" else grouped

    def time_from_bytes(self, n, order):
        World.from_bytes(self.data)
