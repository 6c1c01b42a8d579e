"""Version 1 of the binary format, written: one record for each entity, the layout of the Rust library.

All integers are little-endian::

    header, type registry   as `header` has them, without flags
    per entity              stable_id u128, component_count u32,
                            component_count x { type_id u128, data_len u32, data }
    footer            8 B   CRC of every byte before it: CRC-64/ISO, or CRC-64/WE as the Rust library writes it

*data* is the component's fixed-size fields in declaration order, packed, then for each variable-length
field byte_len u32 and its bytes. A reference is the target's stable id, 0 for none. Records of one
archetype stand together, components in the order of the registry.

Records of one archetype without variable-length fields have one size, so a block of them is an array of
records, filled column by column.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE, Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.references import EntityMap
from pecs_np.ecs.snapshot import Snapshot, SnapshotTable
from pecs_np.errors import ComponentValueError, PersistenceError
from pecs_np.messages import shown
from pecs_np.persistence.binary.blocks import Blocks, Budget, check_rows, noticing_changes
from pecs_np.persistence.binary.columns import (
    Mapped,
    check_values,
    fixed_part,
    row_ranges,
    unmapped,
    variable_part,
)
from pecs_np.persistence.binary.header import FOOTER_SIZE, HEADER, MAGIC, registry_of, type_id
from pecs_np.persistence.checksum import crc64, crc64_we
from pecs_np.persistence.world_document import check_metadata

__all__ = [
    "COMPONENT_HEAD",
    "ENTITY_HEAD",
    "OPAQUE",
    "VERSION",
    "encode",
    "is_opaque",
    "scattered",
    "windows",
]

VERSION = 1
# stable_id, component_count; type_id, data_len
ENTITY_HEAD = COMPONENT_HEAD = 20
# The one field of a component that only a save of version 1 knows: its data as they stand there.
OPAQUE = "opaque bytes"

_BLOCK = 1 << 19
# Bytes of values of any length that are moved at once: their places take eight times as many.
_SCATTERED = 1 << 18
_LONGEST = (1 << 32) - 1


def encode(snapshot: Snapshot, checksum: str, budget: Budget | None = None) -> Iterable[Any]:
    """Return *snapshot* as the buffers of a save of version 1, to be written one after the other.

    Parameters
    ----------
    snapshot : Snapshot
    checksum : "iso" or "we"
    budget : Budget, optional
        How much of what has no fixed size may stay in memory until it is written.

    Raises
    ------
    PersistenceError
        If the snapshot has more than entities and components, which are all that the format holds.
    ComponentValueError
        If a column holds what no reader would accept.
    PersistenceError
        If another thread changes the world meanwhile, as far as that is noticed; also while the buffers
        are taken.
    """
    check_metadata(snapshot)
    prepared = snapshot.cache.get("records")
    extra = snapshot.metadata or snapshot.resources or snapshot.rngs or snapshot.version != 1
    if prepared is not None and prepared[0] is snapshot.tables and not extra:
        _, head, tables = prepared
    else:
        _check_fits(snapshot)
        check_rows(snapshot)
        with noticing_changes():
            head, tables = _plan(snapshot)
    parts: list[Iterable[Any]] = [(head,)]
    budget = budget or Budget()
    for make, fixed in tables:
        if fixed:
            parts.append(make())
        else:
            parts.append(Blocks(functools.partial(make, bounded=budget.left is not None), budget))
    return _footed(itertools.chain.from_iterable(parts), checksum)


# What makes the records of a table, and whether it cannot fail.
_Maker = tuple[Callable[[], Iterable[Any]], bool]


def _plan(snapshot: Snapshot) -> tuple[bytes, list[_Maker]]:
    """Return header and registry, and what makes the records of each table; values of a fixed size are checked."""
    types = snapshot.types
    mapped: Mapped = unmapped
    if any(t.layout.refers for t in types):
        mapped = EntityMap((t.entities, t.stable_ids) for t in snapshot.tables)
    head = HEADER.pack(MAGIC, VERSION, 0, snapshot.entity_count, len(types)) + _registry(types)
    # Tables are in the order of their type names, which is that of their places in the registry.
    tables: list[_Maker] = []
    for table in snapshot.tables:
        for type_ in table.types:
            check_values(table.columns[type_.name], type_)
        fixed = not any(t.layout.variable for t in table.types)
        make = _of_fixed_size if fixed else _of_any_size
        tables.append((functools.partial(make, table, mapped), fixed))
    if all(t.layout.plain and not t.layout.checked for t in types):
        snapshot.cache["records"] = snapshot.tables, head, tables
    return head, tables


def _check_fits(snapshot: Snapshot) -> None:
    extra = {
        "resources": [t.name for t in snapshot.resources.types] if snapshot.resources else [],
        "random generators": list(snapshot.rngs),
        "metadata": list(snapshot.metadata),
        "a world version": [snapshot.version] if snapshot.version != 1 else [],
    }
    for what, found in extra.items():
        if found:
            raise PersistenceError(
                f"expected entities and components only, found {what} ({shown(found)}), which version 1 of the"
                " format cannot hold",
                suggestion="save version 2, or save a world without them",
            )


def _footed(buffers: Iterable[Any], checksum: str) -> Iterator[Any]:
    """Yield *buffers* and their sum."""
    add = crc64 if checksum == "iso" else crc64_we
    crc = 0
    with noticing_changes():
        for buffer in buffers:
            crc = add(buffer, crc)
            yield buffer
            # Not in memory beside the next one.
            del buffer
    yield crc.to_bytes(FOOTER_SIZE, "little")


_registry = functools.lru_cache(maxsize=64)(registry_of)


@functools.lru_cache(maxsize=64)
def _record(types: tuple[ComponentType, ...]) -> tuple[np.dtype[Any], bytes, tuple[str, ...]]:
    """Return the dtype of a record, the bytes of one without id and data, and the names of the data's fields."""
    fields: list[tuple[str, Any]] = [("id", "V16"), ("count", "<u4")]
    names = []
    for i, type_ in enumerate(types):
        fields += [(f"type{i}", "V16"), (f"size{i}", "<u4")]
        names.append("")
        if type_.layout.disk.itemsize:
            names[i] = f"data{i}"
            fields.append((names[i], (np.void, type_.layout.disk.itemsize)))
    dtype = np.dtype(fields)
    record = np.zeros(1, dtype)
    record["count"] = len(types)
    for i, type_ in enumerate(types):
        record[f"type{i}"] = np.void(type_id(type_.name))
        record[f"size{i}"] = type_.layout.disk.itemsize
    return dtype, record.tobytes(), tuple(names)


