"""Where stable ids stand: in an array, or in columns whose runs are not expanded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, strictly_increasing
from pecs_np.ecs.ids import STABLE_ID, IdColumn, as_int, as_record

__all__ = ["ColumnLookup", "IdLookup", "find_duplicate"]

# A column of runs with more ids than this is searched run by run.
_LONG = 1 << 14


class IdLookup:
    """Finds the positions of stable ids: a dense table where they are close together, else a sorted search.

    Parameters
    ----------
    ids : ndarray of STABLE_ID, shape (n,)
        Unique ids. Where one stands twice, the first position is found.
    """

    __slots__ = ("_dense", "_high", "_ids", "_keys", "_low", "_order", "_salt")

    def __init__(self, ids: Array) -> None:
        self._ids = ids
        self._dense: NDArray[np.intp] | None = None
        low, high = ids["lo"], ids["hi"]
        if len(ids) and (high == high[0]).all():
            self._low, self._high = low.min(), high[0]
            span = int(low.max() - self._low)
            if span < 4 * len(ids) + 1024:
                self._dense = np.full(span + 1, -1, np.intp)
                self._dense[low[::-1] - self._low] = np.arange(len(ids) - 1, -1, -1)
                return
        # The salt keeps a hostile file from choosing ids whose keys collide.
        self._salt = np.uint64(int.from_bytes(os.urandom(8), "little"))
        keys = self._key(ids)
        self._order = None if strictly_increasing(keys) else np.argsort(keys, kind="stable")
        self._keys = keys if self._order is None else keys[self._order]

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, ids: Array) -> NDArray[np.intp]:
        """Return the position of each of *ids*, shape (k,), or -1 where it is not among them."""
        if self._dense is not None:
            offset = ids["lo"] - self._low
            inside = (offset < len(self._dense)) & (ids["hi"] == self._high)
            return np.where(inside, self._dense[np.where(inside, offset, 0)], -1)
        found = np.full(len(ids), -1, np.intp)
        keys = self._key(ids)
        place = np.searchsorted(self._keys, keys)
        pending = np.arange(len(ids))
        # One turn, but for ids that share a key with others.
        while len(pending):
            pending = pending[place[pending] < len(self._keys)]
            pending = pending[self._keys[place[pending]] == keys[pending]]
            position = place[pending] if self._order is None else self._order[place[pending]]
            match = _equal(self._ids[position], ids[pending])
            found[pending[match]] = position[match]
            pending = pending[~match]
            place[pending] += 1
        return found

    def duplicate(self) -> int | None:
        """Return an id that stands twice, or None."""
        again = np.flatnonzero(self.find(self._ids) != np.arange(len(self._ids)))
        return as_int(self._ids[again[0]]) if len(again) else None

    def _key(self, ids: Array) -> Array:
        high = ids["hi"]
        if len(high) and (high == high[0]).all():
            return ids["lo"] + _mixed(high[:1], self._salt)
        return ids["lo"] + _mixed(high, self._salt)


class ColumnLookup:
    """Finds the positions of stable ids in columns end to end; long runs are not expanded.

    Parameters
    ----------
    columns : sequence of IdColumn
    """

    # Runs sorted by high half and low half: low half, how many ids, their position; the high halves, and the
    # first run of each.
    __slots__ = ("_firsts", "_highs", "_lookup", "_positions", "_runs")

    def __init__(self, columns: Sequence[IdColumn]) -> None:
        by_high: dict[int, list[tuple[int, int, int]]] = {}
        arrays = [np.empty(0, STABLE_ID)]
        positions = [np.empty(0, np.intp)]
        start = 0
        for column in columns:
            if column.runs is not None and column.size > _LONG:
                at = start
                for first, count in column.runs:
                    low, high = as_record(first)
                    here = min(count, (1 << 64) - low)
                    by_high.setdefault(high, []).append((low, here, at))
                    if here < count:
                        by_high.setdefault(high + 1, []).append((0, count - here, at + here))
                    at += count
            else:
                arrays.append(column.array())
                positions.append(np.arange(start, start + column.size))
            start += column.size
        self._lookup = IdLookup(np.concatenate(arrays))
        self._positions = np.concatenate(positions)
        found = sorted((high, *run) for high, runs in by_high.items() for run in runs)
        self._runs = np.array([run for _, *run in found], np.uint64).reshape(-1, 3)
        highs = np.array([high for high, *_ in found], np.uint64)
        self._highs, self._firsts = np.unique(highs, return_index=True)

    def find(self, ids: Array) -> NDArray[np.intp]:
        """Return the position of each of *ids*, shape (k,), or -1 where it is in no column."""
        place = self._lookup.find(ids)
        found = np.where(place < 0, -1, self._positions[place]) if len(self._positions) else place
        which = np.searchsorted(self._highs, ids["hi"])
        known = which < len(self._highs)
        known[known] = self._highs[which[known]] == ids["hi"][known]
        chosen = np.flatnonzero(known)
        if not len(chosen):
            return found
        # By high half, each of which has runs of its own.
        order = chosen[np.argsort(which[chosen], kind="stable")]
        stops = np.flatnonzero(np.diff(which[order], append=-1)) + 1
        ends = np.append(self._firsts[1:], len(self._runs))
        for start, stop in zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True):
            rows = order[start:stop]
            high = which[rows[0]]
            starts, counts, positions = self._runs[self._firsts[high] : ends[high]].T
            low = ids["lo"][rows]
            run = np.maximum(np.searchsorted(starts, low, "right"), 1) - 1
            offset = low - starts[run]
            inside = (low >= starts[run]) & (offset < counts[run])
            found[rows[inside]] = (positions[run] + offset)[inside]
        return found


def find_duplicate(columns: Iterable[IdColumn]) -> int | None:
    """Return a stable id that stands twice in *columns*, or None."""
    parts = [column for column in columns if column.size]
    if len(parts) == 1 and parts[0].runs is not None and len(parts[0].runs) == 1:
        return None
    runs = sorted([run for column in parts for run in column.runs or ()])
    for (first, count), (following, _) in pairwise(runs):
        if first + count > following:
            return following
    arrays = [column.array() for column in parts if column.runs is None]
    if not arrays:
        return None
    ids = np.concatenate(arrays)
    if (double := IdLookup(ids).duplicate()) is not None:
        return double
    again = np.flatnonzero(
        ColumnLookup([column for column in parts if column.runs is not None]).find(ids) >= 0
    )
    return as_int(ids[again[0]]) if len(again) else None


def _equal(left: Array, right: Array) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = (left["lo"] == right["lo"]) & (left["hi"] == right["hi"])
    return equal


def _mixed(values: Array, salt: np.uint64) -> Array:
    """Return SplitMix64 of *values* xor *salt* (Steele, Lea and Flood, OOPSLA 2014)."""
    z = values ^ salt
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
