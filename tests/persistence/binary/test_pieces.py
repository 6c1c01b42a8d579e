"""What records of one shape have in common."""

from __future__ import annotations

import numpy as np

from pecs_np.persistence.binary.header import type_id
from pecs_np.persistence.binary.pieces import Run, Scatter, first_other, gathered, shape_of

A, B = type_id("PieceA"), type_id("PieceB")


def test_a_shape_knows_every_byte_that_its_records_share():
    shape = shape_of(((3, A, 8), (1, B, 0)))
    assert shape.types == (1, 3)
    assert shape.data == ((68, 0), (40, 8))
    assert shape.dtype.itemsize == 16 + 4 + 20 + 8 + 20
    same = b"".join(value for _, value in shape.same)
    assert same == b"\2\0\0\0" + A + b"\x08\0\0\0" + B + b"\0\0\0\0"
    assert shape.dtype.names[-1] == "data1"


def test_the_first_of_another_shape_is_found_at_any_byte():
    shape = shape_of(((0, A, 4),))
    whole = np.zeros(50, shape.dtype)
    for name, value in shape.same:
        whole[name] = np.void(value)
    data = whole.view("u1").reshape(50, -1)
    for byte in range(16, 40):
        data[33, byte] ^= 1
        assert first_other(whole, shape) == 33
        data[33, byte] ^= 1


def test_runs_and_scattered_records_give_the_same_columns():
    shape = shape_of(((0, A, 4),))
    body = np.random.default_rng(1).integers(0, 256, 7 + 44 * 30, np.uint8)
    run = Run(7, 30, shape)
    starts = 7 + 44 * np.arange(30)
    scatter = Scatter(starts, (0,), starts[np.newaxis] + 40, np.full((1, 30), 4))
    found = []
    for piece in (run, scatter):
        ids, data = np.empty(30, "V16"), np.empty(30, "V4")
        piece.copy_to(body, [(None, 16, ids), (0, 4, data)])
        found.append((ids.tobytes(), data.tobytes(), piece.places(0).tolist(), piece.sizes(0).tolist()))
        assert piece.one_size(0) == 4
    assert found[0] == found[1]
    assert found[0][1] == b"".join(bytes(body[s + 40 : s + 44]) for s in starts)


def test_values_are_gathered_from_any_place():
    body = np.arange(100, dtype=np.uint8)
    assert gathered(body, np.array([0, 7, 96]), "<u4").tolist() == [
        int.from_bytes(bytes(range(i, i + 4)), "little") for i in (0, 7, 96)
    ]
    assert gathered(body, np.array([84]), "V16").tobytes() == bytes(range(84, 100))
