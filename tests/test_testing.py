"""assert_worlds_equal: silent for equal worlds whatever their order, and precise about what differs."""

import subprocess
import sys

import numpy as np
import pytest

from pecs_np import EntityRef, World, make_component, unregister
from pecs_np.testing import assert_worlds_equal

Number = make_component("testing.Number", {"n": float, "m": np.uint8}, defaults={"m": 0})
Link = make_component("testing.Link", {"to": EntityRef, "crew": list[EntityRef], "name": str})


def teardown_module():
    unregister("testing.Number")
    unregister("testing.Link")


def world(order=(0, 1, 2)):
    """Return a world of three linked entities, spawned in any order, and one by itself."""
    made = World()
    stable = [11, 12, 13]
    ids = {i: made.spawn_with_stable_id(stable[i]) for i in order}
    for i in order:
        made.insert(ids[i], Number([np.nan, 2.5, -0.0][i]))
    made.insert(ids[0], Link(to=ids[2], crew=[ids[1], ids[0]], name="é"))
    made.spawn_with_stable_id(14, Number(9))
    made.resources.insert(Link(to=ids[1], crew=[ids[0]], name="all"))
    return made


def test_order_and_entity_ids_do_not_count():
    assert_worlds_equal(world(), world((2, 0, 1)))
    assert_worlds_equal(world(), World.from_bytes(world((1, 2, 0)).to_bytes()))


def set_nan_payload(w):
    w.column(Number)
    for number in w.query(Number):
        number.n = np.where(np.isnan(number.n), np.float64(1.0), number.n)


DIFFERENCES = {
    "testing.Number.n differs": set_nan_payload,
    "testing.Number.m differs": lambda w: w.insert(w.get_entity_id(12), Number(2.5, 1)),
    "testing.Link.to differs": lambda w: setattr(w.get(w.get_entity_id(11), Link), "to", 0),
    "testing.Link.crew differs": lambda w: setattr(w.get(w.get_entity_id(11), Link), "crew", []),
    "testing.Link.name differs": lambda w: setattr(w.get(w.get_entity_id(11), Link), "name", "e"),
    "resources: testing.Link.name": lambda w: setattr(w.resources.get(Link), "name", "x"),
    "resource types": lambda w: w.resources.remove(Link),
    "entity count": lambda w: w.spawn(),
    "rows of table": lambda w: (
        w.despawn(w.get_entity_id(12)),
        w.spawn(Link(to=0, crew=[], name=""), Number(1)),
    ),
    "sets of component types": lambda w: w.remove(w.get_entity_id(11), Number),
    "metadata": lambda w: w.metadata.update(a=1),
    "world version": lambda w: setattr(w, "version", 2),
    "generators": lambda w: w.rngs.create("dice", 1),
    "is in one world only": lambda w: (
        w.despawn(w.get_entity_id(14)),
        w.spawn_with_stable_id(15, Number(9)),
    ),
}


@pytest.mark.parametrize(("message", "change"), DIFFERENCES.items(), ids=DIFFERENCES.keys())
def test_each_difference_is_found_and_named(message, change):
    other = world()
    change(other)
    with pytest.raises(AssertionError, match=message):
        assert_worlds_equal(world(), other)


def test_zero_and_minus_zero_differ():
    other = world()
    other.insert(other.get_entity_id(13), Number(0.0))
    with pytest.raises(AssertionError, match=r"testing\.Number\.n"):
        assert_worlds_equal(world(), other)


def test_the_module_needs_no_pytest():
    code = "import sys, pecs_np.testing; print([m for m in ('pytest', 'hypothesis') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
