"""Sections made block by block: the same bytes as made at once, and a world that changes in between is noticed."""

from __future__ import annotations

import dataclasses
import io
from typing import Annotated

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pecs_np import BinaryPlugin, ComponentValueError, EntityRef, PersistenceError, World, component
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.persistence import disk
from pecs_np.persistence.binary import column_writer
from pecs_np.persistence.binary import plugin as plugin_module
from pecs_np.persistence.binary.blocks import Blocks, Budget, Expanded, Whole, rechunked
from pecs_np.persistence.checksum import crc64
from pecs_np.testing import assert_worlds_equal

PIECES = [b"ab", b"", b"cdef", np.arange(5, dtype=np.uint8), bytearray(b"gh"), memoryview(b"i")]
JOINED = b"abcdef\0\1\2\3\4ghi"


def make():
    return iter(PIECES)


def joined(blocks):
    return b"".join(bytes(block) for block in blocks)


class Counted:
    """Makes blocks, and counts how often it is asked to."""

    def __init__(self, pieces=PIECES):
        self.pieces = pieces
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return iter(self.pieces)


# Blocks


@pytest.mark.parametrize("left", [None, 0, 5, len(JOINED) - 1, len(JOINED), 1000])
def test_size_sum_and_lengths_are_known_before_the_bytes_are_asked_for(left):
    counted = Counted()
    blocks = Blocks(counted, Budget(left))
    assert (len(blocks), blocks.size, blocks.crc) == (len(JOINED), len(JOINED), crc64(JOINED))
    assert blocks.lengths == [2, 0, 4, 5, 2, 1]
    kept = left is None or left >= len(JOINED)
    assert counted.calls == 1
    assert joined(blocks) == joined(blocks) == JOINED
    assert counted.calls == (1 if kept else 3)


@pytest.mark.parametrize("left", [None, 0])
def test_what_leads_counts_in_size_and_sum(left):
    blocks = Blocks(make, Budget(left))
    blocks.lead(b"first")
    assert blocks.size == 5 + len(JOINED)
    assert blocks.crc == crc64(b"first" + JOINED)
    assert joined(blocks) == b"first" + JOINED
    assert blocks.lengths == [2, 0, 4, 5, 2, 1]


@pytest.mark.parametrize("left", [None, 0])
def test_no_blocks_are_no_bytes(left):
    blocks = Blocks(lambda: iter(()), Budget(left))
    assert (blocks.size, blocks.crc, blocks.lengths, joined(blocks)) == (0, 0, [], b"")
    assert blocks.whole is None


def test_a_single_block_that_was_kept_is_the_whole():
    block = bytearray(b"abc")
    assert Blocks(lambda: [block], Budget()).whole is block
    assert Blocks(lambda: [block], Budget(3)).whole is block
    assert Blocks(lambda: [block], Budget(2)).whole is None
    assert Blocks(lambda: [block, b""], Budget()).whole is None


def test_a_budget_is_taken_by_what_is_kept_and_given_back_by_what_is_not():
    budget = Budget(20)
    first = Blocks(make, budget)
    assert budget.left == 20 - len(JOINED) == 6
    second = Counted()
    Blocks(second, budget)
    assert budget.left == 6
    third = Counted([b"abc", b"def"])
    kept = Blocks(third, budget)
    assert budget.left == 0
    assert joined(kept) == b"abcdef"
    assert third.calls == 1
    assert joined(first) == JOINED


def test_a_budget_without_a_number_has_no_end():
    budget = Budget()
    assert budget.take(1 << 60)
    assert budget.take(1 << 60)
    budget.give_back(5)
    assert budget.left is None
    budget = Budget(10)
    assert budget.take(10)
    assert not budget.take(1)
    budget.give_back(4)
    assert budget.take(4)


@pytest.mark.parametrize(
    "second",
    [
        [b"abcdef", b"\0\1\2\3\4ghj"],
        [b"abcdef\0\1\2\3\4gh"],
        [JOINED, b"i"],
        [b""],
        [],
    ],
)
@pytest.mark.parametrize("lead", [b"", b"first"])
def test_blocks_that_are_others_the_second_time_are_noticed_at_their_end(second, lead):
    counted = Counted()
    blocks = Blocks(counted, Budget(0))
    if lead:
        blocks.lead(lead)
    counted.pieces = second
    found = []
    with pytest.raises(PersistenceError, match="stays as it is while it is saved"):
        found.extend(blocks)
    assert joined(found) == lead + joined(second)
    counted.pieces = [JOINED[:7], JOINED[7:]]
    assert joined(blocks) == lead + JOINED


