"""The third part of the contract of entity stores: components and their versions, places, threads and ends."""

from __future__ import annotations

import contextlib
import pickle
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.errors import (
    ComponentDefinitionError,
    EntityNotFoundError,
    MigrationError,
    PecsError,
    PersistenceError,
    UnsupportedVersionError,
)
from pecs_np.persistence.filters import PersistenceFilter, WhitelistFilter
from pecs_np.persistence.manager import PersistenceManager
from pecs_np.testing.harness import expect
from pecs_np.testing.store_harness import StoreHarness, as_ints, elsewhere, save_all
from pecs_np.world import World

__all__ = ["StoreBehaviour"]

_THREADS, _ROUNDS, _BATCH = 4, 5, 20


class StoreBehaviour(StoreHarness):
    """Types, filters and versions; stores that are closed, opened again and shared."""

    def test_backend_name_and_version(self, tmp_path: Path) -> None:
        """The kind of store has a name and a version from 1, which do not change."""
        store = self.store(tmp_path)
        name, version = store.backend_name(), store.backend_version()
        expect(isinstance(name, str) and name, f"expected a name from backend_name, found {name!r}")
        sane = type(version) is int and 0 < version < 1 << 32
        expect(sane, f"expected a version from 1 to {2**32 - 1} from backend_version, found {version!r}")
        same = (store.backend_name(), store.backend_version()) == (name, version)
        expect(same, "backend_name and backend_version change from call to call")

    def test_manager_finds_it(self, tmp_path: Path) -> None:
        """A manager saves, loads and deletes with it, as the default store and by name."""
        manager, store, world = PersistenceManager(), self.store(tmp_path), World()
        manager.register_entity_plugin("mine", store)
        ids = world.spawn_batch(self.samples.Number(value=[1, 2, 3]))
        stable = as_ints(world.get_stable_id(ids))
        manager.save_entity(world, int(ids[0]))
        manager.save_entity_with(world, ids[1:], "mine")
        back = elsewhere()
        manager.load_entity(back, stable[0])
        self.check_loaded(back, manager.load_entities(back, stable, "mine"), stable)
        self.check_equal(world, back, "a world saved and loaded by a manager")
        manager.delete_entity(stable[0])
        expect(not store.entity_exists(stable[0]), "an entity that a manager deleted still exists")

    # What is saved

    def test_transient_types_are_left_out(self, tmp_path: Path) -> None:
        """Components of transient types are not saved; their entities are."""
        s, store, world = self.samples, self.store(tmp_path), World()
        world.spawn_batch(s.Number(value=[1, 2]), s.Frame(number=3))
        world.spawn(s.Frame(number=4))
        stable, back = save_all(store, world), World()
        store.load_entities(back, stable)
        world.remove(world.entities(), s.Frame)
        self.check_equal(world, back, "a world without its transient components")

    def test_values_that_are_not_persistent_are_left_out(self, tmp_path: Path) -> None:
        """Of a component with ``is_persistent``, the values for which it holds are saved."""
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Draft(valid=[True, False, True, False], number=[1, 2, 3, 4]))
        stable, back = save_all(store, world, ids[::-1]), World()
        self.check_loaded(back, store.load_entities(back, stable), stable)
        world.remove(ids[1::2], s.Draft)
        self.check_equal(world, back, "a world of components of which some are persistent")

    def test_filters(self, tmp_path: Path) -> None:
        """With a filter, what it keeps is saved; of entities that it does not keep, nothing is saved or forgotten."""
        s, world = self.samples, World()

        class Positive(PersistenceFilter):
            def entity_mask(self, table: Any) -> Any:
                return table.get(s.Number).value > 0

        store = self.store(tmp_path, filter=Positive())
        ids = world.spawn_batch(s.Number(value=[1, 2]), s.Note(text=""))
        first, second = as_ints(save_all(store, world))
        world.get(ids[1], s.Number).value = -2
        save_all(store, world)
        below = world.spawn(s.Number(value=-1))
        save_all(store, world, [below])
        expect(not store.entity_exists(world.get_stable_id(below)), "what the filter refuses was saved")
        back = World()
        store.load_entities(back, [first, second])
        values = sorted(back.column(s.Number)["value"].tolist())
        expect(values == [1, 2], f"expected the values [1, 2] of when the filter kept them, found {values}")

    def test_filters_of_types(self, tmp_path: Path) -> None:
        """With a filter of types, entities are saved with components of those types."""
        s, store, world = (
            self.samples,
            self.store(tmp_path, filter=WhitelistFilter(self.samples.Note)),
            World(),
        )
        world.spawn(s.Number(value=1), s.Note(text="a"))
        world.spawn(s.Number(value=1))
        stable, back = save_all(store, world), World()
        store.load_entities(back, stable)
        types = [t.name for t in back.snapshot().types]
        expect(types == ["contract.note"], f"expected components of contract.note only, found {types}")
        expect(len(back) == 2, f"expected 2 entities, found {len(back)}")

    # Types

    def test_unknown_components_are_kept(self, tmp_path: Path) -> None:
        """What the program does not define is loaded as it was described, and saved again unchanged."""
        self.needs_described_types()
        world, store = self.rich(), self.store(tmp_path)
        stable = save_all(store, world)
        self.samples.forget()
        stranger = World()
        store.load_entities(stranger, stable)
        self.check_equal(world, stranger, "a world of components that are not defined here")
        save_all(store, stranger)
        self.check_saved(store, world, "a world that a program without its components saved again")

    def test_unknown_components_are_refused_or_dropped(self, tmp_path: Path) -> None:
        """They are an error with ``unknown="refuse"``, and left out with a warning with ``unknown="drop"``."""
        for unknown in ("refuse", "drop"):
            store, world = self.store(tmp_path, unknown=unknown), self.samples.small()
            stable, back = save_all(store, world), World()
            self.samples.undefine("note")
            if unknown == "refuse":
                what = "a load with unknown components and unknown='refuse'"
                with self.unchanged(back, what), self.refused(what, ComponentDefinitionError):
                    store.load_entities(back, stable)
                self.teardown_method()
                self.setup_method()
                continue
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                store.load_entities(back, stable)
            expect(warned, "expected a warning that components are dropped, found none")
            types = [t.name for t in back.snapshot().types]
            expect(
                types == ["contract.number"], f"expected components of contract.number only, found {types}"
            )
            expect(len(back) == len(world), f"expected {len(world)} entities, found {len(back)}")

    def test_old_versions_reach_their_migrations(self, tmp_path: Path) -> None:
        """Entities of an older version are migrated when they are loaded, also beside those of the new one."""
        self.needs_described_types()
        s, store, world = self.samples, self.store(tmp_path), World()
        old = s.define("reading", {"celsius": np.float32, "note": str})
        values = np.array([-0.0, 21.5, np.nan], np.float32)
        ids = world.spawn_batch(old(celsius=values, note=["a", "", "é"]))
        world.insert(ids[2], s.Note(text="of another layout", about=self.target(ids[0])))
        stable = as_ints(save_all(store, world, ids))
        s.undefine("reading")
        new: Any = s.define("reading", {"kelvin": np.float64, "note": str}, version=3)
        new.migration(1)(lambda c: {"degrees": c["celsius"], "note": c["note"]})
        new.migration(2)(lambda c: {"kelvin": c["degrees"] + np.float64(273.15), "note": c["note"]})
        newer = World()
        newer.spawn_with_stable_id(77, new(kelvin=5, note="new"))
        save_all(store, newer)
        back = World()
        loaded = store.load_entities(back, [77, *stable])
        found: Any = back.get(loaded, new)
        wanted = [5, *(values + np.float64(273.15)).tolist()]
        right = np.array_equal(found.kelvin, wanted, equal_nan=True)
        expect(right, f"expected {wanted}, migrated, found {found.kelvin}")
        expect(found.note.tolist() == ["new", "a", "", "é"], f"expected the notes kept, found {found.note}")
        save_all(store, back)
        self.check_saved(store, back, "a world that was migrated and saved again")

    def test_old_versions_without_migrations(self, tmp_path: Path) -> None:
        """Components of an older version that nothing leads from are refused, by name, and the world does not change."""
        with self._refused_reading(tmp_path, 1, 2, UnsupportedVersionError, MigrationError) as load:
            try:
                load()
            except PersistenceError as error:
                expect("contract.reading" in str(error), f"expected the component in the message: {error}")
                raise

    def test_newer_versions_are_refused(self, tmp_path: Path) -> None:
        """Components of a newer version are refused, with both versions."""
        with self._refused_reading(tmp_path, 5, 3, UnsupportedVersionError) as load:
            try:
                load()
            except UnsupportedVersionError as error:
                versions = error.found, error.expected
                expect(versions == (5, 3), f"expected (5, 3) as .found and .expected, found {versions}")
                raise

    def test_other_fields_are_refused(self, tmp_path: Path) -> None:
        """A component that the program defines with other fields in the same version is refused."""
        self.needs_described_types()
        with self._refused_reading(tmp_path, 1, 1, PersistenceError) as load:
            load()

    @contextlib.contextmanager
    def _refused_reading(
        self, tmp_path: Path, saved: int, defined: int, *errors: type[BaseException]
    ) -> Iterator[Any]:
        """Give a load of a component of version *saved* where *defined* is defined, which the block must refuse."""
        s, store, world = self.samples, self.store(tmp_path), World()
        first = world.get_stable_id(world.spawn(s.define("reading", {"a": np.int16}, version=saved)(a=1)))
        second = world.get_stable_id(world.spawn(s.Number(value=1)))
        stable, back = save_all(store, world, world.entities()[::-1]), elsewhere()
        asked = [i for i in as_ints(stable) if self.atomic is True or i == first]
        back.spawn_with_stable_id(second, s.Number(value=2))
        s.undefine("reading")
        s.define("reading", {"a": np.float32}, version=defined)
        what = f"a load of a component of version {saved} where version {defined} is defined"
        with self.unchanged(back, what), self.refused(what, *errors):
            yield lambda: store.load_entities(back, asked)

    # Places

    def test_what_is_saved_survives_its_store(self, tmp_path: Path) -> None:
        """What was saved is there when the store was closed and another one is opened on the same place."""
        self.needs(self.persistent, "does not survive its object")
        world = self.rich()
        with self.store(tmp_path) as store:
            ids = as_ints(save_all(store, world))
            extra = world.spawn(self.samples.Number(value=7))
            store.save_entity(world, extra)
            store.delete_entity(ids[0])
        with self.again(tmp_path) as store:
            expect(not store.entity_exists(ids[0]), "an entity that was deleted is there after reopening")
            world.despawn(world.get_entity_id(ids[0]))
            back = World()
            store.load_entities(back, [ids[1]])
            loaded = store.load_entities(back, world.stable_ids())
            self.check_loaded(back, loaded, world.stable_ids())
            # A save into the store of yesterday, of new and of old sets of components.
            back.insert(loaded[:2], self.samples.Count(value=1))
            save_all(store, back)
        self.check_saved(self.again(tmp_path), back, "a world saved into a store that was reopened")

    def test_two_objects_on_one_place(self, tmp_path: Path) -> None:
        """Two store objects on one place see each other's saves and deletions at once."""
        self.needs(self.shared, "cannot be opened twice at once")
        s, world = self.samples, self.rich()
        one, early = self.store(tmp_path), self.again(tmp_path)
        stable = save_all(one, world)
        self.check_saved(one, world, "a world whose place two store objects share")
        self.check_saved(early, world, "a world saved with another store object that was opened before")
        early.close()
        two = self.again(tmp_path)
        self.check_saved(two, world, "a world saved with another store object")
        first = as_ints(stable)[0]
        entity = world.get_entity_id(first)
        world.insert(entity, s.Count(value=3), s.Number(value=8))
        two.save_entity(world, entity)
        self.check_saved(one, world, "an entity saved again with another store object")
        two.delete_entity(first)
        expect(not one.entity_exists(first), "what another object deleted still exists")
        with self.refused("a load of what another object deleted", EntityNotFoundError):
            one.load_entity(World(), first)
        if self.lists_entities is True:
            counts = len(one), len(two), len(world) - 1
            expect(len(set(counts)) == 1, f"expected both to count the same entities, found {counts}")

    # Threads

    def test_one_store_serves_several_threads(self, tmp_path: Path) -> None:
        """Threads may save, load and delete with one store object at the same time."""
        self.needs(self.serves_threads, "is for one thread at a time")
        s, store = self.samples, self.store(tmp_path)
        start = threading.Barrier(_THREADS)

        def work(number: int) -> None:
            world = World()
            ids = world.spawn_batch(s.Number(value=np.arange(_BATCH * (1 + number))))
            world.insert(ids[:5], s.Note(text=f"thread {number}", about=self.target(ids[-1])))
            start.wait()
            for turn in range(_ROUNDS):
                world.insert(ids[::7], s.Count(value=turn))
                stable, back = save_all(store, world), World()
                self.check_loaded(back, store.load_entities(back, stable), stable)
                self.check_equal(world, back, "a world that was saved while other threads saved theirs")
                store.delete_entities(stable[turn : turn + 2])

        with ThreadPoolExecutor(_THREADS) as pool:
            for done in [pool.submit(work, number) for number in range(_THREADS)]:
                done.result()

    def test_batches_are_seen_whole(self, tmp_path: Path) -> None:
        """Who loads while another thread saves finds a whole batch: the one before or the one after."""
        self.needs(self.serves_threads, "is for one thread at a time")
        self.needs_atomic()
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=np.zeros(_BATCH)))
        world.insert(ids[::2], s.Count(value=1))
        stable = save_all(store, world)
        done = threading.Event()

        def write() -> None:
            turn = 0
            while not done.is_set():
                turn += 1
                for number in world.query(s.Number):
                    number.value = turn
                save_all(store, world)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                for _ in range(_ROUNDS * 6):
                    back = World()
                    store.load_entities(back, stable)
                    values = set(back.column(s.Number)["value"].tolist())
                    expect(len(values) == 1, f"expected the values of one batch, found those of {values}")
            finally:
                done.set()
            writing.result()

    # Ends

    def test_closing_twice(self, tmp_path: Path) -> None:
        """A store can be closed twice, and is closed at the end of a ``with`` block, also where an error ends it."""
        with self.store(tmp_path) as store:
            expect(store.backend_name(), "a with block gives no store")
            store.close()
        store.close()
        with contextlib.suppress(KeyError), self.store(tmp_path):
            raise KeyError
        self.store(tmp_path).close()

    def test_use_after_closing(self, tmp_path: Path) -> None:
        """A closed store works as before, or raises one of the library's errors."""
        store, world = self.store(tmp_path), World()
        entity = world.spawn(self.samples.Number(value=1))
        store.save_entity(world, entity)
        stable_id = world.get_stable_id(entity)
        store.close()
        calls: dict[str, Any] = {
            "save_entity": lambda: store.save_entity(world, entity),
            "load_entity": lambda: store.load_entity(World(), stable_id),
            "load_entities": lambda: store.load_entities(World(), [stable_id], missing="skip"),
            "entity_exists": lambda: store.entity_exists(stable_id),
            "delete_entity": lambda: store.delete_entity(stable_id),
            "list_entities": store.list_entities,
            "len": lambda: len(store),
            "clear": store.clear,
        }
        for name, call in calls.items():
            try:
                call()
            except PecsError:
                continue
            except Exception as error:
                raise AssertionError(
                    f"{name} of a closed store raised {type(error).__name__}, expected a PecsError: {error}"
                ) from error
        store.close()

    def test_pickling(self, tmp_path: Path) -> None:
        """A store refuses to be pickled, or its copy finds what was saved."""
        store, world = self.store(tmp_path), World()
        world.spawn_batch(self.samples.Number(value=[1, 2]))
        save_all(store, world)
        try:
            data = pickle.dumps(store)
        except (PecsError, TypeError, AttributeError, pickle.PicklingError):
            return
        with pickle.loads(data) as copy:  # noqa: S301 - made right here
            self.check_saved(copy, world, "what was saved, found by a copy of the store,")
