"""Entities as records, and back: what every store holds, whatever it is.

A record is the layout's id, 8 bytes; then of each component, in the order of their names, its fixed-size
fields, packed; then of each variable-length field, in the order of components and fields, its length in
bytes, u32, and its bytes. All is little-endian. A reference is the target's stable id, 16 bytes.

A layout is what records of entities with the same components have in common: the names, versions and
fields of the components, as a JSON document. Its id is the first 8 bytes of the document's BLAKE2b, so
programs agree on it without asking each other; a store holds each document once. So records stay small,
old ones can be migrated, and what no program defines any more can still be read.

Records are made of columns and become columns again, a batch at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE, Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.ecs.ids import STABLE_ID, as_int
from pecs_np.ecs.portable import fields_from_schema, schema_of
from pecs_np.ecs.snapshot import SnapshotTable
from pecs_np.errors import ComponentValueError, CorruptedDataError, InvalidFormatError, LimitExceededError
from pecs_np.persistence.binary.columns import Mapped, assemble, check_values, fixed_part, variable_part
from pecs_np.persistence.binary.record_writer import scattered, windows
from pecs_np.persistence.limits import Limits
from pecs_np.persistence.resolving import resolve_types

__all__ = [
    "LAYOUT_ID",
    "Columns",
    "RecordLayout",
    "Records",
    "decode",
    "encode",
    "key_of",
    "keys_of",
    "layout_of",
    "read_layout",
    "stable_ids_of",
]

# Bytes of a layout's id.
LAYOUT_ID = 8
_LONGEST = (1 << 32) - 1


@dataclass(frozen=True, eq=False)
class RecordLayout:
    """What records of entities with the same components have in common.

    Attributes
    ----------
    id : bytes
        Of 8 bytes.
    document : bytes
        JSON, from which the layout can be made again.
    types : tuple of ComponentType
        Sorted by name.
    head : dtype
        Of the part of fixed size: the id, then the fixed-size fields of each component.
    """

    id: bytes
    document: bytes
    types: tuple[ComponentType, ...]
    head: np.dtype[Any]

    @property
    def variable(self) -> list[tuple[ComponentType, Field]]:
        """The variable-length fields, in the order of their values."""
        return [(type_, f) for type_ in self.types for f in type_.layout.variable]


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """A batch of records of one layout.

    Attributes
    ----------
    layout : RecordLayout
    stable_ids : array of STABLE_ID, shape (n,)
    data : array of bytes
        The records one after the other.
    ends : array of int, shape (n,), or None
        Where each ends; None where all have the size of the layout's head.
    """

    layout: RecordLayout
    stable_ids: Array
    data: NDArray[np.uint8]
    ends: NDArray[np.intp] | None

    def values(self) -> list[bytes]:
        """Return each record as bytes."""
        if self.ends is None:
            values: list[bytes] = self.data.view(f"V{self.layout.head.itemsize}").tolist()
            return values
        whole = self.data.tobytes()
        return [whole[start:stop] for start, stop in pairwise([0, *self.ends.tolist()])]

    def keys(self) -> list[bytes]:
        """Return each stable id as a key; see `keys_of`."""
        return keys_of(self.stable_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The records of one layout, checked, as columns whose references are stable ids.

    Attributes
    ----------
    types : tuple of ComponentType
        Of the columns: those defined here, or as the layout has them.
    stable_ids : array of STABLE_ID, shape (n,)
    column : callable
        Makes the column of a type, by its place, with references sent through a function.
    """

    types: tuple[ComponentType, ...]
    stable_ids: Array
    column: Callable[[int, Mapped], Array]


def keys_of(stable_ids: Array) -> list[bytes]:
    """Return stable ids, shape (n,), as big-endian bytes, which sort as the ids do."""
    return (
        as_bytes(np.ascontiguousarray(stable_ids))
        .reshape(-1, 16)[:, ::-1]
        .copy()
        .view("V16")
        .ravel()
        .tolist()
    )


def key_of(stable_id: int) -> bytes:
    """Return one stable id as big-endian bytes."""
    return int(stable_id).to_bytes(16, "big")


def stable_ids_of(keys: Iterable[bytes]) -> Array:
    """Return keys as an array of stable ids; the reverse of `keys_of`."""
    data = np.frombuffer(b"".join(keys), BYTE)
    return data.reshape(-1, 16)[:, ::-1].copy().reshape(-1).view(STABLE_ID)


