"""What changed in a world: found, saved, applied.

``python -m benchmarks.delta`` in the folder above compares a million entities with bare NumPy.
"""

import functools
import tempfile
from pathlib import Path

import numpy as np

import pecs_np  # asv would take a ChangeTracker here for a benchmark, for its methods' names
from pecs_np import World
from pecs_np.persistence import read_delta
from pecs_np.persistence.binary.delta_reader import decode_delta
from pecs_np.persistence.binary.delta_writer import encode_delta

from .common import LAYOUTS, SIZES, Changing, Position, Sampled, Velocity, columns, kept, populated
from .ratios import best

COUNT = 1_000_000


def changed(world, share, seed=1):
    """Change so many of the rows of both components, and return how many that is."""
    rng = np.random.default_rng(seed)
    count = 0
    for position, velocity in world.query(Position).optional(Velocity):
        rows = np.sort(rng.choice(len(position), int(len(position) * share), replace=False))
        for column in (position, velocity):
            if column is not None:
                np.asarray(column)["x"][rows] += 1
        count += len(rows)
    return count


def replaced(world, share):
    """Despawn such a share of the entities, and spawn as many."""
    ids = world.entities()
    count = int(len(ids) * share)
    world.despawn(ids[:: len(ids) // count][:count])
    world.spawn_batch(*columns(count))


CHANGES = {
    "nothing": lambda world: None,
    "a hundredth modified": lambda world: changed(world, 0.01),
    "a tenth modified": lambda world: changed(world, 0.1),
    "a hundredth replaced": lambda world: replaced(world, 0.01),
}


@functools.cache
def tracked(n, kind="a hundredth modified", layout="one table"):
    """Return the tracker of a world that changed since, once in a process."""
    world = LAYOUTS[layout](n)
    tracker = pecs_np.ChangeTracker(world)
    CHANGES[kind](world)
    return tracker


class Kinds(Sampled):
    """Finding changes of some kinds, and as bytes."""

    params = (SIZES, tuple(CHANGES))
    param_names = ("n", "kind")

    def setup(self, n, kind):
        self.tracker = tracked(n, kind)

    def time_changes(self, n, kind):
        self.tracker.changes()

    def track_bytes(self, n, kind):
        return encode_delta(self.tracker.changes()).size

    track_bytes.unit = "bytes"


class Layouts(Sampled):
    """Finding the changes of a hundredth in other worlds."""

    params = (SIZES[:2], ("fragmented", "linked", "many tables"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.tracker = tracked(n, layout=layout)

    def time_changes(self, n, layout):
        self.tracker.changes()


class Changes(Sampled):
    """What is done with the changes of a hundredth."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.base = kept("one table", n)
        self.same = pecs_np.ChangeTracker(self.base)
        self.tracker = tracked(n)
        self.snapshot = self.tracker.base
        self.changes = self.tracker.changes()
        self.data = b"".join(encode_delta(self.changes))

    def time_checkpoint(self, n):
        self.same.checkpoint()

    def time_invert(self, n):
        self.changes.invert()

    def time_apply_to_snapshot(self, n):
        pecs_np.apply_to_snapshot(self.snapshot, self.changes)

    def time_encode(self, n):
        b"".join(encode_delta(self.changes))

    def time_decode(self, n):
        decode_delta(self.data)

    def peakmem_changes(self, n):
        self.tracker.changes()


class Apply(Changing):
    """To another world that is as this one was."""

    params = (SIZES, tuple(CHANGES)[1:])
    param_names = ("n", "kind")

    def setup(self, n, kind):
        self.changes = tracked(n, kind).changes()
        self.replica = World.from_snapshot(tracked(n, kind).base.copy())

    def time_apply(self, n, kind):
        self.replica.apply(self.changes)


class Files(Sampled):
    """A save, and a file of the changes of a hundredth."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.folder = tempfile.TemporaryDirectory()
        self.base, self.path = (Path(self.folder.name, name) for name in ("base.pecs", "delta.pecs"))
        World.from_snapshot(tracked(n).base.copy()).save(self.base, durable=False)
        self.world = tracked(n).world
        self.world.save_delta(self.path, since=self.base, durable=False)

    def teardown(self, n):
        self.folder.cleanup()

    def time_save(self, n):
        self.world.save_delta(self.path, since=self.base, durable=False)

    def time_read(self, n):
        read_delta(self.path)

    def time_load_with_its_save(self, n):
        World.load(self.base, deltas=[self.path])


# Beside bare NumPy


def _read_both(tracker):
    """Return what reads the columns as they were and as they are, once."""
    types = (Position, Velocity)
    whole = [tracker.base.column(type_._type.name) for type_ in types]
    whole += [tracker.world.column(type_) for type_ in types]
    # As words: NumPy goes through structured arrays field by field.
    pairs = [column.view("<u8") for column in whole]

    def read():
        for column in pairs:
            np.bitwise_or.reduce(column)

    return read


def _tracked(share):
    world = populated(COUNT)
    tracker = pecs_np.ChangeTracker(world)
    changed(world, share)
    return tracker


def changes_of_a_hundredth():
    """At most 4 times the time to read both copies once."""
    tracker = _tracked(0.01)
    ours, bare = best(tracker.changes, _read_both(tracker))
    return ours / bare


def changes_of_nothing():
    """At most 2.5 times the time to read both copies once."""
    tracker = _tracked(0)
    ours, bare = best(tracker.changes, _read_both(tracker))
    return ours / bare


def delta_bytes():
    """At most 1.3 times the bytes of the changed rows and their ids."""
    world = populated(COUNT)
    tracker = pecs_np.ChangeTracker(world)
    rows = changed(world, 0.01)
    size = 16 + sum(t._type.layout.disk.itemsize for t in (Position, Velocity))
    return encode_delta(tracker.changes()).size / (rows * size)


def checkpoint():
    """At most twice a copy of the columns."""
    tracker = _tracked(0)
    whole = [tracker.world.column(t).view("<u8") for t in (Position, Velocity)]
    ours, bare = best(tracker.checkpoint, lambda: [column.copy() for column in whole])
    return ours / bare


def encoding():
    """Milliseconds to make the delta of 10,000 changed rows into bytes."""
    changes = _tracked(0.01).changes()
    (ours,) = best(lambda: b"".join(encode_delta(changes)), repeat=40)
    return ours * 1e3


def decoding():
    """Milliseconds to make bytes into the delta of 10,000 changed rows."""
    data = b"".join(encode_delta(_tracked(0.01).changes()))
    (ours,) = best(lambda: decode_delta(data), repeat=40)
    return ours * 1e3


TABLE = (
    (changes_of_a_hundredth, "x"),
    (changes_of_nothing, "x"),
    (checkpoint, "x"),
    (decoding, "ms"),
    (delta_bytes, "x"),
    (encoding, "ms"),
)

if __name__ == "__main__":
    for function, unit in TABLE:
        print(f"{function.__name__:28} {function():8.2f} {unit}")
