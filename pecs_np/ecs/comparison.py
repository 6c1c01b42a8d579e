"""Columns compared at memory speed: which rows differ, bit for bit.

Equal bits are equal values, so NaN equals itself; -0.0 and 0.0 differ, because a restarted run would
tell them apart. Rows are packed, so there is no padding to count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.dtypes import Field, Layout

__all__ = ["changed_rows", "grouped_by_set", "same_array"]

# Of each side, at once: both stay in the cache.
_BLOCK = 1 << 17
# Rows of one word are compared many at once: what differs is a byte for each.
_ROWS = 1 << 20
_WORDS = (8, 4, 2, 1)


def same_array(left: Array, right: Array) -> bool:
    """Tell whether two object-free arrays of one dtype and shape hold the same bytes."""
    if left is right:
        return True
    return left.shape == right.shape and not _differ(as_bytes(left), as_bytes(right))


def changed_rows(left: Array, right: Array, layout: Layout) -> NDArray[np.intp]:
    """Return the rows, shape (k,) in rising order, in which two columns of one length differ.

    Parameters
    ----------
    left, right : structured array, shape (n,)
        Columns of the layout's memory dtype, or both with references as stable ids.
    layout : Layout
    """
    if not len(left) or not left.dtype.names:
        return np.empty(0, np.intp)
    if not layout.variable:
        return _changed(np.ascontiguousarray(left), np.ascontiguousarray(right))
    changed = np.zeros(len(left), bool)
    for f in layout.fields:
        if f.variable:
            changed |= _different_objects(left[f.name], right[f.name], f)
        else:
            # Fields of a row with objects are not packed by themselves.
            changed[_changed(np.ascontiguousarray(left[f.name]), np.ascontiguousarray(right[f.name]))] = True
    return np.flatnonzero(changed)


def _changed(left: Array, right: Array) -> NDArray[np.intp]:
    """Return the rows in which two contiguous, object-free arrays of one dtype and shape differ."""
    size = left.nbytes // len(left)
    if not size:
        return np.empty(0, np.intp)
    word = next(word for word in _WORDS if size % word == 0)
    words = size // word
    ours = as_bytes(left).view(f"u{word}").reshape(-1, words)
    theirs = as_bytes(right).view(f"u{word}").reshape(-1, words)
    step = _ROWS if words == 1 else max(1, _BLOCK // size)
    buffer = np.empty((min(step, len(ours)), words), bool)
    found = []
    for start in range(0, len(ours), step):
        stop = min(start + step, len(ours))
        different = np.not_equal(ours[start:stop], theirs[start:stop], out=buffer[: stop - start])
        if different.any():
            rows = different.ravel() if words == 1 else different.any(axis=1)
            found.append(np.flatnonzero(rows) + start)
    return np.concatenate(found) if found else np.empty(0, np.intp)


def _differ(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> bool:
    whole = len(left) // 8 * 8
    for start in range(0, whole, _BLOCK):
        stop = min(start + _BLOCK, whole)
        if (left[start:stop].view("u8") != right[start:stop].view("u8")).any():
            return True
    return bool((left[whole:] != right[whole:]).any())


def _different_objects(left: Array, right: Array, field: Field) -> NDArray[np.bool_]:
    """Tell for each row whether two columns of a variable-length field differ."""
    if field.variable != "list":
        return np.not_equal(left, right, dtype=object).astype(bool)
    pairs = zip(left.tolist(), right.tolist(), strict=True)
    return np.fromiter(
        (a is not b and (len(a) != len(b) or a.tobytes() != b.tobytes()) for a, b in pairs), bool, len(left)
    )


def grouped_by_set(
    members: Mapping[str, NDArray[np.intp]], count: int, *, rest: bool
) -> Iterator[tuple[list[str], NDArray[np.intp]]]:
    """Yield sets of names, and the rows that are members of exactly those.

    Parameters
    ----------
    members : mapping of str to array of int
        The rows of each name, all below *count*.
    count : int
    rest : bool
        Whether to yield the rows of no name too, under an empty set.
    """
    names = list(members)
    if len(names) <= 8:
        # Nothing is sorted.
        codes = np.zeros(count, np.uint8)
        for i, rows in enumerate(members.values()):
            codes[rows] |= np.uint8(1 << i)
        told = np.arange(count) if rest else np.flatnonzero(codes != 0)
        found = codes if rest else codes.take(told)
        for code in np.flatnonzero(np.bincount(found)).tolist():
            yield [name for i, name in enumerate(names) if code >> i & 1], told[found == code]
        return
    # A bit for each name, in bytes.
    bits = np.zeros((count, (len(names) + 7) // 8), np.uint8)
    for i, rows in enumerate(members.values()):
        bits[rows, i // 8] |= np.uint8(1 << i % 8)
    told = np.arange(count) if rest else np.flatnonzero(bits.any(axis=1))
    packed = np.ascontiguousarray(bits[told]).view(f"V{bits.shape[1]}").ravel()
    distinct, which = np.unique(packed, return_inverse=True)
    for number, packed_set in enumerate(distinct):
        own = np.frombuffer(packed_set.tobytes(), np.uint8)
        yield [name for i, name in enumerate(names) if own[i // 8] >> i % 8 & 1], told[which == number]
