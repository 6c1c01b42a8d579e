"""A log of changes to a million entities of two components: appended to, replayed, compacted.

``python -m benchmarks.delta_log`` in the folder above prints the times and ratios.
"""

import tempfile
from pathlib import Path

import numpy as np

import pecs_np  # asv would take a ChangeTracker here for a benchmark, for its methods' names
from pecs_np import DeltaLog, World
from pecs_np.persistence.log.records import payload_of

from .common import populated
from .delta import changed
from .ratios import best

COUNT, ROWS, RECORDS = 1_000_000, 10_000, 50


class Logged:
    """A log of a million entities, one of whose hundredths changed a number of times."""

    def __init__(self, durability="process", records=0):
        self.folder = tempfile.TemporaryDirectory()
        self.world = populated(COUNT)
        tracker = pecs_np.ChangeTracker(self.world)
        self.path = Path(self.folder.name, "bench.log")
        self.log = DeltaLog.open(self.path, durability, world=self.world)
        changed(self.world, ROWS / COUNT)
        self.changes = tracker.take()
        for _ in range(records):
            self.log.append(self.changes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.close()
        self.folder.cleanup()


def track_append_ms():
    """What an append of 10,000 changed rows takes once the changes are known: at most 1 ms."""
    with Logged() as made:
        (seconds,) = best(lambda: made.log.append(made.changes), repeat=60)
    return seconds * 1e3


def track_durable_append_ms():
    with Logged("power") as made:
        (seconds,) = best(lambda: made.log.append(made.changes), repeat=60)
    return seconds * 1e3


def track_append_against_a_bare_write():
    with Logged() as made, open(f"{made.path}.raw", "ab", buffering=0) as raw:
        data = b"".join(payload_of(made.changes, None)[2])
        ours, bare = best(lambda: made.log.append(made.changes), lambda: raw.write(data), repeat=60)
    return ours / bare


def track_size_against_the_rows():
    """Bytes of a record against those of the changed rows and their ids."""
    with Logged() as made:
        before = made.path.stat().st_size
        made.log.append(made.changes)
        size = made.path.stat().st_size - before
    return size / sum(
        table.stable_ids.nbytes + sum(column.nbytes for column in table.columns.values())
        for table in made.changes.modified
    )


def track_open_against_reading():
    """All records are checked when a log is opened."""
    with Logged(records=RECORDS) as made:
        ours, bare = best(
            lambda: DeltaLog.open(made.path, readonly=True).close(), lambda: np.fromfile(made.path, np.uint8)
        )
    return ours / bare


def track_replayed_records_per_second():
    with Logged(records=RECORDS) as made:
        (seconds,) = best(lambda: sum(1 for _ in made.log.replay()), repeat=5)
    return RECORDS / seconds


def track_restore_against_load():
    """The world from its save and 50 records of 10,000 rows, against from the save alone."""
    with Logged(records=RECORDS) as made:
        base = f"{made.path}.0.pecs"
        ours, bare = best(lambda: DeltaLog.restore(made.path), lambda: World.load(base), repeat=3)
    return ours / bare


def main():
    for name, value in list(globals().items()):
        if name.startswith("track_"):
            print(f"{name.removeprefix('track_'):40} {value():8.2f}")


if __name__ == "__main__":
    main()
