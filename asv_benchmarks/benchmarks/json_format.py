"""The JSON format: saving and loading, beside the parser and writer of JSON that it stands on."""

import tempfile
from pathlib import Path

import orjson

from pecs_np import World
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.json.writer import id_of

from .common import SIZES, Sampled, kept, populated

PLUGIN = JsonPlugin()
PARTS = ("one table", "linked")


def by_dicts(world):
    """Return the document of a world of positions and velocities by way of a dict for each entity."""
    (table,) = world.snapshot().tables
    position, velocity = id_of("Position"), id_of("Velocity")
    rows = zip(
        table.stable_ids.array().tolist(),
        table.columns["Position"].tolist(),
        table.columns["Velocity"].tolist(),
        strict=True,
    )
    entities = [
        {
            "stable_id": str(hi << 64 | lo),
            "components": [
                {"type_id": position, "type_name": "Position", "data": {"x": px, "y": py}},
                {"type_id": velocity, "type_name": "Velocity", "data": {"x": vx, "y": vy}},
            ],
        }
        for (lo, hi), (px, py), (vx, vy) in rows
    ]
    return orjson.dumps(
        {"version": 1, "entity_count": len(world), "component_types": [], "entities": entities}
    )


class Write(Sampled):
    params = (SIZES, PARTS)
    param_names = ("n", "layout")

    def setup(self, n, layout):
        self.world = kept(layout, n)

    def time_to_bytes(self, n, layout):
        self.world.to_bytes(PLUGIN)

    def track_bytes_per_entity(self, n, layout):
        return len(self.world.to_bytes(PLUGIN)) / len(self.world)

    track_bytes_per_entity.unit = "bytes"


class Read(Sampled):
    params = (SIZES, PARTS)
    param_names = ("n", "layout")

    def setup_cache(self):
        for n in SIZES:
            for layout in PARTS:
                Path(f"{layout} {n}.json").write_bytes(kept(layout, n).to_bytes(PLUGIN))

    def setup(self, n, layout):
        self.data = Path(f"{layout} {n}.json").read_bytes()

    def time_from_bytes(self, n, layout):
        World.from_bytes(self.data, PLUGIN)


class Pretty(Sampled):
    """In lines, indented."""

    params = SIZES[:2]
    param_names = ("n",)

    def setup(self, n):
        self.world = kept("one table", n)
        self.plugin = JsonPlugin.pretty()
        self.data = self.world.to_bytes(self.plugin)

    def time_to_bytes(self, n):
        self.world.to_bytes(self.plugin)

    def time_from_bytes(self, n):
        World.from_bytes(self.data, self.plugin)


class ByHand(Sampled):
    """A document that the library did not write, of which every entity is looked at."""

    params = SIZES[:2]
    param_names = ("n",)

    def setup(self, n):
        document = orjson.loads(kept("one table", n).to_bytes(PLUGIN))
        for entity in document["entities"]:
            entity["components"].reverse()
        self.data = orjson.dumps(document)

    def time_from_bytes(self, n):
        World.from_bytes(self.data, PLUGIN)


class Peak:
    """The highest memory of a process that holds a world, and that also writes or reads it."""

    params = SIZES[-1:]
    param_names = ("n",)

    def setup(self, n):
        self.world = populated(n)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.json")
        self.world.save_with(self.path, PLUGIN)

    def teardown(self, n):
        self.folder.cleanup()

    def peakmem_world_alone(self, n):
        pass

    def peakmem_save(self, n):
        self.world.save_with(self.path, PLUGIN, durable=False)

    def peakmem_load(self, n):
        World.load_with(self.path, PLUGIN)
