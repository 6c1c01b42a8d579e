"""A log of changes in an SQLite database, beside the entities: what changed, and when, as deltas.

They are in the table ``changes``: number, time in seconds since 1970, and the delta as the format has it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pecs_np.ecs.applying import concatenated_changes
from pecs_np.ecs.changes import ChangeSet
from pecs_np.errors import CorruptedDataError, PersistenceError, WorldError
from pecs_np.messages import shown
from pecs_np.persistence.binary.delta_reader import decode_delta
from pecs_np.persistence.binary.delta_writer import encode_delta
from pecs_np.persistence.delta_plugins import DeltaPersistencePlugin
from pecs_np.persistence.limits import Limits

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from sqlite3 import Connection

__all__ = ["SqliteChangeLog"]

_MAKE = """
    CREATE TABLE IF NOT EXISTS changes
    (number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, delta BLOB NOT NULL)
"""
# From the first that is later on, so that one which a clock that was set back makes earlier is not left out.
_READ = """
    SELECT number, delta FROM changes
    WHERE number >= (SELECT min(number) FROM changes WHERE time > ?) ORDER BY number
"""


class SqliteChangeLog(DeltaPersistencePlugin):
    """The half of `SqliteEntityPlugin` that is about changes."""

    limits: Limits
    _audit = False

    if TYPE_CHECKING:

        def _using(self, doing: str) -> AbstractContextManager[Connection]: ...
        def _writing(self) -> AbstractContextManager[Connection]: ...
        def _name(self) -> str: ...

    def _make_changes(self, connection: Connection) -> None:
        """Make the table, if it is wanted."""
        if self._audit:
            connection.execute(_MAKE)

    def save_changes(self, changes: ChangeSet) -> None:
        """Add *changes*, if there are any, to the log; the saved entities stay as they are."""
        self._check_audit()
        if not isinstance(changes, ChangeSet):
            raise WorldError(
                f"expected a ChangeSet, found {shown(changes)}", suggestion="call tracker.take()"
            )
        time = changes.timestamp
        if not isinstance(time, int | float) or not math.isfinite(time):
            raise WorldError(f"expected changes of a time in seconds since 1970, found {shown(time)}")
        if not changes:
            return
        delta = b"".join(encode_delta(changes))
        with self._writing() as connection:
            connection.execute("INSERT INTO changes (time, delta) VALUES (?, ?)", (float(time), delta))

    def load_changes(self, since: float = 0.0) -> ChangeSet:
        """Return the changes after a time as one.

        Raises
        ------
        CorruptedDataError
            If one of them is damaged.
        """
        self._check_audit()
        if not isinstance(since, int | float) or math.isnan(since):
            raise PersistenceError(f"expected a time in seconds since 1970, found {shown(since)}")
        with self._using("loading from") as connection:
            rows = connection.execute(_READ, (float(since),)).fetchall()
        found = []
        for number, delta in rows:
            where = f"change {number} of {self._name()}"
            if not isinstance(delta, bytes):
                raise CorruptedDataError(f"expected bytes, found {shown(delta)} as {where}")
            found.append(decode_delta(delta, where, self.limits).changes)
        return concatenated_changes(found)

    def current_timestamp(self) -> float:
        """Return the time of the latest changes, seconds since 1970; 0 where there are none."""
        self._check_audit()
        with self._using("loading from") as connection:
            return float(connection.execute("SELECT max(time) FROM changes").fetchone()[0] or 0.0)

    def _check_audit(self) -> None:
        if not self._audit:
            raise PersistenceError(
                f"expected a store with a log of changes, found {self._name()} opened without",
                suggestion="pass audit=True",
            )
