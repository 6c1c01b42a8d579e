"""Runs of stable ids worked out block by block are those worked out at once."""

from __future__ import annotations

import io

import numpy as np
import pytest

from pecs_np import BinaryPlugin, World
from pecs_np.ecs.ids import STABLE_ID, IdColumn, encode_runs
from pecs_np.persistence.binary.id_runs import IDS_AT_ONCE, run_blocks, runs_pay

B = IDS_AT_ONCE


def ids_of(runs):
    """The ids of (first, count) pairs."""
    return IdColumn(STABLE_ID, runs).array()


def in_runs_of(length, count):
    numbers = np.arange(count)
    ids = np.zeros(count, STABLE_ID)
    ids["lo"] = numbers + numbers // length + 1
    return ids


CASES = {
    "one": ids_of([(1, 1)]),
    "one run": ids_of([(5, 3 * B)]),
    "a run that ends with a block": ids_of([(5, B), (3 * B, 100)]),
    "a run that begins with a block's last": ids_of([(5, B - 1), (3 * B, B)]),
    "a run that begins with a block's second": ids_of([(5, B + 1), (3 * B, B)]),
    "a step down": ids_of([(2**70, 10 * B // 9), (1, 5)]),
    "over the end of the low half": ids_of([(2**64 - B, 2 * B)]),
    "the same low half again": ids_of([(2**64 + 7, 9), (2**65 + 16, 9)]),
    "the high half not carried": np.array([(2**64 - 1, 3), (0, 3)], STABLE_ID),
    "the high half carried too early": np.array([(6, 3), (7, 4)] * 9, STABLE_ID),
    "runs of 8": in_runs_of(8, 2 * B + 8),
    "runs of 9": in_runs_of(9, 2 * B + 5),
    "runs of 7": in_runs_of(7, 2 * B + 5),
    "runs of 1": in_runs_of(1, B + 5),
    "as few as pay": ids_of([(1, 9), (100, 7)]),
    "one more than pay": ids_of([(1, 8), (100, 7), (200, 1)]),
}


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_the_runs_worked_out_at_once(name):
    ids = CASES[name]
    at_once = encode_runs(IdColumn(STABLE_ID, array=ids))
    assert runs_pay(ids) == (at_once is not None)
    if at_once is not None:
        assert b"".join(run_blocks(ids)) == at_once


@pytest.mark.parametrize("length", [1, 8, 9, 1000])
@pytest.mark.parametrize("compression", [None, "lz4"])
def test_a_save_of_many_runs_is_loaded_again(length, compression):
    if compression:
        pytest.importorskip("lz4")
    world = World()
    world.spawn_batch(count=2 * B, stable_ids=in_runs_of(length, 2 * B))
    plugin = BinaryPlugin(compression=compression)
    data = world.to_bytes(plugin)
    back = World.from_bytes(data)
    assert (back.stable_ids() == world.stable_ids()).all()
    stream = io.BytesIO()
    plugin.save(world, stream)
    assert stream.getvalue() == data
    assert world.to_bytes(plugin) == data
