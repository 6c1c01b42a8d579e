"""The quick way in: what the library wrote is read by its pattern, anything else is left to the parser."""

import enum
import json
import re
from typing import Annotated

import numpy as np
import orjson
import pytest

from pecs_np import EntityRef, Limits, World, component_type
from pecs_np.ecs.portable import schema_of
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.members import read_column
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.json.scanning import scan
from pecs_np.persistence.json.values import read_ids

pytestmark = pytest.mark.usefixtures("any_length")

POSITION = (
    b'{"type_id":"172757902463082033919015404040541321867","type_name":"Position","data":{"x":%b,"y":%b}}'
)


class Mood(enum.IntEnum):
    CALM = 1
    WILD = 7


class Cell:
    weight: np.float32
    size: Annotated[np.float32, 2]


class Step:
    at: Annotated[np.float64, 2]
    turns: np.int16


# All numbers that are floats; then of several kinds; then with texts that have no commas between them.
MIXTURES = {
    "floats": {"m": Annotated[np.float32, (2, 2)], "x": np.float64, "h": np.float16, "c": Annotated[Cell, 2]},
    "kinds": {"i": int, "b": bool, "x": np.float32, "u": Annotated[np.uint8, 3], "s": Annotated[Step, (1, 2)], "y": float},
    "texts": {"x": np.float32, "mood": Mood, "y": np.float32, "at": Annotated[np.datetime64, "s"], "n": Annotated[str, 4], "to": EntityRef, "data": bytes, "z": Annotated[np.float32, 3]},
}  # fmt: skip


@pytest.fixture(params=MIXTURES)
def mixture(define, request):
    """A world of 20 entities of two components of which one is a mixture."""
    point = define("Point", {"x": np.float32, "y": np.float32})
    world, rng = World(seed=1), np.random.default_rng(2)
    mixed = filled(define("Mix", MIXTURES[request.param]), 20, rng)
    ids = world.spawn_batch(mixed, point(*rng.standard_normal((2, 20)) * 1e-9))
    if "to" in MIXTURES[request.param]:
        world.column("Mix")["to"] = rng.permutation(ids)
    return world


def filled(cls, count, rng):
    column = np.zeros(count, component_type(cls).layout.memory)
    fill(column, rng)
    return cls.from_array(column)


def fill(column, rng):
    for name in column.dtype.names:
        values = column[name]
        kind = values.dtype.base.kind
        if values.dtype.names:
            fill(values, rng)
        elif name == "to":
            continue
        elif name == "mood":
            values[...] = rng.choice(list(Mood), values.shape)
        elif kind == "O":
            values[...] = [b"\1\2\3"[: i % 4] for i in range(len(values))]
        elif kind == "U":
            values[...] = rng.choice(["", '"]', "é\\"], values.shape)
        elif kind == "f":
            values[...] = rng.standard_normal(values.shape) * 10.0 ** rng.integers(-4, 4, values.shape)
        else:
            values[...] = rng.integers(0, 2 if kind == "b" else 100, values.shape)


def parsed(text, types):
    """Return the ids and columns of entities as the parser alone reads them."""
    entities = orjson.loads(b"[%b]" % text)
    columns = [
        read_column([entity["components"][i]["data"] for entity in entities], t, lambda *_: "here")
        for i, t in enumerate(types)
    ]
    return read_ids([entity["stable_id"] for entity in entities], lambda *_: "here"), columns


def assert_as_parsed(found, text):
    for table in found:
        assert len(found) == 1
        ids, columns = parsed(text, table.types)
        assert table.ids.tolist() == ids.tolist()
        for column, expected in zip(table.columns, columns, strict=True):
            assert column.dtype == expected.dtype
            for name in column.dtype.names or ():
                given, right = column[name], expected[name]
                assert (
                    given.tolist() == right.tolist()
                    if given.dtype.hasobject
                    else given.tobytes() == right.tobytes()
                )


@pytest.fixture
def position(define):
    return define("Position", {"x": np.float32, "y": np.float32})