@functools.lru_cache(maxsize=256)
def layout_of(types: tuple[ComponentType, ...]) -> RecordLayout:
    """Return the layout of entities that have exactly *types*, sorted by name."""
    entries = [{"name": t.name, "version": t.version, "fields": schema_of(t.fields)} for t in types]
    document = orjson.dumps({"types": entries})
    return _layout(document, types)


def _layout(document: bytes, types: tuple[ComponentType, ...]) -> RecordLayout:
    head: list[tuple[str, Any]] = [("id", f"V{LAYOUT_ID}")]
    head += [
        (f"{i}", (np.void, t.layout.disk.itemsize)) for i, t in enumerate(types) if t.layout.disk.itemsize
    ]
    return RecordLayout(blake2b(document, digest_size=LAYOUT_ID).digest(), document, types, np.dtype(head))


def read_layout(layout_id: bytes, document: bytes, limits: Limits, where: str) -> RecordLayout:
    """Return the layout that a store's document describes.

    Raises
    ------
    CorruptedDataError
        If it is not the document of that id.
    InvalidFormatError, LimitExceededError
        If it describes what no component can be.
    """
    if blake2b(document, digest_size=LAYOUT_ID).digest() != layout_id:
        raise CorruptedDataError(
            f"expected the layout {layout_id.hex()}, found another document under that id in {where}"
        )
    if len(document) > limits.schema_size:
        raise LimitExceededError(
            f"expected at most {limits.schema_size} bytes of a layout, found {len(document)} in {where}",
            suggestion="pass larger Limits if you trust where it comes from",
        )
    try:
        entries = orjson.loads(document)["types"]
        named = [(entry["name"], entry["version"], entry["fields"]) for entry in entries]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise InvalidFormatError(
            f"expected a list of types, found {document[:60]!r} as layout {layout_id.hex()} in {where}"
        ) from None
    types = []
    for i, (name, version, fields) in enumerate(named):
        here = f"types[{i}] of layout {layout_id.hex()} in {where}"
        if not isinstance(name, str) or type(version) is not int or not 0 < version < 1 << 32:
            raise InvalidFormatError(
                f"expected a name and a version, found {name!r:.80} and {version!r:.80} at {here}"
            )
        layout = Layout(fields_from_schema(fields, here, max_itemsize=limits.itemsize))
        types.append(ComponentType(name, version, layout))
    if [t.name for t in types] != sorted({t.name for t in types}):
        raise InvalidFormatError(
            f"expected types sorted by name, found others in layout {layout_id.hex()} of {where}"
        )
    return _layout(document, tuple(types))


def encode(table: SnapshotTable, mapped: Mapped) -> Records:
    """Return the entities of *table* as records.

    Parameters
    ----------
    table : SnapshotTable
    mapped : callable
        Turns entity ids into stable ids.

    Raises
    ------
    ComponentValueError
        If a column holds what could not be loaded again.
    """
    layout = layout_of(table.types)
    heads = np.empty(table.rows, layout.head)
    heads["id"] = np.void(layout.id)
    for i, type_ in enumerate(table.types):
        column = table.columns[type_.name]
        check_values(column, type_)
        if type_.layout.disk.itemsize:
            rows = np.ascontiguousarray(fixed_part(column, type_, mapped))
            heads[f"{i}"] = rows.view(layout.head[f"{i}"])
    # A copy, because a store may take its time to write.
    stable_ids = table.stable_ids.array().copy()
    variable = layout.variable
    if not variable:
        return Records(layout, stable_ids, as_bytes(heads), None)
    size = layout.head.itemsize
    sizes = np.full(table.rows, size, np.intp)
    laid: list[tuple[NDArray[np.intp], NDArray[np.intp], Array]] = []
    for type_, f in variable:
        offsets, values = variable_part(table.columns[type_.name], f, type_, mapped, 0)
        lengths = np.diff(offsets).astype(np.intp) * f.element(disk=True).itemsize
        if lengths.max(initial=0) > _LONGEST:
            raise ComponentValueError(
                f"expected at most {_LONGEST} bytes, found {lengths.max()} in row {lengths.argmax()} of {type_.name}.{f.name}"
            )
        laid.append((sizes.copy(), lengths, values))
        sizes += 4 + lengths
    ends = np.cumsum(sizes)
    starts = ends - sizes
    data = np.empty(int(ends[-1]) if len(ends) else 0, BYTE)
    windows(data, size)[starts] = heads.view(f"V{size}")
    for within, lengths, flat in laid:
        at = starts + within
        windows(data, 4)[at] = lengths.astype("<u4").view("V4")
        raw = as_bytes(flat)
        for part, place in scattered(at + 4, lengths):
            data[place] = raw[part]
    return Records(layout, stable_ids, data, ends)


