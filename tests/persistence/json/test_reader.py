"""Documents that people or other programs wrote: what loads, and what is said of what does not."""

import itertools
import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    DanglingReferenceError,
    EntityRef,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    StableId,
    UnsupportedVersionError,
    World,
)
from pecs_np.persistence.json.plugin import JsonPlugin
from pecs_np.persistence.json.writer import id_of

pytestmark = pytest.mark.usefixtures("any_length")

DATA = Path(__file__).parents[2] / "data"
PLUGIN = JsonPlugin()


@pytest.fixture(autouse=True)
def types(define):
    define("Position", {"x": np.float32, "y": np.float32}, defaults={"y": 2.0})
    define("Tag", {})
    define("Link", {"to": EntityRef, "crew": list[EntityRef]}, defaults={"to": None, "crew": []})
    define("Name", {"text": Annotated[str, 4], "notes": str}, defaults={"notes": ""})


def entity(stable_id="5", **data):
    return {"stable_id": stable_id, "components": [{"type_name": n, "data": d} for n, d in data.items()]}


def document(*entities, **members):
    return {"version": 1, "entities": list(entities), **members}


def load(found, plugin=PLUGIN):
    text = found if isinstance(found, bytes) else json.dumps(found).encode()
    return World.from_bytes(text, plugin)


def values(world, name="Position"):
    """Return the rows of a type by stable id."""
    ids = {int(e): world.get_stable_id(int(e)) for e in world.entities()}
    return {
        sid: np.asarray(world.get(e, name)).tolist()
        for e, sid in ids.items()
        if world.get(e, name) is not None
    }


P = {"x": 1, "y": 2}


@pytest.mark.parametrize(
    "found",
    [
        document(entity(Position=P)),
        document(entity(Position={"y": 2, "x": 1})),
        document(entity(Position={"x": 1})),
        document(entity(5, Position=P)),
        document(entity("005", Position=P)),
        document(entity(Position=P), entity_count=1, timestamp="now", author={"name": "me"}),
        {"entities": [{"components": [{"note": 1, "data": P, "type_name": "Position"}], "who": 2, "stable_id": "5"}],
         "version": 1},
        document({"stable_id": "5", "components": [{"type_id": id_of("Position"), "data": P}]},
                 component_types=[{"type_name": "Position"}]),
        document({"stable_id": "5", "components": [{"type_id": 7, "data": P}]},
                 component_types=[{"type_name": "Position", "type_id": 7}]),
        document({"stable_id": "5", "components": [{"type_id": "7", "type_name": "Position", "data": P}]},
                 component_types=[{"type_name": "Position", "type_id": "7", "type_version": 1}]),
        document({"stable_id": "5", "components": {"Position": P}}),
        document({"id": "00000000000000000000000000000005", "components": {"Position": P}}, types=[]),
        document({"id": "00000000000000000000000000000005",
                  "components": [{"type_name": "Position", "data": P}]}, types=[]),
    ],
)  # fmt: skip
def test_documents_written_by_hand(found):
    text = json.dumps(found).encode()
    pretty = json.dumps(found, indent=3).encode()
    for data in (text, pretty, b"\xef\xbb\xbf" + text, b" \n" + text + b"\r\n"):
        world = load(data)
        assert values(world) == {5: (1.0, 2.0)}
        assert world.validate()


def test_entities_of_any_types_in_any_order():
    found = document(
        entity("1", Position=P, Tag={}),
        entity("2", Tag={}, Position={"x": 3}),
        entity("3"),
        {"stable_id": 4, "components": {"Tag": {}}},
        {"id": "0" * 31 + "5", "components": [{"type_name": "Position", "data": {"x": 5}}]},
        entity("6", Position={"x": 6, "y": 7}),
    )
    world = load(found)
    assert values(world) == {1: (1, 2), 2: (3, 2), 5: (5, 2), 6: (6, 7)}
    assert set(values(world, "Tag")) == {1, 2, 4}
    assert sorted(world.get_stable_id(world.entities()).tolist()) == [(i, 0) for i in range(1, 7)]
    assert world.validate()


