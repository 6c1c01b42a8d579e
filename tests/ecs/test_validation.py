"""`World.validate`: every invariant, broken on purpose, is found and named."""

from __future__ import annotations

import enum
import re
from typing import Annotated

import numpy as np
import pytest

from pecs_np import EntityRef, World, component
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn


class Mood(enum.IntEnum):
    CALM = 1
    ANGRY = 2


class Pair:
    left: EntityRef = 0
    right: EntityRef = 0
    sure: bool = False


@component(name="validation.All")
class All:
    n: np.float32 = 0
    flag: bool = False
    flags: Annotated[bool, 3] = False
    mood: Mood = Mood.CALM
    code: Annotated[str, 2] = ""
    ref: EntityRef = 0
    refs: Annotated[EntityRef, 2] = 0
    pair: Pair = (0, 0, False)
    pairs: Annotated[Pair, 2] = (0, 0, False)
    text: str = ""
    raw: bytes = b""
    list_of: list[np.int32] = ()
    listed: list[EntityRef] = ()
    structs: list[Pair] = ()
    moods: list[Mood] = ()


DEAD = 77
NAME = "validation.All"


def a_world():
    world = World()
    world.spawn_batch(count=2)
    world.spawn_batch(All(n=[1, 2, 3], ref=1, refs=[1, 2], listed=[[1, 2], [1], [2]], structs=[(1, 2, True)]))
    return world


def table(world):
    return next(t for t in world._storage.tables if NAME in t.columns)


def column(world):
    return table(world).column(NAME)


def one(*values):
    """Return an object to assign to one row of an object column."""
    return np.array([None, *values], object)[1]


def array_of(world, field, values):
    return np.array(values, column(world)[field][0].dtype)


def test_a_sound_world_is_valid_and_says_so():
    world = a_world()
    world.resources.insert(All(ref=1))
    result = world.validate()
    assert (bool(result), result.problems, str(result)) == (True, (), "every invariant holds")
    assert World().validate()


# Values


def set_field(field, row, value):
    def break_it(world):
        column(world)[field][row] = value

    return break_it


def set_byte(field, row, value):
    def break_it(world):
        flat = column(world)[field]
        flat.view("u1")[row] = value

    return break_it


def set_object(field, row, value):
    def break_it(world):
        values = column(world)[field]
        values[row : row + 1] = np.array([None, value], object)[1:]

    return break_it


def set_list(field, row, value):
    def break_it(world):
        column(world)[field][row] = array_of(world, field, value)

    return break_it


def bad_code(world):
    column(world)["code"][..., np.newaxis].view("<u4")[2, 0] = 0xD800


def wrong_list_dtype(world):
    column(world)["list_of"][2] = np.zeros(2, np.float64)


def wrong_list_shape(world):
    column(world)["list_of"][2] = np.zeros((2, 2), np.int32)


def byte_in_pair(world):
    column(world)["pair"]["sure"].view("u1")[2] = 2


def byte_in_pairs(world):
    column(world)["pairs"]["sure"].view("u1")[2, 1] = 255


def dead_in_pair(world):
    column(world)["pair"]["right"][2] = DEAD


def dead_in_pairs(world):
    column(world)["pairs"]["left"][2, 1] = DEAD


def byte_in_structs(world):
    value = array_of(world, "structs", [(1, 2, True)])
    value["sure"].view("u1")[0] = 2
    column(world)["structs"][2] = value


VALUES = {
    "a bool of byte 2": ("flag", set_byte("flag", 2, 2)),
    "a bool of byte 2 in a subarray": ("flags", set_byte("flags", (2, 1), 2)),
    "a bool of byte 2 in a struct": ("pair.sure", byte_in_pair),
    "a bool of byte 255 in structs": ("pairs.sure", byte_in_pairs),
    "a bool of byte 2 in a list": ("structs.sure", byte_in_structs),
    "an unknown enum value": ("mood", set_field("mood", 2, 3)),
    "an unknown enum value in a list": ("moods", set_list("moods", 2, [1, 2, 9])),
    "a surrogate in a text": ("code", bad_code),
    "a dead reference": ("ref", set_field("ref", 2, DEAD)),
    "a reference of another generation": ("ref", set_field("ref", 2, 1 << 32 | 1)),
    "a dead reference in a subarray": ("refs", set_field("refs", 2, [1, DEAD])),
    "a dead reference in a struct": ("right", dead_in_pair),
    "a dead reference in structs": ("left", dead_in_pairs),
    "a dead reference in a list": ("listed", set_list("listed", 2, [1, 2, DEAD])),
    "a dead reference in a list of structs": (
        "left",
        set_list("structs", 2, [(1, 2, True), (DEAD, 0, True)]),
    ),
    "None in a str field": ("text", set_object("text", 2, None)),
    "a number in a str field": ("text", set_object("text", 2, 5)),
    "bytes in a str field": ("text", set_object("text", 2, b"a")),
    "a str in a bytes field": ("raw", set_object("raw", 2, "a")),
    "a list in a list field": ("list_of", set_object("list_of", 2, [1, 2])),
    "another dtype in a list field": ("list_of", wrong_list_dtype),
    "another shape in a list field": ("list_of", wrong_list_shape),
}


