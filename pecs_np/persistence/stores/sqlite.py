"""Entities in an SQLite database, which needs no server and no further package.

The file holds two tables without rowids: ``entities``, of records under stable ids as big-endian bytes,
and ``layouts``, of documents under their ids. Its application id is ``PECS``, its user version the
version of the schema.

A batch crosses to SQLite as three values whatever its size: the keys, the records, and where each record
lies as JSON, taken apart by ``json_each`` and ``substr``. Against ``executemany`` that makes no object
for an entity, and takes a third of the time.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    PersistenceError,
)
from pecs_np.messages import shown
from pecs_np.persistence import disk
from pecs_np.persistence.disk import PathLike, reporting
from pecs_np.persistence.files import checked_flag
from pecs_np.persistence.stores.file_store import FileStore
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.sqlite_changes import SqliteChangeLog
from pecs_np.persistence.stores.sqlite_errors import damaged, is_busy, sqlite3, told, too_large
from pecs_np.persistence.stores.store import SCHEMA_VERSION

if TYPE_CHECKING:
    from sqlite3 import Connection

__all__ = ["SqliteEntityPlugin"]

_MEMORY = ":memory:"
_APPLICATION = int.from_bytes(b"PECS", "big")
# Records of a few KB, which a row of a table without rowids holds well if four of them fit a page.
_PAGE = 16384
_CACHE_KIB = 32768
_SHORTEST = 512
# Bytes of records, or entities, that cross to SQLite at once.
_MOST_BYTES, _MOST_KEYS = 32 << 20, 1 << 18
_FIRST_PAUSE = 0.002
_SCHEMA = (
    "CREATE TABLE entities (id BLOB NOT NULL PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE layouts (id BLOB NOT NULL PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# WHERE true tells ON CONFLICT from a join.
_WRITE = """
    INSERT INTO entities
    SELECT substr(?1, 1 + 16 * key, 16), substr(?2, 1 + (value >> 32), value & 0xffffffff)
    FROM json_each(?3) WHERE true
    ON CONFLICT (id) DO UPDATE SET record = excluded.record
"""
_READ = """
    SELECT record FROM json_each(?2) AS asked
    LEFT JOIN entities ON entities.id = substr(?1, 1 + 16 * asked.key, 16)
"""
_REMOVE = "DELETE FROM entities WHERE entities.id IN (SELECT substr(?1, 1 + 16 * key, 16) FROM json_each(?2))"
_READ_LAYOUTS = """
    SELECT id, document FROM layouts
    WHERE layouts.id IN (SELECT substr(?1, 1 + 8 * key, 8) FROM json_each(?2))
