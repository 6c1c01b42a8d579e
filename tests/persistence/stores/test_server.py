"""What stores on servers share: records in parts, packages that are missing, and errors with their numbers."""

import errno

import numpy as np
import pytest

from pecs_np import PluginNotFoundError
from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.stores import server
from pecs_np.persistence.stores.records import Records, layout_of
from pecs_np.persistence.stores.server import imported, parts


def records_of(sizes):
    data = np.zeros(sum(sizes), "u1")
    ids = np.zeros(len(sizes), STABLE_ID)
    return Records(layout_of(()), ids, data, np.cumsum(sizes))


def test_records_go_in_parts_of_bounded_size(monkeypatch):
    monkeypatch.setattr(server, "_PART", 100)
    assert parts(records_of([40, 40, 40, 300, 10, 90, 1])) == [(0, 2), (2, 3), (3, 4), (4, 6), (6, 7)]
    assert parts(records_of([])) == []
    same = Records(layout_of(()), np.zeros(30, STABLE_ID), np.zeros(240, "u1"), None)
    assert parts(same) == [(0, 12), (12, 24), (24, 30)]


def test_a_missing_package_is_told_with_its_extra():
    with pytest.raises(PluginNotFoundError) as told:
        imported("pecs_np_not_there", "redis")
    assert told.value.suggestion == "pip install pecs_np[redis]"
    assert imported("json", "x").__name__ == "json"


def test_the_number_of_the_system_s_error_is_found():
    away = RuntimeError("away")
    away.__cause__ = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert server._errno(away) == errno.ECONNREFUSED
    assert server._errno(RuntimeError("away")) == errno.ECONNRESET
    assert server._first_line(RuntimeError("one\ntwo")) == "one"
    assert server._first_line(RuntimeError()) == "RuntimeError"