@pytest.mark.parametrize(("field", "break_it"), VALUES.values(), ids=VALUES.keys())
def test_a_value_that_cannot_be_is_found_with_its_type_row_and_field(field, break_it):
    world = a_world()
    break_it(world)
    result = world.validate()
    assert not result
    assert len(result.problems) == 1
    assert f"row 2 of {NAME}" in str(result)
    assert field in str(result)


def test_the_first_bad_row_is_named_even_after_rows_of_other_lengths():
    world = a_world()
    column(world)["listed"][1] = array_of(world, "listed", [1, 1, 1, DEAD])
    assert "row 1 of" in str(world.validate())
    column(world)["listed"][0] = array_of(world, "listed", [])
    assert "row 1 of" in str(world.validate())


def test_resources_are_checked_too():
    world = a_world()
    world.resources.insert(All(ref=DEAD))
    assert f"resource {NAME}" in str(world.validate())
    world.resources.insert(All())
    np.asarray(world.resources.get(All))["flag"].reshape(1).view("u1")[0] = 2
    assert "flag" in str(world.validate())


def test_several_broken_invariants_are_all_named():
    world = a_world()
    column(world)["ref"][0] = DEAD
    column(world)["flag"].view("u1")[1] = 7
    world.resources.insert(All(ref=DEAD))
    assert len(world.validate().problems) == 3


def test_rows_beyond_the_end_are_not_looked_at():
    world = a_world()
    world.spawn(All())
    column(world)["ref"][3] = DEAD
    assert not world.validate()
    world.despawn(world.entities()[world.column(All)["ref"].tolist().index(DEAD) + 2])
    assert world.validate()


# Ids and books


def entity_twice(world):
    table(world).entities = IdColumn(ENTITY_ID, array=np.array([3, 4, 4], ENTITY_ID))


def stable_twice(world):
    table(world).stable_ids.array()  # settled
    table(world).stable_ids = IdColumn(STABLE_ID, array=np.array([(5, 1), (6, 1), (5, 1)], STABLE_ID))


def stable_twice_across_tables(world):
    other = next(t for t in world._storage.tables if not t.names)
    table(world).stable_ids = IdColumn(STABLE_ID, [(1 << 70, 3)])
    other.stable_ids = IdColumn(STABLE_ID, [((1 << 70) + 2, 2)])


def stable_zero(world):
    table(world).stable_ids = IdColumn(STABLE_ID, [(0, 3)])


def stable_stale(world):
    world.get_entity_id(1)
    table(world).stable_ids = IdColumn(STABLE_ID, [(1 << 70, 3)])


def dead_row(world):
    world._storage.place()
    world._storage.entities.tables[4] = -1


def other_generation(world):
    world._storage.place()
    world._storage.entities.generations[4] += 1


def out_of_range(world):
    table(world).entities = IdColumn(ENTITY_ID, [(3, 2), (900, 1)])


def wrong_row(world):
    world._storage.place()
    world._storage.entities.rows[4] = 2


def wrong_table(world):
    world._storage.place()
    world._storage.entities.tables[4] = 0


def too_few_entities(world):
    table(world).entities = IdColumn(ENTITY_ID, [(3, 2)])


def too_many_stable_ids(world):
    table(world).stable_ids = IdColumn(STABLE_ID, [(1 << 70, 4)])


def too_many_stable_ids_with_an_index(world):
    world.get_entity_id(1)
    too_many_stable_ids(world)


def wrong_dtype(world):
    columns = table(world).columns
    old = columns[NAME].dtype
    columns[NAME] = columns[NAME].astype([(n, "f8" if n == "n" else old[n]) for n in old.names])


def plain_column(world):
    table(world).columns[NAME] = np.zeros(3)


def short_column(world):
    table(world).columns[NAME] = table(world).columns[NAME][:2]


BOOKS = {
    "an entity in two rows": ("held by two rows", entity_twice),
    "a stable id in two rows": ("stable id .* is held by two rows", stable_twice),
    "a stable id in two tables": ("stable id .* is held by two rows", stable_twice_across_tables),
    "stable id 0": ("has stable id 0", stable_zero),
    "an index that misses a row": ("index misses row 0", stable_stale),
    "a row of a free slot": (r"row 1 of .* EntityId\(4v0\).* dead", dead_row),
    "a row of another generation": (r"row 1 of .* EntityId\(4v0\).* dead", other_generation),
    "a row of a slot never used": (r"row 2 of .* EntityId\(900v0\)", out_of_range),
    "a wrong row in the books": (r"EntityId\(4v0\) elsewhere than row 1", wrong_row),
    "a wrong table in the books": (r"EntityId\(4v0\) elsewhere than row 1", wrong_table),
    "fewer entity ids than rows": ("expected 3 entity ids, found 2", too_few_entities),
    "more stable ids than rows": ("expected 3 stable ids, found 4", too_many_stable_ids),
    "more stable ids than rows, indexed": ("expected 3 stable ids", too_many_stable_ids_with_an_index),
    "a field of another dtype": (f"rows of .*found.* in table .{NAME}", wrong_dtype),
    "a column without fields": (f"rows of .*found.* in table .{NAME}", plain_column),
    "a column that is too short": (f"expected 3 rows of .*found 2.* in table .{NAME}", short_column),
}


@pytest.mark.parametrize(("message", "break_it"), BOOKS.values(), ids=BOOKS.keys())
def test_broken_books_are_found_and_named(message, break_it):
    world = a_world()
    assert world.validate()
    break_it(world)
    result = world.validate()
    assert not result
    assert re.search(message, str(result)), str(result)
