"""Rows moved as bytes equal rows moved by NumPy, field by field."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pecs_np.ecs.arrays import (
    as_bytes,
    as_cells,
    copy_rows,
    put_rows,
    read_only,
    resized,
    strictly_increasing,
)

PACKED = np.dtype([("x", "<f4"), ("n", "<i8"), ("b", "?"), ("v", "<u2", (3,))])
OBJECTS = np.dtype([("x", "<f4"), ("s", "O")])
TAG = np.dtype([])
STEPS = st.sampled_from([slice(None), slice(None, None, 2), slice(None, None, -1)])


def rows(count, dtype=PACKED, start=0):
    """Return *count* rows whose values tell where they came from."""
    array = np.zeros(count, dtype)
    for name in dtype.names or ():
        shape = array[name].shape
        values = np.arange(start, start + count).reshape(-1, *[1] * (len(shape) - 1))
        array[name] = values.astype(str) if dtype[name].hasobject else values
    return array


@pytest.mark.parametrize("dtype", [PACKED, OBJECTS])
@given(count=st.integers(0, 9), to=STEPS, of=STEPS)
def test_copy_rows_equals_assignment_whatever_the_strides(dtype, count, to, of):
    space = max(2 * count - 1, 0)
    source = rows(space, dtype, 50)[of][:count]
    expected = rows(space, dtype)
    target = expected.copy()
    expected[to][:count][: len(source)] = source
    copy_rows(target[to][:count][: len(source)], source)
    assert np.array_equal(target, expected)


@pytest.mark.parametrize("dtype", [PACKED, OBJECTS])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_copy_rows_spreads_one_row_over_all(dtype, shape):
    target = rows(4, dtype)
    value = rows(1, dtype, 7).reshape(shape)
    copy_rows(target, value)
    assert np.array_equal(target, rows(1, dtype, 7).repeat(4))


@pytest.mark.parametrize("dtype", [PACKED, OBJECTS])
@given(data=st.data())
def test_put_rows_equals_fancy_assignment(dtype, data):
    size = data.draw(st.integers(1, 12))
    where = np.array(data.draw(st.lists(st.integers(0, size - 1), unique=True)), np.intp)
    source = rows(len(where), dtype, 50)
    target, expected = rows(size, dtype), rows(size, dtype)
    expected[where] = source
    put_rows(target, where, source)
    assert np.array_equal(target, expected)


@pytest.mark.parametrize("dtype", [PACKED, OBJECTS])
def test_put_rows_spreads_one_value(dtype):
    target = rows(5, dtype)
    put_rows(target, np.array([3, 1]), rows(1, dtype, 9).reshape(()))
    assert target["x"].tolist() == [0, 9, 2, 9, 4]


def test_rows_without_fields_are_left_alone():
    target = np.zeros(3, TAG)
    copy_rows(target, np.zeros(3, TAG))
    put_rows(target, np.array([0]), np.zeros((), TAG))
    assert len(resized(target, 3, 8)) == 8
    assert len(as_bytes(target)) == 0


@pytest.mark.parametrize("dtype", [PACKED, OBJECTS])
def test_resized_keeps_the_first_rows_and_shares_nothing(dtype):
    old = rows(5, dtype)
    new = resized(old, 3, 7)
    assert len(new) == 7
    assert np.array_equal(new[:3], old[:3])
    old["x"] = -1
    assert new["x"][:3].tolist() == [0, 1, 2]


def test_resized_reads_strided_rows():
    old = rows(10)[::3]
    assert np.array_equal(resized(old, 4, 4), old)


def test_as_bytes_shares_memory_with_its_array():
    array = rows(3)
    data = as_bytes(array)
    assert data.shape == (array.nbytes,)
    assert data.tobytes() == array.tobytes()
    data[:] = 0
    assert array["n"].tolist() == [0, 0, 0]


def test_as_bytes_of_no_rows_is_empty():
    assert as_bytes(rows(0)).shape == (0,)


def test_a_read_only_view_refuses_writes_but_shows_them():
    array = np.arange(3)
    view = read_only(array)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5
    array[0] = 7
    assert view[0] == 7
    assert array.flags.writeable


@given(st.lists(st.integers(0, 2**64 - 1), max_size=6))
def test_strictly_increasing_is_what_it_says(values):
    expected = all(a < b for a, b in pairwise(values))
    assert strictly_increasing(np.array(values, np.uint64)) is expected


@pytest.mark.parametrize(
    "dtype", ["u1", "<f4", "V3", [("a", "<u8")], [("x", "<f4"), ("y", "<f4")], [("a", "u1"), ("b", "<f8")]]
)
@pytest.mark.parametrize("where", ["own", "every other", "off a word"])
def test_cells_copy_one_row_of_any_size_and_place(dtype, where):
    dtype = np.dtype(dtype)
    memory = np.arange(16 * dtype.itemsize + 1, dtype=np.uint8)
    rows = np.ndarray(16, dtype, memory, offset=where == "off a word")[:: 2 if where == "every other" else 1]
    before = [row.tobytes() for row in rows]
    cells = as_cells(rows)
    cells[2] = cells[5]
    assert [row.tobytes() for row in rows] == [*before[:2], before[5], *before[3:]]
