"""Entities in Redis.

Under a prefix stand four keys::

    <prefix>:entities   hash    stable id, 16 bytes big-endian -> record
    <prefix>:layouts    hash    id of a layout, 8 bytes -> its document
    <prefix>:schema     string  the version of all this
    <prefix>:changes    string  a number that every change of the entities makes larger

A batch is one transaction of Redis, sent in commands of some thousand entities. While they arrive the server
works for others; then it takes them in all at once, a million entities of two small components in some
0.4 s. What is read in several commands is read again if a change came between.

Commands with records of one size are arrays that are sent as they are.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    PecsError,
    PersistenceError,
)
from pecs_np.messages import shown
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.server import ServerStore, imported, parts
from pecs_np.persistence.stores.store import SCHEMA_VERSION

__all__ = ["RedisEntityPlugin"]

# Keys of a command. More of them are not faster, and the server does nothing else meanwhile.
_STEP = 4096
# What Redis takes as one value, unless it is told otherwise.
_LONGEST = 512 << 20
# How often a reading that changes interrupt is begun again before others have to wait for it.
_ATTEMPTS = 3


class RedisEntityPlugin(ServerStore[Any]):
    """Saves entities in Redis; needs ``pip install pecs_np[redis]``.

    Batches are saved and read all or nothing, by any number of processes. How much of what was saved
    survives a crash of the server is for its own settings to say; it should not evict keys.

    Parameters
    ----------
    server : str or redis.Redis
        A URL such as ``"redis://localhost:6379/0"``, ``rediss:`` for TLS, with options of redis-py as its
        query; or a client, which stays open.
    prefix : str
        What the names of its keys begin with. Stores with other prefixes know nothing of one another.
    **options
        As for `EntityStore`.

    Raises
    ------
    PersistenceIOError
        If the server does not answer, or refuses.
    UnsupportedVersionError
        If the store was made by a program that holds entities in another way.
    PluginNotFoundError
        If the package is not installed.

    Examples
    --------
    ::

        with RedisEntityPlugin("redis://localhost:6379/0", prefix="game") as store:
            store.save_entities(world, world.entities())
    """

    def __init__(
        self, server: Any = "redis://localhost:6379/0", *, prefix: str = "pecs", **options: Any
    ) -> None:
        super().__init__(**options)
        self._redis = imported("redis", "redis")
        if not isinstance(prefix, str) or not prefix.isprintable() or not prefix:
            raise PersistenceError(f"expected text as prefix, found {shown(prefix)}")
        self.prefix = prefix
        self._owned = isinstance(server, str)
        self._client = self._client_of(server)
        self._entities, self._documents, self._schema, self._changes = (
            f"{prefix}:{name}".encode() for name in ("entities", "layouts", "schema", "changes")
        )
        self._checked = False
        self._novalues = True
        self._run(lambda _: None)

    def backend_name(self) -> str:
        """Return ``"redis"``."""
        return "redis"

    # Records

    def write(self, batch: Sequence[Records]) -> None:
        """Hold the records of *batch*."""
        for records in batch:
            _check_lengths(records)

        def commands() -> Iterator[Any]:
            yield _command(b"SET", self._schema, b"%d" % SCHEMA_VERSION, b"NX")
            for records in batch:
                yield _command(b"HSETNX", self._documents, records.layout.id, records.layout.document)
                for start, stop in _ranges(records):
                    yield _head(2 * (stop - start), b"HSET", self._entities)
                    yield _pairs(records, start, stop)
            yield _command(b"INCR", self._changes)

        replies = 2 + len(batch) + sum([len(_ranges(records)) for records in batch])
        self._run(lambda pool: _said_together(pool, commands(), replies))

    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""
        commands = [
            _command(b"HMGET", self._entities, *keys[start : start + _STEP])
            for start in range(0, len(keys), _STEP)
        ]
        return list(itertools.chain.from_iterable(self._run(lambda pool: self._steady(pool, commands))))

    def holds(self, keys: list[bytes]) -> Sequence[bool]:
        """Tell of each of *keys* whether there is a record."""
        head = _head(1, b"HEXISTS", self._entities) + b"$16\r\n"
        made = np.empty(len(keys), [("head", f"V{len(head)}"), ("key", "V16"), ("end", "V2")])
        made["head"], made["end"] = np.void(head), np.void(b"\r\n")
        made["key"] = np.frombuffer(b"".join(keys), "V16")
        return [bool(found) for found in self._run(lambda pool: _said(pool, [made.view("u1")], len(keys)))]

    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, and return how many there were."""
        commands = [
            _command(b"HDEL", self._entities, *keys[start : start + _STEP])
            for start in range(0, len(keys), _STEP)
        ]
        return sum(self._run(lambda pool: self._changing(pool, commands)))

    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys, in batches."""
        for batch in self._run(self._scanned):
            for key in batch:
                if len(key) != 16:
                    raise CorruptedDataError(
                        f"expected stable ids of 16 bytes, found {key[:60]!r} in {self._name()}",
                        suggestion="pass another prefix if another program uses these keys",
                    )
            yield batch

    def count(self) -> int:
        """Return how many records there are."""
        return int(self._run(lambda pool: _said(pool, [_command(b"HLEN", self._entities)], 1))[0])

    def clear(self) -> None:
        """Forget all saved entities, at once."""
        self._run(lambda pool: self._changing(pool, [_command(b"UNLINK", self._entities)]))

    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of those of the layouts *ids* that are held."""
        command = _command(b"HMGET", self._documents, *ids)
        (documents,) = self._run(lambda pool: _said(pool, [command], 1))
        return {layout: document for layout, document in zip(ids, documents, strict=True) if document}

    # Talking

    def _changing(self, pool: Any, commands: list[bytes]) -> list[Any]:
        """Return what *commands*, carried out together, say."""
        return _said_together(pool, [*commands, _command(b"INCR", self._changes)], len(commands) + 1)[:-1]

    def _steady(self, pool: Any, commands: list[bytes]) -> list[Any]:
        """Return what *commands* say of one state of the store."""
        if len(commands) < 2:
            return _said(pool, commands, len(commands))
        number = _command(b"GET", self._changes)
        for _ in range(_ATTEMPTS):
            before, *replies, after = _said_in_turn(pool, [number, *commands, number])
            if before == after:
                return replies
        return _said_together(pool, commands, len(commands))

    def _scanned(self, pool: Any) -> list[list[bytes]]:
        """Return all keys, in batches, each key once."""
        number = [_command(b"GET", self._changes)]
        for _ in range(_ATTEMPTS):
            before = _said(pool, number, 1)
            found: dict[bytes, None] = {}
            cursor = b"0"
            while True:
                cursor, keys = self._scan(pool, cursor)
                found.update(dict.fromkeys(keys))
                if cursor == b"0":
                    break
            if _said(pool, number, 1) == before:
                return [list(found)]
        return _said(pool, [_command(b"HKEYS", self._entities)], 1)

    def _scan(self, pool: Any, cursor: bytes) -> tuple[bytes, list[bytes]]:
        words = [b"HSCAN", self._entities, cursor, b"COUNT", b"%d" % _STEP]
        if self._novalues:
            try:
                (reply,) = _said(pool, [_command(*words, b"NOVALUES")], 1)
            except self._redis.ResponseError as error:
                if "syntax" not in str(error):
                    raise
                # A server before 7.4, which sends the records too.
                self._novalues = False
            else:
                return reply[0], reply[1]
        ((cursor, pairs),) = _said(pool, [_command(*words)], 1)
        return cursor, pairs[::2]

    # The connection

    def _client_of(self, server: Any) -> Any:
        if isinstance(server, self._redis.Redis):
            return server
        if not isinstance(server, str):
            raise PersistenceError(
                f"expected a URL such as 'redis://localhost:6379/0' or a redis.Redis, found {shown(server)}"
            )
        retry = self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0)
        try:
            return self._redis.Redis.from_url(
                server, socket_connect_timeout=10, socket_timeout=60, retry=retry
            )
        except (ValueError, TypeError) as error:
            # Not shown as a whole: there may be a password in it.
            raise PersistenceError(
                f"expected a URL such as 'redis://localhost:6379/0', found one that begins with {server.partition('@')[0][:8]!r}: {error}"
            ) from None

    def _connected(self) -> Any:
        pool = self._client.connection_pool
        if not self._checked:
            (version,) = _said(pool, [_command(b"GET", self._schema)], 1)
            if version is not None:
                if not version.isdigit():
                    raise InvalidFormatError(
                        f"expected a version under {self.prefix}:schema, found {shown(version)} at {self._where()}",
                        suggestion="pass another prefix",
                    )
                self._check_schema(int(version))
            self._checked = True
        return pool

    def _disconnect(self) -> None:
        self._checked = False
        if self._owned:
            self._client.connection_pool.disconnect()

    def _failures(self) -> tuple[type[Exception], ...]:
        return (self._redis.RedisError, OSError, UnicodeError)

    def _is_lost(self, error: Exception) -> bool:
        redis = self._redis
        return isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)) and not isinstance(
            error, redis.AuthenticationError
        )

    def _where(self) -> str:
        known = self._client.connection_pool.connection_kwargs
        place = known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}"
        return f"redis://{place}/{known.get('db') or 0}"

    def _name(self) -> str:
        return f"the store 'redis' ({self.prefix}:* at {self._where()})"

    def _described(self, error: Exception) -> PecsError:
        server, where = "a Redis server", self._where()
        if self._is_lost(error):
            return self._unreachable(server, where, error)
        if str(error).startswith("WRONGTYPE"):
            return InvalidFormatError(
                f"expected keys of a store under {self.prefix}:, found others at {where}",
                suggestion="pass another prefix",
            )
        return self._refused(
            server, where, error, "check the user, the password, the database and the server's limits"
        )


