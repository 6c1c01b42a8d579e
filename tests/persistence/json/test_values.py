"""Parsed values to arrays: every kind, and what is said of those that do not fit."""

import numpy as np
import pytest

from pecs_np import InvalidFormatError
from pecs_np.ecs.dtypes import Field
from pecs_np.persistence.json.members import read_structs
from pecs_np.persistence.json.values import as_json, read_ids, read_values


def field(code, **options):
    return Field("x", np.dtype(code), **options)


def where(row, suffix=""):
    return f"row {row}{suffix}"


def read(values, f):
    return read_values(values, f, read_structs, where)


ISO = 'a time as ISO 8601 text, which <M8[s] can hold, an integer or "NaT"'
WRONG = [
    (field("<f4"), "abc", 'expected a number, found "abc" at row 1'),
    (field("<f4"), "1e5", 'expected a number, found "1e5" at row 1'),
    (field("<f4"), "nan", 'expected a number, found "nan" at row 1'),
    (field("<f4"), True, "expected a number, found true at row 1"),
    (field("<f4"), None, "expected a number, found null at row 1"),
    (field("<f4"), 1e39, "expected a number that fits <f4, found 1e+39 at row 1"),
    (field("<f4"), 3.4028235677973366e38, "expected a number that fits <f4, found 3.4028235677973366e+38 at row 1"),
    (field("<f2"), 65520, "expected a number that fits <f2, found 65520 at row 1"),
    (field("<f4"), "NaN(0x7f800000)", 'expected the bits of a NaN of <f4, found "NaN(0x7f800000)" at row 1'),
    (field("<f8"), "NaN(0x7fc00001)", 'expected the bits of a NaN of <f8, found "NaN(0x7fc00001)" at row 1'),
    (field("|i1"), 128, "expected an integer that fits |i1, found 128 at row 1"),
    (field("<u8"), -1, "expected an integer that fits <u8, found -1 at row 1"),
    (field("<i4"), 1.0, "expected an integer, found 1.0 at row 1"),
    (field("<i4"), False, "expected an integer, found false at row 1"),
    (field("|b1"), 1, "expected true or false, found 1 at row 1"),
    (field("<c16"), 1, "expected a list of 2, found 1 at row 1"),
    (field("<c16"), [1], "expected a list of 2, found [1] at row 1"),
    (field("<c8"), [1, 1e39], "expected a number that fits <f4, found 1e+39 at row 1[1]"),
    (field("|S2"), "YQ", 'expected base64, found "YQ" at row 1'),
    (field("|S2"), "YW Fh", 'expected base64, found "YW Fh" at row 1'),
    (field("|S2"), "YWFh", 'expected a text of at most 2, found "YWFh" at row 1'),
    (field("|S2"), "AA==", 'expected a text without zeros at its end, found "AA==" at row 1'),
    (field("<U2"), "abc", 'expected a text of at most 2, found "abc" at row 1'),
    (field("<U2"), "a\0", 'expected a text without zeros at its end, found "a\\u0000" at row 1'),
    (field("<U2"), 5, "expected text, found 5 at row 1"),
    (field("<M8[s]"), "now", f'expected {ISO}, found "now" at row 1'),
    (field("<M8[s]"), "", f'expected {ISO}, found "" at row 1'),
    (field("<M8[s]"), "2020-02-30", f'expected {ISO}, found "2020-02-30" at row 1'),
    (field("<M8[s]"), "2020-01-01T00:00Z", f'expected {ISO}, found "2020-01-01T00:00Z" at row 1'),
    (field("<M8[s]"), "2020-01-01T00:00-01:00", f'expected {ISO}, found "2020-01-01T00:00-01:00" at row 1'),
    (field("<M8[s]"), "2020-01-01T00:00:00.5", f'expected {ISO}, found "2020-01-01T00:00:00.5" at row 1'),
    (field("<M8[s]"), "9223372036854775807", f'expected {ISO}, found "9223372036854775807" at row 1'),
    (field("<M8[s]"), 2**63, f"expected {ISO}, found 9223372036854775808 at row 1"),
    (field("<M8[s]"), None, f"expected {ISO}, found null at row 1"),
    (field("<m8[s]"), -(2**63), 'expected an integer or "NaT", found -9223372036854775808 at row 1'),
    (field("<m8[s]"), "5", 'expected an integer or "NaT", found "5" at row 1'),
    (field("|u1", enum=(("A", 1), ("B", 2))), "C", "expected one of ['A', 'B'], found \"C\" at row 1"),
    (field("|u1", enum=(("A", 1), ("B", 2))), 3, "expected one of ['A', 'B'], found 3 at row 1"),
    (field("|u1", enum=(("A", 1), ("B", 2))), True, "expected one of ['A', 'B'], found true at row 1"),
    (Field("x", ref=True), "x", 'expected a stable id below 2**128 as a decimal text or null, found "x" at row 1'),
    (Field("x", ref=True), -1, "expected a stable id below 2**128 as a decimal text or null, found -1 at row 1"),
    (Field("x", ref=True), str(2**128), 'expected a stable id below 2**128 as a decimal text or null, found "340282366920938463463374607431768211456" at row 1'),
    (field("<i4", shape=(2,)), [1], "expected a list of 2, found 1 at row 1"),
    (field("<i4", shape=(2,)), 7, "expected a list of 2, found 7 at row 1"),
    (field("<i4", shape=(2, 2)), [[1, 2], [3, "x"]], 'expected an integer, found "x" at row 1[1][1]'),
    (field("<i4", variable="list"), 5, "expected a list, found 5 at row 1"),
    (field("<i4", variable="list"), [1, 2, None], "expected an integer, found null at row 1[2]"),
    (Field("x", variable="str"), 5, "expected text, found 5 at row 1"),
    (Field("x", variable="bytes"), "?", 'expected base64, found "?" at row 1'),
    (Field("x", fields=(field("<i4"),)), 5, "expected an object, found 5 at row 1"),
    (Field("x", fields=(field("<i4"),)), {}, "expected a field 'x', found [] at row 1"),
    (Field("x", fields=(field("<i4"),)), {"x": 1, "y": 2}, "expected a field of ['x'], found 'y' at row 1"),
    (Field("x", fields=(field("<i4"),)), {"x": 1.5}, "expected an integer, found 1.5 at row 1.x"),
]  # fmt: skip
RIGHT = {
    "f": 1.5, "i": 1, "u": 1, "b": True, "c": [1, 2], "S": "YQ==", "U": "é", "M": "NaT", "m": 5,
}  # fmt: skip


