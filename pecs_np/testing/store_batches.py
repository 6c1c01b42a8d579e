"""The second part of the contract of entity stores: what saving, loading and deleting do, and all or nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.errors import ComponentValueError, EntityNotFoundError, PecsError
from pecs_np.testing.harness import expect
from pecs_np.testing.samples import BAD_VALUES
from pecs_np.testing.store_harness import StoreHarness, as_ints, elsewhere, save_all
from pecs_np.world import World

__all__ = ["StoreBatches"]

_NO_IDS: tuple[Any, ...] = (-1, 2**128, 1.5, "abc", None)


class StoreBatches(StoreHarness):
    """Entities are replaced, found, left out and deleted as they should, alone and in batches."""

    # Over what is there

    def test_saving_again_replaces(self, tmp_path: Path) -> None:
        """What is saved takes the place of what was saved of the entity before, and of no other."""
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=[1, 2, 3]), s.Note(text=["a", "b", "c"]))
        save_all(store, world)
        world.get(ids[0], s.Number).value = 10
        world.remove(ids[0], s.Note)
        world.insert(ids[0], s.Count(value=7))
        world.insert(ids[1], s.Note(text="a longer text " * 20))
        store.save_entity(world, int(ids[0]))
        save_all(store, world, ids[1:2])
        self.check_saved(store, world, "a world of which two entities were saved again")

    def test_saving_again_counts_once(self, tmp_path: Path) -> None:
        """An entity that is saved twice is there once, and is gone when it is deleted."""
        self.needs_lists()
        store, world = self.store(tmp_path), World()
        world.spawn_batch(count=3)
        for _ in range(2):
            ids = save_all(store, world)
        expect(len(store) == 3, f"expected 3 entities, found {len(store)}")
        store.delete_entities(ids)
        expect(len(store) == 0, f"expected no entities after all were deleted, found {len(store)}")

    def test_loading_updates_who_is_there(self, tmp_path: Path) -> None:
        """An entity that the world has takes on what was saved, and nothing else stays, under its own id."""
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=[1, 2]))
        world.insert(ids[0], s.Note(text="kept", about=self.target(ids[1])))
        save_all(store, world)
        before = World.from_snapshot(world.snapshot(copy=True))
        world.insert(ids, s.Count(value=5))
        world.insert(ids[0], s.Note(text="changed"))
        world.remove(ids[1], s.Number)
        loaded = store.load_entities(world, world.get_stable_id(ids))
        expect(loaded.tolist() == ids.tolist(), f"expected the ids {ids} that they had, found {loaded}")
        self.check_equal(before, world, "a world whose entities were changed, and loaded again,")
        self.check_sound(world)

    def test_transient_components_stay(self, tmp_path: Path) -> None:
        """An entity that the world has keeps its transient components when it is loaded again."""
        s, store, world = self.samples, self.store(tmp_path), World()
        entity = world.spawn(s.Number(value=1), s.Frame(number=5))
        store.save_entity(world, entity)
        world.get(entity, s.Frame).number = 6
        loaded = store.load_entity(world, world.get_stable_id(entity))
        frame: Any = world.get(loaded, s.Frame)
        expect(frame is not None, "a transient component was lost when its entity was loaded again")
        expect(frame.number == 6, f"expected the transient number 6, found {frame.number}")

    def test_other_entities_stay(self, tmp_path: Path) -> None:
        """Loading changes nothing of the world but the entities that were asked for."""
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=np.arange(6)))
        stable = save_all(store, world)
        for number in world.query(s.Number):
            number.value += 100
        bystander = world.spawn(s.Note(text="not saved", about=ids[0]))
        store.load_entities(world, stable[2:4])
        values = world.get(ids, s.Number).value.tolist()
        expect(values == [100, 101, 2, 3, 104, 105], f"expected entities 2 and 3 to change, found {values}")
        note: Any = world.get(bystander, s.Note)
        expect(note.about == ids[0], "an entity that was not saved refers to another one")
        self.check_sound(world)

    def test_loading_twice(self, tmp_path: Path) -> None:
        """Loading again gives the same ids."""
        s, store, world, back = self.samples, self.store(tmp_path), World(), elsewhere()
        world.spawn_batch(s.Number(value=[1, 2]))
        stable = save_all(store, world)
        first, second = (store.load_entities(back, stable).tolist() for _ in range(2))
        expect(first == second, f"expected the ids {first} again, found {second}")
        self.check_equal(world, back, "a world that was loaded twice")

    def test_saving_changes_nothing_in_the_world(self, tmp_path: Path) -> None:
        """A world is after a save what it was before, transient components too."""
        world, store = self.rich(), self.store(tmp_path)
        world.spawn(self.samples.Frame(number=1))
        with self.unchanged(world, "a save"):
            save_all(store, world)

    def test_what_is_saved_is_a_copy(self, tmp_path: Path) -> None:
        """Changes of the world after a save, or of one that was loaded, do not reach what is saved."""
        s, store, world = self.samples, self.store(tmp_path), World()
        world.spawn_batch(s.Number(value=[1, 2]), s.kinds["references"](0, (0, 0), (1, 0), [0, 0], []))
        stable = save_all(store, world)
        before = World.from_snapshot(world.snapshot(copy=True))
        back = World()
        store.load_entities(back, stable)
        for changed in (world, back):
            for number, references in changed.query(s.Number, s.kinds["references"]):
                number.value = 9
                references._array["crew"][0][...] = 1
                references._array["crew"][1] = np.zeros(0, np.uint64)
            self.check_saved(store, before, "what was saved, after a change to a world,")

    # What is not there

    def test_loading_what_was_not_saved(self, tmp_path: Path) -> None:
        """Loading an entity that was not saved is an EntityNotFoundError with its id, and changes nothing."""
        s, store, world = self.samples, self.store(tmp_path), World()
        here = world.spawn(s.Number(value=1))
        with self.unchanged(world, "a load of what was not saved"):
            for stable_id in (12345, int(world.get_stable_id(here))):
                with self.refused("a load of what was not saved", EntityNotFoundError):
                    try:
                        store.load_entity(world, stable_id)
                    except EntityNotFoundError as error:
                        expect(f"{stable_id:x}" in str(error), f"expected {stable_id:x} in: {error}")
                        raise

    def test_batches_of_which_some_were_not_saved(self, tmp_path: Path) -> None:
        """Loading a batch of which one was not saved is an error too, and changes nothing."""
        self.needs_atomic()
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=[1, 2]))
        stable = as_ints(save_all(store, world))
        world.get(ids[0], s.Number).value = 5
        what = "a load of a batch of which one was not saved"
        options: Any
        for options in ({}, {"missing": "error"}):
            for asked in ([*stable, 99], [99, *stable], [stable[0], 98, 99]):
                with self.unchanged(world, what), self.refused(what, EntityNotFoundError):
                    store.load_entities(world, asked, **options)

    def test_those_not_saved_can_be_skipped(self, tmp_path: Path) -> None:
        """With ``missing="skip"`` the others are loaded, and 0 stands for those that were not saved."""
        s, store, world = self.samples, self.store(tmp_path), World()
        world.spawn_batch(s.Number(value=[1, 2]))
        first, second = as_ints(save_all(store, world))
        back = elsewhere()
        here = back.spawn_with_stable_id(99, s.Number(value=3))
        loaded = store.load_entities(back, [98, second, 99, first, 97], missing="skip")
        there = [0, back.get_entity_id(second), 0, back.get_entity_id(first), 0]
        expect(loaded.tolist() == there, f"expected {there}, 0 for who was not saved, found {loaded}")
        expect(None not in there, "some that were saved were skipped too")
        back.despawn(here)
        self.check_equal(world, back, "a world loaded with missing='skip'")
        none = store.load_entities(back, [98, 97], missing="skip").tolist()
        expect(none == [0, 0], f"expected [0, 0] where none was saved, found {none}")
        with self.refused("a load with missing='ignore'"):
            store.load_entities(back, [first], missing="ignore")  # type: ignore[arg-type]

    def test_asked_for_twice(self, tmp_path: Path) -> None:
        """An entity that is asked for twice is loaded once, and stands twice in the result."""
        s, store, world, back = self.samples, self.store(tmp_path), World(), elsewhere()
        world.spawn_batch(s.Number(value=[1, 2]))
        stable = save_all(store, world)[[0, 1, 0, 0]]
        self.check_loaded(back, store.load_entities(back, stable), stable)
        self.check_equal(world, back, "a world whose entities were asked for twice")

    def test_the_order_asked_for(self, tmp_path: Path) -> None:
        """Results stand in the order asked for, whatever the sets of components and the order of saving."""
        s, store, world, back = self.samples, self.store(tmp_path), World(), elsewhere()
        ids = world.spawn_batch(s.Number(value=np.arange(30)))
        world.insert(ids[::2], s.Count(value=1))
        world.remove(ids[::5], s.Number)
        stable = save_all(store, world, ids[::-1])
        for seed in range(3):
            order = np.random.default_rng(seed).permutation(30)[: 10 * seed + 10]
            self.check_loaded(back, store.load_entities(back, stable[order]), stable[order])

    def test_nothing_asked_for(self, tmp_path: Path) -> None:
        """No entities are saved, loaded and deleted as any number is."""
        store, world = self.store(tmp_path), World()
        store.save_entities(world, [])
        loaded = store.load_entities(world, [])
        expect(loaded.tolist() == [], f"expected no ids, found {loaded}")
        store.delete_entities([])
        expect(len(world) == 0, "a load of no entities made some")

    # Who is in the store

    def test_exists(self, tmp_path: Path) -> None:
        """An entity exists from when it is saved to when it is deleted, whatever becomes of it in the world."""
        store, world = self.store(tmp_path), World()
        stable_id = world.get_stable_id(entity := world.spawn())
        states = [store.entity_exists(stable_id)]
        store.save_entity(world, entity)
        states.append(store.entity_exists(stable_id))
        world.despawn(entity)
        states.append(store.entity_exists(stable_id))
        store.delete_entity(stable_id)
        states.append(store.entity_exists(stable_id))
        wanted = [False, True, True, False]
        expect(states == wanted, f"expected {wanted} before, after, later and deleted, found {states}")

    def test_delete(self, tmp_path: Path) -> None:
        """A deleted entity cannot be loaded, others can, and it can be saved again; the world does not change."""
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=[1, 2, 3]))
        stable = save_all(store, world)
        first, _, third = as_ints(stable)
        with self.unchanged(world, "a deletion"):
            store.delete_entity(first)
            store.delete_entities([third, third])
        with self.refused("a load of what was deleted", EntityNotFoundError):
            store.load_entity(World(), first)
        found = [store.entity_exists(stable_id) for stable_id in as_ints(stable)]
        expect(found == [False, True, False], f"expected the second of three to be left, found {found}")
        store.save_entity(world, int(ids[0]))
        store.save_entity(world, int(ids[2]))
        self.check_saved(store, world, "a world saved again after it was deleted")

    def test_deleting_what_was_not_saved(self, tmp_path: Path) -> None:
        """To delete what was not saved is an EntityNotFoundError; of a batch, nothing is deleted then."""
        store, world = self.store(tmp_path), World()
        world.spawn_batch(count=2)
        with self.refused("a deletion of what was not saved", EntityNotFoundError):
            store.delete_entity(99)
        self.needs_atomic()
        stable = as_ints(save_all(store, world))
        with self.refused("a deletion of a batch of which one was not saved", EntityNotFoundError):
            store.delete_entities([*stable, 99])
        left = [store.entity_exists(stable_id) for stable_id in stable]
        expect(left == [True, True], f"expected nothing to be deleted, found that {left} are left")

    def test_listing(self, tmp_path: Path) -> None:
        """A store counts its entities, lists their stable ids in rising order, and gives them one by one."""
        self.needs_lists()
        store, world = self.store(tmp_path), World()
        expect(store, "an empty store is not true")
        expect(len(store) == 0 and len(store.list_entities()) == 0, "a new store is not empty")
        wanted = sorted([2**127, 5, 2**64, 2**64 - 1, 255, 256, 3])
        for stable_id in reversed(wanted):
            world.spawn_with_stable_id(stable_id)
        save_all(store, world)
        found = as_ints(store.list_entities())
        expect(found == wanted, f"expected the stable ids {wanted} in rising order, found {found}")
        found = [int(stable_id) for stable_id in store.iter_stable_ids()]
        expect(sorted(found) == wanted, f"expected {wanted} from iter_stable_ids, found {found}")
        expect(len(store) == len(wanted), f"expected {len(wanted)} entities, found {len(store)}")
        back = World()
        store.load_entities(back, store.list_entities())
        self.check_equal(world, back, "a world loaded by the list of entities")

    def test_clear(self, tmp_path: Path) -> None:
        """A store that was cleared is empty, and can be saved to again."""
        self.needs_lists()
        store, world = self.store(tmp_path), self.rich()
        save_all(store, world)
        store.clear()
        expect(len(store) == 0, f"expected no entities after clear, found {len(store)}")
        left = [store.entity_exists(stable_id) for stable_id in as_ints(world.stable_ids())]
        expect(not any(left), "some entities exist after clear")
        store.clear()
        save_all(store, world)
        self.check_saved(store, world, "a world saved after clear")

    # All or nothing

    def test_batches_are_saved_all_or_nothing(self, tmp_path: Path) -> None:
        """Where one of a batch is not alive or named twice, nothing is saved, and what was saved stays."""
        self.needs_atomic()
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=[1, 2, 3])).tolist()
        world.insert(ids[2], s.Note(text="in another table"))
        save_all(store, world, ids[:1])
        before = World.from_snapshot(world.snapshot(copy=True))
        before.despawn(ids[1:])
        dead = world.spawn()
        world.despawn(dead)
        world.get(ids[0], s.Number).value = 10
        for bad in ([*ids, int(dead)], [int(dead), *ids], [*ids, ids[1]]):
            with self.refused(f"a save of the entities {bad}"):
                store.save_entities(world, bad)
            self._check_nothing_new(store, before, world)

    def test_values_that_cannot_be_saved(self, tmp_path: Path) -> None:
        """What could not be loaded again is refused, and nothing of its batch is saved."""
        for name, make in BAD_VALUES.items():
            store, world = self.store(tmp_path), make(self.samples)
            bad = world.entities().tolist()
            others = world.spawn_batch(self.samples.Number(value=[1, 2])).tolist()
            with self.refused(f"a save of {name}", ComponentValueError):
                store.save_entities(world, [others[0], *bad, others[1]])
            if self.atomic is True:
                found = [store.entity_exists(i) for i in as_ints(world.get_stable_id(others))]
                expect(not any(found), f"entities were saved beside {name}, which was refused")

    def test_what_is_no_entity(self, tmp_path: Path) -> None:
        """Ids and worlds that are none are one of the library's errors, and change nothing."""
        store, world = self.store(tmp_path), World()
        world.spawn()
        no_world: Any
        with self.unchanged(world, "calls with what is no id"):
            for bad in _NO_IDS:
                with self.refused(f"save_entity of {bad!r}"):
                    store.save_entity(world, bad)
                with self.refused(f"load_entity of {bad!r}"):
                    store.load_entity(world, bad)
                with self.refused(f"delete_entity of {bad!r}"):
                    store.delete_entity(bad)
                with self.refused(f"load_entities of {bad!r}"):
                    store.load_entities(world, [5, bad])
                with contextlib.suppress(PecsError):
                    found = store.entity_exists(bad)
                    expect(
                        found is False,
                        f"expected an error or False as to whether {bad!r} exists, found {found!r}",
                    )
        for no_world in (None, 5, world.snapshot()):
            with self.refused("save_entities of what is no world"):
                store.save_entities(no_world, world.entities())
            with self.refused("load_entities into what is no world"):
                store.load_entities(no_world, [1])

    def _check_nothing_new(self, store: Any, before: World, world: World) -> None:
        """Check that the store has the entities of *before* as they are there, and no others of *world*."""
        found = {i for i in as_ints(world.stable_ids()) if store.entity_exists(i)}
        wanted = set(as_ints(before.stable_ids()))
        expect(
            found == wanted,
            f"a batch that was refused left {len(found - wanted)} of its entities in the store",
        )
        self.check_saved(store, before, "what was saved before a batch that was refused")
