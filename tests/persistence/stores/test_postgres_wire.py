"""PostgreSQL's binary form, exact bytes."""

import numpy as np

from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.stores.postgres_wire import (
    BYTEA,
    UUID,
    array_of,
    big_endian,
    copied_rows,
    dumper_of,
    low_halves,
    numbers_of,
    parameters_of,
    places_of,
    put,
)
from pecs_np.persistence.stores.records import Records, key_of, layout_of


def ids_of(*numbers):
    return np.array([(n & (1 << 64) - 1, n >> 64) for n in numbers], STABLE_ID)


def test_arrays_stand_behind_their_head_each_value_behind_its_size():
    head = bytes.fromhex("00000001 00000000 00000b86 00000001 00000001")
    assert array_of(UUID, [key_of(5)]) == head + bytes.fromhex("00000010") + key_of(5)
    head = bytes.fromhex("00000001 00000000 00000011 00000002 00000001")
    assert array_of(BYTEA, [b"", b"abc"]) == head + bytes.fromhex("00000000 00000003") + b"abc"


def test_numbers_are_read_from_arrays():
    head = bytes.fromhex("00000001 00000000 00000017 00000002 00000001")
    sent = head + bytes.fromhex("00000004 00000102 00000004 ffffffff")
    assert numbers_of(sent, ">i4").tolist() == [258, -1]


def test_parameters_are_sent_as_they_are():
    kind = parameters_of(2951)
    assert kind is parameters_of(2951)
    dumper = dumper_of(2951)(kind, None)
    assert dumper.oid == 2951
    assert dumper.dump(kind(b"x")) == b"x"


def test_keys_are_big_endian():
    assert big_endian(ids_of(1, 1 << 64)).tolist() == [key_of(1), key_of(1 << 64)]
    assert low_halves(key_of(7) + key_of((9 << 64) + 8)).tolist() == [7, 8]


def test_rows_of_one_size_and_of_several_are_copied_alike(define):
    layout = layout_of(())
    values = [b"%07d-" % i for i in range(5)]
    data = np.frombuffer(b"".join(values), "u1")
    wanted = b"".join(
        bytes.fromhex("0002 00000010") + key_of(i) + (8).to_bytes(4, "big") + values[i] for i in (1, 2, 3)
    )
    ids = ids_of(*range(5))
    for ends in (None, np.arange(8, 48, 8)):
        assert copied_rows(Records(layout, ids, data, ends), 1, 4).tobytes() == wanted
    longer = [b"a", b"", b"ccc"]
    ends = np.cumsum([len(value) for value in longer])
    made = copied_rows(Records(layout, ids[:3], np.frombuffer(b"accc", "u1"), ends), 1, 3).tobytes()
    assert made == b"".join(
        bytes.fromhex("0002 00000010") + key_of(i) + len(longer[i]).to_bytes(4, "big") + longer[i]
        for i in (1, 2)
    )


def test_close_keys_are_a_range():
    high = 77 << 64
    assert places_of([key_of(high + n) for n in (5, 3, 6)]).tolist() == [1, -1, 0, 2]
    assert places_of([key_of((1 << 128) - 1)]).tolist() == [0]
    assert places_of([key_of(high + n) for n in (1, 1000)]) is None
    assert places_of([key_of(5), key_of(high + 6)]) is None


def test_records_are_put_where_they_belong():
    found = [None] * 4
    put(found, np.array([2, 0]), np.array([3, 1]), b"abcd")
    assert found == [b"d", None, b"abc", None]
    put(found, np.array([1, 2, 3]), np.array([2, 2, 2]), b"112233")
    assert found == [b"d", b"11", b"22", b"33"]
    put(found, np.array([-1, 3]), np.array([1, 1]), b"xy")
    assert found == [b"d", b"11", b"22", b"y"]
