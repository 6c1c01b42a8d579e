"""Values as JSON text that is read back bit for bit."""

import enum

import numpy as np
import orjson
import pytest

from pecs_np import ComponentValueError
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.json.tokens import all_numbers, base64_of, reference_tokens, text_of, tokens_of
from pecs_np.persistence.json.values import element_of


def tokens(array, **options):
    return tokens_of(array, Field("x", array.dtype, **options))


def read(texts, dtype):
    """Return tokens read back as the reader does."""
    values = orjson.loads(b"[" + b",".join(texts) + b"]")
    return element_of(Field("x", np.dtype(dtype)), None)(values, str)


@pytest.mark.parametrize(
    ("dtype", "bits", "text"),
    [
        ("f8", 0x7FF8000000000000, b'"NaN"'),
        ("f8", 0xFFF8000000000000, b'"NaN(0xfff8000000000000)"'),
        ("f8", 0x7FF8000000000001, b'"NaN(0x7ff8000000000001)"'),
        ("f8", 0x7FF0000000000001, b'"NaN(0x7ff0000000000001)"'),
        ("f4", 0x7FC00000, b'"NaN"'),
        ("f4", 0xFF800001, b'"NaN(0xff800001)"'),
        ("f2", 0x7E00, b'"NaN"'),
        ("f2", 0x7C01, b'"NaN(0x7c01)"'),
        ("f8", 0x7FF0000000000000, b'"Infinity"'),
        ("f4", 0xFF800000, b'"-Infinity"'),
        ("f2", 0x7C00, b'"Infinity"'),
        ("f8", 1 << 63, b"-0.0"),
        ("f4", 1 << 31, b"-0.0"),
        ("f2", 1 << 15, b"-0.0"),
        ("f8", 1, b"5e-324"),
    ],
)
def test_floats_that_json_has_no_number_for(dtype, bits, text):
    value = np.array([bits], f"u{dtype[1]}").view(dtype)
    assert tokens(value) == [text]
    assert read([text], dtype).view(f"u{dtype[1]}")[0] == bits


def test_every_half_comes_back():
    bits = np.arange(1 << 16, dtype="<u2")
    assert (read(tokens(bits.view("<f2")), "<f2").view("<u2") == bits).all()


def test_halves_and_floats_have_the_shortest_text():
    assert tokens(np.array([0.1, 0.333], "f2")) == [b"0.1", b"0.333"]
    assert tokens(np.array([0.1, 16777216], "f4")) == [b"0.1", b"16777216.0"]
    assert tokens(np.array([0.1], "f8")) == [b"0.1"]


def test_the_one_float_that_rounding_twice_would_change():
    # All finite float32 were tried: read as a double and rounded, the shortest text of this one is its neighbour.
    bits = np.array([0x15AE43FD, 0x95AE43FD], "<u4")
    assert orjson.loads(orjson.dumps(bits.view("<f4"), option=orjson.OPT_SERIALIZE_NUMPY)) == [
        7.038531e-26,
        -7.038531e-26,
    ]
    assert (np.array([7.038531e-26, -7.038531e-26]).astype("<f4").view("<u4") != bits).all()
    texts = tokens(bits.view("<f4"))
    assert texts == [b"7.03853069e-26", b"-7.03853069e-26"]
    assert (read(texts, "<f4").view("<u4") == bits).all()


def test_floats_at_random_come_back():
    rng = np.random.default_rng(5)
    for dtype in ("<f4", "<f8"):
        values = np.frombuffer(rng.bytes(80_000), dtype)
        assert read(tokens(values), dtype).tobytes() == values.tobytes()


def test_integers_are_exact():
    assert tokens(np.array([-(2**63), 2**63 - 1])) == [b"-9223372036854775808", b"9223372036854775807"]
    assert tokens(np.array([2**64 - 1], "u8")) == [b"18446744073709551615"]
    assert tokens(np.array([-128, 127], "i1")) == [b"-128", b"127"]
    assert tokens(np.array([True, False])) == [b"true", b"false"]


