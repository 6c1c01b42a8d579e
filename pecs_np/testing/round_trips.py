"""The first part of the contract: what was saved comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.testing.harness import Harness, expect, stable_ids
from pecs_np.world import World

__all__ = ["RoundTrips"]


class RoundTrips(Harness):
    """Worlds come back equal, bit for bit."""

    def test_empty_world(self, tmp_path: Path) -> None:
        """A world without entities comes back without entities."""
        self.check_round_trip(World(), tmp_path)

    def test_entities_without_components(self, tmp_path: Path) -> None:
        """Entities that have no components come back, each with its stable id."""
        world = World()
        world.spawn_batch(count=5)
        back = self.check_round_trip(world, tmp_path)
        expect(stable_ids(back) == stable_ids(world), "the stable ids are not what they were")

    def test_stable_ids(self, tmp_path: Path) -> None:
        """A stable id has 128 bits, and entities keep theirs, in whatever order they were made."""
        world = World()
        for stable_id in (2**64, 1, 2**128 - 1, 2**64 - 1, 2**127, 7, 2**64 + 1, 3):
            world.spawn_with_stable_id(stable_id, self.samples.Number(value=stable_id % 1000))
        self.check_round_trip(world, tmp_path)

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
        """Values of enums keep their value, and their type its members."""
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

    def test_references(self, tmp_path: Path) -> None:
        """References lead to the same entity, also in another table; those to the dead are null."""
        world = self.samples.world_of("references")
        dead = world.spawn()
        note = world.spawn(self.samples.Note(text="of the dead", about=dead))
        world.despawn(dead)
        back = self.check_round_trip(world, tmp_path)
        found: Any = back.get(back.get_entity_id(world.get_stable_id(note)), self.samples.Note)
        expect(found.about == 0, f"expected no entity as the reference to a dead one, found {found.about}")

    def test_components_without_fields(self, tmp_path: Path) -> None:
        """A component without fields marks the entities that it marked."""
        self.check_round_trip(self.samples.world_of("nothing"), tmp_path)

    def test_names(self, tmp_path: Path) -> None:
        """Names of components and fields are any Unicode."""
        self.check_round_trip(self.samples.world_of("names é 名前 🦀"), tmp_path)

    def test_all_at_once(self, tmp_path: Path) -> None:
        """A world with everything in it comes back."""
        self.check_round_trip(self.rich(), tmp_path)

    def test_many_entities(self, tmp_path: Path) -> None:
        """A larger world comes back: 20,000 entities in several tables that refer to one another."""
        world = World()
        ids = world.spawn_batch(self.samples.Number(value=np.arange(20_000)))
        world.insert(ids[::2], self.samples.Count(value=np.arange(10_000)))
        texts = [f"note {i}" for i in range(0, 20_000, 5)]
        world.insert(ids[::5], self.samples.Note(text=texts, about=ids[::-5]))
        world.despawn(ids[::7])
        self.check_round_trip(world, tmp_path)

    def test_resources(self, tmp_path: Path) -> None:
        """Resources come back, with their references."""
        self.needs_resources()
        world = World()
        target = world.spawn(self.samples.Number(value=1))
        world.resources.insert(self.samples.Note(text="é", about=target))
        world.resources.insert(self.samples.Count(value=-(2**63)))
        world.resources.insert(self.samples.kinds["nothing"]())
        self.check_round_trip(world, tmp_path)

    def test_resources_without_entities(self, tmp_path: Path) -> None:
        """Resources come back where there is nothing else."""
        self.needs_resources()
        world = World()
        world.resources.insert(self.samples.Count(value=3))
        self.check_round_trip(world, tmp_path)

    def test_metadata(self, tmp_path: Path) -> None:
        """Metadata come back with their types: all that JSON holds, nested, texts of any Unicode."""
        self.needs_world_data()
        leaves: list[Any] = [None, True, False, 0, -1, 2**63, 1.0, 1e300, -0.0, "", "é\0🦀", "'; --", [], {}]
        metadata = {"leaves": leaves, "": {"é": {"deep": [[[1]]]}}, "name": "x" * 1000}
        back = self.check_round_trip(World(metadata=metadata), tmp_path)
        expect(repr(back.metadata["leaves"]) == repr(leaves), f"expected {leaves}, found {back.metadata}")

    def test_world_version(self, tmp_path: Path) -> None:
        """The version of the world comes back."""
        self.needs_world_data()
        for version in (1, 2, 2**32 - 1):
            found = self.round_trip(World(version=version), tmp_path).version
            expect(found == version, f"expected version {version} of the world, found {found}")

    def test_generators(self, tmp_path: Path) -> None:
        """Named generators go on with the numbers that they would have drawn."""
        self.needs_world_data()
        world = World()
        for kind in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            world.rngs[kind] = np.random.Generator(getattr(np.random, kind)(7))
            # Half of a 64-bit number is left over.
            world.rngs[kind].integers(1 << 16, size=3, dtype=np.uint32)
        back = self.check_round_trip(world, tmp_path)
        for kind, rng in world.rngs.items():
            ours, theirs = (
                [*g.integers(1 << 16, size=5, dtype=np.uint32).tolist(), *g.normal(size=5).tolist()]
                for g in (rng, back.rngs[kind])
            )
            expect(ours == theirs, f"the generator {kind} draws {theirs}, expected {ours}")

    def test_seeded_stable_ids(self, tmp_path: Path) -> None:
        """A seeded world, restarted from its save, gives new entities the same stable ids."""
        self.needs_world_data()
        world = World(seed=11)
        world.spawn_batch(count=3)
        back = self.check_round_trip(world, tmp_path)
        ours, theirs = (stable_ids(w) for w in (world, back) if w.spawn_batch(count=2) is not None)
        expect(ours == theirs, f"expected the stable ids {ours} after new entities, found {theirs}")
