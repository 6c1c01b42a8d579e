"""Old saves brought up to date, and parts of worlds saved."""

import io

import numpy as np

from pecs_np import (
    BinaryPlugin,
    Migration,
    MigrationChain,
    WhitelistFilter,
    World,
    component,
    make_component,
    unregister,
)
from pecs_np.persistence.migrations import brought_up_to_date

from .common import SIZES, Position, Sampled, Velocity, columns, kept


@component(version=2)
class Place:
    """Metres; it had no height in version 1."""

    x: np.float32
    y: np.float32
    z: np.float32


ROWS = Place._type.layout.memory


def add_height(old):
    """Return positions in three dimensions: the expression itself."""
    new = np.empty(len(old), ROWS)
    new["x"], new["y"], new["z"] = old["x"], old["y"], 0
    return new


Place.migration(1)(add_height)


def old_save(n):
    """Return a snapshot as it is read from a save of version 1."""
    flat = make_component("Place", {"x": np.float32, "y": np.float32}, register=False)
    world = World()
    world.spawn_batch(flat(x=columns(n)[0].x, y=1))
    return BinaryPlugin().decode(world.to_bytes())


def of_ten_types(n):
    """Return a world of n entities with ten components of two floats each."""
    world = World()
    position, velocity = columns(n)
    others = [make_component(f"Other{i}", {"x": np.float32, "y": np.float32}) for i in range(8)]
    world.spawn_batch(position, velocity, *[T(x=position.x, y=i) for i, T in enumerate(others)])
    for other in others:
        unregister(other.__name__)
    return world


class PlaceIsSpot(Migration):
    """Rename a type, which concerns the whole world."""

    source_version, target_version = 1, 2

    def migrate(self, world):
        world.rename("Place", "Spot")


class Migrate(Sampled):
    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.snapshot = old_save(n)
        self.chain = MigrationChain([PlaceIsSpot()])

    def time_component(self, n):
        brought_up_to_date(self.snapshot)

    def time_component_and_world(self, n):
        brought_up_to_date(self.snapshot, migrations=self.chain)

    def peakmem_component(self, n):
        brought_up_to_date(self.snapshot)


class Load(Sampled):
    """The whole load of a save, old and new."""

    params = (SIZES, ("old", "new"))
    param_names = ("n", "save")

    def setup(self, n, save):
        snapshot = old_save(n)
        self.data = BinaryPlugin().encode(snapshot if save == "old" else brought_up_to_date(snapshot))
        self.data = b"".join(self.data)

    def time_from_bytes(self, n, save):
        World.from_bytes(self.data)


class Filter(Sampled):
    """Two of ten types, and entities by a mask."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        if not hasattr(self, "world"):
            self.world = of_ten_types(n)
        self.filter = WhitelistFilter(Position, Velocity)

    def time_whitelist(self, n):
        self.world.save_binary_stream(io.BytesIO(), filter=self.filter)

    def time_mask(self, n):
        self.world.to_bytes(filter=lambda table: table.get(Position).x > 0.5)


class Plain(Sampled):
    """A world that has only those two types, to compare."""

    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.world = kept("one table", n)

    def time_two_types(self, n):
        self.world.save_binary_stream(io.BytesIO())
