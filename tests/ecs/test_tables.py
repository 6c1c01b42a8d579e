"""One table: growing, filling, and taking rows out of the middle."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import pytest

from pecs_np import World, WorldError, component, component_type
from pecs_np.ecs.dtypes import MOST_BYTES
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.ecs.tables import Table


@component(name="tables.Position")
class Position:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@component(name="tables.Label")
class Label:
    text: str = ""


@component(name="tables.Tag")
class Tag:
    pass


def table_of(count):
    table = Table.empty(0, tuple(component_type(c) for c in (Label, Position, Tag)))
    texts = [f"t{i}" for i in range(count)]
    append(table, count, {"tables.Position": Position(x=np.arange(count), y=1), "tables.Label": Label(texts)})
    return table


def append(table, count, values):
    first = table.size
    rows = table.extend(count)
    table.fill(rows, {name: np.asarray(value) for name, value in values.items()})
    table.entities.append_run(first + 1, count)
    table.stable_ids.append_run(first + 1001, count)


def numbers(table):
    """Return each row's number as told by each of its columns, which must agree."""
    told = [
        table.column("tables.Position")["x"].astype(int).tolist(),
        [int(text[1:]) for text in table.column("tables.Label")["text"]],
        (table.entities.array().astype(int) - 1).tolist(),
        (table.stable_ids.array()["lo"].astype(int) - 1001).tolist(),
    ]
    assert all(t == told[0] for t in told)
    return told[0]


def test_an_empty_table_has_columns_of_the_right_dtype_and_no_rows():
    table = Table.empty(3, (component_type(Position),))
    assert (len(table), table.number, table.names) == (0, 3, ("tables.Position",))
    assert table.column("tables.Position").dtype == component_type(Position).layout.memory
    assert table.column("tables.Position").shape == (0,)


def test_extend_returns_the_new_rows_and_keeps_the_old_values():
    table = table_of(3)
    append(table, 2, {"tables.Position": Position(x=[3, 4], y=9), "tables.Label": Label(["t3", "t4"])})
    assert numbers(table) == [0, 1, 2, 3, 4]
    assert table.column("tables.Position")["y"].tolist() == [1, 1, 1, 9, 9]


def test_a_single_value_fills_every_new_row():
    table = Table.empty(0, (component_type(Position),))
    append(table, 4, {"tables.Position": Position(5, 6)})
    assert table.column("tables.Position").tolist() == [(5, 6)] * 4


def test_growing_row_by_row_reallocates_rarely():
    table = Table.empty(0, (component_type(Position),))
    arrays = set()
    for i in range(1000):
        append(table, 1, {"tables.Position": Position(i, 0)})
        arrays.add(len(table.columns["tables.Position"]))
    assert len(arrays) < 40
    assert table.column("tables.Position")["x"].tolist() == list(range(1000))


def test_column_is_a_live_view_of_the_rows_in_use():
    table = table_of(3)
    append(table, 1, {"tables.Position": Position(3, 1), "tables.Label": Label("t3")})
    column = table.column("tables.Position")
    column["y"] = 7
    assert len(column) == 4 < len(table.columns["tables.Position"])
    assert table.columns["tables.Position"][:4]["y"].tolist() == [7] * 4


@pytest.mark.parametrize("value", [Position(9, 9), Position(x=[9, 9], y=[9, 9])], ids=["one", "column"])
def test_put_writes_the_given_rows_only(value):
    table = table_of(4)
    table.put(np.array([1, 3]), {"tables.Position": np.asarray(value)})
    assert table.column("tables.Position").tolist() == [(0, 1), (9, 9), (2, 1), (9, 9)]


def test_put_writes_objects():
    table = table_of(3)
    table.put(np.array([0, 2]), {"tables.Label": np.asarray(Label(["a", "b"]))})
    assert table.column("tables.Label")["text"].tolist() == ["a", "t1", "b"]


