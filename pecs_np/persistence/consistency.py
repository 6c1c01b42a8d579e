"""A save holds what a world was at one moment, or there is none: what tells that another thread changed it."""

from __future__ import annotations

from typing import Any

from pecs_np.ecs.snapshot import Snapshot
from pecs_np.errors import PersistenceError
from pecs_np.messages import shown

__all__ = ["changed", "check_current", "check_snapshot"]


def changed() -> PersistenceError:
    """Return the error for a world that another thread changed meanwhile."""
    return PersistenceError(
        "expected a world that stays as it is while it is saved, found that it changed",
        suggestion="save world.snapshot(copy=True), or stop the thread that changes it",
    )


def check_snapshot(snapshot: Any) -> None:
    """Raise unless *snapshot* is one."""
    if not isinstance(snapshot, Snapshot):
        raise PersistenceError(
            f"expected a Snapshot, found {shown(snapshot)}", suggestion="pass world.snapshot()"
        )


def check_current(snapshot: Snapshot) -> None:
    """Raise where the world whose memory *snapshot* shares has had a structural change since.

    Rows move then, so that bytes that were made of it may hold values under the ids of others. To be called
    after the last byte was made, and before anybody relies on them.
    """
    check_snapshot(snapshot)
    if snapshot.outdated:
        raise changed()
