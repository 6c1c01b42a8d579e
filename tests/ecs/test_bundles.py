"""Bundles: components given together, their common length, and values that belong to nobody else."""

import numpy as np
import pytest

from pecs_np import (
    ComponentDefinitionError,
    ComponentValueError,
    World,
    WorldError,
    make_component,
    unregister,
)
from pecs_np.ecs.bundles import Bundle

A = make_component("bundles.A", {"x": int})
B = make_component("bundles.B", {"items": list[int]})


def teardown_module():
    unregister("bundles.A")
    unregister("bundles.B")


def bundle(*components):
    return Bundle(components, World()._storage)


def test_types_and_values_keep_the_order_given():
    both = bundle(B(items=[1]), A(2))
    assert [t.name for t in both.types] == list(both.values) == ["bundles.B", "bundles.A"]


@pytest.mark.parametrize("given", [(A,), (A(1), A(2)), (5,), ("bundles.A",)])
def test_what_is_no_bundle_is_refused(given):
    with pytest.raises(ComponentDefinitionError):
        bundle(*given)


@pytest.mark.parametrize(
    ("components", "count", "length"),
    [
        ((A([1, 2, 3]),), None, 3),
        ((A(1), B(items=[[1], [2]])), None, 2),
        ((A([1]), B(items=[[1], [2]])), None, 2),
        ((A([7]),), None, 1),
        ((A([7]),), 4, 4),
        ((A(1),), 0, 0),
        ((), 5, 5),
        ((A([]),), None, 0),
    ],
)
def test_columns_and_count_agree_on_a_length(components, count, length):
    assert bundle(*components).length(count) == length


@pytest.mark.parametrize("count", [-1, 1.5, "3", 1 << 32])
def test_a_count_is_a_number_of_entities(count):
    with pytest.raises(WorldError):
        bundle(A(1)).length(count)


def test_lengths_that_differ_or_are_missing_are_refused():
    with pytest.raises(ComponentValueError, match=r"expected 3 rows of bundles\.B, found 2"):
        bundle(A([1, 2, 3]), B(items=[[1], [2]])).length(None)
    with pytest.raises(ComponentValueError, match=r"pass count=…"):
        bundle(A(1)).length(None)
    with pytest.raises(ComponentValueError, match="shape"):
        bundle(A.from_array(np.zeros((2, 2), np.asarray(A(1)).dtype))).length(None)


def test_lists_and_views_are_copied_and_other_columns_are_not():
    column = A([1, 2, 3])
    items = B(items=[1, 2])
    owned = bundle(column, items).owned(3)
    assert owned["bundles.A"] is np.asarray(column)
    lists = owned["bundles.B"]["items"]
    assert len({id(each) for each in (*lists, items.items)}) == 4
    part = bundle(column[1:]).owned(2)["bundles.A"]
    assert part["x"].tolist() == [2, 3]
    assert not np.shares_memory(part, np.asarray(column))