@contextlib.contextmanager
def _borrowed(pool: Any) -> Iterator[Any]:
    """Give a connection of *pool*, which is ended where an error comes up."""
    connection = pool.get_connection()
    try:
        yield connection
    except BaseException:
        # What is still to come would be taken for the answer to what is asked next.
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


def _said(pool: Any, commands: Iterable[Any], replies: int) -> list[Any]:
    """Return what is said to *commands*, sent all at once; any error is raised."""
    with _borrowed(pool) as connection:
        connection.send_packed_command(commands)
        return [connection.read_response(disable_decoding=True) for _ in range(replies)]


def _said_in_turn(pool: Any, commands: Sequence[bytes]) -> list[Any]:
    """Return what is said to *commands*; the server works on one while the answer to the one before arrives."""
    said = []
    with _borrowed(pool) as connection:
        for i, command in enumerate(commands):
            connection.send_packed_command([command])
            if i:
                said.append(connection.read_response(disable_decoding=True))
        said.append(connection.read_response(disable_decoding=True))
    return said


def _said_together(pool: Any, commands: Iterable[Any], replies: int) -> list[Any]:
    """Return what is said to *commands*, carried out as one transaction; any error is raised."""
    framed = itertools.chain([_command(b"MULTI")], commands, [_command(b"EXEC")])
    said: list[Any] = _said(pool, framed, replies + 2)[-1]
    for reply in said:
        if isinstance(reply, Exception):
            raise reply
    return said


