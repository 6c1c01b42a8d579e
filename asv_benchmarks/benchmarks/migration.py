"""Old saves brought up to date, and parts of worlds saved."""

import io

import numpy as np

from pecs_np import (
    BinaryPlugin,
    MigrationChain,
    WhitelistFilter,
    World,
    component,
    make_component,
    unregister,
)
from pecs_np.persistence.migrations import brought_up_to_date

from .common import SIZES, Position, Velocity, columns, populated


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


class Migrate:
    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.snapshot = old_save(n)

    def time_component(self, n):
        brought_up_to_date(self.snapshot)

    def time_nothing_to_do(self, n):
        brought_up_to_date(self.snapshot, migrations=MigrationChain())

    def peakmem_component(self, n):
        brought_up_to_date(self.snapshot)


class Filter:
    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.world = of_ten_types(n)
        self.filter = WhitelistFilter(Position, Velocity)

    def time_whitelist(self, n):
        self.world.save_binary_stream(io.BytesIO(), filter=self.filter)

    def time_mask(self, n):
        self.world.to_bytes(filter=lambda table: table.get(Position).x > 0.5)


class Plain:
    params = SIZES
    param_names = ("n",)

    def setup(self, n):
        self.world = populated(n)

    def time_two_types(self, n):
        self.world.save_binary_stream(io.BytesIO())
