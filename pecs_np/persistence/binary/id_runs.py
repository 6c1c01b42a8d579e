"""Stable ids as runs of consecutive ones, worked out block by block, so that little is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.ids import RUN

__all__ = ["IDS_AT_ONCE", "run_blocks", "runs_pay"]

IDS_AT_ONCE = 1 << 16


def runs_pay(ids: Array) -> bool:
    """Tell whether *ids*, shape (n,), are few enough runs to be stored as such: see `encode_runs`."""
    most = max(1, len(ids) // 8)
    found = 1
    for start in range(1, len(ids), IDS_AT_ONCE):
        found += len(_breaks(ids, start))
        if found > most:
            return False
    return True


def run_blocks(ids: Array) -> Iterator[bytes]:
    """Yield *ids*, shape (n,) with n > 0, as ``RUN`` records, some after others.

    Examples
    --------
    >>> from pecs_np.ecs.ids import STABLE_ID
    >>> ids = np.array([(7, 0), (8, 0), (20, 0)], STABLE_ID)
    >>> np.frombuffer(b"".join(run_blocks(ids)), RUN)["count"]
    array([2, 1], dtype=uint64)
    """
    begin = 0
    for start in range(1, len(ids), IDS_AT_ONCE):
        starts = start + _breaks(ids, start)
        if len(starts):
            yield _runs(ids, np.concatenate(([begin], starts)))
            begin = int(starts[-1])
    yield _runs(ids, np.array([begin, len(ids)]))


def _runs(ids: Array, bounds: NDArray[np.intp]) -> bytes:
    """Return the runs between each of *bounds* and the next."""
    runs = np.empty(len(bounds) - 1, RUN)
    runs["first"] = ids.take(bounds[:-1])
    runs["count"] = np.diff(bounds)
    return runs.tobytes()


def _breaks(ids: Array, start: int) -> NDArray[np.intp]:
    """Return which ids of the block from *start* on do not follow the one before."""
    part = ids[start - 1 : start + IDS_AT_ONCE]
    low, high = part["lo"], part["hi"]
    follows = low[1:] == low[:-1] + np.uint64(1)
    follows &= high[1:] == high[:-1] + (low[1:] == 0)
    return np.flatnonzero(~follows)
