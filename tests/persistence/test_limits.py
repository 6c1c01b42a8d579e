"""What a reader refuses because it asks for too much."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest

from pecs_np import BinaryPlugin, LimitExceededError, Limits, World, component


@component
class LimitedPoint:
    x: np.float32 = 0.0
    y: np.float32 = 0.0


@pytest.fixture(scope="module")
def saved():
    world = World(seed=3)
    world.spawn_batch(LimitedPoint(x=[1, 2, 3]))
    world.spawn()
    return world.to_bytes()


def exact_limits(reference, data):
    """The least that a save needs of each limit."""
    save = reference.read(data)
    first = int.from_bytes(data[data.index(b"PCOL") + 64 + 24 :][:8], "little")
    return Limits(
        head_size=first,
        types=1,
        sections=len(save.parts),
        schema_size=len(save.schema_text),
        itemsize=8,
        total_size=sum(part.raw_size for part in save.parts),
    )


def test_a_save_that_needs_exactly_what_is_allowed_loads(reference, saved):
    snapshot = BinaryPlugin(limits=exact_limits(reference, saved)).decode(saved)
    assert snapshot.entity_count == 4


@pytest.mark.parametrize("name", ["head_size", "types", "sections", "schema_size", "itemsize", "total_size"])
def test_one_less_than_needed_is_refused(reference, saved, name):
    limits = exact_limits(reference, saved)
    limits = replace(limits, **{name: getattr(limits, name) - 1})
    with pytest.raises(LimitExceededError):
        BinaryPlugin(limits=limits).decode(saved)


def test_ids_that_unpack_to_far_more_than_the_file_are_refused(reference):
    rows = (1 << 30) + 1
    data = reference.make([], [{"runs": [(1, rows)]}]).to_bytes()
    with pytest.raises(LimitExceededError, match="1000 times"):
        World.from_bytes(data)
    assert BinaryPlugin(limits=Limits(ratio=10**8)).decode(data).entity_count == rows


def test_rows_beyond_any_memory_are_refused_before_anything_is_allocated(reference):
    data = reference.make([], [{"runs": [(1, (1 << 60) - 1)]}]).to_bytes()
    with pytest.raises(LimitExceededError):
        BinaryPlugin(limits=Limits(ratio=1 << 60)).decode(data)


def test_a_save_larger_than_the_ratio_alone_would_allow_is_no_trouble_below_a_gibibyte(reference):
    data = reference.make([], [{"runs": [(1, 1 << 20)]}]).to_bytes()
    assert len(World.from_bytes(data)) == 1 << 20


def test_default_limits_hold_for_plugins_and_never_change():
    assert BinaryPlugin().limits == Limits()
    assert all(value > 0 for value in asdict(Limits()).values())
    with pytest.raises(FrozenInstanceError):
        Limits().types = 3