def some(f):
    """Return a value that fits."""
    if f.variable == "list":
        return []
    if f.variable or f.ref:
        return "" if f.variable else None
    value = {m.name: some(m) for m in f.fields} if f.fields else "A" if f.enum else RIGHT[f.dtype.kind]
    for size in reversed(f.shape):
        value = [value] * size
    return value


@pytest.mark.parametrize(("f", "value", "message"), WRONG)
def test_the_first_value_that_does_not_fit_is_named(f, value, message):
    with pytest.raises(InvalidFormatError) as caught:
        read([some(f), value, value], f)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("f", "value", "expected"),
    [
        (field("<f4"), 3, 3.0),
        (field("<f4"), 2**63, 2.0**63),
        (field("<f4"), 3.4028234663852886e38, 3.4028234663852886e38),
        (field("<f4"), 1e-50, 0.0),
        (field("<f8"), "-Infinity", -np.inf),
        (field("<u8"), 2**64 - 1, 2**64 - 1),
        (field("<c8"), [1, "Infinity"], complex(1, np.inf)),
        (field("<M8[s]"), "2020-01-01", np.datetime64("2020-01-01T00:00:00")),
        (field("<M8[s]"), "2020", np.datetime64("2020-01-01T00:00:00")),
        (field("<M8[W]"), "2020-01-02", np.datetime64("2020-01-02", "W")),
        (field("<M8[s]"), -1, np.datetime64("1969-12-31T23:59:59")),
        (field("|u1", enum=(("A", 1), ("B", 2))), 2, 2),
        (field("|u1", enum=(("A", 1), ("B", 2))), "B", 2),
        (field("<U2"), "é🦀", "é🦀"),
        (field("|S3"), "YQBi", b"a\0b"),
    ],
)
def test_values_that_people_write(f, value, expected):
    found = read([some(f), value], f)
    assert found[1] == expected
    assert found.dtype == f.dtype


def test_nat_is_a_time():
    for code in ("<M8[s]", "<m8[s]"):
        assert np.isnat(read(["NaT", 5], field(code))).tolist() == [True, False]


def test_a_week_begins_on_thursday():
    with pytest.raises(InvalidFormatError, match=r'found "2020-01-03" at row 0'):
        read(["2020-01-03"], field("<M8[W]"))


def test_references_are_texts_integers_or_null():
    f = Field("x", ref=True)
    assert read(["5", 6, None, str(2**64)], f).tolist() == [(5, 0), (6, 0), (0, 0), (0, 1)]
    with pytest.raises(
        InvalidFormatError, match="expected a stable id below 2\\*\\*128 as a decimal text, found null"
    ):
        read_ids([None], where)


def test_lists_keep_their_lengths():
    found = read([[], [1, 2], [3]], field("<i2", variable="list"))
    assert [part.tolist() for part in found] == [[], [1, 2], [3]]
    assert {part.dtype for part in found} == {np.dtype("<i2")}
    found = read([[[1, 2]], []], field("<i2", shape=(2,), variable="list"))
    assert [part.shape for part in found] == [(1, 2), (0, 2)]


@pytest.mark.parametrize("f", {id(f): f for f, _, _ in WRONG}.values())
def test_no_rows(f):
    assert len(read([], f)) == 0


def test_long_values_are_shown_in_short():
    assert len(as_json("x" * 1000)) < 80
    assert len(as_json([[1] * 1000] * 1000)) < 200