def test_complex_numbers_are_pairs():
    assert tokens(np.array([1 - 2j, complex(np.nan, np.inf)])) == [b"[1.0,-2.0]", b'["NaN","Infinity"]']
    assert tokens_of(np.array([1j], "c8"), Field("x", np.dtype("c8")), b", ") == [b"[0.0, 1.0]"]


def test_texts():
    assert tokens(np.array(['é"\n', ""])) == ['"é\\"\\n"'.encode(), b'""']
    assert tokens(np.array([b"a\0b", b""])) == [b'"YQBi"', b'""']
    assert text_of("\0") == b'"\\u0000"'
    assert base64_of(b"\xff\xff") == b'"//8="'


@pytest.mark.parametrize("bad", ["\ud800", "a\udfff"])
def test_text_without_a_utf8_form_is_refused(bad):
    with pytest.raises(ComponentValueError, match="expected text that has a UTF-8 form"):
        text_of(bad)
    with pytest.raises(ComponentValueError, match="expected text"):
        tokens(np.array([bad]))


UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "25s", "7D", "3M"]


@pytest.mark.parametrize("unit", UNITS)
def test_times_of_any_size_come_back(unit):
    edges = [0, 1, -1, 2**62, -(2**62), 2**63 - 1, -(2**63) + 1, -(2**63), 2**63 - 1970, 10**12]
    random = np.random.default_rng(6).integers(-(2**63), 2**63, 200).tolist()
    counts = np.array(edges + random + list(range(-50, 50)))
    for kind in ("M8", "m8"):
        dtype = f"<{kind}[{unit}]"
        assert (read(tokens(counts.view(dtype)), dtype).view("<i8") == counts).all()


def test_times_are_iso_8601_where_that_is_true():
    assert tokens(np.array(["2020-02-29", "NaT"], "M8[D]")) == [b'"2020-02-29"', b'"NaT"']
    assert tokens(np.array(["2020-02-29T12:00:00.5"], "M8[ms]")) == [b'"2020-02-29T12:00:00.500"']
    # The year 2**63 - 1 + 1970 is beyond NumPy's own integers.
    assert tokens(np.array([2**63 - 1]).view("M8[Y]")) == [b"9223372036854775807"]
    assert tokens(np.array([5, "NaT"], "m8[s]")) == [b"5", b'"NaT"']


def test_members_of_enums_have_their_first_name():
    colour = enum.IntEnum("Colour", {"RED": 1, "ROUGE": 1, "BLUE": 2})
    members = tuple((name, int(value)) for name, value in colour.__members__.items())
    assert tokens(np.array([1, 2], "u1"), enum=members) == [b'"RED"', b'"BLUE"']
    with pytest.raises(ComponentValueError, match="expected values of its enum, found 3 in 'x'"):
        tokens(np.array([3], "u1"), enum=members)


def test_references():
    ids = np.array([(0, 0), (5, 0), (0, 1)], STABLE_ID)
    assert reference_tokens(ids) == [b"null", b'"5"', b'"18446744073709551616"']
    assert reference_tokens(ids[:0]) == []
    assert tokens(np.empty(0)) == []


@pytest.mark.parametrize("code", ["?", "i1", "<u8", "<f4", "<f8"])
def test_all_numbers_but_some_floats_are_written_as_they_are(code):
    values = np.ones((3, 2), code)
    assert all_numbers(values)
    if values.dtype.kind == "f":
        for odd in (np.nan, np.inf, -np.inf):
            values[1, 1] = odd
            assert not all_numbers(values)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_float_that_is_rounded_twice_is_not_written_as_it_is(sign):
    odd = np.full(3, sign * np.uint32(0x15AE43FD).view("f4"))
    assert not all_numbers(odd)
    assert all_numbers(odd.astype("<f8"))
