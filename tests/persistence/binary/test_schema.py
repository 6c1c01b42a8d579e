"""The schema document, written and read; types that the process defines, and those it does not."""

from __future__ import annotations

import enum
import json
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    EntityRef,
    InvalidFormatError,
    PecsError,
    World,
    __version__,
    component,
    unregister,
)


class SchemaState(enum.IntEnum):
    IDLE = 0
    RUN = 1


class SchemaItem:
    kind: np.uint8
    owner: EntityRef


@component(version=3)
class SchemaAll:
    x: np.float32
    cells: Annotated[np.uint16, 3]
    state: SchemaState
    target: EntityRef
    title: str
    path: list[np.float32]
    crew: list[EntityRef]
    items: list[SchemaItem]
    blob: bytes
    pair: Annotated[SchemaItem, (1, 2)]
    when: Annotated[np.datetime64, "ms"]
    code: Annotated[str, 5]
    raw: Annotated[bytes, 4]


ITEM = [{"name": "kind", "dtype": "|u1"}, {"name": "owner", "ref": True}]


def a_world(**options):
    world = World(**options)
    time = np.datetime64("2001-02-03", "ms")
    world.spawn(SchemaAll(1, [1, 2, 3], 1, 0, "t", [], [], [], b"", (1, 0), time, "ab", b"c"))
    return world


def refused(reference, fields, size, match=None, **kind):
    """Check that a save of one row of *fields*, of *size* bytes, is not accepted."""
    unregister("SchemaForeign")
    data = reference.make(
        [("SchemaForeign", 1, fields)], [{"ids": [1], "columns": {"SchemaForeign": bytes(size)}}]
    ).to_bytes()
    with pytest.raises(PecsError, match=match):
        World.from_bytes(data)


def test_the_document_is_that_of_the_format(reference):
    schema = reference.read(a_world(version=9, metadata={"é": [1, None]}).to_bytes()).schema
    assert list(schema) == ["writer", "world", "types", "tables"]
    assert schema["writer"] == f"pecs_np {__version__}"
    assert schema["world"] == {"version": 9, "metadata": {"é": [1, None]}, "rng": {}}
    assert schema["tables"] == [{"rows": 1, "types": [0], "role": "state"}]
    assert schema["types"] == [
        {
            "name": "SchemaAll",
            "version": 3,
            "fields": [
                {"name": "x", "dtype": "<f4"},
                {"name": "cells", "dtype": "<u2", "shape": [3]},
                {"name": "state", "dtype": "|u1", "enum": {"IDLE": 0, "RUN": 1}},
                {"name": "target", "ref": True},
                {"name": "title", "variable": "str"},
                {"name": "path", "variable": "list", "dtype": "<f4"},
                {"name": "crew", "variable": "list", "ref": True},
                {"name": "items", "variable": "list", "fields": ITEM},
                {"name": "blob", "variable": "bytes"},
                {"name": "pair", "fields": ITEM, "shape": [1, 2]},
                {"name": "when", "dtype": "<M8[ms]"},
                {"name": "code", "dtype": "<U5"},
                {"name": "raw", "dtype": "|S4"},
            ],
        }
    ]


def test_resources_are_a_table_of_one_row_without_ids(reference):
    world = World()
    world.resources.insert(SchemaAll(1, 0, 0, 0, "r", [], [], [], b"", (1, 0), "2001-01-01", "", b""))
    world.spawn()
    save = reference.read(world.to_bytes())
    assert {"rows": 1, "types": [0], "role": "resource"} in save.schema["tables"]
    assert save.entity_count == 1
    number = save.schema["tables"].index({"rows": 1, "types": [0], "role": "resource"})
    assert [p.kind for p in save.parts if p.table == number] == [2] + [3, 4] * 5
    assert save.pieces(number, "SchemaAll", "title") == [b"r"]


def test_any_spelling_of_the_document_is_read(reference):
    world = a_world(metadata={"a": "é"})
    save = reference.read(world.to_bytes())
    document = save.schema
    document["later"] = {"unknown": 1}
    save.schema_text = json.dumps(dict(reversed(document.items())), indent=3).encode()
    assert World.from_bytes(save.to_bytes()).to_bytes() == world.to_bytes()


def test_a_type_that_is_not_defined_is_used_by_name_and_saved_again_byte_for_byte(define):
    annotations = {
        "x": np.float32, "title": str, "crew": list[EntityRef], "state": SchemaState, "pair": Annotated[SchemaItem, 2]
    }  # fmt: skip
    Unknown = define("SchemaUnknown", annotations, version=5)
    world = World(seed=4)
    one = world.spawn(Unknown(1, "a", [], 0, (1, 0)))
    world.spawn(Unknown(2, "bé", [one, one], 1, ([3, 4], [one, 0])))
    world.resources.insert(Unknown(3, "r", [one], 1, (1, one)))
    data = world.to_bytes()
    unregister("SchemaUnknown")
    back = World.from_bytes(data)
    assert back.to_bytes() == data
    assert back.column("SchemaUnknown")["title"].tolist() == ["a", "bé"]
    for chunk in back.query("SchemaUnknown"):
        chunk.x += 1
        assert chunk["state"].tolist() == [0, 1]
    first = int(back.entities()[0])
    assert back.get(first, "SchemaUnknown").x == 2
    assert back.resources.get("SchemaUnknown").title == "r"
    back.insert(first, back.get(first, "SchemaUnknown"))
    again = World.from_bytes(back.to_bytes())
    assert again.column("SchemaUnknown")["x"].tolist() == [2, 3]
    # Defined again, the same file loads as the class.
    define("SchemaUnknown", annotations, version=5)
    assert World.from_bytes(data).to_bytes() == data


