"""The guide's section "JSON Format", block by block."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pecs_np import InvalidFormatError, JsonPlugin, World, component
from pecs_np.testing import assert_worlds_equal

# The guide's document, to the letter. It counts two entities and shows one.
DOCUMENT = """\
{
  "version": 1,
  "entity_count": 2,
  "component_types": [
    {
      "type_id": "12345678901234567890",
      "type_name": "Position",
      "type_version": 1
    }
  ],
  "entities": [
    {
      "stable_id": "98765432109876543210",
      "components": [
        {
          "type_id": "12345678901234567890",
          "type_name": "Position",
          "data": {
            "x": 10.0,
            "y": 20.0
          }
        }
      ]
    }
  ]
}"""


@component
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


def test_format_structure():
    """JSON Format, block 1: Format Structure.

    A world of that content gives that text, but for the id of the type, which follows from its name, and
    the text gives that world.
    """
    world = World()
    world.spawn_with_stable_id(98765432109876543210, Position(10, 20))
    one_entity = DOCUMENT.replace('"entity_count": 2', '"entity_count": 1')

    text = world.to_bytes(JsonPlugin.pretty(schema=False)).decode()
    assert text.replace("172757902463082033919015404040541321867", "12345678901234567890") == one_entity
    assert_worlds_equal(World.from_bytes(one_entity.encode(), JsonPlugin()), world)
    with pytest.raises(InvalidFormatError, match=r"expected 1 as entity_count, .* found 2"):
        World.from_bytes(DOCUMENT.encode(), JsonPlugin())

    # With a second entity it is the guide's document up to the end of the first one.
    world.spawn_with_stable_id(98765432109876543211, Position())
    text = world.to_bytes(JsonPlugin.pretty(schema=False)).decode()
    text = text.replace("172757902463082033919015404040541321867", "12345678901234567890")
    first, rest = text[: len(DOCUMENT) - len("\n  ]\n}")], text[len(DOCUMENT) - len("\n  ]\n}") :]
    assert first + "\n  ]\n}" == DOCUMENT
    assert '"stable_id": "98765432109876543211"' in rest


def test_json_format_usage():
    """JSON Format, block 2: JSON Format Usage.

    The times that the section claims are measured in the benchmarks.
    """
    world = World(seed=5)
    world.spawn_batch(Position(x=[1.5, np.pi, -0.0, np.inf], y=0))

    # Use JSON plugin
    plugin = JsonPlugin()
    world.save_with("game.json", plugin)
    compact = Path("game.json").read_text()

    # Pretty-printed JSON
    plugin = JsonPlugin.pretty()
    world.save_with("game.json", plugin)
    pretty = Path("game.json").read_text()

    # Load from JSON
    loaded = World.load_with("game.json", plugin)

    assert_worlds_equal(loaded, world)
    assert_worlds_equal(World.from_bytes(compact.encode(), plugin), world)
    assert compact.count("\n") == 0 < pretty.count("\n")
    assert "".join(pretty.split()) == "".join(compact.split())
    # A difference between two saves is one line of a difference between their texts.
    world.get(int(world.entities()[1]), Position).x = 3
    changed = world.to_bytes(plugin).decode()
    assert [a.strip() for a, b in zip(pretty.split("\n"), changed.split("\n"), strict=True) if a != b] == [
        '"x": 3.1415927,'
    ]
