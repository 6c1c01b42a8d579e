"""Entities in PostgreSQL.

Beside a table of one's own naming stand two more::

    <table>           id uuid primary key, record bytea     an entity: its stable id, big-endian
    <table>_layouts   id bytea primary key, document bytea  what records have in common
    <table>_schema    version integer                       of all this, one row

A batch is one transaction. Where none of it seems to be there it is copied straight into the table, and
otherwise into a temporary one from which it is inserted or updated; a record that is there already stays,
which is half the work of writing it again. Rows of one size are copied as one array.

Batches are read as three values: which of the keys were found, how long their records are, and the records
one after the other. What is read in several statements is of one moment.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pecs_np.errors import InvalidFormatError, PecsError, PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.stores.postgres_wire import (
    BYTEA,
    BYTEAS,
    COPY_END,
    COPY_HEAD,
    UUID,
    UUIDS,
    array_of,
    big_endian,
    copied_rows,
    dumper_of,
    low_halves,
    numbers_of,
    parameters_of,
    places_of,
    put,
)
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.server import ServerStore, imported, parts
from pecs_np.persistence.stores.store import SCHEMA_VERSION

__all__ = ["PostgresEntityPlugin"]

# Rows up to which a batch is one statement with parameters.
_FEW = 512
# Keys that are looked up before a batch is taken for new.
_PROBES = 32
# Keys of a statement: each joins them with the table anew, and its answer has to fit into a GiB.
_STEP = 1 << 16
# Bytes of the longest name that PostgreSQL does not cut.
_LONGEST_NAME = 63

_UPSERT = """
    INSERT INTO {table} AS saved (id, record) SELECT id, record FROM {source} AS batch (id, record) ORDER BY id
    ON CONFLICT (id) DO UPDATE SET record = EXCLUDED.record WHERE saved.record IS DISTINCT FROM EXCLUDED.record