def _of_fixed_size(table: SnapshotTable, mapped: Mapped) -> Iterator[Any]:
    """Yield the records of a table without variable-length fields."""
    dtype, model, names = _record(table.types)
    step = max(1, _BLOCK // dtype.itemsize)
    models = model * min(step, table.rows)
    for start in range(0, table.rows, step):
        stop = min(start + step, table.rows)
        block = bytearray(models if stop - start == step else model * (stop - start))
        records = np.frombuffer(block, dtype)
        records["id"] = table.stable_ids.part(start, stop).view("V16")
        for type_, name in zip(table.types, names, strict=True):
            if name:
                part = table.columns[type_.name][start:stop]
                if not type_.layout.plain:
                    part = fixed_part(part, type_, mapped)
                records[name] = part.view(dtype[name])
        del records
        yield block
        del block


def _of_any_size(table: SnapshotTable, mapped: Mapped, *, bounded: bool) -> Iterator[Any]:
    """Yield the records of a table with variable-length fields."""
    columns = [(table.columns[t.name], t.layout.variable) for t in table.types]
    lengths = 4 * sum([len(t.layout.variable) for t in table.types])
    fixed = sum([COMPONENT_HEAD + t.layout.disk.itemsize for t in table.types])
    for start, stop in row_ranges(columns, table.rows, ENTITY_HEAD + fixed + lengths, bounded=bounded):
        yield _block(table, mapped, start, stop)


def _block(table: SnapshotTable, mapped: Mapped, start: int, stop: int) -> NDArray[np.uint8]:
    """Return the records of rows *start* to *stop*, byte after byte."""
    count = stop - start
    ends = np.full(count, ENTITY_HEAD, np.intp)  # of what is laid out so far, from the start of each record
    head = np.zeros(count, [("id", "V16"), ("count", "<u4")])
    head["id"] = table.stable_ids.part(start, stop).view("V16")
    head["count"] = len(table.types)
    # What to put where: bytes of one size, or (lengths, bytes).
    pieces: list[tuple[NDArray[np.intp], Any]] = [(np.zeros(count, np.intp), head)]
    for type_ in table.types:
        column = table.columns[type_.name][start:stop]
        fixed = fixed_part(column, type_, mapped)
        opaque = is_opaque(type_)
        inner = np.full(count, fixed.itemsize, np.intp)
        laid: list[tuple[NDArray[np.intp], Any]] = (
            [(np.zeros(count, np.intp), fixed)] if fixed.itemsize else []
        )
        for f in type_.layout.variable:
            offsets, values = variable_part(column, f, type_, mapped, start)
            lengths = np.diff(offsets).astype(np.intp) * f.element(disk=True).itemsize
            _check_length(lengths, start, f"{type_.name}.{f.name}")
            if not opaque:
                laid.append((inner.copy(), lengths.astype("<u4")))
                inner += 4
            laid.append((inner.copy(), (lengths, as_bytes(values))))
            inner += lengths
        _check_length(inner, start, type_.name)
        named = np.zeros(count, [("type", "V16"), ("size", "<u4")])
        named["type"] = np.void(type_id(type_.name))
        named["size"] = inner
        pieces.append((ends.copy(), named))
        ends += COMPONENT_HEAD
        pieces += [(ends + within, piece) for within, piece in laid]
        ends += inner
    begins = np.cumsum(ends) - ends
    out = np.empty(int(ends.sum()), BYTE)
    for within, piece in pieces:
        at = begins + within
        if isinstance(piece, tuple):
            lengths, data = piece
            for part, where in scattered(at, lengths):
                out[where] = data[part]
        else:
            target = windows(out, piece.itemsize)
            target[at] = piece.view(target.dtype)
    return out


def is_opaque(type_: ComponentType) -> bool:
    """Tell whether a type is known only as bytes of any length."""
    return len(type_.fields) == 1 and type_.fields[0].name == OPAQUE and type_.fields[0].variable == "bytes"


def windows(data: NDArray[np.uint8], size: int) -> Array:
    """Return the *size* bytes from each place of *data*, overlapping, as an array of bytes.

    Index it; most functions would copy it first, every byte *size* times.
    """
    return np.ndarray((max(len(data) - size + 1, 0),), (np.void, size), data, 0, (1,))


def scattered(starts: NDArray[np.intp], lengths: NDArray[np.intp]) -> Iterator[tuple[slice, Any]]:
    """Yield which bytes of the values one after the other stand where, if each value has a place of its own.

    Parameters
    ----------
    starts, lengths : array, shape (n,)
        Of each value.

    Yields
    ------
    part : slice
        Of the values one after the other, about a MiB.
    where : slice or array
        The places of these bytes.
    """
    ends = np.cumsum(lengths)
    row = 0
    while row < len(lengths):
        begin = int(ends[row] - lengths[row])
        stop = max(row + 1, int(np.searchsorted(ends, begin + _SCATTERED, "right")))
        part = slice(begin, int(ends[stop - 1]))
        if stop == row + 1:
            yield part, slice(int(starts[row]), int(starts[row] + lengths[row]))
        else:
            before = ends[row:stop] - lengths[row:stop] - begin
            places = np.repeat(starts[row:stop] - before, lengths[row:stop])
            places += np.arange(len(places))
            yield part, places
        row = stop


def _check_length(lengths: NDArray[np.intp], first_row: int, where: str) -> None:
    if lengths.max(initial=0) > _LONGEST:
        row = first_row + int(lengths.argmax())
        raise ComponentValueError(
            f"expected at most {_LONGEST} bytes, found {lengths.max()} in row {row} of {where}",
            suggestion="save version 2",
        )
