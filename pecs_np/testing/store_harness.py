"""What the checks of entity stores stand on: stores that are closed in the end, and worlds there and back."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.entities import as_stable_ids
from pecs_np.ecs.ids import as_int
from pecs_np.persistence.entity_plugins import EntityPersistencePlugin
from pecs_np.testing.harness import Checks, expect
from pecs_np.world import World

__all__ = ["StoreHarness", "as_ints"]


def as_ints(ids: Any) -> list[int]:
    """Return stable ids as a list of int."""
    return [as_int(record) for record in as_stable_ids(ids)]


class StoreHarness(Checks):
    """Makes the store under test, and saves and loads with it; see `EntityStoreContract` for the attributes."""

    _kind = "store"

    persistent: bool | str = True
    shared: bool | str = True
    atomic: bool | str = True
    lists_entities: bool | str = True
    keeps_references: bool | str = True
    describes_types: bool | str = True
    serves_threads: bool | str = True
    many: int = 10_000

    def make_store(self, tmp_path: Path, **options: Any) -> EntityPersistencePlugin:
        """Return the store to test, ready for use; *tmp_path* is an empty folder of the check's own."""
        raise NotImplementedError(f"{type(self).__name__} says with make_store what store to test")

    def reopen(self, tmp_path: Path, **options: Any) -> EntityPersistencePlugin:
        """Return another store object on what `make_store` made for the same *tmp_path*."""
        return self.make_store(tmp_path, **options)

    def setup_method(self) -> None:
        """Define the components that the checks use."""
        super().setup_method()
        self._open: list[EntityPersistencePlugin] = []

    def teardown_method(self) -> None:
        """Close the stores, and forget the components."""
        super().teardown_method()
        for store in self._open:
            store.close()

    def store(self, tmp_path: Path, **options: Any) -> EntityPersistencePlugin:
        """Return the store to test; the check is skipped where it cannot be made with *options*."""
        self._needs_options(self.make_store, tmp_path, options)
        self._open.append(self.make_store(tmp_path, **options))
        return self._open[-1]

    def again(self, tmp_path: Path, **options: Any) -> EntityPersistencePlugin:
        """Return another store object on the same place."""
        self._needs_options(self.reopen, tmp_path, options)
        self._open.append(self.reopen(tmp_path, **options))
        return self._open[-1]

    def _needs_options(self, make: Any, tmp_path: Path, options: dict[str, Any]) -> None:
        try:
            inspect.signature(make).bind(tmp_path, **options)
        except TypeError:
            self.needs(False, f"is made without the option {', '.join(options)}")

    def rich(self) -> World:
        """Return a small world with entities of all kinds that the store holds."""
        world = self.samples.rich(resources=False, world_data=False)
        if self.keeps_references is not True:
            world.remove(world.entities(), self.samples.kinds["references"])
            for note in world.query(self.samples.Note):
                note.about = 0
        return world

    def target(self, entities: Any) -> Any:
        """Return *entities* to refer to, or none where the store does not keep references."""
        return entities if self.keeps_references is True else 0

    def check_round_trip(self, world: World, tmp_path: Path) -> World:
        """Check that all entities of *world* come back equal and sound, and return what came."""
        store = self.store(tmp_path)
        ids = save_all(store, world)
        back = elsewhere()
        loaded = store.load_entities(back, ids[::-1])
        self.check_loaded(back, loaded, ids[::-1])
        self.check_equal(world, back, "a world whose entities were saved and loaded")
        return back

    def check_loaded(self, world: World, loaded: Any, asked: Any) -> None:
        """Check that *loaded* are the entities of *world* that were asked for, in that order."""
        right = isinstance(loaded, np.ndarray) and loaded.dtype == np.uint64 and loaded.shape == (len(asked),)
        expect(right, f"expected {len(asked)} entity ids as an array of uint64, found {loaded!r:.200}")
        expect(world.is_alive(loaded).all(), "some of the entities that were loaded are not alive")
        found = as_ints(world.get_stable_id(loaded))
        wanted = as_ints(asked)
        expect(
            found == wanted, f"expected the entities in the order asked for, {wanted[:5]}, found {found[:5]}"
        )
        self.check_sound(world)

    def check_sound(self, world: World) -> None:
        """Check every invariant of *world*."""
        expect(world.validate(), f"the world is no longer sound: {world.validate()}")

    def check_saved(self, store: EntityPersistencePlugin, expected: World, what: str) -> None:
        """Check that the entities of *expected* are in the store as they are there."""
        back = World()
        store.load_entities(back, expected.stable_ids())
        self.check_equal(expected, back, what)

    @contextlib.contextmanager
    def unchanged(self, world: World, what: str) -> Iterator[None]:
        """Check that the block leaves *world* as it was."""
        before, ids = World.from_snapshot(world.snapshot(copy=True)), world.entities()
        yield
        self.check_equal(before, world, f"the world, after {what},")
        expect(np.array_equal(ids, world.entities()), f"the ids of entities are others after {what}")
        self.check_sound(world)

    def needs_atomic(self) -> None:
        """Skip the check where a batch is saved one by one."""
        self.needs(self.atomic, "does not save batches all or nothing")

    def needs_lists(self) -> None:
        """Skip the check where the store cannot tell what it has."""
        self.needs(self.lists_entities, "does not list its entities")

    def needs_references(self) -> None:
        """Skip the check where references get lost."""
        self.needs(self.keeps_references, "does not keep references")

    def needs_described_types(self) -> None:
        """Skip the check where what is saved does not describe its component types."""
        self.needs(self.describes_types, "does not describe component types")


def save_all(
    store: EntityPersistencePlugin, world: World, entities: Sequence[int] | Array | None = None
) -> Array:
    """Save entities of *world*, by default all, and return their stable ids."""
    chosen = world.entities() if entities is None else np.asarray(entities, np.uint64)
    store.save_entities(world, chosen)
    ids: Array = world.get_stable_id(chosen)
    return ids


def elsewhere() -> World:
    """Return an empty world that gives entities other ids than a new one would."""
    world = World()
    world.despawn(world.spawn_batch(count=5))
    return world
