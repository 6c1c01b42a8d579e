"""A table: the entities that have the same set of component types, one growable structured array a type."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array, copy_rows, put_rows, resized
from pecs_np.ecs.components import ComponentType
from pecs_np.ecs.ids import ENTITY_ID, STABLE_ID, IdColumn
from pecs_np.errors import WorldError

__all__ = ["Table"]

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
    """

    __slots__ = ("columns", "entities", "names", "number", "placed", "size", "stable_ids", "types")

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

    @classmethod
    def empty(cls, number: int, types: tuple[ComponentType, ...]) -> Table:
        """Return a table without rows."""
        columns: dict[str, Array] = {t.name: np.empty(0, t.layout.memory) for t in types}
        return cls(number, types, columns, IdColumn(ENTITY_ID), IdColumn(STABLE_ID))

    def __len__(self) -> int:
        return self.size

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

    def reserve(self, count: int) -> None:
        """Make room for *count* more rows, so that `extend` cannot fail."""
        start, stop = self.size, self.size + count
        try:
            for name, column in self.columns.items():
                if len(column) < stop:
                    spare = stop // 2 if start else 0
                    self.columns[name] = resized(column, start, stop + spare)
        except (MemoryError, ValueError):
            raise WorldError(
                f"expected memory for {stop} rows of {', '.join(self.names)}, found too little"
            ) from None

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
