"""Where the records of a save of version 1 stand: runs where they are alike, the rest in any order."""

from __future__ import annotations

import random
import sys
from collections import Counter

import numpy as np
import pytest

from pecs_np import CorruptedDataError, InvalidFormatError
from pecs_np.persistence.binary.header import Header, type_id
from pecs_np.persistence.binary.pieces import Run, Scatter
from pecs_np.persistence.binary.records import find_records

REGISTRY = (("FoundA", 1), ("FoundB", 1))
MANY = tuple([(f"Found{i:04d}", 1) for i in range(1200)])


def component(name, data):
    return type_id(name) + len(data).to_bytes(4, "little") + data


def record(stable_id, *components):
    return stable_id.to_bytes(16, "little") + len(components).to_bytes(4, "little") + b"".join(components)


def find(records, count=None, registry=REGISTRY):
    body = np.frombuffer(b"head" + b"".join(records), np.uint8)
    header = Header(1, 0, len(records) if count is None else count, registry, b"", 4)
    return body, list(find_records(body, header, "a save"))


def alike(start, count, size=8):
    return [record(start + i, component("FoundA", bytes(size))) for i in range(count)]


def test_records_that_are_alike_are_one_run():
    _, pieces = find(alike(1, 30_000))
    assert [(type(piece), piece.start, piece.count) for piece in pieces] == [(Run, 4, 30_000)]
    assert pieces[0].types == (0,)


def test_a_run_ends_where_records_are_others():
    records = alike(1, 9000) + alike(9001, 20, size=4) + alike(10_000, 17)
    _, pieces = find(records)
    assert [piece.count for piece in pieces] == [9000, 20, 17]
    assert [piece.one_size(0) for piece in pieces] == [8, 4, 8]


@pytest.mark.parametrize("sizes", [[8, 8], [8, 4], [0, 300], [5000, 1]])
def test_records_that_alternate_are_found_by_archetype_in_their_order(sizes):
    records = [
        record(i + 1, component(f"Found{'AB'[i % 2]}", bytes([i % 250]) * sizes[i % 2])) for i in range(999)
    ]
    body, pieces = find(records)
    assert all(isinstance(piece, Scatter) for piece in pieces)
    starts = np.cumsum([4] + [len(r) for r in records])[:-1]
    for kind in (0, 1):
        own = [piece for piece in pieces if piece.types == (kind,)]
        assert np.concatenate([piece.starts for piece in own]).tolist() == starts[kind::2].tolist()
        assert {piece.one_size(0) for piece in own} == {sizes[kind]}
        if sizes[kind]:
            first = np.concatenate([body[piece.places(0)] for piece in own])
            assert first.tolist() == [i % 250 for i in range(kind, 999, 2)]


def test_records_that_begin_alike_and_go_on_otherwise_are_told_apart():
    # The same number of components, and the same first one: every guess is wrong.
    records = [
        record(i + 1, component("FoundA", b"12345678"), component("FoundB", bytes(i % 3 * 7)))
        for i in range(700)
    ]
    _, pieces = find(records)
    assert sum(piece.count for piece in pieces) == 700
    assert np.concatenate([piece.sizes(1) for piece in pieces]).sum() == sum(i % 3 * 7 for i in range(700))


def test_components_in_any_order_are_one_archetype():
    a, b = component("FoundA", b"a" * 8), component("FoundB", b"b")
    records = [record(i + 1, *((a, b) if i % 2 else (b, a))) for i in range(50)]
    body, pieces = find(records)
    assert {piece.types for piece in pieces} == {(0, 1)}
    for component_, letter in ((0, b"a"), (1, b"b")):
        found = np.concatenate([body[piece.places(component_)] for piece in pieces])
        assert bytes(found) == letter * 50


def test_nothing_may_stand_between_the_last_record_and_the_end():
    with pytest.raises(InvalidFormatError, match="found 48 bytes before it"):
        find(alike(1, 20), count=19)
    with pytest.raises(CorruptedDataError, match="expected 21 whole entities"):
        find(alike(1, 20), count=21)


def calls_of(function):
    """Return how many calls *function* makes, those of C functions included, and what it returns."""
    calls = Counter()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        found = function()
    finally:
        sys.setprofile(before)
    return calls["call"] + calls["c_call"], found


def in_turns(turn, count):
    """Records of two archetypes alternately, one of which has its sizes swapped every *turn* records."""
    a = component("FoundA", b""), component("FoundB", bytes(8)), component("FoundC", bytes(9))
    swapped = a[0], component("FoundB", bytes(9)), component("FoundC", bytes(8))
    other = (component("FoundD", b"12"),)
    return [record(i + 1, *((a, swapped)[i // turn % 2] if i % 2 else other)) for i in range(count)]


@pytest.mark.parametrize("turn", [2, 16, 17, 40, 64, 100, 300])
def test_guesses_in_vain_cost_no_more_than_a_few_steps_a_record(turn):
    registry = tuple([(f"Found{letter}", 1) for letter in "ABCD"])
    count = 12_000
    calls, (_, pieces) = calls_of(lambda: find(in_turns(turn, count), registry=registry))
    assert sum(piece.count for piece in pieces) == count
    assert calls < 80 * count


@pytest.mark.parametrize("wide", [64, 65, 1200])
def test_a_record_of_many_components_costs_no_more_than_its_bytes(wide):
    names = [name for name, _ in MANY]
    mixed = random.Random(1)
    records = []
    for turn in range(6):
        chosen = mixed.sample(names, wide)
        records.append(record(2000 * turn + 1, *[component(name, b"a") for name in chosen]))
        records += [record(2000 * turn + 2 + i) for i in range(1100)]
    calls, (_, pieces) = calls_of(lambda: find(records, registry=MANY))
    assert sum(piece.count for piece in pieces) == len(records)
    found = [piece for piece in pieces if len(piece.types) == wide]
    assert sum(piece.count for piece in found) == 6
    assert calls < 10 * (len(records) + 6 * wide) + 6 * 2000


def test_records_of_many_components_are_found_whatever_their_order():
    names = [name for name, _ in MANY[:100]]
    mixed = random.Random(2)
    records, places = [], []
    at = 4
    for i in range(90):
        chosen = mixed.sample(names, 100 if i % 3 else 70)
        sizes = {name: mixed.randrange(5) for name in chosen}
        records.append(record(i + 1, *[component(name, bytes([i]) * sizes[name]) for name in chosen]))
        places.append((at, sizes))
        at += len(records[-1])
    body, pieces = find(records, registry=MANY[:100])
    for piece in pieces:
        for row, start in enumerate(piece.starts.tolist()):
            number = int.from_bytes(body[start : start + 16].tobytes(), "little") - 1
            assert places[number][0] == start
            sizes = [int(piece.sizes(k)[row]) for k in range(len(piece.types))]
            assert dict(zip([names[t] for t in piece.types], sizes, strict=True)) == places[number][1]
            for k, size in enumerate(sizes):
                first = int(piece.places(k)[row])
                assert body[first : first + size].tobytes() == bytes([number]) * size
    assert sum(piece.count for piece in pieces) == 90
