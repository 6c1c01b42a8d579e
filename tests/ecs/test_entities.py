"""Entity ids and stable ids as values; who is alive; and the index of stable ids."""

from __future__ import annotations

import copy
import pickle
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pecs_np import DuplicateEntityError, EntityId, EntityRef, PecsError, StableId, WorldError
from pecs_np.ecs.entities import Entities, StableIdSource, as_stable_ids
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_int, as_record

LAST = (1 << 32) - 1
UUID_TEXT = "01234567-89ab-cdef-0123-456789abcdef"
VALUE = 0x0123456789ABCDEF0123456789ABCDEF


def entity_ids(values):
    return np.array(values, ENTITY_ID)


def stable(values):
    return np.array([as_record(v) for v in values], STABLE_ID)


# Ids as values


def test_an_entity_id_is_an_int_of_generation_and_slot():
    entity = EntityId(3 << 32 | 7)
    assert (entity.index, entity.generation) == (7, 3)
    assert entity == 3 << 32 | 7
    assert isinstance(entity, EntityRef)
    assert repr(entity) == "EntityId(7v3)"
    assert not EntityId(0)


@pytest.mark.parametrize(
    "made",
    [
        lambda: StableId(VALUE),
        lambda: StableId.from_uuid(UUID(UUID_TEXT)),
        lambda: StableId.from_hex(UUID_TEXT),
        lambda: StableId.from_hex(UUID_TEXT.replace("-", "").upper()),
        lambda: StableId(StableId(VALUE)),
    ],
)
def test_a_stable_id_comes_from_an_int_a_uuid_or_hex(made):
    value = made()
    assert value == VALUE
    assert type(value) is StableId
    assert repr(value) == "StableId('0123456789abcdef0123456789abcdef')"


def test_a_stable_id_goes_back_to_uuid_hex_and_int():
    value = StableId(5)
    assert value.uuid == UUID(int=5)
    assert value.hex == "0" * 31 + "5"
    assert int(value) == 5
    assert StableId(np.uint64(2**64 - 1)) == 2**64 - 1


@given(st.integers(0, 2**128 - 1))
def test_stable_ids_survive_every_form(value):
    made = StableId(value)
    assert StableId.from_hex(made.hex) == StableId.from_uuid(made.uuid) == value
    assert as_int(stable([made])[0]) == value


@pytest.mark.parametrize("value", [-1, 2**128, 1.0, "5", None, UUID(UUID_TEXT)])
def test_what_is_no_128_bit_integer_is_no_stable_id(value):
    with pytest.raises(WorldError, match="expected a stable id of 128 bits"):
        StableId(value)


@pytest.mark.parametrize(
    "text", ["", "12", "g" * 32, "0x" + "1" * 30, "1_" * 16, " " * 32, "\u0661" * 32, "1" * 33]
)
def test_only_32_hex_digits_are_hex(text):
    with pytest.raises(WorldError, match="expected 32 hex digits"):
        StableId.from_hex(text)


@pytest.mark.parametrize("value", [EntityId(3 << 32 | 7), StableId(VALUE)])
def test_ids_survive_pickling_and_copying(value):
    for other in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):
        assert other == value
        assert type(other) is type(value)


@pytest.mark.parametrize(
    "values",
    [[1, 2**100], np.array([1, 2**100], object), (StableId(1), StableId(2**100)), stable([1, 2**100])],
)
def test_stable_ids_in_bulk_from_integers_or_records(values):
    ids = as_stable_ids(values)
    assert ids.dtype == STABLE_ID
    assert [as_int(i) for i in ids] == [1, 2**100]


@pytest.mark.parametrize(
    "values", [[-1], [2**128], [None], [1.5], "ab", np.array([1.0]), np.array([[1, 2]]), 5, None]
)
def test_what_cannot_be_stable_ids_in_bulk_is_an_error(values):
    with pytest.raises(PecsError, match="expected"):
        as_stable_ids(values)


# The allocator


def test_new_ids_count_up_from_one():
    books = Entities()
    assert books.allocate(3).runs == [(1, 3)]
    assert books.allocate_one() == 4
    assert books.allocate(0).size == 0
    assert [books.is_alive(e) for e in (0, 1, 4, 5)] == [False, True, True, False]


def test_released_slots_come_back_under_the_next_generation():
    books = Entities()
    books.allocate(3)
    books.release(entity_ids([2]))
    assert not books.is_alive(2)
    again = books.allocate_one()
    assert (EntityId(again).index, EntityId(again).generation) == (2, 1)
    assert books.is_alive(again)
    assert not books.is_alive(2)
    assert not books.is_alive(2 << 32 | 2)


def test_a_batch_takes_recycled_slots_first_and_then_new_ones():
    books = Entities()
    books.allocate(3)
    books.release(entity_ids([1, 3]))
    assert set(books.allocate(4).array().tolist()) == {1 << 32 | 1, 1 << 32 | 3, 4, 5}