def _head(arguments: int, *words: bytes) -> bytes:
    """Return the beginning of a command of which *arguments* more are to come."""
    texts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % (len(words) + arguments) + b"".join(texts)


def _command(*words: bytes) -> bytes:
    return _head(0, *words)


def _ranges(records: Records) -> list[tuple[int, int]]:
    """Return which rows of *records* go into one command each."""
    return [
        (row, min(row + _STEP, stop)) for start, stop in parts(records) for row in range(start, stop, _STEP)
    ]


def _pairs(records: Records, start: int, stop: int) -> Any:
    """Return keys and records of rows *start* to *stop* as Redis takes them."""
    ids = np.ascontiguousarray(records.stable_ids[start:stop]).view("u1").reshape(-1, 16)[:, ::-1]
    keys = np.ascontiguousarray(ids).view("V16").ravel()
    if records.ends is None:
        size = records.layout.head.itemsize
        between = b"\r\n$%d\r\n" % size
        fields: list[Any] = [("head", "V5"), ("key", "V16"), ("between", f"V{len(between)}")]
        made = np.empty(stop - start, [*fields, ("record", f"V{size}"), ("end", "V2")])
        made["head"], made["between"], made["end"] = np.void(b"$16\r\n"), np.void(between), np.void(b"\r\n")
        made["key"] = keys
        made["record"] = records.data[start * size : stop * size].view(f"V{size}")
        return made.view("u1")
    begin = int(records.ends[start - 1]) if start else 0
    bounds = [0, *(records.ends[start:stop] - begin).tolist()]
    data = records.data[begin : begin + bounds[-1]].tobytes()
    return b"".join(
        [
            b"$16\r\n%b\r\n$%d\r\n%b\r\n" % (key, to - at, data[at:to])
            for key, (at, to) in zip(keys.tolist(), itertools.pairwise(bounds), strict=True)
        ]
    )


def _check_lengths(records: Records) -> None:
    longest = records.layout.head.itemsize
    if records.ends is not None:
        longest = int(np.diff(records.ends, prepend=0).max(initial=0))
    if longest > _LONGEST:
        raise LimitExceededError(
            f"expected records of at most {_LONGEST} bytes, which is what Redis holds, found one of {longest}",
            suggestion="keep such values elsewhere, or save the world to a file",
        )