STRUCT = {"name": "a", "dtype": "|u1"}


@pytest.mark.parametrize(
    ("field", "size"),
    [
        ({"name": "x", "dtype": "|O8"}, 8),
        ({"name": "x", "dtype": "O"}, 8),
        ({"name": "x", "dtype": ">f4"}, 4),
        ({"name": "x", "dtype": "<f16"}, 16),
        ({"name": "x", "dtype": "|V4"}, 4),
        ({"name": "x", "dtype": "<f4,<f4"}, 8),
        ({"name": "x", "dtype": "<M8"}, 8),
        ({"name": "x", "dtype": "<M8[0ms]"}, 8),
        ({"name": "x", "dtype": "|S0"}, 0),
        ({"name": "x", "dtype": "<U999999999"}, 8),
        ({"name": "x", "dtype": "|S999999999"}, 8),
        ({"name": "x", "dtype": "<f4\n"}, 4),
        ({"name": "x", "dtype": ["<f4"]}, 4),
        ({"name": "x", "dtype": "__import__('os')"}, 8),
        ({"name": "x"}, 0),
        ({"name": "x", "dtype": "|u1", "ref": True}, 1),
        ({"name": "x", "ref": 1}, 16),
        ({"name": "x", "ref": False}, 16),
        ({"name": "x", "fields": []}, 0),
        ({"name": "x", "fields": [STRUCT, STRUCT]}, 2),
        ({"name": "x", "fields": {"a": STRUCT}}, 1),
        ({"name": "x", "fields": [{"name": "t", "variable": "str"}]}, 0),
        ({"name": "x", "dtype": "|u1", "shape": [0]}, 0),
        ({"name": "x", "dtype": "|u1", "shape": [-1]}, 1),
        ({"name": "x", "dtype": "|u1", "shape": [True]}, 1),
        ({"name": "x", "dtype": "|u1", "shape": [1.0]}, 1),
        ({"name": "x", "dtype": "|u1", "shape": 3}, 3),
        ({"name": "x", "dtype": "|u1", "shape": [2**40, 2**40]}, 8),
        ({"name": "x", "dtype": "|u1", "shape": [1] * 100}, 1),
        ({"name": "x", "dtype": "|u1", "enum": {}}, 1),
        ({"name": "x", "dtype": "|u1", "enum": {"A": 256}}, 1),
        ({"name": "x", "dtype": "|u1", "enum": {"A": True}}, 1),
        ({"name": "x", "dtype": "<f4", "enum": {"A": 1}}, 4),
        ({"name": "x", "dtype": "|u1", "enum": ["A"]}, 1),
        ({"name": "x", "variable": "map"}, 0),
        ({"name": "x", "variable": True}, 0),
        ({"name": "x", "dtype": "|u1", "unknown": 1}, 1),
        ({"name": "", "dtype": "|u1"}, 1),
        ({"name": "a\tb", "dtype": "|u1"}, 1),
        ({"name": 5, "dtype": "|u1"}, 1),
        ({"name": None, "dtype": "|u1"}, 1),
        ({"dtype": "|u1"}, 1),
        (["x", "|u1"], 1),
        (None, 0),
    ],
)  # fmt: skip
def test_fields_that_the_format_does_not_know_are_refused(reference, field, size):
    # Such a field may make the reference stumble over its size, so it goes into a save that is made without.
    save = reference.make(
        [("SchemaForeign", 1, [])], [{"ids": [1], "columns": {"SchemaForeign": bytes(size)}}]
    )
    save.schema = save.schema | {"types": [{"name": "SchemaForeign", "version": 1, "fields": [field]}]}
    with pytest.raises(PecsError):
        World.from_bytes(save.to_bytes())


def test_structs_within_structs_beyond_any_reason_are_refused(reference):
    field = {"name": "x", "dtype": "|u1"}
    for _ in range(60):
        field = {"name": "x", "fields": [field]}
    refused(reference, [field], 1)


@pytest.mark.parametrize("leaf", [{"dtype": "|b1"}, {"ref": True}, {"dtype": "<U1"}, {"dtype": "|u1"}])
def test_shapes_that_add_up_to_more_dimensions_than_numpy_has_are_refused_or_load(reference, leaf):
    field = {"name": "x", "shape": [1] * 16} | leaf
    for _ in range(5):
        field = {"name": "x", "shape": [1] * 16, "fields": [field]}
    size = reference.item_size([field])
    data = reference.make(
        [("SchemaDeep", 1, [field])], [{"ids": [1], "columns": {"SchemaDeep": bytes(size)}}]
    ).to_bytes()
    try:
        back = World.from_bytes(data)
    except PecsError:
        return
    assert World.from_bytes(back.to_bytes()).to_bytes() == back.to_bytes()


@pytest.mark.parametrize("shape", [(1,) * 17, (1,) * 64])
def test_a_shape_that_can_be_defined_can_be_loaded(define, shape):
    try:
        type_ = define("SchemaManyAxes", {"x": Annotated[np.int8, shape]})
    except PecsError:
        return
    world = World()
    world.spawn(type_(1))
    data = world.to_bytes()
    assert World.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"null", b"{", b"{}", b'{"world":3}', b"\xff", b"NaN", b'{"world":{},"types":{},"tables":[]}', b'{"world":{},"types":[],"tables":3}'],
)  # fmt: skip
def test_documents_of_another_form_are_refused(reference, document):
    save = reference.read(World().to_bytes())
    save.schema_text = document
    with pytest.raises(InvalidFormatError):
        World.from_bytes(save.to_bytes())