@pytest.mark.parametrize("capacity", [0, 2, 100])
@settings(max_examples=40)
@given(data=st.data())
def test_an_id_is_alive_from_allocation_to_release_and_never_again(capacity, data):
    books, alive, dead = Entities(capacity), set(), set()
    for _ in range(data.draw(st.integers(1, 10))):
        if alive and data.draw(st.booleans()):
            gone = data.draw(st.sets(st.sampled_from(sorted(alive)), min_size=1))
            books.release(entity_ids(sorted(gone)))
            alive -= gone
            dead |= gone
        else:
            count = data.draw(st.integers(0, 5))
            ids = books.allocate(count).array().tolist() if count != 1 else [books.allocate_one()]
            assert len(set(ids)) == count
            assert not set(ids) & (alive | dead)
            alive |= set(ids)
        asked = sorted(alive | dead | {0, 77, 5 << 32 | 1, 2**64 - 1})
        assert [books.is_alive(e) for e in asked] == [e in alive for e in asked]
        assert books.alive(entity_ids(asked)).tolist() == [e in alive for e in asked]
        assert len({e & LAST for e in alive}) == len(alive)


def test_alive_keeps_the_shape_it_is_asked_in():
    books = Entities()
    books.allocate(2)
    assert books.alive(entity_ids([[1, 2], [3, 0]])).tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("bulk", [False, True])
def test_a_slot_whose_generations_are_used_up_is_retired(bulk):
    books = Entities(4)
    books.allocate(2)
    books.generations[1] = LAST
    last = LAST << 32 | 1
    assert books.is_alive(last)
    books.release(entity_ids([last, 2]))
    ids = books.allocate(2).array().tolist() if bulk else [books.allocate_one(), books.allocate_one()]
    assert ids == [1 << 32 | 2, 3]
    assert not books.is_alive(1)
    assert not books.is_alive(last)
    assert books.alive(entity_ids([1, last])).tolist() == [False, False]


def test_more_slots_than_32_bits_are_refused():
    books = Entities()
    with pytest.raises(WorldError, match="at most 4294967295 entities"):
        books.allocate(1 << 32)
    assert books.allocate_one() == 1


@settings(max_examples=40)
@given(st.dictionaries(st.integers(1, 40), st.sampled_from([0, 1, 7, LAST]), min_size=1), st.integers(0, 3))
def test_holding_makes_exactly_the_given_ids_alive(generations, cut):
    ids = [g << 32 | slot for slot, g in generations.items()]
    books = Entities.holding([IdColumn(ENTITY_ID, array=entity_ids(part)) for part in (ids[:cut], ids[cut:])])
    assert books.alive(entity_ids(range(50))).tolist() == [e in ids for e in range(50)]
    assert all(books.is_alive(e) for e in ids)
    new = books.allocate(45).array()
    assert len(np.unique(new & np.uint64(LAST))) == 45
    assert not {e & LAST for e in new.tolist()} & set(generations)


def test_holding_runs_from_one_on_is_the_quick_way_to_the_same():
    books = Entities.holding([IdColumn(ENTITY_ID, [(1, 3)]), IdColumn(ENTITY_ID, [(4, 2)])])
    assert books.alive(entity_ids(range(8))).tolist() == [False] + [True] * 5 + [False] * 2
    assert books.allocate_one() == 6


@pytest.mark.parametrize("ids", [[3, 3], [3, 1 << 32 | 3], [0, 1], [0], [5 << 32]])
def test_holding_refuses_a_slot_twice_and_slot_zero(ids):
    with pytest.raises(DuplicateEntityError, match="distinct slots above 0"):
        Entities.holding([IdColumn(ENTITY_ID, array=entity_ids(ids))])


@pytest.mark.parametrize("columns", [[], [IdColumn(ENTITY_ID)], [IdColumn(ENTITY_ID, array=entity_ids([]))]])
def test_holding_nothing_starts_from_one(columns):
    assert Entities.holding(columns).allocate(2).array().tolist() == [1, 2]


# Sources of stable ids


def test_a_seed_makes_stable_ids_reproducible():
    first = [StableIdSource(7).take(3) for _ in range(2)]
    assert first[0] == first[1] != StableIdSource(8).take(3)


def test_a_source_counts_within_one_random_high_half():
    source = StableIdSource()
    first = source.take(10)
    assert source.take(1) == first + 10
    assert first >> 64 > 0
    assert StableIdSource().take(1) >> 64 != first >> 64


@pytest.mark.parametrize("as_array", [False, True])
def test_a_source_avoids_ids_that_came_from_elsewhere(as_array):
    source = StableIdSource(7)
    first = source.take(1)
    taken = range(first + 5, first + 9)
    source.avoid(
        IdColumn(STABLE_ID, array=stable(taken)) if as_array else IdColumn(STABLE_ID, [(first + 5, 4)])
    )
    assert source.take(1) == first + 9
    source.avoid(IdColumn(STABLE_ID, array=stable([5])))
    assert source.take(1) == first + 10


def test_a_source_makes_new_ids_even_when_the_last_of_its_high_half_is_taken():
    source = StableIdSource(1)
    high = source.take(1) >> 64
    taken = IdColumn(STABLE_ID, [(high << 64, 4), ((high << 64) + 2**64 - 4, 4)])
    source.avoid(taken)
    new = source.take(3)
    assert not {new, new + 1, new + 2} & {as_int(i) for i in taken.array()}
    assert 0 < new < 2**128


def test_books_that_grow_are_long_enough_at_every_moment():
    """Another thread may look between any two assignments: the length that it sees is that of all of them."""
    seen = []

    class Watched(Entities):
        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if seen:
                books = self.rows, self.tables, self.row_of, self.table_of, self.generation_of
                seen.append(min(map(len, books)) - len(self.generations))

    books = Watched()
    seen.append(0)
    for count in (1, 20, 300):
        ids = books.allocate(count)
        assert books.alive(ids.array()).all()
    assert len(seen) > 15
    assert min(seen) == 0
