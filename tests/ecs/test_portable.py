"""Fields to the schema that saves hold and back; everything else in a schema is refused."""

from __future__ import annotations

import enum
import json
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pecs_np import ComponentDefinitionError, EntityRef, InvalidFormatError, LimitExceededError
from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.ecs.portable import fields_from_schema, schema_of


class State(enum.IntEnum):
    IDLE = 0
    RUN = 1


class Item:
    kind: np.uint16
    owner: EntityRef


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5)
SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
DTYPES = st.sampled_from(
    ["|b1", "|i1", "|u1", "<i2", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16"]
) | st.sampled_from(["|S3", "<U5", "<M8[ms]", "<m8[25s]", "<M8[Y]"])


def named(parts):
    """Turn (name, make) pairs into fields of distinct names."""
    return tuple(make(name) for name, make in dict(parts).items())


def elements(depth):
    plain = st.tuples(DTYPES.map(np.dtype), SHAPES).map(lambda p: {"dtype": p[0], "shape": p[1]})
    refs = SHAPES.map(lambda shape: {"ref": True, "shape": shape})
    values = st.dictionaries(NAMES, st.integers(-128, 127), min_size=1, max_size=3)
    enums = values.map(lambda v: {"dtype": np.dtype("i1"), "enum": tuple(v.items())})
    if not depth:
        return plain | refs | enums
    structs = st.tuples(structures(depth - 1, min_size=1), SHAPES).map(
        lambda p: {"fields": p[0], "shape": p[1]}
    )
    return plain | refs | enums | structs


def structures(depth, min_size=0):
    fixed = elements(depth).map(lambda options: lambda name: Field(name, **options))
    return st.lists(st.tuples(NAMES, fixed), min_size=min_size, max_size=3).map(named)


def components():
    texts = st.sampled_from(["str", "bytes"]).map(lambda kind: lambda name: Field(name, variable=kind))
    lists = elements(1).map(lambda options: lambda name: Field(name, **options, variable="list"))
    fixed = elements(2).map(lambda options: lambda name: Field(name, **options))
    return st.lists(st.tuples(NAMES, texts | lists | fixed), max_size=4).map(named)


def read(entries, *, limit=1 << 20):
    return fields_from_schema(entries, "types[0].fields", max_itemsize=limit)


@settings(max_examples=80)
@given(components())
def test_a_schema_reads_back_as_the_same_fields_through_json(fields):
    schema = json.loads(json.dumps(schema_of(fields)))
    assert read(schema) == fields
    assert Layout(read(schema)).memory == Layout(fields).memory


def test_the_schema_is_the_one_of_the_format(define):
    component = define(
        "portable.All",
        {
            "x": np.float32,
            "cells": Annotated[np.uint16, 3],
            "state": State,
            "target": EntityRef,
            "title": str,
            "raw": bytes,
            "path": list[np.float32],
            "crew": list[EntityRef],
            "items": list[Item],
            "one": Annotated[Item, (2, 2)],
            "at": Annotated[np.datetime64, "ms"],
        },
    )
    item = [{"name": "kind", "dtype": "<u2"}, {"name": "owner", "ref": True}]
    assert schema_of(component._type.fields) == [
        {"name": "x", "dtype": "<f4"},
        {"name": "cells", "dtype": "<u2", "shape": [3]},
        {"name": "state", "dtype": "|u1", "enum": {"IDLE": 0, "RUN": 1}},
        {"name": "target", "ref": True},
        {"name": "title", "variable": "str"},
        {"name": "raw", "variable": "bytes"},
        {"name": "path", "variable": "list", "dtype": "<f4"},
        {"name": "crew", "variable": "list", "ref": True},
        {"name": "items", "variable": "list", "fields": item},
        {"name": "one", "fields": item, "shape": [2, 2]},
        {"name": "at", "dtype": "<M8[ms]"},
    ]


def test_no_fields_are_a_schema_too():
    assert schema_of(()) == []
    assert read([]) == ()


STR = {"name": "x", "variable": "str"}


@pytest.mark.parametrize(
    "entry",
    [
        5, None, "x", [], {}, {"dtype": "<f4"}, {"name": 5, "dtype": "<f4"}, {"name": "", "dtype": "<f4"},
        {"name": "a\n", "dtype": "<f4"}, {"name": "x"}, {"name": "x", "dtype": "<f4", "more": 1},
        {"name": "x", "dtype": "<f4", "ref": True}, {"name": "x", "ref": 1}, {"name": "x", "ref": False},
        *[{"name": "x", "dtype": d} for d in (
            5, None, [], "", "f4", ">f4", "<f16", "|O", "O8", "<i1", "|S0", "<U0", "<M8", "<M8[generic]",
            "<M8[0s]", "<m8[0ms]", "<U999999999999", "<f4\n", "(2,)f4", "f4,f4", "|V8", "<M8[s/2]", "<M8[s][s]",
        )],
        *[{"name": "x", "dtype": "<f4", "shape": s} for s in (3, [0], [-1], [1.0], [True], [None], "3", {}, [1] * 70)],
        *[{"name": "x", "dtype": "<i2", "enum": e} for e in ({}, [], 5, {"A": 2**15}, {"A": 1.0}, {"A": True}, {"": 1})],
        {"name": "x", "dtype": "<f4", "enum": {"A": 1}}, {"name": "x", "ref": True, "enum": {"A": 1}},
        *[{"name": "x", "dtype": "<f4", "variable": v} for v in ("text", 5, [], {}, True, "str", "bytes")],
        STR | {"shape": [2]}, {"name": "x", "variable": "list"},
        {"name": "x", "fields": []}, {"name": "x", "fields": 5}, {"name": "x", "fields": [STR]},
        {"name": "x", "variable": "list", "fields": [STR]}, {"name": "x", "fields": [{"name": "y", "dtype": "bad"}]},
    ],
    ids=str,
)  # fmt: skip
def test_entries_that_the_format_does_not_know_are_refused_with_their_place(entry):
    with pytest.raises(InvalidFormatError, match=r"expected .* at types\[0\]\.fields\[1\]"):
        read([{"name": "first", "dtype": "<f4"}, entry])


@pytest.mark.parametrize("entries", [None, 5, "x", {}, {"name": "x", "dtype": "<f4"}])
def test_a_schema_is_a_list(entries):
    with pytest.raises(InvalidFormatError, match="expected a list of fields"):
        read(entries)


def test_the_place_of_a_nested_mistake_is_told():
    nested = [{"name": "p", "fields": [{"name": "a", "dtype": "<f4"}, {"name": "b", "dtype": ">f4"}]}]
    with pytest.raises(
        InvalidFormatError, match=r"found '>f4' at types\[0\]\.fields\[0\] 'p'\.fields\[1\] 'b'"
    ):
        read(nested)


def test_field_names_are_unique():
    with pytest.raises(InvalidFormatError, match="a field name of its own, found 'a'"):
        read([{"name": "a", "dtype": "<f4"}, {"name": "a", "dtype": "<f4"}])


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": "a", "dtype": "<f8"}, {"name": "b", "dtype": "|u1"}],
        [{"name": "a", "dtype": "<U3"}],
        [{"name": "a", "dtype": "<f4", "shape": [3]}],
        [{"name": "a", "dtype": "<f4", "shape": [10**30]}],
        [{"name": "a", "dtype": "<f4", "shape": [2**31, 2**31, 2**31]}],
        [{"name": "a", "dtype": "<f4", "shape": [3], "variable": "list"}],
        [{"name": "a", "ref": True}],
        [{"name": "a", "fields": [{"name": "b", "dtype": "<f4", "shape": [2]}], "shape": [2]}],
    ],
)
def test_rows_larger_than_the_limit_are_refused_before_a_dtype_is_made(entries):
    with pytest.raises((LimitExceededError, InvalidFormatError), match="at most 8 bytes a row"):
        read(entries, limit=8)


