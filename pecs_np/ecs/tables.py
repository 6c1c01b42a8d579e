"""A table: the entities that have the same set of component types, one growable structured array a type."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, as_cells, as_rows, copy_rows, put_rows, resized
from pecs_np.ecs.components import Component, ComponentType
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.errors import WorldError

__all__ = ["Asked", "Table"]

Asked = tuple[type[Component], Array, dict[str, Array]]

_LAST = np.zeros(1, np.intp)


class Table:
    """One archetype.

    Parameters
    ----------
    number : int
        Its place in the world's list of tables.
    types : tuple of ComponentType
        Sorted by name.
    columns : dict of str to ndarray
        By type name; rows beyond *size* are spare.
    entities, stable_ids : IdColumn

    Attributes
    ----------
    names : tuple of str
    size : int
        How many rows are in use.
    placed : int
        How many rows, from the first, the world's books know; the rest are noted on demand.
    capacity : int
        How many rows there is memory for.
    asked : dict
        Class and column of a type, as it was asked for, and views of the column's fields; until the columns
        are new.
    ways : dict
        Where one of its entities goes by what verb: a cache of `single`.
    """

    __slots__ = (
        "_cells",
        "_rows",
        "asked",
        "capacity",
        "columns",
        "entities",
        "names",
        "number",
        "placed",
        "size",
        "stable_ids",
        "types",
        "ways",
    )

    def __init__(
        self,
        number: int,
        types: tuple[ComponentType, ...],
        columns: dict[str, Array],
        entities: IdColumn,
        stable_ids: IdColumn,
    ) -> None:
        self.number = number
        self.types = types
        self.names = tuple([t.name for t in types])
        self.columns = columns
        self.entities = entities
        self.stable_ids = stable_ids
        self.size = entities.size
        self.placed = 0
        self.capacity = self.size
        self.ways: dict[Any, Any] = {}
        self.asked: dict[Any, Asked] = {}
        self._rows: dict[str, Array] | None = None
        self._cells: dict[str, Any] | None = None

    def _note_columns(self) -> None:
        """Note that the columns are new arrays."""
        self.capacity = min([len(column) for column in self.columns.values()], default=1 << 32)
        self._rows = self._cells = None
        self.asked.clear()

    @property
    def rows(self) -> dict[str, Array]:
        """By type name, the columns as rows of plain bytes, of a table that holds no objects: for one row at a time."""
        if self._rows is None:
            self._rows = {name: as_rows(column) for name, column in self.columns.items()}
        return self._rows

    @property
    def cells(self) -> dict[str, Any]:
        """By type name, what copies one row to another of the same type, of a table that holds no objects."""
        if self._cells is None:
            self._cells = {name: as_cells(column) for name, column in self.columns.items()}
        return self._cells

    @classmethod
    def empty(cls, number: int, types: tuple[ComponentType, ...]) -> Table:
        """Return a table without rows."""
        columns: dict[str, Array] = {t.name: np.empty(0, t.layout.memory) for t in types}
        return cls(number, types, columns, IdColumn(ENTITY_ID), IdColumn(STABLE_ID))

    def __len__(self) -> int:
        return self.size

    def with_types(self, types: Iterable[ComponentType]) -> tuple[ComponentType, ...]:
        """Return the types of the table and those of *types* that it lacks."""
        return (*self.types, *[t for t in types if t.name not in self.columns])

    def without_types(self, names: Collection[str]) -> tuple[ComponentType, ...]:
        """Return the types of the table but those of *names*."""
        return tuple([t for t in self.types if t.name not in names])

    def column(self, name: str) -> Array:
        """Return the rows of one type, shape (size,): a live view."""
        return self.columns[name][: self.size]

    def extend(self, count: int) -> slice:
        """Make room for *count* more rows and return where they are; their values are undefined.

        The caller appends as many ids.
        """
        self.reserve(count)
        start, self.size = self.size, self.size + count
        return slice(start, self.size)

    def reserve(self, count: int, *, besides: Collection[str] = ()) -> None:
        """Make room for *count* more rows in all columns but *besides*, so that `extend` cannot fail.

        Raises
        ------
        WorldError
            If there is too little memory; the columns stay what they were.
        """
        start, stop = self.size, self.size + count
        if stop <= self.capacity:
            return
        room = stop + (stop // 2 if start else 0)
        try:
            grown = {
                name: resized(column, 0, room)
                for name, column in self.columns.items()
                if len(column) < stop and name not in besides
            }
        except (MemoryError, ValueError):
            raise WorldError(
                f"expected memory for {stop} rows of {', '.join(self.names)}, found too little"
            ) from None
        for name, column in grown.items():
            if start:
                copy_rows(column[:start], self.columns[name][:start])
            # Each at once: what it replaces is not in memory beside the next one.
            self.columns[name] = column
        self._note_columns()

    def fill(self, rows: slice, values: dict[str, Array]) -> None:
        """Write *values*, shape () or (n,) each, by type name, to *rows*."""
        for name, value in values.items():
            copy_rows(self.columns[name][rows], value)

    def put(self, rows: NDArray[np.intp], values: dict[str, Array]) -> None:
        """Write *values*, shape () or (k,) each, by type name, to the given rows."""
        for name, value in values.items():
            put_rows(self.columns[name][: self.size], rows, value)

    def swap_remove(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Remove sorted, distinct *rows*; last rows move into the holes. Returns the rows refilled."""
        size = self.size - len(rows)
        if len(rows) == 1:
            holes = rows[rows < size]
            movers = _LAST[: len(holes)] + size
        else:
            cut = int(np.searchsorted(rows, size))
            holes = rows[:cut]
            stays = np.ones(self.size - size, bool)
            stays[rows[cut:] - size] = False
            movers = np.flatnonzero(stays) + size
        for column in self.columns.values():
            if len(holes):
                put_rows(column, holes, column.take(movers))
            if column.dtype.hasobject:
                column[size : self.size] = np.zeros((), column.dtype)
        self.entities.swap_remove(holes, movers, size)
        self.stable_ids.swap_remove(holes, movers, size)
        self.size = size
        self.placed = min(self.placed, size)
        return holes

    def hand_over(self, target: Table) -> None:
        """Make all rows those of *target*, which has none: its columns are these very arrays."""
        target.reserve(self.size, besides=self.columns)
        for name in self.names:
            if name in target.columns:
                column = self.columns[name]
                target.columns[name], self.columns[name] = column, np.empty(0, column.dtype)
            elif self.columns[name].dtype.hasobject:
                self.columns[name] = np.empty(0, self.columns[name].dtype)
        target.entities, self.entities = self.entities, IdColumn(ENTITY_ID)
        target.stable_ids, self.stable_ids = self.stable_ids, IdColumn(STABLE_ID)
        target.placed, self.placed = self.placed, 0
        size, self.size = self.size, 0
        self._note_columns()
        target._note_columns()
        target.size = size

    def remove_one(self, row: int) -> None:
        """Remove one row of a table whose rows are all placed and hold no objects; the last one moves there."""
        last = self.size - 1
        if row != last:
            for column in (self._cells or self.cells).values():
                column[row] = column[last]
        self.entities.replace_by_last(row)
        self.stable_ids.replace_by_last(row)
        self.size = self.placed = last
