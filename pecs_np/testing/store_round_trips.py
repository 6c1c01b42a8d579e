"""The first part of the contract of entity stores: entities come back, and who they refer to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.persistence.manager import PersistenceManager
from pecs_np.testing.harness import expect
from pecs_np.testing.store_harness import StoreHarness, as_ints, elsewhere, save_all
from pecs_np.world import World

__all__ = ["StoreRoundTrips"]


class StoreRoundTrips(StoreHarness):
    """Entities come back with their components, bit for bit, and refer to whom they referred to."""

    def test_entities_without_components(self, tmp_path: Path) -> None:
        """Entities that have no components come back, each with its stable id."""
        world = World()
        world.spawn_batch(count=5)
        self.check_round_trip(world, tmp_path)

    def test_stable_ids(self, tmp_path: Path) -> None:
        """A stable id has 128 bits, and no two of them are the same to the store."""
        world, store = World(), self.store(tmp_path)
        ids = [2**64, 1, 2**128 - 1, 2**64 - 1, 2**127, 7, 2**64 + 1, 3, 256, 2**120]
        for number, stable_id in enumerate(ids):
            world.spawn_with_stable_id(stable_id, self.samples.Number(value=number))
        save_all(store, world)
        back = elsewhere()
        for number, stable_id in enumerate(ids):
            expect(store.entity_exists(stable_id), f"the entity {stable_id:#x} was saved, and does not exist")
            entity = store.load_entity(back, stable_id)
            found: Any = back.get(entity, self.samples.Number)
            value = found.value
            expect(value == number, f"expected the value {number} under {stable_id:#x}, found {value}")
        self.check_equal(world, back, "a world of stable ids at their limits")

    def test_integers(self, tmp_path: Path) -> None:
        """Integers of every size keep their value, up to the largest u64, and bools are bools."""
        self.check_round_trip(self.samples.world_of("integers"), tmp_path)

    def test_floats(self, tmp_path: Path) -> None:
        """Floats and complex numbers keep every bit: -0.0, infinities, subnormals, the payloads of NaNs."""
        self.check_round_trip(self.samples.world_of("floats"), tmp_path)

    def test_arrays_in_fields(self, tmp_path: Path) -> None:
        """Fields that hold arrays keep their shape."""
        self.check_round_trip(self.samples.world_of("arrays"), tmp_path)

    def test_fixed_texts(self, tmp_path: Path) -> None:
        """Texts and bytes of fixed size keep what they hold, also behind a zero."""
        self.check_round_trip(self.samples.world_of("fixed texts"), tmp_path)

    def test_texts(self, tmp_path: Path) -> None:
        """Texts and bytes of any length keep every character: empty ones, zeros, all of Unicode."""
        self.check_round_trip(self.samples.world_of("texts"), tmp_path)

    def test_enums(self, tmp_path: Path) -> None:
        """Values of enums keep their value."""
        self.check_round_trip(self.samples.world_of("enums"), tmp_path)

    def test_times(self, tmp_path: Path) -> None:
        """Times keep their unit and their value, NaT too."""
        self.check_round_trip(self.samples.world_of("times"), tmp_path)

    def test_structs(self, tmp_path: Path) -> None:
        """Structs in structs keep their members."""
        self.check_round_trip(self.samples.world_of("structs"), tmp_path)

    def test_lists(self, tmp_path: Path) -> None:
        """Lists keep their length and their elements, empty ones too."""
        self.check_round_trip(self.samples.world_of("lists"), tmp_path)

    def test_components_without_fields(self, tmp_path: Path) -> None:
        """A component without fields marks the entities that it marked."""
        self.check_round_trip(self.samples.world_of("nothing"), tmp_path)

    def test_names(self, tmp_path: Path) -> None:
        """Names of components and fields are any Unicode."""
        self.check_round_trip(self.samples.world_of("names é 名前 🦀"), tmp_path)

    def test_all_at_once(self, tmp_path: Path) -> None:
        """Entities of many sets of components, saved in one batch, come back in one batch."""
        self.check_round_trip(self.rich(), tmp_path)

    def test_one_by_one(self, tmp_path: Path) -> None:
        """Entities that are saved and loaded one by one are the same as those of batches."""
        world = self.rich()
        store = self.store(tmp_path)
        ids = world.stable_ids()
        for entity in world.entities().tolist():
            expect(store.save_entity(world, entity) is None, "save_entity returns something")
        self.check_saved(store, world, "a world saved one by one, and loaded in a batch,")
        save_all(store, world)
        back = elsewhere()
        loaded = [store.load_entity(back, stable_id) for stable_id in as_ints(ids)]
        self.check_loaded(back, np.array(loaded, np.uint64), ids)
        self.check_equal(world, back, "a world saved in a batch, and loaded one by one,")

    def test_large_batches(self, tmp_path: Path) -> None:
        """So do thousands of several sets of components, with references, in an order by chance."""
        s, store, world, many = self.samples, self.store(tmp_path), World(), self.many // 10 * 10
        ids = world.spawn_batch(s.Number(value=np.arange(many)))
        world.insert(ids[::2], s.Count(value=np.arange(many // 2)))
        texts = [f"note {i} " * (i % 7) for i in range(many // 5)]
        world.insert(ids[::5], s.Note(text=texts, about=self.target(ids[::-5])))
        stable = save_all(store, world, np.random.default_rng(1).permutation(ids))
        back = elsewhere()
        order = np.random.default_rng(2).permutation(len(stable))
        self.check_loaded(back, store.load_entities(back, stable[order]), stable[order])
        self.check_equal(world, back, f"a world of {many} entities")

    def test_large_values(self, tmp_path: Path) -> None:
        """Single values may have megabytes, beside others that are small."""
        world = World()
        sizes = (0, 3_000_000, 1, 70_000, 4_096, 16_384)
        world.spawn_batch(self.samples.Note(text=[f"{size % 10}" * size for size in sizes]))
        self.check_round_trip(world, tmp_path)

    def test_many_components(self, tmp_path: Path) -> None:
        """An entity may have a hundred components, and entities a hundred sets of them."""
        world = World()
        made = [self.samples.define(f"part {i}", {"x": np.int16, "label": str}) for i in range(100)]
        world.spawn(*[part(x=i, label=f"{i}") for i, part in enumerate(made)])
        for i, part in enumerate(made):
            world.spawn(part(x=i, label="alone"))
        self.check_round_trip(world, tmp_path)

    # References

    def test_references(self, tmp_path: Path) -> None:
        """References of every kind of field lead to the same entity; those to the dead are null."""
        self.needs_references()
        world = self.samples.world_of("references")
        dead = world.spawn()
        note = world.spawn(self.samples.Note(text="of the dead", about=dead))
        world.despawn(dead)
        back = self.check_round_trip(world, tmp_path)
        found: Any = back.get(back.get_entity_id(world.get_stable_id(note)), self.samples.Note)
        expect(int(found.about) == 0, f"expected no entity as the reference to a dead one, found {found}")

    def test_references_to_itself_and_in_circles(self, tmp_path: Path) -> None:
        """An entity may refer to itself, and entities to each other."""
        self.needs_references()
        s, world = self.samples, World()
        a, b, c = (world.spawn() for _ in range(3))
        world.insert(a, s.Note(text="a", about=a))
        world.insert(b, s.Note(text="b", about=c))
        world.insert(c, s.Note(text="c", about=b), s.kinds["references"](c, (b, c), (1, c), [c, b, a], []))
        self.check_round_trip(world, tmp_path)

    def test_keeps_references_for_who_is_not_loaded(self, tmp_path: Path) -> None:
        """A reference to an entity that is not loaded tells its stable id, and leads to it when it comes."""
        self.needs_references()
        s, store, world = self.samples, self.store(tmp_path), World()
        a = world.spawn(s.Number(value=1))
        b = world.spawn(
            s.Note(text="b", about=a), s.kinds["references"](a, (a, 0), (1, a), [a, 0, a], [(2, a)])
        )
        first, second = as_ints(save_all(store, world, [a, b]))
        back = elsewhere()
        there = store.load_entity(back, second)
        awaited = self._about(back, there)
        expect(not back.is_alive(awaited), "an entity that was not loaded is alive")
        found = back.get_stable_id(awaited)
        expect(found == first, f"expected the stable id {first:#x} of who is not loaded, found {found!r}")
        kept: Any = back.get(there, s.kinds["references"])
        where = [int(kept.to), int(kept.both[0]), int(kept.berth.guest), *map(int, kept.crew[::2])]
        expect(where == [awaited] * 5, f"expected one id for all references to one entity, found {where}")
        self.check_sound(back)
        expect(store.load_entity(back, first) == awaited, "who was awaited came under another id")
        expect(back.is_alive(self._about(back, there)), "the reference does not lead to who has come")
        self.check_sound(back)
        self.check_equal(world, back, "a world whose entities came one after the other")

    def test_references_to_who_is_not_loaded_are_saved_again(self, tmp_path: Path) -> None:
        """An entity is saved again with its references to entities that are not loaded."""
        self.needs_references()
        s, store, world = self.samples, self.store(tmp_path), World()
        a = world.spawn(s.Number(value=1))
        b = world.spawn(s.Note(text="b", about=a))
        first, second = as_ints(save_all(store, world, [a, b]))
        part = elsewhere()
        there = store.load_entity(part, second)
        found: Any = part.get(there, s.Note)
        found.text = "b, changed"
        store.save_entity(part, there)
        world.insert(b, s.Note(text="b, changed", about=a))
        self.check_saved(store, world, "an entity that was saved again without who it refers to")
        expect(store.entity_exists(first), "who was not loaded was deleted by the save of who refers to it")

    def test_references_come_in_any_order(self, tmp_path: Path) -> None:
        """Whatever the order in which entities come, in the end all references lead to who they led to."""
        self.needs_references()
        s, store, world = self.samples, self.store(tmp_path), World()
        ids = world.spawn_batch(s.Number(value=np.arange(12)))
        rng = np.random.default_rng(3)
        world.insert(ids, s.Note(text="", about=rng.choice(ids, 12)))
        world.insert(ids[::3], s.kinds["references"](ids[0], (ids[11], ids[5]), (1, ids[7]), ids[::4], []))
        stable = save_all(store, world)
        for _ in range(4):
            back, order = elsewhere(), rng.permutation(12)
            for part in np.split(order, [1, 2, 5, 9]):
                self.check_loaded(back, store.load_entities(back, stable[part]), stable[part])
            self.check_equal(world, back, "a world whose entities came in parts")

    def test_evicted_entities_come_back(self, tmp_path: Path) -> None:
        """An entity that is saved and unloaded leaves references that wait, and comes back under its id."""
        self.needs_references()
        s, manager, world = self.samples, PersistenceManager(), World()
        manager.register_entity_plugin("mine", self.store(tmp_path))
        a = world.spawn(s.Number(value=1))
        b = world.spawn(s.Note(text="b", about=a))
        stable_id = world.get_stable_id(a)
        world.insert(a, s.Number(value=2))
        before = World.from_snapshot(world.snapshot(copy=True))
        manager.evict(world, [a], "mine")
        expect(not world.is_alive(a) and len(world) == 1, "an entity that was evicted is still alive")
        found = world.get_stable_id(self._about(world, b))
        expect(found == stable_id, f"expected {stable_id!r} as the stable id of who is away, found {found!r}")
        other = world.spawn(s.Number(value=3))
        expect(other != a, "a new entity has the id of one that was evicted")
        world.despawn(other)
        expect(manager.load_entity_with(world, stable_id, "mine") == a, "it came back under another id")
        self.check_equal(before, world, "a world from which one was evicted, and came back")
        self.check_sound(world)

    def _about(self, world: World, entity: int) -> int:
        note: Any = world.get(entity, self.samples.Note)
        return int(note.about)
