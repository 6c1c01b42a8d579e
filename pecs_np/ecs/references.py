"""Entity references in columns: found at any depth, and mapped in one vectorised pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pecs_np.ecs.arrays import Array
from pecs_np.ecs.dtypes import Field
from pecs_np.ecs.ids import ENTITY_ID, IdColumn

__all__ = ["EntityMap", "concatenated", "convert", "remap", "split", "translated"]

_SLOT = np.uint64((1 << 32) - 1)


_BLOCK = 1 << 16


def _last_slot(entities: IdColumn) -> int:
    """Return the highest slot of a column of entity ids, 0 if it is empty."""
    blocks = range(0, entities.size, _BLOCK)
    parts = (entities.part(start, min(start + _BLOCK, entities.size)) for start in blocks)
    return max((int((ids & _SLOT).max()) for ids in parts), default=0)


class EntityMap:
    """Maps entity ids to other ids through a table by slot, which a sorted search cannot match.

    Parameters
    ----------
    pairs : iterable of (entities, values)
        Columns of the same length. *values* are entity ids or stable ids.
    """

    __slots__ = ("_ids", "_values")

    def __init__(self, pairs: Iterable[tuple[IdColumn, IdColumn]]) -> None:
        columns = list(pairs)
        last = max((_last_slot(entities) for entities, _ in columns), default=0)
        self._ids = np.zeros(last + 1, ENTITY_ID)
        self._values = np.zeros(last + 1, columns[0][1].dtype if columns else ENTITY_ID)
        for entities, values in columns:
            # In blocks, so that runs are not expanded whole.
            for start in range(0, entities.size, _BLOCK):
                stop = min(start + _BLOCK, entities.size)
                ids = entities.part(start, stop)
                slots = (ids & _SLOT).astype(np.intp)
                self._ids[slots] = ids
                self._values[slots] = values.part(start, stop)

    def __call__(self, references: Array) -> Array:
        """Return what each of *references*, u64 of any shape, maps to; zero for null and unknown ones."""
        slots = (references & _SLOT).astype(np.intp)
        slots = np.where(slots < len(self._ids), slots, 0)
        return self._values[np.where(self._ids[slots] == references, slots, 0)]


def convert(
    source: Array, target: Array, fields: tuple[Field, ...], mapped: Callable[[Array], Array]
) -> None:
    """Copy the fixed-size *fields* of *source* to *target*, sending references through *mapped*."""
    for f in fields:
        if f.ref:
            target[f.name] = mapped(source[f.name])
        elif f.fields and f.has_refs():
            convert(source[f.name], target[f.name], f.fields, mapped)
        else:
            target[f.name] = source[f.name]


def remap(column: Array, fields: tuple[Field, ...], mapped: Callable[[Array], Array]) -> None:
    """Send every entity reference in *column*, lists included, through *mapped*, in place."""
    for f in fields:
        if not f.has_refs():
            continue
        values = column[f.name]
        if f.variable:
            arrays = values.tolist()
            flat, ends = concatenated(arrays, f.element().base)
            if f.ref:
                flat = mapped(flat)
            else:
                remap(flat, f.fields, mapped)
            values[...] = split(flat, ends)
        elif f.ref:
            values[...] = mapped(values)
        else:
            remap(values, f.fields, mapped)


def translated(
    column: Array,
    fields: tuple[Field, ...],
    dtype: np.dtype[Any],
    mapped: Callable[[Array], Array],
    *,
    portable: bool,
) -> Array:
    """Return *column*, of any shape, with every reference, in lists too, sent through *mapped*.

    Parameters
    ----------
    column : structured array
        Its references are entity ids; without *portable*, stable ids.
    fields : tuple of Field
    dtype : dtype
        Of what is returned: its references are stable ids; without *portable*, entity ids.
    mapped : callable
    portable : bool
    """
    made: Array = np.empty(column.shape, dtype)
    for f in fields:
        values = column[f.name]
        if not f.has_refs():
            made[f.name] = values
        elif f.variable:
            flat, ends = concatenated(values.tolist(), f.element(disk=not portable).base)
            target = f.element(disk=portable).base
            flat = mapped(flat) if f.ref else translated(flat, f.fields, target, mapped, portable=portable)
            made[f.name] = split(flat, ends)
        elif f.ref:
            made[f.name] = mapped(values)
        else:
            made[f.name] = translated(values, f.fields, dtype[f.name].base, mapped, portable=portable)
    return made


def concatenated(arrays: list[Array], dtype: np.dtype[np.generic]) -> tuple[Array, NDArray[np.intp]]:
    """Return *arrays* end to end as a new array, and the end of each, shape (n,)."""
    ends = np.cumsum(np.fromiter(map(len, arrays), np.intp, len(arrays)), dtype=np.intp)
    return (np.concatenate(arrays) if arrays else np.empty(0, dtype)), ends


def split(flat: Array, ends: NDArray[np.intp]) -> Array:
    """Return the pieces of *flat* that stop at *ends*, as an object array of shape (n,)."""
    pieces = np.empty(len(ends), object)
    starts = np.concatenate((np.zeros(1, np.intp), ends[:-1])) if len(ends) else ends
    some = np.flatnonzero(starts < ends)
    if len(some) < len(ends):
        # Nothing in it can change, so one does for all.
        pieces[:] = [np.empty((0, *flat.shape[1:]), flat.dtype)] * len(ends)
    for i, start, stop in zip(some.tolist(), starts[some].tolist(), ends[some].tolist(), strict=True):
        pieces[i] = flat[start:stop]
    return pieces
