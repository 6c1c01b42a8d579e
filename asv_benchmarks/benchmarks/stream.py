"""Saving to and loading from streams that only go forward, and how much memory that takes."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from pecs_np import BinaryPlugin, World

from .common import SIZES, Link, Sampled, columns, kept, linked, populated
from .memory import in_new_process, peak

LARGE = (1_000_000, 5_000_000)


def texts(n):
    """A world of n entities with a name of up to eleven bytes each."""
    world = World(seed=3)
    names = np.array([f"entity {i % 9999}" for i in range(n)], object)
    world.spawn_batch(*columns(n), Link(to=None, name=names))
    return world


LAYOUTS = {"plain": populated, "zstd": populated, "version 1": populated, "texts": texts, "linked": linked}
PLUGINS = {"zstd": BinaryPlugin(compression="zstd"), "version 1": BinaryPlugin(version=1)}


def _nbytes(world):
    return sum(c.nbytes for name in world.snapshot().types for c in world.columns(name.name)) / (1 << 20)


def measure_save(layout, n):
    """Print what saving to a stream takes beyond the world."""
    plugin = PLUGINS.get(layout, BinaryPlugin())
    world = LAYOUTS[layout](n)
    with open(os.devnull, "wb", buffering=0) as sink:
        # What is imported and kept for good counts for the library, not for the save.
        plugin.save(LAYOUTS[layout](100_000), sink)
        print(peak(lambda: plugin.save(world, sink))[0])


def measure_load(layout, n):
    """Print what loading from a pipe takes beyond the columns."""
    plugin = PLUGINS.get(layout, BinaryPlugin())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "world.pecs")
        write = f"from benchmarks.stream import write; write({layout!r}, {n}, {str(path)!r})"
        subprocess.run([sys.executable, "-c", write], check=True)
        World.from_bytes(LAYOUTS[layout](100_000).to_bytes(plugin))
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
            highest, world = peak(lambda: World.load_binary_stream(process.stdout))
    print(highest - _nbytes(world))


def write(layout, n, path):
    LAYOUTS[layout](n).save_with(path, PLUGINS.get(layout, BinaryPlugin()))


class Memory:
    """What a stream takes beyond the world itself, however large it is."""

    params = (LARGE, ("plain", "zstd"))
    param_names = ("n", "layout")
    timeout = 600

    def setup(self, n, layout):
        if not sys.platform.startswith("linux"):
            raise NotImplementedError

    def track_extra_of_save(self, n, layout):
        return in_new_process("stream", "measure_save", layout, n)

    def track_extra_of_load(self, n, layout):
        return in_new_process("stream", "measure_load", layout, n)

    track_extra_of_save.unit = track_extra_of_load.unit = "MiB"


class Stream(Sampled):
    """To where nothing is kept, and from a file that the system holds in memory."""

    params = (SIZES, ("one table", "linked", "many tables"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.pecs")
        self.world.save(self.path, durable=False)

    def teardown(self, n, layout):
        self.folder.cleanup()

    def time_save_binary_stream(self, n, layout):
        with open(os.devnull, "wb", buffering=0) as sink:
            self.world.save_binary_stream(sink)

    def time_load_binary_stream(self, n, layout):
        with self.path.open("rb", buffering=0) as file:
            World.load_binary_stream(file)


class Peak:
    """The highest memory of a process that holds a world, and that also streams it."""

    params = SIZES[-1:]
    param_names = ("n",)

    def setup(self, n):
        self.world = populated(n)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.pecs")
        self.world.save(self.path)

    def teardown(self, n):
        self.folder.cleanup()

    def peakmem_world_alone(self, n):
        pass

    def peakmem_save_binary_stream(self, n):
        with open(os.devnull, "wb", buffering=0) as sink:
            self.world.save_binary_stream(sink)

    def peakmem_load_binary_stream(self, n):
        del self.world
        with self.path.open("rb", buffering=0) as file:
            World.load_binary_stream(file)
