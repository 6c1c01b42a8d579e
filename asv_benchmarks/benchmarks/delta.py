"""What changed in a million entities of two components: found, saved, applied; and each against bare NumPy.

``python -m benchmarks.delta`` in the folder above prints the ratios.
"""

import tempfile
from pathlib import Path

import numpy as np

import pecs_np  # asv would take a ChangeTracker here for a benchmark, for its methods' names
from pecs_np import World
from pecs_np.persistence import read_delta
from pecs_np.persistence.binary.delta_reader import decode_delta
from pecs_np.persistence.binary.delta_writer import encode_delta

from .common import Position, Velocity, populated
from .ratios import best

COUNT = 1_000_000


def changed(world, share, seed=1):
    """Change so many of the rows of both components, and return how many that is."""
    count = len(world)
    rows = np.sort(np.random.default_rng(seed).choice(count, int(count * share), replace=False))
    for type_ in (Position, Velocity):
        world.column(type_)[world.column(type_).dtype.names[0]][rows] += 1
    return len(rows)


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


def track_changes_of_a_hundredth():
    """At most 4 times the time to read both copies once."""
    tracker = _tracked(0.01)
    ours, bare = best(tracker.changes, _read_both(tracker))
    return ours / bare


def track_changes_of_nothing():
    """At most 2.5 times the time to read both copies once."""
    tracker = _tracked(0)
    ours, bare = best(tracker.changes, _read_both(tracker))
    return ours / bare


def track_delta_bytes():
    """At most 1.3 times the bytes of the changed rows and their ids."""
    world = populated(COUNT)
    tracker = pecs_np.ChangeTracker(world)
    rows = changed(world, 0.01)
    size = 16 + sum(t._type.layout.disk.itemsize for t in (Position, Velocity))
    return encode_delta(tracker.changes()).size / (rows * size)


def track_checkpoint():
    """At most twice a copy of the columns."""
    tracker = _tracked(0)
    columns = [tracker.world.column(t).view("<u8") for t in (Position, Velocity)]
    ours, bare = best(tracker.checkpoint, lambda: [column.copy() for column in columns])
    return ours / bare


def track_encoding():
    """Milliseconds to make the delta of 10,000 changed rows into bytes."""
    changes = _tracked(0.01).changes()
    (ours,) = best(lambda: b"".join(encode_delta(changes)), repeat=40)
    return ours * 1e3


def track_decoding():
    """Milliseconds to make bytes into the delta of 10,000 changed rows."""
    data = b"".join(encode_delta(_tracked(0.01).changes()))
    (ours,) = best(lambda: decode_delta(data), repeat=40)
    return ours * 1e3


for _track, _unit in (
    (track_changes_of_a_hundredth, "x"),
    (track_changes_of_nothing, "x"),
    (track_delta_bytes, "x"),
    (track_checkpoint, "x"),
    (track_encoding, "ms"),
    (track_decoding, "ms"),
):
    _track.unit = _unit


class Deltas:
    """Files: one in a hundred rows of a million changed."""

    params = (0.001, 0.01, 0.1)
    param_names = ("share",)

    def setup(self, share):
        self.folder = tempfile.TemporaryDirectory()
        self.base, self.path = (Path(self.folder.name, name) for name in ("base.pecs", "delta.pecs"))
        world = populated(COUNT)
        self.tracker = pecs_np.ChangeTracker(world, base_id=world.save(self.base, durable=False).save_id)
        changed(world, share)
        self.changes = self.tracker.changes()
        self.replica = World.load(self.base)
        world.save_delta(self.path, since=self.base, durable=False)

    def teardown(self, share):
        self.folder.cleanup()

    def time_changes(self, share):
        self.tracker.changes()

    def time_save(self, share):
        self.tracker.world.save_delta(self.path, since=self.base, durable=False)

    def time_read(self, share):
        read_delta(self.path)

    def time_apply(self, share):
        self.replica.apply(self.changes, conflict="theirs")

    def time_load_with_its_save(self, share):
        World.load(self.base, deltas=[self.path])


if __name__ == "__main__":
    for name, track in sorted(globals().items()):
        if name.startswith("track_"):
            print(f"{name[6:]:28} {track():8.2f} {track.unit}")
