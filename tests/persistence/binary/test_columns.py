"""Columns of a world, and the same columns as a save has them."""

from __future__ import annotations

import enum
import struct
from typing import Annotated

import numpy as np
import pytest

from pecs_np import (
    BinaryPlugin,
    ComponentValueError,
    CorruptedDataError,
    DanglingReferenceError,
    EntityRef,
    InvalidFormatError,
    World,
    component,
    component_type,
)
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.persistence.binary.columns import (
    assemble,
    check_distinct,
    check_values,
    fixed_part,
    frombuffer,
    holds_null,
    mapping,
    next_rows,
    row_ranges,
    rows_of,
    unmapped,
    variable_part,
)
from pecs_np.persistence.compression import CHUNK


class ColumnsMood(enum.IntEnum):
    CALM = 1
    MAD = 7


class ColumnsInner:
    mood: ColumnsMood
    to: EntityRef


@component
class ColumnsPlain:
    x: np.float32 = 0.0
    n: np.uint8 = 0


@component
class ColumnsChecked:
    before: np.uint8 = 0
    flag: bool = False
    mood: ColumnsMood = ColumnsMood.CALM
    name: Annotated[str, 2] = ""


@component
class ColumnsLinked:
    to: EntityRef
    inner: Annotated[ColumnsInner, 2]
    before: np.uint8 = 3


@component
class ColumnsRich:
    text: str
    blob: bytes
    flags: list[bool]
    crew: list[EntityRef]
    inners: list[ColumnsInner]
    pairs: list[Annotated[np.uint16, 2]]


def runs(*pairs):
    return IdColumn(STABLE_ID, pairs)


def array(*ids):
    values = [(i & 2**64 - 1, i >> 64) for i in ids]
    return IdColumn(STABLE_ID, array=np.array(values, STABLE_ID))


def doubled(references):
    """A mapping of references as good as any."""
    found = np.zeros(references.shape, STABLE_ID)
    found["lo"] = references * np.uint64(2)
    return found


def here(part):
    return f"part {part} of here"


# To a save


def test_a_plain_column_is_its_own_fixed_part():
    column = np.zeros(5, component_type(ColumnsPlain).layout.memory)
    assert fixed_part(column, component_type(ColumnsPlain), unmapped) is column


def test_references_of_the_fixed_part_go_through_the_mapping(reference):
    type_ = component_type(ColumnsLinked)
    column = np.zeros(2, type_.layout.memory)
    column["to"] = [5, 0]
    column["inner"]["to"] = [[1, 2], [3, 4]]
    column["inner"]["mood"] = 7
    column["before"] = 9
    rows = fixed_part(column, type_, doubled)
    assert rows.dtype == type_.layout.disk
    assert rows.itemsize == 16 + 2 * 17 + 1
    ids = reference.pack_ids
    assert rows[0].tobytes() == ids([10]) + b"\7" + ids([2]) + b"\7" + ids([4]) + b"\x09"
    assert rows[1].tobytes() == ids([0]) + b"\7" + ids([6]) + b"\7" + ids([8]) + b"\x09"
    assert column["to"].tolist() == [5, 0]


@pytest.mark.parametrize(
    ("offset", "raw", "field"),
    [
        (1, b"\2", "flag"),
        (2, b"\0", "mood"),
        (2, b"\6", "mood"),
        (3, b"\0\xd8", "name"),
        (9, b"\x11", "name"),
    ],
)
def test_rows_with_values_that_are_none_are_refused_by_number_and_field(offset, raw, field):
    type_ = component_type(ColumnsChecked)
    column = np.zeros(1000, type_.layout.memory)
    column["mood"] = 7
    check_values(column, type_)
    column[700:701].view("u1")[offset : offset + len(raw)] = list(raw)
    with pytest.raises(ComponentValueError, match=f"in row 700 of ColumnsChecked.{field}; world.validate"):
        check_values(column, type_)


def test_plain_types_are_not_looked_at():
    check_values(np.zeros(3, component_type(ColumnsPlain).layout.memory), component_type(ColumnsPlain))


def rich(**values):
    type_ = component_type(ColumnsRich)
    column = np.empty(3, type_.layout.memory)
    column["text"] = ["a", "", "é字"]
    column["blob"] = [b"", b"\0\xff", b"x"]
    for f in type_.layout.variable[2:]:
        for row in range(3):
            column[f.name][row] = np.zeros((row, *f.shape), f.element().base)
            if f.name == "inners":
                column[f.name][row]["mood"] = 1
    for name, rows in values.items():
        for row, value in rows.items():
            column[name][row] = value
    return column


