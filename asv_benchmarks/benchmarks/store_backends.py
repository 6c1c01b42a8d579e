"""The libraries below the entity stores, and what a program without these stores would call of them."""

import contextlib
import importlib
import importlib.util
import itertools
import sqlite3
import tempfile
from pathlib import Path

from pecs_np import (
    KeyValueEntityPlugin,
    LmdbEntityPlugin,
    PostgresEntityPlugin,
    RedisEntityPlugin,
    SqliteEntityPlugin,
)


class Backend:
    """A kind of store, and the calls to its library that a program without this one would make.

    Attributes
    ----------
    package : str or None
        What has to be installed.
    bare_save, bare_load : str
        What those calls are, for the table.
    """

    package = None
    bare_save = bare_load = ""

    def __init__(self):
        if self.package is not None:
            try:
                importlib.import_module(self.package)
            except ImportError:
                raise NotImplementedError(f"{self.package} is not installed") from None
        self._left = contextlib.ExitStack()
        self.folder = Path(self._left.enter_context(tempfile.TemporaryDirectory()))

    def close(self):
        self._left.close()

    def on_close(self, call):
        self._left.callback(call)

    def store(self):
        """Return a new store."""
        raise NotImplementedError

    def open_bare(self):
        """Open another place, with the library alone."""
        raise NotImplementedError

    def save(self, keys, values):
        raise NotImplementedError

    def load(self, keys):
        raise NotImplementedError

    def forget(self):
        """Empty the store before each save, where the bare library cannot save over what is there."""


class Sqlite(Backend):
    bare_save = "`executemany`"
    bare_load = "`SELECT ... json_each`"

    def store(self):
        store = SqliteEntityPlugin(self.folder / "store.db", durable=False)
        self.on_close(store.close)
        return store

    def open_bare(self):
        self.db = sqlite3.connect(self.folder / "bare.db", isolation_level=None)
        self.on_close(self.db.close)
        for pragma in (
            "page_size = 16384",
            "cache_size = -32768",
            "journal_mode = WAL",
            "synchronous = NORMAL",
        ):
            self.db.execute(f"PRAGMA {pragma}")
        self.db.execute(
            "CREATE TABLE blobs (id BLOB NOT NULL PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID"
        )

    def save(self, keys, values):
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(
            "INSERT INTO blobs VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
            zip(keys, values, strict=True),
        )
        self.db.execute("COMMIT")

    def load(self, keys):
        # A key is bytes, which JSON cannot hold: its place is enough.
        return self.db.execute(
            "SELECT record FROM json_each(?2) AS asked"
            " LEFT JOIN blobs ON blobs.id = substr(?1, 1 + 16 * asked.key, 16)",
            (b"".join(keys), f"[0{',0' * (len(keys) - 1)}]"),
        ).fetchall()


class Lmdb(Backend):
    package = "lmdb"
    bare_save = "`putmulti`"
    bare_load = "`getmulti`"

    def store(self):
        store = LmdbEntityPlugin(self.folder / "store.lmdb", map_size=1 << 28, durable=False)
        self.on_close(store.close)
        return store

    def open_bare(self):
        lmdb = importlib.import_module(self.package)
        self.env = lmdb.open(
            str(self.folder / "bare.lmdb"), subdir=False, map_size=1 << 28, max_dbs=1, metasync=False
        )
        self.on_close(self.env.close)
        self.db = self.env.open_db(b"blobs")

    def save(self, keys, values):
        with self.env.begin(self.db, write=True) as txn:
            txn.cursor().putmulti(list(zip(keys, values, strict=True)))

    def load(self, keys):
        with self.env.begin(self.db) as txn:
            return txn.cursor().getmulti(keys)


class Served(Backend):
    """A server of its own on this machine, started as the tests do."""

    server = ""
    options = ()

    def __init__(self):
        super().__init__()
        path = Path(__file__).parents[2] / "tests" / "servers.py"
        spec = importlib.util.spec_from_file_location("servers_of_benchmarks", path)
        servers = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(servers)
        except (ImportError, OSError) as error:
            raise NotImplementedError(f"the servers of the tests cannot be started: {error}") from None
        if not servers.installed(self.server):
            raise NotImplementedError(f"{self.server} is not installed")
        self.address = self._left.enter_context(getattr(servers, self.server)(*self.options)).address


class Redis(Served):
    package, server = "redis", "redis"
    # Otherwise it tidies its file by and by, beside what is measured.
    options = ("--auto-aof-rewrite-percentage", "0")
    bare_save = "pipelined `HSET` of 4,096 each"
    bare_load = "pipelined `HMGET` of 4,096 each"
    step = 4096

    def store(self):
        store = RedisEntityPlugin(self.address)
        self.on_close(store.close)
        return store

    def open_bare(self):
        self.client = importlib.import_module(self.package).Redis.from_url(self.address)
        self.on_close(self.client.close)

    def save(self, keys, values):
        pipeline = self.client.pipeline(transaction=True)
        for start in range(0, len(keys), self.step):
            part = slice(start, start + self.step)
            flat = itertools.chain.from_iterable(zip(keys[part], values[part], strict=True))
            pipeline.execute_command("HSET", "blobs", *flat)
        pipeline.execute()

    def load(self, keys):
        pipeline = self.client.pipeline(transaction=False)
        for start in range(0, len(keys), self.step):
            pipeline.hmget("blobs", keys[start : start + self.step])
        return pipeline.execute()


class Postgres(Served):
    package, server = "psycopg", "postgres"
    bare_save = "binary `COPY` into an empty table"
    bare_load = "binary `COPY TO`"

    def store(self):
        store = PostgresEntityPlugin(self.address)
        self.db = importlib.import_module(self.package).connect(self.address, autocommit=True)
        self.db.execute("CREATE TABLE blobs (id uuid PRIMARY KEY, record bytea NOT NULL)")
        self.on_close(store.close)
        self.on_close(self.db.close)
        return store

    def open_bare(self):
        pass

    def forget(self):
        self.db.execute("TRUNCATE pecs_entities")

    def save(self, keys, values):
        self.db.execute("TRUNCATE blobs")
        with self.db.cursor() as cursor, cursor.copy("COPY blobs FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["bytea", "bytea"])
            for row in zip(keys, values, strict=True):
                copy.write_row(row)

    def load(self, keys):
        with self.db.cursor() as cursor, cursor.copy("COPY blobs TO STDOUT (FORMAT binary)") as copy:
            copy.set_types(["bytea", "bytea"])
            return list(copy.rows())


class Memory(Backend):
    """A dict, which has no library below it."""

    def store(self):
        return KeyValueEntityPlugin()


BACKENDS = {"sqlite": Sqlite, "lmdb": Lmdb, "redis": Redis, "postgres": Postgres, "memory": Memory}
