"""Batches in Redis that are moved to their place by whoever is there, in the order in which they were saved."""

import numpy as np
import pytest

from pecs_np.ecs.ids import STABLE_ID
from pecs_np.persistence.stores import redis_batches
from pecs_np.persistence.stores.records import Records, key_of, layout_of
from pecs_np.persistence.stores.redis_batches import Batches
from pecs_np.persistence.stores.redis_talk import command, said


@pytest.fixture
def pool(redis_server):
    redis = pytest.importorskip("redis")
    with redis.Redis.from_url(redis_server.address) as client:
        yield client.connection_pool
        client.delete(*client.keys("batches*"))


@pytest.fixture
def in_two_steps(monkeypatch):
    monkeypatch.setattr(redis_batches, "_AT_ONCE", 0)


def records_of(numbers, text):
    ids = np.array([(n, 0) for n in numbers], STABLE_ID)
    return Records(layout_of(()), ids, np.frombuffer(text * len(numbers), "u1"), None)


def read(pool, batches, *numbers):
    asked = command(b"HMGET", batches.entities, *map(key_of, numbers))
    return batches.steady(pool, [asked])[0]


def test_batches_are_moved_in_the_order_of_saving(pool, in_two_steps, monkeypatch):
    batches = Batches(b"batches")
    with monkeypatch.context() as patch:
        patch.setattr(batches, "finish", lambda pool: None)
        batches.write(pool, [], [records_of([1, 2], b"12345678")])
        batches.write(pool, [], [records_of([2, 3], b"abcdefgh")])
    assert said(pool, [command(b"LLEN", b"batches:pending")], 1) == [2]
    assert read(pool, batches, 1, 2, 3, 4) == [b"12345678", b"abcdefgh", b"abcdefgh", None]


def test_who_comes_late_to_move_a_batch_changes_nothing(pool, in_two_steps, monkeypatch):
    batches, late = Batches(b"batches"), Batches(b"batches")
    with monkeypatch.context() as patch:
        patch.setattr(batches, "finish", lambda pool: None)
        batches.write(pool, [], [records_of([1], b"12345678")])
    (entries,) = said(pool, [command(b"LRANGE", b"batches:pending", b"0", b"-1")], 1)
    batches.finish(pool)
    batches.write(pool, [], [records_of([1], b"newer...")])
    # As one that read the list before, and goes on only now.
    said(pool, [command(b"RPUSH", b"batches:pending", *entries)], 1)
    late.finish(pool)
    assert read(pool, batches, 1) == [b"newer..."]
    assert said(pool, [command(b"EXISTS", b"batches:pending")], 1) == [0]


def test_a_change_waits_until_batches_are_in_their_place(pool, in_two_steps, monkeypatch):
    batches = Batches(b"batches")
    with monkeypatch.context() as patch:
        patch.setattr(batches, "finish", lambda pool: None)
        batches.write(pool, [], [records_of([1, 2], b"12345678")])
    remove = [command(b"HDEL", batches.entities, key_of(1))]
    assert batches.changed(pool, lambda: remove, 1) == [1]
    assert read(pool, batches, 1, 2) == [None, b"12345678"]
