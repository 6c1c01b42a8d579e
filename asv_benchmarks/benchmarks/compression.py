"""Compressed saves."""

import numpy as np

import pecs_np
from pecs_np import BinaryPlugin, World

from .common import SIZES, Position, Sampled


def walks(n):
    """Return a world of n entities whose positions are random walks, as of a simulation."""
    rng = np.random.default_rng(4)
    steps = rng.normal(scale=0.1, size=(2, n)).astype(np.float32)
    paths = np.cumsum(steps, axis=1, dtype=np.float32)
    world = World(seed=4)
    world.spawn_batch(Position(x=paths[0], y=paths[1]))
    return world


class _Compressed(Sampled):
    def begin(self, n, codec, **options):
        try:
            self.plugin = BinaryPlugin(compression=codec, **options)
        except pecs_np.PluginNotFoundError:
            raise NotImplementedError(f"{codec} is not installed") from None
        if not hasattr(self, "world"):
            self.world = walks(n)
            self.data = self.world.to_bytes(self.plugin)


class Compression(_Compressed):
    """On one core."""

    params = (SIZES, ("zstd", "lz4"))
    param_names = ("n", "codec")

    def setup(self, n, codec):
        self.begin(n, codec, threads=1)

    def time_to_bytes(self, n, codec):
        self.world.to_bytes(self.plugin)

    def time_from_bytes(self, n, codec):
        World.from_bytes(self.data, self.plugin)

    def track_bytes_per_entity(self, n, codec):
        return len(self.data) / n

    track_bytes_per_entity.unit = "bytes"


OPTIONS = {
    "zstd, two threads": {"threads": 2},
    "zstd, not shuffled": {"threads": 1, "shuffle": False},
    "zstd, level 9": {"threads": 1, "level": 9},
    "lz4, not shuffled": {"threads": 1, "shuffle": False},
}


class Options(_Compressed):
    """Other ways to do it, with a million entities."""

    params = tuple(OPTIONS)
    param_names = ("options",)

    def setup(self, options):
        self.begin(SIZES[-1], options.partition(",")[0], **OPTIONS[options])

    def time_to_bytes(self, options):
        self.world.to_bytes(self.plugin)

    def time_from_bytes(self, options):
        World.from_bytes(self.data, self.plugin)

    def track_bytes_per_entity(self, options):
        return len(self.data) / len(self.world)

    track_bytes_per_entity.unit = "bytes"


class Peak(_Compressed):
    """The highest memory of a process that holds a world and its bytes, and makes one of the other."""

    params = (SIZES[-1:], ("zstd", "lz4"))
    param_names = ("n", "codec")

    def setup(self, n, codec):
        self.begin(n, codec, threads=1)

    def peakmem_to_bytes(self, n, codec):
        self.world.to_bytes(self.plugin)

    def peakmem_from_bytes(self, n, codec):
        World.from_bytes(self.data, self.plugin)
