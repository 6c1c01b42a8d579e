"""Version 1, compression, and opened saves."""

import io
import tempfile
from pathlib import Path

import numpy as np

import pecs_np
from pecs_np import BinaryPlugin, World

from .common import SIZES, Position, Velocity, columns, fragmented, linked, populated

LAYOUTS = {"one table": populated, "fragmented": fragmented, "linked": linked}


def alternating(n):
    """Return a save of version 1 whose records alternate between two archetypes."""
    plugin = BinaryPlugin(version=1)
    world = World()
    position, velocity = columns(n)
    world.spawn_batch(position[: n // 2])
    world.spawn_batch(position[n // 2 :], velocity[n // 2 :])
    data = world.to_bytes(plugin)
    one, two = 20 + 28, 20 + 2 * 28
    start = len(data) - 8 - (n // 2) * one - (n - n // 2) * two
    first = np.frombuffer(data, np.uint8, (n // 2) * one, start).reshape(-1, one)
    second = np.frombuffer(data, np.uint8, (n - n // 2) * two, start + first.size).reshape(-1, two)
    body = data[:start] + np.hstack((first, second)).tobytes()
    return body + pecs_np.persistence.checksum.crc64(body).to_bytes(8, "little"), data


class Records:
    """Version 1."""

    params = (SIZES, tuple(LAYOUTS))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.plugin = BinaryPlugin(version=1)
        self.world = World.from_snapshot(LAYOUTS[layout](n).snapshot(copy=True))
        self.data = self.world.to_bytes(self.plugin)

    def time_to_bytes(self, n, layout):
        self.world.to_bytes(self.plugin)

    def time_from_bytes(self, n, layout):
        World.from_bytes(self.data)

    def peakmem_from_bytes(self, n, layout):
        World.from_bytes(self.data)


class AlternatingRecords:
    params = (SIZES,)
    param_names = ("n",)

    def setup(self, n):
        self.alternating, self.grouped = alternating(n)

    def time_alternating(self, n):
        World.from_bytes(self.alternating)

    def time_grouped(self, n):
        World.from_bytes(self.grouped)


def walks(n):
    """Return a world of n entities whose positions are random walks, as of a simulation."""
    rng = np.random.default_rng(4)
    steps = rng.normal(scale=0.1, size=(2, n)).astype(np.float32)
    paths = np.cumsum(steps, axis=1, dtype=np.float32)
    world = World(seed=4)
    world.spawn_batch(Position(x=paths[0], y=paths[1]))
    return world


class Compression:
    params = (("zstd", "lz4"), (True, False), (1, 2))
    param_names = ("codec", "shuffle", "threads")

    def setup(self, codec, shuffle, threads):
        try:
            self.plugin = BinaryPlugin(compression=codec, shuffle=shuffle, threads=threads)
        except pecs_np.PluginNotFoundError:
            raise NotImplementedError from None
        self.world = walks(1_000_000)
        self.data = self.world.to_bytes(self.plugin)

    def time_compress(self, codec, shuffle, threads):
        self.world.to_bytes(self.plugin)

    def time_decompress(self, codec, shuffle, threads):
        World.from_bytes(self.data, self.plugin)

    def track_ratio(self, codec, shuffle, threads):
        return len(self.world.to_bytes()) / len(self.data)

    track_ratio.unit = "raw bytes a byte"


class Opened:
    """A column out of a file of ten."""

    params = ((False, True),)
    param_names = ("mmap",)

    def setup(self, mmap):
        world = World()
        position, velocity = columns(1_000_000)
        others = [pecs_np.make_component(f"Other{i}", {"x": np.float32, "y": np.float32}) for i in range(8)]
        world.spawn_batch(position, velocity, *[T(x=position.x, y=i) for i, T in enumerate(others)])
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.pecs")
        world.save(self.path)
        self.save = pecs_np.open(self.path, mmap=mmap)

    def teardown(self, mmap):
        self.save.close()
        self.folder.cleanup()

    def time_open(self, mmap):
        pecs_np.open(self.path, mmap=mmap).close()

    def time_column(self, mmap):
        self.save["Position"]

    def time_verify(self, mmap):
        self.save.verify()


class Savez:
    """What `numpy.savez` takes for the same two columns, to compare."""

    params = (SIZES,)
    param_names = ("n",)

    def setup(self, n):
        world = populated(n)
        self.columns = {T.__name__: world.column(T) for T in (Position, Velocity)}

    def time_savez(self, n):
        np.savez(io.BytesIO(), **self.columns)
