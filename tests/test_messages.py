"""Messages show any value in a few words."""

import numpy as np
import pytest

from pecs_np.messages import is_one_of, shown


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", ["x" * 10**6, list(range(10**6)), nested(5000), {"a": nested(900)}, b"y" * 10**5]
)
def test_large_and_deep_values_are_cut_short(value):
    assert 0 < len(shown(value)) <= 120


def test_small_values_are_shown_whole():
    assert shown(["a", 1]) == "['a', 1]"


@pytest.mark.parametrize("value", [None, 5, ["a"], np.array(["a", "b"]), np.array([1, 2]), {"a"}, "c"])
def test_what_is_none_of_the_words_is_told_from_them_whatever_it_is(value):
    assert not is_one_of(value, "a", "b")
    assert is_one_of("a", "a", "b")
