"""Ids as decimals: the digits of Python's own integers, for any ids together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.json.decimals import from_decimals, from_hex, to_decimals

EDGES = [0, 1, 9, 10, 10**9 - 5, 10**18 - 5, 2**64 - 5, 10**27 - 3, 2**127, 2**128 - 10, 0x33F0C6E4 << 64]
numbers = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0, 40),
    st.sampled_from(EDGES).flatmap(lambda e: st.integers(e, e + 9)),
)


def ids(values):
    return np.array([(v & (2**64 - 1), v >> 64) for v in values], STABLE_ID)


@given(st.lists(numbers, max_size=30))
def test_any_ids_are_the_decimals_of_integers(values):
    assert to_decimals(ids(values)) == [b"%d" % value for value in values]


@given(st.lists(numbers, max_size=30), st.integers(0, 3))
def test_decimals_of_any_widths_are_read_back(values, zeros):
    texts = [str(value).zfill(min(39, len(str(value)) + zeros)) for value in values]
    for given_ in (texts, [text.encode() for text in texts]):
        found, odd = from_decimals(given_)
        assert odd is None
        assert found.tolist() == ids(values).tolist()


@pytest.mark.parametrize("start", EDGES)
def test_runs_of_ids_go_both_ways(start):
    values = [start + i for i in range(10)]
    texts = to_decimals(ids(values))
    assert texts == [b"%d" % value for value in values]
    assert from_decimals(texts)[0].tolist() == ids(values).tolist()


def test_more_ids_than_fit_a_block():
    values = [2**100 + i for i in range(40_000)] + [5, 2**128 - 1]
    texts = to_decimals(ids(values))
    assert texts == [b"%d" % value for value in values]
    assert from_decimals([text.decode() for text in texts])[0].tolist() == ids(values).tolist()


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1.0", "²", "\u0661", "1e3", "0x1", "1" * 40, str(2**128), "9" * 39, "1\n"]
)
def test_the_first_text_that_is_no_id_is_named(text):
    assert from_decimals(["1", text, "x"])[1] == 1
    assert from_decimals([text])[1] == 0
    assert from_decimals([str(2**128 - 1), text])[1] == 1


def test_a_long_text_does_not_make_the_others_long():
    assert from_decimals(["1"] * 10**6 + ["1" * 10**6])[1] == 10**6


def test_hexadecimal_ids():
    found, odd = from_hex(["00000000000000010000000000000005", "F" * 32])
    assert odd is None
    assert found.tolist() == ids([2**64 + 5, 2**128 - 1]).tolist()
    assert from_hex([])[0].shape == (0,)


@pytest.mark.parametrize(
    "text", ["", "0" * 31, "0" * 33, "g" * 32, "0" * 30 + " 1", "é" * 32, "0" * 31 + "x"]
)
def test_what_has_not_32_hexadecimal_digits_is_named(text):
    assert from_hex(["0" * 32, text])[1] == 1
