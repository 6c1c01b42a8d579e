"""What the checks of the contract stand on: a plugin, a place to save to, and words for what went wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pecs_np.ecs import world as ecs
from pecs_np.errors import PecsError
from pecs_np.persistence.plugins import PersistencePlugin
from pecs_np.testing.comparison import assert_worlds_equal
from pecs_np.testing.samples import Samples
from pecs_np.world import World

__all__ = ["Checks", "Harness", "expect", "stable_ids"]


def expect(holds: Any, message: str) -> None:
    """Raise AssertionError with *message* unless *holds*."""
    if not holds:
        raise AssertionError(message)


def stable_ids(world: World) -> list[int]:
    """Return the stable ids of a world, sorted."""
    return sorted(int(hi) << 64 | int(lo) for lo, hi in np.asarray(world.stable_ids()).tolist())


class Checks:
    """The components of the checks, and words for what went wrong."""

    _kind = "format"

    def setup_method(self) -> None:
        """Define the components that the checks use."""
        self.samples = Samples()

    def teardown_method(self) -> None:
        """Forget them."""
        self.samples.forget()

    def check_equal(self, expected: ecs.World, found: ecs.World, what: str) -> None:
        """Check that two worlds are equal, in the words of *what*."""
        try:
            assert_worlds_equal(expected, found)
        except AssertionError as error:
            raise AssertionError(f"{what} is not what it was: {error}") from None

    @contextlib.contextmanager
    def refused(self, what: str, *kinds: type[BaseException]) -> Iterator[None]:
        """Check that the block raises one of *kinds*, by default any of the library's errors."""
        wanted = kinds or (PecsError,)
        names = " or ".join(kind.__name__ for kind in wanted)
        try:
            yield
        except wanted:
            return
        except Exception as error:
            raise AssertionError(
                f"{what} raised {type(error).__name__}, expected {names}: {error}"
            ) from error
        raise AssertionError(f"{what} raised nothing, expected {names}")

    def needs(self, value: bool | str, what: str) -> None:
        """Skip the check where what is tested opted out of *what*."""
        if value is not True:
            import pytest  # noqa: PLC0415 - only those who run the checks have it

            reason = f"the {self._kind} {what}"
            pytest.skip(f"{reason}: {value}" if value else reason)


class Harness(Checks):
    """Makes the plugin under test, and saves and loads with it; see `PluginContract` for the attributes."""

    holds_resources: bool | str = True
    holds_world_data: bool | str = True
    describes_types: bool | str = True
    deterministic: bool | str = True
    detects_damage: bool | str = True
    detects_cuts: bool | str = True

    def make_plugin(self, tmp_path: Path) -> PersistencePlugin:
        """Return the plugin to test, ready for use; *tmp_path* is an empty folder of the check's own."""
        raise NotImplementedError(f"{type(self).__name__} says with make_plugin what plugin to test")

    def make_path(self, tmp_path: Path, name: str) -> Any:
        """Return where the plugin can save a world under *name*."""
        plugin = self.make_plugin(tmp_path)
        if plugin.has_bytes:
            return tmp_path / f"{name}{next(iter(plugin.suffixes), '')}"
        return f"{tmp_path.parent.name} {tmp_path.name} {name}"

    def rich(self) -> World:
        """Return a small world with all that the format holds."""
        return self.samples.rich(
            resources=self.holds_resources is True, world_data=self.holds_world_data is True
        )

    def round_trip(self, world: World, tmp_path: Path, **options: Any) -> World:
        """Return what a save of *world* loads as, with *options* for the load."""
        plugin, path = self.make_plugin(tmp_path), self.make_path(tmp_path, "round trip")
        world.save_with(path, plugin)
        return World.load_with(path, plugin, **options)

    def check_round_trip(self, world: World, tmp_path: Path) -> World:
        """Check that *world* comes back equal and sound, and return what came."""
        back = self.round_trip(world, tmp_path)
        self.check_equal(world, back, "a world that was saved and loaded")
        expect(back.validate(), f"a loaded world is not sound: {back.validate()}")
        return back

    def needs_resources(self) -> None:
        """Skip the check where the format holds no resources."""
        self.needs(self.holds_resources, "holds no resources")

    def needs_world_data(self) -> None:
        """Skip the check where the format holds nothing of the world as a whole."""
        self.needs(self.holds_world_data, "holds entities only")

    def needs_described_types(self) -> None:
        """Skip the check where a save does not describe its component types."""
        self.needs(self.describes_types, "does not describe component types")

    def plugin_of_bytes(self, tmp_path: Path) -> PersistencePlugin:
        """Return the plugin, or skip the check where it has no bytes."""
        plugin = self.make_plugin(tmp_path)
        self.needs(plugin.has_bytes, "has no bytes of its own")
        return plugin
