"""A place of your own: whole worlds in PostgreSQL, each a save with a name, all of it or nothing.

Four tables: ``pecs_format`` has the version of these tables, ``pecs_saves`` a row for each save (its name, and
the description of its world as JSON), ``pecs_entities`` a row for each entity (its stable id as a UUID), and
``pecs_columns`` the columns of components, in pieces of 8 MiB. ``pecs_np.persistence.packed`` makes the
description and the columns, and checks them when they come back; rows go in by binary COPY, made by NumPy.

The script needs a server that it may make tables on. It takes the address from the environment::

    PECS_NP_POSTGRES="host=localhost dbname=game user=me" python examples/07_postgres_plugin.py
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np

from pecs_np import (
    PersistenceError,
    PersistenceIOError,
    PersistenceManager,
    PersistencePlugin,
    Snapshot,
    UnsupportedVersionError,
    World,
    component,
)
from pecs_np.persistence import check_current, pack, unpack
from pecs_np.testing import assert_worlds_equal

try:
    import orjson
    import psycopg
except ImportError:
    sys.exit('this example needs psycopg: pip install "psycopg[binary]"')

ADDRESS = "PECS_NP_POSTGRES"
VERSION = 1
TABLES = """
    CREATE TABLE pecs_format (version integer NOT NULL);
    INSERT INTO pecs_format VALUES (1);
    CREATE TABLE pecs_saves (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, document json NOT NULL);
    CREATE TABLE pecs_entities (
        save bigint NOT NULL, place integer NOT NULL, row integer NOT NULL, stable_id uuid NOT NULL,
        PRIMARY KEY (save, place, row));
    CREATE TABLE pecs_columns (
        save bigint NOT NULL REFERENCES pecs_saves ON DELETE CASCADE, place integer NOT NULL, piece integer NOT NULL,
        data bytea NOT NULL, PRIMARY KEY (save, place, piece));
"""
# A row of pecs_entities as binary COPY has it: how many fields, then the size and the value of each.
ROW = np.array([(4, 8, 0, 4, 0, 4, 0, 16, [0] * 16)], ">i2, >i4, >i8, >i4, >i4, >i4, >i4, >i4, (16,)u1")
START, END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
PIECE, ROWS = 8 << 20, 1 << 16


class PostgresPlugin(PersistencePlugin):
    """Worlds in a PostgreSQL database; a path is the name of a save, any text.

    Parameters
    ----------
    address : str
        Such as ``"host=localhost dbname=game"`` or ``"postgresql://localhost/game"``.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def save_snapshot(
        self,
        snapshot: Snapshot,
        path: Any,
        *,
        durable: bool = True,
        backup: bool = False,
        retries: int = 0,
        progress: Any = None,
    ) -> int:
        """Save *snapshot* under the name *path*; ``backup`` keeps the older save under that name and ".bak"."""
        name = _name(path)
        document, columns = pack(snapshot)
        total = sum(column.nbytes for column in columns)
        done = 0
        try:
            with self._transaction() as db:
                db.execute("SELECT pg_advisory_xact_lock(7366215)")  # one program at a time makes tables
                if db.execute("SELECT to_regclass('pecs_format')").fetchone() == (None,):
                    db.execute(TABLES)
                _check_tables(db)
                if not durable:
                    db.execute("SET LOCAL synchronous_commit = off")
                if backup:
                    _forget(db, f"{name}.bak")
                    db.execute("UPDATE pecs_saves SET name = %s WHERE name = %s", [f"{name}.bak", name])
                save = _new_save(db, name, document)
                for done in _write(db, save, document, columns):
                    if callable(progress):
                        progress(done, total)
                check_current(snapshot)  # not of a world that another thread has changed meanwhile
        except PersistenceIOError:
            if not retries:
                raise
            options = {"durable": durable, "backup": backup, "progress": progress}
            return self.save_snapshot(snapshot, path, retries=retries - 1, **options)
        return done

    def load_snapshot(self, path: Any, *, progress: Any = None) -> Snapshot:
        """Return the snapshot that was saved under the name *path*."""
        name = _name(path)
        with self._transaction(reading=True) as db:
            _check_tables(db)
            query = "SELECT id, document::text FROM pecs_saves WHERE name = %s"
            found = db.execute(query, [name]).fetchone()
            if found is None:
                raise PersistenceIOError(
                    f"expected a save, found none under the name {name!r}", errno=errno.ENOENT, filename=name
                )
            save, document = found
            columns = dict(_read(db, save))
        total = sum(map(len, columns.values()))
        if callable(progress):
            progress(total, total)
        buffers = [columns[place] for place in sorted(columns)]
        return unpack(orjson.loads(document), buffers, f"the save {name!r}")

    def delete(self, name: str) -> None:
        """Forget the save of that name, if there is one."""
        with self._transaction() as db:
            _forget(db, _name(name))

    def format_name(self) -> str:
        return "postgres"

    def format_version(self) -> int:
        return VERSION

    @contextmanager
    def _transaction(self, *, reading: bool = False) -> Iterator[psycopg.Connection]:
        """Yield a connection whose transaction is committed when the block ends well, else undone."""
        try:
            with psycopg.connect(self.address, connect_timeout=10) as db:
                db.read_only = reading
                # What is read is of one moment, though others save.
                db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if reading else None
                yield db
        except psycopg.Error as error:
            away = isinstance(error, psycopg.OperationalError)
            raise PersistenceIOError(
                f"PostgreSQL refused: {str(error).strip()}",
                errno=errno.ECONNREFUSED if away else errno.EIO,
                suggestion=f"start the server, or set {ADDRESS} to where it is" if away else None,
            ) from error


