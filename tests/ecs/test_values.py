"""What users give becomes arrays of a field's dtype without loss, or is an error that says why."""

from __future__ import annotations

import contextlib
import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pecs_np import ComponentValueError, StableId
from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.ecs.values import assemble, coerce, invalid_value

PAIR = (Field("a", np.dtype("<f4")), Field("b", np.dtype("<i8")))
PAIR_DTYPE = Layout(PAIR).memory
LIST = Field("x", np.dtype("<i8"), variable="list")
REF = Field("x", ref=True)


def scalar(dtype, **options):
    return Field("x", np.dtype(dtype), **options)


def coerced(value, field):
    return coerce(value, field, "C.x")


# Numbers


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8"])
@given(st.lists(st.integers(-(2**66), 2**66) | st.integers(-(2**63), 2**64 - 1) | st.integers(-200, 300)))
def test_integers_arrive_exactly_or_are_an_error(dtype, values):
    info = np.iinfo(dtype)
    if all(info.min <= v <= info.max for v in values):
        array = coerced(values, scalar(dtype))
        assert array.dtype == dtype
        assert array.tolist() == values
    else:
        with pytest.raises(ComponentValueError, match=r"C\.x"):
            coerced(values, scalar(dtype))


def test_large_and_small_unsigned_integers_go_together():
    assert coerced([2**64 - 1, 0], scalar("<u8")).tolist() == [2**64 - 1, 0]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *[("<i4", v) for v in (1.0, 1.5, np.float32(1), "1", None, b"1", 1j, object(), [1, None], [1, "a"], {}, 2**31)],
        *[("<i4", v) for v in (np.array([2**40]), np.uint64(2**63), np.datetime64(1, "s"), float("nan"), [1.0])],
        *[("<u8", v) for v in (-1, [-1], [5, -1], 2**64, [2**64], np.array([-1]), np.array([1.0]))],
        *[("<f4", v) for v in ("1.5", None, 1j, [1.0, None], object(), b"1", np.timedelta64(1, "s"))],
        *[("?", v) for v in (1, 0, 1.0, "True", None, [1, 0], np.array([1, 0], "u1"))],
        *[("<c8", v) for v in ("1j", None, [1j, None])],
    ],
    ids=repr,
)  # fmt: skip
def test_other_kinds_of_values_are_refused(dtype, value):
    with pytest.raises(ComponentValueError, match=r"expected .*, found .*C\.x|C\.x, found") as caught:
        coerced(value, scalar(dtype))
    assert np.dtype(dtype).str in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("<i4", True, 1), ("<i4", np.uint64(5), 5), ("<i4", np.array([3, 4], "<i8"), [3, 4]), ("<f4", 3, 3.0),
        ("<f8", np.float32(0.5), 0.5), ("<f4", np.array([True, False]), [1.0, 0.0]),
        ("<f4", float("inf"), float("inf")), ("<c16", 2, 2 + 0j), ("?", np.True_, True), ("<i4", [], []),
        ("?", [], []), ("<f4", np.array([1, 2], ">f4"), [1.0, 2.0]),
        ("<f4", [[1, 2], [3, 4]], [[1.0, 2.0], [3.0, 4.0]]),
    ],
)  # fmt: skip
def test_values_that_fit_are_taken(dtype, value, expected):
    array = coerced(value, scalar(dtype))
    assert array.dtype == dtype
    assert array.tolist() == expected


def test_ragged_numbers_are_an_error():
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced([[1], [1, 2]], scalar("<i4"))


def test_masked_values_are_not_taken_for_the_numbers_behind_the_mask():
    assert coerced(np.ma.array([1, 2]), scalar("<i4")).tolist() == [1, 2]
    with pytest.raises(ComponentValueError, match="mask"):
        coerced(np.ma.array([1, 2], mask=[False, True]), scalar("<i4"))


# Enums


@pytest.mark.parametrize("dtype", ["u1", "<i2", "i1"])
def test_only_the_values_of_an_enum_are_taken(dtype):
    field = scalar(dtype, enum=(("OFF", 0), ("ON", 7)))
    assert coerced([0, 7], field).tolist() == [0, 7]
    with pytest.raises(ComponentValueError, match=r"expected one of \['OFF', 'ON'\], found 3 for C\.x"):
        coerced([0, 3, 5], field)
    with pytest.raises(ComponentValueError, match=r"found 3 for C\.x"):
        coerced(np.array([3], dtype), field)


# Texts and bytes of a fixed length


@pytest.mark.parametrize(
    "value",
    [["ab", "ü"], np.array(["ab", "ü"], "U30"), np.array(["ab", "ü"], object), np.array(["ab", "ü"], ">U2"),
     np.array(["ab", "ü"], np.dtypes.StringDType()), ("ab", "ü")],
    ids=["list", "wide", "object", "big-endian", "StringDType", "tuple"],
)  # fmt: skip
def test_fixed_texts_come_in_every_form(value):
    array = coerced(value, scalar("<U4"))
    assert array.dtype == "<U4"
    assert array.tolist() == ["ab", "ü"]


