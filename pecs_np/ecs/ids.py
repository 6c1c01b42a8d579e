"""Columns of entity ids (u64) and stable ids (u128), kept as runs of consecutive ids where they can be.

Freshly spawned entities have consecutive ids, so a million of them cost two integers until somebody
asks for the array. A stable id is a pair of u64 in memory, which is a little-endian u128 on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pecs_np.ecs.arrays import Array, copy_rows, read_only, resized

__all__ = [
    "ENTITY_ID",
    "MOST_RUNS",
    "RUN",
    "STABLE_ID",
    "IdColumn",
    "as_int",
    "as_record",
    "compact",
    "encode_runs",
    "expand_runs",
]

ENTITY_ID = np.dtype("<u8")
STABLE_ID = np.dtype([("lo", "<u8"), ("hi", "<u8")])
RUN = np.dtype([("first", STABLE_ID), ("count", "<u8")])

_MASK = (1 << 64) - 1
# Beyond this many runs an array is simpler and not much larger.
MOST_RUNS = 64
# Ids that are compared at once.
_BLOCK = 1 << 13


def _fill(target: Array, first: int) -> None:
    """Write first, first + 1, ... to *target*, of either id dtype."""
    count = len(target)
    if target.dtype == ENTITY_ID:
        target[...] = np.arange(first, first + count, dtype=ENTITY_ID)
        return
    low, high = as_record(first)
    steps = np.arange(count, dtype=np.uint64)
    steps += np.uint64(low)
    target["lo"] = steps
    target["hi"] = high
    if low + count > _MASK + 1:
        target["hi"][_MASK + 1 - low :] = high + 1


def _run(first: int, count: int) -> Array:
    """Return the stable ids first, first + 1, ..., shape (count,)."""
    low, high = as_record(first)
    halves = np.empty((count, 2), np.uint64)
    ids: Array = halves.view(STABLE_ID).reshape(count)
    if low + count > _MASK:
        _fill(ids, first)
    else:
        # As _fill, but the fields of the halves are quicker to reach.
        steps = np.arange(count, dtype=np.uint64)
        steps += np.uint64(low)
        halves[:, 0] = steps
        halves[:, 1] = high
    return ids


def expand_runs(runs: Array) -> Array:
    """Return the stable ids that *runs*, of dtype ``RUN``, stand for."""
    counts = runs["count"].astype(np.intp)
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    first = np.repeat(runs["first"], counts)
    step = np.arange(total, dtype=np.uint64)
    step -= np.repeat((ends - counts).astype(np.uint64), counts)
    ids = np.empty(total, STABLE_ID)
    np.add(first["lo"], step, out=ids["lo"])
    np.add(first["hi"], ids["lo"] < first["lo"], out=ids["hi"])
    return ids


_EMPTY = {dtype: np.empty(0, dtype) for dtype in (ENTITY_ID, STABLE_ID)}


class IdColumn:
    """The ids of a table's rows, in row order; grows and shrinks with the table.

    Parameters
    ----------
    dtype : dtype
        ``ENTITY_ID`` or ``STABLE_ID``.
    runs : sequence of (first, count)
        The ids, as runs of consecutive integers.
    array : ndarray, optional
        The ids as an array, taken over without copying, instead of *runs*.

    Examples
    --------
    >>> column = IdColumn(ENTITY_ID, [(1, 3)])
    >>> column.append_run(4, 2)
    >>> column.runs, column.array()
    ([(1, 5)], array([1, 2, 3, 4, 5], dtype=uint64))
    """

    # While `runs` is a list it is the truth and `_array` a cache of its first `_filled` ids;
    # once it is None the array is the truth.
    __slots__ = ("_array", "_filled", "_words", "_words_of", "dtype", "runs", "size")

    runs: list[tuple[int, int]] | None

    def __init__(
        self,
        dtype: np.dtype[Any],
        runs: Sequence[tuple[int, int]] = (),
        array: Array | None = None,
    ) -> None:
        self.dtype = dtype
        self._words_of: Array | None = None
        if array is None:
            self.runs = list(runs)
            self.size = runs[0][1] if len(runs) == 1 else sum([count for _, count in runs])
            self._array = _EMPTY[dtype]
            self._filled = 0
        else:
            self.runs = None
            self.size = self._filled = len(array)
            self._array = array

    def __len__(self) -> int:
        return self.size

    def array(self) -> Array:
        """Return the ids, shape (n,): a view that the next change may outdate."""
        return self._settled()[: self.size]

    def part(self, start: int, stop: int) -> Array:
        """Return the ids of rows *start* to *stop*; of runs only these are expanded."""
        if self.runs is None or self._filled >= stop:
            return self._array[start:stop]
        runs = []
        at = 0
        for first, count in self.runs:
            skipped, end = max(start - at, 0), min(stop - at, count)
            if skipped < end:
                runs.append((first + skipped, end - skipped))
            at += count
        if len(runs) == 1 and self.dtype == STABLE_ID:
            return _run(*runs[0])
        return IdColumn(self.dtype, runs).array()

    def one(self, row: int) -> int:
        """Return the id in one row."""
        runs = self.runs
        if runs is None:
            words = self._words if self._words_of is self._array else self._by_words()
            return words[row] if self.dtype.itemsize == 8 else words[2 * row + 1] << 64 | words[2 * row]
        for first, count in runs:
            if row < count:
                return first + row
            row -= count
        raise IndexError(row)

    def replace_by_last(self, row: int) -> None:
        """Take away one row; the last one moves there."""
        last = self.size - 1
        if self.runs is not None:
            if row == last:
                _truncate(self.runs, 1)
                self.size = last
                self._filled = min(self._filled, last)
                return
            self._settled()
            self.runs = None
        if row != last:
            words = self._words if self._words_of is self._array else self._by_words()
            if self.dtype.itemsize == 8:
                words[row] = words[last]
            else:
                words[2 * row] = words[2 * last]
                words[2 * row + 1] = words[2 * last + 1]
        self.size = self._filled = last

    def hand_one(self, row: int, other: IdColumn) -> None:
        """Move the id of one row to the end of *other*; the last one moves to where it was."""
        if self.runs is not None or self._words_of is not self._array:
            other.append_run(self.one(row), 1)
            self.replace_by_last(row)
            return
        words, last = self._words, self.size - 1
        if self.dtype.itemsize == 8:
            other.append_run(words[row], 1)
            words[row] = words[last]
        else:
            other.append_run(words[2 * row + 1] << 64 | words[2 * row], 1)
            words[2 * row], words[2 * row + 1] = words[2 * last], words[2 * last + 1]
        self.size = self._filled = last

    def _by_words(self) -> memoryview:
        """Return the array as u64, one or two an id: the quickest way to a single one."""
        array = self._array
        if not array.flags.c_contiguous:
            self._array = array = array.copy()
        self._words = array.view(ENTITY_ID).data
        self._words_of = array
        return self._words

    def append_run(self, first: int, count: int) -> None:
        """Append *count* ids: first, first + 1, ..."""
        runs = self.runs
        if runs is not None:
            if runs:
                last, length = runs[-1]
                if last + length == first:
                    runs[-1] = last, length + count
                    self.size += count
                    return
            if len(runs) < MOST_RUNS:
                runs.append((first, count))
                self.size += count
                return
            self._settled()
            self.runs = None
        start = self.size
        if count == 1:
            if start == len(self._array) or self._filled < start:
                self._settled(1)
            words = self._words if self._words_of is self._array else self._by_words()
            if self.dtype.itemsize == 8:
                words[start] = first
            else:
                words[2 * start], words[2 * start + 1] = first & _MASK, first >> 64
        else:
            _fill(self._settled(count)[start : start + count], first)
        self.size = self._filled = start + count

    def append(self, ids: Array) -> None:
        """Append *ids*, shape (k,)."""
        stop = self.size + len(ids)
        copy_rows(self._settled(len(ids))[self.size : stop], ids)
        self.runs = None
        self.size = self._filled = stop

    def extend(self, other: IdColumn) -> None:
        """Append all ids of *other*."""
        if other.runs is None:
            self.append(other.array())
        else:
            for first, count in other.runs:
                self.append_run(first, count)

    def swap_remove(self, holes: Array, movers: Array, size: int) -> None:
        """Move rows *movers* into *holes*, both shape (k,), and keep the first *size* rows."""
        if len(holes):
            array = self._settled()
            array[holes] = array.take(movers)
            self.runs = None
        elif self.runs is not None:
            _truncate(self.runs, self.size - size)
        self.size = size
        self._filled = min(self._filled, size)

    def frozen(self, *, copy: bool = False) -> IdColumn:
        """Return the ids as they are now; an array is shared, read-only, unless *copy* is set."""
        if self.runs is None:
            array = self.array()
            return IdColumn(self.dtype, array=array.copy() if copy else read_only(array))
        return IdColumn(self.dtype, self.runs)

    def taken(self) -> IdColumn:
        """Return the ids for a new owner, which takes an array over unless it is read-only."""
        if self.runs is not None:
            return IdColumn(self.dtype, self.runs)
        array = self._array[: self.size]
        return IdColumn(self.dtype, array=array if array.flags.writeable else array.copy())

    def _settled(self, extra: int = 0) -> Array:
        """Return the array behind the column, holding every id and room for *extra* more."""
        needed = self.size + extra
        # In this order here and the other below: another thread that looks meanwhile sees whole arrays only.
        filled = self._filled
        array = self._array
        if filled >= self.size and len(array) >= needed:
            return array
        runs = self.runs
        if not filled and runs is not None and len(runs) == 1 and self.dtype == ENTITY_ID and not extra:
            array = np.arange(runs[0][0], runs[0][0] + self.size, dtype=ENTITY_ID)
            filled = self.size
        if len(array) < needed:
            array = resized(array, filled, needed + (needed // 2 if filled else 0))
        if filled < self.size:
            start = 0
            for first, count in runs or ():
                begin = max(start, filled)
                if begin < start + count:
                    _fill(array[begin : start + count], first + begin - start)
                start += count
        self._array = array
        self._filled = self.size
        return array


def _truncate(runs: list[tuple[int, int]], count: int) -> None:
    """Take the last *count* ids off *runs*."""
    while count:
        first, length = runs.pop()
        if length > count:
            runs.append((first, length - count))
        count -= min(length, count)


def compact(ids: Array) -> IdColumn:
    """Return a column of the stable ids *ids*, shape (n,), as runs where they are few."""
    if len(ids):
        first, last = as_int(ids[0]), as_int(ids[-1])
        if last - first == len(ids) - 1:
            for start in range(0, len(ids), _BLOCK):
                block = ids[start : start + _BLOCK]
                if _run(first + start, len(block)).tobytes() != block.tobytes():
                    break
            else:
                return IdColumn(STABLE_ID, ((first, len(ids)),))
    column = IdColumn(STABLE_ID, array=ids)
    runs = encode_runs(column)
    if runs is None or len(runs) > MOST_RUNS * RUN.itemsize:
        return column
    found = [(as_int(run["first"]), int(run["count"])) for run in np.frombuffer(runs, RUN)]
    wraps = any(first + count > 1 << 128 for first, count in found)
    return column if wraps else IdColumn(STABLE_ID, found)


def encode_runs(column: IdColumn) -> bytes | None:
    """Return the stable ids of *column* as ``RUN`` records, or None where that would not pay.

    It pays at up to one run for eight ids, or at a single run: the rule of the binary format.
    """
    if not column.size:
        return b""
    most = max(1, column.size // 8)
    if column.runs is not None:
        if len(column.runs) > most:
            return None
        return b"".join(
            [first.to_bytes(16, "little") + count.to_bytes(8, "little") for first, count in column.runs]
        )
    ids = column.array()
    low, high = ids["lo"], ids["hi"]
    broken = low[1:] != low[:-1] + np.uint64(1)
    if np.count_nonzero(broken) >= most:
        return None
    broken |= high[1:] != high[:-1] + (low[:-1] == _MASK)
    starts = np.flatnonzero(broken) + 1
    if len(starts) >= most:
        return None
    starts = np.concatenate(([0], starts))
    runs = np.empty(len(starts), RUN)
    runs["first"] = ids.take(starts)
    runs["count"] = np.diff(starts, append=len(ids))
    return runs.tobytes()


def as_int(record: Any) -> int:
    """Return a stable id record as the integer it stands for."""
    low, high = record.item()
    return int(high) << 64 | int(low)


def as_record(value: int) -> tuple[int, int]:
    """Return a stable id integer as the (lo, hi) of its record."""
    return value & _MASK, value >> 64