def nested(depth, dtype="<f4"):
    entry = {"name": "x", "dtype": dtype}
    for _ in range(depth):
        entry = {"name": "x", "fields": [entry]}
    return [entry]


def test_structs_nest_up_to_a_bound():
    assert schema_of(read(nested(32))) == nested(32)
    with pytest.raises(InvalidFormatError, match="nested structs"):
        read(nested(33))


def deep_class(depth):
    inner = np.float32
    for _ in range(depth):
        inner = type("Level", (), {"__annotations__": {"x": inner}})
    return inner


@pytest.mark.parametrize(
    "annotations",
    [
        {"x": Annotated[float, (1,) * 15]},
        {"x": Annotated[float, (1,) * 40]},
        {"x": deep_class(20)},
        {"x": deep_class(40)},
        {"x": list[Annotated[deep_class(3), (2, 2)]]},
        {"x" * 1024: int},
        {"x" * 1025: int},
        {"x": enum.IntEnum("Odd", {"a\n": 1})},
        {"x": Annotated[np.datetime64, "007s"]},
    ],
    ids=[
        "15 axes",
        "40 axes",
        "20 levels",
        "40 levels",
        "list",
        "long name",
        "too long name",
        "enum name",
        "unit",
    ],
)
def test_whatever_can_be_defined_can_be_read_back(define, annotations):
    # Or it is refused at once, rather than when a save of it is loaded.
    try:
        fields = define("portable.Any", annotations)._type.fields
    except ComponentDefinitionError:
        fields = ()
    assert read(schema_of(fields)) == fields
