"""Entities in PostgreSQL: what is particular to it. The common contract is in tests/contracts."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import psycopg
import pytest

from pecs_np import (
    EntityRef,
    InvalidFormatError,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
    PostgresEntityPlugin,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence.stores import postgres as module
from pecs_np.testing import assert_worlds_equal


@component
class PostgresSpot:
    x: np.float32
    y: np.float32


@component
class PostgresTag:
    text: str
    of: EntityRef


@component
class PostgresBlock:
    turn: np.int64
    numbers: Annotated[np.float64, 100]


@pytest.fixture
def table(request):
    return "t_" + "".join(c if c.isalnum() else "_" for c in request.node.name)[-45:]


@pytest.fixture
def db(postgres):
    with psycopg.connect(postgres.address, autocommit=True) as db:
        yield db


@pytest.fixture
def store(postgres, table):
    with PostgresEntityPlugin(postgres.address, table=table) as store:
        yield store


@pytest.fixture
def own_server(servers):
    with servers.postgres() as server:
        yield server


def small_world():
    world = World(seed=1)
    ids = world.spawn_batch(PostgresSpot(x=[1, 2, 3], y=0))
    world.insert(ids[1:], PostgresTag(text=["ä", ""], of=ids[:2]))
    return world


def large_world(count, seed=2):
    world = World(seed=seed)
    ids = world.spawn_batch(PostgresSpot(x=np.arange(count), y=1))
    world.insert(ids[::3], PostgresTag(text=[f"{i}" * (i % 40) for i in range(len(ids[::3]))], of=ids[0]))
    return world


def save_all(store, world):
    store.save_entities(world, world.entities())
    return world.stable_ids()


def check_loads(store, world, ids=None):
    back = World()
    store.load_entities(back, world.stable_ids() if ids is None else ids)
    assert_worlds_equal(world, back)


def test_what_stands_in_the_tables(store, db, table):
    world = small_world()
    (first, *_) = save_all(store, world)
    assert db.execute(f"SELECT version FROM {table}_schema").fetchall() == [(1,)]
    stable_id = int(first["hi"]) << 64 | int(first["lo"])
    text = f"SELECT record FROM {table} WHERE id = %s"
    ((record,),) = db.execute(text, (f"{stable_id:032x}",)).fetchall()
    assert record[8:] == np.array([1, 0], "<f4").tobytes()
    text = f"SELECT document FROM {table}_layouts WHERE id = %s"
    assert b"PostgresSpot" in db.execute(text, (record[:8],)).fetchone()[0]
    assert db.execute(f"SELECT count(*) FROM {table}_layouts").fetchone() == (2,)


@pytest.mark.parametrize("count", [module._FEW, module._FEW + 1, 7000])
def test_batches_are_inserted_updated_and_mixed(store, count):
    world = large_world(count)
    ids = world.entities()
    save_all(store, world)
    check_loads(store, world)
    world.insert(ids[::2], PostgresSpot(x=5, y=6))
    world.remove(ids[::3], PostgresTag)
    save_all(store, world)
    world.despawn(ids[:5])
    assert len(store) == count
    check_loads(store, world)
    store.delete_entities(world.stable_ids())
    assert len(store) == len(store.list_entities()) == 5


def test_a_batch_that_seems_new_may_hold_what_is_there(store):
    world = large_world(5000)
    ids = world.entities()
    store.save_entities(world, ids[1:2])
    world.get(ids[1], PostgresSpot).x = 100
    save_all(store, world)
    assert len(store) == 5000
    check_loads(store, world)


def test_any_order_any_gaps_and_many_statements(store, monkeypatch):
    monkeypatch.setattr(module, "_STEP", 1000)
    world = large_world(3000)
    stable = save_all(store, world)
    store._step = 1000
    rng = np.random.default_rng(5)
    check_loads(store, world, rng.permutation(stable))
    assert np.array_equal(store.list_entities(), np.sort(stable, order=["hi", "lo"]))
    # Ranges with gaps, keys far from one another, and keys of entities that are not there.
    far = large_world(500, seed=3)
    save_all(store, far)
    for asked in (stable[::2], stable[::50], np.concatenate([stable[:700], far.stable_ids()])):
        back = World()
        found = store.load_entities(back, rng.permutation(asked))
        assert len(back) == len(found) == len(asked)
        assert all(store.holds(module.big_endian(asked).tolist()))
    gone = stable[100:200]
    store.delete_entities(gone)
    back = World()
    loaded = store.load_entities(back, stable[:250], missing="skip")
    assert (loaded == 0).tolist() == [100 <= i < 200 for i in range(250)]


def test_answers_that_are_too_large_are_asked_for_in_parts(store, db, table):
    # A statement that asks for more than a few records is refused as one whose answer exceeds a GiB is.
    world = large_world(50)
    stable = save_all(store, world)
    db.execute(f"""
        CREATE FUNCTION {table}_some(value bytea) RETURNS bytea LANGUAGE plpgsql VOLATILE AS $$
        DECLARE
            statement text := statement_timestamp()::text;
            calls int := 0;
        BEGIN
            IF current_setting('test.statement', true) = statement THEN
                calls := current_setting('test.calls')::int;
            END IF;
            IF calls = 8 THEN
                RAISE EXCEPTION 'too much' USING ERRCODE = 'program_limit_exceeded';
            END IF;
            PERFORM set_config('test.statement', statement, false), set_config('test.calls', (calls + 1)::text, false);
            RETURN value;
        END $$""")
    db.execute(f"ALTER TABLE {table} RENAME TO {table}_whole")
    db.execute(f"CREATE VIEW {table} AS SELECT id, {table}_some(record) AS record FROM {table}_whole")
    check_loads(store, world)
    assert store._step == 1
    check_loads(store, world, stable[::-1])


def test_records_that_did_not_change_are_not_written_again(store, db, table):
    world = large_world(2000)
    save_all(store, world)
    before = db.execute(f"SELECT ctid, id FROM {table} ORDER BY id").fetchall()
    save_all(store, world)
    assert db.execute(f"SELECT ctid, id FROM {table} ORDER BY id").fetchall() == before


def test_tables_may_stand_in_a_schema_and_have_any_name(postgres, db):
    db.execute('CREATE SCHEMA "my game"')
    for table in ("my game.Entities; DROP TABLE x", 'my game.a"b'):
        with PostgresEntityPlugin(postgres.address, table=table) as store:
            save_all(store, small_world())
            check_loads(store, small_world())
    names = {name for (name,) in db.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'my game'")}
    assert 'a"b_layouts' in names


def test_an_address_can_be_a_url(postgres, table):
    with PostgresEntityPlugin(
        f"postgresql://postgres@127.0.0.1:{postgres.port}/postgres", table=table
    ) as store:
        save_all(store, small_world())
        check_loads(store, small_world())


def test_a_store_of_another_version_is_refused(store, db, postgres, table):
    db.execute(f"UPDATE {table}_schema SET version = 2")
    with pytest.raises(
        UnsupportedVersionError, match=r"expected version 1 of the schema of .* found version 2"
    ):
        PostgresEntityPlugin(postgres.address, table=table)
    db.execute(f"DELETE FROM {table}_schema")
    with pytest.raises(InvalidFormatError, match="expected a version"):
        PostgresEntityPlugin(postgres.address, table=table)


def test_tables_of_others_stay_and_are_told(db, postgres, table):
    db.execute(f"CREATE TABLE {table} AS SELECT 5 AS mine")
    with pytest.raises(InvalidFormatError, match="pass another name of the table"):
        PostgresEntityPlugin(postgres.address, table=table)
    assert db.execute(f"SELECT mine FROM {table}").fetchall() == [(5,)]
    assert db.execute("SELECT to_regclass(%s)", (f"{table}_schema",)).fetchone() == (None,)
    db.execute(f"CREATE TABLE {table}_schema AS SELECT 1 AS version")
    with PostgresEntityPlugin(postgres.address, table=table) as store:
        for call in (
            lambda: save_all(store, small_world()),
            lambda: store.load_entity(World(), 5),
            lambda: store.delete_entity(5),
            store.list_entities,
        ):
            with pytest.raises(InvalidFormatError, match="expected the tables of a store"):
                call()


def test_tables_that_were_dropped_are_told(store, db, table):
    save_all(store, small_world())
    db.execute(f"DROP TABLE {table}")
    with pytest.raises(InvalidFormatError, match="found others or none"):
        save_all(store, small_world())


def test_a_server_that_is_away_is_told(servers):
    port = servers.free_port()
    with pytest.raises(
        PersistenceIOError, match=f"expected a PostgreSQL server at host=127.0.0.1 port={port}"
    ) as told:
        PostgresEntityPlugin(f"host=127.0.0.1 port={port} password=secret")
    assert told.value.is_recoverable
    assert "start it" in told.value.suggestion
    assert "secret" not in str(told.value)


def test_a_wrong_password_or_database_is_told(own_server):
    with psycopg.connect(own_server.address, autocommit=True) as db:
        db.execute("CREATE ROLE player LOGIN PASSWORD 'secret'")
        (rules,) = db.execute("SHOW hba_file").fetchone()
        old = Path(rules).read_text()
        Path(rules).write_text("host all player 127.0.0.1/32 scram-sha-256\n" + old)
        db.execute("SELECT pg_reload_conf()")
        address = f"host=127.0.0.1 port={own_server.port} user=player dbname=postgres"
        for bad in (
            f"{address} password=wrongone",
            own_server.address.replace("dbname=postgres", "dbname=nowhere"),
        ):
            with pytest.raises(PersistenceIOError, match="expected a PostgreSQL server at") as told:
                PostgresEntityPlugin(bad)
            assert "wrongone" not in str(told.value)
        # Who may not make tables is told so, and may use those that are there.
        with pytest.raises(PersistenceIOError, match="permission denied"):
            PostgresEntityPlugin(f"{address} password=secret")
        PostgresEntityPlugin(own_server.address).close()
        db.execute("GRANT SELECT ON pecs_entities, pecs_entities_layouts, pecs_entities_schema TO player")
        with PostgresEntityPlugin(f"{address} password=secret") as store:
            assert len(store) == 0
            with pytest.raises(PersistenceIOError, match="check the rights of the user"):
                save_all(store, small_world())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conninfo": 5}, "expected 'host"),
        ({"conninfo": "no such thing"}, "expected 'host"),
        ({"table": ""}, "expected the name of a table"),
        ({"table": "a.b.c"}, "expected the name of a table"),
        ({"table": "a\0"}, "expected the name of a table"),
        ({"table": None}, "expected the name of a table"),
        ({"table": "x" * 60}, "of at most 55 bytes"),
        ({"unknown": "x"}, "expected 'keep'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(PersistenceError, match=message):
        PostgresEntityPlugin(**arguments)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(PluginNotFoundError, match=r"'psycopg'.*pip install pecs_np\[postgres\]"):
        PostgresEntityPlugin()


def test_it_is_not_pickled(store):
    with pytest.raises(PersistenceError, match="make one in each process"):
        pickle.dumps(store)


def test_a_connection_that_is_ended_is_made_again(store, db):
    world = large_world(2000)
    stable = save_all(store, world)
    calls = (
        lambda: save_all(store, world),
        lambda: check_loads(store, world),
        lambda: store.holds([b"0" * 16]),
        lambda: store.delete_entities(stable[:1]),
        store.clear,
    )
    for call in calls:
        pid = store._connection.info.backend_pid
        db.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        call()
        assert store._connection.info.backend_pid != pid


def test_a_server_that_comes_back_has_the_entities_and_the_store_goes_on(own_server):
    world = small_world()
    with PostgresEntityPlugin(own_server.address) as store:
        stable = save_all(store, world)
        own_server.stop()
        for call in (
            lambda: save_all(store, world),
            lambda: store.load_entities(World(), stable),
            lambda: len(store),
        ):
            with pytest.raises(PersistenceIOError, match="expected a PostgreSQL server at"):
                call()
        own_server.start()
        check_loads(store, world)
        own_server.stop()
        own_server.start()
        save_all(store, world)
        assert len(store) == 3


@pytest.mark.parametrize("at", [0, 5, 12])
def test_a_server_stopped_in_the_middle_of_a_batch_has_all_of_it_or_nothing(own_server, monkeypatch, at):
    world = World(seed=3)
    world.spawn_batch(PostgresBlock(turn=0, numbers=np.zeros((20_000, 100))))
    with PostgresEntityPlugin(own_server.address) as store:
        stable = save_all(store, world)
        for block in world.query(PostgresBlock):
            block.turn += 1
        write, written = psycopg.Copy.write, []

        def counted(self, data):
            if len(written) == at:
                own_server.stop()
            written.append(None)
            write(self, data)

        monkeypatch.setattr(psycopg.Copy, "write", counted)
        with pytest.raises(PersistenceIOError, match="saved whole or not at all"):
            save_all(store, world)
        monkeypatch.undo()
        assert len(written) > at
        own_server.start()
        back = World()
        store.load_entities(back, stable)
        assert np.unique(back.column(PostgresBlock)["turn"]).tolist() == [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_program_killed_anywhere_in_a_batch_leaves_all_of_it_or_nothing(postgres, programs, table):
    process = programs.start(
        programs.KILLED, "PostgresEntityPlugin", postgres.address, {"table": table}, 6000, None
    )
    left = programs.answer(process)
    assert len(left) > 10
    assert not any(left[:-1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_has_a_connection_of_its_own(postgres, programs, table):
    process = programs.start(programs.FORKED, "PostgresEntityPlugin", postgres.address, {"table": table})
    assert programs.answer(process) == "done"


def test_processes_make_the_tables_and_save_the_same_entities_at_once(postgres, programs, table):
    made = [
        programs.start(
            programs.AT_ONCE, "PostgresEntityPlugin", postgres.address, {"table": table}, i, 4, 3000, None
        )
        for i in range(3)
    ]
    assert [process.stdout.readline() for process in made] == ["ready\n"] * 3
    for process in made:
        process.stdin.write("\n")
        process.stdin.flush()
    assert all(programs.answer(process) for process in made)


def test_who_waits_until_another_has_made_the_tables_finds_them(postgres, db, table):
    with ThreadPoolExecutor() as pool:
        with db.transaction():
            db.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f'pecs_np "{table}_schema"',))
            opened = pool.submit(PostgresEntityPlugin, postgres.address, table=table)
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not db.execute(waiting).fetchone()[0]:
                assert not opened.done()
                time.sleep(0.001)
            for text in (
                "CREATE TABLE {} (id uuid PRIMARY KEY, record bytea NOT NULL)",
                "CREATE TABLE {}_layouts (id bytea PRIMARY KEY, document bytea NOT NULL)",
                "CREATE TABLE {}_schema (version integer NOT NULL)",
                "INSERT INTO {}_schema VALUES (1)",
            ):
                db.execute(text.format(table))
        with opened.result(timeout=30) as store:
            assert len(store) == 0


def test_batches_that_wait_for_each_other_are_tried_again(store, db, postgres, table):
    world = small_world()
    save_all(store, world)
    low, high = sorted(str(key) for (key,) in db.execute(f"SELECT id FROM {table}"))[:2]
    text = f"UPDATE {table} SET record = record WHERE id = %s"
    tries = []

    def work(connection):
        tries.append(None)
        with connection.transaction():
            connection.execute(text, (low,))
            if len(tries) == 1:
                locked.wait()
            connection.execute(text, (high,))

    def other():
        with psycopg.connect(postgres.address) as other:
            # So that the store's is the one that the server ends.
            other.execute("SET deadlock_timeout = '1h'")
            other.execute(text, (high,))
            locked.wait()
            other.execute(text, (low,))

    locked = threading.Barrier(2)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(other)
        store._run(work)
        done.result()
    assert len(tries) >= 2
