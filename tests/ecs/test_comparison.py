"""Columns compared, and rows grouped by what they are members of."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np.ecs.comparison import grouped_by_set


@pytest.mark.parametrize("names", [0, 1, 3, 8, 9, 20])
@pytest.mark.parametrize("rest", [False, True])
def test_rows_are_grouped_by_the_names_that_they_are_members_of(names, rest):
    rng = np.random.default_rng(names)
    members = {f"n{i}": np.flatnonzero(rng.random(200) < 0.1) for i in range(names)}
    of_row = [frozenset(n for n, rows in members.items() if row in rows) for row in range(200)]
    found = [(frozenset(own), rows.tolist()) for own, rows in grouped_by_set(members, 200, rest=rest)]
    assert len({own for own, _ in found}) == len(found)
    told = {row: own for own, rows in found for row in rows}
    assert told == {row: own for row, own in enumerate(of_row) if own or rest}