@pytest.mark.parametrize(
    ("removed", "left", "refilled"),
    [
        ([0], [4, 1, 2, 3], [0]),
        ([4], [0, 1, 2, 3], []),
        ([0, 1], [3, 4, 2], [0, 1]),
        ([1, 4], [0, 3, 2], [1]),
        ([0, 1, 2, 3, 4], [], []),
        ([], [0, 1, 2, 3, 4], []),
    ],
)
def test_swap_remove_fills_holes_with_the_last_rows_and_says_which(removed, left, refilled):
    table = table_of(5)
    found = table.swap_remove(np.array(removed, np.intp))
    assert numbers(table) == left
    assert found.tolist() == refilled
    assert len(table) == len(left)


def test_swap_remove_lets_go_of_objects_in_rows_no_longer_used():
    table = table_of(3)
    table.swap_remove(np.array([0]))
    assert table.columns["tables.Label"]["text"][2] != "t2"


def test_swap_remove_forgets_that_rows_beyond_the_end_were_placed():
    table = table_of(5)
    table.placed = 5
    table.swap_remove(np.array([0, 1]))
    assert table.placed == 3


def test_random_removals_and_additions_keep_every_row_together():
    rng = np.random.default_rng(3)
    table = table_of(0)
    expected: set[int] = set()
    first = 0
    for _ in range(60):
        count = int(rng.integers(0, 9))
        rows = table.extend(count)
        new = np.arange(first, first + count)
        texts = [f"t{i}" for i in new]
        values = {"tables.Position": Position(x=new, y=0), "tables.Label": Label(np.array(texts, object))}
        table.fill(rows, {name: np.asarray(value) for name, value in values.items()})
        table.entities.extend(IdColumn(ENTITY_ID, [(first + 1, count)] if count else ()))
        table.stable_ids.extend(IdColumn(STABLE_ID, [(first + 1001, count)] if count else ()))
        first += count
        expected |= set(new.tolist())
        gone = np.flatnonzero(rng.random(table.size) < 0.3)
        expected -= {numbers(table)[row] for row in gone}
        table.swap_remove(gone)
        assert sorted(numbers(table)) == sorted(expected)


# More than any machine can address, for as many rows as the tests have.
@component(name="tables.Vast")
class Vast:
    data: Annotated[np.uint8, MOST_BYTES]


ROWS = (1 << 47) // MOST_BYTES


def test_too_little_memory_leaves_the_columns_what_they_were():
    table = Table.empty(0, tuple(map(component_type, (Position, Vast))))
    columns = dict(table.columns)
    with pytest.raises(WorldError, match=f"expected memory for {ROWS} rows of tables.Position, tables.Vast"):
        table.reserve(ROWS)
    assert (table.size, table.capacity) == (0, 0)
    assert all(table.columns[name] is column for name, column in columns.items())


@pytest.mark.parametrize("which", [slice(None), slice(1, None)], ids=["a whole table", "a part"])
def test_entities_that_cannot_move_for_want_of_memory_stay(which):
    world = World()
    ids = world.spawn_batch(Tag(), count=ROWS + 1)
    with pytest.raises(WorldError, match="found too little"):
        world.insert(ids[which], Vast(np.zeros(MOST_BYTES, np.uint8)))
    assert [table.rows for table in world.snapshot().tables] == [ROWS + 1]
    assert world.get(ids[-1], Tag) == Tag()
    assert np.array_equal(world.entities(), ids)


def test_what_a_query_and_a_snapshot_show_stays_the_world_after_too_little_memory():
    world = World()
    ids = world.spawn_batch(Position(x=[1, 2]), Vast(np.zeros(MOST_BYTES, np.uint8)))
    (column,) = world.query(Position)
    snapshot = world.snapshot()
    with pytest.raises(WorldError, match="found too little"):
        world.spawn_batch(Position(), Vast(np.zeros(MOST_BYTES, np.uint8)), count=ROWS)
    column.x += 10
    for position in world.query(Position):
        position.x += 100
    assert world.get(ids[1], Position).x == 112
    assert snapshot.column(Position)["x"].tolist() == [111, 112]
