"""Version 1 of the binary format, read: entity records to a snapshot."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pecs_np.ecs.arrays import BYTE, Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field, Layout
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn, compact
from pecs_np.ecs.registry import registered
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import (
    ComponentDefinitionError,
    CorruptedDataError,
    InvalidFormatError,
    LimitExceededError,
    UnsupportedVersionError,
)
from pecs_np.persistence.binary.columns import (
    assemble,
    check_distinct,
    check_entity_count,
    holds_null,
    mapping,
)
from pecs_np.persistence.binary.header import FOOTER_SIZE, Header, beyond
from pecs_np.persistence.binary.pieces import Bytes, Piece, Places, gathered
from pecs_np.persistence.binary.record_writer import OPAQUE, scattered
from pecs_np.persistence.binary.records import find_records
from pecs_np.persistence.binary.sources import BytesSource, Source, StreamSource
from pecs_np.persistence.checksum import crc64, crc64_we
from pecs_np.persistence.limits import Limits

__all__ = ["RecordTable", "decode", "read_records", "where"]

# By types, as their places in the registry.
_Pieces = dict[tuple[int, ...], list[Piece]]
# Opaque data of one size up to this are rows of a fixed size, as most components are.
_LARGEST_OPAQUE = 1 << 12


class RecordTable(NamedTuple):
    """The records of one archetype, as columns.

    Attributes
    ----------
    types : tuple of ComponentType
        Sorted by name.
    ids : IdColumn
        Stable ids.
    parts : list of (rows, values)
        Of each type: its fixed-size part, and offsets and values of its variable-length fields in turns.
    """

    types: tuple[ComponentType, ...]
    ids: IdColumn
    parts: list[tuple[Array, list[Any]]]


def decode(source: Source, header: Header, limits: Limits) -> Snapshot:
    """Read a whole save of version 1, checking its sum and every rule of the format.

    Raises
    ------
    PersistenceError
        One of its kinds, whatever the bytes are.
    """
    read = read_records(source, header, limits)
    mapped = mapping([table.ids for table in read], source.name)
    tables = []
    first = 1
    for types, ids, parts in read:
        columns = {}
        for type_, (rows, values) in zip(types, parts, strict=True):
            here = functools.partial(where, type_, source.name)
            columns[type_.name] = assemble(type_, type_, rows, values, mapped, here)
        parts.clear()
        entities = IdColumn(ENTITY_ID, ((first, ids.size),))
        tables.append(SnapshotTable(types, ids.size, entities, ids, columns))
        first += ids.size
    return Snapshot(tuple(tables), sound=True)


def where(type_: ComponentType, name: str, _: int = 0) -> str:
    """Return what messages call the data of a type."""
    return f"the records of {type_.name!r} in {name}"


def read_records(
    source: Source, header: Header, limits: Limits, *, described: bool = False
) -> list[RecordTable]:
    """Read a whole save of version 1, up to the checks of single values.

    With *described*, a type that this program defines otherwise is opaque data, as if it did not define it.

    Raises
    ------
    UnsupportedVersionError, ComponentDefinitionError
        If a type is defined in another version, or with fields that its data do not fit.
    """
    if header.flags:
        raise InvalidFormatError(f"expected flags 0, found {header.flags:#x} at byte 8 of {source.name}")
    data = _whole(source, header, limits)
    end = len(data) - FOOTER_SIZE
    if end < header.end:
        raise CorruptedDataError(
            f"expected at least {header.end + FOOTER_SIZE} bytes, found {len(data)} in {source.name}",
            suggestion="the file was cut short: load a backup",
        )
    footer = int.from_bytes(bytes(data[end:]), "little")
    body = data[:end]
    if footer != (iso := crc64(body)) and footer != crc64_we(body):
        raise CorruptedDataError(
            f"expected footer checksum {iso:#018x}, found {footer:#018x} at byte {end} of {source.name}",
            suggestion="load a backup",
        )
    pieces: _Pieces = {}
    columns = 0
    for piece in find_records(body, header, source.name):
        if piece.types not in pieces:
            columns += 1 + len(piece.types)
            if columns > limits.sections:
                raise LimitExceededError(
                    f"expected at most {limits.sections} columns, found more in {source.name}",
                    suggestion="pass larger Limits if you trust where it comes from",
                )
        pieces.setdefault(piece.types, []).append(piece)
    check_entity_count(header.entity_count, source.name)
    types, values = _types_and_values(body, header, pieces, limits, source.name, described=described)
    tables = [
        _table(
            body,
            tuple([types[i] for i in key]),
            [values[key, k] for k in range(len(key))],
            pieces[key],
            source.name,
        )
        for key in sorted(pieces)
    ]
    check_distinct([table.ids for table in tables], source.name)
    return tables


def _types_and_values(
    body: Bytes, header: Header, pieces: _Pieces, limits: Limits, name: str, *, described: bool
) -> tuple[dict[int, ComponentType], dict[tuple[tuple[int, ...], int], list[Any]]]:
    """Return the types by place in the registry, and offsets and values by archetype and place in it.

    Nothing of the size of a column is made before the records have been found to fit their types.
    """
    places: dict[int, list[tuple[tuple[int, ...], int]]] = {}
    for key in pieces:
        for k, index in enumerate(key):
            places.setdefault(index, []).append((key, k))
    types = {}
    values: dict[tuple[tuple[int, ...], int], list[Any]] = {}
    for index, found in sorted(places.items()):
        sizes = {piece.one_size(k) for key, k in found for piece in pieces[key]}
        try:
            type_ = _type(*header.registry[index], sizes, f"types[{index}] in {name}")
            made = _values_of(body, pieces, found, type_, limits, name)
        except (UnsupportedVersionError, ComponentDefinitionError):
            if not described:
                raise
            type_ = _opaque(*header.registry[index], sizes)
            made = _values_of(body, pieces, found, type_, limits, name)
        types[index] = type_
        values.update(made)
    return types, values


def _values_of(
    body: Bytes,
    pieces: _Pieces,
    places: list[tuple[tuple[int, ...], int]],
    type_: ComponentType,
    limits: Limits,
    name: str,
) -> dict[tuple[tuple[int, ...], int], list[Any]]:
    """Return offsets and values of a type by archetype and place in it."""
    if type_.layout.disk.itemsize > limits.itemsize:
        raise LimitExceededError(
            f"expected at most {limits.itemsize} bytes a row, found {type_.layout.disk.itemsize} for"
            f" {type_.name!r} in {name}",
            suggestion="pass larger Limits if you trust where it comes from",
        )
    return {(key, k): _values(body, pieces[key], k, type_, name) for key, k in places}


def _table(
    body: Bytes, types: tuple[ComponentType, ...], values: list[list[Any]], pieces: list[Piece], name: str
) -> RecordTable:
    """Return the records of one archetype as columns."""
    rows = sum([piece.count for piece in pieces])
    ids = np.empty(rows, STABLE_ID)
    targets: list[tuple[int | None, int, Array]] = [(None, 16, ids.view("V16"))]
    parts: list[tuple[Array, list[Any]]] = []
    for k, type_ in enumerate(types):
        size = type_.layout.disk.itemsize
        column = np.empty(rows, type_.layout.disk)
        parts.append((column, values[k]))
        if size:
            targets.append((k, size, column.view((np.void, size))))
    start = 0
    for piece in pieces:
        stop = start + piece.count
        own = targets
        if len(pieces) > 1:
            own = [(component, size, target[start:stop]) for component, size, target in targets]
        piece.copy_to(body, own)
        start = stop
    stable_ids = compact(ids)
    if holds_null(stable_ids):
        raise CorruptedDataError(f"expected stable ids other than 0, found 0 in {name}")
    return RecordTable(types, stable_ids, parts)


def _whole(source: Source, header: Header, limits: Limits) -> Bytes:
    """Return all bytes of a save, which are not too many."""
    if isinstance(source, StreamSource):
        return np.frombuffer(source.all_after(header.data, limits.total_size), BYTE)
    if source.size > limits.total_size:
        raise beyond(limits.total_size, "bytes", source.size, source)
    if isinstance(source, BytesSource):
        return np.frombuffer(source.view, BYTE)
    data, _ = source.fresh(0, source.size)
    return np.frombuffer(data, BYTE)


def _type(name: str, version: int, sizes: set[int | None], where: str) -> ComponentType:
    """Return the type of that name as it is defined here, else one of opaque data of these *sizes*."""
    cls = registered(name)
    if cls is not None:
        if cls._type.version != version:
            raise UnsupportedVersionError(version, cls._type.version, what=f"component {name!r} at {where}")
        return cls._type
    return _opaque(name, version, sizes)


def _opaque(name: str, version: int, sizes: set[int | None]) -> ComponentType:
    """Return a type of opaque data of these *sizes*; a None among them says that they differ."""
    size = next(iter(sizes)) if len(sizes) == 1 else None
    if size == 0:
        return ComponentType(name, version, Layout(()))
    if size is not None and size <= _LARGEST_OPAQUE:
        return ComponentType(name, version, Layout((Field(OPAQUE, BYTE, shape=(size,)),)))
    return ComponentType(name, version, Layout((Field(OPAQUE, variable="bytes"),)))


def _values(
    body: Bytes, pieces: Sequence[Piece], component: int, type_: ComponentType, name: str
) -> list[Any]:
    """Return offsets and values of the variable-length fields of a component, its sizes checked."""
    layout = type_.layout
    size = layout.disk.itemsize
    if not layout.variable:
        for piece in pieces:
            if piece.one_size(component) != size:
                sizes = piece.sizes(component)
                raise _misfit(f"{size} bytes", int(sizes[(sizes != size).argmax()]), type_, name)
        return []
    places = np.concatenate([piece.places(component) for piece in pieces])
    sizes = np.concatenate([piece.sizes(component) for piece in pieces])
    if sizes.min() < size:
        raise _misfit(f"at least {size} bytes", int(sizes.min()), type_, name)
    ends = places + sizes
    at = places + size
    values: list[Any] = []
    for f in layout.variable:
        lengths = ends - at
        if f.name != OPAQUE:
            if (lengths < 4).any():
                raise _misfit(f"the length of {f.name!r}", int(sizes[lengths < 4][0]), type_, name)
            lengths = gathered(body, at, "<u4")
            at = at + 4
        element = f.element(disk=True).itemsize
        wrong = (lengths > ends - at) | (lengths % element != 0)
        if wrong.any():
            found = int(lengths[wrong][0])
            raise _misfit(f"whole elements of {element} bytes for {f.name!r}", found, type_, name)
        offsets = np.zeros(len(places) + 1, "<u8")
        np.cumsum(lengths // element, out=offsets[1:], dtype="<u8")
        values += [as_bytes(offsets), _ragged(body, at, lengths)]
        at = at + lengths
    if (at != ends).any():
        raise _misfit("the end after the last field", int((ends - at).max()), type_, name)
    return values


def _ragged(body: Bytes, places: Places, lengths: Places) -> Bytes:
    """Return so many bytes from each of *places*, one after the other."""
    out = np.empty(int(lengths.sum()), BYTE)
    for part, where in scattered(places, lengths):
        out[part] = body[where]
    return out


def _misfit(expected: str, found: int, type_: ComponentType, name: str) -> ComponentDefinitionError:
    return ComponentDefinitionError(
        f"expected {expected} as {type_!r} is defined here, found {found} in its records in {name}",
        suggestion="raise the version of the component when its fields change",
    )
