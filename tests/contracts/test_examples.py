"""The formats of the examples keep the contract, and more of what they promise."""

import struct
import threading
import zlib

import numpy as np
import pytest

from pecs_np import (
    CorruptedDataError,
    EntityRef,
    InvalidFormatError,
    LimitExceededError,
    Limits,
    PecsError,
    PersistenceError,
    PersistenceIOError,
    UnsupportedVersionError,
    World,
)
from pecs_np.testing import PluginContract, assert_worlds_equal


class TestMessagePack(PluginContract):
    @pytest.fixture(autouse=True)
    def _example(self, example):
        self.example = example("messagepack_plugin")

    def make_plugin(self, tmp_path):
        return self.example.MessagePackPlugin()


class TestPostgres(PluginContract):
    @pytest.fixture(autouse=True)
    def _example(self, example, postgres):
        self.example, self.address = example("postgres_plugin"), postgres.address

    def make_plugin(self, tmp_path):
        return self.example.PostgresPlugin(self.address)


@pytest.fixture
def world(define):
    Note = define("examples.Note", {"text": str, "about": EntityRef, "many": list[np.uint16]})
    world = World(seed=1, metadata={"a": [1, {"b": None}]})
    a = world.spawn(Note(text="é", about=0, many=[]))
    world.spawn_batch(Note(text=["x", ""], about=a, many=[1, 2]))
    world.rngs.create("dice")
    return world


class TestMessagePackBytes:
    """Damage that the sum does not show, because it is made right again."""

    @pytest.fixture
    def plugin(self, example):
        return example("messagepack_plugin").MessagePackPlugin()

    @staticmethod
    def signed(body):
        return body + struct.pack(">BI", 0xCE, zlib.crc32(body))

    def test_wrong_bytes_with_a_right_sum_give_an_error_or_a_sound_world(self, plugin, world):
        body = world.to_bytes(plugin)[:-5]
        assert self.signed(body) == world.to_bytes(plugin)
        refused = 0
        for place in range(len(body)):
            for flip in (1 << place % 8, 0xFF, 0x20):
                damaged = bytearray(body)
                damaged[place] ^= flip
                try:
                    assert World.from_bytes(self.signed(bytes(damaged)), plugin).validate()
                except PecsError:
                    refused += 1
        assert refused > len(body)

    def test_versions_and_numbers_of_columns(self, plugin, world):
        body = world.to_bytes(plugin)[:-5]
        start = len(b"\x94\xb3pecs_np.messagepack")
        assert body[start] == 1
        newer = body[:start] + b"\x02" + body[start + 1 :]
        with pytest.raises(UnsupportedVersionError) as caught:
            World.from_bytes(self.signed(newer), plugin)
        assert (caught.value.found, caught.value.expected) == (2, 1)
        for many in (b"\xdd\xff\xff\xff\xff", b"\xdd\x00\x00\x00\x00", b"\xc0", b"\xdd"):
            place = body.index(b"\xdd\x00\x00\x00")
            with pytest.raises(InvalidFormatError):
                World.from_bytes(self.signed(body[:place] + many + body[place + 5 :]), plugin)
        deep = body[: start + 1] + b"\x91" * 100_000
        with pytest.raises(InvalidFormatError):
            World.from_bytes(self.signed(deep), plugin)

    def test_limits(self, example, world):
        plugin = example("messagepack_plugin").MessagePackPlugin(Limits(itemsize=4))
        with pytest.raises(LimitExceededError):
            World.from_bytes(world.to_bytes(plugin), plugin)

    def test_columns_beyond_what_messagepack_holds(self, plugin, world, monkeypatch, example):
        class Huge:
            nbytes = 1 << 32

        monkeypatch.setattr(example("messagepack_plugin"), "pack", lambda snapshot: ({}, [Huge()]))
        with pytest.raises(LimitExceededError, match="4 GiB"):
            world.to_bytes(plugin)