def parts_of(column, name, mapped=doubled, first_row=0):
    type_ = component_type(ColumnsRich)
    f = next(f for f in type_.fields if f.name == name)
    offsets, values = variable_part(column, f, type_, mapped, first_row)
    return offsets.tolist(), values.tobytes()


def test_variable_fields_are_offsets_and_values(reference):
    column = rich(
        crew={1: np.array([4], ENTITY_ID), 2: np.array([5, 0], ENTITY_ID)},
        flags={2: np.array([True, False])},
        pairs={1: np.array([[1, 2]], "u2"), 2: np.array([[3, 4], [5, 6]], "u2")},
    )
    assert parts_of(column, "text") == ([0, 1, 1, 6], "aé字".encode())
    assert parts_of(column, "blob") == ([0, 0, 2, 3], b"\0\xffx")
    assert parts_of(column, "flags") == ([0, 0, 1, 3], b"\0\1\0")
    assert parts_of(column, "crew") == ([0, 0, 1, 3], reference.pack_ids([8, 10, 0]))
    assert parts_of(column, "pairs") == ([0, 0, 1, 3], struct.pack("<6H", *range(1, 7)))
    column["inners"][2]["to"] = [6, 7]
    inners = (
        b"\1" + reference.pack_ids([0]) + b"\1" + reference.pack_ids([12]) + b"\1" + reference.pack_ids([14])
    )
    assert parts_of(column, "inners") == ([0, 0, 1, 3], inners)


@pytest.mark.parametrize("first_row", [0, 4096])
@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("text", "\ud800", "ColumnsRich.text"),
        ("text", b"bytes", "ColumnsRich.text"),
        ("blob", "text", "ColumnsRich.blob"),
        ("flags", np.array([1, 2], "u1").view(bool), "ColumnsRich.flags"),
        ("flags", np.array([1, 2], "u1"), "ColumnsRich.flags"),
        ("flags", None, "ColumnsRich.flags"),
        ("pairs", np.zeros((2, 3), "u2"), "ColumnsRich.pairs"),
        ("pairs", np.zeros(2, "u2"), "ColumnsRich.pairs"),
        ("inners", np.array([(0, 1)], [("mood", "u1"), ("to", "<u8")]), "ColumnsRich.inners.mood"),
        ("crew", np.zeros(1, "<i8"), "ColumnsRich.crew"),
    ],
)
def test_variable_values_that_no_reader_would_take_are_refused_by_row(name, value, what, first_row):
    column = rich()
    column[name][2] = value
    with pytest.raises(ComponentValueError) as caught:
        parts_of(column, name, first_row=first_row)
    assert f"in row {first_row + 2} of {what}" in str(caught.value)


def test_bad_rows_after_empty_ones_are_named_themselves():
    column = rich()
    column["flags"][0] = np.zeros(0, bool)
    column["flags"][1] = np.array([3], "u1").view(bool)
    with pytest.raises(ComponentValueError, match=r"in row 1 of ColumnsRich\.flags"):
        parts_of(column, "flags")


@pytest.mark.parametrize("count", [0, 1, 256, 4096, 5000])
def test_rows_far_into_a_column_are_named_and_saved_right(count):
    world = World(seed=1)
    rows = count + 1
    world.spawn_batch(ColumnsRich(["x"] * rows, b"", [[True]] * rows, [[]] * rows, [[]] * rows, [[]] * rows))
    back = World.from_bytes(world.to_bytes())
    assert back.column(ColumnsRich)["text"].tolist() == ["x"] * rows
    for chunk in world.query(ColumnsRich):
        chunk.flags[count].view("u1")[0] = 9
    for plugin in (BinaryPlugin(), BinaryPlugin(compression="lz4"), BinaryPlugin(version=1)):
        with pytest.raises(ComponentValueError, match=rf"row {count} of ColumnsRich\.flags"):
            world.to_bytes(plugin)


def text_column(lengths):
    column = np.empty(len(lengths), [("text", object), ("blob", object)])
    column["text"] = ["x" * n for n in lengths]
    column["blob"] = b""
    return column


@pytest.mark.parametrize(
    "lengths",
    [
        [],
        [0] * 200_000,
        [100] * 30_000,
        [1] * 70_000 + [20_000] * 200,
        [5 << 20, 0, 0, 5 << 20, 1],
        [CHUNK - 8, 0, CHUNK - 8, 1],
    ],
)
def test_as_many_rows_are_converted_at_once_as_make_a_chunk(lengths):
    fields = [f for f in component_type(ColumnsRich).fields if f.name in ("text", "blob")]
    column = text_column(lengths)
    ranges = list(row_ranges([(column, fields)], len(lengths), 8, bounded=True))
    starts, stops = zip(*ranges, strict=True) if ranges else ((), ())
    assert [0, *stops] == [*starts, len(lengths)]
    for start, stop in ranges:
        size = sum(lengths[start:stop]) + 8 * (stop - start)
        assert stop == start + 1 or (stop > start and size <= CHUNK)
        # No fewer than fit, but for the end of those that are looked at together.
        if stop < len(lengths) and stop % (1 << 16):
            assert size + lengths[stop] + 8 > CHUNK
    few = list(row_ranges([(column, fields)], len(lengths), 8, bounded=False))
    assert [0, *(stop for _, stop in few)] == [*(start for start, _ in few), len(lengths)]


