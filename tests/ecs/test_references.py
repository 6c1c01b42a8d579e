"""References at any depth of a column, mapped against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, as_record
from pecs_np.ecs.references import EntityMap, concatenated, convert, remap, split

REF, F4 = Field("r", ref=True), Field("x", np.dtype("<f4"))
PAIR = (F4, REF)
FIELDS = (
    F4,
    Field("one", ref=True),
    Field("two", ref=True, shape=(2,)),
    Field("in", fields=PAIR),
    Field("grid", fields=(Field("deep", fields=PAIR), Field("n", np.dtype("u1"))), shape=(2, 2)),
    Field("crew", ref=True, variable="list"),
    Field("pairs", fields=PAIR, variable="list"),
    Field("title", variable="str"),
)


def ids(values, dtype=ENTITY_ID):
    return np.array([as_record(v) for v in values] if dtype == STABLE_ID else values, dtype)


def add_1000(references):
    """A mapping that is easy to see: everything but null moves up by 1000."""
    return np.where(references == 0, 0, references + np.uint64(1000)).astype(ENTITY_ID)


ENTITIES = st.integers(1, 30).flatmap(lambda slot: st.sampled_from([slot, 1 << 32 | slot, 7 << 32 | slot]))


@settings(max_examples=60)
@given(
    st.lists(ENTITIES, unique_by=lambda e: e & 0xFFFFFFFF),
    st.integers(0, 4),
    st.lists(ENTITIES),
    st.booleans(),
)
def test_an_entity_map_answers_as_a_dict(known, cut, others, to_stable):
    dtype = STABLE_ID if to_stable else ENTITY_ID
    values = [(e << 64 | 5) if to_stable else e + 500 for e in known]
    parts = [slice(None, cut), slice(cut, None)]
    pairs = [
        (IdColumn(ENTITY_ID, array=ids(known[p])), IdColumn(dtype, array=ids(values[p], dtype)))
        for p in parts
    ]
    model = dict(zip(known, values, strict=True))
    asked = known + others + [0, 2**64 - 1, 31]
    assert np.array_equal(EntityMap(pairs)(ids(asked)), ids([model.get(e, 0) for e in asked], dtype))


def test_an_entity_map_of_runs_keeps_the_shape_of_what_it_is_asked():
    mapped = EntityMap([(IdColumn(ENTITY_ID, [(1, 3)]), IdColumn(ENTITY_ID, [(11, 3)]))])
    assert mapped(ids([[1, 3], [0, 9]])).tolist() == [[11, 13], [0, 0]]
    assert mapped(ids([])).shape == (0,)


def test_a_single_reference_is_mapped_too():
    mapped = EntityMap([(IdColumn(ENTITY_ID, [(1, 3)]), IdColumn(ENTITY_ID, [(11, 3)]))])
    assert mapped(np.array(2, ENTITY_ID)) == 12


@pytest.mark.parametrize("pairs", [[], [(IdColumn(ENTITY_ID), IdColumn(ENTITY_ID))]])
def test_an_empty_map_sends_everything_to_null(pairs):
    assert EntityMap(pairs)(ids([0, 1, 2**64 - 1])).tolist() == [0, 0, 0]


def full_column():
    """Return two rows whose references are 1, 2, 3, ... in the order of the fields."""
    column = np.zeros(2, Layout(FIELDS).memory)
    column["one"] = [1, 0]
    column["two"] = [[2, 3], [0, 4]]
    column["in"]["r"] = [5, 6]
    column["grid"]["deep"]["r"] = np.arange(7, 15).reshape(2, 2, 2)
    column["in"]["x"] = 0.5
    pair = [("x", "<f4"), ("r", "<u8")]
    column["crew"] = [ids([15, 0, 16]), ids([])]
    column["pairs"] = split(np.array([(0.5, 17), (0.5, 18)], pair), np.array([0, 2]))
    column["title"] = ["a", "b"]
    return column


def test_remap_reaches_references_at_every_depth_and_leaves_the_rest():
    column = full_column()
    kept = column["crew"][0]
    remap(column, FIELDS, add_1000)
    assert column["one"].tolist() == [1001, 0]
    assert column["two"].tolist() == [[1002, 1003], [0, 1004]]
    assert column["in"].tolist() == [(0.5, 1005), (0.5, 1006)]
    assert column["grid"]["deep"]["r"].ravel().tolist() == list(range(1007, 1015))
    assert [crew.tolist() for crew in column["crew"]] == [[1015, 0, 1016], []]
    assert [pairs.tolist() for pairs in column["pairs"]] == [[], [(0.5, 1017), (0.5, 1018)]]
    assert column["title"].tolist() == ["a", "b"]
    assert kept.tolist() == [15, 0, 16]


def test_remap_of_no_rows_is_nothing():
    column = full_column()[:0]
    remap(column, FIELDS, add_1000)
    assert column.shape == (0,)


def test_remapped_lists_stay_apart_from_one_another():
    column = full_column()
    remap(column, FIELDS, add_1000)
    column["crew"][0][0] = 99
    assert column["crew"][1].tolist() == []
    assert column["crew"][0].dtype == ENTITY_ID


def test_convert_copies_values_and_sends_references_through_the_map():
    fixed = tuple(f for f in FIELDS if f.variable is None)
    source, target = full_column(), np.zeros(2, Layout(fixed).disk)
    to_stable = EntityMap([(IdColumn(ENTITY_ID, [(1, 14)]), IdColumn(STABLE_ID, [(9 << 64 | 101, 14)]))])
    convert(source, target, fixed, to_stable)
    assert target["one"].tolist() == [(101, 9), (0, 0)]
    assert target["two"]["lo"].tolist() == [[102, 103], [0, 104]]
    assert target["in"]["r"]["lo"].tolist() == [105, 106]
    assert target["in"]["x"].tolist() == [0.5, 0.5]
    assert target["grid"]["deep"]["r"]["lo"].ravel().tolist() == list(range(107, 115))


@given(st.lists(st.lists(st.integers(0, 99), max_size=4), max_size=6))
def test_split_undoes_concatenated(lists):
    flat, ends = concatenated([ids(values) for values in lists], ENTITY_ID)
    assert flat.tolist() == [v for values in lists for v in values]
    assert flat.dtype == ENTITY_ID
    assert [piece.tolist() for piece in split(flat, ends)] == lists