"""


class SqliteEntityPlugin(FileStore, SqliteChangeLog):
    """Saves entities in an SQLite database.

    Several processes may have it open: one writes at a time, and others read meanwhile. The database is
    in WAL mode, so while it is open two more files stand beside it, ``-wal`` and ``-shm``; it belongs on
    a disk of this machine, not on one of the network.

    Parameters
    ----------
    path : path
        A database that this class made, or where there is none yet. ``":memory:"`` is one in memory.
    timeout : float
        How many seconds to wait while another program writes.
    durable : bool
        Whether what was saved also survives a loss of power. Without it, the last batches may be lost
        then; each is still there whole or not at all.
    audit : bool
        Whether to keep a log of changes beside the entities: then it is a `DeltaPersistencePlugin` too.
    **options
        Those of `EntityStore`: ``filter``, ``unknown`` and ``limits``.

    Raises
    ------
    InvalidFormatError
        If there is a file that this class did not make; it is left as it is.
    PersistenceIOError
        If it cannot be opened, read or written.

    Examples
    --------
    >>> from pecs_np import World, component
    >>> @component
    ... class Wallet:
    ...     coins: int
    >>> world, other = World(), World()
    >>> player = world.spawn(Wallet(7))
    >>> with SqliteEntityPlugin(":memory:") as store:
    ...     store.save_entity(world, player)
    ...     back = store.load_entity(other, world.get_stable_id(player))
    >>> other.get(back, Wallet)
    Wallet(coins=7)
    """

    _connection: Connection | None = None

    def __init__(
        self,
        path: PathLike,
        *,
        timeout: float = 5.0,
        durable: bool = True,
        audit: bool = False,
        **options: Any,
    ) -> None:
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < math.inf:
            raise PersistenceError(f"expected a timeout in seconds from 0, found {shown(timeout)}")
        super().__init__(path, durable=durable, **options)
        self._timeout = float(timeout)
        self._audit = checked_flag(audit, "audit")
        self._options |= {"timeout": timeout, "audit": self._audit}
        self._in_memory = path == _MEMORY
        if self._in_memory:
            self._path = _MEMORY
        try:
            with self._in_use(), self._telling("opening"):
                self._connection = self._connected()
        except BaseException:
            self.close()
            raise

    def backend_name(self) -> str:
        """Return ``"sqlite"``."""
        return "sqlite"

    def write(self, batch: Sequence[Records]) -> None:
        """Hold the records of *batch*, all or nothing."""
        with self._writing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO layouts VALUES (?, ?)",
                [(records.layout.id, records.layout.document) for records in batch],
            )
            for records in batch:
                for values in _crossing(records):
                    connection.execute(_WRITE, values)

    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""
        found: list[bytes | None] = []
        with self._using("loading from") as connection, _reading(connection):
            for start in range(0, len(keys), _MOST_KEYS):
                some = keys[start : start + _MOST_KEYS]
                rows = connection.execute(_READ, (b"".join(some), _places(len(some))))
                found.extend(itertools.chain.from_iterable(rows))
        if set(map(type, found)) - {bytes, type(None)}:
            raise CorruptedDataError(f"expected bytes as records, found other values in {self._name()}")
        return found

    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, all or nothing, and return how many there were."""
        removed = 0
        with self._writing() as connection:
            for start in range(0, len(keys), _MOST_KEYS):
                some = keys[start : start + _MOST_KEYS]
                removed += connection.execute(_REMOVE, (b"".join(some), _places(len(some)))).rowcount
        return removed

    def clear(self) -> None:
        """Forget all saved entities, all or nothing."""
        with self._writing() as connection:
            connection.execute("DELETE FROM entities")

    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys."""
        with self._using("loading from") as connection:
            rows = connection.execute("SELECT CAST(id AS BLOB) FROM entities").fetchall()
        yield self._checked_keys(itertools.chain.from_iterable(rows))

    def count(self) -> int:
        """Return how many records there are."""
        with self._using("loading from") as connection:
            found: int = connection.execute("SELECT count(*) FROM entities").fetchone()[0]
        return found

    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of layouts."""
        with self._using("loading from") as connection:
            rows = connection.execute(_READ_LAYOUTS, (b"".join(ids), _places(len(ids)))).fetchall()
        return {layout_id: bytes(document) for layout_id, document in rows}

    def verify(self) -> None:
        """Read the whole database, and raise where it is damaged.

        Raises
        ------
        CorruptedDataError
            With what SQLite found first.
        """
        with self._using("verifying") as connection:
            ((found,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
        if found != b"ok":
            raise damaged(found.decode(errors="replace"), self._path)

    # The connection

    def __reduce__(self) -> tuple[Any, ...]:
        if self._in_memory:
            raise PersistenceError("a store in memory cannot be copied", suggestion="give it a path")
        return super().__reduce__()

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Nothing is pending, so nothing is lost with it.
            with contextlib.suppress(sqlite3().Error):
                connection.close()

    def _forget(self) -> None:
        if self._connection is not None and not self._in_memory:
            # To close it would give up locks and the log that the other process relies on.
            _inherited.append(self._connection)
            self._connection = None

    def _connected(self) -> Connection:
        """Open the database, make what it needs where it is new, and return the connection."""
        if not self._in_memory:
            self._check_no_folder()
            self._check_length()
        connection: Connection = sqlite3().connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            connection.text_factory = bytes
            for pragma in (
                f"page_size = {_PAGE}",
                f"cache_size = -{_CACHE_KIB}",
                f"synchronous = {'FULL' if self._durable else 'NORMAL'}",
                f"fullfsync = {int(self._durable)}",
                "temp_store = MEMORY",
            ):
                connection.execute(f"PRAGMA {pragma}")
            # Nothing of a database of another kind is changed. What is looked at is of one moment: another
            # program may be making the tables.
            connection.execute("BEGIN")
            new = self._is_new(connection)
            connection.execute("COMMIT")
            if new:
                self._patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))
                self._make(connection)
            self._make_changes(connection)
            if not self._in_memory:
                self._met()
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_length(self) -> None:
        """Raise where a file is too short for a database: SQLite would take it for an empty one."""
        with reporting("opening", self._path), contextlib.suppress(FileNotFoundError):
            size = disk.system.stat(self._path).st_size
            if 0 < size < _SHORTEST:
                raise InvalidFormatError(
                    f"expected an SQLite database, found {size} bytes as {self._name()}",
                    suggestion="check the path",
                )

    def _make(self, connection: Connection) -> None:
        """Make the tables, unless another program just did."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._is_new(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def _is_new(self, connection: Connection) -> bool:
        """Tell whether nothing is in the database yet, or raise where it is no store that this program reads."""
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]
        if not tables and not application:
            return True
        if application != _APPLICATION:
            names = ", ".join(sorted(name.decode(errors="replace") for name in tables)) or "nothing"
            raise InvalidFormatError(
                f"expected a store of entities, found a database with {names[:80]} in {self._name()}",
                suggestion="give the store a file of its own",
            )
        self._check_schema(connection.execute("PRAGMA user_version").fetchone()[0])
        return False

    def _patiently(self, call: Callable[[], object]) -> None:
        """Call *call*, again while another program has the database: SQLite does not wait for what changes the mode."""
        end, pause = time.monotonic() + self._timeout, _FIRST_PAUSE
        while True:
            try:
                call()
            except sqlite3().OperationalError as error:
                if not is_busy(error) or time.monotonic() > end:
                    raise
                disk.system.sleep(pause)
                pause = min(2 * pause, 0.1)
            else:
                return

    @contextlib.contextmanager
    def _using(self, doing: str) -> Iterator[Connection]:
        """Give the connection, for one thread at a time."""
        with self._in_use(), self._telling(doing):
            if self._connection is None:
                self._connection = self._connected()
            elif not self._in_memory:
                self._check_place()
            yield self._connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Give the connection in a transaction, which ends with the block."""
        with self._using("saving to") as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextlib.contextmanager
    def _telling(self, doing: str) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3().Error as error:
            raise told(error, doing, self._path) from error
        except OverflowError as error:
            raise too_large(self._path) from error


