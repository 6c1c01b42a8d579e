"""The index of stable ids: as a dict, over levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, as_record
from pecs_np.ecs.stable_index import StableIndex

SIDS = st.sampled_from([1, 2, 3, 4, 5, 6, 2**64, 2**64 + 1, 7 << 64, 2**128 - 1])


def entity_ids(values):
    return np.array(values, ENTITY_ID)


def stable(values):
    return np.array([as_record(v) for v in values], STABLE_ID)


def all_alive(entities):
    return np.ones(len(entities), bool)


@settings(max_examples=80)
@given(
    st.lists(st.one_of(SIDS, st.lists(SIDS, unique=True, max_size=6)), max_size=12),
    st.sampled_from([0, 2, 1024]),
    st.sets(st.integers(0, 11)),
)
@example([1, [1]], 1024, set())
@example([1, [1, 2], 2], 1024, set())
def test_the_index_answers_as_a_dict_does(steps, most_recent, despawned):
    model, living = {}, set()
    kind = type("SmallIndex", (StableIndex,), {"__slots__": (), "_MOST_RECENT": most_recent})
    index = kind(lambda entities: np.isin(entities, sorted(living)))
    for number, step in enumerate(steps):
        sids = [step] if isinstance(step, int) else step
        entities = [100 * number + i for i in range(1, len(sids) + 1)]
        living |= set(entities)
        living -= {model.pop(sid, 0) for sid in sids}
        if isinstance(step, int):
            index.add_one(step, entities[0])
        else:
            index.add(stable(step), entity_ids(entities))
        model.update(zip(sids, entities, strict=True))
        if number in despawned and model:
            living.discard(model.pop(min(model)))
    asked = [1, 2, 3, 4, 5, 6, 2**64, 2**64 + 1, 7 << 64, 2**128 - 1, 99, 2**127]
    expected = [model.get(sid, 0) for sid in asked]
    for found in (
        index.find(stable(asked)).tolist(),
        [index.find_one(sid) for sid in asked],
        [int(index.find(stable([sid]))[0]) for sid in asked],
    ):
        assert [entity if entity in living else 0 for entity in found] == expected


def test_the_index_keeps_few_levels_whose_sizes_halve():
    index = StableIndex(all_alive)
    for i in range(64):
        index.add(stable([3 * i + 1, 3 * i + 2]), entity_ids([i + 1, i + 100]))
    sizes = [len(entities) for _, _, entities in index._levels]
    assert sum(sizes) == 128
    assert all(larger >= 2 * smaller for larger, smaller in pairwise(sizes))
    assert index.find_one(3 * 63 + 2) == 163


def test_the_index_moves_single_entries_into_a_level_when_they_are_many():
    index = StableIndex(all_alive)
    for i in range(1, 3001):
        index.add_one(i << 70, i)
    assert len(index._recent) <= StableIndex._MOST_RECENT
    assert index._levels
    assert [index.find_one(i << 70) for i in (1, 1500, 3000, 3001)] == [1, 1500, 3000, 0]


def test_the_index_drops_what_is_no_longer_alive_when_levels_merge():
    index = StableIndex(lambda entities: entities > 3)
    for first in (1, 3, 5, 7):
        index.add(stable([first, first + 1]), entity_ids([first, first + 1]))
    assert index.find(stable([4, 8])).tolist() == [4, 8]
    assert 8 > sum(len(entities) for _, _, entities in index._levels) >= 5
