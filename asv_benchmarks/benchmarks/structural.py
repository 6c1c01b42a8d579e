"""Adding and removing components and entities: in bulk, one by one, and deferred."""

import numpy as np

from pecs_np import CommandBuffer, World, make_component

from .common import LAYOUTS, SIZES, Changing, Position, Velocity, populated

Mass = make_component("Mass", {"grams": np.float64})
TIMES = 1_000


class Bulk(Changing):
    """Every second entity of a world."""

    params = (SIZES, ("one table", "many tables"))
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = LAYOUTS[layout](n)
        self.half = self.world.entities()[::2]

    def time_insert(self, n, layout):
        self.world.insert(self.half, Mass(1))

    def time_overwrite(self, n, layout):
        self.world.insert(self.half, Velocity(1, 1))

    def time_remove(self, n, layout):
        self.world.remove(self.half, Velocity)

    def time_despawn(self, n, layout):
        self.world.despawn(self.half)


class OneByOne(Changing):
    """A thousand calls, each for one of 10,000 entities: milliseconds here are microseconds a call."""

    def setup(self):
        self.world = populated(10_000)
        self.ids = self.world.entities()[:: 10_000 // TIMES].tolist()
        self.views = [self.world.get(entity, Position) for entity in self.ids]
        self.stable_ids = [self.world.get_stable_id(entity) for entity in self.ids]
        self.world.get_entity_id(self.stable_ids[0])  # the index is built on first use
        self.position, self.velocity, self.mass = Position(1, 2), Velocity(3, 4), Mass(5)

    def time_1000_spawn(self):
        for _ in self.ids:
            self.world.spawn(self.position, self.velocity)

    def time_1000_spawn_into_a_new_world(self):
        world = World()
        for _ in self.ids:
            world.spawn(self.position, self.velocity)

    def time_1000_despawn(self):
        for entity in self.ids:
            self.world.despawn(entity)

    def time_1000_insert(self):
        for entity in self.ids:
            self.world.insert(entity, self.mass)

    def time_1000_overwrite(self):
        for entity in self.ids:
            self.world.insert(entity, self.velocity)

    def time_1000_remove(self):
        for entity in self.ids:
            self.world.remove(entity, Velocity)

    def time_1000_get(self):
        for entity in self.ids:
            self.world.get(entity, Position)

    def time_1000_components(self):
        for entity in self.ids:
            self.world.components(entity)

    def time_1000_read_field(self):
        for view in self.views:
            view.x  # noqa: B018 - the reading is what is measured

    def time_1000_write_field(self):
        for view in self.views:
            view.x = 1.5

    def time_1000_has(self):
        for entity in self.ids:
            self.world.has(entity, Velocity)

    def time_1000_is_alive(self):
        for entity in self.ids:
            self.world.is_alive(entity)

    def time_1000_get_stable_id(self):
        for entity in self.ids:
            self.world.get_stable_id(entity)

    def time_1000_get_entity_id(self):
        for stable_id in self.stable_ids:
            self.world.get_entity_id(stable_id)


class Commands(Changing):
    """Edits of one entity each, recorded, and carried out together."""

    def setup(self):
        self.world = populated(10_000)
        self.ids = self.world.entities()[:: 10_000 // TIMES].tolist()
        self.recorded = {kind: CommandBuffer() for kind in ("spawn", "insert", "remove", "despawn", "mixed")}
        for kind, commands in self.recorded.items():
            self._record(commands, kind)

    def _record(self, commands, kind):
        for number, entity in enumerate(self.ids):
            if kind == "spawn" or (kind == "mixed" and number % 4 == 0):
                commands.spawn(Position(1, 2), Velocity(3, 4))
            elif kind == "insert" or (kind == "mixed" and number % 4 == 1):
                commands.insert(entity, Mass(5))
            elif kind == "remove" or (kind == "mixed" and number % 4 == 2):
                commands.remove(entity, Velocity)
            else:
                commands.despawn(entity)

    def time_record_1000(self):
        self._record(CommandBuffer(), "mixed")

    def time_apply_1000_spawn(self):
        self.recorded["spawn"].apply(self.world)

    def time_apply_1000_insert(self):
        self.recorded["insert"].apply(self.world)

    def time_apply_1000_remove(self):
        self.recorded["remove"].apply(self.world)

    def time_apply_1000_despawn(self):
        self.recorded["despawn"].apply(self.world)

    def time_apply_1000_mixed(self):
        self.recorded["mixed"].apply(self.world)


class Peak:
    """The highest memory of a process in which half a world moves to another table."""

    params = SIZES[-1:]
    param_names = ("n",)

    def setup(self, n):
        self.world = populated(n)
        self.half = self.world.entities()[::2]

    def peakmem_world_alone(self, n):
        pass

    def peakmem_remove(self, n):
        self.world.remove(self.half, Velocity)
