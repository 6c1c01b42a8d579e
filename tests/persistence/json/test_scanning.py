"""The quick way in: what the library wrote is read by its pattern, anything else is left to the parser."""

import json
import re
from typing import Annotated

import numpy as np
import pytest

from pecs_np import EntityRef, Limits, World
from pecs_np.ecs.portable import schema_of
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.json.scanning import scan

POSITION = (
    b'{"type_id":"172757902463082033919015404040541321867","type_name":"Position","data":{"x":%b,"y":%b}}'
)


@pytest.fixture
def position(define):
    return define("Position", {"x": np.float32, "y": np.float32})


def scanned(text):
    found = scan(text, DocumentTypes(None, "s.json", Limits()), lambda _: None)
    return found and (found[0] if len(found) == 1 else found)


def entities_of(world, plugin):
    """Return the text between the brackets of the list of entities."""
    text = world.to_bytes(plugin)
    return text[re.search(rb'"entities": ?\[', text).end() : text.rindex(b"]")]


def entity(x=b"1", y=b"2", stable_id=b"5"):
    return b'{"stable_id":"%b","components":[%b]}' % (stable_id, POSITION % (x, y))


@pytest.mark.parametrize("plugin", [JsonPlugin(), JsonPlugin.pretty()], ids=["compact", "pretty"])
@pytest.mark.parametrize("count", [1, 2, 100])
def test_what_the_library_writes_is_scanned(define, plugin, count):
    classes = [
        define("A", {"x": np.float32, "c": complex, "f": np.float16}),
        define("B", {"i": int, "u": np.uint8, "b": bool, "t": Annotated[np.datetime64, "s"]}),
        define("C", {"m": Annotated[np.int16, (2, 3)], "r": EntityRef, "s": Annotated[str, 3]}),
        define("D", {"text": str, "data": bytes}),
        define("E", {}),
    ]
    world = World(seed=1)
    nan = np.full(count, np.nan, np.float32)
    ids = world.spawn_batch(
        classes[0](x=nan, c=1j, f=np.inf),
        classes[1](i=np.arange(count), u=7, b=True, t="NaT"),
        classes[2](m=np.arange(6).reshape(2, 3), r=0, s='",'),
        classes[3](text='}]},{"stable_id":"', data=b"\0"),
        classes[4](),
        count=count,
    )
    world.column("C")["r"][:] = ids[::-1]
    found = scanned(entities_of(world, plugin))
    assert [t.name for t in found.types] == list("ABCDE")
    assert found.ids.tolist() == world.stable_ids().tolist()
    for type_, column in zip(found.types, found.columns, strict=True):
        expected = world.column(type_.name)
        for name in type_.names:
            if name == "r":
                assert column[name].tolist() == world.get_stable_id(ids[::-1]).tolist()
            elif expected[name].dtype == object:
                assert column[name].tolist() == expected[name].tolist()
            else:
                assert column[name].tobytes() == expected[name].tobytes()
    assert World.from_bytes(world.to_bytes(plugin), plugin).to_bytes(plugin) == world.to_bytes(plugin)


def test_entities_without_components_are_scanned():
    found = scanned(b'{"stable_id":"5","components":[]},{"stable_id":"6","components":[]}')
    assert found.types == ()
    assert found.ids.tolist() == [(5, 0), (6, 0)]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        entity() + b", " + entity(),
        entity() + b"," + entity() + b",",
        b"," + entity(),
        entity() + b"," + entity().replace(b'"y"', b'"z"'),
        entity() + b",5," + entity(),
        entity() + b'," ",' + entity(),
        entity() + b',{"stable_id":"5","components":[]},',
        entity() + b',{"stable_id":"5","components":[ ]}',
        entity() + b',{"stable_id":"5","components":[]}' + b",5",
        entity() + entity(),
        entity(x=b"[1]"),
        entity(x=b"{}"),
        entity(x=b""),
        entity(x=b"1 2"),
        entity(x=b"nan"),
        entity(x=b"true"),
        entity(x=b"01"),
        entity(x=b'"a"'),
        entity(x=b'1,"x":2'),
        entity(x=b"1e39"),
        entity(stable_id=b"0"),
        entity(stable_id=b"x"),
        entity(stable_id=b"9" * 39),
        entity().replace(b"Position", b"Nobody"),
        entity().replace(b'"data"', b'"more":1,"data"'),
        entity().replace(b"172757902463082033919015404040541321867", b"5"),
        entity().replace(b"}]}", b"},]}"),
        entity().replace(b"}]}", b"}"),
        entity()[:-1],
    ],
)
def test_anything_else_is_left_to_the_parser(position, text):
    assert scanned(text) is None


def test_white_space_around_the_entities_is_no_matter(position):
    found = scanned(b"\n" + entity() + b"," + entity(stable_id=b"6", y=b"3") + b"\n")
    assert found.columns[0].tolist() == [(1, 2), (1, 3)]
    assert scanned(entity(x=b" 1 ")) is None


@pytest.mark.parametrize("plugin", [JsonPlugin(), JsonPlugin.pretty()], ids=["compact", "pretty"])
def test_archetypes_one_after_the_other(define, position, plugin):
    tag, crew = define("Tag", {}), define("Crew", {"of": list[EntityRef], "n": list[Annotated[str, 2]]})
    world = World(seed=1)
    ids = world.spawn_batch(position(x=np.arange(90), y=np.nan), tag())
    world.remove(ids[30:60], tag)
    world.insert(ids[70:], crew(of=[ids[:2], []] * 10, n=[["]", '",'], []] * 10))
    found = scanned(entities_of(world, plugin))
    assert [[t.name for t in table.types] for table in found] == [
        ["Crew", "Position", "Tag"],
        ["Position"],
        ["Position", "Tag"],
    ]
    assert [len(table.ids) for table in found] == [20, 30, 40]
    back = World.from_bytes(world.to_bytes(plugin), plugin)
    assert back.to_bytes(plugin) == world.to_bytes(plugin)
    assert back.column("Crew")["n"][0].tolist() == ["]", '",']


def test_many_short_runs_are_left_to_the_parser(position):
    other = b'{"stable_id":"7","components":[]}'
    assert len(scanned(b",".join([entity(), other] * 8))) == 16
    assert scanned(b",".join([entity(), other] * 20)) is None


def test_lists_and_long_rows_are_left_to_the_parser(define):
    for name, annotation in (("Lists", list[Annotated[int, 2]]), ("Rows", Annotated[int, (200, 2)])):
        cls = define(name, {"x": annotation})
        world = World(seed=1)
        world.spawn_batch(cls(x=np.arange(400).reshape(200, 2)), count=2)
        assert scanned(entities_of(world, JsonPlugin())) is None
        assert World.from_bytes(world.to_bytes(JsonPlugin()), JsonPlugin()).to_bytes() == world.to_bytes()


def test_bytes_are_counted_before_they_are_taken(position):
    counted = []
    scan(entity() + b"," + entity(stable_id=b"6"), DocumentTypes(None, "s.json", Limits()), counted.append)
    assert counted == [16]


def test_types_come_from_the_document(position):
    other = [{"name": "x", "dtype": "<i2"}]
    types = DocumentTypes([{"type_name": "Own", "schema": other}], "s.json", Limits())
    world_text = json.dumps({"stable_id": "5", "components": []}, separators=(",", ":"))
    assert scan(world_text.encode(), types, lambda _: None)[0].types == ()
    assert schema_of(types.of_name("Own", "here").fields) == other