def tables_of(text):
    return scan(text, DocumentTypes(None, "s.json", Limits()), lambda _: None)


def scanned(text):
    found = tables_of(text)
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


@pytest.mark.parametrize("plugin", [JsonPlugin(), JsonPlugin.pretty()], ids=["compact", "pretty"])
def test_mixtures_are_scanned(mixture, plugin):
    text = entities_of(mixture, plugin)
    found = tables_of(text)
    assert [t.name for t in found[0].types] == ["Mix", "Point"]
    assert_as_parsed(found, text)
    assert World.from_bytes(mixture.to_bytes(plugin), plugin).to_bytes() == mixture.to_bytes()


@pytest.mark.parametrize("name", ["floats", "kinds"])
def test_floats_with_names_are_scanned(define, name):
    world = World(seed=1)
    world.spawn_batch(filled(define("Mix", MIXTURES[name]), 20, np.random.default_rng(2)))
    column = world.column("Mix")
    column["x"][3:6] = np.nan, -np.inf, np.inf
    text = entities_of(world, JsonPlugin())
    assert b'"-Infinity"' in text
    assert_as_parsed(tables_of(text), text)
    assert World.from_bytes(world.to_bytes(JsonPlugin()), JsonPlugin()).to_bytes() == world.to_bytes()


NUMBER = re.compile(rb"(?<=[\[:,])-?[0-9][0-9.e+-]*(?=[\],}])")
# No value of any of the fields.
WRONG = [b"", *b'true|null|"5"|[5]|{}|1e999|01|5,6|5 6|5]|nan|-'.split(b"|")]


@pytest.mark.parametrize("value", WRONG)
def test_what_is_no_number_there_is_left_to_the_parser(mixture, value):
    text = entities_of(mixture, JsonPlugin())
    start = [found.start() for found in re.finditer(b'{"stable_id"', text)][10]
    stop = text.index(b'{"stable_id"', start + 1)
    places = list(NUMBER.finditer(text, start, stop))
    assert len(places) > 5
    for found in places:
        hostile = text[: found.start()] + value + text[found.end() :]
        assert tables_of(hostile) is None


@pytest.mark.parametrize(
    "value",
    [b"-7E-3", b"1e-400", b"-0.0", b"1e39", b"-70000", b"123456789012345678901234567890", b" 5", b"5 "],
)
def test_numbers_that_the_library_does_not_write(mixture, value):
    text = entities_of(mixture, JsonPlugin())
    start = [found.start() for found in re.finditer(b'{"stable_id"', text)][10]
    for found in NUMBER.finditer(text, start, text.index(b'{"stable_id"', start + 1)):
        hostile = text[: found.start()] + value + text[found.end() :]
        assert_as_parsed(tables_of(hostile) or [], hostile)


def test_flags_are_no_numbers_and_numbers_no_flags(define):
    world = World(seed=1)
    world.spawn_batch(
        filled(define("Mix", {"b": bool, "x": np.float32, "y": np.float32}), 20, np.random.default_rng(2))
    )
    text = entities_of(world, JsonPlugin())
    assert_as_parsed(tables_of(text), text)
    for old, new in ((b'"b":false', b'"b":0'), (b'"b":true', b'"b":1.0'), (b',"x":', b',"x":true,"z":')):
        hostile = text.replace(old, new, 3)
        assert hostile != text
        assert tables_of(hostile) is None
    both = re.sub(rb'"b":(true|false),"x":[^,]+', rb'"b":1,"x":true', text, count=1)
    assert tables_of(both) is None


def test_damaged_text_is_read_as_the_parser_reads_it(mixture):
    text = entities_of(mixture, JsonPlugin())
    rng = np.random.default_rng(3)
    others = [b"", b" ", b",1", b"\0", b"\xff", *[b"%c" % code for code in b',:"[]{}1-.e\\']]
    for _ in range(300):
        start = int(rng.integers(len(text)))
        damaged = text[:start] + rng.choice(others) + text[start + int(rng.integers(3)) :]
        assert_as_parsed(tables_of(damaged) or [], damaged)


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