def test_the_document_of_the_guide():
    found = b"""{
      "version": 1, "entity_count": 2,
      "component_types": [{"type_id": "12345678901234567890", "type_name": "Position", "type_version": 1}],
      "entities": [
        {"stable_id": "98765432109876543210",
         "components": [{"type_id": "12345678901234567890", "type_name": "Position",
                         "data": {"x": 10.0, "y": 20.0}}]},
        {"stable_id": "3", "components": []}]}"""
    world = load(found)
    assert values(world) == {98765432109876543210: (10.0, 20.0)}
    assert len(world) == 2


@pytest.mark.parametrize("name", ["rust_empty", "rust_ents_3"])
def test_documents_of_the_rust_library(name):
    world = World.from_bytes((DATA / f"{name}.json").read_bytes(), PLUGIN)
    expected = [] if name == "rust_empty" else [1, 2**64 + 5, 2**128 - 1]
    assert [StableId(hi << 64 | lo) for lo, hi in world.stable_ids().tolist()] == expected
    assert World.from_bytes(world.to_bytes(PLUGIN), PLUGIN).to_bytes() == world.to_bytes()


def test_missing_fields_take_their_defaults():
    world = load(
        document(entity("1", Link={"to": "2"}), entity("2", Link={"crew": ["1", None]}), entity("3", Link={}))
    )
    one, two, three = (world.get_entity_id(i) for i in (1, 2, 3))
    assert world.get(one, "Link")["to"] == two
    assert world.get(two, "Link")["to"] == 0
    assert np.asarray(world.get(two, "Link"))["crew"].item().tolist() == [one, 0]
    assert np.asarray(world.get(three, "Link"))["crew"].item().tolist() == []
    lists = world.column("Link")["crew"].tolist()
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(lists, 2))
    assert world.validate()


