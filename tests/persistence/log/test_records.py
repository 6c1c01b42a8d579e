"""Changes as records, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pecs_np import (
    ChangeSet,
    ChangeTracker,
    DeltaLog,
    Limits,
    LoggedChanges,
    PersistenceError,
    World,
    WorldError,
)
from pecs_np.persistence.log.framing import DELTA, NOTHING, RecordHead
from pecs_np.persistence.log.reading import Record
from pecs_np.persistence.log.records import changes_of, payload_of
from pecs_np.testing import assert_worlds_equal


def back(kind, time, payload, number=3):
    data = memoryview(b"".join(payload))
    record = Record(RecordHead(kind, len(data), number, time, 0), data, 1, "here")
    return list(changes_of(iter([record]), Limits()))


def test_changes_are_a_delta_and_none_are_nothing(story):
    for changes in story.changes:
        kind, time, payload = payload_of(changes, None)
        assert kind == (DELTA if changes else NOTHING)
        (found,) = back(kind, time, payload)
        assert isinstance(found, LoggedChanges)
        assert (found.sequence, found.timestamp, found.inverse) == (3, changes.timestamp, None)
        assert (len(found), bool(found)) == (len(changes), bool(changes))
        world = story.world()
        for earlier in story.changes[: story.changes.index(changes)]:
            world.apply(earlier)
        world.apply(found)
        assert world.to_bytes() == story.states[story.changes.index(changes) + 1]


def test_transient_components_are_left_out_as_they_are_of_saves(tmp_path, define):
    Lasting, Passing = (
        define(name, {"x": np.int64}, transient=name == "Passing") for name in ("Lasting", "Passing")
    )
    world = World(seed=1)
    ids = world.spawn_batch(Lasting(x=[1, 2, 3]), Passing(x=[1, 2, 3]))
    tracker = ChangeTracker(world)
    path = tmp_path / "a.log"
    steps = [
        lambda: world.column(Passing)["x"].__iadd__(1),
        lambda: (world.column(Lasting)["x"].__iadd__(1), world.resources.insert(Passing(x=7))),
        lambda: (world.remove(ids[0], Passing, Lasting), world.resources.insert(Lasting(x=8))),
        lambda: (world.remove(ids[1], Passing), world.spawn(Passing(x=5))),
    ]
    with DeltaLog.open(path, world=world) as log:
        for step in steps:
            step()
            log.append(tracker.take())
            assert_worlds_equal(log.world(), World.from_bytes(world.to_bytes()))


def test_what_cannot_be_logged_is_told():
    with pytest.raises(WorldError, match=r"expected a ChangeSet, found 5; call tracker\.take"):
        payload_of(5, None)
    with pytest.raises(WorldError, match="a time in seconds since 1970, found nan"):
        payload_of(replace(ChangeSet(), timestamp=float("nan")), None)
    assert back(0x8001, 0.0, [b"skipped"]) == []
    with pytest.raises(PersistenceError, match="here"):
        back(DELTA, 0.0, [b"nonsense"])
