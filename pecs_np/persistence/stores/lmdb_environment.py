"""An LMDB file that this process has open, whatever the number of its stores.

LMDB allows a file to be open once in a process. Its map has to be as large as the file may become; it
grows by itself, which only works while no transaction of the process is open, so one thread at a time
uses it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from pecs_np.errors import PersistenceIOError
from pecs_np.persistence.disk import printable

__all__ = ["DATABASES", "Environment", "Work"]

Result = TypeVar("Result")

# Of records, of layouts, and of the version.
DATABASES = (b"entities", b"layouts", b"store")
_READERS = 1024
_TRIES = 100


class Environment:
    """An LMDB file that this process has open, for all stores of it.

    Attributes
    ----------
    lock : RLock
        Of the thread that uses it.
    entities, layouts, store
        Its databases, None before they are found.
    excused : int
        How many bytes are known to be missing at the end that nothing needs.
    """

    def __init__(self, library: Any, path: str, map_size: int, *, durable: bool) -> None:
        self.lock = threading.RLock()
        self.excused = 0
        self._library, self._path, self._map_size = library, path, map_size
        self._stores = 0
        self._key: tuple[int, int] | None = None
        self._synced = durable
        self._open()

    @classmethod
    def of(cls, library: Any, path: str, map_size: int, *, durable: bool) -> Environment:
        """Return the one of the file *path*, opened if it is not yet; it is to be released."""
        with _registry:
            try:
                key = _identity(path)
            except OSError:
                key = None
            if key not in _environments:
                made = cls(library, path, map_size, durable=durable)
                key = made._key = _identity(path)
                _environments[key] = made
            found = _environments[key]
            found._stores += 1
            return found

    def release(self) -> None:
        """Close the file if this was the last store of it."""
        with _registry, self.lock:
            self._stores -= 1
            if not self._stores:
                _environments.pop(self._key, None)
                self._env.close()

    def abandon(self) -> None:
        """Let the file be opened again, by a process that was forked from the one that has it open."""
        self._env.close()

    def reopen(self) -> None:
        """Close the file, and open it again."""
        self._env.close()
        self._open()

    def flush(self) -> None:
        """Flush the file to the disk, unless each transaction does it."""
        if not self._synced:
            self._env.sync(True)

    def lacking(self) -> int:
        """Return how many bytes the file is too short for the pages that are in use."""
        pages: int = self._env.info()["last_pgno"] + 1
        return max(0, pages * int(self._env.stat()["psize"]) - os.stat(self._path).st_size)

    def find(self, txn: Any = None) -> Any:
        """Open the databases, or make them in the transaction *txn*, and return the last one."""
        made = [self._env.open_db(name, txn=txn, create=txn is not None) for name in DATABASES]
        # Handles of a transaction may end with it.
        if txn is None:
            self.entities, self.layouts, self.store = made
        return made[-1]

    def lose(self) -> None:
        """Forget the databases, which are then to be found again."""
        self.entities = self.layouts = self.store = None

    def carry_out(self, work: Work[Result], *, write: bool = False, needed: int = 0) -> Result:
        """Return what *work* makes of a transaction; it is called again where the map had to grow."""
        library = self._library
        for _ in range(_TRIES):
            try:
                with self._env.begin(self.entities, write=write) as txn:
                    return work(txn, self)
            except library.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"] + 2 * needed)
            except library.MapResizedError:
                # Another process let it grow.
                self._env.set_mapsize(0)
            except library.ReadersFullError:
                if not self._env.reader_check():
                    raise
        raise PersistenceIOError(
            f"expected a map that stays as large as it is, found it to grow {_TRIES} times: {printable(self._path)!r}",
            errno=errno.EAGAIN,
            filename=self._path,
        )

    def _open(self) -> None:
        options = {
            "subdir": False,
            "map_size": self._map_size,
            "max_dbs": len(DATABASES),
            "max_readers": _READERS,
            "metasync": self._synced,
            "mode": 0o666,
        }
        try:
            self._env = self._library.open(self._path, **options)
        except self._library.Error as error:
            if getattr(error, "code", 0) not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            try:
                self._env = self._library.open(self._path, readonly=True, **options)
            except self._library.Error:
                raise error from None
        self.lose()
        # Of processes that were killed.
        self._env.reader_check()


Work = Callable[[Any, Environment], Result]

# The files that this process has open.
_environments: dict[tuple[int, int] | None, Environment] = {}
_registry = threading.RLock()


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _after_fork() -> None:
    global _registry  # noqa: PLW0603 - another thread may have held it, which is not here
    _registry = threading.RLock()
    for environment in _environments.values():
        environment.abandon()
    _environments.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
