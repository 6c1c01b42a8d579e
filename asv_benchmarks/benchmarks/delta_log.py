"""A log of changes: appended to, replayed, compacted.

``python -m benchmarks.delta_log`` in the folder above prints times and ratios for a million entities.
"""

import tempfile
from pathlib import Path

import numpy as np

import pecs_np  # asv would take a ChangeTracker here for a benchmark, for its methods' names
from pecs_np import DeltaLog, World
from pecs_np.persistence.log.records import payload_of

from .common import SIZES, Changing, Sampled, populated
from .delta import changed, tracked
from .ratios import best

COUNT, ROWS, RECORDS = 1_000_000, 10_000, 50
NAME = "bench.log"


class Logged:
    """A log of n entities, one of whose hundredths changed a number of times."""

    def __init__(self, durability="process", records=0, n=COUNT, folder=None):
        self.folder = None if folder else tempfile.TemporaryDirectory()
        self.world = populated(n)
        tracker = pecs_np.ChangeTracker(self.world)
        self.path = Path(folder or self.folder.name, NAME)
        self.log = DeltaLog.open(self.path, durability, world=self.world)
        changed(self.world, ROWS / COUNT)
        self.changes = tracker.take()
        for _ in range(records):
            self.log.append(self.changes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.log.close()
        if self.folder:
            self.folder.cleanup()


class Append(Changing):
    """Ten appends of a hundredth of n entities to a log that is empty."""

    params = (SIZES[:2], ("process", "power"))
    param_names = ("n", "durability")

    def setup(self, n, durability):
        self.logged = Logged(durability, n=n)

    def teardown(self, n, durability):
        self.logged.__exit__()

    def time_10_appends(self, n, durability):
        for _ in range(10):
            self.logged.log.append(self.logged.changes)


class Replay(Sampled):
    """Fifty records of a hundredth of n entities."""

    params = SIZES
    param_names = ("n",)

    def setup_cache(self):
        for n in SIZES:
            Path(str(n)).mkdir()
            Logged(records=RECORDS, n=n, folder=str(n)).__exit__()

    def setup(self, n):
        self.path = Path(str(n), NAME)

    def time_open(self, n):
        DeltaLog.open(self.path, readonly=True).close()

    def time_replay(self, n):
        with DeltaLog.open(self.path, readonly=True) as log:
            for _ in log.replay():
                pass

    def time_restore(self, n):
        DeltaLog.restore(self.path)

    def peakmem_restore(self, n):
        DeltaLog.restore(self.path)

    def track_bytes_per_changed_entity(self, n):
        return self.path.stat().st_size / (RECORDS * n // 100)

    track_bytes_per_changed_entity.unit = "bytes"


class Compact(Changing):
    """A log of ten records, of which the first five go into the save."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, NAME)
        self.log = DeltaLog.open(self.path, "process", world=World.from_snapshot(tracked(n).base.copy()))
        for _ in range(10):
            self.log.append(tracked(n).changes())

    def teardown(self, n):
        self.log.close()
        self.folder.cleanup()

    def time_compact(self, n):
        self.log.compact(until=5)


# Times and ratios


def append_ms():
    """What an append of 10,000 changed rows takes once the changes are known: at most 1 ms."""
    with Logged() as made:
        (seconds,) = best(lambda: made.log.append(made.changes), repeat=60)
    return seconds * 1e3


def durable_append_ms():
    with Logged("power") as made:
        (seconds,) = best(lambda: made.log.append(made.changes), repeat=60)
    return seconds * 1e3


def append_against_a_bare_write():
    with Logged() as made, open(f"{made.path}.raw", "ab", buffering=0) as raw:
        data = b"".join(payload_of(made.changes, None)[2])
        ours, bare = best(lambda: made.log.append(made.changes), lambda: raw.write(data), repeat=60)
    return ours / bare


def size_against_the_rows():
    """Bytes of a record against those of the changed rows and their ids."""
    with Logged() as made:
        before = made.path.stat().st_size
        made.log.append(made.changes)
        size = made.path.stat().st_size - before
    return size / sum(
        table.stable_ids.nbytes + sum(column.nbytes for column in table.columns.values())
        for table in made.changes.modified
    )


def open_against_reading():
    """All records are checked when a log is opened."""
    with Logged(records=RECORDS) as made:
        ours, bare = best(
            lambda: DeltaLog.open(made.path, readonly=True).close(), lambda: np.fromfile(made.path, np.uint8)
        )
    return ours / bare


def replayed_records_per_second():
    with Logged(records=RECORDS) as made:
        (seconds,) = best(lambda: sum(1 for _ in made.log.replay()), repeat=5)
    return RECORDS / seconds


def restore_against_load():
    """The world from its save and 50 records of 10,000 rows, against from the save alone."""
    with Logged(records=RECORDS) as made:
        base = f"{made.path}.0.pecs"
        ours, bare = best(lambda: DeltaLog.restore(made.path), lambda: World.load(base), repeat=3)
    return ours / bare


TABLE = (
    append_ms,
    durable_append_ms,
    append_against_a_bare_write,
    size_against_the_rows,
    open_against_reading,
    replayed_records_per_second,
    restore_against_load,
)


def main():
    for function in TABLE:
        print(f"{function.__name__:40} {function():8.2f}")


if __name__ == "__main__":
    main()