@pytest.mark.parametrize(
    "value", [[b"ab", b"c"], np.array([b"ab", b"c"], "S9"), np.array([b"ab", b"c"], object)]
)
def test_fixed_bytes_come_in_every_form(value):
    array = coerced(value, scalar("S4"))
    assert array.dtype == "S4"
    assert array.tolist() == [b"ab", b"c"]


@pytest.mark.parametrize(("dtype", "value"), [("<U4", "abcde"), ("<U4", ["", "abcde"]), ("S4", b"abcde")])
def test_texts_that_are_too_long_are_an_error(dtype, value):
    with pytest.raises(ComponentValueError, match=r"length 5 for C\.x"):
        coerced(value, scalar(dtype))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [*[("<U4", v) for v in (None, ["a", None], 5, b"ab", True, float("nan"), [b"a"])],
     *[("S4", v) for v in (None, [b"a", None], "ab", 5, ["ab"])]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_text_is_an_error(dtype, value):
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced(value, scalar(dtype))


# Times

DAY = np.datetime64("2024-02-29")


@pytest.mark.parametrize(
    "value",
    [
        "2024-02-29", DAY, dt.date(2024, 2, 29), dt.datetime(2024, 2, 29),  # noqa: DTZ001
        DAY.astype("M8[ns]"), DAY.astype("M8[h]"),
    ],
    ids=repr,
)  # fmt: skip
def test_times_come_in_every_form(value):
    single, column = coerced(value, scalar("<M8[ms]")), coerced([value, value], scalar("<M8[ms]"))
    assert single.dtype == column.dtype == "<M8[ms]"
    assert single[()] == DAY
    assert column.tolist() == [dt.datetime(2024, 2, 29)] * 2  # noqa: DTZ001


@pytest.mark.parametrize("value", [None, np.datetime64("NaT", "ms"), "NaT"])
def test_no_time_is_not_a_time(value):
    assert np.isnat(coerced(value, scalar("<M8[ms]")))


def test_no_times_are_an_empty_column():
    assert coerced([], scalar("<M8[ms]")).shape == (0,)
    assert coerced([], scalar("<m8[s]")).dtype == "<m8[s]"


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *[("<M8[ms]", v) for v in (5, 5.0, True, "yesterday", [1, 2], np.timedelta64(1, "s"))],
        *[("<m8[s]", v) for v in (5, 5.0, DAY, np.timedelta64(1500, "ms"), np.timedelta64(1, "Y"))],
    ],
    ids=repr,
)
def test_what_is_no_time_of_that_unit_is_an_error(dtype, value):
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced(value, scalar(dtype))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("<M8[ms]", np.datetime64("2024-01-01T00:00:00.000000001")),
        ("<M8[ms]", dt.datetime(2024, 1, 1, 0, 0, 0, 1)),  # noqa: DTZ001
        ("<M8[ms]", "2024-01-01T00:00:00.000001"), ("<M8[D]", dt.datetime(2024, 1, 1, 12)),  # noqa: DTZ001
        ("<m8[s]", dt.timedelta(milliseconds=5)),
        ("<m8[s]", [dt.timedelta(seconds=1), dt.timedelta(milliseconds=5)]),
    ],
    ids=repr,
)  # fmt: skip
def test_times_finer_than_the_unit_are_an_error(dtype, value):
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced(value, scalar(dtype))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("<M8[ms]", np.datetime64(2**62, "D")), ("<M8[ns]", np.datetime64("3000-01-01", "s")),
        ("<M8[ns]", np.array(["2000-01-01", "9999-01-01"], "M8[D]")), ("<M8[ns]", "9999-01-01"),
        ("<m8[ns]", np.timedelta64(2**50, "D")),
    ],
    ids=repr,
)  # fmt: skip
def test_times_out_of_range_are_an_error_not_another_time(dtype, value):
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced(value, scalar(dtype))


def test_a_time_with_a_zone_is_the_same_instant_or_an_error():
    value = dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    with contextlib.suppress(ComponentValueError):
        assert coerced(value, scalar("<M8[ms]"))[()] == np.datetime64("2023-12-31T22:00")


# References


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0), (5, 5), (2**64 - 1, 2**64 - 1), (np.int64(3), 3), ([], []), ([None, None], [0, 0]),
        ([1, None, 2**64 - 1], [1, 0, 2**64 - 1]), (np.array([1, None], object), [1, 0]), (np.array([1, 2]), [1, 2]),
    ],
)  # fmt: skip
def test_references_are_entity_ids_or_none(value, expected):
    array = coerced(value, REF)
    assert array.dtype == "<u8"
    assert array.tolist() == expected


