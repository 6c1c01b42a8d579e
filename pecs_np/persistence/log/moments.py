"""Moments that a log tells of: numbers of records, and times."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from pecs_np.errors import PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.log.reading import LogFile

__all__ = ["Moment", "gone", "record_at"]

# The number of a record as an int; a time in seconds since 1970 as a float, or as a datetime.
Moment = int | float | datetime


def record_at(file: LogFile, value: Moment, name: str) -> int:
    """Return the number of the record of a moment, which for a time is the last record up to it.

    Raises
    ------
    PersistenceError
        If it is no moment, or the log does not tell of it; *name* is what messages call it.
    """
    moment = _as_moment(value, name)
    start, end = file.start, file.end
    if isinstance(moment, float):
        if moment < start.time and start.sequence:
            raise PersistenceError(
                f"expected a time from {_told(start.time)} for {name}, found {_told(moment)}, of which the log"
                f" {file.name} was compacted"
            )
        return file.before(moment)
    if moment < start.sequence:
        raise gone(moment, start.sequence, file.name)
    if moment > end.sequence:
        raise PersistenceError(
            f"expected a record up to {end.sequence} for {name}, found {moment} in {file.name}"
        )
    return moment


def gone(since: int, start: int, name: str) -> PersistenceError:
    """Return the error for records that were compacted away."""
    return PersistenceError(
        f"expected the records after number {since}, found a log that begins after number {start}: {name}",
        suggestion="DeltaLog.restore gives the world from which it goes on",
    )


def _as_moment(value: Any, name: str) -> int | float:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, float | np.floating) and math.isfinite(value):
        return float(value)
    raise PersistenceError(
        f"expected the number of a record, or a time as a float or a datetime, for {name}, found {shown(value)}"
    )


def _told(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(moment)
