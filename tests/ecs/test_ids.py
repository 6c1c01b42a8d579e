"""Columns of ids against plain lists of integers, and look-ups against dicts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pecs_np.ecs.id_lookup import ColumnLookup, IdLookup, find_duplicate
from pecs_np.ecs.ids import (
    ENTITY_ID,
    MOST_RUNS,
    RUN,
    STABLE_ID,
    IdColumn,
    as_int,
    as_record,
    encode_runs,
    expand_runs,
)

CARRY = 1 << 64
STABLE_FIRST = st.sampled_from([1, 3, 100, CARRY - 3, CARRY - 1, CARRY, 7 * CARRY - 2, 2**128 - 40])
ENTITY_FIRST = st.sampled_from([1, 2, 6, 90, 3 << 32 | 5, (1 << 64) - 40])


def ints(array):
    """Return ids of either dtype as Python integers."""
    return array.tolist() if array.dtype == ENTITY_ID else [as_int(record) for record in array]


def stable(values):
    return np.array([as_record(v) for v in values], STABLE_ID)


def ids_array(dtype, values):
    return stable(values) if dtype == STABLE_ID else np.array(values, ENTITY_ID)


def expanded(runs):
    return [first + i for first, count in runs for i in range(count)]


def removal(size, rows):
    """Return what ``swap_remove`` is given, and how a list loses the same rows."""
    left = size - len(rows)
    holes = [row for row in sorted(rows) if row < left]
    movers = [row for row in range(left, size) if row not in rows]
    return np.array(holes, np.intp), np.array(movers, np.intp), left


def run_of(dtype):
    return st.tuples(STABLE_FIRST if dtype == STABLE_ID else ENTITY_FIRST, st.integers(1, 9))


def runs_of(dtype):
    return st.lists(run_of(dtype), max_size=4)


@pytest.mark.parametrize("dtype", [ENTITY_ID, STABLE_ID], ids=["entity", "stable"])
@settings(max_examples=60)
@given(data=st.data())
def test_a_column_of_ids_behaves_as_a_list(dtype, data):
    start = data.draw(runs_of(dtype))
    column, model = IdColumn(dtype, start), expanded(start)
    if data.draw(st.booleans()):
        column = IdColumn(dtype, array=ids_array(dtype, model))
    others, others_model = IdColumn(dtype), []
    for _ in range(data.draw(st.integers(1, 8))):
        action = data.draw(st.sampled_from(["run", "next", "append", "extend", "remove", "hand", "read"]))
        if action in ("run", "next"):
            first, count = data.draw(run_of(dtype))
            if action == "next" and model and model[-1] + 10 < 2**64:
                first = model[-1] + 1
            column.append_run(first, count)
            model += expanded([(first, count)])
        elif action in ("append", "extend"):
            more = data.draw(runs_of(dtype))
            given_as_runs = action == "extend" and data.draw(st.booleans())
            array = ids_array(dtype, expanded(more))
            if action == "append":
                column.append(array)
            else:
                column.extend(IdColumn(dtype, more) if given_as_runs else IdColumn(dtype, array=array))
            model += expanded(more)
        elif action == "remove" and model:
            rows = data.draw(st.sets(st.integers(0, len(model) - 1)))
            holes, movers, size = removal(len(model), rows)
            column.swap_remove(holes, movers, size)
            for hole, mover in zip(holes, movers, strict=True):
                model[hole] = model[mover]
            del model[size:]
        elif action == "hand" and model:
            row = data.draw(st.integers(0, len(model) - 1))
            column.hand_one(row, others)
            others_model.append(model[row])
            model[row] = model[-1]
            del model[-1]
        elif action == "read":
            assert ints(column.array()) == model
        assert len(column) == column.size == len(model)
        if column.runs is not None:
            assert expanded(column.runs) == model
    assert ints(column.array()) == model
    assert ints(column.frozen(copy=True).array()) == model
    assert ints(others.array()) == others_model


@pytest.mark.parametrize("dtype", [ENTITY_ID, STABLE_ID], ids=["entity", "stable"])
def test_following_runs_join_into_one(dtype):
    column = IdColumn(dtype, [(5, 3)])
    column.append_run(8, 2)
    assert column.runs == [(5, 5)]


@pytest.mark.parametrize("dtype", [ENTITY_ID, STABLE_ID], ids=["entity", "stable"])
@pytest.mark.parametrize("read_first", [False, True])
def test_beyond_the_most_runs_a_column_becomes_an_array(dtype, read_first):
    column = IdColumn(dtype)
    for i in range(MOST_RUNS + 1):
        assert column.runs is not None
        column.append_run(10 * i + 1, 2)
        if read_first:
            column.array()
    assert column.runs is None
    assert ints(column.array()) == expanded([(10 * i + 1, 2) for i in range(MOST_RUNS + 1)])


@pytest.mark.parametrize("as_array", [False, True])
def test_a_frozen_column_keeps_its_ids_when_the_column_grows(as_array):
    column = (
        IdColumn(ENTITY_ID, array=np.array([4, 9, 2], ENTITY_ID))
        if as_array
        else IdColumn(ENTITY_ID, [(4, 3)])
    )
    before = ints(column.array())
    frozen = column.frozen()
    column.append_run(50, 4)
    column.append(np.array([1], ENTITY_ID))
    assert ints(frozen.array()) == before
    assert len(column) == 8


def test_a_frozen_copy_keeps_its_ids_when_rows_are_removed():
    column = IdColumn(ENTITY_ID, array=np.array([4, 9, 2], ENTITY_ID))
    shared, copied = column.frozen(), column.frozen(copy=True)
    column.swap_remove(*removal(3, {0}))
    assert ints(column.array()) == [2, 9]
    assert ints(copied.array()) == [4, 9, 2]
    assert np.shares_memory(shared.array(), column.array())


# Runs as bytes


@given(st.lists(st.tuples(STABLE_FIRST, st.integers(1, 30)), min_size=1, max_size=6))
@example([(CARRY - 1, 2)])
@example([(CARRY - 5, 10), (CARRY + 5, 3)])
def test_runs_expand_to_every_id_across_the_64_bit_boundary(runs):
    records = np.array([(as_record(first), count) for first, count in runs], RUN)
    assert ints(expand_runs(records)) == expanded(runs)


def test_no_runs_expand_to_no_ids():
    assert expand_runs(np.empty(0, RUN)).shape == (0,)
    assert expand_runs(np.array([((5, 0), 0), ((7, 0), 1)], RUN)).tolist() == [(7, 0)]


@settings(max_examples=60)
@given(st.lists(st.tuples(STABLE_FIRST, st.integers(1, 40)), min_size=1, max_size=6), st.booleans())
@example([(CARRY - 4, 24), (2, 8)], True)
def test_encoded_runs_expand_to_the_same_ids_and_are_used_only_where_they_pay(runs, as_array):
    values = expanded(runs)
    column = IdColumn(STABLE_ID, runs)
    if as_array:
        column = IdColumn(STABLE_ID, array=stable(values))
    breaks = sum(b != a + 1 for a, b in pairwise(values))
    needed = breaks + 1 if as_array else len(runs)
    data = encode_runs(column)
    if needed > max(1, len(values) // 8):
        assert data is None
    else:
        records = np.frombuffer(data, RUN)
        assert len(records) == needed
        assert ints(expand_runs(records)) == values


@pytest.mark.parametrize("column", [IdColumn(STABLE_ID), IdColumn(STABLE_ID, array=np.empty(0, STABLE_ID))])
def test_no_ids_are_encoded_as_no_runs(column):
    assert encode_runs(column) == b""


def test_a_low_half_that_wraps_without_a_carry_breaks_the_run():
    ids = stable([5 * CARRY + CARRY - 1, 5 * CARRY, 5 * CARRY + 1])
    assert encode_runs(IdColumn(STABLE_ID, array=ids)) is None


def test_a_carry_keeps_the_run_in_one_piece():
    column = IdColumn(STABLE_ID, array=stable(range(5 * CARRY - 8, 5 * CARRY + 8)))
    assert encode_runs(column) == (5 * CARRY - 8).to_bytes(16, "little") + (16).to_bytes(8, "little")


@pytest.mark.parametrize("value", [0, 1, CARRY - 1, CARRY, 2**128 - 1])
def test_stable_ids_as_records_and_back(value):
    record = np.array([as_record(value)], STABLE_ID)
    assert as_int(record[0]) == value
    assert record.tobytes() == value.to_bytes(16, "little")


# Look-ups

SPARSE = st.integers(0, 2**128 - 1)
DENSE = st.integers(0, 60).map(lambda n: 9 * CARRY + n)
TWO_WORLDS = st.integers(0, 30).flatmap(lambda n: st.sampled_from([n, 4 * CARRY + n, CARRY - n - 1]))


@settings(max_examples=60)
@given(st.sampled_from([SPARSE, DENSE, TWO_WORLDS]).flatmap(lambda s: st.tuples(st.lists(s), st.lists(s))))
def test_a_lookup_finds_the_first_position_as_a_dict_would(lists):
    known, others = lists
    model = {}
    for position, value in enumerate(known):
        model.setdefault(value, position)
    lookup = IdLookup(stable(known))
    asked = known + others
    assert lookup.find(stable(asked)).tolist() == [model.get(value, -1) for value in asked]
    assert len(lookup) == len(known)
    double = lookup.duplicate()
    assert (double is None) == (len(model) == len(known))
    assert double is None or known.count(double) > 1


def test_a_lookup_survives_keys_that_collide_and_ids_beyond_all():
    values = [(hi << 64) | lo for hi in range(40) for lo in (0, CARRY - 1)]
    lookup = IdLookup(stable(values))
    assert lookup.find(stable(values)).tolist() == list(range(80))
    assert lookup.find(stable([2**128 - 1, 41 * CARRY])).tolist() == [-1, -1]


@settings(max_examples=60)
@given(st.lists(st.tuples(runs_of(STABLE_ID), st.booleans()), max_size=4))
def test_find_duplicate_agrees_with_counting(parts):
    columns, values = [], []
    for runs, as_array in parts:
        values += expanded(runs)
        array = stable(expanded(runs)) if as_array else None
        columns.append(IdColumn(STABLE_ID, array=array) if as_array else IdColumn(STABLE_ID, runs))
    double = find_duplicate(columns)
    if len(set(values)) == len(values):
        assert double is None
    else:
        assert values.count(double) > 1


def test_find_duplicate_sees_an_overlap_across_the_carry():
    columns = [IdColumn(STABLE_ID, [(CARRY - 2, 4)]), IdColumn(STABLE_ID, [(CARRY + 1, 1)])]
    assert find_duplicate(columns) == CARRY + 1
    assert find_duplicate(columns[:1]) is None


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from([1, 50, 2**64 - 3, 2**40]), st.integers(1, 9)),
            min_size=1,
        ),
        min_size=1,
        max_size=3,
    ),
    st.booleans(),
)
def test_a_lookup_over_columns_answers_as_a_dict_of_all_their_ids(drawn, long):
    model, columns, at = {}, [], 0
    for runs in drawn:
        column = IdColumn(STABLE_ID)
        for high, low, count in runs:
            for each in range(count):
                if (sid := (high << 64) + low + each) not in model:
                    column.append_run(sid, 1)
                    model[sid] = at
                    at += 1
        if long:
            first = (9 + len(columns)) << 64
            column.append_run(first, 20_000)
            model |= {first + i: at + i for i in (0, 19_999)}
            at += 20_000
        columns.append(column)
    asked = [*model, 5 << 64, 2**128 - 1, 49, 59]
    found = ColumnLookup(columns).find(np.array([as_record(sid) for sid in asked], STABLE_ID))
    assert found.tolist() == [model.get(sid, -1) for sid in asked]
