"""SQLite's errors as ours."""

from __future__ import annotations

import errno
from types import ModuleType

from pecs_np.errors import (
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    PersistenceError,
    PersistenceIOError,
    PluginNotFoundError,
)
from pecs_np.persistence.disk import printable

__all__ = ["damaged", "is_busy", "sqlite3", "told", "too_large"]

# Primary result codes, as https://www.sqlite.org/rescode.html has them.
_BUSY, _CORRUPT, _TOOBIG, _NOTADB = 5, 11, 18, 26
_WAIT = "let the other program finish, or pass a longer timeout"
_RIGHTS = "check that the file and its folder can be read and written"
# The errno, and what to do.
_REFUSALS: dict[int, tuple[int | None, str | None]] = {
    _BUSY: (errno.EAGAIN, _WAIT),
    6: (errno.EAGAIN, _WAIT),
    3: (errno.EACCES, _RIGHTS),
    7: (errno.ENOMEM, None),
    8: (errno.EROFS, "it can only be loaded from: allow writing, or copy it"),
    10: (errno.EIO, "check the disk, and the limits on files"),
    13: (errno.ENOSPC, "make room on the disk"),
    14: (errno.EACCES, _RIGHTS),
}


def sqlite3() -> ModuleType:
    """Return the module sqlite3, imported only when it is used: not every Python has it.

    Raises
    ------
    PluginNotFoundError
        If this one has not.
    """
    try:
        import sqlite3  # noqa: PLC0415
    except ImportError as error:
        raise PluginNotFoundError(
            f"expected a Python with the module sqlite3, found: {error}",
            suggestion="install SQLite for it, or use another store",
        ) from error
    return sqlite3


def is_busy(error: Exception) -> bool:
    """Tell whether another program has the database."""
    return _primary(error) == _BUSY


def told(error: Exception, doing: str, path: str) -> PersistenceError:
    """Return an error of SQLite, met while *doing* something with the database, as one of ours."""
    code = _primary(error)
    if code == _CORRUPT:
        return damaged(str(error), path)
    if code == _NOTADB:
        return InvalidFormatError(
            f"expected an SQLite database, found another file as {_named(path)}", suggestion="check the path"
        )
    if code == _TOOBIG:
        return too_large(path)
    number, suggestion = _REFUSALS.get(code, (None, None))
    return PersistenceIOError(
        f"{doing} {_named(path)} failed: {error}", errno=number, filename=path, suggestion=suggestion
    )


def damaged(why: str, path: str) -> CorruptedDataError:
    """Return that the database is damaged."""
    return CorruptedDataError(
        f"expected a sound database, found damage in {_named(path)}: {why}",
        suggestion="load a backup; the program sqlite3 may recover a part with .recover",
    )


def too_large(path: str) -> LimitExceededError:
    """Return that a record is larger than SQLite takes."""
    return LimitExceededError(
        f"expected records as large as SQLite takes, 10**9 bytes by default, found larger ones for {_named(path)}"
    )


def _primary(error: Exception) -> int:
    """Return what went wrong, without the details."""
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF


def _named(path: str) -> str:
    return f"the store {printable(path)!r}"
