"""Columns of a world and the same columns as a save has them: alike in both versions of the format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import BYTE, Array
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.id_lookup import ColumnLookup, find_duplicate
from pecs_np.ecs.ids import ENTITY_ID, IdColumn, as_int
from pecs_np.ecs.references import convert
from pecs_np.ecs.values import invalid_element, invalid_value
from pecs_np.errors import (
    ComponentValueError,
    CorruptedDataError,
    DanglingReferenceError,
    InvalidFormatError,
    LimitExceededError,
)
from pecs_np.persistence import variable
from pecs_np.persistence.compression import CHUNK

__all__ = [
    "Mapped",
    "Where",
    "assemble",
    "check_distinct",
    "check_entity_count",
    "check_values",
    "fixed_part",
    "frombuffer",
    "holds_null",
    "mapping",
    "next_rows",
    "row_ranges",
    "rows_of",
    "unmapped",
    "variable_offsets",
    "variable_part",
]

# Slot 0 is "no entity".
MOST_ENTITIES = (1 << 32) - 1
# Rows with variable-length fields that are converted at once.
_MOST_ROWS, _USUAL_ROWS = 1 << 16, 1 << 12
# How many times as many rows the next block may have: the rows to come may be larger.
_GROWTH = 16

Mapped = Callable[[Array], Array]
# What messages call a part of a column: 0 its rows, then offsets and values of each variable-length field.
Where = Callable[[int], str]


def unmapped(references: Array) -> Array:
    """Return *references* as they are: a `Mapped` that leaves them alone."""
    return references


def check_values(column: Array, type_: ComponentType) -> None:
    """Raise where the fixed-size part of a column holds what no reader would accept."""
    if type_.layout.checked:
        _refuse(invalid_value(column, type_.layout.fixed), type_)


def fixed_part(column: Array, type_: ComponentType, mapped: Mapped) -> Array:
    """Return the fixed-size part of *column*, shape (n,), of the type's disk dtype."""
    layout = type_.layout
    if layout.plain:
        return column
    rows = np.empty(len(column), layout.disk)
    convert(column, rows, layout.fixed, mapped)
    return rows


def variable_part(
    column: Array, f: Field, type_: ComponentType, mapped: Mapped, first_row: int
) -> tuple[NDArray[np.uint64], Array]:
    """Return (offsets, values), as they are on disk, of a variable-length field.

    Parameters
    ----------
    column : array, shape (n,)
        Of all fields of *type_*.
    first_row : int
        What row messages call the first.

    Raises
    ------
    ComponentValueError
        If a value could not be loaded again.
    """
    offsets, values = variable.encode(column[f.name], f, f"{type_.name}.{f.name}", first_row)
    if (bad := invalid_element(values, f)) is not None:
        element, path, what = bad
        row = first_row + int(np.searchsorted(offsets, element, "right")) - 1
        _refuse((row, path, what), type_)
    if f.ref:
        values = mapped(values)
    elif f.has_refs():
        converted = np.empty(values.shape, f.element(disk=True).base)
        convert(values, converted, f.fields, mapped)
        values = converted
    return offsets, np.ascontiguousarray(values)


def _refuse(bad: tuple[int, str, str] | None, type_: ComponentType) -> None:
    if bad is not None:
        row, field, what = bad
        raise ComponentValueError(
            f"expected values that can be loaded again, found one that {what} in row {row} of"
            f" {type_.name}.{field}",
            suggestion="world.validate() lists such values",
        )


def variable_offsets(column: Array, f: Field, type_: ComponentType, first_row: int) -> NDArray[np.uint64]:
    """Return only the offsets that `variable_part` returns."""
    return variable.offsets(column[f.name], f, f"{type_.name}.{f.name}", first_row)