"""


class PostgresEntityPlugin(ServerStore[Any]):
    """Saves entities in tables of a PostgreSQL database; needs ``pip install pecs_np[postgres]``.

    Batches are saved and read all or nothing, by any number of processes, and survive what the database
    survives. Tables that are missing are made.

    Parameters
    ----------
    conninfo : str
        As libpq takes it: ``"host=localhost dbname=game"``, or a URL.
    table : str
        The name of the table, also with that of its schema: ``"game.entities"``.
    **options
        As for `EntityStore`.

    Raises
    ------
    PersistenceIOError
        If the server does not answer, or refuses.
    InvalidFormatError
        If there are other tables of these names.
    UnsupportedVersionError
        If the store was made by a program that holds entities in another way.
    PluginNotFoundError
        If the package is not installed.

    Examples
    --------
    ::

        with PostgresEntityPlugin("host=localhost dbname=game", table="entities") as store:
            store.save_entities(world, world.entities())
    """

    def __init__(self, conninfo: str = "", *, table: str = "pecs_entities", **options: Any) -> None:
        super().__init__(**options)
        self._psycopg = imported("psycopg", "postgres")
        self._sql = imported("psycopg.sql", "postgres")
        self.table = table
        self._names = self._named(table)
        self._connection: Any = None
        self._process = 0
        self._conninfo, self._place = self._read_conninfo(conninfo)
        self._step = _STEP
        # Layouts that the database is known to hold.
        self._held: set[bytes] = set()
        self._run(lambda _: None)

    def backend_name(self) -> str:
        """Return ``"postgres"``."""
        return "postgres"

    # Records

    def write(self, batch: Sequence[Records]) -> None:
        """Hold the records of *batch*."""
        layouts = {records.layout.id: records.layout.document for records in batch}

        def work(connection: Any) -> None:
            unheld = sorted(layouts.keys() - self._held)
            if not unheld and sum([len(records.stable_ids) for records in batch]) <= _FEW:
                self._write_few(connection, batch)
                return
            with connection.transaction():
                # In one order everywhere, and before all records, so that programs do not wait for each other in a circle.
                for layout in unheld:
                    text = "INSERT INTO {layouts} VALUES (%b, %b) ON CONFLICT DO NOTHING"
                    connection.execute(self._text(text), (layout, layouts[layout]))
                if sum([len(records.stable_ids) for records in batch]) <= _FEW:
                    self._write_few(connection, batch)
                else:
                    self._write_many(connection, batch)
            self._held.update(unheld)

        self._run(work)

    def _write_few(self, connection: Any, batch: Sequence[Records]) -> None:
        keys = [key for records in batch for key in big_endian(records.stable_ids).tolist()]
        values = [value for records in batch for value in records.values()]
        arrays = array_of(UUID, keys), array_of(BYTEA, values)
        parameters = parameters_of(UUIDS)(arrays[0]), parameters_of(BYTEAS)(arrays[1])
        connection.execute(self._text(_UPSERT, source="unnest(%b, %b)"), parameters)

    def _write_many(self, connection: Any, batch: Sequence[Records]) -> None:
        if self._seems_new(connection, batch):
            try:
                with connection.transaction():  # a savepoint
                    self._copy(connection, "{table}", batch)
            except self._psycopg.errors.UniqueViolation:
                pass
            else:
                return
        connection.execute(
            "CREATE TEMPORARY TABLE pecs_np_batch (id uuid NOT NULL, record bytea NOT NULL) ON COMMIT DROP"
        )
        self._copy(connection, "pg_temp.pecs_np_batch", batch)
        connection.execute(self._text(_UPSERT, source="pg_temp.pecs_np_batch"))

    def _seems_new(self, connection: Any, batch: Sequence[Records]) -> bool:
        ids = np.concatenate([records.stable_ids for records in batch])
        probes = big_endian(ids[:: max(1, len(ids) // _PROBES)]).tolist()
        text = self._text("SELECT EXISTS (SELECT FROM {table} WHERE id = ANY(%b))")
        found = connection.execute(text, (parameters_of(UUIDS)(array_of(UUID, probes)),)).fetchone()
        return not found[0]

    def _copy(self, connection: Any, target: str, batch: Sequence[Records]) -> None:
        text = self._text(f"COPY {target} (id, record) FROM STDIN (FORMAT binary)")
        with connection.cursor() as cursor, cursor.copy(text) as copy:
            copy.write(COPY_HEAD)
            for records in batch:
                for start, stop in parts(records):
                    copy.write(memoryview(copied_rows(records, start, stop)))  # type: ignore[arg-type]
            copy.write(COPY_END)

    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""
        more = ", array_send(array_agg(octet_length(record))), string_agg(record, '')"

        def work(connection: Any) -> list[bytes | None]:
            found: list[bytes | None] = [None] * len(keys)
            for rows, sizes, data in self._found(connection, more, keys):
                put(found, rows, numbers_of(sizes, ">i4"), data)
            return found

        while True:
            try:
                return self._run(work)
            except _TooLargeError as error:
                if self._step == 1:
                    raise self._described(error.args[0]) from error.args[0]
                self._step = max(1, min(self._step, len(keys)) // 8)

    def holds(self, keys: list[bytes]) -> Sequence[bool]:
        """Tell of each of *keys* whether there is a record."""

        def work(connection: Any) -> list[bool]:
            held = np.zeros(len(keys), bool)
            for (rows,) in self._found(connection, "", keys):
                held[rows[rows >= 0]] = True
            answer: list[bool] = held.tolist()
            return answer

        return self._run(work)

    def _found(self, connection: Any, more: str, keys: list[bytes]) -> Iterator[tuple[Any, ...]]:
        """Yield the places among *keys* of what is found, and *more* of it; all of one moment.

        The place is -1 where something was found that is not among them.
        """
        by_keys = self._text(
            "SELECT array_send(array_agg(n)){more} FROM unnest(%b) WITH ORDINALITY AS asked (id, n) JOIN {table} USING (id)",
            more=more,
        )
        by_range = self._text(
            "SELECT string_agg(uuid_send(id), ''){more} FROM {table}"
            " WHERE id BETWEEN encode(%b, 'hex')::uuid AND encode(%b, 'hex')::uuid",
            more=more,
        )
        of_one_moment = self._moment(connection) if len(keys) > self._step else contextlib.nullcontext()
        with of_one_moment, connection.cursor(binary=True) as cursor:
            for start in range(0, len(keys), self._step):
                part = keys[start : start + self._step]
                places = places_of(part)
                try:
                    if places is None:
                        cursor.execute(by_keys, (parameters_of(UUIDS)(array_of(UUID, part)),))
                    else:
                        cursor.execute(by_range, (min(part), max(part)))
                    row = cursor.fetchone()
                except self._psycopg.errors.ProgramLimitExceeded as error:
                    raise _TooLargeError(error) from error
                if row[0] is None:
                    continue
                if places is None:
                    rows = numbers_of(row[0], ">i8") - 1
                else:
                    rows = places[low_halves(row[0]) - low_halves(min(part))]
                yield np.where(rows < 0, rows, rows + start), *row[1:]

    @contextlib.contextmanager
    def _moment(self, connection: Any) -> Iterator[None]:
        """Let the statements of the block see the database as it is at the first of them."""
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield

    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, and return how many there were."""
        parameter = parameters_of(UUIDS)(array_of(UUID, keys))
        text = self._text("DELETE FROM {table} WHERE id = ANY(%b)")
        return int(self._run(lambda connection: connection.execute(text, (parameter,)).rowcount))

    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys, in batches."""
        text = self._text(
            "SELECT string_agg(uuid_send(id), '' ORDER BY id) FROM"
            " (SELECT id FROM {table} WHERE id > encode(%b, 'hex')::uuid ORDER BY id LIMIT %s) AS page"
        )

        def work(connection: Any) -> list[list[bytes]]:
            pages = []
            with self._moment(connection), connection.cursor(binary=True) as cursor:
                last = bytes(16)
                while page := cursor.execute(text, (last, _STEP)).fetchone()[0]:
                    pages.append(np.frombuffer(page, "V16").tolist())
                    last = pages[-1][-1]
            return pages

        return iter(self._run(work))

    def count(self) -> int:
        """Return how many records there are."""
        text = self._text("SELECT count(*) FROM {table}")
        return int(self._run(lambda connection: connection.execute(text).fetchone()[0]))

    def clear(self) -> None:
        """Forget all saved entities, at once."""
        text = self._text("DELETE FROM {table}")
        self._run(lambda connection: connection.execute(text))

    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of those of the layouts *ids* that are held."""
        text = self._text("SELECT id, document FROM {layouts} WHERE id = ANY(%b)")

        def work(connection: Any) -> dict[bytes, bytes]:
            with connection.cursor(binary=True) as cursor:
                return dict(cursor.execute(text, (list(ids),)).fetchall())

        return self._run(work)

    # The connection

    def _named(self, table: Any) -> dict[str, Any]:
        """Return the names of the tables as SQL."""
        parts_of_it = table.split(".") if isinstance(table, str) else []
        if not 1 <= len(parts_of_it) <= 2 or not all(p.isprintable() and p for p in parts_of_it):
            raise PersistenceError(f"expected the name of a table, found {shown(table)}")
        longest = max(len(p.encode()) for p in (parts_of_it[0], parts_of_it[-1] + "_layouts"))
        if longest > _LONGEST_NAME:
            raise PersistenceError(
                f"expected the name of a table of at most {_LONGEST_NAME - len('_layouts')} bytes, found {shown(table)}"
            )
        *schema, name = parts_of_it
        ends = {"table": "", "layouts": "_layouts", "schema": "_schema"}
        return {key: self._sql.Identifier(*schema, name + end) for key, end in ends.items()}

    def _text(self, text: str, **more: str) -> Any:
        """Return a statement with the names of the tables."""
        return self._sql.SQL(text).format(
            **self._names, **{key: self._sql.SQL(value) for key, value in more.items()}
        )

    def _read_conninfo(self, conninfo: Any) -> tuple[str, str]:
        """Return how to connect, and where that is, without the password."""
        if not isinstance(conninfo, str):
            raise PersistenceError(f"expected 'host=… dbname=…' as text, found {shown(conninfo)}")
        tools = imported("psycopg.conninfo", "postgres")
        try:
            known = tools.conninfo_to_dict(conninfo)
            made = {"connect_timeout": 10, "fallback_application_name": "pecs_np", **known}
            whole: str = tools.make_conninfo("", **made)
        except (self._psycopg.Error, UnicodeError):
            raise PersistenceError(
                "expected 'host=… dbname=…' or a URL as libpq takes it, found something else"
            ) from None
        shown_ones = {key: known[key] for key in ("host", "port", "dbname", "user") if key in known}
        return whole, " ".join(f"{key}={value}" for key, value in shown_ones.items()) or "libpq's defaults"

    def _connected(self) -> Any:
        if self._connection is not None and self._process != os.getpid():
            self._disconnect()
        if self._connection is None:
            connection = self._psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
            for oid in (UUIDS, BYTEAS):
                connection.adapters.register_dumper(parameters_of(oid), dumper_of(oid))
            self._process = os.getpid()
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _prepare(self, connection: Any) -> None:
        """Make the tables if they are not there, and check the version of those that are."""
        name = self._names["schema"].as_string(connection)
        # By way of the catalog, which is read anew each time: a name alone stays unknown for the rest of a
        # transaction in which it was waited for.
        there = "SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(%s))"
        if not connection.execute(there, (name,)).fetchone()[0]:
            with connection.transaction():
                # One program at a time: others wait here, and then find them.
                connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"pecs_np {name}",))
                if not connection.execute(there, (name,)).fetchone()[0]:
                    for text in (
                        "CREATE TABLE {table} (id uuid PRIMARY KEY, record bytea NOT NULL)",
                        "CREATE TABLE {layouts} (id bytea PRIMARY KEY, document bytea NOT NULL)",
                        "CREATE TABLE {schema} (version integer NOT NULL)",
                        "INSERT INTO {schema} VALUES ({version})",
                    ):
                        connection.execute(self._text(text, version=str(SCHEMA_VERSION)))
        row = connection.execute(self._text("SELECT version FROM {schema}")).fetchone()
        if row is None:
            raise InvalidFormatError(f"expected a version in {name}, found none in {self._name()}")
        self._check_schema(row[0])

    def _disconnect(self) -> None:
        self._held.clear()
        if self._connection is not None:
            if self._process != os.getpid():
                # It belongs to the process that this one was forked from: the server must not hear its end.
                with open(os.devnull, "rb+") as nowhere:
                    os.dup2(nowhere.fileno(), self._connection.fileno())
            self._connection.close()
            self._connection = None

    def _failures(self) -> tuple[type[Exception], ...]:
        return (self._psycopg.Error,)

    def _is_lost(self, error: Exception) -> bool:
        return isinstance(error, (self._psycopg.OperationalError, self._psycopg.InterfaceError)) and (
            self._connection is None or self._connection.closed
        )

    def _is_passing(self, error: Exception) -> bool:
        errors = self._psycopg.errors
        return isinstance(error, (errors.DeadlockDetected, errors.SerializationFailure))

    def _name(self) -> str:
        return f"the store 'postgres' (table {self.table!r} at {self._place})"

    def _described(self, error: Exception) -> PecsError:
        errors, server = self._psycopg.errors, "a PostgreSQL server"
        if self._is_lost(error):
            return self._unreachable(server, self._place, error)
        if isinstance(
            error,
            (
                errors.UndefinedTable,
                errors.UndefinedColumn,
                errors.DuplicateTable,
                errors.WrongObjectType,
                errors.DatatypeMismatch,
                errors.UndefinedFunction,
            ),
        ):
            return InvalidFormatError(
                f"expected the tables of a store, found others or none: {str(error).splitlines()[0]}, in {self._name()}",
                suggestion="pass another name of the table",
            )
        return self._refused(
            server, self._place, error, "check the rights of the user and the limits of the server"
        )


class _TooLargeError(Exception):
    """An answer that the server cannot give as a whole."""
