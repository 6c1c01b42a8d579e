"""The three ways to compute the checksum agree, and sums combine."""

from __future__ import annotations

import numpy as np
import pytest
from crc64iso.crc64iso import crc64_pair, format_crc64_pair
from hypothesis import given, settings
from hypothesis import strategies as st

from pecs_np.persistence import checksum
from pecs_np.persistence.checksum import combine, combine_by_definition, crc64, crc64_by_definition


def test_check_value_of_the_format():
    assert crc64(b"123456789") == 0x46A5A9388A5BEFFE
    assert crc64_by_definition(b"123456789") == 0x46A5A9388A5BEFFE


def test_check_value_of_the_package_that_defines_it():
    assert crc64(b"IHATEMATH") == 0xE3DCADD69B01ADD1


def test_fast_path_is_in_use_where_its_package_is_installed():
    pytest.importorskip("anycrc")
    assert checksum.crc64 is not crc64_by_definition


def test_empty_input_and_leading_zeros_sum_to_nothing():
    assert crc64(b"") == 0
    assert crc64(bytes(100)) == 0
    assert crc64(bytes(64) + b"abc") == crc64(b"abc")
    assert crc64(b"abc" + bytes(1)) != crc64(b"abc")


def test_data_followed_by_its_own_sum_sums_to_zero():
    data = b"some bytes of a head"
    assert crc64(data + crc64(data).to_bytes(8, "little")) == 0


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_fast_by_definition_and_crc64iso_agree(data):
    assert crc64(data) == crc64_by_definition(data)
    assert f"{crc64(data):016X}" == format_crc64_pair(crc64_pair(data))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=100), st.binary(max_size=100))
def test_sums_of_parts_combine_both_ways(first, second):
    whole = crc64(first + second)
    assert combine(crc64(first), crc64(second), len(second)) == whole
    assert combine_by_definition(crc64(first), crc64(second), len(second)) == whole
    assert crc64_by_definition(second, crc64_by_definition(first)) == whole


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**45))
def test_combining_over_long_parts_agrees_with_the_definition(first, second, length):
    assert combine(first, second, length) == combine_by_definition(first, second, length)


def test_any_buffer_of_bytes_is_taken():
    array = np.arange(256, dtype=np.uint8)
    assert crc64(array) == crc64(array.tobytes()) == crc64(memoryview(array)) == crc64(bytearray(array))
    assert crc64_by_definition(array) == crc64(array)