def test_what_is_discarded_gives_its_budget_back():
    budget = Budget(100)
    blocks = Blocks(make, budget)
    blocks.lead(b"table")
    assert budget.left == 100 - len(JOINED)
    blocks.discard()
    blocks.discard()
    assert budget.left == 100
    assert joined(blocks) == b"table" + JOINED
    made_anew = Blocks(make, Budget(3))
    made_anew.discard()
    assert joined(made_anew) == JOINED


@pytest.mark.parametrize("values", ["random", "constant"])
def test_a_column_that_is_not_packed_after_all_costs_no_budget(define, values):
    pytest.importorskip("lz4")
    world = World(seed=1)
    count = 20_000
    x = np.random.default_rng(1).bytes(8 * count) if values == "random" else bytes(8 * count)
    world.spawn_batch(define("Discarded", {"x": np.uint64})(x=np.frombuffer(x, "u8")))
    world.spawn_batch(define("DiscardedText", {"t": str})(t=["a"] * 50))
    plugin = BinaryPlugin(compression="lz4", threads=1)
    budget = Budget(1 << 20)
    parts = column_writer.encode(world.snapshot(), plugin.packing, budget)
    kept = sum(sum(part.lengths) for part in parts if isinstance(part, Blocks))
    assert budget.left == (1 << 20) - kept
    assert joined(Expanded(parts)) == world.to_bytes(plugin)


@pytest.mark.parametrize("error", [ValueError("shape mismatch"), IndexError("out of bounds")])
def test_arrays_that_no_longer_fit_together_are_told_as_a_change(error):
    def failing():
        yield b"ab"
        raise error

    with pytest.raises(PersistenceError, match="stays as it is while it is saved") as caught:
        Blocks(failing, Budget())
    assert caught.value.__cause__ is error
    makes = iter([iter([b"abc"]), failing()])
    blocks = Blocks(lambda: next(makes), Budget(0))
    with pytest.raises(PersistenceError, match="stays as it is while it is saved"):
        list(blocks)


def test_errors_of_the_library_come_through_blocks_as_they_are():
    def refusing():
        raise ComponentValueError("expected str, found 3")
        yield

    with pytest.raises(ComponentValueError, match="expected str"):
        Blocks(refusing, Budget())


