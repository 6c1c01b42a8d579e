"""Values by the commas between them: only what is the constant text byte for byte is taken apart."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pecs_np.errors import InvalidFormatError
from pecs_np.persistence.json.grid import Cut, Grid, doubles

LONG = b"a name that is longer than those that become blanks"
CONSTANTS = [b'{"id":"', b'","x":', b',"y":[', b",", b'],"%b":' % LONG, b"}"]
ROW = b"%b".join(CONSTANTS)


def text_of(*rows, between=b","):
    return between.join([ROW % row for row in rows])


GRID = Grid(CONSTANTS, b",")
ROWS = [(b"1", b"0.5", b"-1e-7", b"3", b"true"), (b"22", b'"NaN"', b"2", b"null", b'"a b"')]


def test_rows_are_cut():
    cut = GRID.cut(text_of(*ROWS))
    assert cut.first == [b"1", b"22"]
    assert LONG not in cut.others
    assert cut.others.replace(b" ", b"") == b'0.5,-1e-7,3,true,"NaN",2,null,"ab"'
    assert cut.size == 8
    assert cut.parsed() == [0.5, -1e-7, 3, True, "NaN", 2, None, "a b"]


def test_rows_on_lines():
    grid = Grid(CONSTANTS, b",\n  ")
    assert grid.cut(text_of(*ROWS, between=b",\n  ")) == GRID.cut(text_of(*ROWS))
    assert grid.cut(text_of(*ROWS)) is None


def test_rows_of_one_value():
    grid = Grid([b'{"id":"', b'","of":[]}'], b",")
    assert grid.cut(b'{"id":"1","of":[]},{"id":"2","of":[]}') == Cut([b"1", b"2"], b"", 0)
    assert grid.cut(b'{"id":"1","of":[]}').parsed() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        text_of(*ROWS)[:-1],
        text_of(*ROWS) + b",",
        text_of(*ROWS) + b" ",
        text_of(*ROWS)[1:],
        b" " + text_of(*ROWS),
        text_of(*ROWS).replace(b"},{", b"}, {", 1),
        text_of(*ROWS).replace(b'"y"', b'"z"', 1),
        text_of(*ROWS).replace(b'"y":', b'"y"5:'),
        text_of(*ROWS).replace(b'"y":[', b'"y":5['),
        text_of(*ROWS).replace(b"longer", b"shorter"),
        text_of(*ROWS).replace(LONG, b""),
        text_of((b"1", b"2", b"3", b"4,5", b"6")),
        text_of((b"1", b"2", b"3", b'"a,b"', b"6")),
        text_of((b"1", b"2", b"3", b"4", b"5"), (b"1", b'2,"y":[3', b"4,5", b"6", b"7")),
        b",".join([b"5"] * 40),
        b'{"id":"' + b"," * 10,
        text_of(*ROWS) + b",".join([b"5"] * 6),
    ],
)
def test_other_text_is_not_cut(text):
    assert GRID.cut(text) is None


@pytest.mark.parametrize("value", [b"", b"1 2", b"nan", b"01", b"}", b"[", b'"', b'"\\"'])
def test_what_is_no_value_is_not_parsed(value):
    for place in range(1, 5):
        row = list(ROWS[0])
        row[place] = value
        with pytest.raises(orjson.JSONDecodeError):
            GRID.cut(text_of(tuple(row))).parsed()


def test_a_text_over_commas_is_no_value():
    opened = (b"1", b"1", b'"', b'"', b"4")
    with pytest.raises(InvalidFormatError, match="expected 4 values between commas, found 3"):
        GRID.cut(text_of(opened)).parsed()
    nested = (b"1", b"1", b"[2", b"3]", b"4")
    with pytest.raises(InvalidFormatError, match="expected 4 values between commas, found 3"):
        GRID.cut(text_of(nested)).parsed()


def test_numbers_alone_are_doubles():
    cut = GRID.cut(text_of((b"1", b"0.5", b"-1e-7", b"3", b"4E+2"), (b"2", b"-0.0", b" 6 ", b"7", b"8")))
    found = doubles(cut)
    assert found.dtype == np.dtype("<f8")
    assert found.tolist() == [[0.5, -1e-7, 3.0, 400.0], [0.0, 6.0, 7.0, 8.0]]
    assert np.signbit(found[1, 0])
    for value in (b"true", b"null", b'"1"', b"[1]", b"{}"):
        assert doubles(GRID.cut(text_of((b"1", b"2", b"3", value, b"5")))) is None


TOKENS = st.sampled_from(
    [
        b"1",
        b"-2.5e-3",
        b"true",
        b'"a"',
        b'"',
        b'","',
        b",",
        b"[",
        b"]",
        b"[1]",
        b"{}",
        b" ",
        b"",
        b'"\\"',
        *CONSTANTS,
    ]
)


@given(st.lists(st.tuples(*[TOKENS] * 5), min_size=1, max_size=4), st.integers(0, 1000), TOKENS)
def test_values_are_those_of_the_parser(rows, place, token):
    text = text_of(*rows)
    place %= len(text) + 1
    for hostile in (text, text[:place] + token + text[place:]):
        cut = GRID.cut(hostile)
        if cut is None or any(b'"' in first or b"\\" in first for first in cut.first):
            continue
        try:
            values = cut.parsed()
        except (orjson.JSONDecodeError, InvalidFormatError):
            continue
        whole = orjson.loads(b"[%b]" % hostile)
        assert [first.decode() for first in cut.first] == [row["id"] for row in whole]
        assert values == [value for row in whole for value in (row["x"], *row["y"], row[LONG.decode()])]