def test_the_next_rows_are_as_many_as_make_a_chunk():
    assert next_rows(100, 100 * 1024) == CHUNK // 1024
    assert next_rows(4096, 0) == 1 << 16
    assert next_rows(4096, 1) == 1 << 16
    assert next_rows(1, 10 * CHUNK) == 1
    assert next_rows(4096, 1 << 50) == 1
    assert next_rows(4096, CHUNK) == 4096
    # But not many times more: what comes next may be larger.
    assert next_rows(10, 0) < 1000


def test_rows_of_values_that_do_not_fit_are_still_told_apart():
    fields = [f for f in component_type(ColumnsRich).fields if f.name == "text"]
    column = text_column([3, 3, 3])
    column["text"][1] = 7
    assert list(row_ranges([(column, fields)], 3, 8, bounded=True)) == [(0, 3)]


# From a save


def test_buffers_without_bytes_are_arrays_too():
    for empty in (b"", bytearray(), np.empty(0, "u1"), memoryview(b"")):
        assert frombuffer(empty, np.dtype("<f4")).shape == (0,)
        assert rows_of(empty, np.dtype([]), 5).shape == (5,)
        assert rows_of(empty, np.dtype("<f4"), 0).shape == (0,)
    assert frombuffer(bytearray(8), np.dtype("<f4")).tolist() == [0, 0]
    assert rows_of(bytearray(8), np.dtype("<f4"), 2).flags.writeable


def encoded(column):
    type_ = component_type(ColumnsRich)
    parts = []
    for f in type_.layout.variable:
        offsets, values = variable_part(column, f, type_, doubled, 0)
        parts += [offsets.tobytes(), values.tobytes()]
    return type_, np.empty(len(column), type_.layout.disk), parts


def halved(references):
    return references["lo"] // np.uint64(2)


def test_assembled_again_a_column_is_what_it_was():
    column = rich(crew={2: np.array([5, 0], ENTITY_ID)})
    type_, rows, parts = encoded(column)
    found = assemble(type_, type_, rows, parts, halved, here)
    assert found.dtype == column.dtype
    for name in column.dtype.names:
        for left, right in zip(found[name], column[name], strict=True):
            assert type(left) is type(right)
            assert np.array_equal(left, right)
    assert found["text"].tolist() == column["text"].tolist()
    assert found["crew"][2].flags.writeable


def test_without_a_mapping_references_stay_stable_ids():
    column = rich(crew={2: np.array([5, 0], ENTITY_ID)})
    type_, rows, parts = encoded(column)
    found = assemble(type_, type_, rows, parts, None, here)
    assert found["crew"][2].dtype == STABLE_ID
    assert found["crew"][2].tolist() == [(10, 0), (0, 0)]
    assert found["inners"][1]["to"].dtype == STABLE_ID
    linked = component_type(ColumnsLinked)
    disk = np.zeros(2, linked.layout.disk)
    disk["inner"]["mood"] = 1
    assert assemble(linked, linked, disk, [], None, here) is disk


def test_a_plain_column_is_taken_over():
    type_ = component_type(ColumnsPlain)
    rows = np.zeros(3, type_.layout.disk)
    assert assemble(type_, type_, rows, [], halved, here) is rows