# Connections of the process that this one was forked from.
_inherited: list[Connection] = []


def _roll_back(connection: Connection) -> None:
    """End a transaction that failed; what went wrong first is what counts."""
    with contextlib.suppress(sqlite3().Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextlib.contextmanager
def _reading(connection: Connection) -> Iterator[None]:
    """Let the statements of the block see one state of the database."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        _roll_back(connection)


def _places(count: int) -> str:
    """Return a JSON array of *count* elements, for the places of which it is taken."""
    return f"[{','.join(itertools.repeat('0', count))}]"


def _crossing(records: Records) -> Iterator[tuple[Any, Any, str]]:
    """Give the keys and the bytes of records, and the start and size of each as one number, in a few parts."""
    keys, data = b"".join(records.keys()), records.data
    count = len(records.stable_ids)
    if records.ends is None:
        size = records.layout.head.itemsize
        ends = np.arange(1, count + 1, dtype=np.int64) * size
    else:
        ends = records.ends.astype(np.int64)
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    first = 0
    while first < count:
        base = int(begins[first])
        last = int(np.searchsorted(ends, base + _MOST_BYTES, side="right"))
        last = min(max(last, first + 1), first + _MOST_KEYS)
        some = slice(first, last)
        where = (begins[some] - base) << 32 | (ends[some] - begins[some])
        yield (
            keys[16 * first : 16 * last],
            data[base : int(ends[last - 1])].data,
            orjson.dumps(where, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
        )
        first = last