def row_ranges(
    columns: Sequence[tuple[Array, Sequence[Field]]], rows: int, fixed: int, *, bounded: bool
) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of rows that are converted at once: about a chunk of bytes, or a single row.

    Parameters
    ----------
    columns : sequence of (array, fields)
        Columns of so many *rows*, and the variable-length fields of each that are converted.
    rows : int
    fixed : int
        Bytes of a row beyond these fields.
    bounded : bool
        Look at the length of each value. Where all may be in memory anyway, that is not worth it.
    """
    window = max(1, min(_MOST_ROWS if bounded else _USUAL_ROWS, CHUNK // max(fixed, 1)))
    for begin in range(0, rows, window):
        end = min(begin + window, rows)
        if not bounded:
            yield begin, end
            continue
        sizes = np.full(end - begin, fixed, np.intp)
        for column, fields in columns:
            for f in fields:
                sizes += variable.sizes(column[f.name][begin:end], f)
        ends = np.cumsum(sizes)
        start = done = 0
        while start < len(ends):
            stop = max(start + 1, int(np.searchsorted(ends, done + CHUNK, "right")))
            yield begin + start, begin + stop
            start, done = stop, int(ends[stop - 1])


def next_rows(rows: int, size: int) -> int:
    """Return how many rows make about a chunk, if they are like the last *rows*, which made *size* bytes."""
    return min(_MOST_ROWS, _GROWTH * rows, max(1, rows * CHUNK // max(size, 1)))


def frombuffer(data: Any, dtype: np.dtype[Any]) -> Array:
    """Return a buffer, which may be empty, as an array."""
    return np.frombuffer(data, dtype) if len(data) else np.empty(0, dtype)


def rows_of(data: Any, dtype: np.dtype[Any], rows: int) -> Array:
    """Return a buffer as *rows* rows of *dtype*, which may have no bytes."""
    return np.frombuffer(data, dtype) if dtype.itemsize and rows else np.empty(rows, dtype)


def assemble(
    type_: ComponentType,
    described: ComponentType,
    rows: Array,
    parts: Sequence[Any],
    mapped: Mapped | None,
    where: Where,
) -> Array:
    """Return the column of a type from what a save holds of it, every value checked.

    Parameters
    ----------
    type_ : ComponentType
    described : ComponentType
        The type as the file has it: of the same layout, perhaps with fewer members of an enum.
    rows : array, shape (n,), of the type's disk dtype
        Its fixed-size part.
    parts : sequence of bytes-like
        Offsets and values of each variable-length field in turns.
    mapped : callable or None
        Turns stable ids into entity ids; without it references stay stable ids.
    where : callable

    Raises
    ------
    CorruptedDataError, InvalidFormatError
    """
    layout = type_.layout
    if layout.checked:
        # Before NumPy converts anything: it trips over code points that are none.
        _check(invalid_value(rows, described.layout.fixed), where, 0)
    if layout.plain or (mapped is None and not layout.variable):
        return rows
    column = np.empty(len(rows), layout.portable if mapped is None else layout.memory)
    convert(rows, column, layout.fixed, mapped or unmapped)
    for i, f in enumerate(layout.variable):
        first, second = parts[2 * i : 2 * i + 2]
        offsets = np.frombuffer(first, "<u8")
        if offsets[0] != 0 or not (offsets[1:] >= offsets[:-1]).all():
            raise CorruptedDataError(f"expected offsets from 0 that never decrease in {where(1 + 2 * i)}")
        column[f.name] = _variable(f, described.layout.variable[i], offsets, second, mapped, where, 2 + 2 * i)
    return column


def _check(bad: tuple[int, str, str] | None, where: Where, part: int) -> None:
    if bad is not None:
        row, field, what = bad
        raise CorruptedDataError(
            f"expected valid values, found one that {what} in row {row} of {field!r} in {where(part)}"
        )


def _variable(
    f: Field,
    described: Field,
    offsets: NDArray[np.uint64],
    data: Any,
    mapped: Mapped | None,
    where: Where,
    part: int,
) -> Array:
    """Return the object column of a variable-length field from its offsets and its values."""
    element = f.element(disk=True)
    count = int(offsets[-1])
    if len(data) != count * element.itemsize:
        raise InvalidFormatError(
            f"expected {count} elements of {element.itemsize} bytes, found {len(data)} bytes in {where(part)}"
        )
    if f.variable == "list":
        values = frombuffer(data, element.base).reshape(count, *f.shape)
        if (bad := invalid_element(values, described)) is not None:
            row = int(np.searchsorted(offsets, bad[0], "right")) - 1
            _check((row, *bad[1:]), where, part)
        if mapped is not None and f.ref:
            values = mapped(values)
        elif mapped is not None and f.has_refs():
            memory = np.empty(values.shape, f.element().base)
            convert(values, memory, f.fields, mapped)
            values = memory
    else:
        values = frombuffer(data, BYTE)
    return variable.decode(offsets, values, f, f"{f.name!r} in {where(part)}")


def holds_null(ids: IdColumn) -> bool:
    """Tell whether one of the stable ids is 0, which means "no entity"."""
    if ids.runs is not None:
        return 0 in [first for first, _ in ids.runs]
    array = ids.array()
    return not (array["lo"] | array["hi"]).all()


def check_entity_count(count: int, name: str) -> None:
    """Raise where a save has more entities than a world can number."""
    if count > MOST_ENTITIES:
        raise LimitExceededError(
            f"expected at most {MOST_ENTITIES} entities, which a world can number, found {count} in {name}"
        )


def check_distinct(ids: Sequence[IdColumn], name: str) -> None:
    """Raise where a stable id stands twice in *ids*, the columns of a save."""
    if (double := find_duplicate(ids)) is not None:
        raise CorruptedDataError(f"expected distinct stable ids, found {double:032x} twice in {name}")


def mapping(ids: Sequence[IdColumn], name: str) -> Mapped:
    """Return the function that turns stable ids into entity ids, made ready when first called.

    Entities are numbered from 1 in the order of *ids*, the tables' stable ids.
    """
    lookup: ColumnLookup | None = None

    def mapped(references: Array) -> Array:
        nonlocal lookup
        if lookup is None:
            lookup = ColumnLookup(ids)
        flat = references.reshape(-1)
        found = lookup.find(flat) + 1
        if not found.all():
            unknown = flat[(found == 0) & ((flat["lo"] | flat["hi"]) != 0)]
            if len(unknown):
                raise DanglingReferenceError(
                    f"expected references to entities of the save, found {as_int(unknown[0]):032x} in {name}"
                )
        return found.astype(ENTITY_ID).reshape(references.shape)

    return mapped
