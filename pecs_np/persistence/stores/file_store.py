"""`FileStore`: what entity stores in a file of their own have in common, whatever the library below."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import weakref
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Self

from pecs_np.errors import CorruptedDataError, PersistenceError, PersistenceIOError
from pecs_np.persistence import disk
from pecs_np.persistence.disk import PathLike, printable, reporting
from pecs_np.persistence.files import checked_flag
from pecs_np.persistence.stores.store import EntityStore

__all__ = ["FileStore"]

_KEY = 16
_open: weakref.WeakSet[FileStore] = weakref.WeakSet()


class FileStore(EntityStore):
    """A store in one file, which a library keeps open.

    It can be used by several threads. A fork of the process opens the file anew, and so does a copy that
    pickle makes. Where the file has been removed or replaced, that is an error: the library below would
    go on to write to a file that nobody finds again.

    Parameters
    ----------
    path : path
    durable : bool
        Whether what was saved also survives a loss of power. Without it, the last batches may be lost
        then; each is still there whole or not at all.
    **options
        Those of `EntityStore`.
    """

    # What is true of a store whose making failed.
    _closed = True
    _identity: tuple[int, int] | None = None

    def __init__(self, path: PathLike, *, durable: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self._durable = checked_flag(durable, "durable")
        with reporting("opening", path):
            self._path = os.path.abspath(os.fsdecode(path))
            if not os.fsdecode(path):
                raise FileNotFoundError(errno.ENOENT, "the path is empty")
        # What makes it again.
        self._options = {"durable": self._durable, **options}
        self._closed = False
        _open.add(self)

    # What a subclass says

    @abstractmethod
    def _let_go(self) -> None:
        """Close the file."""

    @abstractmethod
    def _forget(self) -> None:
        """Leave what the process that this one was forked from has open, without touching the file."""

    # What follows from it

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._path

    @property
    def durable(self) -> bool:
        """Whether what was saved survives a loss of power."""
        return self._durable

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._let_go()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __del__(self) -> None:
        # An interpreter that ends may have taken apart what this needs.
        with contextlib.suppress(Exception):
            self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r}{', closed' * self._closed})"

    def __reduce__(self) -> tuple[Any, ...]:
        self._check_open()
        return _opened, (type(self), self._path, self._options)

    def _name(self) -> str:
        return f"the store {printable(self._path)!r}"

    def _check_open(self) -> None:
        if self._closed:
            raise PersistenceError(
                f"expected an open store, found a closed one: {self._name()}", suggestion="open it again"
            )

    def _met(self) -> os.stat_result:
        """Return what the system says of the file, which is from now on the one that it has to be."""
        with reporting("opening", self._path):
            found = disk.system.stat(self._path)
        self._identity = found.st_dev, found.st_ino
        return found

    def _check_place(self) -> os.stat_result:
        """Return what the system says of the file, or raise where it is not the one that was opened."""
        with reporting("using the store", self._path):
            found = disk.system.stat(self._path)
        if (found.st_dev, found.st_ino) != self._identity:
            raise PersistenceIOError(
                f"expected the file that was opened, found another one as {self._name()}",
                errno=errno.ESTALE,
                filename=self._path,
                suggestion="close the store, and open it again",
            )
        return found

    def _check_no_folder(self) -> None:
        """Raise where the path is of something that no file can take the place of."""
        with reporting("opening", self._path):
            with contextlib.suppress(FileNotFoundError):
                mode = disk.system.stat(self._path).st_mode
                if stat.S_ISDIR(mode):
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
                if not stat.S_ISREG(mode):
                    raise OSError(errno.EINVAL, "it is no file")
            if not os.path.isdir(os.path.dirname(self._path)):
                raise FileNotFoundError(errno.ENOENT, "its folder is not there")

    def _checked_keys(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return *keys* if they are what records are held under."""
        held = list(keys)
        if set(map(len, held)) - {_KEY}:
            raise CorruptedDataError(f"expected keys of {_KEY} bytes, found others in {self._name()}")
        return held

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Let one thread at a time use the store, if it is open."""
        with self._lock:
            self._check_open()
            yield


def _opened(kind: type[FileStore], path: str, options: dict[str, Any]) -> FileStore:
    """Open a store that was pickled."""
    return kind(path, **options)


def _after_fork() -> None:
    for store in list(_open):
        # Another thread may have held it, which is not here.
        store._lock = threading.RLock()
        store._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