@pytest.mark.parametrize(
    ("part", "change", "error", "message"),
    [
        (0, struct.pack("<4Q", 1, 1, 1, 6), CorruptedDataError, "never decrease in part 1 of here"),
        (0, struct.pack("<4Q", 0, 2, 1, 6), CorruptedDataError, "never decrease in part 1 of here"),
        (0, struct.pack("<4Q", 0, 2**64 - 1, 2**64 - 1, 6), CorruptedDataError, "never decrease in part 1"),
        (0, struct.pack("<4Q", 0, 1, 1, 5), InvalidFormatError, "expected 5 elements of 1 bytes, found 6"),
        (0, struct.pack("<4Q", 0, 1, 1, 2**64 - 1), InvalidFormatError, "part 2 of here"),
        (0, struct.pack("<4Q", 0, 2, 2, 6), CorruptedDataError, "whole characters"),
        (0, struct.pack("<4Q", 0, 1, 5, 6), CorruptedDataError, "whole characters"),
        (1, b"a\xff\xff\xff\xff\xff", CorruptedDataError, "UTF-8"),
        (1, b"aaaaaaa", InvalidFormatError, "part 2 of here"),
        (5, b"\0\1\2", CorruptedDataError, "row 2 of 'flags' in part 6 of here"),
        (5, b"\3\0\0", CorruptedDataError, "row 1 of 'flags' in part 6 of here"),
        (6, struct.pack("<4Q", 0, 1, 2, 2), InvalidFormatError, "expected 2 elements of 16 bytes"),
        (9, b"\2" + bytes(50), CorruptedDataError, "row 1 of 'inners.mood' in part 10 of here"),
        (11, bytes(11), InvalidFormatError, "expected 3 elements of 4 bytes, found 11"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_refused_where_they_stand(part, change, error, message):
    type_, rows, parts = encoded(rich())
    parts[part] = change
    with pytest.raises(error, match=message):
        assemble(type_, type_, rows, parts, halved, here)


def test_an_enum_is_checked_against_the_members_that_the_file_knows(reference, define):
    class Fewer(enum.IntEnum):
        A = 1

    class More(enum.IntEnum):
        A = 1
        B = 2

    Mood = define("ColumnsEnum", {"mood": More, "moods": list[More]})
    fields = [
        {"name": "mood", "dtype": "|u1", "enum": {"A": 1}},
        {"name": "moods", "dtype": "|u1", "enum": {"A": 1}, "variable": "list"},
    ]

    def load(mood, moods):
        column = bytes([1, mood]), {"moods": [b"\1", bytes([moods])]}
        save = reference.make(
            [("ColumnsEnum", 1, fields)], [{"ids": [1, 2], "columns": {"ColumnsEnum": column}}]
        )
        return World.from_bytes(save.to_bytes()).column(Mood)["mood"].tolist()

    assert load(1, 1) == [1, 1]
    for mood, moods in ((2, 1), (1, 2)):
        with pytest.raises(CorruptedDataError, match="row 1 of 'mood"):
            load(mood, moods)


# Stable ids


def test_a_null_is_found_in_runs_and_arrays():
    assert holds_null(runs((0, 5)))
    assert holds_null(runs((3, 5), (0, 1)))
    assert not holds_null(runs((1, 5), (2**128 - 3, 3)))
    assert holds_null(array(5, 0, 7))
    assert not holds_null(array(1 << 64, 1, (1 << 128) - 1))


@pytest.mark.parametrize(
    "columns",
    [
        [array(1, 2, 1)],
        [array(1, 2), array(3, 1)],
        [array(5, 1 << 100), runs((1 << 100, 1))],
        [runs((1, 10)), runs((10, 1))],
        [runs((1, 10), (5, 1))],
        [runs((1, 100)), array(200, 100)],
        [runs(((1 << 64) - 2, 4)), array(5, 1 << 64)],
    ],
)
def test_ids_that_stand_twice_are_named(columns):
    with pytest.raises(
        CorruptedDataError, match=r"expected distinct stable ids, found [0-9a-f]{32} twice in here"
    ):
        check_distinct(columns, "here")
    with pytest.raises(CorruptedDataError):
        check_distinct(columns[::-1], "here")


def test_ids_that_differ_in_one_half_are_distinct():
    check_distinct([array(1, 2, 1 << 64, 2 << 64, 1 << 64 | 1), runs((1 << 65 | 7, 3)), runs((3, 5))], "here")
    check_distinct([], "here")


def test_references_are_mapped_to_the_place_of_their_target():
    columns = [array(7, 3 << 64), runs((10, 100_000)), array(5)]
    mapped = mapping(columns, "here")
    references = array(0, 7, 10, 100_009, 3 << 64, 5, 0).array().reshape(1, 7)
    assert mapped(references).tolist() == [[0, 1, 3, 100_002, 2, 100_003, 0]]
    assert mapped(references).dtype == ENTITY_ID
    for unknown in (1, 9, 100_010, 3, 1 << 64 | 70, 2**128 - 1):
        with pytest.raises(DanglingReferenceError, match=f"found {unknown:032x} in here"):
            mapped(array(5, unknown).array())
    assert mapped(np.empty(0, STABLE_ID)).shape == (0,)


def test_without_entities_only_null_can_be_mapped():
    mapped = mapping([], "here")
    assert mapped(array(0, 0).array()).tolist() == [0, 0]
    with pytest.raises(DanglingReferenceError):
        mapped(array(1).array())
