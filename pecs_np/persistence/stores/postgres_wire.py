"""What PostgreSQL sends and takes in its binary form: arrays, rows of COPY, and ranges of keys.

Integers are big-endian. An array is the number of dimensions, whether there are nulls, the type, the length
and the first index; then each value behind its size. A row of COPY is the number of fields, then each behind
its size.
"""

from __future__ import annotations

import functools
import struct
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.persistence.binary.record_writer import scattered, windows
from pecs_np.persistence.stores.records import Records
from pecs_np.persistence.stores.server import imported

__all__ = [
    "BYTEA",
    "BYTEAS",
    "COPY_END",
    "COPY_HEAD",
    "UUID",
    "UUIDS",
    "array_of",
    "big_endian",
    "copied_rows",
    "dumper_of",
    "low_halves",
    "numbers_of",
    "parameters_of",
    "places_of",
    "put",
]

# Types of parameters, and of what they consist of.
UUID, UUIDS, BYTEA, BYTEAS = 2950, 2951, 17, 1001
# How binary COPY begins: a signature, no flags, no more header; and how it ends.
COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"
# Of a row: number of fields, size of the id, the id, size of the record.
_ROW = np.dtype([("fields", ">i2"), ("id_size", ">i4"), ("id", "V16"), ("size", ">i4")])


class _Parameter(bytes):
    """An array as PostgreSQL takes it."""


@functools.cache
def parameters_of(oid: int) -> type[_Parameter]:
    """Return the class of parameters of a type."""
    return type(f"_Parameter{oid}", (_Parameter,), {})


@functools.cache
def dumper_of(oid: int) -> Any:
    """Return what tells psycopg that bytes are a parameter of that type, as it is sent."""
    psycopg = imported("psycopg", "postgres")
    adapt = imported("psycopg.adapt", "postgres")

    def dump(_: Any, value: bytes) -> bytes:
        return value

    return type(
        f"_Dumper{oid}", (adapt.Dumper,), {"oid": oid, "format": psycopg.pq.Format.BINARY, "dump": dump}
    )


def array_of(oid: int, values: list[bytes]) -> bytes:
    """Return *values* as an array of PostgreSQL: dimensions, nulls, type, length, first index; then each."""
    head = struct.pack(">iiIii", 1, 0, oid, len(values), 1)
    if oid == UUID:
        made = np.empty(len(values), [("size", ">i4"), ("id", "V16")])
        made["size"] = 16
        made["id"] = np.frombuffer(b"".join(values), "V16")
        return head + made.tobytes()
    return head + b"".join([len(value).to_bytes(4, "big") + value for value in values])


def numbers_of(array: bytes, dtype: str) -> NDArray[np.intp]:
    """Return an array of integers that PostgreSQL sent; none is null."""
    fields = np.frombuffer(array, np.dtype([("size", ">i4"), ("value", dtype)]), offset=20)
    return fields["value"].astype(np.intp)


def put(found: list[bytes | None], rows: NDArray[np.intp], sizes: NDArray[np.intp], data: bytes) -> None:
    """Put records that stand one after the other where they belong."""
    if len(sizes) and (sizes == sizes[0]).all() and sizes[0]:
        values = np.frombuffer(data, f"V{sizes[0]}").tolist()
    else:
        values = [data[start:stop] for start, stop in pairwise([0, *np.cumsum(sizes).tolist()])]
    if len(rows) and (np.diff(rows) == 1).all():
        found[int(rows[0]) : int(rows[-1]) + 1] = values
        return
    for row, value in zip(rows.tolist(), values, strict=True):
        if row >= 0:
            found[row] = value


def low_halves(keys: bytes) -> NDArray[np.uint64]:
    """Return the low halves of keys one after the other."""
    return np.frombuffer(keys, ">u8")[1::2].astype("u8")


def places_of(keys: list[bytes]) -> NDArray[np.intp] | None:
    """Return where in *keys*, all different, each of their range stands, -1 where it does not; None if few do.

    Entities that were spawned together have such keys, and a range is read several times as fast.
    """
    whole = b"".join(keys)
    high = np.frombuffer(whole, ">u8")[::2]
    low = low_halves(whole)
    first, last = int(low.min()), int(low.max())
    if last - first >= 2 * len(keys) or (high != high[0]).any():
        return None
    places = np.full(last - first + 1, -1, np.intp)
    places[low - low.min()] = np.arange(len(keys))
    return places


def big_endian(stable_ids: Array) -> Array:
    """Return stable ids, shape (n,), as 16 bytes each, big-endian."""
    ids = np.ascontiguousarray(stable_ids).view(BYTE).reshape(-1, 16)[:, ::-1]
    return np.ascontiguousarray(ids).view("V16").ravel()


def copied_rows(records: Records, start: int, stop: int) -> NDArray[np.uint8]:
    """Return rows *start* to *stop* of *records* as binary COPY takes them."""
    size = records.layout.head.itemsize
    if records.ends is None:
        whole = np.empty(stop - start, [("head", _ROW), ("record", f"V{size}")])
        head = whole["head"]
        head["size"] = size
        whole["record"] = records.data[start * size : stop * size].view(f"V{size}")
    else:
        head = np.empty(stop - start, _ROW)
    head["fields"], head["id_size"] = 2, 16
    head["id"] = big_endian(records.stable_ids[start:stop])
    if records.ends is None:
        return whole.view(BYTE)
    begin = int(records.ends[start - 1]) if start else 0
    ends = records.ends[start:stop] - begin
    lengths = np.diff(ends, prepend=0)
    head["size"] = lengths
    starts = ends - lengths + _ROW.itemsize * np.arange(stop - start)
    data = np.empty(int(ends[-1]) + _ROW.itemsize * (stop - start), BYTE)
    windows(data, _ROW.itemsize)[starts] = head.view(f"V{_ROW.itemsize}")
    values = records.data[begin : begin + int(ends[-1])]
    for part, place in scattered(starts + _ROW.itemsize, lengths):
        data[place] = values[part]
    return data
