"""All ways to compute the checksums agree with their definitions, and sums combine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crc64iso.crc64iso import crc64_pair, format_crc64_pair
from hypothesis import given, settings
from hypothesis import strategies as st

import pecs_np
from pecs_np import World
from pecs_np.persistence import checksum
from pecs_np.persistence.checksum import (
    combine,
    combine_by_definition,
    crc64,
    crc64_by_definition,
    crc64_we,
    crc64_we_by_definition,
)

ROOT = Path(pecs_np.__file__).parents[1]


def by_polynomial(data, polynomial, ones, reflected):
    """Return the sum as a remainder: the message, its first 64 bits flipped for *ones*, over the polynomial."""
    bits = "".join(f"{byte:08b}"[:: -1 if reflected else 1] for byte in data) + "0" * 64
    start = ((1 << 64) - 1) << len(bits) - 64 if ones else 0
    value = int(bits, 2) ^ start
    divisor = 1 << 64 | polynomial
    for shift in range(len(bits) - 65, -1, -1):
        if value >> shift + 64 & 1:
            value ^= divisor << shift
    if reflected:
        value = int(f"{value:064b}"[::-1], 2)
    return value ^ ((1 << 64) - 1 if ones else 0)


def iso(data):
    return by_polynomial(data, 0x1B, ones=False, reflected=True)


def we(data):
    return by_polynomial(data, 0x42F0E1EBA9EA3693, ones=True, reflected=False)


def test_check_value_of_the_format():
    assert crc64(b"123456789") == 0x46A5A9388A5BEFFE
    assert crc64_by_definition(b"123456789") == 0x46A5A9388A5BEFFE


def test_check_value_of_the_crate():
    for function in (crc64_we, crc64_we_by_definition, we):
        assert function(b"123456789") == 0x62EC59E3F1A4F00A


def test_the_sum_of_nothing_is_0_and_of_zeros_it_is_not_with_the_sum_of_the_crate():
    assert crc64_we(b"") == crc64_we_by_definition(b"") == we(b"") == 0
    assert crc64_we(bytes(8)) == crc64_we_by_definition(bytes(8)) == we(bytes(8)) != 0


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


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=80))
def test_both_sums_are_the_remainders_that_their_parameters_define(data):
    assert crc64(data) == crc64_by_definition(data) == iso(data)
    assert crc64_we(data) == crc64_we_by_definition(data) == we(data)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_both_sums_go_on_where_another_ended(parts):
    whole = b"".join(parts)
    for function in (crc64, crc64_by_definition, crc64_we, crc64_we_by_definition):
        found = 0
        for part in parts:
            found = function(part, found)
        assert found == function(whole) == function(whole, 0)


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


@pytest.mark.parametrize("function", [combine, combine_by_definition])
def test_combining_with_nothing_or_with_zeros(function):
    assert function(5, 0, 0) == 5
    assert function(0, 5, 100) == 5
    for count in (1, 7, 64, 1 << 20):
        assert function(crc64(b"abc"), 0, count) == crc64(b"abc" + bytes(count))


def test_any_buffer_of_bytes_is_taken():
    array = np.arange(256, dtype=np.uint8)
    assert crc64(array) == crc64(array.tobytes()) == crc64(memoryview(array)) == crc64(bytearray(array))
    assert crc64_by_definition(array) == crc64(array)
    assert crc64_we(array) == crc64_we(array.tobytes()) == crc64_we(memoryview(array)[:])
    assert crc64_we_by_definition(array) == crc64_we(bytearray(array))
    frozen = array.copy()
    frozen.flags.writeable = False
    assert crc64(frozen) == crc64(array)
    assert crc64(array[:0]) == crc64_we(array[:0]) == 0


CHOSEN = """
import sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import numpy as np
from pecs_np import World, make_component
from pecs_np.persistence import checksum as c
data = bytes(range(256)) * 3 + b"123456789"
print(hex(c.crc64(data)), hex(c.crc64_we(data)))
for cut in (0, 1, 8, 300, len(data)):
    head, tail = data[:cut], np.frombuffer(data, "u1")[cut:]
    assert c.crc64(tail, c.crc64(head)) == c.crc64(data)
    assert c.crc64_we(tail, c.crc64_we(head)) == c.crc64_we(data)
    assert c.combine(c.crc64(bytearray(head)), c.crc64(memoryview(tail)), len(tail)) == c.crc64(data)
print(c.crc64(b""), c.crc64_we(b""))
print(c.crc64 is c.crc64_by_definition, c.combine is c.combine_by_definition, c.crc64_we is c.crc64_we_by_definition)
world = World(seed=1)
world.spawn_batch(make_component("Chosen", {"x": np.float64})(x=np.arange(100.0)))
saved = world.to_bytes()
assert World.from_bytes(saved).to_bytes() == saved
print(hex(c.crc64_by_definition(saved)))
"""


@pytest.mark.parametrize("missing", [(), ("fastcrc",), ("anycrc",), ("anycrc", "fastcrc")])
def test_where_packages_are_missing_the_others_serve(missing, define):
    done = subprocess.run(
        [sys.executable, "-c", CHOSEN, *missing], capture_output=True, cwd=ROOT, check=False, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sums, empty, chosen, saved = done.stdout.splitlines()
    data = bytes(range(256)) * 3 + b"123456789"
    assert sums.split() == [hex(iso(data)), hex(we(data))]
    assert empty == "0 0"
    assert chosen.split() == [
        str(len(missing) == 2),
        str("anycrc" in missing),
        str(len(missing) == 2),
    ]
    world = World(seed=1)
    world.spawn_batch(define("Chosen", {"x": np.float64})(x=np.arange(100.0)))
    assert saved == hex(crc64(world.to_bytes()))
