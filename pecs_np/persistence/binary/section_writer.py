"""The sections of a save of version 2, written: ids and columns, as they lie in memory, converted or packed.

A column without references and variable-length fields is written from where it lies in memory; others
are converted block by block, and compressed ones packed chunk by chunk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import numpy as np

from pecs_np.ecs.arrays import Array, as_bytes
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import IdColumn, encode_runs
from pecs_np.persistence.binary.blocks import SMALL, Blocks, Budget, Whole, rechunked
from pecs_np.persistence.binary.columns import (
    Mapped,
    check_values,
    fixed_part,
    row_ranges,
    variable_offsets,
    variable_part,
)
from pecs_np.persistence.binary.framing import (
    COLUMN,
    DELTA_FILTER,
    EXTENDED_METADATA,
    LZ4,
    NOT_APPLICABLE,
    OFFSETS,
    RAW,
    RUNS,
    SHUFFLE,
    STABLE_IDS,
    VALUES,
    ZSTD,
)
from pecs_np.persistence.binary.id_runs import IDS_AT_ONCE, run_blocks, runs_pay
from pecs_np.persistence.compression import (
    CHUNK,
    CompressionType,
    Filters,
    Packing,
    chunk_sizes,
    chunk_table,
    compressed,
)

__all__ = ["Entry", "SectionWriter", "stored"]

# kind, table, type, field, rows
Key = tuple[int, int, int, int, int]
# kind, codec, table, type, field, rows, raw size, stored size; and what is stored: a buffer or Blocks
Entry = tuple[tuple[int, ...], Any]

# As rows of a section: as many as there are items.
_ELEMENTS = -1
# What packs better is packed in smaller chunks, or not at all where items are too large for that: readers
# refuse what unpacks to 1000 times the file.
_BEST_RATIO, _MOST_RATIO = 500, 1000
_OFFSET = 8
# Bytes of a table of chunks and a frame.
_WORTH_PACKING = 32
_CODEC = {CompressionType.Zstd: ZSTD, CompressionType.Lz4: LZ4}


class SectionWriter:
    """The sections of a save, collected in the order of the file.

    Attributes
    ----------
    entries : list of Entry
    flags : int
        Those of the header.
    """

    def __init__(self, packing: Packing | None, budget: Budget) -> None:
        self.entries: list[Entry] = []
        self.flags = EXTENDED_METADATA
        self._packing = packing
        self._budget = budget

    def add(self, key: Key, content: Any, item: int, *, delta: bool = False) -> None:
        """Add a section of items of so many bytes; *content* is a buffer, or makes blocks."""
        small = not callable(content) and len(content) < _WORTH_PACKING
        if (
            self._packing is not None
            and item
            and not small
            and self._add_packed(key, content, item, delta=delta)
        ):
            return
        if callable(content):
            content = Blocks(content, self._budget)
            if content.size < SMALL and content.whole is not None:
                small_content = bytes(content.whole)
                content.discard()
                content = small_content
        self._append(key, RAW, item, len(content), content)

    def add_ids(
        self, ids: IdColumn, table: int, *, kind: int = STABLE_IDS, type_: int = NOT_APPLICABLE
    ) -> None:
        """Add the stable ids of a table, or those that a delta has for no table."""
        key = kind, table, type_, NOT_APPLICABLE, ids.size
        runs: Any
        if ids.runs is not None or ids.size <= IDS_AT_ONCE:
            runs = encode_runs(ids)
        else:
            # Not all at once, as that takes.
            array = ids.array()
            runs = Blocks(functools.partial(run_blocks, array), self._budget) if runs_pay(array) else None
        if runs is None:
            self.add(key, stored(ids.array()), 16, delta=True)
        else:
            self._append(key, RUNS, 16, ids.size * 16, runs)

    def add_column(self, column: Array, type_: ComponentType, table: int, index: int, mapped: Mapped) -> None:
        """Add the sections of a component type of a table; *mapped* turns references into stable ids."""
        layout = type_.layout
        if layout.checked:
            check_values(column, type_)
        if layout.plain:
            key = COLUMN, table, index, NOT_APPLICABLE, len(column)
            self.add(key, stored(column), layout.disk.itemsize)
        else:
            self._add_mixed(column, type_, table, index, mapped)

    def _add_mixed(self, column: Array, type_: ComponentType, table: int, index: int, mapped: Mapped) -> None:
        """Add the sections of a type with references or variable-length fields."""
        layout = type_.layout
        rows = len(column)
        item = layout.disk.itemsize
        content = functools.partial(_converted, column, type_, mapped) if item else b""
        self.add((COLUMN, table, index, NOT_APPLICABLE, rows), content, item)
        for place, f in enumerate(type_.fields):
            if not f.variable:
                continue
            make: Callable[[], Iterable[tuple[Array, Array]]]
            measure: Callable[[], Iterable[Array]]
            bounded = self._budget.left is not None
            make = functools.partial(_encoded, column, f, type_, mapped, bounded)
            if not bounded:
                made = list(make())
                make = functools.partial(_itself, made)
                measure = functools.partial(_itself, [offsets for offsets, _ in made])
            else:
                measure = functools.partial(_measured, column, f, type_)
            self.add((OFFSETS, table, index, place, rows), functools.partial(_ends, measure), 8, delta=True)
            values = functools.partial(_values, make)
            self.add((VALUES, table, index, place, _ELEMENTS), values, f.element(disk=True).itemsize)

    def _add_packed(self, key: Key, content: Any, item: int, *, delta: bool) -> bool:
        """Add the section compressed, where that pays."""
        packing = cast(Packing, self._packing)
        filters = Filters(item, packing.shuffle and item > 1, packing.shuffle and delta)
        packed: Blocks | None = None
        for size in chunk_sizes(item):
            raw_size = 0

            def chunks(size: int = size) -> Iterator[bytes]:
                def counted() -> Iterator[Any]:
                    nonlocal raw_size
                    for block in _in_chunks(content, size):
                        raw_size += len(block)
                        yield block

                return compressed(counted(), filters, packing, size)

            if packed is not None:
                packed.discard()
            packed = Blocks(chunks, self._budget)
            packed.lead(chunk_table(size, packed.lengths))
            if raw_size <= _BEST_RATIO * packed.size or size == item:
                break
        packed = cast(Blocks, packed)  # there is a size for every item
        if packed.size >= raw_size or raw_size > _MOST_RATIO * packed.size:
            packed.discard()
            return False
        codec = _CODEC[packing.codec]
        self.flags |= codec
        codec |= SHUFFLE * filters.shuffle | DELTA_FILTER * filters.delta
        self._append(key, codec, item, raw_size, packed)
        return True

    def _append(self, key: Key, codec: int, item: int, raw_size: int, content: Any) -> None:
        kind, table, type_, field, rows = key
        if rows == _ELEMENTS:
            rows = raw_size // item
        self.entries.append(((kind, codec, table, type_, field, rows, raw_size, len(content)), content))


def _itself(data: Any) -> Any:
    return data


def stored(array: Array) -> Any:
    """Return an object-free array as the content of a section, where it lies unless it is small."""
    if array.nbytes < SMALL:
        return array.tobytes()
    return Whole(as_bytes(np.ascontiguousarray(array)))


def _in_chunks(content: Any, size: int) -> Iterable[Any]:
    if callable(content):
        return rechunked(content(), size)
    view = memoryview(content.view if type(content) is Whole else content)
    return (view[start : start + size] for start in range(0, len(view), size))


def _converted(column: Array, type_: ComponentType, mapped: Mapped) -> Iterator[Any]:
    """Yield the fixed-size part of a column as it is on disk."""
    rows = max(1, CHUNK // type_.layout.disk.itemsize)
    for start in range(0, len(column), rows):
        yield as_bytes(fixed_part(column[start : start + rows], type_, mapped))


def _encoded(
    column: Array, f: Field, type_: ComponentType, mapped: Mapped, bounded: bool
) -> Iterator[tuple[Array, Array]]:
    """Yield offsets, from 0 each time, and values of some rows of a variable-length field after others."""
    for start, stop in row_ranges([(column, [f])], len(column), _OFFSET, bounded=bounded):
        yield variable_part(column[start:stop], f, type_, mapped, start)


def _measured(column: Array, f: Field, type_: ComponentType) -> Iterator[Array]:
    """Yield the same offsets without the values."""
    for start, stop in row_ranges([], len(column), _OFFSET, bounded=False):
        yield variable_offsets(column[start:stop], f, type_, start)


def _ends(make: Callable[[], Iterable[Array]]) -> Iterator[Any]:
    """Yield the offsets of all rows."""
    base = np.uint64(0)
    skip = 0
    for offsets in make():
        ends = offsets + base
        yield as_bytes(ends[skip:])
        base, skip = ends[-1], 1


def _values(make: Callable[[], Iterable[tuple[Array, Array]]]) -> Iterator[Any]:
    return (as_bytes(values) for _, values in make())