@pytest.mark.parametrize(
    "value",
    [-1, 2**64, StableId(2**100), 1.0, "e", [1, -1], [1.5, None], [StableId(2**100), 1], np.array([1, -2]), object(),
     np.zeros(2, [("lo", "<u8"), ("hi", "<u8")]), ["a", None]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_entity_id_is_refused_with_advice(value):
    with pytest.raises(
        ComponentValueError, match=r"expected entity ids \(u64\), found .* for C\.x; world\.get_entity_id"
    ):
        coerced(value, REF)


# Subarrays and structs


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (7, (2, 2)),
        (np.ones((2, 2)), (2, 2)),
        (np.ones((5, 2, 2)), (5, 2, 2)),
        (np.ones((0, 2, 2)), (0, 2, 2)),
    ],
)
def test_a_subarray_takes_one_value_for_all_or_its_own_shape(value, shape):
    assert coerced(value, scalar("<f4", shape=(2, 2))).shape == shape


@pytest.mark.parametrize("value", [[1, 2], np.ones((2, 3)), np.ones((2, 2, 3)), [1]])
def test_a_subarray_of_another_shape_is_an_error(value):
    with pytest.raises(ComponentValueError, match=r"expected shape \(\.\.\., 2, 2\), found .* for C\.x"):
        coerced(value, scalar("<f4", shape=(2, 2)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, 2), (1.0, 2)), (([1, 2], 3), [(1.0, 3), (2.0, 3)]), ([(1, 2), (3, 4)], [(1.0, 2), (3.0, 4)]),
        (np.array((1, 2), PAIR_DTYPE), (1.0, 2)),
        (np.array([(2, 1.5)], [("b", "i4"), ("a", "f8")]), [(1.5, 2)]), ([], []),
    ],
    ids=repr,
)  # fmt: skip
def test_a_struct_comes_as_tuples_or_records_by_name(value, expected):
    array = coerced(value, Field("x", fields=PAIR))
    assert array.dtype == PAIR_DTYPE
    assert array.tolist() == expected


@pytest.mark.parametrize(
    "value",
    [(1,), (1, 2, 3), (1, "a"), (1, 2.5), [(1, 2), (3,)], [(1,), (2,)], 5, None, "ab", {"a": 1, "b": 2},
     np.zeros(2, [("a", "f4"), ("c", "i8")]), np.zeros(2), [(1, 2), None]],
    ids=repr,
)  # fmt: skip
def test_what_is_no_such_struct_is_an_error(value):
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced(value, Field("x", fields=PAIR))


def test_a_mistake_inside_a_struct_is_told_by_its_path():
    with pytest.raises(ComponentValueError, match=r"for C\.x\.b"):
        coerced((1, "a"), Field("x", fields=PAIR))


def test_assemble_broadcasts_values_to_one_shape():
    rows = assemble(PAIR, PAIR_DTYPE, ([1, 2, 3], 7), "C")
    assert rows.tolist() == [(1.0, 7), (2.0, 7), (3.0, 7)]
    with pytest.raises(
        ComponentValueError, match=r"expected values of one shape for C, found a \(3,\), b \(2,\)"
    ):
        assemble(PAIR, PAIR_DTYPE, ([1, 2, 3], [1, 2]), "C")


# Variable length


@pytest.mark.parametrize(
    ("kind", "values"),
    [("str", ["a", "", "ü" * 300, "nul\0"]), ("bytes", [b"a", b"", b"\xff" * 300, b"nul\0", b"\0"])],
)
def test_texts_of_any_length_arrive_unchanged(kind, values):
    field = Field("x", variable=kind)
    assert [coerced(v, field)[()] for v in values] == values
    assert coerced(values, field).tolist() == values
    assert coerced(np.array(values, object), field).tolist() == values
    assert coerced([], field).shape == (0,)


def test_texts_become_plain_str_and_bytes():
    assert type(coerced(np.str_("a"), Field("x", variable="str"))[()]) is str
    assert {type(v) for v in coerced(np.array(["a", "b"]), Field("x", variable="str"))} == {str}
    assert {type(v) for v in coerced(np.array([b"a"]), Field("x", variable="bytes"))} == {bytes}


@pytest.mark.parametrize("kind", ["str", "bytes"])
@pytest.mark.parametrize(
    "value", [None, 5, 1.5, float("nan"), [None], [["a"], ["b", "c"]], bytearray(b"x")], ids=repr
)
def test_what_is_no_text_of_any_length_is_an_error(kind, value):
    with pytest.raises(ComponentValueError, match=rf"expected {kind}, found .* for C\.x"):
        coerced(value, Field("x", variable=kind))


