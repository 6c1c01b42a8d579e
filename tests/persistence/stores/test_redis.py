"""Entities in Redis: what is particular to it. The common contract is in tests/contracts."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from typing import Annotated

import numpy as np
import pytest
import redis

from pecs_np import (
    CorruptedDataError,
    EntityRef,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
    RedisEntityPlugin,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence.stores import redis as module
from pecs_np.persistence.stores import redis_batches as batches
from pecs_np.testing import assert_worlds_equal


@component
class RedisSpot:
    x: np.float32
    y: np.float32


@component
class RedisTag:
    text: str
    of: EntityRef


@component
class RedisBlock:
    turn: np.int64
    numbers: Annotated[np.float64, 100]


@pytest.fixture
def prefix(request):
    # Without what is special in the patterns of Redis.
    return "test:" + request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture
def client(redis_server):
    with redis.Redis.from_url(redis_server.address) as client:
        yield client


@pytest.fixture
def store(redis_server, prefix):
    with RedisEntityPlugin(redis_server.address, prefix=prefix) as store:
        yield store


@pytest.fixture
def own_server(servers):
    with servers.redis() as server:
        yield server


def small_world():
    world = World(seed=1)
    ids = world.spawn_batch(RedisSpot(x=[1, 2, 3], y=0))
    world.insert(ids[1:], RedisTag(text=["ä", ""], of=ids[:2]))
    return world


def save_all(store, world):
    store.save_entities(world, world.entities())
    return world.stable_ids()


def test_what_stands_under_the_prefix(store, client, prefix):
    world = small_world()
    (first, *_) = save_all(store, world)
    assert {key.decode() for key in client.keys(prefix + ":*")} == {
        f"{prefix}:{name}" for name in ("entities", "layouts", "schema", "changes")
    }
    assert client.get(f"{prefix}:schema") == b"1"
    key = (int(first["hi"]) << 64 | int(first["lo"])).to_bytes(16, "big")
    record = client.hget(f"{prefix}:entities", key)
    assert record[8:] == np.array([1, 0], "<f4").tobytes()
    assert b"RedisSpot" in client.hget(f"{prefix}:layouts", record[:8])
    assert client.hlen(f"{prefix}:layouts") == 2


def test_batches_of_many_commands_come_back(store, prefix, redis_server):
    world = World(seed=2)
    count = 3 * batches.STEP + 5
    ids = world.spawn_batch(RedisSpot(x=np.arange(count), y=1))
    texts = [f"{i}" * (i % 40) for i in range(count // 2)]
    world.insert(ids[: count // 2], RedisTag(text=texts, of=ids[0]))
    stable = save_all(store, world)
    assert len(store) == count
    assert np.array_equal(store.list_entities(), np.sort(stable, order=["hi", "lo"]))
    back = World()
    with RedisEntityPlugin(redis_server.address, prefix=prefix) as other:
        other.load_entities(back, stable)
        assert_worlds_equal(world, back)
        other.delete_entities(stable[: count - 7])
    assert len(store.list_entities()) == 7
    (left,) = store.keys()
    assert store.holds(left) == [True] * 7
    store.clear()
    assert len(store) == 0


@pytest.fixture
def in_two_steps(monkeypatch):
    monkeypatch.setattr(batches, "_AT_ONCE", 0)


def test_large_batches_go_in_two_steps(store, client, prefix, in_two_steps):
    world = World(seed=2)
    count = 2 * batches.STEP + 5
    ids = world.spawn_batch(RedisSpot(x=np.arange(count), y=1))
    world.insert(ids[:100], RedisTag(text="x", of=ids[0]))
    stable = save_all(store, world)
    assert set(client.keys(f"{prefix}:*")) == {
        f"{prefix}:{name}".encode() for name in ("entities", "layouts", "schema", "changes")
    }
    back = World()
    store.load_entities(back, stable)
    assert_worlds_equal(world, back)


@pytest.mark.parametrize("what", ["load", "load one", "list", "len", "exists", "save", "delete", "clear"])
def test_whoever_comes_next_moves_a_batch_that_was_saved_to_its_place(
    redis_server, store, client, prefix, in_two_steps, what
):
    world = small_world()
    ids = world.entities()
    stable = save_all(store, world)
    world.get(ids[0], RedisSpot).x = 50
    last = world.spawn(RedisSpot(x=9, y=9))
    world_of_four = world.stable_ids()
    with RedisEntityPlugin(redis_server.address, prefix=prefix) as dying:
        dying._batches.finish = lambda pool: None
        save_all(dying, world)
    assert client.llen(f"{prefix}:pending") == 1
    assert all(client.ttl(key) == -1 for key in client.keys(f"{prefix}:batch:*"))
    back = World()
    if what == "load":
        store.load_entities(back, world_of_four)
        assert_worlds_equal(world, back)
    elif what == "load one":
        assert back.get(store.load_entity(back, world.get_stable_id(last)), RedisSpot).x == 9
    elif what == "list":
        assert len(store.list_entities()) == 4
    elif what == "len":
        assert len(store) == 4
    elif what == "exists":
        assert store.entity_exists(world.get_stable_id(last))
    elif what == "save":
        # Over what was saved before, though that comes to its place only now.
        world.get(ids[0], RedisSpot).x = 60
        store.save_entity(world, ids[0])
        assert back.get(store.load_entity(back, world.get_stable_id(ids[0])), RedisSpot).x == 60
    elif what == "delete":
        store.delete_entities(stable)
        assert len(store) == 1
    else:
        store.clear()
        assert len(store) == 0
    assert client.llen(f"{prefix}:pending") == 0
    assert not client.keys(f"{prefix}:batch:*")


def test_what_is_read_while_others_write_is_read_again(store, client, prefix):
    world = World(seed=2)
    world.spawn_batch(RedisSpot(x=np.zeros(2 * batches.STEP), y=0))
    stable = save_all(store, world)
    (keys,) = store.keys()
    later = World()
    asked = []
    in_turn = batches.said_in_turn

    def disturbed(pool, commands):
        # The first commands are carried out, then somebody saves, then the others.
        asked.append(len(commands))
        first = in_turn(pool, commands[:2])
        if len(asked) < disturbances:
            for spot in world.query(RedisSpot):
                spot.x += 1
            with RedisEntityPlugin(client, prefix=prefix) as writer:
                save_all(writer, world)
        return first + in_turn(pool, commands[2:])

    batches.said_in_turn = disturbed
    try:
        for disturbances, tries in ((2, 2), (100, batches._ATTEMPTS)):
            asked.clear()
            store.load_entities(later, stable)
            assert len(asked) == tries
            assert len(np.unique(later.column(RedisSpot)["x"])) == 1
            assert np.array_equal(later.column(RedisSpot)["x"], world.column(RedisSpot)["x"])
    finally:
        batches.said_in_turn = in_turn
    assert len(keys) == len(stable)


def test_listing_waits_for_nobody_and_sees_whole_batches(store, client, prefix):
    world = World(seed=2)
    world.spawn_batch(RedisSpot(x=np.zeros(2 * batches.STEP), y=0))
    save_all(store, world)
    scan = store._scan
    calls = []

    def disturbed(pool, cursor):
        calls.append(cursor)
        if len(calls) % 2:
            with RedisEntityPlugin(client, prefix=prefix) as writer:
                more = World()
                more.spawn_batch(RedisSpot(x=np.zeros(10), y=0))
                save_all(writer, more)
        return scan(pool, cursor)

    store._scan = disturbed
    listed = store.list_entities()
    assert len(listed) == len(store)
    assert (len(listed) - 2 * batches.STEP) % 10 == 0


def test_a_client_of_ones_own_is_used_and_stays_open(redis_server, prefix):
    with redis.Redis.from_url(redis_server.address, decode_responses=True, protocol=3) as client:
        world = small_world()
        with RedisEntityPlugin(client, prefix=prefix) as store:
            stable = save_all(store, world)
            back = World()
            store.load_entities(back, stable)
            assert_worlds_equal(world, back)
            assert len(store.list_entities()) == 3
        with pytest.raises(
            PersistenceError, match=r"expected an open store, found the store 'redis' .* closed"
        ):
            len(store)
        assert client.ping()


def test_layouts_are_there_again_after_everything_was_flushed(store, client, prefix):
    world = small_world()
    save_all(store, world)
    client.delete(*client.keys(prefix + ":*"))
    stable = save_all(store, world)
    assert client.get(f"{prefix}:schema") == b"1"
    with RedisEntityPlugin(client, prefix=prefix) as other:
        back = World()
        other.load_entities(back, stable)
        assert_worlds_equal(world, back)


def test_keys_of_others_stay_and_are_told(redis_server, client, prefix):
    client.set(f"{prefix}:other", "mine")
    world = small_world()
    with RedisEntityPlugin(client, prefix=prefix) as store:
        save_all(store, world)
        client.hset(f"{prefix}:entities", "foreign", "value")
        with pytest.raises(CorruptedDataError, match=r"expected stable ids of 16 bytes, found b'foreign'"):
            store.list_entities()
        store.clear()
        assert client.get(f"{prefix}:other") == b"mine"
        client.set(f"{prefix}:entities", "text")
        for call in (
            lambda: save_all(store, world),
            lambda: store.load_entities(World(), world.stable_ids()),
            store.list_entities,
            lambda: len(store),
            lambda: store.entity_exists(5),
            lambda: store.delete_entity(5),
        ):
            with pytest.raises(InvalidFormatError, match=f"under {prefix}:, found others at redis://127"):
                call()
        assert client.get(f"{prefix}:entities") == b"text"


@pytest.mark.parametrize(
    ("version", "error", "message"),
    [
        (
            "2",
            UnsupportedVersionError,
            "expected version 1 of the schema of the store 'redis' .*, found version 2",
        ),
        ("text", InvalidFormatError, "expected a version under"),
    ],
)
def test_a_store_of_another_version_is_refused(redis_server, client, prefix, version, error, message):
    client.set(f"{prefix}:schema", version)
    with pytest.raises(error, match=message):
        RedisEntityPlugin(redis_server.address, prefix=prefix)


def test_a_server_that_is_away_is_told(servers):
    address = f"redis://:secret@127.0.0.1:{servers.free_port()}/3"
    with pytest.raises(
        PersistenceIOError, match=r"expected a Redis server at redis://127.0.0.1:\d+/3"
    ) as told:
        RedisEntityPlugin(address)
    assert told.value.is_recoverable
    assert "start it" in told.value.suggestion
    assert "secret" not in str(told.value)


def test_a_wrong_password_or_database_is_told(servers):
    with servers.redis("--requirepass", "secret") as server:
        place = server.address.removeprefix("redis://")
        world = small_world()
        with RedisEntityPlugin(f"redis://:secret@{place}") as store:
            save_all(store, world)
        for address in (f"redis://:wrongone@{place}", server.address, f"redis://:secret@{place[:-1]}99"):
            with pytest.raises(
                PersistenceIOError, match="check the user, the password, the database"
            ) as told:
                RedisEntityPlugin(address)
            assert "wrongone" not in str(told.value)
            assert "secret" not in str(told.value)


def until_room(server):
    """Wait until the server has let go of what it refused: it frees what clients sent in its own time."""
    with redis.Redis.from_url(server.address) as client:
        for _ in range(1000):
            memory = client.info("memory")
            if memory["used_memory"] < memory["maxmemory"] * 0.9:
                return
            time.sleep(0.01)
    pytest.fail(f"expected the server to free memory, found {memory['used_memory']} bytes in use")


@pytest.mark.parametrize("at_once", [0, 32])
def test_what_the_server_has_no_room_for_is_saved_not_at_all(servers, monkeypatch, at_once):
    monkeypatch.setattr(batches, "_AT_ONCE", at_once)
    with servers.redis("--maxmemory", "3mb") as server, RedisEntityPlugin(server.address) as store:
        world = small_world()
        stable = save_all(store, world)
        large = World()
        large.spawn_batch(RedisBlock(turn=1, numbers=np.zeros((10_000, 100))))
        with pytest.raises(PersistenceIOError, match="maxmemory"):
            save_all(store, large)
        until_room(server)
        assert len(store) == 3
        back = World()
        store.load_entities(back, stable)
        assert_worlds_equal(world, back)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"server": 5}, "expected a URL such as"),
        ({"server": "localhost"}, "expected a URL such as"),
        ({"server": "redis://localhost/x?socket_timeout=soon"}, "expected a URL such as"),
        ({"prefix": ""}, "expected text as prefix"),
        ({"prefix": b"x"}, "expected text as prefix"),
        ({"prefix": "\udc80"}, "expected text as prefix"),
        ({"unknown": "x"}, "expected 'keep'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(PersistenceError, match=message):
        RedisEntityPlugin(**arguments)


def test_records_that_redis_cannot_hold_are_refused(store, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST", 100)
    world = World()
    entity = world.spawn(RedisTag(text="x" * 100, of=None))
    with pytest.raises(LimitExceededError, match="expected records of at most 100 bytes"):
        store.save_entity(world, entity)
    assert len(store) == 0


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(
        PluginNotFoundError, match=r"expected the package 'redis'.*pip install pecs_np\[redis\]"
    ):
        RedisEntityPlugin()


def test_it_is_not_pickled(store):
    with pytest.raises(PersistenceError, match="make one in each process"):
        pickle.dumps(store)


def test_a_server_that_comes_back_has_the_entities_and_the_store_goes_on(own_server):
    world = small_world()
    with RedisEntityPlugin(own_server.address) as store:
        stable = save_all(store, world)
        own_server.stop()
        for call in (
            lambda: save_all(store, world),
            lambda: store.load_entities(World(), stable),
            lambda: len(store),
        ):
            with pytest.raises(PersistenceIOError, match="expected a Redis server at"):
                call()
        own_server.start()
        for _ in range(2):
            back = World()
            store.load_entities(back, stable)
            assert_worlds_equal(world, back)
            own_server.stop()
            own_server.start()
        save_all(store, world)
        assert len(store) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("at", [0, 3, 8, 25, 48])
def test_a_server_killed_in_the_middle_of_a_batch_has_all_of_it_or_nothing(own_server, monkeypatch, at):
    from redis.connection import AbstractConnection

    world = World(seed=3)
    world.spawn_batch(RedisBlock(turn=0, numbers=np.zeros((30_000, 100))))
    with RedisEntityPlugin(own_server.address) as store:
        stable = save_all(store, world)
        for block in world.query(RedisBlock):
            block.turn += 1
        send, sent = AbstractConnection.send_packed_command, []

        def counted(self, command, *args, **kwargs):
            for item in command:
                if len(sent) == at:
                    os.kill(own_server.pid, signal.SIGKILL)
                sent.append(None)
                send(self, [item], *args, **kwargs)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)
        with pytest.raises(PersistenceIOError, match="saved whole or not at all"):
            save_all(store, world)
        assert len(sent) > at
        monkeypatch.undo()
        own_server.stop()
        own_server.start()
        back = World()
        store.load_entities(back, stable)
        assert len(np.unique(back.column(RedisBlock)["turn"])) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("at_once", [None, 0])
def test_a_program_killed_anywhere_in_a_batch_leaves_all_of_it_or_nothing(
    redis_server, programs, prefix, at_once, client
):
    where = redis_server.address, {"prefix": prefix}
    left = programs.answer(programs.start(programs.KILLED, "RedisEntityPlugin", *where, 3000, at_once))
    assert len(left) > 20
    # Before the command that counts was sent, nothing is saved, and after its answer was read, all is. Between
    # the two the server may not have read it yet, and throws it away with a connection that breaks off.
    assert not any(left[:10])
    assert all(left[-1 if at_once is None else -5 :])
    assert client.llen(f"{prefix}:pending") == 0
    # What those killed left is forgotten by and by.
    rest = client.keys(f"{prefix}:batch:*")
    assert (len(rest) > 0) == (at_once == 0)
    assert all(client.ttl(key) > 0 for key in rest)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_a_connection_of_its_own(redis_server, programs, prefix):
    process = programs.start(programs.FORKED, "RedisEntityPlugin", redis_server.address, {"prefix": prefix})
    assert programs.answer(process) == "done"


@pytest.mark.parametrize("at_once", [None, 0])
def test_processes_save_and_load_the_same_entities_at_once(redis_server, programs, prefix, at_once):
    made = [
        programs.start(
            programs.AT_ONCE,
            "RedisEntityPlugin",
            redis_server.address,
            {"prefix": prefix},
            i,
            5,
            3000,
            at_once,
        )
        for i in range(3)
    ]
    assert [process.stdout.readline() for process in made] == ["ready\n"] * 3
    for process in made:
        process.stdin.write("\n")
        process.stdin.flush()
    assert all(programs.answer(process) for process in made)
