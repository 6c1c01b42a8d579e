"""The JSON format: saving and loading, beside the parser and writer of JSON that it stands on."""

import tempfile
from pathlib import Path

import orjson

from pecs_np import World
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.json.writer import id_of

from .common import SIZES, fragmented, linked, populated

PLUGIN = JsonPlugin()
LAYOUTS = {"one table": populated, "fragmented": fragmented, "linked": linked}


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


class Json:
    params = (SIZES, tuple(LAYOUTS), ("compact", "pretty"))
    param_names = ("n", "layout", "style")
    timeout = 300

    def setup(self, n, layout, style):
        self.plugin = PLUGIN if style == "compact" else JsonPlugin.pretty()
        self.world = LAYOUTS[layout](n)
        self.data = self.world.to_bytes(self.plugin)

    def time_to_bytes(self, n, layout, style):
        self.world.to_bytes(self.plugin)

    def time_from_bytes(self, n, layout, style):
        World.from_bytes(self.data, self.plugin)

    def track_bytes_an_entity(self, n, layout, style):
        return len(self.data) / len(self.world)

    track_bytes_an_entity.unit = "bytes"


class ByHand:
    """A document that the library did not write, of which every entity is looked at."""

    params = ((1_000, 100_000),)
    param_names = ("n",)

    def setup(self, n):
        document = orjson.loads(populated(n).to_bytes(PLUGIN))
        for entity in document["entities"]:
            entity["components"].reverse()
        self.data = orjson.dumps(document)

    def time_from_bytes(self, n):
        World.from_bytes(self.data, PLUGIN)


class Peak:
    """The highest memory of a process that holds a world, and that also writes or reads it."""

    def setup(self):
        self.world = populated(1_000_000)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "world.json")
        self.world.save_with(self.path, PLUGIN)

    def teardown(self):
        self.folder.cleanup()

    def peakmem_world_alone(self):
        pass

    def peakmem_save(self):
        self.world.save_with(self.path, PLUGIN, durable=False)

    def peakmem_load(self):
        World.load_with(self.path, PLUGIN)