def test_bytes_are_not_str_and_the_row_is_told():
    with pytest.raises(
        ComponentValueError, match=r"expected str, found b'b' in row 1 for C\.x; replace missing values"
    ):
        coerced(np.array(["a", b"b"], object), Field("x", variable="str"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], []), ([1, 2], [1, 2]), ((1, 2), [1, 2]), (np.arange(3, dtype="i4"), [0, 1, 2]),
        ([[1, 2], []], [[1, 2], []]), ([(1, 2), [3]], [[1, 2], [3]]), ([np.arange(2), [5]], [[0, 1], [5]]),
        ([[], []], [[], []]), (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]), (np.empty(0, object), []),
    ],
    ids=repr,
)  # fmt: skip
def test_a_list_field_takes_one_list_or_a_column_of_them(value, expected):
    array = coerced(value, LIST)
    if array.ndim:
        assert array.dtype == object
        assert [row.tolist() for row in array] == expected
        assert {row.dtype for row in array} <= {np.dtype("<i8")}
    else:
        assert array[()].tolist() == expected


@pytest.mark.parametrize(
    "value", [5, None, "ab", {1}, [1.5], [1, None], [[1], None], [[1], [1.5]], [[[1]]], [[1], 5]]
)
def test_what_is_no_list_is_an_error(value):
    with pytest.raises(ComponentValueError, match=r"C\.x"):
        coerced(value, LIST)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (Field("x", np.dtype("<f4"), shape=(2,), variable="list"), [], []),
        (Field("x", np.dtype("<f4"), shape=(2,), variable="list"), [[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (Field("x", fields=PAIR, variable="list"), [], []),
        (Field("x", fields=PAIR, variable="list"), [(1, 2)], [(1.0, 2)]),
        (Field("x", fields=PAIR, variable="list"), np.zeros(2, PAIR_DTYPE), [(0.0, 0)] * 2),
        (Field("x", ref=True, variable="list"), [1, None], [1, 0]),
        (Field("x", np.dtype("<U3"), variable="list"), ["a", "bcd"], ["a", "bcd"]),
        (Field("x", np.dtype("u1"), enum=(("A", 3),), variable="list"), [3], [3]),
    ],
    ids=repr,
)  # fmt: skip
def test_lists_hold_every_fixed_kind_of_element(field, value, expected):
    one, column = coerced(value, field), coerced([value, []], field)
    assert one[()].tolist() == column[0].tolist() == expected
    assert one[()].dtype == column[1].dtype == field.element().base
    assert column[1].shape == (0, *field.shape)


def test_lists_are_copied_from_what_the_user_gave():
    given_ = np.array([1, 2])
    array = coerced(given_, LIST)[()]
    array[0] = 9
    assert given_.tolist() == [1, 2]


def test_a_mistake_in_a_column_of_lists_tells_the_row():
    with pytest.raises(ComponentValueError, match=r"for C\.x\[1\]"):
        coerced([[1], [1.5]], LIST)


# Bit patterns


def raw(dtype, data):
    return np.frombuffer(data, dtype)


@pytest.mark.parametrize(
    ("field", "data", "row", "what"),
    [
        (scalar("?"), b"\x00\x01\x02", 2, "is not a bool"),
        (scalar("?", shape=(2,)), b"\x00\x01\x01\xff", 1, "is not a bool"),
        (scalar("u1", enum=(("A", 1), ("B", 9))), b"\x01\x09\x02", 2, "is not a value of its enum"),
        (scalar("<u2", enum=(("A", 1),)), b"\x01\x00\x01\x01", 1, "is not a value of its enum"),
        (scalar("<U1"), b"a\0\0\0" + b"\0\xd8\0\0", 1, "holds a code point that is not Unicode"),
        (scalar("<U2"), b"a\0\0\0\0\0\x11\0", 0, "holds a code point that is not Unicode"),
        (Field("x", fields=(Field("y", np.dtype("u1")), Field("b", np.dtype("?")))), b"\x09\x01\x09\x02", 1, "is not a bool"),
    ],
)  # fmt: skip
def test_bit_patterns_that_are_no_value_are_found(field, data, row, what):
    rows = raw(Layout((field,)).memory, data)
    at, path, found = invalid_value(rows, (field,))
    assert (at, found) == (row, what)
    assert path == ("x.b" if field.fields else "x")
    assert invalid_value(rows[:row], (field,)) is None


@pytest.mark.parametrize("text", ["", "a\0b", "\ud7ff", "\ue000", "\U0010ffff"])
def test_every_unicode_scalar_value_is_text(text):
    assert invalid_value(np.array([(text,)], [("x", "<U3")]), (scalar("<U3"),)) is None


def test_numbers_are_not_looked_into():
    rows = raw(PAIR_DTYPE, b"\xff" * 24)
    assert invalid_value(rows, PAIR) is None
