"""Whole documents: their exact text, and all that a world holds there and back."""

import io
import json

import numpy as np
import orjson
import pytest

from pecs_np import ComponentValueError, EntityRef, InvalidFormatError, Limits, PersistenceError, World
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.json.writer import id_of
from pecs_np.testing import assert_worlds_equal

pytestmark = pytest.mark.usefixtures("any_length")

GUIDE = """{
  "version": 1,
  "entity_count": 2,
  "component_types": [
    {
      "type_id": "172757902463082033919015404040541321867",
      "type_name": "Position",
      "type_version": 1
    }
  ],
  "entities": [
    {
      "stable_id": "98765432109876543210",
      "components": [
        {
          "type_id": "172757902463082033919015404040541321867",
          "type_name": "Position",
          "data": {
            "x": 10.0,
            "y": 20.0
          }
        }
      ]
    },
    {
      "stable_id": "98765432109876543211",
      "components": [
        {
          "type_id": "172757902463082033919015404040541321867",
          "type_name": "Position",
          "data": {
            "x": 1.5,
            "y": -0.0
          }
        }
      ]
    }
  ]
}"""


@pytest.fixture
def position(define):
    return define("Position", {"x": np.float32, "y": np.float32})


@pytest.fixture
def guide(position):
    world = World()
    world.spawn_with_stable_id(98765432109876543210, position(10, 20))
    world.spawn_with_stable_id(98765432109876543211, position(1.5, -0.0))
    return world


def test_the_document_of_the_guide(guide):
    assert guide.to_bytes(JsonPlugin.pretty(schema=False)).decode() == GUIDE
    compact = GUIDE.replace("\n", "").replace("  ", "").replace('": ', '":')
    assert guide.to_bytes(JsonPlugin(schema=False)).decode() == compact
    for text in (GUIDE, compact):
        assert_worlds_equal(World.from_bytes(text.encode(), JsonPlugin()), guide)


def test_the_schema_is_one_more_member(guide):
    plain, full = (json.loads(guide.to_bytes(JsonPlugin(schema=s))) for s in (False, True))
    assert full["component_types"][0].pop("schema") == [
        {"name": "x", "dtype": "<f4"},
        {"name": "y", "dtype": "<f4"},
    ]
    assert full == plain


def test_the_empty_world():
    assert (
        World().to_bytes(JsonPlugin()) == b'{"version":1,"entity_count":0,"component_types":[],"entities":[]}'
    )
    pretty = World().to_bytes(JsonPlugin.pretty()).decode()
    assert pretty == '{\n  "version": 1,\n  "entity_count": 0,\n  "component_types": [],\n  "entities": []\n}'
    assert len(World.from_bytes(pretty.encode(), JsonPlugin())) == 0


def test_the_world_as_a_whole(guide, position):
    guide.version = 3
    guide.metadata = {"b": [1, {"x": 0.1}], "a": "é\n"}
    guide.rngs.create("dice", seed=4).random(3)
    guide.resources.insert(position(5, 6))
    for plugin in (JsonPlugin(), JsonPlugin.pretty()):
        text = guide.to_bytes(plugin)
        assert list(json.loads(text)) == [
            "version",
            "entity_count",
            "component_types",
            "world",
            "resources",
            "entities",
        ]
        assert json.loads(text)["resources"] == [
            {"type_id": id_of("Position"), "type_name": "Position", "data": {"x": 5.0, "y": 6.0}}
        ]
        back = World.from_bytes(text, plugin)
        assert_worlds_equal(back, guide)
        assert back.to_bytes(plugin) == text
        assert back.rngs["dice"].random() == World.from_bytes(text, plugin).rngs["dice"].random()


def test_seeded_worlds_go_on_with_the_same_ids(position):
    world = World(seed=5)
    world.spawn_batch(count=3)
    back = World.from_bytes(world.to_bytes(JsonPlugin()), JsonPlugin())
    assert back.get_stable_id(back.spawn()) == world.get_stable_id(world.spawn())


def test_pretty_text_is_what_other_programs_indent(guide):
    guide.metadata = {"a": [1, {"b": []}], "empty": {}}
    text = guide.to_bytes(JsonPlugin.pretty())
    assert text == orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2)


def test_streams(guide):
    file = io.BytesIO()
    JsonPlugin().save(guide, file)
    assert file.getvalue() == guide.to_bytes(JsonPlugin())
    file.seek(0)
    assert_worlds_equal(JsonPlugin().load(file), guide)


def test_large_worlds_come_in_pieces(position):
    world = World()
    world.spawn_batch(position(x=np.arange(50_000), y=0))
    sizes = [len(piece) for piece in JsonPlugin().encode(world.snapshot())]
    assert len(sizes) > 5
    assert max(sizes) < 4 << 20
    assert_worlds_equal(World.from_bytes(world.to_bytes(JsonPlugin()), JsonPlugin()), world)


@pytest.mark.parametrize(
    ("annotation", "bad"),
    [(str, "\ud800"), (str, 5), (bytes, "x"), (list[int], [1]), (list[bool], np.array([2], "u1").view(bool))],
)
def test_what_could_not_be_read_again_is_refused_before_anything_is_written(define, annotation, bad):
    cls = define("Bad", {"x": annotation})
    world = World()
    world.spawn_batch(
        cls(x=cls(x=b"" if annotation is bytes else "" if annotation is str else []).x), count=3
    )
    column = world.column("Bad")
    column["x"][1] = bad
    with pytest.raises(ComponentValueError, match=r"row 1 of Bad\.x"):
        JsonPlugin().encode(world.snapshot())


def test_bool_bytes_are_checked(define):
    cls = define("Flag", {"on": bool})
    world = World()
    world.spawn_batch(cls(on=[True, False]))
    world.column("Flag").view("u1")[1] = 2
    with pytest.raises(ComponentValueError, match=r"is not a bool in row 1 of Flag\.on"):
        JsonPlugin().encode(world.snapshot())


def test_dead_references_are_null(define):
    cls = define("Link", {"to": EntityRef, "crew": list[EntityRef]})
    world = World(seed=1)
    dead = world.spawn()
    world.spawn(cls(to=dead, crew=[dead, dead]))
    world.resources.insert(cls(to=dead, crew=[dead]))
    world.despawn(dead)
    found = json.loads(world.to_bytes(JsonPlugin()))
    assert found["entities"][0]["components"][0]["data"] == {"to": None, "crew": [None, None]}
    assert found["resources"][0]["data"] == {"to": None, "crew": [None]}
    world.despawn(world.entities())
    assert json.loads(world.to_bytes(JsonPlugin()))["resources"][0]["data"] == {"to": None, "crew": [None]}


def test_options_are_checked():
    assert repr(JsonPlugin.pretty(schema=False)) == "JsonPlugin.pretty(schema=False)"
    assert repr(JsonPlugin()) == "JsonPlugin(schema=True)"
    assert JsonPlugin().format_name() == "json"
    assert JsonPlugin().format_version() == 1
    assert JsonPlugin().can_load_version(1)
    assert not JsonPlugin().can_load_version(2)
    for options in ({"schema": 1}, {"limits": 5}):
        with pytest.raises(PersistenceError, match="expected"):
            JsonPlugin(**options)
    assert JsonPlugin(limits=Limits.strict()).limits == Limits.strict()


def test_text_is_no_bytes():
    with pytest.raises(InvalidFormatError, match="expected bytes"):
        World.from_bytes("{}", JsonPlugin())
