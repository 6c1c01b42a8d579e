"""Saving and loading, in memory and on disk."""

import tempfile
from pathlib import Path

from pecs_np import World

from .common import SIZES, fragmented, linked, populated


class Memory:
    params = (SIZES, ("one table", "fragmented", "linked"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = {"one table": populated, "fragmented": fragmented, "linked": linked}[layout](n)
        self.data = self.world.to_bytes()

    def time_to_bytes(self, n, layout):
        self.world.to_bytes()

    def time_from_bytes(self, n, layout):
        World.from_bytes(self.data)

    def peakmem_to_bytes(self, n, layout):
        self.world.to_bytes()

    def peakmem_from_bytes(self, n, layout):
        World.from_bytes(self.data)

    def track_bytes_per_entity(self, n, layout):
        return len(self.data) / len(self.world)

    track_bytes_per_entity.unit = "bytes"


class Disk:
    params = (SIZES, (True, False))
    param_names = ("n", "durable")

    def setup(self, n, durable):
        self.world = populated(n)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.pecs")
        self.world.save(self.path)

    def teardown(self, n, durable):
        self.folder.cleanup()

    def time_save(self, n, durable):
        self.world.save(self.path, durable=durable)

    def time_load(self, n, durable):
        World.load(self.path)