@pytest.mark.parametrize("part", ["rows", "entities", "stable_ids", "columns"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [10, 10_000])
def test_a_snapshot_taken_amid_a_structural_change_is_refused(define, part, version, size):
    spot = define("AmidSpot", {"x": np.float64})
    world = World(seed=1)
    world.spawn_batch(spot(x=np.arange(float(size))))
    plugin = BinaryPlugin(version=version)
    snapshot = world.snapshot()
    (table,) = snapshot.tables
    other = {
        "rows": size - 1,
        "entities": IdColumn(ENTITY_ID, [(1, size + 1)]),
        "stable_ids": IdColumn(STABLE_ID, [(1, size + 1)]),
        "columns": {"AmidSpot": table.columns["AmidSpot"][:-1]},
    }
    torn = dataclasses.replace(
        snapshot, tables=(dataclasses.replace(table, **{part: other[part]}),), id_source=None
    )
    for encode in (plugin.encode, plugin.encode_stream):
        with pytest.raises(PersistenceError, match="stays as it is while it is saved"):
            list(encode(torn))
    assert World.from_bytes(world.to_bytes()).entity_count == size


def test_what_lies_in_memory_is_written_as_it_is_and_its_changes_are_noticed():
    memory = np.arange(100, dtype=np.uint8)
    whole = Whole(memory)
    assert len(whole) == 100
    assert whole.crc == crc64(memory)
    (written,) = whole
    assert np.shares_memory(written, memory)
    assert list(Expanded([b"a", whole])) == [b"a", written]
    buffers = iter(whole)
    next(buffers)
    memory[7] = 9
    with pytest.raises(PersistenceError, match="stays as it is while it is saved"):
        next(buffers)


def test_the_sum_of_what_lies_in_memory_may_be_that_of_a_copy():
    memory = np.arange(100, dtype=np.uint8)
    whole = Whole(memory)
    copy = memory.tobytes()
    memory[7] = 9
    whole.crc = crc64(copy)
    assert whole.crc == crc64(copy) != crc64(memory)


def test_expanded_takes_buffers_and_blocks():
    buffers = [b"head", Blocks(make, Budget(0)), b"", Blocks(make, Budget()), b"foot"]
    assert joined(Expanded(buffers)) == b"head" + JOINED + JOINED + b"foot"
    assert list(Expanded([])) == []


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=30), max_size=12), size=st.integers(1, 40))
def test_rechunked_gives_the_same_bytes_in_blocks_of_one_size(pieces, size):
    chunks = [bytes(chunk) for chunk in rechunked(pieces, size)]
    whole = b"".join(pieces)
    assert b"".join(chunks) == whole
    assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert len(chunks) == -(-len(whole) // size)


def test_rechunked_copies_only_what_lies_in_two_blocks():
    block = np.arange(10, dtype=np.uint8)
    chunks = list(rechunked([block, block], 4))
    assert [np.shares_memory(chunk, block) for chunk in chunks] == [True, True, False, True, True]


# Worlds


class BlockInner:
    flag: bool
    to: EntityRef


@component
class BlockPlain:
    x: np.float64 = 0.0
    y: np.float64 = 0.0


@component
class BlockChecked:
    flag: bool = False
    name: Annotated[str, 3] = ""


@component
class BlockLinked:
    to: EntityRef
    number: np.int64 = 0


@component
class BlockText:
    text: str
    blob: bytes
    number: np.int32 = 0


@component
class BlockLists:
    cells: list[np.uint16]
    crew: list[EntityRef]
    inners: list[BlockInner]
    names: list[Annotated[str, 2]]


@component
class BlockTag:
    pass


N = 70_000
ROWS = 5_000


def scattered(count, start):
    return [int(i) << 3 | start << 100 for i in np.random.default_rng(start).permutation(count) + 1]


def plain():
    world = World(seed=1)
    world.spawn_batch(
        BlockPlain(x=np.arange(float(N)), y=7), BlockChecked(flag=[True, False] * (N // 2), name="ab")
    )
    return world


def linked():
    world = World(seed=1)
    targets = world.spawn_batch(count=N)
    world.spawn_batch(BlockLinked(to=targets[::-1].copy(), number=np.arange(N)))
    world.despawn(targets[5::3])
    return world


def texts():
    world = World(seed=1)
    text = [f"é{i}" * (i % 7) for i in range(ROWS)]
    world.spawn_batch(BlockText(text=text, blob=[t.encode() * 20 for t in text], number=np.arange(ROWS)))
    return world


def lists():
    world = World(seed=1)
    targets = world.spawn_batch(count=10)
    column = BlockLists(
        cells=[np.arange(i % 250, dtype=np.uint16) for i in range(ROWS)],
        crew=[targets[: i % 4] for i in range(ROWS)],
        inners=[[(True, targets[3]), (False, 0)][: i % 3] for i in range(ROWS)],
        names=[["a", "éb"[: i % 3]] for i in range(ROWS)],
    )
    world.spawn_batch(column)
    return world


def ids():
    world = World()
    world.spawn_batch(BlockTag(), count=N, stable_ids=scattered(N, 1))
    world.spawn_batch(count=30, stable_ids=scattered(30, 2))
    return world


def resources():
    world = World(seed=2, metadata={"a": 1})
    target = world.spawn()
    world.resources.insert(BlockLinked(target, 5))
    world.resources.insert(BlockText("é" * 100_000, bytes(3_000_000)))
    world.resources.insert(BlockLists([1, 2], [target, 0], [(True, target)], []))
    return world


WORLDS = {w.__name__: w for w in (plain, linked, texts, lists, ids, resources, World)}
PACKINGS = {
    "none": {},
    "zstd": {"compression": "zstd"},
    "lz4": {"compression": "lz4", "threads": 2},
    "zstd unshuffled": {"compression": "zstd", "shuffle": False, "level": 1, "threads": 3},
}


@pytest.fixture(scope="module", params=WORLDS)
def world(request):
    return WORLDS[request.param]()


@pytest.mark.parametrize("options", PACKINGS.values(), ids=PACKINGS)
def test_bounded_saves_are_the_bytes_of_unbounded_ones(world, options, monkeypatch):
    plugin = BinaryPlugin(**options)
    data = world.to_bytes(plugin)
    snapshot = world.snapshot()
    assert joined(plugin.encode(snapshot)) == data
    for kept in (None, 0, 10_000, 2 << 20):
        if kept is not None:
            monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", kept)
        assert joined(plugin.encode_stream(snapshot)) == data
        plugin.save(world, stream := io.BytesIO())
        assert stream.getvalue() == data
    assert_worlds_equal(World.from_bytes(data), world)


@pytest.mark.parametrize("options", PACKINGS.values(), ids=PACKINGS)
def test_bounded_saves_of_every_kind_of_field_are_the_same_bytes(reference, options, monkeypatch):
    world = World.from_bytes(reference.sample(40).to_bytes())
    plugin = BinaryPlugin(**options)
    data = world.to_bytes(plugin)
    for kept in (8 << 20, 0, 500, 20_000):
        monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", kept)
        assert joined(plugin.encode_stream(world.snapshot())) == data
    assert reference.read(data).plain().to_bytes() == world.to_bytes()


@pytest.mark.parametrize("kind", ["linked", "texts", "lists"])
@pytest.mark.parametrize("options", PACKINGS.values(), ids=PACKINGS)
def test_bounded_saves_hand_out_small_blocks(kind, options, monkeypatch):
    monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", 0)
    world = WORLDS[kind]()
    largest = max(
        len(memoryview(b).cast("B")) for b in BinaryPlugin(**options).encode_stream(world.snapshot())
    )
    assert largest <= (4 << 20)


def change(kind, world):
    """Change something that is in the snapshot already, in place and of the same size."""
    if kind == "plain":
        for points in world.query(BlockPlain):
            points.x[5] = -1
    elif kind == "linked":
        for links in world.query(BlockLinked):
            links.number[5] = -1
    elif kind == "texts":
        for names in world.query(BlockText):
            names.text[5] = names.text[5].replace("5", "6")
    else:
        for rows in world.query(BlockLists):
            rows.cells[5][3] = 60_000


def streamed_while_it_changes(kind, options):
    """Stream a world that changes after the first buffer, and say what came of it."""
    world = WORLDS[kind]()
    plugin = BinaryPlugin(**options)
    before = world.to_bytes(plugin)
    buffers = iter(plugin.encode_stream(world.snapshot()))
    written = [bytes(next(buffers))]
    change(kind, world)
    assert world.to_bytes(plugin) != before
    try:
        written.extend(bytes(buffer) for buffer in buffers)
    except PersistenceError as error:
        if "stays as it is while it is saved" not in str(error):
            raise
        return "noticed"
    return "saved as it was" if b"".join(written) == before else "saved as something else"


@pytest.mark.parametrize("kind", ["plain", "linked", "texts", "lists"])
@pytest.mark.parametrize("options", PACKINGS.values(), ids=PACKINGS)
def test_a_world_that_changes_between_the_passes_of_a_stream_is_noticed(kind, options, monkeypatch):
    monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", 0)
    assert streamed_while_it_changes(kind, options) == "noticed"


@pytest.mark.parametrize("kind", ["plain", "linked", "texts", "lists"])
@pytest.mark.parametrize("options", PACKINGS.values(), ids=PACKINGS)
def test_where_blocks_are_kept_a_world_that_changes_is_saved_as_it_was_or_noticed(kind, options):
    assert streamed_while_it_changes(kind, options) in ("noticed", "saved as it was")


def test_a_copy_of_a_snapshot_may_be_streamed_while_the_world_changes(monkeypatch):
    monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", 0)
    for kind in ("plain", "linked", "texts", "lists"):
        world = WORLDS[kind]()
        before = world.to_bytes()
        buffers = iter(BinaryPlugin().encode_stream(world.snapshot(copy=True)))
        written = [bytes(next(buffers))]
        change(kind, world)
        assert joined([*written, *buffers]) == before


def test_a_writer_that_changes_the_world_is_told(monkeypatch):
    monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", 0)
    world = linked()

    class Writer:
        def write(self, data):
            change("linked", world)

    with pytest.raises(PersistenceError, match="stays as it is"):
        BinaryPlugin().save(world, Writer())


@pytest.mark.parametrize("kind", ["plain", "linked", "texts", "lists"])
@pytest.mark.parametrize("options", PACKINGS.values(), ids=PACKINGS)
def test_a_file_is_not_replaced_by_one_of_a_world_that_changed(kind, options, tmp_path, monkeypatch):
    world, path, plugin = WORLDS[kind](), tmp_path / "a.pecs", BinaryPlugin(**options)
    expected = world.to_bytes(plugin)
    world.save_with(path, plugin)
    write, calls = disk.system.write, []

    def changing(descriptor, view):
        if not calls:
            change(kind, world)
        calls.append(len(view))
        return write(descriptor, view)

    monkeypatch.setattr(disk.system, "write", changing)
    try:
        world.save_with(path, plugin)
    except PersistenceError as error:
        if "stays as it is while it is saved" not in str(error):
            raise
    assert calls
    assert path.read_bytes() == expected
    assert [p.name for p in tmp_path.iterdir()] == ["a.pecs"]


def test_what_cannot_be_saved_is_refused_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(plugin_module, "_KEPT_FOR_STREAMS", 0)
    world = lists()
    for rows in world.query(BlockLists):
        rows.inners[4_501]["flag"].view("u1")[...] = 2
    written = []

    class Writer:
        def write(self, data):
            written.append(bytes(data))

    for options in PACKINGS.values():
        with pytest.raises(PersistenceError, match=r"row 4501 of BlockLists\.inners"):
            BinaryPlugin(**options).save(world, Writer())
    assert written == []