WRONG = [
    (document(entity(Position={"x": "abc"})), 'expected a number, found "abc" at entities[0].components[0].data.x in s.json'),
    (document(entity("1"), entity("2", Tag={}, Position={"x": None})), "expected a number, found null at entities[1].components[1].data.x in s.json"),
    (document({"stable_id": "1", "components": {"Position": {"x": 1e39}}}), 'expected a number that fits <f4, found 1e+39 at entities[0].components["Position"].data.x in s.json'),
    (document(entity(Position={"x": 1, "yy": 2})), "expected a field of ['x', 'y'], found 'yy' at entities[0].components[0].data in s.json"),
    (document(entity(Position={"y": 1})), "expected a field 'x', found ['y'] at entities[0].components[0].data in s.json"),
    (document(entity("0")), "expected an id other than 0, found 0 at entities[0] in s.json"),
    (document(entity("x")), 'expected a stable id below 2**128 as a decimal text, found "x" at entities[0].stable_id in s.json'),
    (document(entity(None)), "expected a stable id below 2**128 as a decimal text, found null at entities[0].stable_id in s.json"),
    (document(entity(2**64)), "expected a stable id below 2**128 as a decimal text, found 1.8446744073709552e+19 at entities[0].stable_id in s.json"),
    (document({"components": []}), "expected a stable_id, found none at entities[0] in s.json"),
    (document({"id": "5", "components": []}), 'expected 32 hexadecimal digits, found "5" at entities[0].id in s.json'),
    (document({"id": 5, "components": []}), "expected a stable_id, found 5 at entities[0] in s.json"),
    (document(entity("1"), entity("7"), entity("1", Tag={})), 'expected distinct stable ids, found "1" at entities[0] and entities[2] in s.json'),
    (document({"stable_id": "1"}), "expected a list 'components', found none at entities[0] in s.json"),
    (document({"stable_id": "1", "components": 5}), "expected a list 'components', found 5 at entities[0] in s.json"),
    (document({"stable_id": "1", "components": [5]}), "expected an object, found 5 at entities[0].components[0] in s.json"),
    (document({"stable_id": "1", "components": [{"data": {}}]}), "expected a type_name or a type_id, found neither at entities[0].components[0] in s.json"),
    (document({"stable_id": "1", "components": [{"type_name": 5, "data": {}}]}), "expected a name, found 5 at entities[0].components[0].type_name in s.json"),
    (document({"stable_id": "1", "components": [{"type_name": "Tag"}]}), "expected an object 'data', found none at entities[0].components[0] in s.json"),
    (document({"stable_id": "1", "components": [{"type_name": "Tag", "data": []}]}), "expected an object 'data', found [] at entities[0].components[0] in s.json"),
    (document({"stable_id": "1", "components": [{"type_name": "Tag", "data": {}}] * 2}), 'expected each component once, found "Tag" at entities[0].components[1] in s.json'),
    (document({"stable_id": "1", "components": [{"type_name": "Tag", "type_id": "5", "data": {}}]}), f"expected the type_id of 'Tag', {id_of('Tag')}, found \"5\" at entities[0].components[0].type_id in s.json"),
    (document({"stable_id": "1", "components": [{"type_id": "5", "data": {}}]}), 'expected the id of a type of component_types, found "5" at entities[0].components[0].type_id in s.json'),
    (document(entity(Nope={})), "expected the fields of 'Nope' in component_types, found none, at entities[0].components[0] in s.json; define the component before loading, or save it with its schema"),
    (document(5), "expected an object, found 5 at entities[0] in s.json"),
    (document(entity(), entity_count=2), "expected 1 as entity_count, which is how many there are, found 2 in s.json"),
    (document(entity(), entity_count="1"), 'expected 1 as entity_count, which is how many there are, found "1" in s.json'),
    ({"version": 1}, "expected a list 'entities', found none in s.json"),
    ({"version": 1, "entities": {}}, "expected a list 'entities', found {} in s.json"),
    ({"entities": []}, "expected a version, found none in s.json"),
    ({"version": "1", "entities": []}, 'expected a version, found "1" in s.json'),
    ([], "expected an object, found [] in s.json"),
    (document(component_types={}), "expected a list 'component_types', found {} in s.json"),
    (document(component_types=[5]), "expected an object, found 5 at component_types[0] in s.json"),
    (document(component_types=[{}]), "expected a name of 1 to 1024 UTF-8 bytes without control characters, found None at component_types[0] in s.json"),
    (document(component_types=[{"type_name": "A"}] * 2), 'expected each type once, found "A" at component_types[1] in s.json'),
    (document(component_types=[{"type_name": "A", "type_id": "1"}, {"type_name": "B", "type_id": 1}]), 'expected an id of its own for each type, found "1" at component_types[1] in s.json'),
    (document(component_types=[{"type_name": "A", "type_id": "x"}]), 'expected a type_id as a decimal text, found "x" at component_types[0] in s.json'),
    (document(component_types=[{"type_name": "A", "type_version": 0}]), "expected a type_version from 1, found 0 at component_types[0] in s.json"),
    (document(component_types=[{"type_name": "A", "schema": [{"name": "x", "dtype": "O"}]}]), "expected a portable dtype such as '<f4', found 'O' at component_types[0].schema of s.json[0] 'x'"),
    (document(world=5), "expected an object 'world', found 5 in s.json"),
    (document(resources=5), "expected a list of components, found 5 at resources in s.json"),
    (document(resources=[{"type_name": "Position", "data": {"x": "a"}}]), 'expected a number, found "a" at resources[0].data.x in s.json'),
    (document(resources=[{"type_name": "Position"}]), "expected an object 'data', found none at resources[0] in s.json"),
    (b"", "expected JSON, found "),
    (b'{"version": 1,\n "entities": [,]}', "expected JSON, found"),
    (b'{"version": 1, "entities": [NaN]}', "expected JSON, found"),
    (b'{"version": 1, "entities": [\xff]}', "expected JSON, found"),
    (b"[" * 5000, "expected JSON, found "),
]  # fmt: skip


@pytest.mark.parametrize(("found", "message"), WRONG)
def test_what_is_wrong_is_named_with_its_place(found, message):
    text = found if isinstance(found, bytes) else json.dumps(found).encode()
    for data in (text, json.dumps(json.loads(text), indent=2).encode() if isinstance(found, dict) else text):
        with pytest.raises((InvalidFormatError, CorruptedDataError)) as caught:
            PLUGIN.decode(data, "s.json")
        assert str(caught.value).startswith(message)


def test_references_to_nobody():
    for data, place in (({"to": "6"}, "to"), ({"crew": [None, "6"]}, "crew")):
        with pytest.raises(DanglingReferenceError) as caught:
            PLUGIN.decode(json.dumps(document(entity("4"), entity("5", Link=data))).encode(), "s.json")
        assert str(caught.value) == (
            f'expected the stable id of an entity, found "6" at entities[1].components[0].data.{place} in s.json'
        )
    with pytest.raises(DanglingReferenceError, match=r'found "6" at resources\[0\].data.to in s.json'):
        PLUGIN.decode(
            json.dumps(document(resources=[{"type_name": "Link", "data": {"to": "6"}}])).encode(), "s.json"
        )


