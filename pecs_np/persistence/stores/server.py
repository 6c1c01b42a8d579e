"""`ServerStore`: what stores on a server share, whose connection may be lost and is made again."""

from __future__ import annotations

import contextlib
import errno as codes
import importlib
import os
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Generic, TypeVar

import numpy as np

from pecs_np.errors import PecsError, PersistenceError, PersistenceIOError, PluginNotFoundError
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.store import EntityStore

__all__ = ["ServerStore", "imported", "parts"]

Connection = TypeVar("Connection")
Result = TypeVar("Result")

_stores: weakref.WeakSet[ServerStore[Any]] = weakref.WeakSet()

# Bytes of records that are put into the words of a server at once.
_PART = 1 << 20


class ServerStore(EntityStore, Generic[Connection]):
    """A store on a server.

    A connection that was lost, because the server was started anew or the network failed, is made again
    once in each call: whatever a call does can be done twice. It cannot be pickled, for another process
    needs a connection of its own.
    """

    # Of a connection that was lost: how often a call is tried, and one that the server asks to repeat.
    _TRIES = 2
    _REPEATS = 10

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._open = True
        _stores.add(self)

    @abstractmethod
    def _connected(self) -> Connection:
        """Return the connection, made now if there is none."""

    @abstractmethod
    def _disconnect(self) -> None:
        """Let go of the connection, if there is one."""

    @abstractmethod
    def _failures(self) -> tuple[type[Exception], ...]:
        """Return what the client library raises."""

    @abstractmethod
    def _is_lost(self, error: Exception) -> bool:
        """Tell whether *error* is the end of a connection, and another one may be better."""

    def _is_passing(self, error: Exception) -> bool:  # noqa: ARG002 - for those that have such errors
        """Tell whether the server undid the call and asks to try again."""
        return False

    @abstractmethod
    def _described(self, error: Exception) -> PecsError:
        """Return what the client library raised as an error of ours."""

    def close(self) -> None:
        """Let go of the connection; a second time does nothing."""
        with self._lock:
            if self._open:
                self._open = False
                self._disconnect()

    def __del__(self) -> None:
        # An interpreter that ends may have taken apart what this needs.
        with contextlib.suppress(Exception):
            self.close()

    def __reduce__(self) -> Any:
        raise PersistenceError(
            f"expected something to pickle, found {self._name()}, which holds a connection",
            suggestion="make one in each process",
        )

    def _run(self, work: Callable[[Connection], Result]) -> Result:
        """Return what *work* makes of the connection; it may be called again when that was lost."""
        with self._lock:
            if not self._open:
                raise PersistenceError(
                    f"expected an open store, found {self._name()} closed",
                    suggestion="make another one, or close it later",
                )
            lost = repeated = 0
            while True:
                try:
                    return work(self._connected())
                except self._failures() as error:
                    if self._is_lost(error):
                        self._disconnect()
                        lost += 1
                        if lost < self._TRIES:
                            continue
                    elif self._is_passing(error) and repeated < self._REPEATS:
                        repeated += 1
                        continue
                    raise self._described(error) from error

    def _unreachable(self, what: str, where: str, error: Exception) -> PersistenceIOError:
        return PersistenceIOError(
            f"expected {what} at {where}, found: {_first_line(error)}",
            errno=_errno(error),
            suggestion="start it, or check the address and the network; a batch that was under way was saved whole or not at all",
        )

    def _refused(self, what: str, where: str, error: Exception, suggestion: str) -> PersistenceIOError:
        return PersistenceIOError(
            f"expected {what} at {where} to do as asked, found: {_first_line(error)}", suggestion=suggestion
        )


def _after_fork() -> None:
    # Another thread of the process that was forked may have held it.
    for store in list(_stores):
        store._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def imported(module: str, extra: str) -> ModuleType:
    """Return a module of a package that is an extra of this one.

    Raises
    ------
    PluginNotFoundError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PluginNotFoundError(
            f"expected the package {module!r}, found: {_first_line(error)}",
            suggestion=f"pip install pecs_np[{extra}]",
        ) from error


def parts(records: Records) -> Sequence[tuple[int, int]]:
    """Return the rows of *records* as ranges of about a MiB each, at least a row."""
    count = len(records.stable_ids)
    if records.ends is None:
        step = max(1, _PART // records.layout.head.itemsize)
        return [(start, min(start + step, count)) for start in range(0, count, step)]
    found, row = [], 0
    while row < count:
        begin = int(records.ends[row - 1]) if row else 0
        stop = max(row + 1, int(np.searchsorted(records.ends, begin + _PART, "right")))
        found.append((row, stop))
        row = stop
    return found


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def _errno(error: BaseException) -> int:
    """Return the number of the system's error that led to *error*; that a connection was lost if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        cause = cause.__cause__ or cause.__context__
    return codes.ECONNRESET
