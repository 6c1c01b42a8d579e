"""Saving and loading, in memory and on disk."""

import io
import tempfile
from pathlib import Path

import numpy as np

from pecs_np import World

from .common import LAYOUTS, SIZES, Changing, Position, Sampled, Velocity, kept


class Memory(Sampled):
    params = (SIZES, tuple(LAYOUTS))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)
        self.data = self.world.to_bytes()

    def time_to_bytes(self, n, layout):
        self.world.to_bytes()

    def time_from_bytes(self, n, layout):
        World.from_bytes(self.data)

    def track_bytes_per_entity(self, n, layout):
        return len(self.data) / len(self.world)

    track_bytes_per_entity.unit = "bytes"


class Peak:
    """The highest memory of a process that holds a world and its bytes, and makes one of the other."""

    params = (SIZES[-1:], tuple(LAYOUTS))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)
        self.data = self.world.to_bytes()

    def peakmem_to_bytes(self, n, layout):
        self.world.to_bytes()

    def peakmem_from_bytes(self, n, layout):
        World.from_bytes(self.data)


class Disk(Sampled):
    """Files that the system holds in memory, as far as it likes."""

    params = (SIZES, ("one table", "linked"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.pecs")
        self.world.save(self.path, durable=False)

    def teardown(self, n, layout):
        self.folder.cleanup()

    def time_save(self, n, layout):
        self.world.save(self.path, durable=False)

    def time_load(self, n, layout):
        World.load(self.path)


class Durable(Sampled):
    """Flushed to the disk: as fast as that is."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.world = kept("one table", n)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.pecs")

    def teardown(self, n):
        self.folder.cleanup()

    def time_save(self, n):
        self.world.save(self.path)


class Snapshots(Sampled):
    params = (SIZES, ("one table", "linked"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)

    def time_copy(self, n, layout):
        self.world.snapshot(copy=True)


class Restore(Changing):
    """Into a world that is empty, or has each second of the entities of the save."""

    params = (SIZES, ("exact", "merge", "overwrite"))
    param_names = ("n", "mode")

    def setup(self, n, mode):
        data = kept("one table", n).to_bytes()
        self.world = World.from_bytes(data)
        self.world.despawn(self.world.entities()[::2])
        if mode == "exact":
            self.world = World()
        self.snapshot = World.from_bytes(data).snapshot()

    def time_restore(self, n, mode):
        self.world.restore(self.snapshot, mode=mode)


class Savez(Sampled):
    """What `numpy.savez` takes for the same two columns, to compare."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        world = kept("one table", n)
        self.columns = {T.__name__: world.column(T) for T in (Position, Velocity)}

    def time_savez(self, n):
        np.savez(io.BytesIO(), **self.columns)
