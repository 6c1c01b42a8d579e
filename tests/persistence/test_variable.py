"""Variable-length fields: offsets and values, and back."""

from __future__ import annotations

import struct
from typing import Annotated

import numpy as np
import pytest

from pecs_np import ComponentValueError, CorruptedDataError, EntityRef, World, component, component_type
from pecs_np.persistence import variable


class VariablePoint:
    x: np.float32
    flag: bool


@component
class VariableAll:
    text: str = ""
    blob: bytes = b""
    numbers: list[np.int16] = []
    triples: list[Annotated[np.uint8, 3]] = np.zeros((0, 3), np.uint8)
    points: list[VariablePoint] = []
    friends: list[EntityRef] = []


FIELDS = {f.name: f for f in component_type(VariableAll).fields}
TEXTS = [
    "",
    "\0",
    "a\0b\0",
    "é",
    "日本語",
    "🦀" * 3,
    "e\u0301",
    "\u2028\r\n",
    "\U0010ffff",
    "\ud7ff\ue000",
    "x" * 70_000,
]


def objects(*values):
    column = np.empty(len(values), object)
    for i, value in enumerate(values):
        column[i] = value
    return column


def offsets(*stops):
    return np.array(stops, "<u8")


@pytest.mark.parametrize("name", list(FIELDS))
def test_offsets_alone_are_the_same(name):
    world = World()
    triples = [[1, 2, 3], [4, 5, 6]]
    for i, text in enumerate(TEXTS):
        world.spawn(
            VariableAll(text, text.encode(), [1] * i, triples[: i % 3], [(1, True)] * (i % 2), [0] * i)
        )
    (column,) = world.columns(VariableAll)
    part = np.asarray(column)[name]
    stops, _ = variable.encode(part, FIELDS[name], "here")
    alone = variable.offsets(part, FIELDS[name], "here")
    assert alone.dtype == stops.dtype
    assert alone.tolist() == stops.tolist()
    lengths = np.diff(stops).astype(int) * (
        1 if name in ("text", "blob") else FIELDS[name].element().itemsize
    )
    if name == "text":
        lengths = [len(t) for t in TEXTS]
    assert variable.sizes(part, FIELDS[name]).tolist() == list(lengths)


@pytest.mark.parametrize("name", list(FIELDS))
@pytest.mark.parametrize("bad", [None, 3, "\ud800", np.float64(2), np.array(3), object])
def test_offsets_of_what_does_not_fit_are_refused_as_its_values_are(name, bad):
    part = objects(bad, bad)
    assert len(variable.sizes(part, FIELDS[name])) == 2
    messages = []
    for work_out in (variable.encode, variable.offsets):
        with pytest.raises(ComponentValueError) as caught:
            work_out(part, FIELDS[name], "here", 5)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "row 5 of here" in messages[0]


def test_texts_are_offsets_in_bytes_and_utf8():
    stops, values = variable.encode(objects("a", "", "éé", "\0"), FIELDS["text"], "here")
    assert stops.tolist() == [0, 1, 1, 5, 6]
    assert stops.dtype == "<u8"
    assert values.tobytes() == "aéé\0".encode()


def test_lists_are_offsets_in_elements_and_rows():
    column = objects(
        np.array([[1, 2, 3]], "u1"), np.zeros((0, 3), "u1"), np.array([[4, 5, 6], [7, 8, 9]], "u1")
    )
    stops, values = variable.encode(column, FIELDS["triples"], "here")
    assert stops.tolist() == [0, 1, 1, 3]
    assert values.tobytes() == bytes(range(1, 10))


def test_columns_without_rows_have_one_offset():
    for field in FIELDS.values():
        stops, values = variable.encode(objects(), field, "here")
        assert stops.tolist() == [0]
        assert values.nbytes == 0
        assert len(variable.decode(stops, values, field, "here")) == 0


