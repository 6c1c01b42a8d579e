"""Entities grouped by their components, with the places that these have in the document."""

import pytest

from pecs_np import Limits
from pecs_np.persistence.json.document_types import DocumentTypes
from pecs_np.persistence.json.entities import grouped
from pecs_np.persistence.json.writer import id_of


def component(name, data):
    return {"type_id": id_of(name), "type_name": name, "data": data}


def groups(*entities):
    types = DocumentTypes([{"type_name": "A"}, {"type_name": "B"}], "s.json", Limits())
    found = grouped(list(entities), types, lambda i, suffix="": f"{i}{suffix}")
    return [(g.names, list(g.rows), [g.data(i) for i in range(len(g.names))], g) for g in found]


def test_entities_of_one_kind_are_one_group():
    one = {"components": [component("A", {"x": 1}), component("B", {})]}
    two = {"components": [component("A", {"x": 2}), component("B", {})]}
    ((names, rows, data, group),) = groups(one, two)
    assert (names, rows, data) == (("A", "B"), [0, 1], [[{"x": 1}, {"x": 2}], [{}, {}]])
    assert group.path(1, 0) == "[1]"


def test_others_are_sorted_into_groups():
    found = groups(
        {"components": []},
        {"components": [component("B", {"b": 1}), component("A", {"a": 1})]},
        {"components": [component("A", {"a": 2}), component("B", {"b": 2})]},
        {"components": {"B": {"b": 3}}},
        {"components": []},
    )
    assert [(names, rows, data) for names, rows, data, _ in found] == [
        ((), [0, 4], []),
        (("A", "B"), [1, 2], [[{"a": 1}, {"a": 2}], [{"b": 1}, {"b": 2}]]),
        (("B",), [3], [[{"b": 3}]]),
    ]
    assert [found[1][3].path(0, row) for row in (0, 1)] == ["[1]", "[0]"]
    assert found[2][3].path(0, 0) == '["B"]'


@pytest.mark.parametrize("entities", [[], [{"components": []}]])
def test_few(entities):
    assert len(groups(*entities)) == len(entities)
