"""What a reader refuses because it asks for too much."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import numpy as np
import pytest

import pecs_np
from pecs_np import BinaryPlugin, LimitExceededError, Limits, World, component

ROOT = Path(pecs_np.__file__).parents[1]


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


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory that the system keeps to")
@pytest.mark.parametrize("form", ["many runs", "a run and an id", "a run and a reference"])
def test_a_small_file_that_promises_a_thousand_million_ids_does_not_eat_all_memory(reference, form):
    save = {
        "many runs": lambda: reference.make([], [{"runs": [(1 + (i << 40), 10**7) for i in range(100)]}]),
        "a run and an id": lambda: reference.make(
            [("LimitedForeign", 1, [])],
            [{"runs": [(9, 10**9)]}, {"ids": [5, 1, 7], "columns": {"LimitedForeign": b""}}],
        ),
        "a run and a reference": lambda: reference.make(
            [("LimitedForeign", 1, [{"name": "to", "ref": True}])],
            [{"runs": [(9, 10**9)]}, {"ids": [5], "columns": {"LimitedForeign": b"\x09" + bytes(15)}}],
        ),
    }[form]()
    data = save.to_bytes()
    assert len(data) < 4000
    code = """
import resource, sys
import pecs_np
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
try:
    pecs_np.World.from_bytes(sys.stdin.buffer.read())
except pecs_np.PecsError:
    pass
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-300:]


def test_default_limits_hold_for_plugins_and_never_change():
    assert BinaryPlugin().limits == Limits()
    assert all(value > 0 for value in asdict(Limits()).values())
    with pytest.raises(FrozenInstanceError):
        Limits().types = 3