@pytest.mark.parametrize("texts", [TEXTS, ["ascii", "only"], ["", ""], ["é"], [""]])
def test_texts_come_back(texts):
    stops, values = variable.encode(objects(*texts), FIELDS["text"], "here")
    assert variable.decode(stops, values, FIELDS["text"], "here").tolist() == texts
    blobs = [text.encode() for text in texts]
    stops, values = variable.encode(objects(*blobs), FIELDS["blob"], "here")
    assert variable.decode(stops, values, FIELDS["blob"], "here").tolist() == blobs


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", None),
        ("text", b"bytes"),
        ("text", 3),
        ("text", "\ud800"),
        ("text", np.str_("a")),
        ("blob", "text"),
        ("blob", bytearray(b"a")),
        ("numbers", [1, 2]),
        ("numbers", np.zeros(2, "<i4")),
        ("numbers", np.zeros((2, 2), "<i2")),
        ("numbers", np.array(3, "<i2")),
        ("triples", np.zeros(3, "u1")),
        ("triples", np.zeros((1, 4), "u1")),
        ("numbers", None),
    ],
)
def test_objects_that_are_no_such_value_are_refused_with_row_and_place(name, value):
    fine = np.asarray(VariableAll())[name][()]
    with pytest.raises(ComponentValueError, match=r"row 1 of Some\.field"):
        variable.encode(objects(fine, value), FIELDS[name], "Some.field")


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\xc3"])
def test_bytes_that_are_not_utf8_are_refused(raw):
    with pytest.raises(CorruptedDataError, match="UTF-8"):
        variable.decode(offsets(0, len(raw)), np.frombuffer(raw, np.uint8), FIELDS["text"], "here")


def test_an_offset_within_a_character_is_refused():
    values = np.frombuffer("aé".encode(), np.uint8)
    assert variable.decode(offsets(0, 1, 3), values, FIELDS["text"], "here").tolist() == ["a", "é"]
    with pytest.raises(CorruptedDataError, match="cut in two"):
        variable.decode(offsets(0, 2, 3), values, FIELDS["text"], "here")


def test_every_kind_comes_back_from_a_save_and_is_there_as_the_format_says(reference):
    world = World(seed=1)
    friends = world.spawn_batch(count=2)
    point = np.array([(1.5, True), (2.5, False)], [("x", "<f4"), ("flag", "?")])
    triples = np.arange(6, dtype="u1").reshape(2, 3)
    world.spawn(VariableAll("日本", b"\0\xff", [1, -2, 3], triples, point, friends))
    world.spawn(VariableAll())
    save = reference.read(world.to_bytes())
    ids = [i.to_bytes(16, "little") for i in save.ids(0)]
    expected = {
        "text": "日本".encode(),
        "blob": b"\0\xff",
        "numbers": struct.pack("<3h", 1, -2, 3),
        "triples": bytes(range(6)),
        "points": struct.pack("<f?f?", 1.5, True, 2.5, False),
        "friends": b"".join(ids),
    }
    for name, first in expected.items():
        assert save.pieces(1, "VariableAll", name) == [first, b""]
    back = World.from_bytes(world.to_bytes())
    row = back.column(VariableAll)[0]
    assert (row["text"], row["blob"]) == ("日本", b"\0\xff")
    assert row["numbers"].tolist() == [1, -2, 3]
    assert row["triples"].tolist() == triples.tolist()
    assert row["points"].tobytes() == point.tobytes()
    assert back.get_stable_id(row["friends"]).tolist() == world.get_stable_id(friends).tolist()
    empty = back.column(VariableAll)[1]
    assert [len(empty[name]) for name in expected] == [0] * 6
    assert empty["triples"].shape == (0, 3)


def test_an_empty_list_of_subarrays_can_be_written_as_a_plain_empty_list():
    world = World()
    world.spawn(VariableAll(triples=[]))
    assert World.from_bytes(world.to_bytes()).column(VariableAll)[0]["triples"].shape == (0, 3)


def test_a_column_of_texts_of_all_lengths_comes_back_through_a_file(tmp_path):
    rng = np.random.default_rng(5)
    texts = ["é" * int(n) + "x" * int(m) for n, m in rng.integers(0, 20, (3000, 2))]
    world = World()
    world.spawn_batch(VariableAll(text=texts, blob=[t.encode() for t in texts]))
    world.save(tmp_path / "a.pecs", durable=False)
    column = World.load(tmp_path / "a.pecs").column(VariableAll)
    assert column["text"].tolist() == texts
    assert [b.decode() for b in column["blob"]] == texts


@pytest.mark.parametrize(
    ("field_name", "value"),
    [("points", None), ("points", 5), ("numbers", None), ("friends", None), ("text", None)],
)
def test_a_foreign_object_written_into_a_column_is_refused_on_save(field_name, value):
    world = World()
    entity = world.spawn(VariableAll())
    np.asarray(world.get(entity, VariableAll))[field_name] = value
    with pytest.raises(ComponentValueError, match=field_name):
        world.to_bytes()


def test_a_changed_element_of_a_loaded_list_is_in_the_next_save():
    world = World()
    world.spawn_batch(VariableAll(numbers=[[1, 2], [3]]))
    back = World.from_bytes(world.to_bytes())
    back.column(VariableAll)["numbers"][1][0] = 30
    again = World.from_bytes(back.to_bytes())
    assert [a.tolist() for a in again.column(VariableAll)["numbers"]] == [[1, 2], [30]]
