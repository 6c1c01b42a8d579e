"""The second part of the contract: what is saved, what loading makes of it, and that worlds stay their own."""

from __future__ import annotations

import io
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.errors import ComponentDefinitionError, MigrationError, PersistenceError, UnsupportedVersionError
from pecs_np.persistence.filters import PersistenceFilter, WhitelistFilter
from pecs_np.persistence.manager import PersistenceManager
from pecs_np.testing.harness import Harness, expect, stable_ids
from pecs_np.world import World

__all__ = ["Behaviour"]

_THREADS, _ROUNDS = 4, 5


class Behaviour(Harness):
    """Transient data, filters, versions and unknown components; worlds and saves do not share anything."""

    # What the plugin says of itself

    def test_format_name_and_version(self, tmp_path: Path) -> None:
        """The format has a name and a version from 1, and reads the version that it writes."""
        plugin = self.make_plugin(tmp_path)
        name, version = plugin.format_name(), plugin.format_version()
        expect(isinstance(name, str) and name, f"expected a name from format_name, found {name!r}")
        sane = type(version) is int and 0 < version < 1 << 32
        expect(sane, f"expected a version from 1 to {2**32 - 1} from format_version, found {version!r}")
        answer = plugin.can_load_version(version)
        expect(answer is True, f"expected True from can_load_version({version}), found {answer!r}")
        answer = plugin.can_load_version(2**32 - 1)
        expect(answer is False, f"expected False from can_load_version({2**32 - 1}), found {answer!r}")
        same = (plugin.format_name(), plugin.format_version()) == (name, version)
        expect(same, "format_name and format_version change from call to call")

    def test_suffixes(self, tmp_path: Path) -> None:
        """The suffixes are a tuple of texts in lower case that begin with a dot."""
        suffixes: Any = self.make_plugin(tmp_path).suffixes
        sane = isinstance(suffixes, tuple) and all(
            isinstance(s, str) and len(s) > 1 and s[0] == "." and s == s.lower() for s in suffixes
        )
        expect(sane, f'expected suffixes such as (".json",), found {suffixes!r}')

    def test_recognises_its_own(self, tmp_path: Path) -> None:
        """What it recognises by the first bytes is its own, whatever the world; nothing and zeros are not."""
        plugin = self.plugin_of_bytes(tmp_path)
        starts = [world.to_bytes(plugin)[:64] for world in (World(), self.rich(), self.samples.small())]
        answers = [plugin.recognises(start) for start in starts]
        expect(len(set(answers)) == 1, f"some of its saves are recognised, others are not: {answers}")
        foreign = [b"", bytes(64), b"\x89PNG\r\n\x1a\n", b"hello, world"]
        taken = [start for start in foreign if plugin.recognises(start)]
        expect(not taken, f"recognises {taken}, which is none of its saves")

    def test_manager_finds_it(self, tmp_path: Path) -> None:
        """A manager saves and loads with it by name, and files by their suffix too."""
        manager, plugin, world = PersistenceManager(), self.make_plugin(tmp_path), self.rich()
        manager.register_plugin("mine", plugin)
        path = self.make_path(tmp_path, "managed")
        manager.save_with(world, path, "mine")
        self.check_equal(world, manager.load_with(path, "mine"), "a world that a manager saved by name")
        for suffix in plugin.suffixes if plugin.has_bytes else ():
            manager.set_default_plugin("mine")
            manager.save(world, tmp_path / f"by suffix{suffix}")
            back = manager.load(tmp_path / f"by suffix{suffix}")
            self.check_equal(world, back, f"a world that a manager saved by the suffix {suffix}")

    # What is saved

    def test_transient_types_are_left_out(self, tmp_path: Path) -> None:
        """Components of transient types are not saved; their entities are."""
        s, world = self.samples, World()
        world.spawn_batch(s.Number(value=[1, 2]), s.Frame(number=3))
        world.spawn(s.Frame(number=4))
        back = self.round_trip(world, tmp_path)
        expect(stable_ids(back) == stable_ids(world), "entities of transient components are not all saved")
        found = [
            table.types for table in back.snapshot().tables if any("frame" in t.name for t in table.types)
        ]
        expect(not found, f"expected no transient components in the save, found {found}")
        expect(
            sorted(back.column(s.Number)["value"]) == [1, 2], "what is beside transient components is lost"
        )

    def test_values_that_are_not_persistent_are_left_out(self, tmp_path: Path) -> None:
        """Of a component with ``is_persistent``, the values for which it holds are saved."""
        s, world = self.samples, World()
        world.spawn_batch(s.Draft(valid=[True, False, True, False], number=[1, 2, 3, 4]))
        back = self.round_trip(world, tmp_path)
        expect(
            stable_ids(back) == stable_ids(world), "entities whose components are left out are not all saved"
        )
        kept = sorted(back.column(s.Draft)["number"].tolist())
        expect(kept == [1, 3], f"expected the numbers [1, 3], which are persistent, found {kept}")

    def test_filters_of_saves(self, tmp_path: Path) -> None:
        """A save with a filter holds what the filter keeps; references to what it leaves out are null."""
        s, world = self.samples, World()
        ids = world.spawn_batch(s.Number(value=[1, -1, 2]))
        world.insert(ids[0], s.Note(text="", about=ids[1]))

        class Positive(PersistenceFilter):
            def entity_mask(self, table: Any) -> Any:
                return table.get(s.Number).value > 0

        plugin, path = self.make_plugin(tmp_path), self.make_path(tmp_path, "filtered")
        world.save_with(path, plugin, filter=Positive())
        back = World.load_with(path, plugin)
        found = sorted(back.column(s.Number)["value"].tolist())
        expect(found == [1, 2], f"expected the values [1, 2], which the filter keeps, found {found}")
        about = back.column(s.Note)["about"].tolist()
        expect(about == [0], f"expected no entity as the reference to one left out, found {about}")
        world.save_with(path, plugin, filter=WhitelistFilter(s.Note))
        types = [t.name for t in World.load_with(path, plugin).snapshot().types]
        expect(types == ["contract.note"], f"expected components of contract.note only, found {types}")

    def test_filters_of_loads(self, tmp_path: Path) -> None:
        """A load with a filter gives what the filter keeps of the save."""
        s, world = self.samples, World()
        ids = world.spawn_batch(s.Number(value=[1, 2]))
        world.insert(ids[0], s.Note(text="a"))
        back = self.round_trip(world, tmp_path, filter=WhitelistFilter(s.Note))
        types = [t.name for t in back.snapshot().types]
        expect(types == ["contract.note"], f"expected components of contract.note only, found {types}")
        expect(len(back) == 2, f"expected 2 entities, found {len(back)}")

    # Types

    def test_unknown_components_are_kept(self, tmp_path: Path) -> None:
        """What the program does not define is loaded by the save's own description, and saved again unchanged."""
        self.needs_described_types()
        world, plugin = self.rich(), self.make_plugin(tmp_path)
        first, second = self.make_path(tmp_path, "first"), self.make_path(tmp_path, "second")
        world.save_with(first, plugin)
        self.samples.forget()
        stranger = World.load_with(first, plugin)
        self.check_equal(world, stranger, "a world of components that are not defined here")
        stranger.column("contract.number")["value"].sum()
        stranger.save_with(second, plugin)
        again = World.load_with(second, plugin)
        self.check_equal(world, again, "a world that a program without its components saved again")

    def test_unknown_components_are_saved_again(self, tmp_path: Path) -> None:
        """A program without the components loads a save and saves it again; the program with them loads that."""
        world, plugin = self.samples.small(), self.make_plugin(tmp_path)
        first, second = self.make_path(tmp_path, "first"), self.make_path(tmp_path, "second")
        world.save_with(first, plugin)
        self.samples.forget()
        World.load_with(first, plugin).save_with(second, plugin)
        self.setup_method()
        expected, found = (World.load_with(path, plugin) for path in (first, second))
        self.check_equal(expected, found, "a world that a program without its components saved again")

    def test_unknown_components_are_refused_or_dropped(self, tmp_path: Path) -> None:
        """They are an error with ``unknown="refuse"``, and left out with a warning with ``unknown="drop"``."""
        world, plugin = self.samples.small(), self.make_plugin(tmp_path)
        path = self.make_path(tmp_path, "unknown")
        world.save_with(path, plugin)
        self.samples.undefine("note")
        with self.refused("a load with unknown components and unknown='refuse'", ComponentDefinitionError):
            World.load_with(path, plugin, unknown="refuse")
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            back = World.load_with(path, plugin, unknown="drop")
        expect(warned, "expected a warning that components are dropped, found none")
        types = [t.name for t in back.snapshot().types]
        expect(types == ["contract.number"], f"expected components of contract.number only, found {types}")
        expect(len(back) == len(world), f"expected {len(world)} entities, found {len(back)}")

    def test_old_versions_reach_their_migrations(self, tmp_path: Path) -> None:
        """Components of an older version come as the save has them to their migrations, step by step."""
        self.needs_described_types()
        s, world, plugin = self.samples, World(), self.make_plugin(tmp_path)
        path = self.make_path(tmp_path, "old")
        old = s.define("reading", {"celsius": np.float32, "note": str})
        values = np.array([-0.0, 21.5, np.nan], np.float32)
        world.spawn_batch(old(celsius=values, note=["a", "", "é"]))
        if self.holds_resources is True:
            world.resources.insert(old(celsius=1, note="r"))
        world.save_with(path, plugin)
        s.undefine("reading")
        new: Any = s.define("reading", {"kelvin": np.float64, "note": str}, version=3)
        seen = []

        def rename(column: Any) -> Any:
            seen.append(column["celsius"].tobytes())
            return {"degrees": column["celsius"], "note": column["note"]}

        def convert(column: Any) -> Any:
            return {"kelvin": column["degrees"] + np.float64(273.15), "note": column["note"]}

        new.migration(1)(rename)
        new.migration(2)(convert)
        back = World.load_with(path, plugin)
        expect(values.tobytes() in seen, f"expected {values} in the first migration, found {seen}")
        found = back.column(new)["kelvin"]
        wanted = values + np.float64(273.15)
        expect(np.array_equal(found, wanted, equal_nan=True), f"expected {wanted}, migrated, found {found}")
        if self.holds_resources is True:
            resource: Any = back.resources.get(new)
            expect(resource.note == "r", "the resource did not reach its migration")

    def test_old_versions_without_migrations(self, tmp_path: Path) -> None:
        """Components of an older version that nothing leads from are refused, by name."""
        s, world, plugin = self.samples, World(), self.make_plugin(tmp_path)
        path = self.make_path(tmp_path, "old")
        world.spawn(s.define("reading", {"a": np.int16})(a=1))
        world.save_with(path, plugin)
        s.undefine("reading")
        s.define("reading", {"b": np.int16}, version=2)
        what = "a load of an old component without a migration"
        with self.refused(what, UnsupportedVersionError, MigrationError):
            try:
                World.load_with(path, plugin)
            except PersistenceError as error:
                expect("contract.reading" in str(error), f"expected the component in the message: {error}")
                raise

    def test_newer_versions_are_refused(self, tmp_path: Path) -> None:
        """Components of a newer version are refused, with both versions."""
        s, world, plugin = self.samples, World(), self.make_plugin(tmp_path)
        path = self.make_path(tmp_path, "newer")
        world.spawn(s.define("reading", {"a": np.int16}, version=5)(a=1))
        world.save_with(path, plugin)
        s.undefine("reading")
        s.define("reading", {"a": np.int16}, version=3)
        with self.refused("a load of a component of a newer version", UnsupportedVersionError):
            try:
                World.load_with(path, plugin)
            except UnsupportedVersionError as error:
                versions = error.found, error.expected
                expect(versions == (5, 3), f"expected (5, 3) as .found and .expected, found {versions}")
                raise

    def test_other_fields_are_refused(self, tmp_path: Path) -> None:
        """A component that the program defines with other fields in the same version is refused."""
        self.needs_described_types()
        s, world, plugin = self.samples, World(), self.make_plugin(tmp_path)
        path = self.make_path(tmp_path, "other")
        world.spawn(s.define("reading", {"a": np.int32})(a=1))
        world.save_with(path, plugin)
        s.undefine("reading")
        s.define("reading", {"a": np.float32})
        with self.refused("a load of a component that is defined with other fields", PersistenceError):
            World.load_with(path, plugin)

    # Worlds and saves

    def test_saving_changes_nothing(self, tmp_path: Path) -> None:
        """A world is after a save what it was before."""
        world = self.rich()
        world.spawn(self.samples.Frame(number=1))
        before = World.from_snapshot(world.snapshot(copy=True))
        plugin = self.make_plugin(tmp_path)
        world.save_with(self.make_path(tmp_path, "saved"), plugin)
        if plugin.has_bytes:
            plugin.save(world, io.BytesIO())
        self.check_equal(before, world, "the world that was saved")
        expect(world.validate(), f"the world that was saved is no longer sound: {world.validate()}")

    def test_loaded_worlds_are_their_own(self, tmp_path: Path) -> None:
        """Loaded worlds share nothing with the saved one, with the save or with each other, and can be changed."""
        world, plugin = self.rich(), self.make_plugin(tmp_path)
        lists = self.samples.world_of("lists")
        first, second = self.make_path(tmp_path, "first"), self.make_path(tmp_path, "second")
        world.save_with(first, plugin)
        lists.save_with(second, plugin)
        for path, original in ((first, world), (second, lists)):
            before = World.from_snapshot(original.snapshot(copy=True))
            one, two = World.load_with(path, plugin), World.load_with(path, plugin)
            try:
                _overwrite(one)
            except ValueError as error:
                raise AssertionError(f"a loaded world cannot be changed: {error}") from error
            self.check_equal(before, original, "the saved world, after a change to the loaded one,")
            self.check_equal(before, two, "a loaded world, after a change to another one,")
            self.check_equal(
                before, World.load_with(path, plugin), "the save, after a change to a loaded world,"
            )
            _overwrite(original)
            self.check_equal(
                before, World.load_with(path, plugin), "the save, after a change to the saved world,"
            )

    def test_loaded_worlds_go_on(self, tmp_path: Path) -> None:
        """A loaded world can spawn, insert, remove and despawn, and is saved again as what it is then."""
        s, world = self.samples, self.rich()
        back = self.round_trip(world, tmp_path)
        for each in (world, back):
            number = sorted(each.entities().tolist(), key=lambda e: int(each.get_stable_id(e)))
            each.remove(number[0], s.Note)
            each.insert(number[0], s.Count(value=5))
            each.despawn(number[1])
            new = each.spawn_with_stable_id(1234, s.Note(text="new", about=number[0]))
            each.insert(new, s.Number(value=2))
        self.check_equal(world, back, "a loaded world, after the same changes as the saved one,")
        self.check_round_trip(back, tmp_path)

    def test_saves_replace_and_stand_beside_each_other(self, tmp_path: Path) -> None:
        """A second save takes the place of the first under its name, and of no other."""
        s, plugin = self.samples, self.make_plugin(tmp_path)
        first, second = self.make_path(tmp_path, "one"), self.make_path(tmp_path, "other")
        large, small, other = self.rich(), s.small(), World()
        large.save_with(first, plugin)
        other.save_with(second, plugin)
        small.save_with(first, plugin)
        self.check_equal(small, World.load_with(first, plugin), "a save over another one")
        self.check_equal(other, World.load_with(second, plugin), "a save beside another one")
        large.save_with(first, plugin)
        self.check_equal(large, World.load_with(first, plugin), "a larger save over another one")

    def test_equal_worlds_give_equal_bytes(self, tmp_path: Path) -> None:
        """The bytes depend on the world alone: not on the clock, on chance, or on what was saved before."""
        plugin = self.plugin_of_bytes(tmp_path)
        self.needs(self.deterministic, "does not give equal worlds equal bytes")
        world = self.rich()
        data = world.to_bytes(plugin)
        others = {
            "a second time": world.to_bytes(plugin),
            "of a copy of the world": World.from_snapshot(world.snapshot(copy=True)).to_bytes(plugin),
            "by another plugin object": world.to_bytes(self.make_plugin(tmp_path)),
            "of the world that was loaded from them": World.from_bytes(data, plugin).to_bytes(plugin),
        }
        for what, found in others.items():
            expect(found == data, f"the bytes {what} are not the same: {len(data)} and {len(found)} bytes")

    def test_one_plugin_serves_several_threads(self, tmp_path: Path) -> None:
        """Threads may save and load with one plugin object at the same time."""
        s, plugin = self.samples, self.make_plugin(tmp_path)
        start = threading.Barrier(_THREADS)

        def work(number: int) -> None:
            world = World()
            ids = world.spawn_batch(s.Number(value=np.arange(50 + 100 * number)))
            world.insert(ids[:5], s.Note(text=f"thread {number}", about=ids[-1]))
            path = self.make_path(tmp_path, f"thread {number}")
            start.wait()
            for _ in range(_ROUNDS):
                world.save_with(path, plugin)
                back = World.load_with(path, plugin)
                self.check_equal(world, back, "a world that was saved while other threads saved theirs")

        with ThreadPoolExecutor(_THREADS) as pool:
            for done in [pool.submit(work, number) for number in range(_THREADS)]:
                done.result()


def _overwrite(world: World) -> None:
    """Write zeros to all that a world holds."""
    for type_ in world.snapshot().types:
        for column in [np.asarray(c) for c in world.columns(type_.name)]:
            for f in type_.fields:
                if f.variable == "list":
                    for values in column[f.name]:
                        values[...] = np.zeros((), values.dtype)
                elif not f.variable:
                    column[f.name] = np.zeros((), column.dtype[f.name].base)
    world.metadata["overwritten"] = True
    world.metadata.setdefault("a", []).append(0)
    for rng in world.rngs.values():
        rng.integers(5)
    for resource in world.resources:
        np.asarray(resource)["about"] = 0
