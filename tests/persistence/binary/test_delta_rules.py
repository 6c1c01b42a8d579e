"""No entity of a delta has two fates."""

from __future__ import annotations

import numpy as np
import pytest

from pecs_np import ChangeSet, ChangeTable, PersistenceError
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.binary.delta_rules import check_ids


def ids(*values):
    return np.array([(value & (1 << 64) - 1, value >> 64) for value in values], STABLE_ID)


def table(*values):
    return ChangeTable((), ids(*values), {})


def of_type(*values):
    return ChangeTable((), ids(*values), {"A": np.zeros(len(values))})


HIGH = 1 << 64

GOOD = {
    "nothing": ChangeSet(),
    "one of each": ChangeSet((table(1),), (table(2),), {"A": ids(3)}, ids(4)),
    "made again": ChangeSet((table(1),), despawned=ids(1)),
    "changed, and without another": ChangeSet((), (of_type(1),), {"B": ids(1)}),
    "without both": ChangeSet(removed={"A": ids(1), "B": ids(1)}),
    "falling": ChangeSet(despawned=ids(9, 5, 1)),
    "of two high halves": ChangeSet(despawned=ids(1, HIGH + 1, 2, HIGH)),
}
BAD = {
    "0 among those created or modified": ChangeSet((table(1, 0),)),
    "0 among those despawned": ChangeSet(despawned=ids(0)),
    "0 among those without A": ChangeSet(removed={"A": ids(0, 1)}),
    "00000005 twice among those created or modified": ChangeSet((table(5),), (table(7, 5),)),
    "00000009 twice among those despawned": ChangeSet(despawned=ids(9, HIGH, 9)),
    "00000002 twice among those without A": ChangeSet(removed={"A": ids(2, 2)}),
    "both modified and despawned, found 0+3 ": ChangeSet((), (table(3),), despawned=ids(1, 3)),
    "both without A and despawned, found 0+3 ": ChangeSet(removed={"A": ids(4, 3)}, despawned=ids(3)),
    "both without A and created, found 0+3 ": ChangeSet((table(3),), removed={"A": ids(3)}),
    "both without A and with A, found 0+3 ": ChangeSet((), (of_type(3, 4),), {"A": ids(3)}),
}


@pytest.mark.parametrize("what", GOOD)
def test_what_fits_together_passes(what):
    check_ids(GOOD[what], "here", PersistenceError)


@pytest.mark.parametrize("message", BAD)
def test_what_does_not_is_refused_by_name(message):
    with pytest.raises(PersistenceError, match=f"{message}.*here"):
        check_ids(BAD[message], "the changes here", PersistenceError)