def decode(
    stable_ids: Array,
    values: Sequence[bytes],
    layouts: Callable[[set[bytes]], Mapping[bytes, RecordLayout]],
    name: str,
) -> list[Columns]:
    """Return records as columns, those of one layout together; every value is checked when its column is made.

    Parameters
    ----------
    stable_ids : array of STABLE_ID, shape (n,)
    values : sequence of bytes, n of them
        The records.
    layouts : callable
        Gives the layouts of a set of ids; it raises where one is missing.
    name : str
        What messages call the store.

    Raises
    ------
    CorruptedDataError
        If a record does not follow its layout.
    """
    if not len(values):
        return []
    sizes = np.fromiter(map(len, values), np.intp, len(values))
    if sizes.min() < LAYOUT_ID:
        _short(stable_ids, int(sizes.argmin()), LAYOUT_ID, int(sizes.min()), name)
    data = np.frombuffer(b"".join(values), BYTE)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    ids = windows(data, LAYOUT_ID)[starts].view("<u8")
    distinct = [ids[0]] if (ids == ids[0]).all() else np.unique(ids)
    known = layouts({int(number).to_bytes(LAYOUT_ID, "little") for number in distinct})
    found = []
    for number in distinct:
        layout = known[int(number).to_bytes(LAYOUT_ID, "little")]
        if len(distinct) == 1:
            found.append(_columns(layout, stable_ids, data, starts, ends, name))
        else:
            rows = np.flatnonzero(ids == number)
            found.append(_columns(layout, stable_ids[rows], data, starts[rows], ends[rows], name))
    return found


def _columns(
    layout: RecordLayout,
    stable_ids: Array,
    data: NDArray[np.uint8],
    starts: NDArray[np.intp],
    ends: NDArray[np.intp],
    name: str,
) -> Columns:
    size = layout.head.itemsize
    lengths = ends - starts
    if lengths.min() < size:
        _short(stable_ids, int(lengths.argmin()), size, int(lengths.min()), name)
    variable = layout.variable
    if not variable and (lengths != size).any():
        row = int((lengths != size).argmax())
        _short(stable_ids, row, size, int(lengths[row]), name)
    if not variable and len(data) == size * len(starts):
        heads = data.view(layout.head)
    else:
        heads = windows(data, size)[starts].view(layout.head)
    # Of each variable-length field: its offsets and its bytes.
    parts: dict[tuple[str, str], list[Any]] = {}
    at = starts + size
    for type_, f in variable:
        element = f.element(disk=True).itemsize
        _within(stable_ids, at + 4 <= ends, type_, f, name)
        counts = windows(data, 4)[at].view("<u4").astype(np.intp)
        at = at + 4
        _within(stable_ids, (at + counts <= ends) & (counts % element == 0), type_, f, name)
        offsets = np.zeros(len(counts) + 1, "<u8")
        np.cumsum(counts // element, out=offsets[1:], dtype="<u8")
        values = np.empty(int(counts.sum()), BYTE)
        for part, place in scattered(at, counts):
            values[part] = data[place]
        parts[type_.name, f.name] = [as_bytes(offsets), values]
        at = at + counts
    if (at != ends).any():
        row = int((at != ends).argmax())
        _short(stable_ids, row, int((at - starts)[row]), int(lengths[row]), name)
    types = resolve_types(layout.types, name)

    def column(i: int, mapped: Mapped) -> Array:
        described = layout.types[i]
        disk = types[i].layout.disk
        rows: Array = np.empty(len(heads), disk)
        if disk.itemsize:
            rows.view(layout.head[f"{i}"])[...] = heads[f"{i}"]
        values = [part for f in described.layout.variable for part in parts[described.name, f.name]]
        return assemble(
            types[i], described, rows, values, mapped, lambda _: f"{described.name} of the records in {name}"
        )

    return Columns(types, stable_ids, column)


def _within(stable_ids: Array, fits: NDArray[np.bool_], type_: ComponentType, f: Field, name: str) -> None:
    if not fits.all():
        stable_id = as_int(stable_ids[int(fits.argmin())])
        raise CorruptedDataError(
            f"expected whole values of {type_.name}.{f.name} within the record, found others in that of {stable_id:032x} in {name}"
        )


def _short(stable_ids: Array, row: int, expected: int, found: int, name: str) -> None:
    raise CorruptedDataError(
        f"expected {expected} bytes, found {found} in the record of {as_int(stable_ids[row]):032x} in {name}"
    )