def _check_tables(db: psycopg.Connection) -> None:
    """Raise unless the tables are of this version."""
    ((version,),) = db.execute("SELECT version FROM pecs_format").fetchall()
    if version != VERSION:
        raise UnsupportedVersionError(version, VERSION, what="the tables of pecs_np in the database")


def _name(path: Any) -> str:
    if not isinstance(path, str) or not path.isprintable() or not path:
        raise PersistenceError(f"expected the name of a save, a printable text, found {path!r:.80}")
    return path


def _forget(db: psycopg.Connection, name: str) -> None:
    # A foreign key would do it for the entities too, and make saves five times slower.
    query = """WITH gone AS (DELETE FROM pecs_saves WHERE name = %s RETURNING id)
        DELETE FROM pecs_entities WHERE save IN (SELECT id FROM gone)"""
    db.execute(query, [name])


def _new_save(db: psycopg.Connection, name: str, document: Any) -> int:
    """Return the id of the save of that name, which is empty now."""
    query = """INSERT INTO pecs_saves (name, document) VALUES (%s, %s)
        ON CONFLICT (name) DO UPDATE SET document = excluded.document RETURNING id"""
    (save,) = db.execute(query, [name, orjson.dumps(document).decode()]).fetchone()
    db.execute("DELETE FROM pecs_entities WHERE save = %s", [save])
    db.execute("DELETE FROM pecs_columns WHERE save = %s", [save])
    return save


def _write(db: psycopg.Connection, save: int, document: Any, columns: list[memoryview]) -> Iterator[int]:
    """Write all columns, and yield after each step how many bytes that were."""
    ids = _places_of_ids(document)
    done = 0
    with db.cursor().copy("COPY pecs_entities FROM STDIN (FORMAT BINARY)") as copy:
        copy.write(START)
        for place in ids:
            stable = np.frombuffer(columns[place], np.uint8).reshape(-1, 16)[:, ::-1]  # UUIDs are big-endian
            for first in range(0, len(stable), ROWS):
                part = stable[first : first + ROWS]
                rows = ROW.repeat(len(part))
                rows["f2"], rows["f4"], rows["f8"] = save, place, part
                rows["f6"] = np.arange(first, first + len(part))
                copy.write(rows.tobytes())
                done += part.size
                yield done
        copy.write(END)
    with db.cursor().copy("COPY pecs_columns FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int8", "int4", "int4", "bytea"])
        for place in sorted(set(range(len(columns))) - set(ids)):
            column = columns[place]
            for piece, start in enumerate(range(0, column.nbytes, PIECE) or [0]):
                part = column[start : start + PIECE]
                copy.write_row((save, place, piece, part))
                done += part.nbytes
                yield done


def _read(db: psycopg.Connection, save: int) -> Iterator[tuple[int, Any]]:
    """Yield each column of a save with its place."""
    query = """SELECT place, string_agg(uuid_send(stable_id), ''::bytea ORDER BY row)
        FROM pecs_entities WHERE save = %s GROUP BY place"""
    for place, ids in db.execute(query, [save], binary=True):
        yield place, np.frombuffer(ids, np.uint8).reshape(-1, 16)[:, ::-1].tobytes()
    query = "SELECT place, data FROM pecs_columns WHERE save = %s ORDER BY place, piece"
    for place, pieces in groupby(db.execute(query, [save], binary=True), lambda row: row[0]):
        yield place, b"".join(data for _, data in pieces)


def _places_of_ids(document: Any) -> list[int]:
    """Return which of the columns are stable ids: see `pecs_np.persistence.packed`."""
    found, place = [], 0
    for table in document["tables"]:
        if table["role"] == "state":
            found.append(place)
            place += 1
        for type_ in table["types"]:
            place += 1 + 2 * sum("variable" in field for field in document["types"][type_]["fields"])
    return found


@component
class Account:
    """What a player owns, in coins."""

    coins: np.int64
    name: str


def main() -> None:
    address = os.environ.get(ADDRESS)
    if not address:
        sys.exit(
            f'this example needs a PostgreSQL server: set {ADDRESS} to its address, "host=localhost dbname=game"'
        )
    plugin = PostgresPlugin(address)
    manager = PersistenceManager()
    manager.register_plugin("postgres", plugin)

    world = World(seed=5)
    names = [f"player {i}" for i in range(10_000)]
    world.spawn_batch(Account(coins=np.arange(10_000), name=names))
    for name in ("monday", "tuesday"):
        print(manager.save_with(world, name, "postgres"))
        for account in world.query(Account):
            account.coins += 5
    loaded = manager.load_with("tuesday", "postgres")
    for account in loaded.query(Account):
        account.coins += 5
    assert_worlds_equal(world, loaded)
    with psycopg.connect(address) as db:
        query = "SELECT name, count(*) FROM pecs_saves JOIN pecs_entities ON save = id GROUP BY name ORDER BY name"
        print(f"the worlds are equal; entities of the saves: {dict(db.execute(query).fetchall())}")
    for name in ("monday", "tuesday"):
        plugin.delete(name)


if __name__ == "__main__":
    main()
