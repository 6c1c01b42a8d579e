"""Plugins by name: the first is the default one, and unknown names list those that are known."""

from __future__ import annotations

import pytest

from pecs_np import PersistenceError, PluginNotFoundError
from pecs_np.persistence.named import Named


@pytest.fixture
def numbers():
    return Named(int, "number", "register_number", "5")


def test_the_first_is_the_default_until_another_is_chosen_or_it_is_gone(numbers):
    numbers.register("one", 1)
    numbers.register("two", 2)
    assert (numbers.get(), numbers.get("two")) == (1, 2)
    numbers.set_default("two")
    assert numbers.get() == 2
    assert numbers.unregister("two") == 2
    assert numbers.get() == 1
    numbers.register("one", 11)
    assert numbers.get() == 11
    numbers.unregister("one")
    with pytest.raises(
        PluginNotFoundError,
        match=r"numbers \(none is registered\), found None; register it: manager.register_number",
    ):
        numbers.get()


@pytest.mark.parametrize("name", ["three", "", 5, None, [], b"one"])
def test_unknown_names_list_those_that_are_known(numbers, name):
    numbers.register("one", 1)
    if name is None:
        numbers.unregister("one")
        numbers.register("two", 2)
        assert numbers.get(name) == 2
        return
    for call in (numbers.get, numbers.set_default, numbers.unregister):
        with pytest.raises(PluginNotFoundError, match="expected one of the numbers one, found"):
            call(name)


def test_what_is_no_plugin_or_no_name_is_refused(numbers):
    with pytest.raises(PluginNotFoundError, match="expected a int, found 'x'; pass 5"):
        numbers.register("x", "x")
    for name in ("", 5, None):
        with pytest.raises(PersistenceError, match="expected a name for the number"):
            numbers.register(name, 1)
    assert not numbers.plugins
