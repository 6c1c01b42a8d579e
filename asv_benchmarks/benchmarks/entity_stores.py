"""Entity stores: batches, and one call an entity.

``python -m benchmarks.entity_stores`` in the folder above compares them with the bare library below each of them:
both sides have the same settings, keep blobs of the same size under the same keys, and are measured in one process,
in turns.
"""

import atexit
import functools

from pecs_np import World
from pecs_np.persistence.filters import without_transient
from pecs_np.persistence.stores.records import encode

from .common import SIZES, Changing, Sampled, kept, populated
from .ratios import best
from .store_backends import BACKENDS

ENTITIES = 100_000
ONE_BY_ONE = 1_000


@functools.cache
def running(name):
    """Return a backend and a store on it, which last as long as the process does: some of them are servers."""
    backend = BACKENDS[name]()
    atexit.register(backend.close)
    return backend, backend.store()


class _Stored:
    timeout = 300

    def fill(self, name, n):
        """Hold a store with n entities, and only those."""
        self.backend, self.store = running(name)
        self.world = kept("one table", n)
        self.ids, self.stable_ids = self.world.entities(), self.world.stable_ids()
        self.backend.forget()
        self.store.clear()
        self.save()

    def save(self):
        self.backend.forget()
        self.store.save_entities(self.world, self.ids)

    def load(self):
        self.store.load_entities(World(), self.stable_ids)


class Batch(_Stored, Sampled):
    params = (tuple(BACKENDS), SIZES[:2])
    param_names = ("backend", "n")

    def setup(self, name, n):
        if not hasattr(self, "store"):
            self.fill(name, n)

    def time_save(self, name, n):
        self.save()

    def time_load(self, name, n):
        self.load()


class Peak(_Stored):
    """The highest memory of a process that loads a batch into a second world."""

    params = (("sqlite", "lmdb", "memory"), SIZES[1:2])
    param_names = ("backend", "n")

    def setup(self, name, n):
        self.fill(name, n)

    def peakmem_load(self, name, n):
        self.load()


class OneByOne(_Stored, Changing):
    """A hundred calls of each, on a store of a thousand."""

    params = tuple(BACKENDS)
    param_names = ("backend",)

    def setup(self, name):
        self.fill(name, ONE_BY_ONE)
        self.some = self.ids[:100].tolist()
        self.asked = [self.world.get_stable_id(entity) for entity in self.some]

    def time_100_saves(self, name):
        for entity in self.some:
            self.store.save_entity(self.world, entity)

    def time_100_loads(self, name):
        world = World()
        for stable_id in self.asked:
            self.store.load_entity(world, stable_id)

    def time_100_exists(self, name):
        for stable_id in self.asked:
            self.store.entity_exists(stable_id)

    def time_100_deletes(self, name):
        for stable_id in self.asked:
            self.store.delete_entity(stable_id)

    def time_delete_1000_at_once(self, name):
        self.store.delete_entities(self.stable_ids)


def track_bytes_per_entity(name):
    """What the files of a store take, once it is closed."""
    backend = BACKENDS[name]()
    try:
        with backend.store() as store:
            store.save_entities(kept("one table", ENTITIES), kept("one table", ENTITIES).entities())
        # Of a sparse file, what it really takes.
        return sum(file.stat().st_blocks * 512 for file in backend.folder.iterdir()) / ENTITIES
    finally:
        backend.close()


track_bytes_per_entity.params = ("sqlite", "lmdb")
track_bytes_per_entity.param_names = ("backend",)
track_bytes_per_entity.unit = "bytes"


def blobs(world):
    """Return the keys and records of the entities of *world*."""
    (table,) = without_transient(world.snapshot()).tables
    records = encode(table, lambda ids: ids)
    return records.keys(), records.values()


class Comparison:
    """A store beside the library below it, with 100,000 entities."""

    def __init__(self, name):
        self.backend = BACKENDS[name]()
        self.store = self.backend.store()
        self.world = populated(ENTITIES)
        self.ids, self.stable_ids = self.world.entities(), self.world.stable_ids()
        self.backend.open_bare()
        self.keys, self.values = blobs(self.world)
        self.save()

    def close(self):
        self.backend.close()

    def save(self):
        self.backend.forget()
        self.store.save_entities(self.world, self.ids)

    def save_rate(self):
        ours, bare = best(self.save, lambda: self.backend.save(self.keys, self.values), repeat=9)
        return 100 * bare / ours

    def load_rate(self):
        self.backend.save(self.keys, self.values)
        ours, bare = best(
            lambda: self.store.load_entities(World(), self.stable_ids),
            lambda: self.backend.load(self.keys),
            repeat=9,
        )
        return 100 * bare / ours

    def save_batch_gain(self):
        ids = self.ids[:ONE_BY_ONE]

        def one_by_one():
            for entity in ids.tolist():
                self.store.save_entity(self.world, entity)

        batch, single = best(lambda: self.store.save_entities(self.world, ids), one_by_one, repeat=3)
        return single / batch

    def load_batch_gain(self):
        asked = self.stable_ids[:ONE_BY_ONE]
        singly = [self.world.get_stable_id(int(i)) for i in self.ids[:ONE_BY_ONE]]

        def one_by_one():
            world = World()
            for stable_id in singly:
                self.store.load_entity(world, stable_id)

        batch, single = best(lambda: self.store.load_entities(World(), asked), one_by_one, repeat=3)
        return single / batch


# What is measured, its unit, and the least that it is to be.
TABLE = (
    (Comparison.save_rate, "% of the rate", "`save_entities` of 100,000 : bare {save}", 60),
    (Comparison.load_rate, "% of the rate", "`load_entities` of 100,000 : bare {load}", 60),
    (Comparison.save_batch_gain, "times as fast", "a batch of 1,000 saves : one by one", 10),
    (Comparison.load_batch_gain, "times as fast", "a batch of 1,000 loads : one by one", 10),
)


def main():
    print("| store | work | measured | goal, at least |\n|---|---|---|---|")
    for name, backend in BACKENDS.items():
        if not backend.bare_save:
            continue
        try:
            comparison = Comparison(name)
        except NotImplementedError as why:
            print(f"| {name} | skipped: {why} | | |", flush=True)
            continue
        try:
            for function, unit, title, least in TABLE:
                what = title.format(save=backend.bare_save, load=backend.bare_load)
                print(f"| {name} | {what} | {function(comparison):.0f} {unit} | {least} {unit} |", flush=True)
        finally:
            comparison.close()


if __name__ == "__main__":
    main()