class TestPostgresServer:
    """What only a database can do wrong."""

    @pytest.fixture
    def plugin(self, example, postgres):
        return example("postgres_plugin").PostgresPlugin(postgres.address)

    @pytest.fixture
    def db(self, postgres, plugin):
        import psycopg

        World().save_with("first", plugin)  # makes the tables
        with psycopg.connect(postgres.address, autocommit=True) as db:
            yield db

    def test_entities_are_rows(self, world, plugin, db):
        world.save_with("rows", plugin)
        query = "SELECT stable_id::text FROM pecs_entities JOIN pecs_saves ON id = save WHERE name = 'rows'"
        found = {int(text.replace("-", ""), 16) for (text,) in db.execute(query)}
        assert found == {int(i) for i in map(world.get_stable_id, world.entities().tolist())}

    @pytest.mark.parametrize(
        "damage",
        [
            "DELETE FROM pecs_columns WHERE save = {save} AND place = 1",
            "DELETE FROM pecs_entities WHERE save = {save} AND row = 1",
            "DELETE FROM pecs_entities WHERE save = {save}",
            "UPDATE pecs_columns SET data = data || 'x' WHERE save = {save} AND place = 1",
            "UPDATE pecs_columns SET data = decode('ff', 'hex') || data WHERE save = {save}",
            "UPDATE pecs_entities SET stable_id = '00000000-0000-0000-0000-000000000007' WHERE save = {save}",
            "UPDATE pecs_entities SET stable_id = '00000000-0000-0000-0000-000000000000' WHERE save = {save} AND row = 0",
            "UPDATE pecs_saves SET document = '{{}}' WHERE id = {save}",
            "UPDATE pecs_saves SET document = '[1, \"\\u0000\"]' WHERE id = {save}",
        ],
    )
    def test_rows_that_were_changed_are_noticed(self, world, plugin, db, damage):
        world.save_with("damaged", plugin)
        (save,) = db.execute("SELECT id FROM pecs_saves WHERE name = 'damaged'").fetchone()
        db.execute(damage.format(save=save))
        with pytest.raises((CorruptedDataError, InvalidFormatError)):
            World.load_with("damaged", plugin)

    def test_tables_of_another_version_are_left_alone(self, world, plugin, db):
        world.save_with("kept", plugin)
        db.execute("UPDATE pecs_format SET version = 7")
        try:
            for call in (lambda: World.load_with("kept", plugin), lambda: World().save_with("kept", plugin)):
                with pytest.raises(UnsupportedVersionError) as caught:
                    call()
                assert (caught.value.found, caught.value.expected) == (7, 1)
        finally:
            db.execute("UPDATE pecs_format SET version = 1")
        assert_worlds_equal(world, World.load_with("kept", plugin))

    def test_a_connection_that_breaks_in_the_midst_of_a_save(self, world, plugin, db):
        world.save_with("kept", plugin)
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY pecs_%'"

        def cut(done, total):
            db.execute(query)

        large = World.from_snapshot(world.snapshot(copy=True))
        large.spawn_batch(count=200_000)
        with pytest.raises(PersistenceIOError, match="PostgreSQL refused"):
            large.save_with("kept", plugin, progress=cut)
        assert_worlds_equal(world, World.load_with("kept", plugin))
        cuts = iter([True])
        large.save_with("kept", plugin, retries=1, progress=lambda *_: next(cuts, None) and cut(0, 0))
        assert_worlds_equal(large, World.load_with("kept", plugin))

    def test_a_backup_is_a_save_of_its_own(self, world, plugin, db):
        for version in (1, 2, 3):
            world.version = version
            world.save_with("game", plugin, backup=True, durable=False)
        assert World.load_with("game", plugin).version == 3
        assert World.load_with("game.bak", plugin).version == 2
        plugin.delete("game")
        with pytest.warns(UserWarning, match="backup"):
            assert World.load_with("game", plugin, backup=True).version == 2

    def test_nothing_is_left_of_a_save_that_was_deleted(self, world, plugin, db):
        plugin.delete("missing")
        for _ in range(2):
            world.save_with("short", plugin, backup=True)
        (before,) = db.execute("SELECT count(*) FROM pecs_entities").fetchone()
        plugin.delete("short")
        plugin.delete("short.bak")
        (after,) = db.execute("SELECT count(*) FROM pecs_entities").fetchone()
        assert before - after == 2 * len(world)
        for table in ("pecs_entities", "pecs_columns"):
            assert (
                db.execute(f"SELECT 1 FROM {table} WHERE save NOT IN (SELECT id FROM pecs_saves)").fetchone()
                is None
            )
        with pytest.raises(PersistenceIOError, match="none under the name"):
            World.load_with("short", plugin)

    def test_saves_under_one_name_at_once_follow_one_another(self, world, plugin, db):
        worlds = [World(version=version) for version in range(1, 5)]
        for each in worlds:
            each.spawn_batch(count=1000 * each.version)
        threads = [threading.Thread(target=w.save_with, args=("contested", plugin)) for w in worlds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = World.load_with("contested", plugin)
        assert_worlds_equal(worlds[found.version - 1], found)
        assert len(found) == 1000 * found.version

    def test_a_load_sees_one_moment(self, world, plugin, db):
        worlds = [World(version=version) for version in (1, 2)]
        for each in worlds:
            each.spawn_batch(count=500 * each.version)
        worlds[0].save_with("moving", plugin)
        stop = threading.Event()

        def save():
            while not stop.is_set():
                for each in worlds:
                    each.save_with("moving", plugin)

        thread = threading.Thread(target=save)
        thread.start()
        try:
            for _ in range(20):
                found = World.load_with("moving", plugin)
                assert_worlds_equal(worlds[found.version - 1], found)
        finally:
            stop.set()
            thread.join()

    @pytest.mark.parametrize("name", ["", None, 3, b"x", "a\0b", "\ud800", "two\nlines"])
    def test_names_that_are_none(self, world, plugin, name):
        with pytest.raises(PersistenceError, match="name of a save"):
            world.save_with(name, plugin)
        with pytest.raises(PersistenceError, match="name of a save"):
            World.load_with(name, plugin)

    @pytest.mark.parametrize(
        "address", ["host=127.0.0.1 port={port} user=me password=secret", "host", "port=x"]
    )
    def test_a_server_that_is_away(self, example, servers, world, address):
        plugin = example("postgres_plugin").PostgresPlugin(address.format(port=servers.free_port()))
        for call in (lambda: world.save_with("a", plugin), lambda: World.load_with("a", plugin)):
            with pytest.raises(PersistenceIOError) as caught:
                call()
            assert caught.value.errno
            assert "secret" not in str(caught.value)
        if "secret" in address:
            assert "start the server, or set PECS_NP_POSTGRES" in str(caught.value)
            assert caught.value.is_recoverable
