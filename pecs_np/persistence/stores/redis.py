"""Entities in Redis.

Under a prefix stand::

    <prefix>:entities   hash    stable id, 16 bytes big-endian -> record
    <prefix>:layouts    hash    id of a layout, 8 bytes -> its document
    <prefix>:schema     string  the version of all this
    <prefix>:changes    string  a number that every change of the entities makes larger
    <prefix>:pending    list    large batches that are not in their place yet; see `redis_batches`
    <prefix>:batch:...  hashes  their parts

What is read in several commands is read again if a change came between. Commands with records of one size
are arrays that are sent as they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
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
from pecs_np.persistence.stores.redis_batches import STEP, Batches
from pecs_np.persistence.stores.redis_talk import command, head, said
from pecs_np.persistence.stores.server import ServerStore, imported
from pecs_np.persistence.stores.store import SCHEMA_VERSION

__all__ = ["RedisEntityPlugin"]

# What Redis takes as one value, unless it is told otherwise.
_LONGEST = 512 << 20


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
        self._documents, self._schema = f"{prefix}:layouts".encode(), f"{prefix}:schema".encode()
        self._batches = Batches(prefix.encode())
        self._entities = self._batches.entities
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

        first = [command(b"SET", self._schema, b"%d" % SCHEMA_VERSION, b"NX")]
        first += [
            command(b"HSETNX", self._documents, records.layout.id, records.layout.document)
            for records in batch
        ]
        self._run(lambda pool: self._batches.write(pool, first, batch))

    def read(self, keys: list[bytes]) -> Sequence[bytes | None]:
        """Return the record under each of *keys*, None where there is none."""
        commands = self._of_steps(b"HMGET", keys)
        return list(
            itertools.chain.from_iterable(self._run(lambda pool: self._batches.steady(pool, commands)))
        )

    def holds(self, keys: list[bytes]) -> Sequence[bool]:
        """Tell of each of *keys* whether there is a record."""
        start = head(1, b"HEXISTS", self._entities) + b"$16\r\n"
        made = np.empty(len(keys), [("head", f"V{len(start)}"), ("key", "V16"), ("end", "V2")])
        made["head"], made["end"] = np.void(start), np.void(b"\r\n")
        made["key"] = np.frombuffer(b"".join(keys), "V16")

        def work(pool: Any) -> list[bool]:
            self._batches.finish(pool)
            return [bool(found) for found in said(pool, [made.view("u1")], len(keys))]

        return self._run(work)

    def remove(self, keys: list[bytes]) -> int:
        """Forget the records under *keys*, and return how many there were."""
        commands = self._of_steps(b"HDEL", keys)
        return sum(self._run(lambda pool: self._batches.changed(pool, lambda: commands, len(commands))))

    def keys(self) -> Iterator[Collection[bytes]]:
        """Give all keys, in batches."""
        for batch in self._run(lambda pool: self._batches.scanned(pool, lambda: self._scanned(pool))):
            for key in batch:
                if len(key) != 16:
                    raise CorruptedDataError(
                        f"expected stable ids of 16 bytes, found {key[:60]!r} in {self._name()}",
                        suggestion="pass another prefix if another program uses these keys",
                    )
            yield batch

    def count(self) -> int:
        """Return how many records there are."""
        return int(self._run(lambda pool: self._batches.steady(pool, [command(b"HLEN", self._entities)]))[0])

    def clear(self) -> None:
        """Forget all saved entities, at once."""
        commands = [command(b"UNLINK", self._entities)]
        self._run(lambda pool: self._batches.changed(pool, lambda: commands, 1))

    def read_layouts(self, ids: Collection[bytes]) -> Mapping[bytes, bytes]:
        """Return the documents of those of the layouts *ids* that are held."""
        asked = command(b"HMGET", self._documents, *ids)
        (documents,) = self._run(lambda pool: said(pool, [asked], 1))
        return {layout: document for layout, document in zip(ids, documents, strict=True) if document}

    # Talking

    def _of_steps(self, word: bytes, keys: list[bytes]) -> list[bytes]:
        """Return commands of some *keys* each."""
        return [
            command(word, self._entities, *keys[start : start + STEP]) for start in range(0, len(keys), STEP)
        ]

    def _scanned(self, pool: Any) -> Iterator[list[bytes]]:
        """Yield all keys, some perhaps twice."""
        cursor = b""
        while cursor != b"0":
            cursor, keys = self._scan(pool, cursor or b"0")
            yield keys

    def _scan(self, pool: Any, cursor: bytes) -> tuple[bytes, list[bytes]]:
        words = [b"HSCAN", self._entities, cursor, b"COUNT", b"%d" % STEP]
        if self._novalues:
            try:
                (reply,) = said(pool, [command(*words, b"NOVALUES")], 1)
            except self._redis.ResponseError as error:
                if "syntax" not in str(error):
                    raise
                # A server before 7.4, which sends the records too.
                self._novalues = False
            else:
                return reply[0], reply[1]
        ((cursor, pairs),) = said(pool, [command(*words)], 1)
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
            (version,) = said(pool, [command(b"GET", self._schema)], 1)
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


def _check_lengths(records: Records) -> None:
    longest = records.layout.head.itemsize
    if records.ends is not None:
        longest = int(np.diff(records.ends, prepend=0).max(initial=0))
    if longest > _LONGEST:
        raise LimitExceededError(
            f"expected records of at most {_LONGEST} bytes, which is what Redis holds, found one of {longest}",
            suggestion="keep such values elsewhere, or save the world to a file",
        )
