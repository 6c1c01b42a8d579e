"""Messages show any value in a few words."""

import pytest

from pecs_np.messages import shown


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