@pytest.mark.parametrize("version", [0, 2, -1, 2**70])
def test_other_versions_are_refused(version):
    with pytest.raises((UnsupportedVersionError, InvalidFormatError)) as caught:
        load({"version": version, "entities": []})
    if version < 2**64:
        assert caught.value.found == version
        assert caught.value.expected == 1


def test_another_version_of_a_type_without_its_fields():
    with pytest.raises(UnsupportedVersionError) as caught:
        load(document(component_types=[{"type_name": "Position", "type_version": 2}]))
    assert (caught.value.found, caught.value.expected) == (2, 1)
    assert caught.value.suggestion == "save it with its schema"


def test_types_that_only_the_document_defines():
    described = {"type_name": "Wind", "type_version": 3, "schema": [{"name": "u", "dtype": "<f8"}]}
    world = load(document(entity("1", Wind={"u": 0.1}), component_types=[described]))
    assert world.column("Wind")["u"].tolist() == [0.1]
    text = world.to_bytes(PLUGIN)
    assert load(text).to_bytes(PLUGIN) == text
    assert json.loads(text)["component_types"][0]["schema"] == described["schema"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(total_size=10), "expected at most 10 bytes, found"),
        (Limits(types=0), "expected at most 0 types, found 1 in"),
        (Limits(name_length=3), "expected a name of at most 3 bytes, found 8 at component_types"),
        (Limits(itemsize=4), "expected at most 4 bytes a row, found 8 at component_types"),
        (Limits(sections=1), "expected at most 1 tables and columns, found 2 in"),
        (Limits(ratio=0, free_size=7), "expected at most 7 bytes of columns, found 8 in"),
    ],
)
def test_limits(limits, message):
    schema = [{"name": "x", "dtype": "<f4"}, {"name": "y", "dtype": "<f4"}]
    found = document(entity(Position=P), component_types=[{"type_name": "Position", "schema": schema}])
    with pytest.raises(LimitExceededError, match=message):
        load(found, JsonPlugin(limits=limits))


def test_a_short_text_cannot_ask_for_much_memory():
    schema = [{"name": "x", "dtype": "<U4000000"}]
    found = document(
        *(entity(str(i + 1), Big={"x": ""}) for i in range(100)),
        component_types=[{"type_name": "Big", "schema": schema}],
    )
    with pytest.raises(LimitExceededError, match="bytes of columns"):
        load(found)
    found["entities"] = found["entities"][:1]
    found["resources"] = [{"type_name": "Big", "data": {"x": ""}}]
    with pytest.raises(LimitExceededError, match="bytes of columns"):
        load(found, JsonPlugin(limits=Limits(free_size=20_000_000)))


def test_mutations_load_or_raise_an_error_of_the_library():
    rng = np.random.default_rng(7)
    world = load(
        document(
            entity("1", Position=P, Link={"to": "2", "crew": ["1"]}),
            entity("2", Name={"text": "é", "notes": "a,b"}),
            entity("3", Name={"text": "x"}),
            resources=[{"type_name": "Position", "data": P}],
            world={"version": 2, "metadata": {"entities": [1, {"stable_id": "1"}]}},
        )
    )
    for plugin in (PLUGIN, JsonPlugin.pretty()):
        text = world.to_bytes(plugin)
        for _ in range(1500):
            data = bytearray(text)
            for _ in range(int(rng.integers(1, 4))):
                start, length = int(rng.integers(len(data))), int(rng.integers(0, 12))
                kind = int(rng.integers(4))
                if kind == 0:
                    del data[start : start + length]
                elif kind == 1:
                    data[start] = int(rng.choice(list(b'0123456789{}[]",:.-+eENa\\ \x00\xff')))
                elif kind == 2:
                    other = int(rng.integers(len(data)))
                    data[start:start] = data[other : other + 4 * length]
                else:
                    data[start : start + 1] = rng.bytes(1)
            try:
                found = World.from_bytes(bytes(data), PLUGIN)
            except PecsError:
                continue
            assert found.validate()
            assert World.from_bytes(found.to_bytes(PLUGIN), PLUGIN).to_bytes(PLUGIN) == found.to_bytes(PLUGIN)
